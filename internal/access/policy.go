package access

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sekisho/internal/securitygroup"
)

// The least that IAM has to allow, for what the configuration names (Service Authorization
// Reference for EC2, 2026-06: which action takes which resource and condition). IAM cannot
// bound whom an authorized rule lets in, nor which rule is revoked: that is ours to keep.

// Role is what a policy is for.
type Role string

// The roles.
const (
	RolePerson Role = "person" // open, close, connect, ssh, leases, who
	RoleReaper Role = "reaper" // reap, the Lambda
	RoleGate   Role = "gate"   // the gate: what a person may, for all people
	RoleAdmin  Role = "admin"  // all of it: plan, apply, adopt, where, check, too
)

// Roles are all of them.
func Roles() []Role { return []Role{RolePerson, RoleReaper, RoleGate, RoleAdmin} }

// Policy is an IAM policy document.
type Policy struct {
	Version   string
	Statement []Statement
}

// Statement is one statement of a policy.
type Statement struct {
	Sid       string
	Effect    string
	Action    []string
	Resource  []string
	Condition map[string]map[string][]string `json:",omitempty"`
}

// JSON is the policy as IAM takes it.
func (p Policy) JSON() ([]byte, error) {
	raw, err := json.MarshalIndent(p, "", "  ")
	return append(raw, '\n'), err
}

// Policy is the least policy for a role in one account of the configuration.
func (a *Access) Policy(account string, role Role) (Policy, error) {
	accounts := a.Config.AWS.Accounts
	if _, ok := accounts[account]; !ok && account != "" {
		return Policy{}, unknown("account", account, slices.Sorted(maps.Keys(accounts)))
	}
	if !slices.Contains(Roles(), role) {
		return Policy{}, hinted("it is person, reaper, gate or admin", "there is no role %q", role)
	}
	regions, groups := a.reach(account)
	if len(regions) == 0 {
		return Policy{}, hinted("name a target there first", "the configuration names no target in account %q", account)
	}
	number := cmp.Or(accounts[account].ID, "*")
	arn := func(region, what string) string {
		return fmt.Sprintf("arn:%s:ec2:%s:%s:%s", partition(region), region, number, what)
	}
	each := func(what string) (arns []string) {
		for _, r := range regions {
			arns = append(arns, arn(r, what))
		}
		return arns
	}
	var doors []string
	for _, g := range groups {
		doors = append(doors, arn(g.place.Region, "security-group/"+g.id))
	}
	here := equals("ec2:Region", regions...)
	ours := equals("aws:ResourceTag/"+securitygroup.TagManaged, "yes")
	ourKeys := map[string]map[string][]string{"ForAllValues:StringLike": {"aws:TagKeys": {"sekisho:*"}}}
	read := []string{"ec2:DescribeSecurityGroupRules"}
	change := []string{"ec2:RevokeSecurityGroupIngress", "ec2:UpdateSecurityGroupRuleDescriptionsIngress"}
	if role == RoleAdmin {
		read = append(read, "ec2:DescribeSecurityGroups", "ec2:DescribeInstances", "ec2:DescribeManagedPrefixLists", "ec2:GetManagedPrefixListEntries")
	}
	p := Policy{Version: "2012-10-17"}
	add := func(sid string, actions, resources []string, conditions ...map[string]map[string][]string) {
		s := Statement{Sid: sid, Effect: "Allow", Action: actions, Resource: resources}
		for _, c := range conditions {
			if s.Condition == nil {
				s.Condition = map[string]map[string][]string{}
			}
			for op, keys := range c {
				if s.Condition[op] == nil {
					s.Condition[op] = map[string][]string{}
				}
				maps.Copy(s.Condition[op], keys)
			}
		}
		p.Statement = append(p.Statement, s)
	}
	add("Look", read, []string{"*"}, here)
	if len(groups) == 0 && role != RoleReaper {
		return p, nil // there is nothing to change
	}
	if role == RoleReaper {
		// What has ended may be in a group that the configuration no longer names.
		doors = each("security-group/*")
	} else {
		change = append([]string{"ec2:AuthorizeSecurityGroupIngress"}, change...)
		// A rule is made with our tags, or not at all.
		add("MakeOurRules", []string{"ec2:AuthorizeSecurityGroupIngress"}, each("security-group-rule/*"), equals("aws:RequestTag/"+securitygroup.TagManaged, "yes"))
		add("TagWhatIsMade", []string{"ec2:CreateTags"}, each("security-group-rule/*"), equals("ec2:CreateAction", "AuthorizeSecurityGroupIngress"), ourKeys)
	}
	add("ChangeTheGroups", change, doors)
	if role == RoleAdmin {
		// Adopting puts the first of our tags on a rule of others.
		add("TagRules", []string{"ec2:CreateTags", "ec2:DeleteTags"}, each("security-group-rule/*"), ourKeys)
		add("ModifyRules", []string{"ec2:ModifySecurityGroupRules"}, append(slices.Clone(doors), each("security-group-rule/*")...))
		lists := each("prefix-list/*")
		add("MakeLists", []string{"ec2:CreateManagedPrefixList"}, lists, equals("aws:RequestTag/"+securitygroup.TagManaged, "yes"))
		add("TagLists", []string{"ec2:CreateTags"}, lists, equals("ec2:CreateAction", "CreateManagedPrefixList"))
		add("ChangeLists", []string{"ec2:ModifyManagedPrefixList", "ec2:DeleteManagedPrefixList"}, lists, ours)
	} else {
		add("TagOurRules", []string{"ec2:CreateTags", "ec2:DeleteTags"}, each("security-group-rule/*"), ours, ourKeys)
	}
	return p, nil
}

// Callers is what those need who assume the configuration's roles; no statements where
// there are none.
func (a *Access) Callers() Policy {
	p := Policy{Version: "2012-10-17"}
	var roles []string
	for _, name := range slices.Sorted(maps.Keys(a.Config.AWS.Accounts)) {
		if r := a.Config.AWS.Accounts[name].Role; r != "" && !slices.Contains(roles, r) {
			roles = append(roles, r)
		}
	}
	if len(roles) > 0 {
		p.Statement = append(p.Statement, Statement{Sid: "AssumeTheRoles", Effect: "Allow", Action: []string{"sts:AssumeRole"}, Resource: roles})
	}
	return p
}

// Gives are the statements that allow a role an action in an account, a line each: an
// action may need several, of several resources. "" where the role does not need it.
func (a *Access) Gives(account string, role Role, action string) string {
	if action == "AssumeRole" {
		return given(a.Callers(), "sts:"+action)
	}
	p, err := a.Policy(account, role)
	if err != nil {
		return ""
	}
	return given(p, "ec2:"+action)
}

func given(p Policy, action string) string {
	var lines []string
	for _, s := range p.Statement {
		if slices.Contains(s.Action, action) {
			lines = append(lines, s.line())
		}
	}
	return strings.Join(lines, "\n")
}

func (s Statement) line() string {
	raw, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(raw)
}

func equals(key string, values ...string) map[string]map[string][]string {
	return map[string]map[string][]string{"StringEquals": {key: values}}
}

type groupIn struct {
	place securitygroup.Place
	id    string
}

// reach is which regions of an account the configuration names, and which groups there.
func (a *Access) reach(account string) (regions []string, groups []groupIn) {
	for _, p := range a.Places() {
		if p.Account == account {
			regions = append(regions, p.Region)
		}
	}
	for _, d := range a.Doors() {
		if g := (groupIn{d.Place(), d.AWS.Group}); d.AWS.Account == account && !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	return regions, groups
}

func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}
