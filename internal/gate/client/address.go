package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"sekisho/internal/gate/api"
	"sekisho/internal/ownaddr"
)

// Address is the address that the gate sees us by in one family, asked from an address of
// ours (the zero value: from any). No proxy is asked, also none of the environment: it would
// have the gate see the proxy's. Nothing is signed.
func (c *Client) Address(ctx context.Context, family ownaddr.Family, from netip.Addr) (netip.Addr, error) {
	network := "tcp4"
	if family == ownaddr.IPv6 {
		network = "tcp6"
	}
	dialer := net.Dialer{Timeout: dialTime}
	if from.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	none := func(*http.Request) (*url.URL, error) { return nil, nil }
	transport := c.transport(none, func(ctx context.Context, _, addr string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, addr)
	})
	defer transport.CloseIdleConnections()
	res, err := c.send(ctx, &http.Client{Transport: transport, CheckRedirect: noRedirect}, request{method: http.MethodGet, path: "/address"}, nil)
	if err != nil {
		return netip.Addr{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxError))
	if err != nil {
		return netip.Addr{}, c.silent(ctx, err)
	}
	var seen api.Seen
	if err := json.Unmarshal(raw, &seen); err != nil {
		return netip.Addr{}, &SilentError{c.Host(), true, fmt.Errorf("its answer cannot be read: %w", err)}
	}
	if a := seen.Address.Unmap(); a.IsValid() && a.Zone() == "" && ownaddr.FamilyOf(a) == family {
		return a, nil
	}
	return netip.Addr{}, &SilentError{c.Host(), true, fmt.Errorf("it says that we are %q, which is no %s address", seen.Address, family)}
}

// Witness is the gate as one who tells our own address.
func (c *Client) Witness() *ownaddr.Witness {
	return &ownaddr.Witness{Name: c.base.Hostname(), Ask: c.Address}
}
