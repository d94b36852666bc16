package ec2test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What holds where nothing else was said.
const (
	DefaultAccount = "123456789012"
	DefaultRegion  = "us-east-1"
	DefaultVPC     = "vpc-0de0fa0170de0fa01"
)

// Place is an account and a region; empty ones are the default's.
type Place struct{ Account, Region string }

func (p Place) full() Place {
	if p.Account == "" {
		p.Account = DefaultAccount
	}
	if p.Region == "" {
		p.Region = DefaultRegion
	}
	return p
}

// Options of a server.
type Options struct {
	Addr string           // where to listen: 127.0.0.1:0 if empty
	Now  func() time.Time // the server's clock: time.Now if nil
}

// Server is the endpoint. New and Start make one.
type Server struct {
	url      string
	http     *http.Server
	listener net.Listener
	prefix   uint64 // of ids: no two servers make the same
	counter  atomic.Uint64
	inFlight atomic.Int64
	highest  atomic.Int64

	mu        sync.Mutex // of what follows
	now       func() time.Time
	states    map[Place]*state
	keys      map[string]Key
	roles     map[string]Role
	latency   time.Duration
	staleness time.Duration
	settling  time.Duration
	throttles map[string]Throttle
	buckets   map[bucketOf]*bucket
	faults    []*fault
	calls     []Call
	watchers  []*func(Change)

	notifying sync.Mutex // one change is told after the other
}

// New starts a server.
func New(o Options) (*Server, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	s := build(o)
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for calls of EC2: %w", err)
	}
	s.url, s.listener = "http://"+l.Addr().String(), l
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.http.Serve(l) }() // until Close
	return s, nil
}

// build is New for a server that does not listen.
func build(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{
		now: o.Now, prefix: rand.Uint64(),
		states: map[Place]*state{}, keys: map[string]Key{}, roles: map[string]Role{},
		throttles: map[string]Throttle{}, buckets: map[bucketOf]*bucket{},
	}
}

// Start starts a server that ends with the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s, err := New(Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// Close ends the server and the calls that it is answering.
func (s *Server) Close() error {
	err := s.http.Close()
	_ = s.listener.Close() // where it was not serving yet
	return err
}

// URL is the endpoint's, for EC2 and STS.
func (s *Server) URL() string { return s.url }

// Environ is what a program's environment needs to work at a place of s.
func (s *Server) Environ(p Place) []string {
	p = p.full()
	return []string{
		"AWS_ENDPOINT_URL=" + s.url, "AWS_REGION=" + p.Region, "AWS_ACCESS_KEY_ID=" + KeyOf(p.Account),
		"AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true",
	}
}

// id makes a new id of 17 hexadecimal digits.
func (s *Server) id(kind string) string {
	// Odd factors and xorshifts lose nothing: two counts never meet.
	x := s.counter.Add(1) + s.prefix
	x = (x ^ x>>31) * 0x9e3779b97f4a7c15
	return fmt.Sprintf("%s-0%016x", kind, x^x>>29)
}

// call is one request that is being answered.
type call struct {
	s       *Server
	r       *http.Request
	in      *node
	action  string
	sts     bool
	caller  Key
	place   Place
	st      *state
	view    *snapshot // what a describe sees
	now     time.Time
	changed []string // groups
}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	for high := s.highest.Load(); n > high && !s.highest.CompareAndSwap(high, n); high = s.highest.Load() {
	}
	began := s.clock()
	c := &call{s: s, r: r, now: began}
	out, err := c.answer()

	entry := Call{Place: c.place, Action: c.action, Key: c.caller.ID, Caller: c.caller.arn(), When: began, Status: http.StatusOK}
	if c.in != nil {
		entry.Form = c.in.form
	}
	var fail *apiError
	if err != nil {
		if !errors.As(err, &fail) {
			fail = refuse("InternalError", "An internal error has occurred: %v", err)
		}
		fail = fail.of(c.sts)
		entry.Code, entry.Status = fail.code, fail.status
	}
	s.record(entry)
	if fail != nil && fail.cut {
		cut(w)
		return
	}
	request := fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", rand.Uint32(), rand.N(1<<16), rand.N(1<<12), rand.N(1<<12), rand.N(1<<48))
	h := w.Header()
	h["Date"] = []string{s.clock().UTC().Format(http.TimeFormat)}
	h.Set("X-Amzn-Requestid", request)
	h.Set("Content-Type", "text/xml;charset=UTF-8")
	if fail != nil {
		w.WriteHeader(fail.status)
		_, _ = w.Write(fail.xml(c.sts, request)) // a client that left needs no answer
		return
	}
	head, foot := c.around(request)
	h.Set("Content-Length", strconv.Itoa(len(head)+len(out.b)+len(foot)))
	for _, part := range [][]byte{head, out.b, foot} {
		_, _ = w.Write(part)
	}
}

func (c *call) answer() (*writer, error) {
	s := c.s
	body, err := io.ReadAll(http.MaxBytesReader(nil, c.r.Body, 4<<20))
	if err != nil {
		return nil, refuse("RequestEntityTooLarge", "The request cannot be read: %v", err)
	}
	if c.r.Method == http.MethodGet {
		body = []byte(c.r.URL.RawQuery)
	}
	c.place = Place{}.full()
	c.in, err = decodeForm(string(bytes.TrimSpace(body)))
	if err != nil {
		return nil, err
	}
	c.action = c.in.get("Action")
	c.sts = c.in.get("Version") == stsVersion
	do, known := actions[c.action]
	if known {
		c.sts = do.sts
	}
	if err := c.authenticate(); err != nil {
		return nil, err
	}
	c.st = s.state(c.place)
	latency, hits := s.meet(c)
	wait(c.r.Context(), latency/2)
	if err := hits.before(c); err != nil {
		return nil, err
	}
	if !known {
		return nil, refuse("InvalidAction", "The action %s is not valid for this web service.", c.action)
	}
	if err := s.spend(c); err != nil {
		return nil, err
	}
	c.view = c.st.seen(s.clock())
	out := &writer{}
	err = do.run(c, out)
	if len(c.changed) > 0 {
		s.tell(Change{Place: c.place, Action: c.action, Groups: c.changed})
	}
	// A call that failed did not take effect, so nothing is lost after it.
	if err == nil {
		err = hits.after(c)
	}
	wait(c.r.Context(), latency-latency/2)
	return out, err
}

// wait lets d pass; a call goes on when its client has left, as at AWS.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// cut closes the connection without an answer.
func cut(w http.ResponseWriter) {
	if hijacker, ok := w.(http.Hijacker); ok {
		if conn, _, err := hijacker.Hijack(); err == nil {
			_ = conn.Close()
			return
		}
	}
	panic(http.ErrAbortHandler) // net/http's way to say the same
}

func (s *Server) clock() time.Time {
	s.mu.Lock()
	now := s.now
	s.mu.Unlock()
	return now()
}

// state is what there is at a place.
func (s *Server) state(p Place) *state {
	p = p.full()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.states[p]
	if st == nil {
		st = newState(p)
		st.staleness = s.staleness
		s.states[p] = st
	}
	return st
}
