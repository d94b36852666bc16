package country

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// number is an address as a number: IPv4's 32 bits or IPv6's 128.
type number struct{ hi, lo uint64 }

func numberOf(a netip.Addr) number {
	if a.Is4() {
		b := a.As4()
		return number{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// addr is n as an address of f.
func (n number) addr(f family) netip.Addr {
	if f == v4 {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(n.lo))))
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.hi)
	binary.BigEndian.PutUint64(b[8:], n.lo)
	return netip.AddrFrom16(b)
}

func (n number) less(m number) bool { return n.hi < m.hi || n.hi == m.hi && n.lo < m.lo }

// add is n+m; over says that the sum has more than 128 bits.
func (n number) add(m number) (sum number, over bool) {
	lo, carry := bits.Add64(n.lo, m.lo, 0)
	hi, carry := bits.Add64(n.hi, m.hi, carry)
	return number{hi, lo}, carry != 0
}

// sub is n-m, modulo 2^128.
func (n number) sub(m number) number {
	lo, borrow := bits.Sub64(n.lo, m.lo, 0)
	hi, _ := bits.Sub64(n.hi, m.hi, borrow)
	return number{hi, lo}
}

func (n number) next() number { sum, _ := n.add(number{0, 1}); return sum }
func (n number) prev() number { return n.sub(number{0, 1}) }

// bitLen is the number of bits that n needs.
func (n number) bitLen() int {
	if n.hi != 0 {
		return 64 + bits.Len64(n.hi)
	}
	return bits.Len64(n.lo)
}

// zeros is how many zero bits n ends with; 0 for 0.
func (n number) zeros() int {
	switch {
	case n.lo != 0:
		return bits.TrailingZeros64(n.lo)
	case n.hi != 0:
		return 64 + bits.TrailingZeros64(n.hi)
	}
	return 0
}

func (n number) shiftRight(by int) number {
	if by >= 64 {
		return number{0, n.hi >> (by - 64)}
	}
	return number{n.hi >> by, n.lo>>by | n.hi<<(64-by)}
}

func (n number) shiftLeft(by int) number {
	if by >= 64 {
		return number{n.lo << (by - 64), 0}
	}
	return number{n.hi<<by | n.lo>>(64-by), n.lo << by}
}
