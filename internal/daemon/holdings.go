package daemon

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sekisho/internal/lease"
)

// holdings are the grants of each prefix: at most one that was given on this host, and one
// for each of the gate's. Who is let in by any of them is let in. The zero value is empty
// and can be read.
type holdings map[netip.Prefix][]lease.Lease

// Causes of the gate's grants, each with the grant's id behind it. What was taken back here
// stays taken back for as long as the gate names it: its rows say so after a restart.
const (
	gateCause  = "gate/"
	takenCause = "taken/"
)

// gateID is the id of the gate's grant l; "": it was given here.
func gateID(l lease.Lease) string {
	id, ok := strings.CutPrefix(l.Cause, gateCause)
	if !ok {
		return ""
	}
	return id
}

func (h holdings) index(p netip.Prefix, id string) int {
	return slices.IndexFunc(h[p], func(l lease.Lease) bool { return gateID(l) == id })
}

// get is the grant of p with that id.
func (h holdings) get(p netip.Prefix, id string) (lease.Lease, bool) {
	i := h.index(p, id)
	if i < 0 {
		return lease.Lease{}, false
	}
	return h[p][i], true
}

// put is l in the place of the one of its prefix and id.
func (h holdings) put(l lease.Lease) {
	if i := h.index(l.Prefix, gateID(l)); i >= 0 {
		h[l.Prefix][i] = l
		return
	}
	h[l.Prefix] = append(h[l.Prefix], l)
}

// drop takes the grant of p with that id out.
func (h holdings) drop(p netip.Prefix, id string) {
	if i := h.index(p, id); i >= 0 {
		h[p] = slices.Delete(h[p], i, i+1)
	}
	if len(h[p]) == 0 {
		delete(h, p)
	}
}

// longest is the grant of p that ends last, of those in force at now: the kernel's.
func (h holdings) longest(p netip.Prefix, now time.Time) (longest lease.Lease, ok bool) {
	for _, l := range h[p] {
		if l.Live(now) && (!ok || l.Until.After(longest.Until)) {
			longest, ok = l, true
		}
	}
	return longest, ok
}

// live are all that are in force at now, soonest to end first; those that ended are
// forgotten.
func (h holdings) live(now time.Time) []lease.Lease {
	res := make([]lease.Lease, 0, len(h))
	for p, all := range h {
		all = slices.DeleteFunc(all, func(l lease.Lease) bool { return !l.Live(now) })
		if h[p] = all; len(all) == 0 {
			delete(h, p)
		}
		res = append(res, all...)
	}
	slices.SortFunc(res, func(a, b lease.Lease) int {
		return cmp.Or(a.Until.Compare(b.Until), a.Prefix.Compare(b.Prefix), strings.Compare(a.Cause, b.Cause))
	})
	return res
}

// kernel are the grants as the kernel is to hold them: one of each prefix.
func (h holdings) kernel(now time.Time) []lease.Lease {
	res := make([]lease.Lease, 0, len(h))
	for p := range h {
		if l, ok := h.longest(p, now); ok {
			res = append(res, l)
		}
	}
	return res
}

// begins is a time at which a grant of p may begin: the store tells grants of a prefix apart
// by that.
func (h holdings) begins(p netip.Prefix, now time.Time) time.Time {
	for slices.ContainsFunc(h[p], func(l lease.Lease) bool { return l.From.Equal(now) }) {
		now = now.Add(-time.Nanosecond)
	}
	return now
}
