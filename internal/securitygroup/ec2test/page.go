package ec2test

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"strings"
)

// pos is where an item stands in the order of a describe.
type pos [2]uint64

func (p pos) after(q pos) bool { return p[0] > q[0] || p[0] == q[0] && p[1] > q[1] }

// limits of MaxResults.
type limits struct{ low, high int }

// usual are most describes' limits.
var usual = limits{5, 1000}

// paged writes a list with those of all that match, as many as a page holds, and the
// token of the next page.
func paged[T any](c *call, w *writer, name string, l limits, all iter.Seq2[pos, T], match func(T) bool, item func(T)) error {
	size, ok, err := c.in.number("MaxResults")
	switch {
	case err != nil:
		return err
	case !ok:
		size = l.high
	case size < l.low:
		return refuse("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value greater than or equal to %d.", size, l.low)
	case size > l.high:
		return refuse("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value less than or equal to %d.", size, l.high)
	}
	var from, last pos
	if token := c.in.get("NextToken"); token != "" {
		// The sum is of the question: a token of another one, or a broken one, has another.
		plain, err := base64.URLEncoding.DecodeString(token)
		if err == nil {
			_, err = fmt.Sscanf(string(plain), "%x.%x", &from[0], &from[1])
		}
		if err != nil || c.token(from) != token {
			return refuse("InvalidNextToken", "The specified NextToken is not valid: %q", token)
		}
	}
	n, more := 0, false
	w.in(name, func() {
		for at, one := range all {
			if !at.after(from) || !match(one) {
				continue
			}
			if n == size {
				more = true
				return
			}
			n, last = n+1, at
			w.in("item", func() { item(one) })
		}
	})
	if more {
		w.text("nextToken", c.token(last))
	}
	return nil
}

func (c *call) token(at pos) string {
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%q %q", c.action, c.place)
	for _, name := range slices.Sorted(maps.Keys(c.in.form)) {
		if name != "MaxResults" && name != "NextToken" && name != "DryRun" {
			fmt.Fprintf(sum, " %q=%q", name, c.in.form[name])
		}
	}
	return base64.URLEncoding.EncodeToString(fmt.Appendf(nil, "%x.%x.%x", at[0], at[1], sum.Sum64()))
}

// filter is a name and the values that it may have.
type filter struct {
	name   string
	values []string
}

// filters are the call's; the names that an action knows are given, "tag:" among them
// where it has tags.
func (c *call) filters(names ...string) ([]filter, error) {
	var filters []filter
	for _, n := range c.in.list("Filter") {
		f := filter{n.get("Name"), n.values("Value")}
		key, tag := strings.CutPrefix(f.name, "tag:")
		if !slices.Contains(names, f.name) && !(tag && key != "" && slices.Contains(names, "tag:")) || f.name == "tag:" {
			return nil, refuse("InvalidParameterValue", "The filter '%s' is invalid", f.name)
		}
		if len(f.values) == 0 {
			return nil, refuse("InvalidParameterValue", "The filter '%s' has no value", f.name)
		}
		if len(f.values) > 200 {
			return nil, refuse("FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200")
		}
		filters = append(filters, f)
	}
	return filters, nil
}

// match tells whether all filters have a value that one of the item's fields has.
func match(filters []filter, tags map[string]string, fields func(name string) []string) bool {
	for _, f := range filters {
		var has []string
		if key, ok := strings.CutPrefix(f.name, "tag:"); ok {
			if value, ok := tags[key]; ok {
				has = []string{value}
			}
		} else if f.name == "tag-key" {
			has = slices.Collect(maps.Keys(tags))
		} else {
			has = fields(f.name)
		}
		if !slices.ContainsFunc(has, func(v string) bool {
			return slices.ContainsFunc(f.values, func(pattern string) bool { return glob(pattern, v) })
		}) {
			return false
		}
	}
	return true
}

// glob tells whether s is what pattern says: * is anything, ? is any character, and a
// backslash takes the meaning from the next one.
func glob(pattern, s string) bool {
	if !strings.ContainsAny(pattern, `*?\`) {
		return pattern == s
	}
	p, t := []rune(pattern), []rune(s)
	i, j, star, mark := 0, 0, -1, 0
	for j < len(t) {
		step := 0
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
			continue
		case i < len(p) && p[i] == '?':
			step = 1
		case i+1 < len(p) && p[i] == '\\' && p[i+1] == t[j]:
			step = 2
		case i < len(p) && p[i] != '\\' && p[i] == t[j]:
			step = 1
		}
		if step > 0 {
			i, j = i+step, j+1
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		i, j = star+1, mark
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// wellFormed tells whether id looks like one of AWS's.
func wellFormed(id, kind string) bool {
	digits, ok := strings.CutPrefix(id, kind+"-")
	return ok && (len(digits) == 8 || len(digits) == 17) && strings.Trim(digits, "0123456789abcdef") == ""
}

// members yields the values of a map that have a place of their own.
func members[T any](all map[string]T, seq func(T) uint64) iter.Seq2[pos, T] {
	return func(yield func(pos, T) bool) {
		for _, one := range slices.SortedFunc(maps.Values(all), func(a, b T) int { return cmp.Compare(seq(a), seq(b)) }) {
			if !yield(pos{seq(one)}, one) {
				return
			}
		}
	}
}
