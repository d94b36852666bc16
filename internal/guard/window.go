package guard

import "sekisho/internal/sshlog"

// attempt is one charge against a source, packed: 42 bits of Unix milliseconds,
// 6 of kind, 1 for a user who does not exist, 4 of weight, 11 of the user's
// name (an index into names; 0 is a name not kept).
type attempt uint64

const (
	nameBits   = 11
	weightBits = 4
	maxWeight  = 1<<weightBits - 1
	maxNames   = 1<<nameBits - 1
)

func newAttempt(ms int64, kind sshlog.Kind, invalid bool, weight int, name uint16) attempt {
	a := attempt(ms)<<22 | attempt(kind&63)<<16 | attempt(weight&maxWeight)<<nameBits | attempt(name&maxNames)
	if invalid {
		a |= 1 << 15
	}
	return a
}

func (a attempt) ms() int64         { return int64(a >> 22) }
func (a attempt) kind() sshlog.Kind { return sshlog.Kind(a >> 16 & 63) }
func (a attempt) invalid() bool     { return a>>15&1 == 1 }
func (a attempt) weight() int       { return int(a >> nameBits & maxWeight) }
func (a attempt) name() uint16      { return uint16(a & maxNames) }

const perNode = 5 // a source that the default policy does not ban yet never needs a second node

// window is what is held against one source: 48 bytes, so that a table entry
// takes one cache line. It holds the newest attempts; older ones, where a policy
// needs them, follow in nodes.
type window struct {
	at    [perNode]attempt // n of them, oldest first
	next  uint32           // index plus 1 of the node with the attempts before these
	n     uint8
	total uint16 // all attempts of the source since it was first seen, at most 65535
}

// nodes are the windows' overflow.
type nodes struct {
	chunks []*[64]window
	free   uint32 // index plus 1 of the first free node, chained by next
	used   int
	top    int
}

func (ns *nodes) at(i uint32) *window { return &ns.chunks[(i-1)>>6][(i-1)&63] }

// take returns the index plus 1 of an unused node.
func (ns *nodes) take() uint32 {
	ns.used++
	if i := ns.free; i != 0 {
		ns.free = ns.at(i).next
		return i
	}
	if ns.top>>6 == len(ns.chunks) {
		ns.chunks = append(ns.chunks, new([64]window))
	}
	ns.top++
	return uint32(ns.top)
}

// drop frees a chain of nodes.
func (ns *nodes) drop(i uint32) {
	for i != 0 {
		node := ns.at(i)
		next := node.next
		*node = window{next: ns.free}
		ns.free = i
		ns.used--
		i = next
	}
	if ns.used == 0 {
		*ns = nodes{}
	}
}

// push adds a to w. What is older than since is dropped first; past limit
// overflow nodes of all windows together the oldest attempt gives way.
func (ns *nodes) push(w *window, a attempt, since int64, limit int) {
	if w.n == perNode {
		n := 0
		for _, old := range w.at {
			if old.ms() > since {
				w.at[n] = old
				n++
			}
		}
		if n < perNode {
			ns.drop(w.next) // older still
			w.next = 0
		}
		w.n = uint8(n)
	}
	if w.n == perNode {
		if ns.used >= limit {
			copy(w.at[:], w.at[1:])
			w.n--
		} else {
			i := ns.take()
			*ns.at(i) = window{at: w.at, n: w.n, next: w.next}
			w.next, w.n = i, 0
		}
	}
	w.at[w.n] = a
	w.n++
}

// each calls f with w's attempts, newest first, until f returns false.
func (ns *nodes) each(w *window, f func(attempt) bool) {
	for node := w; ; node = ns.at(node.next) {
		for i := int(node.n) - 1; i >= 0; i-- {
			if !f(node.at[i]) {
				return
			}
		}
		if node.next == 0 {
			return
		}
	}
}

// sum is the weight of w's attempts later than since and not later than until.
// A window holds no more than entries attempts: what is beyond is dropped.
func (ns *nodes) sum(w *window, since, until int64, entries int) (weight int) {
	seen := 0
	for node := w; ; node = ns.at(node.next) {
		for _, a := range node.at[:node.n] {
			if ms := a.ms(); ms > since && ms <= until {
				weight += a.weight()
			}
		}
		seen += int(node.n)
		if node.next == 0 {
			return weight
		}
		if seen >= entries {
			ns.drop(node.next)
			node.next = 0
			return weight
		}
	}
}

// newest is the time of w's last attempt, 0 where it holds none.
func (ns *nodes) newest(w *window) int64 {
	for w.n == 0 {
		if w.next == 0 {
			return 0
		}
		w = ns.at(w.next)
	}
	return w.at[w.n-1].ms()
}

// forgive takes up to weight off w's attempts for a name since a time, the
// newest first.
func (ns *nodes) forgive(w *window, name uint16, since int64, weight int) {
	for node := w; weight > 0; node = ns.at(node.next) {
		for i := int(node.n) - 1; i >= 0 && weight > 0; i-- {
			a := node.at[i]
			if a.name() != name || a.ms() < since {
				continue
			}
			if have := a.weight(); have > weight {
				node.at[i] = newAttempt(a.ms(), a.kind(), a.invalid(), have-weight, name)
				return
			} else {
				weight -= have
			}
			copy(node.at[i:node.n], node.at[i+1:node.n])
			node.n--
		}
		if node.next == 0 {
			return
		}
	}
}

// clear empties w, keeping its total.
func (ns *nodes) clear(w *window) {
	ns.drop(w.next)
	*w = window{total: w.total}
}
