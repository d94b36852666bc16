package passkey

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"unicode/utf8"
)

// The part of CBOR (RFC 8949) that CTAP 2 allows (section 8 of CTAP 2.1): every length told
// beforehand and in its shortest form, no tag, no key twice. The order of keys is not looked at.

const (
	majorUint = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorOther
)

const (
	maxDepth = 5  // CTAP allows 4; an attestation of several parts is one deeper
	maxPairs = 64 // of one map
)

// item is one item of CBOR.
type item struct {
	major   byte
	arg     uint64 // its value, or its length: bytes, elements, pairs
	raw     []byte // all of it
	content []byte // what follows its head
}

var (
	errShort  = errors.New("it ends too early")
	errForm   = errors.New("it is not in the form that CTAP asks for")
	errDeep   = errors.New("it is too deep")
	errTwice  = errors.New("it has a key twice")
	errManyOf = errors.New("it has too many keys")
)

// next reads an item and all that is in it, which may be as deep as told.
func next(b []byte, depth int) (item, []byte, error) {
	if len(b) == 0 {
		return item{}, nil, errShort
	}
	it := item{major: b[0] >> 5}
	info, at := b[0]&31, 1
	switch {
	case info < 24:
		it.arg = uint64(info)
	case info <= 27:
		n := 1 << (info - 24)
		if len(b) < 1+n {
			return item{}, nil, errShort
		}
		var wide [8]byte
		copy(wide[8-n:], b[1:1+n])
		it.arg, at = binary.BigEndian.Uint64(wide[:]), 1+n
		least := uint64(24)
		switch {
		case it.major == majorOther && n > 1: // floating point
			least = 0
		case it.major == majorOther: // a simple value (RFC 8949, section 3.3)
			least = 32
		case n > 1:
			least = 1 << (8 * n / 2)
		}
		if it.arg < least {
			return item{}, nil, errForm
		}
	default: // 28 to 30 mean nothing, 31 is a length that is not told
		return item{}, nil, errForm
	}
	rest := b[at:]
	switch it.major {
	case majorUint, majorNegative, majorOther:
	case majorBytes, majorText:
		if it.arg > uint64(len(rest)) {
			return item{}, nil, errShort
		}
		if it.major == majorText && !utf8.Valid(rest[:it.arg]) {
			return item{}, nil, errForm
		}
		rest = rest[it.arg:]
	case majorArray, majorMap:
		if depth == 0 {
			return item{}, nil, errDeep
		}
		var err error
		if rest, err = inside(it, rest, depth-1); err != nil {
			return item{}, nil, err
		}
	default:
		return item{}, nil, errForm
	}
	it.raw = b[:len(b)-len(rest)]
	it.content = it.raw[at:]
	return it, rest, nil
}

// inside reads the elements of an array or the pairs of a map.
func inside(it item, b []byte, depth int) (rest []byte, err error) {
	if it.major == majorArray {
		for range it.arg { // each takes a byte at least, so b ends it
			if _, b, err = next(b, depth); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	if it.arg > maxPairs {
		return nil, errManyOf
	}
	var keys [][]byte
	for range it.arg {
		key, after, err := next(b, 0)
		if err != nil {
			return nil, err
		}
		for _, other := range keys {
			if bytes.Equal(other, key.raw) {
				return nil, errTwice
			}
		}
		keys = append(keys, key.raw)
		if _, b, err = next(after, depth); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// pairs goes through a map that [next] has read.
func (it item) pairs() iter.Seq2[item, item] {
	return func(yield func(item, item) bool) {
		b := it.content
		for range it.arg {
			key, after, err := next(b, 0)
			if err != nil {
				return
			}
			value, rest, err := next(after, maxDepth)
			if err != nil || !yield(key, value) {
				return
			}
			b = rest
		}
	}
}

// integer is the value of a whole number.
func (it item) integer() (int64, bool) {
	if it.arg > math.MaxInt64 {
		return 0, false
	}
	switch it.major {
	case majorUint:
		return int64(it.arg), true
	case majorNegative:
		return -1 - int64(it.arg), true
	}
	return 0, false
}
