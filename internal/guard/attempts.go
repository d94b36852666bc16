package guard

import (
	"bytes"

	"sekisho/internal/sshlog"
)

// join finds the connection that a line belongs to and begins one where there
// is none; nil where the line stands for itself.
//
// A pid is used again and again: "Connection from", or a peer other than the
// one known, begins a new connection. What the listener says of a client under
// its own pid belongs to the client's connection, if it names the client's pid,
// and to no connection otherwise.
func (e *Engine) join(l *sshlog.Line, ev *sshlog.Event, ms int64) *conn {
	pid := l.PID
	switch ev.Kind {
	case sshlog.Penalty, sshlog.DropPenalty, sshlog.DropMaxStartups:
		return nil
	case sshlog.Timeout, sshlog.Crash:
		if ev.Child != 0 {
			pid = ev.Child
		}
	}
	k, ok := e.conns.key(l, ev, pid)
	if !ok {
		return nil
	}
	i, known := e.conns.index(k)
	var c *conn
	if known {
		c = &e.conns.at(i).val
		switch {
		case ev.Kind == sshlog.Connection:
			known = false
		case c.contradicts(ev):
			switch ev.Kind {
			case sshlog.Note, sshlog.Unknown, sshlog.ReverseMapping, sshlog.SessionOpened:
				return nil // whoever that is: not the peer
			case sshlog.Timeout:
				// OpenSSH 9.8 names peer and listener the wrong way round: the
				// connection that was open a moment ago knows better.
				if ev.Child != 0 && !c.ended && !c.accepted {
					ev.Addr, ev.Port = c.addr.netip(), c.port
					break
				}
				known = false
			default:
				known = false
			}
		}
		if !known {
			e.settle(c, ms) // it ended unseen
		}
	}
	switch {
	case c == nil:
		if e.conns.n >= maxConns {
			e.forgetConn(e.conns.oldest-1, ms)
			e.stats.ConnectionsEvicted++
		}
		c, i = e.conns.insert(k)
		c.started = ms
	case !known:
		c.reset(ms)
	}
	e.conns.touch(i, ms)
	if ev.Addr.IsValid() {
		c.addr = addrOf(ev.Addr)
		if ev.Port != 0 {
			c.port = ev.Port
		}
	}
	if ev.User != nil && ev.Kind != sshlog.SessionOpened && ev.Kind != sshlog.SessionClosed && ev.Kind != sshlog.Note && ev.Kind != sshlog.Unknown {
		if !c.knowsUser(ev.User) {
			c.setUser(ev.User, e.conns.hash(ev.User))
		}
		c.invalid = c.invalid || ev.Invalid
	}
	return c
}

// adoptChild notes which process serves a user who has logged in ("User child is
// on pid N"): what it says is said after authentication.
func (e *Engine) adoptChild(l *sshlog.Line, ev *sshlog.Event, c *conn, ms int64) {
	k, ok := e.conns.key(l, ev, ev.Child)
	if !c.accepted || !ok || e.conns.n >= maxConns {
		return
	}
	child, i := e.conns.open(k, ms)
	child.addr, child.port, child.accepted = c.addr, c.port, true
	e.conns.touch(i, ms)
}

// attempts is how many attempts a line adds to its peer's account. Of the lines
// that one attempt leaves, the first whose peer is known carries it.
func (e *Engine) attempts(l *sshlog.Line, ev *sshlog.Event, c *conn) int {
	n := e.said(l, ev, c) + int(c.owed)
	if !c.addr.known() {
		c.owed = uint16(min(n, 1<<16-1))
		return 0
	}
	c.owed = 0
	c.counted = uint16(min(int(c.counted)+n, 1<<16-1))
	return n
}

// said is how many attempts a line tells of that no line before it told of.
func (e *Engine) said(l *sshlog.Line, ev *sshlog.Event, c *conn) int {
	failed := c.failed
	c.failed = false
	switch ev.Kind {
	case sshlog.InvalidUser:
		// "input_userauth_request: invalid user" follows what said it first, before
		// 5.9 under another pid.
		if l.Message[0] == 'i' {
			return 0
		}
		if c.credit && c.creditFor == c.hash {
			return 0
		}
		c.credit, c.creditFor = true, c.hash
		return 1

	case sshlog.Failed:
		return e.failure(l, ev, c)

	case sshlog.PAMFailure:
		// The module's failure is not yet the login's: with several modules in a
		// stack the next may let the user in. Two of the same module are two tries.
		n, module := ev.Repeat-1, moduleHash(l.Message)
		if c.pending && c.module == module {
			n++
		}
		if !c.pending {
			c.pending, c.module = true, module
		}
		if n > 0 && c.credit {
			c.credit = false
			n--
		}
		return n

	case sshlog.PAMMoreFailures:
		// Below LogLevel INFO this is all that is told of most failures.
		if c.module == 0 || c.told || c.accepted {
			return 0
		}
		c.pending, c.credit = false, false
		return max(int(ev.Code)+1-int(c.counted)-int(c.owed), 0)

	case sshlog.PAMError:
		c.told = true
		e.answered(l, ev, c)
		n := ev.Repeat
		if c.credit {
			c.credit = false
			n--
		}
		c.pending, c.pamCredit = false, true
		return n

	case sshlog.NotAllowed, sshlog.RootRefused:
		// PAM's account check denies after "Failed METHOD", in the same try
		// (monitor.c logs before auth2.c is told); all else is before it.
		if c.credit || failed && ev.Kind == sshlog.NotAllowed {
			return 0
		}
		c.pending, c.credit, c.creditFor = false, true, c.hash
		return 1

	case sshlog.SessionOpened:
		// Below LogLevel INFO this is all that is told of a login.
		if !ev.Addr.IsValid() {
			c.accepted, c.pending, c.credit = true, false, false
		}
		return 0

	case sshlog.MaxAttempts, sshlog.TooManyFailures, sshlog.ChangeOfUser:
		c.ended = ev.Kind != sshlog.MaxAttempts
		n := unsettled(c)
		if n == 0 && c.counted == 0 && c.owed == 0 && !c.accepted {
			return 1
		}
		return n

	case sshlog.Closed, sshlog.Reset:
		// Without [preauth] this is either the end of a session, or since 9.6 a
		// client that came and went without a word.
		if !ev.Preauth && (ev.User != nil && !ev.Invalid || ev.Port == 0 && len(e.sessions.ports[ev.Addr]) > 0) {
			return 0
		}
		return e.end(ev, c)

	case sshlog.Disconnected, sshlog.ReceivedDisconnect, sshlog.Disconnecting:
		if !ev.Preauth {
			return 0
		}
		return e.end(ev, c)

	case sshlog.PacketError:
		// Without an address these are told by the process that reads the packets,
		// which says [preauth] as long as nobody has logged in.
		if !ev.Preauth && !ev.Addr.IsValid() {
			return 0
		}
		return e.end(ev, c)

	case sshlog.AuthFailDisconnect, sshlog.NoIdentification, sshlog.BadIdentification, sshlog.KexClosed,
		sshlog.NegotiationFailed, sshlog.Timeout, sshlog.RefusedByWrappers:
		return e.end(ev, c)
	}
	return 0
}

// failure counts a "Failed METHOD for ..." line.
func (e *Engine) failure(l *sshlog.Line, ev *sshlog.Event, c *conn) int {
	switch ev.Method {
	case sshlog.MethodNone:
		// Every client asks so which methods there are.
		if !ev.Invalid || c.credit || c.counted > 0 || c.owed > 0 {
			return 0
		}
		c.credit, c.creditFor = true, c.hash
		return 1
	case sshlog.MethodPublickey:
		// Clients offer key after key: no attempt by themselves where the user
		// exists, and one all together where not.
		if !ev.Invalid || c.keys {
			return 0
		}
		c.keys = true
		if c.credit {
			c.credit = false
			return 0
		}
		return 1
	}
	n := ev.Repeat
	if ev.Method != sshlog.MethodPassword && !c.pamCredit {
		e.answered(l, ev, c)
	}
	c.pending, c.told = false, true
	switch {
	case c.pamCredit && (ev.Method == sshlog.MethodKeyboardInteractive || ev.Method == sshlog.MethodUnknown):
		c.pamCredit = false
		n--
	case c.credit:
		c.credit = false
		n--
	}
	c.failed = true
	return n
}

// end counts what ends a connection, or says that it was never of use: once,
// if nothing else of it counted.
func (e *Engine) end(ev *sshlog.Event, c *conn) int {
	if c.accepted || e.sessions.has(c) {
		return 0
	}
	n := unsettled(c)
	c.ended = true
	if n == 0 && c.counted == 0 && c.owed == 0 && !c.abused && e.judge.countsEnd(ev) {
		c.abused = true
		n = 1
	}
	return n
}

// unsettled turns a pending PAM failure into an attempt, or into none if that
// attempt is accounted for.
func unsettled(c *conn) int {
	if !c.pending {
		return 0
	}
	c.pending = false
	if c.credit {
		c.credit = false
		return 0
	}
	return 1
}

// answered lets go of the PAM failure that sshd's word on keyboard-interactive is
// about. PAM runs in a process of its own for that method, which logs under
// another pid, a moment before; nothing but PAM's lines is of such a process, so
// it has no port.
func (e *Engine) answered(l *sshlog.Line, ev *sshlog.Event, c *conn) {
	own, ok := e.conns.key(l, ev, l.PID)
	if !ok || c.pending {
		return
	}
	for i := len(e.pending) - 1; i >= max(len(e.pending)-64, 0); i-- {
		k := e.pending[i].conn
		if k.hi != own.hi {
			continue // another host's
		}
		p := e.conns.get(k)
		if p != nil && p.pending && p.port == 0 && p.addr == c.addr && (p.hash == 0 || p.hash == c.hash) {
			p.pending = false
			return
		}
	}
}

// settle charges a pending PAM failure ahead of the line that will show it, if
// one ever does.
func (e *Engine) settle(c *conn, ms int64) {
	if c.pending && !c.accepted && !c.credit && !c.ahead && c.addr.known() {
		c.ahead = true
		e.charge(c, 1, sshlog.PAMFailure, ms)
	}
}

// moduleHash tells PAM modules apart: "pam_X(sshd:auth): ...", perhaps in
// rsyslog's "message repeated N times: [ ...]".
func moduleHash(msg []byte) uint32 {
	if rest, ok := bytes.CutPrefix(msg, []byte("message repeated ")); ok {
		_, msg, _ = bytes.Cut(rest, []byte("["))
		msg = bytes.TrimLeft(msg, " ")
	}
	h := uint32(2166136261)
	for _, c := range msg[:min(len(msg), 40)] {
		if c == '(' {
			return h | 1
		}
		h = (h ^ uint32(c)) * 16777619
	}
	return 1
}
