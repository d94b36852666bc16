package firewall

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What iptables-nft could not say in nf_tables' own words it writes as a match or
// a target of x_tables: a structure of the kernel's in host byte order, as of
// linux/netfilter/xt_*.h. What newer versions write natively older ones write so
// (1.8.9: multiport, conntrack, REJECT).

// info is such a structure; reading beyond its end yields zeros and spoils it.
type xtInfo struct {
	b     []byte
	short bool
}

func (x *xtInfo) bytes(at, n int) []byte {
	if at+n > len(x.b) {
		x.short = true
		return make([]byte, n)
	}
	return x.b[at : at+n]
}

func (x *xtInfo) u8(at int) byte    { return x.bytes(at, 1)[0] }
func (x *xtInfo) u16(at int) uint16 { return binary.NativeEndian.Uint16(x.bytes(at, 2)) }
func (x *xtInfo) u32(at int) uint32 { return binary.NativeEndian.Uint32(x.bytes(at, 4)) }

// xtMatch judges a match of x_tables.
func (m *othersMachine) xtMatch(data []byte) tri {
	name, rev := text(attrOf(data, unix.NFTA_MATCH_NAME)), attrNumber(attrOf(data, unix.NFTA_MATCH_REV))
	x := &xtInfo{b: attrOf(data, unix.NFTA_MATCH_INFO)}
	t := m.xtJudge(name, rev, x)
	if x.short {
		t = maybe
	}
	if t == maybe {
		m.doubts("iptables' match " + legible(name))
	}
	return t
}

func (m *othersMachine) xtJudge(name string, rev uint32, x *xtInfo) tri {
	switch name {
	case "comment", "limit": // a limit counts as not yet reached
		return yes
	case "udp", "udplite", "icmp", "icmp6", "sctp", "dccp", "ah", "esp", "ipcomp", "frag", "rt", "hbh", "dst", "mh":
		return no // other protocols, and headers that a SYN of ours has not
	case "tcp":
		// u16 spts[2], dpts[2]; u8 option, flg_mask, flg_cmp, invflags
		invert := x.u8(11)
		t := m.portsIn([][2]uint16{{x.u16(0), x.u16(2)}}, true)
		if x.u16(0) == 0 && x.u16(2) == 0xffff {
			t = yes
		}
		t = flip(t, invert&1 != 0)
		t = t.and(flip(m.portsIn([][2]uint16{{x.u16(4), x.u16(6)}}, false), invert&2 != 0))
		t = t.and(flip(triOf(flagSYN&x.u8(9) == x.u8(10)), invert&4 != 0))
		if x.u8(8) != 0 { // a TCP option
			t = t.and(maybe)
		}
		return t
	case "multiport":
		return m.xtMultiport(rev, x)
	case "conntrack":
		return m.xtConntrack(rev, x)
	case "state": // u32 statemask
		return m.inStates(x.u32(0))
	case "mark", "connmark":
		if rev != 1 {
			return maybe
		}
		// u32 mark, mask; u8 invert
		have := m.mark
		if name == "connmark" {
			have = m.ctMark
		}
		mask, want := x.bytes(4, 4), x.bytes(0, 4)
		f := field{make([]byte, 4), make([]byte, 4)}
		for i := range 4 {
			f.value[i], f.known[i] = have.value[i]&mask[i], have.known[i]|^mask[i]
		}
		return flip(f.equals(want), x.u8(8) != 0)
	case "addrtype":
		return m.xtAddrtype(rev, x)
	case "iprange":
		if rev != 1 {
			return maybe
		}
		// union nf_inet_addr src_min, src_max, dst_min, dst_max; u8 flags
		flags := x.u8(64)
		t := yes
		if flags&1 != 0 {
			t = t.and(flip(m.addrIn(m.a.from, x.bytes(0, 16), x.bytes(16, 16)), flags&16 != 0))
		}
		if flags&2 != 0 {
			t = t.and(flip(m.addrIn(m.a.to, x.bytes(32, 16), x.bytes(48, 16)), flags&32 != 0))
		}
		return t
	case "pkttype": // int pkttype, invert
		return flip(triOf(x.u32(0) == unix.PACKET_HOST), x.u32(4) != 0)
	case "connlimit": // union mask; u32 limit, flags: 1 inverts, "upto"
		return triOf(x.u32(20)&1 != 0)
	case "hashlimit":
		const above = 1 << 4 // XT_HASHLIMIT_INVERT
		switch rev {
		case 1: // char name[IFNAMSIZ]; u32 mode
			return triOf(x.u32(unix.IFNAMSIZ)&above == 0)
		case 2, 3: // char name[NAME_MAX]; u64 avg, burst; u32 mode
			return triOf(x.u32(256+16)&above == 0)
		}
		return maybe
	case "recent":
		// u32 seconds, hit_count; u8 check_set, invert
		const set = 2 // XT_RECENT_SET
		switch inverted := x.u8(9) != 0; {
		case x.u8(8)&set != 0:
			return triOf(!inverted)
		case x.u32(4) > 1: // so many in so short a time: not yet reached
			return triOf(inverted)
		}
	}
	return maybe
}

func flip(t tri, inverted bool) tri {
	if inverted {
		return t.not()
	}
	return t
}

// portsIn tells whether the destination port, or the source port, which is unknown
// but above 1023, is in one of ranges.
func (m *othersMachine) portsIn(ranges [][2]uint16, source bool) tri {
	t := no
	for _, r := range ranges {
		switch {
		case source && r[0] == 0 && r[1] == 0xffff:
			return yes
		case source:
			t = maybe
		case m.a.port >= r[0] && m.a.port <= r[1]:
			return yes
		}
	}
	return t
}

func (m *othersMachine) xtMultiport(rev uint32, x *xtInfo) tri {
	if rev != 1 {
		return maybe
	}
	// u8 flags, count; u16 ports[15]; u8 pflags[15], invert
	const (
		ports    = 15
		portsAt  = 2
		pflagsAt = portsAt + 2*ports
		invertAt = pflagsAt + ports
	)
	var ranges [][2]uint16
	for i := 0; i < int(min(x.u8(1), ports)); i++ {
		r := [2]uint16{x.u16(portsAt + 2*i), x.u16(portsAt + 2*i)}
		if x.u8(pflagsAt+i) != 0 && i+1 < ports { // begins a range
			i++
			r[1] = x.u16(portsAt + 2*i)
		}
		ranges = append(ranges, r)
	}
	var t tri
	switch x.u8(0) {
	case 0: // XT_MULTIPORT_SOURCE
		t = m.portsIn(ranges, true)
	case 1: // XT_MULTIPORT_DESTINATION
		t = m.portsIn(ranges, false)
	default: // either
		if t = m.portsIn(ranges, false); t == no {
			t = m.portsIn(ranges, true)
		}
	}
	return flip(t, x.u8(invertAt) != 0)
}

// inStates tells whether the packet is in one of the states of x_tables' mask.
func (m *othersMachine) inStates(mask uint32) tri {
	const fresh, untracked = 1 << 3, 1 << 8 // XT_CONNTRACK_STATE_BIT(IP_CT_NEW), XT_CONNTRACK_STATE_UNTRACKED
	const untrackedOfState = 1 << 6         // XT_STATE_UNTRACKED, of the older match "state"
	switch m.untracked {
	case no:
		return triOf(mask&fresh != 0)
	case yes:
		return triOf(mask&(untracked|untrackedOfState) != 0)
	}
	if mask&fresh != 0 && mask&(untracked|untrackedOfState) != 0 {
		return yes
	}
	if mask&(fresh|untracked|untrackedOfState) == 0 {
		return no
	}
	return maybe
}

func (m *othersMachine) xtConntrack(rev uint32, x *xtInfo) tri {
	if rev < 1 || rev > 3 {
		return maybe
	}
	// Four addresses with their masks; u32 expires_min, expires_max; u16 l4proto,
	// four ports, match_flags, invert_flags; then masks of 8 or of 16 bits.
	const (
		matchAt = 8*16 + 8 + 10
		state   = 1
		alias   = 1 << 13 // how it was typed
	)
	match, invert := x.u16(matchAt), x.u16(matchAt+2)
	var mask uint32
	if rev == 1 {
		mask = uint32(x.u8(matchAt + 4))
	} else {
		mask = uint32(x.u16(matchAt + 4))
	}
	t := yes
	if match&state != 0 {
		// Of xt_conntrack's bits the one of SNAT is xt_state's UNTRACKED.
		const translated = 1<<6 | 1<<7
		t = flip(m.inStates(mask&^translated), invert&state != 0)
		if mask&translated != 0 {
			t = t.and(maybe)
		}
	}
	if match&^(state|alias) != 0 {
		t = t.and(maybe)
	}
	return t
}

func (m *othersMachine) xtAddrtype(rev uint32, x *xtInfo) tri {
	if rev > 1 {
		return maybe
	}
	// u16 source, dest; then u32 flags, or u32 invert_source, invert_dest
	source, dest := x.u16(0), x.u16(2)
	invertSource, invertDest := false, false
	t := yes
	if rev == 0 {
		invertSource, invertDest = x.u32(4) != 0, x.u32(8) != 0
	} else {
		flags := x.u32(4)
		invertSource, invertDest = flags&1 != 0, flags&2 != 0
		if flags&^3 != 0 { // limited to an interface
			t = maybe
		}
	}
	if source != 0 {
		t = t.and(flip(triOf(source&(1<<unix.RTN_UNICAST) != 0), invertSource))
	}
	if dest != 0 {
		t = t.and(flip(triOf(dest&(1<<unix.RTN_LOCAL) != 0), invertDest))
	}
	return t
}

// addrIn tells whether an address is within two of union nf_inet_addr.
func (m *othersMachine) addrIn(a netip.Addr, first, last []byte) tri {
	if !a.IsValid() {
		return maybe
	}
	b := a.AsSlice()
	return triOf(bytes.Compare(b, first[:len(b)]) >= 0 && bytes.Compare(b, last[:len(b)]) <= 0)
}

// xtTarget judges a target of x_tables.
func (m *othersMachine) xtTarget(data []byte, sure bool) (tri, othersVerdict) {
	name, rev := text(attrOf(data, unix.NFTA_TARGET_NAME)), attrNumber(attrOf(data, unix.NFTA_TARGET_REV))
	x := &xtInfo{b: attrOf(data, unix.NFTA_TARGET_INFO)}
	switch name {
	case "REJECT":
		return yes, othersVerdict{set: true, reject: true}
	case "DROP":
		return yes, othersVerdict{set: true, kind: expr.VerdictDrop}
	case "LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "TCPMSS", "TCPOPTSTRIP", "TTL", "HL", "DSCP", "TOS", "CHECKSUM", "CLASSIFY",
		"SECMARK", "CONNSECMARK", "SET", "IDLETIMER", "LED", "RATEEST", "TEE", "CONNMARK":
		if name == "CONNMARK" { // saves or restores
			m.mark, m.ctMark = unknownField(4), unknownField(4)
		}
		return yes, othersVerdict{}
	case "MARK":
		// u32 mark, mask
		f := unknownField(4)
		if rev == 2 {
			have, value, mask := m.mark, x.bytes(0, 4), x.bytes(4, 4)
			for i := range 4 {
				f.value[i], f.known[i] = have.value[i]&^mask[i]^value[i], have.known[i]|mask[i]
			}
		}
		m.mark = settled(f, sure && !x.short)
		return yes, othersVerdict{}
	case "NOTRACK":
		m.setUntracked(sure)
		return yes, othersVerdict{}
	case "CT": // u16 flags
		if x.u16(0)&1 != 0 {
			m.setUntracked(sure)
		}
		return yes, othersVerdict{}
	}
	m.doubts("iptables' target " + legible(name))
	if name == "DNAT" || name == "REDIRECT" || name == "NETMAP" || name == "TPROXY" {
		m.altered = maybe
	}
	return maybe, othersVerdict{set: true, unknown: true}
}
