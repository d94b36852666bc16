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

// setID is one of the sets that hold bans.
type setID uint8

const (
	ban4  setID = iota // IPv4 hosts
	ban6               // IPv6 hosts
	ban6n              // IPv6 /64s, told by their first address: one look-up in a hash
	net4               // any other IPv4 prefix, as disjoint intervals
	net6               // any other IPv6 prefix, likewise
	setCount
)

func (s setID) String() string {
	return [...]string{"ban4", "ban6", "ban6n", "net4", "net6"}[s]
}

func (s setID) v6() bool       { return s == ban6 || s == ban6n || s == net6 }
func (s setID) interval() bool { return s == net4 || s == net6 }

// loopback is the index of lo in every network namespace.
const loopback = 1

// layout is all of our table but for the bans: what Ensure writes, and what it
// found there.
type layout struct {
	table  *nftables.Table
	chains []*nftables.Chain
	sets   []*nftables.Set
	rules  []*nftables.Rule
	ports  []uint16 // sorted
}

// desired is the layout that s asks for. Without intervalTimeouts the kernel
// cannot time the elements of an interval set (before 4.18); we do it then.
func desired(s State, intervalTimeouts bool) layout {
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	policy := nftables.ChainPolicyAccept
	// Before conntrack (-200): a banned packet costs half as much there, and never
	// gets an entry.
	chain := &nftables.Chain{
		Name: chainName, Table: table, Type: nftables.ChainTypeFilter, Policy: &policy,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	}
	l := layout{table: table, chains: []*nftables.Chain{chain}}

	for id := range setCount {
		set := &nftables.Set{
			Table: table, Name: id.String(), KeyType: nftables.TypeIPAddr, KeyByteOrder: binaryutil.BigEndian,
			Interval: id.interval(), HasTimeout: !id.interval() || intervalTimeouts,
		}
		if id.v6() {
			set.KeyType = nftables.TypeIP6Addr
		}
		l.sets = append(l.sets, set)
	}
	l.sets = append(l.sets, &nftables.Set{Table: table, Name: portsName, KeyType: nftables.TypeInetService, KeyByteOrder: binaryutil.BigEndian})
	l.ports = slices.Clone(s.Ports)
	slices.Sort(l.ports)
	l.ports = slices.Compact(l.ports)

	rule := func(comment string, exprs ...expr.Any) {
		l.rules = append(l.rules, &nftables.Rule{
			Table: table, Chain: chain, Exprs: exprs,
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

// drift says in which ways have is not want, in words for people; nothing when it
// is. Each is also what Intact reports as missing.
func drift(have, want layout) (missing []string) {
	miss := func(format string, args ...any) { missing = append(missing, fmt.Sprintf(format, args...)) }
	if have.table == nil {
		return []string{"table inet " + tableName}
	}
	if have.table.Flags != want.table.Flags {
		miss("table inet %s has other flags", tableName)
	}
	for _, w := range want.chains {
		switch h := find(have.chains, func(c *nftables.Chain) bool { return c.Name == w.Name }); {
		case h == nil:
			miss("chain %s", w.Name)
		case !sameChain(*h, w):
			miss("chain %s is another", w.Name)
		}
	}
	for _, w := range want.sets {
		switch h := find(have.sets, func(s *nftables.Set) bool { return s.Name == w.Name }); {
		case h == nil:
			miss("set %s", w.Name)
		case !sameSet(*h, w):
			miss("set %s is another", w.Name)
		}
	}
	for _, h := range have.chains {
		if find(want.chains, func(c *nftables.Chain) bool { return c.Name == h.Name }) == nil {
			miss("chain %s is not ours", h.Name)
		}
	}
	for _, h := range have.sets {
		if find(want.sets, func(s *nftables.Set) bool { return s.Name == h.Name }) == nil {
			miss("set %s is not ours", h.Name)
		}
	}
	if !slices.EqualFunc(have.rules, want.rules, sameRule) {
		miss("rules of chain %s", chainName)
	}
	if !slices.Equal(have.ports, want.ports) {
		miss("elements of set %s", portsName)
	}
	return missing
}

func find[T any](list []T, is func(T) bool) *T {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return &list[i]
	}
	return nil
}

func sameChain(a, b *nftables.Chain) bool {
	return a.Hooknum != nil && a.Priority != nil && *a.Hooknum == *b.Hooknum && *a.Priority == *b.Priority &&
		a.Type == b.Type && a.Policy != nil && *a.Policy == *b.Policy
}

func sameSet(a, b *nftables.Set) bool {
	return a.KeyType == b.KeyType && a.Interval == b.Interval && a.HasTimeout == b.HasTimeout &&
		a.Timeout == b.Timeout && a.Size == b.Size && !a.IsMap && !a.Constant && !a.Concatenation && !a.Dynamic
}

func sameRule(a, b *nftables.Rule) bool {
	return bytes.Equal(a.UserData, b.UserData) && slices.EqualFunc(a.Exprs, b.Exprs, func(a, b expr.Any) bool {
		x, errX := expr.Marshal(unix.NFPROTO_INET, still(a))
		y, errY := expr.Marshal(unix.NFPROTO_INET, still(b))
		return errX == nil && errY == nil && bytes.Equal(x, y)
	})
}

// still is e without what the kernel changes by itself.
func still(e expr.Any) expr.Any {
	switch e := e.(type) {
	case *expr.Counter:
		return &expr.Counter{}
	case *expr.Lookup:
		l := *e
		l.SetID = 0 // means something within its transaction only
		return &l
	}
	return e
}
