package logsource

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"sekisho/internal/run"
	"sekisho/internal/sshlog"
)

const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 30 * time.Second
	// steady is how long journalctl must have run for its end not to count as
	// one more failure in a row.
	steady = time.Minute
)

// journalMatches asks for what root's processes named like sshd's programs
// wrote. journald lacks _COMM where the process was gone before it looked
// (a connection's only line, on a busy machine), so the identifier is asked
// for as well; see entry.program for what is believed.
var journalMatches = []string{
	"_UID=0", "_COMM=sshd", "+", "_UID=0", "_COMM=sshd-session", "+", "_UID=0", "_COMM=sshd-auth", "+",
	"_UID=0", "SYSLOG_IDENTIFIER=sshd", "+", "_UID=0", "SYSLOG_IDENTIFIER=sshd-session", "+", "_UID=0", "SYSLOG_IDENTIFIER=sshd-auth",
}

const journalFields = "--output-fields=MESSAGE,_COMM,_UID,_PID,_TRANSPORT,_HOSTNAME,SYSLOG_IDENTIFIER"

// errUnreadable says that journald's files may not be read.
var errUnreadable = errors.New(`the journal may not be read: join the group "systemd-journal" or "adm", or run as root`)

type journalSource struct {
	o      Options
	ctx    context.Context // of the child
	cancel context.CancelFunc
	split  splitter
	opened time.Time // what is newer is live

	child   *run.Child
	pump    *pump
	done    chan struct{}
	started time.Time
	backoff time.Duration
	plain   bool // journalctl is older than 236: without --output-fields

	pos      Position
	seek     Position // entries up to here were read before; zero: none
	gone     bool     // the entry at seek is not in the journal: go by time
	replay   bool     // what precedes seek is replayed, not skipped
	replayed bool

	pending []journalLine // decoded, from next on not yet given
	next    int
	lines   []sshlog.Line
	bare    *sshlog.Decoder
	warned  bool
}

// journalLine is one entry decoded.
type journalLine struct {
	sshlog.Line
	cursor string
	at     time.Time
	replay bool
	live   bool
	sshd   bool // Line is sshd's, and believed
}

// OpenJournal follows journald through a supervised journalctl, which is
// restarted when it ends; no entry is lost or read twice over that.
//
// An entry is believed by what journald itself knows of its sender: _UID=0 (the
// unprivileged part of sshd logs through its root monitor, monitor_wrap.c
// mm_log_handler, 7.4 to 10.5; what a logged-in user's sshd writes is left out,
// for any user can name a process sshd), _COMM sshd, sshd-session or sshd-auth,
// and _TRANSPORT other than stdout: sshd -e under systemd is forgeable like a
// file (see the package comment) and needs Options.Bare. The unit is not
// looked at: after a login sshd is in the user's session scope.
func OpenJournal(ctx context.Context, o Options) (Source, error) {
	o = o.withDefaults()
	if _, err := newestEntry(ctx, o); err != nil {
		return nil, err
	}
	s := &journalSource{o: o, split: newSplitter(), opened: o.Now(), bare: sshlog.NewDecoder(sshlog.DecoderOptions{Bare: true}), pos: o.After, seek: o.After, replay: o.FindTime > 0}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s, nil
}

// newestEntry returns the time of sshd's newest entry; zero if there is none.
func newestEntry(ctx context.Context, o Options) (time.Time, error) {
	out, err := journalctl(ctx, o, append([]string{"--lines=1"}, journalMatches...)...)
	if err != nil {
		return time.Time{}, err
	}
	var e entry
	if json.Unmarshal(out, &e) != nil {
		return time.Time{}, nil
	}
	return e.time(), nil
}

// journalctl runs a query to its end.
func journalctl(ctx context.Context, o Options, args ...string) ([]byte, error) {
	child, err := run.Start(ctx, run.Command{Args: append(journalArgs(o), args...), Env: journalEnv})
	if errors.Is(err, run.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("journald: %w: this machine has no systemd journal; name the log file that sshd writes to", err)
	}
	if err != nil {
		return nil, fmt.Errorf("journald: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(child.Stdout, 1<<20))
	child.Stdout.Close()
	waitErr := child.Wait()
	complaint := child.Stderr()
	switch {
	case strings.Contains(complaint, "insufficient permissions"), strings.Contains(complaint, "not seeing messages"), strings.Contains(complaint, "Permission denied"):
		return nil, fmt.Errorf("journald: %w", errUnreadable)
	case err != nil:
		return nil, fmt.Errorf("journald: %w", err)
	case strings.Contains(complaint, "No journal files were found"): // early at boot
		return nil, nil
	case waitErr != nil && complaint != "": // without one, only nothing was found
		return nil, fmt.Errorf("journald: %w", waitErr)
	}
	return out, nil
}

func journalArgs(o Options) []string {
	args := []string{o.Journalctl, "--output=json", "--no-pager"}
	if o.Directory != "" {
		args = append(args, "--directory="+o.Directory)
	}
	return args
}

// journalEnv keeps messages in English, for "insufficient permissions".
var journalEnv = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}

func (s *journalSource) Name() string { return string(Journald) }

func (s *journalSource) Close() error {
	s.cancel()
	_ = s.stop() // killed by cancel
	return nil
}

// stop waits for the child's end, which cancel or an error has brought.
func (s *journalSource) stop() error {
	if s.child == nil {
		return nil
	}
	close(s.done)
	s.child.Stdout.Close()
	err := s.child.Wait()
	s.child, s.pump = nil, nil
	return err
}

func (s *journalSource) start(ctx context.Context) error {
	args := append(journalArgs(s.o), "--quiet", "--follow", "--no-tail")
	if !s.plain {
		args = append(args, journalFields)
	}
	from := s.opened.Add(-s.o.FindTime)
	if s.seek.Time != 0 {
		// A second early: the entry itself must be seen, to know that nothing
		// is missing; with --after-cursor systemd 219 would skip one more entry
		// if that one is gone.
		from = time.Unix(0, s.seek.Time).Add(-time.Second)
		if s.replay {
			from = from.Add(-s.o.FindTime)
		}
	}
	args = append(args, "--since=@"+strconv.FormatInt(from.Unix(), 10))
	s.gone = false
	if s.seek.Cursor != "" {
		out, err := journalctl(ctx, s.o, "--lines=1", "--cursor="+s.seek.Cursor)
		var e entry
		s.gone = err != nil || json.Unmarshal(out, &e) != nil || e.Cursor != s.seek.Cursor
		if s.gone {
			s.o.Logger.Warn("the journal's entry that was read last is gone (vacuumed?); going on by time", "since", time.Unix(0, s.seek.Time))
		}
	}
	child, err := run.Start(s.ctx, run.Command{Args: append(args, journalMatches...), Env: journalEnv})
	if err != nil {
		return fmt.Errorf("journald: %w", err)
	}
	s.child, s.started, s.done = child, s.o.Now(), make(chan struct{})
	s.pump = newPump(child.Stdout, s.done)
	s.split.reset()
	return nil
}

func (s *journalSource) Next(ctx context.Context) (Batch, error) {
	for {
		if b, ok := s.decode(); ok {
			return b, nil
		}
		if err := ctx.Err(); err != nil {
			return Batch{}, err
		}
		if s.child == nil {
			if err := s.start(ctx); err != nil {
				if err := s.failed(ctx, err); err != nil {
					return Batch{}, err
				}
				continue
			}
		}
		select {
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		case c := <-s.pump.filled:
			s.split.put(c.data)
			s.pump.giveBack(c)
			if c.err == nil {
				continue
			}
			err := s.stop()
			if err != nil && strings.Contains(err.Error(), "unrecognized option") && !s.plain {
				s.plain = true
				continue
			}
			if err == nil {
				err = errors.New("journalctl ended")
			}
			if err := s.failed(ctx, err); err != nil {
				return Batch{}, err
			}
		}
	}
}

// failed waits before the next attempt, and prepares it to go on after the
// last entry.
func (s *journalSource) failed(ctx context.Context, err error) error {
	if s.o.Now().Sub(s.started) > steady {
		s.backoff = 0
	}
	s.backoff = min(max(backoffMin, 2*s.backoff), backoffMax)
	s.o.Logger.Warn("journalctl ended; starting it again", "error", err, "in", s.backoff)
	if s.pos != s.o.After {
		s.seek = s.pos
	}
	s.replay = s.replay && s.seek == s.o.After && !s.replayed // never twice
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(s.backoff):
		return nil
	}
}

// decode gives the complete entries in the buffer: replayed ones and new ones
// in batches of their own.
func (s *journalSource) decode() (Batch, bool) {
	dropped := 0
	if s.next == len(s.pending) {
		s.pending, s.next = s.pending[:0], 0
		s.split.cut(false, func(raw []byte, _ int64) {
			l, ok := s.entry(raw)
			if !ok {
				dropped++
			} else if !l.replay || s.replay {
				s.pending = append(s.pending, l)
			}
		})
		dropped += s.split.dropped
	}
	b := Batch{Dropped: dropped, Position: s.pos}
	s.lines = s.lines[:0]
	for ; s.next < len(s.pending); s.next++ {
		l := &s.pending[s.next]
		if b.Read > 0 && (l.replay != b.Replay || l.live != b.Live) {
			break
		}
		b.Read++
		b.Replay, b.Live = l.replay, l.live
		if l.sshd {
			s.lines = append(s.lines, l.Line)
		}
		if l.replay {
			s.replayed = true
		} else {
			s.pos = Position{Cursor: l.cursor, Time: l.at.UnixNano()}
		}
	}
	b.Lines, b.Position = s.lines, s.pos
	return b, b.Read > 0 || b.Dropped > 0
}

// entry decodes one entry, and tells whether it was read before.
func (s *journalSource) entry(raw []byte) (journalLine, bool) {
	var e entry
	if err := json.Unmarshal(raw, &e); err != nil || e.Cursor == "" {
		return journalLine{}, false
	}
	l := journalLine{cursor: e.Cursor, at: e.time()}
	switch {
	case s.seek == (Position{}):
	case s.seek.Cursor == "" || s.gone:
		if l.replay = l.at.UnixNano() <= s.seek.Time; !l.replay {
			s.seek = Position{}
		}
	default:
		l.replay = true
		if e.Cursor == s.seek.Cursor {
			s.seek = Position{}
		}
	}
	l.live = !l.replay && !l.at.Before(s.opened)
	program, ok := e.program()
	message, hasText := text(e.Message)
	if !ok || !hasText {
		return l, true
	}
	if e.Transport == "stdout" {
		if !s.o.Bare {
			if !s.warned {
				s.warned = true
				s.o.Logger.Warn("sshd writes to standard error (-e), where a client can forge lines; these are left out: run sshd without -e")
			}
			return l, true
		}
		if l.sshd = s.bare.Decode(message, &l.Line); l.sshd {
			l.Program, l.Bare = program, true
		}
	} else {
		l.sshd = true
		l.Line = sshlog.Line{Program: program, Message: message, Host: []byte(e.Hostname)}
		if pid, err := strconv.ParseInt(e.PID, 10, 32); err == nil {
			l.PID = int32(pid)
		}
	}
	l.Time = min(l.at.UnixNano(), s.o.Now().UnixNano())
	return l, true
}

// entry is what we read of a journal entry. Fields that begin with "_" are
// journald's own, the others the sender's.
type entry struct {
	Cursor     string          `json:"__CURSOR"`
	Realtime   string          `json:"__REALTIME_TIMESTAMP"`
	UID        string          `json:"_UID"`
	Comm       string          `json:"_COMM"`
	PID        string          `json:"_PID"`
	Transport  string          `json:"_TRANSPORT"`
	Hostname   string          `json:"_HOSTNAME"`
	Identifier json.RawMessage `json:"SYSLOG_IDENTIFIER"`
	Message    json.RawMessage `json:"MESSAGE"`
}

func (e *entry) time() time.Time {
	us, err := strconv.ParseInt(e.Realtime, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

// program tells which of sshd's programs sent the entry. Where journald could
// not learn _COMM any more, root's word on who it is has to do: _UID is the
// kernel's and always there.
func (e *entry) program() (sshlog.Program, bool) {
	name := e.Comm
	if name == "" {
		identifier, _ := text(e.Identifier)
		name = string(identifier)
	}
	if e.UID != "0" {
		return 0, false
	}
	switch name {
	case "sshd":
		return sshlog.ProgramSSHD, true
	case "sshd-session":
		return sshlog.ProgramSession, true
	case "sshd-auth":
		return sshlog.ProgramAuth, true
	}
	return 0, false
}

// text decodes a sender's field: a string, an array of bytes where it is not
// UTF-8, an array of either where it was sent more than once (the first
// counts), null where it is over 4 KiB. A newline is written as rsyslog does in
// a file: sshd never logs one.
func text(raw json.RawMessage) ([]byte, bool) {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return nil, false
	}
	list, ok := v.([]any)
	if ok && len(list) > 0 {
		if _, isNumber := list[0].(float64); !isNumber {
			v = list[0]
		}
	}
	var b []byte
	switch v := v.(type) {
	case string:
		b = []byte(v)
	case []any:
		for _, n := range v {
			f, ok := n.(float64)
			if !ok || f < 0 || f > 255 {
				return nil, false
			}
			b = append(b, byte(f))
		}
	default:
		return nil, false
	}
	return bytes.ReplaceAll(b, []byte("\n"), []byte("#012")), true
}
