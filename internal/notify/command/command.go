// Package command tells a program of one's own: by argv, never through a shell, with what happened in its
// environment and, whole, on its standard input. docs/notify.md is its contract with that
// program. A mechanism: only who sends notifications imports it.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/plain"
	"sekisho/internal/notify/webhook"
	"sekisho/internal/run"
)

const (
	usual     = 30 * time.Second
	maxOutput = 1 << 20 // bytes of standard output: a program that writes more is ended
	path      = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Sender runs one program for each message. It is a notify.Sender.
type Sender struct {
	argv    []string
	timeout time.Duration
	host    string
}

// New makes a sender; host is this one, as the program is told it.
func New(c config.Command, host string) (*Sender, error) {
	if len(c.Argv) == 0 || !filepath.IsAbs(c.Argv[0]) {
		return nil, errors.New("command: the program must be named by its absolute path, such as /usr/local/bin/tell")
	}
	for _, arg := range c.Argv {
		if strings.ContainsRune(arg, 0) {
			return nil, errors.New("command: an argument has a zero byte in it")
		}
	}
	s := &Sender{argv: c.Argv, timeout: c.Timeout, host: host}
	if s.timeout <= 0 {
		s.timeout = usual
	}
	return s, nil
}

// Send runs the program, and waits for its end. When the time is over, or ctx, it is ended, and
// whatever else is in its process group. An exit other than 0 is an error, with the last line that
// it wrote to standard error, and is worth another try. Errors are *notify.Step.
func (s *Sender) Send(ctx context.Context, m notify.Message) error {
	fail := func(name string, err error, hint string, final bool) error {
		return &notify.Step{Name: name, Err: err, Hint: hint, Final: final}
	}
	body, err := webhook.Document(m, s.host)
	if err != nil {
		return fail("data", err, "", true)
	}
	stdin, err := memory(body)
	if err != nil {
		return fail("data", err, "", false)
	}
	defer stdin.Close()

	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("it has not ended within %s", s.timeout))
	defer cancel()
	flood := &bounded{left: maxOutput, over: cancel}
	child, err := run.Start(ctx, run.Command{Args: s.argv, Env: environment(m, s.host), Dir: "/", Stdin: stdin, Stdout: flood, Stderr: flood})
	if err != nil {
		hint := "is the program there, and may it be run?"
		if errors.Is(err, syscall.ENOEXEC) {
			hint = "a script begins with its interpreter, such as #!/bin/sh"
		}
		return fail("start", err, hint, false)
	}
	// The program itself is asked to end when ctx does; what it has started, as well.
	group := -child.PID()
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(group, syscall.SIGTERM) })
	err = child.Wait()
	if !stop() || err != nil && !exited(err) {
		// It did not end by itself, or left something behind that holds its output.
		_ = syscall.Kill(group, syscall.SIGKILL)
	}
	said := plain.Said(child.LastLine())
	switch {
	case flood.reached():
		return fail("answer", fmt.Errorf("%s wrote more than %d MiB", s.argv[0], maxOutput>>20), "have it write less", false)
	case ctx.Err() != nil && err != nil:
		return &notify.Step{Name: "answer", Said: said, Err: fmt.Errorf("%s: %w", s.argv[0], context.Cause(ctx)), Hint: "a longer timeout may help"}
	case err != nil && exited(err):
		status, _ := errors.AsType[*run.ExitError](err)
		return &notify.Step{Name: "answer", Said: said, Err: fmt.Errorf("%s: %s", s.argv[0], status.ProcessState), Hint: "run it by hand: docs/notify.md shows how"}
	case err != nil:
		return fail("answer", fmt.Errorf("%s has ended, and left a program behind that holds its output", s.argv[0]), "redirect the output of what it starts in the background", true)
	}
	return nil
}

func exited(err error) bool {
	_, ok := errors.AsType[*run.ExitError](err)
	return ok
}

// memory is a file that is nowhere but in memory.
func memory(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "message")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the message into memory: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the message into memory: %w", err)
	}
	return f, nil
}
