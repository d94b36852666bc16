package agent

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sekisho/internal/gate/api"
)

func addrs(texts ...string) []netip.Addr {
	all := make([]netip.Addr, len(texts))
	for i, s := range texts {
		all[i] = netip.MustParseAddr(s)
	}
	return all
}

// sees changes who comes to the host.
func (h *fakeHost) sees(away, in []netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away, h.in = away, in
}

// lastSeen is what the gate has been told last of who comes; nil: nothing.
func (g *fakeGate) lastSeen() (last []netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.report {
		if r.Seen != nil {
			last = r.Seen
		}
	}
	return last
}

func (g *fakeGate) hears(t *testing.T, want ...string) {
	t.Helper()
	until(t, fmt.Sprintf("the gate hears of %q", want), func() bool {
		last := g.lastSeen()
		return last != nil && cmp.Equal(addrs(want...), last, cmpopts.EquateComparable(netip.Addr{}))
	})
}

// TestLookOut: who is turned away is told as long as somebody is awaited.
func TestLookOut(t *testing.T) {
	lines := make(chan string)
	h := newHost()
	h.sees(addrs("198.51.100.9"), nil)
	g := gate(t, script(lines, snap()))
	follow(t, g, h, func(o *Options) { o.seenEvery = 5 * time.Millisecond })
	until(t, "a report", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.report) > 0 })

	lines <- let(grantJSON(idA, "hanako", "203.0.113.7/32", 3_600_000))
	g.hears(t, "198.51.100.9")
	h.mu.Lock()
	h.looks = 0
	h.mu.Unlock()
	// What is near comes first, and the other family; each once.
	h.sees(addrs("198.51.100.9", "203.0.7.1", "198.51.100.9", "2001:db8::9", "203.0.113.9"), addrs("192.0.2.200"))
	g.hears(t, "203.0.7.1", "2001:db8::9", "203.0.113.9", "198.51.100.9")
	// No more than a gate takes.
	many := addrs("198.51.100.9")
	for i := range 5000 {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}))
	}
	h.sees(append(many, addrs("203.0.113.9")...), nil)
	until(t, "a full report", func() bool {
		last := g.lastSeen()
		return len(last) == api.MaxSeen && last[0] == netip.MustParseAddr("203.0.113.9") && last[1] == many[0] && last[31] == many[30]
	})
	// Another one, who is in: that is told, too, for they are not to be warned.
	lines <- let(grantJSON(idB, "taro", "192.0.2.1/32", 3_600_000))
	h.is(t, idA, idB)
	h.sees(addrs("198.51.100.9"), addrs("192.0.2.1"))
	g.hears(t, "192.0.2.1", "198.51.100.9")
	h.sees(addrs("198.51.100.9", "198.51.100.10"), nil) // and has gone: they were in
	g.hears(t, "192.0.2.1", "198.51.100.9", "198.51.100.10")
	// By the other family: the same person.
	lines <- let(grantJSON(idC, "hanako", "2001:db8:1::/64", 3_600_000))
	h.is(t, idA, idB, idC)
	h.sees(addrs("198.51.100.9"), addrs("2001:db8:1::5"))
	g.hears(t) // nobody is awaited any more: all that was told is taken back
	h.mu.Lock()
	if h.looks == 0 {
		t.Error("the host was not asked")
	}
	h.looks = 0
	h.mu.Unlock()

	// Nobody is: nobody looks. Asked for anew, for longer: somebody does.
	lines <- end(idC)
	lines <- end(idA)
	lines <- end(idB)
	h.is(t)
	lines <- let(grantJSON(idA, "hanako", "203.0.113.7/32", 3_600_000))
	g.hears(t, "198.51.100.9")
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.report {
		if len(r.Seen) > api.MaxSeen {
			t.Errorf("%d addresses in one report", len(r.Seen))
		}
	}
}

// TestAwaited: whose grants count, and for how long.
func TestAwaited(t *testing.T) {
	now := time.Now()
	a := New(Options{Host: newHost()})
	grant := func(id, person, prefix string) Grant {
		return Grant{ID: id, Person: person, Prefix: netip.MustParsePrefix(prefix)}
	}
	a.asked(grant(idA, "hanako", "203.0.113.7/32"), now)
	a.asked(grant(idB, "taro", "203.0.113.8/32"), now.Add(time.Minute))
	is := func(what string, in []netip.Addr, at time.Duration, want ...string) {
		t.Helper()
		var got []string
		missing, _ := a.awaited(in, now.Add(at))
		for _, p := range missing {
			got = append(got, p.String())
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	is("both", nil, time.Minute, "203.0.113.7/32", "203.0.113.8/32")
	is("one has come", addrs("203.0.113.8", "203.0.113.9"), time.Minute, "203.0.113.7/32")
	is("and has gone", nil, time.Minute, "203.0.113.7/32")
	is("the time is over", nil, api.Fresh)
	if len(a.recent) != 1 {
		t.Errorf("%d are remembered", len(a.recent))
	}
	a.asked(grant(idA, "hanako", "203.0.113.7/32"), now.Add(api.Fresh))
	is("asked for anew", nil, api.Fresh, "203.0.113.7/32")
	a.ended(idA)
	a.ended(idB)
	if is("ended", nil, api.Fresh); len(a.recent) > 0 {
		t.Errorf("%d are remembered", len(a.recent))
	}
}

// TestLookOutAgain: a gate that refuses a report gets the same again, and the next stream
// is told anew who comes.
func TestLookOutAgain(t *testing.T) {
	lines := make(chan string)
	h := newHost()
	h.sees(addrs("198.51.100.9"), nil)
	g := gate(t, script(lines, snap(grantJSON(idA, "hanako", "203.0.113.7/32", 3_600_000))))
	refused := make(chan struct{}, 1)
	g.answer = func(w http.ResponseWriter, r api.Report) bool {
		if r.Seen == nil {
			return true
		}
		select {
		case refused <- struct{}{}:
			w.WriteHeader(http.StatusBadGateway)
			return false
		default:
			return true
		}
	}
	follow(t, g, h, func(o *Options) { o.seenEvery = 5 * time.Millisecond })
	g.hears(t, "198.51.100.9")
	if len(refused) != 1 {
		t.Error("nothing was refused")
	}
	g.mu.Lock()
	g.report = nil
	g.serve = script(make(chan string), snap(grantJSON(idA, "hanako", "203.0.113.7/32", 3_600_000)))
	g.mu.Unlock()
	close(lines)
	g.hears(t, "198.51.100.9")
}
