package config

import (
	"fmt"
	"maps"
	"net/netip"
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

func (d *decoder) checkPeople(c *Config) {
	names := inOrder(d, "people", c.People)
	owner := map[string]string{}       // of a key
	fixed := map[netip.Prefix]string{} // whose
	for _, name := range names {
		p, at := c.People[name], nameIn("people", name)
		for i, g := range p.Groups {
			_, isPerson := c.People[g]
			d.rule(isPerson, "give one of them another name: `allow` takes both",
				fmt.Sprintf("%s.groups: %s is the name of a person", at, g), itemPath(at+".groups", i), at+".groups", at)
		}
		for i, k := range p.Keys {
			other, taken := owner[keyItself(k)]
			d.rule(taken, "one key is one person's; give each their own",
				fmt.Sprintf("%s.keys: the key is %s's already", at, other), itemPath(at+".keys", i), at+".keys", at)
			if !taken {
				owner[keyItself(k)] = name
			}
		}
		for _, f := range p.Fixed {
			if _, ok := fixed[f]; !ok {
				fixed[f] = name
			}
		}
	}
	for _, name := range names {
		at := nameIn("people", name)
		for i, former := range c.People[name].Former {
			whose, within := holder(fixed, former)
			d.rule(within, "leave it out of one of the two: what is somebody's now is let in rightly",
				fmt.Sprintf("%s.former: %s is fixed for %s", at, former, whose), itemPath(at+".former", i), at+".former", at)
		}
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

// whoKnown returns the names that allow may take; ok is false where some could not be read.
func (d *decoder) whoKnown(c *Config) (known map[string]bool, ok bool) {
	known, ok = map[string]bool{}, !d.bad["people"]
	for name, p := range c.People {
		at := nameIn("people", name)
		ok = ok && !d.bad[at] && !d.bad[at+".groups"]
		known[name] = true
		for _, g := range p.Groups {
			known[g] = true
		}
	}
	return known, ok
}

func (d *decoder) checkTargets(c *Config) {
	known, complete := d.whoKnown(c)
	names := slices.Collect(maps.Keys(known))
	doors := map[string]string{} // by what makes one
	hosts := map[string]string{}
	for _, name := range inOrder(d, "targets", c.Targets) {
		t, at := c.Targets[name], nameIn("targets", name)
		if d.bad[at] { // no keys at all
			continue
		}
		d.needed(at, t)
		t.AWS.Account = d.account(c, at, t.AWS.Account)
		c.Targets[name] = t
		d.checkAllow(at, t, known, complete, names)
		d.rule(t.Exposure == ExposureFixed && len(t.Hours) > 0, "leave hours out, or set exposure: on_request: fixed addresses are let in at all hours",
			at+".hours would limit nothing: nobody can ask, as exposure is fixed", at+".hours", at+".exposure", at)

		account := t.AWS.Account
		if id := c.AWS.Accounts[account].ID; id != "" {
			account = id
		}
		door := strings.Join([]string{account, t.AWS.Region, t.AWS.Group, strconv.Itoa(int(t.Port))}, " ")
		other, taken := doors[door]
		whole := t.AWS.Region != "" && t.AWS.Group != ""
		d.rule(whole && taken, "keep one, with the hosts of both: host: [a.example.com, b.example.com]",
			fmt.Sprintf("%s is the same door as target %s: port %d of %s", at, other, t.Port, t.AWS.Group), at, at+".aws.account", at+".aws.region", at+".aws.group", at+".port")
		if !taken {
			doors[door] = name
		}
		for i, h := range t.Host {
			to := h + " port " + strconv.Itoa(int(t.Port))
			other, taken := hosts[to]
			d.rule(taken && other != name, "name it in one of them: `sekisho connect` must know which door to open",
				fmt.Sprintf("%s.host: %s is behind target %s already", at, to, other), itemPath(at+".host", i), at+".host", at, at+".port")
			if !taken {
				hosts[to] = name
			}
		}
	}
}

// needed notes what a target cannot be without.
func (d *decoder) needed(at string, t Target) {
	d.rule(t.AWS.Group == "", "name it: aws: {region: eu-central-1, group: sg-0123456789abcdef0}",
		at+".aws.group is missing: which security group is the door?", at+".aws.group", at+".aws", at)
	d.rule(t.AWS.Region == "", "name it: aws: {region: eu-central-1, group: sg-0123456789abcdef0}",
		at+".aws.region is missing: where is the security group?", at+".aws.region", at+".aws", at)
	d.rule(len(t.Allow) == 0, "name groups or people: allow: [ops]",
		at+".allow names nobody: the target would open for no one", at+".allow", at)
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

func (d *decoder) checkAllow(at string, t Target, known map[string]bool, complete bool, names []string) {
	for i, a := range t.Allow {
		item := itemPath(at+".allow", i)
		who := item
		if _, own := d.places[item+".who"]; own {
			who += ".who"
		}
		if !known[a.Who] && complete && !d.bad[at+".allow"] {
			d.rule(true, d.oneOf(a.Who, names, "name them under people first"),
				fmt.Sprintf("%s: %s is neither a person nor a group that one is in", who, a.Who), who, item, at+".allow", at)
		}
		d.rule(t.Exposure == ExposureFixed && (a.AtMost > 0 || len(a.Hours) > 0), "write "+settingText(a.Who)+" alone, or set exposure: on_request: fixed addresses are let in at all hours",
			item+": at_most and hours would limit nothing: nobody can ask, as exposure is fixed", item, at+".exposure", at)
	}
}
