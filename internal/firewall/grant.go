package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// grantHome is the set that holds a grant of p, and an error where none can.
func grantHome(p netip.Prefix) (setID, error) {
	if err := checkForm(p); err != nil {
		return 0, err
	}
	switch {
	case p.Addr().Is4() && p.Bits() == 32:
		return grant4, nil
	case p.Addr().Is6() && p.Bits() == 128:
		return grant6, nil
	case p.Addr().Is6() && p.Bits() == 64:
		return grant6n, nil
	}
	return 0, errors.New("a grant is for one address or an IPv6 /64")
}

// checkGrants refuses the whole batch for one wrong grant.
func checkGrants(grants []Grant) error {
	for _, g := range grants {
		if _, err := grantHome(g.Prefix); err != nil {
			return fmt.Errorf("grant %v: %w", g.Prefix, err)
		}
	}
	return nil
}

func checkUngrants(prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if _, err := grantHome(p); err != nil {
			return fmt.Errorf("ungrant %v: %w", p, err)
		}
	}
	return nil
}

// Grant implements Firewall.
func (k *Kernel) Grant(ctx context.Context, grants []Grant) error {
	if err := checkGrants(grants); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.eachHosts(ctx, k.addHosts, func(yield func(host) error) error {
		for _, g := range grants {
			if g.Left < 0 {
				continue
			}
			set, _ := grantHome(g.Prefix) // checked above
			if err := yield(k.hostOf(set, Ban(g))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("grant %d prefixes: %w", len(grants), absent(err))
	}
	return nil
}

// Ungrant implements Firewall.
func (k *Kernel) Ungrant(ctx context.Context, prefixes []netip.Prefix) error {
	if err := checkUngrants(prefixes); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.eachHosts(ctx, k.deleteHosts, func(yield func(host) error) error {
		for _, p := range prefixes {
			set, _ := grantHome(p)
			if err := yield(k.hostOf(set, Ban{Prefix: p})); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("ungrant %d prefixes: %w", len(prefixes), absent(err))
	}
	return nil
}

// Grants implements Firewall. What Bans says of reading holds here too.
func (k *Kernel) Grants(ctx context.Context, yield func(Grant) error) error {
	k.reading.Lock()
	defer k.reading.Unlock()
	for _, set := range []setID{grant4, grant6, grant6n} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.yieldHosts(set, func(b Ban) error { return yield(Grant(b)) }); err != nil {
			return err
		}
	}
	return nil
}
