package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// registerBytes is the size of nf_tables' register file.
const registerBytes = 64

// field is bytes of which not all bits are known.
type field struct {
	value, known []byte // of one length; a bit of known is set where value's is
}

// unknownField has n bytes, as far as a register file holds them.
func unknownField(n int) field {
	n = min(max(n, 0), registerBytes)
	return field{make([]byte, n), make([]byte, n)}
}

func knownField(b []byte) field { return field{b, bytes.Repeat([]byte{0xff}, len(b))} }

func (f field) put(at int, b ...byte) {
	copy(f.value[at:], b)
	copy(f.known[at:], bytes.Repeat([]byte{0xff}, len(b)))
}

func (f field) sure() bool {
	return !slices.ContainsFunc(f.known, func(b byte) bool { return b != 0xff })
}

// compare tells how f stands to b: -1, 0, 1; ok is false where unknown bits decide.
func (f field) compare(b []byte) (c int, ok bool) {
	for i := range b {
		if i >= len(f.value) || f.known[i] != 0xff {
			return 0, false
		}
		if f.value[i] != b[i] {
			if f.value[i] < b[i] {
				return -1, true
			}
			return 1, true
		}
	}
	return 0, true
}

// equals is yes where all bits are known and those of b, no where a known one is not.
func (f field) equals(b []byte) tri {
	t := yes
	for i := range b {
		if i >= len(f.value) {
			return maybe
		}
		if (f.value[i]^b[i])&f.known[i] != 0 {
			return no
		}
		if f.known[i] != 0xff {
			t = maybe
		}
	}
	return t
}

// fates is a set of what may become of a packet.
type fates uint8

const (
	passes fates = 1 << iota
	drops
	rejects
	falls // through the chain's end, or returns
	anyFate
)

func (f fates) blocked() bool { return f&(drops|rejects) != 0 }

// attempt is a new TCP connection's SYN as others' rules see it.
type attempt struct {
	from    netip.Addr
	to      netip.Addr // zero: one of ours, we cannot say which
	port    uint16
	iface   string // by which it comes in; "": unknown, but not by lo
	index   uint32 // of iface; 0: unknown
	tracked bool   // conntrack sees it
}

func (a attempt) v6() bool { return a.from.Is6() }

// culprit is what blocks a packet first.
type culprit struct {
	chain otherChainName
	rule  string
}

// othersMachine runs others' rules over a packet. What it does not understand
// makes it unsure, never wrong: it follows both ways then. A rate limit counts as
// not yet reached.
type othersMachine struct {
	read  *othersReader
	steps int // that are left, over all runs

	a                  attempt
	network, transport field
	mark, ctMark       field
	untracked          tri
	altered            tri // its addresses or ports were translated

	table   otherTable
	reg     field
	notLo   uint32 // the register that holds an interface which is not lo; 0: none
	blame   *culprit
	doubt   string // the first thing that could not be judged
	entered []string
	tooMany bool
	fatal   error
}

const (
	othersSteps = 20_000_000
	othersDepth = 16 // NFT_JUMP_STACK_SIZE
)

// begin takes up another packet.
func (m *othersMachine) begin(a attempt) {
	m.a, m.untracked, m.altered = a, triOf(!a.tracked), no
	m.mark, m.ctMark = knownField(make([]byte, 4)), knownField(make([]byte, 4))
	if a.v6() {
		m.network = unknownField(40)
		m.network.put(0, 0x60)
		m.network.known[0] = 0xf0
		m.network.put(6, unix.IPPROTO_TCP)
		m.network.put(8, a.from.AsSlice()...)
		if a.to.IsValid() {
			m.network.put(24, a.to.AsSlice()...)
		}
	} else {
		m.network = unknownField(20)
		m.network.put(0, 0x45)
		m.network.put(6, 0, 0) // not a fragment; whether it may become one is its own business
		m.network.known[6] = 0xbf
		m.network.put(9, unix.IPPROTO_TCP)
		m.network.put(12, a.from.AsSlice()...)
		if a.to.IsValid() {
			m.network.put(16, a.to.AsSlice()...)
		}
	}
	m.transport = unknownField(20)
	m.transport.put(2, byte(a.port>>8), byte(a.port))
	m.transport.put(8, 0, 0, 0, 0) // acknowledges nothing
	m.transport.put(13, flagSYN)
}

// run runs a base chain and returns what may become of the packet in it.
func (m *othersMachine) run(c otherChain) fates {
	m.blame, m.doubt, m.entered = nil, "", m.entered[:0]
	m.table = c.table
	name := otherChainName{c.table, c.name}
	sure := true
	if c.device != "" || c.table.family == unix.NFPROTO_NETDEV {
		if c.device != "" && m.a.iface != "" && c.device != m.a.iface {
			return passes
		}
		sure = c.device != "" && m.a.iface != ""
		if !sure {
			m.doubts("by which interface it comes")
		}
	}
	f := m.chain(name, sure, 0)
	if !sure {
		f |= passes
	}
	if f&falls != 0 {
		f &^= falls
		if c.drops {
			f |= drops
			m.blames(name, "its policy: drop")
		} else {
			f |= passes
		}
	}
	return f
}

func (m *othersMachine) doubts(what string) {
	if m.doubt == "" {
		m.doubt = what
	}
}

func (m *othersMachine) blames(chain otherChainName, rule string) {
	if m.blame == nil {
		m.blame = &culprit{chain, rule}
	}
}

// chain runs a chain. With sure false the packet may never get here.
func (m *othersMachine) chain(name otherChainName, sure bool, depth int) (f fates) {
	if !slices.Contains(m.entered, name.name) {
		m.entered = append(m.entered, name.name)
	}
	rules, err := m.read.chain(name)
	if err != nil || depth > othersDepth {
		switch {
		case err == nil:
			m.doubts("its chains are too deep")
		case errors.Is(err, errTooMany):
			m.tooMany = true
			m.doubts(errTooMany.Error())
		default:
			m.fatal = err
			m.doubts(err.Error())
		}
		m.blames(name, "a rule that was not read")
		return passes | drops | falls
	}
	for i, r := range rules {
		matched, v := m.rule(r, sure)
		if matched == no || v.none() {
			continue
		}
		var got fates
		switch {
		case v.unknown:
			m.blames(name, r.describe(i, "a verdict that we cannot judge"))
			got = passes | drops | falls
		case v.reject:
			m.blames(name, r.describe(i, "reject"))
			got = rejects
		default:
			switch v.kind {
			case expr.VerdictAccept, expr.VerdictStop:
				got = passes
			case expr.VerdictDrop:
				m.blames(name, r.describe(i, "drop"))
				got = drops
			case expr.VerdictReturn:
				got = falls
			case expr.VerdictJump, expr.VerdictGoto:
				got = m.chain(otherChainName{name.table, v.chain}, sure && matched == yes, depth+1)
				if v.kind == expr.VerdictJump && got&falls != 0 {
					f |= got &^ falls
					if got&^falls != 0 {
						sure = false
					}
					continue // with the next rule
				}
			default:
				m.doubts(fmt.Sprintf("the verdict %d", v.kind))
				m.blames(name, r.describe(i, "a verdict that we cannot judge"))
				got = passes | drops | falls
			}
		}
		f |= got
		if matched == yes {
			return f
		}
		sure = false
	}
	return f | falls
}

func (r otherRule) describe(index int, what string) string {
	s := fmt.Sprintf("rule %d (handle %d): %s", index+1, r.handle, what)
	if r.comment != "" {
		s += " (" + legible(r.comment) + ")"
	}
	return s
}

// verdict is what a rule says of a packet.
type othersVerdict struct {
	set, reject, unknown bool
	kind                 expr.VerdictKind
	chain                string
}

func (v othersVerdict) none() bool {
	return !v.set || v.kind == expr.VerdictContinue || v.kind == expr.VerdictBreak
}

// rule runs a rule's expressions.
func (m *othersMachine) rule(r otherRule, sure bool) (tri, othersVerdict) {
	m.reg, m.notLo = unknownField(registerBytes), 0
	matched := yes
	var v othersVerdict
	attributes(r.exprs, func(_ uint16, e []byte) {
		if matched == no || v.set {
			return
		}
		if m.steps--; m.steps < 0 {
			m.tooMany = true
			m.doubts(errTooMany.Error())
			matched = maybe
			return
		}
		name, data := text(attrOf(e, unix.NFTA_EXPR_NAME)), attrOf(e, unix.NFTA_EXPR_DATA)
		var t tri
		t, v = m.expr(name, data, sure && matched == yes)
		if t == maybe {
			m.doubts("a match of " + legible(name))
		}
		matched = matched.and(t)
	})
	return matched, v
}

func (m *othersMachine) expr(name string, data []byte, sure bool) (tri, othersVerdict) {
	var none othersVerdict
	arg := func(typ uint16) uint32 { return attrNumber(attrOf(data, typ)) }
	switch name {
	case "counter", "log", "last", "dup", "flow_offload", "secmark":
		return yes, none
	case "immediate":
		return m.result(arg(unix.NFTA_IMMEDIATE_DREG), attrOf(data, unix.NFTA_IMMEDIATE_DATA))
	case "meta":
		if attrOf(data, unix.NFTA_META_SREG) != nil {
			m.setMeta(arg(unix.NFTA_META_KEY), m.load(arg(unix.NFTA_META_SREG), 4), sure)
			return yes, none
		}
		f := m.meta(arg(unix.NFTA_META_KEY))
		m.store(arg(unix.NFTA_META_DREG), f)
		if k := arg(unix.NFTA_META_KEY); k == unix.NFT_META_IIF || k == unix.NFT_META_IIFNAME {
			m.notLo = arg(unix.NFTA_META_DREG)
		}
		return yes, none
	case "ct":
		if attrOf(data, unix.NFTA_CT_SREG) != nil {
			if arg(unix.NFTA_CT_KEY) == unix.NFT_CT_MARK {
				m.ctMark = settled(m.load(arg(unix.NFTA_CT_SREG), 4), sure)
			}
			return yes, none
		}
		f, t := m.ct(arg(unix.NFTA_CT_KEY))
		m.store(arg(unix.NFTA_CT_DREG), f)
		return t, none
	case "payload":
		if attrOf(data, unix.NFTA_PAYLOAD_SREG) != nil {
			m.altered = maybe
			m.forget()
			return yes, none
		}
		n := int(arg(unix.NFTA_PAYLOAD_LEN))
		f := m.payload(arg(unix.NFTA_PAYLOAD_BASE), int(arg(unix.NFTA_PAYLOAD_OFFSET)), n)
		m.store(arg(unix.NFTA_PAYLOAD_DREG), f)
		return yes, none
	case "cmp":
		want := attrValue(attrOf(data, unix.NFTA_CMP_DATA))
		sreg := arg(unix.NFTA_CMP_SREG)
		got := m.load(sreg, len(want))
		if sreg != 0 && m.notLo == sreg && (bytes.HasPrefix(want, []byte("lo\x00")) || bytes.Equal(want, native32(loopback).value)) {
			return triOf(arg(unix.NFTA_CMP_OP) == unix.NFT_CMP_NEQ), none
		}
		return cmpField(got, arg(unix.NFTA_CMP_OP), want), none
	case "range":
		first, last := attrValue(attrOf(data, unix.NFTA_RANGE_FROM_DATA)), attrValue(attrOf(data, unix.NFTA_RANGE_TO_DATA))
		got := m.load(arg(unix.NFTA_RANGE_SREG), len(first))
		in := cmpField(got, unix.NFT_CMP_GTE, first).and(cmpField(got, unix.NFT_CMP_LTE, last))
		if arg(unix.NFTA_RANGE_OP) == unix.NFT_RANGE_NEQ {
			in = in.not()
		}
		return in, none
	case "bitwise":
		return yes, m.bitwise(data)
	case "byteorder":
		n, size := int(arg(unix.NFTA_BYTEORDER_LEN)), int(arg(unix.NFTA_BYTEORDER_SIZE))
		f := m.load(arg(unix.NFTA_BYTEORDER_SREG), n)
		if size <= 0 || n != len(f.value) || n%size != 0 {
			f = unknownField(n)
		} else if binary.NativeEndian.Uint16([]byte{0, 1}) != 1 {
			for i := 0; i+size <= n; i += size {
				slices.Reverse(f.value[i : i+size])
				slices.Reverse(f.known[i : i+size])
			}
		}
		m.store(arg(unix.NFTA_BYTEORDER_DREG), f)
		return yes, none
	case "lookup":
		return m.lookup(data)
	case "dynset":
		// Only what hangs on it may break the rule: a limit.
		t := yes
		each := func(e []byte) {
			u, _ := m.expr(text(attrOf(e, unix.NFTA_EXPR_NAME)), attrOf(e, unix.NFTA_EXPR_DATA), sure)
			t = t.and(u)
		}
		if e := attrOf(data, unix.NFTA_DYNSET_EXPR); e != nil {
			each(e)
		}
		const dynsetExpressions = 10
		attributes(attrOf(data, dynsetExpressions), func(_ uint16, e []byte) { each(e) })
		if arg(unix.NFTA_DYNSET_FLAGS)&unix.NFT_DYNSET_F_INV != 0 {
			t = maybe
		}
		if arg(unix.NFTA_DYNSET_OP) == 2 { // NFT_DYNSET_OP_DELETE: matches if it was there
			t = maybe
		}
		return t, none
	case "limit":
		return triOf(arg(unix.NFTA_LIMIT_FLAGS)&unix.NFT_LIMIT_F_INV == 0), none
	case "connlimit":
		return triOf(arg(2)&1 == 0), none // NFTA_CONNLIMIT_FLAGS, NFT_CONNLIMIT_F_INV
	case "objref":
		switch arg(unix.NFTA_OBJREF_IMM_TYPE) {
		case 1, 3, 7, 8, 9: // counter, helper, timeout, secmark, expectation
			return yes, none
		}
		return maybe, none
	case "notrack":
		m.setUntracked(sure)
		return yes, none
	case "reject":
		return yes, othersVerdict{set: true, reject: true}
	case "fib":
		f, t := m.fib(arg(unix.NFTA_FIB_RESULT), arg(unix.NFTA_FIB_FLAGS))
		m.store(arg(unix.NFTA_FIB_DREG), f)
		return t, none
	case "exthdr":
		if arg(unix.NFTA_EXTHDR_OP) != unix.NFT_EXTHDR_OP_IPV6 {
			m.store(arg(unix.NFTA_EXTHDR_DREG), unknownField(int(arg(unix.NFTA_EXTHDR_LEN))))
			return maybe, none
		}
		if arg(unix.NFTA_EXTHDR_FLAGS)&unix.NFT_EXTHDR_F_PRESENT != 0 { // there is none
			m.store(arg(unix.NFTA_EXTHDR_DREG), knownField([]byte{0}))
			return yes, none
		}
		return no, none
	case "match":
		return m.xtMatch(data), none
	case "target":
		return m.xtTarget(data, sure)
	case "nat", "masq", "redir", "tproxy":
		m.altered = maybe
		m.doubts("where it is sent to by " + name)
		return maybe, othersVerdict{set: true, unknown: true}
	case "queue", "synproxy", "fwd":
		m.doubts("what " + name + " does with it")
		return maybe, othersVerdict{set: true, unknown: true}
	}
	// socket, hash, numgen, rt, osf, xfrm, quota, tunnel, inner and what is still to come.
	m.reg = unknownField(registerBytes)
	return maybe, none
}

func settled(f field, sure bool) field {
	if sure {
		return f
	}
	return unknownField(len(f.value))
}

func (m *othersMachine) setUntracked(sure bool) {
	if sure {
		m.untracked = yes
	} else if m.untracked == no {
		m.untracked = maybe
	}
}

// forget drops what is known of the packet, which was rewritten.
func (m *othersMachine) forget() {
	m.network = unknownField(len(m.network.value))
	m.transport = unknownField(len(m.transport.value))
}

// attrValue is a value within an attribute of data.
func attrValue(b []byte) []byte { return attrOf(b, unix.NFTA_DATA_VALUE) }

func cmpField(f field, op uint32, want []byte) tri {
	switch op {
	case unix.NFT_CMP_EQ:
		return f.equals(want)
	case unix.NFT_CMP_NEQ:
		return f.equals(want).not()
	}
	c, ok := f.compare(want)
	if !ok {
		return maybe
	}
	switch op {
	case unix.NFT_CMP_LT:
		return triOf(c < 0)
	case unix.NFT_CMP_LTE:
		return triOf(c <= 0)
	case unix.NFT_CMP_GT:
		return triOf(c > 0)
	case unix.NFT_CMP_GTE:
		return triOf(c >= 0)
	}
	return maybe
}

// registerAt is where a register begins in the file; ok is false for none and the verdict's.
func registerAt(register uint32) (int, bool) {
	switch {
	case register >= unix.NFT_REG_1 && register <= unix.NFT_REG_4:
		return int(register-unix.NFT_REG_1) * 16, true
	case register >= unix.NFT_REG32_00 && register <= unix.NFT_REG32_15:
		return int(register-unix.NFT_REG32_00) * 4, true
	}
	return 0, false
}

func (m *othersMachine) load(register uint32, n int) field {
	f := unknownField(n)
	if i, ok := registerAt(register); ok && n > 0 && i+n <= registerBytes {
		copy(f.value, m.reg.value[i:i+n])
		copy(f.known, m.reg.known[i:i+n])
	}
	return f
}

// store puts f into a register, padded with zeros to whole words as the kernel does.
func (m *othersMachine) store(register uint32, f field) {
	i, ok := registerAt(register)
	if !ok {
		return
	}
	m.notLo = 0
	for len(f.value)%4 != 0 {
		f = field{append(f.value, 0), append(f.known, 0xff)}
	}
	if i+len(f.value) > registerBytes { // never by the kernel
		m.reg = unknownField(registerBytes)
		return
	}
	copy(m.reg.value[i:], f.value)
	copy(m.reg.known[i:], f.known)
}

// result puts data, a value or a verdict, where it belongs.
func (m *othersMachine) result(register uint32, data []byte) (tri, othersVerdict) {
	if verdict := attrOf(data, unix.NFTA_DATA_VERDICT); verdict != nil {
		return yes, othersVerdict{
			set: true, kind: expr.VerdictKind(int32(attrNumber(attrOf(verdict, unix.NFTA_VERDICT_CODE)))),
			chain: text(attrOf(verdict, unix.NFTA_VERDICT_CHAIN)),
		}
	}
	m.store(register, knownField(bytes.Clone(attrValue(data))))
	return yes, othersVerdict{}
}

func (m *othersMachine) bitwise(data []byte) (none othersVerdict) {
	n := int(min(attrNumber(attrOf(data, unix.NFTA_BITWISE_LEN)), registerBytes))
	f := m.load(attrNumber(attrOf(data, unix.NFTA_BITWISE_SREG)), n)
	mask, xor := attrValue(attrOf(data, unix.NFTA_BITWISE_MASK)), attrValue(attrOf(data, unix.NFTA_BITWISE_XOR))
	const operation = 6 // NFTA_BITWISE_OP; 0: mask and xor
	if attrNumber(attrOf(data, operation)) != 0 || len(mask) < n || len(xor) < n {
		f = unknownField(n)
	} else {
		for i := range n {
			f.value[i] = f.value[i]&mask[i] ^ xor[i]
			f.known[i] |= ^mask[i]
		}
	}
	m.store(attrNumber(attrOf(data, unix.NFTA_BITWISE_DREG)), f)
	return none
}

func (m *othersMachine) lookup(data []byte) (tri, othersVerdict) {
	name := text(attrOf(data, unix.NFTA_LOOKUP_SET))
	dreg := attrOf(data, unix.NFTA_LOOKUP_DREG)
	inverted := attrNumber(attrOf(data, unix.NFTA_LOOKUP_FLAGS))&unix.NFT_LOOKUP_F_INV != 0
	unsure := func() (tri, othersVerdict) {
		m.doubts("what is in the set " + legible(name))
		if dreg == nil {
			return maybe, othersVerdict{}
		}
		if attrNumber(dreg) == unix.NFT_REG_VERDICT {
			return maybe, othersVerdict{set: true, unknown: true}
		}
		m.reg = unknownField(registerBytes)
		return maybe, othersVerdict{}
	}
	set, err := m.read.set(m.table, name)
	if err != nil {
		return unsure()
	}
	key := m.load(attrNumber(attrOf(data, unix.NFTA_LOOKUP_SREG)), set.keyLen)
	if !key.sure() {
		return unsure()
	}
	result, found, err := m.read.find(m.table, name, key.value)
	switch {
	case err != nil:
		return unsure()
	case dreg != nil && found:
		return m.result(attrNumber(dreg), result)
	}
	return triOf(found != inverted), othersVerdict{}
}

func native32(n uint32) field { return knownField(binary.NativeEndian.AppendUint32(nil, n)) }

// interfaceName is an interface's name in 16 bytes. One that is unknown is not lo.
func interfaceName(name string) field {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return knownField(b)
}

func (m *othersMachine) meta(key uint32) field {
	switch key {
	case unix.NFT_META_NFPROTO:
		if m.a.v6() {
			return knownField([]byte{unix.NFPROTO_IPV6})
		}
		return knownField([]byte{unix.NFPROTO_IPV4})
	case unix.NFT_META_L4PROTO:
		return knownField([]byte{unix.IPPROTO_TCP})
	case unix.NFT_META_PROTOCOL:
		if m.a.v6() {
			return knownField([]byte{0x86, 0xdd})
		}
		return knownField([]byte{0x08, 0x00})
	case unix.NFT_META_MARK:
		return field{bytes.Clone(m.mark.value), bytes.Clone(m.mark.known)}
	case unix.NFT_META_IIFNAME:
		if m.a.iface != "" {
			return interfaceName(m.a.iface)
		}
		return unknownField(unix.IFNAMSIZ)
	case unix.NFT_META_IIF:
		if m.a.index != 0 {
			return native32(m.a.index)
		}
	case unix.NFT_META_PKTTYPE:
		return knownField([]byte{unix.PACKET_HOST})
	}
	return unknownField(16)
}

func (m *othersMachine) setMeta(key uint32, f field, sure bool) {
	switch key {
	case unix.NFT_META_MARK:
		m.mark = settled(f, sure)
	}
}

// ct loads what conntrack knows of the first packet of a connection. Of an
// untracked one it knows its state only, and the rule breaks.
func (m *othersMachine) ct(key uint32) (field, tri) {
	if key == unix.NFT_CT_STATE {
		switch m.untracked {
		case yes:
			return native32(expr.CtStateBitUNTRACKED), yes
		case no:
			return native32(expr.CtStateBitNEW), yes
		}
		f := native32(0)
		n := native32(expr.CtStateBitUNTRACKED | expr.CtStateBitNEW)
		for i := range f.known {
			f.known[i] = ^n.value[i]
		}
		return f, yes
	}
	t := m.untracked.not()
	switch key {
	case unix.NFT_CT_DIRECTION:
		return knownField([]byte{0}), t
	case unix.NFT_CT_MARK:
		return field{bytes.Clone(m.ctMark.value), bytes.Clone(m.ctMark.known)}, t
	case unix.NFT_CT_STATUS:
		// Not seen a reply, not assured, not confirmed, not translated.
		const certain = 1<<1 | 1<<2 | 1<<3
		const translated = 1<<4 | 1<<5
		f := native32(0)
		mask := uint32(certain)
		if m.altered == no {
			mask |= translated
		}
		f.known = binary.NativeEndian.AppendUint32(nil, mask)
		return f, t
	}
	return unknownField(16), t
}

func (m *othersMachine) payload(base uint32, offset, n int) field {
	f := unknownField(n)
	var from field
	switch base {
	case unix.NFT_PAYLOAD_NETWORK_HEADER:
		from = m.network
	case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		from = m.transport
	default:
		return f
	}
	if offset >= 0 && offset < len(from.value) {
		copy(f.value, from.value[offset:])
		copy(f.known, from.known[offset:])
	}
	return f
}

// fib is a look-up of the routing table: the packet is for us, and its source is
// reached by the interface that it came in by, which is how we found that one.
func (m *othersMachine) fib(result, flags uint32) (field, tri) {
	const (
		saddr, daddr, oif, present = 1, 2, 16, 32
		resultOIF, resultOIFName   = 1, 2
		resultType                 = 3
	)
	switch {
	case result == resultType && flags&daddr != 0:
		return native32(unix.RTN_LOCAL), yes
	case result == resultType && flags&saddr != 0:
		return native32(unix.RTN_UNICAST), yes
	case result == resultOIF && flags&saddr != 0 && m.a.index != 0 && flags&present != 0:
		return knownField([]byte{1}), yes
	case result == resultOIF && flags&saddr != 0 && m.a.index != 0 && flags&oif == 0:
		return native32(m.a.index), yes
	case result == resultOIFName && flags&saddr != 0 && m.a.iface != "" && flags&oif == 0:
		return interfaceName(m.a.iface), yes
	}
	return unknownField(16), maybe
}
