package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	maxUnwritten = 1 << 20         // bytes of log that wait
	lastWords    = 2 * time.Second // for what waits at the end
)

// logWriter writes behind the back of those who log: a guard must not stand still
// because nobody takes its log (a hung journald, a stopped pager). What does not
// fit is left out and counted.
type logWriter struct {
	w    io.Writer
	wake chan struct{}
	done chan struct{}

	mu     sync.Mutex
	buf    []byte
	lost   int
	closed bool
}

func newLogWriter(w io.Writer) *logWriter {
	l := &logWriter{w: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

// Write takes one line; it never fails and never waits.
func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	if len(l.buf)+len(line) > maxUnwritten {
		l.lost++
	} else {
		l.buf = append(l.buf, line...)
	}
	l.mu.Unlock()
	l.signal()
	return len(line), nil
}

func (l *logWriter) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *logWriter) run() {
	defer close(l.done)
	for range l.wake {
		l.mu.Lock()
		text, lost, closed := l.buf, l.lost, l.closed
		l.buf, l.lost = nil, 0
		l.mu.Unlock()
		if lost > 0 {
			text = fmt.Appendf(text, "level=WARN msg=\"log lines were left out: they were not taken in time\" lines=%d\n", lost)
		}
		if len(text) > 0 {
			_, _ = l.w.Write(text) // where could that be told
		}
		if closed {
			return
		}
	}
}

// close writes what waits, if it is taken soon.
func (l *logWriter) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	select {
	case <-l.done:
	case <-time.After(lastWords):
	}
}
