package relay

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	errStopped = errors.New("it was stopped")
	errBroken  = errors.New("nobody reads what is written any more")
)

const (
	splices = 1 << 20  // bytes of a splice, at most
	reads   = 64 << 10 // of a read, where nothing can be spliced
	much    = 4 << 10  // that come at once are followed by more
)

// direction is one of the two ways of a relay.
type direction struct {
	stop     *stopper
	toServer bool // or from it; what breaks on ssh's side is an end
	bytes    int64
	polls    [3]unix.PollFd
}

// copy moves what comes from one descriptor to the other until the first ends. It does not
// change whether these block, and waits until they would not: others may share them.
func (d *direction) copy(from, to int) error {
	if kindOf(from) == unix.S_IFIFO || kindOf(to) == unix.S_IFIFO {
		err := d.splice(from, to)
		if !errors.Is(err, unix.EINVAL) { // there are files that cannot
			return err
		}
	}
	kind := kindOf(to)
	buf := make([]byte, reads)
	for {
		if err := d.readable(from, to); err != nil {
			return err
		}
		n, err := unix.Read(from, buf)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			continue
		case d.toServer && (err == unix.EIO || err == unix.ECONNRESET): // a terminal or a socket of somebody who has gone
			return nil
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return nil
		}
		if err := d.write(to, kind, buf[:n]); err != nil {
			return err
		}
	}
}

// splice is copy where one of the two is a pipe.
func (d *direction) splice(from, to int) error {
	for _, fd := range []int{from, to} { // a wider pipe has both sides wake less often
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, splices)
	}
	for {
		if err := d.readable(from, to); err != nil {
			return err
		}
		for flows := true; flows && !d.stop.stopped.Load(); {
			n, err := unix.Splice(from, nil, to, nil, splices, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				// Either there is nothing more, or no room for it.
				flows = false
				if err := d.writable(to); err != nil {
					return err
				}
			case err == unix.EPIPE:
				return errBroken
			case err != nil:
				return fmt.Errorf("splice: %w", err)
			case n == 0:
				return nil
			default:
				d.bytes += int64(n)
				flows = n >= much
			}
		}
	}
}

// write writes all of b, as much at a time as does not block.
func (d *direction) write(to int, kind uint32, b []byte) error {
	for len(b) > 0 {
		if err := d.writable(to); err != nil {
			return err
		}
		var n int
		var err error
		switch kind {
		case unix.S_IFSOCK:
			n, err = unix.SendmsgN(to, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		case unix.S_IFREG:
			n, err = unix.Write(to, b)
		default: // a pipe that can be written to has room for a page
			n, err = unix.Write(to, b[:min(len(b), 4096)])
		}
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
		case err == unix.EPIPE, !d.toServer && err == unix.ECONNRESET:
			return errBroken
		case err != nil:
			return fmt.Errorf("write: %w", err)
		default:
			d.bytes += int64(n)
			b = b[n:]
		}
	}
	return nil
}

// readable waits until there is something to read in from, or its end. There is no use
// for it when to is broken.
func (d *direction) readable(from, to int) error {
	if err := d.poll(
		unix.PollFd{Fd: int32(from), Events: unix.POLLIN},
		unix.PollFd{Fd: int32(to)},
	); err != nil {
		return err
	}
	if d.polls[2].Revents != 0 {
		return d.broken(to)
	}
	return nil
}

// writable waits until something can be written to to.
func (d *direction) writable(to int) error {
	if err := d.poll(unix.PollFd{Fd: int32(to), Events: unix.POLLOUT}, unix.PollFd{Fd: -1}); err != nil {
		return err
	}
	if d.polls[1].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
		return d.broken(to)
	}
	return nil
}

// poll waits until there is something of one of two, or for the time to stop.
func (d *direction) poll(a, b unix.PollFd) error {
	d.polls = [...]unix.PollFd{{Fd: int32(d.stop.fd), Events: unix.POLLIN}, a, b}
	for {
		_, err := unix.Poll(d.polls[:], -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case d.polls[0].Revents != 0:
			return errStopped
		}
		return nil
	}
}

// broken is why nothing can be written to to: the connection may tell.
func (d *direction) broken(to int) error {
	if !d.toServer {
		return errBroken
	}
	if errno, err := unix.GetsockoptInt(to, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno != 0 {
		return fmt.Errorf("the connection: %w", syscall.Errno(errno))
	}
	return errBroken
}
