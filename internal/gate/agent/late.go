package agent

import (
	"time"

	"golang.org/x/sys/unix"
)

// A grant's length is what was left of it when its line was written, and a line may be read
// long after: the network stood still, or this machine did. How long after is told by the
// gate's clock, which it says on each beat, and before what lets somebody in. Two of its
// times are compared with each other, never with a time of this machine: what the line that
// came fastest took is what the others are measured by.

const (
	// unlike is how much two machines' clocks may run at different speeds, one part in so many.
	unlike = 1000
	// tooLate is by how much a grant's end has to be wrong to be told to the host anew.
	tooLate = time.Second
)

// lateness is how late the lines of one stream are read. The zero value is that of one that
// has not begun.
type lateness struct {
	zero, last time.Time     // the gate's clock: on the first line that says it, and on the last
	at         time.Duration // this machine's, which runs while it is suspended, when that was read
	least      time.Duration // by how much this machine's is ahead of the gate's, at least
	told       time.Duration // least, as the grants that there are were reckoned by
}

// heard takes the gate's clock, as it was read at. sooner is by how much the grants that were
// read before end sooner than they were reckoned to: their lines had come late, all of them.
func (l *lateness) heard(gate time.Time, at time.Duration) (sooner time.Duration) {
	if l.zero.IsZero() || gate.Before(l.last) { // somebody has set it back: it is another
		*l = lateness{zero: gate, last: gate, at: at, least: at, told: at}
		return 0
	}
	l.least = min(l.least+(at-l.at)/unlike, at-gate.Sub(l.zero))
	l.last, l.at = gate, at
	if sooner = l.told - l.least; sooner < tooLate {
		return 0
	}
	l.told = l.least
	return sooner
}

// of is how late a line is that was written when the gate's clock was said last, and is read at.
func (l *lateness) of(at time.Duration) time.Duration {
	if l.zero.IsZero() {
		return 0
	}
	return max(0, at-l.last.Sub(l.zero)-l.least)
}

// slept is for how long this machine has been suspended since it was started. Package time's
// clock stands still meanwhile, and so do the kernel's timeouts.
func slept() (d time.Duration) {
	for range 10 { // what is read while others run is not exact
		var all, awake, after unix.Timespec
		if unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &all) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &after) != nil {
			return 0 // both are there since Linux 2.6.39
		}
		if d = time.Duration(all.Nano() - awake.Nano()); after.Nano()-awake.Nano() < int64(time.Millisecond) {
			break
		}
	}
	return d
}
