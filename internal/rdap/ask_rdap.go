package rdap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"sekisho/internal/notify"
)

// Bounds of an answer, of either protocol.
const (
	maxAnswer    = 512 << 10 // bytes
	maxRedirects = 5
)

// Bounds of how long a server is left alone that asks for it (RFC 9110, Retry-After).
const (
	minRest = time.Minute
	maxRest = time.Hour
)

// rdapAsker asks over RDAP. It uses no proxy, also none of the environment: no
// surprise, and WHOIS and DNS would go past it anyway.
type rdapAsker struct {
	base   *url.URL
	client *http.Client
	now    func() time.Time

	mu   sync.Mutex
	rest map[string]time.Time // host: until when it is left alone; hosts of registries only, at most 100
}

func newRDAPAsker(s Servers) (*rdapAsker, error) {
	base, err := url.Parse(s.RDAP)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, fmt.Errorf("the RDAP server %q is no https URL", s.RDAP)
	}
	r := &rdapAsker{base: base, now: time.Now, rest: map[string]time.Time{}}
	r.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            s.dialer().DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: s.Roots},
			DisableKeepAlives:      true, // questions are few
			DisableCompression:     true, // a small answer stays small
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			r.upgrade(req.URL)
			return r.allowed(req.URL)
		},
	}
	return r, nil
}

// upgrade has a redirect that leaves TLS keep to it, where no port says otherwise: a registry that
// speaks of http serves https, too, and nothing is ever asked without.
func (r *rdapAsker) upgrade(u *url.URL) {
	if u.Scheme == "http" && (u.Port() == "" || u.Port() == "80") {
		u.Scheme, u.Host = "https", net.JoinHostPort(u.Hostname(), portOf(r.base))
	}
}

// allowed says why a redirect to u is not followed.
func (r *rdapAsker) allowed(u *url.URL) error {
	switch {
	case u.Scheme != "https":
		return fmt.Errorf("the redirect to %.200q is not followed: it is not https", u.Redacted())
	case u.User != nil || portOf(u) != portOf(r.base) || !isRegistrys(strings.ToLower(u.Hostname())):
		return fmt.Errorf("the redirect to %.200q is not followed: it is no registry's", u.Redacted())
	}
	return r.resting(strings.ToLower(u.Hostname()))
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return "443"
}

// ask asks whose a is. ErrUnknown: the registry does not know.
func (r *rdapAsker) ask(ctx context.Context, a netip.Addr) (notify.Owner, error) {
	u := r.base.JoinPath("ip", a.String())
	if err := r.resting(u.Hostname()); err != nil {
		return notify.Owner{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return notify.Owner{}, err
	}
	req.Header.Set("User-Agent", "sekisho")
	req.Header.Set("Accept", "application/rdap+json, application/json;q=0.9")
	req.Header.Set("Accept-Encoding", "identity")
	res, err := r.client.Do(req)
	if err != nil {
		return notify.Owner{}, fmt.Errorf("%s: %w", u.Hostname(), reason(ctx, err))
	}
	defer res.Body.Close()
	host := strings.ToLower(res.Request.URL.Hostname())
	body, err := r.body(ctx, res, host)
	if err != nil {
		return notify.Owner{}, fmt.Errorf("%s: %w", host, err)
	}
	owner, err := parseRDAP(body, a)
	if err != nil {
		return notify.Owner{}, fmt.Errorf("%s: %w", host, err)
	}
	owner.Source = host
	return owner, nil
}

func (r *rdapAsker) body(ctx context.Context, res *http.Response, host string) ([]byte, error) {
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, ErrUnknown
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		r.leave(host, res.Header.Get("Retry-After"))
		fallthrough
	default:
		return nil, fmt.Errorf("it answers %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	}
	if packed := res.Header.Get("Content-Encoding"); packed != "" && packed != "identity" {
		return nil, fmt.Errorf("it answers in the encoding %.20q, which was not asked for", packed)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("it answers with more than %d bytes", maxAnswer)
	case ctx.Err() != nil:
		// Also where it ended well: a server may end its answer because we hang up.
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, reason(ctx, err)
	}
	return body, nil
}

// leave leaves a server alone for as long as it asks, within bounds.
func (r *rdapAsker) leave(host, retryAfter string) {
	now := r.now()
	rest := minRest
	if seconds, err := strconv.Atoi(retryAfter); err == nil {
		rest = min(max(time.Duration(min(seconds, 1<<20))*time.Second, minRest), maxRest)
	} else if at, err := http.ParseTime(retryAfter); err == nil {
		rest = min(max(at.Sub(now), minRest), maxRest)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rest) < 100 || !r.rest[host].IsZero() {
		r.rest[host] = now.Add(rest)
	}
}

func (r *rdapAsker) resting(host string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.rest[host]
	if ok && r.now().Before(until) {
		return errors.New(host + ": not asked: it wants to be left alone")
	}
	delete(r.rest, host)
	return nil
}
