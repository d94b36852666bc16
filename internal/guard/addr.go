package guard

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// addr is an address in its IPv6 form, without a pointer as netip.Addr has one.
// The zero value, which no peer has, is none.
type addr key

func addrOf(a netip.Addr) addr { return addr(addrKey(a)) }

func (a addr) known() bool { return a != addr{} }

// is4 reports whether a is an IPv4 address, ::ffff:0:0/96.
func (a addr) is4() bool { return a.hi == 0 && a.lo>>32 == 0xffff }

// netip is invalid where a is none.
func (a addr) netip() netip.Addr {
	if !a.known() {
		return netip.Addr{}
	}
	if a.is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

// masked is a with its first bits (of the IPv6 form) alone.
func (a addr) masked(bits uint8) key {
	if bits <= 64 {
		return key{a.hi &^ (math.MaxUint64 >> bits), 0} // a shift by 64 gives 0
	}
	return key{a.hi, a.lo &^ (math.MaxUint64 >> (bits - 64))}
}
