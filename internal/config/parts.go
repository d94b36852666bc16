package config

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// People and targets one by one, as somebody edits them who has a form and not the file:
// what would stand in the file under a name, read by the same table, and held to the same
// rules, in the same words.

// ParsePerson checks src, the keys that would stand under a person's name, against base: the
// configuration that the person is put into, or is changed in. base is not changed. An error
// is Errors. Who may be in which group is not asked: a group that nobody is in any more is
// left to who keeps the targets.
func ParsePerson(name string, src []byte, base *Config) (Person, error) {
	src = plain(src)
	d, at := newPart("people", name)
	var p Person
	if !d.part(at, name, "a person", src, (*Person).table(&p)) {
		return Person{}, d.errors(at, src)
	}
	c := *base
	c.People = maps.Clone(base.People)
	delete(c.People, name)
	if len(c.People) >= maxPeople {
		d.refuse(at, place{1, 1}, "", "there are %d people, and more are not kept", maxPeople)
	}
	if groups := d.whoKnown(&c).names; groups[name] {
		d.refuse(at, place{1, 1}, "give one of them another name: `allow` takes both", "%s is the name of a group", name)
	}
	others, owned := silent(), newOwnedBy()
	for _, other := range slices.Sorted(maps.Keys(c.People)) {
		others.checkPerson(&c, other, owned)
	}
	if c.People == nil {
		c.People = map[string]Person{}
	}
	c.People[name] = p
	d.checkPerson(&c, name, owned)
	d.checkFormer(&c, name, owned)
	d.checkOthersFormer(&c, name)
	if err := d.errors(at, src); err != nil {
		return Person{}, err
	}
	return p, nil
}

// checkOthersFormer notes what is fixed for a person and was somebody else's, as that one's
// keys say.
func (d *decoder) checkOthersFormer(c *Config, name string) {
	at := nameIn("people", name)
	for i, f := range c.People[name].Fixed {
		for _, other := range slices.Sorted(maps.Keys(c.People)) {
			for _, former := range c.People[other].Former {
				d.rule(other != name && f.Bits() <= former.Bits() && f.Contains(former.Addr()), "take it out of the former ones of "+other+" first: what is somebody's now is let in rightly",
					at+".fixed: "+former.String()+" is former for "+other, itemPath(at+".fixed", i), at+".fixed", at)
			}
		}
	}
}

// ParseTarget is as ParsePerson, for a target.
func ParseTarget(name string, src []byte, base *Config) (Target, error) {
	src = plain(src)
	d, at := newPart("targets", name)
	t := newTarget(name)
	if !d.part(at, name, "a target", src, (*Target).table(&t)) {
		return Target{}, d.errors(at, src)
	}
	c := *base
	c.Targets = maps.Clone(base.Targets)
	delete(c.Targets, name)
	if len(c.Targets) >= maxTargets {
		d.refuse(at, place{1, 1}, "", "there are %d targets, and more are not kept", maxTargets)
	}
	who, taken := d.whoKnown(&c), takenBy{map[string]string{}, map[string]string{}}
	others := silent()
	for _, other := range slices.Sorted(maps.Keys(c.Targets)) {
		others.checkTarget(&c, other, who, taken)
	}
	if c.Targets == nil {
		c.Targets = map[string]Target{}
	}
	c.Targets[name] = t
	d.checkTarget(&c, name, who, taken)
	if err := d.errors(at, src); err != nil {
		return Target{}, err
	}
	return c.Targets[name], nil
}

// silent is a decoder whose mistakes nobody is told of.
func silent() *decoder { return &decoder{places: map[string]place{}, bad: map[string]bool{}} }

func newPart(kind, name string) (d *decoder, at string) {
	d, at = silent(), nameIn(kind, name)
	d.places[at] = place{1, 1}
	return d, at
}

// part decodes the keys under a name; false where there is no more to check.
func (d *decoder) part(at, name, what string, src []byte, keys group) bool {
	if !validName(name) {
		d.refuse(at, place{1, 1}, nameHint, "%s cannot be the name of %s", quote(name), what)
		return false
	}
	root := readNode(&d.mistakes, src)
	if len(d.found) > 0 {
		return false
	}
	if root != nil {
		d.group(at, keys, root)
	}
	return !d.bad[at]
}

// PersonText is p as ParsePerson reads it: a key a line.
func PersonText(p Person) []byte {
	var fresh Person
	return p.table().lines(fresh.table())
}

// TargetText is t as ParseTarget reads it, under whatever name.
func TargetText(t Target) []byte {
	fresh := newTarget("")
	return t.table().lines(fresh.table())
}

// lines writes the keys that are not as in fresh, one a line.
func (g group) lines(fresh group) []byte {
	var b bytes.Buffer
	for i, k := range g {
		if text := (group{k}).changed(group{fresh[i]}); text != "{}" {
			b.WriteString(strings.TrimSuffix(strings.TrimPrefix(text, "{"), "}") + "\n")
		}
	}
	return b.Bytes()
}
