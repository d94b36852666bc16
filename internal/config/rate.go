package config

import "fmt"

// rate is a limit of new connections, or no.
type rate struct{ p *Rate }

// maxRate bounds both figures: hashlimit takes no burst beyond it.
const maxRate = 10_000

func (v rate) text() string {
	if *v.p == (Rate{}) {
		return "no"
	}
	return fmt.Sprintf("{per_minute: %d, burst: %d}", v.p.PerMinute, v.p.Burst)
}

func (v rate) grammar() string {
	return fmt.Sprintf("`{per_minute: N, burst: N}`, numbers from 1 to %d, or `no`", maxRate)
}

func (v rate) schema() object {
	figure := func(def int) object {
		return object{"type": "integer", "minimum": 1, "maximum": maxRate, "default": def}
	}
	return object{"anyOf": []any{
		object{"enum": []any{false, "no", "off"}},
		object{"type": "object", "additionalProperties": false, "properties": object{
			"per_minute": figure(v.p.PerMinute), "burst": figure(v.p.Burst),
		}},
	}}
}

func (v rate) decode(d *decoder, path string, n *node) {
	if n.kind == mapping {
		res := *v.p
		d.group(path, group{
			{name: "per_minute", value: number{p: &res.PerMinute, min: 1, max: maxRate}},
			{name: "burst", value: number{p: &res.Burst, min: 1, max: maxRate}},
		}, n)
		*v.p = res
		return
	}
	limited := true
	if n.kind == scalar && !n.quoted && isBoolean(n.text) {
		(boolean{&limited}).decode(d, path, n)
	}
	if limited {
		d.refuse(path, n.place, "write rate: "+v.text()+", or rate: no", "%s where a rate or no is wanted", n.what())
		return
	}
	*v.p = Rate{}
}
