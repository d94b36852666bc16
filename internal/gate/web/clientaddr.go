package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Forwarding is the one header that listed proxies write a client's address into.
type Forwarding string

// The headers. The zero value believes none.
const (
	NoForwarding  Forwarding = ""
	XForwardedFor Forwarding = "x_forwarded_for"
	Forwarded     Forwarding = "forwarded" // RFC 7239
)

// maxHops is how many addresses a request may have come through.
const maxHops = 32

// Trust is who is believed about where a request came from.
type Trust struct {
	Proxies []netip.Prefix // whose header is read
	Header  Forwarding     // the only one that is
}

func (t Trust) proxy(a netip.Addr) bool {
	return slices.ContainsFunc(t.Proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ClientAddr is the address that a request came from: the socket's peer, or, where that is
// a listed proxy, what the proxy says of it, and so on from right to left for as long as
// the one who says so is a listed proxy itself. What nobody listed has vouched for is not
// believed; what a listed proxy has written and is not an address is an error, never a
// guess. The address has no zone and is not IPv4 in IPv6.
//
// Entries to the left of the client's are its own invention and may be anything in
// X-Forwarded-For, whose commas cannot be hidden. In Forwarded a stray quote could swallow
// what a proxy has added, so there the whole header has to be well formed.
func ClientAddr(peer netip.Addr, h http.Header, t Trust) (netip.Addr, error) {
	at, err := canonical(peer)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the address of a connection: %w", err)
	}
	if t.Header == NoForwarding || !t.proxy(at) {
		return at, nil
	}
	hops, err := t.hops(h)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(hops) > maxHops {
		return netip.Addr{}, fmt.Errorf("read %s: more than %d addresses", t.name(), maxHops)
	}
	for _, hop := range slices.Backward(hops) {
		if !t.proxy(at) {
			break
		}
		if at, err = parseHop(hop); err != nil {
			return netip.Addr{}, fmt.Errorf("read %s: %w", t.name(), err)
		}
	}
	return at, nil
}

func (t Trust) name() string {
	if t.Header == Forwarded {
		return "Forwarded"
	}
	return "X-Forwarded-For"
}

// hops are what the header's lines say, in their order, which is the way of the request.
func (t Trust) hops(h http.Header) ([]string, error) {
	lines := h.Values(t.name())
	if len(lines) == 0 {
		return nil, nil
	}
	all := strings.Join(lines, ",")
	if t.Header == Forwarded {
		return forwardedFor(all)
	}
	if strings.Count(all, ",") >= maxHops {
		return nil, fmt.Errorf("read %s: more than %d addresses", t.name(), maxHops)
	}
	return strings.Split(all, ","), nil
}

// parseHop reads an address with or without a port: 192.0.2.1, 192.0.2.1:80, 2001:db8::1,
// [2001:db8::1], [2001:db8::1]:80. Names and RFC 7239's "unknown" and "_hidden" are not.
func parseHop(s string) (netip.Addr, error) {
	s = strings.Trim(s, " \t")
	if a, err := netip.ParseAddr(s); err == nil {
		return canonical(a)
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			if a, err := netip.ParseAddr(inner); err == nil && a.Is6() {
				return canonical(a)
			}
		}
	}
	if p, err := netip.ParseAddrPort(s); err == nil {
		return canonical(p.Addr())
	}
	if len(s) > 64 {
		s = s[:64]
	}
	return netip.Addr{}, fmt.Errorf("%q is not an address", s)
}

var (
	errZone    = errors.New("an address with a zone means nothing elsewhere")
	errNobody  = errors.New("not the address of a host")
	errPairs   = errors.New("not a list of name=value pairs (RFC 7239)")
	errTwoFors = errors.New(`"for" stands twice in one element`)
)

func canonical(a netip.Addr) (netip.Addr, error) {
	if a.Zone() != "" {
		return netip.Addr{}, errZone
	}
	a = a.Unmap()
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, errNobody
	}
	return a, nil
}

// noFor stands for an element without an address; parseHop refuses it.
const noFor = ""

// forwardedFor reads RFC 7239, section 4: elements parted by commas, of pairs parted by
// semicolons, whose values are tokens or quoted strings.
func forwardedFor(s string) ([]string, error) {
	fail := func(err error) ([]string, error) { return nil, fmt.Errorf("read Forwarded: %w", err) }
	var hops []string
	node, named := noFor, false
	space := func() { s = strings.TrimLeft(s, " \t") }
	for {
		space()
		// An empty element is allowed by RFC 9110, section 5.6.1; an empty pair by RFC 7239.
		if s != "" && s[0] != ',' && s[0] != ';' {
			name := tchars(s)
			s = s[len(name):]
			if name == "" || s == "" || s[0] != '=' {
				return fail(errPairs)
			}
			value, rest, ok := value(s[1:])
			if !ok {
				return fail(errPairs)
			}
			s = rest
			if strings.EqualFold(name, "for") {
				if named {
					return fail(errTwoFors)
				}
				node, named = value, true
			}
			space()
		}
		switch {
		case s == "":
			return append(hops, node), nil
		case s[0] == ';':
			s = s[1:]
		case s[0] == ',':
			hops = append(hops, node)
			if len(hops) > maxHops {
				return nil, fmt.Errorf("read Forwarded: more than %d addresses", maxHops)
			}
			node, named = noFor, false
			s = s[1:]
		default:
			return fail(errPairs)
		}
	}
}

// tchars is what s begins with of RFC 9110's tchar.
func tchars(s string) string {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return s[:i]
	}
	return s
}

// value is a token or a quoted string, and what comes after it.
func value(s string) (v, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		v = tchars(s)
		return v, s[len(v):], v != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c < ' ' && c != '\t' || c == 0x7f || c == '\\':
			return "", "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}
