// Package prefixset owns canonical sets of addresses: whatever they were made
// from, equal sets hold the same ranges, disjoint, never adjacent, in order, IPv4
// before IPv6. A value package: anything above may import it.
package prefixset

import (
	"fmt"
	"math/bits"
	"net/netip"

	"go4.org/netipx"
)

// Set is a set of addresses. Its zero value is empty. It is never changed, and
// safe for concurrent use.
type Set struct{ ips *netipx.IPSet }

// Of is the set of the addresses in prefixes. A prefix that is invalid, has bits
// set behind its length, or is an IPv4 one written as IPv6 is an error.
func Of(prefixes ...netip.Prefix) (Set, error) {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		switch {
		case !p.IsValid():
			return Set{}, fmt.Errorf("an invalid prefix")
		case p != p.Masked():
			return Set{}, fmt.Errorf("%s has bits set behind its length", p)
		case p.Addr().Is4In6():
			return Set{}, fmt.Errorf("%s is IPv4, written as IPv6", p)
		}
		b.AddPrefix(p)
	}
	return build(&b), nil
}

// OfRanges is the set of the addresses in ranges. A range that is invalid, or is
// an IPv4 one written as IPv6, is an error.
func OfRanges(ranges ...netipx.IPRange) (Set, error) {
	var b netipx.IPSetBuilder
	for _, r := range ranges {
		switch {
		case !r.IsValid():
			return Set{}, fmt.Errorf("%s-%s is not a range of addresses", r.From(), r.To())
		case r.From().Is4In6() || r.To().Is4In6():
			return Set{}, fmt.Errorf("%s is IPv4, written as IPv6", r)
		}
		b.AddRange(r)
	}
	return build(&b), nil
}

// build ends b, to which nothing invalid was added.
func build(b *netipx.IPSetBuilder) Set {
	ips, err := b.IPSet()
	if err != nil {
		panic("prefixset: " + err.Error())
	}
	return Set{ips}
}

// get is s' addresses, also of the zero value.
func (s Set) get() *netipx.IPSet {
	if s.ips == nil {
		return new(netipx.IPSet)
	}
	return s.ips
}

// Union is what is in s or in t.
func (s Set) Union(t Set) Set {
	var b netipx.IPSetBuilder
	b.AddSet(s.get())
	b.AddSet(t.get())
	return build(&b)
}

// Difference is what is in s and not in t.
func (s Set) Difference(t Set) Set {
	var b netipx.IPSetBuilder
	b.AddSet(s.get())
	b.RemoveSet(t.get())
	return build(&b)
}

// Contains says whether a is in s. An IPv4 address written as IPv6 is looked for
// as IPv4; a zone is left out of account.
func (s Set) Contains(a netip.Addr) bool {
	return a.IsValid() && s.get().Contains(a.Unmap().WithZone(""))
}

// ContainsPrefix says whether all of p is in s.
func (s Set) ContainsPrefix(p netip.Prefix) bool {
	return p.IsValid() && s.get().ContainsPrefix(p.Masked())
}

// Equal says whether s and t hold the same addresses.
func (s Set) Equal(t Set) bool { return s.get().Equal(t.get()) }

// IsEmpty says whether s holds no address.
func (s Set) IsEmpty() bool { return len(s.get().Ranges()) == 0 }

// Ranges are the fewest ranges that s consists of, in order. The slice is the
// caller's.
func (s Set) Ranges() []netipx.IPRange { return s.get().Ranges() }

// Prefixes are the fewest prefixes that s consists of, in order. The slice is the
// caller's.
func (s Set) Prefixes() []netip.Prefix { return s.get().Prefixes() }

// Size is how much s holds: IPv4 addresses, and IPv6 networks of 64 bits (begun
// ones count; all of IPv6 counts as the greatest number).
func (s Set) Size() (v4 uint64, v6Nets uint64) {
	for _, r := range s.get().Ranges() {
		if r.From().Is4() {
			v4 += uint64(v4Number(r.To())-v4Number(r.From())) + 1
			continue
		}
		n, over := bits.Add64(upperHalf(r.To())-upperHalf(r.From()), 1, 0)
		if over == 0 {
			n, over = bits.Add64(v6Nets, n, 0)
		}
		if v6Nets = n; over != 0 {
			v6Nets = ^uint64(0)
		}
	}
	return v4, v6Nets
}

func v4Number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func upperHalf(a netip.Addr) (n uint64) {
	b := a.As16()
	for _, x := range b[:8] {
		n = n<<8 | uint64(x)
	}
	return n
}
