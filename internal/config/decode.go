package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// decoder takes raw nodes into a Config and notes every mistake on the way.
type decoder struct {
	mistakes
	places  map[string]place          // where a key's value stands, by dotted path, for check
	bad     map[string]bool           // the paths whose value was refused
	zones   map[string]*time.Location // those asked for; nil: not known
	guesses int                       // how many names the nearest was looked for, among many
}

// refuse notes a mistake in the value at path.
func (d *decoder) refuse(path string, at place, hint, format string, args ...any) {
	d.bad[path] = true
	if path != "" {
		path += ": "
	}
	d.add(at, hint, "%s%s", path, fmt.Sprintf(format, args...))
}

// document decodes a whole file. A file of another version is not looked at
// further: what it says would only be misunderstood.
func (d *decoder) document(cfg *Config, root *node) {
	keys := table(cfg)
	if root.kind != mapping {
		d.add(root.place, "begin with `version: 1`", "the file holds %s where keys are wanted", root.what())
		return
	}
	given := slices.IndexFunc(root.entries, func(e entry) bool { return e.key.text == "version" })
	if given < 0 {
		d.add(place{1, 1}, "write `version: 1` as the first line", "the version is missing")
	} else if v := root.entries[given].value; v.kind == scalar && !v.quoted && isNumber(v.text) && v.text != "1" {
		d.refuse("version", v.place, "this program reads version 1; a newer sekisho may read this file", "%s is no version that is known here", v.text)
		return
	}
	d.group("", keys, root)
	_, cfg.SSH.PortSet = d.places["ssh.port"]
	d.check(cfg)
}

// group decodes a mapping by its keys.
func (d *decoder) group(path string, keys group, n *node) {
	switch n.kind {
	case absent: // `guard:` with all its keys commented out
		return
	case scalar, list:
		what := n.what()
		if n.kind == scalar && (secretive(path) || secretText.MatchString(n.text)) {
			what = "a text"
		}
		d.refuse(path, n.place, "write its keys below it, indented: "+strings.Join(keys.names(), ", "), "%s where keys are wanted", what)
		return
	}
	seen := map[string]place{}
	for _, e := range n.entries {
		name := e.key.text
		if e.key.kind != scalar {
			d.add(e.key.place, "write `key: value`", "%s is no key", e.key.what())
			continue
		}
		if first, twice := seen[name]; twice {
			d.add(e.key.place, fmt.Sprintf("keep one; the first is on line %d", first.line), "%s is there twice", d.keyTwice(path, e, keys))
			continue
		}
		seen[name] = e.key.place
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
		if i < 0 {
			hint := ""
			if len(d.found) < maxFound {
				hint = unknownHint(path, name, keys)
			}
			near := Nearest(name, keys.names())
			d.add(e.key.place, hint, "there is no %s", d.unknownKey(path, e, near))
			if near != "" {
				d.bad[join(path, near)] = true // what it was to say is not known
			}
			continue
		}
		path := join(path, name)
		d.places[path] = e.value.place
		keys[i].value.decode(d, path, e.value)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// unknownHint says which key may be meant: one nearly of that name here, one of
// that name elsewhere, or any of those that are here.
func unknownHint(path, name string, here group) string {
	if before, _, ok := strings.Cut(name, ":"); ok && slices.Contains(here.names(), before) {
		return "write a space after the colon"
	}
	if near := Nearest(name, here.names()); near != "" {
		return "did you mean " + near + "?"
	}
	var exact, alike string
	table(Default()).walk("", func(p string, k key) {
		switch {
		case path+"."+name == p:
		case path != "" && secretive(p) && !secretive(path): // what is common there says nothing elsewhere
		case k.name == name && exact == "":
			exact = p
		case Nearest(name, []string{k.name}) != "" && alike == "":
			alike = p
		}
	})
	if elsewhere := cmp.Or(exact, alike); elsewhere != "" {
		return "did you mean " + elsewhere + "?"
	}
	return "the keys here are " + strings.Join(here.names(), ", ")
}

// Nearest returns the one of names that name most likely stands for, or "".
func Nearest(name string, names []string) string {
	if len(name) > 64 {
		return ""
	}
	fold := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '_' || r == '-' || r == ' ' {
				return -1
			}
			return r
		}, strings.ToLower(s))
	}
	best, least, a := "", tooFar, fold(name)
	for _, n := range names {
		b := fold(n)
		if d := distance(a, b); d < least && d*3 <= max(len(a), len(b)) {
			best, least = n, d
		}
	}
	return best
}

// tooFar is the least distance that makes two names different ones.
const tooFar = 3

// distance is how many letters must be changed, added, left out or swapped with
// the next to make b of a, or tooFar where it is more than that.
func distance(a, b string) int {
	if max(len(a)-len(b), len(b)-len(a)) >= tooFar {
		return tooFar
	}
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	// Three rows of the table of all beginnings of a and b; what is farther than tooFar
	// from its diagonal cannot matter.
	var rows [3][]int
	for k := range rows {
		rows[k] = make([]int, len(b)+2)
	}
	for i := 0; i <= len(a); i++ {
		before2, before, row := rows[(i+1)%3], rows[(i+2)%3], rows[i%3]
		first, last := max(0, i-tooFar), min(len(b), i+tooFar)
		if first > 0 {
			row[first-1] = tooFar
		}
		row[last+1] = tooFar // the next row asks for it
		for j := first; j <= last; j++ {
			switch {
			case i == 0 || j == 0:
				row[j] = i + j
				continue
			case a[i-1] == b[j-1]:
				row[j] = before[j-1]
			default:
				row[j] = before[j-1] + 1
			}
			row[j] = min(row[j], before[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before2[j-2]+1)
			}
		}
	}
	return min(tooFar, rows[len(a)%3][len(b)])
}
