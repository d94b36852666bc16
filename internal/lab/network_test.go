package lab

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

func newNetwork(t *testing.T) *Network {
	t.Helper()
	if err := Available(""); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	n, err := NewNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestDialFromAnySource(t *testing.T) {
	n := newNetwork(t)
	var l net.Listener
	err := n.Host.Do(func() (err error) {
		l, err = net.Listen("tcp", ":4242")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	owned := []netip.Prefix{netip.MustParsePrefix("133.0.0.0/8")}
	if n.IPv6 {
		owned = append(owned, netip.MustParsePrefix("2001:2a0::/32"))
	}
	if err := n.Own(owned...); err != nil {
		t.Fatal(err)
	}
	served := []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25")}
	if n.IPv6 {
		served = append(served, netip.MustParsePrefix("2001:db8:a:0:1::/80"))
	}
	if err := n.Serve(served...); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name string
		from string
		to   netip.Addr
	}{
		{name: "admin v4", from: "192.0.2.10", to: Host4},
		{name: "admin v6", from: "2001:db8:a::10", to: Host6},
		{name: "first attacker", from: "198.18.0.1", to: Host4},
		{name: "last attacker", from: "198.19.255.254", to: Host4},
		{name: "other", from: "203.0.113.9", to: Host4},
		{name: "person", from: "198.51.100.7", to: Host4},
		{name: "attacker v6", from: "2001:db8:bad:ffff::1", to: Host6},
		{name: "person v6", from: "2001:db8:b:1::1", to: Host6},
		{name: "owned later", from: "133.11.0.1", to: Host4},
		{name: "owned later, v6", from: "2001:2a0:1::1", to: Host6},
		{name: "served later", from: "192.0.2.10", to: netip.MustParseAddr("192.0.2.130")},
		{name: "served later, v6", from: "2001:db8:a::10", to: netip.MustParseAddr("2001:db8:a:0:1::9")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.to.Is6() && !n.IPv6 {
				t.Skip("LEFT OUT: this kernel has no IPv6")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			c, err := n.World.Dial(ctx, netip.MustParseAddr(tt.from), netip.AddrPortFrom(tt.to, 4242))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			peer, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			got := peer.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String()
			if got != tt.from {
				t.Errorf("the host sees %s, want %s", got, tt.from)
			}
		})
	}
}
