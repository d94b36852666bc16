package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/notify"
	"sekisho/internal/securitygroup"
)

const (
	// claimTime is how long who is at a grant may be silent before another takes it over.
	claimTime = time.Minute
	// workTime is what one attempt may take at most, and writeTime what writing down what came
	// of it may: both are within the claim.
	workTime  = 40 * time.Second
	writeTime = 20 * time.Second
	// stuckAfter is when something that outlives its end is an alarm.
	stuckAfter = access.StuckAfter

	// tagSlack is how much longer a rule's tag lasts than its grant, which this gate ends to
	// the second: a tag is of whole seconds, by a clock that is up to one behind.
	tagSlack = 2 * time.Second

	backoffFirst = time.Second
	backoffMost  = time.Minute
	working      = 1024 // grants worked at, at a time
	inFlight     = 64   // calls of AWS at a time
)

// job is work at one grant in this process.
type job struct{ again bool }

// work has this process see to what the grant id asks for, unless it is at it already: then
// it looks again afterwards.
func (g *Gate) work(id string) {
	g.jobsMu.Lock()
	defer g.jobsMu.Unlock()
	if j := g.jobs[id]; j != nil {
		j.again = true
		return
	}
	if g.stopped {
		return
	}
	j := &job{}
	g.jobs[id] = j
	g.jobsDone.Go(func() { // within jobsMu: stop waits for it
		for {
			select {
			case g.slots <- struct{}{}:
			case <-g.life.Done():
			}
			g.pursue(id)
			select {
			case <-g.slots:
			default:
			}
			g.jobsMu.Lock()
			if !j.again || g.stopped {
				delete(g.jobs, id)
				g.jobsMu.Unlock()
				if r, there := g.live.get(id); there {
					g.attendFor(r)
				}
				return
			}
			j.again = false
			g.jobsMu.Unlock()
		}
	})
}

// spawn runs f, which stop waits for.
func (g *Gate) spawn(f func()) {
	g.jobsMu.Lock()
	defer g.jobsMu.Unlock()
	if !g.stopped {
		g.jobsDone.Go(f)
	}
}

func (g *Gate) working(id string) bool {
	g.jobsMu.Lock()
	defer g.jobsMu.Unlock()
	return g.jobs[id] != nil
}

// errNothing is that there is nothing to change.
var errNothing = errors.New("nothing to change")

// change has f change the row id as it is in the ledger, and writes it with the entries
// that f returns. Where f returns errNothing, the row is returned as it is. f may be run
// again.
func (g *Gate) change(ctx context.Context, id string, f func(tx *ledger.Tx, r *row) ([]api.Entry, error)) (row, error) {
	if known, there := g.live.get(id); there { // most often it is as we know it
		if is, err := g.changeAs(ctx, func(*ledger.Tx) (ledger.Grant, error) { return known.Grant, nil }, f); err == nil {
			return is, nil
		}
	}
	is, err := g.changeAs(ctx, func(tx *ledger.Tx) (ledger.Grant, error) { return tx.Grant(id) }, f)
	if errors.Is(err, errNothing) {
		err = nil
	}
	return is, err
}

// begun is a context for what is written of a request: it is seen through though who asked
// has gone.
func begun(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), openWait)
}

func (g *Gate) changeAs(ctx context.Context, read func(*ledger.Tx) (ledger.Grant, error), f func(tx *ledger.Tx, r *row) ([]api.Entry, error)) (row, error) {
	var is ledger.Grant
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		was, err := read(tx)
		if err != nil {
			return err
		}
		is = was
		r := rowOf(was)
		entries, err := f(tx, &r)
		if err != nil {
			return err
		}
		if is, err = tx.UpdateGrant(r.Grant); err != nil {
			return err
		}
		return appendAll(tx, entries)
	})
	if err == nil || errors.Is(err, errNothing) {
		g.live.apply(is)
	}
	return rowOf(is), err
}

func appendAll(tx *ledger.Tx, entries []api.Entry) error {
	for _, e := range entries {
		if _, err := tx.Append(e); err != nil {
			return err
		}
	}
	return nil
}

// claim is the row id with this gate at it. ok is false where there is nothing to do for
// us now: another is at it, or it is as it should be.
func (g *Gate) claim(ctx context.Context, id string) (r row, ok bool, err error) {
	now := g.now()
	if r, there := g.live.get(id); there && r.Owner == g.instance && now.Before(r.Claimed) && r.Tries == 0 && r.Claimed.Sub(now) > claimTime-writeTime/2 && r.asks(now) {
		return r, true, nil // as it was written a moment ago
	}
	stuck := false
	r, err = g.change(ctx, id, func(tx *ledger.Tx, r *row) ([]api.Entry, error) {
		ok, stuck = false, false
		now := g.now()
		if !r.live() || r.Owner != g.instance && now.Before(r.Claimed) {
			return nil, errNothing
		}
		var entries []api.Entry
		switch {
		case r.State == api.Waiting:
			if now.Before(r.Asked.Add(waitAtMost)) {
				return nil, errNothing
			}
			r.over(now, "expired")
			return []api.Entry{g.entry(Who{}, "expire", *r)}, nil
		case (r.State == api.Open || r.State == api.Asked) && !now.Before(r.Until):
			if r.at.Host != "" { // its kernel has ended it
				r.over(now, "expired")
				return []api.Entry{g.entry(Who{}, "expire", *r)}, nil
			}
			r.State, r.Why, r.Tries = api.Ending, "expired", 0
			entries = append(entries, g.entry(Who{}, "expire", *r))
		case r.State == api.Ending && r.at.Host != "":
			if now.After(r.Until.Add(hostMargin)) { // its kernel has ended it
				r.over(now, r.Why)
				return nil, nil
			}
			if stuck = g.newlyStuck(*r, now); !stuck {
				return nil, errNothing
			}
			return []api.Entry{g.stuckEntry(*r)}, nil
		case r.State == api.Open, r.at.Host != "":
			return nil, errNothing
		}
		r.Owner, r.Claimed = g.instance, now.Add(claimTime)
		ok = true
		return entries, nil
	})
	if stuck && err == nil {
		g.tellStuck(r, false)
	}
	return r, ok && err == nil, err
}

// asks reports whether there is something to be done at AWS.
func (r row) asks(now time.Time) bool {
	return r.at.Host == "" && (r.State == api.Asked && now.Before(r.Until) || r.State == api.Ending)
}

// over makes r one that has ended.
func (r *row) over(now time.Time, why string) {
	r.State, r.Why, r.Ended, r.InForce, r.Claimed, r.Owner = api.Ended, why, now, false, time.Time{}, ""
	if why != "failed" {
		r.Error = ""
	}
}

// pursue does what the row id asks for, until that is done, or fails. What fails is tried
// again when it is due (attend).
func (g *Gate) pursue(id string) {
	for {
		ctx, cancel := context.WithTimeout(g.life, workTime)
		r, ok, err := g.claim(ctx, id)
		if err != nil {
			cancel()
			if !errors.Is(err, ledger.ErrNotFound) {
				_ = g.unwritable("take on a grant", err)
				g.later(id)
			}
			return
		}
		if !ok {
			cancel()
			return
		}
		var more bool
		doing, stop := context.WithTimeout(ctx, r.Claimed.Sub(g.now())-writeTime)
		if r.State == api.Asked {
			more = g.put(doing, r)
		} else {
			more = g.takeAway(doing, r)
		}
		stop()
		cancel()
		if !more {
			return
		}
	}
}

// put opens what r asks for. more: the row was changed meanwhile.
func (g *Gate) put(ctx context.Context, r row) (more bool) {
	d, err := g.directory(ctx)
	if err != nil {
		g.later(r.ID)
		return false
	}
	left := r.Until.Sub(g.now()) + tagSlack
	o, err := d.groups.Open(ctx, r.at.door(r.Target), r.Prefix, r.ID, r.Person, left, nil)
	if err == nil && o.Longer { // the policy allows it for less time since
		err = g.shortenTag(ctx, d, r, r.Until)
	}
	if err != nil {
		return g.failed(r, err)
	}
	is, err := g.changeLong(r.ID, func(tx *ledger.Tx, now *row) ([]api.Entry, error) {
		if now.State != api.Asked {
			return nil, errNothing
		}
		now.Rule, now.Foreign, now.InForce, now.Error, now.Tries = o.Rule.ID, o.Foreign, true, "", 0
		if now.Opened.IsZero() {
			now.Opened = g.now()
		}
		if now.Until.Equal(r.Until) {
			now.State, now.Claimed = api.Open, time.Time{}
		}
		return []api.Entry{g.entry(Who{}, "opened", *now)}, nil
	})
	if err != nil {
		_ = g.unwritable("write down what is open", err)
		g.later(r.ID) // as it is written, it is asked for: it is opened again under the same id
		return false
	}
	switch is.State {
	case api.Open:
		g.before.take(r.ID)
		return false
	case api.Ended: // another gate ended it, when it was not to be seen there yet
		g.spawn(func() { g.takeBack(is, o) })
		return false
	}
	return true // made longer, or to be closed
}

// shortenTag has the tag of r's rule say no later an end than until.
func (g *Gate) shortenTag(ctx context.Context, d *directory, r row, until time.Time) error {
	return d.groups.Shorten(ctx, r.at.door(r.Target), r.Prefix, r.ID, until.Sub(g.now())+tagSlack)
}

// failed notes why r could not be opened. What was open before stays as it was; else it is
// given up, and whatever there is of it is taken away.
func (g *Gate) failed(r row, cause error) (more bool) {
	told := explain(cause)
	g.log.Warn("a grant could not be put in force", "grant", r.ID, "target", r.Target, "person", r.Person, "error", cause)
	g.fails.put(r.ID, told)
	before := g.before.take(r.ID)
	is, err := g.changeLong(r.ID, func(tx *ledger.Tx, now *row) ([]api.Entry, error) {
		if now.State != api.Asked || now.Owner != g.instance { // another gate is at it, and may not fail
			return nil, errNothing
		}
		now.Error = told.Message
		e := g.entry(Who{}, "failed", *now)
		e.OK, e.Why = false, told.Message
		switch at := g.now(); {
		case now.Opened.IsZero():
			now.State, now.Why, now.Tries, now.Claimed = api.Ending, "failed", 0, at.Add(claimTime)
		case !before.IsZero() && before.After(at) && now.Until.Equal(r.Until):
			now.State, now.Until, now.Claimed = api.Open, before, time.Time{}
		default:
			g.again(now, at)
			if now.Tries > 1 {
				return nil, nil
			}
		}
		return []api.Entry{e}, nil
	})
	if err != nil {
		_ = g.unwritable("write down what failed", err)
		g.later(r.ID)
		return false
	}
	g.othersFirst(is)
	return is.State == api.Ending
}

// again has r be tried once more, by any gate if it has failed here: AWS may answer another.
func (g *Gate) again(r *row, now time.Time) {
	r.Tries++
	r.Claimed = now.Add(backoff(r.Tries))
	if r.Tries > 1 && !g.o.Alone {
		r.Owner = ""
	}
}

// othersFirst leaves r, which has failed here, to the other gates for a while.
func (g *Gate) othersFirst(r row) {
	if r.live() && r.Owner == "" && r.Tries > 1 {
		g.notBefore.put(r.ID, r.Claimed.Add(2*notOurs))
	}
}

// takeAway closes what r had open.
func (g *Gate) takeAway(ctx context.Context, r row) (more bool) {
	told := g.stuckTold.has(r.ID)
	cause := g.release(ctx, r, access.Opened{})
	// Nobody here can reach an account that the configuration names no more. It is tried for as
	// long as the rule lasts, for it may be named again.
	lost := securitygroup.IsNoAccount(cause)
	stuck, left := false, false
	is, err := g.changeLong(r.ID, func(tx *ledger.Tx, now *row) ([]api.Entry, error) {
		stuck, left = false, false
		if now.State != api.Ending {
			return nil, errNothing
		}
		at := g.now()
		if cause == nil {
			now.over(at, now.Why)
			return nil, nil
		}
		if now.Owner != g.instance {
			return nil, errNothing
		}
		if left = lost && at.After(now.Until.Add(stuckAfter)); left {
			now.over(at, now.Why)
			now.Error = "nobody looked whether its rule is gone: " + noAccount(now.at.Account)
			e := g.entry(Who{}, "left", *now)
			e.OK, e.Why = false, now.Error
			return []api.Entry{e}, nil
		}
		now.Error = explain(cause).Message
		g.again(now, at)
		if stuck = g.newlyStuck(*now, at) || lost && !told; stuck {
			return []api.Entry{g.stuckEntry(*now)}, nil
		}
		return nil, nil
	})
	if cause != nil {
		g.log.Warn("a grant could not be ended; it is tried again", "grant", r.ID, "target", r.Target, "person", r.Person, "error", cause)
	}
	if err != nil {
		_ = g.unwritable("write down what has ended", err)
		g.later(r.ID)
		return false
	}
	g.othersFirst(is)
	switch {
	case stuck:
		g.tellStuck(is, lost)
	case left:
		g.log.Warn("a grant's rule is left to its own end", "grant", r.ID, "target", r.Target, "person", r.Person, "account", r.at.Account, "group", r.at.Group, "rule", r.Rule)
		g.tell(notify.Event{
			Kind: notify.LeaseStuck, Level: notify.Alarm, State: notify.Began, Key: "gate " + r.ID + " left",
			What: fmt.Sprintf("the gate goes no more after %s, which let in %s from %s at %s: %s", cmp.Or(r.Rule, "the rule"), r.Person, r.Prefix, r.Target, noAccount(r.at.Account)),
			Remedy: "its tags say that it has ended, so any reaper with credentials of that account takes it away: `sekisho reap`; or take it away by hand, in " +
				r.at.Group + ", " + r.at.Region,
		})
	case told && !is.live():
		g.tell(notify.Event{
			Kind: notify.LeaseStuck, Level: notify.Info, State: notify.Over, Key: "gate " + r.ID + " over",
			What: fmt.Sprintf("it is over: %s is let in at %s from %s no longer", r.Person, r.Target, r.Prefix),
		})
	}
	return false
}

func noAccount(name string) string {
	return fmt.Sprintf("its account, %q, is not in the configuration any more", name)
}

// takeBack closes what was opened for a grant that had ended meanwhile: until it is closed,
// or its time is over. Where this gate dies at it, reconcile finds it.
func (g *Gate) takeBack(r row, o access.Opened) {
	for try := 1; g.now().Before(r.Until); try++ {
		ctx, cancel := context.WithTimeout(g.life, workTime)
		err := g.release(ctx, r, o)
		cancel()
		if err == nil {
			return
		}
		g.log.Warn("what has ended was opened, and could not be closed; it is tried again", "grant", r.ID, "target", r.Target, "person", r.Person, "error", err)
		if pause(g.life, backoff(try)) != nil {
			return
		}
	}
}

// release ends the lease of r at its group, however long it is.
func (g *Gate) release(ctx context.Context, r row, o access.Opened) error {
	if r.Foreign || o.Foreign {
		return nil
	}
	if r.at.Group == "" {
		return errors.New("the grant's row does not say where it was opened")
	}
	rule := o.Rule
	if rule.ID == "" {
		rule.ID = r.Rule
	}
	rule.Group = r.at.Group
	rule.Permission = securitygroup.TCP(r.at.Port, securitygroup.Source{Prefix: r.Prefix})
	d, err := g.directory(ctx)
	if err != nil {
		return err
	}
	return d.groups.Release(ctx, r.at.door(r.Target), access.Opened{
		Rule: rule,
		// Whatever its tag says: that the grant is to end is written down.
		Lease: securitygroup.Lease{ID: r.ID, Person: r.Person, Until: g.now().AddDate(1, 0, 0)},
	})
}

// stuckAt is when the grant id, which is ending, is stuck; a far time where it is not.
func (g *Gate) stuckAt(id string) time.Time {
	since, ending := g.endingSince.get(id)
	if !ending {
		return g.now().Add(stuckAfter)
	}
	return since.Add(stuckAfter)
}

func (g *Gate) newlyStuck(r row, now time.Time) bool {
	return r.State == api.Ending && !now.Before(g.stuckAt(r.ID)) && !g.stuckTold.has(r.ID)
}

func (g *Gate) stuckEntry(r row) api.Entry {
	e := g.entry(Who{}, "stuck", r)
	e.OK, e.Why = false, r.Error
	return e
}

// tellStuck tells people, once, that r is still there past its end; lost: in an account that
// the configuration does not name any more.
func (g *Gate) tellStuck(r row, lost bool) {
	g.stuckTold.put(r.ID, true)
	e := notify.Event{
		Kind: notify.LeaseStuck, Level: notify.Warning, State: notify.Began, Key: "gate " + r.ID,
		What:   fmt.Sprintf("%s is let in at %s from %s still, past the end: %s", r.Person, r.Target, r.Prefix, cmp.Or(r.Error, "its host does not say that it is over")),
		Remedy: "it is tried again and again; the rule's own end, and a host's kernel, end it at " + r.Until.UTC().Format(time.RFC3339),
	}
	switch {
	case lost:
		e.Level, e.Remedy = notify.Alarm, fmt.Sprintf("name the account again under aws.accounts, or take %s away by hand in its group %s, %s: else its tags end it at %s, where a reaper looks at that account",
			cmp.Or(r.Rule, "the rule"), r.at.Group, r.at.Region, r.Until.UTC().Format(time.RFC3339))
	case !r.Until.After(g.now()):
		e.Level, e.Remedy = notify.Alarm, "take the rule away by hand: it is tried again and again"
	}
	g.tell(e)
}

// changeLong is change for what was done already: it is tried until it is written, or the
// claim on it ends.
func (g *Gate) changeLong(id string, f func(tx *ledger.Tx, r *row) ([]api.Entry, error)) (is row, err error) {
	ctx, cancel := context.WithTimeout(g.life, writeTime)
	defer cancel()
	for try := 1; ; try++ {
		if is, err = g.change(ctx, id, f); err == nil || errors.Is(err, ledger.ErrNotFound) {
			return is, err
		}
		if pause(ctx, backoff(try)/10) != nil {
			return is, err
		}
	}
}

// backoff is how long it takes until the next of several tries.
func backoff(tries int) time.Duration {
	return min(backoffFirst<<min(max(tries-1, 0), 10), backoffMost)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// explain is an error of AWS's for people.
func explain(err error) *api.Error {
	hint := access.Hint(err)
	if a, ok := errors.AsType[*api.Error](err); ok {
		return a
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), securitygroup.IsUnreachable(err):
		return api.Errorf(api.Unreachable, "try again in a moment", "AWS does not answer")
	case securitygroup.IsThrottled(err):
		return api.Errorf(api.Unreachable, "try again in a minute", "AWS takes no more calls just now")
	case securitygroup.IsDenied(err):
		return api.Errorf(api.Unreachable, "an administrator has to look: "+hint, "AWS does not let the gate change this group")
	case securitygroup.IsNoGroup(err):
		return api.Errorf(api.Unreachable, "an administrator has to look: "+hint, "the target's group is not there")
	case securitygroup.IsQuota(err):
		return api.Errorf(api.Unreachable, "an administrator has to look: "+hint, "the target's group has no room for another rule")
	case securitygroup.IsNoAccount(err):
		return api.Errorf(api.Unreachable, "an administrator has to look: "+hint, "the configuration does not name the account any more that the target's group is in")
	case securitygroup.IsNoCredentials(err), securitygroup.IsExpired(err), securitygroup.IsWrongAccount(err):
		return api.Errorf(api.Unreachable, "an administrator has to look: "+hint, "the gate has no valid credentials for AWS")
	}
	return api.Errorf(api.Unreachable, hint, "the target's group could not be changed")
}

func (g *Gate) tell(e notify.Event) {
	if g.o.Notify == nil {
		return
	}
	e.Time = g.now()
	g.o.Notify(e)
}
