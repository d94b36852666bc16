package daemon

import (
	"context"
	"net/netip"
	"time"

	"sekisho/internal/firewall"
	"sekisho/internal/lease"
)

const (
	enforceChunk = 1000             // bounds how long the guard waits while many bans are put back
	endsSoon     = 10 * time.Second // a ban that ends within this is left alone when the kernel is looked at
)

// liveBans are the bans that the guard holds, copied before the first is given.
func (d *Daemon) liveBans(yield func(lease.Lease) bool) {
	var bans []lease.Lease
	d.mu.Lock()
	d.engine.Bans(time.Now(), func(l lease.Lease) bool { bans = append(bans, l); return true })
	d.mu.Unlock()
	for _, l := range bans {
		if !yield(l) {
			return
		}
	}
}

// enforceAll puts every ban that the guard holds into the kernel, in chunks, so
// that new attackers are banned meanwhile.
func (d *Daemon) enforceAll(ctx context.Context) error {
	d.mu.Lock()
	if !d.enforcing {
		d.mu.Unlock()
		return nil
	}
	var prefixes []netip.Prefix
	d.engine.Bans(time.Now(), func(l lease.Lease) bool { prefixes = append(prefixes, l.Prefix); return true })
	d.mu.Unlock()
	for len(prefixes) > 0 {
		n := min(enforceChunk, len(prefixes))
		if err := d.enforce(ctx, prefixes[:n]); err != nil {
			return err
		}
		prefixes = prefixes[n:]
	}
	return nil
}

// enforce puts those of prefixes that are still banned into the kernel: one
// that was lifted meanwhile stays out.
func (d *Daemon) enforce(ctx context.Context, prefixes []netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.enforcing {
		return nil
	}
	now := time.Now()
	bans := make([]firewall.Ban, 0, len(prefixes))
	for _, p := range prefixes {
		if l, ok := d.engine.Banned(p, now); ok {
			bans = append(bans, kernelBans([]lease.Lease{l}, now)...)
		}
	}
	return d.fw.Ban(ctx, bans)
}

// ask has the kernel looked at now rather than within the minute.
func (d *Daemon) ask(why string) {
	select {
	case d.kick <- why:
	default: // it is about to be looked at
	}
}

// reconcile holds the kernel to what the guard knows: every minute, and at once
// when something foreign changed our table or a ban failed.
func (d *Daemon) reconcile(ctx context.Context) error {
	every := time.NewTicker(reconcileEvery)
	defer every.Stop()
	for {
		why := "every minute"
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		case why = <-d.kick:
		}
		if err := d.compare(ctx, why); err != nil && ctx.Err() == nil {
			d.enforcementFailed(err)
		}
	}
}

func (d *Daemon) enforcementFailed(err error) {
	d.log.Error("the kernel does not hold our bans; trying again every minute", "error", err)
	d.problem("firewall", "bans are not in force: "+err.Error(), "see the log; another firewall tool or a missing capability (CAP_NET_ADMIN) may be the cause")
}

// compare reads our table back and mends what differs.
func (d *Daemon) compare(ctx context.Context, why string) error {
	d.mu.Lock()
	fw, enforcing, state := d.fw, d.enforcing, firewallState(d.cfg)
	d.mu.Unlock()
	if !enforcing {
		return nil
	}
	missing, err := fw.Intact(ctx)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		d.log.Warn("our rules are not whole; putting them back", "why", why, "missing", missing)
		if err := fw.Ensure(ctx, state); err != nil {
			return err
		}
		d.repaired.Add(1)
	}
	// Bans that begin or end while we look are left to the next time.
	began := time.Now()
	soon := began.Add(endsSoon)
	settled := func(l lease.Lease) bool {
		return l.From.Before(began) && (l.Until.IsZero() || l.Until.After(soon))
	}
	held, foreign := 0, []netip.Prefix(nil)
	err = fw.Bans(ctx, func(b firewall.Ban) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		switch l, ok := d.engine.Banned(b.Prefix, began); {
		case ok && settled(l):
			held++
		case !ok && (b.Left == 0 || b.Left > endsSoon):
			foreign = append(foreign, b.Prefix)
		}
		return nil
	})
	if err != nil {
		return err
	}
	expected := 0
	d.mu.Lock()
	d.engine.Bans(began, func(l lease.Lease) bool {
		if settled(l) {
			expected++
		}
		return true
	})
	d.mu.Unlock()
	if lost := expected - held; lost > 0 {
		d.log.Warn("bans were missing in the kernel; putting them back", "why", why, "bans", lost)
		if err := d.enforceAll(ctx); err != nil {
			return err
		}
	}
	if len(foreign) > 0 {
		if len(foreign) > 10 {
			d.log.Warn("bans in the kernel that are not ours; taking them out", "bans", len(foreign))
		} else {
			d.log.Warn("bans in the kernel that are not ours; taking them out", "prefixes", foreign)
		}
		if err := d.release(ctx, foreign); err != nil {
			return err
		}
	}
	d.solved("firewall")
	return nil
}

// release takes prefixes out of the kernel that the guard does not hold.
func (d *Daemon) release(ctx context.Context, prefixes []netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	var out []netip.Prefix
	for _, p := range prefixes {
		if _, ok := d.engine.Banned(p, now); !ok { // else banned meanwhile
			out = append(out, p)
		}
	}
	return d.fw.Unban(ctx, out)
}

// watch has foreign changes of our table undone at once, and names who made them.
func (d *Daemon) watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.armed:
	}
	for ctx.Err() == nil {
		err := d.fw.Watch(ctx, func(c firewall.Change) {
			d.mu.Lock()
			enforcing := d.enforcing
			d.mu.Unlock()
			if !enforcing {
				return
			}
			d.log.Warn("somebody changed our table; undoing it", "what", c.What, "process", c.Process, "pid", c.PID)
			d.metrics.drift()
			d.ask(c.What)
		})
		if ctx.Err() != nil {
			return nil
		}
		d.log.Error("changes of our table are not seen at once; looking every minute", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(reconcileEvery):
		}
	}
	return nil
}
