package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespace is an anonymous network namespace: it lives as long as its file
// descriptor, or a socket or process in it. Its methods may be called concurrently.
type Namespace struct {
	file *os.File
}

// NewNamespace makes an empty network namespace. It needs CAP_SYS_ADMIN.
func NewNamespace() (*Namespace, error) {
	var file *os.File
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		file = f
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return &Namespace{file}, nil
}

// FD is the namespace's file descriptor, for setns and netlink. It is n's: do not close it.
func (n *Namespace) FD() int { return int(n.file.Fd()) }

// Close lets go of the namespace.
func (n *Namespace) Close() error { return n.file.Close() }

// Do runs f on a thread that is in the namespace. Goroutines that f starts are not.
func (n *Namespace) Do(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the thread's network namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	defer func() {
		// A thread that cannot go back stays locked, and ends with its goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// Dial connects from an address in the namespace to another. The source needs
// not be on any interface, a route of type local is enough; an invalid from
// leaves the choice to the kernel.
func (n *Namespace) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	dialer := net.Dialer{Control: freebind}
	if from.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	var conn net.Conn
	err := n.Do(func() (err error) {
		// To a literal address the dialer makes its socket on this very thread.
		conn, err = dialer.DialContext(ctx, "tcp", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// freebind lets an IPv6 socket bind to an address that only a local route
// makes ours; IPv4 sockets need no leave for that.
func freebind(network, _ string, c syscall.RawConn) error {
	if network != "tcp6" {
		return nil
	}
	// Before Linux 4.15 there is no such option: ip_nonlocal_bind stands in.
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
	})
}

// onOwnThread runs f on a thread that is used for nothing else, neither before
// nor after, so that f may change whatever belongs to a thread.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if os.Getpid() == unix.Gettid() {
			// The main thread cannot end, and /proc/self shows its namespaces:
			// hold it here, so that the work falls to another one.
			done <- onOwnThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}

// thread is an OS thread of our own that works off functions, one at a time.
// Children that it starts die when it ends.
type thread struct {
	work chan func()
	done chan struct{}
}

// startThread starts a thread and runs setup on it first.
func startThread(setup func() error) (*thread, error) {
	t := &thread{work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error, 1)
	go func() {
		defer close(t.done)
		_ = onOwnThread(func() error {
			err := setup()
			ready <- err
			if err != nil {
				return nil
			}
			for f := range t.work {
				f()
			}
			return nil
		})
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	return t, nil
}

// do runs f on the thread and waits for it.
func (t *thread) do(f func() error) error {
	if t == nil {
		return errors.New("the lab is closed")
	}
	result := make(chan error, 1)
	select {
	case t.work <- func() { result <- f() }:
		return <-result
	case <-t.done:
		return errors.New("the lab is closed")
	}
}

// stop ends the thread, and with it its children.
func (t *thread) stop() {
	close(t.work)
	<-t.done
}
