package outbound

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	const all = "0.0.0.0/0 ::/0"
	for _, tt := range []struct {
		name    string
		addrs   string
		private string
		want    bool
	}{
		{"public", "8.8.8.8 1.1.1.1 223.255.255.254 9.255.255.255 11.0.0.0 172.15.255.255 172.32.0.0 100.63.255.255 100.128.0.0 2606:4700::1111 2001:4860:4860::8888 2003::1", "", true},
		{"public, mapped", "::ffff:8.8.8.8", "", true},
		{"private", "10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 fc00::1 fd12::1", "", false},
		{"private, mapped", "::ffff:10.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:a00:1", "", false},
		{"this host", "127.0.0.1 127.255.255.254 ::1 0.0.0.0 0.1.2.3 ::", "", false},
		{"link-local", "169.254.1.1 fe80::1 fe80::1%eth0 fec0::1", "", false},
		{"a carrier's", "100.64.0.0 100.127.255.255", "", false},
		{"metadata", "169.254.169.254 169.254.170.2 fd00:ec2::254 100.100.100.200 168.63.129.16 fd20:ce::254", "", false},
		{"multicast, broadcast, reserved", "224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 ff02::1 ff0e::1", "", false},
		{"special", "192.0.0.8 192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1 192.88.99.1 2001:db8::1 3fff::1 100::1 4000::1 5f00::1", "", false},
		{"NAT64 of a public one", "64:ff9b::8.8.8.8", "", true},
		{"NAT64 of others", "64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b::100.64.0.1 64:ff9b:1::8.8.8.8", "", false},
		{"6to4 and Teredo", "2002:7f00:1:: 2002:808:808:: 2001::1", "", false},
		{"IPv4-compatible", "::10.0.0.1 ::8.8.8.8", "", false},
		{"named", "10.1.2.3 ::ffff:10.1.2.3 64:ff9b::10.1.2.3", "10.0.0.0/8", true},
		{"beside what is named", "11.0.0.1", "10.0.0.0/8", true},
		{"not named", "192.168.0.1 127.0.0.1 fd00::1", "10.0.0.0/8", false},
		{"named, IPv6", "fd12::1", "fd12::/16", true},
		{"loopback, named", "127.0.0.1 ::1", "127.0.0.0/8 ::1/128", true},
		{"metadata is never", "169.254.169.254 fd00:ec2::254 100.100.100.200 168.63.129.16 ::ffff:169.254.169.254 64:ff9b::169.254.169.254", all, false},
		{"all else may be", "10.0.0.1 127.0.0.1 fd00::1 169.254.1.1 fe80::1 100.64.0.1", all, true},
		{"a zone is never", "fe80::1%eth0", all, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for s := range strings.FieldsSeq(tt.addrs) {
				if err := Check(netip.MustParseAddr(s), prefixes(tt.private)); (err == nil) != tt.want {
					t.Errorf("%s: %v", s, err)
				}
			}
		})
	}
	if Check(netip.Addr{}, nil) == nil {
		t.Error("no address may be connected to")
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1})
	f.Add([]byte{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok || Check(a, nil) != nil {
			return
		}
		u := a.Unmap()
		if !u.IsGlobalUnicast() || u.IsPrivate() || u.IsLoopback() || u.IsLinkLocalUnicast() {
			t.Errorf("%s may be connected to", a)
		}
		if u.Is4() && Check(netip.AddrFrom16(u.As16()), nil) != nil {
			t.Errorf("%s may, and mapped it may not", a)
		}
	})
}

func prefixes(s string) []netip.Prefix {
	var all []netip.Prefix
	for p := range strings.FieldsSeq(s) {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}
