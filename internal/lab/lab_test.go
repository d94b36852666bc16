package lab

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func newLab(t *testing.T, o Options) *Lab {
	t.Helper()
	path := o.SSHD
	if path == "" {
		var err error
		if path, err = FindSSHD(); err != nil {
			t.Skipf("LEFT OUT: %v", err)
		}
	}
	if err := Available(path); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	o.Dir = t.TempDir()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// settled is the log once sshd is done.
func settled(t *testing.T, l *Lab) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := l.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(l.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

func TestLab(t *testing.T) {
	began := time.Now()
	l := newLab(t, Options{})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v to come up, want at most 2 s", took)
	}
	for _, from := range []netip.Addr{Admin4, Admin6} {
		s, err := l.Login(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Run("echo hello")
		if got := string(out); err != nil || got != "hello\n" {
			t.Errorf("got %q, %v", got, err)
		}
		if err := s.Alive(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	attacker := netip.MustParseAddr("198.18.1.2")
	r, err := l.Attack(t.Context(), Attack{Method: Password, From: attacker, User: "root", Passwords: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Attempts(), 2; got != want {
		t.Errorf("attempts = %d, want %d (%+v)", got, want, r)
	}
	log := settled(t, l)
	want := fmt.Sprintf("Failed password for root from 198.18.1.2 port %d ssh2\n", r.Conns[0].Port)
	if got := strings.Count(log, want); got != 2 {
		t.Errorf("%d times %q in the log, want 2", got, want)
	}
	if t.Failed() {
		t.Log(log)
	}
}

// TestRepertoire holds the ground truth to the log, as far as that can be done
// without understanding the log.
func TestRepertoire(t *testing.T) {
	tests := []struct {
		name string
		o    Options
		from string
	}{
		{name: "plain, v4", from: "198.18.0.1"},
		{name: "PAM, v6, verbose, ISO", from: "2001:db8:bad::1", o: Options{PAM: true, LogLevel: "VERBOSE", LogFormat: ISO}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.LoginGraceTime = time.Second
			l := newLab(t, tt.o)
			results, err := l.AttackAll(t.Context(), Repertoire(netip.MustParseAddr(tt.from), tt.o), 8)
			if err != nil {
				t.Fatal(err)
			}
			log := settled(t, l)
			for _, r := range results {
				for _, c := range r.Conns {
					compare(t, log, r.Attack, c)
				}
			}
			if strings.ContainsFunc(log, func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Error("the log holds control characters")
			}
			for line := range strings.Lines(log) {
				if !strings.Contains(line, " lab sshd") {
					t.Errorf("a line that is not sshd's: %q", line)
				}
			}
		})
	}
}

// compare holds one connection to its lines.
func compare(t *testing.T, log string, a Attack, c Conn) {
	t.Helper()
	if c.Port == 0 || c.Unsure != 0 {
		t.Errorf("%s as %q from %s: %+v", a.Method, a.User, a.From, c)
		return
	}
	peer := fmt.Sprintf("%s port %d", a.From, c.Port)
	var failed, accepted, any int
	for line := range strings.Lines(log) {
		if !strings.Contains(line, " "+peer) {
			continue
		}
		any++
		if strings.Contains(line, "]: Failed password for ") {
			failed++
		}
		if strings.Contains(line, "]: Accepted ") {
			accepted++
		}
	}
	if any == 0 && a.Method != Silent { // Debian's 9.2 does not log its timeouts
		t.Errorf("%s as %q from %s: no line", a.Method, a.User, peer)
	}
	if a.Method == Password && failed != c.Attempts {
		t.Errorf("%s as %q from %s: %d failures in the log, want %d", a.Method, a.User, peer, failed, c.Attempts)
	}
	if got := accepted > 0; got != c.Accepted {
		t.Errorf("%s as %q from %s: accepted = %t, want %t", a.Method, a.User, peer, got, c.Accepted)
	}
}

// TestForgedByCut is the reason why a reader must not believe the end of a
// message of 500 bytes: sshd itself wrote the bystander's address there.
func TestForgedByCut(t *testing.T) {
	l := newLab(t, Options{})
	before := "Connection closed by invalid user "
	tail := " " + Bystander.String() + " port 22 [preauth]"
	r, err := l.Attack(t.Context(), Attack{
		Method: None, From: Attackers4.Addr().Next(), User: cutBehind(before, tail),
	})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(settled(t, l)) {
		_, msg, _ := strings.Cut(line, "]: ")
		if strings.HasPrefix(msg, before) {
			t.Logf("%d bytes: %q", len(msg)-1, msg)
			if !strings.HasSuffix(msg, tail+"\n") {
				t.Errorf("not cut behind the bystander's address")
			}
			return
		}
	}
	t.Errorf("no such line (%+v)", r)
}

func TestManySources(t *testing.T) {
	if testing.Short() {
		t.Skip("LEFT OUT: takes many seconds")
	}
	const sources = 2000
	l := newLab(t, Options{})
	var attacks []Attack
	v4, v6 := Attackers4.Addr(), Attackers6.Addr()
	for i := range sources {
		v4, v6 = v4.Next(), v6.Next()
		a := Attack{Method: Password, From: v4, User: "root", Passwords: []string{"x"}}
		if i%2 == 1 {
			a.From = v6
		}
		attacks = append(attacks, a)
	}
	began := time.Now()
	results, err := l.AttackAll(t.Context(), attacks, 64)
	if err != nil {
		t.Fatal(err)
	}
	log := settled(t, l)
	t.Logf("%d sources in %v", sources, time.Since(began))
	failed := map[string]bool{}
	for line := range strings.Lines(log) {
		if _, rest, ok := strings.Cut(line, ": Failed password for root from "); ok {
			failed[strings.TrimSuffix(rest, " ssh2\n")] = true
		}
	}
	for _, r := range results {
		peer := fmt.Sprintf("%s port %d", r.Attack.From, r.Conns[0].Port)
		if !failed[peer] {
			t.Errorf("no failure of %s in the log (%+v)", peer, r.Conns[0])
		}
	}
}
