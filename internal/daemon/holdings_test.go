package daemon

import (
	"net/netip"
	"testing"
	"time"

	"sekisho/internal/lease"
)

// TestHoldings: of several grants of a prefix the kernel holds the one that ends last, and
// ending one leaves the others.
func TestHoldings(t *testing.T) {
	now := time.Now()
	p := netip.MustParsePrefix("192.0.2.1/32")
	lasting := func(cause string, d time.Duration) lease.Lease {
		return lease.Lease{Prefix: p, Verdict: lease.Allow, Cause: cause, From: now.Add(-time.Hour), Until: now.Add(d)}
	}
	tests := []struct {
		name string
		do   func(holdings)
		want string // the cause of what the kernel holds
		live int
	}{
		{"none", func(holdings) {}, "", 0},
		{"one", func(h holdings) { h.put(lasting("manual", time.Hour)) }, "manual", 1},
		{"the gate's is longer", func(h holdings) { h.put(lasting("manual", 1)); h.put(lasting("gate/A", 2)) }, "gate/A", 2},
		{"the host's is longer", func(h holdings) { h.put(lasting("gate/A", 1)); h.put(lasting("manual", 2)) }, "manual", 2},
		{"made shorter", func(h holdings) {
			h.put(lasting("gate/A", 3))
			h.put(lasting("gate/B", 2))
			h.put(lasting("gate/A", 1))
		}, "gate/B", 2},
		{"ended", func(h holdings) { h.put(lasting("gate/A", 2)); h.put(lasting("gate/B", 1)); h.drop(p, "A") }, "gate/B", 1},
		{"another's end", func(h holdings) { h.put(lasting("manual", 1)); h.drop(p, "A") }, "manual", 1},
		{"the host's ended", func(h holdings) { h.put(lasting("manual", 2)); h.put(lasting("gate/A", 1)); h.drop(p, "") }, "gate/A", 1},
		{"all ended", func(h holdings) { h.put(lasting("manual", 2)); h.drop(p, "") }, "", 0},
		{"over", func(h holdings) { h.put(lasting("gate/A", -1)); h.put(lasting("gate/B", 1)) }, "gate/B", 1},
		{"taken back is nobody's", func(h holdings) { h.put(lasting("gate/A", 1)); h.drop(p, "A"); h.drop(p, "A") }, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := holdings{}
			tt.do(h)
			l, ok := h.longest(p, now)
			if ok != (tt.want != "") || l.Cause != tt.want {
				t.Errorf("%v %q", ok, l.Cause)
			}
			if kernel := h.kernel(now); len(kernel) != min(1, tt.live) || len(kernel) == 1 && kernel[0].Cause != tt.want {
				t.Errorf("the kernel's: %+v", kernel)
			}
			if live := h.live(now); len(live) != tt.live {
				t.Errorf("%d live", len(live))
			}
			if _, still := h[p]; still != (tt.live > 0) {
				t.Errorf("what is over is remembered: %+v", h[p])
			}
		})
	}
}

// TestHoldingsBegin: the store tells grants of a prefix apart by when they began.
func TestHoldingsBegin(t *testing.T) {
	h, now, p := holdings{}, time.Now(), netip.MustParsePrefix("192.0.2.1/32")
	seen := map[int64]bool{}
	for _, cause := range []string{"manual", "gate/A", "gate/B", "gate/C"} {
		from := h.begins(p, now)
		if seen[from.UnixNano()] || from.After(now) {
			t.Errorf("%s begins at %v, as another does", cause, from)
		}
		seen[from.UnixNano()] = true
		h.put(lease.Lease{Prefix: p, Verdict: lease.Allow, Cause: cause, From: from, Until: now.Add(time.Hour)})
	}
}
