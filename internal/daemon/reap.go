package daemon

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/securitygroup"
)

const (
	// reapBackoff is the time to the next look at a place where something went wrong. It
	// doubles up to the configuration's.
	reapBackoff = 5 * time.Second
	// stuckTold is how many rules of a place status names.
	stuckTold = 3
)

// reapTimes are of tests, which have less of it. 0: as outside of them.
type reapTimes struct{ every, backoff, settle, unseen time.Duration }

// reaping is what a configuration asks of the reaper. The zero value: nothing.
type reaping struct {
	every    time.Duration
	endpoint string
	accounts map[string]config.Account
	places   []securitygroup.Place
}

func reapingOf(cfg *config.Config) reaping {
	places := (&access.Access{Config: cfg}).Places()
	if cfg.AWS.Reap == 0 || len(places) == 0 {
		return reaping{}
	}
	return reaping{cfg.AWS.Reap, cfg.AWS.Endpoint, cfg.AWS.Accounts, places}
}

// reaped is what is known of the security groups of one place.
type reaped struct {
	whole   time.Time               // when all of it was looked at last; before it was, when we began to
	failing time.Time               // since when it cannot be looked at; zero: it can
	told    bool                    // of that
	left    int                     // rules past their end that are still there
	stuck   map[string]access.Ended // those of them that have been for long, by id
	live    int
}

// reap takes away the rules of ours in security groups that are past their end, as often
// as the configuration says, and follows it. Each place is looked at by itself: none waits
// for another that does not answer.
func (d *Daemon) reap(ctx context.Context) error {
	var now reaping
	stop := func() {}
	defer func() { stop() }()
	for {
		d.mu.Lock()
		cfg := d.cfg
		d.mu.Unlock()
		if next := reapingOf(cfg); !reflect.DeepEqual(now, next) {
			stop()
			now, stop = next, d.beginReaping(ctx, cfg, next)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.reapKick:
		}
	}
}

// reapMayDiffer has reap look at what is asked for.
func (d *Daemon) reapMayDiffer() {
	select {
	case d.reapKick <- struct{}{}:
	default:
	}
}

// beginReaping looks at r's places from now on. stop ends that, and waits until it has.
func (d *Daemon) beginReaping(ctx context.Context, cfg *config.Config, r reaping) (stop func()) {
	d.mu.Lock()
	for place := range d.reaped {
		if !slices.Contains(r.places, place) {
			delete(d.reaped, place)
			delete(d.trouble, "stuck "+place.String())
			delete(d.trouble, "unseen "+place.String())
		}
	}
	for _, place := range r.places {
		if _, known := d.reaped[place]; !known {
			d.reaped[place] = reaped{whole: time.Now()}
		}
	}
	d.mu.Unlock()
	if len(r.places) == 0 {
		return func() {}
	}
	a := &access.Access{
		Config: cfg, Settle: d.opts.reap.settle,
		Cloud: securitygroup.Open(securitygroup.Options{Accounts: r.accounts, Endpoint: r.endpoint, Logger: d.log}),
	}
	d.log.Info("rules past their end are taken out of security groups", "every", r.every, "places", len(r.places))
	ctx, cancel := context.WithCancel(ctx)
	var places sync.WaitGroup
	places.Go(func() { d.watchGroups(ctx, a.Cloud) })
	for _, place := range r.places {
		places.Go(func() { d.reapPlace(ctx, a, place, cmp.Or(d.opts.reap.every, r.every)) })
	}
	return func() {
		cancel()
		places.Wait()
	}
}

// reapPlace looks at one place until ctx ends.
func (d *Daemon) reapPlace(ctx context.Context, a *access.Access, place securitygroup.Place, every time.Duration) {
	first := min(cmp.Or(d.opts.reap.backoff, reapBackoff), every)
	backoff := first
	for {
		began := time.Now()
		found := a.Reap(ctx, []securitygroup.Place{place})
		d.tookAway(found.Revoked)
		if ctx.Err() != nil {
			return
		}
		d.sawPlace(place, began, found)
		rest := every
		if found.Clean() {
			backoff = first
		} else {
			rest, backoff = backoff, min(2*backoff, every)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest - rand.N(rest/10+1)): // many hosts that began at once do not stay in step
		}
	}
}

// groupsEvery is how often targets' groups are looked at for what is gravely wrong there.
const groupsEvery = time.Hour

// watchGroups tells people of what is gravely wrong in the groups of the targets that the
// configuration names at the time, until ctx ends.
func (d *Daemon) watchGroups(ctx context.Context, cloud *securitygroup.Cloud) {
	told := map[string]bool{}
	for {
		d.mu.Lock()
		a := &access.Access{Config: d.cfg, Cloud: cloud}
		d.mu.Unlock()
		found, failed := a.Watch(ctx, a.Doors())
		now := map[string]bool{}
		for _, f := range found {
			key := f.ID + " " + f.Group + " " + f.Rule
			if now[key] = true; !told[key] {
				d.log.Warn("something is wrong in a security group", "finding", f.ID, "what", f.What, "remedy", f.Remedy)
				d.tellGroup(f, key)
			}
		}
		if len(failed) == 0 {
			told = now
		} else { // what could not be looked at is told by who reaps
			maps.Copy(told, now)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(cmp.Or(d.opts.reap.every, groupsEvery)):
		}
	}
}

func (d *Daemon) tookAway(rules []access.Ended) {
	for _, e := range rules {
		d.log.Info("a rule that nobody needs any more is taken away", "place", e.Place.String(), "group", e.Group, "rule", e.Rule, "lets_in", e.Lets, "ended", e.Since, "why", e.Why)
	}
	d.metrics.reapRevoked.Add(len(rules))
}

// sawPlace takes over what a look at a place found, and tells what is wrong there, and
// what no longer is.
func (d *Daemon) sawPlace(place securitygroup.Place, began time.Time, found access.Reaped) {
	if !found.Clean() {
		d.metrics.reapFailures.Inc()
	}
	d.mu.Lock()
	was := d.reaped[place] // nobody else changes it
	d.mu.Unlock()
	is := was
	if len(found.Failed) > 0 {
		d.unseen(place, &is, began, found.Failed[0])
	} else {
		d.seen(place, was, &is, found)
	}
	d.mu.Lock()
	d.reaped[place] = is
	d.mu.Unlock()
}

// unseen: a place could not be looked at. That is told when it has lasted.
func (d *Daemon) unseen(place securitygroup.Place, is *reaped, began time.Time, f access.Failure) {
	if is.failing.IsZero() {
		is.failing = began
	}
	if time.Since(is.failing) < cmp.Or(d.opts.reap.unseen, access.StuckAfter) {
		return
	}
	if !is.told {
		d.log.Error("rules past their end cannot be looked for", "place", place.String(), "since", is.failing, "error", f.Error, "hint", f.Hint)
		is.told = true
	}
	d.problem("unseen "+place.String(),
		fmt.Sprintf("security groups cannot be looked at since %s, and may let in somebody whose time is over: %s", is.failing.Format(time.DateTime), f.Error),
		cmp.Or(f.Hint, "mend what the error says; it is tried again and again"))
}

// seen: a place was looked at.
func (d *Daemon) seen(place securitygroup.Place, was reaped, is *reaped, found access.Reaped) {
	if was.told {
		d.log.Info("rules past their end can be looked for again", "place", place.String(), "since", was.failing)
	}
	d.solved("unseen " + place.String())
	*is = reaped{whole: time.Now(), left: len(found.Left), live: found.Live, stuck: map[string]access.Ended{}}
	for _, e := range found.Stuck {
		is.stuck[e.Rule] = e
		if _, known := was.stuck[e.Rule]; !known {
			d.log.Error("a rule past its end cannot be taken away", "place", place.String(), "group", e.Group, "rule", e.Rule, "lets_in", e.Lets, "ended", e.Since, "error", e.Error, "hint", access.Hint(e.Err()))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(was.stuck)) {
		if _, still := is.stuck[id]; !still {
			e := was.stuck[id]
			d.log.Info("a rule that could not be taken away is gone, or needed again", "place", place.String(), "group", e.Group, "rule", e.Rule, "lets_in", e.Lets)
		}
	}
	if len(found.Stuck) == 0 {
		d.solved("stuck " + place.String())
		return
	}
	d.problem("stuck "+place.String(), stuckText(place, found.Stuck),
		cmp.Or(access.Hint(found.Stuck[0].Err()), "let the policy allow what `sekisho aws policy --for reaper` says, or take the rule away by hand; it is tried again and again"))
}

// stuckText says which rules of a place are still there, and why.
func stuckText(place securitygroup.Place, stuck []access.Ended) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: past their end, and still there: ", place)
	for i, e := range stuck[:min(len(stuck), stuckTold)] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s in %s, which lets in %s", e.Rule, e.Group, e.Lets)
	}
	if more := len(stuck) - stuckTold; more > 0 {
		fmt.Fprintf(&b, ", and %d more", more)
	}
	why, _, _ := strings.Cut(stuck[0].Error, "\n")
	return b.String() + ": " + why
}

// writeReaper writes the figures of the security groups, where they are looked at.
func (d *Daemon) writeReaper(w io.Writer) {
	d.mu.Lock()
	places := slices.Collect(maps.Values(d.reaped))
	d.mu.Unlock()
	if len(places) == 0 {
		return
	}
	var left, stuck, live int
	oldest := places[0].whole
	for _, p := range places {
		left, stuck, live = left+p.left, stuck+len(p.stuck), live+p.live
		if p.whole.Before(oldest) {
			oldest = p.whole
		}
	}
	metrics.WriteGaugeUint64(w, "sekisho_reap_live_rules", uint64(live))
	metrics.WriteGaugeUint64(w, "sekisho_reap_overdue_rules", uint64(left))
	metrics.WriteGaugeUint64(w, "sekisho_reap_stuck_rules", uint64(stuck))
	metrics.WriteGaugeFloat64(w, "sekisho_reap_last_look_seconds", max(0, time.Since(oldest).Seconds()))
}
