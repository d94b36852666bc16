package daemon

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"sekisho/internal/country"
	"sekisho/internal/firewall"
	"sekisho/internal/report"
	"sekisho/internal/store"
)

// keepPlaces is how long the index of countries is kept while nobody attacks.
const keepPlaces = time.Hour

// located is the index by which counts get their country: of a day with many sources
// only the sums by country and kind stay. It is made when there is something to look
// up, and by nobody who holds mu; what is counted before has no country, which a report
// looks up then. Guarded by the daemon's mu.
type located struct {
	data   *country.Data // what places was made of
	places *report.Places
	asked  time.Time
}

// country is the code of a's country, "" where that is not known.
func (l *located) country(a netip.Addr) string {
	if a.IsValid() {
		l.asked = time.Now()
	}
	return l.places.Country(a)
}

// locate makes the index, follows new data, and lets go of what is not used.
func (d *Daemon) locate() {
	d.mu.Lock()
	used := time.Since(d.located.asked) < keepPlaces
	if !used {
		d.located = located{asked: d.located.asked}
	}
	d.mu.Unlock()
	if !used {
		return
	}
	if _, err := d.index(); err != nil {
		d.log.Error("the country data cannot be read; attacks are counted without country", "error", err)
	}
}

// index is located's, made where there is none of the data as it is. It is made once,
// however many ask; it is an error once.
func (d *Daemon) index() (*report.Places, error) {
	d.locating.Lock()
	defer d.locating.Unlock()
	d.mu.Lock()
	data, l := d.countries, d.located
	d.mu.Unlock()
	if data == nil || data == l.data {
		return l.places, nil
	}
	places, err := report.NewPlaces(data)
	debug.FreeOSMemory() // every country was decoded for it
	d.mu.Lock()
	defer d.mu.Unlock()
	d.located.data, d.located.places = data, places // nil where it is damaged: not again for the same data
	return places, err
}

// ruleReader remembers what the rules had counted when they were read last.
type ruleReader struct {
	mu   sync.Mutex
	read bool // they were read, or there were none
	last map[store.RuleCount]store.RuleCount
}

// countRules has the store add what the rules have counted to the day. A rule that
// is new to us since the first reading was written since.
func (d *Daemon) countRules(ctx context.Context) {
	d.mu.Lock()
	fw, kept := d.fw, d.kept
	d.mu.Unlock()
	r := &d.ruleCounts
	r.mu.Lock()
	defer r.mu.Unlock()
	if kept == keepNothing {
		r.read, r.last = true, nil // what will be there is not there yet
		return
	}
	counters, err := fw.Counters(ctx)
	if err != nil && !errors.Is(err, firewall.ErrAbsent) {
		return // the next time tells it all
	}
	day := time.Now().Format(time.DateOnly)
	// Rules of the same words, as of both families, are one.
	sums := map[store.RuleCount]store.RuleCount{}
	for _, c := range counters {
		k := store.RuleCount{Chain: c.Chain, Rule: c.Rule, Drops: c.Drops}
		sum := sums[k]
		sum.Packets += c.Packets
		sum.Bytes += c.Bytes
		sums[k] = sum
	}
	var changed []store.RuleCount
	for k, sum := range sums {
		if last, ok := r.last[k]; ok && last == sum {
			continue
		}
		k.Day, k.Packets, k.Bytes, k.Fresh = day, sum.Packets, sum.Bytes, r.read
		changed = append(changed, k)
	}
	r.read, r.last = true, sums
	if len(changed) > 0 {
		d.rec.Add(store.Effects{Rules: changed})
	}
}

// Report is what happened in the last days, this moment included. Reports are made one
// at a time.
func (d *Daemon) Report(ctx context.Context, days int) (report.Report, error) {
	return d.reportUntil(ctx, days, time.Time{})
}

// reportUntil is Report as if end were this moment; zero: it is this one.
func (d *Daemon) reportUntil(ctx context.Context, days int, end time.Time) (report.Report, error) {
	select {
	case d.reporting <- struct{}{}:
		defer func() { <-d.reporting }()
	case <-ctx.Done():
		return report.Report{}, ctx.Err()
	}
	d.countRules(ctx)
	if err := d.flush(ctx); err != nil {
		d.log.Warn("a report lacks what is not written down yet", "error", err)
	}
	places, err := d.index()
	if err != nil {
		d.log.Error("the country data cannot be read; a report lacks countries", "error", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	if end.IsZero() {
		end = time.Now()
	}
	return report.Make(ctx, d.store, report.Options{Days: days, Now: end, Host: host, Places: places})
}
