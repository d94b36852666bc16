// Package logsource turns journald, log files and standard input into lines of
// sshd's, with positions that survive a restart. It is the only package that
// watches files and runs journalctl.
package logsource

import (
	"context"

	"sekisho/internal/sshlog"
)

// Source is one log that is followed. Not safe for concurrent use.
type Source interface {
	// Name is stable over restarts: "journald", "file:/var/log/auth.log", "stdin".
	Name() string
	// Next blocks until there are lines, and returns all that are there, up to a
	// bound. The batch holds until the next call. io.EOF ends standard input;
	// any other error is final for this source; what can come back (a vanished
	// file, a dead journalctl) is retried inside and reported to Options.Logger.
	Next(ctx context.Context) (Batch, error)
	Close() error
}

// Batch is what one read gave.
type Batch struct {
	Lines    []sshlog.Line // sshd's lines only
	Read     int           // lines read, other programs' included
	Dropped  int           // lines over the length limit, not looked at
	Position Position      // after the last line read; kept with the effects of the lines
	Replay   bool          // these lines' effects are in the store: they only rebuild the windows
	Live     bool          // the end of the log had been reached: the lines are new
}

// Position is a place in a log, kept by the store as JSON. The zero value is
// the place before anything was read.
type Position struct {
	Cursor      string `json:"cursor,omitempty"` // journald
	Device      uint64 `json:"device,omitempty"` // file
	Inode       uint64 `json:"inode,omitempty"`
	Fingerprint uint64 `json:"fingerprint,omitempty"` // of the file's first bytes: an inode is reused
	Offset      int64  `json:"offset,omitempty"`
	Time        int64  `json:"time,omitempty"` // Unix nanoseconds of the last sshd line read
}
