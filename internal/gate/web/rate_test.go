package web

import (
	"net/netip"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	r := newRate[string](10*time.Second, 3, 100)
	for i := range 3 {
		if wait := r.take(now, "a"); wait != 0 {
			t.Fatalf("take %d has to wait %v", i+1, wait)
		}
	}
	if wait := r.take(now, "a"); wait != 10*time.Second {
		t.Errorf("the fourth has to wait %v, want 10s", wait)
	}
	if wait := r.wait(now, "b"); wait != 0 {
		t.Errorf("another has to wait %v", wait)
	}
	// What is refused counts for nothing: it does not make the wait longer.
	if wait := r.take(now.Add(4*time.Second), "a"); wait != 6*time.Second {
		t.Errorf("after 4s it has to wait %v, want 6s", wait)
	}
	if wait := r.take(now.Add(10*time.Second), "a"); wait != 0 {
		t.Errorf("after 10s it has to wait %v", wait)
	}
	if wait := r.take(now.Add(10*time.Second), "a"); wait == 0 {
		t.Error("two after 10s")
	}
	later := now.Add(time.Hour)
	for i := range 3 {
		if wait := r.take(later, "a"); wait != 0 {
			t.Errorf("take %d of an hour later has to wait %v", i+1, wait)
		}
	}
}

func TestRateIsBounded(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	r := newRate[int](time.Minute, 1, 100)
	for i := range 10_000 {
		if wait := r.take(now, i); wait != 0 {
			t.Fatalf("a crowd makes number %d wait %v", i, wait)
		}
		if len(r.free) > 100 {
			t.Fatalf("%d are remembered", len(r.free))
		}
	}
}

// Who has a /48 has 65,536 sources, and eight times what one has.
func TestBySource(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		nth  func(i int) netip.Addr
		cost int
		want int // that may be at once
	}{
		{"an address", func(int) netip.Addr { return netip.MustParseAddr("192.0.2.1") }, 1, 5},
		{"addresses", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }, 1, 100},
		{"a /64", func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)}) }, 1, 5},
		{"a /48", func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(i)}) }, 1, 40},
		{"networks", func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 5: byte(i)}) }, 1, 100},
		{"what costs more", func(int) netip.Addr { return netip.MustParseAddr("192.0.2.1") }, 4, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newBySource(time.Second, 5)
			may := 0
			for i := range 100 {
				if s.take(now, tt.nth(i), tt.cost) == 0 {
					may++
				}
			}
			if may != tt.want {
				t.Errorf("%d may at once, want %d", may, tt.want)
			}
		})
	}
}
