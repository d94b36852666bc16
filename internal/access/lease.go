package access

import (
	"context"
	"crypto/rand"
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
// closer then finds gone. It marks the old one itself before, so that whoever comes then
// does the same; it takes along the leases that are there. A tag is removed only with the
// value that was read, so that no renewal is lost. Crashes at any step leave a rule whose
// tags say when it ends.

// Opened is a door that is open.
type Opened struct {
	Rule    securitygroup.Rule
	Lease   securitygroup.Lease
	Made    bool                  // the rule was made for it
	Others  []securitygroup.Lease // who else needs the rule
	Fixed   []string              // whose fixed address it is for good
	Foreign bool                  // the rule is not ours: there is no lease, and nothing to close
	Longer  bool                  // the lease was there, for longer than was asked for now: Shorten
}

// clockSlack is by how much an end may be wrong that was reckoned by a clock that differs
// from AWS's.
const clockSlack = 5 * time.Second

// tries is how often what others change at the same time is begun anew.
const tries = 20

// Open lets prefix in through door for length from now, by the lease id; what is there
// under that id already is not made shorter. ready, unless nil, is called each time that
// the group lets it in, as far as is known: before Open returns, which may look once more
// whether that lasts.
func (a *Access) Open(ctx context.Context, door Door, prefix netip.Prefix, id, person string, length time.Duration, ready func()) (Opened, error) {
	if err := a.Reachable(door); err != nil {
		return Opened{}, err
	}
	if hint, why := door.refuses(prefix); why != "" {
		return Opened{}, hinted(hint, "%s is not opened: %s", door.Name, why)
	}
	if ready == nil {
		ready = func() {}
	}
	p := securitygroup.TCP(door.Port, securitygroup.Source{Prefix: prefix})
	l := securitygroup.Lease{ID: id, Person: person}
	mark := rand.Text()[:12]
	var owed owed // what a rule held that we take the place of
	for try := range tries {
		l.Until = later(l.Until, a.now(door).Add(length))
		made, err := a.authorize(ctx, door, p, owed, l)
		if err == nil {
			ready()
			return a.correct(ctx, door, Opened{Rule: made, Lease: l, Made: true, Others: owed.leases, Fixed: owed.fixed}, length)
		}
		if securitygroup.IsQuota(err) {
			return Opened{}, a.full(ctx, door.Place(), door.AWS.Group, err)
		}
		if !securitygroup.IsDuplicate(err) {
			return Opened{}, err
		}
		r, ok, err := a.find(ctx, door.Place(), door.AWS.Group, p)
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
		ending := byOthers(ours.Ending, mark)
		r, ours, stays, err := a.attach(ctx, door, r, ours, &l, owed, mark, ready)
		if err != nil {
			return Opened{}, err
		}
		if !stays {
			if err := a.backOff(ctx, try); err != nil {
				return Opened{}, err
			}
			continue
		}
		owed = owedOf(ours, a.now(door), id)
		if len(byOthers(ours.Ending, mark)) == 0 {
			longer := l.Until.Sub(a.now(door).Add(length)) > clockSlack
			return Opened{Rule: r, Lease: l, Others: owed.leases, Fixed: owed.fixed, Longer: longer}, a.unmark(ctx, door.Place(), r.ID, ours.Ending)
		}
		// Somebody takes it away, or died in it: a new rule takes its place, for all who need
		// it. Who came since sees that from our own mark: where there was none, it comes first.
		if len(ending) > 0 {
			if _, err := a.revoke(ctx, door.Place(), r); err != nil {
				return Opened{}, err
			}
		}
	}
	return Opened{}, hinted("try again in a moment", "%s: others change the rule for %s at the same time, again and again", door.Name, prefix)
}

// byOthers are the marks but for ours.
func byOthers(marks []securitygroup.Mark, own string) []securitygroup.Mark {
	return slices.DeleteFunc(slices.Clone(marks), func(m securitygroup.Mark) bool { return m.ID == own })
}

// unmark takes marks off a rule.
func (a *Access) unmark(ctx context.Context, place securitygroup.Place, id string, marks []securitygroup.Mark) error {
	over := make([]tagged, len(marks))
	for i, m := range marks {
		over[i] = m
	}
	return a.untag(ctx, place, id, over...)
}

// owed is what a rule has to say that takes the place of another, beside the lease that it
// is made for.
type owed struct {
	leases []securitygroup.Lease
	fixed  []string
}

// owedOf is what ours says but for the lease id. Others' tags are lost: a person's policy
// allows none to be set.
func owedOf(ours securitygroup.Ours, now time.Time, id string) owed {
	return owed{leases: others(ours.Live(now), id), fixed: ours.Fixed}
}

// tag adds the leases and fixed addresses that have is without.
func (o owed) tag(tags map[string]string, have securitygroup.Ours) {
	for _, l := range o.leases {
		if !slices.ContainsFunc(have.Leases, func(h securitygroup.Lease) bool { return h.ID == l.ID }) {
			key, value := l.Tag()
			tags[key] = value
		}
	}
	if len(o.fixed) > 0 && len(have.Fixed) == 0 {
		tags[securitygroup.TagFixed] = strings.Join(o.fixed, " ")
	}
}

// correct makes the end of a lease right that was reckoned by a clock that differs from
// AWS's, which was heard first in the answer.
func (a *Access) correct(ctx context.Context, door Door, o Opened, length time.Duration) (Opened, error) {
	want := a.now(door).Add(length)
	if d := want.Sub(o.Lease.Until); d.Abs() < clockSlack {
		return o, nil
	}
	o, there, err := a.extend(ctx, door, o, length)
	if err == nil && !there {
		return a.Open(ctx, door, o.Rule.Source.Prefix, o.Lease.ID, o.Lease.Person, length, nil)
	}
	return o, err
}

// all are the tags of a rule for p.
func (o owed) all(p securitygroup.Permission) map[string]string {
	tags := securitygroup.ManagedTags()
	tags[securitygroup.TagSource] = p.String()
	o.tag(tags, securitygroup.Ours{})
	return tags
}

// authorize makes the rule with the tags of all of its leases.
func (a *Access) authorize(ctx context.Context, door Door, p securitygroup.Permission, owed owed, l securitygroup.Lease) (securitygroup.Rule, error) {
	tags := owed.all(p)
	key, value := l.Tag()
	tags[key] = value
	rules, err := a.Cloud.Authorize(ctx, door.Place(), door.AWS.Group, []securitygroup.Permission{p}, describe(owed.fixed, append(owed.leases, l)), tags)
	if err != nil {
		return securitygroup.Rule{}, err
	}
	if len(rules) != 1 {
		return securitygroup.Rule{}, fmt.Errorf("%s: EC2 answered with %d rules where one was made", door.Name, len(rules))
	}
	return rules[0], nil
}

// attach writes l, and what is owed, on a rule of ours and looks again: with a mark too,
// where it bears those of others. It returns the rule as it is then; stays is false where
// it is gone, or lets in another than it did.
func (a *Access) attach(ctx context.Context, door Door, r securitygroup.Rule, ours securitygroup.Ours, l *securitygroup.Lease, owed owed, mark string, ready func()) (_ securitygroup.Rule, _ securitygroup.Ours, stays bool, _ error) {
	for _, have := range ours.Leases {
		if have.ID == l.ID {
			l.Until = later(l.Until, have.Until)
		}
	}
	l.Until = l.Until.Truncate(time.Second)
	key, value := l.Tag()
	tags := map[string]string{key: value, securitygroup.TagSource: r.Permission.String()}
	owed.tag(tags, ours)
	ending := len(byOthers(ours.Ending, mark)) > 0
	if ending {
		key, value := securitygroup.Mark{ID: mark, Since: a.now(door)}.Tag()
		tags[key] = value
	}
	err := a.write(ctx, door.Place(), r, tags)
	switch {
	case securitygroup.IsNotFound(err):
		return r, ours, false, nil
	case securitygroup.IsTagLimit(err):
		return r, ours, false, hinted("wait until some of them have ended: `sekisho leases`", "%s: the rule for %s has as many leases as a rule can have", door.Name, r.Source)
	case err != nil:
		return r, ours, false, err
	}
	if !ending {
		ready()
	}
	now, ours, stays, err := a.standing(ctx, door, r, *l)
	if err == nil && stays && len(ours.Ending) == 0 {
		_ = a.Cloud.SetDescription(ctx, door.Place(), r.Group, r.ID, describe(ours.Fixed, ours.Live(a.now(door)))) // for people only
	}
	return now, ours, stays, err
}

// standing looks again at a rule that l was written on. is is false where it is gone, lets
// in another than it did, or has lost l: to who tidied up and took it for one that had ended.
func (a *Access) standing(ctx context.Context, door Door, r securitygroup.Rule, l securitygroup.Lease) (_ securitygroup.Rule, _ securitygroup.Ours, is bool, _ error) {
	if err := pause(ctx, a.settle()); err != nil {
		return r, securitygroup.Ours{}, false, err
	}
	now, ours, ok, err := a.reread(ctx, door.Place(), r.ID)
	if err != nil || !ok {
		return r, ours, false, err
	}
	if now.Permission != r.Permission {
		return now, ours, false, a.untag(ctx, door.Place(), r.ID, l)
	}
	is = slices.ContainsFunc(ours.Leases, func(have securitygroup.Lease) bool {
		return have.ID == l.ID && !have.Until.Before(l.Until.Truncate(time.Second))
	})
	return now, ours, is, nil
}

// Renew makes the lease that o holds end length from now, and looks whether that lasts. It
// opens anew what somebody took away, or is about to.
func (a *Access) Renew(ctx context.Context, door Door, o Opened, length time.Duration) (Opened, error) {
	o, there, err := a.extend(ctx, door, o, length)
	if err != nil {
		return o, err
	}
	return a.lasting(ctx, door, o, there, length)
}

// extend is the first half of Renew: there is false where the rule is gone.
func (a *Access) extend(ctx context.Context, door Door, o Opened, length time.Duration) (_ Opened, there bool, _ error) {
	if o.Foreign {
		return o, true, nil
	}
	if _, heard := a.Cloud.Now(door.Place()); !heard { // by our own clock it might have ended already
		if _, _, there, err := a.reread(ctx, door.Place(), o.Rule.ID); err != nil || !there {
			return o, false, err
		}
	}
	l := o.Lease
	l.Until = a.now(door).Add(length)
	key, value := l.Tag()
	err := a.Cloud.Tag(ctx, door.Place(), o.Rule.ID, map[string]string{key: value})
	if securitygroup.IsNotFound(err) {
		return o, false, nil
	}
	if err != nil {
		return o, false, err
	}
	o.Lease = l
	return o, true, nil
}

// lasting is the second half of Renew.
func (a *Access) lasting(ctx context.Context, door Door, o Opened, there bool, length time.Duration) (Opened, error) {
	if o.Foreign {
		return o, nil
	}
	if there {
		r, ours, stands, err := a.standing(ctx, door, o.Rule, o.Lease)
		if err != nil {
			return o, err
		}
		if stands && len(ours.Ending) == 0 {
			o.Rule = r
			return o, nil
		}
	}
	return a.Open(ctx, door, o.Rule.Source.Prefix, o.Lease.ID, o.Lease.Person, length, nil)
}

// Shorten has the lease id on the rule for prefix end no later than length from now. What
// ends before, or is not there, is as it should be.
func (a *Access) Shorten(ctx context.Context, door Door, prefix netip.Prefix, id string, length time.Duration) error {
	place, p := door.Place(), securitygroup.TCP(door.Port, securitygroup.Source{Prefix: prefix})
	var until time.Time
	sure := false
	for try := range tries {
		if try > 0 { // who takes the rule's place takes along the leases that they have read
			if err := pause(ctx, a.settle()); err != nil {
				return err
			}
		}
		r, ok, err := a.find(ctx, place, door.AWS.Group, p)
		if err != nil {
			return err
		}
		if until.IsZero() { // by AWS's clock, which was heard now
			until = a.now(door).Add(length).Truncate(time.Second)
		}
		ours, is := r.Ours()
		i := slices.IndexFunc(ours.Leases, func(l securitygroup.Lease) bool { return l.ID == id })
		if !ok || !is || i < 0 || !ours.Leases[i].Until.After(until) {
			if sure {
				return nil
			}
			sure = true
			continue
		}
		sure = false
		ours.Leases[i].Until = until
		key, value := ours.Leases[i].Tag()
		if err := a.Cloud.Tag(ctx, place, r.ID, map[string]string{key: value}); err != nil && !securitygroup.IsNotFound(err) {
			return err
		}
		_ = a.Cloud.SetDescription(ctx, place, r.Group, r.ID, describe(ours.Fixed, ours.Live(a.now(door)))) // for people only
	}
	return hinted("it is tried again; the gate ends it on time, too", "%s: others change the rule for %s at the same time, again and again", door.Name, prefix)
}

// Release ends the lease that o holds: the rule goes with the last that needs it. What is
// gone already is no error, and neither is a lease that was made longer since: it stays.
func (a *Access) Release(ctx context.Context, door Door, o Opened) error {
	if o.Foreign {
		return nil
	}
	place := door.Place()
	// Who takes a rule's place takes its leases along, perhaps one that is over since: what
	// others took away is looked for once more.
	once := true
	for range tries {
		// By what it lets in, for another rule may have taken its place.
		r, ok, err := a.find(ctx, place, door.AWS.Group, o.Rule.Permission)
		if err != nil {
			return err
		}
		if !ok { // it is gone, or not read yet
			if r = o.Rule; r.ID == "" {
				return nil
			}
		}
		ours, is := r.Ours()
		if ok && !is {
			return nil
		}
		i := slices.IndexFunc(ours.Leases, func(l securitygroup.Lease) bool { return l.ID == o.Lease.ID })
		switch {
		case ok && i >= 0 && ours.Leases[i].Until.After(o.Lease.Until):
			return nil
		case !ok, !holds(ours, a.now(door), o.Lease):
			// First the lease: who takes the rule's place has no use for it, and a reaper takes
			// the rule, whatever befalls us.
			own := o.Lease
			if i >= 0 {
				own = ours.Leases[i]
			}
			if err := a.untag(ctx, place, r.ID, own); err != nil {
				return err
			}
			fate := a.end(ctx, place, []securitygroup.Rule{r}, o.Lease)[r.ID]
			switch {
			case fate.err != nil:
				return fate.err
			case fate.before && once:
				once = false
			case fate.gone:
				return nil
			case !ok: // others need it, or it lets in somebody else by now
				return nil
			}
		case i < 0 && len(ours.Ending) > 0 && once:
			once = false
		case i < 0:
			return nil
		default:
			if err := a.untag(ctx, place, r.ID, ours.Leases[i]); err != nil {
				return err
			}
			_ = a.Cloud.SetDescription(ctx, place, r.Group, r.ID, describe(ours.Fixed, others(ours.Live(a.now(door)), o.Lease.ID))) // for people only
			// The others may go at the same time, each leaving it to the next: look again.
			once = true
		}
		if err := pause(ctx, a.settle()); err != nil {
			return err
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

// fate is what became of a rule that was to go. The zero value: it stays, for somebody
// needs it.
type fate struct {
	gone   bool
	before bool  // others took it away
	err    error // why it is still there
}

// end takes rules away that nobody needs but the lease without, by id: each is marked, and
// stays if somebody wrote a lease on it meanwhile.
func (a *Access) end(ctx context.Context, place securitygroup.Place, rules []securitygroup.Rule, without securitygroup.Lease) map[string]fate {
	fates := map[string]fate{}
	for len(rules) > 0 {
		c := a.claim(ctx, place, rules, func(r securitygroup.Rule, ours securitygroup.Ours, now time.Time) bool {
			return holds(ours, now, without) && (len(ours.Fixed) > 0 || !ours.Altered(r))
		})
		for _, r := range rules[:c.looked] {
			f := c.fates[r.ID]
			if c.free[r.ID] {
				if f.err = c.late(); f.err == nil {
					f.before, f.err = a.revoke(ctx, place, r)
				}
				if f.gone = f.err == nil; !f.gone {
					_ = a.untag(ctx, place, r.ID, c.marks[r.ID]) // else whoever tries for days fills its tags
				}
			}
			fates[r.ID] = f
		}
		rules = rules[c.looked:]
	}
	return fates
}

// claim is some rules that are about to change in a way that shuts somebody out.
type claim struct {
	looked int                           // so many of the rules
	free   map[string]bool               // those that nobody needs: they bear our mark
	rules  map[string]securitygroup.Rule // as they are with it
	marks  map[string]securitygroup.Mark
	fates  map[string]fate // of the others
	began  time.Time       // by this machine's clock, which runs while it is suspended
}

const (
	claimed   = 100              // rules are claimed at a time
	claimTime = 20 * time.Second // that marking them may take
	// lateAfter is well before others take a mark for a dead one's.
	lateAfter = StuckAfter / 2
)

var errLate = hinted("run it once more", "this machine stood still meanwhile, and what it knew of the rule may be wrong by now")

// late says why it is too late to do what was claimed.
func (c claim) late() error {
	if d := time.Now().Round(0).Sub(c.began); d.Abs() > lateAfter {
		return errLate
	}
	return nil
}

// claim marks rules, the first of them, waits, and looks at them again. Those that needed
// says that somebody needs are left as they were.
func (a *Access) claim(ctx context.Context, place securitygroup.Place, rules []securitygroup.Rule, needed func(securitygroup.Rule, securitygroup.Ours, time.Time) bool) claim {
	c := claim{free: map[string]bool{}, rules: map[string]securitygroup.Rule{}, marks: map[string]securitygroup.Mark{}, fates: map[string]fate{}, began: time.Now().Round(0)}
	id := rand.Text()[:12]
	for _, r := range rules[:min(len(rules), claimed)] {
		if time.Since(c.began) > claimTime {
			break
		}
		c.looked++
		now, _ := a.Cloud.Now(place)
		m := securitygroup.Mark{ID: id, Since: now}
		key, value := m.Tag()
		switch err := a.write(ctx, place, r, map[string]string{key: value}); {
		case securitygroup.IsNotFound(err):
			c.fates[r.ID] = fate{gone: true, before: true}
		case err != nil:
			c.fates[r.ID] = fate{err: err}
		default:
			c.marks[r.ID], c.free[r.ID] = m, true
		}
	}
	if len(c.marks) == 0 {
		return c
	}
	err := pause(ctx, a.settle())
	if err == nil {
		err = a.Cloud.Rules(ctx, place, securitygroup.Query{IDs: slices.Sorted(maps.Keys(c.marks))}, func(rs []securitygroup.Rule) error {
			now, _ := a.Cloud.Now(place)
			for _, r := range rs {
				c.rules[r.ID] = r
				if ours, is := r.Ours(); c.free[r.ID] && (!is || needed(r, ours, now)) {
					delete(c.free, r.ID)
				}
			}
			return nil
		})
	}
	for id, m := range c.marks {
		switch {
		case err != nil:
			delete(c.free, id)
			c.fates[id] = fate{err: err}
		case !c.free[id]:
			c.fates[id] = fate{err: a.untag(ctx, place, id, m)}
		}
	}
	return c
}

// write writes tags on a rule. Where there is no room for them, what is of no use any more
// makes some: leases that have ended, and marks of those who died.
func (a *Access) write(ctx context.Context, place securitygroup.Place, r securitygroup.Rule, tags map[string]string) error {
	err := a.Cloud.Tag(ctx, place, r.ID, tags)
	if !securitygroup.IsTagLimit(err) {
		return err
	}
	ours, _ := r.Ours()
	now, _ := a.Cloud.Now(place)
	useless := over(ours, now)
	for _, key := range ours.Broken {
		useless = append(useless, tag{key, r.Tags[key]})
	}
	if len(useless) == 0 {
		return err
	}
	if err := a.untag(ctx, place, r.ID, useless...); err != nil {
		return err
	}
	return a.Cloud.Tag(ctx, place, r.ID, tags)
}

// over is what is on a rule that is of no use any more.
func over(ours securitygroup.Ours, now time.Time) (over []tagged) {
	for _, l := range ours.Leases {
		if !now.Before(l.Until) {
			over = append(over, l)
		}
	}
	for _, m := range ours.Ending { // whoever made it died in it
		if now.Sub(m.Since) > StuckAfter {
			over = append(over, m)
		}
	}
	return over
}

// tagged is what is written on a rule as a tag.
type tagged interface{ Tag() (key, value string) }

type tag struct{ key, value string }

func (t tag) Tag() (key, value string) { return t.key, t.value }

// untag takes tags off a rule that have the values that they were read with. What is gone
// is no error.
func (a *Access) untag(ctx context.Context, place securitygroup.Place, id string, over ...tagged) error {
	tags := map[string]string{}
	for _, t := range over {
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
func (a *Access) revoke(ctx context.Context, place securitygroup.Place, r securitygroup.Rule) (before bool, _ error) {
	err := a.Cloud.Revoke(ctx, place, r.Group, []string{r.ID})
	if securitygroup.IsNotFound(err) {
		return true, nil
	}
	return false, err
}

// find is the rule of a group with just that permission, ours or not.
func (a *Access) find(ctx context.Context, place securitygroup.Place, group string, p securitygroup.Permission) (found securitygroup.Rule, ok bool, err error) {
	err = a.Cloud.Rules(ctx, place, securitygroup.Query{Groups: []string{group}}, func(rules []securitygroup.Rule) error {
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
func (a *Access) reread(ctx context.Context, place securitygroup.Place, id string) (r securitygroup.Rule, ours securitygroup.Ours, ok bool, err error) {
	err = a.Cloud.Rules(ctx, place, securitygroup.Query{IDs: []string{id}}, func(rules []securitygroup.Rule) error {
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
