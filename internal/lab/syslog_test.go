package lab

import (
	"strings"
	"testing"
	"time"
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
			got, ok := appendLine(nil, []byte(tt.datagram), now, tt.format)
			if ok != (tt.want != "") || string(got) != tt.want {
				t.Errorf("got %q, %t; want %q", got, ok, tt.want)
			}
		})
	}
}

func FuzzAppendLine(f *testing.F) {
	f.Add("<86>Nov  2 03:04:04 sshd[7]: Accepted publickey for admin\n")
	f.Add("<38>\x00\n")
	f.Fuzz(func(t *testing.T, datagram string) {
		got, ok := appendLine(nil, []byte(datagram), time.Now(), ISO)
		if !ok {
			return
		}
		line, found := strings.CutSuffix(string(got), "\n")
		if !found || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
			t.Errorf("%q is not one clean line", got)
		}
	})
}
