package ownaddr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"sekisho/internal/special"
)

// Family is one of the two of IP.
type Family int

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return fmt.Sprintf("Family(%d)", int(f))
}

// FamilyOf is the family of an address. An IPv4 address in IPv6's form is IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// network is the name of a protocol in this family alone, such as tcp4.
func (f Family) network(protocol string) string { return fmt.Sprintf("%s%d", protocol, int(f)) }

// Resolve looks a host up: its addresses in the order in which they are to be tried (RFC
// 6724), each once, without zones. An address is itself.
func Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if host == "" {
		return nil, errors.New("look up a host: it has no name")
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{plain(a)}, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", host, err)
	}
	return distinct(found), nil
}

// distinct leaves each address once, in its plain form.
func distinct(found []netip.Addr) []netip.Addr {
	var all []netip.Addr
	for _, a := range found {
		if a = plain(a); !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// Public reports whether somebody else can see us by an address. Those for documentation
// stand for real ones.
func Public(a netip.Addr) bool { return !special.IsNobodys(a) }

// maxAnswer is the length of a service's answer, at most, in bytes.
const maxAnswer = 256

// parse reads the answer of a service: one public address of the family in its plain form,
// and white space around it.
func parse(family Family, text []byte) (netip.Addr, error) {
	if len(text) > maxAnswer {
		return netip.Addr{}, fmt.Errorf("it answers with more than %d bytes", maxAnswer)
	}
	word := bytes.TrimSpace(text)
	a, err := netip.ParseAddr(string(word))
	switch {
	case err != nil || a.Is4In6() || a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("it answers %.64q, which is not one plain address", word)
	}
	if err := proper(family, a); err != nil {
		return netip.Addr{}, err
	}
	return a, nil
}

// proper says why an address cannot be the one that a target on the internet sees us by.
func proper(family Family, a netip.Addr) error {
	switch {
	case !a.IsValid() || a != plain(a):
		return fmt.Errorf("it answers %s, which is not one plain address", a)
	case FamilyOf(a) != family:
		return fmt.Errorf("it answers %s, which is not %s", a, family)
	case !Public(a):
		return fmt.Errorf("it answers %s, which is nobody's on the internet", a)
	}
	return nil
}
