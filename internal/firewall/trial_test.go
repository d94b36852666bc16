package firewall

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// processes opens Firewalls of the same kernel, each as another process would.
type processes func(t *testing.T) Firewall

func fakeProcesses(t *testing.T) processes {
	f := NewFake(nil)
	return func(*testing.T) Firewall { return f.Another() }
}

func kernelProcesses(t *testing.T) processes {
	n := newNamespace(t)
	return func(t *testing.T) Firewall { return newKernel(t, n) }
}

func TestFakeTrials(t *testing.T)   { conformTrials(t, fakeProcesses) }
func TestKernelTrials(t *testing.T) { conformTrials(t, kernelProcesses) }

// fixedFor are rules that let one peer in.
func fixedFor(generation uint32, admin string) Ruleset {
	return Ruleset{Generation: generation, Rules: Rules{
		Mode: ModeGuard, Ports: []uint16{22}, Exposure: ExposureFixed, Admins: prefixes(admin),
	}}
}

// publicFor are rules that let the addresses of countries in.
func publicFor(t testing.TB, generation uint32, codes []string, addrs ...string) Ruleset {
	return Ruleset{
		Generation: generation,
		Rules: Rules{
			Mode: ModeLockdown, Ports: []uint16{22}, Exposure: ExposurePublic, Countries: Countries{Allow: codes},
			Rate: Rate{PerMinute: 2, Burst: 5}, NoTrack: true,
		},
		Countries: setOf(t, addrs...),
	}
}

func stateOf(r Ruleset) State { return State{Ports: []uint16{22}, Ruleset: r} }

// must fails unless a call did what it should.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// standing fails unless f stands so; the time is that of the test's own making.
func stands(t testing.TB, f Firewall, want Standing) {
	t.Helper()
	got, err := f.Standing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if sameEnd(want.Armed, got.Armed) {
		got.Armed = want.Armed
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("standing (-want +got):\n%s", diff)
	}
}

func intact(t testing.TB, f Firewall) {
	t.Helper()
	if missing, err := f.Intact(t.Context()); err != nil || len(missing) > 0 {
		t.Errorf("not intact: %q, %v", missing, err)
	}
}

// conformTrials is what every Firewall does with rule sets.
func conformTrials(t *testing.T, kernel func(t *testing.T) processes) {
	const hour = time.Hour
	open := func(t *testing.T, s State) (Firewall, processes) {
		t.Helper()
		another := kernel(t)
		f := another(t)
		must(t, f.Ensure(t.Context(), s))
		return f, another
	}
	one, two, three := fixedFor(7, "192.0.2.1/32"), fixedFor(8, "2001:db8::1/128"), fixedFor(9, "192.0.2.3/32")
	inForce := Standing{Table: true, Confirmed: 7}

	t.Run("nothing", func(t *testing.T) {
		f := kernel(t)(t)
		stands(t, f, Standing{})
		must(t, f.Abort(t.Context()))
		stands(t, f, Standing{})
		if err := f.Stage(t.Context(), one); !errors.Is(err, ErrAbsent) {
			t.Errorf("stage: got %v, want ErrAbsent", err)
		}
		if err := f.SetCountries(t.Context(), setOf(t)); !errors.Is(err, ErrAbsent) {
			t.Errorf("set countries: got %v, want ErrAbsent", err)
		}
		if err := f.Confirm(t.Context()); !errors.Is(err, ErrNotArmed) {
			t.Errorf("confirm: got %v, want ErrNotArmed", err)
		}
	})

	t.Run("confirmed", func(t *testing.T) {
		f, another := open(t, stateOf(one))
		ban(t, f, Ban{prefix("192.0.2.9/32"), hour}, Ban{prefix("10.0.0.0/8"), hour})
		must(t, f.Grant(t.Context(), []Grant{{prefix("192.0.2.8/32"), hour}}))
		stands(t, f, inForce)
		must(t, f.Stage(t.Context(), two))
		stands(t, f, Standing{Table: true, Confirmed: 7, Staged: 8})
		intact(t, f)
		must(t, f.Arm(t.Context(), hour))
		for _, f := range []Firewall{f, another(t)} {
			stands(t, f, Standing{Table: true, Confirmed: 7, Staged: 8, Armed: hour})
		}
		intact(t, f)
		must(t, f.Arm(t.Context(), 2*hour)) // longer
		stands(t, f, Standing{Table: true, Confirmed: 7, Staged: 8, Armed: 2 * hour})
		must(t, f.Arm(t.Context(), hour)) // shorter
		stands(t, f, Standing{Table: true, Confirmed: 7, Staged: 8, Armed: hour})
		must(t, f.Confirm(t.Context()))
		for _, f := range []Firewall{f, another(t)} {
			stands(t, f, Standing{Table: true, Confirmed: 8})
		}
		intact(t, f)
		if err := f.Confirm(t.Context()); !errors.Is(err, ErrNotArmed) {
			t.Errorf("confirm twice: got %v, want ErrNotArmed", err)
		}
		same(t, f, map[netip.Prefix]time.Duration{prefix("192.0.2.9/32"): hour, prefix("10.0.0.0/8"): hour})
		sameGrants(t, f, map[netip.Prefix]time.Duration{prefix("192.0.2.8/32"): hour})
		must(t, f.Ensure(t.Context(), stateOf(two)))
		stands(t, f, Standing{Table: true, Confirmed: 8})
		intact(t, f)
	})

	t.Run("the first rule set ever", func(t *testing.T) {
		f, _ := open(t, everything)
		stands(t, f, Standing{Table: true})
		must(t, f.Stage(t.Context(), one))
		must(t, f.Arm(t.Context(), hour))
		stands(t, f, Standing{Table: true, Staged: 7, Armed: hour})
		intact(t, f)
		must(t, f.Confirm(t.Context()))
		stands(t, f, inForce)
		intact(t, f)
	})

	t.Run("the time is over", func(t *testing.T) {
		f, _ := open(t, stateOf(one))
		must(t, f.Stage(t.Context(), two))
		must(t, f.Arm(t.Context(), 200*time.Millisecond))
		eventually(t, func() bool {
			s, err := f.Standing(t.Context())
			return err == nil && s.Armed == 0
		})
		for range 2 {
			if err := f.Confirm(t.Context()); !errors.Is(err, ErrNotArmed) {
				t.Errorf("confirm: got %v, want ErrNotArmed", err)
			}
			stands(t, f, Standing{Table: true, Confirmed: 7, Staged: 8})
			intact(t, f)
		}
		must(t, f.Arm(t.Context(), hour)) // once more
		must(t, f.Confirm(t.Context()))
		stands(t, f, Standing{Table: true, Confirmed: 8})
	})

	t.Run("never armed", func(t *testing.T) {
		f, _ := open(t, stateOf(one))
		if err := f.Arm(t.Context(), hour); !errors.Is(err, ErrNotStaged) {
			t.Errorf("arm: got %v, want ErrNotStaged", err)
		}
		must(t, f.Stage(t.Context(), two))
		if err := f.Confirm(t.Context()); !errors.Is(err, ErrNotArmed) {
			t.Errorf("confirm: got %v, want ErrNotArmed", err)
		}
		for _, d := range []time.Duration{0, -1, 400 * 24 * hour} {
			if err := f.Arm(t.Context(), d); err == nil {
				t.Errorf("armed for %v", d)
			}
		}
		stands(t, f, Standing{Table: true, Confirmed: 7, Staged: 8})
		intact(t, f)
	})

	t.Run("aborted", func(t *testing.T) {
		f, _ := open(t, stateOf(one))
		must(t, f.Abort(t.Context()))
		must(t, f.Stage(t.Context(), two))
		must(t, f.Arm(t.Context(), hour))
		for range 2 {
			must(t, f.Abort(t.Context()))
			stands(t, f, inForce)
			intact(t, f)
		}
		if err := f.Arm(t.Context(), hour); !errors.Is(err, ErrNotStaged) {
			t.Errorf("arm: got %v, want ErrNotStaged", err)
		}
		if err := f.Confirm(t.Context()); !errors.Is(err, ErrNotArmed) {
			t.Errorf("confirm: got %v, want ErrNotArmed", err)
		}
	})

	t.Run("ensure ends a trial", func(t *testing.T) {
		f, _ := open(t, stateOf(one))
		must(t, f.Stage(t.Context(), two))
		must(t, f.Arm(t.Context(), hour))
		must(t, f.Ensure(t.Context(), stateOf(one)))
		stands(t, f, inForce)
		intact(t, f)
		must(t, f.Stage(t.Context(), two)) // its elements are gone, too
		stands(t, f, Standing{Table: true, Confirmed: 7, Staged: 8})
	})

	t.Run("stage ends a trial", func(t *testing.T) {
		f, _ := open(t, stateOf(one))
		for _, r := range []Ruleset{two, three, two, two} {
			must(t, f.Stage(t.Context(), r))
			stands(t, f, Standing{Table: true, Confirmed: 7, Staged: r.Generation})
			intact(t, f)
			must(t, f.Arm(t.Context(), hour))
		}
	})

	t.Run("refused", func(t *testing.T) {
		f, _ := open(t, stateOf(two))
		for name, r := range map[string]Ruleset{
			"an older one": one, "the same": two, "none": {}, "nobody's": {Generation: 9},
		} {
			if err := f.Stage(t.Context(), r); err == nil {
				t.Errorf("%s: staged", name)
			}
		}
		if err := f.Ensure(t.Context(), State{Ports: []uint16{22}, Ruleset: Ruleset{Generation: 9}}); err == nil {
			t.Error("ensured rules that are not valid")
		}
		stands(t, f, Standing{Table: true, Confirmed: 8})
		intact(t, f)
	})

	t.Run("countries", func(t *testing.T) {
		f, _ := open(t, stateOf(publicFor(t, 7, []string{"JP"}, "192.0.2.0/24", "2001:db8::/48")))
		other := setOf(t, "192.0.2.0/25", "198.51.100.0/24", "255.0.0.0/8", "2001:db8:2::/48")
		intact(t, f)
		for range 2 {
			must(t, f.SetCountries(t.Context(), other))
			intact(t, f)
		}
		must(t, f.Stage(t.Context(), publicFor(t, 8, []string{"JP"}, "192.0.2.0/24")))
		must(t, f.Arm(t.Context(), hour))
		must(t, f.SetCountries(t.Context(), setOf(t, "198.51.100.0/24")))
		stands(t, f, Standing{Table: true, Confirmed: 7, Staged: 8, Armed: hour})
		intact(t, f)
		must(t, f.SetCountries(t.Context(), setOf(t))) // nobody
		intact(t, f)
		must(t, f.Confirm(t.Context()))
		intact(t, f)
		must(t, f.Stage(t.Context(), fixedFor(9, "192.0.2.1/32")))
		must(t, f.Arm(t.Context(), hour))
		must(t, f.Confirm(t.Context()))
		must(t, f.SetCountries(t.Context(), other)) // they play no part
		stands(t, f, Standing{Table: true, Confirmed: 9})
		intact(t, f)
	})

	t.Run("another process", func(t *testing.T) {
		f, another := open(t, stateOf(one))
		must(t, f.Stage(t.Context(), two))
		must(t, f.Arm(t.Context(), hour))
		g := another(t)
		stands(t, g, Standing{Table: true, Confirmed: 7, Staged: 8, Armed: hour})
		if err := g.Confirm(t.Context()); !errors.Is(err, ErrNotArmed) {
			t.Errorf("confirm: got %v, want ErrNotArmed", err)
		}
		if err := g.Arm(t.Context(), hour); !errors.Is(err, ErrNotStaged) {
			t.Errorf("arm: got %v, want ErrNotStaged", err)
		}
		stands(t, g, Standing{Table: true, Confirmed: 7, Staged: 8, Armed: hour})
		must(t, g.Abort(t.Context()))
		stands(t, g, Standing{Table: true, Confirmed: 7, Staged: 8})
		must(t, g.Ensure(t.Context(), stateOf(one)))
		stands(t, g, inForce)
		intact(t, g)
	})

	t.Run("remove", func(t *testing.T) {
		f, _ := open(t, stateOf(one))
		must(t, f.Stage(t.Context(), two))
		must(t, f.Arm(t.Context(), hour))
		must(t, f.Remove(t.Context()))
		stands(t, f, Standing{})
		if err := f.Confirm(t.Context()); !errors.Is(err, ErrNotArmed) {
			t.Errorf("confirm: got %v, want ErrNotArmed", err)
		}
		must(t, f.Ensure(t.Context(), stateOf(one)))
		stands(t, f, inForce)
	})

	t.Run("seen", func(t *testing.T) {
		f, _ := open(t, stateOf(one))
		for _, peer := range []string{"192.0.2.1:40000", "[2001:db8::1]:40000", "[::ffff:192.0.2.1]:40000"} {
			if seen, err := f.Seen(t.Context(), netip.MustParseAddrPort(peer)); err != nil || seen {
				t.Errorf("%s: seen %v, %v", peer, seen, err)
			}
		}
	})

	t.Run("grants", func(t *testing.T) {
		f, _ := open(t, stateOf(one))
		grant := func(gs ...Grant) {
			t.Helper()
			must(t, f.Grant(t.Context(), gs))
		}
		grant(Grant{prefix("192.0.2.1/32"), hour}, Grant{prefix("2001:db8::1/128"), 2 * hour}, Grant{prefix("2001:db8:1::/64"), 0},
			Grant{prefix("192.0.2.2/32"), -1}, Grant{prefix("192.0.2.3/32"), 200 * time.Millisecond}, Grant{prefix("192.0.2.4/32"), hour})
		grant(Grant{prefix("192.0.2.1/32"), 3 * hour})
		must(t, f.Ungrant(t.Context(), prefixes("192.0.2.4/32", "192.0.2.5/32", "2001:db8:7::/64")))
		want := map[netip.Prefix]time.Duration{
			prefix("192.0.2.1/32"): 3 * hour, prefix("2001:db8::1/128"): 2 * hour, prefix("2001:db8:1::/64"): 0,
		}
		eventually(t, func() bool { return len(granted(t, f)) == len(want) })
		sameGrants(t, f, want)
		same(t, f, nil)
		for _, p := range []netip.Prefix{
			{}, prefix("192.0.2.0/24"), prefix("0.0.0.0/0"), prefix("2001:db8::/48"), prefix("2001:db8::1/64"), prefix("::ffff:192.0.2.1/128"),
		} {
			if err := f.Grant(t.Context(), []Grant{{prefix("192.0.2.7/32"), hour}, {p, hour}}); err == nil {
				t.Errorf("granted %v", p)
			}
			if err := f.Ungrant(t.Context(), []netip.Prefix{p}); err == nil {
				t.Errorf("ungranted %v", p)
			}
		}
		must(t, f.Ensure(t.Context(), stateOf(two)))
		sameGrants(t, f, want)
		must(t, f.Remove(t.Context()))
		for name, err := range map[string]error{
			"grant":   f.Grant(t.Context(), []Grant{{prefix("192.0.2.7/32"), hour}}),
			"ungrant": f.Ungrant(t.Context(), prefixes("192.0.2.1/32")),
			"grants":  f.Grants(t.Context(), func(Grant) error { return nil }),
		} {
			if !errors.Is(err, ErrAbsent) {
				t.Errorf("%s: got %v, want ErrAbsent", name, err)
			}
		}
	})

	t.Run("context", func(t *testing.T) {
		f, _ := open(t, stateOf(one))
		must(t, f.Stage(t.Context(), two))
		must(t, f.Arm(t.Context(), hour))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, errStanding := f.Standing(ctx)
		_, errSeen := f.Seen(ctx, netip.MustParseAddrPort("192.0.2.1:1"))
		_, errIntact := f.Intact(ctx)
		for name, err := range map[string]error{
			"stage": f.Stage(ctx, three), "arm": f.Arm(ctx, hour), "confirm": f.Confirm(ctx), "abort": f.Abort(ctx),
			"countries": f.SetCountries(ctx, setOf(t)), "standing": errStanding, "seen": errSeen, "intact": errIntact,
			"grant": f.Grant(ctx, []Grant{{prefix("192.0.2.7/32"), hour}}), "grants": f.Grants(ctx, func(Grant) error { return nil }),
			"ungrant": f.Ungrant(ctx, prefixes("192.0.2.7/32")),
		} {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		stands(t, f, Standing{Table: true, Confirmed: 7, Staged: 8, Armed: hour})
	})
}

func granted(t testing.TB, f Firewall) map[netip.Prefix]time.Duration {
	t.Helper()
	got := make(map[netip.Prefix]time.Duration)
	must(t, f.Grants(t.Context(), func(g Grant) error {
		got[g.Prefix] = g.Left
		return nil
	}))
	return got
}

func sameGrants(t testing.TB, f Firewall, want map[netip.Prefix]time.Duration) {
	t.Helper()
	if got := granted(t, f); !maps.EqualFunc(want, got, sameEnd) {
		t.Errorf("grants: got %v, want %v", got, want)
	}
}

// A Fake fails where it is told to, and changes nothing then.
func TestFakeFailsAtEachCall(t *testing.T) {
	broken := errors.New("no such device")
	calls := map[string]func(ctx context.Context, f *Fake) error{
		"Ensure":       func(ctx context.Context, f *Fake) error { return f.Ensure(ctx, everything) },
		"Stage":        func(ctx context.Context, f *Fake) error { return f.Stage(ctx, fixedFor(9, "192.0.2.1/32")) },
		"Arm":          func(ctx context.Context, f *Fake) error { return f.Arm(ctx, time.Minute) },
		"Confirm":      func(ctx context.Context, f *Fake) error { return f.Confirm(ctx) },
		"Abort":        func(ctx context.Context, f *Fake) error { return f.Abort(ctx) },
		"Standing":     func(ctx context.Context, f *Fake) error { _, err := f.Standing(ctx); return err },
		"Seen":         func(ctx context.Context, f *Fake) error { _, err := f.Seen(ctx, netip.AddrPort{}); return err },
		"SetCountries": func(ctx context.Context, f *Fake) error { return f.SetCountries(ctx, setOf(t)) },
		"Ban":          func(ctx context.Context, f *Fake) error { return f.Ban(ctx, []Ban{{prefix("192.0.2.1/32"), 0}}) },
		"Unban":        func(ctx context.Context, f *Fake) error { return f.Unban(ctx, prefixes("192.0.2.1/32")) },
		"Bans":         func(ctx context.Context, f *Fake) error { return f.Bans(ctx, func(Ban) error { return nil }) },
		"Grant":        func(ctx context.Context, f *Fake) error { return f.Grant(ctx, []Grant{{prefix("192.0.2.1/32"), 0}}) },
		"Ungrant":      func(ctx context.Context, f *Fake) error { return f.Ungrant(ctx, prefixes("192.0.2.1/32")) },
		"Grants":       func(ctx context.Context, f *Fake) error { return f.Grants(ctx, func(Grant) error { return nil }) },
		"Intact":       func(ctx context.Context, f *Fake) error { _, err := f.Intact(ctx); return err },
		"Counters":     func(ctx context.Context, f *Fake) error { _, err := f.Counters(ctx); return err },
		"Remove":       func(ctx context.Context, f *Fake) error { return f.Remove(ctx) },
	}
	for name, call := range calls {
		f := NewFake(nil)
		must(t, f.Ensure(t.Context(), stateOf(fixedFor(7, "192.0.2.1/32"))))
		must(t, f.Stage(t.Context(), fixedFor(8, "192.0.2.1/32")))
		must(t, f.Arm(t.Context(), time.Hour))
		f.FailCall(name, broken)
		if err := call(t.Context(), f); !errors.Is(err, broken) {
			t.Errorf("%s: got %v", name, err)
		}
		for other, call := range calls {
			if other == "Standing" && other != name {
				if err := call(t.Context(), f); err != nil {
					t.Errorf("%s, though %s fails: %v", other, name, err)
				}
			}
		}
		f.FailCall(name, nil)
		stands(t, f, Standing{Table: true, Confirmed: 7, Staged: 8, Armed: time.Hour})
		must(t, call(t.Context(), f))
	}
}

// A Fake sees whom the rules let in while a trial is armed, and forgets it.
func TestFakeSees(t *testing.T) {
	now := time.Unix(1_770_000_000, 0)
	f := NewFake(func() time.Time { return now })
	must(t, f.Ensure(t.Context(), stateOf(fixedFor(7, "192.0.2.1/32"))))
	early, peer := netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("[::ffff:192.0.2.1]:40001")
	must(t, f.Stage(t.Context(), fixedFor(8, "192.0.2.1/32")))
	f.See(early)
	must(t, f.Arm(t.Context(), time.Minute))
	f.See(peer)
	for p, want := range map[netip.AddrPort]bool{early: false, peer: true, netip.MustParseAddrPort("192.0.2.1:40001"): true} {
		if got, err := f.Seen(t.Context(), p); err != nil || got != want {
			t.Errorf("%v: seen %v, %v", p, got, err)
		}
	}
	now = now.Add(seenFor)
	if got, err := f.Seen(t.Context(), peer); err != nil || got {
		t.Errorf("seen %v, %v after %v", got, err, seenFor)
	}
}
