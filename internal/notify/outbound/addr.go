package outbound

import (
	"fmt"
	"net/netip"
	"slices"

	"sekisho/internal/special"
)

// metadata are where clouds give out credentials to whoever asks from the machine: nobody has a
// webhook there, so that no list of private networks lets one in.
func metadata() []netip.Addr {
	var all []netip.Addr
	for _, s := range []string{
		"169.254.169.254", // AWS, Google, Azure, OpenStack and their kin
		"169.254.170.2",   // ECS
		"169.254.170.23",  // EKS
		"fd00:ec2::254",   // AWS
		"fd00:ec2::23",    // EKS
		"fd20:ce::254",    // Google
		"100.100.100.200", // Alibaba
		"168.63.129.16",   // Azure's wire server, in public address space
		"192.0.0.192",     // Oracle, classic
	} {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// Check says whether a connection may be made to an address, and why not: it is public, or
// within private. An IPv4 address in the form of IPv6 is what it is, as is one that a NAT64
// leads to (RFC 6052's 64:ff9b::/96). Addresses of metadata services are refused always.
func Check(a netip.Addr, private []netip.Prefix) error {
	if a.Zone() != "" {
		return fmt.Errorf("%s is a link-local address", a)
	}
	whole := a.Unmap()
	a = whole
	if nat64 := netip.MustParsePrefix("64:ff9b::/96"); nat64.Contains(whole) {
		b := whole.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	within := func(p netip.Prefix) bool { return p.Contains(a) || p.Contains(whole) }
	switch {
	case !a.IsValid():
		return fmt.Errorf("there is no address")
	case slices.Contains(metadata(), a):
		return fmt.Errorf("%s is a cloud's metadata service", whole)
	case slices.ContainsFunc(private, within):
		return nil
	case special.IsNobodys(a), special.IsDocumentation(a):
		return fmt.Errorf("%s is not a public address", whole)
	}
	return nil
}
