// Package client speaks to a gate: it signs each request with a person's SSH key, holds the
// gate to its TLS name, bounds what it answers, and makes its errors fit for a terminal. A
// mechanism; commands and flows may import it.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sekisho/internal/gate/api"
	"sekisho/internal/sshsig"
)

// Bounds of what a gate answers, and of how long it may take to.
const (
	maxAnswer  = 32 << 20 // bytes: everybody's grants, with their reasons
	maxError   = 64 << 10
	maxLine    = 64 << 10 // of what is exported
	maxHeader  = 64 << 10
	maxCA      = 1 << 20
	maxKeys    = 16 // that are tried: a gate counts those that it does not know
	answerTime = 50 * time.Second
	dialTime   = 15 * time.Second
)

// Options say which gate, and who speaks to it.
type Options struct {
	URL string // an origin, as the gate itself has it in its configuration
	CA  string // a file of certificates in PEM that take the place of the system's; "": none
	// Keys are what may sign, the likeliest first. It is called when something has to be
	// signed for the first time.
	Keys func(context.Context) ([]Key, error)
	// Namespace is that of the signatures; "": api.Namespace.
	Namespace string
	// Last is a file that keeps which key the gate knew last, which is tried first then; "":
	// none. What cannot be read or written of it is forgotten.
	Last string
	Now  func() time.Time // nil: time.Now
}

// Key signs in the form of `ssh-keygen -Y sign`. *sshkey.Key does.
type Key interface {
	Sign(ctx context.Context, namespace string, message []byte) (armored []byte, err error)
	Fingerprint() string
}

// Client speaks to one gate. It is safe for concurrent use.
type Client struct {
	o     Options
	base  *url.URL
	roots *x509.CertPool // nil: the system's
	http  *http.Client
	ahead atomic.Int64 // nanoseconds, of the gate's clock

	finding sync.Mutex // held while it is found out which key the gate knows
	key     atomic.Pointer[Key]
}

// New makes a client. Nothing is sent.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.URL)
	if err != nil || base.Host == "" || base.User != nil || strings.Trim(base.Path, "/") != "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("%q is not a gate's address", o.URL)
	}
	switch base.Scheme {
	case "https":
	case "http":
		if !isLoopback(base.Hostname()) {
			return nil, fmt.Errorf("%q has no TLS, and leads to another machine", o.URL)
		}
	default:
		return nil, fmt.Errorf("%q is not a gate's address", o.URL)
	}
	base.Path = ""
	c := &Client{o: o, base: base}
	if c.o.Namespace == "" {
		c.o.Namespace = api.Namespace
	}
	if c.o.Now == nil {
		c.o.Now = time.Now
	}
	if o.CA != "" {
		if c.roots, err = readCA(o.CA); err != nil {
			return nil, err
		}
	}
	c.http = &http.Client{CheckRedirect: noRedirect, Transport: c.transport(http.ProxyFromEnvironment, (&net.Dialer{Timeout: dialTime}).DialContext)}
	return c, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func readCA(path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the gate's certificates: %w", err)
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxCA))
	if err != nil {
		return nil, fmt.Errorf("read the gate's certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the gate's certificates: %s holds none in PEM", path)
	}
	return pool, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (c *Client) transport(proxy func(*http.Request) (*url.URL, error), dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTime,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		ResponseHeaderTimeout:  answerTime,
		IdleConnTimeout:        90 * time.Second,
	}
}

// URL is the gate's.
func (c *Client) URL() string { return c.base.String() }

// Host is how people call it.
func (c *Client) Host() string { return c.base.Host }

// Here is a time of the gate's clock by this machine's, as far as that is known.
func (c *Client) Here(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-time.Duration(c.ahead.Load()))
}

// request is one on its way.
type request struct {
	method, path string // path: of the API, without its version, as it is sent
	body         []byte
	again        bool // to ask twice is to ask once
}

// call sends in, unless nil, and reads out, unless nil.
func (c *Client) call(ctx context.Context, q request, in, out any) error {
	if in != nil {
		var err error
		if q.body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	res, err := c.signed(ctx, q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	defer c.late(cancel).Stop()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return c.silent(ctx, err)
	}
	if len(raw) > maxAnswer {
		return &SilentError{c.Host(), true, fmt.Errorf("it answers with more than %d bytes", maxAnswer)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return &SilentError{c.Host(), true, fmt.Errorf("its answer cannot be read: %w", err)}
	}
	return nil
}

// signed sends q, signed by the key that the gate knows: that is found out with the first
// one. The caller closes the body.
func (c *Client) signed(ctx context.Context, q request) (*http.Response, error) {
	if key := c.key.Load(); key != nil {
		res, err := c.by(ctx, *key, q)
		if !isUnknown(err) {
			return res, err
		}
		c.key.CompareAndSwap(key, nil) // it was taken away: another may be there
	}
	c.finding.Lock()
	defer c.finding.Unlock()
	if key := c.key.Load(); key != nil { // another request has found it
		return c.by(ctx, *key, q)
	}
	keys, err := c.candidates(ctx)
	if err != nil {
		return nil, err
	}
	var unknown []string
	var failed []error
	for _, key := range keys {
		res, err := c.by(ctx, key, q)
		if sign, is := errors.AsType[*signError](err); is {
			if ctx.Err() != nil {
				return nil, err
			}
			failed = append(failed, sign)
			continue
		}
		if isUnknown(err) {
			unknown = append(unknown, key.Fingerprint())
			continue
		}
		if err == nil || known(err) {
			c.key.Store(&key)
			c.remember(key)
		}
		return res, err
	}
	if len(unknown) == 0 {
		return nil, errors.Join(failed...)
	}
	return nil, noneKnown(unknown, failed, len(keys))
}

// known reports whether an error says that the gate knows who asks.
func known(err error) bool {
	e, is := errors.AsType[*api.Error](err)
	return is && e.Code.Status() != http.StatusUnauthorized && e.Code != api.TooMany && e.Code != api.Busy
}

func isUnknown(err error) bool {
	e, is := errors.AsType[*api.Error](err)
	return is && e.Code == api.Unknown
}

// by sends q signed by key.
func (c *Client) by(ctx context.Context, key Key, q request) (*http.Response, error) {
	for try := 0; ; try++ {
		h, err := c.signature(ctx, key, q)
		if err != nil {
			return nil, err
		}
		res, err := c.send(ctx, c.http, q, h)
		if err != nil && try == 0 && q.again && brokenOff(err) && ctx.Err() == nil {
			continue
		}
		return res, err
	}
}

// brokenOff reports whether a connection ended under a request: it may have been one that
// was kept for too long.
func brokenOff(err error) bool {
	silent, is := errors.AsType[*SilentError](err)
	if !is || silent.answered {
		return false
	}
	if op, is := errors.AsType[*net.OpError](err); is && op.Op == "dial" {
		return false
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	return !untrusted && !plain
}

// signature is the headers that sign q.
func (c *Client) signature(ctx context.Context, key Key, q request) (http.Header, error) {
	s := api.Signed{
		Method: q.method, URL: c.base.String() + api.Version + q.path, Body: q.body,
		Time: c.o.Now().UTC().Format(time.RFC3339), Nonce: rand.Text(),
	}
	armored, err := key.Sign(ctx, c.o.Namespace, s.Text())
	if err != nil {
		return nil, &signError{err}
	}
	made, err := sshsig.Parse(armored)
	if err != nil {
		return nil, &signError{err}
	}
	return http.Header{
		api.HeaderTime:      {s.Time},
		api.HeaderNonce:     {s.Nonce},
		api.HeaderSignature: {base64.StdEncoding.EncodeToString(made.Marshal())},
	}, nil
}

// send sends q once, and makes an error of every answer that is none. The caller closes the
// body.
func (c *Client) send(ctx context.Context, by *http.Client, q request, h http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, q.method, c.base.String()+api.Version+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	if h != nil {
		r.Header = h
	}
	r.Header.Set("User-Agent", "sekisho")
	r.Header.Set("Accept", "application/json, application/jsonl")
	if len(q.body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	begun := c.o.Now()
	res, err := by.Do(r)
	if err != nil {
		return nil, c.silent(ctx, err)
	}
	c.heard(res.Header.Get("Date"), begun)
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, c.failure(ctx, res)
}

// heard learns how far the gate's clock is ahead. Its header is to the second.
func (c *Client) heard(date string, begun time.Time) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	now := c.o.Now()
	var ahead time.Duration
	switch {
	case at.After(now):
		ahead = at.Sub(now)
	case at.Add(time.Second).Before(begun):
		ahead = at.Add(time.Second).Sub(begun)
	}
	c.ahead.Store(int64(ahead))
}

// silent is that a request came to nothing; where ctx has ended, why that has.
func (c *Client) silent(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // which gate is told anyway
	}
	return &SilentError{Gate: c.Host(), Err: err}
}

// late ends what waits for an answer that takes too long.
func (c *Client) late(cancel context.CancelCauseFunc) *time.Timer {
	return time.AfterFunc(answerTime, func() {
		cancel(&SilentError{c.Host(), true, fmt.Errorf("its answer takes longer than %s", answerTime)})
	})
}
