package guard

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sekisho/internal/sshlog"
)

// sshd writes the log of connections as one version of OpenSSH does. It knows
// how many attempts were truly made.
type sshd struct {
	version  int // 704, 800, 902, 906, 908, 1002
	level    string
	pam      bool
	collapse bool // rsyslog's $RepeatedMsgReduction
	t        *rapid.T
}

const listener = 7 // the listener's pid

// script is one connection: its lines in order, and the truth.
type script struct {
	addr     netip.Addr
	lines    []scriptLine
	attempts int
}

type scriptLine struct {
	program sshlog.Program
	pid     int
	text    string
}

func (s *sshd) connection(pid, port int, addr netip.Addr) *script {
	t := s.t
	c := &script{addr: addr}
	verbose := s.level == "VERBOSE"
	info := verbose || s.level == "INFO"
	program := sshlog.ProgramSSHD
	if s.version >= 908 {
		program = sshlog.ProgramSession
	}
	sayAs := func(program sshlog.Program, pid int, format string, args ...any) {
		c.lines = append(c.lines, scriptLine{program, pid, fmt.Sprintf(format, args...)})
	}
	say := func(format string, args ...any) { sayAs(program, pid, format, args...) }

	if verbose {
		say("Connection from %v port %d on 198.51.100.1 port 22", addr, port)
	}
	if info && rapid.IntRange(0, 3).Draw(t, "scan") == 0 {
		s.scan(c, say, port)
		return c
	}

	user := rapid.SampledFrom([]string{"root", "ann", "x from 8.8.8.8 port 22 ssh2", "", "a b"}).Draw(t, "user")
	invalid := rapid.Bool().Draw(t, "invalid")
	password := rapid.Bool().Draw(t, "password")
	keys := rapid.IntRange(0, 2).Draw(t, "keys")
	tries := rapid.IntRange(0, 6-keys).Draw(t, "tries")
	succeeds := info && !invalid && tries+keys < 6 && rapid.IntRange(0, 2).Draw(t, "succeeds") == 0
	shown, state := user, "authenticating"
	illegal := ""
	if invalid {
		shown, state, illegal = "invalid user "+user, "invalid", "illegal user "
	}
	if invalid && info {
		say("Invalid user %s from %v port %d", user, addr, port)
		if s.version < 705 {
			say("input_userauth_request: invalid user %s [preauth]", user)
		}
	}
	if !s.pam && !info {
		tries = 0 // leaves no trace at all
	}

	failures := 0
	for range keys {
		if verbose || info && (invalid || failures >= 3) {
			say("Failed publickey for %s from %v port %d ssh2: RSA SHA256:aaaa", shown, addr, port)
		}
		failures++
	}
	pamHost := fmt.Sprintf("authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=%v", addr)
	if !invalid && user == "root" { // pam_unix names only users whom it knows
		pamHost += "  user=root"
	}
	for try := range tries {
		if s.pam {
			pamPID := pid
			if !password && info { // below, nothing tells it from another connection's
				pamPID = 10*pid + try // of the process that holds the dialogue
			}
			if invalid {
				sayAs(program, pamPID, "pam_unix(sshd:auth): check pass; user unknown")
			}
			// A password's tries share one PAM handle: the module tells the first, and
			// how many more at the end.
			if !password || try == 0 {
				sayAs(program, pamPID, "pam_unix(sshd:auth): %s", pamHost)
			}
			if !password {
				say("error: PAM: Authentication failure for %s%s from %v", illegal, user, addr)
			}
		}
		switch {
		case password && info:
			say("Failed password for %s from %v port %d ssh2", shown, addr, port)
		case !password && (verbose || info && (invalid || failures >= 3 || !s.pam)):
			say("Failed keyboard-interactive/pam for %s from %v port %d ssh2", shown, addr, port)
		}
		failures++
	}

	c.attempts = tries
	switch {
	case invalid && info && keys > 0:
		c.attempts = 1 + tries // all its keys are one
	case invalid && info:
		c.attempts = max(tries, 1)
	}
	if succeeds {
		say("Accepted password for %s from %v port %d ssh2", user, addr, port)
		say("pam_unix(sshd:session): session opened for user %s(uid=1000) by (uid=0)", "ann")
		if rapid.Bool().Draw(t, "abrupt") {
			sayAs(program, pid+1, "Connection closed by %v port %d", addr, port)
		} else {
			sayAs(program, pid+1, "Received disconnect from %v port %d:11: disconnected by user", addr, port)
			sayAs(program, pid+1, "Disconnected from user %s %v port %d", user, addr, port)
		}
		say("pam_unix(sshd:session): session closed for user %s", "ann")
		return c
	}

	id := fmt.Sprintf("%s user %s %v port %d", state, user, addr, port)
	if s.version < 708 {
		id = fmt.Sprintf("%v port %d", addr, port)
	}
	switch end := rapid.SampledFrom([]string{"close", "reset", "disconnect", "timeout"}).Draw(t, "end"); {
	case failures >= 6:
		say("error: maximum authentication attempts exceeded for %s from %v port %d ssh2 [preauth]", shown, addr, port)
		if s.version < 708 {
			say("Disconnecting: Too many authentication failures [preauth]")
		} else if info {
			say("Disconnecting %s: Too many authentication failures [preauth]", id)
		}
		c.attempts = max(c.attempts, 1)
	case !info: // nothing of that is logged
		if s.pam && password && tries > 1 {
			say("PAM %d more authentication failures; %s", tries-1, pamHost[len("authentication failure; "):])
		}
		c.lines = append(c.lines, scriptLine{program, pid, ""}) // the quiet after it
		return c
	case end == "close":
		say("Connection closed by %s [preauth]", id)
	case end == "reset":
		say("Connection reset by %s [preauth]", id)
	case end == "disconnect":
		say("Received disconnect from %v port %d:11: Bye Bye from 8.8.8.8 port 1 [preauth]", addr, port)
		say("Disconnected from %s [preauth]", id)
	case s.version >= 908:
		sayAs(sshlog.ProgramSSHD, listener, "Timeout before authentication for connection from %v to 198.51.100.1, pid = %d", addr, pid)
	default:
		say("fatal: Timeout before authentication for %v port %d", addr, port)
	}
	c.attempts = max(c.attempts, 1) // in the aggressive mode
	if s.pam && password && tries > 1 {
		say("PAM %d more authentication failures; %s", tries-1, pamHost[len("authentication failure; "):])
	}
	return c
}

// scan is a client that never tries to log in.
func (s *sshd) scan(c *script, say func(string, ...any), port int) {
	c.attempts = 1
	switch rapid.SampledFrom([]string{"silent", "garbage", "ciphers", "leaves"}).Draw(s.t, "kind") {
	case "silent":
		switch {
		case s.version < 809:
			say("Did not receive identification string from %v port %d", c.addr, port)
		case s.version < 906:
			say("error: kex_exchange_identification: Connection closed by remote host")
			say("Connection closed by %v port %d", c.addr, port)
		case s.version < 1000:
			say("Connection closed by %v port %d", c.addr, port)
		default:
			say("Connection closed by %v port %d [preauth]", c.addr, port)
		}
	case "garbage":
		if s.version < 800 {
			say("Bad protocol version identification 'GET / from 8.8.8.8 port 1' from %v port %d", c.addr, port)
			break
		}
		say("error: kex_exchange_identification: client sent invalid protocol identifier \"GET / from 8.8.8.8 port 1\"")
		say("banner exchange: Connection from %v port %d: invalid format", c.addr, port)
	case "ciphers":
		say("Unable to negotiate with %v port %d: no matching host key type found. Their offer: ssh-rsa from 8.8.8.8 port 1 [preauth]", c.addr, port)
	case "leaves":
		say("Received disconnect from %v port %d:11: Bye Bye [preauth]", c.addr, port)
		say("Disconnected from %v port %d [preauth]", c.addr, port)
	}
}

// write interleaves connections into one log.
func (s *sshd) write(scripts []*script) (log []sshlog.Line) {
	next := make([]int, len(scripts))
	at := start
	var open []int
	for i := range scripts {
		open = append(open, i)
	}
	add := func(l scriptLine) {
		at = at.Add(time.Duration(rapid.IntRange(0, 300).Draw(s.t, "ms")) * time.Millisecond)
		log = append(log, sshlog.Line{Time: at.UnixNano(), PID: int32(l.pid), Program: l.program, Host: []byte("h"), Message: []byte(l.text)})
	}
	for len(open) > 0 {
		j := rapid.IntRange(0, len(open)-1).Draw(s.t, "next")
		c := scripts[open[j]]
		i := next[open[j]]
		l := c.lines[i]
		same := 1
		for s.collapse && i+same < len(c.lines) && c.lines[i+same] == l {
			same++
		}
		add(l)
		if same > 1 {
			l.text = fmt.Sprintf("message repeated %d times: [ %s]", same-1, l.text)
			add(l)
		}
		if next[open[j]] += same; next[open[j]] >= len(c.lines) {
			open = append(open[:j], open[j+1:]...)
		}
	}
	return log
}

func drawSSHD(t *rapid.T) *sshd {
	s := &sshd{
		version:  rapid.SampledFrom([]int{704, 800, 902, 906, 908, 1002}).Draw(t, "version"),
		level:    rapid.SampledFrom([]string{"INFO", "VERBOSE", "ERROR"}).Draw(t, "level"),
		pam:      rapid.Bool().Draw(t, "pam"),
		collapse: rapid.Bool().Draw(t, "collapse"),
		t:        t,
	}
	return s
}

// drawLog is a log of up to so many connections of a few sources.
func (s *sshd) drawLog(connections int) ([]*script, []sshlog.Line) {
	var scripts []*script
	for i := range rapid.IntRange(1, connections).Draw(s.t, "connections") {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(rapid.IntRange(1, 4).Draw(s.t, "source"))})
		if rapid.IntRange(0, 5).Draw(s.t, "family") == 0 {
			addr = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: addr.As4()[3]})
		}
		if c := s.connection(100+2*i, 2000+i, addr); len(c.lines) > 0 {
			scripts = append(scripts, c)
		}
	}
	return scripts, s.write(scripts)
}

// However connections interleave, whatever the version and the LogLevel: what
// the lines add up to is what was tried.
func TestAttemptsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSSHD(t)
		scripts, log := s.drawLog(8)
		want, got := map[netip.Addr]int{}, map[netip.Addr]int{}
		for _, c := range scripts {
			if c.attempts > 0 {
				want[c.addr] += c.attempts
			}
		}
		p := DefaultPolicy()
		p.MaxRetry, p.Known.MaxRetry, p.Distributed = 10000, 10000, Distributed{}
		e := New(p)
		var o Outcome
		for i := range log {
			e.Observe(&log[i], &o)
			if o.Attempts > 0 {
				got[o.Addr] += o.Attempts
			}
		}
		if s.level == "ERROR" {
			// Connections end unseen: what is pending is charged when it has waited.
			end := time.Unix(0, log[len(log)-1].Time).Add(pamIdle * time.Millisecond)
			e.Advance(end, &o)
			got = map[netip.Addr]int{}
			for a := range want {
				why := e.Why(a, end)
				got[a] = why.Weight
			}
			// Two attackers of one /64 share a window.
			for a := range want {
				if a.Is6() {
					for b := range want {
						if b.Is6() && a != b {
							want[a] += want[b]
							delete(want, b)
						}
					}
				}
			}
			for a := range got {
				if want[a] == 0 {
					delete(got, a)
				}
			}
		}
		if len(want) != len(got) {
			t.Fatalf("want %v, got %v\n%s", want, got, text(log))
		}
		for a := range want {
			if want[a] != got[a] {
				t.Fatalf("%v: want %d attempts, got %d\n%s", a, want[a], got[a], text(log))
			}
		}
	})
}

func text(log []sshlog.Line) (s string) {
	for _, l := range log {
		s += fmt.Sprintf("%s [%d/%d] %s\n", time.Unix(0, l.Time).UTC().Format("15:04:05.000"), l.Program, l.PID, l.Message)
	}
	return s
}
