package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// checkAccess notes the mistakes that are between accounts, people and targets, and gives
// targets that name no account the only one that there is.
func (d *decoder) checkAccess(c *Config) {
	d.checkAccounts(c)
	d.checkPeople(c)
	d.checkTargets(c)
}

// inOrder returns the names of m as they stand in the file.
func inOrder[T any](d *decoder, path string, m map[string]T) []string {
	return slices.SortedStableFunc(slices.Values(slices.Sorted(maps.Keys(m))), func(a, b string) int {
		p, q := d.places[nameIn(path, a)], d.places[nameIn(path, b)]
		if p.line != q.line {
			return p.line - q.line
		}
		return p.column - q.column
	})
}

func (d *decoder) checkAccounts(c *Config) {
	for _, name := range inOrder(d, "aws.accounts", c.AWS.Accounts) {
		a, at := c.AWS.Accounts[name], nameIn("aws.accounts", name)
		m := rolePattern.FindStringSubmatch(a.Role)
		d.rule(m != nil && a.ID != "" && m[2] != a.ID, "write the role of account "+a.ID+", or the account's own id",
			fmt.Sprintf("%s: the role is of account %s, and id is %s", at, idOf(m), a.ID), at+".role", at+".id", at)
		d.rule(a.ExternalID != "" && a.Role == "", "name the role that asks for it, or leave external_id out",
			at+".external_id is for a role, and there is none", at+".external_id", at+".role", at)
	}
}

// idOf is the account in a match of rolePattern.
func idOf(m []string) string {
	if m == nil {
		return ""
	}
	return m[2]
}

// ownedBy is who has what one person alone may have, and whose fixed prefixes are.
type ownedBy struct {
	keys, logins map[string]string
	fixed        map[netip.Prefix]string
}

func newOwnedBy() ownedBy {
	return ownedBy{map[string]string{}, map[string]string{}, map[netip.Prefix]string{}}
}

func (d *decoder) checkPeople(c *Config) {
	names := inOrder(d, "people", c.People)
	owned := newOwnedBy()
	for _, name := range names {
		d.checkPerson(c, name, owned)
	}
	for _, name := range names {
		d.checkFormer(c, name, owned)
	}
}

// checkPerson checks one person against those that it was called for before.
func (d *decoder) checkPerson(c *Config, name string, owned ownedBy) {
	p, at := c.People[name], nameIn("people", name)
	for i, g := range p.Groups {
		_, isPerson := c.People[g]
		d.rule(isPerson, "give one of them another name: `allow` takes both",
			fmt.Sprintf("%s.groups: %s is the name of a person", at, g), itemPath(at+".groups", i), at+".groups", at)
	}
	for i, k := range p.Keys {
		other, taken := owned.keys[keyItself(k)]
		d.rule(taken, "one key is one person's; give each their own",
			fmt.Sprintf("%s.keys: the key is %s's already", at, other), itemPath(at+".keys", i), at+".keys", at)
		if !taken {
			owned.keys[keyItself(k)] = name
		}
	}
	if p.Login != "" {
		other, taken := owned.logins[sameLogin(p.Login)]
		d.rule(taken, "one login is one person's; give each their own",
			fmt.Sprintf("%s.login: %s is %s's already", at, quote(p.Login), other), at+".login", at)
		if !taken {
			owned.logins[sameLogin(p.Login)] = name
		}
	}
	for _, f := range p.Fixed {
		if _, ok := owned.fixed[f]; !ok {
			owned.fixed[f] = name
		}
	}
}

// checkFormer checks that nobody has now what was this person's.
func (d *decoder) checkFormer(c *Config, name string, owned ownedBy) {
	at := nameIn("people", name)
	for i, former := range c.People[name].Former {
		whose, within := holder(owned.fixed, former)
		d.rule(within, "leave it out of one of the two: what is somebody's now is let in rightly",
			fmt.Sprintf("%s.former: %s is fixed for %s", at, former, whose), itemPath(at+".former", i), at+".former", at)
	}
}

// holder finds whose fixed prefix p is within.
func holder(fixed map[netip.Prefix]string, p netip.Prefix) (name string, found bool) {
	for bits := p.Bits(); bits >= 0 && !found; bits-- {
		wide, err := p.Addr().Prefix(bits)
		if err != nil {
			return "", false
		}
		name, found = fixed[wide]
	}
	return name, found
}

// takenBy is which target has a door, and which one a host and port.
type takenBy struct{ doors, hosts map[string]string }

func (d *decoder) checkTargets(c *Config) {
	who, taken := d.whoKnown(c), takenBy{map[string]string{}, map[string]string{}}
	for _, name := range inOrder(d, "targets", c.Targets) {
		d.checkTarget(c, name, who, taken)
	}
}

// checkTarget checks one target against those that it was called for before.
func (d *decoder) checkTarget(c *Config, name string, who knownNames, by takenBy) {
	t, at := c.Targets[name], nameIn("targets", name)
	if d.bad[at] { // no keys at all
		return
	}
	door := d.door(c, name, &t)
	c.Targets[name] = t
	d.rule(len(t.Allow) == 0, "name groups or people: allow: [ops]",
		at+".allow names nobody: the target would open for no one", at+".allow", at)
	d.checkAllow(c, at, t, who)
	d.checkNames(at+".approval", t.Approval, who, at)
	d.checkNames(at+".break_glass", t.BreakGlass, who, at)
	d.checkFixed(at, t)
	d.checkBreakGlass(at, t)

	other, taken := by.doors[door]
	d.rule(door != "" && taken, "keep one, with the hosts of both: host: [a.example.com, b.example.com]",
		fmt.Sprintf("%s is the same door as target %s: port %d of %s", at, other, t.Port, cmp.Or(t.Agent, t.AWS.Group)),
		at, at+".agent", at+".aws.account", at+".aws.region", at+".aws.group", at+".port")
	if !taken {
		by.doors[door] = name
	}
	for i, h := range t.Host {
		to := h + " port " + strconv.Itoa(int(t.Port))
		other, taken := by.hosts[to]
		d.rule(taken && other != name, "name it in one of them: `sekisho connect` must know which door to open",
			fmt.Sprintf("%s.host: %s is behind target %s already", at, to, other), itemPath(at+".host", i), at+".host", at, at+".port")
		if !taken {
			by.hosts[to] = name
		}
	}
}

// door sees to it that a target has one door, in an account, and returns what tells it from
// others; "" where that is not known.
func (d *decoder) door(c *Config, name string, t *Target) string {
	at := nameIn("targets", name)
	port := strconv.Itoa(int(t.Port))
	if t.Agent != "" {
		_, given := d.places[at+".aws"]
		d.rule(given || t.AWS.Account != "" || t.AWS.Region != "" || t.AWS.Group != "", "keep one: a security group, or the firewall of a host that runs sekisho",
			at+".aws and "+at+".agent are both there", at+".aws", at+".agent", at)
		d.rule(t.Exposure == ExposureFixed, "leave exposure out; who is always let in there belongs under admins in that host's own file",
			at+".exposure is fixed, and nobody's fixed addresses are put into the firewall of "+t.Agent, at+".exposure", at+".agent", at)
		return strings.Join([]string{"agent", t.Agent, port}, " ")
	}
	d.needed(at, *t)
	t.AWS.Account = d.account(c, at, t.AWS.Account)
	account := t.AWS.Account
	if id := c.AWS.Accounts[account].ID; id != "" {
		account = id
	}
	if t.AWS.Region == "" || t.AWS.Group == "" {
		return ""
	}
	return strings.Join([]string{"aws", account, t.AWS.Region, t.AWS.Group, port}, " ")
}

// checkFixed notes what says when and how a target is opened that nobody can ask for.
func (d *decoder) checkFixed(at string, t Target) {
	if t.Exposure != ExposureFixed {
		return
	}
	d.rule(len(t.Hours) > 0, "leave hours out, or set exposure: on_request: fixed addresses are let in at all hours",
		at+".hours would limit nothing: nobody can ask, as exposure is fixed", at+".hours", at+".exposure", at)
	for _, k := range []struct {
		name  string
		there bool
	}{{"reason", t.Reason}, {"approval", len(t.Approval) > 0}, {"break_glass", len(t.BreakGlass) > 0}} {
		d.rule(k.there, "leave "+k.name+" out, or set exposure: on_request",
			at+"."+k.name+" has no meaning: nobody can ask, as exposure is fixed", at+"."+k.name, at+".exposure", at)
	}
	for i, a := range t.Allow {
		item := itemPath(at+".allow", i)
		d.rule(!reflect.DeepEqual(a, Allow{Who: a.Who}), "write "+settingText(a.Who)+" alone, or set exposure: on_request: fixed addresses are let in at all hours",
			item+": what else it says would limit nothing: nobody can ask, as exposure is fixed", item, at+".exposure", at)
	}
}

// checkBreakGlass notes a way around what is not there.
func (d *decoder) checkBreakGlass(at string, t Target) {
	limited := len(t.Hours) > 0 || len(t.Approval) > 0 ||
		slices.ContainsFunc(t.Allow, func(a Allow) bool { return len(a.Hours) > 0 || len(a.Approval) > 0 })
	d.rule(len(t.BreakGlass) > 0 && !limited && t.Exposure != ExposureFixed && !d.bad[at+".allow"], "leave it out, or say whose yes it needs otherwise: approval: leads",
		at+".break_glass would change nothing: there is neither approval nor hours", at+".break_glass", at+".approval", at+".hours", at)
}

// needed notes what a target cannot be without.
func (d *decoder) needed(at string, t Target) {
	d.rule(t.AWS.Group == "", "name it: aws: {region: eu-central-1, group: sg-0123456789abcdef0}",
		at+".aws.group is missing: which security group is the door?", at+".aws.group", at+".aws", at, at+".agent")
	d.rule(t.AWS.Region == "", "name it: aws: {region: eu-central-1, group: sg-0123456789abcdef0}",
		at+".aws.region is missing: where is the security group?", at+".aws.region", at+".aws", at, at+".agent")
}

// account is the account that a target is in, by the name that it gives.
func (d *decoder) account(c *Config, at, name string) string {
	accounts := slices.Collect(maps.Keys(c.AWS.Accounts))
	place := at + ".aws.account"
	if d.bad["aws.accounts"] || d.bad["aws"] {
		return name
	}
	if name == "" {
		if len(accounts) == 1 {
			return accounts[0]
		}
		d.rule(len(accounts) > 1, "name it: aws: {account: "+slices.Min(append(accounts, "~"))+"}",
			at+".aws.account is missing, and there are "+strconv.Itoa(len(accounts))+" accounts", place, at+".aws", at)
		return name
	}
	if !slices.Contains(accounts, name) && !d.bad[place] {
		d.rule(true, d.oneOf(name, accounts, "put it under aws.accounts, or leave account out: it is the one of the environment's credentials then"),
			fmt.Sprintf("%s: there is no account %s", place, name), place, at)
	}
	return name
}

func (d *decoder) checkAllow(c *Config, at string, t Target, who knownNames) {
	for i, a := range t.Allow {
		item := itemPath(at+".allow", i)
		place := item
		if _, own := d.places[item+".who"]; own {
			place += ".who"
		}
		if !who.names[a.Who] && who.complete && !d.bad[at+".allow"] {
			d.rule(true, d.oneOf(a.Who, who.sorted, "name them under people first"),
				fmt.Sprintf("%s: %s is neither a person nor a group that one is in", place, a.Who), place, item, at+".allow", at)
		}
		d.checkNames(item+".approval", a.Approval, who, item, at+".allow", at)
		if _, isPerson := c.People[a.Who]; !isPerson || a.Unapproved {
			continue
		}
		approval, of := a.Approval, item+".approval"
		if len(approval) == 0 {
			approval, of = t.Approval, at+".approval"
		}
		d.rule(len(approval) == 1 && approval[0] == a.Who, "name somebody else, too: nobody approves their own request",
			fmt.Sprintf("%s: only %s could approve what %[2]s asks for", of, a.Who), of, item, at)
	}
}
