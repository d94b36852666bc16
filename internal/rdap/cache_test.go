package rdap

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCache(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	c := newCache[string](3)
	want := func(a, want string) {
		t.Helper()
		got, ok := c.get(addr(a), now)
		if got != want || ok != (want != "") {
			t.Errorf("of %s: %q, %v, want %q", a, got, ok, want)
		}
	}
	c.put(pfx("192.0.2.0/24"), "wide", now.Add(time.Hour))
	c.put(pfx("192.0.2.128/25"), "narrow", now.Add(time.Minute))
	c.put(pfx("2001:db8::/32"), "six", now.Add(time.Hour))
	want("192.0.2.1", "wide")
	want("192.0.2.129", "narrow")
	want("192.0.3.1", "")
	want("2001:db8::1", "six")

	now = now.Add(time.Minute) // the narrow one ends, and the wide one holds again
	want("192.0.2.129", "wide")
	if len(c.entries) != 2 {
		t.Errorf("%d are kept", len(c.entries))
	}
	c.put(pfx("192.0.2.0/24"), "anew", now.Add(time.Hour)) // also the newest now
	c.put(pfx("198.51.100.0/24"), "third", now.Add(time.Hour))
	c.put(pfx("203.0.113.0/24"), "fourth", now.Add(time.Hour))
	want("192.0.2.129", "anew")
	want("2001:db8::1", "") // the oldest had to go
	want("198.51.100.1", "third")
	want("203.0.113.1", "fourth")
}

func TestCacheIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_000_000, 0)
		c := newCache[netip.Prefix](5)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			a := addrs().Draw(t, "addr")
			p, err := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
			if err != nil {
				t.Fatal(err)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "seconds")) * time.Second)
			c.put(p, p, now.Add(3*time.Second))
			if got, ok := c.get(a, now); !ok || !got.Contains(a) || got.Bits() < p.Bits() {
				t.Fatalf("%s is not found after it was put: %s", p, got)
			}
			if b := addrs().Draw(t, "other"); true {
				if got, ok := c.get(b, now); ok && !got.Contains(b) {
					t.Fatalf("%s for %s", got, b)
				}
			}
			count := 0
			for _, lengths := range c.lengths {
				for _, n := range lengths {
					count += n
				}
			}
			if len(c.entries) > 5 || len(c.entries) != c.order.Len() || len(c.entries) != count {
				t.Fatalf("%d entries, %d in order, %d by length", len(c.entries), c.order.Len(), count)
			}
		}
	})
}

func TestReach(t *testing.T) {
	for _, tt := range []struct{ name, network, addr, want string }{
		{"its network", "192.0.2.0/24", "192.0.2.7", "192.0.2.0/24"},
		{"no more than a /16", "53.0.0.0/8", "53.1.2.3", "53.1.0.0/16"},
		{"no more than a /32", "2600::/12", "2601:db8::1", "2601:db8::/32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := reach(pfx(tt.network), addr(tt.addr)); got != pfx(tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	b := newBudget(20)
	taken := func() (n int) {
		for b.take(now) {
			n++
		}
		return n
	}
	if got := taken(); got != 20 {
		t.Errorf("%d at first", got)
	}
	now = now.Add(30 * time.Second)
	if got := taken(); got != 10 {
		t.Errorf("%d after half a minute", got)
	}
	now = now.Add(-time.Hour) // the clock is set back
	if got := taken(); got != 0 {
		t.Errorf("%d when the clock is set back", got)
	}
	now = now.Add(24 * time.Hour)
	if got := taken(); got != 20 {
		t.Errorf("%d after a day", got)
	}
}

func BenchmarkCacheFull(b *testing.B) {
	now := time.Unix(1_000_000, 0)
	c := newCache[int](10_000)
	for i := range 20_000 {
		bits := 16 + i%17
		p, _ := netip.AddrFrom4([4]byte{byte(1 + i%200), byte(i >> 8), byte(i), 0}).Prefix(bits)
		c.put(p, i, now.Add(time.Hour))
	}
	b.ReportAllocs()
	for b.Loop() {
		c.get(addr("203.0.113.9"), now)
	}
}
