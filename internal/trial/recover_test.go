package trial

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sekisho/internal/firewall"
)

// errKilled is all that a killed process gets of the world.
var errKilled = errors.New("killed")

// mortal is a firewall of a process that is killed at one of its calls: before the
// kernel hears of it, or before the process hears the answer. Dead, it does nothing.
type mortal struct {
	firewall.Firewall

	mu    sync.Mutex
	steps []string // that were taken, in order
	at    int      // which of them kills; -1: none
}

// step is one more step; an error is death.
func (m *mortal) step(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at >= 0 && len(m.steps) > m.at {
		return errKilled
	}
	m.steps = append(m.steps, name)
	if m.at >= 0 && len(m.steps) > m.at {
		return errKilled
	}
	return nil
}

// killAfter has m die at its n-th step from now; 0: at once.
func (m *mortal) killAfter(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = len(m.steps) + n - 1
	if m.at < 0 { // at once, before the first
		m.steps, m.at = append(m.steps, "killed"), 0
	}
}

func (m *mortal) dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at >= 0 && len(m.steps) > m.at
}

func (m *mortal) call(name string, f func() error) error {
	if err := m.step("before " + name); err != nil {
		return err
	}
	err := f()
	if dead := m.step("after " + name); dead != nil {
		return dead
	}
	return err
}

func (m *mortal) Ensure(ctx context.Context, s firewall.State) error {
	return m.call("Ensure", func() error { return m.Firewall.Ensure(ctx, s) })
}

func (m *mortal) Stage(ctx context.Context, r firewall.Ruleset) error {
	return m.call("Stage", func() error { return m.Firewall.Stage(ctx, r) })
}

func (m *mortal) Arm(ctx context.Context, d time.Duration) error {
	return m.call("Arm", func() error { return m.Firewall.Arm(ctx, d) })
}

func (m *mortal) Confirm(ctx context.Context) error {
	return m.call("Confirm", func() error { return m.Firewall.Confirm(ctx) })
}

func (m *mortal) Abort(ctx context.Context) error {
	return m.call("Abort", func() error { return m.Firewall.Abort(ctx) })
}

func (m *mortal) Standing(ctx context.Context) (s firewall.Standing, err error) {
	if m.dead() {
		return s, errKilled
	}
	return m.Firewall.Standing(ctx)
}

// TestKilledAnywhere ends a trial at each of its steps, by a kill or by a reboot,
// and looks at what the next process finds.
func TestKilledAnywhere(t *testing.T) {
	for _, ending := range []struct {
		name string
		end  func(h *host) // of a trial that is armed
	}{
		{"confirmed", func(h *host) { _ = h.trials.Confirm(h.t.Context(), hanako, true, "x") }},
		{"reverted", func(h *host) { _ = h.trials.Revert(h.t.Context(), "x") }},
		{"over", func(*host) { after(minute) }},
	} {
		for _, reboot := range []bool{false, true} {
			killed := func(t *testing.T, at int) (steps []string) {
				synctest.Test(t, func(t *testing.T) {
					h := newHost(t)
					m := &mortal{Firewall: h.fake, at: at}
					h.trials.fw, h.trials.disk.before = m, m.step
					ctx, cancel := context.WithCancel(t.Context())
					r := h.try(ctx, nil)
					ending.end(h)
					cancel()
					<-r.done
					steps = m.steps
					if !m.dead() {
						return
					}
					if reboot {
						h.fake = firewall.NewFake(nil)
					}
					h.start(h.fake.Another())
					now, err := Load(h.dir)
					if err != nil {
						t.Fatal(err)
					}
					rules := public
					if now.Generation == 2 {
						rules = fixed
					}
					h.holds(rules, now.Generation) // kernel and disk agree

					last := steps[len(steps)-1]
					index := func(step string) int {
						for i, s := range steps {
							if s == step {
								return i
							}
						}
						return len(steps)
					}
					confirmed := ending.name == "confirmed" && index("after Confirm") < len(steps)
					renamed := ending.name == "confirmed" && index("sync directory for "+confirmedFile) < len(steps)
					if want := confirmed && !reboot || renamed; want != (now.Generation == 2) {
						t.Errorf("killed %s: in force is generation %d", last, now.Generation)
					}
					// All goes on from there.
					next := h.try(t.Context(), func(r *Request) { r.NoWait = true }).end(Confirmed)
					if next.Generation <= now.Generation {
						t.Errorf("killed %s: the next generation is %d", last, next.Generation)
					}
				})
				return steps
			}
			steps := killed(t, -1) // all of them
			if len(steps) < 13 {
				t.Fatalf("only these steps: %s", strings.Join(steps, ", "))
			}
			for at, step := range steps {
				name := ending.name + "/" + step
				if reboot {
					name += "/reboot"
				}
				t.Run(name, func(t *testing.T) { killed(t, at) })
			}
		}
	}
}

func TestRecoverDamaged(t *testing.T) {
	ctx := t.Context()
	spoil := func(h *host, name string) {
		if err := os.WriteFile(h.trials.disk.path(name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("the confirmed one", func(t *testing.T) {
		h := newHost(t)
		spoil(h, confirmedFile)
		before, _, _ := h.fake.InForce()
		s, err := New(h.options(h.fake.Another())).Recover(ctx)
		if err == nil || !strings.Contains(err.Error(), confirmedFile) || hintOf(err) == "" || s.Generation != 0 {
			t.Errorf("%+v, error %v", s, err)
		}
		if now, _, _ := h.fake.InForce(); now.Ruleset.Generation != before.Ruleset.Generation {
			t.Errorf("in force is %d, was %d", now.Ruleset.Generation, before.Ruleset.Generation)
		}
		if err := h.trials.Run(ctx, Request{Rules: fixed, Within: minute}, nil); err == nil || hintOf(err) == "" {
			t.Errorf("a trial: %v", err)
		}
	})
	t.Run("a pending one that nobody confirmed", func(t *testing.T) {
		h := newHost(t)
		spoil(h, pendingFile)
		h.start(h.fake.Another())
		h.holds(public, 1)
	})
	t.Run("a pending one that the kernel holds", func(t *testing.T) {
		h := newHost(t)
		spoil(h, pendingFile)
		if err := h.fake.Ensure(ctx, stateOf(Snapshot{Generation: 2, Rules: fixed})); err != nil {
			t.Fatal(err)
		}
		_, err := New(h.options(h.fake.Another())).Recover(ctx)
		if err == nil || !strings.Contains(err.Error(), pendingFile) || hintOf(err) == "" {
			t.Errorf("error %v", err)
		}
		if _, err := os.Stat(h.trials.disk.path(pendingFile)); err != nil {
			t.Errorf("it was touched: %v", err)
		}
	})
	t.Run("the reverted one", func(t *testing.T) {
		h := newHost(t)
		spoil(h, revertedFile)
		h.start(h.fake.Another())
		h.holds(public, 1)
	})
	t.Run("the kernel does not answer", func(t *testing.T) {
		h := newHost(t)
		h.fake.Fail(errTest)
		if _, err := New(h.options(h.fake.Another())).Recover(ctx); !errors.Is(err, errTest) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a directory of others", func(t *testing.T) {
		h := newHost(t)
		if err := h.fake.Ensure(ctx, stateOf(Snapshot{Generation: 5, Rules: fixed})); err != nil {
			t.Fatal(err)
		}
		h.start(h.fake.Another()) // the disk's is put in force, and numbers go on from the kernel's
		h.holds(public, 1)
		synctest.Test(t, func(t *testing.T) {
			h.t = t
			if last := h.try(t.Context(), func(r *Request) { r.NoWait = true }).end(Confirmed); last.Generation != 6 {
				t.Errorf("the next one is %d", last.Generation)
			}
		})
	})
}
