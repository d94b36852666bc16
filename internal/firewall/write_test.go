package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Any layout becomes any other, and is read back as what was asked.
func TestWriteAnyOverAny(t *testing.T) {
	layouts := listed(t)
	layouts["none"] = layout{}
	names := slices.Sorted(maps.Keys(layouts))
	n := newNamespace(t)
	k := newKernel(t, n)
	for _, from := range names {
		for _, to := range names {
			if to == "none" {
				continue
			}
			must(t, k.Remove(t.Context()))
			for _, name := range []string{from, to} {
				want := layouts[name]
				if name == "none" {
					continue
				}
				have, err := k.read(want, allElements)
				must(t, err)
				if _, err := k.write(t.Context(), have, want, nil); err != nil {
					t.Fatalf("%s over %s: %v", to, from, err)
				}
				have, err = k.read(want, allElements)
				must(t, err)
				if missing, err := k.drift(have, want); err != nil || len(missing) > 0 {
					t.Errorf("%s over %s: %q, %v", to, from, missing, err)
				}
			}
		}
	}
}

// changedState is a rule set with all kinds of sets and chains.
func changedState(t testing.TB) (State, Ruleset) {
	r := publicFor(t, 7, []string{"JP"}, "192.0.2.0/24", "2001:db8:2::/48")
	r.Rules.Admins = prefixes("198.51.100.10/32", "2001:db8:1::/48")
	r.Rules.Open = []Service{{Proto: "tcp", First: 9100, Last: 9100, From: prefixes("10.0.0.0/8")}}
	return stateOf(r), fixedFor(8, "192.0.2.1/32")
}

// A foreign change of a rule set is named, whatever it is, and Ensure puts it right.
func TestIntactNamesAnyChange(t *testing.T) {
	state, staged := changedState(t)
	cc4 := countryName("cc4", setOf(t, "192.0.2.0/24").Ranges())
	for _, tt := range []struct{ name, script, missing string }{
		{"an address more", "add element inet sekisho admin4_7 { 203.0.113.1 }", "elements of set admin4_7"},
		{"an address less", "delete element inet sekisho admin4_7 { 198.51.100.10 }", "elements of set admin4_7"},
		{"a country's address more", "add element inet sekisho " + cc4 + " { 10.0.0.0-10.0.0.9 }", "elements of set " + cc4},
		{"a country's addresses taken out", "flush set inet sekisho " + cc4, "elements of set " + cc4},
		{"a port more", "add element inet sekisho ports_7 { 80 }", "elements of set ports_7"},
		{"the staged rules opened", "flush chain inet sekisho ssh_8; add rule inet sekisho ssh_8 accept", "rules of chain ssh_8"},
		{"the rules in force opened", "insert rule inet sekisho ssh_7 accept", "rules of chain ssh_7"},
		{"the gate opened", "insert rule inet sekisho input accept", "rules of chain input"},
		{"the gate taken away", "flush chain inet sekisho input", "rules of chain input"},
		{"a base chain taken away", "flush chain inet sekisho forward; delete chain inet sekisho forward", "chain forward"},
		{"the trial's set replaced", "flush chain inet sekisho input; flush chain inet sekisho raw; flush chain inet sekisho rawout; flush chain inet sekisho forward; " +
			"flush chain inet sekisho pass_7; flush chain inet sekisho pass_8; delete set inet sekisho armed; add set inet sekisho armed { type nf_proto; }", "set armed is another"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNamespace(t)
			k := newKernel(t, n)
			must(t, k.Ensure(t.Context(), state))
			want := listing(t, n)
			must(t, k.Stage(t.Context(), staged))
			intact(t, k)
			n.run(t, "nft", tt.script)
			missing, err := k.Intact(t.Context())
			if err != nil || !slices.Contains(missing, tt.missing) {
				t.Errorf("missing %q, %v; want %q", missing, err, tt.missing)
			}
			must(t, k.Ensure(t.Context(), state))
			intact(t, k)
			if diff := cmp.Diff(want, listing(t, n)); diff != "" {
				t.Errorf("listing after Ensure (-want +got):\n%s", diff)
			}
		})
	}
}

// listing is the whole rule set, but for what it has counted.
func listing(t testing.TB, n namespace) string {
	t.Helper()
	all := strings.TrimSuffix(strings.TrimPrefix(n.run(t, "nft", "list", "ruleset"), "table inet sekisho {\n"), "\n}\n")
	parts := strings.Split(all, "\n\n")
	slices.Sort(parts) // the order of chains and sets means nothing
	return regexp.MustCompile(`packets \d+ bytes \d+`).ReplaceAllString(strings.Join(parts, "\n\n"), "counted")
}

// A set that a killed process left half filled is not taken for the whole one.
func TestHalfFilledSet(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	state, _ := changedState(t)
	must(t, k.Ensure(t.Context(), state))
	next := setOf(t, "192.0.2.0/24", "198.51.100.0/24")
	name := countryName("cc4", next.Ranges())
	n.run(t, "nft", fmt.Sprintf("add set inet sekisho %s { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }", name))
	if missing, err := k.Intact(t.Context()); err != nil || !slices.Equal(missing, []string{"set " + name + " is not ours"}) {
		t.Errorf("missing %q, %v", missing, err)
	}
	must(t, k.SetCountries(t.Context(), next))
	intact(t, k)
}

// What a rule has counted outlives a change of the countries, also in the chain that
// speaks of them.
func TestCountersLiveOn(t *testing.T) {
	w := newWire(t)
	r := publicFor(t, 7, []string{"JP"}, "10.0.0.3/32", "2001:db8::3/128")
	r.Rules.Mode, r.Rules.Rate = ModeGuard, Rate{}
	must(t, w.k.Ensure(t.Context(), stateOf(r)))
	for peer, want := range map[string]bool{"10.0.0.2": false, "10.0.0.3": true, "2001:db8::2": false, "2001:db8::3": true} {
		wait := impatience
		if want {
			wait = patience
		}
		if got := w.reaches(t, peer, sshPort, wait); got != want {
			t.Errorf("%s reaches SSH: %v", peer, got)
		}
	}
	counted := func() map[string]uint64 {
		counters, err := w.k.Counters(t.Context())
		must(t, err)
		got := make(map[string]uint64)
		for i, c := range counters {
			if c.Packets > 0 {
				got[fmt.Sprintf("%d %s: %s, drops %v", i, c.Chain, c.Rule, c.Drops)] = c.Packets
			}
		}
		return got
	}
	before := counted()
	if len(before) != 3 { // let in; not in JP, twice
		t.Errorf("counted %v", before)
	}
	must(t, w.k.SetCountries(t.Context(), setOf(t, "10.0.0.4/32", "2001:db8::4/128")))
	after := counted()
	for rule, n := range before {
		if after[rule] < n {
			t.Errorf("%s: counted %d, then %d", rule, n, after[rule])
		}
	}
}

// A write that cannot be ended leaves all as it was, and nothing behind.
func TestWriteInterrupted(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	state, _ := changedState(t)
	must(t, k.Ensure(t.Context(), state))
	want := listing(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	batches := 0
	k.committed = func() {
		if batches++; batches == 2 {
			cancel()
		}
	}
	big := country(t, 5000, 0, 0)
	if err := k.SetCountries(ctx, big); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	k.committed = nil
	intact(t, k)
	if diff := cmp.Diff(want, listing(t, n)); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
	must(t, k.SetCountries(t.Context(), big))
	intact(t, k)
}

// A trial judges packets while it is armed, and only then; whom it let in meanwhile
// is seen.
func TestTrialJudges(t *testing.T) {
	w := newWire(t)
	must(t, w.k.Ensure(t.Context(), beforeKill()))
	next := afterKill(t)
	must(t, w.k.Stage(t.Context(), next))
	judges(t, w, "staged", false)
	must(t, w.k.Arm(t.Context(), time.Hour))
	judges(t, w, "armed", true)
	must(t, w.k.Arm(t.Context(), 100*time.Millisecond))
	eventually(t, func() bool {
		s, err := w.k.Standing(t.Context())
		return err == nil && s.Armed == 0
	})
	judges(t, w, "the time is over", false)
	must(t, w.k.Arm(t.Context(), time.Hour))
	used := make(map[netip.AddrPort]bool) // older kernels give the same port again
	seen := func(from string) bool {
		t.Helper()
		peer := w.connects(t, from)
		for used[peer] {
			peer = w.connects(t, from)
		}
		used[peer] = true
		got, err := w.k.Seen(t.Context(), peer)
		must(t, err)
		if mapped, err := w.k.Seen(t.Context(), netip.AddrPortFrom(netip.AddrFrom16(peer.Addr().As16()), peer.Port())); err != nil || mapped != got {
			t.Errorf("%v as IPv6: seen %v, %v", peer, mapped, err)
		}
		if other, err := w.k.Seen(t.Context(), netip.AddrPortFrom(peer.Addr(), peer.Port()^1)); err != nil || other {
			t.Errorf("another port of %v: seen %v, %v", peer, other, err)
		}
		return got
	}
	for _, from := range []string{"10.1.0.2", "2001:db8:0:5::2"} {
		if !seen(from) {
			t.Errorf("%s came through the trial and is not seen", from)
		}
	}
	must(t, w.k.Abort(t.Context()))
	for _, from := range []string{"10.1.0.2", "2001:db8:0:5::2"} {
		if seen(from) {
			t.Errorf("%s did not come through a trial and is seen", from)
		}
	}
	must(t, w.k.Stage(t.Context(), next))
	must(t, w.k.Arm(t.Context(), time.Hour))
	must(t, w.k.Confirm(t.Context()))
	judges(t, w, "confirmed", true)
}

// connects opens a connection to SSH and tells its client.
func (w wire) connects(t testing.TB, from string) netip.AddrPort {
	t.Helper()
	c := w.dial(t, from, sshPort, patience)
	if c == nil {
		t.Fatalf("%s does not reach SSH", from)
	}
	defer func() { _ = c.Close() }()
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

// Whatever is done to the trial, and when its time ends meanwhile, no packet of a
// peer that both rule sets let in is dropped, and none of one that neither does
// passes.
func TestTrialMissesNoPacket(t *testing.T) {
	w := newWire(t)
	sources := map[string]bool{"10.1.0.9": true, "10.88.0.1": false, "2001:db8:0:5::9": true, "2001:db8:88::1": false}
	countSources(t, w, sources)
	must(t, w.k.Ensure(t.Context(), beforeKill()))
	stop := floodFrom(t, w, sources)
	next := afterKill(t)
	rounds := 0
	for begin := time.Now(); time.Since(begin) < 2*time.Second; rounds++ {
		now := beforeKill()
		now.Ruleset.Generation = next.Generation + 1
		must(t, w.k.Stage(t.Context(), next))
		must(t, w.k.Arm(t.Context(), time.Hour))
		if rounds%2 == 0 {
			must(t, w.k.Abort(t.Context()))
			must(t, w.k.Stage(t.Context(), next))
		}
		must(t, w.k.Arm(t.Context(), 5*time.Millisecond))
		eventually(t, func() bool {
			s, err := w.k.Standing(t.Context())
			return err == nil && s.Armed == 0
		})
		must(t, w.k.Arm(t.Context(), time.Hour))
		must(t, w.k.Confirm(t.Context()))
		must(t, w.k.Ensure(t.Context(), now))
		next.Generation += 2
	}
	stop()
	noneMissed(t, w, sources, rounds)
}

// A confirmation that comes as the time ends is taken or refused as a whole.
func TestConfirmAtTheEnd(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	must(t, k.Ensure(t.Context(), stateOf(fixedFor(1, "192.0.2.1/32"))))
	confirmed := uint32(1)
	var taken, refused int
	for g := uint32(2); g < 60; g++ {
		must(t, k.Stage(t.Context(), fixedFor(g, "192.0.2.1/32")))
		within := time.Duration(g%20+1) * time.Millisecond
		must(t, k.Arm(t.Context(), within))
		for begin := time.Now(); time.Since(begin) < within-2*time.Millisecond; {
		}
		switch err := k.Confirm(t.Context()); {
		case err == nil:
			confirmed = g
			taken++
			stands(t, k, Standing{Table: true, Confirmed: g})
		case errors.Is(err, ErrNotArmed):
			refused++
			stands(t, k, Standing{Table: true, Confirmed: confirmed, Staged: g})
		default:
			t.Fatal(err)
		}
		intact(t, k)
	}
	t.Logf("%d taken, %d refused", taken, refused)
}

// A trial that somebody else has ended is not confirmed.
func TestConfirmWhatIsGone(t *testing.T) {
	for _, script := range []string{
		"flush set inet sekisho armed", "delete element inet sekisho armed { ipv4 }", "flush ruleset",
		"flush chain inet sekisho input",
	} {
		t.Run(script, func(t *testing.T) {
			n := newNamespace(t)
			k := newKernel(t, n)
			state, staged := changedState(t)
			must(t, k.Ensure(t.Context(), state))
			must(t, k.Stage(t.Context(), staged))
			must(t, k.Arm(t.Context(), time.Hour))
			n.run(t, "nft", script)
			if err := k.Confirm(t.Context()); err == nil {
				t.Error("confirmed")
			}
			if s, err := k.Standing(t.Context()); err != nil || s.Confirmed == staged.Generation {
				t.Errorf("standing %+v, %v", s, err)
			}
			must(t, k.Abort(t.Context()))
			stands(t, k, Standing{Table: true, Confirmed: 7})
			intact(t, k)
		})
	}
}

// Trials are nobody else's doing: a watcher hears nothing of them, nor of their end.
func TestWatchHearsNoTrial(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	state, staged := changedState(t)
	must(t, k.Ensure(t.Context(), state))
	changes := watched(t, k)
	must(t, k.SetCountries(t.Context(), country(t, 2000, 1000, 0)))
	must(t, k.Grant(t.Context(), []Grant{{prefix("192.0.2.1/32"), 50 * time.Millisecond}}))
	must(t, k.Stage(t.Context(), staged))
	must(t, k.Arm(t.Context(), 50*time.Millisecond))
	eventually(t, func() bool {
		s, err := k.Standing(t.Context())
		return err == nil && s.Armed == 0
	})
	must(t, k.Arm(t.Context(), time.Hour))
	must(t, k.Confirm(t.Context()))
	intact(t, k)
	n.run(t, "nft", "add element inet sekisho armed { ipv4 timeout 1h }") // the first thing to be told
	if got := next(t, changes); got.What != "elements of set armed added" {
		t.Errorf("told of %+v", got)
	}
}

// Kernels that can do less keep the same contract.
func TestOldKernelTrials(t *testing.T) {
	conformTrials(t, func(t *testing.T) processes {
		n := newNamespace(t)
		return func(t *testing.T) Firewall {
			k := newKernel(t, n)
			k.features = features{}
			return k
		}
	})
}

// While a watch tells of foreign changes, the elements of interval sets are read
// only after one; a change of theirs is found all the same, and as long as it lasts.
func TestIntactBesideWatch(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	state, _ := changedState(t)
	must(t, k.Ensure(t.Context(), state))
	n.run(t, "nft", "add element inet sekisho admin4_7 { 203.0.113.1 }") // before the watch
	changes := watched(t, k)
	want := []string{"elements of set admin4_7"}
	for range 2 {
		if missing, err := k.Intact(t.Context()); err != nil || !slices.Equal(missing, want) {
			t.Errorf("missing %q, %v; want %q", missing, err, want)
		}
	}
	must(t, k.Ensure(t.Context(), state))
	for range 3 {
		intact(t, k)
		n.run(t, "nft", "add element inet sekisho admin4_7 { 203.0.113.1 }")
		next(t, changes)
		for range 2 {
			if missing, err := k.Intact(t.Context()); err != nil || !slices.Equal(missing, want) {
				t.Errorf("missing %q, %v; want %q", missing, err, want)
			}
		}
		must(t, k.Ensure(t.Context(), state))
	}
}

// A rule that the kernel refuses is named, with the modules that it may lack.
func TestRefusedRule(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	must(t, k.Ensure(t.Context(), everything))
	k.tx.begin()
	must(t, k.tx.addRule(chainName, &nftables.Rule{
		Exprs: []expr.Any{
			&expr.Limit{Type: expr.LimitTypePkts, Rate: 1, Unit: expr.LimitTimeSecond, Burst: 5},
			&expr.Lookup{SourceRegister: 1, SetName: "nowhere"},
		},
		UserData: userdata.AppendString(nil, userdata.TypeComment, "at most one"),
	}, expr.Counter{}))
	err := k.commit(&k.tx)
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), `"at most one" to chain raw`) || !strings.Contains(err.Error(), "nft_limit") {
		t.Errorf("got %v", err)
	}
	intact(t, k)
}
