package lab

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func newLab(t *testing.T, o Options) *Lab {
	t.Helper()
	path := o.SSHD
	if path == "" {
		var err error
		if path, err = FindSSHD(); err != nil {
			t.Skipf("LEFT OUT: %v", err)
		}
	}
	if err := Available(path); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	o.Dir = t.TempDir()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// settled is the log once sshd is done.
func settled(t *testing.T, l *Lab) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := l.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(l.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

func TestLab(t *testing.T) {
	began := time.Now()
	l := newLab(t, Options{})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v to come up, want at most 2 s", took)
	}
	for _, from := range []netip.Addr{Admin4, Admin6} {
		s, err := l.Login(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Run("echo hello")
		if got := string(out); err != nil || got != "hello\n" {
			t.Errorf("got %q, %v", got, err)
		}
		if err := s.Alive(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	attacker := netip.MustParseAddr("198.18.1.2")
	r, err := l.Attack(t.Context(), Attack{Method: Password, From: attacker, User: "root", Passwords: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Attempts(), 2; got != want {
		t.Errorf("attempts = %d, want %d (%+v)", got, want, r)
	}
	log := settled(t, l)
	want := fmt.Sprintf("Failed password for root from 198.18.1.2 port %d ssh2\n", r.Conns[0].Port)
	if got := strings.Count(log, want); got != 2 {
		t.Errorf("%d times %q in the log, want 2", got, want)
	}
	if t.Failed() {
		t.Log(log)
	}
	t.Log(log)
}
