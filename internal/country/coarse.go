package country

import "slices"

// Coarse is t in whole blocks, IPv4's of v4Bits and IPv6's of v6Bits: each block is
// theirs who have most of it. It is for the snapshot, which must be small; narrower
// than a /24 or a /48 nothing is routed.
func (t *Table) Coarse(v4Bits, v6Bits int) *Table {
	out := &Table{spans: make(map[Code][2][]span), read: t.read, conflicts: t.conflicts}
	for f, size := range [2]int{32 - v4Bits, 128 - v6Bits} {
		var all []entry
		for i, code := range t.codes() {
			for _, s := range t.spans[code][f] {
				all = append(all, entry{s, code, i})
			}
		}
		slices.SortFunc(all, func(a, b entry) int {
			if a.first.less(b.first) {
				return -1
			}
			return 1 // they are disjoint
		})
		add := func(code Code, first, last number) { // in blocks
			both := out.spans[code]
			both[f] = appendSpan(both[f], span{first.shiftLeft(size), last.next().shiftLeft(size).prev()})
			out.spans[code] = both
		}
		// The block that several share: what each has of it.
		var shared number
		var shares []entry
		settle := func() {
			var best Code
			var most number
			for i, s := range shares {
				sum := number{}
				for _, other := range shares[i:] {
					if other.code == s.code {
						sum, _ = sum.add(other.last.sub(other.first).next())
					}
				}
				if most.less(sum) {
					best, most = s.code, sum
				}
			}
			if len(shares) > 0 {
				add(best, shared, shared)
			}
			shares = shares[:0]
		}
		part := func(code Code, block number, s span) {
			if block != shared {
				settle()
			}
			shared, shares = block, append(shares, entry{span: s, code: code})
		}
		for _, e := range all {
			first, last := e.first.shiftRight(size), e.last.shiftRight(size)
			begins, ends := first.shiftLeft(size), last.next().shiftLeft(size).prev()
			if e.first != begins || first == last && e.last != ends {
				s := e.span
				if first != last {
					s.last = first.next().shiftLeft(size).prev()
				}
				part(e.code, first, s)
				if first = first.next(); last.less(first) {
					continue
				}
			}
			settle()
			if e.last == ends {
				add(e.code, first, last)
				continue
			}
			if first.less(last) {
				add(e.code, first, last.prev())
			}
			part(e.code, last, span{last.shiftLeft(size), e.last})
		}
		settle()
	}
	return out
}
