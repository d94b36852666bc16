package mail

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/notifytest"
)

const password = "correct horse"

func message() notify.Message {
	return notify.Message{
		ID: "01HZX", Subject: "[web-1] banned 203.0.113.7", Text: "Hello,\n\n.\n.hidden\nこんにちは\n",
		HTML: "<!doctype html><html><body><p>Hello</p></body></html>\n", Level: notify.Warning,
	}
}

// sender speaks to a server at address, by the last word of tls and as a user where there is one.
func sender(t *testing.T, address string, change func(*config.Mail)) *Sender {
	t.Helper()
	c := config.Mail{To: []string{"ops@example.com"}, From: "Sekisho <sekisho@example.com>", SMTP: address, TLS: config.TLSNone, Timeout: 10 * time.Second}
	if change != nil {
		change(&c)
	}
	s, err := New(c, "web-1.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSend(t *testing.T) {
	f := &fake{offers: []string{"8BITMIME", "SMTPUTF8", "PIPELINING"}}
	s := sender(t, f.start(t), func(c *config.Mail) { c.To = append(c.To, "second@example.com") })
	if err := s.Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	commands, mails := f.got()
	want := []string{"EHLO web-1.example.com", "MAIL FROM:<sekisho@example.com> BODY=8BITMIME", "RCPT TO:<ops@example.com>", "RCPT TO:<second@example.com>", "DATA", "QUIT"}
	if d := cmp.Diff(want, commands); d != "" {
		t.Error(d)
	}
	if len(mails) != 1 {
		t.Fatalf("%d mails", len(mails))
	}
	m := read(t, []byte(mails[0]))
	for name, want := range map[string]string{
		"From": `"Sekisho" <sekisho@example.com>`, "To": "<ops@example.com>, <second@example.com>", "Subject": "[web-1] banned 203.0.113.7",
		"Message-Id": "<01HZX@web-1.example.com>", "Auto-Submitted": "auto-generated", "Mime-Version": "1.0", "X-Mailer": "", "User-Agent": "", "Importance": "",
	} {
		if got := m.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if at, err := m.header.Date(); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("Date: %v, %v", at, err)
	}
	if want := strings.TrimRight(message().Text, "\n") + "\n"; m.text != want || m.html != message().HTML {
		t.Errorf("text %q, HTML %q", m.text, m.html)
	}
	if d := cmp.Diff([]string{"Auto-Submitted", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}, m.names); d != "" {
		t.Errorf("headers: %s", d)
	}
}

// TestSteps: each thing that can go wrong, at which step it says so, and what it advises.
func TestSteps(t *testing.T) {
	good, roots := certificate(t, time.Now().Add(time.Hour), "127.0.0.1")
	other, otherRoots := certificate(t, time.Now().Add(time.Hour), "mx.example.com")
	old, oldRoots := certificate(t, time.Now().Add(-time.Hour), "127.0.0.1")
	user := func(c *config.Mail) { c.User, c.Password = "aladdin", password }
	start := func(c *config.Mail) { c.TLS = config.TLSStart }
	starttls := []string{"STARTTLS", "AUTH PLAIN LOGIN"}
	says := func(command, answer string) *fake { return &fake{answers: map[string]string{command: answer}} }
	for _, tt := range []struct {
		name  string
		fake  *fake
		set   []func(*config.Mail)
		step  string
		err   string
		hint  string
		final bool
		waits bool
	}{
		{name: "turned away", fake: &fake{greeting: "554 5.7.1 no\x1b[31mthing\nfor you"}, step: "connect", err: "the server answers 554", hint: "address", final: true},
		{name: "turned away for now", fake: &fake{greeting: "421 4.3.2 later"}, step: "connect", err: "421: 4.3.2 later", hint: "tried again"},
		{name: "not SMTP", fake: &fake{greeting: "HTTP/1.0 400 Bad Request"}, step: "connect", err: "not SMTP: ", hint: "port right"},
		{name: "no greeting", fake: &fake{greeting: "-"}, step: "connect", err: "no answer within", hint: "greets nobody", waits: true},
		{name: "a greeting without end", fake: &fake{greeting: "endless"}, step: "connect", err: "more than 512 KiB", hint: "mail server"},
		{name: "a line without end", fake: &fake{greeting: "line"}, step: "connect", err: "more than 512 KiB"},
		{name: "drops at EHLO", fake: says("EHLO", ""), step: "connect", err: "hung up"},
		{name: "knows no EHLO", fake: &fake{answers: map[string]string{"EHLO": "502 what?", "HELO": "502 what?"}}, step: "connect", err: "502", final: true},
		{name: "no STARTTLS", set: []func(*config.Mail){start}, step: "TLS", err: "does not offer STARTTLS", hint: "tls: no"},
		{name: "STARTTLS does not work", fake: &fake{offers: starttls, cert: good, answers: map[string]string{"STARTTLS": "454 4.7.0 TLS not available"}}, set: []func(*config.Mail){start}, step: "TLS", err: "454", hint: "log"},
		{name: "drops at STARTTLS", fake: &fake{offers: starttls, answers: map[string]string{"STARTTLS": ""}}, set: []func(*config.Mail){start}, step: "TLS", err: "hung up"},
		{name: "not a handshake", fake: &fake{offers: starttls, answers: map[string]string{"STARTTLS": "220 go\n220 on with the talk"}}, set: []func(*config.Mail){start}, step: "TLS", err: "handshake", hint: "TLS from the first"},
		{name: "another's certificate", fake: &fake{offers: starttls, cert: other}, set: []func(*config.Mail){start}, step: "TLS", err: "127.0.0.1", hint: "mx.example.com"},
		{name: "nobody's certificate", fake: &fake{offers: starttls, cert: good}, set: []func(*config.Mail){start, func(c *config.Mail) { c.From = "untrusting@example.com" }}, step: "TLS", err: "unknown authority", hint: "authority"},
		{name: "an old certificate", fake: &fake{offers: starttls, cert: old}, set: []func(*config.Mail){start}, step: "TLS", err: "expired", hint: "renewed"},
		{name: "implicit TLS at a port of none", fake: &fake{}, set: []func(*config.Mail){func(c *config.Mail) { c.TLS = config.TLSImplicit }}, step: "TLS", err: "first record", hint: "starttls"},
		{name: "none at a port of implicit TLS", fake: &fake{implicit: true, cert: good}, step: "connect", err: "no answer within", hint: "tls: tls", waits: true},
		{name: "no login offered", set: []func(*config.Mail){user}, step: "log in", err: "offers no way", hint: "submission"},
		{name: "no login that is known", fake: &fake{offers: []string{"AUTH GSSAPI NTLM"}}, set: []func(*config.Mail){user}, step: "log in", err: "GSSAPI NTLM", hint: "SCRAM"},
		{name: "wrong password", fake: &fake{offers: []string{"AUTH PLAIN"}, answers: map[string]string{"AUTH": "535 5.7.8 no: AUTH PLAIN AGFsYWRkaW4AY29ycmVjdCBob3JzZQ== (" + password + ")"}}, set: []func(*config.Mail){user}, step: "log in", err: "535: 5.7.8 no: AUTH PLAIN <secret> (<secret>)", hint: "app password", final: true},
		{name: "wrong password, LOGIN", fake: &fake{offers: []string{"AUTH LOGIN"}, answers: map[string]string{"Y29ycmVjdCBob3JzZQ==": "535 no"}}, set: []func(*config.Mail){user}, step: "log in", err: "535: no", final: true},
		{name: "login not now", fake: &fake{offers: []string{"AUTH PLAIN"}, answers: map[string]string{"AUTH": "454 4.7.0 not now"}}, set: []func(*config.Mail){user}, step: "log in", err: "454", hint: "tried again"},
		{name: "login wanted", fake: says("MAIL", "530 5.7.0 Authentication required"), step: "sender", err: "530", hint: "set user and password", final: true},
		{name: "sender refused", fake: says("MAIL", "553 5.7.1 not yours"), step: "sender", err: "553", hint: "`from`", final: true},
		{name: "sender refused for now", fake: says("MAIL", "451 4.1.8 no such domain"), step: "sender", err: "451", hint: "DNS"},
		{name: "drops at MAIL", fake: says("MAIL", ""), step: "sender", err: "hung up"},
		{name: "relay denied", fake: says("RCPT", "550 5.7.1 relaying denied"), step: "recipient", err: "recipient: 1 of 1 refused: ops@example.com: the server answers 550", hint: "pass mail on", final: true},
		{name: "no such mailbox", fake: says("RCPT", "550 5.1.1 User unknown"), step: "recipient", err: "550: 5.1.1 User unknown", hint: "`to`", final: true},
		{name: "greylisted", fake: says("RCPT", "451 4.7.1 Greylisting in action"), step: "recipient", err: "451", hint: "greylisted"},
		{name: "mailbox full", fake: says("RCPT", "452 4.2.2 full"), step: "recipient", err: "452", hint: "no room"},
		{name: "drops at RCPT", fake: says("RCPT", ""), step: "recipient", err: "hung up"},
		{name: "says nothing at RCPT", fake: says("RCPT", "-"), step: "recipient", err: "no answer within", waits: true},
		{name: "DATA refused", fake: says("DATA", "554 no"), step: "data", err: "554", final: true},
		{name: "drops at DATA", fake: says("DATA", ""), step: "data", err: "hung up"},
		{name: "spam", fake: says(".", "554 5.7.1 looks like spam"), step: "data", err: "554: 5.7.1 looks like spam", hint: "SPF", final: true},
		{name: "not now", fake: says(".", "451 4.3.0 disk"), step: "data", err: "451", hint: "tried again"},
		{name: "too large", fake: says(".", "552 5.3.4 too big"), step: "data", err: "552", hint: "too large", final: true},
		{name: "drops at the end", fake: says(".", ""), step: "data", err: "hung up"},
		{name: "says nothing at the end", fake: says(".", "-"), step: "data", err: "no answer within", hint: "slow", waits: true},
		{name: "a huge line", fake: says("MAIL", "550 "+strings.Repeat("x", 300<<10)), step: "sender", err: "550: xxx", final: true},
		{name: "a line that is too long", fake: says("MAIL", "550 "+strings.Repeat("x", 900<<10)), step: "sender", err: "550: xxx", final: true},
		{name: "an odd answer", fake: says("MAIL", "fine"), step: "sender", err: "not SMTP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := tt.fake
			if f == nil {
				f = &fake{}
			}
			s := sender(t, f.start(t), func(c *config.Mail) {
				if tt.waits {
					c.Timeout = 200 * time.Millisecond
				}
				for _, set := range tt.set {
					set(c)
				}
			})
			switch f.cert {
			case good:
				s.roots = roots
			case other:
				s.roots = otherRoots
			case old:
				s.roots = oldRoots
			}
			if s.config.From == "untrusting@example.com" {
				s.roots = otherRoots
			}
			err := s.Send(t.Context(), message())
			step := stepOf(t, err)
			if step.Name != tt.step || !strings.Contains(err.Error(), tt.err) || !strings.Contains(step.Hint, tt.hint) || step.Final != tt.final {
				t.Errorf("%q, step %q, hint %q, final %v", err, step.Name, step.Hint, step.Final)
			}
			if _, mails := f.got(); len(mails) != 0 {
				t.Error("it was sent")
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	for _, tt := range []struct{ name, address, err, hint string }{
		{"refused", closed, closed + ": connect: connection refused", "is a mail server there"},
		{"no such host", "mail.invalid:25", "mail.invalid", "smtp right"},
		{"not this host", "192.0.2.1:25", "tls is no", "starttls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := sender(t, tt.address, func(c *config.Mail) { c.Timeout = 2 * time.Second }).Send(t.Context(), message())
			step := stepOf(t, err)
			if tt.name == "no such host" && step.Hint == "no name server answers: look at /etc/resolv.conf" {
				return // as it is where there is no network
			}
			if step.Name != "connect" || step.Final || !strings.Contains(err.Error(), tt.err) || !strings.Contains(step.Hint, tt.hint) {
				t.Errorf("%q, step %q, hint %q", err, step.Name, step.Hint)
			}
		})
	}
}

// TestLogin: which way is taken of those that are offered.
func TestLogin(t *testing.T) {
	cert, roots := certificate(t, time.Now().Add(time.Hour), "127.0.0.1")
	for _, tt := range []struct {
		name, offers, want string
		tls                config.TLS
	}{
		{"plain within this host", "AUTH LOGIN PLAIN", "AUTH PLAIN ", config.TLSNone},
		{"plain over TLS", "AUTH LOGIN PLAIN CRAM-MD5", "AUTH PLAIN ", config.TLSStart},
		{"implicit TLS", "AUTH PLAIN", "AUTH PLAIN ", config.TLSImplicit},
		{"only LOGIN", "AUTH LOGIN", "AUTH LOGIN", config.TLSStart},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{offers: []string{tt.offers, "STARTTLS"}, cert: cert, implicit: tt.tls == config.TLSImplicit}
			s := sender(t, f.start(t), func(c *config.Mail) { c.TLS, c.User, c.Password = tt.tls, "aladdin", password })
			s.roots = roots
			if err := s.Send(t.Context(), message()); err != nil {
				t.Fatal(err)
			}
			commands, mails := f.got()
			if !slices.ContainsFunc(commands, func(c string) bool { return strings.HasPrefix(c, tt.want) }) || len(mails) != 1 {
				t.Errorf("got %q", commands)
			}
			if at := slices.Index(commands, "STARTTLS"); (at >= 0) != (tt.tls == config.TLSStart) {
				t.Errorf("STARTTLS at %d of %q", at, commands)
			}
		})
	}
}

// TestNoPasswordInTheOpen: to a server elsewhere, without TLS, the password is not said. There
// is no such server that may be configured; the rule stands all the same.
func TestNoPasswordInTheOpen(t *testing.T) {
	f := &fake{offers: []string{"AUTH PLAIN LOGIN"}}
	s := sender(t, f.start(t), func(c *config.Mail) { c.User, c.Password = "aladdin", password })
	e, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	e.local = false
	if err := e.logIn(); !errors.Is(err, errNoWay) && (err == nil || !strings.Contains(err.Error(), errNoWay.Error())) {
		t.Error(err)
	}
	if commands, _ := f.got(); len(commands) != 1 {
		t.Errorf("it said %q", commands)
	}
}

// TestRecipients: one who is refused does not keep the others from theirs, and nobody gets a
// message twice that is sent again.
func TestRecipients(t *testing.T) {
	f := &fake{answers: map[string]string{
		"RCPT TO:<gone@example.com>": "550 5.1.1 User unknown",
		"RCPT TO:<grey@example.com>": "451 4.7.1 Greylisted",
	}}
	s := sender(t, f.start(t), func(c *config.Mail) {
		c.To = []string{"a@example.com", "gone@example.com", "grey@example.com", "b@example.com"}
	})
	err := s.Send(t.Context(), message())
	step := stepOf(t, err)
	if step.Final || !strings.Contains(err.Error(), "2 of 4 refused: gone@example.com, grey@example.com: the server answers 451: 4.7.1") || !strings.Contains(step.Hint, "greylisted") {
		t.Errorf("%v, %+v", err, step)
	}
	f.mu.Lock()
	delete(f.answers, "RCPT TO:<grey@example.com>")
	f.commands = nil
	f.mu.Unlock()
	if err := s.Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	commands, mails := f.got()
	rcpt := slices.DeleteFunc(slices.Clone(commands), func(c string) bool { return !strings.HasPrefix(c, "RCPT") })
	if d := cmp.Diff([]string{"RCPT TO:<grey@example.com>"}, rcpt); d != "" || len(mails) != 2 {
		t.Errorf("%d mails; %s", len(mails), d)
	}
	first, second := read(t, []byte(mails[0])), read(t, []byte(mails[1]))
	if a, b := first.header.Get("Message-Id"), second.header.Get("Message-Id"); a != b || a == "" {
		t.Errorf("%q and %q", a, b)
	}
	if len(s.settled) != 0 {
		t.Errorf("it keeps %v", s.settled)
	}
}

func TestOnlyRefusedForGood(t *testing.T) {
	f := &fake{answers: map[string]string{"RCPT TO:<gone@example.com>": "550 5.1.1 User unknown"}}
	s := sender(t, f.start(t), func(c *config.Mail) { c.To = append(c.To, "gone@example.com") })
	err := s.Send(t.Context(), message())
	if step := stepOf(t, err); !step.Final || !step.Partly || !strings.Contains(err.Error(), "1 of 2 refused: gone@example.com") {
		t.Errorf("%v", err)
	}
	if _, mails := f.got(); len(mails) != 1 {
		t.Errorf("%d mails", len(mails))
	}
}

func TestManyMessagesAreKept(t *testing.T) {
	s := sender(t, "127.0.0.1:25", func(c *config.Mail) { c.To = append(c.To, "b@example.com") })
	for i := range 10 * maxKept {
		s.settle(fmt.Sprint(i), s.to[:1])
	}
	if len(s.settled) > maxKept {
		t.Errorf("it keeps %d", len(s.settled))
	}
}

func TestCancel(t *testing.T) {
	f := &fake{greeting: "-"}
	ctx, cancel := context.WithCancel(t.Context())
	s := sender(t, f.start(t), nil)
	cancel()
	if err := s.Send(ctx, message()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*config.Mail)
		err    string
	}{
		{"no port", func(c *config.Mail) { c.SMTP = "localhost" }, "host:port"},
		{"port by name", func(c *config.Mail) { c.SMTP = "localhost:smtp" }, "no port"},
		{"no sender of that form", func(c *config.Mail) { c.From = "sekisho" }, "sender"},
		{"no recipient", func(c *config.Mail) { c.To = nil }, "no recipient"},
		{"a line end", func(c *config.Mail) { c.To = []string{"a@example.com>\r\nDATA"} }, "recipient"},
		{"a line end, quoted", func(c *config.Mail) { c.To = []string{"\"a\r\nb\"@example.com"} }, "recipient"},
		{"a zero byte", func(c *config.Mail) { c.From = "a\x00@example.com" }, "sender"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Mail{To: []string{"ops@example.com"}, From: "sekisho@example.com", SMTP: "localhost:25"}
			tt.change(&c)
			if _, err := New(c, "web-1"); err == nil || !strings.Contains(err.Error(), tt.err) || strings.ContainsAny(err.Error(), "\r\n\x00") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct{ name, host, hello, id string }{
		{"a full name", "web-1.example.com", "web-1.example.com", "<x@web-1.example.com>"},
		{"a short one", "web-1", "[127.0.0.1]", "<x@web-1>"},
		{"a hostile one", "a>\r\nBcc: b", "[127.0.0.1]", "<x@localhost>"},
		{"none", "", "[127.0.0.1]", "<x@localhost>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{}
			s, err := New(config.Mail{To: []string{"ops@example.com"}, From: "sekisho@example.com", SMTP: f.start(t), TLS: config.TLSNone}, tt.host)
			if err != nil {
				t.Fatal(err)
			}
			m := message()
			m.ID = "x"
			if err := s.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			commands, mails := f.got()
			if got := read(t, []byte(mails[0])).header.Get("Message-Id"); commands[0] != "EHLO "+tt.hello || got != tt.id {
				t.Errorf("%q, %s", commands[0], got)
			}
		})
	}
}

// TestInjection sends each, and looks what came.
func TestInjection(t *testing.T) {
	f := &fake{}
	s := sender(t, f.start(t), nil)
	for i, h := range notifytest.Hostile() {
		m := notify.Message{ID: h, Subject: h, Text: h, HTML: "<p>" + strings.ToValidUTF8(h, "?") + "</p>", Level: notify.Alarm}
		if err := s.Send(t.Context(), m); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	commands, mails := f.got()
	for _, c := range commands {
		if !slices.Contains([]string{"EHLO web-1.example.com", "MAIL FROM:<sekisho@example.com>", "RCPT TO:<ops@example.com>", "DATA", "QUIT"}, c) {
			t.Errorf("said %q", c)
		}
	}
	for i, raw := range mails {
		check(t, []byte(raw), notifytest.Hostile()[i])
	}
}

func FuzzBuild(f *testing.F) {
	for _, h := range notifytest.Hostile() {
		if len(h) < 1000 {
			f.Add(h, h, h)
		}
	}
	s, err := New(config.Mail{To: []string{"ops@example.com"}, From: "sekisho@example.com", SMTP: "localhost:25"}, "web-1.example.com")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, subject, text string) {
		raw, err := s.build(notify.Message{ID: id, Subject: subject, Text: text, HTML: text})
		if err != nil {
			t.Fatal(err)
		}
		check(t, raw, subject)
	})
}

// check holds a mail to what every mail must be.
func check(t *testing.T, raw []byte, subject string) {
	t.Helper()
	for line := range bytes.Lines(raw) {
		if len(line) > 1000 || bytes.ContainsFunc(bytes.TrimRight(line, "\r\n"), func(r rune) bool { return r >= 0x7f || r < ' ' && r != '\t' }) {
			t.Errorf("%.60q: line %.100q of %d bytes", subject, line, len(line))
		}
	}
	m := read(t, raw)
	for _, name := range m.names {
		if !slices.Contains([]string{"Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "Importance", "Message-Id", "Mime-Version", "Subject", "To"}, name) {
			t.Errorf("%.60q: header %q", subject, name)
		}
	}
	if m.header.Get("To") != "<ops@example.com>" {
		t.Errorf("to %q", m.header.Get("To"))
	}
	got, err := (&mime.WordDecoder{}).DecodeHeader(m.header.Get("Subject"))
	if err != nil || utf8.RuneCountInString(got) > maxSubject || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%.60q: subject %q, %v", subject, got, err)
	}
	if strings.ContainsFunc(m.text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("%.60q: text %.200q", subject, m.text)
	}
}

// received is a mail, as its reader's program sees it.
type received struct {
	header     mail.Header
	names      []string
	text, html string
}

func read(t *testing.T, raw []byte) received {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v: %.300q", err, raw)
	}
	res := received{header: m.Header}
	for name, values := range m.Header {
		res.names = append(res.names, name)
		if len(values) != 1 {
			t.Errorf("%d of %s", len(values), name)
		}
	}
	slices.Sort(res.names)
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	if kind == "text/plain" {
		res.text = decode(t, m.Header.Get("Content-Transfer-Encoding"), m.Body)
		return res
	}
	if kind != "multipart/alternative" {
		t.Fatalf("it is %s", kind)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, want := range []string{"text/plain", "text/html"} {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		kind, params, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil || kind != want || !strings.EqualFold(params["charset"], "utf-8") {
			t.Fatalf("part %s %v, want %s", kind, params, want)
		}
		text := decode(t, p.Header.Get("Content-Transfer-Encoding"), p)
		if want == "text/plain" {
			res.text = text
		} else {
			res.html = text
		}
	}
	if _, err := parts.NextRawPart(); !errors.Is(err, io.EOF) {
		t.Errorf("more parts: %v", err)
	}
	return res
}

func decode(t *testing.T, encoding string, r io.Reader) string {
	t.Helper()
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	default:
		t.Fatalf("encoding %q", encoding)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

// stepOf finds the step, and holds every error to the password.
func stepOf(t *testing.T, err error) *notify.Step {
	t.Helper()
	var step *notify.Step
	if !errors.As(err, &step) {
		t.Fatalf("%v is not of a step", err)
	}
	all := err.Error() + step.Hint + step.Said
	if strings.Contains(all, password) || strings.Contains(all, "AGFsYWRkaW4") || strings.ContainsFunc(all, func(r rune) bool { return !unicode.IsPrint(r) }) || len(step.Said) > 2000 {
		t.Errorf("not fit to be shown: %q, %q", err, step.Hint)
	}
	return step
}
