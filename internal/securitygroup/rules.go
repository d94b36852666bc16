package securitygroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const (
	pageSize     = 1000 // the most that a page of groups or rules may have
	filterValues = 200  // the most that one filter may have
)

// Query says which rules are wanted. The zero value: all of the place.
type Query struct {
	Groups []string          // of one of these, in any order, also twice; none: of any
	IDs    []string          // one of these, as Groups: sgr-...; what is not there is left out
	Tags   map[string]string // with all of these, at these values
}

// Rules reads inbound rules, and hands over each page of up to 1,000 as it comes, one at a
// time; what each returns ends it and is returned as it is. More than 200 groups or ids are
// asked for in turn; each rule comes once.
//
// A rule whose source cannot be understood is handed over too, with a zero Source, which
// lets nobody in that we know of, and with what EC2 said of it in front of its Description.
func (c *Cloud) Rules(ctx context.Context, p Place, q Query, each func([]Rule) error) error {
	for groups := range chunks(q.Groups) {
		for ids := range chunks(q.IDs) {
			in := &ec2.DescribeSecurityGroupRulesInput{MaxResults: aws.Int32(pageSize)}
			in.Filters = filters(q.Tags, filter("group-id", groups), filter("security-group-rule-id", ids))
			object := ""
			if len(groups) == 1 {
				object = groups[0]
			}
			for {
				out, err := call(ctx, c, p, object, (*ec2.Client).DescribeSecurityGroupRules, in)
				if err != nil {
					return err
				}
				if err := c.ownRules(p, action[ec2.DescribeSecurityGroupRulesInput](), object, out.SecurityGroupRules); err != nil {
					return err
				}
				if rules := inbound(out.SecurityGroupRules); len(rules) > 0 {
					if err := each(rules); err != nil {
						return err
					}
				}
				if aws.ToString(out.NextToken) == "" {
					break
				}
				in.NextToken = out.NextToken
			}
		}
	}
	return nil
}

// chunks are the values in parts that fit into a filter; one without any where there are none.
func chunks(values []string) func(func([]string) bool) {
	if len(values) == 0 {
		return func(yield func([]string) bool) { yield(nil) }
	}
	return slices.Chunk(slices.Compact(slices.Sorted(slices.Values(values))), filterValues)
}

func filter(name string, values []string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// filters leaves out those that have no values.
func filters(tags map[string]string, list ...types.Filter) []types.Filter {
	list = slices.DeleteFunc(list, func(f types.Filter) bool { return len(f.Values) == 0 })
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, filter("tag:"+key, []string{literal.Replace(tags[key])}))
	}
	return list
}

// literal takes their meaning from the characters that a filter's value is a pattern by.
var literal = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`)

// Groups reads groups, with their tags; no ids: all of the place. What is not there is left
// out.
func (c *Cloud) Groups(ctx context.Context, p Place, ids []string) ([]Group, error) {
	var groups []Group
	for chunk := range chunks(ids) {
		in := &ec2.DescribeSecurityGroupsInput{MaxResults: aws.Int32(pageSize), Filters: filters(nil, filter("group-id", chunk))}
		for {
			out, err := call(ctx, c, p, "", (*ec2.Client).DescribeSecurityGroups, in)
			if err != nil {
				return nil, err
			}
			owners := make([]string, 0, len(out.SecurityGroups))
			for _, g := range out.SecurityGroups {
				owners = append(owners, aws.ToString(g.OwnerId))
				groups = append(groups, Group{ID: aws.ToString(g.GroupId), Name: aws.ToString(g.GroupName), VPC: aws.ToString(g.VpcId), Owner: aws.ToString(g.OwnerId), Tags: tagMap(g.Tags)})
			}
			if err := c.owned(p, action[ec2.DescribeSecurityGroupsInput](), "", owners...); err != nil {
				return nil, err
			}
			if aws.ToString(out.NextToken) == "" {
				break
			}
			in.NextToken = out.NextToken
		}
	}
	return groups, nil
}

// Authorize makes one rule for each permission, all with the same description and tags, or
// none. Where the group turns out to be another account's than the configuration says, the
// rules come with the error.
func (c *Cloud) Authorize(ctx context.Context, p Place, group string, permissions []Permission, description string, tags map[string]string) ([]Rule, error) {
	in := &ec2.AuthorizeSecurityGroupIngressInput{GroupId: aws.String(group)}
	for _, permission := range permissions {
		made, err := ipPermission(permission, description)
		if err != nil {
			return nil, c.failed(p, nil, action[ec2.AuthorizeSecurityGroupIngressInput](), group, err)
		}
		in.IpPermissions = append(in.IpPermissions, made)
	}
	if len(tags) > 0 {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeSecurityGroupRule, Tags: tagList(tags)}}
	}
	out, err := call(ctx, c, p, group, (*ec2.Client).AuthorizeSecurityGroupIngress, in)
	if err != nil {
		return nil, err
	}
	return inbound(out.SecurityGroupRules), c.ownRules(p, action[ec2.AuthorizeSecurityGroupIngressInput](), group, out.SecurityGroupRules)
}

// Revoke removes rules by id, all or none; no ids: it does nothing.
func (c *Cloud) Revoke(ctx context.Context, p Place, group string, ids []string) error {
	if len(ids) == 0 {
		return nil // EC2 refuses it
	}
	_, err := call(ctx, c, p, group, (*ec2.Client).RevokeSecurityGroupIngress, &ec2.RevokeSecurityGroupIngressInput{GroupId: aws.String(group), SecurityGroupRuleIds: ids})
	return err
}

// Modify makes the rules of these ids let in what they say, with their descriptions; all or
// none. Ids and tags stay: those of the rules are not looked at. A source stays of its kind:
// an IPv4 prefix cannot become an IPv6 one, or a list.
func (c *Cloud) Modify(ctx context.Context, p Place, group string, rules []Rule) error {
	if len(rules) == 0 {
		return nil
	}
	in := &ec2.ModifySecurityGroupRulesInput{GroupId: aws.String(group)}
	for _, r := range rules {
		to := &types.SecurityGroupRuleRequest{IpProtocol: aws.String(r.Protocol), FromPort: port(r.Permission, r.From), ToPort: port(r.Permission, r.To), Description: aws.String(r.Description)}
		switch {
		case r.Source.Prefix.IsValid() && r.Source.Prefix.Addr().Is4():
			to.CidrIpv4 = aws.String(r.Source.Prefix.Masked().String())
		case r.Source.Prefix.IsValid():
			to.CidrIpv6 = aws.String(r.Source.Prefix.Masked().String())
		case r.Source.PrefixList != "":
			to.PrefixListId = aws.String(r.Source.PrefixList)
		case r.Source.Group != "":
			to.ReferencedGroupId = aws.String(r.Source.Group)
		default:
			return c.failed(p, nil, action[ec2.ModifySecurityGroupRulesInput](), group, fmt.Errorf("rule %s: %w", r.ID, errNoSource))
		}
		in.SecurityGroupRules = append(in.SecurityGroupRules, types.SecurityGroupRuleUpdate{SecurityGroupRuleId: aws.String(r.ID), SecurityGroupRule: to})
	}
	_, err := call(ctx, c, p, group, (*ec2.Client).ModifySecurityGroupRules, in)
	return err
}

// Tag adds tags to a rule or a list, or sets those that are there.
func (c *Cloud) Tag(ctx context.Context, p Place, id string, tags map[string]string) error {
	if len(tags) == 0 {
		return nil
	}
	_, err := call(ctx, c, p, id, (*ec2.Client).CreateTags, &ec2.CreateTagsInput{Resources: []string{id}, Tags: tagList(tags)})
	return err
}

// UntagIf removes each of tags where it has just that value, and leaves it alone where
// somebody else has set another since; those that are not there are no error. No tags: it
// does nothing.
func (c *Cloud) UntagIf(ctx context.Context, p Place, id string, tags map[string]string) error {
	if len(tags) == 0 {
		return nil // to EC2 it means all
	}
	_, err := call(ctx, c, p, id, (*ec2.Client).DeleteTags, &ec2.DeleteTagsInput{Resources: []string{id}, Tags: tagList(tags)})
	return err
}

// SetDescription replaces the description of one rule.
func (c *Cloud) SetDescription(ctx context.Context, p Place, group, rule, text string) error {
	_, err := call(ctx, c, p, group, (*ec2.Client).UpdateSecurityGroupRuleDescriptionsIngress, &ec2.UpdateSecurityGroupRuleDescriptionsIngressInput{
		GroupId:                       aws.String(group),
		SecurityGroupRuleDescriptions: []types.SecurityGroupRuleDescription{{SecurityGroupRuleId: aws.String(rule), Description: aws.String(text)}},
	})
	return err
}

var errNoSource = errors.New("it says not whom it lets in")

// ipPermission is a permission as Authorize takes it.
func ipPermission(p Permission, description string) (types.IpPermission, error) {
	made := types.IpPermission{IpProtocol: aws.String(p.Protocol), FromPort: port(p, p.From), ToPort: port(p, p.To)}
	var text *string
	if description != "" {
		text = aws.String(description)
	}
	switch {
	case p.Source.Prefix.IsValid() && p.Source.Prefix.Addr().Is4():
		made.IpRanges = []types.IpRange{{CidrIp: aws.String(p.Source.Prefix.Masked().String()), Description: text}}
	case p.Source.Prefix.IsValid():
		made.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: aws.String(p.Source.Prefix.Masked().String()), Description: text}}
	case p.Source.PrefixList != "":
		made.PrefixListIds = []types.PrefixListId{{PrefixListId: aws.String(p.Source.PrefixList), Description: text}}
	case p.Source.Group != "":
		made.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: aws.String(p.Source.Group), Description: text}}
	default:
		return made, errNoSource
	}
	return made, nil
}

// port is left out where the protocol is all of them: there are none then.
func port(p Permission, n int) *int32 {
	if p.Protocol == "-1" {
		return nil
	}
	return aws.Int32(int32(n))
}

// inbound are the inbound ones of rules as EC2 says them.
func inbound(said []types.SecurityGroupRule) []Rule {
	rules := make([]Rule, 0, len(said))
	for i := range said {
		if s := &said[i]; !aws.ToBool(s.IsEgress) {
			rules = append(rules, rule(s))
		}
	}
	return rules
}

func rule(s *types.SecurityGroupRule) Rule {
	r := Rule{
		ID:          aws.ToString(s.SecurityGroupRuleId),
		Group:       aws.ToString(s.GroupId),
		Description: aws.ToString(s.Description),
		Tags:        tagMap(s.Tags),
		Permission:  Permission{Protocol: aws.ToString(s.IpProtocol), From: -1, To: -1},
	}
	if s.FromPort != nil {
		r.From = int(*s.FromPort)
	}
	if s.ToPort != nil {
		r.To = int(*s.ToPort)
	}
	said := ""
	switch {
	case s.CidrIpv4 != nil:
		r.Source.Prefix, said = prefix(*s.CidrIpv4)
	case s.CidrIpv6 != nil:
		r.Source.Prefix, said = prefix(*s.CidrIpv6)
	case s.PrefixListId != nil:
		r.Source.PrefixList = *s.PrefixListId
	case s.ReferencedGroupInfo != nil && s.ReferencedGroupInfo.GroupId != nil:
		r.Source.Group = *s.ReferencedGroupInfo.GroupId
	}
	if r.Source == (Source{}) {
		r.Description = strings.TrimSpace(fmt.Sprintf("source %q not understood; %s", said, r.Description))
	}
	return r
}

// prefix is a CIDR in its canonical form; raw is what could not be understood.
func prefix(raw string) (_ netip.Prefix, _ string) {
	p, err := netip.ParsePrefix(raw)
	if err != nil {
		return netip.Prefix{}, raw
	}
	return p.Masked(), ""
}

func tagMap(tags []types.Tag) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

func tagList(tags map[string]string) []types.Tag {
	list := make([]types.Tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return list
}

func (c *Cloud) ownRules(p Place, action, object string, rules []types.SecurityGroupRule) error {
	if c.options.Accounts[p.Account].ID == "" {
		return nil
	}
	owners := make([]string, len(rules))
	for i := range rules {
		owners[i] = aws.ToString(rules[i].GroupOwnerId)
	}
	return c.owned(p, action, object, owners...)
}
