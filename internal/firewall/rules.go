package firewall

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Names stay within 15 characters, the limit of kernels before 4.14.
const (
	tableName = "sekisho"
	chainName = "raw"
	portsName = "ports"
)

// rulesVersion stands in each rule's comment, so that rules of another version
// are never taken for ours. Raise it when a rule changes its meaning only.
const rulesVersion = 1

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

// loopback is the index of lo in every network namespace.
const loopback = 1

// desired is the layout that s asks for, with staged loaded beside s.Ruleset unless
// it is nil. Without intervalTimeouts the kernel cannot time the elements of an
// interval set; we do it then.
func desired(s State, staged *Ruleset, f features) layout {
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	policy := nftables.ChainPolicyAccept
	// Before conntrack (-200): a banned packet costs half as much there, and never
	// gets an entry.
	raw := &nftables.Chain{
		Name: chainName, Table: table, Type: nftables.ChainTypeFilter, Policy: &policy,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	}
	l := layout{table: table, chains: []chain{{Chain: raw}}}

	for id := range setCount {
		bans := &nftables.Set{
			Table: table, Name: id.String(), KeyType: nftables.TypeIPAddr, KeyByteOrder: binaryutil.BigEndian,
			Interval: id.interval(), HasTimeout: !id.interval() || f.intervalTimeouts,
		}
		if id.v6() {
			bans.KeyType = nftables.TypeIP6Addr
		}
		l.sets = append(l.sets, set{Set: bans})
	}
	l.sets = append(l.sets, set{
		Set:   &nftables.Set{Table: table, Name: portsName, KeyType: nftables.TypeInetService, KeyByteOrder: binaryutil.BigEndian},
		fixed: true,
		ports: slices.Compact(slices.Sorted(slices.Values(s.Ports))),
	})

	rule := func(comment string, exprs ...expr.Any) {
		l.chains[0].rules = append(l.chains[0].rules, &nftables.Rule{
			Table: table, Chain: raw, Exprs: exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, fmt.Sprintf("v%d: %s", rulesVersion, comment)),
		})
	}
	rule("loopback is never banned",
		&expr.Meta{Key: expr.MetaKeyIIF, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, loopback)},
		&expr.Verdict{Kind: expr.VerdictAccept})
	if s.SSHOnly {
		rule("a ban is for SSH: not TCP",
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Verdict{Kind: expr.VerdictAccept})
		rule("a ban is for SSH: not its ports",
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Lookup{SourceRegister: 1, SetName: portsName, Invert: true},
			&expr.Verdict{Kind: expr.VerdictAccept})
	}
	for id, comment := range [setCount]string{
		"banned IPv4 hosts", "banned IPv6 hosts", "banned IPv6 /64s", "banned IPv4 prefixes", "banned IPv6 prefixes",
	} {
		rule(comment, append(source(setID(id)), &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})...)
	}
	return l
}

// source matches packets whose source address is in the set.
func source(id setID) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if id.v6() {
		family, offset, size = unix.NFPROTO_IPV6, 8, 16
	}
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
	}
	if id == ban6n {
		mask := append(bytes.Repeat([]byte{0xff}, 8), make([]byte, 8)...)
		exprs = append(exprs, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 16, Mask: mask, Xor: make([]byte, 16)})
	}
	return append(exprs, &expr.Lookup{SourceRegister: 1, SetName: id.String()})
}
