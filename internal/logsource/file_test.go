package logsource

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// testLog is a directory with a log, and what a writer and logrotate do to it.
type testLog struct {
	t    *testing.T
	path string
	w    *os.File
	n    int // lines written
	base time.Time
}

func newTestLog(t *testing.T) *testLog {
	l := &testLog{t: t, path: filepath.Join(t.TempDir(), "auth.log"), base: time.Now().Add(-time.Minute).Truncate(time.Second)}
	t.Cleanup(func() {
		if l.w != nil {
			l.w.Close()
		}
	})
	return l
}

func (l *testLog) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// text is the n-th line, a second after the last.
func (l *testLog) text(n int) string {
	at := l.base.Add(time.Duration(n) * time.Millisecond)
	return fmt.Sprintf("%s host sshd[%d]: line %d\n", at.Format("2006-01-02T15:04:05.000000Z07:00"), 100+n%7, n)
}

// open is what a writer does at its start and when it is told to reopen.
func (l *testLog) open() *testLog {
	l.t.Helper()
	if l.w != nil {
		l.w.Close()
	}
	var err error
	l.w, err = os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	l.must(err)
	return l
}

func (l *testLog) raw(s string) *testLog {
	l.t.Helper()
	_, err := l.w.WriteString(s)
	l.must(err)
	return l
}

func (l *testLog) lines(n int) *testLog {
	l.t.Helper()
	for range n {
		l.n++
		l.raw(l.text(l.n))
	}
	return l
}

// rotate renames auth.log to .1, .1 to .2 and so on.
func (l *testLog) rotate() *testLog {
	l.t.Helper()
	last := 0
	for exists(fmt.Sprintf("%s.%d", l.path, last+1)) || exists(fmt.Sprintf("%s.%d.gz", l.path, last+1)) {
		last++
	}
	for i := last; i > 0; i-- {
		for _, ext := range []string{"", ".gz"} {
			err := os.Rename(fmt.Sprintf("%s.%d%s", l.path, i, ext), fmt.Sprintf("%s.%d%s", l.path, i+1, ext))
			if !errors.Is(err, fs.ErrNotExist) {
				l.must(err)
			}
		}
	}
	l.must(os.Rename(l.path, l.path+".1"))
	return l
}

func (l *testLog) copytruncate() *testLog {
	l.t.Helper()
	data, err := os.ReadFile(l.path)
	l.must(err)
	l.must(os.WriteFile(l.path+".1", data, 0o640))
	l.must(os.Truncate(l.path, 0))
	return l
}

func (l *testLog) gzip(n int) *testLog {
	l.t.Helper()
	name := fmt.Sprintf("%s.%d", l.path, n)
	data, err := os.ReadFile(name)
	l.must(err)
	f, err := os.Create(name + ".gz")
	l.must(err)
	zw := gzip.NewWriter(f)
	_, err = zw.Write(data)
	l.must(err)
	l.must(zw.Close())
	l.must(f.Close())
	l.must(os.Remove(name))
	return l
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// reader follows a testLog.
type reader struct {
	t       *testing.T
	fatalf  func(format string, args ...any)
	o       Options
	src     Source
	pos     Position
	got     []string // new lines
	replay  []string
	dropped int
	live    int
}

func follow(t *testing.T, l *testLog, o Options) *reader {
	t.Helper()
	r := &reader{t: t, fatalf: t.Fatalf, o: o, pos: o.After}
	r.open(l)
	t.Cleanup(func() { r.src.Close() })
	return r
}

func (r *reader) open(l *testLog) {
	r.t.Helper()
	src, err := OpenFile(l.path, r.o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.src = src
}

// restart is a kill and a start with what was committed last.
func (r *reader) restart(l *testLog) *reader {
	r.t.Helper()
	r.src.Close()
	r.o.After = r.pos
	r.open(l)
	return r
}

func (r *reader) next(ctx context.Context) error {
	b, err := r.src.Next(ctx)
	if err != nil {
		return err
	}
	for _, line := range b.Lines {
		if b.Replay {
			r.replay = append(r.replay, string(line.Message))
		} else {
			r.got = append(r.got, string(line.Message))
		}
	}
	r.dropped += b.Dropped
	if b.Live {
		r.live += len(b.Lines)
	}
	if !b.Replay {
		r.pos = b.Position
	}
	return nil
}

// until reads until there are n new lines.
func (r *reader) until(n int) *reader {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	for len(r.got) < n {
		if err := r.next(ctx); err != nil {
			r.fatalf("after %d new lines of %d: %v\nlast: %q", len(r.got), n, err, r.got[max(0, len(r.got)-3):])
		}
	}
	return r
}

// quiet reads what is there and fails if that is a new line of sshd's.
func (r *reader) quiet() *reader {
	r.t.Helper()
	before := len(r.got)
	ctx, cancel := context.WithTimeout(r.t.Context(), 50*time.Millisecond)
	defer cancel()
	for {
		if err := r.next(ctx); errors.Is(err, context.DeadlineExceeded) {
			break
		} else if err != nil {
			r.t.Fatal(err)
		}
	}
	if len(r.got) > before {
		r.t.Errorf("%d lines too many: %.200q", len(r.got)-before, r.got[before:])
	}
	return r
}

func numbered(from, to int) []string {
	var s []string
	for i := from; i <= to; i++ {
		s = append(s, fmt.Sprintf("line %d", i))
	}
	return s
}

func TestFile(t *testing.T) {
	tests := []struct {
		name string
		run  func(l *testLog) *reader
		want []string
	}{
		{name: "what is there and what comes", run: func(l *testLog) *reader {
			l.open().lines(3)
			r := follow(t, l, Options{FindTime: time.Hour}).until(3)
			l.lines(2)
			return r.until(5)
		}, want: numbered(1, 5)},
		{name: "first start leaves out what is older than the find time", run: func(l *testLog) *reader {
			l.open().lines(3)
			r := follow(t, l, Options{FindTime: time.Second})
			l.base = time.Now()
			l.lines(2)
			return r.until(2)
		}, want: numbered(4, 5)},
		{name: "first start without a find time reads from its opening on", run: func(l *testLog) *reader {
			l.open().lines(3)
			r := follow(t, l, Options{})
			l.base = time.Now()
			l.lines(2)
			return r.until(2)
		}, want: numbered(4, 5)},
		{name: "a damaged rotation is passed over", run: func(l *testLog) *reader {
			l.must(os.WriteFile(l.path+".2.gz", []byte("no gzip"), 0o640))
			l.must(os.Mkdir(l.path+".3", 0o750))
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			l.must(os.Rename(l.path, l.path+".1"))
			l.open().lines(2)
			return r.until(4)
		}, want: numbered(1, 4)},
		{name: "absent at start", run: func(l *testLog) *reader {
			r := follow(t, l, Options{FindTime: time.Hour}).quiet()
			l.open().lines(2)
			return r.until(2)
		}, want: numbered(1, 2)},
		{name: "directory absent at start", run: func(l *testLog) *reader {
			l.path = filepath.Join(filepath.Dir(l.path), "late", "auth.log")
			r := follow(t, l, Options{FindTime: time.Hour}).quiet()
			l.must(os.Mkdir(filepath.Dir(l.path), 0o755))
			l.open().lines(2)
			return r.until(2)
		}, want: numbered(1, 2)},
		{name: "rename, the writer stays on the old file for a while", run: func(l *testLog) *reader {
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			l.rotate().lines(2)
			r.until(4)
			l.must(os.WriteFile(l.path, nil, 0o640)) // logrotate's "create"
			r.quiet()
			l.lines(2)
			r.until(6)
			l.open().lines(2)
			return r.until(8)
		}, want: numbered(1, 8)},
		{name: "rename and new lines before the reader looks", run: func(l *testLog) *reader {
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			l.lines(1).rotate().lines(1).open().lines(2)
			return r.until(6)
		}, want: numbered(1, 6)},
		{name: "three rotations before the reader looks", run: func(l *testLog) *reader {
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			for range 3 {
				l.lines(1).rotate().open().lines(2)
			}
			return r.until(11)
		}, want: numbered(1, 11)},
		{name: "rotation ends a line without newline", run: func(l *testLog) *reader {
			l.open().lines(1)
			r := follow(t, l, Options{FindTime: time.Hour}).until(1)
			l.n++
			l.raw(strings.TrimSuffix(l.text(l.n), "\n"))
			r.quiet()
			l.rotate().open().lines(1)
			return r.until(3)
		}, want: numbered(1, 3)},
		{name: "a line comes in pieces", run: func(l *testLog) *reader {
			l.open().lines(1)
			r := follow(t, l, Options{FindTime: time.Hour}).until(1)
			text := l.text(2)
			l.raw(text[:10])
			r.quiet()
			l.raw(text[10:40])
			r.quiet()
			l.raw(text[40:])
			return r.until(2)
		}, want: numbered(1, 2)},
		{name: "copytruncate with lines that only the copy has", run: func(l *testLog) *reader {
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			l.lines(2).copytruncate().lines(3)
			return r.until(7)
		}, want: numbered(1, 7)},
		{name: "truncated, then longer than before", run: func(l *testLog) *reader {
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			l.must(os.Truncate(l.path, 0))
			l.lines(10)
			return r.until(12)
		}, want: numbered(1, 12)},
		{name: "copytruncate under a writer without O_APPEND leaves NUL bytes", run: func(l *testLog) *reader {
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			l.must(os.Truncate(l.path, 0))
			l.raw(strings.Repeat("\x00", 3*maxLine)).lines(2)
			return r.until(4)
		}, want: numbered(1, 4)},
		{name: "deleted and made anew", run: func(l *testLog) *reader {
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			l.lines(1)
			l.must(os.Remove(l.path))
			l.lines(1)
			r.until(4)
			l.open().lines(2)
			return r.until(6)
		}, want: numbered(1, 6)},
		{name: "symbolic link swapped", run: func(l *testLog) *reader {
			link := l.path
			dir := filepath.Dir(link)
			l.path = filepath.Join(dir, "a")
			l.open().lines(2)
			l.must(os.Symlink("a", link))
			r := follow(t, &testLog{t: t, path: link}, Options{FindTime: time.Hour}).until(2)
			l.path = filepath.Join(dir, "b")
			l.lines(1).open().lines(2)
			l.must(os.Symlink("b", link+".new"))
			l.must(os.Rename(link+".new", link))
			return r.until(5)
		}, want: numbered(1, 5)},
		{name: "a fifo stands in its place for a while", run: func(l *testLog) *reader {
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			l.must(os.Remove(l.path))
			l.must(syscall.Mkfifo(l.path, 0o640))
			r.quiet()
			l.must(os.Remove(l.path))
			l.open().lines(2)
			return r.until(4)
		}, want: numbered(1, 4)},
		{name: "invalid UTF-8, NUL and other programs' lines", run: func(l *testLog) *reader {
			l.open().lines(1)
			r := follow(t, l, Options{FindTime: time.Hour}).until(1)
			l.raw("\xff\xfe\x00\n\n\r\nJan  1 00:00:00 host cron[1]: sshd[1]: no\n\x00\x00").lines(1)
			return r.until(2)
		}, want: numbered(1, 2)},
		{name: "restart goes on where it was", run: func(l *testLog) *reader {
			l.open().lines(5)
			r := follow(t, l, Options{FindTime: time.Hour}).until(5)
			l.lines(3)
			r.restart(l).until(8)
			l.lines(1)
			return r.until(9)
		}, want: numbered(1, 9)},
		{name: "restart after rotations", run: func(l *testLog) *reader {
			l.open().lines(5)
			r := follow(t, l, Options{FindTime: time.Hour}).until(5)
			l.lines(3).rotate().open().lines(2).rotate().open().lines(2)
			return r.restart(l).until(12)
		}, want: numbered(1, 12)},
		{name: "restart after rotation with compression", run: func(l *testLog) *reader {
			l.open().lines(5)
			r := follow(t, l, Options{FindTime: time.Hour}).until(5)
			l.lines(3).rotate().open().lines(2).rotate().open().lines(2)
			l.gzip(2).gzip(1)
			return r.restart(l).until(12)
		}, want: numbered(1, 12)},
		{name: "restart after dated rotation", run: func(l *testLog) *reader {
			l.open().lines(5)
			r := follow(t, l, Options{FindTime: time.Hour}).until(5)
			l.lines(3)
			l.must(os.Rename(l.path, l.path+"-20261121"))
			l.open().lines(2)
			l.must(os.Rename(l.path, l.path+"-20261122"))
			l.open().lines(2)
			return r.restart(l).until(12)
		}, want: numbered(1, 12)},
		{name: "restart after copytruncate", run: func(l *testLog) *reader {
			l.open().lines(5)
			r := follow(t, l, Options{FindTime: time.Hour}).until(5)
			l.lines(3).copytruncate().lines(2)
			return r.restart(l).until(10)
		}, want: numbered(1, 10)},
		{name: "restart in the middle of a line", run: func(l *testLog) *reader {
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			text := l.text(3)
			l.raw(text[:30])
			r.quiet().restart(l).quiet()
			l.raw(text[30:])
			return r.until(3)
		}, want: numbered(1, 3)},
		{name: "the generation that was read last is gone", run: func(l *testLog) *reader {
			l.open().lines(2)
			r := follow(t, l, Options{FindTime: time.Hour}).until(2)
			l.lines(2).rotate()
			l.must(os.Remove(l.path + ".1"))
			l.open().lines(2)
			return r.restart(l).until(4)
		}, want: append(numbered(1, 2), numbered(5, 6)...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newTestLog(t)
			r := tt.run(l).quiet()
			if diff := cmp.Diff(tt.want, r.got); diff != "" {
				t.Errorf("new lines (-want +got):\n%s", diff)
			}
			r.src.Close()
		})
	}
}

func TestFileReplay(t *testing.T) {
	l := newTestLog(t)
	l.open().lines(10).rotate().open().lines(10)
	r := follow(t, l, Options{FindTime: time.Hour}).until(20)
	l.lines(5)
	r.got = nil
	r.restart(l).until(5)
	if diff := cmp.Diff(numbered(1, 20), r.replay); diff != "" {
		t.Errorf("replayed, both generations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(numbered(21, 25), r.got); diff != "" {
		t.Errorf("new (-want +got):\n%s", diff)
	}
	// 25 lines, a millisecond apart: the last 5 ms hold 6 of them.
	r.replay, r.o.FindTime = nil, 5*time.Millisecond
	l.lines(1)
	r.restart(l).until(6)
	if diff := cmp.Diff(numbered(20, 25), r.replay); diff != "" {
		t.Errorf("replayed, 5 ms (-want +got):\n%s", diff)
	}
}

func TestFileReplayCompressed(t *testing.T) {
	l := newTestLog(t)
	l.open().lines(10)
	r := follow(t, l, Options{FindTime: time.Hour}).until(10)
	l.lines(2).rotate().gzip(1).open().lines(2)
	r.restart(l).until(14)
	if diff := cmp.Diff(numbered(1, 10), r.replay); diff != "" {
		t.Errorf("replayed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(numbered(1, 14), r.got); diff != "" {
		t.Errorf("new (-want +got):\n%s", diff)
	}
}

func TestFileBackstop(t *testing.T) {
	// A position in a file of which many bytes lie before the find time.
	l := newTestLog(t)
	l.open()
	l.base = time.Now().Add(-50 * time.Second)
	l.lines(40000)
	r := follow(t, l, Options{FindTime: 20 * time.Second}).until(9000)
	for len(r.got) < 10000 && r.got[len(r.got)-1] != "line 40000" {
		r.next(t.Context())
	}
	if got := len(r.got); got < 9000 || got > 11001 { // times are cut to seconds
		t.Errorf("read %d lines of the last 20 s, want about 10000", got)
	}
}

func TestFileLongLines(t *testing.T) {
	l := newTestLog(t)
	l.open().lines(1)
	r := follow(t, l, Options{FindTime: time.Hour}).until(1)
	evil := strings.TrimSuffix(l.text(999), "\n") + strings.Repeat("x", 1<<20)
	l.raw(evil + "\n").lines(1)
	r.until(2)
	l.raw(evil)
	r.quiet()
	pos := r.pos
	l.raw("\n").lines(1)
	r.until(3).quiet()
	if diff := cmp.Diff(numbered(1, 3), r.got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if r.dropped != 2 {
		t.Errorf("dropped = %d, want 2", r.dropped)
	}
	// The position never stands inside a line.
	r.pos, r.got = pos, nil
	r.restart(l).until(1).quiet()
	if diff := cmp.Diff(numbered(3, 3), r.got); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
}

func TestFileLive(t *testing.T) {
	l := newTestLog(t)
	l.open().lines(3)
	r := follow(t, l, Options{FindTime: time.Hour}).until(3)
	if r.live != 0 {
		t.Errorf("%d lines of the backlog are live", r.live)
	}
	r.quiet()
	l.lines(2)
	if r.until(5); r.live != 2 {
		t.Errorf("%d lines are live, want 2", r.live)
	}
}

func TestFileZone(t *testing.T) {
	tests := []struct {
		name string
		off  time.Duration // of the log's clock
		want time.Duration // of the line's time to the clock
	}{
		{name: "right", off: 0, want: 0},
		{name: "in UTC, the host in Japan", off: -9 * time.Hour, want: 0},
		{name: "in Japan, the host in UTC", off: 9 * time.Hour, want: 0},
		{name: "Nepal", off: 5*time.Hour + 45*time.Minute, want: 0},
		{name: "slow clock: no zone", off: -7 * time.Minute, want: -7 * time.Minute},
		{name: "fast clock: clamped", off: 50 * time.Second, want: 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newTestLog(t)
			l.open()
			var said strings.Builder
			r := follow(t, l, Options{FindTime: time.Hour, Logger: slog.New(slog.NewTextHandler(&said, nil))}).quiet()
			defer r.src.Close()
			now := time.Now()
			l.base = now.Add(tt.off)
			l.lines(1)
			b, err := r.src.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := time.Unix(0, b.Lines[0].Time).Sub(now)
			if (got - tt.want).Abs() > 5*time.Second {
				t.Errorf("the line is %v off, want %v", got, tt.want)
			}
			if shifted := strings.Contains(said.String(), "another zone"); shifted != (tt.off.Abs() > 10*time.Minute) {
				t.Errorf("reported: %q", said.String())
			}
			if b.Position.Shift != 0 && b.Position.Shift != -int64(tt.off) {
				t.Errorf("position's shift = %v", time.Duration(b.Position.Shift))
			}
		})
	}
}

// TestFileReadLate: a reader that was stopped for an hour sees an old line, not
// another zone.
func TestFileReadLate(t *testing.T) {
	l := newTestLog(t)
	l.open()
	r := follow(t, l, Options{FindTime: time.Hour}).quiet()
	now := time.Now()
	l.base = now.Add(-time.Hour)
	l.lines(1)
	l.raw(now.Format(time.RFC3339) + " host cron[1]: x\n")
	b, err := r.src.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := now.Sub(time.Unix(0, b.Lines[0].Time)).Round(time.Minute); got != time.Hour {
		t.Errorf("the line is %v old, want 1h", got)
	}
}

func TestOpenFileRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, "/dev/null"} {
		if src, err := OpenFile(path, Options{}); !errors.Is(err, errNotRegular) {
			t.Errorf("OpenFile(%q) = %v, %v, want errNotRegular", path, src, err)
		}
	}
}

// TestForgeableIsTold: a file that sshd -E writes gives no lines, and does not
// do so in silence: a guard that reads it would protect nobody.
func TestForgeableIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sshd.log")
	text := "Failed password for root from 203.0.113.9 port 22 ssh2\nServer listening on 0.0.0.0 port 22.\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	source, err := OpenFile(path, Options{FindTime: time.Hour, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	batch, err := source.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(batch.Lines) != 0 || batch.Read != 2 || batch.Forgeable != 1 {
		t.Errorf("got %d lines of %d, %d forgeable", len(batch.Lines), batch.Read, batch.Forgeable)
	}
	if !strings.Contains(said.String(), "can forge") {
		t.Errorf("said: %s", said.String())
	}
}
