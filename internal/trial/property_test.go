package trial

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sekisho/internal/firewall"
)

// world is a host in which anything may happen, and what must be true of it.
type world struct {
	*rapid.T
	fake *firewall.Fake
	dir  string

	// The process, and its trial; nil: none.
	body   *mortal
	trials *Trials
	stop   context.CancelFunc
	done   chan struct{}
	full   bool // the disk refuses

	mu       sync.Mutex
	closed   map[netip.AddrPort]bool
	desired  Snapshot // what the daemon would ensure
	told     Event    // last of the trial
	tried    map[uint32]firewall.Rules
	proven   map[uint32]bool // by a login, a command in one, or force
	durable  uint32          // generation that was told to be confirmed, and written down
	highest  uint32
	ports    uint16
	sessions []netip.AddrPort
}

// TestAnything: whatever happens in whatever order, what is confirmed in the end is
// what was confirmed before, or something that was tried since and proven; kernel
// and disk say the same; and what was told to be confirmed stays.
func TestAnything(t *testing.T) {
	synctest.Test(t, func(*testing.T) { // rapid asks for a deadline, which a bubble's T has not
		rapid.Check(t, func(rt *rapid.T) {
			w := &world{T: rt, fake: firewall.NewFake(nil), dir: t.TempDir(), closed: make(map[netip.AddrPort]bool),
				tried: map[uint32]firewall.Rules{0: {}}, proven: map[uint32]bool{0: true}}
			w.start()
			defer w.kill(0)
			rt.Repeat(map[string]func(*rapid.T){
				"":             func(*rapid.T) { w.check() },
				"try":          func(*rapid.T) { w.try() },
				"try again":    func(*rapid.T) { w.try() },
				"login":        func(*rapid.T) { w.login() },
				"login and ls": func(*rapid.T) { w.login(); after(proof + time.Second) },
				"confirm":      func(*rapid.T) { w.confirm() },
				"wait":         func(*rapid.T) { after(time.Duration(rapid.IntRange(1, 45_000).Draw(rt, "ms")) * time.Millisecond) },
				"revert":       func(*rapid.T) { _ = w.trials.Revert(context.Background(), "a test") },
				"go away": func(*rapid.T) {
					if w.stop != nil {
						w.stop()
					}
				},
				"flush":  func(*rapid.T) { w.fake.Flush(1, "nft") },
				"repair": func(*rapid.T) { w.repair() },
				"full":   func(*rapid.T) { w.mu.Lock(); w.full = !w.full && rapid.Bool().Draw(rt, "full"); w.mu.Unlock() },
				"settle": func(*rapid.T) { _ = w.trials.Settle(context.Background()) },
				"kill":   func(*rapid.T) { w.kill(0); w.start() },
				"kill soon": func(*rapid.T) {
					w.body.killAfter(rapid.IntRange(1, 20).Draw(rt, "steps"))
				},
				"reboot": func(*rapid.T) {
					w.kill(0)
					w.mu.Lock()
					w.full = false
					w.mu.Unlock()
					w.fake = firewall.NewFake(nil)
					w.start()
				},
			})
			w.kill(0)
			w.mu.Lock()
			w.full = false
			w.mu.Unlock()
			w.start()
			w.agree()
		})
	})
}

// start is a new process.
func (w *world) start() {
	w.body = &mortal{Firewall: w.fake.Another(), at: -1}
	w.trials = New(Options{Firewall: w.body, Dir: w.dir, Alive: w.alive, Swapped: func(s Snapshot) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.desired = s
	}})
	w.trials.disk.before = func(step string) error {
		w.mu.Lock()
		full := w.full
		w.mu.Unlock()
		if full {
			return errTest
		}
		return w.body.step(step)
	}
	s, err := w.trials.Recover(context.Background())
	if err != nil {
		w.Fatalf("recover: %v", err)
	}
	if s.Generation < w.durable {
		w.Fatalf("recovered is %d; %d was told to be confirmed", s.Generation, w.durable)
	}
	if !w.proven[s.Generation] || !reflect.DeepEqual(s.Rules, w.tried[s.Generation]) {
		w.Fatalf("recovered is %+v; proven %v of %v", s, w.proven, w.tried)
	}
	w.desired = s
	w.repair()
	if !w.full {
		w.agree()
	}
}

// repair is what the daemon does about drift; it ends a trial.
func (w *world) repair() {
	w.mu.Lock()
	s := w.desired
	w.mu.Unlock()
	if err := w.body.Ensure(context.Background(), stateOf(s)); err != nil && !errors.Is(err, errKilled) {
		w.Fatalf("ensure: %v", err)
	}
}

func (w *world) alive(_ context.Context, peer netip.AddrPort) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.closed[peer], nil
}

// kill ends the process after some steps more, and waits until all of it is gone.
func (w *world) kill(steps int) {
	w.body.killAfter(steps)
	if w.stop != nil {
		w.stop()
		<-w.done
		w.stop = nil
	}
}

// try begins a trial, unless one is under way.
func (w *world) try() {
	if w.stop != nil {
		select {
		case <-w.done:
		default:
			return
		}
	}
	w.ports++
	rules := fixed
	rules.Admins = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(w.ports >> 8), byte(w.ports)}), 32)}
	r := Request{Rules: rules, Within: time.Duration(rapid.IntRange(5, 60).Draw(w.T, "within")) * time.Second, By: "a test",
		NoWait: rapid.IntRange(0, 9).Draw(w.T, "no wait") == 0}
	w.sessions = []netip.AddrPort{w.peer()}
	r.Sessions = w.sessions
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.stop, w.done = stop, done
	w.mu.Lock()
	w.told = Event{}
	w.mu.Unlock()
	trials := w.trials
	go func() {
		defer close(done)
		err := trials.Run(ctx, r, func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = e
			switch e.Stage {
			case Loading:
				if e.Generation <= w.highest {
					w.Errorf("generation %d after %d", e.Generation, w.highest)
				}
				w.highest = e.Generation
				w.tried[e.Generation] = rules
				w.proven[e.Generation] = r.NoWait
			case Confirmed:
				if e.Warning == "" {
					w.durable = e.Generation
				}
			}
		})
		if errors.Is(err, ErrBusy) {
			w.Errorf("busy")
		}
	}()
	synctest.Wait()
}

// peer is a client that was never there before.
func (w *world) peer() netip.AddrPort {
	w.ports++
	return netip.AddrPortFrom(hanako.Addr(), w.ports)
}

// proves notes that the trial under way got its proof.
func (w *world) proves() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told.Stage == Armed || w.told.Stage == Login {
		w.proven[w.told.Generation] = true
	}
}

func (w *world) login() {
	peer, at := w.peer(), time.Now()
	switch rapid.IntRange(0, 5).Draw(w.T, "login") {
	case 0: // good
		w.fake.See(peer)
		w.proves()
	case 1: // never through the rules on trial
	case 2: // too short
		w.fake.See(peer)
		w.mu.Lock()
		w.closed[peer] = true
		w.mu.Unlock()
	case 3: // from this machine
		peer = netip.AddrPortFrom(netip.IPv6Loopback(), peer.Port())
		w.fake.See(peer)
	case 4: // there before
		if len(w.sessions) > 0 {
			peer = w.sessions[0]
		}
		w.fake.See(peer)
	case 5: // old
		w.fake.See(peer)
		at = at.Add(-10 * time.Minute)
	}
	w.trials.Login(context.Background(), "someone", peer, at)
	synctest.Wait()
}

func (w *world) confirm() {
	peer, force := w.peer(), false
	switch rapid.IntRange(0, 4).Draw(w.T, "confirm") {
	case 0:
		w.fake.See(peer)
		w.proves()
	case 1:
		force = true
		w.proves()
	case 2:
	case 3:
		peer = netip.AddrPort{}
	case 4:
		if len(w.sessions) > 0 {
			peer = w.sessions[0]
		}
		w.fake.See(peer)
	}
	if err := w.trials.Confirm(context.Background(), peer, force, "a test"); err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.durable = max(w.durable, w.told.Generation)
	}
}

// check is true at any time.
func (w *world) check() {
	synctest.Wait()
	state, staged, armed := w.fake.InForce()
	w.mu.Lock()
	now := state.Ruleset
	if !w.proven[now.Generation] || !reflect.DeepEqual(now.Rules, w.tried[now.Generation]) {
		w.Errorf("in force is %+v; proven %v of %v", now, w.proven, w.tried)
	}
	if armed > 0 && staged.Generation != w.highest {
		w.Errorf("armed is %d, not %d", staged.Generation, w.highest)
	}
	w.mu.Unlock()
	if w.body.dead() {
		w.kill(0)
		w.start()
	}
}

// agree: kernel and disk say the same.
func (w *world) agree() {
	if w.body.dead() {
		return
	}
	state, staged, armed := w.fake.InForce()
	s, err := Load(w.dir)
	if err != nil || s.Generation != state.Ruleset.Generation || !reflect.DeepEqual(s.Rules, state.Ruleset.Rules) {
		w.Errorf("on the disk is %+v (%v), in the kernel %+v", s, err, state.Ruleset)
	}
	if staged != nil || armed > 0 {
		w.Errorf("on trial is still %+v for %v", staged, armed)
	}
}
