package ec2test_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sekisho/internal/securitygroup/ec2test"
)

// Whatever is asked in whatever order: a call is made whole or not at all, no two rules
// are the same, and no more than 60 of a family are there.
func TestRandomCalls(t *testing.T) {
	s, p := ours(t)
	rapid.Check(t, func(t *rapid.T) {
		group := s.AddGroup(home, ec2test.Group{VPC: "vpc-0aaaaaaaaaaaaaaaa"})
		model := map[string]string{} // id → canonical prefix
		var gone []string
		prefixes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			bits := rapid.IntRange(24, 32).Draw(t, "bits")
			if rapid.Bool().Draw(t, "six") {
				return fmt.Sprintf("2001:DB8::%X/%d", rapid.IntRange(0, 99).Draw(t, "host"), bits+96)
			}
			return fmt.Sprintf("203.0.113.%d/%d", rapid.IntRange(0, 99).Draw(t, "host"), bits)
		}), 1, 40)
		there := func(prefix string) bool {
			for _, one := range model {
				if one == prefix {
					return true
				}
			}
			return false
		}
		ids := func() []string {
			var ids []string
			for id := range model {
				ids = append(ids, id)
			}
			slices.Sort(ids)
			return ids
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				got := map[string]string{}
				for _, r := range s.Rules(home, group) {
					if !r.Egress {
						got[r.ID] = r.Prefix.String()
					}
				}
				if diff := cmp.Diff(model, got); diff != "" {
					t.Fatal(diff)
				}
			},
			"authorize": func(t *rapid.T) {
				asked := prefixes.Draw(t, "prefixes")
				want, seen, count := "accepted", map[string]bool{}, map[bool]int{}
				for _, one := range model {
					count[strings.Contains(one, ":")]++
				}
				for _, one := range asked {
					canonical := netip.MustParsePrefix(one).Masked().String()
					switch {
					case seen[canonical]:
						want = "InvalidParameterValue"
					case there(canonical) && want == "accepted":
						want = "InvalidPermission.Duplicate"
					}
					seen[canonical] = true
					count[strings.Contains(one, ":")]++
				}
				if want == "accepted" && max(count[true], count[false]) > 60 {
					want = "RulesPerSecurityGroupLimitExceeded"
				}
				rules, err := p.authorize(group, ssh("x", asked...))
				if got := code(err); got != want {
					t.Fatalf("%s, want %s", got, want)
				}
				for _, r := range rules {
					model[*r.SecurityGroupRuleId] = source(r)
				}
			},
			"revoke": func(t *rapid.T) {
				all := slices.Concat(ids(), gone)
				if len(all) == 0 {
					t.Skip("no rules yet")
				}
				asked := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, 3, rapid.ID[string]).Draw(t, "ids")
				want := "accepted"
				for _, id := range asked {
					if model[id] == "" {
						want = "InvalidSecurityGroupRuleId.NotFound"
					}
				}
				_, err := p.revoke(group, asked...)
				if got := code(err); got != want {
					t.Fatalf("%s, want %s", got, want)
				}
				if err == nil {
					for _, id := range asked {
						delete(model, id)
						gone = append(gone, id)
					}
				}
			},
			"modify": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("no rules yet")
				}
				id := rapid.SampledFrom(ids()).Draw(t, "id")
				to := netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/32", rapid.IntRange(0, 99).Draw(t, "host"))).String()
				want := "accepted"
				switch {
				case strings.Contains(model[id], ":"):
					want = "InvalidParameterValue"
				case there(to) && model[id] != to:
					want = "InvalidPermission.Duplicate"
				}
				if got := code(p.modify(group, id, to)); got != want {
					t.Fatalf("%s, want %s", got, want)
				}
				if want == "accepted" {
					model[id] = to
				}
			},
		})
	})
}

// While rules come and go, pages miss none that stays, and show none twice.
func TestRandomPages(t *testing.T) {
	s, p := ours(t)
	rapid.Check(t, func(t *rapid.T) {
		var groups, stay []string
		add := func(tag string) string {
			group := groups[rapid.IntRange(0, len(groups)-1).Draw(t, "group")]
			return s.AddRule(home, ec2test.Rule{Group: group, From: 22, Prefix: netip.MustParsePrefix("203.0.113.1/32"), Tags: map[string]string{"run": groups[0], "kind": tag}})
		}
		for range 3 {
			groups = append(groups, s.AddGroup(home, ec2test.Group{}))
		}
		var others []string
		for range rapid.IntRange(0, 40).Draw(t, "rules") {
			if rapid.Bool().Draw(t, "stays") {
				stay = append(stay, add("stays"))
			} else {
				others = append(others, add("goes"))
			}
		}
		var got []string
		pages := ec2.NewDescribeSecurityGroupRulesPaginator(p.Client, &ec2.DescribeSecurityGroupRulesInput{Filters: filter("tag:run", groups[0]), MaxResults: aws.Int32(5)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(p.ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.SecurityGroupRules {
				if slices.Contains(got, *r.SecurityGroupRuleId) {
					t.Fatalf("%s is shown twice", *r.SecurityGroupRuleId)
				}
				got = append(got, *r.SecurityGroupRuleId)
			}
			if len(others) > 0 {
				i := rapid.IntRange(0, len(others)-1).Draw(t, "goes")
				s.RemoveRule(home, others[i])
				others = slices.Delete(others, i, i+1)
			}
			if rapid.Bool().Draw(t, "comes") {
				add("comes")
			}
			if len(got) > 200 {
				t.Fatal("there is no end")
			}
		}
		for _, id := range stay {
			if !slices.Contains(got, id) {
				t.Fatalf("%s is missed", id)
			}
		}
	})
}
