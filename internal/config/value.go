package config

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sekisho/internal/sshlog"
)

// value is what a key may hold, bound to its place in a Config, in the manner of
// flag.Value: it reads itself, shows what is there, and describes itself.
type value interface {
	decode(d *decoder, path string, n *node) // sets the Config's field, or notes a mistake
	text() string                            // the field as it stands, as YAML on one line
	grammar() string                         // what may be written, for people
	schema() object                          // what may be written, as JSON Schema
}

// scalarOf returns n if it is a plain value; what is wanted, for the message.
func scalarOf(d *decoder, path string, n *node, want, def string) bool {
	switch n.kind {
	case scalar:
		return true
	case absent:
		d.refuse(path, n.place, "write one, or leave the key out: it is "+def+" then", "there is no value; want %s", want)
	default:
		hint := ""
		if n.kind == mapping { // what ends in a colon, or has one before a space
			hint = "put it in quotes"
		}
		d.refuse(path, n.place, hint, "%s where %s is wanted", n.what(), want)
	}
	return false
}

// unquoted is scalarOf for values that are not text.
func unquoted(d *decoder, path string, n *node, want, def string) bool {
	if !scalarOf(d, path, n, want, def) {
		return false
	}
	if n.quoted {
		d.refuse(path, n.place, "leave out the quotes", "the text %s where %s is wanted", quote(n.text), want)
		return false
	}
	return true
}

// isNumber reports whether YAML takes s for an integer in plain decimal.
func isNumber(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil
}

// version is the file's version: always Version.
type version struct{}

func (version) text() string    { return strconv.Itoa(Version) }
func (version) grammar() string { return "`1`; must be there" }
func (version) schema() object  { return object{"const": Version} }

func (version) decode(d *decoder, path string, n *node) {
	if unquoted(d, path, n, "a number", "1") && n.text != "1" {
		d.refuse(path, n.place, "write `version: 1`", "%s is no version", quote(n.text))
	}
}

// boolean is yes or no.
type boolean struct{ p *bool }

func (v boolean) grammar() string { return "`yes` or `no`" }
func (v boolean) schema() object {
	// An editor's YAML 1.2 takes yes, no, on and off for text.
	return object{"enum": []any{true, false, "yes", "no", "on", "off"}, "default": v.text()}
}

func (v boolean) text() string {
	if *v.p {
		return "yes"
	}
	return "no"
}

func (v boolean) decode(d *decoder, path string, n *node) {
	if !unquoted(d, path, n, "yes or no", v.text()) {
		return
	}
	if !isBoolean(n.text) {
		d.refuse(path, n.place, "write yes or no (on, off, true and false are taken too)", "%s is neither yes nor no", quote(n.text))
		return
	}
	*v.p = slices.Contains(yes[:], n.text)
}

var (
	yes = [...]string{"yes", "on", "true"}
	no  = [...]string{"no", "off", "false"}
)

func isBoolean(s string) bool { return slices.Contains(yes[:], s) || slices.Contains(no[:], s) }

// number is an integer in a range; where off is set, 0 too, which switches off.
type number struct {
	p        *int
	min, max int
	off      bool
}

func (v number) text() string { return strconv.Itoa(*v.p) }

func (v number) grammar() string {
	if v.off {
		return fmt.Sprintf("number from %d to %d, or 0: off", v.min, v.max)
	}
	return fmt.Sprintf("number from %d to %d", v.min, v.max)
}

func (v number) schema() object {
	if v.off {
		return object{"type": "integer", "anyOf": []any{object{"const": 0}, object{"minimum": v.min}}, "maximum": v.max, "default": *v.p}
	}
	return object{"type": "integer", "minimum": v.min, "maximum": v.max, "default": *v.p}
}

func (v number) decode(d *decoder, path string, n *node) {
	if !unquoted(d, path, n, "a number", v.text()) {
		return
	}
	i, err := strconv.Atoi(n.text)
	switch {
	case err != nil && !isNumber(n.text):
		d.refuse(path, n.place, "write a "+v.grammar(), "%s is no whole number", quote(n.text))
	case err != nil, i < v.min && !(v.off && i == 0), i > v.max:
		d.refuse(path, n.place, "write a "+v.grammar(), "%s is out of range", n.text)
	default:
		*v.p = i
	}
}

// factor is a number with a fraction in a range.
type factor struct {
	p        *float64
	min, max float64
}

func (v factor) text() string { return strconv.FormatFloat(*v.p, 'g', -1, 64) }
func (v factor) grammar() string {
	return fmt.Sprintf("number from %g to %g, also %g", v.min, v.max, v.min+0.5)
}
func (v factor) schema() object {
	return object{"type": "number", "minimum": v.min, "maximum": v.max, "default": *v.p}
}

func (v factor) decode(d *decoder, path string, n *node) {
	if !unquoted(d, path, n, "a number", v.text()) {
		return
	}
	f, err := strconv.ParseFloat(n.text, 64)
	switch {
	case err != nil || strings.Trim(n.text, "0123456789.-") != "": // no inf, nan, hex, 1e3, 1_0
		d.refuse(path, n.place, "write a "+v.grammar(), "%s is no number", quote(n.text))
	case f < v.min, f > v.max:
		d.refuse(path, n.place, "write a "+v.grammar(), "%s is out of range", n.text)
	default:
		*v.p = f
	}
}

// duration is a time.Duration in a range.
type duration struct {
	p        *time.Duration
	min, max time.Duration
}

func (v duration) text() string { return FormatDuration(*v.p) }

func (v duration) grammar() string {
	if v.min == 0 {
		return fmt.Sprintf("duration up to %s, or 0s: off", FormatDuration(v.max))
	}
	return fmt.Sprintf("duration from %s to %s", FormatDuration(v.min), FormatDuration(v.max))
}

func (v duration) schema() object {
	return object{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ms|[smhdw]))+$`, "default": v.text()}
}

func (v duration) decode(d *decoder, path string, n *node) {
	if !scalarOf(d, path, n, "a duration", v.text()) {
		return
	}
	t, err := ParseDuration(n.text)
	switch {
	case isNumber(n.text):
		hint := "write it with a unit, such as 30s, 10m, 1h30m or 7d"
		if s, err := strconv.Atoi(n.text); err == nil && 0 < s && s < math.MaxInt32 {
			if sec := n.text + "s"; FormatDuration(time.Duration(s)*time.Second) != sec {
				hint = "write " + sec + " or " + FormatDuration(time.Duration(s)*time.Second)
			} else {
				hint = "write " + sec + " or " + n.text + "m"
			}
		}
		d.refuse(path, n.place, hint, "%s has no unit", n.text)
	case err != nil && slices.Contains([]string{"forever", "never", "permanent", "infinite"}, n.text):
		d.refuse(path, n.place, "the longest is "+FormatDuration(v.max)+"; what ends by itself cannot lock anyone out for good", "%s is no duration", quote(n.text))
	case err != nil:
		d.refuse(path, n.place, "write it like 30s, 10m, 1h30m or 7d; the units are w, d, h, m, s and ms", "%s is no duration", quote(n.text))
	case t < v.min, t > v.max:
		d.refuse(path, n.place, "write a "+v.grammar(), "%s is out of range", n.text)
	default:
		*v.p = t
	}
}

// choice is one of a few words.
type choice[T ~string] struct {
	p  *T
	of []T
}

func (v choice[T]) text() string { return string(*v.p) }

func (v choice[T]) words() []string {
	words := make([]string, len(v.of))
	for i, w := range v.of {
		words[i] = string(w)
	}
	return words
}

func (v choice[T]) grammar() string { return "`" + strings.Join(v.words(), "`, `") + "`" }
func (v choice[T]) schema() object  { return object{"enum": v.words(), "default": v.text()} }

func (v choice[T]) decode(d *decoder, path string, n *node) {
	if !scalarOf(d, path, n, "one of "+strings.Join(v.words(), ", "), v.text()) {
		return
	}
	if !slices.Contains(v.of, T(n.text)) {
		hint := "write one of " + strings.Join(v.words(), ", ")
		if near := Nearest(n.text, v.words()); near != "" {
			hint = "did you mean " + near + "?"
		}
		d.refuse(path, n.place, hint, "%s is not known", quote(n.text))
		return
	}
	*v.p = T(n.text)
}

// ports is a port, or a list of them.
type ports struct{ p *[]uint16 }

func (v ports) text() string {
	if len(*v.p) == 1 {
		return strconv.Itoa(int((*v.p)[0]))
	}
	return flow(*v.p, func(port uint16) string { return strconv.Itoa(int(port)) })
}

func (v ports) grammar() string { return "port from 1 to 65535, or a list of ports" }

func (v ports) schema() object {
	port := object{"type": "integer", "minimum": 1, "maximum": math.MaxUint16}
	ports := object{"type": "array", "items": port, "minItems": 1, "maxItems": maxPorts, "uniqueItems": true}
	return object{"anyOf": []any{port, ports}, "default": *v.p}
}

// maxPorts is how many ports one sshd plausibly has.
const maxPorts = 16

func (v ports) decode(d *decoder, path string, n *node) {
	items := []*node{n}
	if n.kind == list {
		items = n.items
	}
	switch {
	case len(items) == 0:
		d.refuse(path, n.place, "write sshd's port", "the list is empty")
		return
	case len(items) > maxPorts:
		d.refuse(path, n.place, "", "more than %d ports", maxPorts)
		return
	}
	var res []uint16
	for _, item := range items {
		var port int
		if (number{p: &port, min: 1, max: math.MaxUint16}).decode(d, path, item); port == 0 {
			continue // was refused
		}
		if slices.Contains(res, uint16(port)) {
			d.refuse(path, item.place, "keep one", "port %d is there twice", port)
			continue
		}
		res = append(res, uint16(port))
	}
	if !d.bad[path] {
		*v.p = res
	}
}

// itemsOf returns the items of a list; nothing after the colon is an empty one.
func itemsOf(d *decoder, path string, n *node, example string) []*node {
	if n.kind == scalar || n.kind == mapping {
		d.refuse(path, n.place, "write it in brackets: ["+example+"]", "%s where a list is wanted", n.what())
	}
	return n.items
}

// flow writes a list on one line.
func flow[T any](items []T, text func(T) string) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = text(item)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// paths is a list of absolute paths.
type paths struct{ p *[]string }

// maxFiles bounds how many logs are followed at once.
const maxFiles = 64

func (v paths) text() string    { return flow(*v.p, strconv.Quote) }
func (v paths) grammar() string { return "list of absolute paths" }
func (v paths) schema() object {
	item := object{"type": "string", "pattern": "^/."}
	return object{"type": []string{"array", "null"}, "items": item, "maxItems": maxFiles}
}

func (v paths) decode(d *decoder, key string, n *node) {
	var res []string
	for _, item := range itemsOf(d, key, n, "/var/log/auth.log") {
		if !scalarOf(d, key, item, "a path", "") {
			continue
		}
		switch clean := path.Clean(item.text); {
		case !path.IsAbs(item.text) || clean == "/" || strings.ContainsAny(item.text, "\x00\n"):
			d.refuse(key, item.place, "write the whole path, such as /var/log/auth.log", "%s is no absolute path of a file", quote(item.text))
		case slices.Contains(res, clean):
			d.refuse(key, item.place, "keep one", "%s is there twice", quote(clean))
		case len(res) == maxFiles:
			d.refuse(key, item.place, "", "more than %d files", maxFiles)
			return
		default:
			res = append(res, clean)
		}
	}
	if !d.bad[key] {
		*v.p = res
	}
}

// weights are weights by kind of message.
type weights struct{ p *map[sshlog.Kind]int }

const maxWeight = 15 // what package guard keeps of one, per attempt

func (v weights) text() string {
	kinds := slices.Sorted(maps.Keys(*v.p))
	texts := make([]string, len(kinds))
	for i, k := range kinds {
		texts[i] = fmt.Sprintf("%v: %d", k, (*v.p)[k])
	}
	return "{" + strings.Join(texts, ", ") + "}"
}

func (v weights) grammar() string {
	return fmt.Sprintf("mapping of kinds of messages to numbers from 0 to %d", maxWeight)
}

func (v weights) schema() object {
	return object{
		"type":                 []string{"object", "null"},
		"propertyNames":        object{"enum": kindNames()},
		"additionalProperties": object{"type": "integer", "minimum": 0, "maximum": maxWeight},
	}
}

func (v weights) decode(d *decoder, path string, n *node) {
	if n.kind == scalar || n.kind == list {
		d.refuse(path, n.place, "write it in braces: {failed: 1}", "%s where kinds and weights are wanted", n.what())
		return
	}
	var res map[sshlog.Kind]int
	seen := map[string]place{}
	for _, e := range n.entries {
		kind, known := kindByName(e.key.text)
		first, twice := seen[e.key.text]
		seen[e.key.text] = e.key.place
		var weight int
		switch {
		case twice:
			d.refuse(path, e.key.place, fmt.Sprintf("keep one; the first is on line %d", first.line), "%s is there twice", quote(e.key.text))
		case !known:
			hint := "the kinds are " + strings.Join(kindNames(), ", ")
			if near := Nearest(e.key.text, kindNames()); near != "" {
				hint = "did you mean " + near + "?"
			}
			d.refuse(path, e.key.place, hint, "%s is no kind of message that can count", quote(e.key.text))
		default:
			number{p: &weight, max: maxWeight}.decode(d, path, e.value)
			if res == nil {
				res = map[sshlog.Kind]int{}
			}
			res[kind] = weight
		}
	}
	if !d.bad[path] {
		*v.p = res
	}
}

// listen is a loopback address and port, or nothing.
type listen struct{ p *netip.AddrPort }

func (v listen) text() string {
	if !v.p.IsValid() {
		return `""`
	}
	return v.p.String()
}

func (v listen) grammar() string { return "loopback address and port, or `\"\"`: nowhere" }
func (v listen) schema() object {
	return object{"type": "string", "pattern": `^((127\.[0-9.]+|\[::1\]):[0-9]{1,5})?$`}
}

func (v listen) decode(d *decoder, path string, n *node) {
	if !scalarOf(d, path, n, "an address and port", v.text()) {
		return
	}
	if n.text == "" {
		*v.p = netip.AddrPort{}
		return
	}
	a, err := netip.ParseAddrPort(n.text)
	switch {
	case err != nil || a.Port() == 0 || a.Addr().Zone() != "" || a.Addr().Is4In6():
		d.refuse(path, n.place, "write it like 127.0.0.1:9222 or [::1]:9222", "%s is no address and port", quote(n.text))
	case !a.Addr().IsLoopback():
		d.refuse(path, n.place, "write 127.0.0.1:"+strconv.Itoa(int(a.Port()))+"; to let others ask, put a proxy with a password in front", "%s can be reached from outside", a)
	default:
		*v.p = a
	}
}
