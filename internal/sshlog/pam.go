package sshlog

import "bytes"

// What PAM writes under sshd's name: the modules' own lines, which begin with
// "module(service:type): ", and sshd's "PAM: ..." and "PAM N more ...".

// module reads what follows "pam_": "unix(sshd:auth): text".
func module(b []byte, ev *Event) bool {
	if text, ok := cutPrefix(b, "unix(sshd:auth): "); ok { // nearly always
		return moduleText(text, ev)
	}
	open := bytes.IndexByte(b, '(')
	if open < 0 || open > 40 {
		return false
	}
	for _, c := range b[:open] {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	end := bytes.IndexByte(b, ')')
	if end < open || end > open+40 {
		return false
	}
	text, ok := cutPrefix(b[end:], "): ")
	return ok && moduleText(text, ev)
}

// moduleText reads a module's own words.
func moduleText(b []byte, ev *Event) bool {
	switch {
	case hasPrefix(b, "authentication failure; "):
		ev.Kind = PAMFailure
		return rhost(b[len("authentication failure; "):], ev)
	case hasPrefix(b, "authentication success; "):
		ev.Kind = Note
		return rhost(b[len("authentication success; "):], ev)
	case string(b) == "check pass; user unknown":
		ev.Kind = PAMUserUnknown
		return true
	case hasPrefix(b, "session opened for user "):
		ev.Kind = SessionOpened
		return sessionUser(b[len("session opened for user "):], ev)
	case hasPrefix(b, "session closed for user "):
		ev.Kind = SessionClosed
		return sessionUser(b[len("session closed for user "):], ev)
	case hasPrefix(b, "access denied for user `"):
		ev.Kind = Note
		return accessDenied(b[len("access denied for user `"):], ev)
	}
	ev.Kind = PAMMoreFailures
	return moreFailures(b, ev)
}

// rhost reads "logname=L uid=N euid=N tty=T ruser=R rhost=A[  user=U]". sshd
// sets rhost and leaves ruser empty; the name that the client sent comes last,
// so the first " rhost=" is sshd's.
func rhost(b []byte, ev *Event) bool {
	if !hasPrefix(b, "logname=") {
		return false
	}
	from, usual := cutPrefix(b, "logname= uid=0 euid=0 tty=ssh ruser= rhost=")
	if !usual {
		i := index(b, "rhost=")
		if i < 0 || b[i-1] != ' ' {
			return false
		}
		from = b[i+len("rhost="):]
	}
	host, rest := cutToken(from)
	ev.Addr, _ = parseAddr(host) // a name where UseDNS is on
	rest, _ = cutPrefix(rest, " ")
	rest, _ = cutPrefix(rest, " ")
	if user, ok := cutPrefix(rest, "user="); ok {
		ev.User = user
	}
	return true
}

// moreFailures reads "N more authentication failures; ...".
func moreFailures(b []byte, ev *Event) bool {
	digits, rest := cutToken(b)
	n, isNumber := parseUint(digits, maxRepeat)
	rest, ok := cutPrefix(rest, " more authentication failure")
	if !ok || !isNumber {
		return false
	}
	ev.Code = n
	rest, _ = cutPrefix(rest, "s")
	rest, ok = cutPrefix(rest, "; ")
	return ok && rhost(rest, ev)
}

// sessionUser reads "U by ..." and "U(uid=N) by ...". U exists.
func sessionUser(b []byte, ev *Event) bool {
	user, _ := cutToken(b)
	if i := index(user, "(uid="); i >= 0 {
		user = user[:i]
	}
	ev.User = user
	return true
}

// accessDenied reads pam_access's "U' from `A'": U exists and has
// authenticated; sshd's own refusal follows.
func accessDenied(b []byte, ev *Event) bool {
	i := lastIndex(b, "' from `")
	if i < 0 {
		return false
	}
	host, ok := cutSuffix(b[i+len("' from `"):], "'")
	ev.User = b[:i]
	ev.Addr, _ = parseAddr(host)
	return ok
}

// pamSays reads what sshd says with "PAM: " before it: "TEXT for [illegal user
// ]U from HOST" (auth-pam.c, sshpam_query), TEXT being libpam's. Apple adds
// " via LOCAL". Its other lines speak of itself.
func pamSays(b []byte, cut bool, ev *Event) bool {
	text := b
	const retries = "Have exhausted maximum number of retries for service"
	if rest, ok := cutPrefix(b, retries); ok {
		text = rest
	}
	i := index(text, " for ")
	if i < 0 {
		ev.Kind = None
		return true
	}
	if cut {
		return false
	}
	ev.Reason = b[:len(b)-len(text)+i]
	who := text[i+len(" for "):]
	before, host := cutLastToken(who)
	if rest, ok := cutSuffix(before, " via"); ok {
		before, host = cutLastToken(rest)
	}
	user, ok := cutSuffix(before, " from")
	if !ok {
		return false
	}
	setUser(user, ev)
	ev.Addr, _ = parsePeerAddr(host) // a name where UseDNS is on
	return true
}
