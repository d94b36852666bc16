package ownaddr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// said is what a service said.
type said struct {
	host string
	addr netip.Addr
	err  error
}

// witnessed is what the first one to be asked says.
func (f *Finder) witnessed(ctx context.Context, family Family, from netip.Addr) (Answer, error) {
	if f.First == nil {
		return Answer{}, errors.New("nobody is asked before the services")
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout())
	defer cancel()
	a, err := f.First.Ask(ctx, family, from)
	if err == nil {
		err = proper(family, a)
	}
	if err != nil {
		f.log().Debug("our address was not told", "by", f.First.Name, "family", family.String(), "error", err.Error())
		return Answer{}, err
	}
	return Answer{Addr: a, By: []string{f.First.Name}}, nil
}

func (f *Finder) timeout() time.Duration {
	if f.Timeout <= 0 {
		return 5 * time.Second
	}
	return f.Timeout
}

// poll asks all services for the address of a family that they see us by, from one of
// our own addresses.
func (f *Finder) poll(ctx context.Context, family Family, from netip.Addr) (Answer, error) {
	services, err := f.services()
	if err != nil {
		return Answer{}, fmt.Errorf("find our own %s address: %w", family, err)
	}
	timeout := f.timeout()
	late := fmt.Errorf("it did not answer within %s", timeout)
	asking, cancel := context.WithTimeoutCause(ctx, timeout, late)
	ask := f.ask
	if ask == nil {
		ask = (&client{}).ask
	}
	answers := make(chan said, len(services))
	var all sync.WaitGroup
	defer func() {
		cancel()
		all.Wait()
	}()
	for host, service := range services {
		all.Go(func() {
			a, err := ask(asking, family, from, service)
			answers <- said{host, a, err}
		})
	}

	heard := map[string]netip.Addr{}
	var failed []error
	for range services {
		s := <-answers
		if s.err != nil {
			f.log().Debug("a service did not tell our address", "service", s.host, "family", family.String(), "error", s.err.Error())
			failed = append(failed, fmt.Errorf("%s: %w", s.host, s.err))
			continue
		}
		heard[s.host] = s.addr
		if a := agreed(heard, s.addr); len(a.By) > 1 {
			return a, nil
		}
	}
	if ctx.Err() != nil {
		return Answer{}, fmt.Errorf("find our own %s address: %w", family, context.Cause(ctx))
	}
	switch len(heard) {
	case 1:
		for _, addr := range heard {
			return agreed(heard, addr), nil
		}
	case 0:
		slices.SortFunc(failed, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return Answer{}, &SilenceError{Family: family, From: from, Services: failed}
	}
	return Answer{}, &DisagreeError{Family: family, Said: heard}
}

// agreed is the answer addr, by all who gave it.
func agreed(heard map[string]netip.Addr, addr netip.Addr) Answer {
	a := Answer{Addr: addr}
	for host, said := range heard {
		if said == addr {
			a.By = append(a.By, host)
			continue
		}
		if a.Disagreed == nil {
			a.Disagreed = map[string]netip.Addr{}
		}
		a.Disagreed[host] = said
	}
	slices.Sort(a.By)
	return a
}

// SilenceError says that no service has told an address.
type SilenceError struct {
	Family   Family
	From     netip.Addr // our own, where the route to the target begins
	Services []error    // why not, of each
}

func (e *SilenceError) Unwrap() []error { return e.Services }

func (e *SilenceError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "find our own %s address: no service tells it, asked from %s", e.Family, e.From)
	for _, err := range e.Services {
		fmt.Fprintf(&b, "; %v", err)
	}
	return b.String() + "; give it with --ip"
}

// services are those to ask, by host: the same host is not heard twice.
func (f *Finder) services() (map[string]string, error) {
	all := map[string]string{}
	for _, s := range f.Services {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" {
			return nil, fmt.Errorf("the service %q is no https URL", s)
		}
		host := strings.ToLower(u.Host)
		if _, ok := all[host]; !ok {
			all[host] = s
		}
	}
	if len(all) == 0 {
		return nil, errors.New("there is no service to ask; give the address with --ip")
	}
	return all, nil
}

// client asks services.
type client struct {
	roots *x509.CertPool // nil: the system's
}

// ask asks one service, in one family alone, from an address of ours: a proxy or another way out
// would have it tell another address than a target sees.
func (c *client) ask(ctx context.Context, family Family, from netip.Addr, service string) (netip.Addr, error) {
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	transport := &http.Transport{
		Proxy: nil, // also none of the environment
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, family.network("tcp"), addr)
		},
		TLSClientConfig:        &tls.Config{RootCAs: c.roots},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 16 << 10,
	}
	defer transport.CloseIdleConnections()
	httpClient := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, service, nil)
	if err != nil {
		return netip.Addr{}, err
	}
	req.Header.Set("User-Agent", "sekisho")
	req.Header.Set("Accept", "text/plain")
	res, err := httpClient.Do(req)
	if err != nil {
		return netip.Addr{}, reason(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return netip.Addr{}, fmt.Errorf("it answers %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if ctx.Err() != nil {
		// Also where it ended well: a server may end its answer because we hang up.
		return netip.Addr{}, context.Cause(ctx)
	}
	if err != nil && len(text) <= maxAnswer {
		return netip.Addr{}, reason(ctx, err)
	}
	return parse(family, text)
}

// reason is why a request failed.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // the service is told anyway
	}
	return err
}
