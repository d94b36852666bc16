package firewall

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ruling is our chains as they can be run on a packet that is only known in part.
// Expressions that desired never writes cannot be judged. (Other firewalls' rules
// are judged from what the kernel tells, by othersMachine.)
type ruling struct {
	chains map[string][]*nftables.Rule
	// sets finds a set; false: it is not known.
	sets func(name string) (judgedSet, bool)
}

// judgedSet is a set as a rule looks into it.
type judgedSet struct {
	size int // of its keys in bytes
	has  func(key []byte) bool
}

// tri is yes, no, or neither.
type tri uint8

const (
	maybe tri = iota
	yes
	no
)

func triOf(b bool) tri {
	if b {
		return yes
	}
	return no
}

func (t tri) not() tri {
	switch t {
	case yes:
		return no
	case no:
		return yes
	}
	return maybe
}

func (t tri) and(u tri) tri {
	switch {
	case t == no || u == no:
		return no
	case t == yes && u == yes:
		return yes
	}
	return maybe
}

// passage is a packet on its way through base chains.
type passage struct {
	Packet
	headers   [3]view // by expr.PayloadBase
	untracked tri
	steps     int // left
}

// view is bytes of which some bits are known.
type view struct {
	data, known []byte
	// mask and never are of a value of which it is known what it is not: never tells
	// that its bits of mask are not want. never is nil otherwise.
	mask  []byte
	never func(want, mask []byte) bool
}

func unknown(n int) view { return view{data: make([]byte, n), known: make([]byte, n)} }

func certain(data []byte) view {
	return view{data: data, known: bytes.Repeat([]byte{0xff}, len(data))}
}

// set makes n bits of v at offset known.
func (v view) set(offset int, data ...byte) {
	copy(v.data[offset:], data)
	for i := range data {
		v.known[offset+i] = 0xff
	}
}

// most is the longest way that is followed, in rules.
const most = 100_000

func newPassage(p Packet) *passage {
	p.From, p.To = p.From.Unmap(), p.To.Unmap()
	g := &passage{Packet: p, untracked: no, steps: most}
	var ip view
	if p.From.Is4() {
		ip = unknown(20)
		ip.set(0, 0x45)
		ip.set(6, 0, 0) // not a fragment; what DF is, is seldom asked for
		ip.known[6] = 0xbf
		ip.set(9, p.Proto)
		ip.set(12, p.From.AsSlice()...)
		if p.To.Is4() {
			ip.set(16, p.To.AsSlice()...)
		}
	} else {
		ip = unknown(40)
		ip.set(0, 0x60)
		ip.known[0] = 0xf0
		ip.set(6, p.Proto)
		ip.set(8, p.From.AsSlice()...)
		if p.To.Is6() {
			ip.set(24, p.To.AsSlice()...)
		}
	}
	g.headers[expr.PayloadBaseNetworkHeader] = ip
	switch p.Proto {
	case unix.IPPROTO_TCP:
		l4 := unknown(20)
		l4.set(13, p.Flags)
		g.headers[expr.PayloadBaseTransportHeader] = l4
	case unix.IPPROTO_UDP:
		g.headers[expr.PayloadBaseTransportHeader] = unknown(8)
	}
	if l4 := g.headers[expr.PayloadBaseTransportHeader]; l4.data != nil {
		l4.set(0, binary.BigEndian.AppendUint16(nil, p.FromPort)...)
		l4.set(2, binary.BigEndian.AppendUint16(nil, p.ToPort)...)
	}
	return g
}

// ended is how the way through a base chain ended.
type ended struct {
	Judgement
	via *at // the last goto or jump on the way
}

// at is a place in a table.
type at struct{ chain, rule string }

// judge runs p through a base chain. A rule that may match or not leaves two ways
// to go: where both end alike it does not matter, otherwise the verdict is Unknown.
// To drop and to reject end alike in that nothing passes: that is Drop.
func (r ruling) judge(p *passage, base string, policy Verdict) ended {
	return r.run(p, frame{chain: base}, nil, policy, nil)
}

// frame is a place in a chain to go on from.
type frame struct {
	chain string
	rule  int
}

func (r ruling) run(p *passage, f frame, stack []frame, policy Verdict, via *at) ended {
	for {
		rules, ok := r.chains[f.chain]
		if p.steps--; p.steps < 0 || !ok {
			return ended{Judgement{Chain: f.chain}, via}
		}
		if f.rule >= len(rules) {
			if len(stack) == 0 {
				return ended{Judgement: Judgement{Verdict: policy}}
			}
			f, stack = stack[len(stack)-1], stack[:len(stack)-1]
			continue
		}
		rule := rules[f.rule]
		f.rule++
		before := *p
		matches, act := r.rule(p, rule)
		if act == nil || matches == no {
			if matches != yes {
				p.untracked = merged(before.untracked, p.untracked, matches)
			}
			continue
		}
		if matches == yes {
			if end, over := r.act(p, act, rule, &f, &stack, &via); over {
				return end
			}
			continue
		}
		// Both ways.
		first := *p
		f1, stack1, via1 := f, append([]frame(nil), stack...), via
		a, over := r.act(&first, act, rule, &f1, &stack1, &via1)
		if !over {
			a = r.run(&first, f1, stack1, policy, via1)
		}
		p.steps, p.untracked = first.steps, before.untracked
		b := r.run(p, f, stack, policy, via)
		p.untracked = merged(first.untracked, p.untracked, maybe)
		switch {
		case a.Verdict == b.Verdict:
			return b
		case a.Verdict != Unknown && b.Verdict != Unknown && a.Verdict != Pass && b.Verdict != Pass:
			b.Verdict = Drop
			return b
		case a.Verdict == Unknown:
			return a
		case b.Verdict == Unknown:
			return b
		}
		return ended{Judgement{Chain: f.chain, Rule: comment(rule)}, via}
	}
}

// merged is what is known after a way that was taken or not.
func merged(before, after, taken tri) tri {
	switch {
	case before == after || taken == yes:
		return after
	case taken == no:
		return before
	}
	return maybe
}

// action is what a rule does that matches.
type action struct {
	kind  expr.VerdictKind
	chain string
	ends  Verdict // of expressions other than a verdict, where stops is set
	stops bool
}

// act does it; over tells that the way ends here.
func (r ruling) act(p *passage, a *action, rule *nftables.Rule, f *frame, stack *[]frame, via **at) (end ended, over bool) {
	here := func(v Verdict) (ended, bool) {
		return ended{Judgement{Verdict: v, Chain: f.chain, Rule: comment(rule)}, *via}, true
	}
	if a.stops {
		return here(a.ends)
	}
	switch a.kind {
	case expr.VerdictAccept:
		return here(Pass)
	case expr.VerdictDrop:
		return here(Drop)
	case expr.VerdictGoto, expr.VerdictJump:
		*via = &at{f.chain, comment(rule)}
		if a.kind == expr.VerdictJump {
			*stack = append(*stack, *f)
		}
		*f = frame{chain: a.chain}
	default:
		return here(Unknown)
	}
	return ended{}, false
}

// rule evaluates one rule; act is nil where a match does nothing.
func (r ruling) rule(p *passage, rule *nftables.Rule) (matches tri, act *action) {
	matches = yes
	var regs registers
	for _, e := range rule.Exprs {
		var m tri
		m, act = r.expression(p, &regs, e)
		if matches = matches.and(m); matches == no || act != nil {
			return matches, act
		}
	}
	return matches, nil
}

func (r ruling) expression(p *passage, regs *registers, e expr.Any) (tri, *action) {
	switch e := e.(type) {
	case *expr.Verdict:
		return yes, &action{kind: e.Kind, chain: e.Chain}
	case *expr.Reject:
		return yes, &action{ends: Reject, stops: true}
	case *expr.Counter:
		return yes, nil
	case *expr.Notrack:
		p.untracked = yes
		return yes, nil
	case *expr.Meta:
		regs.put(e.Register, p.meta(e.Key))
		return yes, nil
	case *expr.Ct:
		regs.put(e.Register, p.ct(e.Key))
		return yes, nil
	case *expr.Payload:
		return p.payload(regs, e), nil
	case *expr.Exthdr:
		return p.exthdr(regs, e), nil
	case *expr.Bitwise:
		regs.put(e.DestRegister, regs.get(e.SourceRegister, int(e.Len)).bitwise(e.Mask, e.Xor))
		return yes, nil
	case *expr.Cmp:
		return regs.get(e.Register, len(e.Data)).compare(e.Op, e.Data), nil
	case *expr.Lookup:
		return r.lookup(regs, e), nil
	case *expr.Limit:
		return triOf(!e.Over), nil
	case *expr.Dynset:
		return dynset(e), nil
	case *expr.Socket:
		regs.put(e.Register, unknown(1))
		return maybe, nil
	}
	// It could be anything, also something that ends the way.
	return yes, &action{ends: Unknown, stops: true}
}

func (r ruling) lookup(regs *registers, e *expr.Lookup) tri {
	s, ok := r.sets(e.SetName)
	if !ok || e.IsDestRegSet {
		return maybe
	}
	key := regs.get(e.SourceRegister, s.size)
	if !key.whole() {
		return maybe
	}
	return triOf(s.has(key.data) != e.Invert)
}

// dynset counts on room in the set, and on limits that are not reached.
func dynset(e *expr.Dynset) tri {
	for _, inner := range e.Exprs {
		if limit, ok := inner.(*expr.Limit); !ok {
			return maybe
		} else if limit.Over {
			return no
		}
	}
	return yes
}

func (p *passage) meta(key expr.MetaKey) view {
	v4 := p.From.Is4()
	switch key {
	case expr.MetaKeyNFPROTO:
		return certain([]byte{familyOf(!v4)})
	case expr.MetaKeyL4PROTO:
		return certain([]byte{p.Proto})
	case expr.MetaKeyIIF:
		return p.lo()
	case expr.MetaKeyPKTTYPE:
		switch {
		case p.To.IsMulticast():
			return certain([]byte{unix.PACKET_MULTICAST})
		case p.To == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return certain([]byte{unix.PACKET_BROADCAST})
		}
		return certain([]byte{unix.PACKET_HOST})
	}
	return unknown(16)
}

// lo is the index of lo, or another.
func (p *passage) lo() view {
	index := binary.NativeEndian.AppendUint32(nil, loopback)
	if p.Loopback {
		return certain(index)
	}
	v := unknown(len(index))
	v.never = func(want, mask []byte) bool {
		return bytes.Equal(want, index) && bytes.Count(mask, []byte{0xff}) == len(mask)
	}
	return v
}

// conntrack's states that need an interpreter, as bits.
const stateICMP = expr.CtStateBitINVALID | expr.CtStateBitRELATED | expr.CtStateBitNEW | expr.CtStateBitUNTRACKED

func (p *passage) ct(key expr.CtKey) view {
	word := func(value, known uint32) view {
		return view{data: binary.NativeEndian.AppendUint32(nil, value), known: binary.NativeEndian.AppendUint32(nil, known)}
	}
	switch {
	case key == expr.CtKeySTATE && p.untracked == yes:
		return word(expr.CtStateBitUNTRACKED, 1<<32-1)
	case key == expr.CtKeySTATE:
		known := uint32(1<<32 - 1)
		value := p.first()
		if value == 0 {
			known &^= stateICMP
		}
		if p.untracked == maybe {
			known &^= value | expr.CtStateBitUNTRACKED
		}
		return word(value&known, known)
	}
	return unknown(16)
}

// first is the state of a connection's first packet, as nf_conntrack_proto_tcp.c
// finds it where tcp_loose is set; 0: it depends.
func (p *passage) first() uint32 {
	switch p.Proto {
	case unix.IPPROTO_TCP:
		switch p.Flags &^ (flagPSH | 0xc0) { // without PSH, ECE and CWR
		case flagSYN, flagSYN | flagURG, flagACK, flagACK | flagURG:
			return expr.CtStateBitNEW
		}
		return expr.CtStateBitINVALID
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP:
		return 0
	}
	return expr.CtStateBitNEW
}

func (p *passage) payload(regs *registers, e *expr.Payload) tri {
	n := int(e.Len)
	v := unknown(n)
	if int(e.Base) < len(p.headers) {
		if h := p.headers[e.Base]; int(e.Offset)+n <= len(h.data) {
			copy(v.data, h.data[e.Offset:])
			copy(v.known, h.known[e.Offset:])
		}
	}
	if e.Base == expr.PayloadBaseNetworkHeader && !p.To.IsValid() {
		if v4 := p.From.Is4(); v4 && e.Offset == 16 || !v4 && e.Offset == 24 {
			v.never = p.notOurs
		}
	}
	regs.put(e.DestRegister, v)
	if e.Base == expr.PayloadBaseTransportHeader && p.Proto != unix.IPPROTO_TCP && p.Proto != unix.IPPROTO_UDP {
		return maybe // there may not be so much of it
	}
	return yes
}

// notOurs tells that no address of a host that takes packets has these bits.
func (p *passage) notOurs(want, mask []byte) bool {
	if !p.From.Is4() {
		return mask[0] == 0xff && want[0] == 0xff
	}
	return mask[0]&0xe0 == 0xe0 && want[0]&0xe0 == 0xe0 || mask[0] == 0xff && want[0] == 127 && !p.Loopback
}

func (p *passage) exthdr(regs *registers, e *expr.Exthdr) tri {
	switch {
	case e.Op != expr.ExthdrOpIpv6:
		return maybe
	case p.From.Is4():
		return no
	case e.Flags&unix.NFT_EXTHDR_F_PRESENT != 0:
		regs.put(e.DestRegister, certain([]byte{0}))
		return yes
	}
	return no
}

// whole reports whether all of v is known.
func (v view) whole() bool { return bytes.Count(v.known, []byte{0xff}) == len(v.known) }

func (v view) bitwise(mask, xor []byte) view {
	if len(mask) != len(v.data) || len(xor) != len(v.data) {
		return unknown(len(v.data))
	}
	w := unknown(len(v.data))
	w.mask, w.never = bytes.Clone(mask), v.never
	if v.mask != nil || bytes.Count(xor, []byte{0}) != len(xor) {
		w.never = nil
	}
	for i := range w.data {
		w.known[i] = v.known[i] | ^mask[i]
		w.data[i] = (v.data[i]&mask[i] ^ xor[i]) & w.known[i]
	}
	return w
}

// compare is v op want, as memcmp has it.
func (v view) compare(op expr.CmpOp, want []byte) tri {
	if len(v.data) != len(want) {
		return maybe
	}
	order, decided := 0, yes
	for i := range want {
		if v.known[i] != 0xff {
			decided = maybe
			if v.data[i]&v.known[i] == want[i]&v.known[i] {
				continue
			}
			if op == expr.CmpOpEq || op == expr.CmpOpNeq {
				return triOf(op == expr.CmpOpNeq)
			}
			return maybe
		}
		if c := int(v.data[i]) - int(want[i]); c != 0 {
			if decided == maybe && op != expr.CmpOpEq && op != expr.CmpOpNeq {
				return maybe
			}
			order, decided = c, yes
			break
		}
	}
	if decided == maybe {
		mask := v.mask
		if mask == nil {
			mask = bytes.Repeat([]byte{0xff}, len(want))
		}
		if v.never != nil && (op == expr.CmpOpEq || op == expr.CmpOpNeq) && v.never(want, mask) {
			return triOf(op == expr.CmpOpNeq)
		}
		return maybe
	}
	switch op {
	case expr.CmpOpEq:
		return triOf(order == 0)
	case expr.CmpOpNeq:
		return triOf(order != 0)
	case expr.CmpOpLte:
		return triOf(order <= 0)
	case expr.CmpOpGte:
		return triOf(order >= 0)
	}
	return maybe
}

// registers are the kernel's: four of 16 bytes, or the same as sixteen of 4. The
// zero value knows nothing.
type registers struct {
	data, known [64]byte
	odd         struct { // the one value of which it is known what it is not
		offset, size int
		view
	}
}

func register(n uint32) int {
	if n >= unix.NFT_REG32_00 {
		return int(n-unix.NFT_REG32_00) * 4 % 64
	}
	return int(n-1) * 16 % 64
}

func (r *registers) put(n uint32, v view) {
	offset := register(n)
	size := copy(r.data[offset:], v.data)
	copy(r.known[offset:], v.known)
	for i := offset + size; i < 64 && i%4 != 0; i++ { // a word is written whole
		r.data[i], r.known[i] = 0, 0xff
	}
	if v.never != nil {
		r.odd.offset, r.odd.size, r.odd.view = offset, size, v
	} else if offset < r.odd.offset+r.odd.size && r.odd.offset < offset+size {
		r.odd.view = view{}
	}
}

func (r *registers) get(n uint32, size int) view {
	offset := register(n)
	size = min(size, 64-offset)
	v := view{data: bytes.Clone(r.data[offset : offset+size]), known: bytes.Clone(r.known[offset : offset+size])}
	if r.odd.never != nil && r.odd.offset == offset && size <= r.odd.size {
		v.never = r.odd.never
		if r.odd.mask != nil {
			v.mask = r.odd.mask[:size]
		}
	}
	return v
}
