package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// knocked are the addresses of Knocks, in their order.
func knocked(t testing.TB, f Firewall) (away, in []netip.Addr) {
	t.Helper()
	knocks, err := f.Knocks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range knocks {
		if k.Ago < 0 || k.Ago >= knockFor {
			t.Errorf("%v knocked %v ago", k.Addr, k.Ago)
		}
		if k.In {
			in = append(in, k.Addr)
		} else {
			away = append(away, k.Addr)
		}
	}
	return away, in
}

// turnedAway are those of them that were turned away.
func turnedAway(t testing.TB, f Firewall) []netip.Addr {
	t.Helper()
	away, _ := knocked(t, f)
	return away
}

// knockOf is the packet by which from asks for SSH.
func knockOf(from netip.Addr, port uint16) []byte {
	to := netip.AddrPortFrom(ip(host4), port)
	if from.Is6() {
		to = netip.AddrPortFrom(ip(host6), port)
	}
	at := netip.AddrPortFrom(from, 4000)
	return ipPacket(from, to.Addr(), unix.IPPROTO_TCP, tcp(at, to, flagSYN, 7, 0, nil))
}

var equalAddrs = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

// TestKnocks: remembered is who was turned away for want of a grant, and who was let in.
func TestKnocks(t *testing.T) {
	w := newWire(t)
	in := w.inject(t, false)
	admin, granted, banned, stranger := ip("10.0.0.2"), ip("10.0.0.3"), ip("10.0.0.4"), ip("10.0.0.5")
	granted6, banned6, stranger6 := ip("2001:db8:0:5::2"), ip("2001:db8::3"), ip("2001:db8:7::2")
	rules := func(mode Mode, exposure Exposure) Rules {
		return Rules{Mode: mode, Ports: []uint16{sshPort}, Exposure: exposure, Admins: []netip.Prefix{netip.PrefixFrom(admin, 32)}}
	}
	w.ensure(t, rules(ModeGuard, ExposureOnRequest))
	hold := func() {
		t.Helper()
		if err := w.k.Grant(t.Context(), []Grant{{netip.PrefixFrom(granted, 32), time.Hour}, {prefix("2001:db8:0:5::/64"), time.Hour}}); err != nil {
			t.Fatal(err)
		}
		ban(t, w.k, Ban{netip.PrefixFrom(banned, 32), time.Hour}, Ban{netip.PrefixFrom(banned6, 128), time.Hour})
	}
	hold()
	everybody := func() {
		t.Helper()
		for _, a := range []netip.Addr{admin, granted, banned, granted6, banned6, stranger6, stranger} {
			in.send(t, knockOf(a, webPort))
			in.send(t, knockOf(a, sshPort))
		}
		in.seen(t)
	}
	flush := func() { // with the sets go those who are in them
		t.Helper()
		w.ensure(t, rules(ModeGuard, ExposureFixed))
		w.ensure(t, rules(ModeGuard, ExposureOnRequest))
		if away, in := knocked(t, w.k); len(away)+len(in) > 0 {
			t.Fatalf("%v and %v are remembered by rules that do not", away, in)
		}
	}
	strangers, friends := []netip.Addr{stranger, stranger6}, []netip.Addr{admin, granted, granted6}
	for _, tt := range []struct {
		mode     Mode
		exposure Exposure
		away, in []netip.Addr
	}{
		{ModeGuard, ExposureOnRequest, strangers, friends},
		{ModeLockdown, ExposureOnRequest, strangers, friends},
		{ModeGuard, ExposureFixed, nil, nil}, // no grant would help them
		{ModeGuard, ExposurePublic, nil, nil},
	} {
		t.Run(fmt.Sprintf("%s/%s", tt.mode, tt.exposure), func(t *testing.T) {
			flush()
			w.ensure(t, rules(tt.mode, tt.exposure))
			everybody()
			away, in := knocked(t, w.k)
			for what, x := range map[string][2][]netip.Addr{"turned away": {tt.away, away}, "let in": {tt.in, in}} {
				slices.SortFunc(x[1], netip.Addr.Compare)
				if diff := cmp.Diff(x[0], x[1], equalAddrs); diff != "" {
					t.Errorf("%s: %s", what, diff)
				}
			}
		})
	}

	w.ensure(t, rules(ModeGuard, ExposureOnRequest))
	t.Run("the latest first", func(t *testing.T) {
		flush()
		for _, a := range []netip.Addr{stranger, stranger6, stranger} {
			in.send(t, knockOf(a, sshPort))
			in.seen(t)
			_, _ = unix.Poll(nil, 20) // the kernel counts in ticks
		}
		if diff := cmp.Diff([]netip.Addr{stranger, stranger6}, turnedAway(t, w.k), equalAddrs); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("they outlive a change of the rules, and harm none", func(t *testing.T) {
		before := turnedAway(t, w.k)
		w.ensure(t, rules(ModeLockdown, ExposureOnRequest))
		if diff := cmp.Diff(before, turnedAway(t, w.k), equalAddrs); diff != "" {
			t.Error(diff)
		}
		if missing, err := w.k.Intact(t.Context()); err != nil || len(missing) > 0 {
			t.Errorf("not intact: %q, %v", missing, err)
		}
	})
	t.Run("a flood is bounded, and lets nobody in", func(t *testing.T) {
		flush()
		const sources = 2 * knockSize
		passed := uint64(0)
		for i := range sources {
			in.send(t, knockOf(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), sshPort))
			if i%1024 == 1023 {
				passed += in.seen(t).passed // no faster than the host takes them
			}
		}
		if passed += in.seen(t).passed; passed > 0 {
			t.Errorf("%d packets of strangers were let in", passed)
		}
		if n := len(turnedAway(t, w.k)); n > knockSize || n < knockSize/2 {
			t.Errorf("%d of %d are remembered, and there is room for %d", n, sources, knockSize)
		}
		fills, err := w.k.Fills(t.Context())
		if err != nil || slices.ContainsFunc(fills, func(f Fill) bool { return f.Used > 0 }) {
			t.Errorf("a full set that harms nobody is told of: %+v, %v", fills, err)
		}
		if !w.reaches(t, admin.String(), sshPort, patience) || !w.reaches(t, granted.String(), sshPort, patience) || !w.reaches(t, granted6.String(), sshPort, patience) {
			t.Error("somebody is kept out who may come in")
		}
		if _, in := knocked(t, w.k); len(in) != 3 {
			t.Errorf("%v are remembered as let in", in)
		}
		if w.reaches(t, "10.1.0.2", sshPort, impatience) {
			t.Error("a stranger comes in")
		}
	})
}

// TestKnocksAfterUpgrade: rules of a version that remembered nobody go on, and get the new
// sets with the next Ensure; grants and counts stay.
func TestKnocksAfterUpgrade(t *testing.T) {
	w := newWire(t)
	r := Ruleset{Generation: 3, Rules: Rules{Mode: ModeGuard, Ports: []uint16{sshPort}, Exposure: ExposureOnRequest, Admins: prefixes("10.0.0.2/32")}}
	s := State{Ports: []uint16{sshPort}, Ruleset: r}
	old := desired(s, nil, w.k.features)
	isNew := func(name string) bool {
		return slices.Contains([]string{knock4Name, knock6Name, came4Name, came6Name}, name)
	}
	old.sets = slices.DeleteFunc(old.sets, func(s set) bool { return isNew(s.Name) })
	for i, c := range old.chains {
		old.chains[i].rules = slices.DeleteFunc(slices.Clone(c.rules), func(r *nftables.Rule) bool {
			return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool { d, ok := e.(*expr.Dynset); return ok && isNew(d.SetName) })
		})
	}
	load(t, w.host, old)
	if err := w.k.Grant(t.Context(), []Grant{{prefix("10.0.0.3/32"), time.Hour}}); err != nil {
		t.Fatal(err)
	}
	dropped := func() (n uint64) {
		t.Helper()
		counters, err := w.k.Counters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range counters {
			if c.Rule == noGrant {
				n += c.Packets
			}
		}
		return n
	}
	if w.reaches(t, "10.1.0.2", sshPort, impatience) || dropped() == 0 {
		t.Fatal("the old rules do not work")
	}
	if got := turnedAway(t, w.k); len(got) > 0 {
		t.Fatalf("the old rules remember %v", got)
	}
	before := dropped()
	commits := 0
	w.k.committed = func() { commits++ }
	for _, want := range []bool{true, false} {
		commits = 0
		if err := w.k.Ensure(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if (commits > 0) != want {
			t.Errorf("%d transactions, want some: %v", commits, want)
		}
	}
	if got := dropped(); got < before {
		t.Errorf("%d packets were dropped, and then %d", before, got)
	}
	if !w.reaches(t, "10.0.0.3", sshPort, patience) {
		t.Error("the grant is lost")
	}
	if w.reaches(t, "10.1.0.2", sshPort, impatience) || !slices.Contains(turnedAway(t, w.k), ip("10.1.0.2")) {
		t.Errorf("remembered are %v", turnedAway(t, w.k))
	}
}

// TestFakeKnocks: the Fake turns away and lets in whom the kernel does.
func TestFakeKnocks(t *testing.T) {
	now := time.Now()
	f := NewFake(func() time.Time { return now })
	rules := Rules{Mode: ModeGuard, Ports: []uint16{22}, Exposure: ExposureOnRequest, Admins: prefixes("192.0.2.1/32")}
	if err := f.Ensure(t.Context(), State{Ports: []uint16{22}, Ruleset: Ruleset{Generation: 1, Rules: rules}}); err != nil {
		t.Fatal(err)
	}
	ban(t, f, Ban{prefix("192.0.2.3/32"), time.Hour})
	if err := f.Grant(t.Context(), []Grant{{prefix("192.0.2.2/32"), time.Hour}}); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8::4"} {
		f.Knock(ip(a))
		now = now.Add(time.Second)
	}
	away, in := knocked(t, f)
	if diff := cmp.Diff([]netip.Addr{ip("2001:db8::4"), ip("192.0.2.4")}, away, equalAddrs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]netip.Addr{ip("192.0.2.2"), ip("192.0.2.1")}, in, equalAddrs); diff != "" {
		t.Error(diff)
	}
	now = now.Add(knockFor)
	if away, in := knocked(t, f); len(away)+len(in) > 0 {
		t.Errorf("after their time: %v, %v", away, in)
	}
}

// BenchmarkTurnedAway is what the first packet of a stranger costs a host where exposure is
// on_request, beside what it costs one that remembers nobody: of sources that all are
// remembered, and of so many that there is no room for most of them. Measured like
// BenchmarkVerdict.
func BenchmarkTurnedAway(b *testing.B) {
	remembers, forgets := newReceiver(b), newReceiver(b)
	r := Ruleset{Generation: 1, Rules: Rules{Mode: ModeGuard, Ports: []uint16{sshPort}, Exposure: ExposureOnRequest, Admins: prefixes("198.51.100.10/32", "2001:db8:ad::/48")}}
	for _, at := range []*receiver{remembers, forgets} {
		k := newKernel(b, at.n)
		k.noDynamic = at == forgets
		if err := k.Ensure(b.Context(), stateOf(r)); err != nil {
			b.Fatal(err)
		}
	}
	for _, sources := range []int{1000, verdictSources} {
		b.Run(fmt.Sprint(sources), func(b *testing.B) {
			frames := make([][]byte, verdictSources)
			for i := range frames {
				n := i % sources
				frames[i] = knockOf(netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), sshPort)
			}
			gun := newGun(b, frames)
			var with, without, more []float64
			for _, at := range []*receiver{remembers, forgets, remembers} {
				gun.send(b, at, false)
			}
			for b.Loop() {
				for range verdictRounds {
					making := gun.send(b, forgets, true)
					f, r := gun.send(b, forgets, false)-making, gun.send(b, remembers, false)-making
					with, without, more = append(with, r), append(without, f), append(more, r-f)
				}
			}
			b.ReportMetric(median(with), "remembers-ns")
			b.ReportMetric(median(without), "forgets-ns")
			b.ReportMetric(median(more), "more-ns")
			b.ReportMetric(0, "ns/op")
		})
	}
}
