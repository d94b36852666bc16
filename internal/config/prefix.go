package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParsePrefix reads an address (203.0.113.7) or a prefix (2001:db8::/48) as the
// configuration and the command line do: canonical, without zones, never
// v4-mapped. An address is the prefix of that one host. A mistake comes with a
// hint.
func ParsePrefix(s string) (_ netip.Prefix, hint string, _ error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return netip.Prefix{}, "write an address (203.0.113.7, 2001:db8::1) or a prefix (203.0.113.0/24); a name can be turned elsewhere by whoever runs its DNS",
				fmt.Errorf("%s is no address or prefix", quote(s))
		case a.Zone() != "":
			return netip.Prefix{}, "write " + a.WithZone("").String() + "; a zone says nothing about a peer", fmt.Errorf("%s has a zone", quote(s))
		case a.Is4In6():
			return netip.Prefix{}, "write " + a.Unmap().String(), fmt.Errorf("%s is an IPv4 address written as IPv6", quote(s))
		}
		return netip.PrefixFrom(a, a.BitLen()), "", nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, "write a prefix as 203.0.113.0/24 or 2001:db8::/48", fmt.Errorf("%s is no prefix", quote(s))
	case p.Addr().Is4In6():
		return netip.Prefix{}, "write it as IPv4", fmt.Errorf("%s is an IPv4 prefix written as IPv6", quote(s))
	case p != p.Masked():
		return netip.Prefix{}, fmt.Sprintf("write %s for the network, or %s for the one address", p.Masked(), p.Addr()),
			fmt.Errorf("%s has bits set beyond its /%d", quote(s), p.Bits())
	}
	return p, "", nil
}

// tooWide reports whether p, as an exception, would exempt so much that there is
// no guard left. No one holds more than a /8 of IPv4 or a /16 of public IPv6.
func tooWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 8
	}
	local := p.Addr().IsPrivate() && p.Bits() >= 7 || p.Addr().IsLinkLocalUnicast() && p.Bits() >= 10
	return p.Bits() < 16 && !local
}
