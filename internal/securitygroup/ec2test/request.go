package ec2test

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	maxParameters = 20_000
	maxDepth      = 10
)

// node is a part of a request's form: Filter.1.Value.2=x is the value of node 2 of node
// Value of node 1 of node Filter.
type node struct {
	value string
	set   bool
	kids  map[string]*node
	form  url.Values // the root's
}

// decodeForm makes a tree of what the Query protocol writes flat.
func decodeForm(body string) (*node, error) {
	if strings.Count(body, "&") >= maxParameters {
		return nil, refuse("MalformedQueryString", "The request has more than %d parameters.", maxParameters)
	}
	form, err := url.ParseQuery(body)
	if err != nil {
		return nil, refuse("MalformedQueryString", "The query string contains a syntax error: %v", err)
	}
	root := &node{form: form}
	for name, values := range form {
		if strings.Count(name, ".") >= maxDepth {
			return nil, refuse("InvalidParameter", "The parameter %q is nested too deep.", name)
		}
		at := root
		for part := range strings.SplitSeq(name, ".") {
			kid := at.kids[part]
			if kid == nil {
				kid = &node{}
				if at.kids == nil {
					at.kids = map[string]*node{}
				}
				at.kids[part] = kid
			}
			at = kid
		}
		at.value, at.set = values[0], true
	}
	return root, nil
}

// at is the node of that name, an empty one where there is none.
func (n *node) at(name string) *node {
	if kid := n.kids[name]; kid != nil {
		return kid
	}
	return &node{}
}

func (n *node) get(name string) string { return n.at(name).value }

func (n *node) has(name string) bool { return n.kids[name] != nil }

// list is name.1, name.2, ... in their order.
func (n *node) list(name string) []*node {
	kids := n.at(name).kids
	numbers := map[int]*node{}
	for k, kid := range kids {
		if i, err := strconv.Atoi(k); err == nil && i > 0 {
			numbers[i] = kid
		}
	}
	var list []*node
	for _, i := range slices.Sorted(maps.Keys(numbers)) {
		list = append(list, numbers[i])
	}
	return list
}

// values is list for a list of strings.
func (n *node) values(name string) []string {
	var values []string
	for _, kid := range n.list(name) {
		values = append(values, kid.value)
	}
	return values
}

// number is an integer of the request; ok tells whether it is there.
func (n *node) number(name string) (i int, ok bool, err error) {
	if !n.at(name).set {
		return 0, false, nil
	}
	i, err = strconv.Atoi(n.get(name))
	if err != nil {
		return 0, false, refuse("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It is not an integer.", n.get(name), name)
	}
	return i, true, nil
}

func (n *node) required(names ...string) error {
	for _, name := range names {
		if n.get(name) == "" {
			return refuse("MissingParameter", "The request must contain the parameter %s", name)
		}
	}
	return nil
}

// dryRun refuses to go on where the caller only asks whether it may.
func (c *call) dryRun() error {
	if c.in.get("DryRun") == "true" {
		return &apiError{code: "DryRunOperation", status: 412, message: "Request would have succeeded, but DryRun flag is set."}
	}
	return nil
}

// action is what a name of the API does.
type action struct {
	run func(*call, *writer) error
	sts bool
}

var actions = map[string]action{
	"CreateSecurityGroup":                        {run: createGroup},
	"DeleteSecurityGroup":                        {run: deleteGroup},
	"DescribeSecurityGroups":                     {run: describeGroups},
	"AuthorizeSecurityGroupIngress":              {run: authorizeIngress},
	"AuthorizeSecurityGroupEgress":               {run: authorizeEgress},
	"RevokeSecurityGroupIngress":                 {run: revokeIngress},
	"RevokeSecurityGroupEgress":                  {run: revokeEgress},
	"DescribeSecurityGroupRules":                 {run: describeRules},
	"ModifySecurityGroupRules":                   {run: modifyRules},
	"UpdateSecurityGroupRuleDescriptionsIngress": {run: updateDescriptions},
	"CreateTags":                                 {run: createTags},
	"DeleteTags":                                 {run: deleteTags},
	"DescribeTags":                               {run: describeTags},
	"CreateManagedPrefixList":                    {run: createList},
	"ModifyManagedPrefixList":                    {run: modifyList},
	"RestoreManagedPrefixListVersion":            {run: restoreList},
	"DeleteManagedPrefixList":                    {run: deleteList},
	"DescribeManagedPrefixLists":                 {run: describeLists},
	"GetManagedPrefixListEntries":                {run: listEntries},
	"GetManagedPrefixListAssociations":           {run: listAssociations},
	"DescribeInstances":                          {run: describeInstances},
	"DescribeNetworkInterfaces":                  {run: describeInterfaces},
	"DescribeRegions":                            {run: describeRegions},
	"DescribeVpcs":                               {run: describeVPCs},
	"GetCallerIdentity":                          {run: getCallerIdentity, sts: true},
	"AssumeRole":                                 {run: assumeRole, sts: true},
}
