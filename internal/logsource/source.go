// Package logsource turns journald, log files and standard input into lines of
// sshd's, with positions that survive a restart. It is the only package that
// watches files and runs journalctl.
//
// What is believed: a syslog file, where the syslog daemon wrote the envelope
// and sshd escaped every newline; a journal entry that journald itself vouches
// for (see OpenJournal). What sshd writes with -E or -e is forgeable: a client
// can put real newlines, and so whole false lines, into it before it has
// authenticated (OpenSSH up to 10.5: log.c, LOG_STDERR_VIS lacks VIS_NL). Such
// lines are left out unless Options.Bare asks for them, and are then marked.
package logsource

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"sekisho/internal/sshlog"
)

// Source is one log that is followed. Not safe for concurrent use.
type Source interface {
	// Name is stable over restarts: "journald", "file:/var/log/auth.log", "stdin".
	Name() string
	// Next blocks until there are lines, and returns all that are there, up to a
	// bound. The batch holds until the next call; it may have no line of sshd's,
	// only others' and a new Position. io.EOF ends standard input; ctx's error
	// is returned as it is; any other error is final for this source; what can
	// come back (a vanished file, a dead journalctl) is retried inside and
	// reported to Options.Logger.
	Next(ctx context.Context) (Batch, error)
	Close() error
}

// Batch is what one read gave: at most 256 KiB of raw log.
type Batch struct {
	Lines     []sshlog.Line // sshd's lines only
	Read      int           // lines read, other programs' included
	Dropped   int           // lines over the length limit, not looked at
	Forgeable int           // sshd's messages without an envelope so far, left out; see Options.Bare
	Position  Position      // after the last line read; kept with the effects of the lines
	Replay    bool          // these lines' effects are in the store: they only rebuild the windows
	Live      bool          // the end of the log had been reached: the lines are new
}

// Position is a place in a log, kept by the store as JSON. The zero value is
// the place before anything was read.
type Position struct {
	Cursor      string `json:"cursor,omitempty"` // journald
	Device      uint64 `json:"device,omitempty"` // file
	Inode       uint64 `json:"inode,omitempty"`
	Fingerprint uint64 `json:"fingerprint,omitempty"` // of the file's first min(256, Offset) bytes: an inode is reused
	Offset      int64  `json:"offset,omitempty"`      // the end of the last complete line
	Time        int64  `json:"time,omitempty"`        // Unix nanoseconds of the last sshd line read
	Shift       int64  `json:"shift,omitempty"`       // nanoseconds added to the log's times: its zone is not ours
}

// Options say how a log is read. The zero value reads from now on, with the
// machine's clock and zone.
type Options struct {
	After    Position       // what was committed; zero: first start
	FindTime time.Duration  // how far back to read at the start
	Location *time.Location // of time stamps without a zone; nil: time.Local
	Bare     bool           // believe lines without an envelope; forgeable, see above
	Now      func() time.Time
	Logger   *slog.Logger

	Journalctl string // program to run; empty: "journalctl"
	Directory  string // of the journal's files, to read another machine's or the host's from a container; empty: this machine's
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Journalctl == "" {
		o.Journalctl = "journalctl"
	}
	return o
}

// Spec names a log: Auto, Journald, Stdin, or the absolute path of a file.
type Spec string

// The logs that are not files.
const (
	Auto     Spec = "auto" // whatever Detect finds
	Journald Spec = "journald"
	Stdin    Spec = "stdin"
)

// Open opens the log that spec names.
func Open(ctx context.Context, spec Spec, o Options) (Source, error) {
	o = o.withDefaults()
	switch {
	case spec == Auto || spec == "":
		found, why, err := Detect(ctx, DetectOptions{Journalctl: o.Journalctl})
		if err != nil {
			return nil, err
		}
		o.Logger.Info("log chosen", "log", string(found), "why", why)
		return Open(ctx, found, o)
	case spec == Journald:
		return OpenJournal(ctx, o)
	case spec == Stdin:
		return OpenStdin(os.Stdin, o), nil
	case filepath.IsAbs(string(spec)):
		return OpenFile(string(spec), o)
	}
	return nil, fmt.Errorf("open log %q: want %q, %q, %q or an absolute path", spec, Auto, Journald, Stdin)
}

// sshdLines decodes raw lines into lines of sshd's.
type sshdLines struct {
	o     Options
	dec   *sshlog.Decoder
	since time.Time // when dec was made
	last  []byte    // the last raw line, anybody's
	lines []sshlog.Line

	forgeable int // lines that only sshd -E or -e can have written, and that were left out; see suspect
}

// restart begins another stretch of log, whose newest time is reference.
func (s *sshdLines) restart(reference time.Time) {
	s.since = s.o.Now()
	s.dec = sshlog.NewDecoder(sshlog.DecoderOptions{Location: s.o.Location, Reference: reference, Bare: s.o.Bare})
}

// refresh keeps the Decoder's reference near the clock while a log is followed:
// the first line after a quiet week would be dated a year back. Lines without
// an envelope have no time, and their Decoder's memory of them is needed.
func (s *sshdLines) refresh(now time.Time) {
	if !s.o.Bare && now.Sub(s.since) > time.Hour {
		s.restart(now)
	}
}

func (s *sshdLines) add(raw []byte, number int64) {
	s.last = raw
	n := len(s.lines)
	if n == cap(s.lines) {
		s.lines = append(s.lines, sshlog.Line{})[:n]
	}
	l := &s.lines[:n+1][n]
	if s.dec.Decode(raw, l) {
		l.Number = number
		s.lines = s.lines[:n+1]
	} else if s.o.Logger != nil && !s.o.Bare { // followed, not scanned
		s.suspect(raw)
	}
}

// suspect counts lines that are sshd's messages without any envelope, so that a
// log whose every line is left out does not stay silent.
func (s *sshdLines) suspect(raw []byte) {
	if len(raw) == 0 || raw[0] == '<' || raw[0] >= '0' && raw[0] <= '9' {
		return // a priority or a date
	}
	var ev sshlog.Event
	if !sshlog.Parse(raw, &ev) || ev.Kind == sshlog.Unknown || !ev.Addr.IsValid() {
		return
	}
	if s.forgeable++; s.forgeable == 1 {
		s.o.Logger.Error("this log has lines without date and program, as sshd -E and -e write them: a client can forge such lines, so they are left out; have sshd log to syslog or the journal")
	}
}
