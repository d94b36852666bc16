package access

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/config"
	"sekisho/internal/securitygroup"
)

// Plan is what has to change in the groups of all targets, and what was seen there.
type Plan struct {
	Groups   []GroupPlan // by place and group, those without changes too
	Lists    []ListPlan
	Findings []Finding // worst first
	Failed   []Failure // places and groups that could not be looked at: nothing is known of them
}

// Empty reports whether nothing has to change, as far as was seen.
func (p Plan) Empty() bool {
	return !slices.ContainsFunc(p.Groups, func(g GroupPlan) bool { return len(g.Changes) > 0 }) &&
		!slices.ContainsFunc(p.Lists, func(l ListPlan) bool { return !l.Empty() })
}

// Plan reads the groups of doors and compares them with the configuration: with all that it
// says of these groups, so with other doors there too. seen, unless nil, is called after
// each place, never twice at once.
func (a *Access) Plan(ctx context.Context, doors []Door, seen func()) Plan {
	named := map[groupIn]bool{}
	for _, d := range groupsOf(doors) {
		named[groupIn{d.Place(), d.AWS.Group}] = true
	}
	there := byPlace(slices.DeleteFunc(a.Doors(), func(d Door) bool { return !named[groupIn{d.Place(), d.AWS.Group}] }))
	var plan Plan
	failed := eachPlace(maps.Keys(there), func(place securitygroup.Place) (Plan, error) {
		return a.planPlace(ctx, place, there[place])
	}, func(p Plan) {
		plan.Groups = append(plan.Groups, p.Groups...)
		plan.Lists = append(plan.Lists, p.Lists...)
		plan.Findings = append(plan.Findings, p.Findings...)
		plan.Failed = append(plan.Failed, p.Failed...)
		if seen != nil {
			seen()
		}
	})
	plan.Failed = append(plan.Failed, failed...)
	slices.SortFunc(plan.Groups, func(x, y GroupPlan) int {
		return cmp.Or(x.Place.Compare(y.Place), strings.Compare(x.Group.ID, y.Group.ID))
	})
	slices.SortStableFunc(plan.Lists, func(x, y ListPlan) int { return cmp.Or(x.Place.Compare(y.Place), strings.Compare(x.Name, y.Name)) })
	SortFindings(plan.Findings)
	slices.SortStableFunc(plan.Failed, func(x, y Failure) int { return x.Place.Compare(y.Place) })
	return plan
}

// seen is what was read of a place.
type seenPlace struct {
	groups map[string]securitygroup.Group
	rules  map[string][]securitygroup.Rule // by group
	lists  []securitygroup.PrefixList      // ours, with their entries
	sizes  map[string]securitygroup.PrefixList
	now    time.Time
}

func (a *Access) planPlace(ctx context.Context, place securitygroup.Place, doors []Door) (Plan, error) {
	seen, err := a.look(ctx, place, doors)
	if err != nil {
		return Plan{}, err
	}
	var plan Plan
	byGroup := map[string][]Door{}
	listed := map[listKey]map[netip.Prefix][]string{}
	naming := map[listKey]map[string]bool{}
	for _, d := range doors {
		if _, there := seen.groups[d.AWS.Group]; !there {
			hint := "see its `group`, `region` and `account` in the configuration, and `aws ec2 describe-security-groups --region " + place.Region + "`"
			plan.Failed = append(plan.Failed, failure(place, hinted(hint, "%s: there is no security group %s in %s", d.Name, d.AWS.Group, place)))
			continue
		}
		byGroup[d.AWS.Group] = append(byGroup[d.AWS.Group], d)
		if d.AWS.Via == config.ViaPrefixList {
			for family, people := range split(a.fixedOf(d)) {
				key := a.keyOf(d, family)
				listed[key] = people
				if naming[key] == nil {
					naming[key] = map[string]bool{}
				}
				naming[key][d.AWS.Group] = true
			}
		}
	}
	counts := map[listKey]int{}
	for key, groups := range naming {
		counts[key] = len(groups)
	}
	others := map[string]bool{} // lists that other groups name
	for _, d := range a.Doors() {
		if d.Place() == place && d.AWS.Via == config.ViaPrefixList && byGroup[d.AWS.Group] == nil {
			for family := range split(a.fixedOf(d)) {
				others[a.keyOf(d, family).tag()] = true
			}
		}
	}
	plan.Lists = planLists(place, listed, seen.lists, counts, others)
	if err := a.keepShared(ctx, place, &plan); err != nil {
		return Plan{}, err
	}
	ids := map[listKey]string{}
	for _, l := range plan.Lists {
		if !l.Delete {
			ids[l.key] = l.List.ID
			seen.sizes[cmp.Or(l.List.ID, l.key.pending())] = securitygroup.PrefixList{Family: l.Family, Max: l.Max}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(byGroup)) {
		var wanted []Wanted
		g := GroupPlan{Place: place, Group: seen.groups[id], Rules: seen.rules[id]}
		for _, d := range byGroup[id] {
			g.Targets = append(g.Targets, d.Name)
			wanted = append(wanted, a.wantedRules(d, ids)...)
		}
		g.Changes, g.Covered = planGroup(merge(wanted), g.Rules)
		g.Used = used(g.Rules, g.Changes, seen.sizes)
		plan.Findings = append(plan.Findings, a.findings(g, byGroup[id], seen.now)...)
		plan.Groups = append(plan.Groups, g)
	}
	return plan, nil
}

// keepShared leaves lists as they are that a group names which this configuration does not:
// whoever keeps that group wants other people in them.
func (a *Access) keepShared(ctx context.Context, place securitygroup.Place, plan *Plan) error {
	change := slices.ContainsFunc(plan.Lists, func(l ListPlan) bool { return l.List.ID != "" && !l.Empty() })
	if !change {
		return nil
	}
	known := map[groupIn]bool{}
	for _, d := range a.Doors() {
		known[groupIn{d.Place(), d.AWS.Group}] = true
	}
	foreign := map[string]string{} // a group that is not ours, by the list that it names
	if err := a.Cloud.Rules(ctx, place, securitygroup.Query{Tags: securitygroup.ManagedTags()}, func(rules []securitygroup.Rule) error {
		for _, r := range rules {
			if r.Source.PrefixList != "" && !known[groupIn{place, r.Group}] {
				foreign[r.Source.PrefixList] = r.Group
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for i, l := range plan.Lists {
		group, shared := foreign[l.List.ID]
		if !shared || l.Empty() {
			continue
		}
		const hint = "give each configuration that keeps lists in that account a name of its own: aws.name; where it was a target of this one, take its rule away: `sekisho check` names it"
		err := hinted(hint, "prefix list %s %q is named by %s too, which no target names: another configuration keeps it, and it is left as it is", l.List.ID, l.Name, group)
		plan.Failed = append(plan.Failed, failure(place, err))
		plan.Lists[i].Add, plan.Lists[i].Remove, plan.Lists[i].Max, plan.Lists[i].Delete = nil, nil, l.List.Max, false
	}
	return nil
}

// look reads what a plan needs of a place.
func (a *Access) look(ctx context.Context, place securitygroup.Place, doors []Door) (seenPlace, error) {
	s := seenPlace{groups: map[string]securitygroup.Group{}, rules: map[string][]securitygroup.Rule{}, sizes: map[string]securitygroup.PrefixList{}}
	var ids []string
	for _, d := range doors {
		ids = append(ids, d.AWS.Group)
	}
	var group errgroup.Group
	group.Go(func() error {
		groups, err := a.Cloud.Groups(ctx, place, ids)
		for _, g := range groups {
			s.groups[g.ID] = g
		}
		return err
	})
	named := map[string]bool{}
	group.Go(func() error {
		return a.Cloud.Rules(ctx, place, securitygroup.Query{Groups: ids}, func(rules []securitygroup.Rule) error {
			for _, r := range rules {
				s.rules[r.Group] = append(s.rules[r.Group], r)
				if r.Source.PrefixList != "" {
					named[r.Source.PrefixList] = true
				}
			}
			return nil
		})
	})
	group.Go(func() error {
		lists, err := a.Cloud.Lists(ctx, place, securitygroup.ListQuery{Tags: securitygroup.ManagedTags()}, true)
		s.lists = slices.DeleteFunc(lists, func(l securitygroup.PrefixList) bool { return !isOf(l, a.Config.AWS.Name) })
		return err
	})
	if err := group.Wait(); err != nil {
		return s, err
	}
	for _, l := range s.lists {
		s.sizes[l.ID] = l
		delete(named, l.ID)
	}
	if len(named) > 0 {
		lists, err := a.Cloud.Lists(ctx, place, securitygroup.ListQuery{IDs: slices.Sorted(maps.Keys(named))}, false)
		if err != nil && !securitygroup.IsNotFound(err) {
			return s, err
		}
		for _, l := range lists {
			s.sizes[l.ID] = l
		}
	}
	for _, rules := range s.rules {
		slices.SortFunc(rules, func(x, y securitygroup.Rule) int { return strings.Compare(x.ID, y.ID) })
	}
	s.now, _ = a.Cloud.Now(place)
	return s, nil
}

// Refusal is somebody whom a plan would lock out of a target.
type Refusal struct {
	Target string     `json:"target"`
	Addr   netip.Addr `json:"addr"`
	Rule   string     `json:"rule"` // that lets them in today
}

func (r Refusal) String() string {
	return fmt.Sprintf("%s would be locked out of %s: only rule %s lets it in", r.Addr, r.Target, r.Rule)
}

// LocksOut says from which of addrs somebody gets to a target now, and would not after
// the plan. Lists that are not ours are not looked into.
func (a *Access) LocksOut(p Plan, addrs []netip.Addr) []Refusal {
	type in struct {
		place securitygroup.Place
		list  string
	}
	before, after := map[in][]netip.Prefix{}, map[in][]netip.Prefix{}
	for _, l := range p.Lists {
		id := in{l.Place, cmp.Or(l.List.ID, l.key.pending())}
		gone := map[netip.Prefix]bool{}
		for _, e := range l.Remove {
			gone[e.Prefix] = true
		}
		for _, e := range l.List.Entries {
			before[id] = append(before[id], e.Prefix)
			if !gone[e.Prefix] {
				after[id] = append(after[id], e.Prefix)
			}
		}
		for _, e := range l.Add {
			after[id] = append(after[id], e.Prefix)
		}
	}
	var res []Refusal
	for _, g := range p.Groups {
		changed := map[string]Change{}
		var added []securitygroup.Permission
		for _, c := range g.Changes {
			if c.Op == Remove || c.Op == Modify {
				changed[c.Rule.ID] = c
			}
			if c.Op == Add || c.Op == Modify {
				added = append(added, c.Wanted.Permission)
			}
		}
		lets := func(by securitygroup.Permission, lists map[in][]netip.Prefix, addr netip.Addr, port uint16) bool {
			if s := by.Source.Prefix; s.IsValid() {
				return by.Opens(port) && s.Contains(addr)
			}
			return by.Opens(port) && slices.ContainsFunc(lists[in{g.Place, by.Source.PrefixList}], func(e netip.Prefix) bool { return e.Contains(addr) })
		}
		for _, name := range g.Targets {
			port := a.Config.Targets[name].Port
			for _, addr := range addrs {
				i := slices.IndexFunc(g.Rules, func(r securitygroup.Rule) bool { return lets(r.Permission, before, addr, port) })
				stays := slices.ContainsFunc(added, func(by securitygroup.Permission) bool { return lets(by, after, addr, port) }) ||
					slices.ContainsFunc(g.Rules, func(r securitygroup.Rule) bool {
						_, goes := changed[r.ID]
						return !goes && lets(r.Permission, after, addr, port)
					})
				if i >= 0 && !stays {
					res = append(res, Refusal{name, addr, g.Rules[i].ID})
				}
			}
		}
	}
	return res
}
