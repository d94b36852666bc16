package gate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/printable"
)

// view is a grant as who may see it.
func (g *Gate) view(d *directory, who Who, r row) api.Grant {
	now := g.now()
	res := api.Grant{
		ID: r.ID, Target: r.Target, Person: r.Person, Prefix: r.Prefix, State: r.State, Asked: r.Asked, Opened: r.Opened, Until: r.Until,
		Length: int64(r.Length / time.Second), Ended: r.Ended, Why: r.Why, Reason: r.Reason, Approver: r.Approver, Break: r.Break,
		Rule: r.Rule, Foreign: r.Foreign, InForce: r.InForce, Shared: []string{}, Warnings: []string{}, Error: r.Error,
	}
	if r.State == api.Ending {
		res.Stuck = !now.Before(g.stuckAt(r.ID))
	}
	if !r.live() || r.State == api.Waiting {
		return res
	}
	warn := func(format string, args ...any) { res.Warnings = append(res.Warnings, fmt.Sprintf(format, args...)) }
	if shared := g.live.sharing(r, now); len(shared) > 0 {
		res.Shared = shared
		warn("%s is also the address of %s: whoever is behind it gets in while either of you has it open", printable.Prefix(r.Prefix), names(shared))
	}
	if r.Foreign {
		warn("a rule that is not sekisho's lets it in already: closing here closes nothing")
	}
	if r.at.Host == "" && r.State == api.Open && !r.InForce {
		warn("its rule is gone from the group: open it once more, or close it")
	}
	if r.at.Host == "" || !r.lets(now) {
		return res
	}
	switch {
	case !g.connected(r.at.Host):
		warn("%s is not connected to the gate: it is opened when it is", r.at.Host)
	case !r.InForce:
		warn("%s has not said yet that it is open", r.at.Host)
	case r.Person == who.Person:
		if said := g.elsewhere(who, r, now); said != "" {
			warn("%s", said)
		}
	}
	return res
}

func (g *Gate) views(d *directory, who Who, rows []row) []api.Grant {
	res := make([]api.Grant, len(rows))
	for i, r := range rows {
		res[i] = g.view(d, who, r)
	}
	return res
}

// Me is who somebody is.
func (g *Gate) Me(ctx context.Context, who Who) (api.Me, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return api.Me{}, err
	}
	return api.Me{
		Person: who.Person, Role: d.role(who.Person), Groups: append([]string{}, d.cfg.People[who.Person].Groups...),
		Via: who.Via, Address: who.From, Now: g.now(),
	}, nil
}

// Doors are all targets as who sees them, by name.
func (g *Gate) Doors(ctx context.Context, who Who) ([]api.Door, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return nil, err
	}
	grants, err := g.mayShow(ctx, d, who)
	if err != nil {
		return nil, err
	}
	denied := g.denied(ctx, who)
	res := []api.Door{}
	for _, name := range slices.Sorted(maps.Keys(d.cfg.Targets)) {
		door, err := g.doorView(d, who, access.Door{Name: name, Target: d.cfg.Targets[name]}, grants)
		if err != nil {
			return nil, err
		}
		door.Denied = denied[name]
		res = append(res, door)
	}
	return res, nil
}

// Door is one of them, by its name or its host's.
func (g *Gate) Door(ctx context.Context, who Who, target string) (api.Door, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return api.Door{}, err
	}
	door, err := d.door(target)
	if err != nil {
		return api.Door{}, err
	}
	grants, err := g.mayShow(ctx, d, who)
	if err != nil {
		return api.Door{}, err
	}
	res, err := g.doorView(d, who, door, grants)
	res.Denied = g.denied(ctx, who)[door.Name]
	return res, err
}

// deniedFor is how long who asked is told that they were denied.
const deniedFor = 24 * time.Hour

// denied are the targets for which who was denied what they asked for last. Doors are shown
// where that cannot be read, too.
func (g *Gate) denied(ctx context.Context, who Who) map[string]*api.Denied {
	if g.ledger == nil {
		return nil
	}
	res, later := map[string]*api.Denied{}, map[string]bool{}
	err := g.ledger.Read(ctx, func(tx *ledger.Tx) error {
		all, err := tx.Audit(ledger.Filter{Person: who.Person, Limit: 200}) // by its time it would be looked for in all of theirs
		since := g.now().Add(-deniedFor)
		for _, e := range all { // the newest first
			if e.Person != who.Person || later[e.Target] || e.At.Before(since) {
				continue
			}
			switch e.What {
			case "deny":
				res[e.Target] = &api.Denied{By: e.Who, At: e.At, Why: e.Why}
				later[e.Target] = true
			case "ask", "open", breakGlass:
				later[e.Target] = true
			}
		}
		return err
	})
	if err != nil {
		g.log.Debug("it could not be read who was denied what", "person", who.Person, "error", err)
	}
	return res
}

// DoorOf is a door as somebody sees it, without who is in: for themselves, or for an
// administrator who asks why.
func (g *Gate) DoorOf(ctx context.Context, who Who, person, target string) (api.Door, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return api.Door{}, err
	}
	if person != who.Person && d.role(who.Person) != api.RoleAdmin {
		return api.Door{}, errAdmin()
	}
	if _, there := d.cfg.People[person]; !there {
		return api.Door{}, errNobody(person)
	}
	door, err := d.door(target)
	if err != nil {
		return api.Door{}, err
	}
	res, err := g.doorView(d, Who{Person: person}, door, func(string) []api.Grant { return nil })
	if err == nil && d.disabled(person) { // whatever the policy says
		res.Allowed, res.AtMost, res.Until, res.Hint = false, 0, time.Time{}, "an administrator can enable them"
		res.Reasons = append(res.Reasons, api.Reason{Text: person + " is disabled"})
	}
	return res, err
}

// mayShow returns what finds the live grants of a target.
func (g *Gate) mayShow(ctx context.Context, d *directory, who Who) (func(target string) []api.Grant, error) {
	if g.ledger == nil {
		all, err := g.grantsStateless(ctx, d, who, true)
		if err != nil {
			return nil, err
		}
		return func(target string) []api.Grant {
			return slices.DeleteFunc(slices.Clone(all), func(o api.Grant) bool { return o.Target != target })
		}, nil
	}
	if err := g.load(ctx); err != nil {
		return nil, err
	}
	return func(target string) []api.Grant { return g.views(d, who, g.live.target(target)) }, nil
}

func (g *Gate) doorView(d *directory, who Who, door access.Door, grants func(string) []api.Grant) (api.Door, error) {
	now := g.now()
	q := access.Request{Person: who.Person, At: now}
	dec, err := d.access.Decide(door, q)
	if err != nil {
		return api.Door{}, errNobody(who.Person)
	}
	res := api.Door{
		Target: door.Name, Kind: kindOf(door.Target), Hosts: append([]string{}, door.Host...), Port: door.Port, Close: door.Close.String(), IPv6: door.IPv6,
		Allowed: dec.Askable(), AtMost: int64(dec.AtMost / time.Second), Until: dec.Latest, Always: []string{}, Reasons: reasonsOf(dec), Hint: dec.Hint,
		Needs:  api.Needs{Reason: dec.NeedsReason, Approval: append([]string{}, dec.NeedsApproval...), BreakGlass: dec.MayBreakGlass},
		Grants: []api.Grant{},
	}
	if door.Agent != "" {
		res.Connected = g.connected(door.Agent)
	}
	if g.ledger == nil {
		without(&res, dec)
	}
	for _, p := range dec.Always {
		res.Always = append(res.Always, printable.Prefix(p))
	}
	admitted := dec.Askable() || len(dec.Reasons) > 0 && dec.Reasons[0].OK
	for _, o := range grants(door.Name) {
		switch {
		case o.Person == who.Person || d.role(who.Person) == api.RoleAdmin:
		case !admitted || o.State == api.Waiting || o.State == api.Ended:
			continue
		default: // who else is in is to be seen, and no more than that
			o.Reason, o.Error, o.Rule, o.Warnings, o.Shared = "", "", "", []string{}, []string{}
		}
		res.Grants = append(res.Grants, o)
	}
	return res, nil
}

// without takes from res what a gate without a ledger does not open.
func without(res *api.Door, dec access.Decision) {
	var why *api.Error
	switch {
	case res.Kind == api.KindHost:
		why = errStatelessHost()
	case len(dec.NeedsApproval) > 0 && !dec.MayBreakGlass:
		why = errStatelessApproval(res.Target)
	default:
		return
	}
	res.Allowed, res.AtMost, res.Until, res.Hint = false, 0, time.Time{}, why.Hint
	res.Reasons = append(res.Reasons, api.Reason{Text: why.Message})
}

// Audit is the newest entries that f takes, newest first.
func (g *Gate) Audit(ctx context.Context, who Who, f Filter) ([]api.Entry, error) {
	if _, err := g.auditor(ctx, who); err != nil {
		return nil, err
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	res := []api.Entry{}
	err := g.ledger.Read(ctx, func(tx *ledger.Tx) error {
		all, err := tx.Audit(ledger.Filter{Person: f.Person, Target: f.Target, What: f.What, From: f.From, To: f.To, Before: f.Before, Limit: min(f.Limit, 1000)})
		if err == nil {
			res = append(res, all...)
		}
		return err
	})
	return res, g.ledgerError("read the audit", err)
}

// AuditAll yields all entries, oldest first; what yield returns ends it.
func (g *Gate) AuditAll(ctx context.Context, who Who, yield func(api.Entry) error) error {
	if _, err := g.auditor(ctx, who); err != nil {
		return err
	}
	for after := int64(0); ; {
		var some []api.Entry
		err := g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) { // a slow reader holds up nothing
			some, err = tx.AuditAfter(after, auditPage)
			return err
		})
		if err != nil {
			return g.ledgerError("read the audit", err)
		}
		for _, e := range some {
			if err := yield(e); err != nil {
				return err
			}
			after = e.Seq
		}
		if len(some) < auditPage {
			return nil
		}
	}
}

// auditPage is how many entries are read at a time.
const auditPage = 500

// Verify checks the audit's chain.
func (g *Gate) Verify(ctx context.Context, who Who) (api.Verdict, error) {
	if _, err := g.auditor(ctx, who); err != nil {
		return api.Verdict{}, err
	}
	var v api.Verdict
	err := g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		v, err = tx.Verify()
		return err
	})
	return v, g.ledgerError("check the audit", err)
}

func (g *Gate) auditor(ctx context.Context, who Who) (*directory, error) {
	d, err := g.administrator(ctx, who)
	if err == nil && g.ledger == nil {
		err = errStateless("its audit is in the log")
	}
	return d, err
}
