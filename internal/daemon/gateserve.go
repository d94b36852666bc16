package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/config"
	"sekisho/internal/garbage"
	"sekisho/internal/gate/house"
	"sekisho/internal/notify/channels"
	"sekisho/internal/notify/courier"
)

// gateRetry is how long after a gate has failed it is tried again beside the guard. It
// doubles up to gateRetryMost.
const (
	gateRetry     = time.Second
	gateRetryMost = time.Minute
)

// GateOptions are what a Gate is given. Load, StateDir and Logger are needed.
type GateOptions struct {
	Load     func() (*config.Config, error) // reads the configuration, at start and at each reload
	StateDir string
	Logger   *slog.Logger
	First    func(link string, until time.Time) // is told how the first administrator is made
	Confine  bool                               // this process is the service, and writes nowhere but to its own folder from then on
}

// Gate is the gate alone, without the guard: it needs no rights but to its state folder.
// Make it with NewGate, run it once.
type Gate struct {
	o    GateOptions
	next chan *config.Config
	tell teller
}

// NewGate makes a Gate; nothing is touched before Run.
func NewGate(o GateOptions) *Gate {
	return &Gate{o: o, next: make(chan *config.Config), tell: newTeller()}
}

// Reload reads the configuration again and puts it in force. One with a mistake changes
// nothing.
func (g *Gate) Reload(ctx context.Context) error {
	cfg, err := g.o.Load()
	if err != nil {
		g.o.Logger.Error("the configuration has a mistake; the old one stays in force", "error", err)
		return err
	}
	select {
	case g.next <- cfg:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Run is the gate until ctx ends. A config.Errors comes back as it is; an *Error has a hint.
func (g *Gate) Run(ctx context.Context) error {
	cfg, err := g.o.Load()
	if err != nil {
		return err
	}
	if g.o.Confine {
		confine(cfg, g.o.Logger, g.o.StateDir)
	}
	tasks, ctx := errgroup.WithContext(ctx)
	stopTelling := g.beginTelling(ctx, cfg.Notify, func() {})
	defer func() { stopTelling() }()
	open := func(ctx context.Context, cfg *config.Config) (*house.House, error) {
		return house.Open(ctx, house.Options{
			Config: cfg, StateDir: g.o.StateDir, Logger: g.o.Logger, First: g.o.First, Notify: g.tell.tell,
			Ready: func() {
				tellSystemd("READY=1")
				debug.FreeOSMemory() // what a start leaves behind is as much as the gate lives on
			},
		})
	}
	next := make(chan *config.Config)
	tasks.Go(func() error {
		for {
			select {
			case cfg := <-g.next:
				stopTelling = g.beginTelling(ctx, cfg.Notify, stopTelling)
				select {
				case next <- cfg:
				case <-ctx.Done():
					return nil
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
	tasks.Go(func() error {
		var c garbage.Collector
		for ticks := time.NewTicker(time.Second); ; {
			select {
			case <-ctx.Done():
				ticks.Stop()
				return nil
			case <-ticks.C:
				c.Tune()
			}
		}
	})
	ended := errors.New("ended") // of the gate itself, so that the other task ends too
	tasks.Go(func() error {
		if err := serveGate(ctx, cfg, next, open, g.o.Logger); err != nil {
			return err
		}
		return ended
	})
	if err := tasks.Wait(); !errors.Is(err, ended) {
		return withGateHint(err)
	}
	return nil
}

// beginTelling starts a courier for what cfg names, and ends the one before by last. stop
// ends it, and keeps what waits.
func (g *Gate) beginTelling(ctx context.Context, cfg config.Notify, last func()) (stop func()) {
	whole, unread := cfg.WithSecrets()
	open, unusable := channels.Of(whole, g.tell.host)
	if err := errors.Join(unread, unusable); err != nil {
		g.o.Logger.Error("not all channels can be used", "error", withoutHints(err))
	}
	return g.tell.hand(ctx, courier.Options{Dir: filepath.Join(g.o.StateDir, "outbox"), Channels: open, Logger: g.o.Logger}, last)
}

// serveGate is the gate that cfg makes, and then those of the configurations of next, until
// ctx ends, there is none any more, or it fails. Where a new one cannot be opened the old
// one goes on.
func serveGate(ctx context.Context, cfg *config.Config, next <-chan *config.Config, open func(context.Context, *config.Config) (*house.House, error), log *slog.Logger) error {
	h, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	for {
		to, err := serveHouse(ctx, h, next, &cfg)
		if to == nil || err != nil {
			return err
		}
		log.Info("the gate begins anew: what it is asked to be differs")
		if h, err = open(ctx, to); err != nil {
			log.Error("the gate cannot be what the configuration makes of it; it goes on as it was", "error", err)
			if h, err = open(ctx, cfg); err != nil {
				return err
			}
			continue
		}
		cfg = to
	}
}

// serveHouse runs h until ctx ends, or a configuration comes that makes another gate of it,
// or none: it is to then, with gate.serve, or nil. Those that h takes are in force, and in cfg.
func serveHouse(ctx context.Context, h *house.House, next <-chan *config.Config, cfg **config.Config) (to *config.Config, err error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- h.Run(running) }()
	for {
		select {
		case err := <-ended:
			return nil, err
		case c := <-next:
			if h.Takes(c) {
				h.Take(c)
				*cfg = c
				continue
			}
			stop()
			if err := <-ended; err != nil || c.Gate.Serve == nil {
				return nil, err
			}
			return c, nil
		}
	}
}

// keepGate is the gate beside the guard, where the configuration asks for it. Whatever
// becomes of it, the guard goes on.
func (d *Daemon) keepGate(ctx context.Context) error {
	current := func() *config.Config {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.cfg
	}
	open := func(ctx context.Context, cfg *config.Config) (*house.House, error) {
		return house.Open(ctx, house.Options{
			Config: cfg, StateDir: d.opts.StateDir, Logger: d.log, Notify: d.teller.tell,
			Ready: func() { d.solved("house") },
			First: func(link string, until time.Time) {
				d.log.Warn("the gate has no administrator: whoever opens this link first is", "link", link, "until", until)
			},
		})
	}
	wait := gateRetry
	for ctx.Err() == nil {
		cfg := current()
		if cfg.Gate.Serve == nil || d.opts.WithoutGate {
			d.solved("house")
			select {
			case <-ctx.Done():
			case <-d.houseKick:
			}
			continue
		}
		next := make(chan *config.Config)
		serving, stop := context.WithCancel(ctx)
		forwarded := make(chan struct{})
		go func() {
			defer close(forwarded)
			for {
				select {
				case <-serving.Done():
					return
				case <-d.houseKick:
				}
				select {
				case <-serving.Done():
					return
				case next <- current():
				}
			}
		}()
		begun := time.Now()
		err := serveGate(serving, cfg, next, open, d.log)
		stop()
		<-forwarded
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(begun) > gateRetryMost {
			wait = gateRetry
		}
		d.log.Error("the gate cannot be had; it is tried again", "error", withoutHints(err), "after", wait)
		d.problem("house", "the gate is down: "+withoutHints(err), gateRemedy(err))
		select {
		case <-ctx.Done():
		case <-d.houseKick: // mended, perhaps
		case <-time.After(wait):
		}
		wait = min(2*wait, gateRetryMost)
	}
	return nil
}

// houseMayDiffer has keepGate look at what is asked for.
func (d *Daemon) houseMayDiffer() {
	select {
	case d.houseKick <- struct{}{}:
	default:
	}
}

// gateRemedy is what to do about a gate that cannot be had.
func gateRemedy(err error) string {
	if e, ok := errors.AsType[*house.Error](err); ok && e.Hint != "" {
		return e.Hint
	}
	return "see the log; it is tried again"
}

// withGateHint has a house's hint where the command line looks for it.
func withGateHint(err error) error {
	if e, ok := errors.AsType[*house.Error](err); ok {
		return &Error{fmt.Errorf("run the gate: %w", err), e.Hint}
	}
	return err
}
