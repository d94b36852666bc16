package ec2test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const (
	descriptionChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" + descriptionSigns
	descriptionSigns = ". _-:/()#,@[]+=&;{}!$*"
)

// describable refuses a description that AWS does not take.
func describable(what, text string) error {
	if len(text) > 255 || strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune(descriptionChars, r) }) {
		return refuse("InvalidParameterValue", "Invalid %s description. Valid descriptions are strings less than 256 characters from the following set:  a-zA-Z0-9%s", what, descriptionSigns)
	}
	return nil
}

// group finds the group that a call names, in a snapshot.
func (c *call) group(sn *snapshot) (*group, error) {
	if id := c.in.get("GroupId"); id != "" {
		return groupByID(sn, id)
	}
	name := c.in.get("GroupName")
	if name == "" {
		return nil, refuse("MissingParameter", "The request must contain the parameter groupName or groupId")
	}
	for _, g := range sn.ordered() {
		if g.Name == name && g.VPC == DefaultVPC {
			return g, nil
		}
	}
	return nil, refuse("InvalidGroup.NotFound", "The security group '%s' does not exist in default VPC '%s'", name, DefaultVPC)
}

func groupByID(sn *snapshot, id string) (*group, error) {
	if g := sn.groups[id]; g != nil {
		return g, nil
	}
	if !wellFormed(id, "sg") {
		return nil, refuse("InvalidGroupId.Malformed", "Invalid id: \"%s\" (expecting \"sg-...\")", id)
	}
	return nil, refuse("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
}

func createGroup(c *call, w *writer) error {
	if err := c.in.required("GroupName", "GroupDescription"); err != nil {
		return err
	}
	g := &group{Group: Group{ID: c.s.id("sg"), Name: c.in.get("GroupName"), Description: c.in.get("GroupDescription"), VPC: c.in.get("VpcId")}}
	if err := describable("security group", g.Description); err != nil {
		return err
	}
	if err := describable("security group name's", g.Name); err != nil {
		return err
	}
	if strings.HasPrefix(g.Name, "sg-") {
		return refuse("InvalidParameterValue", "Invalid value '%s' for groupName. A group's name does not begin with sg-.", g.Name)
	}
	var err error
	if g.Tags, err = c.tagSpecifications("security-group"); err != nil {
		return err
	}
	if g.VPC == "" {
		g.VPC = DefaultVPC
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	err = c.st.change(c.now, func(sn *snapshot) error {
		if sn.vpcs[g.VPC] == nil {
			return refuse("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", g.VPC)
		}
		for _, other := range sn.groups {
			if other.Name == g.Name && other.VPC == g.VPC {
				return refuse("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", g.Name, g.VPC)
			}
		}
		c.s.addGroup(c.st, sn, g)
		return nil
	})
	if err != nil {
		return err
	}
	c.changed = []string{g.ID}
	w.truth("return", true)
	w.text("groupId", g.ID)
	w.text("securityGroupArn", c.place.arn("security-group", g.ID))
	w.tags(g.Tags)
	return nil
}

// arn is the name of a thing at p.
func (p Place) arn(kind, id string) string {
	return fmt.Sprintf("arn:aws:ec2:%s:%s:%s/%s", p.Region, p.Account, kind, id)
}

func deleteGroup(c *call, w *writer) error {
	var id string
	err := c.st.change(c.now, func(sn *snapshot) error {
		g, err := c.group(sn)
		if err != nil {
			return err
		}
		if err := c.dryRun(); err != nil {
			return err
		}
		id = g.ID
		if g.Name == "default" {
			return refuse("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", g.ID)
		}
		users := sn.uses(func(r *Rule) bool { return r.Source == g.ID && r.Group != g.ID })
		used := func(i *netInterface) bool { return slices.Contains(i.Groups, g.ID) }
		if len(users) > 0 || slices.ContainsFunc(slices.Collect(maps.Values(sn.interfaces)), used) {
			return refuse("DependencyViolation", "resource %s has a dependent object", g.ID)
		}
		delete(sn.groups, g.ID)
		return nil
	})
	if err != nil {
		return err
	}
	c.changed = []string{id}
	w.truth("return", true)
	w.text("groupId", id)
	return nil
}

func describeGroups(c *call, w *writer) error {
	names := []string{"description", "group-id", "group-name", "owner-id", "vpc-id", "tag:", "tag-key"}
	for _, field := range []string{"cidr", "from-port", "group-id", "group-name", "ipv6-cidr", "prefix-list-id", "protocol", "to-port", "user-id"} {
		names = append(names, "ip-permission."+field, "egress.ip-permission."+field)
	}
	filters, err := c.filters(names...)
	if err != nil {
		return err
	}
	for _, id := range c.in.values("GroupId") {
		if _, err := groupByID(c.view, id); err != nil {
			return err
		}
	}
	wanted, named := c.in.values("GroupId"), c.in.values("GroupName")
	for _, name := range named {
		if !slices.ContainsFunc(c.view.ordered(), func(g *group) bool { return g.Name == name && g.VPC == DefaultVPC }) {
			return refuse("InvalidGroup.NotFound", "The security group '%s' does not exist in default VPC '%s'", name, DefaultVPC)
		}
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	keep := func(g *group) bool {
		return (len(wanted) == 0 || slices.Contains(wanted, g.ID)) && (len(named) == 0 || slices.Contains(named, g.Name) && g.VPC == DefaultVPC) &&
			match(filters, g.Tags, func(name string) []string { return g.field(c, name) })
	}
	return paged(c, w, "securityGroupInfo", usual, members(c.view.groups, func(g *group) uint64 { return g.seq }), keep, func(g *group) { g.xml(c, w) })
}

// field is what a filter of DescribeSecurityGroups looks at.
func (g *group) field(c *call, name string) []string {
	switch name {
	case "description":
		return []string{g.Description}
	case "group-id":
		return []string{g.ID}
	case "group-name":
		return []string{g.Name}
	case "owner-id":
		return []string{c.place.Account}
	case "vpc-id":
		return []string{g.VPC}
	}
	name, egress := strings.CutPrefix(name, "egress.")
	var values []string
	for _, r := range g.rules {
		if r.Egress == egress {
			values = append(values, r.field(c, strings.TrimPrefix(name, "ip-permission.")))
		}
	}
	return slices.DeleteFunc(values, func(v string) bool { return v == "" })
}

// field is a rule's part of such a filter.
func (r *rule) field(c *call, name string) string {
	switch name {
	case "cidr":
		if r.Prefix.IsValid() && r.Prefix.Addr().Is4() {
			return r.Prefix.String()
		}
	case "ipv6-cidr":
		if r.Prefix.IsValid() && r.Prefix.Addr().Is6() {
			return r.Prefix.String()
		}
	case "from-port":
		return strconv.Itoa(r.From)
	case "to-port":
		return strconv.Itoa(r.To)
	case "protocol":
		return r.Protocol
	case "prefix-list-id":
		return r.PrefixList
	case "group-id":
		return r.Source
	case "group-name":
		if g := c.view.groups[r.Source]; g != nil {
			return g.Name
		}
	case "user-id":
		if r.Source != "" {
			return r.owner(c)
		}
	}
	return ""
}

// owner is the account of the group that r refers to.
func (r *Rule) owner(c *call) string {
	if r.SourceAccount != "" {
		return r.SourceAccount
	}
	return c.place.Account
}

func (g *group) xml(c *call, w *writer) {
	w.text("ownerId", c.place.Account)
	w.text("groupId", g.ID)
	w.text("groupName", g.Name)
	w.text("groupDescription", g.Description)
	w.text("vpcId", g.VPC)
	w.text("securityGroupArn", c.place.arn("security-group", g.ID))
	for _, egress := range []bool{false, true} {
		var rules []*Rule
		for _, r := range g.rules {
			if r.Egress == egress {
				rules = append(rules, &r.Rule)
			}
		}
		permissions(c, w, map[bool]string{false: "ipPermissions", true: "ipPermissionsEgress"}[egress], rules)
	}
	w.tags(g.Tags)
}

// permissions writes rules as sets of permissions: one for each protocol and ports.
func permissions(c *call, w *writer, name string, rules []*Rule) {
	sets := map[key][]*Rule{}
	var order []key
	for _, r := range rules {
		k := key{protocol: r.Protocol, from: r.From, to: r.To}
		if sets[k] == nil {
			order = append(order, k)
		}
		sets[k] = append(sets[k], r)
	}
	list(w, name, order, func(k key) {
		w.text("ipProtocol", k.protocol)
		if k.protocol != "-1" {
			w.number("fromPort", k.from)
			w.number("toPort", k.to)
		}
		some := func(name string, has func(*Rule) bool, item func(*Rule)) {
			var mine []*Rule
			for _, r := range sets[k] {
				if has(r) {
					mine = append(mine, r)
				}
			}
			list(w, name, mine, func(r *Rule) {
				item(r)
				w.some("description", r.Description)
			})
		}
		some("groups", func(r *Rule) bool { return r.Source != "" }, func(r *Rule) {
			w.text("userId", r.owner(c))
			w.text("groupId", r.Source)
		})
		some("ipRanges", func(r *Rule) bool { return r.Prefix.IsValid() && r.Prefix.Addr().Is4() }, func(r *Rule) { w.text("cidrIp", r.Prefix.String()) })
		some("ipv6Ranges", func(r *Rule) bool { return r.Prefix.IsValid() && r.Prefix.Addr().Is6() }, func(r *Rule) { w.text("cidrIpv6", r.Prefix.String()) })
		some("prefixListIds", func(r *Rule) bool { return r.PrefixList != "" }, func(r *Rule) { w.text("prefixListId", r.PrefixList) })
	})
}
