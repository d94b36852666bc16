package guard

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

const (
	// disorder is by how much lines may be out of order: less is taken for now, more
	// for a clock that was set back.
	disorder = int64(time.Minute)

	// lag is how long after a ban began attempts may still arrive, in
	// milliseconds: they were on their way.
	lag = 5000

	noticeEvery = 10 * 60 * 1000 // milliseconds
	maxNoticed  = 4096
)

// Engine judges: it joins sshd's lines to connections, counts attempts, holds a
// window for every source and begins bans. It does no I/O, and its time is that
// of the lines and of Advance. Not safe for concurrent use.
//
// What it remembers is bounded (see Policy.MaxSources). At the bound a source
// gives way to a new one: of 16 taken by chance one whose attempts no longer
// matter, else one with the fewest attempts, among these the one that has been
// quiet longest. So a flood of sources with one attempt each pushes itself out
// first; and sources that have ever logged in are not in that table at all.
type Engine struct {
	judge    judge
	sources  *table[window]
	nodes    nodes
	friends  friends
	conns    conns
	sessions sessions
	names    names
	bans     bans
	noticed  map[noticeKey]int64 // when, milliseconds
	forgot   int64               // milliseconds; when noticed was last swept

	now     int64 // nanoseconds
	swept   int64 // milliseconds
	expired int64 // milliseconds; nothing more was due then
	replay  bool
	alone   conn // of a line that belongs to no connection
	out     *Outcome
	pending []pending // PAM failures that may wait for ever, in order of due
	stats   counters

	findTime, within string // the policy's, for reasons
}

type pending struct {
	conn key
	due  int64 // milliseconds
}

type noticeKey struct {
	kind string
	addr netip.Addr
}

// New returns an engine that knows nobody. The policy should have passed Validate.
func New(p Policy) *Engine {
	e := &Engine{
		sources:  &table[window]{},
		friends:  friends{&table[friend]{}},
		conns:    newConns(),
		sessions: newSessions(),
		names:    newNames(),
		bans:     newBans(),
		noticed:  map[noticeKey]int64{},
	}
	e.SetPolicy(p)
	return e
}

// SetPolicy changes what is judged by; nothing counted and no ban is lost. Bans in
// force keep their end. Where the size of a source changes, what was counted
// under the old size is forgotten.
func (e *Engine) SetPolicy(p Policy) {
	old := e.judge
	e.judge = newJudge(p)
	e.names.configure(p.Distributed)
	e.findTime, e.within = p.FindTime.String(), p.Distributed.Within.String()
	if old.IPv4Bits != 0 && (old.IPv4Bits != e.judge.IPv4Bits || old.IPv6Bits != e.judge.IPv6Bits) {
		e.sources, e.nodes = &table[window]{}, nodes{}
		friends := e.friends.table
		e.friends.table = &table[friend]{}
		friends.each(func(_ key, f *friend) bool {
			e.befriend(sshlog.Login{Addr: f.addr, User: f.user}, f.last)
			return true
		})
	}
}

// SetReplay says that the lines to come were read before: they rebuild windows
// and connections, and what they led to is known from Adopt, Begin and Forgive.
// Nothing is banned or told then.
func (e *Engine) SetReplay(on bool) { e.replay = on }

// SetSessionCheck gives the engine somebody to ask, at the moment of a decision,
// whether a connection still exists.
func (e *Engine) SetSessionCheck(alive func(netip.AddrPort) bool) { e.sessions.alive = alive }

// Source is the prefix that an address is counted under; invalid for an invalid
// address.
func (e *Engine) Source(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return e.judge.source(plain(a))
}

// Adopt takes over what the store remembers: the bans in force, the history of
// bans and the last logins. Call it before any line is observed, and Forgive
// after it for the latest unbans.
func (e *Engine) Adopt(inForce []lease.Lease, history []lease.History, logins []sshlog.Login) {
	for _, h := range history {
		p := canonical(h.Prefix)
		if !p.IsValid() || h.Count <= 0 {
			continue
		}
		from := h.Last.UnixNano()
		e.bans.put(keyOf(p), record{from: from, until: from + int64(e.judge.banTime(h.Count)), count: uint16(min(h.Count, 1<<16-1)), cause: ended})
		if n, ok := e.judge.network(p); ok {
			e.bans.countNet(n, from)
		}
	}
	for _, l := range inForce {
		p := canonical(l.Prefix)
		if _, known := e.bans.get(keyOf(p)); !known && p.IsValid() {
			if n, ok := e.judge.network(p); ok {
				e.bans.countNet(n, l.From.UnixNano())
			}
		}
		e.Begin(l)
	}
	for _, l := range logins {
		if l.Addr = plain(l.Addr); !l.Addr.IsValid() {
			continue
		}
		ms := l.Time.UnixMilli()
		l.User = bounded([]byte(l.User))
		e.befriend(l, ms)
		if l.Port != 0 {
			e.sessions.begin(netip.AddrPortFrom(l.Addr, l.Port), session{user: l.User, since: ms, adopted: true})
		}
	}
}

// Begin puts a ban in force that somebody else decided. It returns which ban of
// this prefix that is: l.Count, or one more than are remembered where that is 0.
func (e *Engine) Begin(l lease.Lease) (count int) {
	if l.Prefix = canonical(l.Prefix); !l.Prefix.IsValid() || l.Verdict != lease.Deny {
		return 0
	}
	if l.Count == 0 {
		l.Count = e.nextCount(l.Prefix, l.From.UnixNano())
	}
	e.bans.begin(l)
	return l.Count
}

// Never returns the prefix of those never banned that p touches, if there is one.
func (e *Engine) Never(p netip.Prefix) (netip.Prefix, bool) {
	return e.judge.never(canonical(p))
}

// Session returns somebody logged in from within p, if there is one.
func (e *Engine) Session(p netip.Prefix) (netip.AddrPort, bool) {
	return e.sessions.live(canonical(p), e.now/1e6)
}

// Forgive lifts the ban of p, if it began before at, and forgets what was counted
// of p until then; lines before at that are observed later do not count either.
// How often p was banned stays remembered.
func (e *Engine) Forgive(p netip.Prefix, at time.Time) {
	if p = canonical(p); !p.IsValid() {
		return
	}
	k, ns := keyOf(p), at.UnixNano()
	r, ok := e.bans.get(k)
	if ok && r.from > ns {
		return
	}
	if !ok {
		r.from = ns
	}
	r.until, r.cause = ns, forgiven
	delete(e.bans.leases, k)
	e.bans.put(k, r)
	if e.judge.source(p.Addr()) == p && e.now <= ns {
		e.forgetSource(addrKey(p.Addr()))
	}
}

// forgetSource empties a source's window.
func (e *Engine) forgetSource(k key) {
	if f := e.friends.get(k); f != nil {
		e.nodes.clear(&f.window)
	} else if w := e.sources.get(k); w != nil {
		e.nodes.clear(w)
		e.sources.remove(k)
	}
}

// Bans calls yield with each ban in force at now, until it returns false. It must
// not change the engine.
func (e *Engine) Bans(now time.Time, yield func(lease.Lease) bool) {
	ns := now.UnixNano()
	e.bans.each(func(k prefixKey, r record) bool {
		return r.cause <= forgiven || ns >= r.until || yield(e.bans.lease(k, r))
	})
}

// Banned returns the ban of exactly p, if one is in force at now.
func (e *Engine) Banned(p netip.Prefix, now time.Time) (lease.Lease, bool) {
	if p = canonical(p); !p.IsValid() {
		return lease.Lease{}, false
	}
	k := keyOf(p)
	r, ok := e.bans.get(k)
	if !ok || r.cause <= forgiven || now.UnixNano() >= r.until {
		return lease.Lease{}, false
	}
	return e.bans.lease(k, r), true
}

// Observe takes in one line and fills o with what it came to. Lines of a source
// come in order; what is up to a minute out of order is taken for now.
func (e *Engine) Observe(l *sshlog.Line, o *Outcome) {
	sshlog.Parse(l.Message, &o.Event)
	e.observe(l, o)
}

// observe is Observe after parsing.
func (e *Engine) observe(l *sshlog.Line, o *Outcome) {
	ev := &o.Event
	o.Bare, o.Addr, o.Port, o.User, o.Attempts = l.Bare, ev.Addr, ev.Port, ev.User, 0
	o.Bans, o.Notices = o.Bans[:0], o.Notices[:0]
	if int(ev.Kind) < len(e.stats.kinds) {
		e.stats.kinds[ev.Kind]++
	}
	if l.Bare {
		return // even its time is not to be believed
	}
	e.out = o
	ms := e.clock(l.Time) / 1e6
	e.expire(ms)
	if ev.Kind == sshlog.None {
		return
	}
	if ev.Addr.Is6() {
		ev.Addr = plain(ev.Addr)
	}

	c := e.join(l, ev, ms)
	if c == nil {
		c = &e.alone
		*c = conn{addr: addrOf(ev.Addr), port: ev.Port, started: ms, invalid: ev.Invalid}
		if ev.User != nil {
			c.setUser(ev.User, e.conns.hash(ev.User))
		}
	}
	o.Addr, o.Port = ev.Addr, c.port
	if !o.Addr.IsValid() {
		o.Addr = c.addr.netip()
	}
	if o.User == nil {
		o.User = c.name()
	}
	n := e.attempts(l, ev, c)
	o.Attempts = n
	if n > 0 && c.ahead {
		c.ahead = false
		n--
	}
	if n > 0 {
		e.charge(c, n, ev.Kind, ms)
	}
	if c == &e.alone {
		e.leave(l, ev, nil, ms)
		return
	}
	switch {
	case ev.Kind == sshlog.Accepted:
		e.accept(l, ev, c, ms)
	case ev.Kind == sshlog.Note && ev.Child > 0:
		e.adoptChild(l, ev, c, ms)
	default:
		e.leave(l, ev, c, ms)
	}
	if c.pending && !c.queued {
		c.queued = true
		k, _ := e.conns.key(l, ev, l.PID)
		e.pending = append(e.pending, pending{k, ms + pamIdle})
	}
}

// clock takes in the time of a line and returns the engine's.
func (e *Engine) clock(ns int64) int64 {
	if ns != 0 && (ns > e.now || e.now-ns > disorder) {
		e.now = ns
	}
	return e.now
}

// Advance lets time pass where no lines do: what waited is charged, what is over
// is forgotten. It may begin bans. Cheap; once a second will do. Do not call it
// with the wall clock's time before the backlog of the log is read.
func (e *Engine) Advance(now time.Time, o *Outcome) {
	*o = Outcome{Bans: o.Bans[:0], Notices: o.Notices[:0]}
	e.out = o
	ms := e.clock(now.UnixNano()) / 1e6
	e.expire(ms)
	e.sweepSources(4096, ms)
	e.sources = e.sources.shrunk()
}

// expire does what is due, a little at a time.
func (e *Engine) expire(ms int64) {
	if ms == e.expired {
		return
	}
	for len(e.pending) > 0 && e.pending[0].due <= ms {
		e.wakePending(ms)
	}
	for n := 0; ; n++ {
		i := e.conns.oldest
		if i == 0 || ms-e.conns.at(i-1).val.last <= connIdle {
			e.expired = ms // most lines come in the same second as the one before
			break
		}
		if n == 32 {
			break
		}
		e.forgetConn(i-1, ms)
	}
	if ms-e.swept > 60*1000 || ms < e.swept {
		e.swept = ms
		e.sessions.sweep(ms)
		e.names.cool(ms)
	}
}

// wakePending looks at the PAM failure that has waited longest.
func (e *Engine) wakePending(ms int64) {
	p := e.pending[0]
	e.pending = e.pending[1:]
	if len(e.pending) == 0 {
		e.pending = nil
	}
	c := e.conns.get(p.conn)
	if c == nil {
		return
	}
	c.queued = false
	if !c.pending || c.ahead {
		return
	}
	if ms-c.last < pamIdle {
		c.queued = true
		e.pending = append(e.pending, pending{p.conn, c.last + pamIdle})
		return
	}
	e.settle(c, ms)
}

func (e *Engine) forgetConn(i uint32, ms int64) {
	e.settle(&e.conns.at(i).val, ms)
	e.conns.forget(i)
}

func (e *Engine) sweepSources(n int, ms int64) {
	e.sources.sweep(n, func(_ key, w *window) bool { return e.spent(w, ms) })
}

// spent reports whether nothing in w can matter any more, and lets go of it then.
func (e *Engine) spent(w *window, ms int64) bool {
	if ms-e.nodes.newest(w) < e.judge.retain {
		return false
	}
	e.nodes.clear(w)
	return true
}

// evict makes room for a new source.
func (e *Engine) evict(ms int64) {
	var victim key
	var weakest *window
	e.sources.sample(16, func(k key, w *window) {
		if weakest == nil || e.weaker(w, weakest, ms) {
			victim, weakest = k, w
		}
	})
	if weakest == nil {
		return
	}
	e.nodes.clear(weakest)
	e.sources.remove(victim)
	e.stats.SourcesEvicted++
}

func (e *Engine) weaker(a, b *window, ms int64) bool {
	lastA, lastB := e.nodes.newest(a), e.nodes.newest(b)
	if overA, overB := ms-lastA >= e.judge.retain, ms-lastB >= e.judge.retain; overA != overB {
		return overA
	}
	if a.next != 0 || b.next != 0 || a.n == b.n {
		return a.next == 0 && b.next != 0 || lastA < lastB
	}
	return a.n < b.n
}

// charge adds n attempts to the account of c's peer and decides.
func (e *Engine) charge(c *conn, n int, kind sshlog.Kind, ms int64) {
	e.stats.Attempts += uint64(n)
	if e.replay {
		if _, _, settled := e.bans.cover(c.addr, e.now, true); e.now < settled {
			return // it was in no window when this line was first read
		}
	}
	if e.judge.DryRun {
		if _, r, _ := e.bans.cover(c.addr, e.now, false); r.cause != ended {
			return // a ban in force would have kept this attempt away
		}
	}
	k := e.judge.sourceKey(c.addr)
	var w *window
	f := e.friends.get(k)
	if f != nil {
		w = &f.window
	} else if w = e.sources.get(k); w == nil {
		if e.sweepSources(2, ms); e.sources.n >= e.judge.MaxSources {
			e.evict(ms)
		}
		w, _ = e.sources.insert(k)
	}
	w.total = uint16(min(int(w.total)+n, 1<<16-1))

	weight := n * int(e.judge.weights[kind&63])
	if weight == 0 {
		return
	}
	var name uint16
	invalid := c.invalid
	if c.hash != 0 {
		name = e.names.note(c.name(), c.hash, ms)
		c.charge(c.hash, weight)
		if f == nil && name != 0 && e.judge.Distributed.MaxRetry > 0 {
			e.aim(c, name, k, ms)
		}
	}
	since := ms - e.judge.find
	for left, entries := weight, 0; left > 0 && entries < e.judge.entries; entries++ {
		part := min(left, maxWeight)
		e.nodes.push(w, newAttempt(ms, kind, invalid, part, name), ms-e.judge.retain, e.judge.maxNodes)
		left -= part
	}
	if e.replay {
		return // what was decided is known from the store
	}

	bar := e.judge.MaxRetry
	if f != nil && e.lately(f, ms) {
		bar = e.judge.Known.MaxRetry
	}
	if e.nodes.sum(w, since, ms, e.judge.entries) >= bar {
		e.decide(c, w, verdict{cause: attempts, bar: bar, since: since}, ms)
		return
	}
	if f == nil && len(e.names.fire) > 0 && (invalid && c.hash != 0 || e.names.attacked(name, ms)) {
		since = ms - e.judge.dist
		if e.aimed(w, since, ms) >= e.judge.Distributed.MaxRetry {
			e.decide(c, w, verdict{cause: distributed, bar: e.judge.Distributed.MaxRetry, since: since}, ms)
		}
	}
}

// aim counts a source for the name that it tries.
func (e *Engine) aim(c *conn, name uint16, source key, ms int64) {
	if e.names.has(name, source, ms) {
		return
	}
	if !e.judge.DryRun {
		if _, r, _ := e.bans.cover(c.addr, e.now, false); r.cause != ended {
			return // dealt with
		}
	}
	if e.names.add(name, source, ms) && !e.replay {
		n := e.names.at(name)
		user := e.names.textAt(name, ms)
		e.noticeOnce(NoticeDistributed, c.addr.netip(), user, "about %d sources try the user name %q: sources never seen to log in are banned after %d attempts at it or at users who do not exist", n.sources(), user, e.judge.Distributed.MaxRetry)
	}
}

// aimed is the weight of what w holds against names under attack and users who
// do not exist.
func (e *Engine) aimed(w *window, since, until int64) (weight int) {
	e.nodes.each(w, func(a attempt) bool {
		name := a.name()
		if ms := a.ms(); ms > since && ms <= until && (a.invalid() || name != 0 && ms >= e.names.at(name).born && e.names.attacked(name, until)) {
			weight += a.weight()
		}
		return true
	})
	return weight
}

// lately reports whether somebody logged in from f within Known.For.
func (e *Engine) lately(f *friend, ms int64) bool {
	return e.judge.Known.For > 0 && ms-f.last <= e.judge.Known.For.Milliseconds()
}

// verdict is what makes a source due for a ban.
type verdict struct {
	cause cause
	bar   int
	since int64 // milliseconds
}

func (e *Engine) weigh(w *window, v verdict, since, ms int64) int {
	if v.cause == distributed {
		return e.aimed(w, since, ms)
	}
	return e.nodes.sum(w, since, ms, e.judge.entries)
}

// decide bans c's source, unless something speaks against it.
func (e *Engine) decide(c *conn, w *window, v verdict, ms int64) {
	ns := e.now
	if k, r, settled := e.bans.cover(c.addr, ns, false); r.cause != ended {
		if began := r.from/1e6 + lag; e.weigh(w, v, max(v.since, began), ms) >= v.bar {
			if a := c.addr.netip(); e.due(NoticeIneffective, a) {
				e.notice(NoticeIneffective, a, bounded(c.name()), "%v is banned since %v and still makes attempts: is the ban enforced?", k.prefix(), time.Unix(0, r.from).UTC().Format(time.RFC3339))
			}
			e.nodes.clear(w)
		}
		return
	} else if v.since < settled/1e6 {
		v.since = settled/1e6 - 1
	}
	weight := e.weigh(w, v, v.since, ms)
	if weight < v.bar {
		return
	}
	a := c.addr.netip()
	source, single := e.judge.source(a), netip.PrefixFrom(a, a.BitLen())
	if why := e.protected(single, ms); why != "" {
		e.noticeOnce(NoticeSpared, a, bounded(c.name()), "%d attempts, not banned: %s", weight, why)
		if _, never := e.judge.never(single); never {
			e.clear(source, w)
		}
		return
	}
	p := source
	if p != single && e.protected(p, ms) != "" {
		p = single // somebody in the same network is not to be hurt
	}
	reason := e.reason(w, v, weight, ms)
	e.clear(source, w)
	e.ban(p, v.cause, weight, ns, reason)
	e.escalate(p, ns)
}

// clear empties the window of a source that is dealt with.
func (e *Engine) clear(source netip.Prefix, w *window) {
	k := addrKey(source.Addr())
	e.nodes.each(w, func(a attempt) bool {
		if i := a.name(); i != 0 && a.ms() >= e.names.at(i).born {
			e.names.take(i, k)
		}
		return true
	})
	e.forgetSource(k)
}

// protected says why p must not be banned, if so.
func (e *Engine) protected(p netip.Prefix, ms int64) string {
	if by, ok := e.judge.never(p); ok {
		return by.String() + " is never banned"
	}
	if e.judge.SpareLive {
		if peer, ok := e.sessions.live(p, ms); ok {
			return e.sessions.by[peer].user + " is logged in from " + peer.String()
		}
	}
	return ""
}

// reason says in one line what a ban is for.
func (e *Engine) reason(w *window, v verdict, weight int, ms int64) string {
	var kinds [64]int
	var seen [4]uint16 // names
	users := seen[:0]
	e.nodes.each(w, func(a attempt) bool {
		if a.ms() <= v.since || a.ms() > ms {
			return true
		}
		kinds[a.kind()] += a.weight()
		if i := a.name(); i != 0 && a.ms() >= e.names.at(i).born && len(users) < cap(users) && !slices.Contains(users, i) {
			users = append(users, i)
		}
		return true
	})
	width := e.findTime
	if v.cause == distributed {
		width = e.within
	}
	var buf [256]byte
	b := strconv.AppendInt(buf[:0], int64(weight), 10)
	b = append(append(b, " attempts within "...), width...)
	sep := ": "
	for kind, n := range kinds {
		if n > 0 {
			b = append(append(b, sep...), sshlog.Kind(kind).String()...)
			b = strconv.AppendInt(append(b, ' '), int64(n), 10)
			sep = ", "
		}
	}
	sep = "; users "
	for _, i := range users {
		b = append(append(append(b, sep...), '"'), e.names.textAt(i, ms)...)
		b = append(b, '"')
		sep = ", "
	}
	if v.cause == distributed {
		b = append(b, "; part of a distributed attack on user names"...)
	}
	return string(b)
}

// noticeOnce tells people of something, once in a while for each peer.
func (e *Engine) noticeOnce(kind string, a netip.Addr, user, format string, args ...any) {
	if e.due(kind, a) {
		e.notice(kind, a, user, format, args...)
	}
}

// due reports whether a notice may be given, and notes that it is.
func (e *Engine) due(kind string, a netip.Addr) bool {
	if e.replay {
		return false
	}
	ms := e.now / 1e6
	k := noticeKey{kind, a}
	if last, ok := e.noticed[k]; ok && ms-last < noticeEvery && ms >= last {
		return false
	}
	if ms-e.forgot >= noticeEvery || ms < e.forgot {
		e.forgot = ms
		maps.DeleteFunc(e.noticed, func(_ noticeKey, last int64) bool { return ms-last >= noticeEvery || ms < last })
	}
	if len(e.noticed) >= maxNoticed {
		e.stats.NoticesDropped++
		return false
	}
	e.noticed[k] = ms
	return true
}

func (e *Engine) notice(kind string, a netip.Addr, user, format string, args ...any) {
	e.out.Notices = append(e.out.Notices, Notice{Kind: kind, Addr: a, User: user, Text: fmt.Sprintf(format, args...)})
}

// bounded makes log text safe to show: ASCII, escaped, of at most maxUser bytes
// before that.
func bounded(text []byte) string {
	for i, c := range text {
		if c < ' ' || c > '~' || c == '\\' || c == '"' || i >= maxUser {
			q := strconv.QuoteToASCII(string(text[:min(len(text), maxUser)]))
			return q[1 : len(q)-1]
		}
	}
	return string(text)
}
