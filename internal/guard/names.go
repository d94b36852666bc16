package guard

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// Sources are counted per name by linear counting (Whang et al., 1990): each
// sets one of nameCells bits, in two generations of half Distributed.Within.
const (
	nameCells   = 1024
	nameKept    = 32 // bytes of a name
	maxAttacked = 64 // names under attack at a time
)

// name is a user name that logins failed for.
type name struct {
	hash      uint64
	born      int64 // milliseconds; older attempts' index meant another name
	last      int64
	since     int64 // when the present run of sources began
	gen       int64
	cells     [2][nameCells / 64]uint64 // this generation's sources, and the one's before
	set       int                       // bits in their union
	textLen   uint8
	underFire bool
	text      [nameKept]byte
}

// names are the user names that logins failed for, at most maxNames. At the bound
// one of a few taken by chance that fewest sources tried, and longest ago, gives
// way: names made up for one attempt push each other out, never a name that
// many sources agree on.
type names struct {
	seed   seed
	byHash *table[uint16] // index plus 1 in list
	list   []name
	fire   []uint16 // those under attack
	policy Distributed
	half   int64
	many   int // bits set that stand for policy.Sources
	few    int // and for half of them
}

func newNames() names { return names{seed: newSeed(), byHash: &table[uint16]{}} }

func (ns *names) configure(p Distributed) {
	ns.policy = p
	ns.half = max(p.Within.Milliseconds()/2, 1)
	ns.many, ns.few = bitsFor(p.Sources), bitsFor(max(p.Sources/2, 1))
}

// bitsFor is how many bits so many sources set, at least.
func bitsFor(sources int) int {
	for set := range nameCells {
		if (&name{set: set}).sources() >= sources {
			return set
		}
	}
	return nameCells
}

// at returns a name by the index that attempts hold.
func (ns *names) at(i uint16) *name { return &ns.list[i-1] }

// find returns the index of a name, 0 where it is not kept.
func (ns *names) find(hash uint64) uint16 {
	if i := ns.byHash.get(key{lo: hash}); i != nil {
		return *i
	}
	return 0
}

// text is a name as attempts of a time meant it.
func (ns *names) textAt(i uint16, ms int64) string {
	if i == 0 || int(i) > len(ns.list) || ms < ns.at(i).born {
		return ""
	}
	n := ns.at(i)
	return bounded(n.text[:n.textLen])
}

// note returns the index of a name, which it begins to keep.
func (ns *names) note(text []byte, hash uint64, ms int64) uint16 {
	i := ns.find(hash)
	if i == 0 {
		if i = ns.place(); i == 0 {
			return 0
		}
		n := ns.at(i)
		ns.byHash.remove(key{lo: n.hash})
		*n = name{hash: hash, born: ms, since: ms, gen: ms / ns.half}
		n.textLen = uint8(copy(n.text[:], text))
		at, _ := ns.byHash.insert(key{lo: hash})
		*at = i
	}
	n := ns.at(i)
	n.last = ms
	return i
}

// place finds room for a name.
func (ns *names) place() uint16 {
	if len(ns.list) < maxNames {
		ns.list = append(ns.list, name{})
		return uint16(len(ns.list))
	}
	var victim uint16
	for range 8 {
		i := uint16(rand.IntN(len(ns.list)) + 1)
		n := ns.at(i)
		if n.underFire {
			continue
		}
		if v := victim; v == 0 || n.set < ns.at(v).set || n.set == ns.at(v).set && n.last < ns.at(v).last {
			victim = i
		}
	}
	return victim
}

// turn lets time pass for a name.
func (ns *names) turn(n *name, ms int64) {
	gen := ms / ns.half
	if gen == n.gen {
		return
	}
	if gen == n.gen+1 {
		n.cells[1] = n.cells[0]
	} else {
		n.cells[1] = [nameCells / 64]uint64{}
	}
	n.cells[0] = [nameCells / 64]uint64{}
	n.gen = gen
	n.set = n.union()
	if n.set == 0 {
		n.since = ms
	}
}

func (n *name) union() (set int) {
	for i := range n.cells[0] {
		set += bits.OnesCount64(n.cells[0][i] | n.cells[1][i])
	}
	return set
}

// sources is about how many sources failed for n of late.
func (n *name) sources() int {
	if n.set >= nameCells {
		return 8 * nameCells // as many as can be told, and more
	}
	return int(math.Round(-nameCells * math.Log(1-float64(n.set)/nameCells)))
}

func (ns *names) cell(source key) (word int, bit uint64) {
	h := ns.seed.hash(source)
	return int(h>>6) % (nameCells / 64), 1 << (h & 63)
}

// has reports whether source counts for a name in this generation.
func (ns *names) has(i uint16, source key, ms int64) bool {
	n := ns.at(i)
	ns.turn(n, ms)
	word, bit := ns.cell(source)
	return n.cells[0][word]&bit != 0
}

// add counts a source for a name, and reports whether an attack on it begins.
func (ns *names) add(i uint16, source key, ms int64) bool {
	n := ns.at(i)
	ns.turn(n, ms)
	word, bit := ns.cell(source)
	if n.cells[0][word]&bit == 0 {
		n.cells[0][word] |= bit
		if n.cells[1][word]&bit == 0 {
			n.set++
		}
	}
	if n.underFire || ms-n.since < ns.policy.Lasting.Milliseconds() || n.set < ns.many || len(ns.fire) >= maxAttacked {
		return false
	}
	n.underFire = true
	ns.fire = append(ns.fire, i)
	return true
}

// take uncounts a source that the ordinary bar has dealt with.
func (ns *names) take(i uint16, source key) {
	n := ns.at(i)
	word, bit := ns.cell(source)
	if (n.cells[0][word]|n.cells[1][word])&bit != 0 {
		n.cells[0][word] &^= bit
		n.cells[1][word] &^= bit
		n.set--
	}
}

// attacked reports whether many sources try a name; it lasts until they are
// fewer than half of what it took to begin.
func (ns *names) attacked(i uint16, ms int64) bool {
	if i == 0 || int(i) > len(ns.list) {
		return false
	}
	n := ns.at(i)
	if !n.underFire {
		return false
	}
	if ns.turn(n, ms); n.set >= ns.few {
		return true
	}
	ns.calm(i)
	return false
}

func (ns *names) calm(i uint16) {
	ns.at(i).underFire = false
	for j, f := range ns.fire {
		if f == i {
			ns.fire = append(ns.fire[:j], ns.fire[j+1:]...)
			return
		}
	}
}

// cool ends the attacks that are over, and reports whether any is on.
func (ns *names) cool(ms int64) bool {
	for _, i := range slices.Backward(ns.fire) { // which attacked shortens
		ns.attacked(i, ms)
	}
	return len(ns.fire) > 0
}
