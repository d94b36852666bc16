package rdap

import (
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
)

// special are the networks that nobody on the internet has, or that lead to
// somebody else than they name (IANA's special-purpose address registries).
func special() []netip.Prefix {
	return prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
		"2001::/23", "2002::/16")
}

// documentation are those that stand for real ones in texts and tests (RFC 5737, 3849, 9637).
func documentation() []netip.Prefix {
	return prefixes("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")
}

// global is all that is given out of IPv6.
func global() netip.Prefix { return netip.MustParsePrefix("2000::/3") }

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// isPublic reports whether a, which is plain, is an address that somebody on the internet has.
func isPublic(a netip.Addr) bool {
	return isGivenOut(a) && !isIn(documentation(), a)
}

// isGivenOut is isPublic, with what is for documentation.
func isGivenOut(a netip.Addr) bool {
	return a.IsGlobalUnicast() && (a.Is4() || global().Contains(a)) && !isIn(special(), a)
}

func isIn(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// plain is a without what names the same address otherwise.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// isHolding reports whether p is a network that one party may hold, and that has a. What is wider than
// any such is a registry's own stock: "IANA-BLK", 0.0.0.0/0.
func isHolding(p netip.Prefix, a netip.Addr) bool {
	widest := 12
	if a.Is4() {
		widest = 8
	}
	return p.IsValid() && p.Bits() >= widest && p.Contains(a)
}

// partWith is the largest prefix in the range that has a; not valid where none has.
func partWith(first, last, a netip.Addr) netip.Prefix {
	r := netipx.IPRangeFrom(plain(first), plain(last))
	if !r.IsValid() || !r.Contains(a) {
		return netip.Prefix{}
	}
	for _, p := range r.Prefixes() {
		if p.Contains(a) {
			return p
		}
	}
	return netip.Prefix{}
}

// networkWith reads a network as WHOIS servers write it, and is its part that has a; not valid where
// none has: "192.0.2.0 - 192.0.2.255", "192.0.2.0-192.0.2.255 (/24)", "2001:db8::/32", LACNIC's "200.3.12/22".
func networkWith(text string, a netip.Addr) netip.Prefix {
	text, _, _ = strings.Cut(text, "(")
	if first, last, ok := strings.Cut(text, "-"); ok {
		from, err := netip.ParseAddr(strings.TrimSpace(first))
		if err != nil {
			return netip.Prefix{}
		}
		to, err := netip.ParseAddr(strings.TrimSpace(last))
		if err != nil {
			return netip.Prefix{}
		}
		return partWith(from, to, a)
	}
	text = strings.TrimSpace(text)
	if bytes, bits, ok := strings.Cut(text, "/"); ok && !strings.Contains(bytes, ":") {
		if missing := 3 - strings.Count(bytes, "."); missing > 0 {
			text = bytes + strings.Repeat(".0", missing) + "/" + bits
		}
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() || !p.Contains(a) {
		return netip.Prefix{}
	}
	return p.Masked()
}
