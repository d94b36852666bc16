package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"sekisho/internal/firewall"
	"sekisho/internal/lease"
	"sekisho/internal/printable"
	"sekisho/internal/store"
)

const (
	maxGrants    = 10_000 // in force at a time
	longestGrant = 30 * 24 * time.Hour
)

// NewGrant is l as the API shows it.
func NewGrant(l lease.Lease) Grant {
	return Grant{Prefix: l.Prefix, From: l.From.Truncate(time.Second), Until: l.Until.Truncate(time.Second), Reason: l.Reason, Holder: l.Holder}
}

// liveGrants are the grants in force, those that ended forgotten. Called with d.mu held.
func (d *Daemon) liveGrants(now time.Time) []lease.Lease { return d.grants.live(now) }

// liveLeases are all bans and grants in force, copied before the first is given.
func (d *Daemon) liveLeases(yield func(lease.Lease) bool) {
	d.mu.Lock()
	grants := d.liveGrants(time.Now())
	d.mu.Unlock()
	for _, l := range grants {
		if !yield(l) {
			return
		}
	}
	d.liveBans(yield)
}

// Grants are the grants in force, soonest to end first.
func (d *Daemon) Grants() []Grant {
	d.mu.Lock()
	defer d.mu.Unlock()
	grants := []Grant{}
	for _, l := range d.liveGrants(time.Now()) {
		grants = append(grants, NewGrant(l))
	}
	return grants
}

// granted reports whether a grant holds a. Called with d.mu held.
func (d *Daemon) granted(a netip.Addr, now time.Time) (lease.Lease, bool) {
	bits := []int{a.BitLen()}
	if a.Is6() {
		bits = append(bits, 64)
	}
	for _, n := range bits {
		if l, ok := d.grants.longest(netip.PrefixFrom(a, n).Masked(), now); ok {
			return l, true
		}
	}
	return lease.Lease{}, false
}

// Grant lets somebody in for a while. A grant that is there and lasts longer stays.
func (d *Daemon) Grant(ctx context.Context, q GrantRequest, who string) (Grant, error) {
	p := q.Prefix.Masked()
	switch {
	case !p.IsValid() || p.Addr().Is4In6() || !p.IsSingleIP() && (p.Addr().Is4() || p.Bits() != 64):
		return Grant{}, refuse(http.StatusBadRequest, "give one address, or an IPv6 /64; a whole network belongs into admins or firewall.countries", "%s cannot be granted", q.Prefix)
	case p.Addr().IsUnspecified() || p.Addr().IsLoopback() || p.Addr().IsMulticast():
		return Grant{}, refuse(http.StatusBadRequest, "give the address that somebody comes from", "nobody comes from %s", p)
	case q.For <= 0 || q.For > longestGrant:
		return Grant{}, refuse(http.StatusBadRequest, "say for how long, at most 30 days; who is to come in for good belongs into admins", "a grant for %s is not possible", q.For)
	}
	now := time.Now()
	l := lease.Lease{Prefix: p, Verdict: lease.Allow, Cause: "manual", Reason: printable.Text(q.Reason), Holder: who, From: now, Until: now.Add(q.For)}
	d.mu.Lock()
	longer, renewed := d.grants.get(p, "")
	renewed = renewed && longer.Live(now)
	err := d.grantable(p, now)
	if err == nil && !renewed && len(d.liveGrants(now)) >= maxGrants {
		err = refuse(http.StatusConflict, "revoke what is not needed: sekisho grants", "%d grants are in force, which is the most there can be", maxGrants)
	}
	if err != nil {
		d.mu.Unlock()
		return Grant{}, err
	}
	if renewed && longer.Until.After(l.Until) {
		d.mu.Unlock()
		return NewGrant(longer), nil
	}
	l.From = d.grants.begins(p, now)
	d.grants.put(l)
	err = d.holdGrants(ctx, []netip.Prefix{p}, now)
	d.rec.Add(store.Effects{Grants: []lease.Lease{l}})
	d.mu.Unlock()
	d.log.Info("grant", "prefix", p, "until", until(l), "by", who, "reason", l.Reason)
	if err != nil {
		d.ask("a grant failed")
		return Grant{}, fmt.Errorf("%s is noted but not in the kernel yet: %w", p, err)
	}
	return NewGrant(l), d.flush(ctx)
}

// grantable says why a grant would not let p in. Called with d.mu held.
func (d *Daemon) grantable(p netip.Prefix, now time.Time) error {
	return d.whyNot(p, d.bansOver([]netip.Prefix{p}, now))
}

// whyNot is grantable, for who has asked for the bans already.
func (d *Daemon) whyNot(p netip.Prefix, bans map[netip.Prefix]netip.Prefix) error {
	if banned, ok := bans[p]; ok {
		return refuse(http.StatusConflict, "lift the ban first: sekisho unban "+banned.String(), "%s is banned, which a grant does not change", banned)
	}
	if d.want.Ruleset.Rules.Exposure == firewall.ExposureFixed {
		return refuse(http.StatusConflict, "set exposure: on_request, then `sekisho apply`", "with exposure: fixed nobody is let in by a grant")
	}
	return nil
}

// bansOver are those of prefixes that a ban touches, and a ban of each: one look at the bans
// for all of them. prefixes are as grants have them. Called with d.mu held.
func (d *Daemon) bansOver(prefixes []netip.Prefix, now time.Time) map[netip.Prefix]netip.Prefix {
	block := func(p netip.Prefix) netip.Prefix { // that a grant lies in
		return netip.PrefixFrom(p.Addr(), min(p.Bits(), 64)).Masked()
	}
	in := make(map[netip.Prefix][]netip.Prefix, len(prefixes))
	for _, p := range prefixes {
		in[block(p)] = append(in[block(p)], p)
	}
	found := map[netip.Prefix]netip.Prefix{}
	d.engine.Bans(now, func(b lease.Lease) bool {
		near := prefixes
		if b.Prefix.IsSingleIP() || b.Prefix.Bits() >= 64 {
			near = in[block(b.Prefix)]
		}
		for _, p := range near {
			if b.Prefix.Overlaps(p) {
				found[p] = b.Prefix
			}
		}
		return len(prefixes) > 0
	})
	return found
}

// holdGrants has the kernel hold what is to be held of prefixes: of each the grant that ends
// last, or none. Called with d.mu held.
func (d *Daemon) holdGrants(ctx context.Context, prefixes []netip.Prefix, now time.Time) error {
	if d.kept == keepNothing {
		return nil
	}
	var in []lease.Lease
	var out []netip.Prefix
	for _, p := range prefixes {
		if l, ok := d.grants.longest(p, now); ok {
			in = append(in, l)
		} else {
			out = append(out, p)
		}
	}
	if len(out) > 0 {
		if err := d.fw.Ungrant(ctx, out); err != nil && !errors.Is(err, firewall.ErrAbsent) {
			return err
		}
	}
	if len(in) > 0 {
		return d.fw.Grant(ctx, kernelGrants(in, now))
	}
	return nil
}

// Revoke ends the grants that touch a prefix, or all.
func (d *Daemon) Revoke(ctx context.Context, q RevokeRequest, who string) (RevokeReply, error) {
	p := q.Prefix.Masked()
	if !q.All && !p.IsValid() {
		return RevokeReply{}, refuse(http.StatusBadRequest, "give an address, a prefix, or --all", "nothing to revoke")
	}
	now := time.Now()
	reply := RevokeReply{Revoked: []Grant{}}
	var prefixes []netip.Prefix
	var effects store.Effects
	d.mu.Lock()
	for _, l := range d.liveGrants(now) {
		if q.All || l.Prefix.Overlaps(p) {
			d.grants.drop(l.Prefix, gateID(l))
			reply.Revoked = append(reply.Revoked, NewGrant(l))
			if !slices.Contains(prefixes, l.Prefix) {
				prefixes = append(prefixes, l.Prefix)
				effects.Revokes = append(effects.Revokes, store.Revoke{Prefix: l.Prefix, At: now, By: who})
			}
			if id := gateID(l); id != "" {
				effects.Grants = append(effects.Grants, d.takeBack(l, id, who, now))
			}
		}
	}
	err := d.holdGrants(ctx, prefixes, now)
	d.rec.Add(effects)
	d.mu.Unlock()
	d.log.Info("grants revoked", "prefixes", prefixes, "by", who)
	if err != nil {
		d.ask("a revoke failed")
		return reply, fmt.Errorf("revoked, but still in the kernel; trying again: %w", err)
	}
	return reply, d.flush(ctx)
}

// grantAll puts every grant into the kernel.
func (d *Daemon) grantAll(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	grants := kernelGrants(d.grants.kernel(now), now)
	if d.kept == keepNothing || len(grants) == 0 {
		return nil
	}
	return d.fw.Grant(ctx, grants)
}

// compareGrants holds the kernel's grants to ours: nobody comes in by one that we
// do not know, and nobody is kept out who holds one.
func (d *Daemon) compareGrants(ctx context.Context) error {
	var there []firewall.Grant
	if err := d.fw.Grants(ctx, func(g firewall.Grant) error { there = append(there, g); return nil }); err != nil {
		return err
	}
	// What was given or revoked since is done once more, which does no harm.
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept == keepNothing {
		return nil
	}
	now := time.Now()
	held := map[netip.Prefix]bool{}
	var foreign []netip.Prefix
	for _, g := range there {
		l, ok := d.grants.longest(g.Prefix, now)
		switch {
		case !ok, g.Left == 0, g.Left > l.Until.Sub(now)+endsSoon:
			foreign = append(foreign, g.Prefix)
		case g.Left >= l.Until.Sub(now)-endsSoon:
			held[g.Prefix] = true
		}
	}
	var missing []lease.Lease
	for _, l := range d.grants.kernel(now) {
		if !held[l.Prefix] {
			missing = append(missing, l)
		}
	}
	if len(foreign) > 0 {
		if d.seldom("foreign grants") {
			d.log.Warn("grants in the kernel that nobody gave; taking them out", "grants", len(foreign), "first", foreign[:min(10, len(foreign))])
		}
		if err := d.fw.Ungrant(ctx, foreign); err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if d.seldom("missing grants") {
		d.log.Warn("grants were missing in the kernel; putting them back", "grants", len(missing))
	}
	return d.fw.Grant(ctx, kernelGrants(missing, now))
}

// kernelGrants are the leases still live at now, as the firewall takes them.
func kernelGrants(leases []lease.Lease, now time.Time) []firewall.Grant {
	grants := make([]firewall.Grant, 0, len(leases))
	for _, b := range kernelBans(leases, now) {
		if b.Left > 0 { // never one without end
			grants = append(grants, firewall.Grant(b))
		}
	}
	return grants
}

// openGrants takes over the grants that the store remembers, and where that was lost
// those of the kernel: who was let in stays so, to the same end.
func (d *Daemon) openGrants(ctx context.Context, readable, adopt bool, now time.Time) {
	var known []lease.Lease
	if readable {
		if err := d.store.EachLiveGrant(ctx, now, func(l lease.Lease) error { known = append(known, l); return nil }); err != nil {
			d.log.Error("the store's grants cannot be read; taking over the kernel's", "error", err)
			adopt = true
		}
		d.openTaken(ctx, now)
	}
	kernel := map[netip.Prefix]time.Duration{}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept != keepNothing {
		err := d.fw.Grants(ctx, func(g firewall.Grant) error { kernel[g.Prefix] = g.Left; return nil })
		if err != nil {
			d.log.Error("the kernel's grants cannot be read", "error", err)
		}
	}
	n := 0
	for _, l := range known {
		if n == maxGrants {
			break
		}
		// The kernel has counted what the clock may not have.
		if left, ok := kernel[l.Prefix]; ok && left > 0 && gateID(l) != "" && l.Until.Sub(now) > left+time.Second {
			l.Until = now.Add(left)
		}
		if was, ok := d.grants.get(l.Prefix, gateID(l)); !ok {
			n++
		} else if was.Until.After(l.Until) {
			continue
		}
		d.grants.put(l)
	}
	if !adopt {
		return
	}
	var adopted []lease.Lease
	for p, left := range kernel {
		if len(d.grants[p]) > 0 || left <= 0 || left > longestGrant || n >= maxGrants {
			continue
		}
		n++
		l := lease.Lease{Prefix: p, Verdict: lease.Allow, Cause: "adopted", Reason: "was in the kernel when the state was begun anew", Holder: "guard", From: now, Until: now.Add(left)}
		d.grants.put(l)
		adopted = append(adopted, l)
	}
	d.rec.Add(store.Effects{Grants: adopted})
}
