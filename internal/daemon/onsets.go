package daemon

import (
	"net/netip"
	"time"

	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/store"
)

const (
	maxOnsets   = 8192           // sources in each of two generations
	onsetSilent = 24 * time.Hour // a source that was silent so long begins anew
)

// onsets remember when sources that are not banned yet began to fail. The older half
// gives way at the bound: of whom it held nothing is told. Guarded by the daemon's mu.
type onsets struct{ young, old map[netip.Addr]onset }

type onset struct {
	first, last int64 // Unix nanoseconds
	replayed    bool  // first is of lines that were read again: a ban may stand between
}

// add notes an attempt of source's.
func (o *onsets) add(out *guard.Outcome, source netip.Prefix, at time.Time, replayed bool) {
	if out.Attempts == 0 || !source.IsValid() {
		return
	}
	a, now := source.Addr(), at.UnixNano()
	was, ok := o.young[a]
	if !ok {
		if was, ok = o.old[a]; ok {
			delete(o.old, a)
		}
	}
	if !ok || now-was.last > int64(onsetSilent) {
		was = onset{first: now, replayed: replayed}
	}
	was.last = now
	if o.young == nil || len(o.young) >= maxOnsets {
		o.young, o.old = map[netip.Addr]onset{}, o.young
	}
	o.young[a] = was
}

// take gives when what brought the bans began, where that is known, and forgets it. own is
// whether a ban is one source's own.
func (o *onsets) take(into []store.Onset, bans []lease.Lease, findTime time.Duration, own func(lease.Lease) bool) []store.Onset {
	for _, l := range bans {
		if l.Cause != guard.CauseAttempts && l.Cause != guard.CauseDistributed || !own(l) {
			continue
		}
		a := l.Prefix.Addr()
		was, ok := o.young[a]
		if !ok {
			was, ok = o.old[a]
		}
		delete(o.young, a)
		delete(o.old, a)
		first := time.Unix(0, was.first).UTC()
		if !ok || was.replayed && l.From.Sub(first) > findTime {
			continue
		}
		into = append(into, store.Onset{Prefix: l.Prefix, Begun: l.From, First: first})
	}
	return into
}
