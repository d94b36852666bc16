package sshlog

import (
	"bytes"
	"time"
)

// DecoderOptions say what a log's lines leave out.
type DecoderOptions struct {
	Location  *time.Location // of time stamps without a zone; nil means time.Local
	Reference time.Time      // the newest time the log can have (its mtime, or now): tells the year of RFC 3164 time stamps; zero means now
	Bare      bool           // accept lines without any envelope, as sshd -E and -e write them
}

// Decoder takes the envelope off log lines: RFC 3164 with its usual variants,
// RFC 5424, ISO 8601 time stamps (rsyslog's default now), and what journalctl
// prints (short, short-full, short-iso, short-precise, short-unix), each with or
// without <PRI>. It keeps the year and the last minute between lines, so one
// Decoder reads one log, in order; it is not safe for concurrent use.
//
// Whose line it is, is read in the tag's place alone: what another program's
// message says can not make its line look like sshd's.
type Decoder struct {
	location  *time.Location
	latest    time.Time // no time stamp without a year is after this
	bare      bool
	seenBare  bool
	year      int // of the last RFC 3164 time stamp; 0 before the first
	month     time.Month
	bsdMinute minute
	utcMinute minute
	locMinute minute
}

// minute remembers what a time stamp's text up to its minute means: logs have
// many lines a minute, and a calendar is slow.
type minute struct {
	text [16]byte
	unix int64
}

// NewDecoder returns a Decoder for one log.
func NewDecoder(opts DecoderOptions) *Decoder {
	d := &Decoder{location: opts.Location, latest: opts.Reference, bare: opts.Bare}
	if d.location == nil {
		d.location = time.Local
	}
	if d.latest.IsZero() {
		d.latest = time.Now()
	}
	d.latest = d.latest.Add(24 * time.Hour) // clocks and zones differ
	return d
}

// Decode fills l from one raw line without its newline, and reports whether
// one of sshd's programs wrote it. It does not set l.Number. l.Host and
// l.Message alias raw. It does not allocate.
func (d *Decoder) Decode(raw []byte, l *Line) bool {
	line := cutPriority(raw)
	if len(line) > 2 && line[0] == '1' && line[1] == ' ' {
		return d.decodeRFC5424(line[2:], l)
	}
	layout, text, rest := cutStamp(line)
	if layout == noStamp {
		return d.bare && d.decodeBare(raw, l)
	}
	if !cutTag(rest, l) {
		return false
	}
	var ok bool
	if l.Time, ok = d.time(layout, text, true); !ok {
		return false
	}
	// Where sshd itself writes the file, what looks like an envelope is a
	// client's.
	l.Bare = d.seenBare
	l.Number = 0
	return true
}

// Time reads the time stamp of any program's line, for searching a log by
// time. It keeps no state: a time stamp without a year is of the latest year in
// which it is not after the Reference.
func (d *Decoder) Time(raw []byte) (unixNano int64, ok bool) {
	line := cutPriority(raw)
	if len(line) > 2 && line[0] == '1' && line[1] == ' ' {
		line = line[2:]
	}
	layout, text, _ := cutStamp(line)
	return d.time(layout, text, false)
}

// cutPriority takes RFC 3164's "<N>" off.
func cutPriority(line []byte) []byte {
	if len(line) < 3 || line[0] != '<' {
		return line
	}
	for i := 1; i < len(line) && i < 5; i++ {
		if line[i] == '>' && i > 1 {
			return line[i+1:]
		}
		if line[i] < '0' || line[i] > '9' {
			break
		}
	}
	return line
}

func (d *Decoder) decodeBare(raw []byte, l *Line) bool {
	msg := trimEnd(raw)
	if len(msg) == 0 {
		return false
	}
	d.seenBare = true
	program := ProgramSSHD
	// Since 9.8 standard error gets the program's name too.
	switch {
	case hasPrefix(msg, "sshd: "):
		msg = msg[len("sshd: "):]
	case hasPrefix(msg, "sshd-session: "):
		msg, program = msg[len("sshd-session: "):], ProgramSession
	case hasPrefix(msg, "sshd-auth: "):
		msg, program = msg[len("sshd-auth: "):], ProgramAuth
	}
	*l = Line{Program: program, Bare: true, Message: msg}
	return true
}

// decodeRFC5424 reads what follows "<PRI>1 ": TIME HOST APP PROCID MSGID SD MSG.
func (d *Decoder) decodeRFC5424(b []byte, l *Line) bool {
	var stamp, host, app, procID, msgID []byte
	for _, field := range [...]*[]byte{&stamp, &host, &app, &procID, &msgID} {
		i := bytes.IndexByte(b, ' ')
		if i <= 0 {
			return false
		}
		*field, b = b[:i], b[i+1:]
	}
	program, rest := cutProgram(app)
	if program == 0 || len(rest) != 0 {
		return false
	}
	b, ok := cutStructuredData(b)
	if !ok {
		return false
	}
	*l = Line{Program: program, Message: b, Bare: d.seenBare}
	if string(host) != "-" {
		l.Host = host
	}
	if pid, ok := parseUint(procID, 1<<31-1); ok {
		l.PID = int32(pid)
	}
	if string(stamp) == "-" {
		return true
	}
	l.Time, ok = d.time(isoStamp, stamp, true)
	return ok
}

// cutStructuredData takes "- " or "[...][...] " off, and the byte order mark
// that may begin the message.
func cutStructuredData(b []byte) ([]byte, bool) {
	if rest, ok := cutPrefix(b, "-"); ok {
		b = rest
	} else {
		elements := 0
		for len(b) > 0 && b[0] == '[' {
			quoted, end := false, -1
			for i := 1; i < len(b) && end < 0; i++ {
				switch {
				case quoted && b[i] == '\\':
					i++
				case b[i] == '"':
					quoted = !quoted
				case b[i] == ']' && !quoted:
					end = i
				}
			}
			if end < 0 {
				return nil, false
			}
			b = b[end+1:]
			elements++
		}
		if elements == 0 {
			return nil, false
		}
	}
	b, ok := cutPrefix(b, " ")
	if !ok && len(b) > 0 {
		return nil, false
	}
	b, _ = cutPrefix(b, "\xef\xbb\xbf")
	return b, true
}

// cutTag reads "[HOST ]PROGRAM[PID]: MESSAGE". A first word that ends in a colon
// is another program's tag in a line without a host.
func cutTag(b []byte, l *Line) bool {
	if len(b) > 0 && (b[0] == ' ' || b[0] == '<') {
		b = cutLevel(b)
	}
	i := bytes.IndexByte(b, ' ')
	if i < 0 {
		return false
	}
	host, rest := b[:i], b[i+1:]
	if i > 0 && b[i-1] == ':' {
		if _, isAddr := parseAddr(host); !isAddr {
			host, rest = nil, b
		}
	}
	if len(rest) < 4 || rest[0] != 's' && rest[0] != 'a' && rest[0] != 'l' {
		return false
	}
	program, after := cutProgram(rest)
	if program == 0 && rest[0] != 's' {
		program, after = cutProgram(cutPriorityWord(rest))
	}
	if program == 0 || len(after) == 0 {
		return false
	}
	pid := uint64(0)
	if after[0] == '[' {
		end := 1
		for ; end < len(after) && after[end]-'0' <= 9 && pid < 1<<31; end++ {
			pid = pid*10 + uint64(after[end]-'0')
		}
		if end == 1 || end == len(after) || after[end] != ']' || pid >= 1<<31 {
			return false
		}
		after = after[end+1:]
	}
	if len(after) == 0 || after[0] != ':' {
		return false
	}
	after = after[1:]
	if len(after) > 0 && after[0] == ' ' {
		after = after[1:]
	}
	if len(after) > 0 && after[0] == '[' {
		after = cutMessageID(after)
	}
	l.Host, l.PID, l.Program, l.Message = host, int32(pid), program, after
	return true
}

// cutLevel takes off what may stand between the time and the host: a second
// blank (macOS, "log show --style syslog") or "<auth.info> " (FreeBSD, syslogd -v).
func cutLevel(b []byte) []byte {
	if b[0] == ' ' {
		return b[1:]
	}
	word, rest := cutToken(b)
	if word[len(word)-1] != '>' || len(rest) == 0 || bytes.IndexByte(word, '.') < 0 {
		return b
	}
	return rest[1:]
}

// cutPriorityWord takes off what may stand between the host and the tag:
// "auth.info " (busybox) or "auth|security:info " (AIX). Only the facilities
// that sshd can have are taken: no tag looks like that.
func cutPriorityWord(b []byte) []byte {
	word, rest := cutToken(b)
	if len(rest) == 0 {
		return b
	}
	for i, c := range word {
		if c != '.' && c != ':' {
			continue
		}
		facility, level := word[:i], word[i+1:]
		switch string(level) {
		case "debug", "info", "notice", "warn", "warning", "err", "error", "crit", "alert", "emerg", "panic":
		default:
			return b
		}
		switch string(facility) {
		case "auth", "authpriv", "auth|security",
			"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7":
			return rest[1:]
		}
		break
	}
	return b
}

// cutMessageID takes off "[ID 800047 auth.info] ", which Solaris puts before the
// message. Nothing of sshd's begins with text that a client sent.
func cutMessageID(b []byte) []byte {
	if !hasPrefix(b, "[ID ") {
		return b
	}
	if end := index(b, "] "); end > 0 && end < 40 {
		return b[end+len("] "):]
	}
	return b
}

// cutProgram reads one of sshd's names off the front, and "(pam_X)", which PAM
// put behind it before 2006. 0 is none of them; the caller looks at what
// follows.
func cutProgram(b []byte) (Program, []byte) {
	if len(b) < 4 || b[0] != 's' || b[1] != 's' || b[2] != 'h' || b[3] != 'd' {
		return 0, nil
	}
	b = b[4:]
	if len(b) > 0 {
		switch b[0] {
		case '-':
			if rest, ok := cutPrefix(b, "-session"); ok {
				return ProgramSession, rest
			}
			if rest, ok := cutPrefix(b, "-auth"); ok {
				return ProgramAuth, rest
			}
		case '(':
			if end := bytes.IndexByte(b, ')'); end > 0 && end < 40 && hasPrefix(b, "(pam_") {
				return ProgramSSHD, b[end+1:]
			}
		}
	}
	return ProgramSSHD, b
}
