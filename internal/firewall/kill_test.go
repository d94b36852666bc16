package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// killed is how the tests below start this program anew: "trial 3" does what
// killable has of that name and kills itself after the third batch.
const killed = "SEKISHO_TEST_KILLED"

// The rule set that is in force, and that which takes its place: the first lets one
// peer in, the second another, both a third.
func beforeKill() State { return stateOf(fixedRules(7, "10.0.0.2/32", "2001:db8::2/128")) }

func afterKill(t testing.TB) Ruleset {
	r := publicFor(t, 8, []string{"JP"}, "10.0.0.3/32", "10.1.0.0/16", "2001:db8::3/128", "2001:db8:0:5::/64")
	r.Rules.Mode, r.Rules.Rate = ModeGuard, Rate{}
	return r
}

func fixedRules(generation uint32, admins ...string) Ruleset {
	r := fixedFor(generation, "10.1.0.0/16")
	r.Rules.Admins = prefixes(append(admins, "10.1.0.0/16", "2001:db8:0:5::/64")...)
	return r
}

// killable are what is killed; all begin with the first rule set in force.
var killable = map[string]func(ctx context.Context, t testing.TB, f Firewall) error{
	"trial": func(ctx context.Context, t testing.TB, f Firewall) error {
		return errors.Join(f.Stage(ctx, afterKill(t)), f.Arm(ctx, trialTime), f.Confirm(ctx))
	},
	"abort": func(ctx context.Context, t testing.TB, f Firewall) error {
		return errors.Join(f.Stage(ctx, afterKill(t)), f.Arm(ctx, trialTime), f.Abort(ctx))
	},
	"ensure": func(ctx context.Context, t testing.TB, f Firewall) error {
		return f.Ensure(ctx, stateOf(afterKill(t)))
	},
}

// trialTime is long enough for what follows Arm, and is waited for.
const trialTime = 700 * time.Millisecond

// TestKilledChild is the program that is killed.
func TestKilledChild(t *testing.T) {
	name, after, ok := strings.Cut(os.Getenv(killed), " ")
	if !ok {
		return // not started by TestKill
	}
	n, err := strconv.Atoi(after)
	must(t, err)
	k, err := NewKernel(Options{NetNS: 3})
	must(t, err)
	k.committed = func() {
		if n--; n == 0 {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	must(t, k.Ensure(t.Context(), beforeKill())) // it is there: no batch
	must(t, killable[name](t.Context(), t, k))
}

// A kill -9 after any batch leaves the rules of before or the new ones, never
// nothing and never the trial for longer than its time; the next Ensure deletes what
// is left over.
func TestKill(t *testing.T) {
	for name := range killable {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			var old, new, steps int
			for step := 1; ; step++ {
				must(t, w.k.Ensure(t.Context(), beforeKill()))
				ban(t, w.k, Ban{prefix("2001:db8:7::/48"), time.Hour})
				if !kill(t, w, name, step) {
					break
				}
				steps++
				k := newKernel(t, w.host) // knows nothing
				s, err := k.Standing(t.Context())
				must(t, err)
				if s.Armed > trialTime {
					t.Fatalf("killed after batch %d: %+v", step, s)
				}
				eventually(t, func() bool {
					s, err = k.Standing(t.Context())
					return err == nil && s.Armed == 0
				})
				state := beforeKill()
				if s.Confirmed == 8 {
					state = stateOf(afterKill(t))
					new++
				} else {
					old++
				}
				judges(t, w, fmt.Sprintf("killed after batch %d", step), s.Confirmed == 8)
				must(t, k.Ensure(t.Context(), state))
				intact(t, k)
				stands(t, k, Standing{Table: true, Confirmed: state.Ruleset.Generation})
				if got := banned(t, k); len(got) != 1 {
					t.Errorf("killed after batch %d: bans %v", step, got)
				}
			}
			judges(t, w, "not killed", name != "abort")
			t.Logf("killed at %d steps: %d left the old rules, %d the new ones", steps, old, new)
			if steps < 4 || old == 0 || (new == 0) != (name == "abort") {
				t.Errorf("killed at %d steps: %d left the old rules, %d the new ones: this tests too little", steps, old, new)
			}
		})
	}
}

// kill starts the change and reports whether it was killed after that batch; if not,
// it came to its end.
func kill(t *testing.T, w wire, name string, step int) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledChild$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", killed, name, step))
	cmd.ExtraFiles = []*os.File{w.host.f}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return true
		}
	}
	if err != nil {
		t.Fatalf("step %d: %v: %s", step, err, out)
	}
	return false
}

// judges fails unless packets are judged by the new rules, or by the old ones.
func judges(t *testing.T, w wire, when string, new bool) {
	t.Helper()
	var wg sync.WaitGroup
	for peer, want := range map[string]bool{
		"10.0.0.2": !new, "2001:db8::2": !new, "10.0.0.3": new, "2001:db8::3": new,
		"10.1.0.2": true, "2001:db8:0:5::2": true, "2001:db8:7::2": false,
	} {
		wg.Go(func() {
			wait := impatience
			if want {
				wait = patience
			}
			if got := w.reaches(t, peer, sshPort, wait); got != want {
				t.Errorf("%s, the new rules in force: %v: %s reaches SSH: %v", when, new, peer, got)
			}
		})
	}
	wg.Wait()
}
