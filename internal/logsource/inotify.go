package logsource

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	fileEvents = unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF
	dirEvents  = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_ONLYDIR
)

// watcher waits for changes of a few files and directories by inotify. It
// blocks its thread in poll(2): through the runtime's poller each line of a busy
// log would wake two threads more.
type watcher struct {
	fd   int
	stop int // an eventfd: written to, it ends a wait
	wds  map[int]bool
	buf  [4096]byte
}

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &watcher{fd: fd, stop: stop}, nil
}

func (w *watcher) close() error {
	return errors.Join(unix.Close(w.fd), unix.Close(w.stop))
}

// set watches exactly these from now on; what does not exist is left out.
func (w *watcher) set(files, dirs []string) {
	old := w.wds
	w.wds = make(map[int]bool, len(files)+len(dirs))
	add := func(path string, mask uint32) {
		if wd, err := unix.InotifyAddWatch(w.fd, path, mask); err == nil {
			w.wds[wd] = true
		}
	}
	for _, path := range files {
		add(path, fileEvents)
	}
	for _, path := range dirs {
		add(path, dirEvents)
	}
	for wd := range old {
		if !w.wds[wd] {
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd)) // fails where the kernel removed it with its inode
		}
	}
}

// wait returns after an event or the time. named is true if something
// happened to a name that begins with prefix or to a watched file's own name,
// not just to a file's content; and after the time.
func (w *watcher) wait(ctx context.Context, d time.Duration, prefix string) (named bool, err error) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_, _ = unix.Write(w.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		close(done)
	})
	defer func() {
		if !stop() {
			<-done // the descriptor may be another's soon
			_, _ = unix.Read(w.stop, w.buf[:8])
		}
	}()
	for {
		fds := [...]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}, {Fd: int32(w.stop), Events: unix.POLLIN}}
		n, err := unix.Poll(fds[:], int(d.Milliseconds()))
		switch {
		case ctx.Err() != nil:
			return true, ctx.Err()
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return true, fmt.Errorf("inotify: %w", err)
		case n == 0:
			return true, nil
		}
		n, err = unix.Read(w.fd, w.buf[:])
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return true, fmt.Errorf("inotify: %w", err)
		}
		woken := false
		for rest := w.buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			mask := binary.NativeEndian.Uint32(rest[4:])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
			name := string(bytes.TrimRight(rest[unix.SizeofInotifyEvent:size], "\x00"))
			rest = rest[size:]
			switch {
			case name != "" && !strings.HasPrefix(name, prefix):
			case mask&^unix.IN_MODIFY == 0:
				woken = true
			default:
				woken, named = true, true
			}
		}
		if woken {
			return named, nil
		}
	}
}
