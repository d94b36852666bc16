package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/config"
	"sekisho/internal/lease"
	"sekisho/internal/printable"
	"sekisho/internal/report"
	"sekisho/internal/store"
	"sekisho/internal/trial"
)

const (
	socketGroup  = "sekisho"
	maxRequest   = 64 << 10 // bytes of a request's body
	manyBans     = 10_000
	maxConns     = 64 // open connections of commands
	finishWithin = 3 * time.Second
	// maxSocketPath is sun_path without its final zero, unix(7).
	maxSocketPath = 107
	// longest is the longest ban with an end: times are kept in nanoseconds.
	longest      = 100 * 365 * 24 * time.Hour
	persistWait  = 3 * time.Second
	hopeless     = 300 * time.Millisecond // the same while nothing can be written
	earlierLimit = 20
)

// peer is who is on the other end of the control socket (SO_PEERCRED).
type peer struct {
	pid      int32
	uid, gid uint32
	groups   []uint32
	err      error
}

type peerKey struct{}

// serveControl answers the commands on the control socket until ctx ends; what
// was begun then is brought to its end.
func (d *Daemon) serveControl(ctx context.Context, listener net.Listener) error {
	if listener == nil {
		return nil
	}
	server := &http.Server{
		Handler:           d.control(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a list of 100,000 bans to a slow pipe
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
	}
	return serve(ctx, server, bound(listener, maxConns))
}

// serve serves until ctx ends, and gives what was begun a moment then.
func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
		defer cancel()
		if server.Shutdown(patience) != nil {
			server.Close()
		}
	})
	err := server.Serve(listener)
	if !stop() {
		<-over
	}
	if !errors.Is(err, http.ErrServerClosed) {
		server.Close()
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return nil
}

// bounded is a listener that has at most so many connections open: further ones
// wait in the kernel.
type bounded struct {
	net.Listener
	free   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func bound(l net.Listener, n int) *bounded {
	return &bounded{Listener: l, free: make(chan struct{}, n), closed: make(chan struct{})}
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.free <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.free
		return nil, err
	}
	return &boundedConn{Conn: c, done: func() { <-b.free }}, nil
}

func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

type boundedConn struct {
	net.Conn
	once sync.Once
	done func()
}

func (c *boundedConn) Close() error {
	defer c.once.Do(c.done)
	return c.Conn.Close()
}

// listenSocket makes the socket, for root and the group sekisho where there is
// one. A socket that a dead daemon left is replaced; a live one is an error.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, &Error{fmt.Errorf("the control socket's path %s has %d bytes; the kernel takes %d", path, len(path), maxSocketPath), "choose a shorter --socket"}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the control socket's folder: %w", err)
	}
	var dialer net.Dialer
	if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("another daemon answers on %s; only one can guard a host", path)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s is there and is no socket; remove it or choose another --socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the old control socket: %w", err)
		}
	}
	umask := unix.Umask(0o177) // never wider than this between bind and chmod
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	unix.Umask(umask)
	if err != nil {
		return nil, fmt.Errorf("listen on the control socket: %w", err)
	}
	if gid, ok := groupID(); ok {
		if err := errors.Join(os.Chown(path, -1, int(gid)), os.Chmod(path, 0o660)); err != nil {
			listener.Close()
			return nil, fmt.Errorf("give the control socket to group %s: %w", socketGroup, err)
		}
	}
	return listener, nil
}

func groupID() (uint32, bool) {
	group, err := user.LookupGroup(socketGroup)
	if err != nil {
		return 0, false
	}
	gid, err := strconv.ParseUint(group.Gid, 10, 32)
	return uint32(gid), err == nil
}

func peerOf(c net.Conn) peer {
	if b, ok := c.(*boundedConn); ok {
		c = b.Conn
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return peer{err: errors.New("not a Unix socket")}
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{err: err}
	}
	var p peer
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			p.err = err
			return
		}
		p.pid, p.uid, p.gid = cred.Pid, cred.Uid, cred.Gid
		p.groups = peerGroups(int(fd))
	})
	if err != nil {
		p.err = err
	}
	return p
}

// allowed says whether the peer may use the control socket: root, the daemon's
// own user, members of the group sekisho.
func (p peer) allowed() bool {
	if p.err != nil {
		return false
	}
	if p.uid == 0 || int(p.uid) == os.Geteuid() {
		return true
	}
	gid, ok := groupID()
	return ok && (p.gid == gid || slices.Contains(p.groups, gid))
}

// name is the peer's account, for the holder of a ban by hand.
func (p peer) name() string {
	if account, err := user.LookupId(strconv.FormatUint(uint64(p.uid), 10)); err == nil {
		return account.Username
	}
	return fmt.Sprintf("uid %d", p.uid)
}

// failure is an error of the API with its status and hint.
type failure struct {
	status int
	err    error
	hint   string
}

func (f *failure) Error() string { return f.err.Error() }

func refuse(status int, hint, format string, args ...any) error {
	return &failure{status, fmt.Errorf(format, args...), hint}
}

// control is the API. Every answer is JSON.
func (d *Daemon) control() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, answer func(r *http.Request, who peer) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			who, _ := r.Context().Value(peerKey{}).(peer)
			var body any
			err := error(nil)
			if !who.allowed() {
				err = notAllowed()
			} else {
				r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
				body, err = answer(r, who)
			}
			if err != nil {
				answerFailure(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(body) // a client that went away
			if long(body) {
				debug.FreeOSMemory() // it may be the last such answer for months
			}
		})
	}
	handle("GET /v1/status", func(r *http.Request, _ peer) (any, error) { return d.Status(r.Context()), nil })
	handle("GET /v1/live", func(r *http.Request, _ peer) (any, error) {
		return d.Live(r.Context(), r.URL.Query().Get("find")), nil
	})
	handle("GET /v1/bans", func(r *http.Request, _ peer) (any, error) { return d.Bans(r.Context()), nil })
	handle("GET /v1/report", func(r *http.Request, _ peer) (any, error) {
		days, err := strconv.Atoi(r.URL.Query().Get("days"))
		if err != nil || days < 1 || days > report.MaxDays {
			return nil, refuse(http.StatusBadRequest, fmt.Sprintf("give days=1 to %d", report.MaxDays), "%q are no days", r.URL.Query().Get("days"))
		}
		return d.Report(r.Context(), days)
	})
	handle("GET /v1/why", func(r *http.Request, _ peer) (any, error) {
		addr, err := netip.ParseAddr(r.URL.Query().Get("addr"))
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "give one address, for example 203.0.113.7", "%w", err)
		}
		return d.Why(r.Context(), addr.Unmap().WithZone("")), nil
	})
	handle("POST /v1/ban", func(r *http.Request, who peer) (any, error) {
		var q BanRequest
		if err := decode(r.Body, &q); err != nil {
			return nil, err
		}
		return d.Ban(context.WithoutCancel(r.Context()), q, who.name()) // also where the command went away
	})
	handle("POST /v1/unban", func(r *http.Request, who peer) (any, error) {
		var q UnbanRequest
		if err := decode(r.Body, &q); err != nil {
			return nil, err
		}
		return d.Unban(context.WithoutCancel(r.Context()), q, who.name())
	})
	handle("POST /v1/reload", func(r *http.Request, _ peer) (any, error) {
		if err := d.Reload(context.WithoutCancel(r.Context())); err != nil {
			return nil, refuse(http.StatusUnprocessableEntity, "the old configuration stays in force; see `sekisho config check`", "%w", err)
		}
		return Reply{OK: true, Text: "reloaded" + d.notApplied()}, nil
	})
	handle("GET /v1/plan", func(r *http.Request, _ peer) (any, error) {
		query := r.URL.Query()
		if err := d.mine(query.Get("config")); err != nil {
			return nil, err
		}
		var asker netip.AddrPort
		if text := query.Get("peer"); text != "" {
			var err error
			if asker, err = netip.ParseAddrPort(text); err != nil {
				return nil, refuse(http.StatusBadRequest, "for example 203.0.113.7:50022", "%w", err)
			}
		}
		ports, err := portsIn(query.Get("ports"))
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "for example 22,51921", "%w", err)
		}
		return d.Plan(r.Context(), asker, ports)
	})
	mux.HandleFunc("POST /v1/apply", func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(peerKey{}).(peer)
		if !who.allowed() {
			answerFailure(w, notAllowed())
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		if err := d.serveApply(w, r, who); err != nil {
			answerFailure(w, err)
		}
	})
	handle("GET /v1/trial", func(*http.Request, peer) (any, error) { return TrialReply{d.Trial()}, nil })
	handle("POST /v1/confirm", func(r *http.Request, who peer) (any, error) {
		var q ConfirmRequest
		if err := decode(r.Body, &q); err != nil {
			return nil, err
		}
		if err := d.Confirm(context.WithoutCancel(r.Context()), q, who.name()); err != nil {
			return nil, err
		}
		return Reply{OK: true, Text: "confirmed"}, nil
	})
	handle("POST /v1/revert", func(r *http.Request, who peer) (any, error) {
		if err := d.Revert(context.WithoutCancel(r.Context()), who.name()); err != nil {
			return nil, err
		}
		return Reply{OK: true, Text: "reverted: the rules before are in force"}, nil
	})
	handle("POST /v1/off", func(r *http.Request, who peer) (any, error) {
		if err := d.Off(context.WithoutCancel(r.Context()), who.name()); err != nil {
			return nil, err
		}
		return Reply{OK: true, Text: "off: no rule and no ban of ours is in force until `sekisho apply`"}, nil
	})
	handle("GET /v1/country", func(r *http.Request, _ peer) (any, error) {
		return CountryReply{Keep: d.countryNeeds(r.Context()).Keep}, nil
	})
	handle("POST /v1/country", func(r *http.Request, _ peer) (any, error) {
		if err := d.ReloadCountries(context.WithoutCancel(r.Context())); err != nil {
			return nil, err
		}
		return Reply{OK: true, Text: "the country data is read anew"}, nil
	})
	handle("POST /v1/gate", d.gateLook)
	handle("GET /v1/grants", func(*http.Request, peer) (any, error) { return d.Grants(), nil })
	handle("POST /v1/grants", func(r *http.Request, who peer) (any, error) {
		var q GrantRequest
		if err := decode(r.Body, &q); err != nil {
			return nil, err
		}
		return d.Grant(context.WithoutCancel(r.Context()), q, who.name())
	})
	handle("DELETE /v1/grants", func(r *http.Request, who peer) (any, error) {
		var q RevokeRequest
		if err := decode(r.Body, &q); err != nil {
			return nil, err
		}
		return d.Revoke(context.WithoutCancel(r.Context()), q, who.name())
	})
	return mux
}

// portsIn reads ports with commas between them; "" is none.
func portsIn(text string) (ports []uint16, err error) {
	if text == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		port, err := strconv.ParseUint(word, 10, 16)
		if err != nil || port == 0 || len(ports) == mostPorts {
			return nil, fmt.Errorf("%q are no ports, or more than %d", text, mostPorts)
		}
		ports = append(ports, uint16(port))
	}
	return ports, nil
}

func notAllowed() error {
	return refuse(http.StatusForbidden, "use sudo, or join the group "+socketGroup, "not allowed")
}

// failureOf is an error as the API tells it, and its status.
func failureOf(err error) (int, Failure) {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.status, Failure{err.Error(), f.hint}
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return http.StatusConflict, Failure{err.Error(), e.Hint}
	}
	if e, ok := errors.AsType[*trial.Error](err); ok {
		return http.StatusConflict, Failure{err.Error(), e.Hint}
	}
	if _, ok := errors.AsType[config.Errors](err); ok {
		return http.StatusUnprocessableEntity, Failure{err.Error(), "see `sekisho config check`"}
	}
	return http.StatusInternalServerError, Failure{Error: err.Error()}
}

func answerFailure(w http.ResponseWriter, err error) {
	status, reply := failureOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(reply)
}

// long reports whether an answer took memory worth giving back.
func long(body any) bool {
	switch b := body.(type) {
	case []Ban:
		return len(b) > manyBans
	case UnbanReply:
		return len(b.Lifted) > manyBans
	case report.Report:
		return true
	}
	return false
}

func decode(body io.Reader, into any) error {
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "this daemon and the command may be of different versions", "read the request: %w", err)
	}
	return nil
}

// Bans are the bans in force, soonest to end first; those without end last.
// Their reasons are the store's: the guard keeps bans without words.
func (d *Daemon) Bans(ctx context.Context) []Ban {
	reasons := map[netip.Prefix]lease.Lease{}
	if d.flush(ctx) == nil {
		_ = d.store.LiveBans(ctx, time.Now(), func(l lease.Lease) error { reasons[l.Prefix] = l; return nil }) // or without
	}
	bans := []Ban{}
	for l := range d.liveBans {
		if stored, ok := reasons[l.Prefix]; ok && stored.From.Equal(l.From) {
			l = stored
		}
		bans = append(bans, NewBan(l))
	}
	slices.SortFunc(bans, func(a, b Ban) int {
		switch {
		case a.Until == nil && b.Until == nil:
			return a.Prefix.Addr().Compare(b.Prefix.Addr())
		case a.Until == nil:
			return 1
		case b.Until == nil:
			return -1
		}
		return a.Until.Compare(*b.Until)
	})
	return bans
}

// absentLogs are the problems of logs that are not there, by key. Called with d.mu held.
func (d *Daemon) absentLogs() map[string]Problem {
	absent := map[string]Problem{}
	for _, f := range d.sources {
		if path, ok := strings.CutPrefix(f.name, "file:"); ok {
			if _, err := os.Stat(path); err != nil {
				absent["absent "+path] = problemOf("absent", fmt.Sprintf("nothing is read: %v", err), "it is waited for; see that sshd logs, and where (log.files)")
			}
		}
	}
	return absent
}

// unwritten is the problem of a state that cannot be written, for err.
func unwritten(err error) Problem {
	return problemOf("unwritten", "the state cannot be written: protection goes on from memory ("+err.Error()+")", "free disk space or mend the state directory; nothing needs a restart")
}

// Status is what is going on.
func (d *Daemon) Status(ctx context.Context) Status {
	s := Status{
		Version: d.opts.Version, PID: os.Getpid(), Since: d.start.Truncate(time.Second),
		Config: d.opts.ConfigPath, Drift: d.repaired.Load(),
		Problems: []Problem{}, Sources: []SourceStatus{}, Channels: d.channelStatus(),
	}
	if err := d.rec.Degraded(); err != nil {
		s.Problems = append(s.Problems, unwritten(err))
	}
	d.mu.Lock()
	s.Mode, s.Enforcing = d.cfg.Guard.Mode.String(), d.enforcing
	s.Guard = d.engine.Stats()
	s.Bans, s.Grants = s.Guard.Bans, len(d.liveGrants(time.Now()))
	fw := d.fw
	for _, key := range slices.SortedFunc(maps.Keys(d.trouble), byGravity) {
		s.Problems = append(s.Problems, d.trouble[key])
	}
	d.conntrackStatus(&s)
	for _, f := range d.sources {
		s.Sources = append(s.Sources, f.status())
	}
	absent := d.absentLogs()
	for _, key := range slices.Sorted(maps.Keys(absent)) {
		s.Problems = append(s.Problems, absent[key]) // which is what worstFirst brings to the front
	}
	d.mu.Unlock()
	slices.SortFunc(s.Sources, func(a, b SourceStatus) int { return strings.Compare(a.Name, b.Name) })
	d.firewallStatus(ctx, fw, &s)
	s.Gate, _ = d.gateStatus()
	worstFirst(s.Problems)
	return s
}

// byGravity orders problems by their keys, gravest first.
func byGravity(a, b string) int {
	order := []string{"firewall", "snapshot", "stuck", "unseen", "house", "others", "sources", "source", "drift", "unsaved", "state", "reload", "fill", "country", "forgeable", "notify", "gate", "metrics", "cut"}
	rank := func(key string) int {
		word, _, _ := strings.Cut(key, " ")
		return slices.Index(order, word)
	}
	return cmp.Or(rank(a)-rank(b), strings.Compare(a, b))
}

// Why is everything that is known of an address.
func (d *Daemon) Why(ctx context.Context, addr netip.Addr) WhyReply {
	now := time.Now()
	reply := WhyReply{Addr: addr, Bans: []Ban{}, Earlier: []Ban{}}
	if err := d.flush(ctx); err != nil {
		reply.StoreNote = err.Error()
	}
	d.mu.Lock()
	reply.Enforced = d.enforcing
	reply.MaxRetry, reply.FindTime = d.cfg.Guard.MaxRetry, d.cfg.Guard.FindTime.String()
	reply.Guard = d.engine.Why(addr, now)
	d.engine.Bans(now, func(l lease.Lease) bool {
		if l.Prefix.Contains(addr) {
			reply.Bans = append(reply.Bans, NewBan(l))
		}
		return true
	})
	if l, ok := d.granted(addr, now); ok {
		g := NewGrant(l)
		reply.Grant = &g
	}
	kept, state, data := d.kept, d.want, d.countries
	d.mu.Unlock()
	reply.Banned = len(reply.Bans) > 0
	if code, _, ok, err := data.Lookup(addr); err == nil && ok {
		reply.Country = code.String()
	}
	if kept == keepState {
		reply.SSH = d.judge(state, addr)
	}
	earlier, err := d.store.BansOf(ctx, addr)
	if err != nil {
		reply.StoreNote = err.Error()
	}
	for _, l := range earlier {
		b := NewBan(l)
		live := slices.IndexFunc(reply.Bans, func(live Ban) bool { return live.Prefix == b.Prefix && live.From.Equal(b.From) })
		switch {
		case live >= 0:
			reply.Bans[live] = b // the same, with its reason
		case len(reply.Earlier) < earlierLimit:
			reply.Earlier = append(reply.Earlier, b)
		}
	}
	return reply
}

// Ban bans by hand.
func (d *Daemon) Ban(ctx context.Context, q BanRequest, who string) (Ban, error) {
	p := q.Prefix.Masked()
	if !p.IsValid() || p.Addr().Is4In6() || p.Bits() < 8 {
		return Ban{}, refuse(http.StatusBadRequest, "give an address or a prefix no shorter than /8", "%s cannot be banned", q.Prefix)
	}
	now := time.Now()
	l := lease.Lease{Prefix: p, Verdict: lease.Deny, Cause: "manual", Reason: printable.Text(q.Reason), Holder: who, From: now}
	d.mu.Lock()
	if never, ok := d.engine.Never(p); ok {
		d.mu.Unlock()
		return Ban{}, refuse(http.StatusConflict, "take it out of admins or guard.ignore first; this host's own addresses stay", "%s is never banned: %s", p, never)
	}
	if session, ok := d.engine.Session(p); ok && !q.Force {
		d.mu.Unlock()
		return Ban{}, refuse(http.StatusConflict, "if that is not your own session, use --force", "somebody is logged in from %s", session)
	}
	switch {
	case q.For > 0:
		l.Until = now.Add(min(q.For, longest))
	case q.For == 0:
		l.Until = now.Add(d.cfg.Guard.BanTime)
	}
	l.Count = d.engine.Begin(l)
	var err error
	if d.enforcing {
		err = d.fw.Ban(ctx, kernelBans([]lease.Lease{l}, now))
		d.cutLater([]lease.Lease{l})
	}
	d.heardBans([]lease.Lease{l}, now)
	d.newest.add(l)
	d.rec.Add(store.Effects{Bans: []lease.Lease{l}})
	d.mu.Unlock()
	d.log.Info("ban by hand", "prefix", p, "until", until(l), "by", who, "reason", l.Reason)
	if err != nil {
		d.ask("a ban by hand failed")
		return Ban{}, fmt.Errorf("%s is noted but not in the kernel yet: %w", p, err)
	}
	return NewBan(l), d.flush(ctx)
}

// Unban lifts the bans that touch a prefix, or all.
func (d *Daemon) Unban(ctx context.Context, q UnbanRequest, who string) (UnbanReply, error) {
	p := q.Prefix.Masked()
	if !q.All && (!p.IsValid() || p.Bits() == 0) {
		return UnbanReply{}, refuse(http.StatusBadRequest, "give an address, a prefix, or --all", "nothing to unban")
	}
	reply := UnbanReply{Lifted: []Ban{}}
	var prefixes []netip.Prefix
	var lifted []lease.Lease
	for l := range d.liveBans {
		if q.All || l.Prefix.Overlaps(p) {
			reply.Lifted = append(reply.Lifted, NewBan(l))
			prefixes = append(prefixes, l.Prefix)
			lifted = append(lifted, l)
		}
	}
	if !q.All && len(prefixes) == 0 {
		prefixes = []netip.Prefix{p} // nothing banned, but its count may be forgiven
	}
	err := d.lift(ctx, prefixes, who)
	d.mu.Lock()
	d.heardUnbans(lifted, who)
	d.mu.Unlock()
	d.log.Info("unban by hand", "lifted", len(reply.Lifted), "all", q.All, "prefix", q.Prefix, "by", who)
	return reply, err
}

// flush waits until everything so far is written down; not for long where that
// has been hopeless for a while.
func (d *Daemon) flush(ctx context.Context) error {
	patience := persistWait
	if d.rec.Degraded() != nil {
		patience = hopeless
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d.mu.Lock()
	d.handOver()
	d.mu.Unlock()
	if err := d.rec.Flush(ctx); err != nil {
		if why := d.rec.Degraded(); why != nil {
			err = why
		}
		return refuse(http.StatusInsufficientStorage, "it is in force; free disk space or mend the state directory", "done, but not written down yet: %w", err)
	}
	return nil
}
