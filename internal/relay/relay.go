package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stats are the bytes that went through.
type Stats struct {
	Sent     int64 // to the server
	Received int64 // from it
}

// linger is how long what is in hand may take to get to the server when ssh has gone.
const linger = 5 * time.Second

// Relay copies in to conn and conn to out until both have ended, or ctx has. The end of in
// ends the server's input; the server's end is out's, which is closed then, or shut down
// for writing where it is a socket. When nobody can read out any more, ssh has gone: what
// it said last is still sent, for at most 5 s. That is no error, nor is a server that
// closes the connection; a connection that breaks is one, and so is the end of ctx.
//
// conn stays open, and is not to be closed before Relay returns. Between it and pipes,
// which is what ssh gives its ProxyCommand, the kernel moves the bytes (splice(2)). in and
// out stay blocking or not, as they are, for others may share them; io.Copy would wait for a
// blocking one whatever happens. Only a stopped terminal can hold Relay up.
func Relay(ctx context.Context, conn *net.TCPConn, in, out *os.File) (Stats, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Stats{}, fmt.Errorf("relay: %w", err)
	}
	stop, err := newStopper()
	if err != nil {
		return Stats{}, fmt.Errorf("relay: %w", err)
	}
	defer stop.close()
	defer context.AfterFunc(ctx, stop.now)()

	var (
		sent, received       = &direction{stop: stop, toServer: true}, &direction{stop: stop}
		sentErr, receivedErr error
		both                 sync.WaitGroup
	)
	both.Go(func() {
		sentErr = using(in, raw, func(in, conn int) error {
			if err := sent.copy(in, conn); err != nil {
				return err
			}
			return unix.Shutdown(conn, unix.SHUT_WR)
		})
		if sentErr != nil {
			stop.in(linger) // what the server said last is still to get to ssh
		}
	})
	both.Go(func() {
		receivedErr = using(out, raw, func(out, conn int) error { return received.copy(conn, out) })
		switch {
		case errors.Is(receivedErr, errBroken): // ssh has gone, and may have said something last
			stop.in(linger)
		case receivedErr != nil:
			stop.now()
		}
		if err := end(out); err != nil && receivedErr == nil {
			receivedErr = fmt.Errorf("close the output: %w", err)
		}
	})
	both.Wait()
	stats := Stats{Sent: sent.bytes, Received: received.bytes}
	if ctx.Err() != nil {
		return stats, fmt.Errorf("relay: %w", context.Cause(ctx))
	}
	// The reason that the kernel gives, it gives to one of the two only. That the server has
	// closed the connection is an end like any other.
	for _, err := range []error{receivedErr, sentErr} {
		switch {
		case err == nil, errors.Is(err, errStopped), errors.Is(err, errBroken), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ENOTCONN):
		default:
			return stats, fmt.Errorf("relay: %w", err)
		}
	}
	return stats, nil
}

// end tells the reader of out that nothing comes any more.
func end(out *os.File) error {
	raw, err := out.SyscallConn()
	if err != nil {
		return err
	}
	socket := false
	if err := raw.Control(func(fd uintptr) {
		socket = kindOf(int(fd)) == unix.S_IFSOCK
		if socket {
			_ = unix.Shutdown(int(fd), unix.SHUT_WR) // it fails where the reader has gone
		}
	}); err != nil || socket {
		return err
	}
	return out.Close()
}

// using calls f with the descriptors of file and conn, which live until it returns.
func using(file *os.File, conn syscall.RawConn, f func(file, conn int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var errs, inner error
	err = raw.Control(func(file uintptr) {
		inner = conn.Control(func(conn uintptr) { errs = f(int(file), int(conn)) })
	})
	return errors.Join(err, inner, errs)
}

// kindOf is the file type of a descriptor: one of unix.S_IF*.
func kindOf(fd int) uint32 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Mode & unix.S_IFMT
}

// stopper ends what waits, by a descriptor that becomes readable.
type stopper struct {
	fd     int
	writer *os.File // closed: time to stop

	stopped atomic.Bool // the same, to be asked

	mu    sync.Mutex
	timer *time.Timer
}

func newStopper() (*stopper, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	return &stopper{fd: p[0], writer: os.NewFile(uintptr(p[1]), "stop")}, nil
}

func (s *stopper) now() {
	s.stopped.Store(true)
	_ = s.writer.Close()
}

func (s *stopper) in(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		return
	}
	s.timer = time.AfterFunc(d, s.now)
}

// close is called when nobody waits any more.
func (s *stopper) close() {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.now()
	_ = unix.Close(s.fd)
}
