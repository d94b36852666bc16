package special

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestIs(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		addrs                  string
		nobodys, documentation bool
	}{
		{"the internet's", "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 223.255.255.255 2000:: 2001:200::1 2001:db7::1 2606:4700::1111 2a00::1", false, false},
		{"beside what is special", "100.63.255.255 100.128.0.0 126.0.0.1 128.0.0.1 169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.0 192.88.98.255 192.88.100.0 192.167.0.1 192.169.0.0 198.17.0.1 198.20.0.0 2003::1 3fff:1000::1", false, false},
		{"an IPv4 address in IPv6's form", "::ffff:8.8.8.8", false, false},
		{"this host's", "0.0.0.0 0.1.2.3 127.0.0.1 127.255.255.255 :: ::1", true, false},
		{"private", "10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 fc00::1 fd12::1 ::ffff:10.0.0.1", true, false},
		{"a carrier's", "100.64.0.0 100.127.255.255", true, false},
		{"link-local", "169.254.169.254 fe80::1 fe80::1%eth0 fec0::1", true, false},
		{"multicast, broadcast, reserved", "224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 ff02::1 4000::1 5f00::1 8000::1", true, false},
		{"protocols and benchmarks", "192.0.0.8 198.18.0.1 198.19.255.255 100::1 2001:2::1 2001:1ff:ffff::1", true, false},
		{"translated and relayed", "64:ff9b::808:808 64:ff9b:1::1 192.88.99.1 2001::1 2002:808:808::1 ::8.8.8.8", true, false},
		{"documentation", "192.0.2.1 198.51.100.1 203.0.113.255 2001:db8::1 3fff::1 3fff:fff::1 ::ffff:192.0.2.1", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for s := range strings.FieldsSeq(tt.addrs) {
				a := netip.MustParseAddr(s)
				if got := IsNobodys(a); got != tt.nobodys {
					t.Errorf("%s is nobody's: got %t", s, got)
				}
				if got := IsDocumentation(a); got != tt.documentation {
					t.Errorf("%s is for documentation: got %t", s, got)
				}
			}
		})
	}
	if !IsNobodys(netip.Addr{}) || IsDocumentation(netip.Addr{}) {
		t.Error("no address is somebody's")
	}
}

// TestOrder: the networks are as they are said to be, which whoever goes through them
// relies on.
func TestOrder(t *testing.T) {
	for name, all := range map[string][]netip.Prefix{"networks": Networks(), "documentation": Documentation()} {
		if !slices.IsSortedFunc(all, netip.Prefix.Compare) {
			t.Errorf("%s are not in order", name)
		}
	}
	both := slices.Concat(Networks(), Documentation())
	for i, p := range both {
		if p != p.Masked() {
			t.Errorf("%s has bits set behind its length", p)
		}
		for _, q := range both[:i] {
			if p.Overlaps(q) {
				t.Errorf("%s and %s overlap", p, q)
			}
		}
	}
}
