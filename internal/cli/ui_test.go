package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	gateclient "sekisho/internal/gate/client"
)

func testUI(color bool) (u *ui, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	g := &globals{stdin: strings.NewReader(""), stdout: stdout, stderr: stderr}
	u = newUI(g)
	u.colorOut, u.colorErr = color, color
	return u, stdout, stderr
}

func TestFail(t *testing.T) {
	_, wrong := config.Parse("x.yaml", []byte("version: 1\nguard: {mode: \"\x1b[2Jnormal\"}\n"))
	_, wrongs := config.Parse("x.yaml", []byte("versio: 1\n"))
	for _, tt := range []struct {
		name  string
		err   error
		color bool
		want  string
	}{
		{"plain", errors.New("open /x: no such file"), false, "sekisho: open /x: no such file\n"},
		{"hint", fmt.Errorf("ban: %w", withHint(errors.New("not an address"), "give one")), false, "sekisho: ban: not an address\nhint: give one\n"},
		{"colour", withHint(errors.New("no"), "yes"), true, "\x1b[1;31msekisho:\x1b[0m no\n\x1b[1mhint:\x1b[0m yes\n"},
		{"hostile", errors.New("user \x1b]0;owned\a\u202e"), false, `sekisho: user \x1b]0;owned\a\u202e` + "\n"},
		{"several", errors.Join(errors.New("one"), errors.New("two\x1b")), false, "sekisho: one\ntwo\\x1b\n"},
		{"told already", &exitError{exitUsage, errTold}, false, ""},
		{"configuration", &exitError{exitUsage, wrong}, false, `x.yaml:2:16: a control character, U+001B
    2 | guard: {mode: "\x1b[2Jnormal"}
      |                ^
hint: delete it
`},
		{"configuration, several, colour", wrongs, true, "\x1b[1mx.yaml:1:1:\x1b[0m the version is missing\n    1 | versio: 1\n      | \x1b[1;31m^\x1b[0m\n\x1b[1mhint:\x1b[0m write `version: 1` as the first line\n" +
			"\n\x1b[1mx.yaml:1:1:\x1b[0m there is no key \"versio\"\n    1 | versio: 1\n      | \x1b[1;31m^\x1b[0m\n\x1b[1mhint:\x1b[0m did you mean version?\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, stdout, stderr := testUI(tt.color)
			u.fail(tt.err)
			if diff := cmp.Diff(tt.want, stderr.String()); diff != "" {
				t.Errorf("stderr (-want +got):\n%s", diff)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout got %q", stdout)
			}
		})
	}
}

func TestTable(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rows  [][]string
		color bool
		want  string
	}{
		{"none", nil, false, ""},
		{"columns", [][]string{{"lines", "12"}, {"x", "3"}}, true, "lines  12\nx      3\n"},
		{"head", [][]string{{"PREFIX", "LEFT"}, {"1.2.3.4", "1h"}}, true, "\x1b[1mPREFIX   LEFT\x1b[0m\n1.2.3.4  1h\n"},
		{"wide", [][]string{{"関所", "a"}, {"x", "b"}}, false, "関所  a\nx     b\n"},
		{"hostile", [][]string{{"a\nb\x1b[2J", "c"}, {"x", "y"}}, false, `a\nb\x1b[2J  c` + "\n" + `x            y` + "\n"},
		{"short rows, empty ends", [][]string{{"a", "b", ""}, {"c"}, {"", "", "d"}}, false, "a  b\nc\n      d\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, stdout, _ := testUI(tt.color)
			u.table(tt.rows)
			if diff := cmp.Diff(tt.want, stdout.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWarn(t *testing.T) {
	u, stdout, _ := testUI(false)
	u.warn("the log \x1b is silent", "look at it")
	u.warn("no remedy", "")
	u.line("a\tb")
	want := "warning: the log \\x1b is silent\n   hint: look at it\nwarning: no remedy\na\\tb\n"
	if diff := cmp.Diff(want, stdout.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProgress(t *testing.T) {
	wait := func(d time.Duration) { <-time.After(d) } // in a bubble
	draw := func(t *testing.T, total int64, columns int, steps func(b *bar)) string {
		var out bytes.Buffer
		synctest.Test(t, func(t *testing.T) {
			u, _, _ := testUI(false)
			u.g.stderr, u.drawErr, u.columns = &out, true, columns
			b := u.progress(total)
			steps(b)
			b.done()
			b.done()
		})
		return out.String()
	}
	const clear = "\r\x1b[K"
	t.Run("short work draws nothing", func(t *testing.T) {
		got := draw(t, 100, 80, func(b *bar) { wait(100 * time.Millisecond); b.at(50) })
		if got != "" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("known total", func(t *testing.T) {
		got := draw(t, 2_000_000, 80, func(b *bar) { wait(time.Second); b.at(500_000); wait(time.Second); b.at(9_000_000) })
		want := "\r 25 % [=======                       ] 500.0 kB of 2.0 MB, 3s left\x1b[K" +
			"\r100 % [==============================] 9.0 MB of 2.0 MB, 0s left\x1b[K" + clear
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("unknown total, narrow", func(t *testing.T) {
		got := draw(t, 0, 15, func(b *bar) { wait(2 * time.Second); b.at(3000) })
		if want := "\r3.0 kB read, …\x1b[K" + clear; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("at most ten a second", func(t *testing.T) {
		got := draw(t, 1000, 80, func(b *bar) {
			for n := range int64(1500) {
				wait(time.Millisecond)
				b.at(n)
			}
		})
		if n := strings.Count(got, "\r"); n < 5 || n > 12 {
			t.Errorf("drawn %d times in a second", n)
		}
	})
	t.Run("no terminal", func(t *testing.T) {
		u, _, stderr := testUI(false)
		b := u.progress(10)
		b.at(5)
		b.done()
		if stderr.Len() > 0 {
			t.Errorf("got %q", stderr)
		}
	})
}

func TestNewUIWithoutTerminal(t *testing.T) {
	if u := newUI(&globals{stdout: io.Discard, stderr: io.Discard}); u.colorOut || u.colorErr || u.drawErr {
		t.Errorf("newUI(no terminal) = %+v", u)
	}
}

func TestNewUIOnTerminal(t *testing.T) {
	ptm, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("LEFT OUT: no pseudo-terminal to be had: %v", err)
	}
	defer ptm.Close()
	n, err := unix.IoctlGetInt(int(ptm.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(ptm.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name                  string
		noColor, term         string
		stdout                io.Writer
		json                  bool
		colorOut, color, draw bool
	}{
		{"terminal", "", "xterm", tty, false, true, true, true},
		{"NO_COLOR", "1", "xterm", tty, false, false, false, true},
		{"dumb", "", "dumb", tty, false, false, false, false},
		{"stdout goes elsewhere", "", "xterm", io.Discard, true, false, true, true},
		{"JSON on the same screen", "", "xterm", tty, true, true, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			t.Setenv("TERM", tt.term)
			u := newUI(&globals{stdout: tt.stdout, stderr: tty, json: tt.json})
			if u.colorOut != tt.colorOut || u.colorErr != tt.color || u.drawErr != tt.draw || u.columns != 100 {
				t.Errorf("newUI = %+v", u)
			}
		})
	}
}

// TestDoorsErrors: why a host has not opened a door is told, once; what is only remembered of
// one that is open is not told as if it were tried again.
func TestDoorsErrors(t *testing.T) {
	u, stdout, _ := testUI(false)
	at := &atGate{Client: &gateclient.Client{}}
	waits := api.Grant{Person: "hanako", State: api.Asked, Error: "port 22 is none of SSH's", Warnings: []string{"box-1 has not said yet that it is open"}}
	gone := api.Grant{Person: "hanako", State: api.Open, Error: "its rule is gone", Warnings: []string{"open it once more"}}
	u.doors(at, []api.Door{
		{Target: "box", Kind: api.KindHost, Connected: true, Grants: []api.Grant{waits, waits, {Person: "taro", Error: "no"}}},
		{Target: "web", Kind: api.KindGroup, Grants: []api.Grant{gone}},
	}, "hanako")
	const want = "warning: box: box-1 has not said yet that it is open\nwarning: box: port 22 is none of SSH's\n   hint: the gate goes on trying\nwarning: web: open it once more\n"
	_, warnings, _ := strings.Cut(stdout.String(), "warning: ")
	if diff := cmp.Diff(want, "warning: "+warnings); diff != "" {
		t.Error(diff)
	}
}
