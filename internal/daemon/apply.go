package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/conntrack"
	"sekisho/internal/firewall"
	"sekisho/internal/prefixset"
	"sekisho/internal/sshlog"
	"sekisho/internal/trial"
)

const (
	defaultWithin = time.Minute
	maxEvents     = 64 // of a trial that are kept for those who ask
	nothingNew    = "the host is as declared"
)

// newTrials are the trials of this host.
func (d *Daemon) newTrials() *trial.Trials {
	return trial.New(trial.Options{
		Firewall: d.fw, Dir: d.opts.StateDir, Logger: d.log, Swapped: d.swapped,
		Alive: func(ctx context.Context, peer netip.AddrPort) (bool, error) { return d.alive(ctx, peer, nil) },
	})
}

// trying is the trial under way.
type trying struct {
	cfg       *config.Config
	rules     firewall.Rules // of cfg
	countries prefixset.Set  // of rules
	over      chan struct{}  // closed when all is done, the rest of the configuration too

	mu     sync.Mutex
	events []trial.Event // the last maxEvents
	gone   int           // how many there were before them
	more   chan struct{} // closed and made anew with each event
	err    error         // once over is closed
}

func newTrying(cfg *config.Config, countries prefixset.Set) *trying {
	return &trying{cfg: cfg, rules: RulesOf(cfg), countries: countries, over: make(chan struct{}), more: make(chan struct{})}
}

func (t *trying) tell(e trial.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.events) == maxEvents { // logins that prove nothing, over and over; how it ends must not be lost
		t.events, t.gone = slices.Delete(t.events, 0, 1), t.gone+1
	}
	t.events = append(t.events, e)
	close(t.more)
	t.more = make(chan struct{})
}

func (t *trying) last() (e trial.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.events); n > 0 {
		e = t.events[n-1]
	}
	return e
}

// follow calls progress for each event, until the trial is over or ctx ends.
func (t *trying) follow(ctx context.Context, progress func(trial.Event)) error {
	for told, over := 0, false; ; {
		t.mu.Lock()
		events, more := slices.Clone(t.events[max(0, told-t.gone):]), t.more
		told = t.gone + len(t.events)
		t.mu.Unlock()
		for _, e := range events {
			progress(e)
		}
		if over {
			return t.err
		}
		select {
		case <-more:
		case <-t.over:
			over = true
		case <-ctx.Done():
			select {
			case <-t.over: // both: its end is worth more
				over = true
			default:
				return ctx.Err()
			}
		}
	}
}

func (d *Daemon) theTrials() *trial.Trials {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trials
}

// onTrial reports whether a trial is under way.
func (d *Daemon) onTrial() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trying != nil
}

// Trial is how far the trial under way has come; nil: none is.
func (d *Daemon) Trial() *trial.Event {
	d.mu.Lock()
	t := d.trying
	d.mu.Unlock()
	if t == nil {
		return nil
	}
	e := t.last()
	return &e
}

// Apply tries the configuration as it is in the file now, and tells of each step. It
// returns when the trial is over or ctx ends; the trial goes on without it. It waits
// until Run is Ready.
func (d *Daemon) Apply(ctx context.Context, q ApplyRequest, who string, progress func(trial.Event)) error {
	select {
	case <-d.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := d.mine(q.Config); err != nil {
		return err
	}
	within := q.Within
	if within == 0 {
		within = defaultWithin
	}
	if within < trial.MinWithin || within > trial.MaxWithin {
		return refuse(http.StatusBadRequest, fmt.Sprintf("between %s and %s", trial.MinWithin, trial.MaxWithin), "a trial of %s is not possible", within)
	}
	t, err := d.beginTrial(ctx, q, within, who)
	if err != nil {
		return err
	}
	return t.follow(ctx, progress)
}

// beginTrial looks whether the file's rule set may be tried, and has it tried.
func (d *Daemon) beginTrial(ctx context.Context, q ApplyRequest, within time.Duration, who string) (*trying, error) {
	d.reloading.Lock() // neither a reload nor another trial begins meanwhile
	defer d.reloading.Unlock()
	if d.running.Err() != nil {
		return nil, errStopping
	}
	if d.onTrial() {
		return nil, refuse(http.StatusConflict, "wait for its end, or: sekisho revert", "%w", trial.ErrBusy)
	}
	cfg, err := d.opts.Load()
	if err != nil {
		return nil, err
	}
	switch {
	case !cfg.Guard.Enforce:
		return nil, &Error{errDryRun, "set guard.enforce: yes, then `sekisho apply`"}
	case !d.cfg.Guard.Enforce:
		return nil, &Error{errors.New("the daemon still makes a dry run"), "first `sekisho reload`, then `sekisho apply`"}
	}
	p, err := d.propose(ctx, cfg, q.Peer, q.Ports)
	if err != nil {
		return nil, err
	}
	reply := p.reply()
	if q.Digest != "" && q.Digest != reply.Digest {
		return nil, refuse(http.StatusConflict, "see what it asks for now: sekisho plan", "the configuration file was changed since the plan was shown")
	}
	if err := p.refusal(reply, q.Force); err != nil {
		return nil, err
	}
	if d.keptAs() == keepFound {
		return nil, &Error{errors.New("the confirmed rule set cannot be read, so there is nothing to come back to"), "see `sekisho status`; mend or remove the file and restart the daemon"}
	}
	wasOff := isOff(d.opts.StateDir)
	if err := markOn(d.opts.StateDir); err != nil {
		return nil, fmt.Errorf("take back `sekisho off`: %w", err)
	}
	// The rest of the configuration follows only what is confirmed: until then the
	// kernel holds the bans as the daemon's own has them.
	if err := d.putInForce(ctx, d.cfg); err != nil {
		if wasOff {
			err = errors.Join(err, markOff(d.opts.StateDir)) // as if it had not been asked for
		}
		return nil, err
	}
	d.liftOf(ctx, cfg)
	t := newTrying(cfg, p.next.Ruleset.Countries)
	old := d.snapshotNow()
	d.mu.Lock()
	if d.stopping {
		d.mu.Unlock()
		return nil, errStopping
	}
	d.trying = t
	d.background.Add(1)
	d.mu.Unlock()
	request := trial.Request{
		Rules: p.next.Ruleset.Rules, Countries: p.next.Ruleset.Countries, Within: within,
		Sessions: d.connected(ctx), NoWait: q.NoWait, By: who,
		ByHand: q.Hold || len(reply.Refusals) > 0, // forced: somebody else's login must not shut its asker out for good
	}
	go func() {
		defer d.background.Done()
		d.try(t, p, old, request, len(reply.Changes) == 0)
	}()
	return t, nil
}

// try makes the trial, and afterwards has the rest of the daemon follow it.
func (d *Daemon) try(t *trying, p proposal, old trial.Snapshot, r trial.Request, same bool) {
	ctx := d.running
	var err error
	if same && old.Generation != 0 {
		t.tell(trial.Event{Stage: trial.Confirmed, Generation: old.Generation, By: nothingNew})
	} else {
		d.log.Warn("a rule set is on trial", "generation", p.next.Ruleset.Generation, "mode", r.Rules.Mode, "exposure", r.Rules.Exposure, "within", r.Within, "by", r.By)
		err = d.theTrials().Run(ctx, r, func(e trial.Event) {
			d.metrics.trial(e.Stage)
			d.tellTrial(e)
			d.log.Info("trial", "stage", e.Stage, "generation", e.Generation, "by", e.By, "warning", e.Warning)
			t.tell(e)
		})
	}
	switch {
	case err != nil && ctx.Err() != nil:
		d.log.Warn("the trial is called off; the rules before it hold", "error", err)
	case err != nil:
		d.log.Error("the trial failed; the rules before it hold", "error", err)
	}
	d.mu.Lock()
	d.trying = nil
	d.mu.Unlock()
	last := t.last()
	switch {
	case last.Stage == trial.Confirmed:
		if last.Warning != "" {
			d.unsaved(last.Warning)
		}
		if rerr := d.reload(ctx, func() (*config.Config, error) { return t.cfg, nil }); rerr != nil && err == nil {
			err = fmt.Errorf("the rule set is confirmed, but the rest of the configuration is not in force: %w", rerr)
		}
	case ctx.Err() == nil:
		d.log.Warn("the trial is over; the rules before it hold", "by", last.By)
	}
	if ctx.Err() == nil {
		if cerr := d.setCountries(ctx); cerr != nil {
			d.log.Error("the countries' new addresses are not in force; the old ones are", "error", cerr)
		}
		d.countriesMayDiffer()
		d.ask("a trial is over")
	}
	t.err = err
	close(t.over)
}

var errStopping = errors.New("the daemon is stopping")

func (d *Daemon) keptAs() keep {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept
}

func (d *Daemon) snapshotNow() trial.Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.snapshot
}

// liftOf lifts the bans of those whom cfg never bans: a trial must let them in.
func (d *Daemon) liftOf(ctx context.Context, cfg *config.Config) {
	never := PolicyOf(cfg).Never
	var prefixes []netip.Prefix
	for l := range d.liveBans {
		if slices.ContainsFunc(never, l.Prefix.Overlaps) {
			prefixes = append(prefixes, l.Prefix)
		}
	}
	if len(prefixes) == 0 {
		return
	}
	d.log.Warn("bans are lifted: they hold somebody who is never banned", "prefixes", prefixes[:min(10, len(prefixes))])
	if err := d.lift(ctx, prefixes, "sekisho"); err != nil {
		d.log.Error("bans of who is never banned", "error", err)
	}
}

// connected are the peers that were there before a trial: that they can speak to us
// proves nothing.
func (d *Daemon) connected(ctx context.Context) []netip.AddrPort {
	peers, err := conntrack.Established(context.WithoutCancel(ctx), nil)
	if err != nil {
		d.log.Warn("connections cannot be listed; every session will count as new", "error", err)
	}
	return peers
}

// endTrial ends the trial under way, if any, and waits until all of it is over. The
// caller holds no lock.
func (d *Daemon) endTrial(ctx context.Context, by string) error {
	d.mu.Lock()
	t, trials := d.trying, d.trials
	d.mu.Unlock()
	if t == nil {
		return nil
	}
	err := trials.Revert(ctx, by)
	select {
	case <-t.over:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Confirm confirms the trial under way.
func (d *Daemon) Confirm(ctx context.Context, q ConfirmRequest, who string) error {
	d.mu.Lock()
	t, trials := d.trying, d.trials
	d.mu.Unlock()
	if t == nil {
		return noTrial()
	}
	return conflict(trials.Confirm(ctx, q.Peer, q.Force, who))
}

// Revert ends the trial under way at once.
func (d *Daemon) Revert(ctx context.Context, who string) error {
	d.mu.Lock()
	t, trials := d.trying, d.trials
	d.mu.Unlock()
	if t == nil {
		return noTrial()
	}
	return conflict(trials.Revert(ctx, who))
}

func noTrial() error {
	return refuse(http.StatusConflict, "sekisho apply begins one", "no trial is under way")
}

// conflict is a trial's error as the API tells it.
func conflict(err error) error {
	if err == nil {
		return nil
	}
	hint := ""
	if e, ok := errors.AsType[*trial.Error](err); ok {
		hint = e.Hint
	}
	return refuse(http.StatusConflict, hint, "%w", err)
}

// loggedIn tells the trial under way of a login, which may confirm it. Called with
// d.mu held; it does not wait.
func (d *Daemon) loggedIn(ctx context.Context, l sshlog.Login) {
	if d.trying != nil {
		d.trials.Login(ctx, l.User, netip.AddrPortFrom(l.Addr.Unmap(), l.Port), l.Time)
	}
}

// serveApply answers with a line for each step.
func (d *Daemon) serveApply(w http.ResponseWriter, r *http.Request, who peer) error {
	var q ApplyRequest
	if err := decode(r.Body, &q); err != nil {
		return err
	}
	stream := http.NewResponseController(w)
	_ = stream.SetReadDeadline(time.Time{})
	_ = stream.SetWriteDeadline(time.Time{})
	lines := json.NewEncoder(w)
	begun := false
	err := d.Apply(r.Context(), q, who.name(), func(e trial.Event) {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		_ = lines.Encode(e) // whoever went away hears nothing, and it goes on
		_ = stream.Flush()
	})
	if err != nil && begun {
		_, f := failureOf(err)
		_ = lines.Encode(f)
		return nil
	}
	return err
}

// settleTrial has a rule set written down that was confirmed when the disk was full,
// or whose file is gone. Not while the rules are at work: what Off has just removed
// must not come back. It does not wait.
func (d *Daemon) settleTrial(ctx context.Context) {
	if !d.rules.TryLock() {
		return
	}
	defer d.rules.Unlock()
	trials := d.theTrials()
	if trials == nil {
		return
	}
	if err := trials.Settle(ctx); err != nil {
		d.unsaved(err.Error())
		return
	}
	d.solved("unsaved")
}

func (d *Daemon) unsaved(why string) {
	d.problem("unsaved", "the rule set is in force, but not on the disk: a reboot brings back the one before ("+why+")", "mend the state directory; it is tried again every minute")
}
