package config

import (
	"fmt"
	"slices"
	"strings"
)

// form is what a text must look like.
type form struct {
	what    string // "a region"
	grammar string // for people
	pattern string // for the schema: of a whole text; "": any
	example string
	// read returns the text as it is kept, or says what is wrong with it, and what to do.
	read func(n *node) (value, hint, wrong string)
	// same is what two texts that mean the same have in common; nil: the text.
	same func(value string) string
}

func (f form) schema() object {
	s := object{"type": "string"}
	if f.pattern != "" {
		s["pattern"] = "^" + f.pattern + "$"
	}
	return s
}

// word is one text of a form. The empty one is none, unless it is needed.
type word struct {
	p *string
	form
	needed bool
}

func (v word) text() string    { return Quote(*v.p) }
func (v word) grammar() string { return v.form.grammar }

func (v word) schema() object {
	if v.needed {
		return v.form.schema()
	}
	return object{"anyOf": []any{object{"const": ""}, v.form.schema()}}
}

func (v word) decode(d *decoder, path string, n *node) {
	if n.kind == absent && v.needed {
		d.refuse(path, n.place, "write it like "+v.example, "there is no value; want %s", v.what)
		return
	}
	if !scalarOf(d, path, n, v.what, v.text()) {
		return
	}
	if n.text == "" && !v.needed {
		*v.p = ""
		return
	}
	value, hint, wrong := v.read(n)
	if wrong != "" {
		d.refuse(path, n.place, hint, "%s", wrong)
		return
	}
	*v.p = value
}

// words are texts of a form, none twice; where alone is set, one may be written without
// brackets.
type words struct {
	p *[]string
	form
	max    int
	alone  bool
	needed bool
}

func (v words) text() string {
	if v.alone && len(*v.p) == 1 {
		return Quote((*v.p)[0])
	}
	return flow(*v.p, Quote)
}

func (v words) grammar() string { return v.form.grammar }

func (v words) schema() object {
	list := object{"type": []string{"array", "null"}, "items": v.form.schema(), "maxItems": v.max, "uniqueItems": true}
	if v.alone {
		return object{"anyOf": []any{v.form.schema(), list}}
	}
	return list
}

func (v words) decode(d *decoder, path string, n *node) {
	items := []*node{n}
	if !v.alone || n.kind != scalar {
		items = itemsOf(d, path, n, v.example)
	}
	if (v.alone || v.needed) && len(items) == 0 && n.kind != mapping {
		hint := "name one, or leave the key out"
		if v.needed {
			hint = "name one: [" + v.example + "]"
		}
		d.refuse(path, n.place, hint, "names nothing")
		return
	}
	if len(items) > v.max {
		d.refuse(path, items[v.max].place, "", "more than %d", v.max)
		return
	}
	var res []string
	first := map[string]place{}
	for _, item := range items {
		if item.kind == absent {
			d.refuse(path, item.place, "write "+v.what+", such as "+v.example, "there is no value")
			continue
		}
		if !scalarOf(d, path, item, v.what, "") {
			continue
		}
		value, hint, wrong := v.read(item)
		if wrong != "" {
			d.refuse(path, item.place, hint, "%s", wrong)
			continue
		}
		same := value
		if v.same != nil {
			same = v.same(value)
		}
		if at, twice := first[same]; twice {
			d.refuse(path, item.place, fmt.Sprintf("keep one; the first is on line %d", at.line), "%s is there twice", quote(value))
			continue
		}
		first[same] = item.place
		d.places[itemPath(path, len(res))] = item.place
		res = append(res, value)
	}
	if !d.bad[path] {
		*v.p = res
	}
}

// nameForm is the name of something that has one here.
func nameForm(what, grammar, example string) form {
	return form{what: what, grammar: grammar, pattern: namePattern, example: example, read: func(n *node) (value, hint, wrong string) {
		if !validName(n.text) {
			return "", nameHint, quote(n.text) + " cannot be " + what
		}
		return n.text, "", ""
	}}
}

// oneOf offers the nearest of names, or all of them where they are few.
func (d *decoder) oneOf(name string, names []string, none string) string {
	slices.Sort(names)
	d.guesses++
	if d.guesses <= maxGuesses {
		if near := Nearest(name, names); near != "" {
			return "did you mean " + near + "?"
		}
	}
	switch n := len(names); {
	case n == 0:
		return none
	case n <= 8:
		return "write one of " + strings.Join(names, ", ")
	default:
		return fmt.Sprintf("write one of %s, and %d more", strings.Join(names[:8], ", "), n-8)
	}
}

// maxGuesses bounds for how many names of one file the nearest is looked for among
// thousands: no more mistakes are told than a few.
const maxGuesses = 200
