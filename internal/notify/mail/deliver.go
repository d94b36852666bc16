package mail

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/mail"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/wneessen/go-mail/smtp"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/plain"
)

// maxHeard is how much of a server is listened to, in bytes, within one connection.
const maxHeard = 512 << 10

// deliver makes one connection and sends one message. done are the recipients with whom it is settled: who
// have it, or never will.
func (s *Sender) deliver(ctx context.Context, to []*mail.Address, raw []byte) (done []*mail.Address, err error) {
	e, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer e.close()
	if err := e.logIn(); err != nil {
		return nil, err
	}
	e.client.SkipSMTPUTF8(!international(append(to, s.from)))
	if err := e.client.Mail(path(s.from)); err != nil {
		return nil, e.failed("sender", err)
	}

	var accepted, refused []*mail.Address
	var worst *notify.Step // of the refusals: one that may be mended by waiting, where there is one
	for _, a := range to {
		err := e.client.Rcpt(path(a))
		if err == nil {
			accepted = append(accepted, a)
			continue
		}
		step := e.failed("recipient", err)
		if answer(err) == nil { // the connection is of no use any more
			return nil, step
		}
		refused = append(refused, a)
		if step.Final {
			done = append(done, a)
		}
		if worst == nil || worst.Final && !step.Final {
			worst = step
		}
	}
	if len(accepted) > 0 {
		if err := e.data(raw); err != nil {
			return done, err
		}
		done = append(done, accepted...)
	}
	if worst == nil {
		return done, nil
	}
	worst.Partly = len(accepted) > 0
	worst.Err = fmt.Errorf("%s of %s refused: %s: %w", count(len(refused)), count(len(to)), names(refused), worst.Err)
	return done, worst
}

func (e *exchange) data(raw []byte) error {
	w, err := e.client.Data()
	if err != nil {
		return e.failed("data", err)
	}
	if _, err = w.Write(raw); err != nil {
		return e.failed("data", err)
	}
	if err := w.Close(); err != nil {
		return e.failed("data", err)
	}
	return nil
}

// exchange is one connection to the server.
type exchange struct {
	*Sender
	ctx       context.Context
	client    *smtp.Client
	conn      *heard
	local     bool // the server is on this host
	encrypted bool
	stop      func() bool
}

// connect comes as far as the greeting after the last change to TLS.
func (s *Sender) connect(ctx context.Context) (*exchange, error) {
	e := &exchange{Sender: s, ctx: ctx}
	dialer := &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err == nil && s.config.TLS == config.TLSNone && !at.Addr().Unmap().IsLoopback() {
			return errNotHere
		}
		return err
	}}
	conn, err := dialer.DialContext(ctx, "tcp", s.config.SMTP)
	if err != nil {
		return nil, e.failed("connect", err)
	}
	if at, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		e.local = at.AddrPort().Addr().Unmap().IsLoopback()
	}
	e.conn = &heard{Conn: conn, left: maxHeard}
	e.stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })

	var speak net.Conn = e.conn
	if s.config.TLS == config.TLSImplicit {
		encrypted := tls.Client(e.conn, s.tls())
		if err := encrypted.HandshakeContext(ctx); err != nil {
			e.close()
			return nil, e.failed("TLS", err)
		}
		speak, e.encrypted = encrypted, true
	}
	if e.client, err = smtp.NewClient(speak, s.server); err != nil {
		e.close()
		return nil, e.failed("connect", err)
	}
	if err := e.client.Hello(s.hello(conn)); err != nil {
		e.close()
		return nil, e.failed("connect", err)
	}
	if s.config.TLS == config.TLSImplicit || s.config.TLS == config.TLSNone {
		return e, nil
	}
	if there, _ := e.client.Extension("STARTTLS"); !there {
		e.close()
		return nil, e.failed("TLS", errNoTLS)
	}
	if err := e.client.StartTLS(s.tls()); err != nil {
		e.close()
		return nil, e.failed("TLS", err)
	}
	e.encrypted = true
	return e, nil
}

func (s *Sender) tls() *tls.Config {
	return &tls.Config{ServerName: s.server, MinVersion: tls.VersionTLS12, RootCAs: s.roots}
}

// hello is how we name ourselves: by a name that may be in DNS, and by our address otherwise (RFC
// 5321, section 4.1.4).
func (s *Sender) hello(conn net.Conn) string {
	if strings.Contains(s.host, ".") {
		return s.host
	}
	at, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return "localhost"
	}
	a := at.AddrPort().Addr().Unmap().WithZone("")
	if a.Is4() {
		return "[" + a.String() + "]"
	}
	return "[IPv6:" + a.String() + "]"
}

// logIn does so, where there is a user, in the best way that the server offers. The password itself
// is sent over TLS only, or within this host.
func (e *exchange) logIn() error {
	user, password := e.config.User, e.config.Password.Reveal()
	if user == "" {
		return nil
	}
	_, offered := e.client.Extension("AUTH")
	open := e.encrypted || e.local
	for _, way := range []struct {
		name string
		may  bool
		auth smtp.Auth
	}{
		{"SCRAM-SHA-256", true, smtp.ScramSHA256Auth(user, password)},
		{"SCRAM-SHA-1", true, smtp.ScramSHA1Auth(user, password)},
		{"PLAIN", open, smtp.PlainAuth("", user, password, e.server, open)},
		{"LOGIN", open, smtp.LoginAuth(user, password, e.server, open)},
		{"CRAM-MD5", true, smtp.CRAMMD5Auth(user, password)},
	} {
		if !way.may || !has(offered, way.name) {
			continue
		}
		if err := e.client.Auth(way.auth); err != nil {
			return e.failed("log in", err)
		}
		return nil
	}
	if offered == "" {
		return e.failed("log in", errNoLogin)
	}
	return e.failed("log in", fmt.Errorf("%w: %s", errNoWay, plain.Line(offered, 100)))
}

func has(words, word string) bool {
	for w := range strings.FieldsSeq(words) {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}

// close says goodbye, and does not wait long for what comes back.
func (e *exchange) close() {
	e.stop()
	if e.client != nil && e.ctx.Err() == nil {
		_ = e.conn.SetDeadline(time.Now().Add(time.Second))
		_ = e.client.Quit()
	}
	_ = e.conn.Close()
}

var (
	errNotHere = errors.New("the server is not on this host, and tls is no")
	errNoTLS   = errors.New("the server does not offer STARTTLS")
	errNoLogin = errors.New("the server offers no way to log in")
	errNoWay   = errors.New("the server offers no way to log in that is known here")
	errTooMuch = fmt.Errorf("the server says more than %d KiB", maxHeard>>10)
	errHungUp  = errors.New("the server hung up")
)

// failed makes an error of a step.
func (e *exchange) failed(name string, err error) *notify.Step {
	step := &notify.Step{Name: name, Err: err}
	said := answer(err)
	switch {
	case e.ctx.Err() != nil:
		step.Err = context.Cause(e.ctx)
	case said != nil:
		step.Err = fmt.Errorf("the server answers %d", said.Code)
		step.Said = plain.Said(said.Msg, e.secrets()...)
		step.Final = said.Code/100 == 5
	case errors.Is(err, errTooMuch):
		step.Err = errTooMuch
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		step.Err = errHungUp
	default:
		var odd textproto.ProtocolError
		var certificate *tls.CertificateVerificationError
		var op *net.OpError
		switch {
		case errors.As(err, &odd):
			step.Err = errors.New("what the server says is not SMTP")
			step.Said = plain.Said(string(odd), e.secrets()...)
		case errors.As(err, &certificate):
			step.Err = certificate.Err
		case name == "connect" && errors.As(err, &op) && op.Op == "dial":
			step.Err = fmt.Errorf("%s: %w", e.config.SMTP, op.Err)
		}
	}
	if fit := plain.Said(step.Err.Error(), e.secrets()...); fit != step.Err.Error() {
		step.Err = errors.New(fit)
	}
	step.Hint = e.hint(step, err, said)
	return step
}

// answer is what a server answered, within an error; nil: it did not.
func answer(err error) *textproto.Error {
	said, _ := errors.AsType[*textproto.Error](err)
	return said
}

// secrets are the password, and the forms in which servers repeat it.
func (e *exchange) secrets() []string {
	user, password := e.config.User, e.config.Password.Reveal()
	if password == "" {
		return nil
	}
	encode := base64.StdEncoding.EncodeToString
	return []string{encode([]byte("\x00" + user + "\x00" + password)), encode([]byte(password)), password}
}

// heard is a connection of which only so much is read.
type heard struct {
	net.Conn
	left int
}

func (h *heard) Read(p []byte) (int, error) {
	if h.left <= 0 {
		return 0, errTooMuch
	}
	n, err := h.Conn.Read(p[:min(len(p), h.left)])
	h.left -= n
	return n, err
}

// path is an address as commands have it, in angle brackets.
func path(a *mail.Address) string { return (&mail.Address{Address: a.Address}).String() }

// international reports whether an address needs SMTPUTF8.
func international(all []*mail.Address) bool {
	for _, a := range all {
		if strings.ContainsFunc(a.Address, func(r rune) bool { return r >= utf8.RuneSelf }) {
			return true
		}
	}
	return false
}

func names(all []*mail.Address) string {
	var b strings.Builder
	for i, a := range all {
		switch {
		case i == 5:
			b.WriteString(" and others")
			return b.String()
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(plain.Line(a.Address, 100))
	}
	return b.String()
}

func count(n int) string { return strconv.Itoa(n) }
