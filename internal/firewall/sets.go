package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"go4.org/netipx"
)

// setID is one of the sets that hold bans or grants.
type setID uint8

const (
	ban4     setID = iota // IPv4 hosts
	ban6                  // IPv6 hosts
	ban6n                 // IPv6 /64s, told by their first address: one look-up in a hash
	net4                  // any other IPv4 prefix, as disjoint intervals
	net6                  // any other IPv6 prefix, likewise
	setCount              // of those for bans
	grant4                // IPv4 hosts that are let in
	grant6                // IPv6 hosts, likewise
	grant6n               // IPv6 /64s, likewise
)

func (s setID) String() string {
	return [...]string{"ban4", "ban6", "ban6n", "net4", "net6", "", "grant4", "grant6", "grant6n"}[s]
}

func (s setID) v6() bool {
	return s == ban6 || s == ban6n || s == net6 || s == grant6 || s == grant6n
}

func (s setID) interval() bool { return s == net4 || s == net6 }

func (s setID) halves() bool { return s == ban6n || s == grant6n }

// The other sets that live on, whatever the rules are.
const (
	armedName = "armed" // the families whose packets the staged rule set judges, for a time
	seen4Name = "seen4" // address . port of whom a rule set on trial let in
	seen6Name = "seen6"
)

// dynamicSize bounds the sets that packets fill.
const dynamicSize = 1<<16 - 1

// rateFor is how long a source is remembered after its last attempt: hashlimit's
// --hashlimit-htable-expire 120000.
const rateFor = 2 * time.Minute

// lasting are the sets whose elements outlive every change of the rules, but for
// the set of ports.
func lasting(table *nftables.Table, f features) (sets []set) {
	add := func(name string, key nftables.SetDatatype) *nftables.Set {
		s := &nftables.Set{Table: table, Name: name, KeyType: key, KeyByteOrder: binaryutil.BigEndian, HasTimeout: true}
		sets = append(sets, set{Set: s})
		return s
	}
	for id := range grant6n + 1 {
		if id == setCount {
			continue
		}
		s := add(id.String(), addressType(id.v6()))
		s.Interval = id.interval()
		s.HasTimeout = !s.Interval || f.intervalTimeouts
	}
	add(armedName, nftables.TypeNFProto)
	if f.noDynamic {
		return sets
	}
	for name, v6 := range both(seen4Name, seen6Name) {
		s := add(name, nftables.MustConcatSetType(addressType(v6), nftables.TypeInetService))
		s.Dynamic, s.Timeout, s.Size = true, seenFor, dynamicSize
	}
	return sets
}

func addressType(v6 bool) nftables.SetDatatype {
	if v6 {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// both yields two names, the first for IPv4, the second for IPv6.
func both(v4, v6 string) func(yield func(name string, v6 bool) bool) {
	return func(yield func(string, bool) bool) { _ = yield(v4, false) && yield(v6, true) }
}

// portSet is a set of ports.
func portSet(table *nftables.Table, name string, ports []uint16) set {
	return set{
		Set:   &nftables.Set{Table: table, Name: name, KeyType: nftables.TypeInetService, KeyByteOrder: binaryutil.BigEndian},
		fixed: true,
		ports: slices.Compact(slices.Sorted(slices.Values(ports))),
	}
}

// rangeSet is a set of address ranges.
func rangeSet(table *nftables.Table, name string, v6 bool, ranges []netipx.IPRange) set {
	return set{
		Set: &nftables.Set{
			Table: table, Name: name, KeyType: addressType(v6), KeyByteOrder: binaryutil.BigEndian, Interval: true,
		},
		fixed:  true,
		ranges: ranges,
	}
}

// rateSet is a set of the sources that packets put there.
func rateSet(table *nftables.Table, name string, v6 bool) set {
	return sourceSet(table, name, v6, rateFor, dynamicSize)
}

// knockSet is a set of those whom Knocks tells.
func knockSet(table *nftables.Table, name string, v6 bool) set {
	return sourceSet(table, name, v6, knockFor, knockSize)
}

func sourceSet(table *nftables.Table, name string, v6 bool, timeout time.Duration, size uint32) set {
	return set{Set: &nftables.Set{
		Table: table, Name: name, KeyType: addressType(v6), KeyByteOrder: binaryutil.BigEndian,
		Dynamic: true, HasTimeout: true, Timeout: timeout, Size: size,
	}}
}

// rangesOf are the ranges that prefixes make up, by family.
func rangesOf(prefixes []netip.Prefix) (v4, v6 []netipx.IPRange) {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		b.AddPrefix(p.Masked())
	}
	s, err := b.IPSet()
	if err != nil { // only what is no prefix, which Validate refuses
		panic(fmt.Sprintf("prefixes %v: %v", prefixes, err))
	}
	return split(s.Ranges())
}
