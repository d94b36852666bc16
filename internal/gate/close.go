package gate

import (
	"context"
	"errors"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
)

// Close ends a grant: one's own, or, for an administrator, anybody's. What waits for
// approval is withdrawn.
func (g *Gate) Close(ctx context.Context, who Who, id string) (api.Grant, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return api.Grant{}, err
	}
	if g.ledger == nil {
		return g.closeStateless(ctx, d, who, id)
	}
	r, err := g.read(ctx, id)
	if err != nil && !isBusy(err) {
		return api.Grant{}, err
	}
	if err != nil {
		var there bool
		if r, there = g.live.get(id); !there {
			return api.Grant{}, err
		}
	}
	if r.Person != who.Person && d.role(who.Person) != api.RoleAdmin {
		return api.Grant{}, errNoGrant()
	}
	is, err := g.end(ctx, who, r, "closed", false)
	if err != nil {
		return api.Grant{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	return g.view(d, who, g.gone(ctx, is)), nil
}

// gone waits for is to have ended.
func (g *Gate) gone(ctx context.Context, is row) row {
	if !is.live() {
		return is
	}
	if is.at.Host != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, hostWait)
		defer cancel()
	}
	now, there := g.live.wait(ctx, is.ID, func(r row) bool { return !r.live() || r.Tries > 0 })
	if there {
		return now
	}
	if now, err := g.read(context.WithoutCancel(ctx), is.ID); err == nil {
		return now
	}
	return is
}

// end writes that r is to end, and has it ended. Where that cannot be written, it is ended
// all the same, and written as soon as it can be.
func (g *Gate) end(ctx context.Context, who Who, r row, why string, cut bool) (row, error) {
	ctx, done := begun(ctx)
	defer done()
	is, err := g.change(ctx, r.ID, func(tx *ledger.Tx, r *row) ([]api.Entry, error) { return g.writeEnd(who, r, why, cut) })
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return r, errNoGrant()
	case err != nil:
		told := g.ledgerError("write down what is closed", err)
		if isBusy(told) && r.State != api.Waiting && !g.owedEnds.has(r.ID) {
			g.owedEnds.put(r.ID, owedEnd{who, why, cut})
			if r.at.Host == "" {
				g.spawn(func() { g.takeBack(r, access.Opened{}) }) // though that is not written down
			} else {
				g.streams.wakeHost(r.at.Host)
			}
		}
		return r, told
	}
	if is.State == api.Ending && is.Owner == g.instance {
		g.work(is.ID)
	}
	return is, nil
}

// writeEnd makes r one that is to end.
func (g *Gate) writeEnd(who Who, r *row, why string, cut bool) ([]api.Entry, error) {
	now := g.now()
	what := "close"
	switch why {
	case "disabled", "policy":
		what = "end." + why
	}
	switch r.State {
	case api.Ended:
		return nil, errNothing
	case api.Ending:
		if !cut || r.Cut {
			return nil, errNothing
		}
		r.Cut = true
		return nil, nil
	case api.Waiting:
		if why == "closed" {
			why, what = "withdrawn", "withdraw"
		}
		r.over(now, why)
		return []api.Entry{g.entry(who, what, *r)}, nil
	}
	r.Why, r.Cut, r.Tries, r.Error = why, cut, 0, ""
	r.State = api.Ending
	g.own(r, now)
	return []api.Entry{g.entry(who, what, *r)}, nil
}

// owedEnd is an end that could not be written down.
type owedEnd struct {
	who Who
	why string
	cut bool
}

// payEnds writes what ends could not be written before.
func (g *Gate) payEnds(ctx context.Context) {
	for id, o := range g.owedEnds.all() {
		r, there := g.live.get(id)
		if there {
			if _, err := g.end(ctx, o.who, r, o.why, o.cut); err != nil && isBusy(err) {
				return
			}
		}
		g.owedEnds.take(id)
	}
}

// recheck ends what the policy does not allow any more, and shortens what it allows for
// less time.
func (g *Gate) recheck(ctx context.Context) {
	d := g.dir.Load()
	if d == nil || g.ledger == nil {
		return
	}
	for _, r := range g.live.all(func(r row) bool { return r.State != api.Ending }) {
		g.recheckRow(ctx, d, r)
	}
}

// decidedBy sees to it that r, which was decided by d and is written, is allowed by what is
// known now: who has changed that meanwhile may have looked at all grants before r was there.
func (g *Gate) decidedBy(ctx context.Context, d *directory, r row) {
	if now := g.dir.Load(); now != d && r.live() && r.State != api.Ending {
		g.recheckRow(context.WithoutCancel(ctx), now, r)
	}
}

func (g *Gate) recheckRow(ctx context.Context, d *directory, r row) {
	until, ok := g.stillAllowed(d, r, g.now())
	switch {
	case !ok && d.disabled(r.Person):
		_, _ = g.end(ctx, Who{}, r, "disabled", false) // told where it is tried again
	case !ok:
		_, _ = g.end(ctx, Who{}, r, "policy", false)
	case !until.IsZero() && until.Before(r.Until):
		g.shorten(ctx, d, r, until)
	}
}

// shorten has r end at until, which is sooner. The tag of a rule comes first, so that it
// never says more than is promised, and that takes a while.
func (g *Gate) shorten(ctx context.Context, d *directory, r row, until time.Time) {
	switch {
	case r.at.Host != "" || r.Foreign || r.State != api.Open: // put writes the tag
		g.writeShorter(ctx, r, until, r.at.Host != "" || r.Foreign)
		return
	case g.shortening.has(r.ID):
		return
	}
	g.shortening.put(r.ID, true)
	g.spawn(func() {
		select {
		case g.slots <- struct{}{}:
			defer func() { <-g.slots }()
		case <-g.life.Done():
		}
		ctx, cancel := context.WithTimeout(g.life, workTime)
		defer cancel()
		err := g.shortenTag(ctx, d, r, until)
		if err != nil {
			g.log.Warn("the tag of a grant's rule could not be shortened; it is tried again", "grant", r.ID, "target", r.Target, "person", r.Person, "error", err)
		}
		g.writeShorter(g.life, r, until, err == nil)
		g.shortening.take(r.ID)
		g.recheckSoon() // what has changed meanwhile was not looked at
	})
}

// writeShorter writes that r ends at until. Where its tag may say more (tagged is false) it
// is one that is asked for, and put writes that.
func (g *Gate) writeShorter(ctx context.Context, r row, until time.Time, tagged bool) {
	rev := r.Rev
	is, err := g.change(ctx, r.ID, func(tx *ledger.Tx, r *row) ([]api.Entry, error) {
		if r.State != api.Open && r.State != api.Asked || !until.Before(r.Until) {
			return nil, errNothing
		}
		r.Until = until
		if !tagged || r.at.Host == "" && !r.Foreign && r.Rev != rev { // somebody may have made it longer since
			r.State = api.Asked
			g.own(r, g.now())
		}
		e := g.entry(Who{}, "shorten", *r)
		e.Why = "the policy allows it for less time since"
		return []api.Entry{e}, nil
	})
	switch {
	case err != nil:
		g.log.Warn("a grant could not be shortened yet", "grant", r.ID, "error", err)
		g.recheckSoon()
	case is.State == api.Asked && is.Owner == g.instance:
		g.work(is.ID)
	}
}

// Approve says yes to what somebody else asked for, which opens it.
func (g *Gate) Approve(ctx context.Context, who Who, id string, q api.AnswerRequest) (api.Grant, error) {
	return g.answer(ctx, who, id, q, true)
}

// Deny says no.
func (g *Gate) Deny(ctx context.Context, who Who, id string, q api.AnswerRequest) (api.Grant, error) {
	return g.answer(ctx, who, id, q, false)
}

func (g *Gate) answer(ctx context.Context, who Who, id string, q api.AnswerRequest, yes bool) (api.Grant, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return api.Grant{}, err
	}
	if g.ledger == nil {
		return api.Grant{}, errStateless("nobody can approve anything")
	}
	why, err := reason(q.Reason)
	if err != nil {
		return api.Grant{}, err
	}
	asked, err := g.read(ctx, id)
	if err != nil {
		return api.Grant{}, err
	}
	if !g.mayAnswer(d, who, asked) {
		if asked.Person == who.Person {
			return api.Grant{}, api.Errorf(api.Forbidden, "somebody else has to answer it", "what one asks for oneself is not one's own to answer")
		}
		return api.Grant{}, errNoGrant()
	}
	var a asking
	if yes {
		door, err := d.door(asked.Target)
		if err != nil {
			return api.Grant{}, err
		}
		a = asking{who: Who{Person: asked.Person, Via: asked.Via, From: asked.From}, door: door, prefix: asked.Prefix, length: asked.Length, reason: asked.Reason, approvedBy: who.Person, now: g.now()}
		if err := g.decide(d, &a); err != nil {
			return api.Grant{}, g.refused(ctx, a, err)
		}
		if a.waits {
			return api.Grant{}, errNoGrant() // mayAnswer said otherwise a moment ago
		}
	}
	written, done := begun(ctx)
	defer done()
	is, err := g.change(written, id, func(tx *ledger.Tx, r *row) ([]api.Entry, error) {
		for _, person := range []string{who.Person, r.Person} {
			if off, err := tx.IsDisabled(person); err != nil || off {
				if off {
					return nil, errDisabled(person)
				}
				return nil, err
			}
		}
		if r.State != api.Waiting {
			return nil, api.Errorf(api.Conflict, "look at it again", "it does not wait for an answer any more")
		}
		if now := g.dir.Load(); now != d && !g.mayAnswer(now, who, *r) { // who answers has lost the right meanwhile
			return nil, errNoGrant()
		}
		now := g.now()
		if !now.Before(r.Asked.Add(waitAtMost)) {
			return nil, api.Errorf(api.Conflict, "it has to be asked for anew", "it has waited for too long")
		}
		r.Approver = who.Person
		if !yes {
			r.over(now, "denied")
			r.Error = why
			e := g.entry(who, "deny", *r)
			e.Why = why
			return []api.Entry{e}, nil
		}
		r.State, r.Until = api.Asked, a.until
		r.at = whereOf(a.door.Target)
		r.Where = r.at.String()
		g.own(r, now)
		e := g.entry(who, "approve", *r)
		e.Why = why
		return []api.Entry{e}, nil
	})
	if err != nil {
		return api.Grant{}, g.ledgerError("write down the answer", err)
	}
	if !yes {
		return g.view(d, who, is), nil
	}
	g.decidedBy(ctx, d, is)
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	return g.await(ctx, d, who, is, row{})
}

// mayAnswer reports whether who may say yes or no to r.
func (g *Gate) mayAnswer(d *directory, who Who, r row) bool {
	if r.Person == who.Person {
		return false
	}
	names := d.approversOf(r)
	return len(names) > 0 && d.role(who.Person) != "" && d.member(who.Person, names)
}

// Grants are the live ones of who; all: everybody's, for an administrator.
func (g *Gate) Grants(ctx context.Context, who Who, all bool) ([]api.Grant, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return nil, err
	}
	if all && d.role(who.Person) != api.RoleAdmin {
		return nil, errAdmin()
	}
	if g.ledger == nil {
		return g.grantsStateless(ctx, d, who, all)
	}
	if err := g.load(ctx); err != nil {
		return nil, err
	}
	rows := g.live.person(who.Person)
	if all {
		rows = g.live.all(func(row) bool { return true })
	}
	return g.views(d, who, rows), nil
}

// Grant is one, ended or not: one's own, one that one may answer, any for an administrator.
func (g *Gate) Grant(ctx context.Context, who Who, id string) (api.Grant, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return api.Grant{}, err
	}
	if g.ledger == nil {
		return g.grantStateless(ctx, d, who, id)
	}
	r, err := g.read(ctx, id)
	if err != nil {
		return api.Grant{}, err
	}
	if r.Person != who.Person && r.Approver != who.Person && d.role(who.Person) != api.RoleAdmin && !g.mayAnswer(d, who, r) {
		return api.Grant{}, errNoGrant()
	}
	return g.view(d, who, r), nil
}

// Waiting are the grants that wait for approval and that who may answer.
func (g *Gate) Waiting(ctx context.Context, who Who) ([]api.Grant, error) {
	d, err := g.person(ctx, who)
	if err != nil || g.ledger == nil {
		return []api.Grant{}, err
	}
	if err := g.load(ctx); err != nil {
		return nil, err
	}
	rows := g.live.all(func(r row) bool { return r.State == api.Waiting && g.mayAnswer(d, who, r) })
	return g.views(d, who, rows), nil
}

// read is a grant as the ledger has it.
func (g *Gate) read(ctx context.Context, id string) (row, error) {
	var is ledger.Grant
	err := g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		is, err = tx.Grant(id)
		return err
	})
	switch {
	case errors.Is(err, ledger.ErrNotFound), errors.Is(err, ledger.ErrInvalid):
		return row{}, errNoGrant()
	case err != nil:
		return row{}, g.unwritable("read a grant", err)
	}
	g.live.apply(is)
	return rowOf(is), nil
}
