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

func TestPeerIn(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"IPv4", "203.0.113.7 50000 192.0.2.1 22", "203.0.113.7"},
		{"IPv6 with a zone", "fe80::1%eth0 50000 fe80::2%eth0 22", "fe80::1"},
		{"v4-mapped", "::ffff:203.0.113.7 1 ::ffff:192.0.2.1 22", "203.0.113.7"},
		{"none", "", "invalid IP"},
		{"nonsense", "UNKNOWN 65535 UNKNOWN 65535", "invalid IP"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := peerIn(test.value).String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestOwnPeer: a ban of where one is logged in from oneself is refused.
func TestOwnPeer(t *testing.T) {
	t.Setenv("SSH_CONNECTION", "203.0.113.7 50000 192.0.2.1 22")
	var out, errs bytes.Buffer
	code := Run(t.Context(), []string{"ban", "203.0.113.0/24", "--socket", "/nowhere"}, nil, &out, &errs)
	if code != exitFailure || !strings.Contains(errs.String(), "you are logged in from 203.0.113.7") {
		t.Errorf("exit %d, %s", code, errs.String())
	}
}
