package accounts

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/crypto/ssh"
)

// edKey is the line of a fresh key.
func edKey(t testing.TB, comment string) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keyLine(t, public, comment)
}

func keyLine(t testing.TB, public any, comment string) string {
	t.Helper()
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) + " " + comment
}

// host is a root folder of a made up machine.
type host struct {
	t    *testing.T
	root string
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t, t.TempDir()}
	if err := os.Chmod(h.root, 0o755); err != nil {
		t.Fatal(err)
	}
	h.write("/bin/bash", "", 0o755, 0)
	h.write("/usr/sbin/nologin", "", 0o755, 0)
	return h
}

func (h *host) dir(name string, mode os.FileMode, uid int) {
	h.t.Helper()
	if err := os.MkdirAll(h.root+filepath.Dir(name), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Mkdir(h.root+name, 0o755); err != nil && !os.IsExist(err) {
		h.t.Fatal(err)
	}
	h.own(name, mode, uid)
}

func (h *host) write(name, content string, mode os.FileMode, uid int) {
	h.t.Helper()
	if err := os.MkdirAll(h.root+filepath.Dir(name), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.root+name, []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.own(name, mode, uid)
}

func (h *host) own(name string, mode os.FileMode, uid int) {
	h.t.Helper()
	if err := os.Chmod(h.root+name, mode); err != nil {
		h.t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(h.root+name, uid, uid); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *host) read(o Options) map[string]Account {
	h.t.Helper()
	o.Root, o.keyTime = h.root, time.Minute // a busy machine is no hanging one
	all, err := Read(h.t.Context(), o)
	if err != nil {
		h.t.Fatal(err)
	}
	byName := map[string]Account{}
	for _, a := range all {
		byName[a.Name] = a
	}
	return byName
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: files of several users can be made by root only")
	}
}

func TestRead(t *testing.T) {
	needsRoot(t)
	h := newHost(t)
	h.write("/etc/passwd", `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
toor:x:0:0::/root:/bin/bash
hanako:x:1000:1000::/home/hanako:/bin/bash
taro:x:1001:1001::/home/taro:/bin/bash
open:x:1002:1002::/home/open:/bin/bash
gone:x:1003:1003::/home/gone:/bin/nosuch
old:x:1004:1004::/home/old:/bin/bash
bad line
hanako:x:0:0::/:/bin/bash
`, 0o644, 0)
	h.write("/etc/shadow", "root:*:1::::::\ntoor:!!:1::::::\nhanako:$y$j9T$abcdefgh$xyzxyzxyz:1::::::\ntaro:!$6$abc$abcdefghijk:1::::::\nopen::1::::::\nold:$6$abc$abcdefghijk:1:::::10:\n", 0o600, 0)
	h.write("/etc/group", "sudo:x:27:hanako,taro\nhanako:x:1000:\nusers:x:100:hanako\n", 0o644, 0)
	h.write("/etc/sudoers", "Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n%sudo\tALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n", 0o440, 0)
	h.write("/etc/sudoers.d/90-open", "open ALL=(ALL) NOPASSWD:ALL\n", 0o440, 0)
	h.write("/etc/sudoers.d/no.dots", "old ALL=(ALL) ALL\n", 0o440, 0)
	h.dir("/home/hanako", 0o700, 1000)
	h.dir("/home/hanako/.ssh", 0o700, 1000)
	h.write("/home/hanako/.ssh/authorized_keys", "# mine\n\n"+edKey(t, "hanako@desk")+"\n", 0o600, 1000)

	got := h.read(Options{StrictModes: true})
	want := map[string]Account{
		"root":   {Name: "root", Home: "/root", Shell: "/bin/bash", Login: true, Password: PasswordLocked, Root: "uid 0"},
		"daemon": {Name: "daemon", UID: 1, GID: 1, Home: "/usr/sbin", Shell: "/usr/sbin/nologin"},
		"toor":   {Name: "toor", Home: "/root", Shell: "/bin/bash", Login: true, Password: PasswordLocked, Barred: true, Root: "uid 0"},
		"hanako": {Name: "hanako", UID: 1000, GID: 1000, Home: "/home/hanako", Shell: "/bin/bash", Login: true, Password: PasswordSet, Root: "group sudo", AsksPassword: true,
			Groups: []string{"hanako", "sudo", "users"}, Keys: []Key{{File: "/home/hanako/.ssh/authorized_keys", Line: 3, Type: "ssh-ed25519", Comment: "hanako@desk"}}},
		"taro": {Name: "taro", UID: 1001, GID: 1001, Home: "/home/taro", Shell: "/bin/bash", Login: true, Password: PasswordLocked, Barred: true,
			Root: "group sudo", AsksPassword: true, Groups: []string{"sudo"}},
		"open": {Name: "open", UID: 1002, GID: 1002, Home: "/home/open", Shell: "/bin/bash", Login: true, Password: PasswordNone, Root: "sudoers"},
		"gone": {Name: "gone", UID: 1003, GID: 1003, Home: "/home/gone", Shell: "/bin/nosuch"},
		"old":  {Name: "old", UID: 1004, GID: 1004, Home: "/home/old", Shell: "/bin/bash", Password: PasswordSet},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Key{}, "Fingerprint", "Modified"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	for name, want := range map[string]bool{"root": true, "hanako": true, "taro": false, "open": true, "old": false} {
		if got[name].BecomesRoot() != want {
			t.Errorf("%s becomes root: %v, want %v", name, !want, want)
		}
	}
	if k := got["hanako"].Keys[0]; !strings.HasPrefix(k.Fingerprint, "SHA256:") || time.Since(k.Modified) > time.Hour {
		t.Errorf("key = %+v", k)
	}
}

func TestReadNoHost(t *testing.T) {
	if got, err := Read(t.Context(), Options{Root: t.TempDir()}); err == nil {
		t.Errorf("got %v, want an error", got)
	}
}

// What sshd refuses under StrictModes, and what hostile users put where their keys are.
func TestReadProblems(t *testing.T) {
	needsRoot(t)
	tests := []struct {
		name     string
		make     func(h *host)
		lax      bool
		files    []string
		wantKeys int
		want     []string // problems, each in part
	}{
		{"well", func(h *host) {}, false, nil, 1, nil},
		{"file writable by its group", func(h *host) { h.own("/home/u/.ssh/authorized_keys", 0o660, 1000) }, false, nil, 1, []string{"writable by its group"}},
		{"folder writable by all", func(h *host) { h.own("/home/u/.ssh", 0o777, 1000) }, false, nil, 1, []string{"its folder /home/u/.ssh is writable by all"}},
		{"home writable by others", func(h *host) { h.own("/home/u", 0o702, 1000) }, false, nil, 1, []string{"its folder /home/u is writable by others"}},
		{"above the home", func(h *host) { h.own("/home", 0o777, 0) }, false, nil, 1, nil},
		{"not strict", func(h *host) { h.own("/home/u", 0o777, 1000) }, true, nil, 1, nil},
		{"another's file", func(h *host) { h.own("/home/u/.ssh/authorized_keys", 0o644, 1001) }, false, nil, 1, []string{"owned by uid 1001"}},
		{"root's file that the user may not read", func(h *host) { h.own("/home/u/.ssh/authorized_keys", 0o600, 0) }, false, nil, 0, []string{"permission denied"}},
		{"another's home", func(h *host) { h.own("/home/u", 0o755, 1001) }, false, nil, 1, []string{"its folder /home/u is owned by uid 1001"}},
		{"a FIFO", func(h *host) {
			name := h.root + "/home/u/.ssh/authorized_keys"
			os.Remove(name)
			if err := syscall.Mkfifo(name, 0o644); err != nil {
				t.Fatal(err)
			}
		}, false, nil, 0, []string{"is not a regular file"}},
		{"a folder", func(h *host) {
			os.Remove(h.root + "/home/u/.ssh/authorized_keys")
			h.dir("/home/u/.ssh/authorized_keys", 0o755, 1000)
		}, false, nil, 0, []string{"is not a regular file"}},
		{"a link to what only root may read", func(h *host) {
			h.write("/secret", edKey(t, "secret"), 0o600, 0)
			os.Remove(h.root + "/home/u/.ssh/authorized_keys")
			os.Symlink("/secret", h.root+"/home/u/.ssh/authorized_keys")
		}, false, nil, 0, []string{"permission denied"}},
		{"a link within the home", func(h *host) {
			h.write("/home/u/keys", edKey(t, "k"), 0o644, 1000)
			os.Remove(h.root + "/home/u/.ssh/authorized_keys")
			os.Symlink("/home/u/keys", h.root+"/home/u/.ssh/authorized_keys")
		}, false, nil, 1, nil},
		{"a link out of the home", func(h *host) {
			h.dir("/srv", 0o777, 0)
			h.write("/srv/keys", edKey(t, "k"), 0o644, 1000)
			os.Remove(h.root + "/home/u/.ssh/authorized_keys")
			os.Symlink("/srv/keys", h.root+"/home/u/.ssh/authorized_keys")
		}, false, nil, 1, []string{"its folder /srv is writable by all"}},
		{"a link to itself", func(h *host) {
			os.Remove(h.root + "/home/u/.ssh/authorized_keys")
			os.Symlink("authorized_keys", h.root+"/home/u/.ssh/authorized_keys")
		}, false, nil, 0, []string{"too many levels"}},
		{"too large", func(h *host) {
			h.write("/home/u/.ssh/authorized_keys", edKey(t, "k")+"\n"+strings.Repeat("#\n", maxFile), 0o600, 1000)
		}, false, nil, 1, []string{"is larger than we read"}},
		{"lines that are no keys", func(h *host) {
			h.write("/home/u/.ssh/authorized_keys", "ssh-ed25519 AAAA broken\nsplit over\n"+edKey(t, "k")+"\nnosuch "+edKey(t, "k"), 0o600, 1000)
		}, false, nil, 2, []string{"1: is no key", "2: is no key", "4: has an option that sshd does not know: nosuch"}},
		{"other places", func(h *host) {
			h.write("/etc/ssh/keys/u", edKey(t, "a"), 0o644, 0)
			h.write("/keys/1000%", edKey(t, "b"), 0o644, 0)
			h.write("/home/u/more.d/x", edKey(t, "c"), 0o644, 1000)
		}, false, []string{"/etc/ssh/keys/%u", "none", "/keys/%U%%", "%h/more.d/*", "more.d/x"}, 3, nil},
		{"no place", func(h *host) {}, false, []string{"none"}, 0, nil},
		{"a home that keeps root out", func(h *host) { h.own("/home/u", 0o700, 1000) }, false, nil, 1, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.write("/etc/passwd", "u:x:1000:1000::/home/u:/bin/bash\n", 0o644, 0)
			h.dir("/home/u", 0o755, 1000)
			h.dir("/home/u/.ssh", 0o700, 1000)
			h.write("/home/u/.ssh/authorized_keys", edKey(t, "k")+"\n", 0o600, 1000)
			tt.make(h)
			u := h.read(Options{StrictModes: !tt.lax, KeyFiles: tt.files})["u"]
			if len(u.Keys) != tt.wantKeys {
				t.Errorf("keys = %+v, want %d", u.Keys, tt.wantKeys)
			}
			if len(u.Problems) != len(tt.want) {
				t.Fatalf("problems = %+v, want %q", u.Problems, tt.want)
			}
			for i, p := range u.Problems {
				got := p.What
				if p.Line > 0 {
					got = string(rune('0'+p.Line)) + ": " + got
				}
				if !strings.Contains(got, tt.want[i]) {
					t.Errorf("problem = %q, want %q in it", got, tt.want[i])
				}
			}
		})
	}
}

// The rights that were taken on are given back, on whatever thread comes next.
func TestRightsReturn(t *testing.T) {
	needsRoot(t)
	if err := as(1000, 1000, []int{27}, func() {
		if _, err := os.ReadFile("/etc/shadow"); err == nil {
			t.Error("uid 1000 reads /etc/shadow")
		}
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile("/etc/shadow"); err != nil {
		t.Error(err)
	}
}

func TestUsable(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	a := Account{
		Keys: []Key{
			{File: "a", Line: 1, Comment: "good"},
			{File: "a", Line: 2, Options: []string{"cert-authority"}},
			{File: "a", Line: 3, Options: []string{`expiry-time="20261122Z"`}},
			{File: "a", Line: 4, Options: []string{`expiry-time="202611230001Z"`}, Comment: "until tomorrow"},
			{File: "a", Line: 5},
			{File: "b", Line: 1},
			{File: "c", Line: 1, Comment: "large"},
		},
		Problems: []Problem{{File: "a", Line: 5, What: "x"}, {File: "b", What: "y"}, {File: "c", What: "z", Unseen: true}},
	}
	var got []string
	for _, k := range a.Usable(now) {
		got = append(got, k.Comment)
	}
	if diff := cmp.Diff([]string{"good", "until tomorrow", "large"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestNoKey(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	good := Key{File: "a", Line: 1}
	for _, tt := range []struct {
		name      string
		account   Account
		elsewhere bool
		want      string
	}{
		{"a key", Account{Login: true, Keys: []Key{good}}, false, ""},
		{"no key", Account{Login: true}, false, "there is no key"},
		{"no key here", Account{Login: true}, true, ""},
		{"no shell", Account{Keys: []Key{good}}, true, "its shell"},
		{"a line is wrong, another is not", Account{Login: true, Keys: []Key{good}, Problems: []Problem{{File: "a", Line: 2, What: "is no key"}}}, false, ""},
		{"the line is wrong", Account{Login: true, Keys: []Key{good}, Problems: []Problem{{File: "a", Line: 1, What: "has an option"}}}, false, "none of its keys"},
		{"the file is refused", Account{Login: true, Keys: []Key{good}, Problems: []Problem{{File: "a", What: "writable by all"}}}, true, "a is writable by all"},
		{"another file is refused", Account{Login: true, Keys: []Key{good}, Problems: []Problem{{File: "b", What: "writable by all"}}}, false, ""},
		{"expired", Account{Login: true, Keys: []Key{{File: "a", Line: 1, Options: []string{`expiry-time="20261122Z"`}}}}, false, "expired"},
		{"certificates", Account{Login: true, Keys: []Key{{File: "a", Line: 1, Options: []string{"cert-authority"}}}}, false, ""},
		{"not seen", Account{Login: true, Problems: []Problem{{File: "/home/x", What: "does not answer", Unseen: true}}}, false, "/home/x: does not answer"},
	} {
		if got := tt.account.NoKey(now, tt.elsewhere); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
