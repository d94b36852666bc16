// Package statefile is what SQLite files of ours have in common before SQLite sees them:
// the folder is nobody else's, what lies there is a database, and a new one is there whole
// or not at all. For packages store and ledger.
package statefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"sekisho/internal/durable"
)

var (
	// ErrInsecure: others could replace the file under us.
	ErrInsecure = errors.New("the state directory is not safe")
	// ErrDamaged: what lies there cannot be given to SQLite.
	ErrDamaged = errors.New("damaged")
)

// Tails are the names of a database's files after the database's own, which comes last: a
// write-ahead log that stays behind would be replayed into the next database of that name.
var Tails = [...]string{"-journal", "-shm", "-wal", ""}

// PrepareDir makes dir, 0700, or checks that nobody but us and root can put a file of
// theirs under a name of ours.
func PrepareDir(dir string) error {
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

// Inspect reports whether there is a file at path that can be given to SQLite, and has it
// be its owner's alone. Whatever else lies there is ErrDamaged.
func Inspect(path string) (found bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		for _, tail := range Tails {
			if _, err := os.Lstat(path + tail); err == nil {
				return false, fmt.Errorf("%w: %s has lost its database", ErrDamaged, path+tail)
			}
		}
		return false, nil
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return false, err
	case err != nil:
		return false, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer f.Close() // before SQLite opens it: a close drops the process's locks
	info, err := f.Stat()
	switch {
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%w: not a regular file", ErrDamaged)
	case info.Size() == 0:
		return false, fmt.Errorf("%w: the file is empty", ErrDamaged)
	}
	// To a database whose header asks for another write version SQLite does not
	// write, for ever: https://www.sqlite.org/fileformat2.html §1.3.
	var head [20]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:16]) != "SQLite format 3\x00" || head[18] != 2 || head[19] != 2 {
		return false, fmt.Errorf("%w: not a database with a write-ahead log", ErrDamaged)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return true, f.Chmod(0o600)
	}
	return true, nil
}

// Create has fill make the database at path, under another name first: no crash leaves a
// half made one. fill gets an empty file of its owner's alone, and closes it.
func Create(path string, fill func(path string) error) error {
	fresh := path + durable.Fresh
	for _, tail := range Tails {
		if err := os.RemoveAll(fresh + tail); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	if err := fill(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
