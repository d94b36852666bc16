package config

import (
	"fmt"
	"net/netip"
	"slices"
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

// prefixes is a list of addresses and prefixes that are excepted from something,
// none within another.
type prefixes struct{ p *[]netip.Prefix }

func (v prefixes) text() string    { return flow(*v.p, netip.Prefix.String) }
func (v prefixes) grammar() string { return "list of addresses and prefixes" }
func (v prefixes) schema() object {
	return object{"type": []string{"array", "null"}, "items": prefixSchema()}
}

func prefixSchema() object {
	return object{"type": "string", "pattern": `^[0-9a-fA-F:.]+(/[0-9]{1,3})?$`}
}

func (v prefixes) decode(d *decoder, path string, n *node) {
	var res []placedPrefix
	for _, p := range prefixesOf(d, path, n) {
		if tooWide(p.Prefix) {
			d.refuse(path, p.at, "to decide and tell but never ban, set guard.enforce: no", "%s would switch the guard off for too much of the internet", p.Prefix)
			continue
		}
		res = append(res, p)
	}
	apart(d, path, res)
	if !d.bad[path] {
		*v.p = plainPrefixes(res)
	}
}

type placedPrefix struct {
	netip.Prefix
	at place
}

// prefixesOf reads a list of prefixes, in the file's order.
func prefixesOf(d *decoder, path string, n *node) []placedPrefix {
	var res []placedPrefix
	for _, item := range itemsOf(d, path, n, "203.0.113.7, 2001:db8::/48") {
		if !scalarOf(d, path, item, "an address or prefix", "") {
			continue
		}
		p, hint, err := ParsePrefix(item.text)
		if err != nil {
			d.refuse(path, item.place, hint, "%v", err)
			continue
		}
		res = append(res, placedPrefix{p, item.place})
	}
	return res
}

// apart refuses each of ps that is within another of them: of two that are the
// same, the latter. What says a thing twice is changed once, and half of it stays.
func apart(d *decoder, path string, ps []placedPrefix) {
	byPrefix := slices.Clone(ps)
	slices.SortStableFunc(byPrefix, func(a, b placedPrefix) int { return a.Compare(b.Prefix) })
	for i, cover := 1, 0; i < len(byPrefix); i++ {
		p, wide := byPrefix[i], byPrefix[cover]
		switch {
		case !wide.Contains(p.Addr()):
			cover = i
		case p.Prefix == wide.Prefix:
			d.refuse(path, p.at, fmt.Sprintf("keep one; the first is on line %d", wide.at.line), "%s is there twice", p.Prefix)
		default:
			d.refuse(path, p.at, fmt.Sprintf("leave one of them out; %s is on line %d", wide.Prefix, wide.at.line), "%s is within %s", p.Prefix, wide.Prefix)
		}
	}
}

func plainPrefixes(ps []placedPrefix) []netip.Prefix {
	var res []netip.Prefix
	for _, p := range ps {
		res = append(res, p.Prefix)
	}
	return res
}
