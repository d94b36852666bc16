package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

func TestGone(t *testing.T) {
	pipe := func(t *testing.T) (*os.File, func()) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return w, func() { r.Close() }
	}
	socket := func(t *testing.T) (*os.File, func()) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		f, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(); peer.Close(); f.Close() })
		return f, func() {
			_ = conn.(*net.TCPConn).CloseWrite()
			peer.Close()
		}
	}
	for _, tt := range []struct {
		name string
		make func(*testing.T) (*os.File, func())
	}{{"a pipe", pipe}, {"a socket", socket}} {
		t.Run(tt.name, func(t *testing.T) {
			f, leave := tt.make(t)
			why := errors.New("enough")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, why)
			defer cancel()
			if err := Gone(ctx, f); !errors.Is(err, why) {
				t.Errorf("while it is there: %v", err)
			}
			leave()
			ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := Gone(ctx, f); err != nil {
				t.Errorf("when it is gone: %v", err)
			}
		})
	}
	t.Run("a file", func(t *testing.T) {
		f, err := os.CreateTemp(t.TempDir(), "f")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := Gone(ctx, f); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody goes from a file: %v", err)
		}
	})
}
