package rdap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"sekisho/internal/notify"
	"sekisho/internal/printable"
)

// Errors of Lookup, for errors.Is.
var (
	// ErrBusy says that the registries were not asked, for they are asked too much already.
	ErrBusy = errors.New("not asked: too many questions in this minute")
	// ErrNotPublic says that nobody on the internet has the address: nobody is asked whose it is.
	ErrNotPublic = errors.New("not asked: nobody on the internet has this address")
	// ErrUnknown says that a registry has nothing to say of the address.
	ErrUnknown = errors.New("it knows of no such network")
)

// Options are how to ask. The zero value asks the real registries.
type Options struct {
	Timeout   time.Duration // of a whole lookup; 0: 6 s
	CacheFor  time.Duration // how long an answer holds; 0: 24 h
	FailedFor time.Duration // how long a failure holds; 0: 10 min
	MaxCached int           // networks of which we know, and addresses of whose names; 0: 10,000 of each
	PerMinute int           // lookups that reach a registry; there are six times as many in DNS at most; 0: 20
	Servers   Servers
	Logger    *slog.Logger // of what servers failed; nil: none
}

// Client finds out whose addresses are. It is safe for concurrent use.
type Client struct {
	unfit                        error // Servers makes no sense
	timeout, cacheFor, failedFor time.Duration
	asksDocumentation            bool
	log                          *slog.Logger
	now                          func() time.Time
	dns                          dnsAsker
	rdap                         *rdapAsker
	whois                        *whoisAsker

	mu        sync.Mutex
	owners    *cache[notify.Owner] // by network, without what DNS says
	failures  *cache[error]
	origins   *cache[origin] // by announced network
	names     *cache[string] // by address
	questions budget
	lookups   budget                         // in DNS
	underWay  map[netip.Prefix]chan struct{} // closed when its question has its answer
}

// New returns a client. Where Servers makes no sense, each lookup fails and says so.
func New(o Options) *Client {
	set(&o.Timeout, 6*time.Second)
	set(&o.CacheFor, 24*time.Hour)
	set(&o.FailedFor, 10*time.Minute)
	set(&o.MaxCached, 10_000)
	set(&o.PerMinute, 20)
	set(&o.Servers.RDAP, "https://rdap.arin.net/registry/")
	set(&o.Servers.WHOIS, "whois.iana.org:43")
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	rdap, rdapErr := newRDAPAsker(o.Servers)
	whois, whoisErr := newWHOISAsker(o.Servers)
	return &Client{
		unfit:   errors.Join(rdapErr, whoisErr),
		timeout: o.Timeout, cacheFor: o.CacheFor, failedFor: o.FailedFor,
		asksDocumentation: o.Servers.ForTests,
		log:               o.Logger,
		now:               time.Now,
		dns:               dnsAsker{o.Servers.resolver()},
		rdap:              rdap,
		whois:             whois,
		owners:            newCache[notify.Owner](o.MaxCached),
		failures:          newCache[error](o.MaxCached),
		origins:           newCache[origin](o.MaxCached),
		names:             newCache[string](o.MaxCached),
		questions:         newBudget(o.PerMinute),
		lookups:           newBudget(6 * o.PerMinute),
		underWay:          map[netip.Prefix]chan struct{}{},
	}
}

// set gives what is not set its default.
func set[V comparable](v *V, byDefault V) {
	if *v == *new(V) {
		*v = byDefault
	}
}

// Lookup finds out whose an address is. It takes Options.Timeout at most. Where the registries fail there
// is an error, and beside it what DNS has (its network is the announced one then). Nothing is
// asked twice: of many addresses of one network the first is asked for, and the others wait for its answer.
func (c *Client) Lookup(ctx context.Context, addr netip.Addr) (notify.Owner, error) {
	addr = plain(addr)
	if !isGivenOut(addr) || !c.asksDocumentation && !isPublic(addr) {
		return notify.Owner{}, fmt.Errorf("look up whose %s is: %w", addr, ErrNotPublic)
	}
	if c.unfit != nil {
		return notify.Owner{}, fmt.Errorf("look up whose %s is: %w", addr, c.unfit)
	}
	late := fmt.Errorf("no answer within %s", c.timeout)
	asking, cancel := context.WithTimeoutCause(ctx, c.timeout, late)
	defer cancel()

	owner, finish, err := c.begin(asking, addr)
	if err != nil && (errors.Is(err, ErrBusy) || asking.Err() != nil) {
		return notify.Owner{}, fmt.Errorf("look up whose %s is: %w", addr, err)
	}
	var as origin
	var name string
	var all sync.WaitGroup
	all.Go(func() { as = c.origin(ctx, asking, addr) })
	all.Go(func() { name = c.name(ctx, asking, addr) })
	if finish != nil {
		owner, err = c.registries(asking, addr)
		all.Wait() // those who wait for us find all of it in the caches
		finish(owner, err, ctx.Err() == nil)
	}
	all.Wait()
	if err != nil {
		err = fmt.Errorf("look up whose %s is: %w", addr, err)
	}
	return as.added(owner, name, err), err
}

// begin is the answer that is known already, or else the failure. Where neither is, finish is not nil: the
// caller has to ask, and to give it the answer, and whether that is worth keeping.
func (c *Client) begin(ctx context.Context, a netip.Addr) (owner notify.Owner, finish func(notify.Owner, error, bool), err error) {
	key := stretch(a)
	for {
		c.mu.Lock()
		now := c.now()
		if owner, ok := c.owners.get(a, now); ok {
			c.mu.Unlock()
			return owner, nil, nil
		}
		if err, ok := c.failures.get(a, now); ok {
			c.mu.Unlock()
			return notify.Owner{}, nil, err
		}
		other, ok := c.underWay[key]
		if !ok {
			break
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return notify.Owner{}, nil, fmt.Errorf("wait for the answer about its neighbour: %w", context.Cause(ctx))
		}
	}
	defer c.mu.Unlock()
	if !c.questions.take(c.now()) {
		return notify.Owner{}, nil, ErrBusy
	}
	done := make(chan struct{})
	c.underWay[key] = done
	return notify.Owner{}, func(owner notify.Owner, err error, worth bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch now := c.now(); {
		case err == nil:
			c.owners.put(reach(owner.Prefix, a), owner, now.Add(c.cacheFor))
		case worth:
			c.failures.put(failing(a), err, now.Add(c.failedFor))
		}
		delete(c.underWay, key)
		close(done)
	}, nil
}

// registries asks over RDAP, for two thirds of the time at most, and else over WHOIS.
func (c *Client) registries(ctx context.Context, a netip.Addr) (notify.Owner, error) {
	part := c.timeout * 2 / 3
	first, cancel := context.WithTimeoutCause(ctx, part, fmt.Errorf("no answer within %s", part))
	defer cancel()
	owner, rdapErr := c.rdap.ask(first, a)
	if rdapErr == nil {
		return owner, nil
	}
	c.log.Debug("whose an address is was not found over RDAP", "address", a.String(), "error", rdapErr.Error())
	if ctx.Err() != nil {
		return notify.Owner{}, fmt.Errorf("RDAP: %w", rdapErr)
	}
	owner, whoisErr := c.whois.ask(ctx, a)
	if whoisErr == nil {
		return owner, nil
	}
	c.log.Debug("whose an address is was not found over WHOIS", "address", a.String(), "error", whoisErr.Error())
	return notify.Owner{}, fmt.Errorf("RDAP: %w; WHOIS: %w", rdapErr, whoisErr)
}

// origin is where a is announced, if that is known or found. outer is the caller's context, asking ours.
func (c *Client) origin(outer, asking context.Context, a netip.Addr) origin {
	found, ok := look(c, c.origins, a)
	if ok {
		return found
	}
	found, err := c.dns.origin(asking, a)
	switch {
	case err == nil:
		keep(c, c.origins, reach(found.prefix, a), found, c.cacheFor)
	case outer.Err() == nil:
		c.log.Debug("the autonomous system of an address was not found", "address", a.String(), "error", err.Error())
		keep(c, c.origins, failing(a), origin{}, c.failedFor)
	}
	return found
}

// name is a's verified name, if that is known or found.
func (c *Client) name(outer, asking context.Context, a netip.Addr) string {
	found, ok := look(c, c.names, a)
	if ok {
		return found
	}
	found, err := c.dns.name(asking, a)
	switch {
	case err == nil:
		keep(c, c.names, single(a), found, c.cacheFor)
	case outer.Err() == nil:
		c.log.Debug("the name of an address was not found", "address", a.String(), "error", err.Error())
		keep(c, c.names, single(a), "", c.failedFor)
	}
	return found
}

// look is what a cache has, or nothing where DNS must not be asked any more either.
func look[V any](c *Client, from *cache[V], a netip.Addr) (found V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if found, ok = from.get(a, now); ok {
		return found, true
	}
	return found, !c.lookups.take(now)
}

func keep[V any](c *Client, in *cache[V], p netip.Prefix, value V, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in.put(p, value, c.now().Add(d))
}

// reason is why a server did not answer, without its URL, which is told anyway, and fit to be
// shown: it may have the server's words.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return errors.New(printable.Cut(printable.Text(err.Error()), 400))
}

// isRegistrys reports whether a host is of one of the registries, or of the national ones.
func isRegistrys(host string) bool {
	for _, domain := range []string{
		"arin.net", "ripe.net", "apnic.net", "lacnic.net", "afrinic.net",
		"registro.br", "nic.br", // Brazil
		"nic.ad.jp",                              // JPNIC
		"krnic.or.kr", "nic.or.kr", "kisa.or.kr", // KRNIC
		"twnic.tw", "twnic.net.tw", "cnnic.cn", "cnnic.net.cn", "idnic.id", "idnic.net", "irinn.in", "vnnic.vn",
		"nic.mx", // Mexico
	} {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return false
}
