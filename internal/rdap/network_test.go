package rdap

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestIsPublic(t *testing.T) {
	for _, tt := range []struct {
		addr                    string
		isPublic, documentation bool
	}{
		{"8.8.8.8", true, false},
		{"2606:4700::1", true, false},
		{"::ffff:8.8.8.8", true, false},
		{"192.0.2.1", false, true},
		{"198.51.100.1", false, true},
		{"203.0.113.1", false, true},
		{"2001:db8::1", false, true},
		{"3fff::1", false, true},
		{"0.1.2.3", false, false},
		{"10.0.0.1", false, false},
		{"100.64.0.1", false, false},
		{"127.0.0.1", false, false},
		{"169.254.169.254", false, false},
		{"172.16.0.1", false, false},
		{"192.0.0.1", false, false},
		{"192.88.99.1", false, false},
		{"192.168.1.1", false, false},
		{"198.18.0.1", false, false},
		{"224.0.0.1", false, false},
		{"240.0.0.1", false, false},
		{"255.255.255.255", false, false},
		{"::", false, false},
		{"::1", false, false},
		{"::ffff:10.0.0.1", false, false},
		{"64:ff9b::808:808", false, false}, // NAT64: it leads to an IPv4 address
		{"100::1", false, false},
		{"2001::1", false, false}, // Teredo
		{"2002:a00:1::1", false, false},
		{"fd00:ec2::254", false, false},
		{"fe80::1%eth0", false, false},
		{"ff02::1", false, false},
		{"4000::1", false, false},
	} {
		t.Run(tt.addr, func(t *testing.T) {
			a := plain(addr(tt.addr))
			if got := isPublic(a); got != tt.isPublic {
				t.Errorf("isPublic is %v", got)
			}
			if got, want := isGivenOut(a), tt.isPublic || tt.documentation; got != want {
				t.Errorf("isGivenOut is %v", got)
			}
		})
	}
	if isPublic(netip.Addr{}) || isGivenOut(netip.Addr{}) {
		t.Error("no address is public")
	}
}

func TestNetworkWith(t *testing.T) {
	for _, tt := range []struct{ name, text, addr, want string }{
		{"range", "192.0.2.0 - 192.0.2.255", "192.0.2.7", "192.0.2.0/24"},
		{"narrow range", "192.0.2.0-192.0.2.255", "192.0.2.7", "192.0.2.0/24"},
		{"with its length", "192.0.2.0 - 192.0.2.255 (/24)", "192.0.2.7", "192.0.2.0/24"},
		{"of several prefixes", "211.190.224.0 - 211.191.15.255 (/19+/20)", "211.191.3.1", "211.191.0.0/20"},
		{"prefix", "2001:db8::/32", "2001:db8::1", "2001:db8::/32"},
		{"prefix with host bits", "192.0.2.9/24", "192.0.2.7", "192.0.2.0/24"},
		{"short", "200.3.12/22", "200.3.13.1", "200.3.12.0/22"},
		{"shorter", "187/8", "187.1.1.1", "187.0.0.0/8"},
		{"one address", "192.0.2.7 - 192.0.2.7", "192.0.2.7", "192.0.2.7/32"},
		{"IPv6 range", "2001:db8:: - 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1", "2001:db8::/32"},
		{"elsewhere", "192.0.2.0 - 192.0.2.255", "192.0.3.7", "invalid Prefix"},
		{"other family", "192.0.2.0 - 192.0.2.255", "2001:db8::1", "invalid Prefix"},
		{"backwards", "192.0.2.255 - 192.0.2.0", "192.0.2.7", "invalid Prefix"},
		{"mixed", "192.0.2.0 - 2001:db8::", "192.0.2.7", "invalid Prefix"},
		{"long", "192.0.2.0.0/24", "192.0.2.7", "invalid Prefix"},
		{"zone", "fe80::%a - fe80::%b", "fe80::", "fe80::/128"},
		{"nothing", "", "192.0.2.7", "invalid Prefix"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := networkWith(tt.text, addr(tt.addr)).String(); got != tt.want {
				t.Errorf("networkWith(%q, %s) = %s, want %s", tt.text, tt.addr, got, tt.want)
			}
		})
	}
}

// addrs are addresses of both families, near each other.
func addrs() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		low := rapid.Uint16().Draw(t, "low")
		if rapid.Bool().Draw(t, "4") {
			return netip.AddrFrom4([4]byte{192, 0, byte(low >> 8), byte(low)})
		}
		a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
		a[14], a[15] = byte(low>>8), byte(low)
		return netip.AddrFrom16(a)
	})
}

func TestPartWithIsTheLargestInTheRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, last, a := addrs().Draw(t, "first"), addrs().Draw(t, "last"), addrs().Draw(t, "a")
		within := first.Is4() == a.Is4() && last.Is4() == a.Is4() && !a.Less(first) && !last.Less(a)
		p := partWith(first, last, a)
		if p.IsValid() != within {
			t.Fatalf("%s of %s to %s: %s", a, first, last, p)
		}
		if !within {
			return
		}
		inside := func(p netip.Prefix) bool {
			end := p.Addr()
			for bit := p.Bits(); bit < end.BitLen(); bit++ {
				end = withBit(end, bit)
			}
			return !p.Addr().Less(first) && !last.Less(end)
		}
		if !p.Contains(a) || !inside(p) {
			t.Fatalf("%s of %s to %s: %s", a, first, last, p)
		}
		if wider, err := a.Prefix(p.Bits() - 1); err == nil && inside(wider) {
			t.Fatalf("%s of %s to %s: %s, but %s is wider", a, first, last, p, wider)
		}
	})
}

// withBit is a with one bit set.
func withBit(a netip.Addr, bit int) netip.Addr {
	bytes := a.AsSlice()
	bytes[bit/8] |= 0x80 >> (bit % 8)
	set, _ := netip.AddrFromSlice(bytes)
	return set
}
