package loggen

import (
	"fmt"
	"strconv"
)

// connection is what one connection still has to say, oldest first.
type connection struct {
	messages []message
	next     int
}

type message struct {
	tag     string // "sshd[4242]: "
	text    string
	attempt bool
}

func (g *Generator) appendSSHD(dst []byte) []byte {
	c := &g.open[g.rng.IntN(len(g.open))]
	if c.next == len(c.messages) {
		c.next = 0
		c.messages = g.connect(c.messages[:0])
	}
	m := c.messages[c.next]
	c.next++
	if m.attempt {
		g.stats.Attempts++
	}
	dst = append(dst, m.tag...)
	return append(dst, m.text...)
}

// Names that attackers try, and names that exist; the first of each are the
// most frequent in the field.
var (
	invalidUsers = []string{"admin", "test", "ubuntu", "oracle", "user", "postgres", "git", "ftpuser", "hadoop", "guest", "pi", "minecraft", "jenkins", "nagios", "es", "dev", "deploy1", "tomcat", "www", "mysql", "support", "sol", "solana", "odoo", "dolphinscheduler", "steam", "teamspeak", "zabbix", "ansible", "vagrant"}
	validUsers   = []string{"root", "root", "root", "root", "deploy", "hanako", "taro", "backup"}
	people       = []string{"deploy", "hanako", "taro"}
)

// connect plays one connection. The wording is OpenSSH's: auth.c, auth2.c,
// monitor.c, packet.c, sshd.c, sshd-session.c, srclimit.c of 7.4 to 10.x, and
// Linux-PAM's pam_unix.
func (g *Generator) connect(out []message) []message {
	gen := g.o.Generation
	if gen == AllGenerations {
		gen = Generation(1 + g.rng.IntN(3))
	}
	g.nextPID += 1 + g.rng.IntN(3)
	if g.nextPID > 4_000_000 {
		g.nextPID = 1000
	}
	program := "sshd"
	if gen == OpenSSH98 {
		program = "sshd-session"
	}
	tag := program + "[" + strconv.Itoa(g.nextPID) + "]: "
	say := func(text string) { out = append(out, message{tag: tag, text: text}) }
	attempt := func(text string) { out = append(out, message{tag: tag, text: text, attempt: true}) }

	addr := g.sources[g.zipf.Uint64()]
	port := strconv.Itoa(1024 + g.rng.IntN(64511))
	at := addr + " port " + port
	rhost := "logname= uid=0 euid=0 tty=ssh ruser= rhost=" + addr

	// named is how a closing line speaks of the user: not at all in 7.4.
	named := func(user string, invalid bool) string {
		switch {
		case gen == OpenSSH74:
			return at
		case invalid:
			return "invalid user " + user + " " + at
		default:
			return "authenticating user " + user + " " + at
		}
	}
	leave := func(user string, invalid bool) {
		if g.rng.IntN(2) == 0 {
			say("Connection closed by " + named(user, invalid) + " [preauth]")
			return
		}
		say("Received disconnect from " + at + ":11: Bye Bye [preauth]")
		say("Disconnected from " + named(user, invalid) + " [preauth]")
	}

	switch p := g.rng.IntN(100); {
	case p < 34: // a name that does not exist
		user := invalidUsers[skewed(g, len(invalidUsers))]
		say("Invalid user " + user + " from " + at)
		if gen == OpenSSH74 {
			say("input_userauth_request: invalid user " + user + " [preauth]")
		}
		for range 1 + g.rng.IntN(2) {
			say("pam_unix(sshd:auth): check pass; user unknown")
			say("pam_unix(sshd:auth): authentication failure; " + rhost + " ")
			attempt("Failed password for invalid user " + user + " from " + at + " ssh2")
		}
		leave(user, true)
	case p < 62: // a name that does
		user := validUsers[g.rng.IntN(len(validUsers))]
		say("pam_unix(sshd:auth): authentication failure; " + rhost + "  user=" + user)
		n := 1 + g.rng.IntN(3)
		for range n {
			attempt("Failed password for " + user + " from " + at + " ssh2")
		}
		leave(user, false)
		if n > 1 {
			say(fmt.Sprintf("PAM %d more authentication failure%s; %s  user=%s", n-1, plural(n-1), rhost, user))
		}
	case p < 67: // until sshd has enough
		user := validUsers[g.rng.IntN(len(validUsers))]
		say("pam_unix(sshd:auth): authentication failure; " + rhost + "  user=" + user)
		for range 6 {
			attempt("Failed password for " + user + " from " + at + " ssh2")
		}
		say("error: maximum authentication attempts exceeded for " + user + " from " + at + " ssh2 [preauth]")
		say("Disconnecting " + named(user, false) + ": Too many authentication failures [preauth]")
		say("PAM 5 more authentication failures; " + rhost + "  user=" + user)
		say("PAM service(sshd) ignoring max retries; 6 > 3")
	case p < 74: // connects and goes
		switch {
		case gen == OpenSSH74:
			say("Did not receive identification string from " + at)
		case g.rng.IntN(2) == 0:
			say("error: kex_exchange_identification: Connection closed by remote host")
			say("Connection closed by " + at)
		default:
			say("Connection closed by " + at + " [preauth]")
		}
	case p < 78: // does not speak SSH
		if gen == OpenSSH74 {
			say("Bad protocol version identification 'GET / HTTP/1.1' from " + at)
		} else {
			say("error: kex_exchange_identification: client sent invalid protocol identifier \"GET / HTTP/1.1\"")
			say("banner exchange: Connection from " + at + ": invalid format")
		}
	case p < 82:
		say("Unable to negotiate with " + at + ": no matching key exchange method found. Their offer: diffie-hellman-group14-sha1,diffie-hellman-group-exchange-sha1,diffie-hellman-group1-sha1 [preauth]")
	case p < 85:
		say("Connection reset by " + named("root", false) + " [preauth]")
	case p < 88:
		say("User backup from " + addr + " not allowed because not listed in AllowUsers")
		attempt("Failed password for invalid user backup from " + at + " ssh2")
		say("Connection closed by " + named("backup", true) + " [preauth]")
	case p < 91: // what the listener says, under its own pid
		tag = "sshd[812]: "
		switch {
		case gen != OpenSSH98:
			tag = program + "[" + strconv.Itoa(g.nextPID) + "]: "
			say("fatal: Timeout before authentication for " + at)
		case g.rng.IntN(2) == 0:
			say(fmt.Sprintf("Timeout before authentication for connection from %s to 10.0.0.5, pid = %d", addr, g.nextPID))
		default:
			say(fmt.Sprintf("drop connection #%d from [%s]:%s on [10.0.0.5]:22 penalty: failed authentication", 1+g.rng.IntN(9), addr, port))
		}
	case p < 94: // rsyslog sums up
		attempt("Failed password for root from " + at + " ssh2")
		attempt("message repeated 2 times: [ Failed password for root from " + at + " ssh2]")
		g.stats.Attempts++
		leave("root", false)
	default: // one of us
		user := people[g.rng.IntN(len(people))]
		addr = g.friends[g.rng.IntN(len(g.friends))]
		at = addr + " port " + port
		say("Accepted publickey for " + user + " from " + at + " ssh2: ED25519 SHA256:Qk5dWb9nLr2m7o2Vxq0WJ3z8yNfJp1uTt6cH4eXaYsA")
		uid := "(uid=1001)"
		if gen == OpenSSH74 {
			uid = ""
		}
		say("pam_unix(sshd:session): session opened for user " + user + uid + " by (uid=0)")
		say("Received disconnect from " + at + ":11: disconnected by user")
		if gen == OpenSSH74 {
			say("Disconnected from " + at)
		} else {
			say("Disconnected from user " + user + " " + at)
		}
		say("pam_unix(sshd:session): session closed for user " + user)
	}
	return out
}

// skewed prefers small indices.
func skewed(g *Generator, n int) int { return min(g.rng.IntN(n), g.rng.IntN(n)) }

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}
