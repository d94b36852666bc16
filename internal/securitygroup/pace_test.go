package securitygroup

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// bucket refuses what it has no token for, as EC2 does.
type bucket struct {
	mu                sync.Mutex
	tokens, burst     float64
	perSecond         float64
	at                time.Time
	refused, accepted int
}

func (b *bucket) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tokens = min(b.burst, b.tokens+now.Sub(b.at).Seconds()*b.perSecond)
	b.at = now
	if b.tokens < 1 {
		b.refused++
		return false
	}
	b.tokens--
	b.accepted++
	return true
}

func TestPace(t *testing.T) {
	for _, tt := range []struct {
		name             string
		burst, perSecond float64
		callers, calls   int
		refused          int           // at most, for each ten seconds
		took             time.Duration // at most
	}{
		{"no bound is met", 100, 20, 8, 100, 0, time.Second},
		{"a bucket of EC2's", 50, 20, 8, 400, 10, 30 * time.Second},
		{"a small one", 10, 5, 8, 200, 10, 80 * time.Second},
		{"others take nearly all", 1, 1, 8, 60, 10, 150 * time.Second},
		{"one after the other", 50, 20, 1, 400, 5, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				p, b := newPace(8), &bucket{tokens: tt.burst, burst: tt.burst, perSecond: tt.perSecond, at: began}
				var left atomic.Int64
				left.Store(int64(tt.calls))
				var wg sync.WaitGroup
				for range tt.callers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							for ok := false; !ok; {
								done, err := p.wait(t.Context())
								if err != nil {
									t.Error(err)
									return
								}
								<-time.After(20 * time.Millisecond) // the call
								ok = b.take()
								done(!ok)
							}
						}
					})
				}
				wg.Wait()
				took := time.Since(began)
				t.Logf("%d calls took %v, %d were refused", tt.calls, took, b.refused)
				if limit := tt.refused * (1 + int(took/(10*time.Second))); b.refused > limit || took > tt.took {
					t.Errorf("%d were refused in %v, want at most %d in %v", b.refused, took, limit, tt.took)
				}
			})
		})
	}
}

// After a silence a few calls go at once, and after a minute as many as there are.
func TestPaceForgives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(8)
		calls := func(n int, throttled bool) time.Duration {
			began := time.Now()
			for range n {
				done, err := p.wait(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				<-time.After(time.Millisecond)
				done(throttled)
			}
			return time.Since(began)
		}
		calls(20, false)
		calls(1, true)
		<-time.After(5 * time.Second)
		if took := calls(5, false); took > 100*time.Millisecond {
			t.Errorf("5 calls after a silence took %v", took)
		}
		if took := calls(100, false); took < time.Second {
			t.Errorf("100 calls took %v: nothing bounds them", took)
		}
		<-time.After(time.Minute)
		if took := calls(100, false); took != 100*time.Millisecond {
			t.Errorf("100 calls a minute later took %v", took)
		}
	})
}
