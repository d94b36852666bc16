package config

import "time"

// every is the time between two looks, or no: never.
type every struct {
	p        *time.Duration
	min, max time.Duration
}

func (v every) duration() duration { return duration(v) }

func (v every) text() string {
	if *v.p == 0 {
		return "no"
	}
	return v.duration().text()
}

func (v every) grammar() string { return v.duration().grammar() + ", or `no`: never" }

func (v every) schema() object {
	return object{"anyOf": []any{object{"enum": []any{false, "no", "off"}}, v.duration().schema()}}
}

func (v every) decode(d *decoder, path string, n *node) {
	if n.kind == scalar && !n.quoted && isBoolean(n.text) {
		looks := true
		if (boolean{&looks}).decode(d, path, n); looks {
			hint := "write " + v.text() + ", or no"
			if *v.p == 0 {
				hint = "write a " + v.duration().grammar() + ", or no"
			}
			d.refuse(path, n.place, hint, "%s is no duration", quote(n.text))
			return
		}
		*v.p = 0
		return
	}
	if n.kind == scalar && n.text == "never" {
		d.refuse(path, n.place, "write no", "%s is no duration", quote(n.text))
		return
	}
	if scalarOf(d, path, n, "a duration", v.text()) {
		v.duration().decode(d, path, n)
	}
}
