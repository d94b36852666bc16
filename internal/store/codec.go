package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// encodePrefix is p's address and one byte of length; nil for an invalid one.
// v4-mapped prefixes become IPv4, host bits are cleared.
func encodePrefix(p netip.Prefix) []byte {
	if !p.IsValid() {
		return nil
	}
	a, bits := p.Addr().WithZone(""), p.Bits()
	if a.Is4In6() && bits >= 96 {
		a, bits = a.Unmap(), bits-96
	}
	p = netip.PrefixFrom(a, bits).Masked()
	return append(p.Addr().AsSlice(), byte(bits))
}

// decodePrefix takes only what encodePrefix gives.
func decodePrefix(b []byte) (netip.Prefix, bool) {
	if len(b) == 0 {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(b[:len(b)-1])
	p := netip.PrefixFrom(a, int(b[len(b)-1]))
	return p, ok && p.IsValid() && p == p.Masked() && !a.Is4In6()
}

func encodeAddr(a netip.Addr) []byte {
	if !a.IsValid() {
		return []byte{}
	}
	return a.WithZone("").Unmap().AsSlice()
}

// decodeAddr takes only what encodeAddr gives; empty is the invalid address.
func decodeAddr(b []byte) (netip.Addr, bool) {
	if len(b) == 0 {
		return netip.Addr{}, true
	}
	a, ok := netip.AddrFromSlice(b)
	return a, ok && !a.Is4In6()
}

var (
	earliest = time.Unix(0, math.MinInt64)
	latest   = time.Unix(0, math.MaxInt64)
)

// encodeTime is t in Unix nanoseconds, 0 for the zero time; what does not fit
// is the nearest that does.
func encodeTime(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Before(earliest):
		return math.MinInt64
	case t.After(latest):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func decodeTime(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// encodeDay is "2006-01-02" as 20060102, 0 for anything else.
func encodeDay(day string) int64 {
	var y, m, d int64
	for i := range len(day) {
		switch c := day[i]; {
		case len(day) != len("2006-01-02"), (i == 4 || i == 7) != (c == '-'), c != '-' && (c < '0' || c > '9'):
			return 0
		case i < 4:
			y = y*10 + int64(c-'0')
		case i > 4 && i < 7:
			m = m*10 + int64(c-'0')
		case i > 7:
			d = d*10 + int64(c-'0')
		}
	}
	return y*10000 + m*100 + d
}

func decodeDay(n int64) string {
	return fmt.Sprintf("%04d-%02d-%02d", n/10000, n/100%100, n%100)
}

// clip is s as valid UTF-8 of at most n bytes.
func clip(s string, n int) string {
	if len(s) <= n && utf8.ValidString(s) {
		return s
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return s
}

// seal appends the checksum of a table's row to the row.
func seal(table string, row ...any) []any {
	return append(row, checksum(table, row...))
}

// checksum covers the table's name, so that a page that lands in the wrong
// table is not believed. A CRC finds every flip within 32 bits of each other.
func checksum(table string, row ...any) int64 {
	var buf [256]byte
	b := append(buf[:0], table...)
	for _, v := range row {
		switch v := v.(type) {
		case int64:
			b = binary.BigEndian.AppendUint64(b, uint64(v))
		case string:
			b = append(binary.BigEndian.AppendUint64(b, uint64(len(v))), v...)
		case []byte:
			b = append(binary.BigEndian.AppendUint64(b, uint64(len(v))), v...)
		default:
			panic("store: checksum of a type that is none of a row's")
		}
	}
	return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}
