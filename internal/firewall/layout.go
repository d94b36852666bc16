package firewall

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// layout is all of our table but for the elements of sets that live on (bans,
// grants, rates): a plain value. desired makes the one that is wanted, Kernel.layout
// reads the one that is there, and Kernel.write turns one into the other.
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

// drift says in which ways have is not want, in words for people; nothing when it
// is. Each is also what Intact reports as missing.
func drift(have, want layout) (missing []string) {
	miss := func(format string, args ...any) { missing = append(missing, fmt.Sprintf(format, args...)) }
	if have.table == nil {
		return []string{"table inet " + tableName}
	}
	if have.table.Flags != want.table.Flags {
		miss("table inet %s has other flags", tableName)
	}
	for _, w := range want.chains {
		switch h := have.chain(w.Name); {
		case h == nil:
			miss("chain %s", w.Name)
		case !sameChain(h.Chain, w.Chain):
			miss("chain %s is another", w.Name)
		}
	}
	for _, w := range want.sets {
		switch h := have.set(w.Name); {
		case h == nil:
			miss("set %s", w.Name)
		case !sameSet(h.Set, w.Set):
			miss("set %s is another", w.Name)
		}
	}
	for _, h := range have.chains {
		if want.chain(h.Name) == nil {
			miss("chain %s is not ours", h.Name)
		}
	}
	for _, h := range have.sets {
		if want.set(h.Name) == nil {
			miss("set %s is not ours", h.Name)
		}
	}
	for _, w := range want.chains {
		if h := have.chain(w.Name); h == nil || !slices.EqualFunc(h.rules, w.rules, sameRule) {
			miss("rules of chain %s", w.Name)
		}
	}
	for _, w := range want.sets {
		if h := have.set(w.Name); w.fixed && (h == nil || !slices.Equal(h.ports, w.ports)) {
			miss("elements of set %s", w.Name)
		}
	}
	return missing
}

func find[T any](list []T, is func(T) bool) *T {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return &list[i]
	}
	return nil
}

func sameChain(a, b *nftables.Chain) bool {
	return a.Hooknum != nil && a.Priority != nil && *a.Hooknum == *b.Hooknum && *a.Priority == *b.Priority &&
		a.Type == b.Type && a.Policy != nil && *a.Policy == *b.Policy
}

func sameSet(a, b *nftables.Set) bool {
	return a.KeyType == b.KeyType && a.Interval == b.Interval && a.HasTimeout == b.HasTimeout &&
		a.Timeout == b.Timeout && a.Size == b.Size && a.Dynamic == b.Dynamic && !a.IsMap && !a.Constant && !a.Concatenation
}

func sameRule(a, b *nftables.Rule) bool {
	return bytes.Equal(a.UserData, b.UserData) && slices.EqualFunc(readable(a), readable(b), func(a, b expr.Any) bool {
		x, errX := expr.Marshal(unix.NFPROTO_INET, still(a))
		y, errY := expr.Marshal(unix.NFPROTO_INET, still(b))
		return errX == nil && errY == nil && bytes.Equal(x, y)
	})
}

// readable are the expressions of r but for those that the library writes only.
func readable(r *nftables.Rule) []expr.Any {
	return slices.DeleteFunc(slices.Clone(r.Exprs), func(e expr.Any) bool {
		_, ok := e.(*expr.Socket)
		return ok
	})
}

// still is e without what the kernel changes by itself.
func still(e expr.Any) expr.Any {
	switch e := e.(type) {
	case *expr.Counter:
		return &expr.Counter{}
	case *expr.Lookup:
		l := *e
		l.SetID = 0 // means something within its transaction only
		return &l
	}
	return e
}
