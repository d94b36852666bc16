package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
)

// Method is what an attacker does with a connection.
type Method string

// The methods.
const (
	Password            Method = "password"             // tries Passwords in turn; the right one logs in
	KeyboardInteractive Method = "keyboard-interactive" // the same; with Options.PAM only
	PublicKey           Method = "publickey"            // offers Keys keys that are new to sshd
	None                Method = "none"                 // asks which methods there are, and goes
	Connect             Method = "connect"              // closes at once, nothing sent
	Reset               Method = "reset"                // the same, by a reset, after sshd's identification
	Silent              Method = "silent"               // sends nothing until sshd gives up (LoginGraceTime)
	Garbage             Method = "garbage"              // sends Text where the identification belongs
	Scan                Method = "scan"                 // takes the host key and goes, as ssh-keyscan does
	Mismatch            Method = "mismatch"             // offers key exchange methods that no server has: Text
	Disconnect          Method = "disconnect"           // says goodbye before authentication, with Text
)

// Attack is what one attacker does, on one connection after another.
type Attack struct {
	Method    Method
	From      netip.Addr
	User      string
	Passwords []string      // tried in turn on one connection; with Options.PAM and Password at most three
	Keys      int           // 0 means 1
	Text      string        // sent as it is, newlines and all
	Version   string        // the client's identification; "": one of a common library
	Conns     int           // how many connections; 0 means 1
	Abort     bool          // ends connections by a reset
	Patience  time.Duration // for how long it waits on a connection; 0: 30 s
}

// Result is the ground truth: what the attacker did and saw.
type Result struct {
	Attack Attack
	Conns  []Conn
}

// Attempts adds up Conn.Attempts.
func (r Result) Attempts() (n int) {
	for _, c := range r.Conns {
		n += c.Attempts
	}
	return n
}

// Conn is one connection of an attack.
type Conn struct {
	Port     uint16 // the attacker's; 0: it got no connection
	Began    time.Time
	Ended    time.Time
	Attempts int   // authentication attempts that sshd answered by a refusal
	Unsure   int   // 1 where one more was sent, but no answer came
	Accepted bool  // logged in
	Err      error // what the attacker saw in the end: a refusal, a reset, a timeout; nil where it left by itself
}

const (
	// dialTimeout is when one gives up on a host that does not answer: banned.
	dialTimeout = 3 * time.Second
	// patience is for a connection that was cut by a ban, of which nobody tells.
	patience = 30 * time.Second
)

// clientVersion is what an attacker calls itself.
const clientVersion = "SSH-2.0-libssh_0.9.6"

// Attack makes an attack. What the attacker meets with is in the result; the
// error says that the attack could not be made.
func (l *Lab) Attack(ctx context.Context, a Attack) (Result, error) {
	r := Result{Attack: a}
	for range max(a.Conns, 1) {
		c, err := l.attackOnce(ctx, a)
		r.Conns = append(r.Conns, c)
		if err != nil {
			return r, fmt.Errorf("attack (%s) from %s: %w", a.Method, a.From, err)
		}
	}
	return r, nil
}

// AttackAll makes attacks, so many at a time. The results are in the attacks' order.
func (l *Lab) AttackAll(ctx context.Context, attacks []Attack, parallel int) ([]Result, error) {
	results := make([]Result, len(attacks))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, a := range attacks {
		group.Go(func() (err error) {
			results[i], err = l.Attack(ctx, a)
			return err
		})
	}
	return results, group.Wait()
}

// attackOnce makes one connection. An error is the caller's mistake, or ctx has ended.
func (l *Lab) attackOnce(ctx context.Context, a Attack) (c Conn, err error) {
	act, ok := map[Method]func(net.Conn, Attack, *Conn) error{
		Password:            l.authenticate,
		KeyboardInteractive: l.authenticate,
		PublicKey:           l.authenticate,
		None:                l.authenticate,
		Scan:                l.scan,
		Connect:             func(net.Conn, Attack, *Conn) error { return nil },
		Reset:               reset,
		Silent:              drain,
		Garbage:             garbage,
		Mismatch:            mismatch,
		Disconnect:          disconnect,
	}[a.Method]
	if !ok {
		return c, fmt.Errorf("no such method")
	}
	c.Began = time.Now()
	defer func() { c.Ended = time.Now() }()
	conn, err := l.dial(ctx, a.From)
	if err != nil {
		c.Err = err
		return c, ctx.Err()
	}
	defer conn.Close()
	if a.Patience == 0 {
		a.Patience = patience
	}
	if err := conn.SetDeadline(time.Now().Add(a.Patience)); err != nil {
		return c, err
	}
	if a.Abort {
		if err := conn.SetLinger(0); err != nil {
			return c, err
		}
	}
	// When ctx ends, whoever waits on the connection must see it.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c.Port = conn.LocalAddr().(*net.TCPAddr).AddrPort().Port()
	c.Err = act(conn, a, &c)
	return c, ctx.Err()
}

func (l *Lab) dial(ctx context.Context, from netip.Addr) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return l.World.Dial(ctx, from, l.Target(from))
}

// pamRetries is after how many wrong passwords pam_unix says PAM_MAXTRIES: sshd
// offers no passwords any more, and does not look at what is sent all the same.
const pamRetries = 3

// errLeft ends a handshake from our side.
var errLeft = errors.New("the attacker has seen enough")

// scan leaves when it is shown the host key.
func (l *Lab) scan(conn net.Conn, a Attack, _ *Conn) error {
	config := l.config(a)
	config.HostKeyCallback = func(string, net.Addr, ssh.PublicKey) error { return errLeft }
	_, _, _, err := ssh.NewClientConn(conn, l.Target(a.From).String(), config)
	if errors.Is(err, errLeft) {
		return nil
	}
	return err
}

// config is a client's; its algorithms are the cheapest that every server has.
func (l *Lab) config(a Attack) *ssh.ClientConfig {
	c := &ssh.ClientConfig{
		User:            a.User,
		HostKeyCallback: ssh.FixedHostKey(l.keys.host),
		ClientVersion:   a.Version,
	}
	if c.ClientVersion == "" {
		c.ClientVersion = clientVersion
	}
	c.KeyExchanges = []string{"curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256"}
	c.Ciphers = []string{"aes128-gcm@openssh.com", "aes128-ctr"}
	return c
}

// authenticate goes through the handshake and tries to log in.
func (l *Lab) authenticate(conn net.Conn, a Attack, c *Conn) error {
	var sent int
	passwords := a.Passwords
	if a.Method == Password && l.pam && len(passwords) > pamRetries {
		passwords = passwords[:pamRetries]
	}
	next := func() (string, error) {
		if sent == len(passwords) {
			return "", errLeft
		}
		sent++
		return passwords[sent-1], nil
	}
	config := l.config(a)
	switch a.Method {
	case Password:
		config.Auth = []ssh.AuthMethod{ssh.RetryableAuthMethod(ssh.PasswordCallback(next), len(passwords))}
	case KeyboardInteractive:
		answer := func(_, _ string, questions []string, _ []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i := range questions {
				var err error
				if answers[i], err = next(); err != nil {
					return nil, err
				}
			}
			return answers, nil
		}
		config.Auth = []ssh.AuthMethod{ssh.RetryableAuthMethod(ssh.KeyboardInteractive(answer), len(passwords))}
	case PublicKey:
		var signers []ssh.Signer
		for range max(a.Keys, 1) {
			s, err := newSigner()
			if err != nil {
				return err
			}
			signers = append(signers, &offered{Signer: s, count: &sent})
		}
		config.Auth = []ssh.AuthMethod{ssh.PublicKeys(signers...)}
	}
	client, channels, requests, err := ssh.NewClientConn(conn, l.Target(a.From).String(), config)
	if err == nil {
		c.Accepted = true
		c.Attempts = max(sent-1, 0)
		go ssh.DiscardRequests(requests)
		go refuse(channels)
		return client.Close()
	}
	c.Attempts = sent
	if sent > 0 && !refused(err) {
		c.Attempts, c.Unsure = sent-1, 1
	}
	if errors.Is(err, errLeft) {
		return nil
	}
	return err
}

// refused reports whether a handshake ended by sshd's word, and not by a cut connection.
func refused(err error) bool {
	// The library has no error values for these.
	text := err.Error()
	return errors.Is(err, errLeft) || strings.Contains(text, "unable to authenticate") || strings.Contains(text, "ssh: disconnect")
}

func refuse(channels <-chan ssh.NewChannel) {
	for ch := range channels {
		_ = ch.Reject(ssh.Prohibited, "")
	}
}

// offered is a key that counts itself when it is offered.
type offered struct {
	ssh.Signer
	count *int
	seen  bool
}

func (o *offered) PublicKey() ssh.PublicKey {
	if !o.seen {
		o.seen = true
		*o.count++
	}
	return o.Signer.PublicKey()
}

// reset hears sshd out and makes the close a reset. (Before sshd has accepted
// the connection, it would not log a word of it.)
func reset(conn net.Conn, _ Attack, _ *Conn) error {
	if _, err := readLine(conn); err != nil {
		return err
	}
	return conn.(*net.TCPConn).SetLinger(0)
}

// readLine reads sshd's identification.
func readLine(conn net.Conn) (string, error) {
	return bufio.NewReader(io.LimitReader(conn, 255)).ReadString('\n')
}

// drain reads until sshd closes.
func drain(conn net.Conn, _ Attack, _ *Conn) error {
	_, err := io.Copy(io.Discard, conn)
	return err
}

func garbage(conn net.Conn, a Attack, c *Conn) error {
	if _, err := io.WriteString(conn, a.Text); err != nil {
		return err
	}
	return drain(conn, a, c)
}

// mismatch offers one key exchange method that no server has.
func mismatch(conn net.Conn, a Attack, c *Conn) error {
	if err := introduce(conn, a, []string{a.Text}); err != nil {
		return err
	}
	return drain(conn, a, c)
}

func disconnect(conn net.Conn, a Attack, c *Conn) error {
	if err := introduce(conn, a, []string{"curve25519-sha256"}); err != nil {
		return err
	}
	// RFC 4253, section 11.1; 11 is SSH_DISCONNECT_BY_APPLICATION.
	msg := struct {
		Reason   uint32 `sshtype:"1"`
		Text     string
		Language string
	}{Reason: 11, Text: a.Text}
	if _, err := conn.Write(packet(ssh.Marshal(msg))); err != nil {
		return err
	}
	return drain(conn, a, c)
}

// introduce exchanges identifications and sends a KEXINIT (RFC 4253, 7.1).
func introduce(conn net.Conn, a Attack, kex []string) error {
	version := a.Version
	if version == "" {
		version = clientVersion
	}
	if _, err := io.WriteString(conn, version+"\r\n"); err != nil {
		return err
	}
	if _, err := readLine(conn); err != nil {
		return err
	}
	msg := struct {
		Cookie                       [16]byte `sshtype:"20"`
		Kex, HostKey                 []string
		CiphersOut, CiphersIn        []string
		MACsOut, MACsIn              []string
		CompressionOut, CompressionI []string
		LanguagesOut, LanguagesIn    []string
		Follows                      bool
		Reserved                     uint32
	}{
		Kex: kex, HostKey: []string{"ssh-ed25519"},
		CiphersOut: []string{"aes128-ctr"}, CiphersIn: []string{"aes128-ctr"},
		MACsOut: []string{"hmac-sha2-256"}, MACsIn: []string{"hmac-sha2-256"},
		CompressionOut: []string{"none"}, CompressionI: []string{"none"},
	}
	_, _ = rand.Read(msg.Cookie[:])
	_, err := conn.Write(packet(ssh.Marshal(msg)))
	return err
}

// packet frames a payload before encryption is agreed on (RFC 4253, section 6).
func packet(payload []byte) []byte {
	padding := 8 - (5+len(payload))%8
	if padding < 4 {
		padding += 8
	}
	p := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	p = append(p, byte(padding))
	p = append(p, payload...)
	return append(p, make([]byte, padding)...)
}
