package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/securitygroup"
)

// Done is a change, and what became of it.
type Done struct {
	Place securitygroup.Place `json:"place"`
	Group string              `json:"group,omitempty"` // "": a prefix list
	Op    Op                  `json:"op"`
	Text  string              `json:"text"`
	Error string              `json:"error,omitempty"` // why it was not made

	err error
}

func (d Done) Err() error { return d.err }

// Applied is what apply did.
type Applied struct {
	Done []Done // what was made, and what was not, by its Error
	Left Plan   // what is still to be done; empty where all went well
}

// Err says what is left; nil where nothing is.
func (r Applied) Err() error {
	for _, d := range r.Done {
		if d.err != nil {
			return d.err
		}
	}
	for _, f := range r.Left.Failed {
		return f.err
	}
	if !r.Left.Empty() {
		return hinted("run it once more; if that does not help, see whether somebody else changes the same groups", "the groups are still not as they shall be")
	}
	return nil
}

// rounds is how often a plan is made anew when others change the same groups.
const rounds = 8

// Apply brings the groups of doors to what the configuration says, plans again, and ends
// when there is nothing left to do, or what is left cannot be done. It may run twice at
// once: what others did meanwhile is seen in the next round.
func (a *Access) Apply(ctx context.Context, doors []Door, first Plan) Applied {
	res := Applied{Left: first}
	plan := first
	if plan.Empty() {
		return res
	}
	for round := range rounds {
		done := slices.DeleteFunc(a.carryOut(ctx, plan), func(d Done) bool {
			return isOvertaken(d.err) || securitygroup.IsBusy(d.err) && round < rounds-1 // what others begin, they end
		})
		res.Done = append(res.Done, done...)
		failed := slices.ContainsFunc(res.Done, func(d Done) bool { return d.err != nil })
		// What was just written may not be read yet.
		if err := pause(ctx, a.settle()<<min(round, 3)/4); err != nil {
			res.Left = plan
			return res
		}
		plan = a.Plan(ctx, doors, nil)
		res.Left = plan
		if failed || plan.Empty() {
			return res
		}
	}
	return res
}

// isOvertaken reports whether others did the same, or something else, at the same time.
func isOvertaken(err error) bool {
	return securitygroup.IsDuplicate(err) || securitygroup.IsNotFound(err) || securitygroup.IsVersionMismatch(err)
}

// carryOut makes a plan's changes, what lets in before what shuts out: first what lists get,
// then the groups side by side, last what lists lose, and the lists that nobody names any
// more.
func (a *Access) carryOut(ctx context.Context, plan Plan) []Done {
	var mu sync.Mutex
	var all []Done
	note := func(d Done, err error) {
		if err != nil {
			d.err, d.Error = err, err.Error()
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, d)
	}
	lost := make([]ListPlan, len(plan.Lists)) // what lists lose last
	var lists errgroup.Group
	for i, l := range plan.Lists {
		if l.Empty() || l.Delete {
			continue
		}
		lists.Go(func() error {
			first, last := l.parts()
			version, err := a.carryOutList(ctx, first)
			if !first.Empty() {
				note(Done{Place: l.Place, Op: l.Op(), Text: first.Text()}, err)
			}
			if err == nil {
				lost[i], lost[i].List.Version = last, version
			}
			return nil
		})
	}
	_ = lists.Wait()
	open := make([]bool, len(plan.Groups)) // to whom it shall be
	var groups errgroup.Group
	for i, g := range plan.Groups {
		groups.Go(func() error {
			open[i] = a.carryOutGroup(ctx, g, note)
			return nil
		})
	}
	_ = groups.Wait()
	for _, l := range lost {
		// Whoever a group still lets in by the list alone stays in it until the next round.
		waits := false
		for i, g := range plan.Groups {
			waits = waits || !open[i] && g.Place == l.Place && slices.ContainsFunc(g.Rules, func(r securitygroup.Rule) bool { return r.Source.PrefixList == l.List.ID })
		}
		if len(l.Remove) > 0 && !waits {
			_, err := a.carryOutList(ctx, l)
			note(Done{Place: l.Place, Op: l.Op(), Text: l.Text()}, err)
		}
	}
	for _, l := range plan.Lists {
		if l.Delete {
			note(Done{Place: l.Place, Op: Remove, Text: l.Text()}, a.Cloud.DeleteList(ctx, l.Place, l.List.ID))
		}
	}
	slices.SortStableFunc(all, func(x, y Done) int { return cmp.Or(x.Place.Compare(y.Place), strings.Compare(x.Group, y.Group)) })
	return all
}

// carryOutGroup makes one group's changes, in their order: what lets in before what shuts
// out. Where the group is full, what is to be removed goes first. Whoever stays is not shut
// out because what lets them in from now on could not be made. open is whether all are let
// in who shall be.
func (a *Access) carryOutGroup(ctx context.Context, g GroupPlan, note func(Done, error)) (open bool) {
	done := func(c Change, err error) {
		note(Done{Place: g.Place, Group: g.Group.ID, Op: c.Op, Text: c.Text()}, err)
	}
	byOp := map[Op][]Change{}
	for _, c := range g.Changes {
		byOp[c.Op] = append(byOp[c.Op], c)
	}
	missing := false
	var full error // why there was no room
	letIn := func(changes []Change) (refused []Change) {
		for _, c := range changes {
			if strings.HasPrefix(c.Wanted.Source.PrefixList, "(") {
				missing = true // the list is made in this round; the next one knows its id
				continue
			}
			err := a.carryOutChange(ctx, g, c)
			if c.Op == Add && securitygroup.IsQuota(err) {
				refused, full = append(refused, c), err
				continue
			}
			missing = missing || err != nil && !isOvertaken(err)
			done(c, err)
		}
		return refused
	}
	refused := letIn(slices.Concat(byOp[Add], byOp[Retag], byOp[Adopt]))
	a.modify(ctx, g, byOp[Modify], done)
	var gone, kept []Change
	for _, c := range byOp[Remove] {
		if a.keeps(g, c.Rule) {
			kept = append(kept, c)
		} else {
			gone = append(gone, c)
		}
	}
	a.remove(ctx, g, gone, done)
	if len(gone) > 0 {
		refused = letIn(refused)
	}
	if len(refused) > 0 && len(kept) > 0 && !missing && g.Used.fits() {
		// There is no other way than to shut somebody out for a moment.
		a.remove(ctx, g, kept, done)
		kept, refused = nil, letIn(refused)
	}
	if len(refused) > 0 {
		missing = true
		err := a.full(ctx, g.Place, g.Group.ID, full)
		for _, c := range refused {
			done(c, err)
		}
	}
	if !missing {
		a.remove(ctx, g, kept, done)
	}
	return !missing
}

// keeps reports whether a rule that is to be removed lets somebody in who is to be let in
// from now on by another.
func (a *Access) keeps(g GroupPlan, r securitygroup.Rule) bool {
	for _, name := range g.Targets {
		door := Door{name, a.Config.Targets[name]}
		if !r.Opens(door.Port) {
			continue
		}
		for p := range a.fixedOf(door) {
			if !r.Source.Prefix.IsValid() || r.Source.Prefix.Overlaps(p) {
				return true
			}
		}
	}
	return false
}

func (a *Access) carryOutChange(ctx context.Context, g GroupPlan, c Change) error {
	tags := securitygroup.ManagedTags()
	tags[securitygroup.TagFixed] = fixedTag(c.Wanted.People)
	ours, _ := c.Rule.Ours()
	text := describe(c.Wanted.People, ours.Leases)
	switch {
	case c.Op == Add:
		_, err := a.Cloud.Authorize(ctx, g.Place, g.Group.ID, []securitygroup.Permission{c.Wanted.Permission}, text, tags)
		return err
	case len(ours.Ending) > 0:
		return a.replace(ctx, g, c)
	}
	if err := a.Cloud.Tag(ctx, g.Place, c.Rule.ID, tags); err != nil {
		return err
	}
	_ = a.Cloud.SetDescription(ctx, g.Place, g.Group.ID, c.Rule.ID, text) // for people only
	return nil
}

// replace puts a new rule in the place of one that somebody takes away, or died taking away.
func (a *Access) replace(ctx context.Context, g GroupPlan, c Change) error {
	claim := a.claim(ctx, g.Place, []securitygroup.Rule{c.Rule}, func(securitygroup.Rule, securitygroup.Ours, time.Time) bool { return false })
	if !claim.free[c.Rule.ID] {
		return claim.fates[c.Rule.ID].err // gone: the next plan sees it
	}
	r, there := claim.rules[c.Rule.ID]
	if !there {
		return nil // somebody else puts one in its place
	}
	now, _ := a.Cloud.Now(g.Place)
	ours, _ := r.Ours()
	owed := owedOf(ours, now, "")
	owed.fixed = strings.Fields(fixedTag(c.Wanted.People))
	if err := claim.late(); err != nil {
		return err
	}
	if _, err := a.revoke(ctx, g.Place, r); err != nil {
		return err
	}
	p := c.Wanted.Permission
	for try := range tries {
		_, err := a.Cloud.Authorize(ctx, g.Place, g.Group.ID, []securitygroup.Permission{p}, describe(c.Wanted.People, owed.leases), owed.all(p))
		if !securitygroup.IsDuplicate(err) {
			return err
		}
		// Others made one, who may not know what is owed.
		r, ok, err := a.find(ctx, g.Place, g.Group.ID, p)
		if err != nil {
			return err
		}
		if ours, is := r.Ours(); ok && !is {
			return nil
		} else if ok {
			tags := map[string]string{securitygroup.TagSource: p.String()}
			owed.tag(tags, ours)
			if err := a.write(ctx, g.Place, r, tags); err != nil && !securitygroup.IsNotFound(err) {
				return err
			}
			if err := pause(ctx, a.settle()); err != nil {
				return err
			}
			if _, _, stays, err := a.reread(ctx, g.Place, r.ID); err != nil || stays {
				return err // if somebody takes it away, the next plan sees that
			}
		}
		if err := a.backOff(ctx, try); err != nil {
			return err
		}
	}
	return hinted("try again in a moment", "%s: others change the rule for %s at the same time, again and again", g.Group.ID, p.Source)
}

// modify has rules let in others than they did. Those that somebody was let in by for a
// while meanwhile are left to the next plan.
func (a *Access) modify(ctx context.Context, g GroupPlan, changes []Change, done func(Change, error)) {
	for len(changes) > 0 {
		rules := make([]securitygroup.Rule, len(changes))
		for i, c := range changes {
			rules[i] = c.Rule
		}
		claim := a.claim(ctx, g.Place, rules, func(_ securitygroup.Rule, ours securitygroup.Ours, now time.Time) bool {
			return len(ours.Live(now)) > 0
		})
		for _, c := range changes[:claim.looked] {
			if !claim.free[c.Rule.ID] {
				if err := claim.fates[c.Rule.ID].err; err != nil {
					done(c, err)
				}
				continue
			}
			err := claim.late()
			if err == nil {
				// Whose it is first: a crash between the two leaves a rule that a plan still mends.
				err = a.Cloud.Tag(ctx, g.Place, c.Rule.ID, map[string]string{securitygroup.TagFixed: fixedTag(c.Wanted.People)})
			}
			if err == nil {
				next := c.Rule
				next.Permission, next.Description = c.Wanted.Permission, describe(c.Wanted.People, nil)
				err = a.Cloud.Modify(ctx, g.Place, g.Group.ID, []securitygroup.Rule{next})
			}
			done(c, errors.Join(err, a.untag(ctx, g.Place, c.Rule.ID, claim.marks[c.Rule.ID])))
		}
		changes = changes[claim.looked:]
	}
}

// remove takes rules away that are nobody's fixed address any more: those that leases hold
// when the last of them has ended.
func (a *Access) remove(ctx context.Context, g GroupPlan, changes []Change, done func(Change, error)) {
	now, _ := a.Cloud.Now(g.Place)
	var over []Change
	var rules []securitygroup.Rule
	for _, c := range changes {
		r := c.Rule
		ours, _ := r.Ours()
		// Without the tag it is a rule that nobody needs: whatever befalls us, a reaper takes it.
		err := a.untag(ctx, g.Place, r.ID, securitygroup.Fixed(r.Tags[securitygroup.TagFixed]))
		if live := ours.Live(now); err != nil || len(live) > 0 {
			if err == nil {
				_ = a.Cloud.SetDescription(ctx, g.Place, g.Group.ID, r.ID, describe(nil, live)) // for people only
			}
			done(c, err)
			continue
		}
		over, rules = append(over, c), append(rules, r)
	}
	fates := a.end(ctx, g.Place, rules, securitygroup.Lease{})
	for _, c := range over {
		done(c, fates[c.Rule.ID].err) // none too where somebody needs it since
	}
}

// full tells what fills a group that has no room for another rule.
func (a *Access) full(ctx context.Context, place securitygroup.Place, group string, cause error) error {
	var fixed, leases, over, foreign int
	now, _ := a.Cloud.Now(place)
	err := a.Cloud.Rules(ctx, place, securitygroup.Query{Groups: []string{group}}, func(rules []securitygroup.Rule) error {
		for _, r := range rules {
			ours, is := r.Ours()
			switch {
			case !is:
				foreign++
			case len(ours.Fixed) > 0:
				fixed++
			case needless(r, ours, now) != "":
				over++
			default:
				leases++
			}
		}
		return nil
	})
	if err != nil {
		return errors.Join(cause, err)
	}
	hint := "take rules away that nobody needs, ask AWS for a larger quota, or set `via: prefix_list` for fixed addresses"
	if over > 0 {
		hint = "`sekisho reap` makes room: it takes away what has ended"
	}
	return &Error{Err: fmt.Errorf("%s in %s is full: of its rules %d are fixed addresses of ours, %d leases, %d leases that have ended, %d not ours: %w", group, place, fixed, leases, over, foreign, cause), Hint: hint}
}

// Adopt makes foreign rules ours that let in what is wanted anyway; any other is refused,
// since the next apply would take it away.
func (a *Access) Adopt(ctx context.Context, plan Plan, ids []string) ([]Done, error) {
	type found struct {
		g GroupPlan
		c Covered
	}
	all := map[string]found{}
	known := map[string]securitygroup.Rule{}
	for _, g := range plan.Groups {
		for _, r := range g.Rules {
			known[r.ID] = r
		}
		for _, c := range g.Covered {
			all[c.By.ID] = found{g, c}
		}
	}
	for _, id := range ids {
		r, there := known[id]
		_, is := r.Ours()
		switch _, wanted := all[id]; {
		case !there:
			return nil, hinted("`sekisho plan` lists the rules that can be adopted", "there is no rule %s in a target's group", id)
		case is:
			return nil, hinted("there is nothing to do", "%s is ours already", id)
		case !wanted:
			return nil, hinted("put that address under `fixed` of its owner, then adopt the rule", "%s lets in %s to %s, which the configuration does not want: apply would take it away", id, r.Source, r.Ports())
		}
	}
	var done []Done
	var errs []error
	for _, id := range ids {
		f := all[id]
		c := Change{Op: Adopt, Rule: f.c.By, Wanted: f.c.Wanted}
		err := a.carryOutChange(ctx, f.g, c)
		d := Done{Place: f.g.Place, Group: f.g.Group.ID, Op: Adopt, Text: c.Text(), err: err}
		if err != nil {
			d.Error = err.Error()
			errs = append(errs, err)
		}
		done = append(done, d)
	}
	return done, errors.Join(errs...)
}
