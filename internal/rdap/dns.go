package rdap

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sekisho/internal/notify"
)

// Zones of Team Cymru, who tell where addresses are announced (BGP).
const (
	origin4 = "origin.asn.cymru.com."
	origin6 = "origin6.asn.cymru.com."
	asNames = "asn.cymru.com."
)

// dnsAsker asks DNS.
type dnsAsker struct {
	resolver *net.Resolver
}

// origin is where an address is announced.
type origin struct {
	prefix  netip.Prefix
	asn     uint32 // 0: not known
	name    string
	country string // of the network, as its registry has it
}

// added is an owner with what DNS has. err says that the registries failed.
func (o origin) added(owner notify.Owner, name string, err error) notify.Owner {
	owner.Abuse = slices.Clone(owner.Abuse) // the cache keeps its own
	owner.Reverse = name
	if o.asn == 0 {
		return owner
	}
	// What is announced now counts for more than what the holder once said.
	owner.ASN, owner.ASName = o.asn, o.name
	if owner.Country == "" {
		owner.Country = o.country
	}
	if err != nil {
		owner.Prefix, owner.Source = o.prefix, strings.TrimSuffix(asNames, ".")
	}
	return owner
}

// origin asks where a is announced, and for the autonomous system's name. An address that nobody
// announces is an error.
func (d dnsAsker) origin(ctx context.Context, a netip.Addr) (origin, error) {
	question := originName(a)
	texts, err := d.resolver.LookupTXT(ctx, question)
	if err != nil {
		return origin{}, fmt.Errorf("look up %s: %w", question, err)
	}
	o, ok := parseOrigin(texts, a)
	if !ok {
		return origin{}, fmt.Errorf("look up %s: no answer is about %s", question, a)
	}
	question = fmt.Sprintf("AS%d.%s", o.asn, asNames)
	if texts, err := d.resolver.LookupTXT(ctx, question); err == nil {
		o.name = parseASName(texts, o.asn)
	}
	return o, nil
}

// originName is the name that has a's origin. Of IPv6 the host's half is not told.
func originName(a netip.Addr) string {
	var b strings.Builder
	if a.Is4() {
		bytes := a.As4()
		for _, c := range slices.Backward(bytes[:]) {
			b.WriteString(strconv.Itoa(int(c)))
			b.WriteByte('.')
		}
		return b.String() + origin4
	}
	bytes := a.As16()
	digits := hex.EncodeToString(bytes[:8])
	for i := len(digits) - 1; i >= 0; i-- {
		b.WriteByte(digits[i])
		b.WriteByte('.')
	}
	return b.String() + origin6
}

// parseOrigin reads "64496 64497 | 192.0.2.0/24 | JP | apnic | 2001-02-03": the narrowest that has a.
func parseOrigin(texts []string, a netip.Addr) (best origin, ok bool) {
	for _, text := range texts {
		fields := strings.Split(text, "|")
		if len(fields) < 3 {
			continue
		}
		p, err := netip.ParsePrefix(strings.TrimSpace(fields[1]))
		if err != nil || !isHolding(p, a) || ok && p.Bits() <= best.prefix.Bits() {
			continue
		}
		first, _, _ := strings.Cut(strings.TrimSpace(fields[0]), " ")
		asn, err := strconv.ParseUint(first, 10, 32)
		if err != nil || asn == 0 {
			continue
		}
		best, ok = origin{prefix: p.Masked(), asn: uint32(asn), country: countryOf(fields[2])}, true
	}
	return best, ok
}

// parseASName reads "64496 | JP | apnic | 2001-02-03 | EXAMPLE-AS Example Inc., JP".
func parseASName(texts []string, asn uint32) string {
	for _, text := range texts {
		fields := strings.SplitN(text, "|", 5)
		if len(fields) == 5 && strings.TrimSpace(fields[0]) == strconv.FormatUint(uint64(asn), 10) {
			return line(fields[4])
		}
	}
	return ""
}

// maxNames is how many of an address's names are looked up.
const maxNames = 3

// name is the first of the names that DNS has for a and that have a, too: whoever holds the network
// says of the address what they like, but not of the name. "": there is none.
func (d dnsAsker) name(ctx context.Context, a netip.Addr) (string, error) {
	names, err := d.resolver.LookupAddr(ctx, a.String())
	if len(names) == 0 {
		return "", orAbsent(err)
	}
	network := "ip6"
	if a.Is4() {
		network = "ip4"
	}
	var failed error
	for _, name := range names[:min(len(names), maxNames)] {
		if name = hostOf(name); name == "" {
			continue
		}
		found, err := d.resolver.LookupNetIP(ctx, network, name+".")
		if slices.ContainsFunc(found, func(f netip.Addr) bool { return plain(f) == a }) {
			return name, nil
		}
		failed = errors.Join(failed, orAbsent(err))
	}
	return "", failed
}

// orAbsent is err, or nil where it says that there is nothing.
func orAbsent(err error) error {
	if no, ok := errors.AsType[*net.DNSError](err); ok && no.IsNotFound {
		return nil
	}
	return err
}
