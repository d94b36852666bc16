package relay

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotPassable says that ssh does not wait for a descriptor.
var ErrNotPassable = errors.New("our output is no socket: ssh takes a connection only where ProxyUseFdpass is yes")

// PassDescriptor hands conn over to the ssh that started us with ProxyUseFdpass: over the socket
// that our standard output then is, with one byte beside it, as mm_receive_fd takes it
// (OpenSSH's monitor_fdpass.c). ssh goes on when our process has ended, and not before (it
// waits for it: ssh_proxy_fdpass_connect). conn stays open here too until it is
// closed, which ends nothing; it must not be used otherwise.
func PassDescriptor(conn *net.TCPConn, to *os.File) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("pass the connection: %w", err)
	}
	err = using(to, raw, func(to, conn int) error {
		if kindOf(to) != unix.S_IFSOCK {
			return ErrNotPassable
		}
		// ssh gets the connection as its own would be, before it makes it non-blocking itself.
		if err := unix.SetNonblock(conn, false); err != nil {
			return err
		}
		for {
			err := unix.Sendmsg(to, []byte{0}, unix.UnixRights(conn), nil, unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return err
			}
		}
	})
	if err != nil {
		return fmt.Errorf("pass the connection: %w", err)
	}
	return nil
}
