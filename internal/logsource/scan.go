package logsource

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sekisho/internal/sshlog"
)

// Scanner reads a whole log, once, without following it.
type Scanner struct {
	r     io.Reader
	split splitter
	sshd  sshdLines
	bytes int64
	err   error
	ended bool // err is io.EOF
}

// NewScanner returns a Scanner of r whose lines dec decodes.
func NewScanner(r io.Reader, dec *sshlog.Decoder) *Scanner {
	return &Scanner{r: r, split: newSplitter(), sshd: sshdLines{dec: dec}}
}

// scanBatch is how many lines Next returns at most: few, so that their text is
// still in the processor's first cache when the caller looks at it.
const scanBatch = 64

// Next returns the next few of sshd's lines; perhaps none. They hold until the
// next call and are numbered from 1. The error is io.EOF at the end, and then
// there are no lines.
func (s *Scanner) Next() ([]sshlog.Line, error) {
	s.sshd.lines = s.sshd.lines[:0]
	for len(s.sshd.lines) < scanBatch {
		// What was cut off in the middle of a line may name another peer.
		raw, ok := s.split.next(s.ended)
		if ok {
			s.sshd.add(raw, s.split.number)
			continue
		}
		if len(s.sshd.lines) > 0 { // reading on would move them
			break
		}
		if s.err != nil {
			return nil, s.err
		}
		s.fill()
		if s.err == nil {
			break // the caller may want to stop
		}
	}
	return s.sshd.lines, nil
}

// fill reads what the buffer holds. Not by io.ReadFull, which has the same error
// as a gzip that ends too early.
func (s *Scanner) fill() {
	for p := s.split.free(); len(p) > 0 && s.err == nil; {
		var n int
		n, s.err = s.r.Read(p)
		p = p[n:]
		s.split.used += n
		s.bytes += int64(n)
	}
	s.ended = errors.Is(s.err, io.EOF)
}

// Read is how many lines were read so far, other programs' included.
func (s *Scanner) Read() int64 { return s.split.number }

// Dropped is how many of them were too long (over 64 KiB) and not looked at.
func (s *Scanner) Dropped() int64 { return int64(s.split.dropped) }

// Bytes is how many bytes were read so far, uncompressed.
func (s *Scanner) Bytes() int64 { return s.bytes }

// Log is a log file opened for a Scanner, decompressed where it is gzip.
type Log struct {
	file *os.File
	r    io.Reader
	size int64
	mod  time.Time
	done int64
}

// OpenLog opens a log file; gzip is told by its first bytes, not by its name. It
// also takes a pipe, as a shell's <(...) is one, and waits for its writer.
func OpenLog(path string) (*Log, error) {
	// A pipe is opened once: its writer would lose us between two times.
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() && !fi.IsDir() {
		return openStream(path)
	}
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{file: f, size: fi.Size(), mod: fi.ModTime()}
	var magic [2]byte
	if n, _ := f.ReadAt(magic[:], 0); n < 2 || magic != gzipMagic {
		l.r = counted{f, &l.done}
		return l, nil
	}
	// gzip.Reader goes over multiple members, as concatenated rotations have them.
	if l.r, err = gzip.NewReader(bufio.NewReaderSize(counted{f, &l.done}, 64<<10)); err != nil {
		f.Close()
		return nil, fmt.Errorf("open log %s: %w", path, err)
	}
	return l, nil
}

func openStream(path string) (*Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{file: f, mod: time.Now()}
	if l.r, err = Decompressed(counted{f, &l.done}); err != nil {
		f.Close()
		return nil, fmt.Errorf("open log %s: %w", path, err)
	}
	return l, nil
}

// Decompressed is what r holds, decompressed where it is gzip.
func Decompressed(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := buffered.Peek(len(gzipMagic)); string(magic) != string(gzipMagic[:]) {
		return buffered, nil
	}
	return gzip.NewReader(buffered)
}

func (l *Log) Read(p []byte) (int, error) { return l.r.Read(p) }
func (l *Log) Close() error               { return l.file.Close() }

// Size and Done are the file's bytes and those read so far (compressed, where
// it is gzip): what a progress bar wants.
func (l *Log) Size() int64 { return l.size }

// Done is how much of Size was read. Not to be called while Read runs.
func (l *Log) Done() int64 { return l.done }

// ModTime is the newest time the log can have: DecoderOptions.Reference.
func (l *Log) ModTime() time.Time { return l.mod }

var gzipMagic = [2]byte{0x1f, 0x8b}

type counted struct {
	r io.Reader
	n *int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}
