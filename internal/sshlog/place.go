package sshlog

import (
	"bytes"
	"net/netip"
)

// This file finds peers at the two places where a format string of sshd can
// put one so that no other text can take its place: at the front of what
// follows fixed words, or at the end of what precedes fixed words.
//
// What makes the places safe: a user name never holds a ':' (auth2.c cuts the
// login style off there, in every version), control bytes and newlines are
// escaped (log.c, strnvis), and a message shorter than cutLength is whole.

// cutLength is where a message may have lost its end: log.c hands syslog
// "%.500s" in every version (and cuts at 1,023 bytes before that). A false
// address laid exactly on that cut would stand at the end, so in a message
// this long no place is trusted that was found from the end.
const cutLength = 500

// peer is "A port P", or "A" alone as OpenSSH before 7.2 wrote it. A peer that
// sshd could not tell ("UNKNOWN port 65535") has an invalid Addr.
type peer struct {
	addr netip.Addr
	port uint16
}

// name gives the peer to the event.
func (p peer) name(ev *Event) { ev.Addr, ev.Port = p.addr, p.port }

// parsePeerAddr reads one token in a peer's place.
func parsePeerAddr(b []byte) (netip.Addr, bool) {
	if a, ok := parseAddr(b); ok {
		return a, true
	}
	return netip.Addr{}, string(b) == "UNKNOWN"
}

// frontPeer takes "A[ port P]" off the front of b. What follows is left as it
// is: empty, or its separator first.
func frontPeer(b []byte) (p peer, rest []byte, ok bool) {
	token, rest := cutToken(b)
	if after, found := cutPrefix(rest, " port "); found {
		n := 0
		for n < len(after) && n < 5 && after[n] >= '0' && after[n] <= '9' {
			n++
		}
		if port, isPort := parseUint(after[:n], 65535); isPort {
			if a, isAddr := parsePeerAddr(token); isAddr {
				return peer{a, uint16(port)}, after[n:], true
			}
		}
		return peer{}, b, false
	}
	// "A: what follows", the colon belongs to the text.
	if n := len(token); n > 0 && token[n-1] == ':' && len(rest) > 0 {
		token, rest = b[:n-1], b[n-1:]
	}
	a, ok := parsePeerAddr(token)
	return peer{a, 0}, rest, ok
}

// backPeer takes "A[ port P]" off the end of b; what precedes is left without
// the space between.
func backPeer(b []byte) (before []byte, p peer, ok bool) {
	before, token, port, ok := backToken(b)
	if !ok {
		return before, peer{}, false
	}
	a, ok := parsePeerAddr(token)
	return before, peer{a, port}, ok
}

// backToken takes "TOKEN[ port P]" off the end of b.
func backToken(b []byte) (before, token []byte, port uint16, ok bool) {
	before, token = cutLastToken(b)
	if rest, found := cutSuffix(before, " port"); found {
		n, isPort := parseUint(token, 65535)
		before, token = cutLastToken(rest)
		return before, token, uint16(n), isPort
	}
	return before, token, 0, true
}

// isHostName tells what UseDNS may have put in a peer's place. It is never
// resolved: who answers for a name is not who connected.
func isHostName(b []byte) bool {
	letters := 0
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			letters++
		case c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return letters > 0
}

// nameFrom reads "U from A[ port P]", all of b; A may be a host name. It is
// trusted only in a message that is whole.
func nameFrom(b []byte, ev *Event) bool {
	before, token, port, ok := backToken(b)
	if !ok {
		return false
	}
	if ev.User, ok = cutSuffix(before, " from"); !ok {
		return false
	}
	if ev.Addr, ok = parsePeerAddr(token); !ok && !isHostName(token) {
		return false
	}
	ev.Port = port
	return true
}

// userFrom is nameFrom with "invalid user " before the name where it is so.
func userFrom(b []byte, ev *Event) bool {
	if !nameFrom(b, ev) {
		return false
	}
	setUser(ev.User, ev)
	return true
}

// setUser reads "[invalid user ]U". PAM's lines say "illegal".
func setUser(b []byte, ev *Event) {
	user, ok := cutPrefix(b, "invalid user ")
	if !ok {
		user, ok = cutPrefix(b, "illegal user ")
	}
	ev.User, ev.Invalid = user, ev.Invalid || ok
}

// preamble takes off what sshd puts before the peer once it knows a user name
// (ssh_packet_set_log_preamble, since 7.5).
func preamble(b []byte, ev *Event) (rest []byte, ok bool) {
	if rest, ok = cutPrefix(b, "invalid user "); ok {
		ev.Invalid = true
		return rest, true
	}
	if rest, ok = cutPrefix(b, "authenticating user "); ok {
		return rest, true
	}
	return cutPrefix(b, "user ")
}

// idAlone reads sshd's name for a connection, all of b: "A port P" or
// "{authenticating,invalid,} user U A port P".
func idAlone(b []byte, cut bool, ev *Event) bool {
	if p, rest, ok := frontPeer(b); ok && len(rest) == 0 {
		p.name(ev)
		return true
	}
	rest, ok := preamble(b, ev)
	if !ok || cut {
		return false
	}
	user, p, ok := backPeer(rest)
	if !ok || p.port == 0 {
		return false
	}
	ev.User = user
	p.name(ev)
	return true
}

// idThen reads sshd's name for a connection where a ':' follows it, and leaves
// what stands behind ": ". The first " port P:" is the true one, because a user
// name holds no ':'; so this is trusted in a message of any length.
func idThen(b []byte, ev *Event) (rest []byte, ok bool) {
	if p, rest, ok := frontPeer(b); ok {
		if rest, ok = cutPrefix(rest, ":"); ok {
			p.name(ev)
			rest, _ = cutPrefix(rest, " ")
			return rest, true
		}
		return nil, false
	}
	b, ok = preamble(b, ev)
	if !ok {
		return nil, false
	}
	for at := 0; ; at += len(": ") {
		colon := index(b[at:], ": ")
		if colon < 0 {
			return nil, false
		}
		at += colon
		// "2001:db8:: port 5: " has one of an address first.
		if user, p, ok := backPeer(b[:at]); ok && p.port != 0 {
			ev.User = user
			p.name(ev)
			return b[at+len(": "):], true
		}
	}
}

// cutToken splits b before its first space.
func cutToken(b []byte) (token, rest []byte) {
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i:]
	}
	return b, nil
}

// cutLastToken splits b at its last space, which goes to neither side.
func cutLastToken(b []byte) (before, token []byte) {
	i := bytes.LastIndexByte(b, ' ')
	return b[:max(i, 0)], b[i+1:]
}

func cutPrefix(b []byte, prefix string) ([]byte, bool) {
	if len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix {
		return b[len(prefix):], true
	}
	return b, false
}

func cutSuffix(b []byte, suffix string) ([]byte, bool) {
	if n := len(b) - len(suffix); n >= 0 && string(b[n:]) == suffix {
		return b[:n], true
	}
	return b, false
}

// index finds s, a constant of at most 32 bytes: no allocation then.
func index(b []byte, s string) int { return bytes.Index(b, []byte(s)) }
