package firewall

import (
	"errors"
	"net"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"
)

// arrival is a peer and how its packets come in, as far as can be told.
type arrival struct {
	from  netip.Addr
	to    netip.Addr // our address, where there is one only; else zero
	iface string     // "": unknown
	index uint32     // 0: unknown
}

// arrivalsOf finds how peers' packets come in: by the interface that ours go out
// by, for else the answers would not find back either.
func arrivalsOf(peers []netip.Addr) ([]arrival, error) {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var only *net.Interface // the one that is up beside lo
	ups := 0
	for i, n := range interfaces {
		if n.Flags&net.FlagUp != 0 && n.Flags&net.FlagLoopback == 0 {
			only, ups = &interfaces[i], ups+1
		}
	}
	own, err := ownAddresses()
	if err != nil {
		return nil, err
	}
	list := make([]arrival, 0, len(peers))
	for _, p := range peers {
		p = p.Unmap().WithZone("")
		a := arrival{from: p, to: own[p.Is6()]}
		request := &rtnetlink.RouteMessage{Family: unix.AF_INET, DstLength: uint8(p.BitLen()), Attributes: rtnetlink.RouteAttributes{Dst: p.AsSlice()}}
		if p.Is6() {
			request.Family = unix.AF_INET6
		}
		routes, err := c.Route.Get(request)
		switch {
		case err == nil && len(routes) > 0:
			a.index = routes[0].Attributes.OutIface
		case errors.Is(err, unix.EPERM):
			return nil, err
		}
		for _, n := range interfaces {
			if uint32(n.Index) == a.index {
				a.iface = n.Name
			}
		}
		if a.iface == "" && ups == 1 {
			a.iface = only.Name
		}
		if p.IsLinkLocalUnicast() {
			a = arrival{from: p}
		}
		list = append(list, a)
	}
	return list, nil
}

// ownAddresses tells our address of IPv4 (false) and IPv6 (true), where there is
// just one that others reach.
func ownAddresses() (map[bool]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	own := make(map[bool]netip.Addr)
	count := make(map[bool]int)
	for _, n := range all {
		prefix, err := netip.ParsePrefix(n.String())
		if err != nil {
			continue
		}
		if a := prefix.Addr().Unmap(); !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			own[a.Is6()] = a
			count[a.Is6()]++
		}
	}
	for v6, n := range count {
		if n != 1 {
			delete(own, v6)
		}
	}
	return own, nil
}
