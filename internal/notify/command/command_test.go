package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/notifytest"
)

// sender runs a shell script; $0 is a file that it may write.
func sender(t *testing.T, script string, timeout time.Duration) (s *Sender, out string) {
	t.Helper()
	out = filepath.Join(t.TempDir(), "out")
	s, err := New(config.Command{Argv: []string{"/bin/sh", "-c", script, out}, Timeout: timeout}, "web-1")
	if err != nil {
		t.Fatal(err)
	}
	return s, out
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSend(t *testing.T) {
	t.Setenv("SEKISHO_TEST_LEAK", "secret")
	t.Setenv("LANG", "ja_JP.UTF-8")
	s, out := sender(t, `tr '\0' '\n' </proc/$$/environ >"$0"; cat >"$0.json"; pwd >"$0.pwd"`, 0)
	m := notifytest.Message("hello")
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	want := `PATH=` + path + `
LANG=ja_JP.UTF-8
SEKISHO_ID=01HZX
SEKISHO_HOST=web-1
SEKISHO_LEVEL=warning
SEKISHO_SUBJECT=hello
SEKISHO_EVENTS=1
SEKISHO_KIND=ban
SEKISHO_STATE=
SEKISHO_TIME=2026-11-29T12:00:00Z
SEKISHO_WHAT=hello
SEKISHO_REMEDY=hello
SEKISHO_KEY=hello
SEKISHO_ADDR=203.0.113.7
SEKISHO_PREFIX=203.0.113.7/32
SEKISHO_USER=hello
SEKISHO_COUNTRY=hello
SEKISHO_UNTIL=2026-11-29T13:00:00Z
SEKISHO_CAUSE=attempts
SEKISHO_REASON=hello
SEKISHO_ATTEMPTS=5
SEKISHO_COUNT=2
SEKISHO_ENFORCED=true
SEKISHO_OWNER=hello
SEKISHO_NETWORK=hello
SEKISHO_ASN=64496
SEKISHO_REVERSE=hello
SEKISHO_ABUSE=hello
SEKISHO_BANS=
`
	if d := cmp.Diff(want, read(t, out)); d != "" {
		t.Error(d)
	}
	var doc struct {
		Version int
		ID      string
		Events  []notify.Event
	}
	if err := json.Unmarshal([]byte(read(t, out+".json")), &doc); err != nil || doc.Version != 1 || doc.ID != "01HZX" || len(doc.Events) != 1 {
		t.Errorf("%v, %+v", err, doc)
	}
	if got := read(t, out+".pwd"); got != "/\n" {
		t.Errorf("it runs in %q", got)
	}
}

func TestDigest(t *testing.T) {
	m := notifytest.Message("hello")
	m.Events = append(m.Events, notifytest.Ban("x"))
	m.More = 5
	for _, v := range environment(m, "web-1") {
		name, value, _ := strings.Cut(v, "=")
		switch name {
		case "SEKISHO_KIND":
			if value != "digest" {
				t.Errorf("%s", v)
			}
		case "SEKISHO_EVENTS":
			if value != "7" {
				t.Errorf("%s", v)
			}
		case "PATH", "LANG", "SEKISHO_ID", "SEKISHO_HOST", "SEKISHO_LEVEL", "SEKISHO_SUBJECT":
		default:
			if value != "" {
				t.Errorf("%s is of one event", v)
			}
		}
	}
}

func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name    string
		script  string
		argv    []string
		timeout time.Duration
		step    string
		err     string
		hint    string
		final   bool
	}{
		{name: "exit", script: `echo first >&2; printf '\033[31mit broke\n' >&2; exit 3`, step: "answer", err: `exit status 3: \x1b[31mit broke`, hint: "docs/notify.md"},
		{name: "exit without a word", script: `exit 75`, step: "answer", err: "answer: /bin/sh: exit status 75"},
		{name: "killed", script: `kill -9 $$`, step: "answer", err: "signal: killed"},
		{name: "not there", argv: []string{"/nonexistent/program"}, step: "start", err: "no such file", hint: "is the program there"},
		{name: "a folder", argv: []string{"/etc"}, step: "start", err: "permission denied"},
		{name: "does not end", script: `echo waiting >&2; exec sleep 100`, timeout: 200 * time.Millisecond, step: "answer", err: "/bin/sh: it has not ended within 200ms: waiting", hint: "timeout"},
		{name: "writes without end", script: `exec cat /dev/zero`, step: "answer", err: "wrote more than 1 MiB"},
		{name: "complains without end", script: `exec cat /dev/zero >&2`, step: "answer", err: "wrote more than 1 MiB"},
		{name: "a huge complaint", script: `head -c 100000 /dev/zero | tr '\0' x >&2; exit 1`, step: "answer", err: "exit status 1: xxxx"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := sender(t, tt.script, tt.timeout)
			if tt.argv != nil {
				s.argv = tt.argv
			}
			err := s.Send(t.Context(), notifytest.Message("hello"))
			step, ok := errors.AsType[*notify.Step](err)
			if !ok || step.Name != tt.step || !strings.Contains(err.Error(), tt.err) || !strings.Contains(step.Hint, tt.hint) || step.Final != tt.final ||
				len(err.Error()) > 700 || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q, %+v", err, step)
			}
		})
	}
}

// TestNothingStays: what a program that is ended has started ends with it, though it will not.
func TestNothingStays(t *testing.T) {
	t.Parallel()
	s, out := sender(t, `trap "" TERM; { sh -c 'trap "" TERM; echo $$ >"$0.new"; mv "$0.new" "$0"; while :; do sleep 0.1; done' "$0"; } & wait; while :; do sleep 0.1; done`, 500*time.Millisecond)
	began := time.Now()
	if err := s.Send(t.Context(), notifytest.Message("hello")); err == nil || !strings.Contains(err.Error(), "not ended") {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	gone(t, read(t, out))
}

// TestLeftBehind: a program in the background that holds the output is ended, too, and told of.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	s, out := sender(t, `sleep 1000 & echo $! >"$0"`, 20*time.Second)
	err := s.Send(t.Context(), notifytest.Message("hello"))
	if step, ok := errors.AsType[*notify.Step](err); !ok || !step.Final || !strings.Contains(err.Error(), "left a program behind") {
		t.Errorf("%v", err)
	}
	gone(t, read(t, out))
}

// gone waits for a process to be no more than a corpse.
func gone(t *testing.T, text string) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); ; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("it is still there: %s", stat)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	s, _ := sender(t, `exec sleep 100`, 0)
	if err := s.Send(ctx, notifytest.Message("hello")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	for _, argv := range [][]string{nil, {""}, {"tell"}, {"./tell"}, {"/bin/sh", "a\x00b"}} {
		if _, err := New(config.Command{Argv: argv}, "web-1"); err == nil {
			t.Errorf("%q is taken", argv)
		}
	}
}

// TestInjection: no text of an event is run, ends a line, or gets a variable of its own.
func TestInjection(t *testing.T) {
	s, out := sender(t, `tr '\0' '\n' </proc/$$/environ >"$0"; cat >"$0.json"`, 0)
	for _, h := range notifytest.Hostile() {
		h = strings.ReplaceAll(h, "$(id)", "$(touch "+out+".run)")
		if err := s.Send(t.Context(), notifytest.Message(h)); err != nil {
			t.Fatalf("%.60q: %v", h, err)
		}
		check(t, strings.Split(strings.TrimSuffix(read(t, out), "\n"), "\n"), h)
		if b := read(t, out+".json"); !json.Valid([]byte(b)) {
			t.Errorf("%.60q: not JSON", h)
		}
	}
	if _, err := os.Stat(out + ".run"); err == nil {
		t.Error("it was run")
	}
}

func FuzzEnvironment(f *testing.F) {
	for _, h := range notifytest.Hostile() {
		if len(h) < 5000 {
			f.Add(h)
		}
	}
	f.Fuzz(func(t *testing.T, s string) { check(t, environment(notifytest.Message(s), s), s) })
}

func check(t *testing.T, env []string, s string) {
	t.Helper()
	names := []string{"PATH", "LANG"}
	for _, v := range variables() {
		names = append(names, v.name)
	}
	if len(env) != len(names) {
		t.Fatalf("%.60q: %d variables, want %d", s, len(env), len(names))
	}
	for i, v := range env {
		name, value, _ := strings.Cut(v, "=")
		if name != names[i] || utf8.RuneCountInString(value) > maxValue || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%.60q: %.100q", s, v)
		}
	}
}

// TestDocument holds docs/notify.md to the variables that there are.
func TestDocument(t *testing.T) {
	text := read(t, "../../../docs/notify.md")
	_, rest, _ := strings.Cut(text, "| variable | what it is |\n|---|---|\n")
	got, _, _ := strings.Cut(rest, "\n\n")
	var want strings.Builder
	for _, v := range variables() {
		fmt.Fprintf(&want, "| `%s` | %s |\n", v.name, v.what)
	}
	if d := cmp.Diff(want.String(), got+"\n"); d != "" {
		t.Errorf("docs/notify.md: %s", d)
	}
}
