package lab

import (
	"net/netip"
	"strings"
)

// Bystander is the address that hostile texts try to get banned. Nobody in a
// lab ever attacks from it.
var Bystander = netip.MustParseAddr("198.51.100.66")

// HostileUsers are user names that attackers send to have others banned, or
// to break what reads the log.
func HostileUsers() []string {
	b := Bystander.String()
	users := []string{
		"x from " + b + " port 22 ssh2",
		"invalid user root from " + b + " port 22 ssh2",
		"root " + b + " port 22 [preauth]",
		"x [preauth]",
		"x\nNov 22 12:00:00 lab sshd[1]: Failed password for root from " + b + " port 22 ssh2",
		"x\r\nsshd[1]: Failed password for root from " + b + " port 22 ssh2\r\n",
		"x: Connection closed by " + b + " port 22",
		"x rhost=" + b,
		"x' from \"" + b + "\" $(id) %n%s\x1b[31m\x7f",
		"x\tfrom\t" + b,
		"\xff\xfe caf\xc3\xa9 \u65e5\u672c",
		" ",
		" leading and trailing ",
		"",
		"message repeated 9 times: [ Failed password for root from " + b + " port 22 ssh2]",
		strings.Repeat("a", 100) + " from " + b + " port 22 ssh2",
		strings.Repeat("b", 980) + " from " + b + " port 22 ssh2",
		strings.Repeat("c", 1500),
		strings.Repeat("\n", 600),
	}
	for _, tail := range []string{
		" " + b + " port 22 [preauth]",
		" " + b + " port 22",
	} {
		users = append(users, cutBehind("Connection closed by invalid user ", tail)...)
	}
	return users
}

// cutBehind returns user names that make sshd's message end with tail, the
// true address and all that follows cut off: sshd gives syslog 500 bytes of a
// message (log.c, "%.500s"), but takes 200 bytes of the name before it escapes
// them. One byte becomes four, and five in messages from before authentication,
// which were escaped twice before 10.3: a name for either.
func cutBehind(before, tail string) (names []string) {
	room := 500 - len(before) - len(tail)
	for _, escaped := range []int{len(`\377`), len(`\\377`)} {
		name := strings.Repeat("\xff", room/escaped) + strings.Repeat("x", room%escaped) + tail
		names = append(names, name)
	}
	return names
}

// Repertoire is every kind of attack, each from a source of its own, counted
// up from first; Settle is due before its log is compared with its results.
// The Silent ones last for LoginGraceTime.
func Repertoire(first netip.Addr, o Options) []Attack {
	b := Bystander.String()
	var attacks []Attack
	from := first
	add := func(a Attack) {
		a.From = from
		from = from.Next()
		attacks = append(attacks, a)
	}
	add(Attack{Method: Password, User: "root", Passwords: []string{"123456"}})
	add(Attack{Method: Password, User: VictimUser, Passwords: []string{"123456"}})
	add(Attack{Method: Password, User: AdminUser, Passwords: []string{"a", "b", "c"}})
	add(Attack{Method: Password, User: "oracle", Passwords: []string{"oracle"}})
	add(Attack{Method: Password, User: "oracle", Passwords: []string{"a", "b", "c"}})
	add(Attack{Method: Password, User: "postgres", Passwords: []string{"postgres"}, Conns: 5})
	add(Attack{Method: Password, User: "root", Passwords: strings.Fields("a b c d e f g h")})  // too many for MaxAuthTries
	add(Attack{Method: Password, User: "guest", Passwords: strings.Fields("a b c d e f g h")}) // likewise, invalid user
	add(Attack{Method: Password, User: VictimUser, Passwords: []string{"a", "b", VictimPassword}})
	add(Attack{Method: Password, User: VictimUser, Passwords: []string{VictimPassword}})
	if o.PAM {
		add(Attack{Method: KeyboardInteractive, User: "root", Passwords: []string{"a"}})
		add(Attack{Method: KeyboardInteractive, User: "nagios", Passwords: []string{"a", "b"}})
		add(Attack{Method: KeyboardInteractive, User: VictimUser, Passwords: []string{"a", VictimPassword}})
		add(Attack{Method: KeyboardInteractive, User: "root", Passwords: strings.Fields("a b c d e f g h")})
	}
	add(Attack{Method: PublicKey, User: "root"})
	add(Attack{Method: PublicKey, User: "git", Keys: 3})
	add(Attack{Method: PublicKey, User: "root", Keys: 10})
	add(Attack{Method: None, User: "root"})
	add(Attack{Method: None, User: "ubuntu"})
	add(Attack{Method: None, User: "root", Abort: true})
	add(Attack{Method: Password, User: "root", Passwords: []string{"a", "b"}, Abort: true})
	for _, user := range HostileUsers() {
		add(Attack{Method: Password, User: user, Passwords: []string{"x"}})
		add(Attack{Method: None, User: user})
		add(Attack{Method: PublicKey, User: user})
	}
	add(Attack{Method: Connect})
	add(Attack{Method: Connect, Conns: 3})
	add(Attack{Method: Reset})
	add(Attack{Method: Silent})
	add(Attack{Method: Scan})
	add(Attack{Method: Scan, Version: "SSH-2.0-OpenSSH_9.2p1 from " + b + " port 22"})
	// sshd ends a name at a colon: what follows the port cannot be forged here.
	for _, user := range cutBehind("Disconnecting invalid user ", " "+b+" port 22") {
		add(Attack{Method: Password, User: user, Passwords: strings.Fields("a b c d e f g h")})
	}
	for _, user := range cutBehind("Connection reset by invalid user ", " "+b+" port 22 [preauth]") {
		add(Attack{Method: None, User: user, Abort: true})
	}
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: " + b + "\r\n\r\n",
		"GET / HTTP/1.1 from " + b + " port 1\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
		"SSH-1.5-old\r\n",
		"SSH-9.9-from " + b + " port 22\r\n",
		"SSH-2.0\r\n",
		strings.Repeat("x", 5000) + "\r\n",
		strings.Repeat("line\r\n", 2000),
		"\x00\x00\x00\r\n",
	} {
		add(Attack{Method: Garbage, Text: text})
	}
	for _, text := range []string{
		"diffie-hellman-group1-sha1",
		"evil from " + b + " port 22\nsshd[1]: Failed password for root from " + b + " port 22 ssh2",
		"none ] [preauth]",
	} {
		add(Attack{Method: Mismatch, Text: text})
	}
	for _, text := range []string{
		"Bye Bye",
		"disconnected by user",
		"Auth fail from " + b + " port 22",
		"bye\nNov 22 12:00:00 lab sshd[1]: Failed password for root from " + b + " port 22 ssh2",
		"bye [preauth]\r\nsshd[1]: Connection closed by " + b + " port 22 [preauth]",
	} {
		add(Attack{Method: Disconnect, Text: text})
	}
	return attacks
}
