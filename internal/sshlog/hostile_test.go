package sshlog_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sekisho/internal/sshlog"
)

// This file plays sshd against its attackers: every format string in which
// OpenSSH 7.4 to 10.5 names a peer, filled with text that tries to pass for
// another peer, escaped and cut as log.c does it. Whatever Parse then takes for
// the peer must be the peer.

// logged is how sshd hands a message to syslog: at most 1,023 bytes, escaped
// (strnvis with VIS_CSTYLE|VIS_NL|VIS_TAB|VIS_OCTAL), at most 1,023 again, at
// most 500. A privilege separated child's message goes through its monitor,
// which adds [preauth] and, before 10.0, escapes a second time.
func logged(msg, level string, preauth, twice bool) string {
	if preauth {
		msg = clip(msg, 1023)
		if twice {
			msg = clip(escape(msg), 1023)
		}
		msg += " [preauth]"
	}
	return clip(clip(escape(clip(level+msg, 1023)), 1023), 500)
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			b.WriteString(`\\`)
		case c >= 0x20 && c < 0x7f:
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == 0:
			b.WriteString(`\0`)
		default:
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	return b.String()
}

// The addresses that hostile text names. None is ever a peer.
var framed = []string{"8.8.8.8", "2001:4860:4860::8888", "2001:4860::", "::ffff:8.8.8.8", "fe80::8%eth8"}

// hostile draws text that a client sends: pieces of sshd's own sentences and of
// the log's, in any order.
func hostile(t *rapid.T, label string, colon bool) string {
	pieces := append([]string{
		"root", "a", "", " ", "x from", " from ", " port ", "port", "22", "65535", " port 22", " ssh2", " ssh1", "ssh2", "[preauth]", " [preauth]", "user", "invalid user ", "authenticating user ",
		"for ", " for root", "rhost=", " rhost=", "  user=", "UNKNOWN", "(", ")", "'", "\"", "[", "]", "[8.8.8.8] failed", " (8.8.8.8)",
		"not allowed because not listed in AllowUsers", " timed out", " id 0", ", ignoring", "]", " times", "\n", "\r\n", "\x00", "\\", "\xc3\xa9", "ssh-connection", ",", ") -> (",
		" from 8.8.8.8 port 22", " from 8.8.8.8 port 22 ssh2", " 8.8.8.8 port 22", " from 8.8.8.8", " 8.8.8.8", "root 8.8.8.8 port 22 [preauth]",
		strings.Repeat("a", 90), strings.Repeat("\xff", 60),
	}, framed...)
	if colon {
		pieces = append(pieces, ":", ": ", "::", " port 22:", " ssh2: ", "error: ", "fatal: ", "Connection from 8.8.8.8 port 22 on ",
			"Failed password for root from 8.8.8.8 port 22 ssh2", "message repeated 5 times: [ ", "\nNov  2 03:04:05 host sshd[1]: Failed password for root from 8.8.8.8 port 22 ssh2",
			" rejected: ", ", but we resolve 8.8.8.8 to host", "Connection closed by 8.8.8.8 port 22", ": Connection from 8.8.8.8 port 22: x")
	}
	text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 8).Draw(t, label), "")
	if !colon { // auth2.c cuts a name at its first ':'
		text, _, _ = strings.Cut(text, ":")
	}
	text, _, _ = strings.Cut(text, "\x00") // C strings
	return text
}

type sshd struct {
	peer           string // as sshd prints it
	addr           netip.Addr
	port           uint16
	user           string // hostile, without ':'
	known          string // the name of a user who exists
	text           string // hostile
	text2          string // hostile
	host           string // a host name that the name server gave
	local          string
	isInvalid      bool
	preauth, twice bool
	level          string
}

func (s sshd) invalid() string {
	if s.isInvalid {
		return "invalid user "
	}
	return ""
}

func (s sshd) at() string { return fmt.Sprintf("%s port %d", s.peer, s.port) }

// id is sshpkt_fmt_connection_id.
func (s sshd) id(preamble string) string {
	switch preamble {
	case "":
		return s.at()
	case "user", "authenticating user":
		return clip(preamble+" "+s.known, 200) + " " + s.at()
	}
	return clip(preamble+" "+s.user, 200) + " " + s.at()
}

func (s sshd) name() string {
	if s.isInvalid {
		return s.user
	}
	return s.known
}

// formats are sshd's, with what each of its %s can hold. None begins with
// hostile text.
var formats = map[string]func(t *rapid.T, s sshd) string{
	"auth": func(t *rapid.T, s sshd) string {
		msg := fmt.Sprintf("%s %s for %s%s from %s ssh2", rapid.SampledFrom([]string{"Failed", "Accepted", "Postponed", "Partial"}).Draw(t, "result"),
			rapid.SampledFrom([]string{"password", "publickey", "none", "hostbased", "keyboard-interactive/pam", "gssapi-with-mic"}).Draw(t, "method"),
			s.invalid(), clip(s.name(), 100), s.at())
		if rapid.Bool().Draw(t, "extra") {
			msg += ": ED25519-CERT SHA256:abc ID " + s.text + " (serial 1) CA ED25519 SHA256:def"
		}
		return msg
	},
	"invalid user": func(_ *rapid.T, s sshd) string {
		return fmt.Sprintf("Invalid user %s from %s", clip(s.user, 100), s.at())
	},
	"invalid user, old": func(_ *rapid.T, s sshd) string {
		return fmt.Sprintf("Invalid user %s from %s", clip(s.user, 100), s.peer)
	},
	"input_userauth_request": func(_ *rapid.T, s sshd) string { return "input_userauth_request: invalid user " + s.user },
	"max attempts": func(_ *rapid.T, s sshd) string {
		return fmt.Sprintf("maximum authentication attempts exceeded for %s%s from %s ssh2", s.invalid(), clip(s.name(), 100), s.at())
	},
	"prohibited": func(_ *rapid.T, s sshd) string {
		return fmt.Sprintf("administratively prohibited connection for %s%s from %s", s.invalid(), s.name(), s.at())
	},
	"pam": func(t *rapid.T, s sshd) string {
		illegal := map[bool]string{true: "illegal user "}[s.isInvalid]
		return fmt.Sprintf("PAM: %s for %s%s from %s", rapid.SampledFrom([]string{"Authentication failure", "User not known to the underlying authentication module", "Have exhausted maximum number of retries for service"}).Draw(t, "strerror"),
			illegal, clip(s.name(), 100), rapid.SampledFrom([]string{s.peer, s.host}).Draw(t, "rhost"))
	},
	"pam module": func(t *rapid.T, s sshd) string {
		msg := fmt.Sprintf("pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=%s ", rapid.SampledFrom([]string{s.peer, s.host, ""}).Draw(t, "rhost"))
		return msg + rapid.SampledFrom([]string{"", " user=" + s.user, "user=" + s.user}).Draw(t, "user")
	},
	"pam more": func(_ *rapid.T, s sshd) string {
		return fmt.Sprintf("PAM 2 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=%s  user=%s", s.peer, s.user)
	},
	"pam bad name": func(_ *rapid.T, s sshd) string { return "pam_unix(sshd:auth): bad username [" + s.user + "]" },
	"not allowed": func(_ *rapid.T, s sshd) string {
		return "User " + s.known + " from " + s.peer + " not allowed because not listed in AllowUsers"
	},
	"not allowed 2": func(_ *rapid.T, s sshd) string {
		return "User " + s.known + " from " + s.host + " not allowed because listed in DenyUsers"
	},
	"root refused": func(_ *rapid.T, s sshd) string { return "ROOT LOGIN REFUSED FROM " + s.at() },
	"closed": func(t *rapid.T, s sshd) string {
		return rapid.SampledFrom([]string{"Connection closed by ", "Connection reset by ", "Disconnected from "}).Draw(t, "words") + s.id(drawPreamble(t))
	},
	"timed out": func(t *rapid.T, s sshd) string { return "Connection from " + s.id(drawPreamble(t)) + " timed out" },
	"disconnecting": func(t *rapid.T, s sshd) string {
		return "Disconnecting " + s.id(drawPreamble(t)) + ": " + clip(rapid.SampledFrom([]string{
			"Too many authentication failures", "bad service request " + s.text, fmt.Sprintf("Change of username or service not allowed: (%s,%s) -> (%s,%s)", s.user, s.text, s.text2, s.text),
		}).Draw(t, "why"), 100)
	},
	"disconnecting, 7.4": func(_ *rapid.T, s sshd) string {
		return "Disconnecting: " + clip(fmt.Sprintf("Change of username or service not allowed: (%s,%s) -> (%s,x)", s.user, s.text, s.text2), 100)
	},
	"received disconnect": func(_ *rapid.T, s sshd) string {
		return fmt.Sprintf("Received disconnect from %s:%d: %s", s.at(), 11, clip(s.text, 400))
	},
	"received disconnect, old": func(_ *rapid.T, s sshd) string {
		return fmt.Sprintf("Received disconnect from %s: %d: %s", s.peer, 3, clip(s.text, 400))
	},
	"negotiation": func(t *rapid.T, s sshd) string {
		return "Unable to negotiate with " + s.id(drawPreamble(t)) + ": no matching cipher found. Their offer: " + s.text
	},
	"no cipher, old": func(_ *rapid.T, s sshd) string {
		return "no matching cipher found: client " + s.text + " server aes128-ctr"
	},
	"packet fatal": func(t *rapid.T, s sshd) string {
		return rapid.SampledFrom([]string{"ssh_dispatch_run_fatal", "banner exchange", "userauth_pubkey", "server_input_channel_open: parse packet"}).Draw(t, "tag") +
			": Connection from " + s.id(drawPreamble(t)) + ": incomplete message"
	},
	"connection from": func(_ *rapid.T, s sshd) string { return "Connection from " + s.at() + " on " + s.local + " port 22" },
	"ip options":      func(_ *rapid.T, s sshd) string { return "Connection from " + s.at() + " with IP opts: 07.04" },
	"identification":  func(_ *rapid.T, s sshd) string { return "Did not receive identification string from " + s.at() },
	"bad protocol": func(_ *rapid.T, s sshd) string {
		return "Bad protocol version identification '" + clip(s.text, 100) + "' from " + s.at()
	},
	"bad remote protocol": func(_ *rapid.T, s sshd) string {
		return "Bad remote protocol version identification: '" + clip(s.text, 100) + "'"
	},
	"kex identification": func(_ *rapid.T, s sshd) string {
		return `kex_exchange_identification: client sent invalid protocol identifier "` + clip(s.text, 256) + `"`
	},
	"major versions": func(_ *rapid.T, s sshd) string {
		return "Protocol major versions differ for " + s.at() + ": SSH-2.0-OpenSSH_7.4 vs. " + clip(s.text, 200)
	},
	"scanned": func(_ *rapid.T, s sshd) string {
		return "scanned from " + s.at() + " with " + s.text + ".  Don't panic."
	},
	"timeout": func(_ *rapid.T, s sshd) string { return "Timeout before authentication for " + s.at() },
	"timeout 9.9": func(_ *rapid.T, s sshd) string {
		return "Timeout before authentication for connection from " + s.peer + " to " + s.local + ", pid = 12"
	},
	"crash": func(_ *rapid.T, s sshd) string {
		return "Session process 12 unpriv child crash for connection from " + s.peer + " to " + s.local
	},
	"drop": func(_ *rapid.T, s sshd) string {
		return fmt.Sprintf("drop connection #0 from [%s]:%d on [%s]:22 Maxstartups", s.peer, s.port, s.local)
	},
	"wrappers": func(_ *rapid.T, s sshd) string {
		ident, _, _ := strings.Cut(s.text, "\n")
		return "refused connect from " + ident + "@" + s.host + " (" + s.peer + ")"
	},
	"reverse": func(_ *rapid.T, s sshd) string {
		return "reverse mapping checking getaddrinfo for " + s.host + " [" + s.peer + "] failed."
	},
	"maps": func(_ *rapid.T, s sshd) string {
		return "Address " + s.peer + " maps to " + s.host + ", but this does not map back to the address."
	},
	"nasty": func(_ *rapid.T, s sshd) string {
		return `Nasty PTR record "8.8.8.8" is set up for ` + s.peer + ", ignoring"
	},
	"hostbased": func(_ *rapid.T, s sshd) string {
		return "userauth_hostbased mismatch: client sends " + s.text + ", but we resolve " + s.peer + " to " + s.host
	},
	"hostbased cert": func(_ *rapid.T, s sshd) string {
		return `Accepted certificate ID "` + s.text + `" signed by RSA CA SHA256:x from ` + s.user + "@" + s.host
	},
	"key": func(_ *rapid.T, s sshd) string {
		return "public key ED25519-SK SHA256:abc signature for " + s.invalid() + s.name() + " from " + s.at() + " rejected: user verification requirement not met "
	},
	"session": func(t *rapid.T, s sshd) string {
		return "Starting session: subsystem '" + s.text + "' for " + s.known + " from " + s.at() + " id 0"
	},
	"close session": func(_ *rapid.T, s sshd) string { return "Close session: user " + s.known + " from " + s.at() + " id 0" },
	"forward": func(_ *rapid.T, s sshd) string {
		return "refused local port forward: originator " + s.text + " port 5, target " + s.text2 + " port 6"
	},
	"forward request": func(_ *rapid.T, s sshd) string {
		return "Received request from " + s.at() + " to connect to host " + s.text + " port 5, but the request was denied."
	},
	"subsystem": func(_ *rapid.T, s sshd) string {
		return "subsystem request for " + clip(s.text, 100) + " by user " + s.known + " failed, subsystem not found"
	},
	"permitted host": func(_ *rapid.T, s sshd) string {
		return "/home/x/.ssh/authorized_keys:1: Authentication tried for " + s.known + " with correct key but not from a permitted host (host=" + s.host + ", ip=" + s.peer + ", required=192.0.2.0/24)."
	},
	"algorithm": func(_ *rapid.T, s sshd) string { return "userauth_pubkey: unsupported public key algorithm: " + s.text },
	"channel": func(_ *rapid.T, s sshd) string {
		return "session_input_channel_req: no session 0 req " + clip(s.text, 100)
	},
	"revoked": func(_ *rapid.T, s sshd) string {
		return `Refusing certificate ID "` + s.text + `" serial=1 signed by RSA CA SHA256:x: expired`
	},
	"wrong name": func(_ *rapid.T, s sshd) string {
		return "wrong user name passed to monitor: expected " + s.user + " != " + clip(s.text, 100)
	},
	"too long": func(_ *rapid.T, s sshd) string { return "Username too long from " + s.at() },
}

func drawPreamble(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "user", "authenticating user", "invalid user"}).Draw(t, "preamble")
}

func TestHostile(t *testing.T) {
	for name, format := range formats {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				s := sshd{
					peer:      rapid.SampledFrom([]string{"203.0.113.9", "2001:db8::9", "2001:db8::", "1::", "::1", "fe80::1%eth0", "UNKNOWN", "2001:db8:1:2:3:4:5:6"}).Draw(t, "peer"),
					port:      rapid.Uint16Min(1).Draw(t, "port"),
					user:      hostile(t, "user", false),
					known:     rapid.SampledFrom([]string{"root", "hanako", `EXAMPLE\\taro`, "invalid", "user", "from"}).Draw(t, "known"),
					text:      hostile(t, "text", true),
					text2:     hostile(t, "text2", true),
					host:      rapid.SampledFrom([]string{"host.example.net", "8-8-8-8.example.net", "from", "x"}).Draw(t, "host"),
					local:     rapid.SampledFrom([]string{"192.0.2.1", "2001:db8::ffff"}).Draw(t, "local"),
					isInvalid: rapid.Bool().Draw(t, "invalid"),
					preauth:   rapid.Bool().Draw(t, "preauth"),
					twice:     rapid.Bool().Draw(t, "twice"),
					level:     rapid.SampledFrom([]string{"", "error: ", "fatal: "}).Draw(t, "level"),
				}
				s.addr, _ = netip.ParseAddr(s.peer)
				msg := logged(format(t, s), s.level, s.preauth, s.twice)
				wrapped := rapid.Bool().Draw(t, "wrapped")
				whole := len(msg) < 500
				if wrapped {
					msg = "message repeated 7 times: [ " + msg + "]"
				}
				check(t, s, name, msg, whole, wrapped)
			})
		})
	}
}

// check holds Parse to the promise, and where the message is whole and its
// format has the peer in it, to finding it.
func check(t *rapid.T, s sshd, name, msg string, whole, wrapped bool) {
	var ev sshlog.Event
	found := sshlog.Parse([]byte(msg), &ev)
	if ev.Addr.IsValid() && ev.Addr != s.addr {
		t.Fatalf("%q: got address %v, the peer is %v (%v)", msg, ev.Addr, s.addr, ev.Kind)
	}
	if ev.Port != 0 && ev.Port != s.port {
		t.Fatalf("%q: got port %d, want %d (%v)", msg, ev.Port, s.port, ev.Kind)
	}
	if found && wrapped && ev.Repeat != 7 || !wrapped && ev.Repeat != 1 {
		t.Fatalf("%q: got repeat %d", msg, ev.Repeat)
	}
	if nameless[name] || !whole || !s.addr.IsValid() {
		return
	}
	if !found || !ev.Addr.IsValid() && !strings.Contains(msg, " "+s.host) && !strings.Contains(msg, "rhost="+s.host) && !strings.Contains(msg, "rhost= ") {
		t.Fatalf("%q: got no address, the peer is %v (%v)", msg, s.addr, ev.Kind)
	}
	if s.isInvalid && ev.Kind == sshlog.Failed && !(s.preauth && s.twice) {
		if want := escape(clip(s.user, 100)); string(ev.User) != want || !ev.Invalid {
			t.Fatalf("%q: got user %q (invalid %v), want %q", msg, ev.User, ev.Invalid, want)
		}
	}
}

// nameless formats hold no peer.
var nameless = map[string]bool{
	"input_userauth_request": true, "pam bad name": true, "disconnecting, 7.4": true, "no cipher, old": true, "bad remote protocol": true, "kex identification": true,
	"hostbased cert": true, "forward": true, "subsystem": true, "algorithm": true, "channel": true, "revoked": true, "wrong name": true,
}

// A name as long as it takes to lay a false peer exactly on log.c's cut.
func TestFalsePeerAtTheCut(t *testing.T) {
	for _, limit := range []int{500, 1021, 1023} {
		for _, format := range []string{
			"Connection closed by invalid user %s 203.0.113.9 port 40022 [preauth]",
			"Failed password for invalid user %s from 203.0.113.9 port 40022 ssh2",
			"Invalid user %s from 203.0.113.9 port 40022",
			"error: PAM: Authentication failure for illegal user %s from 203.0.113.9",
			"Bad protocol version identification '%s' from 203.0.113.9 port 40022",
			"error: maximum authentication attempts exceeded for invalid user %s from 203.0.113.9 port 40022 ssh2 [preauth]",
			"administratively prohibited connection for invalid user %s from 203.0.113.9 port 40022",
			"refused connect from %s (203.0.113.9)",
			"userauth_hostbased mismatch: client sends %s, but we resolve 203.0.113.9 to host",
		} {
			for _, end := range []string{
				" 8.8.8.8 port 22 [preauth]", " from 8.8.8.8 port 22 ssh2", " from 8.8.8.8 port 22", " from 8.8.8.8", "' from 8.8.8.8 port 22",
				" from 8.8.8.8 port 22 ssh2 [preauth]", " (8.8.8.8)", ", but we resolve 8.8.8.8 to host",
			} {
				before, _, _ := strings.Cut(format, "%s")
				name := strings.Repeat("x", limit-len(before)-len(end)) + end
				msg := clip(fmt.Sprintf(format, name), limit)
				if !strings.HasSuffix(msg, end) {
					t.Fatalf("%q does not end in %q", msg, end)
				}
				var ev sshlog.Event
				sshlog.Parse([]byte(msg), &ev)
				if ev.Addr.IsValid() || ev.Port != 0 {
					t.Errorf("%q: got %v port %d, want no peer", msg, ev.Addr, ev.Port)
				}
			}
		}
	}
}

// What precedes all that a client can write is believed at any length, so that
// nobody hides behind a long text.
func TestLongMessageKeepsPeerAtItsFront(t *testing.T) {
	long := strings.Repeat("x", 600)
	for _, msg := range []string{
		"Received disconnect from 203.0.113.9 port 40022:11: " + long,
		"Disconnecting invalid user a 203.0.113.9 port 40022: " + long,
		"Unable to negotiate with 203.0.113.9 port 40022: no matching cipher found. Their offer: " + long,
		"Failed publickey for hanako from 203.0.113.9 port 40022 ssh2: ED25519-CERT SHA256:x ID " + long,
		"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9  user=" + long,
	} {
		var ev sshlog.Event
		if !sshlog.Parse([]byte(msg), &ev) || ev.Addr != netip.MustParseAddr("203.0.113.9") {
			t.Errorf("%q: got %v, want the peer", msg, ev.Addr)
		}
	}
}
