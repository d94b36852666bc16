package guard

import (
	"net/netip"
	"slices"
	"time"

	"sekisho/internal/sshlog"
)

const (
	maxSessions = 1 << 14
	maxLogins   = 1 << 16

	// lateLines is how long an ended session is remembered: both processes of a
	// connection may say that it ended.
	lateLines = 60 * 1000

	// sessionTrust is how long a session is believed to last where nobody can be
	// asked and its end was not logged, as when sshd was killed.
	sessionTrust = 24 * 60 * 60 * 1000
)

// session is somebody logged in.
type session struct {
	conn    key // of the process that said Accepted
	user    string
	since   int64 // milliseconds
	ended   int64 // milliseconds; 0: not yet
	adopted bool  // known from the store: its end may have gone by unseen
}

// sessions are the authenticated connections, by peer. Only who logs in can
// grow them; at the bound an ended one goes first, then the oldest of a few.
type sessions struct {
	by    map[netip.AddrPort]session
	ports map[netip.Addr][]uint16 // the keys of by, for looking at one address
	conns map[key]netip.AddrPort  // by connection: the last line, of PAM, names no peer
	alive func(netip.AddrPort) bool
}

func newSessions() sessions {
	return sessions{by: map[netip.AddrPort]session{}, ports: map[netip.Addr][]uint16{}, conns: map[key]netip.AddrPort{}}
}

// has reports whether c's peer has a session, or had one a moment ago.
func (ss *sessions) has(c *conn) bool {
	if len(ss.by) == 0 || c.port == 0 {
		return false
	}
	_, ok := ss.by[c.peer()]
	return ok
}

func (ss *sessions) begin(peer netip.AddrPort, s session) {
	ss.drop(peer)
	if len(ss.by) >= maxSessions {
		ss.evict(s.since)
	}
	ss.by[peer] = s
	ss.ports[peer.Addr()] = append(ss.ports[peer.Addr()], peer.Port())
	if s.conn != (key{}) {
		ss.conns[s.conn] = peer
	}
}

func (ss *sessions) evict(ms int64) {
	ss.sweep(ms)
	var victim netip.AddrPort
	seen := 0
	for peer, s := range ss.by {
		if v, ok := ss.by[victim]; !ok || s.since < v.since {
			victim = peer
		}
		if seen++; seen == 64 {
			break
		}
	}
	if len(ss.by) >= maxSessions {
		ss.drop(victim)
	}
}

func (ss *sessions) drop(peer netip.AddrPort) {
	s, ok := ss.by[peer]
	if !ok {
		return
	}
	delete(ss.by, peer)
	if ss.conns[s.conn] == peer {
		delete(ss.conns, s.conn)
	}
	a := peer.Addr()
	ports := ss.ports[a]
	ports = slices.Delete(ports, slices.Index(ports, peer.Port()), slices.Index(ports, peer.Port())+1)
	if ss.ports[a] = ports; len(ports) == 0 {
		delete(ss.ports, a)
	}
}

// end notes that a session is over.
func (ss *sessions) end(peer netip.AddrPort, ms int64) {
	if s, ok := ss.by[peer]; ok && s.ended == 0 {
		s.ended = max(ms, 1)
		ss.by[peer] = s
	}
}

// endConn ends the session of a connection by its process.
func (ss *sessions) endConn(k key, ms int64) {
	if peer, ok := ss.conns[k]; ok {
		ss.end(peer, ms)
	}
}

// sweep forgets the sessions that are over, and those that nobody can vouch for.
func (ss *sessions) sweep(ms int64) {
	for peer, s := range ss.by {
		if s.ended != 0 && ms-s.ended > lateLines || ms-s.since > 30*sessionTrust {
			ss.drop(peer)
		}
	}
}

// live returns the peer of a session within p that lasts at ms.
func (ss *sessions) live(p netip.Prefix, ms int64) (netip.AddrPort, bool) {
	if p.IsSingleIP() {
		for _, port := range ss.ports[p.Addr()] {
			if peer := netip.AddrPortFrom(p.Addr(), port); ss.lasts(peer, ms) {
				return peer, true
			}
		}
		return netip.AddrPort{}, false
	}
	for peer := range ss.by {
		if p.Contains(peer.Addr()) && ss.lasts(peer, ms) {
			return peer, true
		}
	}
	return netip.AddrPort{}, false
}

// lasts reports whether a session is on at ms.
func (ss *sessions) lasts(peer netip.AddrPort, ms int64) bool {
	s := ss.by[peer]
	switch {
	case s.ended != 0:
		return false
	case ss.alive == nil:
		return !s.adopted && ms-s.since < sessionTrust
	case ss.alive(peer):
		return true
	}
	ss.end(peer, ms)
	return false
}

// friend is a source from which somebody has logged in. Friends are counted in a
// table of their own: no flood of hostile sources takes anything from them.
type friend struct {
	window window
	last   int64 // milliseconds; of the last login
	user   string
	addr   netip.Addr
}

// friends are the sources ever seen to log in, by source. Only who logs in can
// grow them; at the bound the one of a few whose login is longest ago goes.
type friends struct {
	*table[friend]
}

func (fs *friends) evict(ns *nodes) {
	var victim key
	var oldest *friend
	fs.sample(64, func(k key, f *friend) {
		if oldest == nil || f.last < oldest.last {
			victim, oldest = k, f
		}
	})
	if oldest != nil {
		ns.clear(&oldest.window)
		fs.remove(victim)
	}
}

// befriend notes that somebody logged in from a source, and takes what was
// counted against it along.
func (e *Engine) befriend(l sshlog.Login, ms int64) *friend {
	k := addrKey(e.judge.source(l.Addr).Addr())
	f := e.friends.get(k)
	if f == nil {
		if e.friends.n >= maxLogins {
			e.friends.evict(&e.nodes)
		}
		f, _ = e.friends.insert(k)
		if w := e.sources.get(k); w != nil {
			f.window = *w
			e.sources.remove(k) // the nodes have moved along
		}
	}
	if ms >= f.last {
		f.last, f.addr, f.user = ms, l.Addr, l.User
	}
	return f
}

// accept notes a login and says what it comes to.
func (e *Engine) accept(l *sshlog.Line, ev *sshlog.Event, c *conn, ms int64) {
	if c == nil || !c.addr.known() {
		return
	}
	a, user := c.addr.netip(), bounded(c.name())
	hash := c.hash
	f := e.befriend(sshlog.Login{Addr: a, Port: c.port, User: user, Time: time.UnixMilli(ms)}, ms)

	if !e.replay {
		told := len(e.out.Notices)
		failures := e.nodes.sum(&f.window, ms-e.judge.find, ms, e.judge.entries)
		name := e.names.find(hash)
		switch {
		case e.judge.AcceptedAfter > 0 && failures >= e.judge.AcceptedAfter:
			e.noticeOnce(NoticeAccepted, a, user, "logged in after %d failures within %v", failures, e.judge.FindTime)
		case name != 0 && e.names.attacked(name, ms):
			e.noticeOnce(NoticeAccepted, a, user, "logged in as a user whose name is under attack from many sources")
		}
		for i := range e.out.Notices[told:] {
			e.out.Notices[told+i].Method = ev.Method
		}
	}

	// A login forgives its own user's failures in its own connection, no others:
	// else a valid account would launder a spray.
	for _, t := range c.own {
		if t.hash != 0 && t.hash == hash {
			e.nodes.forgive(&f.window, e.names.find(hash), c.started, int(t.weight))
		}
	}
	c.own = [2]tally{}
	if ev.Method != sshlog.MethodPassword {
		e.answered(l, ev, c)
	}
	c.accepted, c.pending, c.ahead, c.credit, c.pamCredit = true, false, false, false, false
	if c.port != 0 {
		k, _ := e.conns.key(l, ev, l.PID)
		e.sessions.begin(c.peer(), session{conn: k, user: user, since: ms})
	}
}

// leave ends the session that a line says is over.
func (e *Engine) leave(l *sshlog.Line, ev *sshlog.Event, c *conn, ms int64) {
	if len(e.sessions.by) == 0 {
		return
	}
	switch ev.Kind {
	case sshlog.Closed, sshlog.Reset, sshlog.Disconnected, sshlog.ReceivedDisconnect, sshlog.AuthFailDisconnect, sshlog.Disconnecting:
		if c != nil && !ev.Preauth && c.port != 0 {
			e.sessions.end(c.peer(), ms)
		}
	case sshlog.SessionClosed:
		// "Close session: ..." ends one channel of perhaps several; PAM's own line,
		// which names no peer, the whole.
		if !ev.Addr.IsValid() && l.PID > 0 {
			k, _ := e.conns.key(l, ev, l.PID)
			e.sessions.endConn(k, ms)
		}
	}
}
