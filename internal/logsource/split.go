package logsource

import "bytes"

const (
	// maxLine bounds a line. sshd's are under 1.2 KiB (log.c, MSGBUFSIZ); a
	// longer one is another program's or an attack, and is never read in part.
	maxLine = 64 << 10
	// chunkSize bounds what one batch reads, and so the memory of a flood.
	chunkSize = 256 << 10
)

// splitter cuts a stream into lines in a fixed buffer.
type splitter struct {
	buf      []byte
	used     int   // buf[:used] is unread, from the start of a line (or of the rest of one that is too long)
	number   int64 // lines seen
	skipped  int64 // bytes thrown away of a line that is too long and whose end is not there yet
	dropped  int   // since the last cut began
	consumed int   // of buf[:used]
}

func newSplitter() splitter { return splitter{buf: make([]byte, chunkSize)} }

// free is where to put what comes next; it moves what the last cut left to the
// front, so lines that were cut before do not hold any more.
func (s *splitter) free() []byte {
	if s.consumed > 0 {
		s.used = copy(s.buf, s.buf[s.consumed:s.used])
		s.consumed = 0
	}
	return s.buf[s.used:]
}

// put appends data, of which there is never more than what fits behind the rest
// that a cut leaves: maxLine at most.
func (s *splitter) put(data []byte) {
	n := copy(s.free(), data)
	s.used += n
}

// reset forgets an unfinished line.
func (s *splitter) reset() { s.used, s.consumed, s.skipped = 0, 0, 0 }

// next returns the next complete line without its newline; it is the number-th.
// With final, what has no newline is a line too. NUL bytes at the start of a
// line are no part of it: a writer without O_APPEND leaves a hole where
// copytruncate cut the file off.
func (s *splitter) next(final bool) (raw []byte, ok bool) {
	p := s.consumed
	for p < s.used {
		if s.buf[p] == 0 && s.skipped == 0 {
			for p < s.used && s.buf[p] == 0 {
				p++
			}
			continue
		}
		n := bytes.IndexByte(s.buf[p:s.used], '\n')
		next := p + n + 1
		if n < 0 {
			if !final {
				break
			}
			n, next = s.used-p, s.used
		}
		s.number++
		if s.skipped == 0 && n <= maxLine {
			s.consumed = next
			return s.buf[p : p+n], true
		}
		s.dropped++
		s.skipped = 0
		p = next
	}
	switch rest := s.used - p; {
	case rest > maxLine || rest > 0 && s.skipped > 0:
		s.skipped += int64(rest)
		p = s.used
	case final && s.skipped > 0:
		s.number++
		s.dropped++
		s.skipped = 0
	}
	s.consumed = p
	return nil, false
}

// cut passes the complete lines on and returns how many there were.
func (s *splitter) cut(final bool, line func(raw []byte, number int64)) (read int) {
	s.dropped = 0
	before := s.number
	for {
		raw, ok := s.next(final)
		if !ok {
			return int(s.number - before)
		}
		line(raw, s.number)
	}
}
