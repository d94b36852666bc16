package trial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/config"
	"sekisho/internal/firewall"
	"sekisho/internal/printable"
)

// How long a trial may be.
const (
	MinWithin = 5 * time.Second
	MaxWithin = time.Hour
)

const (
	lookEvery = 2 * time.Second        // at the kernel, in case somebody takes the trial away
	atEnd     = 20 * time.Millisecond  // after the kernel's end, that we look
	patience  = 10 * time.Second       // for one answer of the kernel's, and at the end for the first
	pause     = 200 * time.Millisecond // before the kernel is asked again what it could not answer

	mostEvents = 64
	mostLogins = 128 // under watch at a time; of more than that, some end before we look
)

// trial is one trial under way. What is not guarded belongs to Run's goroutine.
type trial struct {
	generation uint32
	within     time.Duration
	by         string
	byHand     bool
	before     map[netip.AddrPort]struct{} // sessions that prove nothing
	armed      time.Time
	asked      Snapshot // as the disk holds it as pending
	watched    int      // logins that are
	doubt      string   // who asked the kernel to confirm, when it did not answer
	failure    error    // why it could not go back at once

	callOff context.CancelCauseFunc
	asks    chan ask
	logins  chan login
	events  chan Event
	over    chan struct{} // closed once the last event is known

	mu    sync.Mutex
	event Event
	until time.Time // when the kernel reverts, as it told last
}

// ask is what is asked of Run's goroutine.
type ask struct {
	confirm string     // by whom; "": not asked
	answer  chan error // buffered; of confirm
	login   string     // whose login is watched from now on, or not any more
	gone    string     // why not any more
}

// called is why a trial was called off by Revert.
type called struct{ by string }

func (c *called) Error() string { return "reverted by " + c.by }

func busy() error { return &Error{ErrBusy, "wait for its end, or end it: sekisho revert"} }

// Run tries r: writes it down as pending, stages, arms, and waits until it is
// confirmed or over. Where a first event was told, the last is Confirmed or
// Reverted; a trial that nobody confirmed, or that somebody reverted, is no error.
// An error means that something failed or ctx ended, that the rules before are in
// force (or the kernel goes back to them in time), and why. When ctx ends, it is
// reverted at once. progress is called by one goroutine, one event after the other;
// the trial does not wait for it.
func (t *Trials) Run(ctx context.Context, r Request, progress func(Event)) error {
	if err := check(r); err != nil {
		return err
	}
	ctx, callOff := context.WithCancelCause(ctx)
	defer callOff(nil)
	tr := &trial{
		within: r.Within, byHand: r.ByHand, by: printable.Text(r.By), before: make(map[netip.AddrPort]struct{}, len(r.Sessions)),
		callOff: callOff, asks: make(chan ask), logins: make(chan login, mostLogins),
		events: make(chan Event, mostEvents), over: make(chan struct{}),
	}
	for _, s := range r.Sessions {
		tr.before[plain(s)] = struct{}{}
	}
	if !t.begin(tr) {
		return busy()
	}
	var teller errgroup.Group
	teller.Go(func() error {
		for e := range tr.events {
			if progress != nil {
				progress(e)
			}
		}
		return nil
	})
	err := t.try(ctx, tr, r)
	close(tr.events)
	_ = teller.Wait() // it has no error
	return err
}

func check(r Request) error {
	if r.Within < MinWithin || r.Within > MaxWithin {
		return &Error{
			fmt.Errorf("a trial of %v is too short or too long", r.Within),
			fmt.Sprintf("%s to %s, as --within 60s", config.FormatDuration(MinWithin), config.FormatDuration(MaxWithin)),
		}
	}
	if err := r.Rules.Validate(); err != nil {
		return fmt.Errorf("the rules cannot be put in force: %w", err)
	}
	if !r.Rules.Countries.None() && r.Countries.IsEmpty() {
		return &Error{errors.New("there are no addresses for the countries"), "sekisho country update"}
	}
	return nil
}

func (t *Trials) begin(tr *trial) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil {
		return false
	}
	t.current = tr
	return true
}

// finish ends tr for those who ask.
func (t *Trials) finish(tr *trial) {
	t.mu.Lock()
	t.current = nil
	t.mu.Unlock()
	close(tr.over)
}

// try is Run, but for who is told.
func (t *Trials) try(ctx context.Context, tr *trial, r Request) error {
	t.work.Lock()
	defer t.work.Unlock()
	defer t.finish(tr)
	if err := t.prepare(ctx, tr, r); err != nil {
		return err
	}
	tr.tell(Event{Stage: Loading})
	if err := t.load(ctx, tr, r); err != nil {
		return t.fail(ctx, tr, err)
	}
	if r.NoWait {
		if over, err := t.confirm(ctx, tr, tr.by+", without waiting for proof"); !over {
			return t.fail(ctx, tr, err)
		}
		return nil // what the disk refused is told with the event
	}
	watching, stop := context.WithCancel(ctx)
	var watchers errgroup.Group
	watchers.SetLimit(mostLogins)
	defer func() {
		stop()
		_ = watchers.Wait() // they have no errors
	}()
	return t.wait(ctx, tr, func(l login) bool {
		return watchers.TryGo(func() error { t.watch(watching, tr, l); return nil })
	})
}

// prepare settles what was, and writes r down as pending. Nothing has changed in
// the kernel when it fails.
func (t *Trials) prepare(ctx context.Context, tr *trial, r Request) error {
	settled, before := t.settled, t.inForce.Generation
	standing, err := t.settle(ctx)
	if settled && t.inForce.Generation != before && t.inForce.Generation == standing.Confirmed {
		t.swapped(t.inForce) // the trial before ended so, when the kernel could not be asked
	}
	switch {
	case errors.Is(err, ErrUnsaved):
		return &Error{fmt.Errorf("no trial before the rules in force are on the disk: %w", err), "make room in " + t.disk.dir + ", and see that it can be written"}
	case err != nil:
		return fmt.Errorf("prepare a trial: %w", err)
	case standing.Confirmed != t.inForce.Generation:
		return &Error{
			fmt.Errorf("the kernel holds the rule set %d, but %d is the confirmed one", standing.Confirmed, t.inForce.Generation),
			"the daemon puts the confirmed one back within moments: try again; if that does not help: systemctl restart sekisho",
		}
	case t.highest >= firewall.MaxGeneration:
		return &Error{fmt.Errorf("the numbers of rule sets end with %d", firewall.MaxGeneration), "begin anew: sekisho off, and remove firewall*.json in " + t.disk.dir}
	}
	t.highest++
	tr.generation = t.highest
	tr.asked = Snapshot{Generation: tr.generation, Rules: r.Rules, Confirmed: time.Now().UTC(), By: "a trial of " + tr.by + "; what confirmed it was not written down"}
	if err := t.disk.write(pendingFile, tr.asked); err != nil {
		return &Error{fmt.Errorf("nothing was changed: %w", err), "make room in " + t.disk.dir + ", and see that it can be written"}
	}
	return nil
}

// load has the kernel judge by the rules on trial.
func (t *Trials) load(ctx context.Context, tr *trial, r Request) error {
	if err := t.fw.Stage(ctx, firewall.Ruleset{Generation: tr.generation, Rules: r.Rules, Countries: r.Countries}); err != nil {
		return fmt.Errorf("load the rules: %w", err)
	}
	tr.armed = time.Now()
	if err := t.fw.Arm(ctx, tr.within); err != nil {
		return fmt.Errorf("arm the rules: %w", err)
	}
	standing, err := t.fw.Standing(ctx)
	if err != nil {
		return fmt.Errorf("read the armed rules back: %w", err)
	}
	if standing.Staged != tr.generation || standing.Armed == 0 {
		return errors.New("read the armed rules back: the kernel does not hold them")
	}
	tr.setUntil(time.Now().Add(standing.Armed))
	tr.tell(Event{Stage: Armed, Until: tr.end()})
	return nil
}

// wait waits until the trial is over. watch begins to watch a login.
func (t *Trials) wait(ctx context.Context, tr *trial, watch func(login) bool) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		left := time.Until(tr.end()) + atEnd
		if left <= 0 { // it was over, and the kernel did not say how
			left = pause
		}
		end := time.NewTimer(left)
		over, err := false, error(nil)
		select {
		case <-ctx.Done():
			end.Stop()
			return t.fail(ctx, tr, nil)
		case l := <-tr.logins:
			if tr.fits(l) && !watch(l) {
				t.log.Warn("too many logins at a time: one is not watched, and cannot confirm the trial", "peer", l.peer)
			}
		case a := <-tr.asks:
			over, err = t.answer(ctx, tr, a)
		case <-look.C:
			over, err = t.look(ctx, tr)
		case <-end.C:
			over, err = t.look(ctx, tr)
		}
		end.Stop()
		if over {
			return err
		}
	}
}

// answer does what was asked. Its error is the trial's, not the asker's.
func (t *Trials) answer(ctx context.Context, tr *trial, a ask) (over bool, err error) {
	switch {
	case a.confirm != "":
		over, err := t.confirm(ctx, tr, a.confirm)
		a.answer <- err
		return over, nil
	case a.gone == "":
		tr.watched++
		tr.tell(Event{Stage: Login, Until: tr.end(), By: a.login})
	default:
		if tr.watched--; tr.watched == 0 {
			tr.tell(Event{Stage: Armed, Until: tr.end(), By: a.login + " proves nothing: " + a.gone})
		}
	}
	return false, nil
}

// look asks the kernel how the trial stands. The kernel's clock is the truth.
func (t *Trials) look(ctx context.Context, tr *trial) (over bool, err error) {
	c, cancel := bounded(ctx)
	defer cancel()
	standing, err := t.fw.Standing(c)
	now := time.Now()
	switch {
	case err != nil && now.Before(tr.end().Add(patience)):
		t.log.Warn("the kernel does not say how the trial stands; asking again", "error", err)
		return false, nil
	case err != nil: // the pending file stays: Recover or the next trial settles it
		tr.tell(Event{Stage: Reverted, By: "the kernel, by its own clock; it could not be asked"})
		return true, fmt.Errorf("ask the kernel how the trial ended: %w", err)
	case standing.Confirmed == tr.generation:
		_ = t.confirmed(tr, tr.doubt) // told with the event
		return true, nil
	case !standing.Table:
		return true, t.back(ctx, tr, "somebody who took the table away")
	case standing.Staged != tr.generation:
		return true, t.back(ctx, tr, "somebody who changed the table, or its repair: the rules on trial are gone")
	case standing.Armed == 0 && now.Before(tr.end().Add(-time.Second)):
		return true, t.back(ctx, tr, "somebody who disarmed it in the kernel")
	case standing.Armed == 0:
		return true, t.back(ctx, tr, "the kernel: nobody confirmed it within "+config.FormatDuration(tr.within))
	}
	tr.setUntil(now.Add(standing.Armed))
	return false, nil
}

// confirm has the kernel confirm the trial, and writes that down. Its error is for
// who asked; over says whether the trial is over, one way or the other.
func (t *Trials) confirm(ctx context.Context, tr *trial, by string) (over bool, err error) {
	c, cancel := bounded(context.WithoutCancel(ctx))
	defer cancel()
	if err := t.fw.Confirm(c); err != nil {
		c, cancel := bounded(context.WithoutCancel(ctx)) // it may have taken all of its time
		defer cancel()
		standing, unknown := t.fw.Standing(c)
		switch {
		case unknown != nil && !errors.Is(err, firewall.ErrNotArmed):
			tr.doubt = by
			return false, fmt.Errorf("the kernel does not say whether it confirmed: %w", err)
		case unknown == nil && standing.Confirmed == tr.generation: // it did, and failed afterwards
		case unknown == nil && standing.Staged == tr.generation && standing.Armed > 0:
			return false, &Error{fmt.Errorf("the kernel did not confirm: %w", err), tr.again()}
		default:
			if err := t.back(ctx, tr, "the kernel: the time was over a moment before it was confirmed by "+by); err != nil {
				t.log.Warn("rules that were on trial stay in the kernel; they judge nothing", "error", err)
			}
			return true, tr.late()
		}
	}
	return true, t.confirmed(tr, by)
}

// confirmed writes down that the kernel holds the rules on trial for good. Its
// error wraps ErrUnsaved; the rules are in force all the same.
func (t *Trials) confirmed(tr *trial, by string) error {
	s := tr.asked
	s.Confirmed, s.By = time.Now().UTC(), by
	t.inForce = s
	e := Event{Stage: Confirmed, By: by}
	err := t.save()
	if err != nil {
		t.log.Error(unsaved, "generation", tr.generation, "error", err)
		e.Warning = err.Error() + "; a reboot would bring back the rules before. It is tried again and again: make room in " + t.disk.dir
		err = &Error{fmt.Errorf("confirmed, and %w", err), "a reboot would bring back the rules before; it is tried again and again: make room in " + t.disk.dir}
	}
	t.swapped(s)
	t.log.Info("a rule set is confirmed", "generation", tr.generation, "by", by)
	tr.tell(e)
	return err
}

// fail goes back because of err, or because ctx ended.
func (t *Trials) fail(ctx context.Context, tr *trial, err error) error {
	by := ""
	if cause := context.Cause(ctx); cause == nil {
		by = "sekisho: " + err.Error()
	} else if revert, ok := errors.AsType[*called](cause); ok {
		by, err = revert.by, nil
	} else {
		by, err = "sekisho: whoever tried it went away", fmt.Errorf("the trial was called off: %w", cause)
	}
	tr.failure = t.back(ctx, tr, by)
	return errors.Join(err, tr.failure)
}

// back goes back to the rules before, at once. Where that cannot be had, the kernel
// does it in time; the error says so.
func (t *Trials) back(ctx context.Context, tr *trial, by string) error {
	e := Event{Stage: Reverted, By: by}
	err := t.abort(ctx)
	if err != nil {
		err = fmt.Errorf("the kernel could not be told to go back; it does so by itself by %s: %w", tr.end().Format(time.TimeOnly), err)
		e.Warning = err.Error()
	}
	if tr.doubt != "" { // it may have confirmed before
		c, cancel := bounded(context.WithoutCancel(ctx))
		defer cancel()
		standing, unknown := t.fw.Standing(c)
		switch {
		case unknown != nil: // the pending file stays: Recover or the next trial settles it
			tr.tell(e)
			return errors.Join(err, fmt.Errorf("ask the kernel how the trial ended: %w", unknown))
		case standing.Confirmed == tr.generation:
			_ = t.confirmed(tr, tr.doubt) // told with the event
			return nil
		}
	}
	if err := t.disk.shelve(); err != nil {
		t.log.Warn("a rule set that was not confirmed stays on the disk; no boot loads it", "error", err)
	}
	t.log.Info("a rule set on trial is reverted", "generation", tr.generation, "by", by)
	tr.tell(e)
	return err
}

// abort is firewall.Abort, tried for a while. ctx may have ended.
func (t *Trials) abort(ctx context.Context) error {
	c, cancel := bounded(context.WithoutCancel(ctx))
	defer cancel()
	for {
		err := t.fw.Abort(c)
		if err == nil || errors.Is(err, firewall.ErrAbsent) {
			return nil
		}
		if !pausing(c, pause) || c.Err() != nil {
			return err
		}
	}
}

// tell keeps e as the last event, and passes it on if there is room; the last of
// all finds room.
func (tr *trial) tell(e Event) {
	e.Generation = tr.generation
	tr.mu.Lock()
	tr.event = e
	tr.mu.Unlock()
	last := e.Stage == Confirmed || e.Stage == Reverted
	if last || len(tr.events) < mostEvents-1 {
		tr.events <- e
	}
}

func (tr *trial) last() Event {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.event
}

func (tr *trial) setUntil(end time.Time) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.until = end
}

// end is when the kernel reverts, as it told last.
func (tr *trial) end() time.Time {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.until
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, patience)
}

// pausing waits for d; it reports whether ctx is still alive.
func pausing(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// plain is peer as the kernel knows it.
func plain(peer netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(peer.Addr().Unmap().WithZone(""), peer.Port())
}
