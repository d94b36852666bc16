// Package mail sends what there is to tell by SMTP: text, and HTML beside it. It speaks to
// one server, the one that is configured; it runs no program, and no text of an event ever
// becomes a header of its own or a command. A mechanism: only who sends notifications imports
// it, and it alone imports go-mail.
package mail

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/plain"
)

const (
	maxSubject = 200
	maxText    = 128 << 10 // characters
	maxHTML    = 512 << 10 // bytes: beyond, a mail is text alone
	maxKept    = 500       // messages of which it is kept who had them
	usual      = 30 * time.Second
)

// Sender sends mail. It is a notify.Sender.
type Sender struct {
	config  config.Mail
	server  string // host
	from    *mail.Address
	to      []*mail.Address
	host    string
	timeout time.Duration
	roots   *x509.CertPool // nil: the system's
	now     func() time.Time

	mu      sync.Mutex
	settled map[string]map[string]bool // of messages that are not done: who has them, or never will
}

// New makes a sender for one server; host is this one, as mails name it, and its sekisho the
// sender where the configuration names none.
func New(c config.Mail, host string) (*Sender, error) {
	s := &Sender{config: c, host: hostName(host), timeout: c.Timeout, now: time.Now, settled: map[string]map[string]bool{}}
	if s.timeout <= 0 {
		s.timeout = usual
	}
	server, port, err := net.SplitHostPort(c.SMTP)
	if err != nil || server == "" {
		return nil, fmt.Errorf("mail server %q: want host:port, such as smtp.example.com:587", c.SMTP)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("mail server %q: %q is no port", c.SMTP, port)
	}
	s.server = server
	if s.from, err = address(cmp.Or(c.From, "sekisho@"+s.host)); err != nil {
		return nil, fmt.Errorf("mail's sender: %w", err)
	}
	for _, to := range c.To {
		a, err := address(to)
		if err != nil {
			return nil, fmt.Errorf("mail's recipient: %w", err)
		}
		s.to = append(s.to, a)
	}
	if len(s.to) == 0 {
		return nil, errors.New("mail: there is no recipient")
	}
	return s, nil
}

// address reads an address. It can have a name, and no character that ends a line.
func address(text string) (*mail.Address, error) {
	a, err := mail.ParseAddress(text)
	if err != nil || strings.ContainsFunc(a.Address, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) {
		return nil, fmt.Errorf("%q is not a mail address", plain.Line(text, 200))
	}
	a.Name = plain.Line(a.Name, 100)
	return a, nil
}

// Send sends a message to all recipients who have not had it yet: when it is sent again after some
// were refused for the time being, only they get it (as long as this process lives; otherwise
// a message is twice the same one, by its Message-ID). A recipient who is refused for good does
// not keep the others from theirs; the error, final where no other kind is left, names them.
// Errors are *notify.Step.
func (s *Sender) Send(ctx context.Context, m notify.Message) error {
	to := s.open(m.ID)
	if len(to) == 0 {
		return nil
	}
	raw, err := s.build(m)
	if err != nil {
		return &notify.Step{Name: "data", Err: err, Final: true}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no answer within %s", s.timeout))
	defer cancel()
	done, err := s.deliver(ctx, to, raw)
	s.settle(m.ID, done)
	return err
}

// open are the recipients that a message is still for.
func (s *Sender) open(id string) []*mail.Address {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.to), func(a *mail.Address) bool { return s.settled[id][a.Address] })
}

// settle keeps who is done with a message, until all are.
func (s *Sender) settle(id string, done []*mail.Address) {
	if len(done) == 0 || id == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled[id] == nil {
		if len(s.settled) >= maxKept { // some are sent twice, then
			clear(s.settled)
		}
		s.settled[id] = map[string]bool{}
	}
	for _, a := range done {
		s.settled[id][a.Address] = true
	}
	if len(s.settled[id]) >= len(s.to) {
		delete(s.settled, id)
	}
}

// build is the message as it goes over the wire, but for line ends: ASCII alone, no line longer than 998
// bytes, and no header but those that stand here.
func (s *Sender) build(m notify.Message) ([]byte, error) {
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithCharset(gomail.CharsetUTF8))
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(s.to...)
	msg.SetDateWithValue(s.now())
	msg.SetMessageIDWithValue(messageID(m.ID, s.host))
	msg.SetGenHeader("Subject", header(plain.Line(m.Subject, maxSubject)))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's machine answers
	if m.Level == notify.Alarm {
		msg.SetGenHeader("Importance", "high") // RFC 4021
	}
	text := plain.Text(m.Text, maxText) + "\n"
	msg.SetBodyString(gomail.TypeTextPlain, text, gomail.WithPartEncoding(encoding(text)))
	if html := markup(m.HTML); html != "" && len(html) <= maxHTML {
		msg.AddAlternativeString(gomail.TypeTextHTML, html, gomail.WithPartEncoding(encoding(html)))
	}
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("write the message: %w", err)
	}
	return b.Bytes(), nil
}

// encoding is the more readable one of those that any server takes.
func encoding(text string) gomail.Encoding {
	strange := 0
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			strange++
		}
	}
	if strange > len(text)/6 {
		return gomail.EncodingB64
	}
	return gomail.EncodingQP
}

// markup is HTML without what no document may hold.
func markup(html string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(html, "\ufffd"))
}

// header is one line of text as a header's value: as it is where it is ASCII and cannot be
// taken for an encoded word, and in encoded words of UTF-8 otherwise (RFC 2047).
func header(line string) string {
	if !strings.Contains(line, "=?") && !strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
		return line
	}
	const room = 45 // bytes, of which base64 makes 60: an encoded word has at most 75
	var words []string
	for line != "" {
		n := min(room, len(line))
		for n < len(line) && n > 0 && !utf8.RuneStart(line[n]) {
			n--
		}
		words = append(words, "=?utf-8?B?"+base64.StdEncoding.EncodeToString([]byte(line[:n]))+"?=")
		line = line[n:]
	}
	return strings.Join(words, " ")
}

// messageID is the same whenever a message is sent.
func messageID(id, host string) string {
	id = strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, id)
	return plain.Cut(id, 100) + "@" + host
}

// hostName is a host's name where it is one, to be written after an @.
func hostName(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) > 253 {
		return "localhost"
	}
	for label := range strings.SplitSeq(name, ".") {
		odd := strings.ContainsFunc(label, func(r rune) bool {
			return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
		})
		if label == "" || len(label) > 63 || odd || label[0] == '-' || label[len(label)-1] == '-' {
			return "localhost"
		}
	}
	return name
}
