// Package gatetest runs a whole gate, with its state in a file and its HTTP, for tests of
// what speaks to one.
package gatetest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/gate"
	"sekisho/internal/gate/web"
	"sekisho/internal/ledger"
)

// Options say which gate. Config, whose gate.url has to be what it is reached by, and Dir
// are needed.
type Options struct {
	Config *config.Config
	Dir    string // where its state is
	Logger *slog.Logger
	Now    func() time.Time
	Settle time.Duration // of access.Access; 0: its own
}

// Gate is one that runs.
type Gate struct {
	*gate.Gate
	Handler *web.Handler
	close   func() error
}

// Start starts a gate. The caller serves its Handler, and closes it.
func Start(o Options) (*Gate, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := ledger.Open(context.Background(), filepath.Join(o.Dir, "gate", "gate.db"), ledger.Options{Logger: o.Logger, Now: o.Now})
	if err != nil {
		return nil, err
	}
	g := gate.New(gate.Options{
		Config: func() *config.Config { return o.Config }, Ledger: l, Alone: true, Logger: o.Logger, Now: o.Now, Settle: o.Settle,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- g.Run(ctx) }()
	return &Gate{
		Gate:    g,
		Handler: web.New(web.Options{Gate: g, Settings: func() web.Settings { return web.SettingsOf(o.Config) }, Logger: o.Logger, Now: o.Now}),
		close: sync.OnceValue(func() error {
			cancel()
			return errors.Join(<-ran, l.Close())
		}),
	}, nil
}

// Close ends it.
func (g *Gate) Close() error { return g.close() }

// Serve starts a gate and serves it, by plain HTTP, until ctx ends.
func Serve(ctx context.Context, o Options, l net.Listener) error {
	g, err := Start(o)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	err = web.Serve(ctx, g.Handler, web.Serving{Listeners: []net.Listener{l}, Trust: web.SettingsOf(o.Config).Trust, Logger: slog.New(slog.DiscardHandler)})
	return errors.Join(err, g.Close())
}
