package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Limits bound what a stranger can take of a gate. Zero values are the defaults.
type Limits struct {
	Conns      int           // at once, over all listeners: 20,000
	PerSource  int           // of them strangers' from one IPv4 address or IPv6 /64: 100, from a /48 eight times that; listed proxies are exempt
	Header     int           // bytes: 16 KiB
	Body       int64         // bytes: 64 KiB
	Bodies     int64         // bytes of bodies that are being read at once: 64 MiB
	ReadHeader time.Duration // for a TLS handshake, and again for a header: 10 s
	Read       time.Duration // for a request: 20 s
	Write      time.Duration // for an answer; for each line of a stream: 30 s
	Idle       time.Duration // between requests: 2 min
	Streams    int           // at once of one HTTP/2 connection: 100
}

func (l Limits) orDefaults() Limits {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	lasting := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&l.Conns, 20_000)
	set(&l.PerSource, 100)
	set(&l.Header, 16<<10)
	set(&l.Streams, 100)
	if l.Body <= 0 {
		l.Body = 64 << 10
	}
	if l.Bodies <= 0 {
		l.Bodies = 64 << 20
	}
	lasting(&l.ReadHeader, 10*time.Second)
	lasting(&l.Read, 20*time.Second)
	lasting(&l.Write, 30*time.Second)
	lasting(&l.Idle, 2*time.Minute)
	return l
}

// Files are a certificate's chain and its key, in PEM.
type Files struct{ Cert, Key string }

// Serving is how a handler is served.
type Serving struct {
	Listeners []net.Listener // taken over: closed when Serve returns
	TLS       Files          // zero: plain HTTP, on loopback or behind listed proxies only
	Trust     Trust
	Limits    Limits
	Logger    *slog.Logger

	// checkEvery is how often the files are looked at: 10 s.
	checkEvery time.Duration
}

// Serve serves h until ctx ends, and then for at most five seconds what has begun; streams
// are ended at once. It refuses to serve plain HTTP where strangers could speak to it:
// on an address that is not loopback, unless proxies are listed and named by a header.
func Serve(ctx context.Context, h http.Handler, s Serving) error {
	defer func() {
		for _, l := range s.Listeners {
			l.Close()
		}
	}()
	if len(s.Listeners) == 0 {
		return errors.New("serve the gate: there is no address to listen at")
	}
	limits := s.Limits.orDefaults()
	if s.checkEvery <= 0 {
		s.checkEvery = 10 * time.Second
	}
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: limits.ReadHeader, // of a TLS handshake too
		ReadTimeout:       limits.Read,
		WriteTimeout:      limits.Write,
		IdleTimeout:       limits.Idle,
		MaxHeaderBytes:    limits.Header,
		ErrorLog:          slog.NewLogLogger(quiet{s.Logger.Handler()}, slog.LevelDebug),
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          limits.Streams,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			SendPingTimeout:               limits.Read,
			PingTimeout:                   limits.ReadHeader,
			WriteByteTimeout:              limits.Write,
		},
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), servingKey{}, ctx)
		},
		ConnContext: withConn,
	}
	srv.Protocols.SetHTTP1(true)
	group, ctx := errgroup.WithContext(ctx)
	if s.TLS != (Files{}) {
		c := &certificate{files: s.TLS, logger: s.Logger}
		if err := c.load(); err != nil {
			return err
		}
		group.Go(func() error { c.watch(ctx, s.checkEvery); return nil })
		srv.Protocols.SetHTTP2(true)
		srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
	} else {
		for _, l := range s.Listeners {
			if err := plainAllowed(l.Addr(), s.Trust); err != nil {
				return err
			}
		}
	}
	door := &door{max: limits.Conns, perSource: limits.PerSource, trust: s.Trust, from: map[netip.Prefix]int{}}
	for _, l := range s.Listeners {
		bounded := &listener{Listener: l, door: door}
		group.Go(func() error {
			var err error
			if srv.TLSConfig != nil {
				err = srv.ServeTLS(bounded, "", "")
			} else {
				err = srv.Serve(bounded)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serve the gate at %v: %w", l.Addr(), err)
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if srv.Shutdown(last) != nil {
			srv.Close()
		}
		return nil
	})
	return group.Wait()
}

// servingKey finds the context of Serve in a request's, which does not end with it.
type servingKey struct{}

// streaming is a request's context that ends with the server, too: what lasts must not hold
// up its end.
func streaming(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	serving, ok := ctx.Value(servingKey{}).(context.Context)
	if !ok {
		return ctx, cancel
	}
	stop := context.AfterFunc(serving, cancel)
	return ctx, func() { stop(); cancel() }
}

// plainAllowed holds plain HTTP to where nobody but the machine itself and listed proxies speaks it.
func plainAllowed(a net.Addr, t Trust) error {
	if a.Network() == "unix" {
		return nil
	}
	if p, err := netip.ParseAddrPort(a.String()); err == nil && p.Addr().Unmap().IsLoopback() {
		return nil
	}
	if len(t.Proxies) > 0 && t.Header != NoForwarding {
		return nil
	}
	return fmt.Errorf("serve the gate at %v: plain HTTP is for loopback, or behind proxies that are listed: give it a certificate, or list the proxies and the header they write", a)
}

// quiet makes what net/http says of strangers' connections debugging's, whatever its text.
type quiet struct{ slog.Handler }

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	said := slog.NewRecord(r.Time, slog.LevelDebug, "http connection", 0)
	said.AddAttrs(slog.String("said", r.Message)) // a stranger's bytes may be in it
	return q.Handler.Handle(ctx, said)
}

// door counts connections. One over a bound is closed at once, before anything is read of
// it: waiting would let strangers hold the ones of others.
type door struct {
	max, perSource int
	trust          Trust

	mu   sync.Mutex
	all  int
	from map[netip.Prefix]int // bounded by twice max
}

func (d *door) enter(source netip.Prefix, exempt bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	wide := wideOf(source)
	if d.all >= d.max || !exempt && (d.from[source] >= d.perSource || d.from[wide] >= wider*d.perSource) {
		return false
	}
	d.all++
	d.from[source]++
	if wide != source {
		d.from[wide]++
	}
	return true
}

func (d *door) leave(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.gone {
		return
	}
	c.gone = true
	d.all--
	if !c.known {
		d.less(c.from)
	}
}

// know has a connection count for its source no more: somebody has shown by it who they
// are, and strangers are what sources are bounded for. A whole office, or all hosts of a
// network, may have one address.
func (d *door) know(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !c.gone && !c.known {
		c.known = true
		d.less(c.from)
	}
}

// less takes one away from a source. d is locked.
func (d *door) less(source netip.Prefix) {
	ps := []netip.Prefix{source, wideOf(source)}
	if ps[0] == ps[1] {
		ps = ps[:1]
	}
	for _, p := range ps {
		if d.from[p]--; d.from[p] == 0 {
			delete(d.from, p)
		}
	}
}

// source is whom limits count: an IPv4 address, or the /64 that is one customer's.
func source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// site48 is whom limits count besides: the /48 around, which one customer of IPv6 may have;
// of IPv4, the address.
func site48(a netip.Addr) netip.Prefix { return wideOf(source(a)) }

func wideOf(source netip.Prefix) netip.Prefix {
	if !source.IsValid() || source.Addr().Is4() {
		return source
	}
	p, _ := source.Addr().Prefix(48)
	return p
}

type listener struct {
	net.Listener
	door *door
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var from netip.Prefix // of a unix socket: none, and not bounded by source
		exempt := true
		if p, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
			a := p.Addr().Unmap()
			from, exempt = source(a), l.door.trust.proxy(a)
		}
		if l.door.enter(from, exempt) {
			return &conn{Conn: c, door: l.door, from: from}, nil
		}
		c.Close()
	}
}

type conn struct {
	net.Conn
	door *door
	from netip.Prefix

	known, gone bool // the door's
}

func (c *conn) Close() error {
	c.door.leave(c)
	return c.Conn.Close()
}

type connKey struct{}

// withConn is a connection's context, by which its requests find it.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// known tells the connection of a request that somebody has shown who they are.
func known(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.door.know(c)
	}
}

// certificate is what the files had when they last made sense.
type certificate struct {
	files  Files
	logger *slog.Logger
	now    atomic.Pointer[tls.Certificate]
	stamp  [2]stamp
}

type stamp struct {
	size int64
	time time.Time
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil }

func (c *certificate) stamps() (s [2]stamp, err error) {
	for i, name := range []string{c.files.Cert, c.files.Key} {
		info, err := os.Stat(name)
		if err != nil {
			return s, err
		}
		s[i] = stamp{info.Size(), info.ModTime()}
	}
	return s, nil
}

func (c *certificate) load() error {
	// Stamped before they are read: what is written meanwhile is read again.
	at, err := c.stamps()
	if err != nil {
		return fmt.Errorf("load the gate's certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("load the gate's certificate from %s and %s: %w", c.files.Cert, c.files.Key, err)
	}
	c.stamp = at
	c.now.Store(&pair)
	return nil
}

// watch reads the files again where they have changed. Ones that do not fit, which two
// files that are written one after the other do not for a moment, leave the old in use.
func (c *certificate) watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		at, err := c.stamps()
		if err == nil && at == c.stamp {
			continue
		}
		if err == nil {
			err = c.load()
		}
		switch {
		case err == nil:
			said = ""
			c.logger.InfoContext(ctx, "certificate read anew", "not_after", c.now.Load().Leaf.NotAfter)
		case err.Error() != said:
			said = err.Error()
			c.logger.ErrorContext(ctx, "the certificate's files have changed and cannot be used; the old one stays in use", "error", err)
		}
	}
}
