package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listen is a listener on loopback, and its address.
func listen(t testing.TB) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener), l.Addr().(*net.TCPAddr).AddrPort()
}

// closedPort is an address on which nothing listens.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	l, addr := listen(t)
	l.Close()
	return addr
}

func TestDial(t *testing.T) {
	l, addr := listen(t)
	mapped := netip.AddrPortFrom(netip.AddrFrom16(addr.Addr().As16()), addr.Port())
	for _, tt := range []struct {
		name  string
		addrs []netip.AddrPort
		o     DialOptions
	}{
		{"at once", []netip.AddrPort{addr}, DialOptions{}},
		{"an IPv4 address in IPv6's clothes", []netip.AddrPort{mapped}, DialOptions{}},
		{"the next where one refuses", []netip.AddrPort{closedPort(t), addr}, DialOptions{Every: time.Hour}},
		{"the next where one cannot be reached", []netip.AddrPort{netip.MustParseAddrPort("255.255.255.255:1"), addr}, DialOptions{Every: time.Hour}},
		{"from an address", []netip.AddrPort{addr}, DialOptions{LocalAddr: netip.MustParseAddr("127.0.0.2")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, err := Dial(ctx, tt.addrs, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			server, err := l.AcceptTCP()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			from := server.RemoteAddr().(*net.TCPAddr).AddrPort()
			if from != conn.LocalAddr().(*net.TCPAddr).AddrPort() {
				t.Errorf("accepted from %s, but connected from %s", from, conn.LocalAddr())
			}
			if tt.o.LocalAddr.IsValid() && from.Addr() != tt.o.LocalAddr {
				t.Errorf("connected from %s, want %s", from, tt.o.LocalAddr)
			}
			options(t, conn)
			// It ends as any connection does: nothing that is in hand is lost.
			if _, err := conn.Write(make([]byte, 1<<16)); err != nil {
				t.Error(err)
			}
			conn.Close()
			n, err := server.WriteTo(discard{})
			if n != 1<<16 || err != nil {
				t.Errorf("the server got %d bytes, %v", n, err)
			}
		})
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// options looks at what the connection that Dial returns is set to.
func options(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		for _, o := range []struct {
			name               string
			level, which, want int
		}{
			{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60},
			{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 30},
			{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
			{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{"TCP_QUICKACK", unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1},
			{"SO_LINGER", unix.SOL_SOCKET, unix.SO_LINGER, 0},
		} {
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.which); err != nil || got != o.want {
				t.Errorf("%s is %d, %v, want %d", o.name, got, err, o.want)
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDialRefused(t *testing.T) {
	closed := closedPort(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	t.Run("an open door", func(t *testing.T) {
		_, err := Dial(ctx, []netip.AddrPort{closed}, DialOptions{Every: time.Millisecond})
		e, ok := errors.AsType[*DialError](err)
		if !ok || !errors.Is(err, ErrRefused) {
			t.Fatalf("error %v", err)
		}
		if len(e.Tried) != 1 || e.Tried[0].Addr != closed || e.Tried[0].Attempts < 3 || e.Tried[0].Refused != 3 || // one more may be under way
			!errors.Is(e.Tried[0].Last, syscall.ECONNREFUSED) {
			t.Errorf("tried %+v", e.Tried)
		}
		if got := err.Error(); strings.Count(got, closed.String()) != 1 || !strings.Contains(got, fmt.Sprintf("%d attempts", e.Tried[0].Attempts)) {
			t.Errorf("it says %q", got)
		}
	})
	t.Run("twice each", func(t *testing.T) {
		_, err := Dial(ctx, []netip.AddrPort{closed, closedPort(t)}, DialOptions{Every: time.Millisecond, Refused: 2})
		e, ok := errors.AsType[*DialError](err)
		if !ok || !errors.Is(err, ErrRefused) || e.Tried[0].Refused < 2 || e.Tried[1].Refused < 2 || e.Tried[0].Attempts+e.Tried[1].Attempts > 6 {
			t.Errorf("error %v", err)
		}
	})
	t.Run("beside one that cannot be reached", func(t *testing.T) {
		_, err := Dial(ctx, []netip.AddrPort{netip.MustParseAddrPort("255.255.255.255:1"), closed}, DialOptions{Every: time.Millisecond})
		e, ok := errors.AsType[*DialError](err)
		if !ok || !errors.Is(err, ErrRefused) || e.Tried[0].Last == nil || errors.Is(e.Tried[0].Last, syscall.ECONNREFUSED) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("before the door opens, and after", func(t *testing.T) {
		now := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			_, err := Dial(ctx, []netip.AddrPort{closed}, DialOptions{Every: 10 * time.Millisecond, Now: now})
			ended <- err
		}()
		begun := time.Now()
		select {
		case err := <-ended:
			t.Fatalf("it gave up after %s, before the door opened: %v", time.Since(begun), err)
		case <-time.After(200 * time.Millisecond):
		}
		now <- struct{}{}
		err := <-ended
		if e, ok := errors.AsType[*DialError](err); !ok || !errors.Is(err, ErrRefused) || e.Tried[0].Attempts < 5 || e.Tried[0].Refused != 3 {
			t.Errorf("error %v", err)
		}
	})
	t.Run("never too often", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := Dial(ctx, []netip.AddrPort{closed}, DialOptions{Every: 10 * time.Millisecond, Refused: -1})
		if e, ok := errors.AsType[*DialError](err); !ok || !errors.Is(err, context.DeadlineExceeded) || e.Tried[0].Attempts < 5 {
			t.Errorf("error %v", err)
		}
	})
	t.Run("until something listens", func(t *testing.T) {
		l, addr := listen(t)
		l.Close()
		refusedOnce := make(chan struct{})
		var once sync.Once
		go func() {
			<-refusedOnce
			l, err := net.Listen("tcp4", addr.String())
			if err != nil {
				t.Error(err)
				cancel()
				return
			}
			defer l.Close()
			if c, err := l.Accept(); err != nil {
				t.Error(err)
			} else {
				c.Close()
			}
		}()
		within := func(f func() error) error {
			err := f()
			once.Do(func() { close(refusedOnce) })
			return err
		}
		conn, err := Dial(ctx, []netip.AddrPort{addr}, DialOptions{Every: 5 * time.Millisecond, Refused: -1, Parallel: 1, within: within})
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	})
}

func TestDialArguments(t *testing.T) {
	for _, tt := range []struct {
		name  string
		addrs []netip.AddrPort
		o     DialOptions
		want  string
	}{
		{"no address", nil, DialOptions{}, "no address"},
		{"another family", []netip.AddrPort{netip.MustParseAddrPort("[::1]:22")}, DialOptions{LocalAddr: netip.MustParseAddr("127.0.0.1")}, "family"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Dial(t.Context(), tt.addrs, tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
