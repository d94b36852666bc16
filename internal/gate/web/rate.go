package web

import (
	"net/netip"
	"sync"
	"time"
)

// bySource is a rate by where requests come from: of one customer's addresses, and eight
// times that of the /48 around them, which one customer may have all of in IPv6.
type bySource struct{ near, wide *rate[netip.Prefix] }

func newBySource(every time.Duration, burst int) bySource {
	return bySource{newRate[netip.Prefix](every, burst, 1<<16), newRate[netip.Prefix](every/wider, wider*burst, 1<<14)}
}

// wider is how much more a /48 may have than one of its 65,536 /64.
const wider = 8

// wait is how long a has to wait; 0: it may now.
func (s bySource) wait(now time.Time, a netip.Addr) time.Duration {
	wait := s.near.wait(now, source(a))
	if a.Unmap().Is4() {
		return wait
	}
	return max(wait, s.wide.wait(now, site48(a)))
}

// take counts n, if one more may be, and else is how long to wait. More than the rest of
// the burst is owed.
func (s bySource) take(now time.Time, a netip.Addr, n int) time.Duration {
	if a.Unmap().Is4() {
		return s.near.takeN(now, source(a), n)
	}
	if wait := s.wide.wait(now, site48(a)); wait > 0 {
		return wait
	}
	if wait := s.near.takeN(now, source(a), n); wait > 0 {
		return wait
	}
	return s.wide.takeN(now, site48(a), n)
}

// rate lets each key do something a number of times at once, and then once every so often
// (GCRA: one time a key is all that is kept). It remembers at most max keys. Where there
// are more, one that has nothing left to wait for is forgotten, else any: a crowd must not
// be able to lock out who comes later.
type rate[K comparable] struct {
	every time.Duration
	burst int
	max   int

	mu   sync.Mutex
	free map[K]time.Time // when all of the burst is there again
}

func newRate[K comparable](every time.Duration, burst, max int) *rate[K] {
	return &rate[K]{every: every, burst: burst, max: max, free: map[K]time.Time{}}
}

// wait is how long k has to wait before it may do it again; 0: it may now.
func (r *rate[K]) wait(now time.Time, k K) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left(now, k)
}

func (r *rate[K]) left(now time.Time, k K) time.Duration {
	at, known := r.free[k]
	if !known {
		return 0
	}
	return max(0, at.Add(r.every).Sub(now)-time.Duration(r.burst)*r.every)
}

// take counts one, if it may be, and is otherwise like wait.
func (r *rate[K]) take(now time.Time, k K) time.Duration { return r.takeN(now, k, 1) }

// takeN counts n where one may be: what is over the burst is waited for afterwards.
func (r *rate[K]) takeN(now time.Time, k K, n int) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if left := r.left(now, k); left > 0 {
		return left
	}
	at, known := r.free[k]
	if at.Before(now) {
		at = now
	}
	if !known && len(r.free) >= r.max {
		r.forget(now)
	}
	r.free[k] = at.Add(time.Duration(n) * r.every)
	return 0
}

// forget makes room for one.
func (r *rate[K]) forget(now time.Time) {
	looked := 0
	var any K
	for k, at := range r.free { // in no order
		if !at.After(now) {
			delete(r.free, k)
			return
		}
		any = k
		if looked++; looked == 64 {
			break
		}
	}
	delete(r.free, any)
}
