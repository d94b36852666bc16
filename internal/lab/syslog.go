package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LogFormat is how the log's lines begin.
type LogFormat int

// The formats, named for rsyslog's templates.
const (
	Traditional LogFormat = iota // "Nov 22 18:49:11 lab sshd[7]: ...": Debian 11, RHEL, Amazon Linux
	ISO                          // "2026-11-22T18:49:11.123456+00:00 lab sshd[7]: ...": Debian 12 and later, Ubuntu 24.04 and later
)

// hostname is what the log calls the host.
const hostname = "lab"

// syslog is the daemon behind the host's /dev/log: it writes what comes there
// from facilities auth and authpriv to a file, as rsyslog does.
type syslog struct {
	conn   *net.UnixConn // /dev/log
	self   *net.UnixConn // our own end, for flush
	file   *os.File
	format LogFormat
	repeat bool // see Options.Repeated
	done   chan error

	last    []byte // with repeat: the last message, without its envelope
	repeats int    // how often it came again since

	mu      sync.Mutex
	flushes map[string]chan struct{}
	count   int
}

// flushMark begins a datagram of our own; all others begin with "<".
const flushMark = "flush "

// listenSyslog makes the socket at path, in the calling thread's namespaces.
func listenSyslog(path string, file *os.File, format LogFormat, repeat bool) (*syslog, error) {
	addr := &net.UnixAddr{Name: path, Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		return nil, err
	}
	conn.SetReadBuffer(4 << 20) //nolint:errcheck // smaller only means that sshd waits sooner
	self, err := net.DialUnix("unixgram", nil, addr)
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	s := &syslog{
		conn: conn, self: self, file: file, format: format, repeat: repeat,
		done: make(chan error, 1), flushes: map[string]chan struct{}{},
	}
	go func() { s.done <- s.serve() }()
	return s, nil
}

func (s *syslog) serve() error {
	in := make([]byte, 64<<10)
	for {
		n, err := s.conn.Read(in)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read /dev/log: %w", err)
		}
		if mark := string(in[:n]); strings.HasPrefix(mark, flushMark) {
			if err := s.writeRepeats(); err != nil {
				return err
			}
			s.flushed(mark)
			continue
		}
		message, ok := unwrap(in[:n])
		if !ok {
			continue
		}
		if s.repeat && bytes.Equal(message, s.last) {
			s.repeats++
			continue
		}
		if err := s.writeRepeats(); err != nil {
			return err
		}
		if err := s.write(message); err != nil {
			return err
		}
		if s.repeat {
			s.last = append(s.last[:0], message...)
		}
	}
}

// write writes one message.
func (s *syslog) write(message []byte) error {
	if _, err := s.file.Write(appendLine(nil, message, time.Now(), s.format)); err != nil {
		return fmt.Errorf("write the lab's log: %w", err)
	}
	return nil
}

// writeRepeats tells of the repetitions that were held back: one as it is,
// more as a number.
func (s *syslog) writeRepeats() error {
	message := s.last
	if s.repeats > 1 {
		tag, text, _ := bytes.Cut(s.last, []byte(":"))
		message = fmt.Appendf(nil, "%s: message repeated %d times: [%s]", tag, s.repeats, text)
	}
	if s.repeats == 0 {
		return nil
	}
	s.repeats = 0
	return s.write(message)
}

// flush returns when everything that was sent to /dev/log before is in the file.
func (s *syslog) flush(ctx context.Context) error {
	done := make(chan struct{})
	s.mu.Lock()
	s.count++
	mark := flushMark + strconv.Itoa(s.count)
	s.flushes[mark] = done
	s.mu.Unlock()
	if _, err := s.self.Write([]byte(mark)); err != nil {
		return fmt.Errorf("write to /dev/log: %w", err)
	}
	select {
	case <-done:
		return nil
	case err := <-s.done:
		s.done <- err
		return fmt.Errorf("the lab's syslog has ended: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *syslog) flushed(mark string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done, ok := s.flushes[mark]; ok {
		close(done)
		delete(s.flushes, mark)
	}
}

func (s *syslog) close() error {
	err := errors.Join(s.conn.Close(), s.self.Close(), <-s.done)
	return err
}

// unwrap returns the "TAG: text" of a datagram of libc's syslog(3),
// "<PRI>Mmm dd hh:mm:ss TAG: text". It reports false for what does not belong
// into auth.log.
func unwrap(datagram []byte) ([]byte, bool) {
	priority, rest, ok := bytes.Cut(datagram, []byte(">"))
	if !ok || len(priority) == 0 || priority[0] != '<' {
		return nil, false
	}
	n, err := strconv.Atoi(string(priority[1:]))
	if facility := n >> 3; err != nil || facility != 4 && facility != 10 {
		return nil, false
	}
	if len(rest) > len(time.Stamp) && rest[len(time.Stamp)] == ' ' {
		if _, err := time.Parse(time.Stamp, string(rest[:len(time.Stamp)])); err == nil {
			rest = rest[len(time.Stamp)+1:]
		}
	}
	return bytes.TrimRight(rest, "\x00\n"), true
}

// appendLine appends a message's log line. As rsyslog's imuxsock does by
// default, it takes the time of receipt, and escapes control characters as #ooo.
func appendLine(dst, message []byte, now time.Time, format LogFormat) []byte {
	switch format {
	case ISO:
		dst = now.AppendFormat(dst, "2006-01-02T15:04:05.000000-07:00")
	default:
		dst = now.AppendFormat(dst, time.Stamp)
	}
	dst = append(dst, ' ')
	dst = append(dst, hostname...)
	dst = append(dst, ' ')
	for _, c := range message {
		if c < ' ' || c == 0x7f {
			dst = append(dst, '#', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
			continue
		}
		dst = append(dst, c)
	}
	return append(dst, '\n')
}
