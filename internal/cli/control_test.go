package cli

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// control is the daemon's end of the control socket as a script has it: it answers
// what a file says, and remembers what it was asked. What the real one answers is
// tested with it, in cmd/sekisho.
//
// The file: a line "> METHOD PATH STATUS", then the body, sent line by line. A
// line "@await METHOD PATH" waits for that request, "@hold" for the client to go;
// {{60s}} is the time a minute from now.
type control struct {
	answers map[string]answer

	mu     sync.Mutex
	asked  []string
	change chan struct{} // closed at the next request
}

type answer struct {
	status int
	lines  []string
}

var inPattern = regexp.MustCompile(`\{\{(-?[0-9a-z]+)\}\}`)

func newControl(file string) (*control, error) {
	c := &control{answers: map[string]answer{}, change: make(chan struct{})}
	key := ""
	for line := range strings.Lines(file) {
		line = strings.TrimSuffix(line, "\n")
		if head, ok := strings.CutPrefix(line, "> "); ok {
			fields := strings.Fields(head)
			if len(fields) != 3 {
				return nil, fmt.Errorf("%q: want METHOD PATH STATUS", line)
			}
			status, err := strconv.Atoi(fields[2])
			if err != nil {
				return nil, err
			}
			key = fields[0] + " " + fields[1]
			c.answers[key] = answer{status: status}
		} else if line != "" {
			a := c.answers[key]
			a.lines = append(a.lines, line)
			c.answers[key] = a
		}
	}
	return c, nil
}

func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	key := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v1/")
	c.mu.Lock()
	c.asked = append(c.asked, key+" "+r.URL.Query().Encode()+string(bytes.TrimSpace(body)))
	close(c.change)
	c.change = make(chan struct{})
	c.mu.Unlock()
	a, ok := c.answers[key]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.WriteHeader(a.status)
	for _, line := range a.lines {
		switch await, isAwait := strings.CutPrefix(line, "@await "); {
		case isAwait:
			_ = c.await(await, r.Context().Done())
		case line == "@hold":
			<-r.Context().Done()
		default:
			line = inPattern.ReplaceAllStringFunc(line, func(s string) string {
				d, err := time.ParseDuration(s[2 : len(s)-2])
				if err != nil {
					return s
				}
				return time.Now().Add(d).Format(time.RFC3339Nano)
			})
			fmt.Fprintln(w, line)
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
}

// await waits for a request that begins so.
func (c *control) await(begin string, gone <-chan struct{}) error {
	tooLong := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		change, asked := c.change, strings.Join(c.asked, "\n")
		c.mu.Unlock()
		if _, ok := c.last(begin); ok {
			return nil
		}
		select {
		case <-change:
		case <-gone:
			return io.EOF
		case <-tooLong:
			return fmt.Errorf("%q was not asked, but:\n%s", begin, asked)
		}
	}
}

// last is the last request that begins so.
func (c *control) last(begin string) (asked string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, asked := range slices.Backward(c.asked) {
		if strings.HasPrefix(asked, begin) {
			return asked, true
		}
	}
	return "", false
}

// talk is what a script talks with: a control socket, and a terminal.
type talk struct {
	control *control
	pty     *pty
}

type talkKey struct{}

// talkCommands are what scripts have beside testscript's own:
//
//	control FILE [NAME]             answer at $WORK/sock, or $WORK/NAME
//	[!] asked METHOD PATH [REGEXP]  wait for a request and look at the last of its kind
//	pty                             open a terminal, $TTY
//	expect REGEXP                   wait until the terminal shows it
//	! expect REGEXP                 it has not been shown
//	type TEXT                       type a line
//	hostname                        type this host's name
//	ec2 ...                         EC2, of the script's own: ec2Command
//	gate ...                        a gate in front of it: gateScript
var talkCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"ec2":  ec2Command,
	"gate": gateScript,
	"control": func(ts *testscript.TestScript, _ bool, args []string) {
		c, err := newControl(ts.ReadFile(args[0]))
		ts.Check(err)
		name := "sock"
		if len(args) > 1 {
			name = args[1]
		}
		listener, err := net.Listen("unix", filepath.Join(ts.Getenv("WORK"), name)) //nolint:noctx // it is closed with the script
		ts.Check(err)
		server := &http.Server{Handler: c, ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(listener) }()
		ts.Defer(func() { server.Close() })
		ts.Value(talkKey{}).(*talk).control = c
	},
	"asked": func(ts *testscript.TestScript, neg bool, args []string) {
		c, begin := ts.Value(talkKey{}).(*talk).control, args[0]+" "+args[1]
		if neg {
			if last, ok := c.last(begin); ok {
				ts.Fatalf("asked: %s", last)
			}
			return
		}
		ts.Check(c.await(begin, nil))
		if last, _ := c.last(begin); len(args) > 2 && !regexp.MustCompile(args[2]).MatchString(last) {
			ts.Fatalf("asked %s, want %s", last, args[2])
		}
	},
	"pty": func(ts *testscript.TestScript, _ bool, _ []string) {
		p, err := openPTY()
		ts.Check(err)
		ts.Defer(p.close)
		ts.Setenv("TTY", p.name)
		ts.Value(talkKey{}).(*talk).pty = p
	},
	"expect": func(ts *testscript.TestScript, neg bool, args []string) {
		p := ts.Value(talkKey{}).(*talk).pty
		if pattern := regexp.MustCompile(args[0]); neg {
			if text := p.text(); pattern.MatchString(text) {
				ts.Fatalf("the terminal shows %q", text)
			}
		} else {
			ts.Check(p.await(pattern))
		}
	},
	"type": func(ts *testscript.TestScript, _ bool, args []string) {
		_, err := ts.Value(talkKey{}).(*talk).pty.controller.WriteString(args[0] + "\n")
		ts.Check(err)
	},
	"hostname": func(ts *testscript.TestScript, _ bool, _ []string) {
		name, err := os.Hostname()
		ts.Check(err)
		_, err = ts.Value(talkKey{}).(*talk).pty.controller.WriteString(name + "\n")
		ts.Check(err)
	},
}
