package rdap

import (
	"net/netip"
	"strings"

	"go4.org/netipx"

	"sekisho/internal/special"
)

// isPublic reports whether a is an address that somebody on the internet has.
func isPublic(a netip.Addr) bool { return isGivenOut(a) && !special.IsDocumentation(a) }

// isGivenOut is isPublic, with what is for documentation.
func isGivenOut(a netip.Addr) bool { return !special.IsNobodys(a) }

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
