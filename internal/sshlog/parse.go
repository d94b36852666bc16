package sshlog

import (
	"bytes"
	"net/netip"
)

// maxRepeat bounds what rsyslog's "message repeated N times" is believed:
// more than a connection can hold of one message.
const maxRepeat = 1 << 20

// Parse reads one message into ev, all of which it overwrites, and reports
// whether it says anything of a peer or of a connection. It does not allocate
// (an address with an IPv6 zone excepted) and keeps no state.
//
// A message of 500 bytes or more may have lost its end: a peer that stands
// behind text which a client chose is then not named, and neither is the user.
func Parse(msg []byte, ev *Event) bool {
	*ev = Event{} // with a field set here it would be built aside and copied
	ev.Repeat = 1
	msg = trimEnd(msg)
	// rsyslog's wrapper begins a message; nothing of sshd's begins with text
	// that a client sent, so it cannot be imitated, and it does not nest.
	if rest, ok := cutPrefix(msg, "message repeated "); ok {
		msg, ev.Repeat = repeated(rest)
	}
	cut := len(msg) >= cutLength
	text := msg
	if rest, ok := cutPrefix(text, "error: "); ok {
		text = rest
	} else if rest, ok := cutPrefix(text, "fatal: "); ok {
		text = rest
	}
	// The monitor adds this to what its child says (monitor.c), once.
	text, ev.Preauth = cutSuffix(text, " [preauth]")
	if len(text) == 0 {
		return false
	}
	candidates := formatsFor(text[0])
	for i := range candidates {
		f := &candidates[i]
		rest, ok := cutPrefix(text, f.prefix)
		if !ok {
			continue
		}
		ev.Kind = f.kind
		if match(f.shape, rest, cut, ev) {
			if ev.Kind == None {
				*ev = Event{Repeat: ev.Repeat}
			}
			return ev.Kind != None
		}
		if cut && f.kind != None {
			*ev = Event{Kind: f.kind, Repeat: ev.Repeat, Method: ev.Method}
			return true
		}
		*ev = Event{Repeat: ev.Repeat, Preauth: ev.Preauth} // what it found before it failed is no peer
		break
	}
	if taggedFatal(text, ev) {
		return true
	}
	*ev = Event{Repeat: ev.Repeat}
	if !looksLikeAddr(text) {
		return false
	}
	ev.Kind = Unknown
	return true
}

// match calls the matcher of a shape. A switch and not a table of functions:
// direct calls let the caller's Event stay on its stack.
func match(s shape, rest []byte, cut bool, ev *Event) bool {
	switch s {
	case wordsOnly:
		return len(rest) == 0
	case wordsThenText:
		ev.Reason = rest
		return true
	case wordsThenInvalidUser:
		ev.User, ev.Invalid = rest, true
		return true
	case idAtEnd:
		return idAlone(rest, cut, ev)
	case idThenText:
		var ok bool
		ev.Reason, ok = idThen(rest, ev)
		return ok
	case peerThenText:
		return peerThen(rest, ev)
	case peerAtEnd:
		return !cut && fromEnd(rest, ev)
	case userFromAtEnd:
		return !cut && userFrom(rest, ev)
	case invalidUser:
		ev.Invalid = true
		return !cut && nameFrom(rest, ev)
	case userFromThenSSH2:
		return userFromSSH2(rest, cut, ev)
	case authResult:
		return method(rest, cut, ev)
	case connectionFrom:
		return connection(rest, cut, ev)
	case receivedDisconnect:
		return disconnect(rest, ev)
	case disconnectingID:
		return disconnecting(rest, ev)
	case disconnectingText:
		return disconnectReason(rest, ev)
	case notAllowed:
		return refusedUser(rest, cut, ev)
	case permittedHost:
		return wrongHost(rest, cut, ev)
	case permittedHostAt:
		i := index(rest, ": Authentication tried for ")
		return i >= 0 && wrongHost(rest[i+len(": Authentication tried for "):], cut, ev)
	case rejectedKey:
		return keyRejected(rest, ev)
	case refusedConnect:
		return wrappers(rest, cut, ev)
	case addrThenText:
		return addrThen(rest, ev)
	case reverseName:
		return reverse(rest, cut, ev)
	case nastyName:
		return nasty(rest, cut, ev)
	case hostbasedMismatch:
		return mismatch(rest, cut, ev)
	case pamModule:
		return module(rest, ev)
	case pamText:
		return pamSays(rest, cut, ev)
	case pamMore:
		return moreFailures(rest, ev)
	case pamSession:
		return sessionUser(rest, ev)
	case pamWords:
		return moduleText(rest, ev)
	case timeoutBeforeAuth:
		return timeout(rest, ev)
	case childProcess:
		return child(rest, ev)
	case childPID:
		return pid(rest, ev)
	case penalty:
		return penalised(rest, ev)
	case dropConnection:
		return dropped(rest, ev)
	case sessionStart:
		return session(rest, cut, ev)
	case sessionClose:
		return closeSession(rest, cut, ev)
	case bannerFailure:
		return banner(rest, ev)
	case brokenSocket:
		if ev.Reason = rest; !ev.Preauth {
			ev.Kind = Note
		}
		return true
	case deniedUser:
		return denied(rest, ev)
	case hpnPeer:
		return hpn(rest, ev)
	}
	return false
}

// repeated takes off "N times: [ X]" and gives X and N; what is not so is left
// whole, and counts once.
func repeated(b []byte) ([]byte, int) {
	digits, rest := cutToken(b)
	n, ok := parseUint(digits, maxRepeat)
	rest, times := cutPrefix(rest, " times: [")
	rest, closed := cutSuffix(rest, "]")
	if !ok || n == 0 || !times || !closed {
		return b, 1
	}
	rest, _ = cutPrefix(rest, " ")
	return rest, int(n)
}

// trimEnd takes off what a log adds: blanks, a carriage return (sshd -E), NUL.
func trimEnd(b []byte) []byte {
	for n := len(b); n > 0; n-- {
		switch b[n-1] {
		case ' ', '\r', '\n', 0:
		default:
			return b[:n]
		}
	}
	return nil
}

// taggedFatal reads sshpkt_fatal's "TAG: Connection from ID: why" (packet.c).
func taggedFatal(text []byte, ev *Event) bool {
	i := index(text, ": Connection from ")
	if i <= 0 || !fatalTag(text[:i]) {
		return false
	}
	tag := text[:i]
	preauth := ev.Preauth
	why, ok := idThen(text[i+len(": Connection from "):], ev)
	if !ok {
		return false
	}
	ev.Reason = why
	switch {
	case string(tag) == "banner exchange":
		// Before 10.0 the parent does this, without [preauth].
		ev.Kind = PacketError
		if string(why) == "invalid format" || string(why) == "protocol version mismatch" || string(why) == "could not read protocol version" {
			ev.Kind = BadIdentification
		}
	case preauth:
		ev.Kind = PacketError
	default:
		ev.Kind = Note // an authenticated session that broke
	}
	return true
}

// fatalTag tells sshd's own tags from whatever else may precede the words that
// taggedFatal looks for: a function's name, alone or with what it was doing, or
// fixed words.
func fatalTag(b []byte) bool {
	switch string(b) {
	case "banner exchange", "send DEBUG":
		return true
	}
	n := 0
	for n < len(b) && (b[n] >= 'a' && b[n] <= 'z' || b[n] >= '0' && b[n] <= '9' || b[n] == '_') {
		n++
	}
	if n == 0 || n == len(b) {
		return n > 0
	}
	doing, ok := cutPrefix(b[n:], ": ")
	if !ok {
		return false
	}
	switch string(doing) {
	case "parse packet", "parse mode", "parse device", "parse tcpip-forward", "parse cancel-tcpip-forward",
		"parse streamlocal-forward@openssh.com", "parse cancel-streamlocal-forward@openssh.com",
		"send", "send reply", "send open confirm", "send open failure", "send PAM banner",
		"start request", "append key", "exit reply", "ssh_packet_write_poll":
		return true
	}
	return false
}

// peerThen reads a peer and leaves what follows it: nothing, or text after a
// blank, a colon or a full stop.
func peerThen(b []byte, ev *Event) bool {
	p, rest, ok := frontPeer(b)
	if !ok {
		return false
	}
	if len(rest) > 0 {
		if rest[0] != ' ' && rest[0] != ':' {
			return false
		}
		rest = rest[1:]
		rest, _ = cutPrefix(rest, " ")
		ev.Reason = rest
	}
	p.name(ev)
	return true
}

// fromEnd reads "... from A[ port P]".
func fromEnd(b []byte, ev *Event) bool {
	before, p, ok := backPeer(b)
	if !ok {
		return false
	}
	if ev.Reason, ok = cutSuffix(before, " from"); !ok {
		return false
	}
	p.name(ev)
	return true
}

// userFromSSH2 reads "[invalid user ]U from A port P ssh2[: extra]". A user name
// holds no ':', so where there is an extra the first " ssh2: " is the true one,
// however long the message.
func userFromSSH2(b []byte, cut bool, ev *Event) bool {
	for at := 0; ; at++ {
		i := bytes.IndexByte(b[at:], ':')
		if i < 0 {
			break
		}
		at += i
		if at+1 == len(b) || b[at+1] != ' ' {
			continue
		}
		if body, ok := cutVersion(b[:at]); ok {
			ev.Reason = b[at+len(": "):]
			return userFrom(body, ev)
		}
	}
	body, ok := cutVersion(b)
	return ok && !cut && userFrom(body, ev)
}

func cutVersion(b []byte) ([]byte, bool) {
	if body, ok := cutSuffix(b, " ssh2"); ok {
		return body, true
	}
	return cutSuffix(b, " ssh1")
}

// method reads "METHOD[/sub] for ..." (auth.c, auth_log).
func method(b []byte, cut bool, ev *Event) bool {
	name, rest := cutToken(b)
	rest, ok := cutPrefix(rest, " for ")
	if !ok {
		return false
	}
	ev.Method = methodOf(name)
	return userFromSSH2(rest, cut, ev)
}

func methodOf(name []byte) Method {
	switch string(name) {
	case "password":
		return MethodPassword
	case "publickey":
		return MethodPublickey
	case "none":
		return MethodNone
	case "hostbased":
		return MethodHostbased
	}
	if _, ok := cutPrefix(name, "keyboard-interactive"); ok {
		return MethodKeyboardInteractive
	}
	if _, ok := cutPrefix(name, "challenge-response"); ok {
		return MethodKeyboardInteractive
	}
	if _, ok := cutPrefix(name, "gssapi"); ok {
		return MethodGSSAPI
	}
	return MethodUnknown
}

// connection reads what follows "Connection from ".
func connection(b []byte, cut bool, ev *Event) bool {
	if p, rest, ok := frontPeer(b); ok {
		p.name(ev)
		switch {
		case len(rest) == 0 && p.port != 0, hasPrefix(rest, " on "):
			return true
		case string(rest) == " timed out":
			return timedOut(ev)
		case hasPrefix(rest, " with IP opts: "):
			ev.Kind, ev.Reason = PacketError, rest[len(" with IP opts: "):]
			return true
		case hasPrefix(rest, ": "):
			ev.Kind, ev.Reason = Note, rest[len(": "):]
			return true
		}
		return false
	}
	if id, ok := cutSuffix(b, " timed out"); ok {
		return idAlone(id, cut, ev) && timedOut(ev)
	}
	var ok bool
	ev.Kind = Note
	ev.Reason, ok = idThen(b, ev)
	return ok || cut
}

// timedOut tells a client that fell silent before it logged in from a session
// that died.
func timedOut(ev *Event) bool {
	ev.Kind = Note
	if ev.Preauth {
		ev.Kind = Timeout
	}
	return true
}

// disconnect reads "A port P:N: text" and the older "A: N: text"
// (packet.c). The text is the client's.
func disconnect(b []byte, ev *Event) bool {
	p, rest, ok := frontPeer(b)
	if !ok {
		return false
	}
	if rest, ok = cutPrefix(rest, ":"); !ok {
		return false
	}
	p.name(ev)
	rest, _ = cutPrefix(rest, " ")
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	code, ok := parseUint(rest[:n], 1<<32-1)
	text, colon := cutPrefix(rest[n:], ":")
	if !ok || !colon {
		ev.Reason = rest
		return true
	}
	text, _ = cutPrefix(text, " ")
	ev.Code, ev.Reason = code, text
	// RFC 4253: 3 is SSH_DISCONNECT_KEY_EXCHANGE_FAILED, which JSch misuses;
	// 14 is SSH_DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE.
	if code == 14 || code == 3 && index(text, "Auth fail") >= 0 {
		ev.Kind = AuthFailDisconnect
	}
	return true
}

// disconnecting reads "ID: reason" (packet.c, ssh_packet_disconnect).
func disconnecting(b []byte, ev *Event) bool {
	reason, ok := idThen(b, ev)
	return ok && disconnectReason(reason, ev)
}

func disconnectReason(b []byte, ev *Event) bool {
	ev.Reason = b
	switch {
	case hasPrefix(b, "Too many authentication failures"):
		ev.Kind = TooManyFailures
		if user, ok := cutPrefix(b, "Too many authentication failures for "); ok && ev.User == nil { // before 7.0
			setUser(user, ev)
		}
	case hasPrefix(b, "Change of username or service not allowed"):
		ev.Kind = ChangeOfUser
	}
	return true
}

// refusedUser reads "U from HOST not allowed because ..." and "U not allowed
// because ..." (auth.c, allowed_user): U exists.
func refusedUser(b []byte, cut bool, ev *Event) bool {
	i := lastIndex(b, " not allowed because ")
	if i < 0 || cut {
		return false
	}
	who, why := b[:i], b[i+len(" not allowed because "):]
	ev.Reason, ev.User, ev.Invalid = why, who, true
	switch string(why) {
	case "listed in DenyUsers", "not listed in AllowUsers", "not in any group",
		"a group is listed in DenyGroups", "none of user's groups are listed in AllowGroups":
		before, host := cutLastToken(who)
		user, ok := cutSuffix(before, " from")
		if !ok {
			return false
		}
		ev.User = user
		ev.Addr, _ = parsePeerAddr(host) // a name where UseDNS is on
	}
	return true
}

// wrongHost reads "U with correct key but not from a permitted host (host=H,
// ip=A...)." and the certificate's "... permitted source address (A)."
// (auth2-pubkeyfile.c): U exists, H was looked up.
func wrongHost(b []byte, cut bool, ev *Event) bool {
	i := index(b, " with ")
	if i < 0 || cut {
		return false
	}
	ev.User, ev.Reason = b[:i], b[i+1:]
	open := index(ev.Reason, " (")
	if open < 0 {
		return false
	}
	list, ok := cutSuffix(ev.Reason[open+len(" ("):], ").")
	if !ok {
		return false
	}
	if at := index(list, "ip="); at >= 0 && (at == 0 || list[at-1] == ' ') {
		list = list[at+len("ip="):]
	}
	for i, c := range list {
		if c == ',' {
			list = list[:i]
			break
		}
	}
	ev.Addr, _ = parsePeerAddr(list)
	return true
}

// keyRejected reads "KEY signature for [invalid user ]U from A port P rejected:
// why" (auth2-pubkey.c, monitor.c).
func keyRejected(b []byte, ev *Event) bool {
	start := index(b, " signature for ")
	if start < 0 {
		return false
	}
	b = b[start+len(" signature for "):]
	end := index(b, " rejected: ") // U holds no ':'
	if end < 0 {
		return false
	}
	ev.Method, ev.Reason = MethodPublickey, b[end+len(" rejected: "):]
	return userFrom(b[:end], ev)
}

// wrappers reads libwrap's "[user@]NAME (A)" and, unpatched, "A" (refuse.c).
// NAME is the name server's word, and user the client's.
func wrappers(b []byte, cut bool, ev *Event) bool {
	inner, ok := cutSuffix(b, ")")
	if !ok {
		if _, rest := cutToken(b); len(rest) > 0 || cut {
			return false
		}
		ev.Addr, _ = parsePeerAddr(b)
		return true
	}
	_, addr := cutLastToken(inner)
	if addr, ok = cutPrefix(addr, "("); !ok || cut {
		return false
	}
	ev.Addr, ok = parsePeerAddr(addr)
	return ok
}

// addrThen reads "A maps to NAME, ..." (canohost.c, packet.c).
func addrThen(b []byte, ev *Event) bool {
	token, rest := cutToken(b)
	var ok bool
	if ev.Addr, ok = parsePeerAddr(token); !ok {
		return false
	}
	ev.Reason, ok = cutPrefix(rest, " maps to ")
	return ok
}

// reverse reads "NAME [A] failed." (and, before 7.x, " - POSSIBLE BREAK-IN
// ATTEMPT!"). NAME is the name server's word.
func reverse(b []byte, cut bool, ev *Event) bool {
	i := lastIndex(b, " [")
	if i < 0 || cut {
		return false
	}
	ev.Reason = b[:i]
	end := index(b[i:], "] failed")
	if end < 0 {
		return false
	}
	var ok bool
	ev.Addr, ok = parsePeerAddr(b[i+len(" [") : i+end])
	return ok
}

// nasty reads `"NAME" is set up for A, ignoring`.
func nasty(b []byte, cut bool, ev *Event) bool {
	rest, ok := cutSuffix(b, ", ignoring")
	if !ok || cut {
		return false
	}
	before, addr := cutLastToken(rest)
	if ev.Reason, ok = cutSuffix(before, "\" is set up for"); !ok {
		return false
	}
	ev.Addr, ok = parsePeerAddr(addr)
	return ok
}

// mismatch reads "client sends NAME, but we resolve A to NAME2"
// (auth2-hostbased.c): the first name is the client's.
func mismatch(b []byte, cut bool, ev *Event) bool {
	before, _ := cutLastToken(b)
	before, ok := cutSuffix(before, " to")
	if !ok || cut {
		return false
	}
	before, addr := cutLastToken(before)
	if _, ok = cutSuffix(before, ", but we resolve"); !ok {
		return false
	}
	ev.Addr, ok = parsePeerAddr(addr)
	return ok
}

// pid reads a process number, all of b.
func pid(b []byte, ev *Event) bool {
	n, ok := parseUint(b, 1<<31-1)
	ev.Child = int32(n)
	return ok
}

// penalised reads srclimit.c's "TYPE: new PREFIX active penalty of ..." and
// "PREFIX: activating TYPE penalty of ... for penalty: why".
func penalised(b []byte, ev *Event) bool {
	b, _ = cutPrefix(b, "ipv4: ")
	b, _ = cutPrefix(b, "ipv6: ")
	if rest, ok := cutPrefix(b, "new "); ok {
		prefix, rest := cutToken(rest)
		if !setPrefix(prefix, ev) {
			return false
		}
		if !hasPrefix(rest, " active ") {
			ev.Kind = Note // deferred: nothing is refused yet
		}
		penaltyCause(rest, ev)
		return true
	}
	prefix, rest := cutToken(b)
	if prefix, ok := cutSuffix(prefix, ":"); ok && hasPrefix(rest, " activating ") {
		penaltyCause(rest, ev)
		return setPrefix(prefix, ev)
	}
	ev.Kind = Note // "ipv4 penalty table full, ..."
	return true
}

func penaltyCause(b []byte, ev *Event) {
	if i := index(b, "penalty: "); i >= 0 {
		ev.Reason = b[i+len("penalty: "):]
	}
}

func setPrefix(b []byte, ev *Event) bool {
	slash := index(b, "/")
	if slash < 0 {
		return false
	}
	addr, ok := parseAddr(b[:slash])
	bits, isBits := parseUint(b[slash+1:], 128)
	if !ok || !isBits {
		return false
	}
	ev.Prefix = netip.PrefixFrom(addr, int(bits))
	if ev.Prefix.IsSingleIP() {
		ev.Addr = addr
	}
	return ev.Prefix.IsValid()
}

// dropped reads "#N from [A]:P on [L]:Q why" (sshd.c, drop_connection).
func dropped(b []byte, ev *Event) bool {
	number, rest := cutToken(b)
	if _, ok := parseUint(number, 1<<31-1); !ok {
		return false
	}
	rest, ok := cutPrefix(rest, " from [")
	end := index(rest, "]:")
	if !ok || end < 0 {
		return false
	}
	if ev.Addr, ok = parsePeerAddr(rest[:end]); !ok {
		return false
	}
	port, rest := cutToken(rest[end+len("]:"):])
	n, ok := parseUint(port, 65535)
	if !ok {
		return false
	}
	ev.Port = uint16(n)
	if rest, ok = cutPrefix(rest, " on ["); !ok {
		return false
	}
	_, why := cutToken(rest)
	why, _ = cutPrefix(why, " ")
	ev.Reason = why
	switch string(why) {
	case "past MaxStartups", "past Maxstartups", "Maxstartups", "MaxStartups":
		ev.Kind = DropMaxStartups
	}
	return true
}

// session reads "TYPE for U from A port P id N" (session.c). TYPE may hold the
// text of a command; the user has logged in.
func session(b []byte, cut bool, ev *Event) bool {
	before, id := cutLastToken(b)
	before, ok := cutSuffix(before, " id")
	if _, isID := parseUint(id, 1<<31-1); !ok || !isID || cut {
		return false
	}
	if !nameFrom(before, ev) {
		return false
	}
	// What nameFrom took for the user holds the type.
	i := lastIndex(ev.User, " for ")
	if i < 0 {
		return false
	}
	ev.Reason, ev.User = ev.User[:i], ev.User[i+len(" for "):]
	return true
}

// closeSession reads "U from A port P id N".
func closeSession(b []byte, cut bool, ev *Event) bool {
	before, id := cutLastToken(b)
	before, ok := cutSuffix(before, " id")
	_, isID := parseUint(id, 1<<31-1)
	return ok && isID && !cut && nameFrom(before, ev)
}

// banner reads what kex.c, kex_exchange_identification, says; it names no peer.
func banner(b []byte, ev *Event) bool {
	ev.Reason = b
	switch {
	case hasPrefix(b, "client sent invalid protocol identifier"), hasPrefix(b, "banner line "), hasPrefix(b, "No SSH version received"):
		ev.Kind = BadIdentification
	}
	return true
}

// denied reads "U by PAM account configuration" and "U." (auth2.c): U exists
// and has authenticated.
func denied(b []byte, ev *Event) bool {
	user, ok := cutSuffix(b, " by PAM account configuration")
	if !ok {
		if user, ok = cutSuffix(b, "."); !ok {
			return false
		}
	}
	ev.User, ev.Reason = user, b[len(user):]
	return true
}

// hpn reads the HPN patches' "...;Remote: A-P;...".
func hpn(b []byte, ev *Event) bool {
	start := index(b, ";Remote: ")
	if start < 0 || start > 20 {
		return false
	}
	b = b[start+len(";Remote: "):]
	end := index(b, ";")
	if end < 0 {
		return false
	}
	dash := lastIndex(b[:end], "-")
	if dash < 0 {
		return false
	}
	port, isPort := parseUint(b[dash+1:end], 65535)
	addr, isAddr := parsePeerAddr(b[:dash])
	peer{addr, uint16(port)}.name(ev)
	return isPort && isAddr
}

// timeout reads "A port P" (the child's own words, to 9.7) and "connection from
// A[ to L], pid = N" (the listener's, from 9.8 on; 9.8 alone has A and L the
// wrong way round).
func timeout(b []byte, ev *Event) bool {
	if p, rest, ok := frontPeer(b); ok && len(rest) == 0 {
		p.name(ev)
		return true
	}
	rest, ok := connectionID(b, ev)
	if !ok {
		return false
	}
	rest, ok = cutPrefix(rest, ", pid = ")
	digits, _ := cutToken(rest)
	return ok && pid(digits, ev)
}

// connectionID reads the listener's name for a child (sshd.c, child_register).
func connectionID(b []byte, ev *Event) (rest []byte, ok bool) {
	if b, ok = cutPrefix(b, "connection from "); !ok {
		return nil, false
	}
	n := len(b)
	for i, c := range b {
		if c == ' ' || c == ',' {
			n = i
			break
		}
	}
	if ev.Addr, ok = parsePeerAddr(b[:n]); !ok {
		return nil, false
	}
	rest = b[n:]
	if to, found := cutPrefix(rest, " to "); found {
		n = len(to)
		for i, c := range to {
			if c == ' ' || c == ',' {
				n = i
				break
			}
		}
		if _, ok = parsePeerAddr(to[:n]); !ok {
			return nil, false
		}
		rest = to[n:]
	}
	return rest, true
}

// child reads "N unpriv child crash for connection from A to L", "N for
// connection from A to L killed by ..." (sshd.c, child_reap).
func child(b []byte, ev *Event) bool {
	digits, rest := cutToken(b)
	if !pid(digits, ev) {
		return false
	}
	if after, ok := cutPrefix(rest, " unpriv child crash for "); ok {
		rest = after
	} else if rest, ok = cutPrefix(rest, " for "); !ok {
		return false
	}
	why, ok := connectionID(rest, ev)
	why, _ = cutPrefix(why, " ")
	ev.Reason = why
	return ok
}

func hasPrefix(b []byte, prefix string) bool {
	_, ok := cutPrefix(b, prefix)
	return ok
}

// lastIndex is bytes.LastIndex for a constant.
func lastIndex(b []byte, s string) int {
	for at := len(b) - len(s); at >= 0; at-- {
		if b[at] == s[0] && string(b[at:at+len(s)]) == s {
			return at
		}
	}
	return -1
}
