package logsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"sekisho/internal/sshlog"
)

// DetectOptions say where to look. The zero value looks at this machine.
type DetectOptions struct {
	Root       string // of the file system; empty: "/"
	Journalctl string // empty: "journalctl"
}

// syslogFiles are where distributions let their syslog daemon write what sshd
// says: Debian and its kin, RHEL and its kin, Alpine and SUSE.
var syslogFiles = []string{"/var/log/auth.log", "/var/log/secure", "/var/log/messages"}

// lateBy is how far a file may be behind the journal and still be its equal.
const lateBy = time.Minute

// Detect finds this machine's log of sshd and says why that one, in a sentence.
// A file that is being written wins over the journal it is fed from: it is read
// sooner, and without another process. A file that was left over from before
// the journal does not. The error names what is missing.
func Detect(ctx context.Context, o DetectOptions) (Spec, string, error) {
	file, written, idle, fileErr := newestFile(o.Root)

	journal := Options{Journalctl: o.Journalctl}.withDefaults()
	if o.Root != "" {
		journal.Directory = filepath.Join(o.Root, "/var/log/journal")
	}
	logged, journalErr := newestEntry(ctx, journal)

	const stamp = "2006-01-02 15:04"
	switch {
	case file != "" && !logged.After(written.Add(lateBy)):
		why := fmt.Sprintf("%s has sshd's lines, the newest of %s", file, written.Format(stamp))
		if !logged.IsZero() {
			why += "; the journal has nothing newer"
		}
		return Spec(file), why, nil
	case journalErr == nil && !logged.IsZero():
		why := "the journal has sshd's entries, the newest of " + logged.Format(stamp)
		if file != "" {
			why += fmt.Sprintf("; %s has none since %s", file, written.Format(stamp))
		}
		return Journald, why, nil
	case journalErr == nil && hasJournal(o.Root):
		return Journald, "the journal can be read, and sshd has not written yet", nil
	case fileErr != nil:
		return "", "", fmt.Errorf("find sshd's log: %w", fileErr)
	case errors.Is(journalErr, errUnreadable):
		return "", "", fmt.Errorf("find sshd's log: %w", journalErr)
	case idle != "":
		return Spec(idle), idle + " is there and no journal is; sshd has not written yet", nil
	}
	return "", "", fmt.Errorf("find sshd's log: there is neither a readable journal nor any of %s; name the file that sshd's lines go to", strings.Join(syslogFiles, ", "))
}

// hasJournal reports whether journald keeps a journal, in memory or on disk.
func hasJournal(root string) bool {
	for _, dir := range []string{"/run/log/journal", "/var/log/journal"} {
		if entries, err := filepath.Glob(filepath.Join(root, dir, "*")); err == nil && len(entries) > 0 {
			return true
		}
	}
	return false
}

// newestFile returns the log file with the newest line of sshd's, and that
// line's time; where none has one, idle is the first that is there. The error
// is of a file that may not be read.
func newestFile(root string) (path string, newest time.Time, idle string, err error) {
	for _, name := range syslogFiles {
		name = filepath.Join("/", root, name)
		at, openErr := newestLine(name)
		switch {
		case errors.Is(openErr, fs.ErrNotExist):
		case openErr != nil:
			err = errors.Join(err, openErr)
		case at.After(newest):
			path, newest = name, at
		case idle == "":
			idle = name
		}
	}
	return path, newest, idle, err
}

// newestLine returns the time of sshd's last line in the last MiB of a file, or
// in its rotated predecessor where it has none; zero if there is none in either.
func newestLine(name string) (time.Time, error) {
	var newest time.Time
	current, err := openGeneration(name)
	if err != nil {
		return newest, err
	}
	defer current.close()
	if newest = lastTime(current); !newest.IsZero() {
		return newest, nil
	}
	older, _ := rotated(name, rotatedNames(name))
	for i, g := range older {
		if i == len(older)-1 && g.gz == nil {
			newest = lastTime(g)
		}
		g.close()
	}
	return newest, nil
}

func lastTime(g *logFile) time.Time {
	const end = 1 << 20
	off := max(0, g.size-end)
	s := NewScanner(io.NewSectionReader(g.file, off, g.size-off), sshlog.NewDecoder(sshlog.DecoderOptions{Reference: g.modTime}))
	var last int64
	for {
		lines, err := s.Next()
		if err != nil {
			break
		}
		if n := len(lines); n > 0 {
			last = lines[n-1].Time
		}
	}
	if last == 0 {
		return time.Time{}
	}
	return time.Unix(0, last)
}
