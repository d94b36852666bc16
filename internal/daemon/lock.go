package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// tableSocket is an abstract Unix socket: like our table there can be one in a
// network namespace, and it goes with its process, however that ends.
const tableSocket = "@sekisho/table inet sekisho"

// lockState takes the state directory for this process. The kernel lets go of it
// when the process ends. Where no file can be made there, nothing is locked: the
// store says what is wrong, and nothing is written anyway.
func lockState(dir string, log *slog.Logger) (io.Closer, error) {
	path := filepath.Join(dir, "lock")
	err := os.MkdirAll(dir, 0o700)
	var file *os.File
	if err == nil {
		file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	}
	if err != nil {
		log.Warn("the state directory is not locked against a second daemon", "error", err)
		return io.NopCloser(nil), nil
	}
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	switch err := unix.FcntlFlock(file.Fd(), unix.F_SETLK, &whole); {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		holder := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
		_ = unix.FcntlFlock(file.Fd(), unix.F_GETLK, &holder) // else pid 0 is told
		file.Close()
		return nil, secondDaemon(fmt.Sprintf("the state directory %s", dir), holder.Pid)
	case err != nil:
		log.Warn("the state directory is not locked against a second daemon", "error", err)
	}
	return file, nil
}

// lockTable takes our table of this network namespace: two daemons would take
// each other's bans out as foreign.
func lockTable(ctx context.Context, log *slog.Logger) (io.Closer, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", tableSocket)
	if err == nil {
		return listener, nil
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		log.Warn("our table is not locked against a second daemon", "error", err)
		return io.NopCloser(nil), nil
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", tableSocket)
	if err != nil {
		log.Warn("our table is not locked against a second daemon", "error", err)
		return io.NopCloser(nil), nil
	}
	defer conn.Close()
	holder := peerOf(conn) // who listens
	if holder.err == nil && (holder.uid == 0 || int(holder.uid) == os.Geteuid()) {
		return nil, secondDaemon("the table inet sekisho of this network namespace", holder.pid)
	}
	// Anybody may make an abstract socket; that must not keep us from guarding.
	log.Warn("a user holds the name by which a second daemon would be noticed", "uid", holder.uid, "pid", holder.pid)
	return io.NopCloser(nil), nil
}

// errSecond is the error of whoever finds a daemon at work.
var errSecond = errors.New("another sekisho")

func secondDaemon(what string, pid int32) error {
	return &Error{
		fmt.Errorf("%w (pid %d) holds %s", errSecond, pid, what),
		"one daemon guards a host: stop the other first (systemctl stop sekisho), or ask it: sekisho status",
	}
}
