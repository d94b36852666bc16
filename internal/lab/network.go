package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The plan of addresses. The world owns every address of the prefixes below:
// any of them can be dialled from.
var (
	Host4    = netip.MustParseAddr("192.0.2.1")
	Host6    = netip.MustParseAddr("2001:db8:a::1")
	Gateway4 = netip.MustParseAddr("192.0.2.2")
	Gateway6 = netip.MustParseAddr("2001:db8:a::2")
	Admin4   = netip.MustParseAddr("192.0.2.10")
	Admin6   = netip.MustParseAddr("2001:db8:a::10")

	Attackers4 = netip.MustParsePrefix("198.18.0.0/15")
	Others4    = netip.MustParsePrefix("203.0.113.0/24")
	People4    = netip.MustParsePrefix("198.51.100.0/24")
	Attackers6 = netip.MustParsePrefix("2001:db8:bad::/48")
	People6    = netip.MustParsePrefix("2001:db8:b::/48")
)

// Network is two namespaces joined by a veth pair: the host, and the world,
// which is the host's default gateway and holds everybody else. See Own for
// addresses beyond those above.
type Network struct {
	Host  *Namespace
	World *Namespace
	IPv6  bool // false where the kernel has none
}

// Device is the name of the veth device on either side.
const Device = "lab0"

// NewNetwork makes the namespaces and everything in them.
func NewNetwork() (_ *Network, err error) {
	n := &Network{}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	if n.Host, err = NewNamespace(); err != nil {
		return nil, err
	}
	if n.World, err = NewNamespace(); err != nil {
		return nil, err
	}
	_, err = os.Stat("/proc/net/if_inet6")
	n.IPv6 = err == nil
	for _, ns := range []*Namespace{n.Host, n.World} {
		if err := ns.Do(n.sysctls); err != nil {
			return nil, fmt.Errorf("prepare a network namespace: %w", err)
		}
	}
	if err := n.wire(); err != nil {
		return nil, fmt.Errorf("wire the network: %w", err)
	}
	return n, nil
}

// Close lets go of both namespaces.
func (n *Network) Close() error {
	var errs []error
	for _, ns := range []*Namespace{n.Host, n.World} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}

// sysctls sets what must hold before there are devices. A value that is not
// there or cannot be written is of an older kernel or a default already.
func (n *Network) sysctls() error {
	for _, s := range []struct{ name, value string }{
		{"ipv6/conf/default/accept_dad", "0"}, // an address is usable at once
		{"ipv6/conf/all/disable_ipv6", "0"},
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/ip_nonlocal_bind", "1"},
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/tcp_tw_reuse", "1"},
		{"core/somaxconn", "4096"}, // thousands knock at once
		{"ipv4/tcp_max_syn_backlog", "8192"},
		{"unix/max_dgram_qlen", "512"}, // /dev/log
	} {
		_ = os.WriteFile("/proc/sys/net/"+s.name, []byte(s.value), 0)
	}
	return nil
}

func (n *Network) wire() error {
	host, err := rtnetlink.Dial(&netlink.Config{NetNS: n.Host.FD()})
	if err != nil {
		return err
	}
	defer host.Close()
	world, err := rtnetlink.Dial(&netlink.Config{NetNS: n.World.FD()})
	if err != nil {
		return err
	}
	defer world.Close()

	err = host.Link.New(&rtnetlink.LinkMessage{
		Attributes: &rtnetlink.LinkAttributes{
			Name: Device,
			Info: &rtnetlink.LinkInfo{Kind: "veth", Data: &driver.Veth{PeerInfo: &rtnetlink.LinkMessage{
				Attributes: &rtnetlink.LinkAttributes{
					Name:  Device,
					NetNS: rtnetlink.NetNSForFD(uint32(n.World.FD())),
				},
			}}},
		},
	})
	if err != nil {
		return fmt.Errorf("make the veth pair: %w", err)
	}
	hostSide := side{conn: host, addrs: []netip.Prefix{prefix(Host4, 24)}, gateways: []netip.Addr{Gateway4}}
	worldSide := side{
		conn:  world,
		addrs: []netip.Prefix{prefix(Gateway4, 24), prefix(Admin4, 32)},
		owned: []netip.Prefix{Attackers4, Others4, People4},
	}
	if n.IPv6 {
		hostSide.addrs = append(hostSide.addrs, prefix(Host6, 64))
		hostSide.gateways = append(hostSide.gateways, Gateway6)
		worldSide.addrs = append(worldSide.addrs, prefix(Gateway6, 64), prefix(Admin6, 128))
		worldSide.owned = append(worldSide.owned, Attackers6, People6)
	}
	if err := worldSide.configure(); err != nil {
		return fmt.Errorf("the world's side: %w", err)
	}
	if err := hostSide.configure(); err != nil {
		return fmt.Errorf("the host's side: %w", err)
	}
	return nil
}

// Own gives the world every address of more prefixes: any of them can be dialled
// from. They stay in the namespaces, also where they are somebody's on the internet.
func (n *Network) Own(prefixes ...netip.Prefix) error {
	world, err := rtnetlink.Dial(&netlink.Config{NetNS: n.World.FD()})
	if err != nil {
		return err
	}
	defer world.Close()
	return side{conn: world, owned: prefixes}.configure()
}

// Serve gives the host every address of more prefixes: whatever listens on all addresses
// there answers at each of them.
func (n *Network) Serve(prefixes ...netip.Prefix) error {
	host, err := rtnetlink.Dial(&netlink.Config{NetNS: n.Host.FD()})
	if err != nil {
		return err
	}
	defer host.Close()
	world, err := rtnetlink.Dial(&netlink.Config{NetNS: n.World.FD()})
	if err != nil {
		return err
	}
	defer world.Close()
	if err := (side{conn: host, owned: prefixes}).configure(); err != nil {
		return fmt.Errorf("the host's side: %w", err)
	}
	// By way of the host: nobody answers for such an address who is asked for its link.
	if err := (side{conn: world, behind: prefixes}).configure(); err != nil {
		return fmt.Errorf("the world's side: %w", err)
	}
	return nil
}

func prefix(a netip.Addr, bits int) netip.Prefix { return netip.PrefixFrom(a, bits) }

// side is one namespace's share of the wiring.
type side struct {
	conn     *rtnetlink.Conn
	addrs    []netip.Prefix // of the veth device
	gateways []netip.Addr   // of the default routes
	owned    []netip.Prefix // every address in them is the namespace's own ("AnyIP")
	behind   []netip.Prefix // reached by way of the host
}

func (s side) configure() error {
	links, err := s.conn.Link.List()
	if err != nil {
		return err
	}
	var loopback, device uint32
	for _, l := range links {
		switch l.Attributes.Name {
		case "lo":
			loopback = l.Index
		case Device:
			device = l.Index
		default: // such as tunl0: modules make devices in every namespace
			continue
		}
		err := s.conn.Link.Set(&rtnetlink.LinkMessage{Index: l.Index, Flags: unix.IFF_UP, Change: unix.IFF_UP})
		if err != nil {
			return fmt.Errorf("bring up %s: %w", l.Attributes.Name, err)
		}
	}
	for _, p := range s.addrs {
		err := s.conn.Address.New(&rtnetlink.AddressMessage{
			Family:       family(p.Addr()),
			PrefixLength: uint8(p.Bits()),
			Flags:        unix.IFA_F_NODAD,
			Index:        device,
			Attributes:   &rtnetlink.AddressAttributes{Address: ip(p.Addr()), Local: ip(p.Addr())},
		})
		if err != nil {
			return fmt.Errorf("add address %s: %w", p, err)
		}
	}
	for _, a := range s.gateways {
		err := s.route(rtnetlink.RouteMessage{
			Family: family(a),
			Type:   unix.RTN_UNICAST,
			Attributes: rtnetlink.RouteAttributes{
				Table: unix.RT_TABLE_MAIN, Gateway: ip(a), OutIface: device,
			},
		})
		if err != nil {
			return fmt.Errorf("add a default route by %s: %w", a, err)
		}
	}
	for _, p := range s.behind {
		via := Host4
		if p.Addr().Is6() {
			via = Host6
		}
		err := s.route(rtnetlink.RouteMessage{
			Family:    family(p.Addr()),
			DstLength: uint8(p.Bits()),
			Type:      unix.RTN_UNICAST,
			Attributes: rtnetlink.RouteAttributes{
				Table: unix.RT_TABLE_MAIN, Dst: ip(p.Addr()), Gateway: ip(via), OutIface: device,
			},
		})
		if err != nil {
			return fmt.Errorf("add a route to %s by %s: %w", p, via, err)
		}
	}
	for _, p := range s.owned {
		err := s.route(rtnetlink.RouteMessage{
			Family:    family(p.Addr()),
			DstLength: uint8(p.Bits()),
			Type:      unix.RTN_LOCAL,
			Scope:     unix.RT_SCOPE_HOST,
			Attributes: rtnetlink.RouteAttributes{
				Table: unix.RT_TABLE_LOCAL, Dst: ip(p.Addr()), OutIface: loopback,
			},
		})
		if err != nil {
			return fmt.Errorf("own %s: %w", p, err)
		}
	}
	return nil
}

func (s side) route(m rtnetlink.RouteMessage) error {
	m.Table = uint8(m.Attributes.Table)
	m.Protocol = unix.RTPROT_STATIC
	return s.conn.Route.Add(&m)
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func ip(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }
