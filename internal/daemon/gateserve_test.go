package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sekisho/internal/config"
)

// freeAddr is an address that nobody listens at.
func freeAddr(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", freePort(t)) }

func gateConfig(t *testing.T, at, more string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("test.yaml", fmt.Appendf(nil, "version: 1\ngate: {url: 'http://%[1]s', serve: {listen: ['%[1]s']}}\n%[2]s", at, more))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// answers waits until a gate answers at an address, or, with want false, does not.
func answers(t *testing.T, at string, want bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("a gate at %s: %v", at, want), func() bool {
		res, err := http.Get("http://" + at + "/healthz")
		if err != nil {
			return !want
		}
		res.Body.Close()
		return (res.StatusCode == http.StatusOK) == want
	})
}

func TestGateReload(t *testing.T) {
	first, second := freeAddr(t), freeAddr(t)
	var cfg atomic.Pointer[config.Config]
	var broken atomic.Bool
	cfg.Store(gateConfig(t, first, ""))
	var links atomic.Int32
	g := NewGate(GateOptions{
		Load: func() (*config.Config, error) {
			if broken.Load() {
				return nil, errors.New("a mistake")
			}
			return cfg.Load(), nil
		},
		StateDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		First: func(string, time.Time) { links.Add(1) },
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	answers(t, first, true)
	if links.Load() != 1 {
		t.Errorf("told %d links for the first administrator", links.Load())
	}

	broken.Store(true)
	if err := g.Reload(ctx); err == nil {
		t.Error("a configuration with a mistake is in force")
	}
	answers(t, first, true)
	broken.Store(false)

	cfg.Store(gateConfig(t, second, ""))
	if err := g.Reload(ctx); err != nil {
		t.Error(err)
	}
	answers(t, second, true)
	answers(t, first, false)

	// Where it cannot listen it goes on as it was.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg.Store(gateConfig(t, taken.Addr().String(), ""))
	if err := g.Reload(ctx); err != nil {
		t.Error(err)
	}
	cfg.Store(gateConfig(t, second, "people: {hanako: {}}\n"))
	if err := g.Reload(ctx); err != nil {
		t.Error(err)
	}
	answers(t, second, true)

	cfg.Store(config.Default()) // no gate any more
	if err := g.Reload(ctx); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a gate that nobody asks for goes on")
	}
	stop()
}

func TestGateRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  *config.Config
		want string
	}{
		{"no gate", config.Default(), "makes this machine no gate"},
		{"behind what is not named", func() *config.Config {
			c := gateConfig(t, "127.0.0.1:1", "")
			c.Gate.URL = "https://gate.example.com"
			return c
		}(), "would have its address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := NewGate(GateOptions{Load: func() (*config.Config, error) { return tt.cfg, nil }, StateDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
			err := g.Run(t.Context())
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Hint == "" || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestGateBesideGuard: what becomes of the gate is the guard's to tell, and not its end.
func TestGateBesideGuard(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	d := New(Options{StateDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	d.cfg = gateConfig(t, taken.Addr().String(), "")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.keepGate(ctx) }()
	problem := func() (Problem, bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		p, ok := d.trouble["house"]
		return p, ok
	}
	eventually(t, "a problem", func() bool { _, there := problem(); return there })
	if p, _ := problem(); p.Severity != Critical || p.Remedy == "" {
		t.Errorf("told as %+v", p)
	}
	taken.Close()
	d.houseMayDiffer()
	answers(t, taken.Addr().String(), true)
	eventually(t, "no problem", func() bool { _, there := problem(); return !there })

	d.mu.Lock()
	d.cfg = config.Default()
	d.mu.Unlock()
	d.houseMayDiffer()
	answers(t, taken.Addr().String(), false)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(d.opts.StateDir, "gate.db")); err != nil {
		t.Error(err)
	}
}
