package country

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"sekisho/internal/prefixset"
)

// Meta says what data is.
type Meta struct {
	Source string    `json:"source"`           // where it is from
	Time   time.Time `json:"time"`             // what day it speaks of, as its maker says; else when it was had
	Notice string    `json:"notice,omitempty"` // whom its licence wants named
	Note   string    `json:"note,omitempty"`   // what to know about it
}

// Data is a table in its compact form: each country is decoded when it is asked
// for. It is never changed, and safe for concurrent use. The form, which
// the embedded snapshot and the cache share:
//
//	magic
//	uvarint length, Meta as JSON
//	uvarint n, then for each of n codes, in order: the code, and
//	    uvarint: IPv4 spans, IPv6 spans, length of its block
//	the blocks
//	SHA-256 of all of the above
//
// A block is deflated: for IPv4, then for IPv6, four columns with a value for each
// span: gap exponents, gap mantissas, size exponents, size mantissas. The gap is
// the distance from the last span's end, the size the span's last minus its first
// address plus one; each is mantissa << exponent. Exponents are bytes, mantissas
// two uvarints (low 64 bits; high, only in IPv6).
type Data struct {
	Meta
	Embedded bool      // it is the snapshot in the program
	Accepted time.Time // when it was accepted; zero for the snapshot
	index    []section
}

// section is one country.
type section struct {
	code  Code
	count [2]int
	block []byte
}

const magic = "sekisho countries 1\n"

// errDamaged is what is wrong with data that its maker did not write so.
var errDamaged = errors.New("the country data is damaged")

// Encode is t in its compact form.
func (t *Table) Encode(meta Meta) ([]byte, error) {
	text, err := json.Marshal(meta)
	if err != nil {
		return nil, err
	}
	out := append([]byte(magic), binary.AppendUvarint(nil, uint64(len(text)))...)
	out = append(out, text...)
	codes := t.codes()
	out = binary.AppendUvarint(out, uint64(len(codes)))
	var blocks []byte
	for _, code := range codes {
		spans := t.spans[code]
		block, err := encodeBlock(spans)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, block...)
		out = append(out, code[:]...)
		out = binary.AppendUvarint(out, uint64(len(spans[v4])))
		out = binary.AppendUvarint(out, uint64(len(spans[v6])))
		out = binary.AppendUvarint(out, uint64(len(block)))
	}
	out = append(out, blocks...)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...), nil
}

func (t *Table) codes() []Code {
	codes := make([]Code, 0, len(t.spans))
	for code := range t.spans {
		codes = append(codes, code)
	}
	slices.SortFunc(codes, func(a, b Code) int { return bytes.Compare(a[:], b[:]) })
	return codes
}

func encodeBlock(both [2][]span) ([]byte, error) {
	var plain []byte
	for f, spans := range both {
		gaps, sizes := make([]number, len(spans)), make([]number, len(spans))
		var at number
		for i, s := range spans {
			gaps[i], sizes[i] = s.first.sub(at), s.last.sub(s.first).next()
			at = s.last.next()
		}
		for _, column := range [][]number{gaps, sizes} {
			for _, n := range column {
				plain = append(plain, byte(n.zeros()))
			}
			for _, n := range column {
				n = n.shiftRight(n.zeros())
				plain = binary.AppendUvarint(plain, n.lo)
				if family(f) == v6 {
					plain = binary.AppendUvarint(plain, n.hi)
				}
			}
		}
	}
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Open reads the compact form; b is kept. What was not written by Encode is an
// error.
func Open(b []byte) (*Data, error) {
	body := len(b) - sha256.Size
	if body < len(magic) || string(b[:len(magic)]) != magic {
		return nil, errDamaged
	}
	if sum := sha256.Sum256(b[:body]); !bytes.Equal(sum[:], b[body:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	return open(b[:body])
}

// open is Open without the checksum.
func open(b []byte) (*Data, error) {
	r := &byteReader{rest: b[len(magic):]}
	d := new(Data)
	if err := json.Unmarshal(r.take(r.count(math.MaxInt)), &d.Meta); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	n := r.count(26 * 26)
	sizes := make([]int, n)
	total := 0
	for i := range n {
		var s section
		copy(s.code[:], r.take(2))
		s.count = [2]int{r.count(maxEntries), r.count(maxEntries)}
		sizes[i] = r.count(math.MaxInt)
		if total += s.count[v4] + s.count[v6]; total > 2*maxEntries || i > 0 && bytes.Compare(d.index[i-1].code[:], s.code[:]) >= 0 {
			return nil, errDamaged
		}
		d.index = append(d.index, s)
	}
	for i, size := range sizes {
		d.index[i].block = r.take(size)
	}
	if r.failed || len(r.rest) > 0 {
		return nil, errDamaged
	}
	return d, nil
}

// byteReader reads what Encode wrote; once something was not there, nothing is.
type byteReader struct {
	rest   []byte
	failed bool
}

func (r *byteReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.rest, r.failed = nil, true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *byteReader) count(limit int) int {
	n := r.uvarint()
	if n > uint64(limit) {
		r.rest, r.failed = nil, true
		return 0
	}
	return int(n)
}

func (r *byteReader) take(n int) []byte {
	if n > len(r.rest) {
		r.rest, r.failed = nil, true
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

// spans decodes the section.
func (s section) spans() (out [2][]span, err error) {
	// A span takes two bytes of exponents and two mantissas of at most 20.
	limit := int64(42 * (s.count[v4] + s.count[v6]))
	plain, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(s.block)), limit+1))
	if err != nil {
		return out, fmt.Errorf("%w: %s: %w", errDamaged, s.code, err)
	}
	r := &byteReader{rest: plain}
	for f := range out {
		n := s.count[f]
		if n > len(r.rest)/4 { // do not believe a count that cannot be
			return out, fmt.Errorf("%w: %s", errDamaged, s.code)
		}
		var columns [2][]number
		for c := range columns {
			exponents := r.take(n)
			column := make([]number, n)
			for i := range column {
				column[i].lo = r.uvarint()
				if family(f) == v6 {
					column[i].hi = r.uvarint()
				}
				if !r.failed {
					column[i] = column[i].shiftLeft(int(min(exponents[i], 127)))
				}
			}
			columns[c] = column
		}
		out[f] = make([]span, n)
		at, top := number{}, number{0, math.MaxUint32}
		if family(f) == v6 {
			top = number{math.MaxUint64, math.MaxUint64}
		}
		for i := range out[f] {
			first, over := at.add(columns[0][i])
			last, over2 := first.add(columns[1][i].prev())
			if over || over2 || columns[1][i] == (number{}) || top.less(last) {
				return out, fmt.Errorf("%w: %s", errDamaged, s.code)
			}
			out[f][i] = span{first, last}
			at = last.next()
			if at == (number{}) && i+1 < n {
				return out, fmt.Errorf("%w: %s", errDamaged, s.code)
			}
		}
	}
	if r.failed || len(r.rest) > 0 {
		return out, fmt.Errorf("%w: %s", errDamaged, s.code)
	}
	return out, nil
}

// Codes are the codes that d knows addresses of, in order.
func (d *Data) Codes() []Code {
	out := make([]Code, len(d.index))
	for i, s := range d.index {
		out[i] = s.code
	}
	return out
}

// find is code's section; an empty one if there is none.
func (d *Data) find(code Code) section {
	i, ok := slices.BinarySearchFunc(d.index, code, func(s section, c Code) int { return bytes.Compare(s.code[:], c[:]) })
	if !ok {
		return section{code: code}
	}
	return d.index[i]
}

// Count is how many ranges code has, without decoding them.
func (d *Data) Count(code Code) (v4Ranges, v6Ranges int) {
	s := d.find(code)
	return s.count[v4], s.count[v6]
}

// Set is all addresses of the countries; of one that d does not know there are
// none.
func (d *Data) Set(codes ...Code) (prefixset.Set, error) {
	var ranges []netipx.IPRange
	for _, code := range codes {
		s := d.find(code)
		if s.block == nil {
			continue
		}
		both, err := s.spans()
		if err != nil {
			return prefixset.Set{}, err
		}
		ranges = slices.Grow(ranges, len(both[v4])+len(both[v6]))
		for f, spans := range both {
			for _, s := range spans {
				ranges = append(ranges, netipx.IPRangeFrom(s.first.addr(family(f)), s.last.addr(family(f))))
			}
		}
	}
	return prefixset.OfRanges(ranges...)
}

// Lookup is whose a is, and the range around it that is theirs; ok is false if d
// does not know.
func (d *Data) Lookup(a netip.Addr) (code Code, r netipx.IPRange, ok bool, err error) {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return code, r, false, nil
	}
	f, n := familyOf(a), numberOf(a)
	for _, s := range d.index {
		both, err := s.spans()
		if err != nil {
			return code, r, false, err
		}
		i, found := slices.BinarySearchFunc(both[f], n, func(s span, n number) int {
			switch {
			case s.last.less(n):
				return -1
			case n.less(s.first):
				return 1
			}
			return 0
		})
		if found {
			s2 := both[f][i]
			return s.code, netipx.IPRangeFrom(s2.first.addr(f), s2.last.addr(f)), true, nil
		}
	}
	return code, r, false, nil
}
