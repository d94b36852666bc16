package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/lease"
	"sekisho/internal/printable"
	"sekisho/internal/store"
)

const (
	socketGroup  = "sekisho"
	maxRequest   = 64 << 10 // bytes of a request's body
	persistWait  = 3 * time.Second
	earlierLimit = 20
)

// peer is who is on the other end of the control socket (SO_PEERCRED).
type peer struct {
	uid, gid uint32
	groups   []uint32
	err      error
}

type peerKey struct{}

// serveControl answers the commands on the control socket until ctx ends.
func (d *Daemon) serveControl(ctx context.Context) error {
	if d.opts.Socket == "" {
		return nil
	}
	listener, err := listenSocket(ctx, d.opts.Socket)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           d.control(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a list of 100,000 bans to a slow pipe
		MaxHeaderBytes:    16 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the control socket %s: %w", d.opts.Socket, err)
	}
	return nil
}

// listenSocket makes the socket, for root and the group sekisho where there is
// one. A socket that a dead daemon left is replaced; a live one is an error.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
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
		p.uid, p.gid = cred.Uid, cred.Gid
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
				err = refuse(http.StatusForbidden, "use sudo, or join the group "+socketGroup, "not allowed")
			} else {
				r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
				body, err = answer(r, who)
			}
			status := http.StatusOK
			if err != nil {
				status = http.StatusInternalServerError
				reply := Failure{Error: err.Error()}
				if f, ok := errors.AsType[*failure](err); ok {
					status, reply.Hint = f.status, f.hint
				}
				body = reply
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(body) // a client that went away
		})
	}
	handle("GET /v1/status", func(r *http.Request, _ peer) (any, error) { return d.Status(r.Context()), nil })
	handle("GET /v1/bans", func(r *http.Request, _ peer) (any, error) { return d.Bans(r.Context()), nil })
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
		return d.Ban(r.Context(), q, who.name())
	})
	handle("POST /v1/unban", func(r *http.Request, who peer) (any, error) {
		var q UnbanRequest
		if err := decode(r.Body, &q); err != nil {
			return nil, err
		}
		return d.Unban(r.Context(), q, who.name())
	})
	handle("POST /v1/reload", func(r *http.Request, _ peer) (any, error) {
		if err := d.Reload(r.Context()); err != nil {
			return nil, refuse(http.StatusUnprocessableEntity, "the old configuration stays in force; see `sekisho config check`", "%w", err)
		}
		return Reply{OK: true, Text: "reloaded"}, nil
	})
	return mux
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

// Status is what is going on.
func (d *Daemon) Status(ctx context.Context) Status {
	s := Status{
		Version: d.opts.Version, PID: os.Getpid(), Since: d.start.Truncate(time.Second),
		Config: d.opts.ConfigPath, Bans: d.banCount(), Drift: d.repaired.Load(),
		Problems: []Problem{}, Sources: []SourceStatus{},
	}
	if err := d.rec.Degraded(); err != nil {
		s.Problems = append(s.Problems, Problem{"the state cannot be written: protection goes on from memory (" + err.Error() + ")", "free disk space or mend the state directory; nothing needs a restart"})
	}
	d.mu.Lock()
	s.Mode, s.Enforcing = d.cfg.Guard.Mode.String(), d.enforcing
	s.Guard = d.engine.Stats()
	fw := d.fw
	for _, p := range d.trouble {
		s.Problems = append(s.Problems, p)
	}
	for _, f := range d.sources {
		s.Sources = append(s.Sources, f.status())
	}
	d.mu.Unlock()
	slices.SortFunc(s.Sources, func(a, b SourceStatus) int { return strings.Compare(a.Name, b.Name) })
	if !s.Enforcing {
		s.Problems = append(s.Problems, Problem{"dry run: bans are decided and told, but nothing is dropped", "set guard.enforce: yes, then `sekisho reload`"})
	} else if packets, _, err := fw.Counters(ctx); err == nil {
		s.Dropped = &packets
	}
	return s
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
	d.mu.Unlock()
	reply.Banned = len(reply.Bans) > 0
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
		l.Until = now.Add(q.For)
	case q.For == 0:
		l.Until = now.Add(d.cfg.Guard.BanTime)
	}
	l.Count = d.engine.Begin(l)
	var err error
	if d.enforcing {
		err = d.fw.Ban(ctx, kernelBans([]lease.Lease{l}, now))
		d.cutLater([]lease.Lease{l})
	}
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
	if !q.All && !p.IsValid() {
		return UnbanReply{}, refuse(http.StatusBadRequest, "give an address, a prefix, or --all", "nothing to unban")
	}
	now := time.Now()
	reply := UnbanReply{Lifted: []Ban{}}
	var prefixes []netip.Prefix
	var unbans []store.Unban
	d.mu.Lock()
	d.engine.Bans(now, func(l lease.Lease) bool {
		if q.All || l.Prefix.Overlaps(p) {
			reply.Lifted = append(reply.Lifted, NewBan(l))
			prefixes = append(prefixes, l.Prefix)
			unbans = append(unbans, store.Unban{Prefix: l.Prefix, At: now, By: who})
		}
		return true
	})
	if !q.All && len(prefixes) == 0 {
		prefixes = []netip.Prefix{p} // nothing banned, but its count may be forgiven
		unbans = []store.Unban{{Prefix: p, At: now, By: who}}
	}
	for _, prefix := range prefixes {
		d.engine.Forgive(prefix, now)
	}
	var err error
	if d.enforcing {
		err = d.fw.Unban(ctx, prefixes)
	}
	d.rec.Add(store.Effects{Unbans: unbans})
	d.mu.Unlock()
	d.log.Info("unban by hand", "lifted", len(reply.Lifted), "all", q.All, "prefix", q.Prefix, "by", who)
	if err != nil {
		d.ask("an unban failed")
		return reply, fmt.Errorf("lifted, but still in the kernel; trying again: %w", err)
	}
	return reply, d.flush(ctx)
}

// flush waits until everything so far is written down.
func (d *Daemon) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, persistWait)
	defer cancel()
	if err := d.rec.Flush(ctx); err != nil {
		return refuse(http.StatusInsufficientStorage, "it is in force; free disk space or mend the state directory", "done, but not written down yet: %w", err)
	}
	return nil
}
