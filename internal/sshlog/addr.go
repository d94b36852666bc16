package sshlog

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// parseAddr is netip.ParseAddr(string(b)) followed by Unmap, without the
// string; the zero Addr where it is none. Only an address with a zone, which is on the local link, allocates.
func parseAddr(b []byte) (netip.Addr, bool) {
	for i, c := range b {
		switch {
		case c == '.':
			return parseIPv4(b)
		case c == ':':
			return parseIPv6(b)
		case i == 4 || hexValue(c) < 0:
			return netip.Addr{}, false
		}
	}
	return netip.Addr{}, false
}

func parseIPv4(b []byte) (netip.Addr, bool) {
	v, ok := fields4(b)
	if !ok {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4(v), true
}

// fields4 reads dotted decimal. Leading zeros are refused, as netip does: some
// read them as octal.
func fields4(b []byte) (v [4]byte, ok bool) {
	all := uint32(0)
	for field := range 4 {
		n, i := uint32(0), 0
		for i < len(b) && i < 3 && b[i]-'0' <= 9 {
			n = n*10 + uint32(b[i]-'0')
			i++
		}
		if i == 0 || n > 255 || i > 1 && b[0] == '0' {
			return v, false
		}
		all = all<<8 | n
		if b = b[i:]; field < 3 {
			if len(b) == 0 || b[0] != '.' {
				return v, false
			}
			b = b[1:]
		}
	}
	binary.BigEndian.PutUint32(v[:], all) // at once: byte by byte the processor stalls when it is read
	return v, len(b) == 0
}

func parseIPv6(b []byte) (netip.Addr, bool) {
	if bytes.IndexByte(b, '%') >= 0 {
		a, err := netip.ParseAddr(string(b))
		return a.Unmap(), err == nil
	}
	var v [16]byte
	n, gap := 0, -1 // bytes filled; where "::" stands
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap, b = 0, b[2:]
	}
	for len(b) > 0 {
		if n == 16 {
			return netip.Addr{}, false
		}
		word, i := 0, 0
		for i < len(b) && hexValue(b[i]) >= 0 {
			if i == 4 {
				return netip.Addr{}, false
			}
			word = word<<4 | hexValue(b[i])
			i++
		}
		if i == 0 {
			return netip.Addr{}, false
		}
		if i < len(b) && b[i] == '.' { // the last four bytes in dotted decimal
			v4, ok := fields4(b)
			if !ok || n > 12 {
				return netip.Addr{}, false
			}
			copy(v[n:], v4[:])
			n, b = n+4, nil
			break
		}
		v[n], v[n+1] = byte(word>>8), byte(word)
		n, b = n+2, b[i:]
		if len(b) == 0 {
			break
		}
		if b[0] != ':' || len(b) == 1 {
			return netip.Addr{}, false
		}
		b = b[1:]
		if b[0] == ':' {
			if gap >= 0 {
				return netip.Addr{}, false
			}
			gap, b = n, b[1:]
		}
	}
	switch {
	case n < 16 && gap < 0, n == 16 && gap >= 0: // netip: "::" stands for at least one field
		return netip.Addr{}, false
	case gap >= 0:
		copy(v[16-(n-gap):], v[gap:n])
		clear(v[gap : 16-(n-gap)])
	}
	return netip.AddrFrom16(v).Unmap(), true
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// parseUint reads all of b as a decimal number of at most limit.
func parseUint(b []byte, limit uint32) (uint32, bool) {
	if len(b) == 0 || len(b) > 10 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return uint32(n), n <= uint64(limit)
}

// looksLikeAddr reports whether some token of b may be an address: for messages
// that are not known, to tell those that may name a peer from those that do not.
func looksLikeAddr(b []byte) bool {
	if bytes.Count(b, []byte{'.'}) < 3 && bytes.Count(b, []byte{':'}) < 2 {
		return false
	}
	for i := 0; i < len(b); {
		start := i
		dots, colons := 0, 0
		for i < len(b) && (hexValue(b[i]) >= 0 || b[i] == '.' || b[i] == ':') {
			switch b[i] {
			case '.':
				dots++
			case ':':
				colons++
			}
			i++
		}
		if dots >= 3 || colons >= 2 {
			token := bytes.Trim(b[start:i], ".")
			for n := len(token); n > 0 && n > len(token)-3; n-- { // "1.2.3.4:", "fe80::1:"
				if _, ok := parseAddr(token[:n]); ok {
					return true
				}
			}
			if at := bytes.IndexByte(token, ':'); at > 0 { // "1.2.3.4:22"
				if _, ok := parseAddr(token[:at]); ok {
					return true
				}
			}
		}
		if i == start {
			i++
		}
	}
	return false
}
