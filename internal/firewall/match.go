package firewall

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// match is a part of a rule, as nft itself would write it, so that nft's listing
// names things by their names.
type match []expr.Any

// loopback is the index of lo in every network namespace.
const loopback = 1

func loIn() match { return index(expr.MetaKeyIIF, expr.CmpOpEq) }

func notLoOut() match { return index(expr.MetaKeyOIF, expr.CmpOpNeq) }

func index(key expr.MetaKey, op expr.CmpOp) match {
	return match{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, loopback)},
	}
}

func meta(key expr.MetaKey, op expr.CmpOp, value byte) match {
	return match{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{value}},
	}
}

func family(f byte) match { return meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, f) }

func proto(p byte) match { return meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, p) }

func notProto(p byte) match { return meta(expr.MetaKeyL4PROTO, expr.CmpOpNeq, p) }

func broadcast() match { return meta(expr.MetaKeyPKTTYPE, expr.CmpOpEq, unix.PACKET_BROADCAST) }

// armed matches while a rule set is on trial.
func armed() match {
	return match{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: armedName},
	}
}

// side is the source or the destination in both headers of IP, and of TCP and UDP.
type side int

const (
	from side = iota
	to
)

// address loads an address of a family into register 1.
func (s side) address(v6 bool) match {
	if v6 {
		return append(family(unix.NFPROTO_IPV6), ipHeader(8+16*uint32(s), 16))
	}
	return append(family(unix.NFPROTO_IPV4), ipHeader(12+4*uint32(s), 4))
}

func ipHeader(offset, size uint32) *expr.Payload {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}
}

func l4Header(offset, size uint32) *expr.Payload {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: size}
}

// half64 leaves of the address in register 1 its first 64 bits.
func half64() expr.Any { return masked(netip.PrefixFrom(netip.IPv6Unspecified(), 64)) }

// masked leaves of the address in register 1 its first p.Bits() bits.
func masked(p netip.Prefix) expr.Any {
	n := p.Addr().BitLen() / 8
	mask := make([]byte, n)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(n), Mask: mask, Xor: make([]byte, n)}
}

// in matches addresses in the set; for one of /64s, addresses in one of these.
func (s side) in(name string, v6, halves bool) match {
	m := s.address(v6)
	if halves {
		m = append(m, half64())
	}
	return append(m, &expr.Lookup{SourceRegister: 1, SetName: name})
}

// notIn matches addresses of that family that are not in the set.
func (s side) notIn(name string, v6 bool) match {
	return append(s.address(v6), &expr.Lookup{SourceRegister: 1, SetName: name, Invert: true})
}

// within matches addresses in p.
func (s side) within(p netip.Prefix) match {
	m := s.address(p.Addr().Is6())
	if !p.IsSingleIP() {
		m = append(m, masked(p))
	}
	return append(m, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()})
}

// portIn matches TCP ports in the set.
func (s side) portIn(name string) match {
	return append(proto(unix.IPPROTO_TCP), l4Header(2*uint32(s), 2), &expr.Lookup{SourceRegister: 1, SetName: name})
}

// portNotIn matches TCP ports that are not in the set.
func (s side) portNotIn(name string) match {
	return append(proto(unix.IPPROTO_TCP), l4Header(2*uint32(s), 2), &expr.Lookup{SourceRegister: 1, SetName: name, Invert: true})
}

// ports matches destination ports from first to last.
func ports(p byte, first, last uint16) match {
	return append(append(proto(p), l4Header(2, 2)), span16(first, last)...)
}

// udp matches both ports.
func udp(from, to uint16) match {
	data := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	return append(proto(unix.IPPROTO_UDP), l4Header(0, 4), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data})
}

func span16(first, last uint16) match {
	return spanOf(binary.BigEndian.AppendUint16(nil, first), binary.BigEndian.AppendUint16(nil, last))
}

// spanOf matches register 1 from first to last.
func spanOf(first, last []byte) match {
	if bytes.Equal(first, last) {
		return match{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: first}}
	}
	return match{
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: first},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: last},
	}
}

// icmp matches types of ICMP from first to last.
func icmp(first, last byte) match {
	return icmpOf(unix.NFPROTO_IPV4, unix.IPPROTO_ICMP, first, last)
}

// icmp6 matches types of ICMPv6 from first to last.
func icmp6(first, last byte) match {
	return icmpOf(unix.NFPROTO_IPV6, unix.IPPROTO_ICMPV6, first, last)
}

func icmpOf(f, p, first, last byte) match {
	m := append(append(family(f), proto(p)...), l4Header(0, 1))
	return append(m, spanOf([]byte{first}, []byte{last})...)
}

// neighbour matches packets that no router has passed on (RFC 4861, 11.2).
func neighbour() match {
	return match{ipHeader(7, 1), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{255}}}
}

// TCP's flags, in the order of its header.
const (
	flagFIN byte = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
)

// flags matches TCP whose flags of mask are, or with CmpOpNeq are not, want.
func flags(mask byte, op expr.CmpOp, want byte) match {
	return append(proto(unix.IPPROTO_TCP), flagged(mask, op, want)...)
}

// flagged is flags of what is TCP.
func flagged(mask byte, op expr.CmpOp, want byte) match {
	return match{
		l4Header(13, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{want}},
	}
}

// opening is the mask in which the segment that begins a connection has SYN only:
// a listening socket takes it whatever its other flags and its data are (Linux,
// tcp_rcv_state_process), and takes no other.
const opening = flagFIN | flagSYN | flagRST | flagACK

// state matches any of the states of conntrack in bits.
func state(bits uint32) match {
	return match{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binary.NativeEndian.AppendUint32(nil, bits), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// ownSocket matches packets of a socket that is bound to an address of its own: an
// established connection is.
func ownSocket() match {
	return match{
		&expr.Socket{Key: expr.SocketKeyWildcard, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
	}
}

// listening matches packets of a socket that is bound to no address: no connection
// is, complete or not (nft_socket.c breaks off at those that are not).
func listening() match {
	return match{
		&expr.Socket{Key: expr.SocketKeyWildcard, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}
}

// fragment matches IPv6 packets with a fragment header.
func fragment() match {
	return append(family(unix.NFPROTO_IPV6),
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Len: 1, Op: expr.ExthdrOpIpv6, Flags: unix.NFT_EXTHDR_F_PRESENT},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}})
}

// fragmentOf matches IPv6 packets whose fragment header is followed by one of the
// headers from first to last.
func fragmentOf(first, last byte) match {
	return append(append(family(unix.NFPROTO_IPV6),
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Len: 1, Op: expr.ExthdrOpIpv6}),
		spanOf([]byte{first}, []byte{last})...)
}

// morePerSecond matches what is more than n packets a second, all sources together.
func morePerSecond(n uint64) match {
	return match{&expr.Limit{Type: expr.LimitTypePkts, Rate: n, Over: true, Unit: expr.LimitTimeSecond, Burst: uint32(n)}}
}

// above matches packets over the rate of their source, an IPv6 one's /64. The
// element is updated by each packet: with "add" its bucket would be reborn full
// when its time is over. A set that is full makes it match nothing.
func above(name string, v6 bool, r Rate) match {
	m := from.address(v6)
	if v6 {
		m = append(m, half64())
	}
	return append(m, &expr.Dynset{
		SrcRegKey: 1, SetName: name, Operation: unix.NFT_DYNSET_OP_UPDATE,
		Exprs: []expr.Any{&expr.Limit{
			Type: expr.LimitTypePkts, Rate: uint64(r.PerMinute), Over: true, Unit: expr.LimitTimeMinute, Burst: uint32(r.Burst),
		}},
	})
}

// remember puts source address and TCP port into the set.
func remember(name string, v6 bool) match {
	second := uint32(unix.NFT_REG32_01)
	if v6 {
		second = unix.NFT_REG_2
	}
	m := append(family(familyOf(v6)), proto(unix.IPPROTO_TCP)...)
	address, port := from.address(v6), l4Header(0, 2)
	port.DestRegister = second
	return append(m, address[len(address)-1], port,
		&expr.Dynset{SrcRegKey: 1, SetName: name, Operation: unix.NFT_DYNSET_OP_UPDATE})
}

// note puts the source address into the set. One that is full takes no others.
func note(name string, v6 bool) match {
	return append(from.address(v6), &expr.Dynset{SrcRegKey: 1, SetName: name, Operation: unix.NFT_DYNSET_OP_UPDATE})
}

func familyOf(v6 bool) byte {
	if v6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

func count() match { return match{&expr.Counter{}} }

func accept() match { return match{&expr.Verdict{Kind: expr.VerdictAccept}} }

// drop drops and counts.
func drop() match { return match{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }

func jump(chain string) match { return match{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}} }

func goTo(chain string) match { return match{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}} }

// reject answers and counts; ICMP's codes are those of the family.
func reject(typ uint32, code uint8) match {
	return match{&expr.Counter{}, &expr.Reject{Type: typ, Code: code}}
}

func notrack() match { return match{&expr.Notrack{}} }
