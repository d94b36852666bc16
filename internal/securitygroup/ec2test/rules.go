package ec2test

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxRules of a family and direction in a group.
const maxRules = 60

// ports makes a protocol and its ports canonical.
func ports(n *node) (protocol string, from, to int, err error) {
	protocol = strings.ToLower(n.get("IpProtocol"))
	if name, ok := map[string]string{"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6", "all": "-1"}[protocol]; ok {
		protocol = name
	}
	from, hasFrom, err := n.number("FromPort")
	if err != nil {
		return "", 0, 0, err
	}
	to, hasTo, err := n.number("ToPort")
	if err != nil {
		return "", 0, 0, err
	}
	switch protocol {
	case "":
		return "", 0, 0, refuse("MissingParameter", "The request must contain the parameter ipProtocol")
	case "tcp", "udp":
		if !hasFrom || !hasTo {
			return "", 0, 0, refuse("MissingParameter", "Must specify both from and to ports with TCP/UDP.")
		}
		for _, port := range []int{from, to} {
			if port < 0 || port > 65535 {
				return "", 0, 0, refuse("InvalidParameterValue", "Invalid value '%d' for portRange. Must be between 0 and 65535", port)
			}
		}
		if from > to {
			return "", 0, 0, refuse("InvalidParameterValue", "Invalid TCP/UDP port range (%d:%d)", from, to)
		}
	case "icmp", "icmpv6":
		if !hasFrom {
			from = -1
		}
		if !hasTo {
			to = -1
		}
		if from < -1 || from > 255 || to < -1 || to > 255 {
			return "", 0, 0, refuse("InvalidParameterValue", "Invalid ICMP type and code (%d:%d)", from, to)
		}
	default:
		if i, err := strconv.Atoi(protocol); err != nil || i < -1 || i > 255 || protocol != strconv.Itoa(i) {
			return "", 0, 0, refuse("InvalidParameterValue", "Invalid value '%s' for IP protocol. Unknown protocol.", protocol)
		}
		from, to = -1, -1
	}
	return protocol, from, to, nil
}

// prefix makes a CIDR block canonical, as AWS does, or refuses it.
func prefix(cidr string, six bool) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil || p.Addr().Is4() == six || p.Addr().Is4In6() {
		return netip.Prefix{}, refuse("InvalidParameterValue", "CIDR block %s is malformed", cidr)
	}
	return p.Masked(), nil
}

// one is the rule that a source makes with the ports of r.
func (c *call) one(sn *snapshot, r Rule, cidr4, cidr6, list, source, account string) (Rule, error) {
	if err := describable("rule", r.Description); err != nil {
		return r, err
	}
	var err error
	switch {
	case cidr4 != "":
		r.Prefix, err = prefix(cidr4, false)
	case cidr6 != "":
		r.Prefix, err = prefix(cidr6, true)
	case list != "":
		r.PrefixList = list
		_, err = listByID(sn, list, c.now)
	default:
		r.Source = source
		if account != "" && account != c.place.Account {
			r.SourceAccount = account // a peer's, who is not asked
			return r, nil
		}
		_, err = groupByID(sn, source)
	}
	return r, err
}

// wanted are the rules that a call's sets of permissions stand for.
func (c *call) wanted(sn *snapshot, g *group, egress bool) ([]Rule, error) {
	sets := c.in.list("IpPermissions")
	if len(sets) == 0 && c.in.has("CidrIp") { // the old way to say one
		legacy := &node{kids: map[string]*node{"1": {kids: map[string]*node{"CidrIp": c.in.at("CidrIp")}}}}
		sets = []*node{{kids: map[string]*node{"IpProtocol": c.in.at("IpProtocol"), "IpRanges": legacy}}}
		for _, port := range []string{"FromPort", "ToPort"} {
			if c.in.has(port) {
				sets[0].kids[port] = c.in.at(port)
			}
		}
	}
	if len(sets) == 0 {
		return nil, refuse("MissingParameter", "The request must contain the parameter ipPermissions")
	}
	var rules []Rule
	seen := map[key]bool{}
	for _, set := range sets {
		protocol, from, to, err := ports(set)
		if err != nil {
			return nil, err
		}
		before := len(rules)
		for _, of := range []string{"IpRanges", "Ipv6Ranges", "PrefixListIds", "Groups"} {
			for _, n := range set.list(of) {
				r := Rule{Group: g.ID, Egress: egress, Protocol: protocol, From: from, To: to, Description: n.get("Description")}
				field := map[string]string{"IpRanges": "CidrIp", "Ipv6Ranges": "CidrIpv6", "PrefixListIds": "PrefixListId", "Groups": "GroupId"}[of]
				if n.get(field) == "" {
					return nil, refuse("MissingParameter", "The request must contain the parameter %s", field)
				}
				r, err := c.one(sn, r, n.get("CidrIp"), n.get("CidrIpv6"), n.get("PrefixListId"), n.get("GroupId"), n.get("UserId"))
				if err != nil {
					return nil, err
				}
				if seen[r.key()] {
					return nil, refuse("InvalidParameterValue", "The same permission must not appear multiple times")
				}
				seen[r.key()] = true
				rules = append(rules, r)
			}
		}
		if len(rules) == before {
			return nil, refuse("MissingParameter", "Source group ID missing.")
		}
	}
	return rules, nil
}

// fits refuses rules that are there twice, or more than a group may have.
func (sn *snapshot) fits(rules []*rule) error {
	seen := map[key]bool{}
	for _, r := range rules {
		if seen[r.key()] {
			port := fmt.Sprintf("from port: %d, to port: %d", r.From, r.To)
			return refuse("InvalidPermission.Duplicate", "the specified rule \"peer: %s, %s, %s, ALLOW\" already exists", strings.TrimPrefix(r.source(), "/"), strings.ToUpper(r.Protocol), port)
		}
		seen[r.key()] = true
	}
	if sn.overfull(rules) {
		return refuse("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
	}
	return nil
}

// overfull tells whether rules are more than a group may have. The families are counted
// apart; a prefix list counts as many as it may come to hold, a group one in each.
func (sn *snapshot) overfull(rules []*rule) bool {
	var count [2][2]int // by direction and family
	for _, r := range rules {
		direction := &count[0]
		if r.Egress {
			direction = &count[1]
		}
		switch {
		case r.Source != "":
			direction[0]++
			direction[1]++
		case r.PrefixList != "":
			if l := sn.lists[r.PrefixList]; l != nil {
				direction[l.family()] += l.MaxEntries
			}
		case r.Prefix.Addr().Is6():
			direction[1]++
		default:
			direction[0]++
		}
	}
	return max(count[0][0], count[0][1], count[1][0], count[1][1]) > maxRules
}

func authorizeIngress(c *call, w *writer) error { return authorize(c, w, false) }
func authorizeEgress(c *call, w *writer) error  { return authorize(c, w, true) }

func authorize(c *call, w *writer, egress bool) error {
	tags, err := c.tagSpecifications("security-group-rule")
	if err != nil {
		return err
	}
	var made []*rule
	err = c.st.change(c.now, func(sn *snapshot) error {
		g, err := c.group(sn)
		if err != nil {
			return err
		}
		wanted, err := c.wanted(sn, g, egress)
		if err != nil {
			return err
		}
		if err := c.dryRun(); err != nil {
			return err
		}
		for _, r := range wanted {
			r.Tags = tags
			made = append(made, &rule{Rule: r})
		}
		rules := slices.Concat(g.rules, made)
		if err := sn.fits(rules); err != nil {
			return err
		}
		c.s.addRules(c.st, made)
		sn.put(g, rules)
		c.changed = []string{g.ID}
		return nil
	})
	if err != nil {
		return err
	}
	w.truth("return", true)
	list(w, "securityGroupRuleSet", made, func(r *rule) { r.xml(c, w) })
	return nil
}

func (r *rule) xml(c *call, w *writer) {
	r.plain(w)
	w.text("groupOwnerId", c.place.Account)
	w.text("securityGroupRuleArn", c.place.arn("security-group-rule", r.ID))
	if r.Source != "" {
		w.in("referencedGroupInfo", func() {
			w.text("groupId", r.Source)
			w.text("userId", r.owner(c))
		})
	}
	w.tags(r.Tags)
}

// plain writes what a rule and one that was revoked have in common.
func (r *rule) plain(w *writer) {
	w.text("securityGroupRuleId", r.ID)
	w.text("groupId", r.Group)
	w.truth("isEgress", r.Egress)
	w.text("ipProtocol", r.Protocol)
	w.number("fromPort", r.From)
	w.number("toPort", r.To)
	if r.Prefix.IsValid() {
		w.text(map[bool]string{true: "cidrIpv4", false: "cidrIpv6"}[r.Prefix.Addr().Is4()], r.Prefix.String())
	}
	w.some("prefixListId", r.PrefixList)
	w.some("description", r.Description)
}

func noSuchRule(id string) error {
	if !wellFormed(id, "sgr") {
		return refuse("InvalidSecurityGroupRuleId.Malformed", "Invalid id: \"%s\" (expecting \"sgr-...\")", id)
	}
	return refuse("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
}

// find is where the rule of that id is in g.
func (g *group) find(id string, also func(*rule) bool) (int, error) {
	i := slices.IndexFunc(g.rules, func(r *rule) bool { return r.ID == id && also(r) })
	if i < 0 {
		return 0, noSuchRule(id)
	}
	return i, nil
}

func revokeIngress(c *call, w *writer) error { return revoke(c, w, false) }
func revokeEgress(c *call, w *writer) error  { return revoke(c, w, true) }

func revoke(c *call, w *writer, egress bool) error {
	ids, byPermission := c.in.values("SecurityGroupRuleId"), c.in.has("IpPermissions") || c.in.has("CidrIp")
	if len(ids) > 0 && byPermission {
		return refuse("InvalidParameterCombination", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided, not both.")
	}
	if len(ids) == 0 && !byPermission {
		return refuse("MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.")
	}
	var gone []*rule
	var unknown []*Rule
	err := c.st.change(c.now, func(sn *snapshot) error {
		g, err := c.group(sn)
		if err != nil {
			return err
		}
		for _, id := range ids {
			i, err := g.find(id, func(r *rule) bool { return r.Egress == egress })
			if err != nil {
				return err
			}
			if !slices.Contains(gone, g.rules[i]) {
				gone = append(gone, g.rules[i])
			}
		}
		if byPermission {
			wanted, err := c.wanted(sn, g, egress)
			if err != nil {
				return err
			}
			for _, want := range wanted {
				if i := slices.IndexFunc(g.rules, func(r *rule) bool { return r.key() == want.key() }); i >= 0 {
					gone = append(gone, g.rules[i])
				} else {
					unknown = append(unknown, &want)
				}
			}
		}
		if err := c.dryRun(); err != nil {
			return err
		}
		if len(unknown) > 0 && g.VPC != DefaultVPC {
			return refuse("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
		}
		sn.put(g, slices.DeleteFunc(slices.Clone(g.rules), func(r *rule) bool { return slices.Contains(gone, r) }))
		if len(gone) > 0 {
			c.changed = []string{g.ID}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.truth("return", true)
	list(w, "revokedSecurityGroupRuleSet", gone, func(r *rule) {
		r.plain(w)
		w.some("referencedGroupId", r.Source)
	})
	if len(unknown) > 0 {
		permissions(c, w, "unknownIpPermissionSet", unknown)
	}
	return nil
}

func describeRules(c *call, w *writer) error {
	filters, err := c.filters("group-id", "security-group-rule-id", "tag:")
	if err != nil {
		return err
	}
	groups := c.view.ordered()
	wanted := map[string]bool{}
	for _, id := range c.in.values("SecurityGroupRuleId") {
		g := c.view.groups[c.st.home(id)]
		if g == nil {
			return noSuchRule(id)
		}
		if _, err := g.find(id, func(*rule) bool { return true }); err != nil {
			return err
		}
		wanted[id] = true
	}
	if len(wanted) > 0 {
		groups = slices.DeleteFunc(groups, func(g *group) bool {
			return !slices.ContainsFunc(g.rules, func(r *rule) bool { return wanted[r.ID] })
		})
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	var all iter.Seq2[pos, *rule] = func(yield func(pos, *rule) bool) {
		for _, g := range groups {
			for _, r := range g.rules {
				if !yield(pos{g.seq, r.seq}, r) {
					return
				}
			}
		}
	}
	keep := func(r *rule) bool {
		return (len(wanted) == 0 || wanted[r.ID]) && match(filters, r.Tags, func(name string) []string {
			if name == "group-id" {
				return []string{r.Group}
			}
			return []string{r.ID}
		})
	}
	return paged(c, w, "securityGroupRuleSet", usual, all, keep, func(r *rule) { r.xml(c, w) })
}

func modifyRules(c *call, w *writer) error {
	if err := c.in.required("GroupId"); err != nil {
		return err
	}
	updates := c.in.list("SecurityGroupRule")
	if len(updates) == 0 {
		return refuse("MissingParameter", "The request must contain the parameter SecurityGroupRules")
	}
	err := c.st.change(c.now, func(sn *snapshot) error {
		g, err := c.group(sn)
		if err != nil {
			return err
		}
		rules, seen := slices.Clone(g.rules), map[string]bool{}
		for _, u := range updates {
			id, n := u.get("SecurityGroupRuleId"), u.at("SecurityGroupRule")
			i, err := g.find(id, func(*rule) bool { return true })
			if err != nil {
				return err
			}
			if seen[id] {
				return refuse("InvalidParameterValue", "The same security group rule ID must not appear multiple times")
			}
			seen[id] = true
			sources := 0
			for _, name := range []string{"CidrIpv4", "CidrIpv6", "PrefixListId", "ReferencedGroupId"} {
				if n.get(name) != "" {
					sources++
				}
			}
			if sources != 1 {
				return refuse("InvalidParameterCombination", "A rule has exactly one of CidrIpv4, CidrIpv6, PrefixListId and ReferencedGroupId")
			}
			old := rules[i]
			r := Rule{ID: id, Group: g.ID, Egress: old.Egress, Description: n.get("Description"), Tags: old.Tags}
			if r.Protocol, r.From, r.To, err = ports(n); err != nil {
				return err
			}
			if r, err = c.one(sn, r, n.get("CidrIpv4"), n.get("CidrIpv6"), n.get("PrefixListId"), n.get("ReferencedGroupId"), ""); err != nil {
				return err
			}
			if old.kind() != r.kind() {
				return refuse("InvalidParameterValue", "A rule's source cannot become one of another kind: %s, %s", old.source(), r.source())
			}
			rules[i] = &rule{Rule: r, seq: old.seq}
		}
		if err := c.dryRun(); err != nil {
			return err
		}
		if err := sn.fits(rules); err != nil {
			return err
		}
		sn.put(g, rules)
		c.changed = []string{g.ID}
		return nil
	})
	if err != nil {
		return err
	}
	w.truth("return", true)
	return nil
}

func updateDescriptions(c *call, w *writer) error {
	byID := c.in.list("SecurityGroupRuleDescription")
	if len(byID) > 0 == c.in.has("IpPermissions") {
		return refuse("InvalidParameterCombination", "Either 'ipPermissions' or 'securityGroupRuleDescriptions' should be provided.")
	}
	err := c.st.change(c.now, func(sn *snapshot) error {
		g, err := c.group(sn)
		if err != nil {
			return err
		}
		rules := slices.Clone(g.rules)
		describe := func(i int, text string) {
			r := *rules[i]
			r.Description = text
			rules[i] = &r
		}
		for _, n := range byID {
			i, err := g.find(n.get("SecurityGroupRuleId"), func(r *rule) bool { return !r.Egress })
			if err != nil {
				return err
			}
			if err := describable("rule", n.get("Description")); err != nil {
				return err
			}
			describe(i, n.get("Description"))
		}
		if len(byID) == 0 {
			wanted, err := c.wanted(sn, g, false)
			if err != nil {
				return err
			}
			for _, want := range wanted {
				i := slices.IndexFunc(rules, func(r *rule) bool { return r.key() == want.key() })
				if i < 0 {
					return refuse("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
				}
				describe(i, want.Description)
			}
		}
		if err := c.dryRun(); err != nil {
			return err
		}
		sn.put(g, rules)
		c.changed = []string{g.ID}
		return nil
	})
	if err != nil {
		return err
	}
	w.truth("return", true)
	return nil
}
