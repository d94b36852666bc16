package gate

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/gate/api"
	"sekisho/internal/securitygroup"
)

// A gate without a ledger: people and targets are the configuration's, grants are what the
// tags of the groups' rules say, the audit is the log. It runs where nothing is kept.
//
// So it cannot remember which signatures it has seen, beyond what one process does. What is
// signed is worth nothing to who sends it once more: it names the address that is let in,
// it is the same lease whoever opens it, and its end is reckoned from when it was signed.

// maxSame is how many leases somebody may have on one rule: a rule has room for fifty tags,
// and may be others' as well.
const maxSame = 10

// statelessID is a lease's id that is the same whoever makes it of the same request.
func statelessID(a asking) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{a.who.Person, a.door.Name, a.prefix.String(), cmp.Or(a.id, a.who.Nonce, rand.Text())}, "\x00")))
	return hex.EncodeToString(sum[:13])
}

// fromSigning has what was asked for last from when that was signed.
func (a *asking) fromSigning() error {
	if lag := a.now.Sub(a.who.Signed); !a.who.Signed.IsZero() && lag > 0 {
		a.until = a.until.Add(-lag)
	}
	if !a.until.After(a.now) {
		return errOver()
	}
	return nil
}

func (g *Gate) openStateless(ctx context.Context, d *directory, a asking) (api.Grant, error) {
	if a.door.Agent != "" {
		return api.Grant{}, errStatelessHost()
	}
	if err := a.fromSigning(); err != nil {
		return api.Grant{}, g.refused(ctx, a, err)
	}
	r := row{at: whereOf(a.door.Target)}
	r.ID, r.Target, r.Person, r.Prefix = statelessID(a), a.door.Name, a.who.Person, a.prefix
	r.State, r.Asked, r.Until, r.Reason, r.Break = api.Asked, a.now, a.until, a.reason, a.breaks
	r.Length = a.until.Sub(a.now)
	if same, is := g.already(ctx, d, a.door, r); is {
		if same.ID == r.ID || !same.Until.Before(r.Until) {
			return g.view(d, a.who, same), nil
		}
		r.ID = same.ID
	}
	what := "open"
	if a.breaks {
		what = breakGlass
	}
	g.audit(g.entry(a.who, what, r))
	// What was begun is seen through, within what the caller has.
	o, err := d.groups.Open(ctx, r.at.door(r.Target), r.Prefix, r.ID, r.Person, r.Length, nil)
	if err != nil {
		told := explain(err)
		e := g.entry(Who{}, "failed", r)
		e.OK, e.Why = false, told.Message
		g.audit(e)
		g.log.Warn("a grant could not be put in force", "grant", r.ID, "target", r.Target, "person", r.Person, "error", err)
		return api.Grant{}, told
	}
	r.State, r.Opened, r.Rule, r.Foreign, r.InForce = api.Open, g.now(), o.Rule.ID, o.Foreign, true
	if !o.Foreign {
		r.Until = o.Lease.Until
	}
	g.audit(g.entry(Who{}, "opened", r))
	res := g.view(d, a.who, r)
	for _, other := range o.Others {
		if other.Person != r.Person && !slices.Contains(res.Shared, other.Person) {
			res.Shared = append(res.Shared, other.Person)
		}
	}
	if slices.Sort(res.Shared); len(res.Shared) > 0 {
		res.Warnings = append(res.Warnings, r.Prefix.String()+" is also the address of "+names(res.Shared)+": whoever is behind it gets in while either of you has it open")
	}
	return res, nil
}

// already is the lease that r asks for, where it is there; else, where r's person has as
// many as one may have for the prefix, the one of them that ends last. What cannot be looked
// at is opened all the same.
func (g *Gate) already(ctx context.Context, d *directory, door access.Door, r row) (row, bool) {
	rows, err := g.leases(ctx, d, []access.Door{door})
	if err != nil {
		return row{}, false
	}
	rows = slices.DeleteFunc(rows, func(o row) bool { return o.Person != r.Person || o.Prefix != r.Prefix })
	if i := slices.IndexFunc(rows, func(o row) bool { return o.ID == r.ID }); i >= 0 {
		return rows[i], true
	}
	if len(rows) < maxSame {
		return row{}, false
	}
	return slices.MaxFunc(rows, func(x, y row) int { return x.Until.Compare(y.Until) }), true
}

// leases are the grants that the tags at doors say, with where they are.
func (g *Gate) leases(ctx context.Context, d *directory, doors []access.Door) ([]row, error) {
	who, failed := d.groups.Who(ctx, doors)
	for _, f := range failed {
		g.log.Warn("security groups could not be looked at", "place", f.Place.String(), "error", f.Error, "hint", f.Hint)
	}
	if len(failed) > 0 && len(who) == 0 {
		return nil, explain(failed[0].Err())
	}
	var rows []row
	for _, w := range who {
		for _, l := range w.Leases {
			r := row{at: whereOf(d.cfg.Targets[w.Target])}
			r.ID, r.Target, r.Person, r.Prefix, r.Rule = l.ID, w.Target, l.Person, w.Source.Prefix, w.Rule
			r.State, r.Until, r.InForce = api.Open, l.Until, true
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func (g *Gate) grantsStateless(ctx context.Context, d *directory, who Who, all bool) ([]api.Grant, error) {
	rows, err := g.leases(ctx, d, d.access.Doors())
	if err != nil {
		return nil, err
	}
	res := []api.Grant{}
	for _, r := range rows {
		if !all && r.Person != who.Person {
			continue
		}
		v := g.view(d, who, r)
		for _, o := range rows {
			if o.Person != r.Person && o.Target == r.Target && o.Prefix == r.Prefix && !slices.Contains(v.Shared, o.Person) {
				v.Shared = append(v.Shared, o.Person)
			}
		}
		slices.Sort(v.Shared)
		res = append(res, v)
	}
	return res, nil
}

func (g *Gate) leaseOf(ctx context.Context, d *directory, who Who, id string) (row, error) {
	rows, err := g.leases(ctx, d, d.access.Doors())
	if err != nil {
		return row{}, err
	}
	for _, r := range rows {
		if r.ID == id && (r.Person == who.Person || d.role(who.Person) == api.RoleAdmin) {
			return r, nil
		}
	}
	return row{}, errNoGrant()
}

func (g *Gate) grantStateless(ctx context.Context, d *directory, who Who, id string) (api.Grant, error) {
	r, err := g.leaseOf(ctx, d, who, id)
	if err != nil {
		return api.Grant{}, err
	}
	return g.view(d, who, r), nil
}

func (g *Gate) closeStateless(ctx context.Context, d *directory, who Who, id string) (api.Grant, error) {
	r, err := g.leaseOf(ctx, d, who, id)
	if err != nil {
		return api.Grant{}, err
	}
	g.audit(g.entry(who, "close", r))
	err = d.groups.Release(ctx, r.at.door(r.Target), access.Opened{
		Rule:  securitygroup.Rule{ID: r.Rule, Group: r.at.Group, Permission: securitygroup.TCP(r.at.Port, securitygroup.Source{Prefix: r.Prefix})},
		Lease: securitygroup.Lease{ID: r.ID, Person: r.Person, Until: r.Until.AddDate(1, 0, 0)},
	})
	if err != nil {
		g.log.Warn("a grant could not be ended", "grant", r.ID, "target", r.Target, "person", r.Person, "error", err)
		return api.Grant{}, explain(err)
	}
	r.over(g.now(), "closed")
	return g.view(d, who, r), nil
}

func (g *Gate) extendStateless(ctx context.Context, d *directory, who Who, id string, length time.Duration) (api.Grant, error) {
	r, err := g.leaseOf(ctx, d, Who{Person: who.Person}, id)
	if err != nil {
		return api.Grant{}, err
	}
	if r.Person != who.Person {
		return api.Grant{}, errNoGrant()
	}
	a := asking{who: who, door: access.Door{Name: r.Target, Target: d.cfg.Targets[r.Target]}, prefix: r.Prefix, length: length, reason: "-", now: g.now()} // where it needs a reason, it was given one
	if err := g.decide(d, &a); err != nil {
		return api.Grant{}, g.refused(ctx, a, err)
	}
	if err := a.fromSigning(); err != nil {
		return api.Grant{}, g.refused(ctx, a, err)
	}
	if !a.until.After(r.Until) {
		return g.view(d, who, r), nil
	}
	r.Asked, r.Length = a.now, a.until.Sub(a.now)
	g.audit(g.entry(who, "extend", r))
	o, err := d.groups.Open(ctx, r.at.door(r.Target), r.Prefix, r.ID, r.Person, r.Length, nil)
	if err != nil {
		return api.Grant{}, explain(err)
	}
	r.Rule, r.Foreign = cmp.Or(o.Rule.ID, r.Rule), o.Foreign
	if !o.Foreign {
		r.Until = o.Lease.Until
	}
	return g.view(d, who, r), nil
}

// nonces remembers signatures in this process alone: all that a gate without a ledger can.
type nonces struct {
	mu sync.Mutex
	m  map[[32]byte]time.Time
}

const maxNonces = 100_000

var errFull = errors.New("too many signatures at the same time")

func (n *nonces) use(key [32]byte, now, until time.Time) (fresh bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.m == nil {
		n.m = map[[32]byte]time.Time{}
	}
	if t, there := n.m[key]; there && now.Before(t) {
		return false, nil
	}
	if len(n.m) >= maxNonces {
		for k, t := range n.m {
			if !now.Before(t) {
				delete(n.m, k)
			}
		}
		if len(n.m) >= maxNonces {
			return false, api.Errorf(api.Busy, "try again in a minute", "%v", errFull)
		}
	}
	n.m[key] = until
	return true, nil
}
