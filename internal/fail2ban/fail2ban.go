// Package fail2ban reads what fail2ban is told to do, and whom it bans now, and says it in
// our words: `sekisho import fail2ban`. Its files are read as fail2ban itself reads them
// (releases 0.9 to 1.1: client/configreader.py, configparserinc.py and jailreader.py, over
// Python's configparser), its database as server/database.py writes it since 0.11. Nothing of
// it is changed. A mechanism: the only package that knows these files; it imports values only.
package fail2ban

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sekisho/internal/printable"
)

// Bounds of what is read: a real configuration has some 150 files of less than 40 KB.
const (
	maxFile  = 1 << 20 // bytes of one file
	maxTotal = 8 << 20 // bytes of all
	maxFiles = 2000    // readings, one file counted as often as it is included
)

// Place is where something stands.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"` // 1-based; 0: the file as a whole
}

// String is FILE:LINE, fit for a terminal.
func (p Place) String() string {
	if p.Line == 0 {
		return printable.Text(p.File)
	}
	return fmt.Sprintf("%s:%d", printable.Text(p.File), p.Line)
}

// Error is what keeps a configuration from being read: where, what, and what to do now. Its
// text is fit for a terminal.
type Error struct {
	Place
	Message string
	Hint    string

	cause error // the system's, where there is one
}

func (e *Error) Error() string {
	if e.File == "" {
		return e.Message
	}
	return e.Place.String() + ": " + e.Message
}

// Unwrap returns the system's error, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// Note is what is not taken over, or not as it was, and what to do about it. Its texts are
// fit for a terminal.
type Note struct {
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

// disk is where files are read: the machine's, or a test's.
type disk interface {
	// read gives the file at path; its error is fs.ErrNotExist where nothing can be
	// opened there, as with a link that leads nowhere.
	read(path string) ([]byte, error)
	// list gives the names in a folder, sorted; none where there is no such folder.
	list(dir string) ([]string, error)
}

// errNoFile is why something is not read that is there.
var errNoFile = errors.New("it is no ordinary file")

type machine struct{}

func (machine) read(path string) ([]byte, error) {
	// Whoever opens a FIFO otherwise waits for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNoFile
	}
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

func (machine) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// quote shows a text of a file in a message.
func quote(s string) string { return `"` + shown(s) + `"` }

// shown makes a text of a file fit for one line of a terminal.
func shown(s string) string {
	return printable.Cut(printable.Text(strings.Join(strings.Fields(s), " ")), 80)
}

// splitext takes the ending off a path, as Python's os.path.splitext.
func splitext(path string) string {
	base := filepath.Base(path)
	if strings.TrimLeft(base, ".") == "" {
		return path
	}
	dots := len(base) - len(strings.TrimLeft(base, "."))
	if i := strings.LastIndexByte(base, '.'); i > dots {
		return path[:len(path)-len(base)+i]
	}
	return path
}
