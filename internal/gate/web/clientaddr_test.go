package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestClientAddr(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:f::/48")}
	xff := func(lines ...string) http.Header { return http.Header{"X-Forwarded-For": lines} }
	fwd := func(lines ...string) http.Header { return http.Header{"Forwarded": lines} }
	for _, tt := range []struct {
		name   string
		peer   string
		header http.Header
		kind   Forwarding
		want   string // "": refused
	}{
		{name: "a socket's", peer: "192.0.2.7", want: "192.0.2.7"},
		{name: "IPv4 in IPv6 is IPv4", peer: "::ffff:192.0.2.7", want: "192.0.2.7"},
		{name: "a zone", peer: "fe80::1%eth0"},
		{name: "no address", peer: "0.0.0.0"},
		{name: "a stranger's header is not read", peer: "192.0.2.7", header: xff("203.0.113.1"), kind: XForwardedFor, want: "192.0.2.7"},
		{name: "a stranger's garbage is not read", peer: "192.0.2.7", header: xff("]]"), kind: XForwardedFor, want: "192.0.2.7"},
		{name: "a proxy's where none is configured", peer: "10.0.0.1", header: xff("203.0.113.1"), want: "10.0.0.1"},
		{name: "a proxy's", peer: "10.0.0.1", header: xff("203.0.113.1"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "a proxy's over IPv4 in IPv6", peer: "::ffff:10.0.0.1", header: xff("203.0.113.1"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "a proxy itself", peer: "10.0.0.1", kind: XForwardedFor, want: "10.0.0.1"},
		{name: "the rightmost, not the leftmost", peer: "10.0.0.1", header: xff("198.51.100.9, 203.0.113.1"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "over proxies, right to left", peer: "10.0.0.1", header: xff("198.51.100.9, 203.0.113.1, 10.1.1.1,10.2.2.2"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "a listed proxy's address behind a stranger is the stranger's invention", peer: "10.0.0.1", header: xff("10.9.9.9, 203.0.113.1"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "several lines are one", peer: "10.0.0.1", header: xff("198.51.100.9", "203.0.113.1", "10.1.1.1"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "proxies all the way", peer: "10.0.0.1", header: xff("10.3.3.3, 10.2.2.2"), kind: XForwardedFor, want: "10.3.3.3"},
		{name: "what a client invents does not lock it out", peer: "10.0.0.1", header: xff("unknown, <script>, 203.0.113.1"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "with a port", peer: "10.0.0.1", header: xff("203.0.113.1:4711"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "IPv6", peer: "10.0.0.1", header: xff("2001:db8::1"), kind: XForwardedFor, want: "2001:db8::1"},
		{name: "IPv6 in brackets", peer: "10.0.0.1", header: xff("[2001:db8::1]"), kind: XForwardedFor, want: "2001:db8::1"},
		{name: "IPv6 with a port", peer: "10.0.0.1", header: xff("[2001:db8::1]:4711"), kind: XForwardedFor, want: "2001:db8::1"},
		{name: "IPv4 in IPv6 in a header", peer: "10.0.0.1", header: xff("::ffff:203.0.113.1"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "a proxy as IPv4 in IPv6", peer: "10.0.0.1", header: xff("203.0.113.1, ::ffff:10.2.2.2"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "IPv4 in brackets", peer: "10.0.0.1", header: xff("[203.0.113.1]"), kind: XForwardedFor},
		{name: "a zone in a header", peer: "10.0.0.1", header: xff("fe80::1%1"), kind: XForwardedFor},
		{name: "a bad port", peer: "10.0.0.1", header: xff("203.0.113.1:99999"), kind: XForwardedFor},
		{name: "a name", peer: "10.0.0.1", header: xff("localhost"), kind: XForwardedFor},
		{name: "leading zeros", peer: "10.0.0.1", header: xff("203.0.113.010"), kind: XForwardedFor},
		{name: "unknown, vouched for", peer: "10.0.0.1", header: xff("203.0.113.1, unknown"), kind: XForwardedFor},
		{name: "malformed between proxies", peer: "10.0.0.1", header: xff("203.0.113.1, x, 10.2.2.2"), kind: XForwardedFor},
		{name: "empty", peer: "10.0.0.1", header: xff(""), kind: XForwardedFor},
		{name: "an empty entry", peer: "10.0.0.1", header: xff("203.0.113.1,"), kind: XForwardedFor},
		{name: "unspecified", peer: "10.0.0.1", header: xff("::"), kind: XForwardedFor},
		{name: "as many as may be", peer: "10.0.0.1", header: xff(strings.Repeat("198.51.100.1,", maxHops-1) + "203.0.113.1"), kind: XForwardedFor, want: "203.0.113.1"},
		{name: "too many", peer: "10.0.0.1", header: xff(strings.Repeat("198.51.100.1,", maxHops) + "203.0.113.1"), kind: XForwardedFor},
		{name: "the other header is not read", peer: "10.0.0.1", header: http.Header{"X-Forwarded-For": {"198.51.100.1"}, "Forwarded": {"for=203.0.113.1"}}, kind: Forwarded, want: "203.0.113.1"},
		{name: "an underscore's twin is not read", peer: "10.0.0.1", header: http.Header{"X_forwarded_for": {"198.51.100.1"}, "X_Forwarded_For": {"198.51.100.1"}}, kind: XForwardedFor, want: "10.0.0.1"},
		{name: "other headers are not read", peer: "10.0.0.1", header: http.Header{"X-Real-Ip": {"198.51.100.1"}, "True-Client-Ip": {"198.51.100.1"}}, kind: XForwardedFor, want: "10.0.0.1"},

		{name: "RFC 7239", peer: "10.0.0.1", header: fwd("for=203.0.113.1"), kind: Forwarded, want: "203.0.113.1"},
		{name: "RFC 7239 with all there is", peer: "10.0.0.1", header: fwd(`by=10.0.0.1;For="203.0.113.1:4711"; proto=https ;host="a,b;c=\"d"`), kind: Forwarded, want: "203.0.113.1"},
		{name: "RFC 7239 IPv6", peer: "2001:db8:f::1", header: fwd(`for="[2001:db8::1]"`), kind: Forwarded, want: "2001:db8::1"},
		{name: "RFC 7239 IPv6 with a port", peer: "10.0.0.1", header: fwd(`for="[2001:db8::1]:47"`), kind: Forwarded, want: "2001:db8::1"},
		{name: "RFC 7239 over proxies and lines", peer: "10.0.0.1", header: fwd(`for=198.51.100.9, for=203.0.113.1`, `for=10.3.3.3,FOR="10.2.2.2"`), kind: Forwarded, want: "203.0.113.1"},
		{name: "RFC 7239 an empty element is nobody's word", peer: "10.0.0.1", header: fwd("for=203.0.113.1, "), kind: Forwarded},
		{name: "RFC 7239 hidden, left of the client", peer: "10.0.0.1", header: fwd("for=_hidden, for=unknown, for=203.0.113.1"), kind: Forwarded, want: "203.0.113.1"},
		{name: "RFC 7239 hidden, vouched for", peer: "10.0.0.1", header: fwd("for=203.0.113.1, for=_hidden"), kind: Forwarded},
		{name: "RFC 7239 unknown, vouched for", peer: "10.0.0.1", header: fwd("for=unknown"), kind: Forwarded},
		{name: "RFC 7239 without for", peer: "10.0.0.1", header: fwd("for=203.0.113.1, proto=https"), kind: Forwarded},
		{name: "RFC 7239 twice for", peer: "10.0.0.1", header: fwd("for=203.0.113.1;for=198.51.100.1"), kind: Forwarded},
		{name: "RFC 7239 a quote that would swallow what the proxy adds", peer: "10.0.0.1", header: fwd(`for=198.51.100.1;x="`, `for=203.0.113.1`), kind: Forwarded},
		{name: "RFC 7239 swallowed by a pair of quotes is the client's own", peer: "10.0.0.1", header: fwd(`x=", for=10.3.3.3"`, `for=203.0.113.1`), kind: Forwarded, want: "203.0.113.1"},
		{name: "RFC 7239 garbage", peer: "10.0.0.1", header: fwd("=, for=203.0.113.1"), kind: Forwarded},
		{name: "RFC 7239 IPv6 without quotes", peer: "10.0.0.1", header: fwd("for=[2001:db8::1]"), kind: Forwarded},
		{name: "RFC 7239 a space before the value", peer: "10.0.0.1", header: fwd("for= 203.0.113.1"), kind: Forwarded},
		{name: "RFC 7239 too many", peer: "10.0.0.1", header: fwd(strings.Repeat("for=198.51.100.1,", maxHops) + "for=203.0.113.1"), kind: Forwarded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ClientAddr(netip.MustParseAddr(tt.peer), tt.header, Trust{Proxies: proxies, Header: tt.kind})
			if tt.want == "" {
				if err == nil {
					t.Fatalf("got %v, want it refused", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := netip.MustParseAddr(tt.want); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// What comes out is the peer's own address, or one that stands in the header with nothing
// but listed proxies to the right of it, the peer being one too.
func FuzzClientAddr(f *testing.F) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:f::/48")}
	f.Add("10.0.0.1", "203.0.113.1, 10.2.2.2", "10.3.3.3", false)
	f.Add("10.0.0.1", `for="[2001:db8::1]:80";by=x`, `for=10.2.2.2, for="\1\0.0.0.9"`, true)
	f.Add("192.0.2.1", "x", "", true)
	f.Fuzz(func(t *testing.T, peer, one, two string, rfc bool) {
		p, err := netip.ParseAddr(peer)
		if err != nil {
			return
		}
		trust, header := Trust{Proxies: proxies, Header: XForwardedFor}, http.Header{"X-Forwarded-For": {one, two}}
		if rfc {
			trust.Header, header = Forwarded, http.Header{"Forwarded": {one, two}}
		}
		got, err := ClientAddr(p, header, trust)
		if err != nil {
			return
		}
		if got.Zone() != "" || got.Is4In6() {
			t.Fatalf("%v is not canonical", got)
		}
		if got == p.Unmap() {
			return
		}
		if !trust.proxy(p.Unmap()) {
			t.Fatalf("%v is believed of %v, which is not listed", got, p)
		}
		hops, err := trust.hops(header)
		if err != nil {
			t.Fatal(err)
		}
		for _, hop := range slices.Backward(hops) {
			a, err := parseHop(hop)
			if err != nil {
				t.Fatalf("%v is believed past %q", got, hop)
			}
			if a == got {
				return
			}
			if !trust.proxy(a) {
				t.Fatalf("%v is believed past %v, which is not listed", got, a)
			}
		}
		t.Fatalf("nobody said %v", got)
	})
}
