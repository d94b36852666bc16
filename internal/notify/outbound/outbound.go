// Package outbound is the HTTP client of all webhooks. It posts, over TLS, to public addresses
// and to those private ones that it is told of, and to nothing else: what is looked at is the
// address that a connection is about to be made to, whatever name led there. It follows no
// redirect and uses no proxy of the environment: a proxy would look names up and connect for
// us, where nothing of this holds. Answers are bounded in size and time.
//
// No error of it has a URL, for that of a chat is a secret. A mechanism: only the channels of
// package notify import it.
package outbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"sekisho/internal/notify"
	"sekisho/internal/notify/plain"
)

const (
	timeout   = 10 * time.Second // of one request, looking up and answer included
	maxAnswer = 64 << 10         // of an answer's head, and of its body
	maxLater  = 24 * time.Hour   // that a server may have us wait
)

// Options are where a Client may go. The zero value: to public addresses, with the system's
// resolver and certificates.
type Options struct {
	Private  []netip.Prefix // also here; where that is loopback, there by http, too
	Resolver *net.Resolver
	Roots    *x509.CertPool
}

// Client posts. It is safe for concurrent use, and keeps no connection between requests.
type Client struct {
	private  []netip.Prefix
	resolver *net.Resolver
	roots    *x509.CertPool
	timeout  time.Duration
	now      func() time.Time
}

// New makes a client.
func New(o Options) *Client {
	return &Client{private: o.Private, resolver: o.Resolver, roots: o.Roots, timeout: timeout, now: time.Now}
}

// Request is what is posted.
type Request struct {
	URL     string
	Header  http.Header
	Body    []byte
	Secrets []string // beside the URL: what no error may hold, whatever a server says
}

// Refusal is an answer other than 2xx; Post's errors have it within.
type Refusal struct {
	Status int
	Body   []byte // at most 64 KiB; with the secrets that the server repeats
	// After is how long the server asks us to wait, by Retry-After with 429 and 503; 0: it does
	// not say. At most a day.
	After time.Duration
}

func (r *Refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the server answers %d %s", r.Status, http.StatusText(r.Status)))
}

// Parse reads a URL that may be posted to: https, or http to this host where private has it. Its
// errors do not repeat it.
func Parse(raw string, private []netip.Prefix) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("it is not a URL")
	case u.Hostname() == "":
		return nil, errors.New("the URL names no host")
	case u.User != nil:
		return nil, errors.New("the URL has a user or a password in it")
	case u.Scheme == "https":
		return u, nil
	case u.Scheme != "http":
		return nil, errors.New("the URL is not https")
	}
	a, err := netip.ParseAddr(u.Hostname())
	if (err != nil || !a.Unmap().IsLoopback()) && u.Hostname() != "localhost" || !hasLoopback(private) {
		return nil, errors.New("the URL is http, which is for this host only, and where that is among the private networks")
	}
	return u, nil
}

func hasLoopback(private []netip.Prefix) bool {
	return slices.ContainsFunc(private, func(p netip.Prefix) bool {
		return p.Overlaps(netip.MustParsePrefix("127.0.0.0/8")) || p.Contains(netip.IPv6Loopback())
	})
}

// Parse is the function of that name, with the client's private networks.
func (c *Client) Parse(raw string) (*url.URL, error) { return Parse(raw, c.private) }

// Post sends a request, once; nil is an answer of 2xx. Any other error is a *notify.Step: of
// "connect", "TLS" or "answer", final where trying again does not help; within it a *Refusal
// where the server answered.
func (c *Client) Post(ctx context.Context, r Request) error {
	secrets := append([]string{r.URL}, r.Secrets...)
	u, err := c.Parse(r.URL)
	if err != nil {
		return &notify.Step{Name: "connect", Err: err, Final: true, Hint: "write it as https://host/path"}
	}
	secrets = append(secrets, parts(u)...)

	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within %s", c.timeout))
	defer cancel()
	var reached progress
	req, err := http.NewRequestWithContext(reached.trace(ctx), http.MethodPost, u.String(), bytes.NewReader(r.Body))
	if err != nil {
		return &notify.Step{Name: "connect", Err: errors.New("make the request"), Final: true}
	}
	maps.Copy(req.Header, r.Header)
	req.Header.Set("User-Agent", "sekisho")

	answer, err := c.client(u.Scheme == "http").Do(req)
	if err != nil {
		return failure(ctx, u.Hostname(), reached.step(), err, secrets)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 == 2 {
		return nil // what else it says does not matter, however long it takes
	}
	body, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)) // what came of it will do
	refusal := &Refusal{Status: answer.StatusCode, Body: body}
	if s := answer.StatusCode; s == http.StatusTooManyRequests || s == http.StatusServiceUnavailable {
		refusal.After = later(answer.Header.Get("Retry-After"), c.now())
	}
	step := &notify.Step{Name: "answer", Said: plain.Said(string(body), secrets...), Err: refusal}
	step.Hint, step.Final = judge(answer, secrets)
	step.After = refusal.After
	return step
}

// client makes the client of one request.
func (c *Client) client(local bool) *http.Client {
	dialer := &net.Dialer{
		Timeout:  c.timeout,
		Resolver: c.resolver,
		Control: func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return &forbidden{errors.New("what is connected to has no address")}
			}
			if local && !at.Addr().Unmap().IsLoopback() {
				return &forbidden{fmt.Errorf("%s is not this host, and the URL is http", at.Addr())}
			}
			if err := Check(at.Addr(), c.private); err != nil {
				return &forbidden{err}
			}
			return nil
		},
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.roots},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxAnswer,
		},
	}
}

// progress is how far an exchange has come.
type progress struct{ encrypting, connected atomic.Bool }

func (p *progress) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeStart: func() { p.encrypting.Store(true) },
		GotConn:           func(httptrace.GotConnInfo) { p.connected.Store(true) },
	})
}

// step is the name of the one that was under way.
func (p *progress) step() string {
	switch {
	case p.connected.Load():
		return "answer"
	case p.encrypting.Load():
		return "TLS"
	}
	return "connect"
}

// parts are the pieces of a URL that are no less a secret than the whole: its path and query,
// and what in them is long enough to be one.
func parts(u *url.URL) []string {
	all := []string{u.RequestURI(), strings.TrimPrefix(u.EscapedPath(), "/"), strings.TrimPrefix(u.Path, "/")}
	for _, piece := range strings.FieldsFunc(u.Path+"/"+u.RawQuery, func(r rune) bool { return strings.ContainsRune("/&=", r) }) {
		if len(piece) >= 12 {
			all = append(all, piece)
		}
	}
	return all
}

// forbidden is an address that is not connected to.
type forbidden struct{ err error }

func (f *forbidden) Error() string { return f.err.Error() }

// failure is an exchange that came to no answer. What was wrong with it is told without its URL.
func failure(ctx context.Context, host, reached string, err error, secrets []string) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	step := &notify.Step{Name: reached}
	var (
		no    *forbidden
		dns   *net.DNSError
		cert  *tls.CertificateVerificationError
		noTLS tls.RecordHeaderError
		alert tls.AlertError
		op    *net.OpError
	)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
		step.Hint = "is " + host + " up, and does a firewall let this host out to it?"
	case errors.As(err, &no):
		err = no
		step.Final = true
		step.Hint = host + " leads to an address that webhooks may not be sent to; if it is right, name its network in notify.private"
	case errors.As(err, &dns):
		err = errors.New("there is no address of " + host)
		step.Hint = "is the name right?"
		if !dns.IsNotFound {
			err = errors.New("look up " + host + ": no answer from the name server")
			step.Hint = "look at /etc/resolv.conf"
		}
	case errors.As(err, &cert):
		err = cert.Err
		step.Hint = "the certificate of " + host + " must be for that name, and of an authority that this host trusts"
	case errors.As(err, &noTLS), errors.Is(err, http.ErrSchemeMismatch):
		err = errors.New("the server does not speak TLS")
		step.Hint = "is the port right?"
	case errors.As(err, &alert):
		step.Hint = "the server must speak TLS 1.2 or newer"
	case errors.Is(err, syscall.ECONNREFUSED):
		err = errors.New("connection refused")
		step.Hint = "nothing listens at " + host + " there; is the port right?"
	case errors.As(err, &op) && op.Op == "dial":
		err = op.Err
		step.Hint = "does a firewall let this host out to " + host + "?"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		err = errors.New("the server hung up")
	}
	step.Err = hidden(err, secrets)
	return step
}

// hidden is err, unless its text has to be changed to be shown.
func hidden(err error, secrets []string) error {
	if fit := said(err.Error(), secrets); fit != err.Error() {
		return errors.New(fit)
	}
	return err
}

func said(words string, secrets []string) string { return plain.Said(words, secrets...) }

// judge is what to do about an answer other than 2xx, and whether trying again is no use: of 4xx
// all but 408, 425 and 429, and redirects.
func judge(answer *http.Response, secrets []string) (hint string, final bool) {
	s := answer.StatusCode
	switch {
	case s/100 == 3:
		hint = "redirects are not followed: write the URL that it leads to"
		if to, err := answer.Location(); err == nil && to.Host != "" {
			hint += ", which is at " + said(to.Host, secrets)
		}
		return hint, true
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return "is the token, or the secret in the URL, still right?", true
	case s == http.StatusNotFound, s == http.StatusGone:
		return "is the URL still right?", true
	case s == http.StatusTooManyRequests:
		return "the server wants fewer messages: lower per_hour, or gather them in a digest", false
	case s == http.StatusRequestTimeout, s == http.StatusTooEarly:
		return "", false
	}
	return "", s/100 == 4
}

// later reads Retry-After (RFC 9110, section 10.2.3): seconds, or a date.
func later(value string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxLater)
}
