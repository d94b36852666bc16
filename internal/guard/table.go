package guard

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
)

// key is what a table finds its entries by: an address or a connection. (An
// array would not be kept in registers.)
type key struct{ hi, lo uint64 }

// addrKey is the IPv6 form of an address.
func addrKey(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return key{0, 0xffff<<32 | uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// seed makes the places of keys unpredictable: attackers choose the keys.
type seed struct{ a, b uint64 }

func newSeed() seed { return seed{rand.Uint64(), rand.Uint64()} }

func (s seed) hash(k key) uint64 {
	hi, lo := bits.Mul64(k.hi^s.a, k.lo^s.b)
	hi, lo = bits.Mul64(hi^lo^s.b, k.hi+k.lo*0x9e3779b97f4a7c15^s.a)
	return hi ^ lo
}

const chunkBits = 8 // entries of a chunk: memory grows in small steps, entries never move

// table is a hash table whose entries stay where they are until they are
// deleted. It starts empty and takes about 12 bytes for an entry beside the
// entry itself.
type table[V any] struct {
	seed   seed
	slots  []uint64 // the hash's upper half, and the entry's index plus 1; 0 is free; a power of two long
	chunks []*[1 << chunkBits]entry[V]
	free   []uint32 // deleted entries' indices
	top    uint32   // entries ever used
	n      int
	cursor int // of sweeping
}

type entry[V any] struct {
	key key
	val V
}

func (t *table[V]) at(i uint32) *entry[V] {
	return &t.chunks[i>>chunkBits][i&(1<<chunkBits-1)]
}

// find returns the slot of k, or the free slot where it would go.
func (t *table[V]) find(k key, tag uint32) (slot int, ok bool) {
	mask := len(t.slots) - 1
	for slot = int(tag) & mask; ; slot = (slot + 1) & mask {
		s := t.slots[slot]
		if s == 0 {
			return slot, false
		}
		if uint32(s>>32) == tag && t.at(uint32(s)-1).key == k {
			return slot, true
		}
	}
}

// get returns the value of k, or nil. The pointer holds until k is deleted.
func (t *table[V]) get(k key) *V {
	if t.n == 0 {
		return nil
	}
	if slot, ok := t.find(k, uint32(t.seed.hash(k)>>32)); ok {
		return &t.at(uint32(t.slots[slot]) - 1).val
	}
	return nil
}

// index returns the entry's index of k.
func (t *table[V]) index(k key) (uint32, bool) {
	if t.n == 0 {
		return 0, false
	}
	slot, ok := t.find(k, uint32(t.seed.hash(k)>>32))
	if !ok {
		return 0, false
	}
	return uint32(t.slots[slot]) - 1, true
}

// insert adds k, which must not be there, with a zero value.
func (t *table[V]) insert(k key) (*V, uint32) {
	if (t.n+1)*4 > len(t.slots)*3 {
		t.grow()
	}
	tag := uint32(t.seed.hash(k) >> 32)
	slot, _ := t.find(k, tag)
	var i uint32
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		if i = t.top; i>>chunkBits == uint32(len(t.chunks)) {
			t.chunks = append(t.chunks, new([1 << chunkBits]entry[V]))
		}
		t.top++
	}
	t.slots[slot] = uint64(tag)<<32 | uint64(i+1)
	t.n++
	e := t.at(i)
	e.key = k
	return &e.val, i
}

func (t *table[V]) grow() {
	if t.seed == (seed{}) {
		t.seed = newSeed()
	}
	old := t.slots
	t.slots = make([]uint64, max(64, 2*len(old)))
	mask := len(t.slots) - 1
	for _, s := range old {
		if s == 0 {
			continue
		}
		slot := int(s>>32) & mask
		for t.slots[slot] != 0 {
			slot = (slot + 1) & mask
		}
		t.slots[slot] = s
	}
}

// remove takes k out, if it is there.
func (t *table[V]) remove(k key) {
	if t.n == 0 {
		return
	}
	if slot, ok := t.find(k, uint32(t.seed.hash(k)>>32)); ok {
		t.removeSlot(slot)
	}
}

// removeAt takes out the entry of an index.
func (t *table[V]) removeAt(i uint32) {
	mask := len(t.slots) - 1
	slot := int(t.seed.hash(t.at(i).key)>>32) & mask
	for uint32(t.slots[slot]) != i+1 {
		slot = (slot + 1) & mask
	}
	t.removeSlot(slot)
}

// removeSlot frees a slot and closes the gap (Knuth, volume 3, 6.4, algorithm R).
func (t *table[V]) removeSlot(slot int) {
	i := uint32(t.slots[slot]) - 1
	*t.at(i) = entry[V]{}
	t.free = append(t.free, i)
	t.n--
	if t.n == 0 { // nothing left: give the memory back
		*t = table[V]{seed: t.seed}
		return
	}
	mask := len(t.slots) - 1
	for next := (slot + 1) & mask; t.slots[next] != 0; next = (next + 1) & mask {
		home := int(t.slots[next]>>32) & mask
		if (next-home)&mask >= (next-slot)&mask {
			t.slots[slot] = t.slots[next]
			slot = next
		}
	}
	t.slots[slot] = 0
}

// sweep looks at n slots, going round, and removes the entries that done
// reports.
func (t *table[V]) sweep(n int, done func(key, *V) bool) {
	for range min(n, len(t.slots)) {
		if t.n == 0 {
			return
		}
		if t.cursor >= len(t.slots) {
			t.cursor = 0
		}
		if s := t.slots[t.cursor]; s != 0 {
			e := t.at(uint32(s) - 1)
			if done(e.key, &e.val) {
				t.removeSlot(t.cursor) // what moved up here is looked at next
				continue
			}
		}
		t.cursor++
	}
}

// prune removes all entries that done reports.
func (t *table[V]) prune(done func(key, *V) bool) {
	for t.cursor = 0; t.cursor < len(t.slots); {
		t.sweep(1, done)
	}
}

// sample calls f with up to n entries taken by chance: those of neighbouring
// slots, which their hashes have brought together.
func (t *table[V]) sample(n int, f func(key, *V)) {
	n = min(n, t.n)
	if n == 0 {
		return
	}
	mask := len(t.slots) - 1
	for slot := rand.IntN(len(t.slots)); n > 0; slot = (slot + 1) & mask {
		if s := t.slots[slot]; s != 0 {
			e := t.at(uint32(s) - 1)
			f(e.key, &e.val)
			n--
		}
	}
}

// each calls f with every entry until f returns false.
func (t *table[V]) each(f func(key, *V) bool) {
	for _, s := range t.slots {
		if s != 0 {
			if e := t.at(uint32(s) - 1); !f(e.key, &e.val) {
				return
			}
		}
	}
}

// shrunk returns a table without the room that is not needed any more, where
// that is worth it.
func (t *table[V]) shrunk() *table[V] {
	if t.n*8 >= int(t.top) || t.top < 1<<12 {
		return t
	}
	small := &table[V]{seed: t.seed}
	t.each(func(k key, v *V) bool {
		w, _ := small.insert(k)
		*w = *v
		return true
	})
	return small
}
