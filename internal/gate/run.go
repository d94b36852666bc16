package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/notify"
	"sekisho/internal/securitygroup"
)

const (
	beatEvery   = 5 * time.Second  // a gate says that it lives
	aliveFor    = 20 * time.Second // and is taken for alive
	clockSlack  = 5 * time.Second  // that gates' clocks may differ before one says so
	hostsEvery  = 15 * time.Second // what is known of who listens is written, and read
	hostAlive   = 40 * time.Second // and holds
	reapEvery   = time.Minute
	pruneEvery  = 24 * time.Hour
	stopTime    = 10 * time.Second // for what was begun when the gate is to stop
	attendLeast = 20 * time.Millisecond
	attendMost  = 15 * time.Second
	notOurs     = 2 * time.Second // that others wait for who has a grant
	reloadLeast = 20 * time.Millisecond
	reloadMost  = 5 * time.Second
)

// Run sees to it that what is asked for comes into force and ends on time, until ctx ends.
// What was begun then is finished first.
func (g *Gate) Run(ctx context.Context) error {
	defer g.stop()
	if _, err := g.directory(ctx); err != nil {
		g.log.Warn("the gate begins without its state; it is tried again", "error", err)
	}
	if g.ledger == nil {
		g.every(ctx, reapEvery, func(ctx context.Context) error {
			g.reap(ctx)
			return nil
		})
		return nil
	}
	ticks, err := g.ledger.Watch(ctx)
	if err != nil {
		return fmt.Errorf("watch the gate's state: %w", err)
	}
	loops := []func(context.Context){
		func(ctx context.Context) { g.follow(ctx, ticks) },
		g.attendAll,
		func(ctx context.Context) { g.every(ctx, beatEvery, g.heartbeat) },
		func(ctx context.Context) {
			g.every(ctx, hostsEvery, func(ctx context.Context) error {
				return errors.Join(g.endStreams(ctx), g.noteHosts(ctx))
			})
		},
		func(ctx context.Context) { g.every(ctx, reapEvery, g.lookAtGroups) },
		func(ctx context.Context) { g.every(ctx, pruneEvery, g.prune) },
		func(ctx context.Context) { g.every(ctx, strangersEvery, g.tellStrangers) },
	}
	for _, loop := range loops {
		g.spawn(func() { loop(ctx) })
	}
	g.recheckSoon() // what the configuration took away while no gate ran
	if g.o.Alone {
		if err := g.inherit(ctx); err != nil {
			g.log.Warn("what an earlier gate was at is taken over when its time has passed", "error", err)
		}
	}
	<-ctx.Done()
	return nil
}

// inherit takes over what an earlier gate was at, which is dead: no two have this ledger.
func (g *Gate) inherit(ctx context.Context) error {
	if err := g.load(ctx); err != nil {
		return err
	}
	return g.takeOver(ctx, map[string]bool{g.instance: true})
}

// stop waits for what was begun, for a while.
func (g *Gate) stop() {
	g.jobsMu.Lock()
	g.stopped = true
	g.jobsMu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.jobsDone.Wait()
	}()
	t := time.NewTimer(stopTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
	g.die()
	<-done
	if g.ledger == nil {
		return
	}
	// Who has the ledger too need not wait until it is clear that we are gone.
	ctx, cancel := context.WithTimeout(context.Background(), beatEvery)
	defer cancel()
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error { return tx.Heartbeat(g.instance, g.now()) })
	if err != nil {
		g.log.Warn("the other gates could not be told that this one ends", "error", err)
	}
}

// every does f now and then, until ctx ends; what fails is told, and tried again sooner.
func (g *Gate) every(ctx context.Context, d time.Duration, f func(context.Context) error) {
	for try := 1; ; try++ {
		next := d
		if err := f(ctx); err != nil && ctx.Err() == nil {
			g.log.Warn("something that the gate does now and then failed; it is tried again", "error", err)
			next = min(d, backoff(try))
		} else {
			try = 0
		}
		if pause(ctx, next) != nil {
			return
		}
	}
}

// load sees to it that the live grants were read once.
func (g *Gate) load(ctx context.Context) error {
	g.live.mu.Lock()
	loaded := g.live.loaded
	g.live.mu.Unlock()
	if loaded {
		return nil
	}
	if err := g.reload(ctx); err != nil {
		return g.unwritable("read the grants", err)
	}
	return nil
}

// reload reads what is live, and what is edited.
func (g *Gate) reload(ctx context.Context) error {
	g.reloadMu.Lock()
	defer g.reloadMu.Unlock()
	if err := g.reread(ctx); err != nil {
		return err
	}
	g.live.begin()
	var rows []ledger.Grant
	err := g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		rows, err = tx.Live()
		return err
	})
	g.live.end(rows, err)
	return err
}

// follow reads anew what others have changed, at most a tenth of the time.
func (g *Gate) follow(ctx context.Context, ticks <-chan struct{}) {
	rest, failed := time.Duration(0), 0
	for {
		began := time.Now()
		if err := g.reload(ctx); err != nil && ctx.Err() == nil {
			failed++
			g.log.Warn("the gate's state could not be read; it is tried again", "error", err)
			rest = backoff(failed)
		} else {
			failed = 0
			rest = min(max(10*time.Since(began), reloadLeast), reloadMost)
			g.ok(nil)
		}
		if pause(ctx, rest) != nil {
			return
		}
		if failed > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case _, open := <-ticks:
			if !open {
				return
			}
		case <-g.recheckKick:
			g.recheck(ctx)
		}
		select {
		case <-g.recheckKick:
			g.recheck(ctx)
		default:
		}
	}
}

func (g *Gate) recheckSoon() {
	select {
	case g.recheckKick <- struct{}{}:
	default:
	}
}

// due is when somebody has to look at r; zero: never.
func (g *Gate) due(r row) time.Time {
	mine := r.Owner == "" || r.Owner == g.instance
	late := func(t time.Time) time.Time {
		if !mine {
			return t.Add(notOurs)
		}
		return t
	}
	switch {
	case r.State == api.Waiting:
		return late(r.Asked.Add(waitAtMost))
	case r.State == api.Ending && r.at.Host != "":
		at := r.Until.Add(hostMargin)
		if stuck := g.stuckAt(r.ID); !g.stuckTold.has(r.ID) && stuck.Before(at) {
			return stuck
		}
		return at
	case r.State == api.Ending:
		return late(r.Claimed)
	case r.State == api.Asked && r.at.Host == "" && r.Claimed.Before(r.Until):
		return late(r.Claimed)
	case r.State == api.Asked || r.State == api.Open:
		return late(r.Until)
	}
	return time.Time{}
}

// attend has attendAll look anew.
func (g *Gate) attend() {
	select {
	case g.attendKick <- struct{}{}:
	default:
	}
}

// attendAll does what is due, when it is, until ctx ends.
func (g *Gate) attendAll(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-g.attendKick:
		}
		now := g.now()
		next := now.Add(attendMost)
		for _, id := range g.dueBy(now, &next) {
			g.work(id)
		}
		g.payEnds(ctx)
		t.Reset(max(next.Sub(now), attendLeast))
	}
}

// dueBy are the grants that are due, and when the next is.
func (g *Gate) dueBy(now time.Time, next *time.Time) []string {
	var ids []string
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	for id, r := range g.live.rows {
		at := g.due(r)
		if later, _ := g.notBefore.get(id); later.After(at) {
			at = later
		}
		switch {
		case at.IsZero():
		case at.After(now):
			if at.Before(*next) {
				*next = at
			}
		case g.working(id):
		default:
			ids = append(ids, id)
		}
	}
	g.nextDue.Store(next.UnixNano())
	return ids
}

// later has the grant id be looked at again after a while, whatever its row says.
func (g *Gate) later(id string) {
	g.notBefore.put(id, g.now().Add(5*backoffFirst))
}

// changed is told of each row that differs; the live rows are locked.
func (g *Gate) changed(old, is row) {
	for _, host := range []string{old.at.Host, is.at.Host} {
		if host != "" {
			g.streams.wakeHost(host)
		}
	}
	if old.State == api.Asked && is.State == api.Ending && is.Owner == g.instance {
		g.work(is.ID) // another gate ended it, and leaves it to us, who may only wait to try again what was asked
	}
	switch {
	case is.State == api.Ending && old.State != api.Ending:
		g.endingSince.put(is.ID, g.now())
	case is.State != api.Ending:
		g.endingSince.take(is.ID)
		g.stuckTold.take(is.ID)
	}
	if !is.live() {
		g.notBefore.take(is.ID)
		g.before.take(is.ID)
		g.missed.take(is.ID)
		return
	}
	g.attendFor(is)
}

// attendFor has attendAll look anew, where r is due before it would.
func (g *Gate) attendFor(r row) {
	if at := g.due(r); !at.IsZero() && at.UnixNano() < g.nextDue.Load() {
		g.attend()
	}
}

// heartbeat says that this gate lives, and takes over from those that do not.
func (g *Gate) heartbeat(ctx context.Context) error {
	now := g.now()
	var all []ledger.Instance
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) (err error) {
		if err := tx.Heartbeat(g.instance, now.Add(aliveFor)); err != nil {
			return err
		}
		all, err = tx.Instances()
		return err
	})
	g.ok(err)
	if err != nil {
		if !g.o.Alone && now.Sub(g.beaten) >= aliveFor { // another gate knows what has changed, and this one does not
			g.streams.endAll()
		}
		return fmt.Errorf("say that this gate lives: %w", err)
	}
	g.beaten = now
	if _, err := g.directory(ctx); err != nil { // what another configuration takes away ends, though nobody asks for anything
		return err
	}
	alive := map[string]bool{g.instance: true}
	ahead := false
	for _, i := range all {
		if now.Before(i.Until) {
			alive[i.Name] = true
		}
		ahead = ahead || i.Until.Sub(now) > aliveFor+clockSlack
	}
	if ahead && !g.clockTold {
		g.log.Warn("another gate's clock is ahead of this one's: each ends grants by its own", "by_more_than", clockSlack, "hint", "have both ask the same time servers")
	}
	g.clockTold = ahead
	return g.takeOver(ctx, alive)
}

// takeOver has this gate be at what a gate that is not alive was at.
func (g *Gate) takeOver(ctx context.Context, alive map[string]bool) error {
	now := g.now()
	for _, r := range g.live.all(func(r row) bool {
		return r.Owner != "" && !alive[r.Owner] && now.Before(r.Claimed) && r.at.Host == "" && (r.State == api.Asked || r.State == api.Ending)
	}) {
		_, err := g.change(ctx, r.ID, func(tx *ledger.Tx, is *row) ([]api.Entry, error) {
			if is.Owner != r.Owner || !is.live() {
				return nil, errNothing
			}
			is.Owner, is.Claimed = g.instance, g.now().Add(claimTime)
			return nil, nil
		})
		if err != nil {
			return fmt.Errorf("take over from a gate that is gone: %w", err)
		}
		g.log.Info("a grant is taken over from a gate that is gone", "grant", r.ID, "from", r.Owner)
		g.work(r.ID)
	}
	return nil
}

// lookAtGroups takes away rules past their end, and leases of grants that have ended; one
// gate does each time, the others now and then, and two at a time are no harm.
func (g *Gate) lookAtGroups(ctx context.Context) error {
	now, first := g.now(), false
	asking, cancel := context.WithTimeout(ctx, beatEvery)
	defer cancel()
	err := g.ledger.Read(asking, func(tx *ledger.Tx) error {
		all, err := tx.Instances()
		if err != nil {
			return err
		}
		first = true
		for _, i := range all { // the first by name, of those that live
			if i.Name < g.instance && now.Before(i.Until) {
				first = false
			}
		}
		return nil
	})
	if g.looked++; err == nil && !first && g.looked%5 != 0 { // now and then: the first may be cut off from AWS
		return nil
	}
	// Without the ledger every gate does: the tags say all that is needed.
	g.reap(ctx)
	if err != nil {
		return fmt.Errorf("see which gates live: %w", err)
	}
	return g.reconcile(ctx)
}

func (g *Gate) reap(ctx context.Context) {
	d, err := g.directory(ctx)
	if err != nil {
		if d = g.dir.Load(); d == nil { // what is declared is enough for that
			d = newDirectory(g.o.Config(), &edits{}, nil, g.now())
			d.groups = g.groupsOf(d.declared)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reapEvery)
	defer cancel()
	found := d.groups.Reap(ctx, d.places())
	for _, e := range found.Revoked {
		g.log.Info("a rule past its end was taken away", "place", e.Place.String(), "group", e.Group, "rule", e.Rule, "lets_in", e.Lets, "why", e.Why)
	}
	for _, e := range found.Stuck {
		g.log.Warn("a rule past its end cannot be taken away", "place", e.Place.String(), "group", e.Group, "rule", e.Rule, "lets_in", e.Lets, "error", e.Error)
		g.tell(notify.Event{
			Kind: notify.LeaseStuck, Level: notify.Warning, State: notify.Began, Key: "gate rule " + e.Rule,
			What:   fmt.Sprintf("%s in %s, which lets in %s, is past its end and still there: %s", e.Rule, e.Group, e.Lets, e.Error),
			Remedy: access.Hint(e.Err()),
		})
	}
	for _, f := range found.Failed {
		g.log.Warn("security groups could not be looked at", "place", f.Place.String(), "error", f.Error, "hint", f.Hint)
	}
}

// reconcile ends leases in the groups whose grants have ended: a gate that was dead while
// another ended them may have made them afterwards.
func (g *Gate) reconcile(ctx context.Context) error {
	d := g.dir.Load()
	if d == nil {
		return nil
	}
	var doors []access.Door
	for _, door := range d.access.Doors() {
		if door.Agent == "" {
			doors = append(doors, door)
		}
	}
	who, failed := d.groups.Who(ctx, doors) // what failed is told by reap
	g.missing(ctx, d, who, failed)
	for _, w := range who {
		for _, l := range w.Leases {
			if _, live := g.live.get(l.ID); live {
				continue
			}
			r, err := g.read(ctx, l.ID)
			if isBusy(err) {
				return err
			}
			if err != nil || r.live() || g.now().Sub(r.Ended) < claimTime {
				continue // somebody else's, without the gate; or it is too early to say
			}
			if err := g.release(ctx, r, access.Opened{}); err != nil {
				g.log.Warn("what has ended could not be closed; it is tried again", "grant", r.ID, "error", err)
				continue
			}
			g.log.Warn("what had ended was open still, and is closed", "grant", r.ID, "rule", w.Rule)
		}
	}
	return nil
}

// missing notes whose rules are gone though nobody ended them: somebody took them away by
// hand. They are not put back unless that is asked for: who did it may have meant it.
func (g *Gate) missing(ctx context.Context, d *directory, who []access.Admitted, failed []access.Failure) {
	type seen struct {
		lease string
		lets  netip.Prefix // another than it was, where somebody changed the rule
	}
	there := map[seen]bool{}
	for _, w := range who {
		for _, l := range w.Leases {
			there[seen{l.ID, w.Source.Prefix}] = true
		}
	}
	unseen := map[securitygroup.Place]bool{}
	for _, f := range failed {
		unseen[f.Place] = true
	}
	now := g.now()
	for _, r := range g.live.all(func(r row) bool { return r.State == api.Open && r.at.Host == "" && !r.Foreign }) {
		t, known := d.cfg.Targets[r.Target]
		if !known || whereOf(t) != r.at || unseen[securitygroup.Place{Account: r.at.Account, Region: r.at.Region}] {
			continue
		}
		since, missed := g.missed.get(r.ID)
		gone := !there[seen{r.ID, r.Prefix}]
		switch {
		case !gone:
			g.missed.take(r.ID)
		case r.Until.Sub(now) < claimTime: // by AWS's clock it may be over already
			continue
		case !missed: // it may only not be read yet, or another take its place
			g.missed.put(r.ID, now)
			continue
		case now.Sub(since) < reapEvery/2:
			continue
		}
		if r.InForce != gone {
			continue
		}
		_, err := g.change(ctx, r.ID, func(_ *ledger.Tx, is *row) ([]api.Entry, error) {
			if is.Rev != r.Rev {
				return nil, errNothing
			}
			is.InForce, is.Error = !gone, ""
			if !gone {
				return nil, nil
			}
			is.Error = goneText
			e := g.entry(Who{}, "failed", *is)
			e.OK, e.Why = false, goneText
			return []api.Entry{e}, nil
		})
		if err != nil {
			g.log.Warn("it could not be written down that a rule is gone", "grant", r.ID, "error", err)
		} else if gone {
			g.log.Warn("a grant's rule is gone, and the gate did not take it away", "grant", r.ID, "target", r.Target, "person", r.Person, "rule", r.Rule)
		}
	}
}

// goneText is what a grant says whose rule is gone.
const goneText = "its rule is gone from the group: somebody took it away by hand"

func (g *Gate) prune(ctx context.Context) error {
	for {
		var more bool
		err := g.ledger.Write(ctx, func(tx *ledger.Tx) (err error) {
			if more, err = tx.Prune(g.now()); err != nil || more {
				return err
			}
			return pruneClaims(tx, g.now())
		})
		if err != nil {
			return fmt.Errorf("forget what is long over: %w", err)
		}
		if !more {
			return nil
		}
	}
}

// pruneClaims forgets what an identity provider said that counts no more, or cannot be read.
func pruneClaims(tx *ledger.Tx, now time.Time) error {
	people, err := tx.People()
	if err != nil {
		return err
	}
	for _, p := range people {
		var says claims
		if !strings.HasPrefix(p.Name, claimed) || json.Unmarshal(p.Config, &says) == nil && now.Before(says.Until) {
			continue
		}
		if err := tx.DeletePerson(p.Name); err != nil {
			return err
		}
	}
	return nil
}
