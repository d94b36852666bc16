package firewall

import (
	"bytes"
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rules are compared by their attributes, in a form that is the same for what we
// send and for what the kernel tells: in order of their types, without values that
// change by themselves and without zeros, since the kernel tells defaults that were
// never asked for. An attribute that was added to the interface after Linux 6.18 is
// left out, or a new kernel would never hold what was asked.

// shape tells of each attribute of an expression, from type 1 on: v a value, which
// is left out when it is zero; z a value that is not; d nested data; e a nested
// expression; l a list of them; - what is left out.
func shape(name string) (string, bool) {
	switch name {
	case "meta", "fib", "socket":
		return "vvv", true
	case "cmp":
		return "vvd", true
	case "ct":
		return "vvvv", true
	case "payload":
		return "vvvvvvvv", true
	case "lookup":
		return "vvz-v", true // a map's destination may be the verdict, which is 0
	case "bitwise":
		return "vvvddvdv", true
	case "byteorder":
		return "vvvvv", true
	case "immediate":
		return "vd", true
	case "counter":
		return "--", true
	case "limit":
		return "vvvvv-", true
	case "dynset":
		return "v-vvvve-vl", true
	case "exthdr":
		return "vvvvvvv", true
	case "reject":
		return "vv", true
	case "range":
		return "vvdd", true
	case "log":
		return "vvvvvv", true
	case "notrack":
		return "", true
	}
	return "", false
}

// canonical appends the canonical form of one expression, as its attributes
// NFTA_EXPR_NAME and NFTA_EXPR_DATA have it.
func canonical(dst, b []byte) []byte {
	name, data := expression(b)
	dst = append(dst, name...)
	dst = append(dst, '(')
	kinds, known := shape(name)
	if !known {
		return append(append(dst, data...), ')')
	}
	var found [16][]byte
	attributes(data, func(typ uint16, data []byte) {
		if int(typ) < len(found) {
			found[typ] = data
		}
	})
	for i, kind := range []byte(kinds) {
		data := found[i+1]
		if data == nil || kind == '-' || kind == 'v' && zero(data) {
			continue
		}
		dst = append(dst, byte('0'+i+1))
		switch kind {
		case 'd':
			dst = canonicalData(dst, data)
		case 'e':
			dst = canonical(dst, data)
		case 'l':
			attributes(data, func(_ uint16, data []byte) { dst = canonical(dst, data) })
		default:
			dst = value(dst, data)
		}
	}
	return append(dst, ')')
}

// canonicalData appends a value or a verdict.
func canonicalData(dst, b []byte) []byte {
	attributes(b, func(typ uint16, data []byte) {
		if typ != unix.NFTA_DATA_VERDICT {
			dst = value(dst, data)
			return
		}
		var code, chain []byte
		attributes(data, func(typ uint16, data []byte) {
			switch typ {
			case unix.NFTA_VERDICT_CODE:
				code = data
			case unix.NFTA_VERDICT_CHAIN:
				chain = data
			}
		})
		dst = value(value(append(dst, '!'), code), chain)
	})
	return dst
}

func value(dst, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(data))), data...)
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// expression takes an expression apart.
func expression(b []byte) (name string, data []byte) {
	attributes(b, func(typ uint16, b []byte) {
		switch typ {
		case unix.NFTA_EXPR_NAME:
			name = text(b)
		case unix.NFTA_EXPR_DATA:
			data = b
		}
	})
	return name, data
}

// canonicalExprs is the canonical form of a wanted rule's expressions.
func canonicalExprs(exprs []expr.Any) ([]byte, error) {
	var dst []byte
	for _, e := range exprs {
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			return nil, err
		}
		dst = canonical(dst, b)
	}
	return dst, nil
}
