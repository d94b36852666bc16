package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what comes at once.
const patience = 20 * time.Second

// pair is a connection over loopback.
func pair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	if err := s.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// ends are the two files that Relay is given, and those that ssh has of them.
type ends struct {
	in, out       *os.File
	toIn, fromOut *os.File
}

// kinds are what standard input and output may be.
var kinds = []struct {
	name string
	make func(t testing.TB) ends
}{
	{"pipes", func(t testing.TB) ends {
		var e ends
		e.in, e.toIn = pipe(t, false)
		e.fromOut, e.out = pipe(t, false)
		return e
	}},
	{"blocking pipes", func(t testing.TB) ends {
		var e ends
		e.in, e.toIn = pipe(t, true)
		e.fromOut, e.out = pipe(t, true)
		return e
	}},
	{"one socket", func(t testing.TB) ends {
		ours, theirs := sockets(t)
		return ends{in: ours, out: dup(t, ours), toIn: theirs, fromOut: theirs}
	}},
	{"two sockets", func(t testing.TB) ends {
		var e ends
		e.in, e.toIn = sockets(t)
		e.out, e.fromOut = sockets(t)
		return e
	}},
}

// pipe is a pipe; where it is blocking, our ends are as a shell would give them.
func pipe(t testing.TB, blocking bool) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if !blocking {
		return r, w
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// sockets is a pair of sockets, the first of which blocks.
func sockets(t testing.TB) (ours, theirs *os.File) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(p[1], true)
	}
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(p[0]), "ours"), os.NewFile(uintptr(p[1]), "theirs")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func dup(t testing.TB, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := os.NewFile(uintptr(fd), f.Name())
	t.Cleanup(func() { d.Close() })
	return d
}

// shut ends what goes to Relay's in, and nothing else.
func (e ends) shut(t testing.TB) {
	t.Helper()
	if err := unix.Shutdown(int(e.toIn.Fd()), unix.SHUT_WR); err == nil {
		return
	}
	if err := e.toIn.Close(); err != nil {
		t.Error(err)
	}
}

// gone is what happens when ssh is killed.
func (e ends) gone() {
	e.toIn.Close()
	e.fromOut.Close()
}

type outcome struct {
	Stats
	err error
}

func start(ctx context.Context, conn *net.TCPConn, e ends) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		s, err := Relay(ctx, conn, e.in, e.out)
		done <- outcome{s, err}
	}()
	return done
}

func await(t testing.TB, done <-chan outcome) outcome {
	t.Helper()
	select {
	case o := <-done:
		return o
	case <-time.After(patience):
		t.Fatal("Relay does not return")
		return outcome{}
	}
}

// big is more than all buffers between the two ends hold.
func big() []byte { return bytes.Repeat([]byte("0123456789abcdef"), 1<<20) }

func TestRelay(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Run("half-closes", func(t *testing.T) {
				client, server := pair(t)
				e := k.make(t)
				done := start(t.Context(), client, e)
				sent := big()
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					if _, err := e.toIn.Write(sent); err != nil {
						t.Error(err)
					}
					e.shut(t)
				}()
				// The server hears of the end of the input, and answers after it.
				got, err := io.ReadAll(server)
				<-wrote
				if err != nil || !bytes.Equal(got, sent) {
					t.Fatalf("the server got %d bytes, %v, want %d", len(got), err, len(sent))
				}
				go func() {
					if _, err := server.Write(sent[1:]); err != nil {
						t.Error(err)
					}
					server.Close()
				}()
				got, err = io.ReadAll(e.fromOut)
				if err != nil || !bytes.Equal(got, sent[1:]) {
					t.Fatalf("ssh got %d bytes, %v, want %d", len(got), err, len(sent)-1)
				}
				o := await(t, done)
				if want := (Stats{int64(len(sent)), int64(len(sent)) - 1}); o.err != nil || o.Stats != want {
					t.Errorf("got %+v, want %+v", o, want)
				}
			})
			t.Run("the server ends first", func(t *testing.T) {
				client, server := pair(t)
				e := k.make(t)
				done := start(t.Context(), client, e)
				if _, err := server.Write([]byte("bye")); err != nil {
					t.Fatal(err)
				}
				if err := server.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(e.fromOut); err != nil || string(got) != "bye" {
					t.Errorf("ssh got %q, %v", got, err)
				}
				if _, err := e.toIn.Write([]byte("still here")); err != nil {
					t.Error(err)
				}
				e.shut(t)
				if got, err := io.ReadAll(server); err != nil || string(got) != "still here" {
					t.Errorf("the server got %q, %v", got, err)
				}
				if o := await(t, done); o.err != nil || o.Stats != (Stats{10, 3}) {
					t.Errorf("got %+v", o)
				}
			})
			t.Run("ssh is gone", func(t *testing.T) {
				client, server := pair(t)
				e := k.make(t)
				done := start(t.Context(), client, e)
				if _, err := e.toIn.Write([]byte("last words")); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				e.gone()
				o := await(t, done)
				if o.err != nil || o.Sent != 10 {
					t.Errorf("got %+v", o)
				}
				if d := time.Since(begun); d > linger/2 {
					t.Errorf("it took %s", d)
				}
				if got, err := io.ReadAll(server); err != nil || string(got) != "last words" {
					t.Errorf("the server got %q, %v", got, err)
				}
			})
			t.Run("ssh is gone amid a download", func(t *testing.T) {
				client, server := pair(t)
				e := k.make(t)
				done := start(t.Context(), client, e)
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					_, _ = server.Write(big())
				}()
				if _, err := io.ReadFull(e.fromOut, make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				e.gone()
				if o := await(t, done); o.err != nil {
					t.Errorf("got %+v", o)
				}
				if d := time.Since(begun); d > linger/2 {
					t.Errorf("it took %s", d)
				}
				client.Close()
				<-wrote
			})
			t.Run("the connection breaks", func(t *testing.T) {
				client, server := pair(t)
				e := k.make(t)
				done := start(t.Context(), client, e)
				if err := server.SetLinger(0); err != nil {
					t.Fatal(err)
				}
				server.Close()
				if o := await(t, done); !errors.Is(o.err, unix.ECONNRESET) {
					t.Errorf("got %+v", o)
				}
				if got, err := io.ReadAll(e.fromOut); err != nil || len(got) != 0 {
					t.Errorf("ssh got %q, %v", got, err)
				}
			})
			t.Run("the context ends", func(t *testing.T) {
				client, _ := pair(t)
				e := k.make(t)
				ctx, cancel := context.WithCancelCause(t.Context())
				done := start(ctx, client, e)
				why := errors.New("enough")
				cancel(why)
				if o := await(t, done); !errors.Is(o.err, why) {
					t.Errorf("got %+v", o)
				}
			})
			t.Run("the context ends while nobody reads", func(t *testing.T) {
				client, server := pair(t)
				e := k.make(t)
				ctx, cancel := context.WithCancel(t.Context())
				done := start(ctx, client, e)
				full(t, server)
				full(t, e.toIn)
				cancel()
				if o := await(t, done); !errors.Is(o.err, context.Canceled) {
					t.Errorf("got %+v", o)
				}
			})
		})
	}
}

// full writes until nothing more fits for a while.
func full(t *testing.T, w interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}) {
	t.Helper()
	chunk := make([]byte, 1<<20)
	for {
		if err := w.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Skipf("LEFT OUT: %v", err)
		}
		if _, err := w.Write(chunk); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRelayFiles: standard input and output may be anything.
func TestRelayFiles(t *testing.T) {
	want := big()[:3<<20]
	for _, tt := range []struct {
		name string
		in   string // a device, or "" for a file
		sent []byte
	}{
		{"files", "", want},
		{"no input", os.DevNull, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := tt.in
			if name == "" {
				name = filepath.Join(t.TempDir(), "in")
				if err := os.WriteFile(name, want, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			in, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			client, server := pair(t)
			done := start(t.Context(), client, ends{in: in, out: out})
			got, err := io.ReadAll(server)
			if err != nil || !bytes.Equal(got, tt.sent) {
				t.Errorf("the server got %d bytes, %v, want %d", len(got), err, len(tt.sent))
			}
			if _, err := server.Write(want); err != nil {
				t.Fatal(err)
			}
			server.Close()
			if o := await(t, done); o.err != nil || o.Stats != (Stats{int64(len(tt.sent)), int64(len(want))}) {
				t.Errorf("got %+v", o)
			}
			if got, err := os.ReadFile(out.Name()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the file has %d bytes, %v, want %d", len(got), err, len(want))
			}
		})
	}
}
