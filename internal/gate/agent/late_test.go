package agent

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sekisho/internal/gate/api"
)

// TestLateness: each line is by the gate's clock and by this machine's, in seconds.
func TestLateness(t *testing.T) {
	gate := time.Date(2026, 11, 30, 1, 0, 0, 0, time.UTC)
	type line struct{ gate, at, late, sooner float64 }
	for _, tt := range []struct {
		name  string
		lines []line
	}{
		{"in time", []line{{0, 100, 0, 0}, {15, 115, 0, 0}, {30, 130, 0, 0}}},
		{"one is late", []line{{0, 100, 0, 0}, {15, 145, 30 - .045, 0}, {30, 145, 15 - .045, 0}, {45, 145, 0, 0}}},
		{"the first was late", []line{{0, 140, 0, 0}, {15, 140, 0, 15}, {30, 140, 0, 15}, {45, 145, 0, 10}, {60, 160, 0, 0}}},
		{"a little late is not told", []line{{0, 100.9, 0, 0}, {15, 115, 0, 0}, {30, 130, 0, 0}, {45, 144.9, 0, 1}}},
		{"the gate's clock goes slower", []line{{0, 0, 0, 0}, {9990, 9999, 0, 0}, {19980, 19998, 0, 0}}},
		{"this machine's goes slower", []line{{0, 0, 0, 0}, {10000, 9999.5, 0, 0}, {20000, 19999, 0, 1}}},
		{"suspended, with a line unread", []line{{0, 100, 0, 0}, {10, 3710, 3600 - 3.61, 0}, {3612, 3712, 0, 0}}},
		{"this machine's clock stood still", []line{{0, 100, 0, 0}, {15, 115, 0, 0}, {3630, 130, 0, 3600}}},
		{"the gate's is set back, and nobody is shut out", []line{{7200, 100, 0, 0}, {0, 115, 0, 0}, {15, 130, 0, 0}, {30, 150, 5 - .02, 0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l lateness
			if got := l.of(time.Hour); got != 0 {
				t.Errorf("late by %v where the gate has said nothing", got)
			}
			for i, want := range tt.lines {
				at := time.Duration(want.at * float64(time.Second))
				sooner := l.heard(gate.Add(time.Duration(want.gate*float64(time.Second))), at)
				if got := l.of(at); (got.Seconds()-want.late > .001) || want.late-got.Seconds() > .001 {
					t.Errorf("line %d is late by %v, want %v s", i, got, want.late)
				}
				if got := sooner.Seconds(); got-want.sooner > .02 || want.sooner-got > .02 {
					t.Errorf("line %d: what was before ends sooner by %v, want %v s", i, sooner, want.sooner)
				}
			}
		})
	}
}

// The gate's clock is whatever it is: nothing that it says is a crash.
func FuzzLateness(f *testing.F) {
	f.Add(int64(0), int64(1), int64(-1))
	f.Add(int64(-62135596800), int64(253402300799), int64(0))
	f.Fuzz(func(t *testing.T, a, b, c int64) {
		var l lateness
		for i, s := range []int64{a, b, c, a} {
			at := time.Duration(i+1) * time.Second
			if d := l.heard(time.Unix(s, 0), at); d < 0 {
				t.Errorf("sooner by %v", d)
			}
			if d := l.of(at); d < 0 {
				t.Errorf("late by %v", d)
			}
		}
	})
}

func TestSlept(t *testing.T) {
	if d := slept(); d < -time.Second || slept()-d > time.Second {
		t.Errorf("%v, and a moment later %v", d, slept())
	}
}

// left waits until what is left of a grant is about that.
func (h *fakeHost) left(t *testing.T, id string, want time.Duration) {
	t.Helper()
	until(t, fmt.Sprintf("%v are left of %s", want, id), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		g, there := h.held[id]
		d := time.Until(g.Until)
		return there && d <= want && d > want-time.Minute
	})
}

// A host is suspended for an hour while what the gate has written is unread: a grant's time
// has gone on, that of what was there before too, though the kernel's clock stood still.
func TestSuspended(t *testing.T) {
	var asleep atomic.Int64
	lines := make(chan string)
	began := time.Now()
	h := newHost()
	g := gate(t, func(w http.ResponseWriter, r *http.Request) {
		say := func(s string) {
			_, _ = io.WriteString(w, s+"\n")
			_ = http.NewResponseController(w).Flush()
		}
		say(snap(grantJSON(idA, "hanako", "192.0.2.1/32", 3*3_600_000), grantJSON(idB, "taro", "192.0.2.2/32", 1_800_000)))
		say(beat(began))
		beats := time.NewTicker(20 * time.Millisecond)
		defer beats.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case l := <-lines:
				asleep.Store(int64(time.Hour))
				say(l)
			case <-beats.C: // the gate's clock goes on meanwhile
				say(beat(time.Now().Add(time.Duration(asleep.Load()))))
			}
		}
	})
	a := follow(t, g, h, func(o *Options) {
		o.slept = func() time.Duration { return time.Duration(asleep.Load()) }
		o.beat = time.Minute
	})
	h.left(t, idA, 3*time.Hour)
	h.left(t, idB, 30*time.Minute)
	asked := time.Now().Add(time.Second) // after the beats that were said
	lines <- strings.Join([]string{
		beat(asked), let(grantJSON(idC, "goro", "192.0.2.3/32", 2*3_600_000)), let(grantJSON("DDDDDDDDDDDDDDDDD", "jiro", "192.0.2.4/32", 1_800_000)),
	}, "\n")
	h.left(t, idC, time.Hour)
	h.left(t, idA, 2*time.Hour)
	h.is(t, idA, idC)
	g.tells(t, api.ReportedGrant{ID: idA, InForce: true}, api.ReportedGrant{ID: idB}, api.ReportedGrant{ID: idC, InForce: true},
		api.ReportedGrant{ID: "DDDDDDDDDDDDDDDDD", Error: "its time was over when it came"})
	if s := a.Status(); s.Reconnects != 0 {
		t.Errorf("%d streams more", s.Reconnects)
	}
}

// What a machine that stood still cannot tell by its own clocks the next beat does. What
// cannot be taken away at once is tried until it is.
func TestStoodStill(t *testing.T) {
	lines := make(chan string)
	h := newHost()
	h.stuck[idB] = errors.New("the kernel does not answer")
	g := gate(t, func(w http.ResponseWriter, r *http.Request) {
		for l := range lines {
			_, _ = io.WriteString(w, l+"\n")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	})
	follow(t, g, h, func(o *Options) { o.beat = time.Minute })
	began := time.Now()
	lines <- snap(grantJSON(idA, "hanako", "192.0.2.1/32", 2*3_600_000), grantJSON(idB, "taro", "192.0.2.2/32", 600_000))
	lines <- beat(began)
	h.is(t, idA, idB)
	lines <- beat(began.Add(time.Hour))
	h.left(t, idA, time.Hour)
	h.mu.Lock()
	if h.stuck[idB] == nil || h.held[idB].ID == "" {
		t.Error("it is gone before it could be taken away")
	}
	delete(h.stuck, idB)
	h.mu.Unlock()
	h.is(t, idA)
	close(lines)
}
