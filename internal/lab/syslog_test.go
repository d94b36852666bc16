package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAppendLine(t *testing.T) {
	now := time.Date(2026, time.November, 2, 3, 4, 5, 678901000, time.FixedZone("", 9*3600))
	tests := []struct {
		name     string
		datagram string
		format   LogFormat
		want     string // "" means that nothing is written
	}{
		{
			name:     "authpriv, traditional",
			datagram: "<86>Nov  2 03:04:04 sshd[7]: Accepted publickey for admin",
			want:     "Nov  2 03:04:05 lab sshd[7]: Accepted publickey for admin\n",
		},
		{
			name:     "auth, ISO",
			datagram: "<38>Nov  2 03:04:04 sshd-session[7]: Failed password\n\x00",
			format:   ISO,
			want:     "2026-11-02T03:04:05.678901+09:00 lab sshd-session[7]: Failed password\n",
		},
		{
			name:     "control characters",
			datagram: "<38>Nov  2 03:04:04 sshd[7]: a\nb\tc\x00d\x7fe\xe9",
			want:     "Nov  2 03:04:05 lab sshd[7]: a#012b#011c#000d#177e\xe9\n",
		},
		{name: "no time stamp", datagram: "<38>sshd[7]: hello", want: "Nov  2 03:04:05 lab sshd[7]: hello\n"},
		{name: "another facility", datagram: "<30>Nov  2 03:04:04 cron[7]: hello"},
		{name: "no priority", datagram: "Nov  2 03:04:04 sshd[7]: hello"},
		{name: "not a number", datagram: "<3x>sshd[7]: hello"},
		{name: "empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []byte
			message, ok := unwrap([]byte(tt.datagram))
			if ok {
				got = appendLine(nil, message, now, tt.format)
			}
			if ok != (tt.want != "") || string(got) != tt.want {
				t.Errorf("got %q, %t; want %q", got, ok, tt.want)
			}
		})
	}
}

func TestRepeated(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "auth.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s, err := listenSyslog(filepath.Join(dir, "log"), file, Traditional, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"a", "b", "b", "c", "c", "c", "c", "d", "d", "d"} {
		if _, err := s.self.Write([]byte("<38>sshd[7]: " + m + " ssh2")); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.flush(t.Context()), s.close()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(read(t, file.Name())) {
		_, message, _ := strings.Cut(line, " lab ")
		got = append(got, message)
	}
	want := []string{
		"sshd[7]: a ssh2\n",
		"sshd[7]: b ssh2\n",
		"sshd[7]: b ssh2\n",
		"sshd[7]: c ssh2\n",
		"sshd[7]: message repeated 3 times: [ c ssh2]\n",
		"sshd[7]: d ssh2\n",
		"sshd[7]: message repeated 2 times: [ d ssh2]\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

func FuzzAppendLine(f *testing.F) {
	f.Add("<86>Nov  2 03:04:04 sshd[7]: Accepted publickey for admin\n")
	f.Add("<38>\x00\n")
	f.Fuzz(func(t *testing.T, datagram string) {
		message, ok := unwrap([]byte(datagram))
		if !ok {
			return
		}
		got := appendLine(nil, message, time.Now(), ISO)
		line, found := strings.CutSuffix(string(got), "\n")
		if !found || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
			t.Errorf("%q is not one clean line", got)
		}
	})
}
