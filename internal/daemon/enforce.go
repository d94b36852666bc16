package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sekisho/internal/firewall"
	"sekisho/internal/lease"
	"sekisho/internal/store"
)

const (
	enforceChunk = 1000                  // bounds how long the guard waits while many bans are put back
	leastRest    = 50 * time.Millisecond // between two looks at the kernel
	failedRest   = time.Second
	mostRest     = 10 * time.Second
	everyMinute  = "every minute"
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

// lift lifts the bans of prefixes and forgets what was counted of them, in
// chunks: no attacker waits for his ban while 100,000 others end.
func (d *Daemon) lift(ctx context.Context, prefixes []netip.Prefix, by string) error {
	var inKernel, unwritten error
	for chunk := range slices.Chunk(prefixes, enforceChunk) {
		if err := d.liftSome(ctx, chunk, by); err != nil && inKernel == nil {
			inKernel = fmt.Errorf("lifted, but still in the kernel; trying again: %w", err)
			d.ask("an unban failed")
		}
		// Written down as it goes: a recorder that cannot write keeps only so many.
		if unwritten == nil {
			unwritten = d.flush(ctx)
		}
	}
	return cmp.Or(inKernel, unwritten)
}

func (d *Daemon) liftSome(ctx context.Context, prefixes []netip.Prefix, by string) error {
	now := time.Now()
	unbans := make([]store.Unban, 0, len(prefixes))
	held := make([]netip.Prefix, 0, len(prefixes))
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range prefixes {
		d.engine.Forgive(p, now)
		unbans = append(unbans, store.Unban{Prefix: p, At: now, By: by})
		if !p.Addr().IsLoopback() { // the kernel never holds it, and says so
			held = append(held, p)
		}
	}
	d.rec.Add(store.Effects{Unbans: unbans})
	if !d.enforcing {
		return nil
	}
	if err := d.fw.Unban(ctx, held); !errors.Is(err, firewall.ErrAbsent) {
		return err
	}
	return nil // nothing is in force, and these will not be put back
}

// liftNever lifts the bans of whom nobody may ban, which a changed configuration
// or a changed address of this host's may have made of somebody.
func (d *Daemon) liftNever(ctx context.Context) {
	var prefixes []netip.Prefix
	d.mu.Lock()
	d.engine.Bans(time.Now(), func(l lease.Lease) bool {
		if never, ok := d.engine.Never(l.Prefix); ok {
			d.log.Warn("a ban is lifted: it holds somebody who is never banned", "prefix", l.Prefix, "never", never)
			prefixes = append(prefixes, l.Prefix)
		}
		return true
	})
	d.mu.Unlock()
	if err := d.lift(ctx, prefixes, "sekisho"); err != nil {
		d.log.Error("bans of who is never banned", "error", err)
	}
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
		why := everyMinute
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		case why = <-d.kick:
		}
		began := time.Now()
		err := d.compare(ctx, why)
		// Who changes our table over and over gets a tenth of a core from us, no more.
		rest := min(max(10*time.Since(began), leastRest), mostRest)
		if why == everyMinute {
			rest = 0
			d.calm()
		}
		if err != nil && ctx.Err() == nil {
			d.enforcementFailed(err)
			d.ask("it failed before")
			rest = max(rest, failedRest)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rest):
		}
	}
}

func (d *Daemon) enforcementFailed(err error) {
	const what = "the kernel does not hold our bans; trying again and again"
	if d.rarely(what) {
		d.log.Error(what, "error", err)
	}
	d.problem("firewall", "bans are not in force: "+err.Error(), "see the log; another firewall tool or a missing capability (CAP_NET_ADMIN) may be the cause")
}

// drift is what is told of foreign changes: the first, and once a minute how
// many more there were.
type drift struct {
	last  firewall.Change
	told  time.Time
	times int // since then
}

// note reports whether to tell of a change now, and how many it stands for.
func (d *drift) note(now time.Time) (times int, tell bool) {
	d.times++
	if !d.told.IsZero() && now.Sub(d.told) < reconcileEvery {
		return 0, false
	}
	times = d.times
	d.told, d.times = now, 0
	return times, true
}

// changed undoes a foreign change of our table and names who made it.
func (d *Daemon) changed(c firewall.Change) {
	d.mu.Lock()
	kept := d.kept != keepNothing
	times, tell := 0, false
	if kept {
		d.drift.last = c
		times, tell = d.drift.note(time.Now())
	}
	d.mu.Unlock()
	if !kept {
		return
	}
	d.metrics.drift()
	if tell {
		d.tellChange(c, times)
		d.tellDrift(c, times)
	}
	d.ask(c.What)
}

func (d *Daemon) tellDrift(c firewall.Change, times int) {
	d.log.Warn("somebody changed our table; undoing it", "what", c.What, "process", c.Process, "pid", c.PID, "times", times)
	if times > 1 {
		d.problem("drift", fmt.Sprintf("%q (pid %d) changed our table %d times within a minute or so; rules and bans may not be in force for moments", c.Process, c.PID, times),
			"find what runs it and stop it, or have it leave the table inet sekisho alone")
	}
}

// calm tells, once a minute, of the changes that were not told yet; where there
// were none, all is well again.
func (d *Daemon) calm() {
	d.mu.Lock()
	c, times, since := d.drift.last, d.drift.times, time.Since(d.drift.told)
	if times > 0 && since >= reconcileEvery {
		d.drift.told, d.drift.times = time.Now(), 0
	}
	d.mu.Unlock()
	switch {
	case since < reconcileEvery:
	case times > 0:
		d.tellDrift(c, times)
	default:
		d.solved("drift")
	}
}

// compare reads our table back and mends what differs.
func (d *Daemon) compare(ctx context.Context, why string) error {
	d.mu.Lock()
	fw, enforcing, kept := d.fw, d.enforcing, d.kept
	d.mu.Unlock()
	if kept == keepNothing {
		return nil
	}
	if err := d.compareRules(ctx, why); err != nil {
		return err
	}
	if err := d.compareGrants(ctx); err != nil {
		return err
	}
	if !enforcing {
		d.solved("firewall")
		return nil
	}
	// Bans that begin or end while we look are left to the next time.
	began := time.Now()
	soon := began.Add(endsSoon)
	settled := func(l lease.Lease) bool {
		return l.From.Before(began) && (l.Until.IsZero() || l.Until.After(soon))
	}
	held, foreign := 0, []netip.Prefix(nil)
	err := fw.Bans(ctx, func(b firewall.Ban) error {
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
		if d.rarely("missing bans") {
			d.log.Warn("bans were missing in the kernel; putting them back", "why", why, "bans", lost)
		}
		if err := d.enforceAll(ctx); err != nil {
			return err
		}
	}
	if len(foreign) > 0 {
		if d.rarely("foreign bans") {
			d.log.Warn("bans in the kernel that the guard does not hold; taking them out", "bans", len(foreign), "first", foreign[:min(10, len(foreign))])
		}
		if err := d.release(ctx, foreign); err != nil {
			return err
		}
	}
	d.solved("firewall")
	return nil
}

// compareRules holds the kernel to the rule set that was confirmed. A trial whose
// rules somebody changed proves nothing any more: it is ended.
func (d *Daemon) compareRules(ctx context.Context, why string) error {
	missing, err := d.missing(ctx)
	if err != nil || len(missing) == 0 {
		return err
	}
	d.mu.Lock()
	culprit, tried := d.drift.last.Process, d.trying != nil
	d.mu.Unlock()
	if err := d.endTrial(ctx, fmt.Sprintf("somebody changed our table during the trial (%q)", culprit)); err != nil && ctx.Err() == nil {
		d.log.Warn("a trial ended otherwise", "error", err)
	}
	d.rules.Lock()
	defer d.rules.Unlock()
	// Asked again: the trial's end, or whoever holds the lock, may have mended it.
	if missing, err = d.missing(ctx); err != nil || len(missing) == 0 {
		if tried && err == nil {
			d.repaired.Add(1)
		}
		return err
	}
	d.mu.Lock()
	kept, want, onTrial := d.kept, d.want, d.trying != nil
	d.mu.Unlock()
	if kept == keepNothing || onTrial {
		return nil // switched off, or on trial again, meanwhile
	}
	if d.rarely("rules") {
		d.log.Warn("our rules are not whole; putting them back", "why", why, "missing", missing)
	}
	if err := d.fw.Ensure(ctx, want); err != nil {
		return err
	}
	d.repaired.Add(1)
	return d.grantAll(ctx)
}

// missing is what is not as it should be.
func (d *Daemon) missing(ctx context.Context) ([]string, error) {
	if d.keptAs() != keepFound {
		return d.fw.Intact(ctx)
	}
	// We do not know what it should be, but that there should be something.
	standing, err := d.fw.Standing(ctx)
	if err != nil || standing.Table {
		return nil, err
	}
	return []string{"the table"}, nil
}

// rarely is seldom, for who does not hold d.mu.
func (d *Daemon) rarely(what string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seldom(what)
}

// seldom reports whether to tell something again. Called with d.mu held.
func (d *Daemon) seldom(what string) bool {
	now := time.Now()
	if last, ok := d.mendedAt[what]; ok && now.Sub(last) < reconcileEvery/2 {
		return false
	}
	d.mendedAt[what] = now
	return true
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
		err := d.fw.Watch(ctx, d.changed)
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
