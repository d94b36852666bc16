// Package house is a whole gate as one configuration has it: its state, the flow, the
// identity provider, and HTTP on its listeners. The daemon has it as a role, the command
// `sekisho gate` alone. It imports packages gate, gate/web, ledger and oidc.
package house

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/config"
	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
	"sekisho/internal/gate/web"
	"sekisho/internal/ledger"
	"sekisho/internal/notify"
	"sekisho/internal/oidc"
)

// Callback is where an identity provider sends a browser back to, below the gate's URL.
const Callback = web.Callback

// file is the state in the state folder where no database is named.
const file = "gate.db"

// Options are what a House is made of. Config and StateDir are needed.
type Options struct {
	Config   *config.Config // has gate.serve
	StateDir string
	Notify   func(notify.Event) // tells people; nil: nobody. It must not block
	Logger   *slog.Logger       // nil: silence
	// First is told the link by which the first administrator is made, where there is none:
	// whoever has it administers the gate. nil: nobody is.
	First func(link string, until time.Time)
	// Ready is called once the gate answers.
	Ready func()

	settle time.Duration // of tests
}

// Error is an error with what to do about it.
type Error struct {
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// House is a gate that listens. Its methods are safe for concurrent use; Run is called once.
type House struct {
	o         Options
	log       *slog.Logger
	cfg       atomic.Pointer[config.Config]
	ledger    *ledger.Ledger
	gate      *gate.Gate
	handler   *web.Handler
	listeners []net.Listener
}

// Open opens the gate's state and listens. What it refuses is an *Error, config.Errors, or
// the system's.
func Open(ctx context.Context, o Options) (_ *House, err error) {
	serve := o.Config.Gate.Serve
	if serve == nil {
		return nil, &Error{errors.New("the configuration makes this machine no gate"), "say where it listens: gate: {url: https://gate.example.com, serve: {listen: [127.0.0.1:8022]}}"}
	}
	if err := everybodyIsHere(o.Config.Gate); err != nil {
		return nil, err
	}
	whole, err := serve.WithSecrets()
	if err != nil {
		return nil, err
	}
	h := &House{o: o, log: o.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.cfg.Store(o.Config)
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	dsn, alone := whole.DSN.Reveal(), false
	if dsn == "" {
		dsn = whole.Database
	}
	if dsn == "" {
		dsn = filepath.Join(o.StateDir, file)
	}
	if u, err := url.Parse(dsn); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		alone = true
	}
	if h.ledger, err = ledger.Open(ctx, dsn, ledger.Options{Logger: h.log}); err != nil {
		return nil, &Error{fmt.Errorf("open the gate's state: %w", err), stateHint(err)}
	}
	h.gate = gate.New(gate.Options{Config: h.cfg.Load, Ledger: h.ledger, Alone: alone, Notify: o.Notify, Logger: h.log, Settle: o.settle})
	provider, err := providerOf(o.Config.Gate.URL, whole.OIDC)
	if err != nil {
		return nil, err
	}
	h.handler = web.New(web.Options{Gate: h.gate, Provider: provider, Logger: h.log, Settings: func() web.Settings { return web.SettingsOf(h.cfg.Load()) }})
	for _, at := range serve.Listen {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", at.String())
		if err != nil {
			return nil, &Error{fmt.Errorf("listen at %v: %w", at, err), "end what listens there, or name another: gate: {serve: {listen: [...]}}"}
		}
		h.listeners = append(h.listeners, l)
	}
	return h, nil
}

// providerOf is the identity provider; nil, as an interface too, where there is none.
func providerOf(base string, c *config.OIDC) (web.Provider, error) {
	if c == nil {
		return nil, nil
	}
	p, err := oidc.New(oidc.Config{
		Issuer: c.Issuer, ClientID: c.ClientID, Secret: c.ClientSecret.Reveal(), RedirectURL: base + Callback,
		PersonClaim: c.PersonClaim.String(), GroupsClaim: c.GroupsClaim,
	})
	if err != nil {
		return nil, &Error{fmt.Errorf("use the identity provider: %w", err), "look at gate.serve.oidc"}
	}
	return p, nil
}

// everybodyIsHere refuses a gate whose visitors would all seem to come from this machine:
// one that others reach by something in front of it whose word is not taken.
func everybodyIsHere(g config.Gate) error {
	u, err := url.Parse(g.URL)
	if err != nil {
		return err
	}
	if a, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && a.IsLoopback() {
		return nil
	}
	for _, at := range g.Serve.Listen {
		if at.Addr().IsLoopback() && g.Serve.Cert == "" && len(g.Serve.Proxies) == 0 {
			return &Error{
				fmt.Errorf("gate.url is %s, and the gate would listen at %v without a certificate: whoever comes through a proxy would have its address", g.URL, at),
				"name the proxy and its header: gate: {serve: {proxies: [127.0.0.1], forwarded: x_forwarded_for}}; or give the gate its certificate: tls",
			}
		}
	}
	return nil
}

func stateHint(err error) string {
	switch {
	case errors.Is(err, ledger.ErrBusy):
		return "see whether another gate runs here, the disk is full, or the database answers; see gate.serve.database"
	case errors.Is(err, ledger.ErrInsecure):
		return "make the state folder its owner's alone: chmod 700"
	}
	return ""
}

// Addrs are where it listens.
func (h *House) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(h.listeners))
	for i, l := range h.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Takes reports whether the running gate can go by another configuration: people, targets,
// policy and pages may differ. All else needs another House.
func (h *House) Takes(c *config.Config) bool {
	if c.Gate.Serve == nil {
		return false
	}
	is, was := *c.Gate.Serve, *h.o.Config.Gate.Serve
	for _, s := range []*config.Serve{&is, &was} {
		s.Admins, s.Groups, s.Edit, s.Session, s.Addresses = nil, nil, false, 0, config.Addresses{}
	}
	return c.Gate.URL == h.o.Config.Gate.URL && reflect.DeepEqual(is, was) && reflect.DeepEqual(c.AWS, h.o.Config.AWS) && everybodyIsHere(c.Gate) == nil
}

// Take puts another configuration in force, one that Takes takes.
func (h *House) Take(c *config.Config) { h.cfg.Store(c) }

// Run serves until ctx ends, and ends what was begun. The House is closed then.
func (h *House) Run(ctx context.Context) error {
	defer h.close()
	if err := h.first(ctx); err != nil {
		return err
	}
	serve := h.o.Config.Gate.Serve
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return h.gate.Run(ctx) })
	tasks.Go(func() error {
		return web.Serve(ctx, h.handler, web.Serving{
			Listeners: h.listeners, TLS: web.Files{Cert: serve.Cert, Key: serve.Key}, Trust: web.SettingsOf(h.o.Config).Trust, Logger: h.log,
		})
	})
	for _, a := range h.Addrs() {
		h.log.Info("the gate listens", "at", a.String(), "url", h.o.Config.Gate.URL, "tls", serve.Cert != "")
	}
	h.tellHead(ctx)
	if h.o.Ready != nil {
		h.o.Ready()
	}
	return tasks.Wait()
}

// tellHead notes in the log, which is kept elsewhere than the audit, where that ends now.
func (h *House) tellHead(ctx context.Context) {
	var head ledger.Head
	err := h.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		head, err = tx.Head()
		return err
	})
	switch {
	case err != nil:
		h.log.Warn("the audit's last entry cannot be read now", "error", err)
	case head.Seq > 0:
		h.log.Info("the audit's last entry", "known", fmt.Sprintf("%d:%s", head.Seq, head.Hash))
	}
}

// first tells the first administrator's link, where one is needed.
func (h *House) first(ctx context.Context) error {
	token, until, needed, err := h.gate.FirstAdministrator(ctx)
	var busy *api.Error
	switch {
	case errors.As(err, &busy) && busy.Code == api.Busy:
		h.log.Error("whether the gate has an administrator cannot be read now", "error", err)
	case err != nil:
		return fmt.Errorf("look for an administrator: %w", err)
	case needed && h.o.First != nil:
		h.o.First(h.o.Config.Gate.URL+"/invite#"+token, until)
	}
	return nil
}

func (h *House) close() {
	for _, l := range h.listeners {
		l.Close()
	}
	if h.ledger != nil {
		if err := h.ledger.Close(); err != nil {
			h.log.Error("the gate's state was not closed as it should", "error", err)
		}
	}
}
