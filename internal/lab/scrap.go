package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A lab's temporary folder is locked for as long as its process lives. One
// that is there without the lock is what a killed lab left.
const (
	scrapPattern = "sekisho-lab-*"
	scrapLock    = "lock"
	scrapEnv     = "SEKISHO_LAB" // marks the processes of a lab with its folder
)

// scrap is a lab's folder.
type scrap struct {
	dir  string
	lock *os.File // nil where the folder is the caller's
}

// newScrap uses dir, or makes a folder of our own.
func newScrap(dir string) (*scrap, error) {
	if dir == "" {
		return newScrapIn(os.TempDir())
	}
	dir, err := filepath.Abs(dir)
	return &scrap{dir: dir}, err
}

func newScrapIn(parent string) (*scrap, error) {
	dir, err := os.MkdirTemp(parent, scrapPattern)
	if err != nil {
		return nil, err
	}
	// Locked before it has its name: a sweep must not see it without its lock.
	path := filepath.Join(dir, scrapLock)
	lock, err := lockFile(path + ".new")
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &scrap{dir: dir, lock: lock}, nil
}

// mark is the environment entry of the lab's processes.
func (s *scrap) mark() string { return scrapEnv + "=" + s.dir }

func (s *scrap) remove() error {
	if s.lock == nil {
		return nil
	}
	return errors.Join(os.RemoveAll(s.dir), s.lock.Close())
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// sweep removes what killed labs left in parent: their folders, and processes
// that somehow outlived them.
func sweep(parent string, logger *slog.Logger) error {
	dirs, err := filepath.Glob(filepath.Join(parent, scrapPattern))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		// The temporary folder is everybody's: what is not root's own is not ours.
		var st unix.Stat_t
		if unix.Lstat(dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
			continue
		}
		path := filepath.Join(dir, scrapLock)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue // just being made, or just being removed
		}
		lock, err := lockFile(path)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		s := &scrap{dir, lock}
		killed := s.killMarked()
		if err := s.remove(); err != nil {
			return fmt.Errorf("remove a killed lab's folder: %w", err)
		}
		logger.Info("removed what a killed lab had left", "dir", dir, "processes", killed)
	}
	return nil
}

// killMarked kills the processes that carry the lab's mark.
func (s *scrap) killMarked() (killed int) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range procs {
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil || pid == os.Getpid() {
			continue
		}
		// Found first and read then: a handle stays with its process where the number may not.
		p, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		environ, err := os.ReadFile(filepath.Join(proc, "environ"))
		if err == nil && bytes.Contains(append([]byte{0}, environ...), []byte("\x00"+s.mark()+"\x00")) {
			if p.Kill() == nil {
				killed++
			}
		}
		_ = p.Release()
	}
	return killed
}
