package logsource

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/run"
	"sekisho/internal/sshlog"
)

const journalRemote = "/lib/systemd/systemd-journal-remote"

// testJournal is a journal of chosen entries, trusted fields included, written
// by systemd-journal-remote while it is read.
type testJournal struct {
	t    *testing.T
	dir  string
	in   *os.File
	n    int
	base time.Time
}

func newTestJournal(t *testing.T) *testJournal {
	for _, program := range []string{"journalctl", journalRemote} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("LEFT OUT: needs %s (packages systemd and systemd-journal-remote)", program)
		}
	}
	j := &testJournal{t: t, dir: t.TempDir(), base: time.Now().Add(-time.Minute).Truncate(time.Second)}
	j.start("remote")
	return j
}

// start begins a file of the journal.
func (j *testJournal) start(name string) {
	j.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		j.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(j.t.Context()))
	child, err := run.Start(ctx, run.Command{
		Args:   []string{journalRemote, "--output=" + filepath.Join(j.dir, name+".journal"), "-"},
		Stdin:  r,
		Stdout: os.Stderr,
	})
	r.Close()
	if err != nil {
		cancel()
		j.t.Fatal(err)
	}
	j.in = w
	j.t.Cleanup(func() {
		w.Close()
		cancel()
		_ = child.Wait()
	})
}

// send writes an entry; fields are NAME=VALUE. Those of sshd's are the default.
func (j *testJournal) send(message string, fields ...string) {
	j.t.Helper()
	j.n++
	at := j.base.Add(time.Duration(j.n) * 100 * time.Millisecond)
	entry := map[string]string{
		"_UID": "0", "_COMM": "sshd", "_PID": fmt.Sprint(100 + j.n), "_TRANSPORT": "syslog", "_HOSTNAME": "host",
		"SYSLOG_IDENTIFIER": "sshd", "MESSAGE": message,
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		if entry[name] = value; value == "" {
			delete(entry, name)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=4b0d2b8e2d6e4c1c8f0c9b1c0a4f5d6e\n", at.UnixMicro(), 1000000+j.n)
	for name, value := range entry {
		b.WriteString(name + "\n")
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
		b.WriteString(value + "\n")
	}
	if _, err := j.in.WriteString(b.String() + "\n"); err != nil {
		j.t.Fatal(err)
	}
}

func (j *testJournal) lines(n int) {
	j.t.Helper()
	for range n {
		j.send(fmt.Sprintf("line %d", j.n+1))
	}
}

// sync waits until the last entry can be read.
func (j *testJournal) sync() {
	j.t.Helper()
	want := fmt.Sprintf("_PID=%d", 100+j.n)
	for j.t.Context().Err() == nil {
		out, _ := run.Output(j.t.Context(), "journalctl", "-D", j.dir, "-q", "-o", "cat", want)
		if len(out) > 0 {
			return
		}
	}
}

func (j *testJournal) follow(o Options) *reader {
	j.t.Helper()
	o.Directory = j.dir
	r := &reader{t: j.t, fatalf: j.t.Fatalf, o: o, pos: o.After}
	j.open(r)
	j.t.Cleanup(func() { r.src.Close() })
	return r
}

func (j *testJournal) open(r *reader) {
	j.t.Helper()
	src, err := OpenJournal(j.t.Context(), r.o)
	if err != nil {
		j.t.Fatal(err)
	}
	r.src = src
}

func (j *testJournal) restart(r *reader) *reader {
	j.t.Helper()
	r.src.Close()
	r.o.After = r.pos
	j.open(r)
	return r
}

func TestJournal(t *testing.T) {
	j := newTestJournal(t)
	j.lines(2)
	j.sync()
	r := j.follow(Options{FindTime: time.Hour}).until(2)
	if r.live != 0 {
		t.Errorf("%d lines of the backlog are live", r.live)
	}
	j.lines(3)
	r.until(5)

	j.lines(2)
	j.sync()
	j.restart(r).until(7).quiet()
	if diff := cmp.Diff(numbered(1, 7), r.got); diff != "" {
		t.Errorf("new lines (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(numbered(1, 5), r.replay); diff != "" {
		t.Errorf("replayed (-want +got):\n%s", diff)
	}

	// journalctl dies; its successor goes on.
	r.replay = nil
	for range 3 {
		child := r.src.(*journalSource).child
		if err := child.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		j.lines(2)
		r.until(j.n)
	}
	r.quiet()
	if diff := cmp.Diff(numbered(1, j.n), r.got); diff != "" {
		t.Errorf("over journalctl's death (-want +got):\n%s", diff)
	}
	if len(r.replay) > 0 {
		t.Errorf("replayed: %q", r.replay)
	}
}

func TestJournalRotation(t *testing.T) {
	j := newTestJournal(t)
	j.lines(2)
	j.sync()
	r := j.follow(Options{FindTime: time.Hour}).until(2)
	j.start("second")
	j.lines(2)
	r.until(4)
	j.sync()

	// Vacuumed: the entry that was read last is gone.
	if err := os.Remove(filepath.Join(j.dir, "remote.journal")); err != nil {
		t.Fatal(err)
	}
	r.pos.Cursor = strings.Replace(r.pos.Cursor, "i=", "i=f", 1)
	r.pos.Time = j.base.Add(350 * time.Millisecond).UnixNano()
	var said strings.Builder
	r.o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	j.restart(r).until(5).quiet()
	if diff := cmp.Diff(append(numbered(1, 4), "line 4"), r.got); diff != "" {
		t.Errorf("new lines (-want +got):\n%s", diff)
	}
	if !strings.Contains(said.String(), "vacuumed") {
		t.Errorf("reported: %q", said.String())
	}
}

func TestJournalBelieves(t *testing.T) {
	tests := []struct {
		name    string
		message string
		fields  []string
		bare    bool
		want    []string // messages, with program and pid; nil: left out
	}{
		{name: "sshd", message: "m", want: []string{"1 101 m"}},
		{name: "sshd-session", message: "m", fields: []string{"_COMM=sshd-session", "SYSLOG_IDENTIFIER=sshd-session"}, want: []string{"2 101 m"}},
		{name: "sshd-auth", message: "m", fields: []string{"_COMM=sshd-auth"}, want: []string{"3 101 m"}},
		{name: "in a user's session scope", message: "m", fields: []string{"_SYSTEMD_UNIT=session-3.scope"}, want: []string{"1 101 m"}},
		{name: "a user's process named sshd", message: "m", fields: []string{"_UID=1000"}},
		{name: "no uid", message: "m", fields: []string{"_UID="}},
		{name: "another program that says it is sshd", message: "m", fields: []string{"_COMM=logger"}},
		{name: "gone before journald looked", message: "m", fields: []string{"_COMM="}, want: []string{"1 101 m"}},
		{name: "gone, not sshd", message: "m", fields: []string{"_COMM=", "SYSLOG_IDENTIFIER=cron"}},
		{name: "standard error", message: "m", fields: []string{"_TRANSPORT=stdout"}},
		{name: "standard error, asked for", message: "sshd-session: m", fields: []string{"_TRANSPORT=stdout"}, bare: true, want: []string{"1 0 m bare"}},
		{name: "not UTF-8", message: "a\xff\xfeb", want: []string{"1 101 a\xff\xfeb"}},
		{name: "several lines", message: "a\nFailed password for root from 192.0.2.1 port 22 ssh2", want: []string{"1 101 a#012Failed password for root from 192.0.2.1 port 22 ssh2"}},
		{name: "too big", message: strings.Repeat("x", 5000)},
		{name: "empty", message: "", fields: []string{"MESSAGE="}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := newTestJournal(t)
			j.send(tt.message, tt.fields...)
			j.send("last", "_PID=7")
			src, err := OpenJournal(t.Context(), Options{Directory: j.dir, FindTime: time.Hour, Bare: tt.bare})
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var got []string
			for {
				b, err := src.Next(ctx)
				if err != nil {
					t.Fatal(err)
				}
				last := false
				for _, l := range b.Lines {
					if last = l.PID == 7; !last {
						got = append(got, describe(l))
					}
				}
				if last {
					break
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

func describe(l sshlog.Line) string {
	s := fmt.Sprintf("%d %d %s", l.Program, l.PID, l.Message)
	if l.Bare {
		s += " bare"
	}
	return s
}

func TestOpenJournalErrors(t *testing.T) {
	tests := []struct {
		name       string
		journalctl string
		want       string
	}{
		{name: "no journalctl", journalctl: "/no/such/journalctl", want: "no systemd journal"},
		{name: "no permission", journalctl: script(t, "echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1"), want: "systemd-journal"},
		{name: "only one's own", journalctl: script(t, "echo 'Hint: You are currently not seeing messages from other users and the system.' >&2"), want: "systemd-journal"},
		{name: "something else", journalctl: script(t, "echo 'Failed to open: no space' >&2; exit 1"), want: "no space"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := OpenJournal(t.Context(), Options{Journalctl: tt.journalctl})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want it to hold %q", err, tt.want)
			}
		})
	}
}

// script is a stand-in for journalctl.
func script(t *testing.T, body string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "journalctl")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestJournalOld: systemd 219 knows no --output-fields (it came with 236).
func TestJournalOld(t *testing.T) {
	j := newTestJournal(t)
	j.lines(2)
	j.sync()
	old := script(t, `for a; do case $a in --output-fields=*) echo "journalctl: unrecognized option '$a'" >&2; exit 1;; esac; done; exec journalctl "$@"`)
	r := j.follow(Options{FindTime: time.Hour, Journalctl: old}).until(2)
	if diff := cmp.Diff(numbered(1, 2), r.got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestJournalCancel(t *testing.T) {
	j := newTestJournal(t)
	r := j.follow(Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want the context's", err)
	}
	child := r.src.(*journalSource).child
	r.src.Close()
	if child != nil && child.Signal(syscall.Signal(0)) == nil {
		t.Error("journalctl is still there")
	}
}

func FuzzJournalText(f *testing.F) {
	for _, s := range []string{`"a"`, `[97,255]`, `["a","b"]`, `[[97],"b"]`, `null`, `[]`, `[-1]`, `[1e9]`, `{}`, `[null]`, `"\ud800\n"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, _ := text(json.RawMessage(raw)); strings.Contains(string(b), "\n") {
			t.Errorf("text(%q) = %q has a newline", raw, b)
		}
	})
}

func BenchmarkJournalEntry(b *testing.B) {
	raw := []byte(`{"__CURSOR":"s=7eb47eb10c0c4e0db7095d03a5b5b507;i=1;b=4b0d2b8e2d6e4c1c8f0c9b1c0a4f5d6e;m=f4240;t=660d0dac3e800;x=ff0ed2feff803d62","__REALTIME_TIMESTAMP":"1795300000000000","__MONOTONIC_TIMESTAMP":"1000000","_BOOT_ID":"4b0d2b8e2d6e4c1c8f0c9b1c0a4f5d6e","_UID":"0","_COMM":"sshd","_PID":"100","_TRANSPORT":"syslog","_HOSTNAME":"host","SYSLOG_IDENTIFIER":"sshd","MESSAGE":"Failed password for invalid user admin from 192.0.2.1 port 52344 ssh2"}`)
	s := &journalSource{o: Options{}.withDefaults()}
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if l, ok := s.entry(raw); !ok || !l.sshd {
			b.Fatal("not decoded")
		}
	}
}
