package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sekisho/internal/conntrack"
)

const (
	healthEvery = 10 * time.Second
	// healthSpan is how long one packet dropped is told of: growth is judged against
	// the reading of so long ago.
	healthSpan     = 5 * time.Minute
	healthReadings = int(healthSpan / healthEvery)
)

// health is what is known of the connection tracking table.
type health struct {
	readings []conntrack.Health // oldest first, at most healthReadings
	found    []conntrack.Finding
	err      error
}

// add takes a reading over.
func (h *health) add(now conntrack.Health, err error) {
	h.err = err
	if err != nil {
		return
	}
	if len(h.readings) == healthReadings {
		h.readings = append(h.readings[:0], h.readings[1:]...)
	}
	h.readings = append(h.readings, now)
	h.found = conntrack.Judge(h.readings[0], now)
}

// last is the last reading; the zero value before there is one.
func (h *health) last() conntrack.Health {
	if len(h.readings) == 0 {
		return conntrack.Health{}
	}
	return h.readings[len(h.readings)-1]
}

// watchHealth looks at the connection tracking table every few seconds, and says what
// is wrong with it when that begins.
func (d *Daemon) watchHealth(ctx context.Context) error {
	every := time.NewTicker(healthEvery)
	defer every.Stop()
	told := map[string]conntrack.Level{}
	looks := 0
	for {
		reading, err := conntrack.ReadHealth(ctx, conntrack.Options{})
		d.mu.Lock()
		unread := d.health.err == nil && err != nil
		d.health.add(reading, err)
		found := d.health.found
		d.mu.Unlock()
		if unread && ctx.Err() == nil {
			d.log.Warn("the connection tracking table's health cannot be read", "error", err)
		}
		levels := map[string]conntrack.Level{}
		for _, f := range found {
			levels[f.Kind] = max(levels[f.Kind], f.Level)
			if f.Level > told[f.Kind] {
				d.log.Warn("connection tracking", "level", f.Level.String(), "what", f.Text, "advice", f.Advice)
			}
		}
		told = levels
		if looks++; looks%fillEvery == 0 {
			d.lookAtFills(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}

// fullAt is how full a set that packets fill may become before one is told, in
// percent.
const fullAt = 80

// fillEvery is how many looks at the table's health there are to one at those sets:
// a full one takes tens of milliseconds to count.
const fillEvery = 6

// lookAtFills tells of sets that many sources fill, or one that forges many.
func (d *Daemon) lookAtFills(ctx context.Context) {
	d.mu.Lock()
	fw, kept := d.fw, d.kept
	d.mu.Unlock()
	if kept != keepState {
		d.mu.Lock()
		d.fills = nil
		d.mu.Unlock()
		d.solved("fill")
		return
	}
	fills, err := fw.Fills(ctx)
	if err != nil {
		return // the table is gone, or not there yet: others tell
	}
	d.mu.Lock()
	d.fills = fills
	d.mu.Unlock()
	for _, f := range fills {
		if f.Used*100 < f.Size*fullAt {
			continue
		}
		then := "further sources are not limited in rate"
		if strings.HasPrefix(f.Set, "seen") {
			then = "no new login confirms a trial by itself"
		}
		what := fmt.Sprintf("set %s is nearly full (%d of %d); once it is, %s", f.Set, f.Used, f.Size, then)
		if d.rarely("fill") {
			d.log.Warn("a set of the rules is nearly full", "set", f.Set, "used", f.Used, "size", f.Size)
		}
		d.problem("fill", what, "a flood from forged addresses is likely: exposure: on_request, or countries, let fewer in")
		return
	}
	d.solved("fill")
}

// conntrackStatus adds the table's figures, and what is wrong with it. Called with
// d.mu held.
func (d *Daemon) conntrackStatus(s *Status) {
	last := d.health.last()
	if last.Time.IsZero() {
		return
	}
	c := &ConntrackStatus{
		InUse: last.InUse, Count: last.Count, Max: last.Max, Drops: last.Drops, EarlyDrops: last.EarlyDrops, InsertsFailed: last.InsertsFailed,
		Allowances: []AllowanceStatus{},
	}
	for _, a := range last.Allowances {
		status := AllowanceStatus{
			Interface: a.Interface, ConntrackExceeded: a.ConntrackExceeded,
			BandwidthExceeded: a.BandwidthExceeded, PacketRateExceeded: a.PacketRateExceeded, LinkLocalExceeded: a.LinkLocalExceeded,
		}
		if a.AvailableKnown {
			status.ConntrackAvailable = &a.ConntrackAvailable
		}
		c.Allowances = append(c.Allowances, status)
	}
	s.Conntrack = c
	for _, f := range d.health.found {
		p := problemOf("conntrack", f.Text, f.Advice)
		if f.Level == conntrack.Critical {
			p.Severity = Critical
		}
		s.Problems = append(s.Problems, p)
	}
}
