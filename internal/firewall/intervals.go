package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go4.org/netipx"
)

// The kernel refuses intervals that overlap, and bans do: a /24 inside of a banned
// /16, with another end. So the prefixes are cut into disjoint pieces, each of
// which ends with the last of the bans that cover it. What those bans are stands
// in the piece's comment: the kernel holds the whole truth, a new process adopts
// it, and an unban of the /16 leaves the /24 as it was.

// network is a banned prefix.
type network struct {
	prefix netip.Prefix
	end    time.Time // zero: without end
}

// piece is one interval in the kernel.
type piece struct {
	first, last netip.Addr
	nets        []network // what covers it, widest first
}

// end is when the last of p's bans ends; zero: never.
func (p piece) end() (end time.Time) {
	for _, n := range p.nets {
		if n.end.IsZero() {
			return time.Time{}
		}
		if n.end.After(end) {
			end = n.end
		}
	}
	return end
}

// pieces cuts prefixes of one family into disjoint intervals, in order.
func pieces(nets map[netip.Prefix]time.Time) []piece {
	sorted := make([]network, 0, len(nets))
	for p, end := range nets {
		sorted = append(sorted, network{p, end})
	}
	slices.SortFunc(sorted, func(a, b network) int { return a.prefix.Compare(b.prefix) })

	var out []piece
	var open []network // those around at, each inside of the one before it
	var at netip.Addr  // the first address that no piece covers yet
	emit := func(last netip.Addr) {
		if at.IsValid() && at.Compare(last) <= 0 {
			out = append(out, piece{at, last, slices.Clone(open)})
			at = last.Next() // invalid after the very last address
		}
	}
	leave := func() {
		emit(netipx.PrefixLastIP(open[len(open)-1].prefix))
		open = open[:len(open)-1]
	}
	for _, n := range sorted {
		for len(open) > 0 && !open[len(open)-1].prefix.Contains(n.prefix.Addr()) {
			leave()
		}
		if len(open) > 0 && at.IsValid() && at.Less(n.prefix.Addr()) {
			emit(n.prefix.Addr().Prev())
		}
		open, at = append(open, n), n.prefix.Addr()
	}
	for len(open) > 0 {
		leave()
	}
	return out
}

// commentLimit is what the kernel keeps of an element's user data (256 bytes),
// without the comment's type, length and final zero.
const commentLimit = 256 - 3

// comment tells p's bans: "/16@1770000000000 /24@0", the bits and the end in
// milliseconds since 1970, 0 without end.
func (p piece) comment() (string, error) {
	var b []byte
	for i, n := range p.nets {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, '/')
		b = strconv.AppendInt(b, int64(n.prefix.Bits()), 10)
		b = append(b, '@')
		ms := int64(0)
		if !n.end.IsZero() {
			ms = n.end.UnixMilli()
		}
		b = strconv.AppendInt(b, ms, 10)
	}
	if len(b) > commentLimit {
		return "", fmt.Errorf("more than %d banned prefixes inside of each other at %s", len(p.nets)-1, p.first)
	}
	return string(b), nil
}

// adopt reads back what comment wrote. left is what the kernel's timer still has,
// 0 for none: it is believed rather than the comment's clock where the two differ,
// since the clock may have been set meanwhile. An interval that does not tell whose
// it is (made by nft, say) is taken as the prefixes that it consists of.
func adopt(first, last netip.Addr, comment string, left time.Duration, now time.Time) piece {
	p := piece{first: first, last: last}
	for word := range strings.FieldsSeq(comment) {
		n, ok := parseNetwork(word, first)
		if !ok || !n.prefix.Contains(last) || len(p.nets) > 0 && n.prefix.Bits() <= p.nets[len(p.nets)-1].prefix.Bits() {
			p.nets = nil
			break
		}
		p.nets = append(p.nets, n)
	}
	var end time.Time
	if left > 0 {
		end = now.Add(left)
	}
	if len(p.nets) == 0 {
		for _, prefix := range netipx.IPRangeFrom(first, last).Prefixes() {
			p.nets = append(p.nets, network{prefix, end})
		}
		return p
	}
	if written := p.end(); left > 0 && !written.IsZero() {
		if wrong := end.Sub(written); wrong.Abs() > 2*time.Second {
			for i := range p.nets {
				p.nets[i].end = p.nets[i].end.Add(wrong)
			}
		}
	}
	return p
}

func parseNetwork(word string, first netip.Addr) (network, bool) {
	bits, end, ok := strings.Cut(strings.TrimPrefix(word, "/"), "@")
	b, errBits := strconv.ParseUint(bits, 10, 8)
	ms, errEnd := strconv.ParseInt(end, 10, 64)
	if !ok || errBits != nil || errEnd != nil || ms < 0 || int(b) > first.BitLen() {
		return network{}, false
	}
	prefix, err := first.Prefix(int(b))
	if err != nil {
		return network{}, false
	}
	n := network{prefix: prefix}
	if ms > 0 {
		n.end = time.UnixMilli(ms)
	}
	return n, true
}

// desiredNets is what pieces were made from, and whole says of each whether it is
// covered without a gap.
func desiredNets(found []piece) (nets map[netip.Prefix]time.Time, whole func(netip.Prefix) bool) {
	nets = make(map[netip.Prefix]time.Time)
	next := make(map[netip.Prefix]netip.Addr) // the next address that must be covered; invalid past the end
	gap := make(map[netip.Prefix]bool)
	for _, p := range found {
		for _, n := range p.nets {
			from, to := n.prefix.Addr(), netipx.PrefixLastIP(n.prefix)
			if seen, ok := next[n.prefix]; ok {
				from = seen
			}
			// A foreign interval's prefixes lie inside of it; ours reach past it.
			gap[n.prefix] = gap[n.prefix] || p.first.Compare(from) > 0
			next[n.prefix] = p.last.Next()
			if p.last.Compare(to) >= 0 {
				next[n.prefix] = to.Next()
			}
			if end, ok := nets[n.prefix]; !ok || !end.IsZero() && (n.end.IsZero() || n.end.After(end)) {
				nets[n.prefix] = n.end
			}
		}
	}
	return nets, func(p netip.Prefix) bool { return !gap[p] && next[p] == netipx.PrefixLastIP(p).Next() }
}

// bound is one element of an interval set: where an interval starts, or the first
// address after it.
type bound struct {
	addr    netip.Addr
	end     bool
	left    time.Duration
	comment string
}

// join makes pieces of bounds. An end without its start is what an interval that
// has timed out leaves behind; a start without end reaches to the last address.
func join(bounds []bound, now time.Time) (out []piece) {
	slices.SortFunc(bounds, func(a, b bound) int {
		if c := a.addr.Compare(b.addr); c != 0 {
			return c
		}
		return cmp.Compare(flag(b.end), flag(a.end)) // an end before the next start
	})
	for i, b := range bounds {
		if b.end {
			continue
		}
		last := netipx.PrefixLastIP(netip.PrefixFrom(b.addr, 0))
		if i+1 < len(bounds) {
			last = bounds[i+1].addr.Prev()
		}
		if last.IsValid() && b.addr.Compare(last) <= 0 {
			out = append(out, adopt(b.addr, last, b.comment, b.left, now))
		}
	}
	return out
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// key is the address as the kernel's sets hold it.
func key(a netip.Addr) (k [16]byte, size int) {
	if a.Is4() {
		b := a.As4()
		return [16]byte{b[0], b[1], b[2], b[3]}, 4
	}
	return a.As16(), 16
}

func addr(key []byte) (netip.Addr, bool) {
	switch len(key) {
	case 4:
		return netip.AddrFrom4([4]byte(key)), true
	case 16:
		return netip.AddrFrom16([16]byte(key)), true
	}
	return netip.Addr{}, false
}

// milliseconds is a timeout as the kernel takes it: never 0, which would be none.
func milliseconds(d time.Duration) uint64 {
	return uint64(max(1, (d + time.Millisecond - 1).Milliseconds()))
}
