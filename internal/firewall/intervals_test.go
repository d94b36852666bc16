package firewall

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go4.org/netipx"
	"pgregory.net/rapid"
)

var epoch = time.UnixMilli(1_770_000_000_000)

// drawNets draws prefixes of one family, crowded enough to lie inside of each
// other and to reach both ends of the address space.
func drawNets(t *rapid.T) (nets map[netip.Prefix]time.Time, v6 bool) {
	nets = make(map[netip.Prefix]time.Time)
	v6 = rapid.Bool().Draw(t, "v6")
	for range rapid.IntRange(0, 12).Draw(t, "n") {
		a := netip.AddrFrom4([4]byte{rapid.SampledFrom([]byte{0, 10, 255}).Draw(t, "a"), rapid.SampledFrom([]byte{0, 1, 255}).Draw(t, "b"), 0, rapid.Byte().Draw(t, "d")})
		bits := rapid.IntRange(1, 31).Draw(t, "bits")
		if v6 {
			b := a.As4()
			var long [16]byte
			copy(long[:], b[:])
			a, bits = netip.AddrFrom16(long), rapid.SampledFrom([]int{1, 8, 16, 24, 32, 48, 63, 127}).Draw(t, "bits6")
		}
		p, _ := a.Prefix(bits)
		nets[p] = time.Time{}
		if s := rapid.IntRange(0, 5).Draw(t, "seconds"); s > 0 {
			nets[p] = epoch.Add(time.Duration(s) * time.Second)
		}
	}
	return nets, v6
}

// Pieces are disjoint, in order, cover exactly the prefixes, and each ends with
// the last of the prefixes that cover it.
func TestPiecesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nets, _ := drawNets(t)
		got := pieces(nets)
		var covered, asked netipx.IPSetBuilder
		for p := range nets {
			asked.AddPrefix(p)
		}
		for i, p := range got {
			if p.last.Less(p.first) || i > 0 && !got[i-1].last.Less(p.first) {
				t.Fatalf("not in order: %v", got)
			}
			covered.AddRange(netipx.IPRangeFrom(p.first, p.last))
			for _, at := range []netip.Addr{p.first, p.last} {
				var want time.Time
				n, forever := 0, false
				for prefix, end := range nets {
					if prefix.Contains(at) {
						n++
						forever = forever || end.IsZero()
						if end.After(want) {
							want = end
						}
					}
				}
				if forever {
					want = time.Time{}
				}
				if n != len(p.nets) || !p.end().Equal(want) {
					t.Fatalf("%v: ends %v by %d prefixes, want %v by %d", at, p.end(), len(p.nets), want, n)
				}
			}
		}
		a, errA := covered.IPSet()
		b, errB := asked.IPSet()
		if errA != nil || errB != nil || !a.Equal(b) {
			t.Fatalf("covered %v, want %v (%v, %v)", a, b, errA, errB)
		}
	})
}

// What is written to the kernel reads back as the same prefixes with the same
// ends, also where pieces have ended or the clock was set meanwhile.
func TestPiecesRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nets, _ := drawNets(t)
		now := epoch.Add(time.Duration(rapid.IntRange(0, 4900).Draw(t, "ms")) * time.Millisecond)
		step := time.Duration(rapid.SampledFrom([]int{0, -100, 100}).Draw(t, "step")) * time.Hour
		var bounds []bound
		for _, p := range pieces(nets) {
			var left time.Duration
			if end := p.end(); !end.IsZero() {
				if left = end.Sub(now); left <= 0 {
					continue // the kernel has ended it
				}
			}
			text, err := p.comment()
			if err != nil {
				t.Fatal(err)
			}
			bounds = append(bounds, bound{addr: p.first, left: left, comment: text})
			if next := p.last.Next(); next.IsValid() {
				bounds = append(bounds, bound{addr: next, end: true})
			}
		}
		got, whole := desiredNets(join(rapid.Permutation(bounds).Draw(t, "order"), now.Add(step)))
		for p, end := range nets {
			if !end.IsZero() && !end.After(now) {
				continue // what is left of it in wider pieces does not matter
			}
			gotEnd, ok := got[p]
			if !ok || !whole(p) {
				t.Fatalf("%v: lost (whole: %v)", p, whole(p))
			}
			if end.IsZero() != gotEnd.IsZero() {
				t.Fatalf("%v: ends %v, want %v", p, gotEnd, end)
			}
			if step == 0 && !gotEnd.Equal(end) {
				t.Fatalf("%v: ends %v, want %v", p, gotEnd, end)
			}
		}
		for p := range got {
			if _, ok := nets[p]; !ok {
				t.Fatalf("%v: from nowhere", p)
			}
		}
	})
}

func TestJoin(t *testing.T) {
	a := netip.MustParseAddr
	now := epoch
	hour := now.Add(time.Hour)
	for _, tt := range []struct {
		name   string
		bounds []bound
		want   []piece
	}{
		{name: "nothing"},
		{name: "an end whose start has timed out", bounds: []bound{{addr: a("10.0.1.0"), end: true}}},
		{name: "nft's end at the first address", bounds: []bound{{addr: a("0.0.0.0"), end: true}}},
		{
			name:   "neighbours",
			bounds: []bound{{addr: a("10.0.1.0"), comment: "/24@0"}, {addr: a("10.0.1.0"), end: true}, {addr: a("10.0.2.0"), end: true}, {addr: a("10.0.0.0"), comment: "/24@0"}},
			want: []piece{
				{a("10.0.0.0"), a("10.0.0.255"), []network{{prefix: prefix("10.0.0.0/24")}}},
				{a("10.0.1.0"), a("10.0.1.255"), []network{{prefix: prefix("10.0.1.0/24")}}},
			},
		},
		{
			name:   "made by hand, no prefix",
			bounds: []bound{{addr: a("10.0.0.1"), left: time.Hour, comment: "by hand"}, {addr: a("10.0.0.4"), end: true}},
			want:   []piece{{a("10.0.0.1"), a("10.0.0.3"), []network{{prefix("10.0.0.1/32"), hour}, {prefix("10.0.0.2/31"), hour}}}},
		},
		{
			name:   "a comment that lies",
			bounds: []bound{{addr: a("10.0.0.0"), comment: "/32@0 /8@0"}, {addr: a("10.0.1.0"), end: true}},
			want:   []piece{{a("10.0.0.0"), a("10.0.0.255"), []network{{prefix: prefix("10.0.0.0/24")}}}},
		},
		{
			name:   "to the last address",
			bounds: []bound{{addr: a("ff00::"), left: time.Hour, comment: "/8@1770003600000"}},
			want:   []piece{{a("ff00::"), a("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), []network{{prefix("ff00::/8"), hour}}}},
		},
		{
			name:   "the clock was a day behind when it was written",
			bounds: []bound{{addr: a("10.0.0.0"), left: time.Hour, comment: "/8@1769913600000 /16@1769917200000"}, {addr: a("10.1.0.0"), end: true}},
			want:   []piece{{a("10.0.0.0"), a("10.0.255.255"), []network{{prefix("10.0.0.0/8"), now}, {prefix("10.0.0.0/16"), hour}}}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := join(tt.bounds, now)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(piece{}, network{}), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateApproxTime(0)); diff != "" {
				t.Errorf("pieces (-want +got):\n%s", diff)
			}
		})
	}
}

// The kernel and a plain map agree after any run of bans and unbans of prefixes.
func TestKernelNetsProperty(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	if err := k.Ensure(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		var all []netip.Prefix
		for p := range banned(t, k) {
			all = append(all, p)
		}
		if err := k.Unban(t.Context(), all); err != nil {
			rt.Fatal(err)
		}
		want := make(map[netip.Prefix]time.Duration)
		for range rapid.IntRange(1, 5).Draw(rt, "steps") {
			drawn, _ := drawNets(rt)
			var bans []Ban
			for p, end := range drawn {
				if check(p) != nil {
					continue
				}
				b := Ban{Prefix: p}
				if !end.IsZero() {
					b.Left = end.Sub(epoch) + time.Hour
				}
				bans = append(bans, b)
				want[p] = b.Left
			}
			if err := k.Ban(t.Context(), bans); err != nil {
				rt.Fatalf("ban %v: %v", bans, err)
			}
			var out []netip.Prefix
			for p := range want {
				if rapid.Bool().Draw(rt, "unban") {
					out = append(out, p)
				}
			}
			for _, p := range out {
				delete(want, p)
			}
			if err := k.Unban(t.Context(), out); err != nil {
				rt.Fatalf("unban %v: %v", out, err)
			}
			if diff := cmp.Diff(want, banned(t, k), cmp.Comparer(sameEnd), cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
				rt.Fatalf("bans in force (-want +got):\n%s", diff)
			}
		}
	})
}

// An older process's bans of prefixes are adopted by the next one, each for itself.
func TestAdopt(t *testing.T) {
	n := newNamespace(t)
	first := newKernel(t, n)
	if err := first.Ensure(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	ban(t, first, Ban{prefix("10.0.0.0/8"), time.Hour}, Ban{prefix("10.1.0.0/16"), 2 * time.Hour}, Ban{prefix("192.0.2.1/32"), time.Hour})
	n.run(t, "nft", "add element inet sekisho net4 { 172.16.0.1-172.16.0.2 timeout 1h }")
	second := newKernel(t, n)
	if err := second.Ensure(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	same(t, second, map[netip.Prefix]time.Duration{
		prefix("10.0.0.0/8"): time.Hour, prefix("10.1.0.0/16"): 2 * time.Hour, prefix("192.0.2.1/32"): time.Hour,
		prefix("172.16.0.1/32"): time.Hour, prefix("172.16.0.2/32"): time.Hour,
	})
	unban(t, second, "10.0.0.0/8", "172.16.0.1/32")
	same(t, second, map[netip.Prefix]time.Duration{
		prefix("10.1.0.0/16"): 2 * time.Hour, prefix("192.0.2.1/32"): time.Hour, prefix("172.16.0.2/32"): time.Hour,
	})
	// A part of a ban that was taken out by hand: it is in force no more as a whole.
	ban(t, second, Ban{prefix("10.0.0.0/8"), time.Hour})
	n.run(t, "nft", "delete element inet sekisho net4 { 10.1.0.0/16 }")
	if _, ok := banned(t, second)[prefix("10.0.0.0/8")]; ok {
		t.Error("a ban with a hole is told as in force")
	}
	ban(t, second, Ban{prefix("10.0.0.0/8"), time.Hour})
	if _, ok := banned(t, second)[prefix("10.0.0.0/8")]; !ok {
		t.Error("the hole is not mended")
	}
}
