package cli

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pty is a terminal: a program has the end with the name, a test the other.
type pty struct {
	name       string
	controller *os.File
	terminal   *os.File // kept open, so that it is there between programs

	mu     sync.Mutex
	shown  bytes.Buffer
	change chan struct{} // closed when more is shown
}

func openPTY() (*pty, error) {
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	fd := int(controller.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 100}); err != nil {
		return nil, err
	}
	p := &pty{name: fmt.Sprintf("/dev/pts/%d", n), controller: controller, change: make(chan struct{})}
	if p.terminal, err = os.OpenFile(p.name, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, err
	}
	go p.read()
	return p, nil
}

func (p *pty) close() {
	p.terminal.Close()
	p.controller.Close()
}

func (p *pty) read() {
	buf := make([]byte, 4096)
	for {
		n, err := p.controller.Read(buf)
		p.mu.Lock()
		p.shown.Write(buf[:n])
		close(p.change)
		p.change = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// text is all that was shown so far.
func (p *pty) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.String()
}

// await waits until the terminal has shown what pattern describes.
func (p *pty) await(pattern *regexp.Regexp) error {
	tooLong := time.After(20 * time.Second)
	for {
		p.mu.Lock()
		change := p.change
		p.mu.Unlock()
		if pattern.MatchString(p.text()) {
			return nil
		}
		select {
		case <-change:
		case <-tooLong:
			return fmt.Errorf("%s was not shown, but %q", pattern, p.text())
		}
	}
}
