package prefixset

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"
	"pgregory.net/rapid"
)

func prefixes(t testing.TB, texts ...string) []netip.Prefix {
	t.Helper()
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func set(t testing.TB, texts ...string) Set {
	t.Helper()
	s, err := Of(prefixes(t, texts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func texts(ps []netip.Prefix) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

func TestCanonical(t *testing.T) {
	tests := []struct {
		name string
		got  Set
		want []string
	}{
		{"empty", Set{}, nil},
		{"halves join", set(t, "192.0.2.128/25", "192.0.2.0/25"), []string{"192.0.2.0/24"}},
		{"one inside of the other", set(t, "10.0.0.0/8", "10.1.0.0/16"), []string{"10.0.0.0/8"}},
		{"families in order", set(t, "2001:db8::/32", "192.0.2.0/24"), []string{"192.0.2.0/24", "2001:db8::/32"}},
		{"neighbours that no prefix joins", set(t, "192.0.2.64/26", "192.0.2.128/26"), []string{"192.0.2.64/26", "192.0.2.128/26"}},
		{"union", set(t, "10.0.0.0/9").Union(set(t, "10.128.0.0/9")), []string{"10.0.0.0/8"}},
		{"union with nothing", set(t, "10.0.0.0/9").Union(Set{}), []string{"10.0.0.0/9"}},
		{"difference", set(t, "192.0.2.0/24").Difference(set(t, "192.0.2.0/26")), []string{"192.0.2.64/26", "192.0.2.128/25"}},
		{"difference of nothing", Set{}.Difference(set(t, "192.0.2.0/26")), nil},
		{"everything", set(t, "0.0.0.0/1", "128.0.0.0/1"), []string{"0.0.0.0/0"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, texts(test.got.Prefixes())); diff != "" {
				t.Errorf("prefixes (-want +got):\n%s", diff)
			}
			if got := test.got.IsEmpty(); got != (test.want == nil) {
				t.Errorf("IsEmpty() = %v", got)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, p := range []netip.Prefix{{}, netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("::ffff:192.0.2.0/120")} {
		if _, err := Of(p); err == nil {
			t.Errorf("Of(%s): no error", p)
		}
	}
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for _, r := range []netipx.IPRange{{}, netipx.IPRangeFrom(b, a), netipx.IPRangeFrom(a, netip.MustParseAddr("::1"))} {
		if _, err := OfRanges(r); err == nil {
			t.Errorf("OfRanges(%s): no error", r)
		}
	}
}

func TestContains(t *testing.T) {
	s := set(t, "192.0.2.0/24", "2001:db8::/32")
	tests := []struct {
		name string
		addr netip.Addr
		want bool
	}{
		{"invalid", netip.Addr{}, false},
		{"first", netip.MustParseAddr("192.0.2.0"), true},
		{"last", netip.MustParseAddr("192.0.2.255"), true},
		{"before", netip.MustParseAddr("192.0.1.255"), false},
		{"after", netip.MustParseAddr("192.0.3.0"), false},
		{"mapped", netip.MustParseAddr("::ffff:192.0.2.7"), true},
		{"v6", netip.MustParseAddr("2001:db8::7"), true},
		{"zone", netip.MustParseAddr("2001:db8::7%eth0"), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := s.Contains(test.addr); got != test.want {
				t.Errorf("Contains(%s) = %v, want %v", test.addr, got, test.want)
			}
		})
	}
	if !s.ContainsPrefix(netip.MustParsePrefix("192.0.2.64/26")) || s.ContainsPrefix(netip.MustParsePrefix("192.0.0.0/16")) || s.ContainsPrefix(netip.Prefix{}) {
		t.Error("ContainsPrefix is wrong")
	}
}

func TestSize(t *testing.T) {
	tests := []struct {
		name   string
		set    Set
		v4, v6 uint64
	}{
		{"empty", Set{}, 0, 0},
		{"a network each", set(t, "192.0.2.0/24", "2001:db8::/48"), 256, 1 << 16},
		{"a part of a /64 counts", set(t, "2001:db8::1/128"), 0, 1},
		{"all of IPv4", set(t, "0.0.0.0/0"), 1 << 32, 0},
		{"all of IPv6", set(t, "::/0"), 0, 1<<64 - 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if v4, v6 := test.set.Size(); v4 != test.v4 || v6 != test.v6 {
				t.Errorf("Size() = %d, %d; want %d, %d", v4, v6, test.v4, test.v6)
			}
		})
	}
}

// The algebra, held to a map of the 256 addresses of 192.0.2.0/24 and to the
// same bits at the end of IPv6.
func TestAlgebra(t *testing.T) {
	addr := func(v6 bool, n int) netip.Addr {
		if v6 {
			var b [16]byte
			binary.BigEndian.PutUint64(b[:], 1<<64-1)
			binary.BigEndian.PutUint64(b[8:], 1<<64-256+uint64(n))
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
	}
	type model [256]bool
	rapid.Check(t, func(t *rapid.T) {
		v6 := rapid.Bool().Draw(t, "v6")
		draw := func(label string) (s Set, m model) {
			var ranges []netipx.IPRange
			for range rapid.IntRange(0, 8).Draw(t, label) {
				from := rapid.IntRange(0, 255).Draw(t, "from")
				to := rapid.IntRange(from, 255).Draw(t, "to")
				ranges = append(ranges, netipx.IPRangeFrom(addr(v6, from), addr(v6, to)))
				for i := from; i <= to; i++ {
					m[i] = true
				}
			}
			s, err := OfRanges(ranges...)
			if err != nil {
				t.Fatal(err)
			}
			return s, m
		}
		check := func(name string, s Set, want func(i int) bool) {
			for i := range 256 {
				if got := s.Contains(addr(v6, i)); got != want(i) {
					t.Fatalf("%s: Contains(%s) = %v", name, addr(v6, i), got)
				}
			}
			// The prefixes cover the set, once each.
			covered := make(map[netip.Addr]int)
			for _, p := range s.Prefixes() {
				for a := p.Addr(); p.Contains(a); a = a.Next() {
					covered[a]++
				}
			}
			for i := range 256 {
				wanted := 0
				if want(i) {
					wanted = 1
				}
				if covered[addr(v6, i)] != wanted {
					t.Fatalf("%s: %s is in %d prefixes", name, addr(v6, i), covered[addr(v6, i)])
				}
			}
			again, err := Of(s.Prefixes()...)
			if err != nil || !again.Equal(s) || !slices.Equal(again.Ranges(), s.Ranges()) {
				t.Fatalf("%s: not canonical: %v", name, s.Ranges())
			}
		}
		a, inA := draw("a")
		b, inB := draw("b")
		check("a", a, func(i int) bool { return inA[i] })
		check("union", a.Union(b), func(i int) bool { return inA[i] || inB[i] })
		check("difference", a.Difference(b), func(i int) bool { return inA[i] && !inB[i] })
	})
}
