package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/config"
	"sekisho/internal/conntrack"
	"sekisho/internal/country"
	"sekisho/internal/firewall"
	"sekisho/internal/garbage"
	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/logsource"
	"sekisho/internal/securitygroup"
	"sekisho/internal/sshlog"
	"sekisho/internal/store"
	"sekisho/internal/trial"
)

const (
	tickEvery      = time.Second      // expiry in the guard
	backlogRest    = 3 * time.Second  // so long after a line of the backlog the clock is the log's time
	reconcileEvery = time.Minute      // kernel against memory
	pruneEvery     = time.Hour        // old rows in the store
	shutdownWithin = 10 * time.Second // for the last commit
)

// Options is what a Daemon is given. Load, StateDir and Logger are needed.
type Options struct {
	Load       func() (*config.Config, error) // reads the configuration, at start and at each reload
	ConfigPath string                         // for status
	StateDir   string
	Socket     string // the control socket's path; "": none
	Version    string
	Stdin      io.Reader
	Logger     *slog.Logger

	WithoutGate bool // the gate that the configuration may ask for runs by itself
	Confine     bool // this process is the service, and writes nowhere but to its own folders from then on

	reap reapTimes
}

// Daemon is the guard of one host. Make it with New, run it once.
type Daemon struct {
	opts  Options
	log   *slog.Logger
	start time.Time
	ready chan struct{}

	store *store.Store
	rec   *store.Recorder
	armed chan struct{} // closed when fw is there

	mu        sync.Mutex        // guards what follows; held while a batch is taken
	fw        firewall.Firewall // nil until enforcing is asked for
	table     io.Closer         // the lock on our table, held as long as fw
	trials    *trial.Trials     // there when fw was opened
	kept      keep              // what is done about the rule set
	want      firewall.State    // what the kernel is held to
	snapshot  trial.Snapshot    // what was confirmed last
	trying    *trying           // the trial under way
	grants    holdings
	countries *country.Data
	enforcing bool // bans go into the kernel
	cfg       *config.Config
	engine    *guard.Engine
	own       []netip.Prefix // this host's addresses and gateways
	out       guard.Outcome  // reused
	tally     tally          // reused
	onsets    onsets         // of sources not banned yet
	located   located        // whose countries sources are
	lately    lately
	newest    newest
	locating  sync.Mutex // held while the index of countries is made; before mu
	backlog   time.Time  // when a line that was not new was last read
	sources   map[string]*follower
	places    map[string]logsource.Position // by source: what this process has read
	trouble   map[string]Problem            // by what it is about; see problem
	drift     drift
	mendedAt  map[string]time.Time // when it was last told that something was mended
	health    health
	fills     []firewall.Fill // of the sets that packets fill, when they were last looked at

	running   context.Context // Run's: what a reload starts lives as long
	reloading sync.Mutex      // one reload at a time, before rules and mu; guards the next three
	stopRead  context.CancelFunc
	readers   *sync.WaitGroup
	scraped   scraped
	ended     chan struct{} // closed when standard input has ended
	endedOnce sync.Once

	rules      sync.Mutex // held while the rule set in force is written, before mu; no ban waits for it
	recovered  bool       // the snapshot was read; guarded by rules
	background sync.WaitGroup
	stopping   bool // no trial begins any more; guarded by mu

	repaired   atomic.Int64 // foreign changes undone
	ruleCounts ruleReader
	reporting  chan struct{} // held while a report is made
	kick       chan string   // ask for a reconcile now; the value says why
	cuts       chan netip.Prefix
	alive      func(ctx context.Context, peer netip.AddrPort, ports []uint16) (bool, error) // conntrack.Alive, but for tests
	metrics    *meters

	countryKick chan struct{} // other countries may be asked for

	teller teller

	houseKick chan struct{} // another gate may be asked for, to be

	gate     gated         // guarded by mu
	gateKick chan struct{} // another gate may be asked for, to follow

	reapKick chan struct{}                  // other security groups may be asked for
	reaped   map[securitygroup.Place]reaped // what is looked at, as it is; guarded by mu
}

// New makes a Daemon; nothing is touched before Run.
func New(opts Options) *Daemon {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Daemon{
		opts: opts, log: log, start: time.Now(), ready: make(chan struct{}),
		sources: map[string]*follower{}, places: map[string]logsource.Position{}, trouble: map[string]Problem{}, mendedAt: map[string]time.Time{},
		armed: make(chan struct{}), ended: make(chan struct{}), kick: make(chan string, 1), cuts: make(chan netip.Prefix, cutQueue), metrics: newMeters(),
		grants: holdings{}, countryKick: make(chan struct{}, 1), alive: conntrack.Alive,
		houseKick: make(chan struct{}, 1), reapKick: make(chan struct{}, 1), gateKick: make(chan struct{}, 1),
		gate:      gated{taken: map[string]netip.Prefix{}, unput: map[netip.Prefix]bool{}},
		reporting: make(chan struct{}, 1), reaped: map[securitygroup.Place]reaped{}, teller: newTeller(),
	}
}

// Ready is closed when the bans are in force, the logs are open and the control
// socket answers.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// Run guards until ctx ends; it then commits what it knows and leaves the bans
// in force. A *config.Errors comes back as it is; an *Error has a hint.
func (d *Daemon) Run(ctx context.Context) error {
	cfg, err := d.opts.Load()
	if err != nil {
		return err
	}
	d.cfg = cfg
	// Before anything is touched that another daemon may hold.
	state, err := lockState(d.opts.StateDir, d.log)
	if err != nil {
		return err
	}
	defer state.Close()
	var control net.Listener
	if d.opts.Socket != "" {
		if control, err = listenSocket(ctx, d.opts.Socket); err != nil {
			return err
		}
		defer control.Close()
	}
	if d.opts.Confine {
		folders := []string{d.opts.StateDir}
		if d.opts.Socket != "" {
			folders = append(folders, filepath.Dir(d.opts.Socket))
		}
		confine(cfg, d.log, folders...)
	}
	st, report, err := store.Open(ctx, filepath.Join(d.opts.StateDir, "state.db"), store.Options{Logger: d.log})
	if err != nil && !errors.Is(err, store.ErrDegraded) {
		return fmt.Errorf("open the state: %w", err)
	}
	if err != nil {
		d.log.Error("the state cannot be opened; protection goes on from memory and the kernel", "error", err)
	}
	readable, adopt := err == nil, err != nil || report.SetAside != ""
	defer st.Close()
	d.store = st
	if report.SetAside != "" {
		d.problem("state", "the state file was damaged and set aside as "+report.SetAside, "look at it or delete it; history and counts begin anew")
	}
	defer func() {
		if d.fw != nil {
			d.fw.Close()
			d.table.Close()
		}
	}()
	d.loadCountries(cfg)
	if err := d.keepRules(ctx, cfg); err != nil {
		return err
	}
	d.tellKept(cfg)
	d.rec = store.NewRecorder(st, store.RecorderOptions{Logger: d.log, Live: d.liveLeases})
	d.openEngine(ctx, readable, adopt)
	d.gauges()

	d.backlog = time.Now()
	tasks, ctx := errgroup.WithContext(ctx)
	d.running = ctx
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRecording()
	recorded := make(chan error, 1)
	go func() { recorded <- d.rec.Run(recording) }()

	d.liftNever(ctx)
	if err := errors.Join(d.enforceAll(ctx), d.grantAll(ctx)); err != nil {
		d.enforcementFailed(err)
	}
	debug.FreeOSMemory() // what a start with many bans leaves behind is much

	tasks.Go(func() error { return d.serveControl(ctx, control) })
	tasks.Go(func() error { return d.tick(ctx) })
	tasks.Go(func() error { return d.reconcile(ctx) })
	tasks.Go(func() error { return d.watch(ctx) })
	tasks.Go(func() error { return d.cut(ctx) })
	tasks.Go(func() error { return d.tellPeople(ctx) })
	tasks.Go(func() error { return d.watchProblems(ctx) })
	tasks.Go(func() error { return d.tellWeekly(ctx) })
	tasks.Go(func() error { return d.watchHealth(ctx) })
	tasks.Go(func() error { return d.watchOthers(ctx) })
	tasks.Go(func() error { return d.followCountries(ctx) })
	tasks.Go(func() error { return d.reap(ctx) })
	tasks.Go(func() error { return d.keepGate(ctx) })
	tasks.Go(func() error { return d.followGate(ctx) })
	tasks.Go(func() error { return d.heartbeat(ctx) })
	tasks.Go(func() error {
		select { // else nobody would be told of the first bans
		case <-d.teller.begun:
		case <-ctx.Done():
		}
		err := d.begin(ctx, cfg)
		if err != nil {
			return err
		}
		close(d.ready)
		tellSystemd("READY=1")
		d.log.Info("guarding", "mode", cfg.Guard.Mode, "enforcing", cfg.Guard.Enforce, "bans", d.stats().Bans)
		select {
		case <-ctx.Done():
		case <-d.ended:
			err = errEnded
		}
		tellSystemd("STOPPING=1")
		return err
	})
	err = tasks.Wait()
	d.mu.Lock()
	d.stopping = true
	d.mu.Unlock()
	d.background.Wait() // a trial is reverted
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.closeSources()
	d.moveMetrics(netip.AddrPort{}, nil)
	patience := shutdownWithin
	if d.rec.Degraded() != nil {
		patience = hopeless
	}
	flushing, done := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer done()
	d.mu.Lock()
	d.handOver()
	d.mu.Unlock()
	if ferr := d.rec.Flush(flushing); ferr != nil {
		d.log.Error("the last effects were not written; the log will be read again from the last position", "error", ferr)
	}
	d.keepTold()
	stopRecording()
	<-recorded
	if err == nil || errors.Is(err, errEnded) || errors.Is(err, context.Canceled) {
		if d.keptAs() == keepNothing {
			d.log.Info("stopped")
		} else {
			d.log.Info("stopped; the rules stay in the kernel, and so do bans and grants, which end there by themselves")
		}
		return nil
	}
	return err
}

// begin opens the logs, and the metrics' listener: without the former there is
// nothing to do, without the latter nobody to tell.
func (d *Daemon) begin(ctx context.Context, cfg *config.Config) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	listener, err := d.listenMetrics(ctx, cfg.Metrics.Listen)
	if err != nil {
		d.metricsFailed(err)
	} else {
		d.moveMetrics(cfg.Metrics.Listen, listener)
	}
	return d.openSources(ctx, cfg)
}

// errEnded ends the tasks when standard input has ended.
var errEnded = errors.New("the log has ended")

// tellKept says what is done with the kernel, at the start.
func (d *Daemon) tellKept(cfg *config.Config) {
	d.mu.Lock()
	kept, snapshot := d.kept, d.snapshot
	d.mu.Unlock()
	switch {
	case isOff(d.opts.StateDir):
		d.log.Warn("the firewall is off until `sekisho apply`: nothing is dropped")
	case !cfg.Guard.Enforce:
		d.log.Warn("dry run: guard.enforce is no, nobody is banned")
	case kept == keepState && snapshot.Generation == 0:
		d.log.Info("no rule set was confirmed yet: bans only")
	case kept == keepState:
		d.log.Info("the confirmed rule set is in force", "generation", snapshot.Generation, "mode", snapshot.Rules.Mode, "exposure", snapshot.Rules.Exposure, "confirmed", snapshot.Confirmed)
	}
}

// openEngine fills the guard with what the store remembers, where that can be
// read; where there is no memory the kernel's bans are adopted, so that nothing
// already banned is forgotten.
func (d *Daemon) openEngine(ctx context.Context, readable, adopt bool) {
	d.own = ownAddresses()
	d.engine = guard.New(d.policy(d.cfg))
	now := time.Now()
	adopt = readable && !d.remember(ctx, now) || adopt
	if adopt && d.enforcing {
		d.adoptKernel(ctx, now)
	}
	d.openGrants(ctx, readable, adopt, now)
	if readable {
		err := d.store.Unbans(ctx, now.Add(-d.cfg.Guard.FindTime-time.Hour), func(u store.Unban) error {
			d.engine.Forgive(u.Prefix, u.At)
			return nil
		})
		if err != nil {
			d.log.Error("earlier unbans cannot be read", "error", err)
		}
	}
	d.engine.SetSessionCheck(func(peer netip.AddrPort) bool { // called with d.mu held
		alive, err := d.alive(ctx, peer, nil) // also by a port that sshd has left since
		return err != nil || alive            // when in doubt, somebody is logged in there
	})
}

// remember fills the guard from the store; whole is false where bans are missing.
func (d *Daemon) remember(ctx context.Context, now time.Time) (whole bool) {
	var bans []lease.Lease
	err := d.store.LiveBans(ctx, now, func(l lease.Lease) error { bans = append(bans, l); return nil })
	if err != nil {
		d.log.Error("the store's bans cannot be read; taking over the kernel's", "error", err)
	}
	whole = err == nil
	var history []lease.History
	if err := d.store.History(ctx, now.Add(-d.cfg.Guard.Growth.Forget), func(h lease.History) error { history = append(history, h); return nil }); err != nil {
		d.log.Error("the history of bans cannot be read; ban times begin at the first step", "error", err)
	}
	var logins []sshlog.Login
	if err := d.store.Logins(ctx, now.Add(-d.cfg.Guard.Known.For), func(l sshlog.Login) error { logins = append(logins, l); return nil }); err != nil {
		d.log.Error("earlier logins cannot be read; nobody is known yet", "error", err)
	}
	d.engine.Adopt(bans, history, logins)
	return whole
}

// adoptKernel takes the kernel's bans over into the guard and the store.
func (d *Daemon) adoptKernel(ctx context.Context, now time.Time) {
	var adopted []lease.Lease
	err := d.fw.Bans(ctx, func(b firewall.Ban) error {
		if _, ok := d.engine.Banned(b.Prefix, now); ok {
			return nil // it could be salvaged, with its cause
		}
		l := lease.Lease{Prefix: b.Prefix, Verdict: lease.Deny, Cause: "adopted", Reason: "was in the kernel when the state was begun anew", Holder: "guard", From: now, Count: 1}
		if b.Left > 0 {
			l.Until = now.Add(b.Left)
		}
		adopted = append(adopted, l)
		return nil
	})
	if err != nil {
		d.log.Error("the kernel's bans cannot be read", "error", err)
	}
	for _, l := range adopted {
		d.engine.Begin(l)
	}
	if err := d.store.Commit(ctx, store.Effects{Bans: adopted}); err != nil {
		d.log.Error("the adopted bans are in force but not written down", "error", err)
	}
	d.log.Warn("took over the kernel's bans", "bans", len(adopted))
}

// policy is the guard's policy for cfg, which spares this host's own addresses, and
// the administrators of the rules in force for as long as those are.
func (d *Daemon) policy(cfg *config.Config) guard.Policy {
	p := PolicyOf(cfg)
	p.Never = slices.Concat(p.Never, d.own, d.snapshot.Rules.Admins)
	return p
}

// Reload reads the configuration again. Where the new one cannot be read or put
// in force, the old one stays and the error says why. No ban and no count is lost.
// The rule set stays as it was confirmed: that is for Apply. It waits until Run is
// Ready.
func (d *Daemon) Reload(ctx context.Context) error {
	select {
	case <-d.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.onTrial() {
		return &Error{trial.ErrBusy, "end it first: `sekisho confirm` or `sekisho revert`"}
	}
	return d.reload(ctx, d.opts.Load)
}

// reload is Reload with what load gives.
func (d *Daemon) reload(ctx context.Context, load func() (*config.Config, error)) (err error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if d.running.Err() != nil {
		return errStopping
	}
	notifyReloading()
	defer tellSystemd("READY=1")
	defer func() {
		if err != nil {
			d.log.Error("reload failed; the old configuration stays in force", "error", err)
			d.problem("reload", "the last reload failed: the old configuration is in force", "see `sekisho config check`, mend it, then `sekisho reload`")
			return
		}
		d.solved("reload")
		d.log.Info("reloaded", "mode", d.cfg.Guard.Mode, "enforcing", d.cfg.Guard.Enforce)
	}()
	next, err := load()
	if err != nil {
		return err
	}
	old := d.cfg // written by us only
	relog := !sameLog(old.Log, next.Log) || d.stopRead == nil
	if relog {
		if err := d.tryLog(ctx, next.Log); err != nil {
			return err
		}
	}
	listener, err := d.listenMetrics(ctx, next.Metrics.Listen)
	if err != nil {
		return err
	}
	if err := d.change(ctx, next, relog); err != nil {
		if listener != nil {
			listener.Close()
		}
		return errors.Join(err, d.change(ctx, old, relog))
	}
	d.moveMetrics(next.Metrics.Listen, listener)
	if err := d.ReloadCountries(ctx); err != nil {
		d.log.Error("the countries' addresses could not be read anew", "error", err)
	}
	d.countriesMayDiffer()
	d.reapMayDiffer()
	d.houseMayDiffer()
	d.gateMayDiffer()
	d.tellingMayDiffer()
	return nil
}

// change makes everything follow cfg: kernel, guard and, with relog set, logs.
func (d *Daemon) change(ctx context.Context, cfg *config.Config, relog bool) error {
	if err := d.putInForce(ctx, cfg); err != nil {
		return err
	}
	if relog {
		d.closeSources()
	}
	d.mu.Lock()
	d.cfg = cfg
	d.engine.SetPolicy(d.policy(cfg))
	d.mu.Unlock()
	if relog {
		if err := d.openSources(d.running, cfg); err != nil {
			d.problem("sources", fmt.Sprintf("no log is read: %v", err), "mend log.source or log.files, then `sekisho reload`")
			return err
		}
	}
	d.liftNever(ctx)
	return nil
}

// tick lets time pass in the guard.
func (d *Daemon) tick(ctx context.Context) error {
	ticks := time.NewTicker(tickEvery)
	defer ticks.Stop()
	own := time.NewTicker(reconcileEvery)
	defer own.Stop()
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	var collector garbage.Collector
	d.countRules(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticks.C:
			collector.Tune()
			d.mu.Lock()
			if now.Sub(d.backlog) >= backlogRest { // else the log's time has not come to ours yet
				d.engine.Advance(now, &d.out)
				d.heardTime(now)
				d.gather(ctx, &d.out, now)
				d.carryOut(ctx, now, time.Time{})
			}
			d.handOver()
			d.mu.Unlock()
		case <-own.C:
			d.refreshOwn(ctx)
			d.retryMetrics(ctx)
			d.settleTrial(ctx)
			d.locate()
			d.countRules(ctx)
		case now := <-prune.C:
			if err := d.store.Prune(ctx, now); err != nil {
				d.log.Warn("old rows were not pruned", "error", err)
			}
		}
	}
}

// refreshOwn follows changes of this host's own addresses.
func (d *Daemon) refreshOwn(ctx context.Context) {
	own := ownAddresses()
	d.mu.Lock()
	same := len(own) == 0 || slices.Equal(own, d.own)
	if !same {
		d.own = own
		d.engine.SetPolicy(d.policy(d.cfg))
	}
	d.mu.Unlock()
	if same {
		return
	}
	d.log.Info("this host's own addresses changed; they are never banned", "addresses", own)
	d.liftNever(ctx)
}

func (d *Daemon) stats() guard.Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.engine.Stats()
}

// problem puts what is wrong into status, under a key; solved takes it out.
func (d *Daemon) problem(key, what, remedy string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble[key] = problemOf(key, what, remedy)
}

func (d *Daemon) solved(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.trouble, key)
}
