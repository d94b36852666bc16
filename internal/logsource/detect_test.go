package logsource

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDetect(t *testing.T) {
	now := time.Now()
	sshd := func(age time.Duration) string {
		return now.Add(-age).Format("2006-01-02T15:04:05Z07:00") + " host sshd[1]: Connection closed by 192.0.2.1 port 1 [preauth]\n"
	}
	journal := func(age time.Duration) string {
		return fmt.Sprintf(`echo '{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"%d"}'`, now.Add(-age).UnixMicro())
	}
	const (
		nothing    = "true"
		absent     = "echo 'No journal files were found.' >&2; exit 1"
		unreadable = "echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1"
	)
	tests := []struct {
		name    string
		files   map[string]string
		journal string // what journalctl does
		want    Spec   // below the root
		why     string
		wantErr string
	}{
		{name: "Debian with rsyslog", files: map[string]string{"/var/log/auth.log": sshd(time.Minute)}, journal: journal(time.Minute), want: "/var/log/auth.log", why: "the journal has nothing newer"},
		{name: "auth.log left over from before the journal", files: map[string]string{"/var/log/auth.log": sshd(24 * time.Hour)}, journal: journal(time.Minute), want: Journald, why: "has none since"},
		{name: "Amazon Linux 2023: journald only", journal: journal(time.Minute), want: Journald, why: "the journal has sshd's entries"},
		{name: "a container without journal", files: map[string]string{"/var/log/secure": sshd(time.Minute)}, journal: absent, want: "/var/log/secure", why: "/var/log/secure has sshd's lines"},
		{name: "two files, one written", files: map[string]string{"/var/log/auth.log": sshd(48 * time.Hour), "/var/log/secure": sshd(time.Minute)}, journal: absent, want: "/var/log/secure", why: "newest"},
		{name: "just rotated", files: map[string]string{"/var/log/auth.log": "", "/var/log/auth.log.1": sshd(time.Minute)}, journal: journal(time.Minute), want: "/var/log/auth.log", why: "newest"},
		{name: "a fresh machine with a journal", files: map[string]string{"/var/log/journal/x/system.journal": "", "/var/log/messages": "x\n"}, journal: nothing, want: Journald, why: "has not written yet"},
		{name: "a fresh machine with a file", files: map[string]string{"/var/log/auth.log": ""}, journal: absent, want: "/var/log/auth.log", why: "has not written yet"},
		{name: "journal may not be read", journal: unreadable, wantErr: `join the group "systemd-journal"`},
		{name: "journal may not be read, file may", files: map[string]string{"/var/log/auth.log": sshd(time.Minute)}, journal: unreadable, want: "/var/log/auth.log", why: "newest"},
		{name: "nothing", journal: absent, wantErr: "neither a readable journal nor any of /var/log/auth.log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, content := range tt.files {
				name = filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(content), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			got, why, err := Detect(t.Context(), DetectOptions{Root: root, Journalctl: script(t, tt.journal)})
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("err = %v, want it to hold %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := Spec(strings.TrimPrefix(string(got), root)); got != tt.want {
				t.Errorf("got %s (%s), want %s", got, why, tt.want)
			}
			if !strings.Contains(why, tt.why) {
				t.Errorf("why = %q, want it to hold %q", why, tt.why)
			}
		})
	}
}

// TestUnreadableNamesTheGroup: root reads everything, so the hint is asked for.
func TestUnreadableNamesTheGroup(t *testing.T) {
	name := filepath.Join(t.TempDir(), "auth.log")
	if err := os.WriteFile(name, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		mode os.FileMode
		want string
	}{
		{name: "group may", mode: 0o640, want: "the group"},
		{name: "nobody may", mode: 0o600, want: "CAP_DAC_READ_SEARCH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.Chmod(name, tt.mode); err != nil {
				t.Fatal(err)
			}
			if got := whoMayRead(name, os.ErrPermission); !strings.Contains(got, tt.want) {
				t.Errorf("hint = %q, want it to hold %q", got, tt.want)
			}
		})
	}
}
