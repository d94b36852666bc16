package rdap

import (
	"container/list"
	"net/netip"
	"time"
)

// cache keeps answers by the network that they are for. It is bounded: at the bound the oldest is
// forgotten. Its owner locks it.
type cache[V any] struct {
	most    int
	entries map[netip.Prefix]*list.Element // of kept[V]
	order   list.List                      // oldest first
	lengths [2][129]int                    // how many there are of each family and length
}

type kept[V any] struct {
	prefix netip.Prefix
	value  V
	until  time.Time
}

func newCache[V any](most int) *cache[V] {
	return &cache[V]{most: most, entries: map[netip.Prefix]*list.Element{}}
}

// get is the answer for the narrowest network that has a.
func (c *cache[V]) get(a netip.Addr, now time.Time) (value V, ok bool) {
	lengths := &c.lengths[family(a)]
	for bits := a.BitLen(); bits >= 0; bits-- {
		if lengths[bits] == 0 {
			continue
		}
		p, err := a.Prefix(bits)
		if err != nil {
			return value, false
		}
		e, ok := c.entries[p]
		if !ok {
			continue
		}
		k := e.Value.(kept[V])
		if now.Before(k.until) {
			return k.value, true
		}
		c.remove(e)
	}
	return value, false
}

// put keeps an answer for p, which is masked.
func (c *cache[V]) put(p netip.Prefix, value V, until time.Time) {
	if e, ok := c.entries[p]; ok {
		c.remove(e)
	}
	for len(c.entries) > 0 && len(c.entries) >= c.most {
		c.remove(c.order.Front())
	}
	c.entries[p] = c.order.PushBack(kept[V]{p, value, until})
	c.lengths[family(p.Addr())][p.Bits()]++
}

func (c *cache[V]) remove(e *list.Element) {
	p := c.order.Remove(e).(kept[V]).prefix
	delete(c.entries, p)
	c.lengths[family(p.Addr())][p.Bits()]--
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// reach is the network for which an answer about a holds that speaks of p: all of p, but no more than
// a /16 (IPv6: /32) of it. What is wider has other holders inside, and a wrong answer stays small.
func reach(p netip.Prefix, a netip.Addr) netip.Prefix {
	if around := stretch(a); p.Bits() < around.Bits() {
		return around
	}
	return p
}

// stretch is the network in which one question is under way at a time.
func stretch(a netip.Addr) netip.Prefix { return around(a, 16, 32) }

// failing is the network for which a failure about a holds.
func failing(a netip.Addr) netip.Prefix { return around(a, 24, 48) }

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func around(a netip.Addr, v4, v6 int) netip.Prefix {
	bits := v6
	if a.Is4() {
		bits = v4
	}
	p, err := a.Prefix(bits)
	if err != nil {
		panic(err) // a is plain and valid
	}
	return p
}

// budget is how many questions may be asked: so many at once, and as many in each minute.
type budget struct {
	perMinute float64
	left      float64
	at        time.Time // when left was right
}

func newBudget(perMinute int) budget {
	return budget{perMinute: float64(perMinute), left: float64(perMinute)}
}

// take takes one, where there is one.
func (b *budget) take(now time.Time) bool {
	if passed := now.Sub(b.at); passed > 0 {
		b.left = min(b.perMinute, b.left+passed.Minutes()*b.perMinute)
		b.at = now
	}
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
