package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
)

// usual is how long a door stays open where nobody says.
const usual = time.Hour

// decide has the policy decide what is asked. The error is an *api.Error with its reasons.
func (g *Gate) decide(d *directory, a *asking) error {
	dec, err := d.access.Decide(a.door, access.Request{
		Person: a.who.Person, At: a.now, For: a.length, Prefix: a.prefix, Reason: a.reason, BreakGlass: a.breaks, ApprovedBy: a.approvedBy,
	})
	if err != nil {
		return errNobody(a.who.Person)
	}
	a.decision = dec
	switch {
	case dec.Allowed:
		a.until = dec.Until
		return nil
	case len(dec.NeedsApproval) > 0 && !dec.NeedsReason && g.ledger == nil:
		return errStatelessApproval(a.door.Name)
	case len(dec.NeedsApproval) > 0 && !dec.NeedsReason:
		a.waits = true
		if a.length == 0 {
			a.length = min(usual, dec.AtMost)
		}
		return nil
	}
	no := &api.Error{Code: api.NotAllowed, Hint: dec.Hint, Reasons: reasonsOf(dec)}
	no.Message = dec.Err().Error()
	return no
}

func reasonsOf(dec access.Decision) []api.Reason {
	res := []api.Reason{}
	for _, r := range dec.Reasons {
		res = append(res, api.Reason(r))
	}
	return res
}

// approversOf are the people and groups one of whom may answer r.
func (d *directory) approversOf(r row) []string {
	t, there := d.cfg.Targets[r.Target]
	if !there {
		return nil
	}
	dec, err := d.access.Decide(access.Door{Name: r.Target, Target: t}, access.Request{
		Person: r.Person, At: r.Asked, For: r.Length, Prefix: r.Prefix, Reason: cmp.Or(r.Reason, "-"),
	})
	if err != nil {
		return nil
	}
	return dec.NeedsApproval
}

// stillAllowed reports whether the policy would allow r now, as it was asked for, and until
// when at most; zero: as it is.
func (g *Gate) stillAllowed(d *directory, r row, now time.Time) (until time.Time, ok bool) {
	t, there := d.cfg.Targets[r.Target]
	if !there || d.role(r.Person) == "" || whereOf(t) != r.at {
		return time.Time{}, false
	}
	q := access.Request{
		Person: r.Person, At: now, Prefix: r.Prefix, Reason: cmp.Or(r.Reason, "-"), BreakGlass: r.Break, ApprovedBy: r.Approver,
	}
	dec, err := d.access.Decide(access.Door{Name: r.Target, Target: t}, q)
	if err == nil && r.Approver != "" && dec.Latest.Before(r.Until) { // what goes without approval goes for less time, perhaps
		q.For = r.Until.Sub(now)
		if longer, err := d.access.Decide(access.Door{Name: r.Target, Target: t}, q); err == nil && longer.Askable() {
			dec = longer
		}
	}
	switch {
	case err != nil:
		return time.Time{}, false
	case r.State == api.Waiting:
		return time.Time{}, dec.Askable()
	case dec.Allowed, r.Approver != "" && dec.Askable(): // who approved it may be somebody else today
		return dec.Latest, true
	}
	return time.Time{}, false
}

// refused notes in the audit that somebody was not let, and returns why.
func (g *Gate) refused(ctx context.Context, a asking, why error) error {
	told, is := errors.AsType[*api.Error](why)
	if !is || told.Code == api.Busy || told.Code == api.BadRequest || told.Code == api.Internal || told.Code == api.Unreachable {
		return why
	}
	e := api.Entry{
		Who: a.who.Person, Via: a.who.Via, From: a.who.From, What: "open.refused", Person: a.who.Person, Target: a.door.Name, Why: told.Message,
	}
	if a.prefix.IsValid() {
		e.Prefix = a.prefix.String()
	}
	if g.ledger == nil {
		g.audit(e)
		return why
	}
	if !g.refusals.allow(a.who.Person, g.now()) {
		return why
	}
	err := g.ledger.Write(context.WithoutCancel(ctx), func(tx *ledger.Tx) error {
		_, err := tx.Append(e)
		return err
	})
	if err != nil {
		g.log.Warn("a refusal could not be written down", "person", a.who.Person, "target", a.door.Name, "error", err)
	}
	return why
}

// entry is an entry of the audit about a grant.
func (g *Gate) entry(who Who, what string, r row) api.Entry {
	e := api.Entry{
		Who: whoText(who), Via: who.Via, From: who.From, What: what, Person: r.Person, Target: r.Target, Grant: r.ID,
		Rule: r.Rule, Until: r.Until, Why: r.Reason, OK: true,
	}
	if r.Prefix.IsValid() {
		e.Prefix = r.Prefix.String()
	}
	return e
}

// about is an entry about a person or a target.
func (g *Gate) about(who Who, what, person, target string) api.Entry {
	return api.Entry{Who: whoText(who), Via: who.Via, From: who.From, What: what, Person: person, Target: target, OK: true}
}

func whoText(who Who) string {
	switch {
	case who.Host != "":
		return hostName(who.Host)
	case who.Person != "":
		return who.Person
	}
	return "gate"
}

// audit writes an entry to the log, where there is no ledger. Nobody is told of broken
// glass there but by whoever watches the log for warnings.
func (g *Gate) audit(e api.Entry) {
	e.At = g.now()
	level := slog.LevelInfo
	if e.What == breakGlass {
		level = slog.LevelWarn
	}
	g.log.Log(context.Background(), level, "audit", "audit", logged{Entry: e})
}

// logged is an entry without what the ledger gives it.
type logged struct {
	api.Entry
	Seq  *int64  `json:"seq,omitempty"`
	Prev *string `json:"prev,omitempty"`
	Hash *string `json:"hash,omitempty"`
}

// person is the directory, where who is somebody who is known and not disabled.
func (g *Gate) person(ctx context.Context, who Who) (*directory, error) {
	d, err := g.directory(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case who.Role == api.RoleHost || who.Host != "":
		return nil, api.Errorf(api.Forbidden, "", "this is for people")
	case who.Person == "":
		return nil, api.Errorf(api.NoIdentity, "sign in", "nobody is signed in")
	case d.disabled(who.Person):
		return nil, errDisabled(who.Person)
	case who.Via == api.ViaLink:
		return nil, api.Errorf(api.Forbidden, "enrol a passkey by it, and sign in", "a link is good for enrolling only")
	case d.role(who.Person) == "":
		return nil, errNobody(who.Person)
	}
	return d, nil
}

// administrator is person for who is one.
func (g *Gate) administrator(ctx context.Context, who Who) (*directory, error) {
	d, err := g.person(ctx, who)
	if err == nil && d.role(who.Person) != api.RoleAdmin {
		err = errAdmin()
	}
	return d, err
}

// What goes wrong, for people.

func errDisabled(person string) *api.Error {
	return api.Errorf(api.Disabled, "ask an administrator", "%s is disabled", person)
}

func errNobody(person string) *api.Error {
	return api.Errorf(api.NotFound, "administrators see who there is: `sekisho gate people`, or the page of people", "there is nobody called %q", short(person, 80))
}

func errNoGrant() *api.Error {
	return api.Errorf(api.NotFound, "see what is open: `sekisho leases`, or the page of your doors", "there is no such grant")
}

func errAdmin() *api.Error {
	return api.Errorf(api.Forbidden, "ask an administrator", "this is for administrators")
}

func errDeclared(kind, name string) *api.Error {
	return api.Errorf(api.Declared, "edit them there", "%s %q is in the configuration file", kind, name)
}

// errNoAddress: what a signature that is sent again is good for must not depend on who sends it.
func errNoAddress() *api.Error {
	return api.Errorf(api.BadRequest, `name it: {"address": "203.0.113.7"}, as GET `+api.Version+`/address tells it`,
		"this gate keeps no state: a signed request has to name the address that is let in")
}

func errOver() *api.Error {
	return api.Errorf(api.Clock, "ask for longer, or set this machine's clock", "what was asked for is over already, by the time that the request was signed at")
}

func errStateless(what string) *api.Error {
	return api.Errorf(api.Forbidden, "run a gate that keeps a state: `sekisho gate`", "this gate keeps no state: %s", what)
}

func errStatelessHost() *api.Error { return errStateless("hosts cannot be opened by it") }

func errStatelessApproval(target string) *api.Error {
	return errStateless(target + " needs somebody's approval, and nobody can give it")
}

func isBusy(err error) bool {
	e, ok := errors.AsType[*api.Error](err)
	return ok && e.Code == api.Busy
}

// ledgerError is what a write or read of the ledger failed with, for people: nil for nil.
func (g *Gate) ledgerError(what string, err error) error {
	if err == nil {
		return nil
	}
	if told, ok := errors.AsType[*api.Error](err); ok {
		return told
	}
	switch {
	case errors.Is(err, ledger.ErrConflict):
		return api.Errorf(api.Conflict, "look at it again, and do it once more", "it changed at the same time")
	case errors.Is(err, ledger.ErrNotFound):
		return api.Errorf(api.NotFound, "", "there is no such thing")
	case errors.Is(err, ledger.ErrFull):
		return api.Errorf(api.TooMany, "remove what is not needed", "there are as many as there may be")
	case errors.Is(err, ledger.ErrInvalid):
		g.log.Error("something was to be written that is not valid", "what", what, "error", err)
		return api.Errorf(api.BadRequest, "", "that cannot be kept")
	}
	return g.unwritable(what, err)
}

// unwritable notes that the ledger cannot be used now.
func (g *Gate) unwritable(what string, err error) *api.Error {
	if errors.Is(err, context.Canceled) {
		return api.Errorf(api.Busy, "try again", "the request was given up")
	}
	g.ok(err)
	if g.complaints.allow(what, g.now()) {
		g.log.Error("the gate's state cannot be used now", "what", what, "error", err)
	}
	e := api.Errorf(api.Busy, "try again in a moment; nothing is opened meanwhile, and what is open ends on time", "the gate cannot write down what it does just now")
	e.After = 5
	return e
}

// ok notes whether the ledger can be used.
func (g *Gate) ok(err error) {
	if err == nil {
		g.trouble.Store(nil)
		return
	}
	text := err.Error()
	g.trouble.Store(&text)
}

// Ready is nil while the gate can write down what it does: what /healthz says.
func (g *Gate) Ready(ctx context.Context) error {
	if g.ledger == nil {
		return nil
	}
	if t := g.trouble.Load(); t != nil {
		return api.Errorf(api.Busy, "see the gate's log", "the gate's state cannot be used now")
	}
	return nil
}

// names writes a list for people.
func names(list []string) string {
	if len(list) > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:4], ", "), len(list)-4)
	}
	return strings.Join(list, ", ")
}
