package daemon

import (
	"cmp"
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
func (d *Daemon) liveGrants(now time.Time) []lease.Lease {
	grants := make([]lease.Lease, 0, len(d.grants))
	for p, l := range d.grants {
		if !l.Live(now) {
			delete(d.grants, p)
			continue
		}
		grants = append(grants, l)
	}
	slices.SortFunc(grants, func(a, b lease.Lease) int {
		return cmp.Or(a.Until.Compare(b.Until), a.Prefix.Compare(b.Prefix))
	})
	return grants
}

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
		if l, ok := d.grants[netip.PrefixFrom(a, n).Masked()]; ok && l.Live(now) {
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
	var banned netip.Prefix
	d.engine.Bans(now, func(b lease.Lease) bool {
		if b.Prefix.Overlaps(p) {
			banned = b.Prefix
		}
		return !banned.IsValid()
	})
	longer, renewed := d.grants[p]
	exposure := d.want.Ruleset.Rules.Exposure
	var err error
	switch {
	case banned.IsValid():
		err = refuse(http.StatusConflict, "lift the ban first: sekisho unban "+banned.String(), "%s is banned, which a grant does not change", banned)
	case exposure == firewall.ExposureFixed:
		err = refuse(http.StatusConflict, "set exposure: on_request, then `sekisho apply`", "with exposure: fixed nobody is let in by a grant")
	case !renewed && len(d.liveGrants(now)) >= maxGrants:
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
	d.grants[p] = l
	if d.kept != keepNothing {
		err = d.fw.Grant(ctx, kernelGrants([]lease.Lease{l}, now))
	}
	d.rec.Add(store.Effects{Grants: []lease.Lease{l}})
	d.mu.Unlock()
	d.log.Info("grant", "prefix", p, "until", until(l), "by", who, "reason", l.Reason)
	if err != nil {
		d.ask("a grant failed")
		return Grant{}, fmt.Errorf("%s is noted but not in the kernel yet: %w", p, err)
	}
	return NewGrant(l), d.flush(ctx)
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
	var revokes []store.Revoke
	d.mu.Lock()
	for _, l := range d.liveGrants(now) {
		if q.All || l.Prefix.Overlaps(p) {
			delete(d.grants, l.Prefix)
			reply.Revoked = append(reply.Revoked, NewGrant(l))
			prefixes = append(prefixes, l.Prefix)
			revokes = append(revokes, store.Revoke{Prefix: l.Prefix, At: now, By: who})
		}
	}
	var err error
	if d.kept != keepNothing && len(prefixes) > 0 {
		err = d.fw.Ungrant(ctx, prefixes)
	}
	d.rec.Add(store.Effects{Revokes: revokes})
	d.mu.Unlock()
	d.log.Info("grants revoked", "prefixes", prefixes, "by", who)
	if err != nil && !errors.Is(err, firewall.ErrAbsent) {
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
	grants := kernelGrants(d.liveGrants(now), now)
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
		l, ok := d.grants[g.Prefix]
		switch {
		case !ok, g.Left == 0, g.Left > l.Until.Sub(now)+endsSoon:
			foreign = append(foreign, g.Prefix)
		case g.Left >= l.Until.Sub(now)-endsSoon:
			held[g.Prefix] = true
		}
	}
	var missing []lease.Lease
	for _, l := range d.liveGrants(now) {
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
		if err := d.store.LiveGrants(ctx, now, func(l lease.Lease) error { known = append(known, l); return nil }); err != nil {
			d.log.Error("the store's grants cannot be read; taking over the kernel's", "error", err)
			adopt = true
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range known {
		if len(d.grants) < maxGrants {
			d.grants[l.Prefix] = l
		}
	}
	if !adopt || d.kept == keepNothing {
		return
	}
	var adopted []lease.Lease
	err := d.fw.Grants(ctx, func(g firewall.Grant) error {
		if _, ok := d.grants[g.Prefix]; ok || g.Left <= 0 || g.Left > longestGrant || len(d.grants) >= maxGrants {
			return nil
		}
		l := lease.Lease{Prefix: g.Prefix, Verdict: lease.Allow, Cause: "adopted", Reason: "was in the kernel when the state was begun anew", Holder: "guard", From: now, Until: now.Add(g.Left)}
		d.grants[l.Prefix] = l
		adopted = append(adopted, l)
		return nil
	})
	if err != nil {
		d.log.Error("the kernel's grants cannot be read", "error", err)
	}
	d.rec.Add(store.Effects{Grants: adopted})
}
