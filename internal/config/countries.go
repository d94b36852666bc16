package config

import (
	"errors"
	"fmt"
	"slices"

	"sekisho/internal/iso3166"
)

// countries is a list of countries that are let in, or {deny: a list of those
// that are not}.
type countries struct{ p *Countries }

func (v countries) text() string {
	list := func(codes []string) string { return flow(codes, func(s string) string { return s }) }
	if len(v.p.Deny) > 0 {
		return "{deny: " + list(v.p.Deny) + "}"
	}
	return list(v.p.Allow)
}

func (v countries) grammar() string {
	return "list of countries' codes, as `[JP]`, or `{deny: [KP]}`"
}

func (v countries) schema() object {
	codes := object{"type": "array", "items": object{"type": "string", "pattern": "^[A-Za-z]{2}$"}, "uniqueItems": true}
	return object{"anyOf": []any{
		object{"type": "null"}, codes,
		object{"type": "object", "additionalProperties": false, "maxProperties": 1, "properties": object{"allow": codes, "deny": codes}},
	}}
}

func (v countries) decode(d *decoder, path string, n *node) {
	var res Countries
	switch n.kind {
	case scalar:
		hint := "write it in brackets: [JP]"
		if code, err := iso3166.Parse(n.text); isBoolean(n.text) {
			hint = "write [] for all countries, or [NO] for Norway"
		} else if err == nil {
			hint = fmt.Sprintf("write it in brackets: [%s]", code)
		}
		d.refuse(path, n.place, hint, "%s where a list is wanted", n.what())
	case mapping:
		d.group(path, group{
			{name: "allow", value: codes{&res.Allow, "leave it out to let in everybody"}},
			{name: "deny", value: codes{&res.Deny, ""}},
		}, n)
		d.bad[path] = d.bad[path] || d.bad[path+".allow"] || d.bad[path+".deny"]
		if len(res.Allow) > 0 && len(res.Deny) > 0 {
			d.refuse(path, n.place, "keep one: whoever is not allowed is denied", "both allow and deny")
		}
	default:
		codes{&res.Allow, ""}.decode(d, path, n)
	}
	if !d.bad[path] {
		*v.p = res
	}
}

// codes is a list of countries' codes; where there is a hint, not an empty one.
type codes struct {
	p         *[]string
	emptyHint string
}

func (v codes) text() string    { return "" }
func (v codes) grammar() string { return "" }
func (v codes) schema() object  { return nil }

func (v codes) decode(d *decoder, path string, n *node) {
	var res []string
	first := map[string]place{}
	for _, item := range itemsOf(d, path, n, "JP") {
		if !scalarOf(d, path, item, "the code of a country", "") {
			continue
		}
		code, err := iso3166.Parse(item.text)
		if unknown, ok := errors.AsType[*iso3166.UnknownError](err); ok {
			d.refuse(path, item.place, unknown.Hint, "%s is not the code of a country", quote(item.text))
			continue
		}
		if at, twice := first[code.String()]; twice {
			d.refuse(path, item.place, fmt.Sprintf("keep one; the first is on line %d", at.line), "%s is there twice", code)
			continue
		}
		first[code.String()] = item.place
		res = append(res, code.String())
	}
	if v.emptyHint != "" && len(n.items) == 0 && (n.kind == list || n.kind == absent) {
		d.refuse(path, n.place, v.emptyHint, "names no country")
	}
	slices.Sort(res)
	*v.p = res
}
