package logsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/sshlog"
)

const (
	// pollEvery is how often a file is looked at without an event: file systems
	// without inotify (NFS, some overlays), and directories that are not there yet.
	pollEvery = 2 * time.Second
	// pollAlone is the same where inotify itself is not to be had.
	pollAlone = 250 * time.Millisecond

	zoneStep  = 15 * time.Minute // time zones differ by multiples of it
	zoneMax   = 26 * time.Hour   // UTC-12 to UTC+14
	clockSlop = 2 * time.Minute
)

// segment is a stretch of a generation that is to be read.
type segment struct {
	*logFile
	off    int64 // where the splitter's buffer ends
	end    int64 // where to stop; -1: at the end of the file
	replay bool
	from   int64 // leave out lines that are older, in Unix nanoseconds
	shared bool  // the next segment goes on in the same file
}

type fileSource struct {
	path   string
	o      Options
	opened time.Time
	watch  *watcher // nil: inotify is not to be had
	split  splitter
	sshd   sshdLines

	cur     *segment   // being read; nil: none is there
	plan    []*segment // to be read after it, in order
	pos     Position
	live    bool
	started bool          // the plan was made
	ended   bool          // the last read reached the end of the file
	look    bool          // names may have changed: look at the path again
	told    string        // the last trouble that was reported
	zone    time.Duration // added to the log's times
}

// OpenFile follows a log file through rotation by rename, copytruncate,
// truncation, deletion and swapped symbolic links. A file that is not there is
// waited for; one that may not be read, or is none, is an error.
//
// With Options.After it goes on where that was committed, in whichever rotated
// generation that is now (also .gz), and first replays what FindTime before it
// holds. copytruncate loses the lines that are written between its copy and
// its cut: nobody can read them; what only the copy holds is read there.
//
// Times are compared with the file's own modification time while it grows: a
// log in another zone (a container's in UTC) is shifted by the multiple of 15
// minutes that it is off, and that is reported. No time is later than now.
func OpenFile(path string, o Options) (Source, error) {
	o = o.withDefaults()
	path = filepath.Clean(path)
	s := &fileSource{path: path, o: o, opened: o.Now(), split: newSplitter(), sshd: sshdLines{o: o}, look: true, pos: o.After, zone: time.Duration(o.After.Shift)}
	if f, err := openRegular(path); err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var err error
	if s.watch, err = newWatcher(); err != nil {
		o.Logger.Warn("no inotify: the log is polled; raise fs.inotify.max_user_instances", "error", err)
	}
	s.rewatch()
	return s, nil
}

func (s *fileSource) Name() string { return "file:" + s.path }

func (s *fileSource) Close() error {
	s.discard(s.plan)
	s.discard([]*segment{s.cur})
	s.cur, s.plan = nil, nil
	if s.watch == nil {
		return nil
	}
	return s.watch.close()
}

func (s *fileSource) discard(segments []*segment) {
	for _, g := range segments {
		if g != nil {
			g.close()
		}
	}
}

func (s *fileSource) Next(ctx context.Context) (Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Batch{}, err
		}
		// Where the last read took less than there was room for, an event is due
		// for whatever was written since.
		if !s.ended || s.look {
			if b, ok := s.readOn(); ok {
				return b, nil
			}
		}
		if s.look {
			s.look = false
			s.rewatch()
			s.follow()
			// Once more before waiting: what was written before the watch was set
			// has no event, and the old file's end is read only after the new one
			// was seen to have begun.
			if b, ok := s.readOn(); ok {
				return b, nil
			}
		}
		s.live = s.started
		s.ended = false
		named, err := s.wait(ctx)
		if err != nil {
			return Batch{}, err
		}
		s.look = s.look || named
	}
}

func (s *fileSource) wait(ctx context.Context) (named bool, err error) {
	if s.watch != nil {
		return s.watch.wait(ctx, pollEvery, filepath.Base(s.path))
	}
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-time.After(pollAlone):
		return true, nil
	}
}

// rewatch watches the file that is read, the one at the path, and the
// directories in which the path or its target can be swapped.
func (s *fileSource) rewatch() {
	if s.watch == nil {
		return
	}
	files, dirs := []string{s.path}, []string{filepath.Dir(s.path)}
	if s.cur != nil {
		// By its descriptor: its name may be another's by now.
		files = append(files, fmt.Sprintf("/proc/self/fd/%d", s.cur.file.Fd()))
	}
	if target, err := filepath.EvalSymlinks(s.path); err == nil && target != s.path {
		dirs = append(dirs, filepath.Dir(target))
	}
	s.watch.set(files, dirs)
}

// tell reports a trouble once, until another or none comes.
func (s *fileSource) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == s.told {
		return
	}
	s.told = text
	if err == nil {
		s.o.Logger.Info("log is readable again", "path", s.path)
		return
	}
	s.o.Logger.Warn("log cannot be read; waiting for it", "error", err)
}

// readOn reads what is there, through all planned segments.
func (s *fileSource) readOn() (Batch, bool) {
	for {
		if s.cur == nil && !s.advance() {
			return Batch{}, false
		}
		g := s.cur
		free := s.split.free()
		if g.end >= 0 {
			free = free[:min(int64(len(free)), g.end-g.off)]
		}
		n, err := g.readMore(free)
		if g.end < 0 && g.changed(n) {
			s.truncated()
			continue
		}
		s.split.used += n
		g.off += int64(n)
		s.ended = n < len(free) && s.watch != nil && g.end < 0 && len(s.plan) == 0
		over := n == 0 && (err != nil || len(free) == 0)
		leaving := over && (len(s.plan) > 0 || g.end >= 0)
		b := s.batch(leaving)
		if leaving {
			s.leave()
		}
		if b.Read > 0 {
			return b, true
		}
		if over && !leaving {
			return Batch{}, false
		}
	}
}

// batch makes a batch of what the splitter has. With final, a last line without
// a newline counts: nobody will end it.
func (s *fileSource) batch(final bool) Batch {
	g := s.cur
	now := s.o.Now()
	if s.live {
		s.sshd.refresh(now)
	}
	s.sshd.lines = s.sshd.lines[:0]
	read := s.split.cut(final, s.sshd.add)
	b := Batch{Read: read, Dropped: s.split.dropped, Forgeable: s.sshd.forgeable, Replay: g.replay, Live: s.live && !g.replay}
	if read == 0 {
		return b
	}
	if n := len(s.sshd.lines); b.Live && n > 0 {
		s.checkZone(s.sshd.lines[n-1].Time, now)
	}
	clamp(s.sshd.lines, s.zone, now)
	if g.from > 0 {
		s.sshd.lines = slices.DeleteFunc(s.sshd.lines, func(l sshlog.Line) bool { return l.Time != 0 && l.Time < g.from })
	}
	b.Lines = s.sshd.lines
	if g.replay {
		b.Position = s.o.After
		return b
	}
	s.pos = s.here()
	if n := len(b.Lines); n > 0 && b.Lines[n-1].Time != 0 {
		s.pos.Time = b.Lines[n-1].Time
	}
	b.Position = s.pos
	return b
}

// here is the position after the last line that was cut, in the current segment.
func (s *fileSource) here() Position {
	g := s.cur
	off := g.off - int64(s.split.used-s.split.consumed) - s.split.skipped
	if g.gz == nil && int64(len(g.head)) < min(off, fingerprintSize) {
		g.readHead()
	}
	return Position{
		Device: g.id.device, Inode: g.id.inode, Offset: off, Time: s.pos.Time, Shift: int64(s.zone),
		Fingerprint: fingerprint(g.head[:min(off, int64(len(g.head)))]),
	}
}

// checkZone compares a new line's time with the clock and, where they differ,
// the last line's with the time at which it was written: how late we read it
// does not matter.
func (s *fileSource) checkZone(lineTime int64, now time.Time) {
	if lineTime == 0 {
		return
	}
	zone := time.Duration(0)
	if now.Sub(time.Unix(0, lineTime)).Abs() > clockSlop {
		last, ok := s.sshd.dec.Time(s.sshd.last)
		if !ok || s.cur.stat() != nil || s.cur.size != s.cur.off {
			return
		}
		off := s.cur.modTime.Sub(time.Unix(0, last))
		zone = off.Round(zoneStep)
		if (off-zone).Abs() > clockSlop || zone.Abs() > zoneMax {
			return
		}
	}
	if zone != s.zone {
		s.zone = zone
		s.o.Logger.Warn("the log's times are in another zone than this machine's; they are shifted", "path", s.path, "by", zone)
	}
}

// advance begins the next planned segment.
func (s *fileSource) advance() bool {
	if len(s.plan) == 0 {
		return false
	}
	s.cur, s.plan = s.plan[0], s.plan[1:]
	if s.sshd.dec == nil || s.cur.off == 0 || s.cur.replay {
		reference := s.o.Now()
		if len(s.plan) > 0 {
			reference = s.cur.modTime
		}
		s.sshd.restart(reference)
	}
	s.split.reset()
	if s.cur.gz != nil && s.cur.off > 0 {
		if _, err := io.CopyN(io.Discard, s.cur.gz, s.cur.off); err != nil {
			s.o.Logger.Warn("rotated log is damaged; lines may be lost", "path", s.cur.name, "error", err)
		}
	}
	s.rewatch()
	s.look = true // it may have been rotated since it was planned
	return true
}

func (s *fileSource) leave() {
	if !s.cur.shared {
		s.cur.close()
	}
	s.cur = nil
}

// truncated goes on after the file was cut off or overwritten: with what a
// copy of the old content still holds, then with the same file from its new
// beginning, whatever its name is by now.
func (s *fileSource) truncated() {
	s.o.Logger.Info("log was truncated", "path", s.path)
	at, again := s.here(), &segment{logFile: s.cur.logFile, end: -1}
	s.cur = nil
	s.split.reset()
	files, _ := rotated(s.path, rotatedNames(s.path))
	i := slices.IndexFunc(files, func(g *logFile) bool { return at.Offset > 0 && g.id != again.id && g.isAt(at) })
	if i >= 0 {
		s.plan = append([]*segment{{logFile: files[i], off: at.Offset, end: -1}, again}, s.plan...)
		s.closeExcept(files, files[i:i+1])
	} else {
		s.plan = append([]*segment{again}, s.plan...)
		s.closeExcept(files, nil)
	}
	again.readHead()
}

// follow compares the path with what is read, and plans to go on with newer
// generations once one of them has content: until then the writer may still
// have the old one open.
func (s *fileSource) follow() {
	if !s.started {
		s.start()
	}
	if !s.started || len(s.plan) > 0 {
		return
	}
	if fi, err := os.Stat(s.path); err == nil && s.cur != nil && identity(fi) == s.cur.id {
		s.tell(nil)
		return
	}
	files, _, ok := s.generations()
	if !ok {
		s.look = true
		return
	}
	newer := s.newer(files)
	s.closeExcept(files, newer)
	for _, g := range newer {
		s.plan = append(s.plan, &segment{logFile: g, end: -1})
	}
}

// newer returns which generations follow the one that is read; none, while
// none of them has begun.
func (s *fileSource) newer(files []*logFile) []*logFile {
	last := len(files) - 1
	if s.cur == nil {
		if last < 0 || files[last].name != s.path {
			return nil
		}
		return files[last:]
	}
	if s.cur.stat() != nil {
		return nil
	}
	i := slices.IndexFunc(files, func(g *logFile) bool { return g.id == s.cur.id })
	if at := s.here(); i < 0 && at.Offset > 0 { // compressed by now?
		i = slices.IndexFunc(files, func(g *logFile) bool { return g.isAt(at) })
	}
	if i >= 0 {
		files = files[i+1:]
	} else if i = slices.IndexFunc(files, func(g *logFile) bool { return g.name == s.path || g.modTime.After(s.cur.modTime) }); i >= 0 {
		files = files[i:]
	} else {
		return nil
	}
	if !slices.ContainsFunc(files, func(g *logFile) bool { return g.size > 0 }) {
		return nil
	}
	return files
}

// generations opens all of the log's files, oldest first, the one at the path
// last, if it is there. ok is false while names are moving: a rotation renames
// one file after the other, and a look in between may miss one or see it twice.
func (s *fileSource) generations() (files []*logFile, unread []string, ok bool) {
	before := rotatedNames(s.path)
	current, err := openGeneration(s.path)
	files, unread = rotated(s.path, before)
	if err == nil {
		files = append(files, current)
	}
	moved := len(files)+len(unread) < len(before) || !slices.Equal(before, rotatedNames(s.path)) || slices.ContainsFunc(files, func(g *logFile) bool {
		fi, err := os.Stat(g.name)
		return err != nil || identity(fi) != g.id
	})
	if _, statErr := os.Stat(s.path); moved || errors.Is(err, fs.ErrNotExist) != errors.Is(statErr, fs.ErrNotExist) {
		s.closeExcept(files, nil)
		return nil, nil, false
	}
	s.tell(err)
	return files, unread, true
}

func (s *fileSource) closeExcept(files, keep []*logFile) {
	for _, g := range files {
		if !slices.Contains(keep, g) {
			g.close()
		}
	}
}

// start plans what is read first: the backlog, what After has not seen, then
// the current file.
func (s *fileSource) start() {
	files, unread, ok := s.generations()
	s.started, s.look = ok, true
	if len(files) == 0 {
		return
	}
	after := s.o.After
	if after == (Position{}) {
		from := s.opened.Add(-s.o.FindTime).Truncate(time.Second).UnixNano() // logs may have whole seconds
		s.plan = s.backlog(files, from)
	} else if i := s.find(files, after); i >= 0 {
		if after.Time != 0 && s.o.FindTime > 0 {
			s.plan = s.backlog(files[:i+1], after.Time-int64(s.o.FindTime))
			for _, g := range s.plan {
				g.replay = true
			}
			if n := len(s.plan); n > 0 {
				last := s.plan[n-1]
				last.off, last.end = min(last.off, after.Offset), after.Offset
				last.shared = last.gz == nil
				if last.gz != nil { // cannot be read twice: open it again below
					if g, err := openGeneration(last.name); err == nil {
						files[i] = g
					}
				}
			}
		}
		s.plan = append(s.plan, &segment{logFile: files[i], off: after.Offset, end: -1})
		for _, g := range files[i+1:] {
			s.plan = append(s.plan, &segment{logFile: g, end: -1})
		}
	} else {
		s.o.Logger.Warn("the log's generation that was read last is gone; its unread lines are lost", "path", s.path, "unreadable", unread)
		s.plan = s.backlog(files, after.Time) // another generation: what is of the same second was not read
	}
	kept := make([]*logFile, len(s.plan))
	for i, g := range s.plan {
		kept[i] = g.logFile
	}
	s.closeExcept(files, kept)
}

// find returns which generation holds position p, or -1.
func (s *fileSource) find(files []*logFile, p Position) int {
	sameFile := func(g *logFile) bool {
		return g.id == fileID{p.Device, p.Inode} && g.isAt(p)
	}
	if i := slices.IndexFunc(files, sameFile); i >= 0 || p.Offset == 0 {
		return i
	}
	// A copy: made by copytruncate, by gzip, or by a restore.
	return slices.IndexFunc(files, func(g *logFile) bool { return g.isAt(p) })
}

// backlog returns the stretches that hold the lines since from.
func (s *fileSource) backlog(files []*logFile, from int64) []*segment {
	var segments []*segment
	for _, g := range slices.Backward(files) {
		if len(segments) > 0 && g.modTime.UnixNano() < from {
			break
		}
		seg := &segment{logFile: g, end: -1, from: from}
		if g.gz == nil {
			dec := sshlog.NewDecoder(sshlog.DecoderOptions{Location: s.o.Location, Reference: g.modTime})
			seg.off = seekTime(g.file, g.size, from-int64(s.zone), dec.Time)
		}
		segments = append(segments, seg)
		if seg.off > 0 {
			break
		}
	}
	slices.Reverse(segments)
	return segments
}

func (g *segment) readMore(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, io.EOF
	}
	if g.gz != nil {
		return g.gz.Read(p)
	}
	return readAt(g.file, p, g.off)
}

// readAt reads once: what is there, up to p's length. os.File.ReadAt would ask
// a second time, to find the end.
func readAt(f *os.File, p []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(int(f.Fd()), p, off)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("read log %s: %w", f.Name(), err)
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// changed reports whether the file is not what it was, after n bytes were read.
// Looking after reading, not before, what was read is of the old content for
// sure if the beginning still is.
func (g *segment) changed(n int) bool {
	if g.gz != nil {
		return false
	}
	var buf [fingerprintSize]byte
	known := min(len(g.head), int(min(g.off, fingerprintSize)))
	if m, _ := readAt(g.file, buf[:known], 0); m < known || !bytes.Equal(buf[:known], g.head[:known]) {
		return true
	}
	if n > 0 {
		return false
	}
	fi, err := g.file.Stat()
	return err == nil && fi.Size() < g.off
}
