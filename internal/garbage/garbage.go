// Package garbage holds a long-lived process' garbage to what lives in it. Everything may
// import it; it imports nothing of ours.
package garbage

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// The garbage collector's percent (see debug.SetGCPercent) by how much lives.
// While that is little, Go's own 100 costs no memory worth a word, and less
// would collect at every other line. A million hostile sources are 85 MB: 100
// would double that. A memory limit would do neither: near it, a guard with
// more to remember would only collect.
const (
	percentSmall, percentLarge = 100, 20
	liveLarge, liveSmall       = 16 << 20, 12 << 20 // bytes: large from, small again below
)

// Collector holds the garbage to what lives. The zero value is ready to use.
type Collector struct {
	live  [1]metrics.Sample
	large bool
	times int // that Tune was called
}

// started is the call of Tune at which the start is over.
const started = 10

// Tune looks at what lived at the last collection; the environment's GOGC is
// stronger. It takes a few microseconds, and is to be called every second or so.
func (c *Collector) Tune() {
	if c.times < started {
		if c.times++; c.times == started {
			forgetStart()
		}
	}
	c.live[0].Name = "/gc/heap/live:bytes"
	metrics.Read(c.live[:])
	if c.live[0].Value.Kind() != metrics.KindUint64 || os.Getenv("GOGC") != "" {
		return
	}
	switch live := c.live[0].Value.Uint64(); {
	case !c.large && live > liveLarge:
		c.large = true
		debug.SetGCPercent(percentLarge)
	case c.large && live < liveSmall:
		c.large = false
		debug.SetGCPercent(percentSmall)
	}
}
