package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"sekisho/internal/lab"
	"sekisho/internal/run"
)

// labProgram is a program that runs on the lab's host.
type labProgram struct {
	child *run.Child
	done  chan struct{} // closed when it has ended
	err   error         // how, once done is closed

	mu  sync.Mutex
	out bytes.Buffer
}

// Write keeps what the program says.
func (p *labProgram) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

// said is what the program has written so far.
func (p *labProgram) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *labProgram) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end asks the program to end and waits until it has.
func (p *labProgram) end() {
	_ = p.child.Signal(syscall.SIGTERM)
	<-p.done
}

// kill ends it without a word, by a SIGKILL.
func (p *labProgram) kill() {
	_ = p.child.Signal(syscall.SIGKILL)
	<-p.done
}

// sekisho starts one of our own commands on the host, as if it were typed in a
// session; nil: at a console.
func (s *show) sekisho(ctx context.Context, session *lab.Session, args ...string) (*labProgram, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args = append(args, "--config", filepath.Join(s.dir, "sekisho.yaml"), "--state-dir", filepath.Join(s.dir, "state"), "--socket", s.client.socket)
	connection := "SSH_CONNECTION="
	if session != nil {
		connection += fmt.Sprintf("%s %d %s %d", session.From.Addr(), session.From.Port(), lab.Host4, lab.Port)
	}
	return s.program(ctx, connection, append([]string{self}, args...)...)
}

// program starts a program on the host, with one variable more.
func (s *show) program(ctx context.Context, variable string, args ...string) (*labProgram, error) {
	p := &labProgram{done: make(chan struct{})}
	var err error
	p.child, err = s.lab.Start(context.WithoutCancel(ctx), run.Command{Args: args, Env: append(os.Environ(), variable), Stdout: p, Stderr: p})
	if err != nil {
		return nil, err
	}
	go func() {
		p.err = p.child.Wait()
		close(p.done)
	}()
	return p, nil
}
