package firewall

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"go4.org/netipx"
)

// layout is all of our table but for the elements of sets that live on (bans,
// grants, rates) and what rules have counted: a plain value. desired makes the one that is
// wanted, Kernel.read reads what is held, and Kernel.write turns that into it.
type layout struct {
	table  *nftables.Table // nil: it is not there
	chains []chain
	sets   []set
}

// chain is a chain with its rules, in order. A base chain has Hooknum, Priority,
// Type and Policy; any other has none of them.
type chain struct {
	*nftables.Chain
	rules []*nftables.Rule
}

// set is a set, with its elements where these are the rules' own. An interval set
// that is fixed has no timeouts, and is never written into once a rule names it: one
// with other elements needs another name.
type set struct {
	*nftables.Set
	fixed  bool             // its elements are exactly ports or ranges; otherwise they live on
	ports  []uint16         // sorted, each once
	ranges []netipx.IPRange // of an interval set: one family, disjoint, not touching, sorted; there may be 200,000
}

// features are what this kernel can do; probed, never told from its version.
type features struct {
	intervalTimeouts bool // the kernel times elements of interval sets (4.18)
	socketWildcard   bool // `socket wildcard` (5.10, module nft_socket)
	noDynamic        bool // no bounded sets that packets fill, and that time out (they came after 4.15): neither rates nor `seen`, nor Knocks
}

// countryName names a set of countries' addresses by what is in it: equal sets
// are one, shared by all rules that need it, other ones never meet under one name,
// and which one a rule speaks of is told from its name alone. kind is "cc4" or "cc6".
func countryName(kind string, ranges []netipx.IPRange) string {
	h := sha256.New()
	var buf [32]byte
	for _, r := range ranges {
		from, to := r.From().As16(), r.To().As16()
		copy(buf[:16], from[:])
		copy(buf[16:], to[:])
		_, _ = h.Write(buf[:])
	}
	return fmt.Sprintf("%s_%.11s", kind, fmt.Sprintf("%x", h.Sum(nil))) // 15 characters
}

// split parts ranges, which are sorted with IPv4 first, by family.
func split(ranges []netipx.IPRange) (v4, v6 []netipx.IPRange) {
	n := 0
	for n < len(ranges) && ranges[n].From().Is4() {
		n++
	}
	return ranges[:n:n], ranges[n:]
}

// chain returns the chain of that name; nil where there is none.
func (l layout) chain(name string) *chain {
	return find(l.chains, func(c chain) bool { return c.Name == name })
}

// set returns the set of that name; nil where there is none.
func (l layout) set(name string) *set {
	return find(l.sets, func(s set) bool { return s.Name == name })
}

func find[T any](list []T, is func(T) bool) *T {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return &list[i]
	}
	return nil
}
