package guard

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/sshlog"
)

var modes = [...]Mode{Normal, DDoS, Extra, Aggressive}

// start is when the tests' logs begin.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sample is one line of a test log: "PROGRAM[PID]: MESSAGE", at a time of its own.
type sample struct {
	want [len(modes)]int
	text string
}

// line is text as a source would deliver it.
func line(t testing.TB, text string, at time.Time) *sshlog.Line {
	t.Helper()
	tag, message, ok := strings.Cut(text, ": ")
	program, rest, bracket := strings.Cut(tag, "[")
	pid, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
	if !ok || !bracket || err != nil {
		t.Fatalf("not a test line: %q", text)
	}
	l := &sshlog.Line{Time: at.UnixNano(), PID: int32(pid), Host: []byte("host"), Message: []byte(message)}
	switch program {
	case "sshd":
		l.Program = sshlog.ProgramSSHD
	case "sshd-session":
		l.Program = sshlog.ProgramSession
	case "sshd-auth":
		l.Program = sshlog.ProgramAuth
	default:
		t.Fatalf("not a program of sshd's: %q", text)
	}
	return l
}

// samples reads a file of test logs.
func samples(t *testing.T, path string) (names []string, logs map[string][]sample) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	logs = map[string][]sample{}
	name := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text := lines.Text()
		switch {
		case text == "", strings.HasPrefix(text, "#"):
			continue
		case strings.HasPrefix(text, "-- "):
			name = text[3:]
			if logs[name] != nil {
				t.Fatalf("%s: two logs are named %q", path, name)
			}
			names = append(names, name)
			continue
		}
		var s sample
		fields := strings.SplitN(text, " ", len(modes)+1)
		for i := range modes {
			if s.want[i], err = strconv.Atoi(fields[i]); err != nil {
				t.Fatalf("%s: %q: %v", path, text, err)
			}
		}
		s.text = fields[len(modes)]
		logs[name] = append(logs[name], s)
	}
	return names, logs
}

func TestAttempts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		names, logs := samples(t, file)
		for _, name := range names {
			t.Run(filepath.Base(file)+"/"+name, func(t *testing.T) {
				for i, mode := range modes {
					p := DefaultPolicy()
					p.Mode = mode
					e := New(p)
					var o Outcome
					var got, want []string
					for n, s := range logs[name] {
						e.Observe(line(t, s.text, start.Add(time.Duration(n)*time.Millisecond)), &o)
						got = append(got, fmt.Sprintf("%d %s", o.Attempts, s.text))
						want = append(want, fmt.Sprintf("%d %s", s.want[i], s.text))
						if o.Event.Kind == sshlog.Unknown {
							t.Errorf("unknown: %s", s.text)
						}
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("mode %s (-want +got):\n%s", mode, diff)
					}
				}
			})
		}
	}
}

func TestBan(t *testing.T) {
	e := New(DefaultPolicy())
	var o Outcome
	for i := range 5 {
		e.Observe(line(t, fmt.Sprintf("sshd[%d]: Failed password for root from 192.0.2.4 port %d ssh2", 10+i, 1000+i), start.Add(time.Duration(i)*time.Second)), &o)
		if got, want := len(o.Bans), i/4; got != want {
			t.Fatalf("failure %d: %d bans, want %d", i+1, got, want)
		}
	}
	want := netip.MustParsePrefix("192.0.2.4/32")
	if got := o.Bans[0].Prefix; got != want {
		t.Errorf("banned %v, want %v", got, want)
	}
}
