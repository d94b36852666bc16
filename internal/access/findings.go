package access

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sekisho/internal/securitygroup"
)

// Severity is how bad a finding is, in the words of `sekisho check`.
type Severity string

// The severities.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
	Low      Severity = "low"
	Info     Severity = "info"
)

// Finding is something about a group that somebody should know.
type Finding struct {
	ID       string              `json:"id"`
	Severity Severity            `json:"severity"`
	Place    securitygroup.Place `json:"place"`
	Group    string              `json:"group"`
	Rule     string              `json:"rule,omitempty"`
	What     string              `json:"what"`
	Why      string              `json:"why"`
	Remedy   string              `json:"remedy"`
}

// SortFindings puts the worst first.
func SortFindings(fs []Finding) {
	rank := func(s Severity) int { return slices.Index([]Severity{Critical, High, Medium, Low, Info}, s) }
	slices.SortStableFunc(fs, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(rank(x.Severity), rank(y.Severity)), x.Place.Compare(y.Place), strings.Compare(x.Group, y.Group), strings.Compare(x.Rule, y.Rule))
	})
}

// Watch finds what is gravely wrong with doors' groups, going by their rules alone: what a
// reaper may read.
func (a *Access) Watch(ctx context.Context, doors []Door) (findings []Finding, failed []Failure) {
	there := byPlace(doors)
	failed = eachPlace(maps.Keys(there), func(place securitygroup.Place) ([]Finding, error) {
		return a.watch(ctx, place, there[place])
	}, func(found []Finding) { findings = append(findings, found...) })
	SortFindings(findings)
	return findings, failed
}

// watch is Watch for one place.
func (a *Access) watch(ctx context.Context, place securitygroup.Place, doors []Door) (grave []Finding, err error) {
	groups := map[string]GroupPlan{}
	of := map[string][]Door{}
	for _, d := range doors {
		of[d.AWS.Group] = append(of[d.AWS.Group], d)
	}
	err = a.Cloud.Rules(ctx, place, securitygroup.Query{Groups: slices.Sorted(maps.Keys(of))}, func(rules []securitygroup.Rule) error {
		for _, r := range rules {
			g := groups[r.Group]
			g.Place, g.Group.ID, g.Rules = place, r.Group, append(g.Rules, r)
			groups[r.Group] = g
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	now, _ := a.Cloud.Now(place)
	for id, g := range groups {
		for _, f := range a.findings(g, of[id], now) {
			if f.Severity == Critical || f.Severity == High {
				grave = append(grave, f)
			}
		}
	}
	return grave, nil
}

// findings tells what is wrong with a group's rules, as they are.
func (a *Access) findings(g GroupPlan, doors []Door, now time.Time) []Finding {
	var res []Finding
	adoptable := map[string]bool{}
	for _, c := range g.Covered {
		adoptable[c.By.ID] = true
	}
	for _, r := range g.Rules {
		add := func(id string, s Severity, why, remedy, format string, args ...any) {
			res = append(res, Finding{id, s, g.Place, g.Group.ID, r.ID, fmt.Sprintf(format, args...), why, remedy})
		}
		who := fmt.Sprintf("%s (%s): rule %s lets in %s to %s", withName(g.Group.ID, g.Group.Name), g.Place, r.ID, r.Source, r.Ports())
		opens := slices.ContainsFunc(doors, func(d Door) bool { return r.Opens(d.Port) })
		ours, is := r.Ours()
		switch {
		case opens && r.Source.Prefix.IsValid() && r.Source.Prefix.Bits() == 0: // ours too: somebody may have widened it
			add("group_open_to_all", Critical, "everybody on the internet gets to SSH there, whatever else is set", "take the rule away: `"+revoking(g.Place, g.Group.ID, r.ID)+"`; whoever needs it gets in by a fixed address or on request",
				"%s: everybody%s", who, owner(r))
		case is && ours.Altered(r):
			add("group_rule_altered", High, "somebody changed it by hand", "`sekisho reap` takes it away", "%s, but it was made for %s", who, ours.Source)
		case is:
			a.leaseFindings(ours, doors, now, func(id string, s Severity, why, remedy, format string, args ...any) {
				add(id, s, why, remedy, who+": "+format, args...)
			})
		case !opens:
		case adoptable[r.ID]:
			add("group_rule_foreign", Info, "it is wanted, but nobody takes it away when the address changes", "`sekisho adopt "+r.ID+"` makes it ours", "%s, which is a fixed address, but the rule is not ours%s", who, owner(r))
		case r.Source.Prefix.IsValid() && !r.Source.Prefix.IsSingleIP():
			add("group_rule_wide", Medium, "everybody in that network gets to SSH there", "name the addresses under `people`, then `sekisho apply`, and take the rule away", "%s, a whole network, and is not ours%s", who, owner(r))
		default:
			add("group_rule_foreign", Low, "nobody knows from the configuration whose it is, and until when", "give its owner that address under `fixed`, then `sekisho adopt "+r.ID+"`; or take it away", "%s, and is not ours%s", who, owner(r))
		}
	}
	return res
}

// withName is a group with its name, where that is known: a reaper may not ask for it.
func withName(id, name string) string {
	if name == "" {
		return id
	}
	return fmt.Sprintf("%s %q", id, name)
}

// leaseFindings tells what is wrong with a rule's leases.
func (a *Access) leaseFindings(ours securitygroup.Ours, doors []Door, now time.Time, add func(id string, s Severity, why, remedy, format string, args ...any)) {
	if len(ours.Fixed) == 0 && len(ours.Live(now)) == 0 {
		if end := ours.Until(); now.Sub(end) > StuckAfter {
			add("group_lease_over", High, "a door that should be shut is open: no reaper runs, or it may not take the rule away", "`sekisho reap`, and see that one runs every minute", "its last lease ended at %s", end.UTC().Format("2006-01-02 15:04:05Z"))
		}
		return
	}
	longest := time.Duration(0)
	for _, d := range doors {
		longest = max(longest, d.AtMost)
		for _, e := range d.Allow {
			longest = max(longest, e.AtMost)
		}
	}
	for _, l := range ours.Live(now) {
		if l.Until.Sub(now) > longest+StuckAfter {
			add("group_lease_long", High, "somebody wrote another end into its tags", "`sekisho close TARGET --person NAME`, or take the lease's tag off the rule", "the lease of %s ends only at %s", l.Person, l.Until.UTC().Format("2006-01-02 15:04:05Z"))
		}
	}
}

// owner tells by a foreign rule's tags and description who made it.
func owner(r securitygroup.Rule) string {
	var said []string
	for _, key := range slices.Sorted(maps.Keys(r.Tags)) {
		if len(said) == 4 {
			said = append(said, "...")
			break
		}
		said = append(said, key+"="+r.Tags[key])
	}
	text := ""
	if r.Description != "" {
		text += fmt.Sprintf(", described as %q", r.Description)
	}
	if len(said) > 0 {
		text += ", tagged " + strings.Join(said, ", ")
	}
	if text == "" {
		return "; nothing says whose it is"
	}
	return text
}
