package daemon

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/printable"
	"sekisho/internal/report"
)

const (
	liveSpan  = 5 * time.Minute // of the attempts by second
	liveAfter = time.Minute     // a source that tried nothing for so long does not attack now
	liveMost  = 200             // bans, grants, sources
	liveNames = 8               // of a source
	liveKept  = 2048            // attempts that are kept one by one

	rescanRest = 50 // a look at all bans takes no more than one part in so many of the time
)

// LiveReply is what is going on now: GET /v1/live?find=TEXT. It is made when it is
// asked for, and of bounded length.
type LiveReply struct {
	Time     time.Time `json:"time"`
	Status   Status    `json:"status"`
	Attempts []uint32  `json:"attempts"` // authentication attempts by second, oldest first, those of Time's second last

	Sources []LiveSource `json:"sources"`       // that attack now, most attempts first
	Since   time.Time    `json:"sources_since"` // attempts since then count as now

	// The newest first, the soonest to end first; with find, of all those that hold that
	// text in what is shown of them, or that address.
	Bans   []LiveBan   `json:"bans"`
	Grants []LiveGrant `json:"grants"`
}

// LiveSource is a source that attacks.
type LiveSource struct {
	Prefix   netip.Prefix `json:"prefix"`
	Country  string       `json:"country,omitempty"`
	Attempts int          `json:"attempts"`
	First    time.Time    `json:"first"`
	Last     time.Time    `json:"last"`
	Names    []string     `json:"names"`       // user names it tried, most tried first, escaped; at most 8
	Many     int          `json:"names_count"` // how many those are in all
	Banned   bool         `json:"banned"`
}

// LiveBan is a ban. Of those that the guard made the reason is left out, which `why` tells.
type LiveBan struct {
	Ban
	Country string `json:"country,omitempty"`
}

// LiveGrant is a grant.
type LiveGrant struct {
	Grant
	Country string `json:"country,omitempty"`
}

// lately is what was tried of late: sums by second, and the last attempts one by one.
// The zero value is ready to use. Guarded by the daemon's lock.
type lately struct {
	seconds [liveSpan / time.Second]second
	tries   []try // a ring, made when first needed
	next    int
}

type second struct {
	unix int64
	n    uint32
}

// try is an attempt, or several that one line told.
type try struct {
	addr    [16]byte
	at      int64 // Unix nanoseconds
	n       uint16
	bits    uint8
	nameLen uint8
	name    [28]byte
}

// add takes in what a line came to.
func (l *lately) add(out *guard.Outcome, source netip.Prefix, at time.Time) {
	if out.Attempts <= 0 || !source.IsValid() {
		return
	}
	unix := at.Unix()
	if s := &l.seconds[uint64(unix)%uint64(len(l.seconds))]; s.unix == unix {
		s.n += uint32(out.Attempts)
	} else if s.unix < unix {
		*s = second{unix, uint32(out.Attempts)}
	}
	if l.tries == nil {
		l.tries = make([]try, liveKept)
	}
	t := &l.tries[l.next]
	l.next = (l.next + 1) % liveKept
	*t = try{addr: source.Addr().As16(), at: at.UnixNano(), n: uint16(min(out.Attempts, 1<<16-1)), bits: uint8(source.Bits())}
	if source.Addr().Is4() {
		t.bits += 96
	}
	t.nameLen = uint8(copy(t.name[:], out.User))
}

func (t *try) source() netip.Prefix {
	addr, bits := netip.AddrFrom16(t.addr), int(t.bits)
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	return netip.PrefixFrom(addr, bits)
}

// bySecond are the attempts of the seconds up to now's.
func (l *lately) bySecond(now time.Time) []uint32 {
	sums := make([]uint32, len(l.seconds))
	for i := range sums {
		unix := now.Unix() - int64(len(sums)-1-i)
		if s := l.seconds[uint64(unix)%uint64(len(sums))]; s.unix == unix {
			sums[i] = s.n
		}
	}
	return sums
}

// attackers sums tries up by source, most attempts first.
func attackers(tries []try, since, now time.Time) []LiveSource {
	type account struct {
		LiveSource
		names map[string]int
	}
	by := map[netip.Prefix]*account{}
	for i := range tries {
		t := &tries[i]
		if t.at <= since.UnixNano() || t.at > now.Add(time.Minute).UnixNano() {
			continue
		}
		at := time.Unix(0, t.at)
		p := t.source()
		a := by[p]
		if a == nil {
			a = &account{LiveSource: LiveSource{Prefix: p, First: at, Last: at}, names: map[string]int{}}
			by[p] = a
		}
		a.Attempts += int(t.n)
		if at.Before(a.First) {
			a.First = at
		}
		if at.After(a.Last) {
			a.Last = at
		}
		if t.nameLen > 0 {
			a.names[string(t.name[:t.nameLen])] += int(t.n)
		}
	}
	sources := make([]LiveSource, 0, len(by))
	for _, a := range by {
		a.Names, a.Many = []string{}, len(a.names)
		names := make([]string, 0, len(a.names))
		for name := range a.names {
			names = append(names, name)
		}
		slices.SortFunc(names, func(x, y string) int { return cmp.Or(a.names[y]-a.names[x], strings.Compare(x, y)) })
		for _, name := range names[:min(len(names), liveNames)] {
			a.Names = append(a.Names, printable.Text(name))
		}
		sources = append(sources, a.LiveSource)
	}
	slices.SortFunc(sources, func(a, b LiveSource) int {
		return cmp.Or(b.Attempts-a.Attempts, b.Last.Compare(a.Last), a.Prefix.Compare(b.Prefix))
	})
	return sources
}

// Live is what is going on now; with find, of what holds it.
func (d *Daemon) Live(ctx context.Context, find string) LiveReply {
	now := time.Now()
	reply := LiveReply{Time: now, Since: now.Add(-liveAfter), Status: d.Status(ctx), Bans: []LiveBan{}, Grants: []LiveGrant{}}
	look := newFinder(find, d.livePlaces())
	d.mu.Lock()
	reply.Attempts = d.lately.bySecond(now)
	tries := slices.Clone(d.lately.tries)
	newest := d.newestBans(now, look)
	grants := d.liveGrants(now)
	d.mu.Unlock()

	for _, l := range newest {
		reply.Bans = append(reply.Bans, LiveBan{NewBan(l), look.country(l.Prefix)})
	}
	for _, l := range grants {
		if len(reply.Grants) < liveMost && look.finds(l.Prefix, l.Reason, l.Holder) {
			reply.Grants = append(reply.Grants, LiveGrant{NewGrant(l), look.country(l.Prefix)})
		}
	}
	reply.Sources = slices.DeleteFunc(attackers(tries, reply.Since, now), func(s LiveSource) bool { return !look.finds(s.Prefix, s.Names...) })
	if len(reply.Sources) > liveMost {
		reply.Sources = reply.Sources[:liveMost]
	}
	if len(tries) > 0 && len(tries) == liveKept { // more were tried than are kept: tell since when they are
		oldest := now.UnixNano()
		full := true
		for i := range tries {
			full = full && tries[i].at != 0
			oldest = min(oldest, tries[i].at)
		}
		if at := time.Unix(0, oldest); full && at.After(reply.Since) {
			reply.Since = at
		}
	}
	d.mu.Lock()
	for i := range reply.Sources {
		s := &reply.Sources[i]
		s.Country = look.country(s.Prefix) // an index: no time to speak of
		_, s.Banned = d.engine.Banned(s.Prefix, now)
	}
	d.mu.Unlock()
	return reply
}

// livePlaces is the index of countries, made where nobody needed it for a while; nil
// where it cannot be had.
func (d *Daemon) livePlaces() *report.Places {
	d.mu.Lock()
	d.located.asked = time.Now()
	d.mu.Unlock()
	places, err := d.index()
	if err != nil {
		d.log.Error("the country data cannot be read; who attacks is shown without country", "error", err)
	}
	return places
}

// newest are the newest bans that somebody looked for, and those begun since. A look
// at all takes as long as there are bans, so it is not taken all the time.
type newest struct {
	find  string
	bans  []lease.Lease
	next  time.Time     // when to look at all again
	begun []lease.Lease // at most liveMost
}

// add takes in bans that begin.
func (n *newest) add(bans ...lease.Lease) {
	if n.next.IsZero() {
		return // nobody looks
	}
	n.begun = append(n.begun, bans...)
	if over := len(n.begun) - liveMost; over > 0 {
		n.begun = append(n.begun[:0], n.begun[over:]...)
	}
}

// newestBans are the newest bans that look finds. Called with d.mu held.
func (d *Daemon) newestBans(now time.Time, look *finder) []lease.Lease {
	n := &d.newest
	if n.find != look.text || !now.Before(n.next) {
		n.find, n.bans, n.begun = look.text, d.allNewest(now, look), nil
		n.next = now.Add(rescanRest * time.Since(now))
		return n.bans
	}
	bans := make([]lease.Lease, 0, len(n.bans)+len(n.begun))
	for _, l := range slices.Concat(n.begun, n.bans) {
		if live, ok := d.engine.Banned(l.Prefix, now); ok && look.findsBan(l) && !slices.ContainsFunc(bans, func(b lease.Lease) bool { return b.Prefix == l.Prefix }) {
			bans = append(bans, live)
		}
	}
	slices.SortFunc(bans, newer)
	return bans[:min(len(bans), liveMost)]
}

func newer(a, b lease.Lease) int {
	return cmp.Or(b.From.Compare(a.From), a.Prefix.Compare(b.Prefix))
}

// allNewest looks at all bans. Called with d.mu held.
func (d *Daemon) allNewest(now time.Time, look *finder) []lease.Lease {
	bans := make([]lease.Lease, 0, 2*liveMost)
	var bar time.Time // what is older is not among them
	d.engine.Bans(now, func(l lease.Lease) bool {
		if l.From.Before(bar) || !look.findsBan(l) {
			return true
		}
		if bans = append(bans, l); len(bans) == cap(bans) {
			slices.SortFunc(bans, newer)
			bans = bans[:liveMost]
			bar = bans[liveMost-1].From
		}
		return true
	})
	slices.SortFunc(bans, newer)
	return bans[:min(len(bans), liveMost)]
}

// finder looks for what somebody typed.
type finder struct {
	text   string
	prefix netip.Prefix // where it is one
	code   string       // where it may be a country's
	places *report.Places
	buf    []byte
}

func newFinder(text string, places *report.Places) *finder {
	f := &finder{text: strings.ToLower(strings.TrimSpace(text)), places: places}
	if addr, err := netip.ParseAddr(f.text); err == nil {
		f.prefix = netip.PrefixFrom(addr.WithZone(""), addr.BitLen())
	} else if p, err := netip.ParsePrefix(f.text); err == nil {
		f.prefix = p.Masked()
	}
	if len(f.text) == 2 {
		f.code = strings.ToUpper(f.text)
	}
	return f
}

// finds reports whether p or a text beside it is looked for.
func (f *finder) finds(p netip.Prefix, texts ...string) bool {
	switch {
	case f.text == "":
		return true
	case f.prefix.IsValid():
		return f.prefix.Overlaps(p)
	case f.code != "" && f.country(p) == f.code:
		return true
	}
	f.buf = p.AppendTo(f.buf[:0])
	if strings.Contains(string(f.buf), f.text) {
		return true
	}
	return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(strings.ToLower(t), f.text) })
}

// findsBan reports whether l is looked for: by what top shows of it.
func (f *finder) findsBan(l lease.Lease) bool { return f.finds(l.Prefix, l.Cause, l.Holder) }

// country is the country of p's first address; "" where that is not known.
func (f *finder) country(p netip.Prefix) string { return f.places.Country(p.Addr()) }
