package country

import (
	"fmt"
	"net/netip"
	"strings"

	"sekisho/internal/prefixset"
)

// Needs is what new data must meet to take the place of the last good data.
type Needs struct {
	Allow []Code       // the countries that are let in; none: everybody is
	Deny  []Code       // the countries that are not
	Keep  []netip.Addr // who is let in now must stay so: live administrators, sources of recent logins
	Force bool         // leave the size out of account
}

// Bounds of what may change from one day to the next: registries hand over a few
// addresses a day; a file that was cut off, or was filled by somebody else, changes
// by much more.
const (
	minRanges    = 100     // unless the last good data had fewer
	minAddresses = 1 << 16 // IPv4, likewise
	maxShrink    = 0.40
	maxGrowth    = 0.50
)

// RefusedError says why data was not accepted. What was there before still is.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "the new country data is refused: " + e.Reason }

func refused(format string, args ...any) error {
	return &RefusedError{fmt.Sprintf(format, args...)}
}

// check says why fresh must not take last's place; nil if it may. Without
// countries in Allow and Deny all of the data is looked at as one.
func (n Needs) check(last, fresh *Data) error {
	groups := make(map[string][2]prefixset.Set)
	for _, code := range append(append([]Code(nil), n.Allow...), n.Deny...) {
		before, after, err := sets(last, fresh, []Code{code})
		if err != nil {
			return err
		}
		groups[code.String()] = [2]prefixset.Set{before, after}
	}
	if len(groups) == 0 {
		before, err := last.Set(last.Codes()...)
		if err != nil {
			return err
		}
		after, err := fresh.Set(fresh.Codes()...)
		if err != nil {
			return err
		}
		groups["all countries together"] = [2]prefixset.Set{before, after}
	}
	if !n.Force {
		for name, group := range groups {
			if err := compare(name, group[0], group[1], last.Embedded); err != nil {
				return err
			}
		}
	}
	return n.keeps(last, fresh)
}

func sets(last, fresh *Data, codes []Code) (before, after prefixset.Set, err error) {
	if before, err = last.Set(codes...); err != nil {
		return
	}
	after, err = fresh.Set(codes...)
	return
}

// compare bounds what may become of a set. The embedded snapshot's IPv6 is known
// to lack a part, so that any growth over it is right.
func compare(name string, before, after prefixset.Set, embedded bool) error {
	rangesBefore, rangesAfter := len(before.Ranges()), len(after.Ranges())
	v4Before, v6Before := before.Size()
	v4After, v6After := after.Size()
	switch {
	case rangesAfter == 0:
		return refused("%s: there is no address in it", name)
	case rangesAfter < minRanges && rangesAfter < rangesBefore:
		return refused("%s: too few ranges (%d, before %d)", name, rangesAfter, rangesBefore)
	case v4After < minAddresses && v4After < v4Before:
		return refused("%s: too few IPv4 addresses (%d, before %d)", name, v4After, v4Before)
	}
	if err := bounded(name, "IPv4 addresses", v4Before, v4After, false); err != nil {
		return err
	}
	return bounded(name, "IPv6 networks (/64)", v6Before, v6After, embedded)
}

func bounded(name, what string, before, after uint64, mayGrow bool) error {
	if before == 0 {
		return nil
	}
	switch change := float64(after)/float64(before) - 1; {
	case change < -maxShrink:
		return refused("%s: %.0f %% fewer %s (%d, before %d); at most %.0f %% are believed", name, -change*100, what, after, before, maxShrink*100)
	case change > maxGrowth && !mayGrow:
		return refused("%s: %.0f %% more %s (%d, before %d); at most %.0f %% are believed", name, change*100, what, after, before, maxGrowth*100)
	}
	return nil
}

// keeps finds those of Keep whom last lets in and fresh does not.
func (n Needs) keeps(last, fresh *Data) error {
	if len(n.Keep) == 0 {
		return nil
	}
	before, err := n.admits(last)
	if err != nil {
		return err
	}
	after, err := n.admits(fresh)
	if err != nil {
		return err
	}
	var lost []string
	for _, a := range n.Keep {
		if before(a) && !after(a) {
			lost = append(lost, a.Unmap().String())
		}
	}
	if len(lost) == 0 {
		return nil
	}
	more := ""
	if len(lost) > 5 {
		more = fmt.Sprintf(" and %d more", len(lost)-5)
		lost = lost[:5]
	}
	return refused("it would lock out %s%s, who logged in lately", strings.Join(lost, ", "), more)
}

// admits is whom the countries of d let in.
func (n Needs) admits(d *Data) (func(netip.Addr) bool, error) {
	allow, err := d.Set(n.Allow...)
	if err != nil {
		return nil, err
	}
	deny, err := d.Set(n.Deny...)
	if err != nil {
		return nil, err
	}
	return func(a netip.Addr) bool {
		return (len(n.Allow) == 0 || allow.Contains(a)) && !deny.Contains(a)
	}, nil
}
