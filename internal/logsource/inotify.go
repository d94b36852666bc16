package logsource

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	fileEvents = unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF
	dirEvents  = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_ONLYDIR
)

// watcher waits for changes of a few files and directories by inotify. Its
// file is read through the runtime's poller: no thread, and microseconds from
// a write to the wake-up.
type watcher struct {
	file *os.File
	fd   int
	wds  map[int]bool
	due  time.Time // of the deadline that is set; setting one costs more than an event
	buf  [4096]byte
}

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return &watcher{file: os.NewFile(uintptr(fd), "inotify"), fd: fd}, nil
}

func (w *watcher) close() error { return w.file.Close() }

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

// wait returns after an event, or when d has passed since it last did so. named is true if something
// happened to a name that begins with prefix or to a watched file's own name,
// not just to a file's content; and after the time.
func (w *watcher) wait(ctx context.Context, d time.Duration, prefix string) (named bool, err error) {
	if now := time.Now(); !now.Before(w.due) {
		w.due = now.Add(d)
		if err := w.file.SetReadDeadline(w.due); err != nil {
			return true, fmt.Errorf("inotify: %w", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		n, err := w.file.Read(w.buf[:])
		switch {
		case ctx.Err() != nil:
			return true, ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			w.due = time.Time{}
			return true, nil
		case err != nil:
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
