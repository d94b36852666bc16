package country

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
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
	minRanges = 100 // unless the last good data had about as few
	maxShrink = 0.40
	maxGrowth = 0.50

	// The snapshot is made from other sources than what follows it, and its IPv6 is
	// known to lack a part. With these, measured against IPFire's data of the same
	// month, 6 of 250 countries would have been refused, all small ones.
	maxShrinkSnapshotV6 = 0.80

	// What is smaller may change as it likes: an island's /20.
	fewAddresses = 1 << 16
	fewNetworks  = 1 << 32 // of /64: a /32
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
	if !n.Force {
		for _, code := range slices.Concat(n.Allow, n.Deny) {
			if err := compareCodes(code.String(), last, fresh, []Code{code}, []Code{code}); err != nil {
				return err
			}
		}
		if len(n.Allow)+len(n.Deny) == 0 {
			if err := compareCodes("all countries together", last, fresh, last.Codes(), fresh.Codes()); err != nil {
				return err
			}
		}
	}
	return n.keeps(last, fresh)
}

func compareCodes(name string, last, fresh *Data, codesBefore, codesAfter []Code) error {
	before, err := last.Set(codesBefore...)
	if err != nil {
		return err
	}
	after, err := fresh.Set(codesAfter...)
	if err != nil {
		return err
	}
	return compare(name, before, after, last.Embedded)
}

// compare bounds what may become of a set.
func compare(name string, before, after prefixset.Set, snapshot bool) error {
	rangesBefore, rangesAfter := len(before.Ranges()), len(after.Ranges())
	v4Before, v6Before := before.Size()
	v4After, v6After := after.Size()
	switch {
	case rangesAfter == 0:
		return refused("%s: there is no address in it", name)
	case rangesAfter < minRanges && float64(rangesAfter) < (1-maxShrink)*float64(rangesBefore):
		return refused("%s: too few ranges (%d, before %d)", name, rangesAfter, rangesBefore)
	}
	if err := bounded(name, "IPv4 addresses", v4Before, v4After, fewAddresses, maxShrink, maxGrowth); err != nil {
		return err
	}
	shrink, growth := maxShrink, maxGrowth
	if snapshot {
		shrink, growth = maxShrinkSnapshotV6, math.Inf(1)
	}
	return bounded(name, "IPv6 networks (/64)", v6Before, v6After, fewNetworks, shrink, growth)
}

// bounded holds a change to shrink and growth, where there are more than few.
func bounded(name, what string, before, after, few uint64, shrink, growth float64) error {
	change := float64(after)/float64(max(before, 1)) - 1
	switch {
	case change < -shrink && before > few:
		return refused("%s: %.0f %% fewer %s (%d, before %d); at most %.0f %% are believed", name, -change*100, what, after, before, shrink*100)
	case change > growth && before > 0 && after > few:
		return refused("%s: %.0f %% more %s (%d, before %d); at most %.0f %% are believed", name, change*100, what, after, before, growth*100)
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
