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
			What:   fmt.Sprintf("%s %q (%s): rule %s lets in %s to %s: %s had %s once", h.Group, h.GroupName, h.Place, h.Rule, h.Source, h.Ports, whose[old], prefixes([]netip.Prefix{old})),
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
