package guard

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sekisho/internal/lease"
)

// prefixKey is a prefix in its IPv6 form.
type prefixKey struct {
	addr key
	bits uint8
}

func keyOf(p netip.Prefix) prefixKey {
	k := prefixKey{addrKey(p.Addr()), uint8(p.Bits())}
	if p.Addr().Is4() {
		k.bits += 96
	}
	return k
}

func (k prefixKey) prefix() netip.Prefix {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.addr.hi)
	binary.BigEndian.PutUint64(b[8:], k.addr.lo)
	a := netip.AddrFrom16(b)
	if a.Is4In6() && k.bits >= 96 {
		return netip.PrefixFrom(a.Unmap(), int(k.bits)-96)
	}
	return netip.PrefixFrom(a, int(k.bits))
}

// record is what is remembered of a prefix's bans: 24 bytes, for there may be
// as many as there are attackers.
type record struct {
	from, until int64 // Unix nanoseconds of the last ban; forever is one without end
	count       uint16
	attempts    uint16
	cause       cause
}

const forever = math.MaxInt64

type cause uint8

const (
	ended       cause = iota // only remembered, from the store
	forgiven                 // lifted by hand
	attempts                 // these and below: a ban
	distributed              //
	escalation               //
	other                    // in bans.leases
)

var causeWords = [...]string{attempts: CauseAttempts, distributed: CauseDistributed, escalation: CauseEscalation}

// bans are the bans in force and the memory of earlier ones, about 60 bytes
// each. Bans in force are never dropped; of more than maxEnded earlier ones any
// give way.
type bans struct {
	by     []length                  // few
	leases map[prefixKey]lease.Lease // those of cause other
	nets   *table[net]               // by the first address of Escalate's prefix
	n      int                       // records
	grown  int                       // how many records make the next sweep worth it
}

// length holds the records of all prefixes of one length.
type length struct {
	bits uint8
	*table[record]
}

// net says how many hosts of a network were banned, at most: a hint when to
// look closer.
type net struct {
	n    uint32
	last uint32 // Unix seconds
}

const maxEnded = 1 << 17

func newBans() bans {
	return bans{leases: map[prefixKey]lease.Lease{}, nets: &table[net]{}, grown: 1 << 10}
}

// get is the zero record where there is none.
func (bs *bans) get(k prefixKey) (r record, ok bool) {
	for _, l := range bs.by {
		if l.bits == k.bits {
			if found := l.get(k.addr); found != nil {
				return *found, true
			}
		}
	}
	return r, false
}

func (bs *bans) put(k prefixKey, r record) {
	at := slices.IndexFunc(bs.by, func(l length) bool { return l.bits == k.bits })
	if at < 0 {
		at = len(bs.by)
		bs.by = append(bs.by, length{k.bits, &table[record]{}})
	}
	l := bs.by[at]
	found := l.get(k.addr)
	if found == nil {
		found, _ = l.insert(k.addr)
		bs.n++
	}
	*found = r
}

// each calls f with every record until f returns false.
func (bs *bans) each(f func(prefixKey, record) bool) {
	more := true
	for _, l := range bs.by {
		l.each(func(k key, r *record) bool {
			more = f(prefixKey{k, l.bits}, *r)
			return more
		})
		if !more {
			return
		}
	}
}

// drop forgets the records that done reports.
func (bs *bans) drop(done func(record) bool) {
	for _, l := range bs.by {
		l.prune(func(k key, r *record) bool {
			if !done(*r) {
				return false
			}
			delete(bs.leases, prefixKey{k, l.bits})
			bs.n--
			return true
		})
	}
}

// cover returns the ban in force at ns that covers a, if there is one, and until
// when attempts from a are settled by an earlier ban or by an unban. With
// remembered set, bans that are known only as history settle too.
func (bs *bans) cover(a addr, ns int64, remembered bool) (ban prefixKey, r record, settled int64) {
	is4 := a.is4()
	for _, l := range bs.by {
		if l.bits < 96 && is4 {
			continue
		}
		k := a.masked(l.bits)
		found := l.get(k)
		if found == nil || found.cause == ended && !remembered {
			continue
		}
		if !remembered && found.from-ns > disorder {
			continue // begun in a future that a clock set back has undone
		}
		if found.cause > forgiven && ns < found.until && found.until >= r.until {
			ban, r = prefixKey{k, l.bits}, *found
		}
		settled = max(settled, found.until)
	}
	return ban, r, settled
}

// lease is a record as a lease.
func (bs *bans) lease(k prefixKey, r record) lease.Lease {
	if r.cause == other {
		return bs.leases[k]
	}
	l := lease.Lease{
		Prefix: k.prefix(), Verdict: lease.Deny, Cause: causeWords[r.cause], Holder: "guard",
		From: time.Unix(0, r.from).UTC(), Attempts: int(r.attempts), Count: int(r.count),
	}
	if r.until != forever {
		l.Until = time.Unix(0, r.until).UTC()
	}
	l.Reason = fmt.Sprintf("%d attempts", l.Attempts)
	if r.cause == escalation {
		l.Reason = fmt.Sprintf("%d banned sources in %v", l.Attempts, l.Prefix)
	}
	return l
}

// begin puts a lease in force.
func (bs *bans) begin(l lease.Lease) {
	k := keyOf(l.Prefix)
	r := record{from: l.From.UnixNano(), until: forever, cause: other, count: uint16(min(max(l.Count, 1), 1<<16-1)), attempts: uint16(min(max(l.Attempts, 0), 1<<16-1))}
	if !l.Until.IsZero() {
		r.until = l.Until.UnixNano()
	}
	if i := slices.Index(causeWords[:], l.Cause); i > 0 && l.Holder == "guard" {
		r.cause = cause(i)
		delete(bs.leases, k)
	} else {
		bs.leases[k] = l
	}
	bs.put(k, r)
}

// sweep forgets what no later decision needs.
func (bs *bans) sweep(ns int64, retain, forget, within time.Duration) {
	dead := 0
	bs.drop(func(r record) bool {
		if r.until > ns {
			return false
		}
		if ns-r.until > int64(retain) && (r.count == 0 || forget > 0 && ns-r.from > int64(forget)) {
			return true
		}
		dead++
		return false
	})
	if dead > maxEnded {
		bs.drop(func(r record) bool {
			if dead <= maxEnded || r.until > ns {
				return false
			}
			dead--
			return true
		})
	}
	bs.nets.prune(func(_ key, n *net) bool { return ns/1e9-int64(n.last) > int64(within/time.Second) })
	bs.by = slices.DeleteFunc(bs.by, func(l length) bool { return l.n == 0 })
	bs.grown = max(1<<10, 2*bs.n)
}

// ban begins a ban of p.
func (e *Engine) ban(p netip.Prefix, c cause, attempts int, ns int64, reason string) {
	count := e.nextCount(p, ns)
	at := time.Unix(0, ns).UTC()
	l := lease.Lease{
		Prefix: p, Verdict: lease.Deny, Cause: causeWords[c], Reason: reason, Holder: "guard",
		From: at, Until: at.Add(e.judge.banTime(count)), Attempts: attempts, Count: count,
	}
	e.bans.begin(l)
	e.stats.BansBegun++
	e.out.Bans = append(e.out.Bans, l)
	if e.bans.n >= e.bans.grown {
		e.sweepBans(ns)
	}
}

// nextCount is the how manieth ban one of p at ns would be.
func (e *Engine) nextCount(p netip.Prefix, ns int64) int {
	r, _ := e.bans.get(keyOf(p))
	if forget := int64(e.judge.Growth.Forget); forget > 0 && ns-r.from > forget {
		return 1
	}
	return int(r.count) + 1
}

func (e *Engine) sweepBans(ns int64) {
	e.bans.sweep(ns, time.Duration(e.judge.retain)*time.Millisecond, e.judge.Growth.Forget, e.judge.Escalate.Within)
}

// network is the network that a banned prefix counts for.
func (j *judge) network(p netip.Prefix) (netip.Prefix, bool) {
	bits := j.Escalate.IPv6Bits
	if p.Addr().Is4() {
		bits = j.Escalate.IPv4Bits
	}
	if j.Escalate.Hosts == 0 || p.Bits() <= bits {
		return netip.Prefix{}, false
	}
	n, err := p.Addr().Prefix(bits)
	return n, err == nil
}

// count notes a ban for the escalation of its network.
func (bs *bans) countNet(n netip.Prefix, ns int64) uint32 {
	k := addrKey(n.Addr())
	count := bs.nets.get(k)
	if count == nil {
		count, _ = bs.nets.insert(k)
	}
	count.n++
	count.last = uint32(max(int64(count.last), ns/1e9))
	return count.n
}

// escalate bans the network around p, if many of its hosts have been banned of
// late and nobody is known in it.
func (e *Engine) escalate(p netip.Prefix, ns int64) {
	network, ok := e.judge.network(p)
	if !ok || int(e.bans.countNet(network, ns)) < e.judge.Escalate.Hosts {
		return
	}
	k := keyOf(network)
	since := ns - int64(e.judge.Escalate.Within)
	if last, _ := e.bans.get(k); last.count > 0 {
		since = max(since, last.from) // it takes as many again
	}
	hosts := e.banned(network, since)
	if len(hosts) < e.judge.Escalate.Hosts {
		e.bans.nets.get(k.addr).n = uint32(len(hosts))
		return
	}
	e.bans.nets.remove(k.addr) // spared too: as many again before the next look
	if _, r, _ := e.bans.cover(addrOf(network.Addr()), ns, false); r.cause == escalation {
		return
	}
	ms := ns / 1e6
	if why := e.protected(network, ms); why != "" {
		e.noticeOnce(NoticeSpared, network.Addr(), "", "%d hosts of %v are banned, not the whole network: %s", len(hosts), network, why)
		return
	}
	var known netip.Addr
	e.friends.each(func(_ key, f *friend) bool {
		if network.Contains(f.addr) && e.lately(f, ms) {
			known = f.addr
		}
		return !known.IsValid()
	})
	if known.IsValid() {
		e.noticeOnce(NoticeSpared, network.Addr(), "", "%d hosts of %v are banned, not the whole network: %v logged in from it", len(hosts), network, known)
		return
	}
	slices.SortFunc(hosts, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	var list strings.Builder
	for i, h := range hosts[:min(len(hosts), 16)] {
		if i > 0 {
			list.WriteString(", ")
		}
		if h.IsSingleIP() {
			list.WriteString(h.Addr().String())
		} else {
			list.WriteString(h.String())
		}
	}
	if len(hosts) > 16 {
		fmt.Fprintf(&list, " and %d more", len(hosts)-16)
	}
	e.ban(network, escalation, len(hosts), ns, fmt.Sprintf("%d banned sources in %v within %v: %s", len(hosts), network, e.judge.Escalate.Within, list.String()))
}

// banned returns the prefixes in network that the guard banned since a time.
func (e *Engine) banned(network netip.Prefix, since int64) (hosts []netip.Prefix) {
	look := func(k prefixKey, r record) {
		if r.from > since && r.count > 0 && (r.cause == ended || r.cause == attempts || r.cause == distributed) {
			hosts = append(hosts, k.prefix())
		}
	}
	if bits := e.judge.IPv4Bits - network.Bits(); network.Addr().Is4() && bits <= 12 {
		step := uint32(1) << (32 - e.judge.IPv4Bits)
		b := network.Addr().As4()
		first := binary.BigEndian.Uint32(b[:])
		for i := range uint32(1) << bits {
			binary.BigEndian.PutUint32(b[:], first+i*step)
			k := keyOf(netip.PrefixFrom(netip.AddrFrom4(b), e.judge.IPv4Bits))
			if r, ok := e.bans.get(k); ok {
				look(k, r)
			}
		}
		return hosts
	}
	e.bans.each(func(k prefixKey, r record) bool {
		if p := k.prefix(); p.Bits() > network.Bits() && network.Contains(p.Addr()) {
			look(k, r)
		}
		return true
	})
	return hosts
}
