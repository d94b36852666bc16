package country

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"sekisho/internal/special"
)

// family is one of the two kinds of addresses.
type family int

const (
	v4 family = iota
	v6
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

func (f family) String() string { return [...]string{"IPv4", "IPv6"}[f] }

// span is a range of addresses, both ends in it.
type span struct{ first, last number }

// entry is a span and whose it is.
type entry struct {
	span
	code  Code
	order int // in which it was read
}

// holdsBlock says whether s holds a whole aligned block of 2^bits addresses.
func (s span) holdsBlock(bits int) bool {
	size := number{0, 1}.shiftLeft(bits)
	up, over := s.first.add(size.prev())
	if over {
		return false
	}
	first := up.shiftRight(bits).shiftLeft(bits)
	last, over := first.add(size.prev())
	return !over && !s.last.less(last)
}

// Table is who has which addresses: for each code and family disjoint spans, in
// order. A Builder makes one.
type Table struct {
	spans     map[Code][2][]span
	read      int // entries read
	conflicts int // entries that another country's entry contradicted
}

// maxEntries bounds what a file may make us remember: three times what the five
// registries list today, some 60 MB.
const maxEntries = 1_500_000

// maxNested bounds how many entries may lie inside of each other.
const maxNested = 64

// minBits is the shortest prefix that an entry may have: no registry ever gave
// anybody more.
const minBits = 7

// Builder collects the entries of one or more files. Its zero value is ready.
type Builder struct {
	entries [2][]entry
	read    int
}

// add takes the addresses from first to last, of one family.
func (b *Builder) add(code Code, first, last netip.Addr) error {
	f, s := familyOf(first), span{numberOf(first), numberOf(last)}
	switch {
	case first.Is4In6() || last.Is4In6():
		return fmt.Errorf("%s is IPv4, written as IPv6", first)
	case first.Is4() != last.Is4() || s.last.less(s.first):
		return fmt.Errorf("%s-%s is not a range of addresses", first, last)
	case s.holdsBlock(first.BitLen() - minBits + 1):
		return fmt.Errorf("%s-%s is wider than a /%d: nobody has that many addresses", first, last, minBits)
	case b.read >= maxEntries:
		return fmt.Errorf("more than %d entries", maxEntries)
	}
	b.entries[f] = append(b.entries[f], entry{s, code, b.read})
	b.read++
	return nil
}

// addPrefix takes the addresses of p.
func (b *Builder) addPrefix(code Code, p netip.Prefix) error {
	if p.Bits() < minBits {
		return fmt.Errorf("%s is wider than a /%d: nobody has that many addresses", p, minBits)
	}
	if p != p.Masked() {
		return fmt.Errorf("%s has bits set behind its length: is it %s?", p, p.Masked())
	}
	return b.add(code, p.Addr(), spanOf(p).last.addr(familyOf(p.Addr())))
}

// merge adds what c has read.
func (b *Builder) merge(c *Builder) error {
	if b.read+c.read > maxEntries {
		return fmt.Errorf("more than %d entries", maxEntries)
	}
	for f := range b.entries {
		for _, e := range c.entries[f] {
			e.order += b.read
			b.entries[f] = append(b.entries[f], e)
		}
	}
	b.read += c.read
	return nil
}

// Table makes the table. Where entries contradict each other the narrower one is
// believed, as routers do; of two alike the one read first. Addresses that are
// never anybody's (private, reserved, documentation) are left out.
func (b *Builder) Table() (*Table, error) {
	t := &Table{spans: make(map[Code][2][]span), read: b.read}
	nobodys := specialSpans()
	for f := range b.entries {
		entries := b.entries[f]
		slices.SortFunc(entries, func(a, b entry) int {
			switch {
			case a.first.less(b.first):
				return -1
			case b.first.less(a.first):
				return 1
			}
			return cmp.Compare(a.order, b.order)
		})
		err := t.sweep(entries, func(code Code, s span) {
			for _, s := range without(s, nobodys[f]) {
				both := t.spans[code]
				both[f] = appendSpan(both[f], s)
				t.spans[code] = both
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if t.conflicts > max(100, t.read/20) {
		return nil, fmt.Errorf("%d of %d entries contradict others", t.conflicts, t.read)
	}
	return t, nil
}

// sweep cuts sorted entries into disjoint pieces, in order.
func (t *Table) sweep(entries []entry, emit func(Code, span)) error {
	var active []entry // those around at
	var at number
	// until emits everything before limit; nil: everything.
	until := func(limit *number) {
		for len(active) > 0 && (limit == nil || at.less(*limit)) {
			narrowest := slices.MinFunc(active, func(a, b entry) int {
				sizeA, sizeB := a.last.sub(a.first), b.last.sub(b.first)
				switch {
				case sizeA.less(sizeB):
					return -1
				case sizeB.less(sizeA):
					return 1
				}
				return cmp.Compare(a.order, b.order)
			})
			end := narrowest.last
			if limit != nil && !end.less(*limit) {
				end = limit.prev()
			}
			emit(narrowest.code, span{at, end})
			active = slices.DeleteFunc(active, func(e entry) bool { return !end.less(e.last) })
			at = end.next()
		}
	}
	for i := range entries {
		e := entries[i]
		until(&e.first)
		if slices.ContainsFunc(active, func(a entry) bool { return a.code != e.code }) {
			t.conflicts++
		}
		if active = append(active, e); len(active) > maxNested {
			return errors.New("too many entries inside of each other")
		}
		at = e.first
	}
	until(nil)
	return nil
}

// appendSpan adds s behind spans, and joins it with the last of them.
func appendSpan(spans []span, s span) []span {
	if n := len(spans); n > 0 && spans[n-1].last.next() == s.first {
		spans[n-1].last = s.last
		return spans
	}
	return append(spans, s)
}

// Drop forgets what t says of code within the prefixes.
func (t *Table) Drop(code Code, within ...netip.Prefix) {
	both := t.spans[code]
	for _, p := range within {
		f, hole := familyOf(p.Addr()), []span{spanOf(p)}
		var kept []span
		for _, s := range both[f] {
			kept = append(kept, without(s, hole)...)
		}
		both[f] = kept
	}
	t.spans[code] = both
}

// spanOf is p's addresses.
func spanOf(p netip.Prefix) span {
	first := numberOf(p.Masked().Addr())
	size := number{0, 1}.shiftLeft(p.Addr().BitLen() - p.Bits()) // 0 for all of IPv6, whose last address is then right too
	last, _ := first.add(size.prev())
	return span{first, last}
}

// specialSpans are the addresses that are never anybody's, in order.
func specialSpans() (out [2][]span) {
	for _, p := range slices.SortedFunc(slices.Values(slices.Concat(special.Networks(), special.Documentation())), netip.Prefix.Compare) {
		f := familyOf(p.Addr())
		out[f] = append(out[f], spanOf(p))
	}
	return out
}

// without is s without what is in holes, which are disjoint and in order.
func without(s span, holes []span) (out []span) {
	for _, h := range holes {
		if h.last.less(s.first) {
			continue
		}
		if s.last.less(h.first) {
			break
		}
		if s.first.less(h.first) {
			out = append(out, span{s.first, h.first.prev()})
		}
		if !h.last.less(s.last) {
			return out
		}
		s.first = h.last.next()
	}
	return append(out, s)
}
