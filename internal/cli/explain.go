package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/logsource"
	"sekisho/internal/sshlog"
)

func explainCommand(g *globals) *cobra.Command {
	var e explain
	var mode string
	cmd := &cobra.Command{
		Use:   "explain [FILE]",
		Short: "Read a log and tell what was understood and who would have been banned",
		Long: "Read a log (FILE, also .gz; - or nothing for standard input) through the same engine as the daemon's.\n" +
			"Nothing is changed and nothing needs root. With --json: one object for each line in which sshd says\n" +
			"something of a peer, in order; with --bans also {\"ban\": ...} where a ban would have begun.",
		Example: `  sekisho explain /var/log/auth.log
  sekisho explain --json --bans /var/log/auth.log.1.gz
  journalctl -u ssh -o short-iso | sekisho explain -`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.g = g
			e.path = "-"
			if len(args) == 1 {
				e.path = args[0]
			}
			cfg, err := g.load()
			if err != nil {
				return err
			}
			e.policy = daemon.PolicyOf(cfg)
			e.policy.DryRun = true
			e.policy.MaxSources = min(e.policy.MaxSources, explainSources)
			if mode != "" {
				if e.policy.Mode, err = guard.ParseMode(mode); err != nil {
					return &exitError{exitUsage, withHint(err, "for example --mode normal")}
				}
			}
			return e.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&mode, "mode", "", "count as in this `MODE`: normal, ddos, extra or aggressive (default: guard.mode)")
	cmd.Flags().BoolVar(&e.bans, "bans", false, "also tell bans, where they would have begun")
	cmd.Flags().BoolVar(&e.bare, "bare", false, "the log has no envelope (what sshd -E and -e write); such lines are shown, never counted")
	return cmd
}

// explain is one run of the command.
type explain struct {
	g      *globals
	path   string
	bans   bool
	bare   bool
	policy guard.Policy

	engine  *guard.Engine
	out     guard.Outcome
	summary *summary
	json    *bufio.Writer
	buf     []byte
	stamp   stamper
}

func (e *explain) run(ctx context.Context) error {
	collectLate()
	in, progress, reference, err := e.open()
	if err != nil {
		return err
	}
	defer in.Close()
	e.engine = guard.New(e.policy)
	if e.g.json {
		e.json = bufio.NewWriterSize(e.g.stdout, 64<<10)
	} else {
		e.summary = newSummary(e.policy)
	}
	_, size := progress()
	bar := newUI(e.g).progress(size)
	defer bar.done()
	decoder := sshlog.NewDecoder(sshlog.DecoderOptions{Reference: reference, Bare: e.bare})
	scanner := logsource.NewScanner(in, decoder)
	var broken error
	for {
		if err := ctx.Err(); err != nil {
			return errors.New("interrupted")
		}
		lines, err := scanner.Next()
		for i := range lines {
			if err := e.line(&lines[i]); err != nil {
				return err
			}
		}
		done, _ := progress()
		bar.at(done)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // what was read is told all the same
			broken = fmt.Errorf("read %s: %w", e.path, err)
			break
		}
	}
	bar.done()
	if e.json != nil {
		return errors.Join(e.json.Flush(), broken)
	}
	e.summary.report(newUI(e.g), scanner.Read(), scanner.Dropped())
	return broken
}

// explainSources bounds the sources that explain remembers at a time: any log is
// read in little memory, and only one with more sources than these within the
// hour could be judged otherwise by the daemon.
const explainSources = 200_000

// collectLate has the garbage collected seldom: what lives is small, and what
// is collected is mostly the same again. The limit holds for any log; beyond it
// explain only gets slower.
func collectLate() {
	const percent, limit = 400, 32 << 20
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}

// open opens the log: its reader, how to see the progress, and the newest time
// that it can speak of.
func (e *explain) open() (in io.ReadCloser, progress func() (done, size int64), reference time.Time, err error) {
	if e.path == "-" {
		r, err := logsource.Decompressed(e.g.stdin)
		if err != nil {
			return nil, nil, time.Time{}, fmt.Errorf("read -: %w", err)
		}
		return io.NopCloser(r), func() (int64, int64) { return 0, 0 }, time.Now(), nil
	}
	log, err := logsource.OpenLog(e.path)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			err = withHint(err, "use sudo, or join the group that may read it (adm on Debian and Ubuntu)")
		}
		return nil, nil, time.Time{}, err
	}
	return log, func() (int64, int64) { return log.Done(), log.Size() }, log.ModTime(), nil
}

// line explains one line of sshd's.
func (e *explain) line(l *sshlog.Line) error {
	e.engine.Observe(l, &e.out)
	if e.json == nil {
		e.summary.add(l, &e.out)
		return nil
	}
	if e.out.Event.Kind != sshlog.None {
		e.buf = e.appendLine(e.buf[:0], l)
		if _, err := e.json.Write(e.buf); err != nil {
			return err
		}
	}
	if e.bans {
		for _, ban := range e.out.Bans {
			e.buf = appendBan(e.buf[:0], ban)
			if _, err := e.json.Write(e.buf); err != nil {
				return err
			}
		}
	}
	return nil
}

// appendLine writes what DESIGN §8 asks for. By hand: encoding/json would cost
// more than reading the line did.
func (e *explain) appendLine(b []byte, l *sshlog.Line) []byte {
	out := &e.out
	b = append(b, `{"line":`...)
	b = strconv.AppendInt(b, l.Number, 10)
	if l.Time != 0 {
		b = append(b, `,"time":"`...)
		b = e.stamp.append(b, l.Time)
		b = append(b, '"')
	}
	b = append(b, `,"kind":"`...)
	b = append(b, out.Event.Word()...)
	b = append(b, '"')
	if out.Addr.IsValid() {
		b = append(b, `,"addr":"`...)
		b = out.Addr.AppendTo(b)
		b = append(b, '"')
	}
	if out.Port != 0 {
		b = append(b, `,"port":`...)
		b = strconv.AppendUint(b, uint64(out.Port), 10)
	}
	if out.User != nil {
		b = append(b, `,"user":`...)
		b = appendString(b, out.User)
	}
	if l.PID != 0 {
		b = append(b, `,"pid":`...)
		b = strconv.AppendInt(b, int64(l.PID), 10)
	}
	b = append(b, `,"attempts":`...)
	b = strconv.AppendInt(b, int64(out.Attempts), 10)
	return append(b, "}\n"...)
}

func appendBan(b []byte, l lease.Lease) []byte {
	b = append(b, `{"ban":{"prefix":"`...)
	b = l.Prefix.AppendTo(b)
	b = append(b, `","from":"`...)
	b = l.From.AppendFormat(b, time.RFC3339)
	b = append(b, `","until":`...)
	if l.Until.IsZero() {
		b = append(b, "null"...)
	} else {
		b = append(b, '"')
		b = l.Until.AppendFormat(b, time.RFC3339)
		b = append(b, '"')
	}
	b = append(b, `,"attempts":`...)
	b = strconv.AppendInt(b, int64(l.Attempts), 10)
	b = append(b, `,"cause":`...)
	b = appendString(b, []byte(l.Cause))
	return append(b, "}}\n"...)
}

// appendString appends s as a JSON string: bytes that are not UTF-8 become
// U+FFFD, and everything but printable ASCII is escaped.
func appendString(b, s []byte) []byte {
	b = append(b, '"')
	for len(s) > 0 {
		c := s[0]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= ' ' && c <= '~':
			b = append(b, c)
		default:
			r, n := utf8.DecodeRune(s)
			for _, unit := range utf16.AppendRune(nil, r) {
				b = fmt.Appendf(b, `\u%04x`, unit)
			}
			s = s[n:]
			continue
		}
		s = s[1:]
	}
	return append(b, '"')
}

// stamper writes RFC 3339 times; consecutive lines mostly share their second.
type stamper struct {
	second int64
	text   []byte // up to the seconds
	zone   int    // where the zone begins in text
}

func (s *stamper) append(b []byte, nanos int64) []byte {
	second, frac := nanos/1e9, nanos%1e9
	if s.text == nil || second != s.second {
		t := time.Unix(second, 0)
		s.text = t.AppendFormat(s.text[:0], "2006-01-02T15:04:05")
		s.zone = len(s.text)
		s.text = t.AppendFormat(s.text, "Z07:00")
		s.second = second
	}
	b = append(b, s.text[:s.zone]...)
	if frac != 0 {
		digits := strconv.AppendInt(nil, frac+1e9, 10)[1:]
		for digits[len(digits)-1] == '0' {
			digits = digits[:len(digits)-1]
		}
		b = append(append(b, '.'), digits...)
	}
	return append(b, s.text[s.zone:]...)
}
