package web

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
	"sekisho/internal/gate/web/page"
)

// Options are what a Handler is made of. Gate, Settings and Logger are needed.
type Options struct {
	Gate     Gate
	Settings func() Settings // asked with each request; it has to answer at once
	Provider Provider        // nil: nobody signs in at an identity provider
	Logger   *slog.Logger
	Now      func() time.Time // nil: time.Now
	Limits   Limits
}

// Handler is a gate's HTTP: the API, the pages and what they are made of.
type Handler struct {
	gate     Gate
	settings func() Settings
	provider Provider
	logger   *slog.Logger
	now      func() time.Time
	limits   Limits
	bodies   *bodies
	cross    *http.CrossOriginProtection
	mux      *http.ServeMux
	routes   []route

	last     atomic.Pointer[site]
	failures bySource      // to show who one is
	checked  bySource      // signatures and tokens, right or wrong
	begun    bySource      // of ceremonies
	people   *rate[string] // requests, by who has shown who they are
}

// New makes a Handler.
func New(o Options) *Handler {
	h := &Handler{
		gate: o.Gate, settings: o.Settings, provider: o.Provider, logger: o.Logger, now: o.Now,
		limits: o.Limits.orDefaults(), cross: http.NewCrossOriginProtection(), mux: http.NewServeMux(),
		// Nobody guesses 256 bits: what these bound is what trying costs the gate, and how fast
		// a log grows. Who shows rightly who they are is let in whatever others at the same
		// address have failed at, and per person only what they did themselves counts: else a
		// stranger could lock them out.
		failures: newBySource(6*time.Second, 20),
		checked:  newBySource(20*time.Millisecond, 400),
		begun:    newBySource(2*time.Second, 60),
		people:   newRate[string](50*time.Millisecond, 400, 1<<14),
	}
	if h.now == nil {
		h.now = time.Now
	}
	h.bodies = &bodies{each: h.limits.Body, all: h.limits.Bodies}
	h.routes = h.table()
	for i := range h.routes {
		r := &h.routes[i]
		h.mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, _ *http.Request) { w.(*probe).route = r })
	}
	return h
}

// request is one request on its way.
type request struct {
	*http.Request
	h     *Handler
	w     http.ResponseWriter
	site  *site
	route *route
	id    string // finds it in the log
	now   time.Time
	from  netip.Addr
	body  []byte
	who   gate.Who
	token string // of the session, where there is one
	until time.Time
	lang  page.Language
}

// methods are those that there are anywhere here.
var methods = map[string]bool{http.MethodGet: true, http.MethodHead: true, http.MethodPost: true, http.MethodPut: true, http.MethodDelete: true}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{Request: r, h: h, w: w, now: h.now(), id: rand.Text()[:12]}
	defer q.recover()
	site, err := h.site()
	if err != nil {
		q.fail(err)
		return
	}
	q.site = site
	q.lang = page.Choose(r.Header.Get("Accept-Language"), cookieValue(r, languageCookie))
	q.headers()
	if err := q.serve(); err != nil {
		q.fail(err)
	}
}

func (q *request) serve() error {
	if err := q.proper(); err != nil {
		return err
	}
	peer, err := peerOf(q.RemoteAddr)
	if err == nil {
		q.from, err = ClientAddr(peer, q.Header, q.site.Trust)
	}
	if err != nil {
		if q.h.failures.take(q.now, peer, 1) == 0 { // a proxy hands on what strangers write
			q.h.logger.WarnContext(q.Context(), "request refused", "request", q.id, "peer", q.RemoteAddr, "error", err)
		}
		return api.Errorf(api.BadRequest, "an administrator finds the reason in the gate's log", "where this request came from cannot be told")
	}
	if q.route, err = q.h.find(q.Request); err != nil {
		return err
	}
	if err := q.sameSite(); err != nil {
		return err
	}
	body, done, err := q.h.bodies.read(q.Request, q.from)
	defer done()
	if err != nil {
		return err
	}
	q.body = body
	if err := q.identify(); err != nil {
		return err
	}
	if err := q.route.allows(q.who); err != nil {
		return err
	}
	return q.route.serve(q)
}

// proper holds a request to what clients of a gate send.
func (q *request) proper() error {
	if !methods[q.Method] {
		return api.Errorf(api.BadMethod, "", "there is nothing to be done by this method here")
	}
	if q.URL.IsAbs() || q.URL.Opaque != "" || !strings.HasPrefix(q.URL.Path, "/") {
		return api.Errorf(api.BadRequest, "", "the gate is no proxy")
	}
	if q.URL.Path == healthPath {
		return nil
	}
	host := canonicalHost(q.Host, q.site.secure)
	if host == q.site.host {
		return nil
	}
	for _, probe := range q.site.probes {
		if host == canonicalHost(probe, q.site.secure) && q.URL.Path == addressPath {
			return nil
		}
	}
	return errMisdirected
}

// errMisdirected is answered with 421: a browser may have come by another name's connection.
var errMisdirected = api.Errorf(api.BadRequest, "use the address that the gate has in its configuration (gate.url)", "this is not what the gate is called")

// sameSite refuses what another site has a browser do. Browsers say so by themselves
// (Sec-Fetch-Site, else Origin); who is no browser has nothing that another site could use.
func (q *request) sameSite() error {
	if err := q.h.cross.Check(q.Request); err != nil {
		return api.Errorf(api.CrossOrigin, "open the gate's own page and do it there", "another site has made your browser ask for this")
	}
	switch q.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return nil
	}
	// A link on another page may lead to a page of ours, and show what it shows, no more.
	if q.Header.Get("Sec-Fetch-Mode") == "navigate" && q.Header.Get("Sec-Fetch-Dest") == "document" && q.route.page {
		return nil
	}
	if q.route.open {
		return nil
	}
	return api.Errorf(api.CrossOrigin, "open the gate's own page and do it there", "another site has made your browser ask for this")
}

// peerOf is the socket's address; the function's has no port.
func peerOf(remote string) (netip.Addr, error) {
	if p, err := netip.ParseAddrPort(remote); err == nil {
		return p.Addr(), nil
	}
	return netip.ParseAddr(remote)
}

// find is the route of a request, and sets what its path names.
func (h *Handler) find(r *http.Request) (*route, error) {
	probe := &probe{header: http.Header{}}
	h.mux.ServeHTTP(probe, r)
	if probe.route != nil {
		return probe.route, nil
	}
	if probe.status == http.StatusMethodNotAllowed {
		methods := probe.header.Get("Allow")
		return nil, allowed{api.Errorf(api.BadMethod, "", "this is done by %s", methods), methods}
	}
	return nil, api.Errorf(api.NotFound, "", "there is nothing at this address")
}

// allowed is an api.BadMethod with the methods that there are.
type allowed struct {
	error
	methods string
}

func (a allowed) Unwrap() error { return a.error }

// probe sees what the mux would do.
type probe struct {
	header http.Header
	status int
	route  *route
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// headers are on every answer.
func (q *request) headers() {
	h := q.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", q.site.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), geolocation=(), camera=(), microphone=()")
	if q.site.secure {
		h.Set("Strict-Transport-Security", "max-age=63072000")
	}
}

// recover answers for a handler that panicked; the request's id is all that is told of it.
func (q *request) recover() {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	q.h.logger.ErrorContext(q.Context(), "a request panicked", "request", q.id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	q.answer(api.Errorf(api.Internal, "", "something went wrong in the gate"), 0)
}

// fail answers with err: what is not an *api.Error is the log's alone.
func (q *request) fail(err error) {
	status := 0
	if errors.Is(err, errMisdirected) {
		status = http.StatusMisdirectedRequest
	}
	if a, ok := errors.AsType[allowed](err); ok {
		q.w.Header().Set("Allow", a.methods)
	}
	if s, ok := errors.AsType[withStatus](err); ok {
		status = s.status
	}
	e, ok := errors.AsType[*api.Error](err)
	switch {
	case !ok && q.Context().Err() != nil:
		e = api.Errorf(api.Busy, "ask again", "the gate had no time to answer")
	case !ok:
		q.h.logger.ErrorContext(q.Context(), "a request failed", "request", q.id, "method", q.Method, "path", q.URL.Path, "error", err)
		e = api.Errorf(api.Internal, "", "something went wrong in the gate")
	}
	q.answer(e, status)
}

// withStatus is an error with another status than its code's.
type withStatus struct {
	error
	status int
}

func (s withStatus) Unwrap() error { return s.error }

func (q *request) answer(e *api.Error, status int) {
	told := *e
	told.Request = q.id
	if status == 0 {
		status = told.Code.Status()
	}
	if told.After > 0 {
		q.w.Header().Set("Retry-After", strconv.FormatInt(told.After, 10))
	}
	if q.wantsPage() {
		if status == http.StatusUnauthorized && q.toSignIn(&told) {
			return
		}
		q.showError(&told, status)
		return
	}
	if status == http.StatusUnauthorized {
		q.w.Header().Set("WWW-Authenticate", "Sekisho")
	}
	q.writeJSON(status, told)
}

// wantsPage reports whether who asks reads pages: by the route, or where there is none, by
// what they accept.
func (q *request) wantsPage() bool {
	if q.site == nil || strings.HasPrefix(q.URL.Path, "/api/") || q.URL.Path == healthPath {
		return false
	}
	return q.route != nil && q.route.page || strings.Contains(q.Header.Get("Accept"), "text/html")
}

func (q *request) writeJSON(status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		q.h.logger.ErrorContext(q.Context(), "an answer cannot be written", "request", q.id, "error", err)
		status, b = 500, []byte(`{"code":"internal","message":"something went wrong in the gate"}`)
	}
	q.w.Header().Set("Content-Type", "application/json")
	q.w.WriteHeader(status)
	_, _ = q.w.Write(append(b, '\n'))
}

// site is made anew where the settings have changed.
func (h *Handler) site() (*site, error) {
	s := h.settings()
	if last := h.last.Load(); last != nil && last.Settings.equal(s) {
		return last, nil
	}
	fresh, err := newSite(s)
	if err != nil {
		return nil, err
	}
	h.last.Store(fresh)
	return fresh, nil
}
