package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sekisho/internal/durable"
)

// keepAside is how many damaged files are kept: a disk that rots on and on must
// not be filled by us.
const keepAside = 4

// tails are the names of a database's files after the database's own, which
// comes last: a write-ahead log that stays behind would be replayed into the
// next database of that name.
var tails = [...]string{"-journal", "-shm", "-wal", ""}

// prepareDir makes dir, 0700, or checks that nobody but us and root can put a
// file of theirs under a name of ours.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a directory", ErrInsecure, dir)
	case owner != 0 && int(owner) != os.Geteuid():
		return fmt.Errorf("%w: %s belongs to user %d: chown it to the user sekisho runs as", ErrInsecure, dir, owner)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%w: others may write to %s: chmod 0700 %s", ErrInsecure, dir, dir)
	}
	return nil
}

// inspect reports whether there is a file at path that can be given to SQLite.
// Whatever else lies there is errDamaged.
func inspect(path string) (found bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		for _, tail := range tails {
			if _, err := os.Lstat(path + tail); err == nil {
				return false, fmt.Errorf("%w: %s has lost its database", errDamaged, path+tail)
			}
		}
		return false, nil
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return false, err
	case err != nil:
		return false, fmt.Errorf("%w: %w", errDamaged, err)
	}
	defer f.Close() // before SQLite opens it: a close drops the process's locks
	info, err := f.Stat()
	switch {
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%w: not a regular file", errDamaged)
	case info.Size() == 0:
		return false, fmt.Errorf("%w: the file is empty", errDamaged)
	}
	// To a database whose header asks for another write version SQLite does not
	// write, for ever: https://www.sqlite.org/fileformat2.html §1.3.
	var head [20]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:16]) != "SQLite format 3\x00" || head[18] != 2 || head[19] != 2 {
		return false, fmt.Errorf("%w: not a database with a write-ahead log", errDamaged)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return true, f.Chmod(0o600)
	}
	return true, nil
}

// setAside renames what is at path, with its log, and returns the new name.
func setAside(path string, now time.Time) (string, error) {
	aside := path + ".corrupt-" + now.UTC().Format("20060102T150405Z")
	for i := 2; ; i++ {
		if _, err := os.Lstat(aside); err != nil {
			break
		}
		aside = fmt.Sprintf("%s.corrupt-%s-%d", path, now.UTC().Format("20060102T150405Z"), i)
	}
	for _, tail := range tails {
		if err := os.Rename(path+tail, aside+tail); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	forgetAside(path, aside)
	return aside, durable.SyncDir(filepath.Dir(path))
}

// forgetAside removes the oldest set-aside files beyond keepAside. It is a
// courtesy to the disk: what cannot be removed stays.
func forgetAside(path, newest string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(filepath.Dir(path), e.Name())
		if rest, ok := strings.CutPrefix(name, path+".corrupt-"); ok && name != newest &&
			!strings.HasSuffix(rest, "-wal") && !strings.HasSuffix(rest, "-shm") && !strings.HasSuffix(rest, "-journal") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names[:max(0, len(names)-(keepAside-1))] {
		for _, tail := range tails {
			os.Remove(name + tail)
		}
	}
}
