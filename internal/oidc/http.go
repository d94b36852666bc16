package oidc

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
)

const (
	maxAnswer = 256 << 10 // of a provider; its own are some kilobytes, 500 groups of 200 characters 100
	timeout   = 10 * time.Second
)

// newClient makes a client that waits so long and takes so much, and follows nobody elsewhere.
func newClient(given *http.Client) *http.Client {
	c := &http.Client{
		Timeout: timeout,
		CheckRedirect: func(req *http.Request, _ []*http.Request) error {
			return fmt.Errorf("it sends us on to %q, and we do not go", cut(req.URL.Redacted()))
		},
	}
	var next http.RoundTripper
	if given != nil {
		next = given.Transport
		if given.Timeout > 0 && given.Timeout < timeout {
			c.Timeout = given.Timeout
		}
	}
	if next == nil {
		next = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    timeout,
			MaxResponseHeaderBytes: 64 << 10,
			MaxConnsPerHost:        16,
			MaxIdleConns:           2,
			IdleConnTimeout:        time.Minute,
			ForceAttemptHTTP2:      true,
		}
	}
	c.Transport = bounded{next}
	return c
}

// bounded fails where an answer is too much: half of one may mean something else.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(req)
	if err == nil {
		answer.Body = &body{ReadCloser: answer.Body, left: maxAnswer}
	}
	return answer, err
}

type body struct {
	io.ReadCloser
	left int
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("it answers more than %d bytes", maxAnswer)
	}
	return n, err
}

// pacer lets keys be asked for once in a while: any token with a key that is not known makes
// go-oidc ask. It takes the answer whole, so that what is wrong with it is an error of the client's.
type pacer struct {
	next http.RoundTripper
	now  func() time.Time

	mu     sync.Mutex // held while the provider is asked
	last   time.Time
	failed error // of the last time
}

var errPaced = errors.New("the provider's keys were asked for a moment ago")

func (p *pacer) RoundTrip(req *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.now(); !p.last.IsZero() && now.Sub(p.last) < pause {
		return nil, cmp.Or(p.failed, errPaced)
	}
	answer, err := p.get(req)
	p.last, p.failed = p.now(), err
	return answer, err
}

func (p *pacer) get(req *http.Request) (*http.Response, error) {
	answer, err := p.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 && answer.StatusCode < 400 {
		return answer, nil // the client does not go
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %d", answer.StatusCode)
	}
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	var keys struct {
		Keys []struct{} `json:"keys"`
	}
	if json.Unmarshal(all, &keys) != nil || len(keys.Keys) == 0 {
		return nil, errors.New("it answers no keys")
	}
	answer.Body = io.NopCloser(bytes.NewReader(all))
	return answer, nil
}

// asked remembers whether a provider gave no keys, but not that it was not asked.
type asked struct {
	set gooidc.KeySet
	err error
}

func (a *asked) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := a.set.VerifySignature(ctx, jwt)
	if failed := (*url.Error)(nil); errors.As(err, &failed) && !errors.Is(err, errPaced) || ctx.Err() != nil {
		a.err = err
	}
	return payload, err
}
