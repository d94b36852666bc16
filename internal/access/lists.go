package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sekisho/internal/securitygroup"
)

// Managed prefix lists: one list holds the fixed addresses of whom a target allows, and
// every group that names it follows. It costs each of them as many rules of the quota as
// it may hold entries.

// listKey is which list: those of a place whose targets allow the same people share one.
type listKey struct {
	config string // the configuration's name
	place  securitygroup.Place
	who    string // as Allow has it, sorted, with spaces
	family int
}

// tag is TagList's value.
func (k listKey) tag() string {
	const room = 200
	who := k.who
	if len(who) > room { // long ones differ by what is not seen of them
		who = fmt.Sprintf("%s... %x", who[:room], sha256.Sum256([]byte(who)))[:room+20]
	}
	return belonging(k.config) + securitygroup.Describe(fmt.Sprintf("%s IPv%d", who, k.family))
}

func (k listKey) name() string { return "sekisho " + k.tag() }

// pending is the id of a list that is not made yet.
func (k listKey) pending() string { return "(the list " + k.name() + ")" }

// belonging begins the tags of a configuration's lists.
func belonging(config string) string {
	if config == "" {
		return ""
	}
	return config + ": "
}

// isOf reports whether a list is one of a configuration's: those of another have its name.
func isOf(l securitygroup.PrefixList, config string) bool {
	tag := l.Tags[securitygroup.TagList]
	if config == "" {
		return !strings.Contains(tag, ": ")
	}
	return strings.HasPrefix(tag, belonging(config))
}

func (a *Access) keyOf(door Door, family int) listKey {
	who := allowed(door)
	slices.Sort(who)
	return listKey{a.Config.AWS.Name, door.Place(), strings.Join(slices.Compact(who), " "), family}
}

// ListPlan is what has to change in one list.
type ListPlan struct {
	Place  securitygroup.Place
	List   securitygroup.PrefixList // what is there; without an ID: it is made
	Name   string
	Family int
	Max    int // entries that it shall hold at most
	Add    []securitygroup.Entry
	Remove []securitygroup.Entry
	Delete bool // nobody wants it any more
	Groups int  // how many groups name it, or will

	key listKey
}

// Empty reports whether nothing has to change.
func (l ListPlan) Empty() bool {
	return l.List.ID != "" && !l.Delete && len(l.Add)+len(l.Remove) == 0 && l.Max <= l.List.Max
}

// Op is what the plan for a list does.
func (l ListPlan) Op() Op {
	switch {
	case l.Delete:
		return Remove
	case l.List.ID == "":
		return Add
	}
	return Modify
}

// Text is the plan for a list for people, without its sign.
func (l ListPlan) Text() string {
	switch {
	case l.Delete:
		return fmt.Sprintf("prefix list %s %q", l.List.ID, l.Name)
	case l.List.ID == "":
		return fmt.Sprintf("prefix list %q for %d addresses (%s); it costs each of %d groups %d rules of its quota", l.Name, len(l.Add), entries(l.Add), l.Groups, l.Max)
	}
	var parts []string
	if len(l.Add) > 0 {
		parts = append(parts, "with "+entries(l.Add))
	}
	if len(l.Remove) > 0 {
		parts = append(parts, "without "+entries(l.Remove))
	}
	if l.Max > l.List.Max {
		parts = append(parts, fmt.Sprintf("room for %d instead of %d, which costs each of %d groups as many rules of its quota", l.Max, l.List.Max, l.Groups))
	}
	return fmt.Sprintf("prefix list %s %q: %s", l.List.ID, l.Name, strings.Join(parts, "; "))
}

func entries(es []securitygroup.Entry) string {
	texts := make([]string, len(es))
	for i, e := range es {
		texts[i] = securitygroup.Source{Prefix: e.Prefix}.String()
	}
	return list(texts)
}

// room is how many entries a list is made to hold for n: in steps, since what it may
// hold counts, not what it holds.
func room(n int) int { return max(5, (n+4)/5*5) }

// planLists compares the lists of a place with what door's targets want of them. Lists that
// only others of the configuration's want are left alone.
func planLists(place securitygroup.Place, wanted map[listKey]map[netip.Prefix][]string, have []securitygroup.PrefixList, groups map[listKey]int, others map[string]bool) []ListPlan {
	var plans []ListPlan
	byTag := map[string]securitygroup.PrefixList{}
	for _, l := range have {
		tag := l.Tags[securitygroup.TagList]
		// Of two that were made at the same time the first is kept.
		if first, twice := byTag[tag]; twice && first.ID < l.ID {
			plans = append(plans, ListPlan{Place: place, List: l, Name: l.Name, Family: l.Family, Delete: true})
			continue
		} else if twice {
			plans = append(plans, ListPlan{Place: place, List: first, Name: first.Name, Family: first.Family, Delete: true})
		}
		byTag[tag] = l
	}
	keys := slices.SortedFunc(maps.Keys(wanted), func(a, b listKey) int { return strings.Compare(a.tag(), b.tag()) })
	for _, key := range keys {
		list := byTag[key.tag()]
		delete(byTag, key.tag())
		plan := ListPlan{Place: place, List: list, Name: key.name(), Family: key.family, Groups: groups[key], key: key}
		there := map[netip.Prefix]string{}
		for _, e := range list.Entries {
			there[e.Prefix] = e.Description
		}
		for _, p := range slices.SortedFunc(maps.Keys(wanted[key]), netip.Prefix.Compare) {
			// EC2 gives an entry another description only by removing it first, which would shut
			// its owner out for a while: an old one stays.
			if _, ok := there[p]; !ok {
				plan.Add = append(plan.Add, securitygroup.Entry{Prefix: p, Description: securitygroup.Describe(strings.Join(wanted[key][p], " "))})
			}
			delete(there, p)
		}
		for _, p := range slices.SortedFunc(maps.Keys(there), netip.Prefix.Compare) {
			plan.Remove = append(plan.Remove, securitygroup.Entry{Prefix: p, Description: there[p]})
		}
		plan.Max = max(list.Max, room(len(wanted[key])))
		plans = append(plans, plan)
	}
	for _, tag := range slices.Sorted(maps.Keys(byTag)) {
		if others[tag] {
			continue
		}
		l := byTag[tag]
		plans = append(plans, ListPlan{Place: place, List: l, Name: l.Name, Family: l.Family, Delete: true})
	}
	return plans
}

// split parts prefixes by family.
func split(people map[netip.Prefix][]string) map[int]map[netip.Prefix][]string {
	res := map[int]map[netip.Prefix][]string{}
	for p, names := range people {
		family := 6
		if p.Addr().Is4() {
			family = 4
		}
		if res[family] == nil {
			res[family] = map[netip.Prefix][]string{}
		}
		res[family][p] = names
	}
	return res
}

// wantedLists are the rules for door that name lists: of each family that anybody has an
// address of.
func (a *Access) wantedLists(door Door, people map[netip.Prefix][]string, ids map[listKey]string) []Wanted {
	var wanted []Wanted
	for _, family := range []int{4, 6} {
		if len(split(people)[family]) == 0 {
			continue
		}
		key := a.keyOf(door, family)
		id := ids[key]
		if id == "" {
			id = key.pending()
		}
		who := allowed(door)
		slices.Sort(who)
		wanted = append(wanted, Wanted{securitygroup.TCP(door.Port, securitygroup.Source{PrefixList: id}), slices.Compact(who)})
	}
	return wanted
}

// parts are what has to be done first, and what last: what a list loses, so that nobody is
// shut out whom a group lets in otherwise in a moment. Where there is no room for both, all
// is first.
func (l ListPlan) parts() (first, last ListPlan) {
	if l.List.ID == "" || len(l.List.Entries)+len(l.Add) > max(l.Max, l.List.Max) {
		return l, ListPlan{}
	}
	first, last = l, l
	first.Remove, last.Add = nil, nil
	last.List.Max = max(l.Max, l.List.Max)
	return first, last
}

// carryOutList brings one list into its planned state, but for a deletion, and returns its
// version then.
func (a *Access) carryOutList(ctx context.Context, l ListPlan) (version int64, _ error) {
	switch {
	case l.Delete || l.Empty():
		return l.List.Version, nil
	case l.List.ID == "":
		tags := securitygroup.ManagedTags()
		tags[securitygroup.TagList] = l.key.tag()
		want := securitygroup.PrefixList{Name: l.Name, Family: l.Family, Max: l.Max, Tags: tags, Entries: l.Add}
		// Two who want the same at the same time make one.
		now, _ := a.Cloud.Now(l.Place)
		token := sha256.Sum256(fmt.Append(nil, want, now.Truncate(time.Minute).Unix()))
		made, err := a.Cloud.CreateList(ctx, l.Place, want, hex.EncodeToString(token[:]))
		if err != nil && made.ID != "" && ctx.Err() == nil {
			if there, lost := a.Cloud.Lists(ctx, l.Place, securitygroup.ListQuery{IDs: []string{made.ID}}, false); lost == nil && len(there) == 0 {
				return 0, nil // others made one, too, and took ours away: the next plan knows theirs
			}
		}
		return 0, err
	}
	if l.Max > l.List.Max {
		if err := a.Cloud.ResizeList(ctx, l.Place, l.List.ID, l.Max); err != nil {
			return 0, err
		}
	}
	if len(l.Add)+len(l.Remove) == 0 {
		return l.List.Version, nil
	}
	return a.Cloud.ModifyList(ctx, l.Place, l.List.ID, l.List.Version, l.Add, l.Remove)
}
