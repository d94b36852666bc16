package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// stuck takes nothing until it is freed.
type stuck struct {
	free chan struct{}
	b    bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	return s.b.Write(p)
}

// TestLogWriterNeverWaits: whoever takes the log may hang; those who log go on,
// and what was left out is told afterwards.
func TestLogWriterNeverWaits(t *testing.T) {
	s := &stuck{free: make(chan struct{})}
	l := newLogWriter(s)
	line := []byte(strings.Repeat("x", 99) + "\n")
	began := time.Now()
	const lines = 4 * maxUnwritten / 100
	for range lines {
		if n, err := l.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("logging took %v", took)
	}
	close(s.free)
	l.close()
	if got := s.b.String(); !strings.Contains(got, "left out") || len(got) > 3*maxUnwritten {
		t.Errorf("%d bytes, the end: %q", len(got), got[max(0, len(got)-200):])
	}
}

func TestLogWriterLosesNothing(t *testing.T) {
	var b bytes.Buffer
	l := newLogWriter(&b)
	for range 1000 {
		_, _ = l.Write([]byte("line\n"))
	}
	l.close()
	if n := strings.Count(b.String(), "line\n"); n != 1000 {
		t.Errorf("%d of 1000 lines", n)
	}
}
