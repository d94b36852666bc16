package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/notify"
)

// Bounds of what people may have, and of what they write.
const (
	maxThere   = 10  // grants of a person at one target: a security group has 60 rules for all
	maxLive    = 50  // of a person that are asked for, open or ending
	maxWaiting = 20  // and that wait for approval
	maxOn      = 500 // grants at a target
	maxReason  = 200 // characters

	waitAtMost = 24 * time.Hour   // for approval
	openWait   = 15 * time.Second // of a request, for a group to be opened or closed
	hostWait   = 5 * time.Second  // and for a host
	closeWait  = 10 * time.Second
	hostMargin = 2 * time.Second // that a host's kernel may be later than the gate
)

// breakGlass is what the audit calls an opening that nobody approved.
const breakGlass = "open.break_glass"

// asking is a request to open or extend, as it was decided.
type asking struct {
	who        Who
	door       access.Door
	prefix     netip.Prefix
	id         string // that the asker gave it; "": none
	length     time.Duration
	reason     string
	breaks     bool
	approvedBy string // of what is approved
	decision   access.Decision
	until      time.Time // where it is allowed
	waits      bool      // for approval
	now        time.Time
}

// Open opens a door for who. It returns when that is in force, or waits for somebody's
// approval, or takes longer than one waits for: the grant's State says which.
func (g *Gate) Open(ctx context.Context, who Who, target string, q api.OpenRequest) (api.Grant, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return api.Grant{}, err
	}
	door, err := d.door(target)
	if err != nil {
		return api.Grant{}, err
	}
	a := asking{who: who, door: door, id: q.Lease, reason: q.Reason, breaks: q.Break, now: g.now()}
	if a.length, err = seconds(q.Seconds); err != nil {
		return api.Grant{}, err
	}
	if a.reason, err = reason(q.Reason); err != nil {
		return api.Grant{}, err
	}
	if err := leaseID(q.Lease); err != nil {
		return api.Grant{}, err
	}
	addr := q.Address
	if g.ledger == nil && !who.Signed.IsZero() && !addr.IsValid() {
		return api.Grant{}, errNoAddress()
	}
	if !addr.IsValid() {
		addr = who.From
	}
	if !addr.IsValid() || addr.Zone() != "" {
		return api.Grant{}, api.Errorf(api.BadRequest, "give the address that you are seen by", "there is no address to let in")
	}
	a.prefix = door.Prefix(addr.Unmap())
	if err := g.decide(d, &a); err != nil {
		return api.Grant{}, g.refused(ctx, a, err)
	}
	if g.ledger == nil {
		return g.openStateless(ctx, d, a)
	}
	return g.ask(ctx, d, a)
}

// ask writes down what a asks for, and waits for what comes of it.
func (g *Gate) ask(ctx context.Context, d *directory, a asking) (api.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	for _, r := range g.live.person(a.who.Person) {
		if r.Target == a.door.Name && r.Prefix == a.prefix && g.owedEnds.has(r.ID) {
			g.payEnds(ctx) // what was closed before ends first, and not what is asked for now
		}
	}
	for {
		is, was, err := g.writeAsk(ctx, a)
		if closing, ok := errors.AsType[errClosing](err); ok { // it is not gone yet: then it is asked for anew
			g.live.apply(closing.Grant) // another gate may have written it
			if r, there := g.live.wait(ctx, closing.ID, func(r row) bool { return !r.live() }); there && r.live() || ctx.Err() != nil {
				return api.Grant{}, api.Errorf(api.Conflict, "try again in a moment", "what was open here is being closed, and that takes long")
			}
			continue
		}
		if err != nil {
			return api.Grant{}, g.refused(ctx, a, g.ledgerError("write down what is asked for", err))
		}
		if is.Break && (!was.Break || a.breaks && is.Until.After(was.Until)) {
			g.tellBroken(is)
		}
		g.decidedBy(ctx, d, is)
		if is.State == api.Waiting {
			if was.ID == "" {
				g.tell(notify.Event{
					Kind: notify.GateApproval, Level: notify.Warning, Key: is.ID,
					What:   fmt.Sprintf("%s asks for %s from %s, for %s: %q", is.Person, is.Target, is.Prefix, config.FormatDuration(is.Length), is.Reason),
					Remedy: "answer it at the gate: " + strings.Join(a.decision.NeedsApproval, ", ") + " may",
				})
			}
			return g.view(d, a.who, is), nil
		}
		return g.await(ctx, d, a.who, is, was)
	}
}

// tellBroken tells everybody of r, which is open by breaking the glass.
func (g *Gate) tellBroken(r row) {
	g.tell(notify.Event{
		Kind: notify.GateBreakGlass, Level: notify.Alarm, Key: r.ID,
		What:   fmt.Sprintf("%s opened %s from %s by breaking the glass, until %s: %q", r.Person, r.Target, r.Prefix, r.Until.UTC().Format(time.RFC3339), r.Reason),
		Remedy: "see that it was needed; `close` ends it, disabling the person ends all that they have",
	})
}

// errClosing is that a grant is in the way that is being closed.
type errClosing struct{ ledger.Grant }

func (errClosing) Error() string { return "it is being closed" }

// writeAsk writes the row and its entry. was is the row before, where there was one.
func (g *Gate) writeAsk(ctx context.Context, a asking) (is, was row, err error) {
	waits := a.waits
	fresh := a.id
	if fresh == "" {
		fresh = rand.Text()
	}
	var res ledger.Grant
	ctx, cancel := begun(ctx)
	defer cancel()
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		was, res = row{}, ledger.Grant{}
		if off, err := tx.IsDisabled(a.who.Person); err != nil || off {
			if off {
				return errDisabled(a.who.Person)
			}
			return err
		}
		if a.id != "" { // asked twice?
			switch same, err := tx.Grant(a.id); {
			case err == nil && same.Person == a.who.Person && same.Target == a.door.Name && same.Prefix == a.prefix:
				was, res = rowOf(same), same
				return errNothing
			case err == nil:
				return api.Errorf(api.Conflict, "make another", "there is a grant by this name already")
			case !errors.Is(err, ledger.ErrNotFound):
				return err
			}
		}
		old, err := tx.LiveAt(a.who.Person, a.door.Name, a.prefix)
		switch {
		case err == nil && old.State == api.Ending && rowOf(old).at.Host == "":
			return errClosing{old}
		case err == nil && (old.State == api.Asked || old.State == api.Open) && rowOf(old).at.Host == "" && rowOf(old).at != whereOf(a.door.Target):
			return errClosing{old} // the target is somewhere else since: it ends there
		case err == nil && old.State == api.Waiting && waits:
			was, res = rowOf(old), old
			return errNothing
		case err == nil && waits:
			return errEachTime(a.door.Name)
		case err == nil:
			was = rowOf(old)
			res, err = g.writeLonger(tx, was, a)
			return err
		case !errors.Is(err, ledger.ErrNotFound):
			return err
		}
		if err := room(tx, a, waits); err != nil {
			return err
		}
		r := row{at: whereOf(a.door.Target), Grant: ledger.Grant{
			ID: fresh, Target: a.door.Name, Person: a.who.Person, Prefix: a.prefix,
			State: api.Asked, Asked: a.now, Until: a.until, Length: a.until.Sub(a.now),
			Reason: a.reason, Break: a.breaks, Via: a.who.Via, From: a.who.From,
		}}
		r.Where = r.at.String()
		what := "open"
		switch {
		case waits:
			r.State, r.Until, r.Length, what = api.Waiting, time.Time{}, a.length, "ask"
		case r.at.Host == "":
			r.Owner, r.Claimed = g.instance, a.now.Add(claimTime)
		}
		if a.breaks {
			what = breakGlass
		}
		if res, err = tx.PutGrant(r.Grant); err != nil {
			return err
		}
		_, err = tx.Append(g.entry(a.who, what, r))
		return err
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	if err == nil {
		g.live.apply(res)
	}
	return rowOf(res), was, err
}

// room refuses what is too much.
func room(tx *ledger.Tx, a asking, waits bool) error {
	ofPerson, onTarget, err := tx.CountLive(a.who.Person, a.door.Name)
	if err != nil {
		return err
	}
	if onTarget >= maxOn {
		return api.Errorf(api.TooMany, "wait until some of them have ended", "%s is open for as many as it can be: %d", a.door.Name, maxOn)
	}
	if ofPerson < min(maxThere, maxWaiting, maxLive) { // of whatever state, wherever
		return nil
	}
	rows, err := tx.LiveOf(a.who.Person)
	if err != nil {
		return err
	}
	waiting, there := 0, 0
	for _, r := range rows {
		if r.State == api.Waiting {
			waiting++
		}
		if r.Target == a.door.Name {
			there++
		}
	}
	switch {
	case there >= maxThere:
		return api.Errorf(api.TooMany, "close some of them", "%s is open, or asked for, for %d addresses of yours already", a.door.Name, there)
	case waits && waiting >= maxWaiting:
		return api.Errorf(api.TooMany, "withdraw some of them", "%d requests of yours wait for approval already", waiting)
	case !waits && len(rows)-waiting >= maxLive:
		return api.Errorf(api.TooMany, "close some of them", "%d doors are open for you already", len(rows)-waiting)
	}
	return nil
}

// writeLonger asks for what is there already, for longer; what is there is never made
// shorter.
func (g *Gate) writeLonger(tx *ledger.Tx, was row, a asking) (ledger.Grant, error) {
	r := was
	what := "extend"
	switch {
	case r.State == api.Waiting, r.State == api.Ending: // it needs no approval any more, the glass was broken, or a host was to end it
		r.Why, r.Cut, r.Reason, r.Asked = "", false, a.reason, a.now
		r.Approver, r.Break, r.InForce = "", false, false // none of that is of what is asked for now
		r.at = whereOf(a.door.Target)
		r.Where = r.at.String()
		r.State, r.Until, r.Length, what = api.Asked, a.until, a.until.Sub(a.now), "open"
	case !a.until.After(r.Until) && r.at.Host != "":
		return was.Grant, errNothing
	case !a.until.After(r.Until): // who asks again may not get in: somebody took the rule away, perhaps
		r.State, what = api.Asked, "open"
	default:
		r.Until, r.Length = a.until, a.until.Sub(a.now)
		if r.at.Host == "" || !r.InForce {
			r.State = api.Asked
		}
	}
	if a.breaks {
		r.Break, what = true, breakGlass
	}
	if a.reason != "" {
		r.Reason = a.reason
	}
	r.Error, r.Tries = "", 0
	g.own(&r, a.now)
	res, err := tx.UpdateGrant(r.Grant)
	if err != nil {
		return res, err
	}
	_, err = tx.Append(g.entry(a.who, what, r))
	return res, err
}

// own has this gate be at r, unless another is: that one finds what has changed when it is
// done.
func (g *Gate) own(r *row, now time.Time) {
	if r.at.Host != "" {
		return
	}
	if r.Owner == g.instance || r.Owner == "" || !now.Before(r.Claimed) {
		r.Owner, r.Claimed = g.instance, now.Add(claimTime)
	}
}

// await has what was written done, and waits for it.
func (g *Gate) await(ctx context.Context, d *directory, who Who, is, was row) (api.Grant, error) {
	if was.State == api.Open && is.State == api.Asked {
		g.before.put(is.ID, was.Until)
	}
	_ = g.fails.take(is.ID)
	if is.Owner == g.instance {
		g.work(is.ID)
	}
	if is.at.Host != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, hostWait)
		defer cancel()
	}
	now, there := g.live.wait(ctx, is.ID, func(r row) bool { return r.State != api.Asked })
	if !there {
		var err error
		if now, err = g.read(context.WithoutCancel(ctx), is.ID); err != nil {
			return api.Grant{}, err
		}
	}
	told := g.fails.take(is.ID)
	switch {
	case told != nil:
		return api.Grant{}, told
	case now.State == api.Ending || now.State == api.Ended:
		if now.Why == "failed" {
			return api.Grant{}, api.Errorf(api.Unreachable, "try again in a moment", "%s was not opened: %s", now.Target, now.Error)
		}
	}
	return g.view(d, who, now), nil
}

// Extend makes a grant of who's longer.
func (g *Gate) Extend(ctx context.Context, who Who, id string, q api.ExtendRequest) (api.Grant, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return api.Grant{}, err
	}
	length, err := seconds(q.Seconds)
	if err != nil {
		return api.Grant{}, err
	}
	if g.ledger == nil {
		return g.extendStateless(ctx, d, who, id, length)
	}
	r, err := g.read(ctx, id)
	if err != nil {
		return api.Grant{}, err
	}
	if r.Person != who.Person {
		return api.Grant{}, errNoGrant()
	}
	if r.State != api.Open && r.State != api.Asked || g.owedEnds.has(id) {
		return api.Grant{}, api.Errorf(api.Conflict, "open it anew", "it is not open any more, or not yet")
	}
	door, err := d.door(r.Target)
	if err != nil {
		return api.Grant{}, err
	}
	if whereOf(door.Target) != r.at {
		return api.Grant{}, api.Errorf(api.Conflict, "open it anew", "%s is somewhere else since", r.Target)
	}
	a := asking{who: who, door: door, prefix: r.Prefix, length: length, reason: r.Reason, breaks: r.Break, now: g.now()}
	if err := g.decide(d, &a); err != nil {
		return api.Grant{}, g.refused(ctx, a, err)
	}
	if a.waits {
		return api.Grant{}, g.refused(ctx, a, errEachTime(r.Target))
	}
	var was row
	written, done := begun(ctx)
	defer done()
	is, err := g.change(written, id, func(tx *ledger.Tx, r *row) ([]api.Entry, error) {
		was = *r
		if off, err := tx.IsDisabled(who.Person); err != nil || off {
			if off {
				return nil, errDisabled(who.Person)
			}
			return nil, err
		}
		if r.State != api.Open && r.State != api.Asked {
			return nil, api.Errorf(api.Conflict, "open it anew", "it is being closed")
		}
		switch longer := a.until.After(r.Until); {
		case longer:
			r.Until, r.Length = a.until, a.until.Sub(a.now)
		case r.at.Host != "" || r.InForce || r.State != api.Open: // else its rule is gone
			return nil, errNothing
		}
		r.Error, r.Tries = "", 0
		if r.at.Host == "" || !r.InForce {
			r.State = api.Asked
		}
		g.own(r, a.now)
		return []api.Entry{g.entry(who, "extend", *r)}, nil
	})
	if err != nil {
		return api.Grant{}, g.ledgerError("write down what is asked for", err)
	}
	if is.Break && is.Until.After(was.Until) {
		g.tellBroken(is)
	}
	g.decidedBy(ctx, d, is)
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	return g.await(ctx, d, who, is, was)
}

func seconds(n int64) (time.Duration, error) {
	if n < 0 || n > int64(366*24*time.Hour/time.Second) {
		return 0, api.Errorf(api.BadRequest, "give a number of seconds, or none", "%d seconds is no length of time", n)
	}
	return time.Duration(n) * time.Second, nil
}

// reason is a reason without space around it.
func reason(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", api.Errorf(api.BadRequest, "write it in UTF-8", "the reason is no text")
	}
	s = strings.TrimSpace(s)
	if n := utf8.RuneCountInString(s); n > maxReason {
		return "", api.Errorf(api.BadRequest, "say it shorter", "the reason has %d characters, and %d are kept", n, maxReason)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && r != '\u3000' }); i >= 0 {
		return "", api.Errorf(api.BadRequest, "write it on one line, of letters that can be seen", "the reason holds what cannot be seen")
	}
	return s, nil
}

func leaseID(s string) error {
	if s == "" {
		return nil
	}
	if len(s) < 16 || len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return api.Errorf(api.BadRequest, "leave it out, and the gate makes one", "a lease is 16 to 64 letters and digits")
	}
	return nil
}

// errEachTime is that what was approved is not made longer without asking.
func errEachTime(target string) *api.Error {
	return api.Errorf(api.NotAllowed, "close it, and ask for it anew", "%s needs somebody's approval each time: what is open is not made longer", target)
}
