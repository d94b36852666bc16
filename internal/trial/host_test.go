package trial

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sekisho/internal/firewall"
)

var (
	public = firewall.Rules{Mode: firewall.ModeGuard, Ports: []uint16{22}, Exposure: firewall.ExposurePublic}
	fixed  = firewall.Rules{Mode: firewall.ModeGuard, Ports: []uint16{22}, Exposure: firewall.ExposureFixed, Admins: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}}

	hanako = netip.MustParseAddrPort("192.0.2.7:40000")
	taro   = netip.MustParseAddrPort("[2001:db8::7]:40001")
)

const minute = time.Minute

// host is a process of ours on a fake kernel and a real directory.
type host struct {
	t      testing.TB
	fake   *firewall.Fake
	dir    string
	trials *Trials

	mu      sync.Mutex
	closed  map[netip.AddrPort]bool // connections that are
	swapped []Snapshot
}

// newHost is a host where public was confirmed as generation 1.
func newHost(t testing.TB) *host {
	h := &host{t: t, fake: firewall.NewFake(nil), dir: t.TempDir(), closed: make(map[netip.AddrPort]bool)}
	if err := (disk{dir: h.dir}).write(confirmedFile, Snapshot{Generation: 1, Rules: public, By: "a test"}); err != nil {
		t.Fatal(err)
	}
	h.start(h.fake)
	return h
}

// start is a new process: what the daemon does at its start.
func (h *host) start(fw firewall.Firewall) {
	h.t.Helper()
	h.trials = New(h.options(fw))
	s, err := h.trials.Recover(h.t.Context())
	if err == nil {
		err = fw.Ensure(h.t.Context(), stateOf(s))
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) options(fw firewall.Firewall) Options {
	return Options{
		Firewall: fw, Dir: h.dir, Logger: slog.New(slog.NewTextHandler(h.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Alive: func(_ context.Context, peer netip.AddrPort) (bool, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return !h.closed[peer], nil
		},
		Swapped: func(s Snapshot) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.swapped = append(h.swapped, s)
		},
	}
}

func stateOf(s Snapshot) firewall.State {
	return firewall.State{Ports: []uint16{22}, Ruleset: firewall.Ruleset{Generation: s.Generation, Rules: s.Rules}}
}

func (h *host) close(peer netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed[peer] = true
}

// running is a trial that runs.
type running struct {
	h     *host
	began time.Time
	done  chan struct{}
	err   error
	took  time.Duration

	mu     sync.Mutex
	events []Event
}

// try begins a trial of fixed for a minute, and returns once it waits for proof.
func (h *host) try(ctx context.Context, change func(*Request)) *running {
	request := Request{Rules: fixed, Within: minute, By: "a test"}
	if change != nil {
		change(&request)
	}
	r := &running{h: h, began: time.Now(), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = h.trials.Run(ctx, request, func(e Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		})
		r.took = time.Since(r.began)
	}()
	synctest.Wait()
	return r
}

// stages are the stages that were told, and the last event.
func (r *running) stages() (stages []Stage, last Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		stages = append(stages, e.Stage)
		last = e
	}
	return stages, last
}

// end waits for the end, and checks that kernel and disk agree on it.
func (r *running) end(want Stage) (last Event) {
	r.h.t.Helper()
	<-r.done
	stages, last := r.stages()
	if last.Stage != want {
		r.h.t.Errorf("the trial was %v (%q, error %v), want %s", stages, last.By, r.err, want)
	}
	wantRules, wantGeneration := public, uint32(1)
	if want == Confirmed {
		wantRules, wantGeneration = fixed, last.Generation
	}
	r.h.holds(wantRules, wantGeneration)
	if e, ok := r.h.trials.Current(); ok {
		r.h.t.Errorf("there is still a trial: %v", e)
	}
	return last
}

// holds checks that kernel and disk hold rules, and nothing is on trial.
func (h *host) holds(rules firewall.Rules, generation uint32) {
	h.t.Helper()
	state, staged, armed := h.fake.InForce()
	if state.Ruleset.Generation != generation || state.Ruleset.Rules.Exposure != rules.Exposure {
		h.t.Errorf("in force is %d (%s), want %d (%s)", state.Ruleset.Generation, state.Ruleset.Rules.Exposure, generation, rules.Exposure)
	}
	if staged != nil || armed > 0 {
		h.t.Errorf("still in the kernel: %v, armed for %v", staged, armed)
	}
	s, err := Load(h.dir)
	if err != nil || s.Generation != generation || s.Rules.Exposure != rules.Exposure {
		h.t.Errorf("on the disk is %+v (error %v), want %d (%s)", s, err, generation, rules.Exposure)
	}
	if pending, err := (disk{dir: h.dir}).read(pendingFile); err != nil || pending.Generation != 0 {
		h.t.Errorf("still pending: %+v, error %v", pending, err)
	}
}

// login is what the kernel and sshd's log tell of a login.
func (h *host) login(peer netip.AddrPort) {
	h.fake.See(peer)
	h.trials.Login(h.t.Context(), "someone", peer, time.Now())
}

// wrapped is a firewall with some of its methods changed.
type wrapped struct {
	firewall.Firewall
	stage    func(context.Context, firewall.Ruleset) error
	confirm  func(context.Context) error
	standing func(context.Context) (firewall.Standing, error)
}

func (w *wrapped) Stage(ctx context.Context, r firewall.Ruleset) error {
	if w.stage != nil {
		return w.stage(ctx, r)
	}
	return w.Firewall.Stage(ctx, r)
}

func (w *wrapped) Confirm(ctx context.Context) error {
	if w.confirm != nil {
		return w.confirm(ctx)
	}
	return w.Firewall.Confirm(ctx)
}

func (w *wrapped) Standing(ctx context.Context) (firewall.Standing, error) {
	if w.standing != nil {
		return w.standing(ctx)
	}
	return w.Firewall.Standing(ctx)
}

// hintOf is what err says to do.
func hintOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Hint
	}
	return ""
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func equal(t testing.TB, what string, got, want []Stage) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
