package access

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sekisho/internal/securitygroup"
)

// Leases on rules. EC2 has one rule for a prefix and a port, whoever asked for it, and
// nothing to change it by but its id: so those who need a rule at the same time, from any
// machine, each write a tag of their own on it, and whoever takes it away marks it first
// with a tag, waits, and looks again. Of two who write at the same time at least one sees
// the other's tag then: either the closer sees the lease and lets the rule be, or the
// newcomer sees the mark, and makes a rule of its own in place of the old one, whose id the
// closer then finds gone. A tag is removed only with the value that was read, so that no
// renewal is lost. Crashes at any step leave a rule whose tags say when it ends.

// Opened is a door that is open.
type Opened struct {
	Rule    securitygroup.Rule
	Lease   securitygroup.Lease
	Made    bool                  // the rule was made for it
	Others  []securitygroup.Lease // who else needs the rule
	Fixed   []string              // whose fixed address it is for good
	Foreign bool                  // the rule is not ours: there is no lease, and nothing to close
}

// tries is how often what others change at the same time is begun anew.
const tries = 20

// Open lets prefix in through door for length from now, by the lease id; what is there
// under that id already is not made shorter. ready, unless nil, is called each time that
// the group lets it in, as far as is known: before Open returns, which may look once more
// whether that lasts.
func (a *Access) Open(ctx context.Context, door Door, prefix netip.Prefix, id, person string, length time.Duration, ready func()) (Opened, error) {
	if hint, why := door.refuses(prefix); why != "" {
		return Opened{}, hinted(hint, "%s is not opened: %s", door.Name, why)
	}
	if ready == nil {
		ready = func() {}
	}
	p := securitygroup.TCP(door.Port, securitygroup.Source{Prefix: prefix})
	l := securitygroup.Lease{ID: id, Person: person}
	var with []securitygroup.Lease // what else a rule held that we take the place of
	var fixed []string
	for try := range tries {
		l.Until = later(l.Until, a.now(door).Add(length))
		made, err := a.authorize(ctx, door, p, append(with, l), fixed)
		if err == nil {
			ready()
			o := Opened{Rule: made, Lease: l, Made: true, Others: with, Fixed: fixed}
			return a.correct(ctx, door, o, length)
		}
		if !securitygroup.IsDuplicate(err) {
			return Opened{}, err
		}
		r, ok, err := a.find(ctx, door, p)
		if err != nil {
			return Opened{}, err
		}
		if !ok { // it is not read yet, or gone already
			if err := a.backOff(ctx, try); err != nil {
				return Opened{}, err
			}
			continue
		}
		ours, is := r.Ours()
		if !is {
			ready()
			return Opened{Rule: r, Foreign: true}, nil
		}
		l.Until = a.now(door).Add(length) // by AWS's clock, which was heard now
		r, ours, stays, err := a.attach(ctx, door, r, ours, &l, ready)
		if err != nil {
			return Opened{}, err
		}
		if !stays {
			if err := a.backOff(ctx, try); err != nil {
				return Opened{}, err
			}
			continue
		}
		with, fixed = others(ours.Live(a.now(door)), id), ours.Fixed
		if len(ours.Ending) == 0 {
			return Opened{Rule: r, Lease: l, Others: with, Fixed: fixed}, nil
		}
		// Somebody takes it away, or died in it: a new rule takes its place, for all who need it.
		if err := a.revoke(ctx, door.Place(), r); err != nil {
			return Opened{}, err
		}
	}
	return Opened{}, hinted("try again in a moment", "%s: others change the rule for %s at the same time, again and again", door.Name, prefix)
}

// correct makes the end of a lease right that was reckoned by a clock that differs from
// AWS's, which was heard first in the answer.
func (a *Access) correct(ctx context.Context, door Door, o Opened, length time.Duration) (Opened, error) {
	want := a.now(door).Add(length)
	if d := want.Sub(o.Lease.Until); d.Abs() < 5*time.Second {
		return o, nil
	}
	return a.Renew(ctx, door, o, length)
}

// authorize makes the rule with the tags of all of its leases.
func (a *Access) authorize(ctx context.Context, door Door, p securitygroup.Permission, leases []securitygroup.Lease, fixed []string) (securitygroup.Rule, error) {
	tags := securitygroup.ManagedTags()
	tags[securitygroup.TagSource] = p.String()
	for _, l := range leases {
		key, value := l.Tag()
		tags[key] = value
	}
	if len(fixed) > 0 {
		tags[securitygroup.TagFixed] = strings.Join(fixed, " ")
	}
	rules, err := a.Cloud.Authorize(ctx, door.Place(), door.AWS.Group, []securitygroup.Permission{p}, describe(fixed, leases), tags)
	if err != nil {
		return securitygroup.Rule{}, err
	}
	if len(rules) != 1 {
		return securitygroup.Rule{}, fmt.Errorf("%s: EC2 answered with %d rules where one was made", door.Name, len(rules))
	}
	return rules[0], nil
}

// attach writes l on a rule of ours and looks again. It returns the rule as it is then;
// stays is false where it is gone.
func (a *Access) attach(ctx context.Context, door Door, r securitygroup.Rule, ours securitygroup.Ours, l *securitygroup.Lease, ready func()) (_ securitygroup.Rule, _ securitygroup.Ours, stays bool, _ error) {
	for _, have := range ours.Leases {
		if have.ID == l.ID {
			l.Until = later(l.Until, have.Until)
		}
	}
	l.Until = l.Until.Truncate(time.Second)
	key, value := l.Tag()
	err := a.Cloud.Tag(ctx, door.Place(), r.ID, map[string]string{key: value, securitygroup.TagSource: r.Permission.String()})
	switch {
	case securitygroup.IsNotFound(err):
		return r, ours, false, nil
	case securitygroup.IsTagLimit(err):
		return r, ours, false, hinted("wait until some of them have ended: `sekisho leases`", "%s: the rule for %s has as many leases as a rule can have", door.Name, r.Source)
	case err != nil:
		return r, ours, false, err
	}
	if len(ours.Ending) == 0 {
		ready()
	}
	if err := pause(ctx, a.settle()); err != nil {
		return r, ours, false, err
	}
	r, ours, stays, err = a.reread(ctx, door, r.ID)
	if err != nil || !stays {
		return r, ours, false, err
	}
	if !slices.ContainsFunc(ours.Leases, func(have securitygroup.Lease) bool { return have.ID == l.ID && !have.Until.Before(l.Until) }) { // who tidied up took it for one that has ended
		return r, ours, false, nil
	}
	if len(ours.Ending) == 0 {
		_ = a.Cloud.SetDescription(ctx, door.Place(), r.Group, r.ID, describe(ours.Fixed, ours.Live(a.now(door)))) // for people only
	}
	return r, ours, stays, err
}

// Renew makes the lease that o holds end length from now. It opens anew what somebody
// took away.
func (a *Access) Renew(ctx context.Context, door Door, o Opened, length time.Duration) (Opened, error) {
	if o.Foreign {
		return o, nil
	}
	l := o.Lease
	l.Until = a.now(door).Add(length)
	key, value := l.Tag()
	err := a.Cloud.Tag(ctx, door.Place(), o.Rule.ID, map[string]string{key: value})
	if securitygroup.IsNotFound(err) {
		return a.Open(ctx, door, o.Rule.Source.Prefix, l.ID, l.Person, length, nil)
	}
	if err != nil {
		return o, err
	}
	o.Lease = l
	return o, nil
}

// Release ends the lease that o holds: the rule goes with the last that needs it. What is
// gone already is no error, and neither is a lease that was made longer since: it stays.
func (a *Access) Release(ctx context.Context, door Door, o Opened) error {
	if o.Foreign {
		return nil
	}
	for range tries {
		// By what it lets in, for another rule may have taken its place.
		r, ok, err := a.find(ctx, door, o.Rule.Permission)
		if err != nil {
			return err
		}
		if !ok && o.Rule.ID == "" {
			return nil
		}
		if !ok { // it is gone, or not read yet
			r = o.Rule
		}
		ours, is := r.Ours()
		if !is {
			return nil
		}
		i := slices.IndexFunc(ours.Leases, func(l securitygroup.Lease) bool { return l.ID == o.Lease.ID })
		switch {
		case i >= 0 && ours.Leases[i].Until.After(o.Lease.Until):
			return nil
		case !holds(ours, a.now(door), o.Lease):
			gone, err := a.end(ctx, door.Place(), []securitygroup.Rule{r}, o.Lease)
			if err != nil || len(gone) == 1 {
				return err
			}
		case i < 0:
			return nil
		default:
			if err := a.untag(ctx, door.Place(), r.ID, ours.Leases[i]); err != nil {
				return err
			}
			_ = a.Cloud.SetDescription(ctx, door.Place(), r.Group, r.ID, describe(ours.Fixed, others(ours.Live(a.now(door)), o.Lease.ID))) // for people only
			// The others may go at the same time, each leaving it to the next: look again.
			if err := pause(ctx, a.settle()); err != nil {
				return err
			}
		}
	}
	return hinted("`sekisho reap` takes it away when it has ended", "%s: others change the rule for %s at the same time, again and again", door.Name, o.Rule.Source)
}

// holds reports whether anybody needs a rule at now, but for the lease without, as long
// as that was not made longer since.
func holds(o securitygroup.Ours, now time.Time, without securitygroup.Lease) bool {
	if len(o.Fixed) > 0 {
		return true
	}
	return slices.ContainsFunc(o.Live(now), func(l securitygroup.Lease) bool { return l.ID != without.ID || l.Until.After(without.Until) })
}

// end takes rules away that nobody needs but the lease without, and says which are gone:
// each is marked, and stays if somebody wrote a lease on it meanwhile.
func (a *Access) end(ctx context.Context, place securitygroup.Place, rules []securitygroup.Rule, without securitygroup.Lease) (gone []securitygroup.Rule, err error) {
	var errs []error
	now, _ := a.Cloud.Now(place)
	mark := securitygroup.Mark{ID: rand.Text()[:12], Since: now}
	marked := map[string]securitygroup.Rule{}
	for _, r := range rules {
		switch err := a.mark(ctx, place, r, mark); {
		case securitygroup.IsNotFound(err):
			gone = append(gone, r)
		case err != nil:
			errs = append(errs, err)
		default:
			marked[r.ID] = r
		}
	}
	if len(marked) == 0 {
		return gone, errors.Join(errs...)
	}
	if err := pause(ctx, a.settle()); err != nil {
		return gone, errors.Join(append(errs, err)...)
	}
	ids := slices.Sorted(maps.Keys(marked))
	var again []string // whom somebody needs
	if err := a.Cloud.Rules(ctx, place, securitygroup.Query{IDs: ids}, func(rs []securitygroup.Rule) error {
		for _, r := range rs {
			ours, is := r.Ours()
			if now, _ := a.Cloud.Now(place); !is || holds(ours, now, without) && !ours.Altered(r) {
				again = append(again, r.ID)
			}
		}
		return nil
	}); err != nil {
		return gone, errors.Join(append(errs, err)...)
	}
	for _, id := range ids {
		if slices.Contains(again, id) {
			if err := a.untag(ctx, place, id, mark); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		if err := a.revoke(ctx, place, marked[id]); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, marked[id])
	}
	return gone, errors.Join(errs...)
}

// mark says on a rule that it is being taken away. Where its leases leave no room for
// another tag, the first to end makes some.
func (a *Access) mark(ctx context.Context, place securitygroup.Place, r securitygroup.Rule, m securitygroup.Mark) error {
	key, value := m.Tag()
	err := a.Cloud.Tag(ctx, place, r.ID, map[string]string{key: value})
	if !securitygroup.IsTagLimit(err) {
		return err
	}
	if ours, _ := r.Ours(); len(ours.Leases) > 0 {
		if err := a.untag(ctx, place, r.ID, ours.Leases[0]); err != nil {
			return err
		}
	}
	return a.Cloud.Tag(ctx, place, r.ID, map[string]string{key: value})
}

// untag takes tags off a rule that have the values that they were read with. What is gone
// is no error.
func (a *Access) untag(ctx context.Context, place securitygroup.Place, id string, tagged ...interface{ Tag() (key, value string) }) error {
	tags := map[string]string{}
	for _, t := range tagged {
		key, value := t.Tag()
		tags[key] = value
	}
	err := a.Cloud.UntagIf(ctx, place, id, tags)
	if securitygroup.IsNotFound(err) {
		return nil
	}
	return err
}

// revoke takes a rule away; one that is gone is no error.
func (a *Access) revoke(ctx context.Context, place securitygroup.Place, r securitygroup.Rule) error {
	err := a.Cloud.Revoke(ctx, place, r.Group, []string{r.ID})
	if securitygroup.IsNotFound(err) {
		return nil
	}
	return err
}

// find is the rule of door's group with just that permission, ours or not.
func (a *Access) find(ctx context.Context, door Door, p securitygroup.Permission) (found securitygroup.Rule, ok bool, err error) {
	err = a.Cloud.Rules(ctx, door.Place(), securitygroup.Query{Groups: []string{door.AWS.Group}}, func(rules []securitygroup.Rule) error {
		for _, r := range rules {
			if r.Permission == p {
				found, ok = r, true
			}
		}
		return nil
	})
	return found, ok, err
}

// reread reads a rule of ours anew; ok is false where it is gone, or ours no longer.
func (a *Access) reread(ctx context.Context, door Door, id string) (r securitygroup.Rule, ours securitygroup.Ours, ok bool, err error) {
	err = a.Cloud.Rules(ctx, door.Place(), securitygroup.Query{IDs: []string{id}}, func(rules []securitygroup.Rule) error {
		for _, r = range rules {
			ours, ok = r.Ours()
		}
		return nil
	})
	return r, ours, ok, err
}

// now is AWS's time: what a lease's end is judged by.
func (a *Access) now(door Door) time.Time {
	t, _ := a.Cloud.Now(door.Place())
	return t
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func others(leases []securitygroup.Lease, id string) []securitygroup.Lease {
	return slices.DeleteFunc(slices.Clone(leases), func(l securitygroup.Lease) bool { return l.ID == id })
}

// describe is a rule's description, for people: who needs it, and until when.
func describe(fixed []string, leases []securitygroup.Lease) string {
	people := map[string]bool{}
	var until time.Time
	for _, l := range leases {
		people[l.Person] = true
		if l.Until.After(until) {
			until = l.Until
		}
	}
	if len(fixed) > 0 {
		text := "sekisho: fixed address of " + strings.Join(fixed, ", ")
		if len(people) > 0 {
			text += fmt.Sprintf("; also open for %s", strings.Join(slices.Sorted(maps.Keys(people)), ", "))
		}
		return securitygroup.Describe(text)
	}
	return securitygroup.Describe(fmt.Sprintf("sekisho: open for %s until %s", strings.Join(slices.Sorted(maps.Keys(people)), ", "), until.UTC().Format("2006-01-02T15:04:05Z")))
}

// backOff waits until what others did is likely to be read, each time longer, and not as
// long as they do.
func (a *Access) backOff(ctx context.Context, try int) error {
	d := a.settle() / 8 << min(try, 3)
	return pause(ctx, d/2+mathrand.N(d))
}

// pause waits, or returns why it cannot.
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
