package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// named is a mapping of names that are free to groups of keys: people, targets,
// accounts.
type named[T any] struct {
	p       *map[string]T
	what    string              // what has the name: "a person"
	names   string              // what has the names: "people"
	max     int                 // how many there may be
	begin   func(name string) T // what is so where nothing is said
	keys    func(*T) group
	example string // one of them, as the commented file has it
}

// placeholder stands for a name where all names are meant.
const placeholder = "NAME"

// inside returns what stands for a name, and the keys of what has that name.
func (v named[T]) inside() (string, group) {
	item := v.begin(placeholder)
	return placeholder, v.keys(&item)
}

func (v named[T]) sample() string { return v.example }

func (v named[T]) text() string {
	texts := make([]string, 0, len(*v.p))
	for _, name := range slices.Sorted(maps.Keys(*v.p)) {
		item, fresh := (*v.p)[name], v.begin(name)
		texts = append(texts, settingText(name)+": "+v.keys(&item).changed(v.keys(&fresh)))
	}
	return "{" + strings.Join(texts, ", ") + "}"
}

func (v named[T]) grammar() string {
	_, keys := v.inside()
	return fmt.Sprintf("mapping of the names of %s, at most %d, to their keys: `%s`", v.names, v.max, strings.Join(keys.names(), "`, `"))
}

func (v named[T]) schema() object {
	_, keys := v.inside()
	return object{
		"type": []string{"object", "null"}, "maxProperties": v.max,
		"propertyNames":        object{"pattern": "^" + namePattern + "$"},
		"additionalProperties": keys.schema(),
	}
}

// decode keeps what it could read, so that the names are known to what refers to them;
// where a name was refused, path is bad.
func (v named[T]) decode(d *decoder, path string, n *node) {
	if n.kind == scalar || n.kind == list {
		d.refuse(path, n.place, "write it like "+v.example, "%s where names and keys are wanted", n.what())
		return
	}
	if len(n.entries) > v.max {
		d.refuse(path, n.entries[v.max].key.place, "", "more than %d %s", v.max, v.names)
		return
	}
	res := map[string]T{}
	first := map[string]place{}
	for _, e := range n.entries {
		if e.key.kind != scalar {
			d.refuse(path, e.key.place, "write `name: {key: value}`; a name that is a word of YAML's needs quotes", "%s is no name", e.key.what())
			continue
		}
		name := e.key.text
		if at, twice := first[name]; twice {
			d.refuse(path, e.key.place, fmt.Sprintf("keep one; the first is on line %d", at.line), "%s is there twice", quote(name))
			continue
		}
		first[name] = e.key.place
		if !validName(name) {
			d.refuse(path, e.key.place, nameHint, "%s cannot be the name of %s", quote(name), v.what)
		}
		at := nameIn(path, name)
		d.places[at] = e.key.place
		item := v.begin(name)
		d.group(at, v.keys(&item), e.value)
		res[name] = item
	}
	*v.p = nil
	if len(res) > 0 {
		*v.p = res
	}
}

// changed writes the keys that are not as in fresh, on one line.
func (g group) changed(fresh group) string {
	var texts []string
	for i, k := range g {
		text, was := k.value.text(), fresh[i].value.text()
		if keys, ok := k.value.(group); ok {
			text, was = keys.changed(fresh[i].value.(group)), "{}"
		}
		if text != was {
			texts = append(texts, k.name+": "+text)
		}
	}
	return "{" + strings.Join(texts, ", ") + "}"
}

// nameIn is the path of what has a name. A name with a dot is in quotes, so that no other
// path reads the same.
func nameIn(path, name string) string {
	switch {
	case !validName(name):
		name = quote(name)
	case strings.Contains(name, "."):
		name = strconv.Quote(name)
	}
	return join(path, name)
}

const (
	maxName     = 63
	namePattern = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
	nameHint    = "a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit"
)

// validName reports whether s may be the name of a person, a group, an account or a
// target.
func validName(s string) bool {
	const first = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	return s != "" && len(s) <= maxName && strings.Contains(first, s[:1]) && strings.Trim(s, first+"._-") == ""
}
