package fail2ban

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
)

// Bounds of what a value may become: Python's depth, and sizes that no configuration comes near.
const (
	maxDepth = 10
	maxValue = 64 << 10 // bytes
	maxSteps = 10_000   // names that are replaced in one value
)

var (
	nameInValue = regexp.MustCompile(`^%\(([^)]+)\)s`)
	elsewhere   = regexp.MustCompile(`%\(([\pL\pN_-]+)/([^)]+)\)s`)
)

// get gives an option of a section, or of [DEFAULT], with all %(...)s in it replaced. more are
// further values that it may name, before all others. ok is false where there is no such option.
func (t *tree) get(name, key string, more map[string]string) (_ option, ok bool, _ error) {
	o, ok := t.raw(name, key)
	if !ok {
		return option{}, false, nil
	}
	i := interpolation{tree: t, section: name, at: o.at, key: key}
	if err := i.some(o.text, more, 1); err != nil {
		return option{}, false, err
	}
	return option{i.res.String(), o.at}, true, nil
}

// raw is an option as it is written.
func (t *tree) raw(name, key string) (option, bool) {
	if o, ok := t.sections[name][key]; ok {
		return o, true
	}
	o, ok := t.defaults[key]
	return o, ok
}

// interpolation replaces %(...)s in one value, as configparser's BasicInterpolation with what
// fail2ban adds: %(__name__)s, %(section/option)s, %(default/option)s, %(known/option)s.
type interpolation struct {
	tree    *tree
	section string
	key     string
	at      Place
	res     strings.Builder
	steps   int
}

func (i *interpolation) fail(format string, args ...any) error {
	return &Error{
		Place: i.at, Message: fmt.Sprintf("%s of [%s]: %s", shown(i.key), shown(i.section), fmt.Sprintf(format, args...)), Hint: notStarted,
	}
}

// some adds rest to the result; more are values that it may name before all others.
func (i *interpolation) some(rest string, more map[string]string, depth int) error {
	if depth > maxDepth {
		return i.fail("it names itself, or leads more than %d steps far", maxDepth)
	}
	more = i.others(rest, more)
	for rest != "" {
		p := strings.IndexByte(rest, '%')
		if p < 0 {
			p = len(rest)
		}
		if i.res.WriteString(rest[:p]); i.res.Len() > maxValue {
			return i.fail("it becomes longer than %d bytes", maxValue)
		}
		if rest = rest[p:]; rest == "" {
			break
		}
		if strings.HasPrefix(rest, "%%") {
			i.res.WriteByte('%')
			rest = rest[2:]
			continue
		}
		m := nameInValue.FindStringSubmatch(rest)
		if m == nil {
			return i.fail("after %% there must be another %%, or (name)s: %s", quote(rest))
		}
		rest = rest[len(m[0]):]
		if i.steps++; i.steps > maxSteps {
			return i.fail("it names more than %d others", maxSteps)
		}
		text, ok := i.value(strings.ToLower(m[1]), more)
		if !ok {
			return i.fail("it names %s, which is not there", quote(m[1]))
		}
		if !strings.Contains(text, "%") {
			i.res.WriteString(text)
		} else if err := i.some(text, more, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// value is what a name stands for.
func (i *interpolation) value(name string, more map[string]string) (string, bool) {
	if name == "__name__" {
		return i.section, true
	}
	if text, ok := more[name]; ok {
		return text, true
	}
	o, ok := i.tree.raw(i.section, name)
	return o.text, ok
}

// others adds to more what rest names of other sections.
func (i *interpolation) others(rest string, more map[string]string) map[string]string {
	if !strings.Contains(rest, "/") || !strings.Contains(rest, "%(") {
		return more
	}
	var res map[string]string
	for _, m := range elsewhere.FindAllStringSubmatch(rest, -1) {
		full, name, key := m[1]+"/"+m[2], m[1], m[2]
		if _, ok := i.value(full, more); ok {
			continue
		}
		var o option
		ok := false
		switch {
		case strings.EqualFold(name, "known"):
			o, ok = i.tree.sections["KNOWN/"+i.section][key]
		case !strings.EqualFold(name, "default"):
			others, there := i.tree.sections[name]
			if !there {
				continue
			}
			o, ok = others[key]
		}
		if !ok {
			if o, ok = i.tree.defaults[key]; !ok {
				continue
			}
		}
		if res == nil {
			if res = maps.Clone(more); res == nil {
				res = map[string]string{}
			}
		}
		res[full] = o.text
	}
	if res == nil {
		return more
	}
	return res
}
