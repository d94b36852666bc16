// Package special owns which addresses are nobody's: IANA's special-purpose address
// registries (RFC 6890), and what it gives to nobody. A value package: anything may import it.
package special

import (
	"net/netip"
	"slices"
)

// Networks are those that nobody on the internet has, or that lead to somebody else than
// they name, as relays do. They are disjoint, in order, IPv4 before IPv6. What is for
// documentation is not among them.
func Networks() []netip.Prefix {
	return prefixes(
		"0.0.0.0/8", "10.0.0.0/8",
		"100.64.0.0/10", // behind a carrier's NAT
		"127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.88.99.0/24", // 6to4's relays
		"192.168.0.0/16",
		"198.18.0.0/15", // benchmarks; also the made-up addresses of some proxies
		"224.0.0.0/3",
		"::/3",      // all that is given out of IPv6 is in 2000::/3
		"2001::/23", // protocols, such as Teredo
		"2002::/16", // 6to4
		"4000::/2", "8000::/1",
	)
}

// Documentation are the networks that stand for real ones in texts and tests (RFC 5737,
// 3849, 9637), as Networks are.
func Documentation() []netip.Prefix {
	return prefixes("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")
}

// IsNobodys reports whether a is in one of Networks, or no address. An IPv4 address in
// IPv6's form is IPv4; a zone does not count.
func IsNobodys(a netip.Addr) bool { return !a.IsValid() || isIn(Networks(), a) }

// IsDocumentation is IsNobodys for Documentation; no address is not.
func IsDocumentation(a netip.Addr) bool { return isIn(Documentation(), a) }

func isIn(all []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}
