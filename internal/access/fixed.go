package access

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sekisho/internal/config"
	"sekisho/internal/securitygroup"
)

// Fixed addresses: what the rules of a group shall be, and what has to change for that.
// All of it is pure; apply.go carries it out.

// Wanted is a rule that a group shall have.
type Wanted struct {
	securitygroup.Permission
	People []string // sorted; whose fixed address it is, or whose addresses the list holds
}

// Op is what a change does.
type Op string

// The changes.
const (
	Add    Op = "add"
	Modify Op = "modify" // another address in the same rule, which keeps its id and tags
	Retag  Op = "retag"  // the rule is for other people, or says so no longer
	Remove Op = "remove"
	Adopt  Op = "adopt" // a rule of others becomes ours; only when asked for
)

// Change is one change of a group's rules.
type Change struct {
	Op     Op
	Rule   securitygroup.Rule // what is there; the zero value for Add
	Wanted Wanted             // what shall be; the zero value for Remove
}

// Text is the change for people, without its sign.
func (c Change) Text() string {
	switch c.Op {
	case Add:
		return fmt.Sprintf("%s from %s (%s)", c.Wanted.Ports(), c.Wanted.Source, list(c.Wanted.People))
	case Modify:
		return fmt.Sprintf("%s from %s instead of %s (%s), %s", c.Wanted.Ports(), c.Wanted.Source, c.Rule.Source, list(c.Wanted.People), c.Rule.ID)
	case Retag, Adopt:
		return fmt.Sprintf("%s from %s is for %s, %s", c.Rule.Ports(), c.Rule.Source, list(c.Wanted.People), c.Rule.ID)
	}
	ours, _ := c.Rule.Ours()
	text := fmt.Sprintf("%s from %s (was for %s), %s", c.Rule.Ports(), c.Rule.Source, cmp.Or(list(ours.Fixed), "nobody any more"), c.Rule.ID)
	if len(ours.Leases) > 0 {
		text += ", when its leases have ended"
	}
	return text
}

// GroupPlan is what has to change in one group.
type GroupPlan struct {
	Place   securitygroup.Place
	Group   securitygroup.Group
	Targets []string
	Changes []Change
	Covered []Covered // wanted, and there already by a rule that is not ours
	Rules   []securitygroup.Rule
	Used    Used // the quota, with the changes made
}

// Covered is a wanted rule that a foreign one is in the place of.
type Covered struct {
	Wanted Wanted
	By     securitygroup.Rule
}

// Used counts the inbound rules of a group by family, as its quota does: a prefix list
// counts as all the entries that it may hold.
type Used struct{ IPv4, IPv6 int }

func (u Used) fits() bool { return max(u.IPv4, u.IPv6) <= Quota }

// Quota is how many inbound rules of each family a group has where nobody asked AWS for
// more.
const Quota = 60

// planGroup compares what a group has with what it shall have. Rules that are not ours,
// and ours that only leases hold, are left alone.
func planGroup(wanted []Wanted, have []securitygroup.Rule) (changes []Change, covered []Covered) {
	by := map[securitygroup.Permission]securitygroup.Rule{}
	var surplus []securitygroup.Rule // ours, for addresses that nobody has
	want := map[securitygroup.Permission]bool{}
	for _, w := range wanted {
		want[w.Permission] = true
	}
	for _, r := range have {
		by[r.Permission] = r
		if ours, is := r.Ours(); is && (len(ours.Fixed) > 0 || r.Source.PrefixList != "") && !want[r.Permission] { // no lease holds one that names a list
			surplus = append(surplus, r)
		}
	}
	var missing []Wanted
	for _, w := range wanted {
		r, there := by[w.Permission]
		ours, is := r.Ours()
		switch {
		case !there:
			missing = append(missing, w)
		case !is:
			covered = append(covered, Covered{w, r})
		case len(ours.Ending) > 0 || !slices.Equal(ours.Fixed, strings.Fields(fixedTag(w.People))): // who takes it away may not know yet that it is wanted
			changes = append(changes, Change{Retag, r, w})
		}
	}
	for _, w := range missing {
		if i := successor(surplus, w); i >= 0 {
			changes = append(changes, Change{Modify, surplus[i], w})
			surplus = slices.Delete(surplus, i, i+1)
			continue
		}
		changes = append(changes, Change{Op: Add, Wanted: w})
	}
	for _, r := range surplus {
		changes = append(changes, Change{Op: Remove, Rule: r})
	}
	// First what lets in, then what shuts out.
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(order(a.Op), order(b.Op)) })
	return changes, covered
}

func order(o Op) int { return slices.Index([]Op{Add, Retag, Adopt, Modify, Remove}, o) }

// successor is the rule that w takes the place of: the same person's, to the same port,
// of the same family, that no lease holds; -1: none.
func successor(surplus []securitygroup.Rule, w Wanted) int {
	return slices.IndexFunc(surplus, func(r securitygroup.Rule) bool {
		ours, _ := r.Ours()
		same := r.Protocol == w.Protocol && r.From == w.From && r.To == w.To &&
			r.Source.Prefix.IsValid() && w.Source.Prefix.IsValid() && r.Source.Prefix.Addr().Is4() == w.Source.Prefix.Addr().Is4()
		return same && len(ours.Leases) == 0 && slices.ContainsFunc(ours.Fixed, func(p string) bool { return slices.Contains(w.People, p) })
	})
}

// fixedTag is the value of TagFixed for people: as many of their names as a tag has room
// for.
func fixedTag(people []string) string {
	const room = 256
	text := strings.Join(people, " ")
	for i := len(people); len(text) > room; i-- {
		text = strings.Join(people[:i-1], " ") + fmt.Sprintf(" +%d", len(people)-i+1)
	}
	return text
}

// fixedOf are the fixed addresses of those whom door allows, with their names in order.
func (a *Access) fixedOf(door Door) map[netip.Prefix][]string {
	people := map[netip.Prefix][]string{}
	for _, name := range slices.Sorted(maps.Keys(a.Config.People)) {
		person := a.Config.People[name]
		if len(admits(door, name, person)) == 0 {
			continue
		}
		for _, p := range person.Fixed {
			people[p] = append(people[p], name)
		}
	}
	return people
}

// wantedRules are the rules that a group shall have for door: one for each fixed address,
// or one for each list that holds them.
func (a *Access) wantedRules(door Door, lists map[listKey]string) []Wanted {
	people := a.fixedOf(door)
	if door.AWS.Via == config.ViaPrefixList {
		return a.wantedLists(door, people, lists)
	}
	var wanted []Wanted
	for _, p := range slices.SortedFunc(maps.Keys(people), netip.Prefix.Compare) {
		wanted = append(wanted, Wanted{securitygroup.TCP(door.Port, securitygroup.Source{Prefix: p}), people[p]})
	}
	return wanted
}

// merge makes one of rules that are wanted twice, as by two targets of one group.
func merge(wanted []Wanted) []Wanted {
	var res []Wanted
	at := map[securitygroup.Permission]int{}
	for _, w := range wanted {
		i, twice := at[w.Permission]
		if !twice {
			at[w.Permission] = len(res)
			res = append(res, w)
			continue
		}
		people := append(slices.Clone(res[i].People), w.People...)
		slices.Sort(people)
		res[i].People = slices.Compact(people)
	}
	return res
}

// used counts the rules as they will be.
func used(rules []securitygroup.Rule, changes []Change, sizes map[string]securitygroup.PrefixList) Used {
	var u Used
	count := func(s securitygroup.Source, n int) {
		switch l, isList := sizes[s.PrefixList]; {
		case s.Prefix.IsValid() && s.Prefix.Addr().Is4(), isList && l.Family == 4:
			u.IPv4 += n * max(1, l.Max)
		case s.Prefix.IsValid(), isList:
			u.IPv6 += n * max(1, l.Max)
		default: // another group, or a list that is not known, counts for both
			u.IPv4 += n
			u.IPv6 += n
		}
	}
	for _, r := range rules {
		count(r.Source, 1)
	}
	for _, c := range changes {
		switch c.Op {
		case Add:
			count(c.Wanted.Source, 1)
		case Remove:
			count(c.Rule.Source, -1)
		}
	}
	return u
}
