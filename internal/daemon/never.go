package daemon

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strings"
)

// ownAddresses are this host's own addresses and its gateways: they are never
// banned. What cannot be read is left out; a later refresh finds it.
func ownAddresses() []netip.Prefix {
	var own []netip.Prefix
	add := func(a netip.Addr) {
		a = a.Unmap().WithZone("")
		if a.IsValid() && !a.IsUnspecified() {
			own = append(own, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if ipnet, ok := a.(*net.IPNet); ok {
				if addr, ok := netip.AddrFromSlice(ipnet.IP); ok {
					add(addr)
				}
			}
		}
	}
	for _, gateway := range gateways("/proc/net/route", "/proc/net/ipv6_route") {
		add(gateway)
	}
	return own
}

// gateways reads the default routes' next hops from the kernel's route files
// (Documentation/networking/proc_net: fields are hexadecimal, IPv4 in host order).
func gateways(v4, v6 string) []netip.Addr {
	var found []netip.Addr
	eachFields(v4, func(f []string) {
		if len(f) < 3 || f[1] != "00000000" {
			return
		}
		if b, err := hex.DecodeString(f[2]); err == nil && len(b) == 4 {
			var a [4]byte
			binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(b))
			found = append(found, netip.AddrFrom4(a))
		}
	})
	eachFields(v6, func(f []string) {
		if len(f) < 5 || f[0] != strings.Repeat("0", 32) || f[1] != "00" {
			return
		}
		if b, err := hex.DecodeString(f[4]); err == nil && len(b) == 16 {
			found = append(found, netip.AddrFrom16([16]byte(b)))
		}
	})
	return found
}

func eachFields(path string, yield func([]string)) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		yield(strings.Fields(lines.Text()))
	}
}
