package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"sekisho/internal/statefile"
)

// What callers tell apart.
var (
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrConflict: it is there already, or has changed since it was read.
	ErrConflict = errors.New("it is there already, or has changed meanwhile")
	// ErrExpired: the time of a once-token was over.
	ErrExpired = errors.New("its time is over")
	// ErrFull: there are as many as there may be.
	ErrFull = errors.New("there are as many as there may be")
	// ErrInvalid: what was to be written is not a row. A caller's mistake.
	ErrInvalid = errors.New("not valid")
	// ErrBusy: the state cannot be written or read now (disk full, database away, held by
	// another gate). Nothing was half done; try again.
	ErrBusy = errors.New("the gate's state cannot be used now")
	// ErrUnsure: the database went away in the middle of a commit and did not come back
	// to say whether it was made. It is an ErrBusy as well.
	ErrUnsure = errors.New("whether it was written is not known")
	// ErrCorrupt: what is stored is damaged.
	ErrCorrupt = errors.New("the gate's state is damaged: restore a backup, or move it away to begin anew")
	// ErrNewer: a newer program wrote it. It is left alone.
	ErrNewer = errors.New("the gate's state was written by a newer sekisho: upgrade this one")
	// ErrInsecure: others could replace the file under us.
	ErrInsecure = statefile.ErrInsecure
	// ErrClosed: the ledger was closed.
	ErrClosed = errors.New("the gate's state is closed")
)

// ours reports whether err says already what callers tell apart.
func ours(err error) bool {
	for _, e := range []error{ErrNotFound, ErrConflict, ErrExpired, ErrFull, ErrInvalid, ErrBusy, ErrCorrupt, ErrNewer, ErrInsecure, ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// sorted gives an error of a driver the one of ours that it is.
func sorted(err error) error {
	var lite *sqlite.Error
	var pg *pgconn.PgError
	switch {
	case err == nil || ours(err) || errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, statefile.ErrDamaged):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.As(err, &lite):
		return fmt.Errorf("%w: %w", liteFault(lite), err)
	case errors.As(err, &pg):
		return fmt.Errorf("%w: %w", pgFault(pg), err)
	}
	return fmt.Errorf("%w: %w", ErrBusy, err) // the network, a deadline
}

// liteFault sorts by https://www.sqlite.org/rescode.html.
func liteFault(e *sqlite.Error) error {
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return ErrCorrupt
	case sqlite3.SQLITE_CONSTRAINT:
		return ErrConflict
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return ErrInvalid
	case sqlite3.SQLITE_IOERR:
		if e.Code() == sqlite3.SQLITE_IOERR_SHORT_READ {
			return ErrCorrupt
		}
	}
	return ErrBusy
}

// pgFault sorts by class (PostgreSQL 15, appendix A).
func pgFault(e *pgconn.PgError) error {
	if len(e.Code) != 5 {
		return ErrBusy
	}
	switch {
	case e.Code == "XX001", e.Code == "XX002":
		return ErrCorrupt
	case e.Code[:2] == "23":
		return ErrConflict
	case e.Code[:2] == "22", e.Code[:2] == "25" && e.Code != "25006", e.Code[:2] == "42":
		return ErrInvalid
	}
	return ErrBusy
}

// errLost: the connection went away before a commit, or the server says that it was not
// made.
var errLost = errors.New("the connection was lost before it was written")

// again reports whether the same transaction may be made now: the server ended it before
// its commit, for a deadlock or a restart, or the connection went away.
func again(err error) bool {
	var pg *pgconn.PgError
	var lite *sqlite.Error
	switch {
	case errors.Is(err, ErrUnsure), errors.As(err, &lite):
		return false
	case errors.As(err, &pg):
		switch pg.Code {
		case "40001", "40P01", "57P01", "57P02", "57P03", "25006", "0A000", "26000":
			return true
		}
		return pg.Code[:min(2, len(pg.Code))] == "08"
	}
	return errors.Is(err, errLost) || pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, sql.ErrConnDone)
}
