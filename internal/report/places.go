package report

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"sekisho/internal/country"
)

// Places tells whose country an address is, quickly: country.Data decodes every
// country for one answer. It takes 5 bytes a range of IPv4 and 9 of IPv6, where
// nothing narrower than a /64 is told apart. The zero value and nil know nothing.
type Places struct {
	codes []country.Code // 1-based in owner; 0: nobody's
	v4    ranges[uint32]
	v6    ranges[uint64]
}

// ranges are the beginnings of stretches of addresses, in order, and whose each is.
type ranges[N uint32 | uint64] struct {
	from  []N
	owner []uint16
}

// NewPlaces indexes data.
func NewPlaces(data *country.Data) (*Places, error) {
	p := &Places{}
	var v4 []stretch[uint32]
	var v6 []stretch[uint64]
	for _, code := range data.Codes() {
		set, err := data.Set(code)
		if err != nil {
			return nil, err
		}
		p.codes = append(p.codes, code)
		owner := uint16(len(p.codes))
		for _, r := range set.Ranges() {
			if r.From().Is4() {
				v4 = append(v4, stretch[uint32]{v4Number(r.From()), v4Number(r.To()), owner})
			} else {
				v6 = append(v6, stretch[uint64]{upperHalf(r.From()), upperHalf(r.To()), owner})
			}
		}
	}
	p.v4, p.v6 = indexed(v4, math.MaxUint32), indexed(v6, math.MaxUint64)
	return p, nil
}

type stretch[N uint32 | uint64] struct {
	from, to N
	owner    uint16
}

func indexed[N uint32 | uint64](all []stretch[N], last N) (r ranges[N]) {
	slices.SortFunc(all, func(a, b stretch[N]) int {
		switch {
		case a.from < b.from:
			return -1
		case a.from > b.from:
			return 1
		}
		return 0
	})
	put := func(from N, owner uint16) {
		switch n := len(r.from); {
		case n > 0 && r.from[n-1] == from:
			r.owner[n-1] = owner // of two that share a /64 the later
		case n > 0 && r.owner[n-1] == owner:
		default:
			r.from, r.owner = append(r.from, from), append(r.owner, owner)
		}
	}
	for _, s := range all {
		put(s.from, s.owner)
		if s.to < last {
			put(s.to+1, 0)
		}
	}
	return ranges[N]{slices.Clip(r.from), slices.Clip(r.owner)}
}

func (r ranges[N]) of(n N) uint16 {
	i, found := slices.BinarySearch(r.from, n)
	if !found {
		i--
	}
	if i < 0 {
		return 0
	}
	return r.owner[i]
}

// Country is the code of a's country, "" where that is not known.
func (p *Places) Country(a netip.Addr) string {
	if p == nil || !a.IsValid() {
		return ""
	}
	var owner uint16
	if a = a.Unmap(); a.Is4() {
		owner = p.v4.of(v4Number(a))
	} else {
		owner = p.v6.of(upperHalf(a))
	}
	if owner == 0 {
		return ""
	}
	return p.codes[owner-1].String()
}

func v4Number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func upperHalf(a netip.Addr) uint64 {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8])
}
