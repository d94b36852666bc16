package logsource

import (
	"context"
	"io"
	"time"

	"sekisho/internal/sshlog"
)

// pump reads in a goroutine, so that who waits for it can stop waiting.
type pump struct {
	filled chan chunk
	empty  chan []byte
}

type chunk struct {
	data []byte
	err  error
}

// newPump starts to read r, until it ends or done is closed.
func newPump(r io.Reader, done <-chan struct{}) *pump {
	p := &pump{filled: make(chan chunk), empty: make(chan []byte, 1)}
	p.empty <- make([]byte, 64<<10)
	go func() {
		for {
			select {
			case <-done:
				return
			case buf := <-p.empty:
				n, err := r.Read(buf)
				select {
				case <-done:
					return
				case p.filled <- chunk{buf[:n], err}:
				}
				if err != nil {
					return
				}
			}
		}
	}()
	return p
}

// giveBack returns a chunk's memory once its data was copied.
func (p *pump) giveBack(c chunk) { p.empty <- c.data[:cap(c.data)] }

type stdinSource struct {
	o     Options
	split splitter
	sshd  sshdLines
	pump  *pump
	done  chan struct{}
	pos   Position
	err   error
}

// OpenStdin follows r to its end. Nothing of it survives a restart: After is
// not looked at. Close does not interrupt a Read of r that is under way.
func OpenStdin(r io.Reader, o Options) Source {
	o = o.withDefaults()
	s := &stdinSource{o: o, split: newSplitter(), done: make(chan struct{})}
	s.sshd = sshdLines{o: o}
	s.sshd.restart(o.Now())
	s.pump = newPump(r, s.done)
	return s
}

func (s *stdinSource) Name() string { return string(Stdin) }

func (s *stdinSource) Close() error {
	close(s.done)
	return nil
}

func (s *stdinSource) Next(ctx context.Context) (Batch, error) {
	for {
		if s.err != nil {
			return Batch{}, s.err
		}
		select {
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		case c := <-s.pump.filled:
			s.split.put(c.data)
			s.pump.giveBack(c)
			s.err = c.err
			now := s.o.Now()
			s.sshd.refresh(now)
			s.sshd.lines = s.sshd.lines[:0]
			read := s.split.cut(c.err != nil, s.sshd.add)
			if read == 0 {
				continue
			}
			clamp(s.sshd.lines, 0, now)
			if n := len(s.sshd.lines); n > 0 {
				s.pos.Time = s.sshd.lines[n-1].Time
			}
			return Batch{Lines: s.sshd.lines, Read: read, Dropped: s.split.dropped, Forgeable: s.sshd.forgeable, Position: s.pos, Live: true}, nil
		}
	}
}

// clamp shifts the lines' times; none is later than now: a log whose clock is
// ahead must not hold a window open.
func clamp(lines []sshlog.Line, shift time.Duration, now time.Time) {
	latest := now.UnixNano()
	for i := range lines {
		if t := lines[i].Time; t != 0 {
			lines[i].Time = min(t+int64(shift), latest)
		}
	}
}
