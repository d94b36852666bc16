package store

import (
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"sekisho/internal/statefile"
)

// What callers tell apart. Every error of a method on an open store is one of
// the first two, or the context's.
var (
	// ErrDegraded: the state cannot be written or read now (disk full, read-only,
	// I/O error, held by another process). Nothing was half done; try again.
	ErrDegraded = errors.New("the state file cannot be used now")
	// ErrCorrupt: the file proved damaged in use. It is an ErrDegraded as well;
	// Reopen sets the file aside and starts anew.
	ErrCorrupt = errors.New("the state file is damaged")
	// ErrNewer: a newer program wrote the file. It is left alone.
	ErrNewer = errors.New("the state file was written by a newer sekisho: upgrade this one, or move the file away")
	// ErrInsecure: others could replace the file under us.
	ErrInsecure = statefile.ErrInsecure
)

// errDamaged is found while opening or reading: the file is to be set aside.
var errDamaged = statefile.ErrDamaged

// fault is what an error of the driver says of the file.
type fault uint8

const (
	faultPassing  fault = iota + 1 // as the disk is now: the same connection may work later
	faultStale                     // the connection may not recover: open again
	faultCorrupt                   // the file is not a sound database of ours
	faultCanceled                  // the context ended, nothing else
)

func faultOf(err error) fault {
	var e *sqlite.Error
	switch {
	case errors.Is(err, errDamaged):
		return faultCorrupt
	case !errors.As(err, &e):
		return faultStale
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return faultCorrupt
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM:
		return faultPassing
	case sqlite3.SQLITE_IOERR:
		if e.Code() == sqlite3.SQLITE_IOERR_SHORT_READ {
			return faultCorrupt
		}
		return faultPassing
	case sqlite3.SQLITE_INTERRUPT:
		return faultCanceled
	}
	return faultStale
}

// openFaultOf is faultOf while opening, when every statement is known good: what
// SQLite cannot make sense of then is the file.
func openFaultOf(err error) fault {
	f := faultOf(err)
	var e *sqlite.Error
	if f != faultStale || !errors.As(err, &e) {
		return f
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS:
		return faultStale
	}
	return faultCorrupt
}
