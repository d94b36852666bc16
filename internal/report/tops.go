package report

import (
	"cmp"
	"slices"
)

// tops sums by key, with a bound: past it the half with the least is forgotten, so
// that what is great stays, and short of little. Of n added in all, no key lacks more
// than about 2n/limit.
type tops[K comparable] struct {
	by     map[K]int
	limit  int
	folded bool // something was forgotten
}

func newTops[K comparable](limit int) tops[K] { return tops[K]{by: map[K]int{}, limit: limit} }

func (t *tops[K]) add(k K, n int) {
	if _, ok := t.by[k]; !ok && len(t.by) >= t.limit {
		t.fold()
	}
	t.by[k] += n
}

func (t *tops[K]) fold() {
	t.folded = true
	all := make([]int, 0, len(t.by))
	for _, n := range t.by {
		all = append(all, n)
	}
	slices.Sort(all)
	least := all[len(all)/2]
	leave := len(all) / 2 // as many go: of those that have just as much, any
	for k, n := range t.by {
		if n < least || n == least && leave > 0 {
			delete(t.by, k)
			leave--
		}
	}
}

// greatest gives the first n keys by their sums, in the order of compare where those
// are equal.
func (t *tops[K]) greatest(n int, compare func(a, b K) int) []K {
	order := func(a, b K) int { return cmp.Or(cmp.Compare(t.by[b], t.by[a]), compare(a, b)) }
	out := make([]K, 0, n+1)
	for k := range t.by {
		if len(out) == n && order(k, out[n-1]) > 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(out, k, order)
		out = slices.Insert(out, at, k)
		out = out[:min(len(out), n)]
	}
	return out
}
