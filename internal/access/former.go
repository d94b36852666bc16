package access

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"sekisho/internal/securitygroup"
)

// Former finds what still lets in an address that somebody of the configuration had once
// (`former`), in any group of places. What could not be looked at is in failed.
func (a *Access) Former(ctx context.Context, places []securitygroup.Place) (findings []Finding, failed []Failure) {
	whose := map[netip.Prefix]string{}
	for _, name := range slices.Sorted(maps.Keys(a.Config.People)) {
		for _, p := range a.Config.People[name].Former {
			whose[p] = name
		}
	}
	if len(whose) == 0 {
		return nil, nil
	}
	former := slices.SortedFunc(maps.Keys(whose), netip.Prefix.Compare)
	within := func(p netip.Prefix) int {
		if p.Bits() == 0 { // it lets everybody in: that is another finding
			return -1
		}
		return slices.IndexFunc(former, p.Overlaps)
	}
	hits, failed := a.where(ctx, func(p netip.Prefix) bool { return within(p) >= 0 }, places, nil)
	for _, h := range hits {
		old := former[within(h.Within)]
		findings = append(findings, Finding{
			ID: "group_former_address", Severity: High, Place: h.Place, Group: h.Group, Rule: h.Rule,
			What:   fmt.Sprintf("%s (%s): rule %s lets in %s to %s: %s had %s once", withName(h.Group, h.GroupName), h.Place, h.Rule, h.Source, h.Ports, whose[old], prefixes([]netip.Prefix{old})),
			Why:    "whoever has that address today gets in",
			Remedy: h.revoke(),
		})
	}
	return findings, failed
}

// revoke is how somebody takes the rule away by hand.
func (h Hit) revoke() string { return revoking(h.Place, h.Group, h.Rule) }

func revoking(place securitygroup.Place, group, rule string) string {
	return fmt.Sprintf("aws ec2 revoke-security-group-ingress --region %s --group-id %s --security-group-rule-ids %s", place.Region, group, rule)
}

// Orphans finds rules of ours for fixed addresses, in any group of places that no target
// names any more: nobody keeps them right.
func (a *Access) Orphans(ctx context.Context, places []securitygroup.Place) (findings []Finding, failed []Failure) {
	named := map[groupIn]bool{}
	for _, d := range a.Doors() {
		named[groupIn{d.Place(), d.AWS.Group}] = true
	}
	failed = eachPlace(slices.Values(places), func(place securitygroup.Place) (found []Finding, err error) {
		err = a.Cloud.Rules(ctx, place, securitygroup.Query{Tags: securitygroup.ManagedTags()}, func(rules []securitygroup.Rule) error {
			for _, r := range rules {
				ours, is := r.Ours()
				if !is || len(ours.Fixed) == 0 || named[groupIn{place, r.Group}] {
					continue
				}
				found = append(found, Finding{
					ID: "group_rule_orphan", Severity: Medium, Place: place, Group: r.Group, Rule: r.ID,
					What:   fmt.Sprintf("%s (%s): rule %s of ours lets in %s to %s, for %s, and no target names that group", r.Group, place, r.ID, r.Source, r.Ports(), list(ours.Fixed)),
					Why:    "nobody takes it away when the address changes",
					Remedy: revoking(place, r.Group, r.ID),
				})
			}
			return nil
		})
		return found, err
	}, func(found []Finding) { findings = append(findings, found...) })
	SortFindings(findings)
	return findings, failed
}
