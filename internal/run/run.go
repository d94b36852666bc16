// Package run starts other programs and sees them end. It is the only package
// that may import os/exec: by argv, never through a shell, and no child
// outlives us.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNotFound says that the program is not installed (or not in PATH).
var ErrNotFound = exec.ErrNotFound

const (
	stderrLimit = 8 << 10 // the end of what a child complained of
	outputLimit = 4 << 20
	killDelay   = 3 * time.Second // between SIGTERM and SIGKILL
)

// Command is what to start. Only Args is needed.
type Command struct {
	Args   []string // argv; Args[0] is looked up in PATH if it has no slash
	Env    []string // nil: our own environment
	Dir    string
	Stdin  *os.File             // nil: /dev/null; a file, for Wait would wait for any other reader's end
	Stdout io.Writer            // nil: a pipe, read through Child.Stdout
	Stderr io.Writer            // beside the bounded copy that Child.Stderr returns
	Attr   *syscall.SysProcAttr // namespaces, credentials; see Start
	// Terminal: the program may ask at our terminal. It stays in our process group, without which the kernel
	// would stop it there; a Ctrl-C reaches it too.
	Terminal bool
}

// Child is a started program. Its methods may be called concurrently, but Wait once.
type Child struct {
	Stdout io.ReadCloser // nil where Command.Stdout was given; read it to its end before Wait
	cmd    *exec.Cmd
	stderr *tail
}

// Start starts the program. When ctx ends it gets SIGTERM, and SIGKILL 3 s
// later. It dies with us: the kernel sends SIGKILL when the thread that started
// it ends (PR_SET_PDEATHSIG), so a goroutine that is locked to its thread must
// not end before the child. It has its own process group, so that a Ctrl-C at
// our terminal reaches us alone (but see Terminal). A missing program is ErrNotFound.
func Start(ctx context.Context, c Command) (*Child, error) {
	if len(c.Args) == 0 {
		return nil, errors.New("start a program: no argv")
	}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout = c.Env, c.Dir, c.Stdout
	if c.Stdin != nil {
		cmd.Stdin = c.Stdin
	}
	attr := syscall.SysProcAttr{}
	if c.Attr != nil {
		attr = *c.Attr
	}
	attr.Pdeathsig = syscall.SIGKILL
	attr.Setpgid = !attr.Setsid && !c.Terminal
	cmd.SysProcAttr = &attr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killDelay

	child := &Child{cmd: cmd, stderr: &tail{}}
	cmd.Stderr = child.stderr
	if c.Stderr != nil {
		cmd.Stderr = io.MultiWriter(child.stderr, c.Stderr)
	}
	if c.Stdout == nil {
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", c.Args[0], err)
		}
		child.Stdout = pipe
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Args[0], err)
	}
	return child, nil
}

// PID is the child's process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Signal sends a signal; an error means that the child has ended.
func (c *Child) Signal(s os.Signal) error { return c.cmd.Process.Signal(s) }

// Stderr is the end of what the child wrote there, at most 8 KiB.
func (c *Child) Stderr() string { return c.stderr.String() }

// LastLine is the last line of that: what a program says as it gives up.
func (c *Child) LastLine() string { return c.stderr.lastLine() }

// Wait waits for the end. An exit other than 0 is an error that holds the last
// line of stderr; errors.As finds the *ExitError within.
func (c *Child) Wait() error {
	err := c.cmd.Wait()
	if err == nil {
		return nil
	}
	if last := c.LastLine(); last != "" {
		return fmt.Errorf("%s: %w: %q", c.cmd.Args[0], err, last)
	}
	return fmt.Errorf("%s: %w", c.cmd.Args[0], err)
}

// ExitError is an exit with another code than 0, or by a signal.
type ExitError = exec.ExitError

// Output runs a program to its end and returns what it wrote to stdout; more
// than 4 MiB is an error.
func Output(ctx context.Context, args ...string) ([]byte, error) {
	child, err := Start(ctx, Command{Args: args})
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(child.Stdout, outputLimit+1))
	if err == nil && len(out) > outputLimit {
		err = fmt.Errorf("%s: wrote more than %d bytes", args[0], outputLimit)
	}
	// Closing first ends a child that is still writing, by SIGPIPE.
	child.Stdout.Close()
	if waitErr := child.Wait(); err == nil {
		err = waitErr
	}
	return out, err
}

// tail keeps the end of what was written.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if n > stderrLimit {
		p = p[n-stderrLimit:]
	}
	if over := len(t.buf) + len(p) - stderrLimit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	t.buf = append(t.buf, p...)
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.ToValidUTF8(t.buf, []byte("?")))
}

func (t *tail) lastLine() string {
	s := strings.TrimRight(t.String(), "\r\n")
	return s[strings.LastIndexAny(s, "\r\n")+1:]
}
