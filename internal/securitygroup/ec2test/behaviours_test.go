package ec2test_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// motoDoes is what moto 5.1.18 and newer do instead, as the checks tell it.
var motoDoes = map[string]string{
	"a new rule has an id, an arn and its tags":                 "arn is \"\"",
	"one rule of a call that is there already: none is made":    "there is [203.0.113.1/32 x, 203.0.113.2/32 x]",
	"an IPv4 prefix is kept without its host's bits":            "there is [100.68.0.18/18 x]",
	"an IPv6 prefix is kept in its canonical form":              "there is [2001:0DB8:0:0:0:0:0:0001/128 x]",
	"a description has at most 255 characters":                  "accepted",
	"a description has characters of a set":                     "accepted",
	"a port is at most 65535":                                   "accepted",
	"a rule twice in a call is refused":                         "InvalidPermission.Duplicate",
	"MaxResults makes pages":                                    "7 rules at once",
	"a token of another question is refused":                    "no token",
	"a rule revoked by its id comes back in the answer":         "0 rules come back",
	"a rule revoked twice by its id is not found":               "InvalidPermission.NotFound",
	"in the default VPC, a missing rule is revoked, and told":   "InvalidPermission.NotFound",
	"descriptions are updated by id":                            "there is [203.0.113.1/32 x]",
	"an id that is none is malformed":                           "InvalidGroup.NotFound",
	"groups are found by an IPv6 prefix":                        "StatusCode: 500",
	"60 rules of a family fit into a group":                     "RulesPerSecurityGroupLimitExceeded", // it counts both together
	"a filter that nobody knows is refused":                     "StatusCode: 500",
	"MaxResults is from 5 to 1000":                              "accepted",
	"a modified rule keeps its id and tags, and nothing else":   "there is [203.0.113.9/32 x]",
	"a rule is not modified to be one that is there":            "accepted",
	"tags of AWS are not set":                                   "accepted",
	"a rule for a prefix list counts as many as it may hold":    "accepted",
	"a rule for a prefix list keeps its description":            "description is \"\"",
	"a prefix list of another version is not modified":          "accepted",
	"a prefix list holds no more than its size":                 "accepted",
	"entries and size of a prefix list are not modified in one": "accepted",
	"a prefix list in use is not deleted":                       "it is gone",
	"a prefix list tells who refers to it":                      "StatusCode: 500",
	"a group in use is not deleted":                             "accepted",
}

func behaviours() []behaviour {
	return []behaviour{
		{"the caller is told who it is", anywhere, func(p *peer) error {
			out, err := p.sts.GetCallerIdentity(p.ctx, nil)
			if err != nil {
				return err
			}
			if len(aws.ToString(out.Account)) != 12 || !strings.Contains(aws.ToString(out.Arn), aws.ToString(out.Account)) {
				return fmt.Errorf("account %q, arn %q", aws.ToString(out.Account), aws.ToString(out.Arn))
			}
			return nil
		}},
		{"an answer has the time", anywhere, func(p *peer) error {
			out, err := p.DescribeRegions(p.ctx, nil)
			if err != nil {
				return err
			}
			at, ok := middleware.GetServerTime(out.ResultMetadata)
			if off := time.Since(at).Abs(); !ok || off > 10*time.Minute {
				return fmt.Errorf("time is %v", at)
			}
			return nil
		}},
		{"a group that is new lets all out and nobody in", anywhere, func(p *peer) error {
			group := p.group()
			return p.eventually(func() error {
				out, err := p.DescribeSecurityGroups(p.ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{group}})
				if err != nil {
					return err
				}
				g := out.SecurityGroups[0]
				if len(g.IpPermissions) != 0 || len(g.IpPermissionsEgress) != 1 || aws.ToString(g.IpPermissionsEgress[0].IpProtocol) != "-1" {
					return fmt.Errorf("in %v, out %v", g.IpPermissions, g.IpPermissionsEgress)
				}
				return nil
			})
		}},
		{"a group's name is there once", anywhere, func(p *peer) error {
			out, err := p.DescribeSecurityGroups(p.ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{p.group()}})
			if err != nil {
				return err
			}
			g := out.SecurityGroups[0]
			_, err = p.CreateSecurityGroup(p.ctx, &ec2.CreateSecurityGroupInput{GroupName: g.GroupName, Description: g.Description, VpcId: g.VpcId})
			return refused(err, "InvalidGroup.Duplicate")
		}},
		{"a new rule has an id, an arn and its tags", anywhere, func(p *peer) error {
			rules, err := p.authorize(p.group(), ssh("hanako (ops)", "203.0.113.1/32", "2001:db8::1/128"), "gate:id", "1", "gate:user", "hanako")
			if err != nil {
				return err
			}
			if len(rules) != 2 {
				return fmt.Errorf("%d rules come back, want 2", len(rules))
			}
			for _, r := range rules {
				if !strings.HasPrefix(aws.ToString(r.SecurityGroupRuleId), "sgr-") || len(r.Tags) != 2 || aws.ToString(r.Description) != "hanako (ops)" {
					return fmt.Errorf("id %q, %d tags, description %q", aws.ToString(r.SecurityGroupRuleId), len(r.Tags), aws.ToString(r.Description))
				}
				if !strings.HasSuffix(aws.ToString(r.SecurityGroupRuleArn), "security-group-rule/"+*r.SecurityGroupRuleId) {
					return fmt.Errorf("arn is %q", aws.ToString(r.SecurityGroupRuleArn))
				}
			}
			return nil
		}},
		{"a rule is there once, whatever its description", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("hanako", "203.0.113.1/32"))
			_, err := p.authorize(group, ssh("taro", "203.0.113.1/32"))
			return refused(err, "InvalidPermission.Duplicate")
		}},
		{"one rule of a call that is there already: none is made", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("x", "203.0.113.1/32"))
			_, err := p.authorize(group, ssh("x", "203.0.113.2/32", "203.0.113.1/32"))
			return errors.Join(refused(err, "InvalidPermission.Duplicate"), p.shows(group, "203.0.113.1/32 x"))
		}},
		{"an IPv4 prefix is kept without its host's bits", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("x", "100.68.0.18/18"))
			return p.shows(group, "100.68.0.0/18 x")
		}},
		{"an IPv6 prefix is kept in its canonical form", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("x", "2001:0DB8:0:0:0:0:0:0001/128"))
			return p.shows(group, "2001:db8::1/128 x")
		}},
		{"a prefix that is none is refused", anywhere, func(p *peer) error {
			_, err := p.authorize(p.group(), ssh("x", "300.1.1.1/32"))
			return refused(err, "InvalidParameterValue")
		}},
		{"a description has at most 255 characters", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh(strings.Repeat("x", 255), "203.0.113.1/32"))
			_, err := p.authorize(group, ssh(strings.Repeat("x", 256), "203.0.113.2/32"))
			return refused(err, "InvalidParameterValue")
		}},
		{"a description has characters of a set", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("aZ9 ._-:/()#,@[]+=&;{}!$*", "203.0.113.1/32"))
			for _, sign := range []string{"|", "<", "'", `"`, "?", "%", "ö", "山"} {
				_, err := p.authorize(group, ssh("a"+sign+"b", "203.0.113.2/32"))
				if err := refused(err, "InvalidParameterValue"); err != nil {
					return fmt.Errorf("%s: %w", sign, err)
				}
			}
			return nil
		}},
		{"a port is at most 65535", anywhere, func(p *peer) error {
			sets := ssh("x", "203.0.113.1/32")
			sets[0].ToPort = aws.Int32(70000)
			_, err := p.authorize(p.group(), sets)
			return refused(err, "InvalidParameterValue")
		}},
		{"a rule twice in a call is refused", anywhere, func(p *peer) error {
			group := p.group()
			_, err := p.authorize(group, ssh("x", "203.0.113.1/32", "203.0.113.1/32"))
			return refused(err, "InvalidParameterValue")
		}},
		{"60 rules of a family fit into a group", anywhere, func(p *peer) error {
			group := p.group()
			var four, six []string
			for i := range 60 {
				four, six = append(four, fmt.Sprintf("203.0.113.%d/32", i)), append(six, fmt.Sprintf("2001:db8::%x/128", i+1))
			}
			p.must(group, ssh("x", four...))
			_, err := p.authorize(group, ssh("x", "198.51.100.1/32"))
			if err := refused(err, "RulesPerSecurityGroupLimitExceeded"); err != nil {
				return err
			}
			_, err = p.authorize(group, ssh("x", six...))
			return err
		}},
		{"of many that make the same rule at once, one does", anywhere, func(p *peer) error {
			group := p.group()
			codes := make([]string, 20)
			var all sync.WaitGroup
			for i := range codes {
				all.Go(func() {
					_, err := p.authorize(group, ssh("x", "203.0.113.1/32"))
					codes[i] = code(err)
				})
			}
			all.Wait()
			slices.Sort(codes)
			if slices.Compact(slices.Clone(codes[:19]))[0] != "InvalidPermission.Duplicate" || codes[18] != codes[0] || codes[19] != "accepted" {
				return fmt.Errorf("%q", codes)
			}
			return nil
		}},
		{"rules are found by id, group, tag and wildcard", anywhere, func(p *peer) error {
			group, id := p.group(), fmt.Sprint("t", time.Now().UnixNano())
			one := p.must(group, ssh("x", "203.0.113.1/32"), "gate:id", id+"-1", "gate:user", "hanako")[0]
			p.must(group, ssh("x", "203.0.113.2/32"), "gate:id", id+"-22")
			for _, c := range []struct {
				name string
				in   ec2.DescribeSecurityGroupRulesInput
				want int
			}{
				{"id", ec2.DescribeSecurityGroupRulesInput{SecurityGroupRuleIds: []string{*one.SecurityGroupRuleId}}, 1},
				{"filter of the id", ec2.DescribeSecurityGroupRulesInput{Filters: filter("security-group-rule-id", *one.SecurityGroupRuleId)}, 1},
				{"group", ec2.DescribeSecurityGroupRulesInput{Filters: filter("group-id", group)}, 2},
				{"tag", ec2.DescribeSecurityGroupRulesInput{Filters: filter("tag:gate:id", id+"-1")}, 1},
				{"two tags", ec2.DescribeSecurityGroupRulesInput{Filters: filter("tag:gate:id", id+"-1", id+"-22")}, 2},
				{"*", ec2.DescribeSecurityGroupRulesInput{Filters: filter("tag:gate:id", id+"*")}, 2},
				{"?", ec2.DescribeSecurityGroupRulesInput{Filters: filter("tag:gate:id", id+"-?")}, 1},
				{"two filters", ec2.DescribeSecurityGroupRulesInput{Filters: append(filter("group-id", group), filter("tag:gate:user", "*")...)}, 1},
				{"nothing", ec2.DescribeSecurityGroupRulesInput{Filters: filter("tag:gate:id", id)}, 0},
			} {
				err := p.eventually(func() error {
					rules, err := p.rules(&c.in)
					if err == nil && len(rules) != c.want {
						err = fmt.Errorf("%d rules, want %d", len(rules), c.want)
					}
					return err
				})
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
			}
			return nil
		}},
		{"a filter that nobody knows is refused", anywhere, func(p *peer) error {
			_, err := p.DescribeSecurityGroups(p.ctx, &ec2.DescribeSecurityGroupsInput{Filters: filter("colour", "blue")})
			return refused(err, "InvalidParameterValue")
		}},
		{"groups are found by the key of a tag", anywhere, func(p *peer) error {
			group, key := p.group(), fmt.Sprint("sekisho-test-", time.Now().UnixNano())
			if _, err := p.CreateTags(p.ctx, &ec2.CreateTagsInput{Resources: []string{group}, Tags: tags(key, "")}); err != nil {
				return err
			}
			return p.found(group, filter("tag-key", key))
		}},
		{"groups are found by an IPv4 prefix", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("x", "203.0.113.1/32"))
			return p.found(group, append(filter("ip-permission.cidr", "203.0.113.1/32"), filter("group-id", group)...))
		}},
		{"groups are found by an IPv6 prefix", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("x", "2001:db8::1/128"))
			return p.found(group, append(filter("ip-permission.ipv6-cidr", "2001:db8::1/128"), filter("group-id", group)...))
		}},
		{"MaxResults makes pages", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("x", "203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32", "203.0.113.4/32", "203.0.113.5/32", "203.0.113.6/32"))
			return p.eventually(func() error {
				in := &ec2.DescribeSecurityGroupRulesInput{Filters: filter("group-id", group), MaxResults: aws.Int32(5)}
				first, err := p.DescribeSecurityGroupRules(p.ctx, in)
				if err != nil {
					return err
				}
				if len(first.SecurityGroupRules) != 5 {
					return fmt.Errorf("%d rules at once, want 5", len(first.SecurityGroupRules))
				}
				if all, err := p.rules(in); err != nil || len(all) != 6 {
					return fmt.Errorf("%d rules in all, want 6: %w", len(all), err)
				}
				return nil
			})
		}},
		{"MaxResults is from 5 to 1000", anywhere, func(p *peer) error {
			for _, n := range []int32{-1, 0, 4, 1001} {
				_, err := p.DescribeSecurityGroupRules(p.ctx, &ec2.DescribeSecurityGroupRulesInput{MaxResults: &n})
				if err := refused(err, "InvalidParameterValue"); err != nil {
					return fmt.Errorf("%d: %w", n, err)
				}
			}
			return nil
		}},
		{"a token of another question is refused", anywhere, func(p *peer) error {
			group, other := p.group(), p.group()
			p.must(group, ssh("x", "203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32", "203.0.113.4/32", "203.0.113.5/32", "203.0.113.6/32"))
			return p.eventually(func() error {
				in := &ec2.DescribeSecurityGroupRulesInput{Filters: filter("group-id", group), MaxResults: aws.Int32(5)}
				first, err := p.DescribeSecurityGroupRules(p.ctx, in)
				if err != nil {
					return err
				}
				if first.NextToken == nil {
					return errors.New("no token")
				}
				in.NextToken, in.Filters = first.NextToken, filter("group-id", other)
				if _, err = p.DescribeSecurityGroupRules(p.ctx, in); err == nil {
					return errors.New("accepted")
				}
				in.NextToken, in.Filters = aws.String(*first.NextToken+"AAAA"), filter("group-id", group)
				if _, err = p.DescribeSecurityGroupRules(p.ctx, in); err == nil {
					return errors.New("a broken one is accepted")
				}
				return nil
			})
		}},
		{"a rule revoked by its id comes back in the answer", anywhere, func(p *peer) error {
			group := p.group()
			rule := p.must(group, ssh("x", "203.0.113.1/32", "203.0.113.2/32"))[0]
			out, err := p.revoke(group, *rule.SecurityGroupRuleId)
			if err != nil {
				return err
			}
			if err := p.shows(group, "203.0.113.2/32 x"); err != nil {
				return err
			}
			if n := len(out.RevokedSecurityGroupRules); n != 1 || aws.ToString(out.RevokedSecurityGroupRules[0].SecurityGroupRuleId) != *rule.SecurityGroupRuleId {
				return fmt.Errorf("%d rules come back", n)
			}
			return nil
		}},
		{"a rule revoked twice by its id is not found", anywhere, func(p *peer) error {
			group := p.group()
			rule := p.must(group, ssh("x", "203.0.113.1/32"))[0]
			if _, err := p.revoke(group, *rule.SecurityGroupRuleId); err != nil {
				return err
			}
			_, err := p.revoke(group, *rule.SecurityGroupRuleId)
			return refused(err, "InvalidSecurityGroupRuleId.NotFound")
		}},
		{"one id that is not there: no rule is revoked", anywhere, func(p *peer) error {
			group := p.group()
			rules := p.must(group, ssh("x", "203.0.113.1/32", "203.0.113.2/32"))
			if _, err := p.revoke(group, *rules[0].SecurityGroupRuleId); err != nil {
				return err
			}
			if _, err := p.revoke(group, *rules[1].SecurityGroupRuleId, *rules[0].SecurityGroupRuleId); err == nil {
				return errors.New("accepted")
			}
			return p.shows(group, "203.0.113.2/32 x")
		}},
		{"a rule is revoked by permission, whatever its description", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("x", "203.0.113.1/32"))
			if _, err := p.RevokeSecurityGroupIngress(p.ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &group, IpPermissions: ssh("y", "203.0.113.1/32")}); err != nil {
				return err
			}
			return p.shows(group)
		}},
		{"in the default VPC, a missing rule is revoked, and told", defaultVPC, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("x", "203.0.113.1/32"))
			out, err := p.RevokeSecurityGroupIngress(p.ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &group, IpPermissions: ssh("x", "203.0.113.1/32", "203.0.113.2/32")})
			if err != nil {
				return errors.New(code(err))
			}
			if len(out.UnknownIpPermissions) != 1 {
				return fmt.Errorf("%d are told", len(out.UnknownIpPermissions))
			}
			return p.shows(group)
		}},
		{"in another VPC, a missing rule is not revoked, nor any other", otherVPC, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("x", "203.0.113.1/32"))
			_, err := p.RevokeSecurityGroupIngress(p.ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &group, IpPermissions: ssh("x", "203.0.113.1/32", "203.0.113.2/32")})
			return errors.Join(refused(err, "InvalidPermission.NotFound"), p.shows(group, "203.0.113.1/32 x"))
		}},
		{"a modified rule keeps its id and tags, and nothing else", anywhere, func(p *peer) error {
			group := p.group()
			rule := p.must(group, ssh("x", "203.0.113.1/32"), "gate:id", "1")[0]
			if err := p.modify(group, *rule.SecurityGroupRuleId, "203.0.113.9/32"); err != nil {
				return err
			}
			if err := p.shows(group, "203.0.113.9/32 "); err != nil {
				return err
			}
			got, err := p.rules(&ec2.DescribeSecurityGroupRulesInput{SecurityGroupRuleIds: []string{*rule.SecurityGroupRuleId}})
			if err != nil {
				return err
			}
			if len(got[0].Tags) != 1 {
				return fmt.Errorf("%d tags", len(got[0].Tags))
			}
			return nil
		}},
		{"a rule is not modified to be one that is there", anywhere, func(p *peer) error {
			group := p.group()
			rule := p.must(group, ssh("x", "203.0.113.1/32", "203.0.113.2/32"))[0]
			err := p.modify(group, *rule.SecurityGroupRuleId, "203.0.113.2/32")
			return errors.Join(refused(err, "InvalidPermission.Duplicate"), p.shows(group, "203.0.113.1/32 x", "203.0.113.2/32 x"))
		}},
		{"a rule that is not there is not modified", anywhere, func(p *peer) error {
			return refused(p.modify(p.group(), "sgr-0123456789abcdef0", "203.0.113.2/32"), "InvalidSecurityGroupRuleId.NotFound")
		}},
		{"descriptions are updated by permission", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, ssh("x", "203.0.113.1/32"))
			if _, err := p.UpdateSecurityGroupRuleDescriptionsIngress(p.ctx, &ec2.UpdateSecurityGroupRuleDescriptionsIngressInput{GroupId: &group, IpPermissions: ssh("y", "203.0.113.1/32")}); err != nil {
				return err
			}
			return p.shows(group, "203.0.113.1/32 y")
		}},
		{"descriptions are updated by id", anywhere, func(p *peer) error {
			group := p.group()
			rule := p.must(group, ssh("x", "203.0.113.1/32"))[0]
			if _, err := p.UpdateSecurityGroupRuleDescriptionsIngress(p.ctx, &ec2.UpdateSecurityGroupRuleDescriptionsIngressInput{
				GroupId: &group, SecurityGroupRuleDescriptions: []types.SecurityGroupRuleDescription{{SecurityGroupRuleId: rule.SecurityGroupRuleId, Description: aws.String("y")}},
			}); err != nil {
				return err
			}
			return p.shows(group, "203.0.113.1/32 y")
		}},
		{"a rule's tags are set, overwritten, deleted and described", anywhere, func(p *peer) error {
			rule := p.must(p.group(), ssh("x", "203.0.113.1/32"), "a", "1", "b", "2", "c", "3")[0]
			ids := []string{*rule.SecurityGroupRuleId}
			if _, err := p.CreateTags(p.ctx, &ec2.CreateTagsInput{Resources: ids, Tags: tags("a", "9", "d", "4")}); err != nil {
				return err
			}
			// Without a value: whatever it is. With another one: not that tag.
			if _, err := p.DeleteTags(p.ctx, &ec2.DeleteTagsInput{Resources: ids, Tags: append(tags("c", "8"), types.Tag{Key: aws.String("b")})}); err != nil {
				return err
			}
			return p.eventually(func() error {
				out, err := p.DescribeTags(p.ctx, &ec2.DescribeTagsInput{Filters: filter("resource-id", ids...)})
				if err != nil {
					return err
				}
				var got []string
				for _, t := range out.Tags {
					got = append(got, string(t.ResourceType)+" "+aws.ToString(t.Key)+"="+aws.ToString(t.Value))
				}
				slices.Sort(got)
				if want := "security-group-rule a=9, security-group-rule c=3, security-group-rule d=4"; strings.Join(got, ", ") != want {
					return fmt.Errorf("tags are %q, want %q", got, want)
				}
				return nil
			})
		}},
		{"a resource has at most 50 tags", anywhere, func(p *peer) error {
			group := p.group()
			var pairs []string
			for i := range 50 {
				pairs = append(pairs, fmt.Sprint("key", i), "value")
			}
			if _, err := p.CreateTags(p.ctx, &ec2.CreateTagsInput{Resources: []string{group}, Tags: tags(pairs...)}); err != nil {
				return err
			}
			_, err := p.CreateTags(p.ctx, &ec2.CreateTagsInput{Resources: []string{group}, Tags: tags("one", "more")})
			return refused(err, "TagLimitExceeded")
		}},
		{"tags of AWS are not set", anywhere, func(p *peer) error {
			_, err := p.CreateTags(p.ctx, &ec2.CreateTagsInput{Resources: []string{p.group()}, Tags: tags("aws:x", "1")})
			return refused(err, "InvalidParameterValue")
		}},
		{"a group that is not there is not found", anywhere, func(p *peer) error {
			_, err := p.authorize("sg-0123456789abcdef0", ssh("x", "203.0.113.1/32"))
			return refused(err, "InvalidGroup.NotFound")
		}},
		{"an id that is none is malformed", anywhere, func(p *peer) error {
			_, err := p.authorize("sg-nonsense", ssh("x", "203.0.113.1/32"))
			return refused(err, "InvalidGroupId.Malformed")
		}},
		{"a dry run tells that it would be allowed, and does nothing", anywhere, func(p *peer) error {
			group := p.group()
			_, err := p.AuthorizeSecurityGroupIngress(p.ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: ssh("x", "203.0.113.1/32"), DryRun: aws.Bool(true)})
			return errors.Join(refused(err, "DryRunOperation"), p.shows(group))
		}},
		{"a group in use is not deleted", anywhere, func(p *peer) error {
			used, user := p.group(), p.group() // the user goes first
			sets := []types.IpPermission{{IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &used}}}}
			p.must(user, sets)
			_, err := p.DeleteSecurityGroup(p.ctx, &ec2.DeleteSecurityGroupInput{GroupId: &used})
			return refused(err, "DependencyViolation")
		}},
		{"a prefix list is created, modified and read", anywhere, func(p *peer) error {
			id := p.prefixList(5, "203.0.113.1/32")
			if _, err := p.ModifyManagedPrefixList(p.ctx, &ec2.ModifyManagedPrefixListInput{
				PrefixListId: &id, CurrentVersion: aws.Int64(1),
				AddEntries: []types.AddPrefixListEntry{{Cidr: aws.String("203.0.113.2/32"), Description: aws.String("taro")}}, RemoveEntries: []types.RemovePrefixListEntry{{Cidr: aws.String("203.0.113.1/32")}},
			}); err != nil {
				return err
			}
			if _, err := p.settle(id, func(l types.ManagedPrefixList) bool { return aws.ToInt64(l.Version) == 2 }); err != nil {
				return err
			}
			return p.eventually(func() error {
				out, err := p.GetManagedPrefixListEntries(p.ctx, &ec2.GetManagedPrefixListEntriesInput{PrefixListId: &id})
				if err != nil {
					return err
				}
				if len(out.Entries) != 1 || aws.ToString(out.Entries[0].Cidr) != "203.0.113.2/32" || aws.ToString(out.Entries[0].Description) != "taro" {
					return fmt.Errorf("%d entries", len(out.Entries))
				}
				return nil
			})
		}},
		{"a rule for a prefix list keeps its description", anywhere, func(p *peer) error {
			id := p.prefixList(1)
			rules, err := p.authorize(p.group(), list(id, "people"))
			if err != nil {
				return err
			}
			if len(rules) != 1 || aws.ToString(rules[0].PrefixListId) != id {
				return fmt.Errorf("%d rules", len(rules))
			}
			if got := aws.ToString(rules[0].Description); got != "people" {
				return fmt.Errorf("description is %q", got)
			}
			return nil
		}},
		{"a rule for a prefix list counts as many as it may hold", anywhere, func(p *peer) error {
			group := p.group()
			p.must(group, list(p.prefixList(60), "x"))
			_, err := p.authorize(group, ssh("x", "203.0.113.1/32"))
			return refused(err, "RulesPerSecurityGroupLimitExceeded")
		}},
		{"a prefix list of another version is not modified", anywhere, func(p *peer) error {
			id := p.prefixList(5)
			_, err := p.ModifyManagedPrefixList(p.ctx, &ec2.ModifyManagedPrefixListInput{PrefixListId: &id, CurrentVersion: aws.Int64(7), AddEntries: []types.AddPrefixListEntry{{Cidr: aws.String("203.0.113.2/32")}}})
			return refused(err, "PrefixListVersionMismatch")
		}},
		{"a prefix list holds no more than its size", anywhere, func(p *peer) error {
			id := p.prefixList(1, "203.0.113.1/32")
			_, err := p.ModifyManagedPrefixList(p.ctx, &ec2.ModifyManagedPrefixListInput{PrefixListId: &id, CurrentVersion: aws.Int64(1), AddEntries: []types.AddPrefixListEntry{{Cidr: aws.String("203.0.113.2/32")}}})
			return refused(err, "PrefixListMaxEntriesExceeded")
		}},
		{"entries and size of a prefix list are not modified in one", anywhere, func(p *peer) error {
			id := p.prefixList(1)
			_, err := p.ModifyManagedPrefixList(p.ctx, &ec2.ModifyManagedPrefixListInput{PrefixListId: &id, CurrentVersion: aws.Int64(1), MaxEntries: aws.Int32(2), AddEntries: []types.AddPrefixListEntry{{Cidr: aws.String("203.0.113.2/32")}}})
			return refused(err, "InvalidParameterCombination")
		}},
		{"a prefix list in use is not deleted", anywhere, func(p *peer) error {
			id := p.prefixList(1)
			p.must(p.group(), list(id, "x"))
			if _, err := p.DeleteManagedPrefixList(p.ctx, &ec2.DeleteManagedPrefixListInput{PrefixListId: &id}); err != nil {
				return nil // refused at once
			}
			if _, err := p.settle(id, func(l types.ManagedPrefixList) bool { return l.State == types.PrefixListStateDeleteFailed }); err != nil {
				return fmt.Errorf("it is gone: %w", err)
			}
			return nil
		}},
		{"a prefix list tells who refers to it", anywhere, func(p *peer) error {
			group, id := p.group(), p.prefixList(1)
			p.must(group, list(id, "x"))
			return p.eventually(func() error {
				out, err := p.GetManagedPrefixListAssociations(p.ctx, &ec2.GetManagedPrefixListAssociationsInput{PrefixListId: &id})
				if err != nil {
					return err
				}
				if len(out.PrefixListAssociations) != 1 || aws.ToString(out.PrefixListAssociations[0].ResourceId) != group {
					return fmt.Errorf("%d refer to it", len(out.PrefixListAssociations))
				}
				return nil
			})
		}},
		{"regions have groups of their own", emulated, func(p *peer) error {
			group := p.group()
			other, _ := p.make("eu-west-1", "123456789012")
			_, err := other.DescribeSecurityGroups(p.ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{group}})
			return refused(err, "InvalidGroup.NotFound")
		}},
		{"a role of another account leads there, under a name", emulated, func(p *peer) error {
			group := p.group()
			out, err := p.sts.AssumeRole(p.ctx, &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::210987654321:role/gate"), RoleSessionName: aws.String("hanako")})
			if err != nil {
				return err
			}
			lent := credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)
			who, err := p.sts.GetCallerIdentity(p.ctx, nil, func(o *sts.Options) { o.Credentials = lent })
			if err != nil {
				return err
			}
			if aws.ToString(who.Account) != "210987654321" || aws.ToString(who.Arn) != "arn:aws:sts::210987654321:assumed-role/gate/hanako" {
				return fmt.Errorf("account %s, arn %s", aws.ToString(who.Account), aws.ToString(who.Arn))
			}
			_, err = p.DescribeSecurityGroups(p.ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{group}}, func(o *ec2.Options) { o.Credentials = lent })
			return refused(err, "InvalidGroup.NotFound")
		}},
	}
}

func (p *peer) revoke(group string, ids ...string) (*ec2.RevokeSecurityGroupIngressOutput, error) {
	return p.RevokeSecurityGroupIngress(p.ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &group, SecurityGroupRuleIds: ids})
}

func (p *peer) modify(group, rule, prefix string) error {
	_, err := p.ModifySecurityGroupRules(p.ctx, &ec2.ModifySecurityGroupRulesInput{GroupId: &group, SecurityGroupRules: []types.SecurityGroupRuleUpdate{{
		SecurityGroupRuleId: &rule,
		SecurityGroupRule:   &types.SecurityGroupRuleRequest{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), CidrIpv4: &prefix},
	}}})
	return err
}

// found tells whether filters find just that group.
func (p *peer) found(group string, filters []types.Filter) error {
	return p.eventually(func() error {
		out, err := p.DescribeSecurityGroups(p.ctx, &ec2.DescribeSecurityGroupsInput{Filters: filters})
		if err != nil {
			return err
		}
		if len(out.SecurityGroups) != 1 || aws.ToString(out.SecurityGroups[0].GroupId) != group {
			return fmt.Errorf("%d groups are found", len(out.SecurityGroups))
		}
		return nil
	})
}

// list are permissions for port 22 from a prefix list.
func list(id, description string) []types.IpPermission {
	sets := ssh("")
	sets[0].PrefixListIds = []types.PrefixListId{{PrefixListId: &id, Description: &description}}
	return sets
}

// prefixList makes one with a name of its own.
func (p *peer) prefixList(size int32, prefixes ...string) string {
	p.t.Helper()
	in := &ec2.CreateManagedPrefixListInput{AddressFamily: aws.String("IPv4"), MaxEntries: &size, PrefixListName: aws.String(fmt.Sprint("sekisho-test-", time.Now().UnixNano()))}
	for _, one := range prefixes {
		in.Entries = append(in.Entries, types.AddPrefixListEntry{Cidr: aws.String(one)})
	}
	out, err := p.CreateManagedPrefixList(p.ctx, in)
	if err != nil {
		p.t.Fatal(err)
	}
	id := *out.PrefixList.PrefixListId
	p.lists = append(p.lists, id)
	if _, err := p.settle(id, made); err != nil {
		p.t.Fatal(err)
	}
	return id
}

// settle waits until nothing is being done to a prefix list, and it is as it should be.
func (p *peer) settle(id string, as func(types.ManagedPrefixList) bool) (l types.ManagedPrefixList, err error) {
	err = p.eventually(func() error {
		out, err := p.DescribeManagedPrefixLists(p.ctx, &ec2.DescribeManagedPrefixListsInput{PrefixListIds: []string{id}})
		if err != nil {
			return err
		}
		if len(out.PrefixLists) == 0 {
			return errors.New("no such prefix list")
		}
		if l = out.PrefixLists[0]; strings.HasSuffix(string(l.State), "-in-progress") || !as(l) {
			return fmt.Errorf("the prefix list is %s, version %d", l.State, aws.ToInt64(l.Version))
		}
		return nil
	})
	return l, err
}

func made(types.ManagedPrefixList) bool { return true }
