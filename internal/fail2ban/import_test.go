package fail2ban

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

var update = flag.Bool("update", false, "write what came of the files of testdata anew")

// TestImport: each testdata/*.txtar is a configuration as people have them, and what comes of it.
func TestImport(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			m := based(nil)
			want := ""
			for _, f := range a.Files {
				if f.Name == "want" {
					want = string(f.Data)
				} else {
					m[dir+"/"+f.Name] = string(f.Data)
				}
			}
			got := told(t, m)
			if *update {
				a.Files[len(a.Files)-1].Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// told is what comes of m, one thing a line.
func told(t testing.TB, m memory) string {
	t.Helper()
	i, err := read(m, dir)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || e.Hint == "" {
			t.Fatalf("%v is no error with a hint", err)
		}
		return fmt.Sprintf("error: %v\nhint: %s\n", err, e.Hint)
	}
	whole(t, i)
	var b strings.Builder
	for _, s := range i.Settings {
		fmt.Fprintf(&b, "%s: %s\n", s.Key, s.Value)
		for _, why := range s.Why {
			fmt.Fprintf(&b, "  %s\n", why)
		}
	}
	for _, n := range i.Notes {
		fmt.Fprintf(&b, "note: %s\n", n.What)
		if n.Remedy != "" {
			fmt.Fprintf(&b, "  %s\n", n.Remedy)
		}
	}
	return b.String()
}

// whole checks that what was imported is a configuration, as it is said to be.
func whole(t testing.TB, i *Import) {
	t.Helper()
	file := i.File(time.Unix(0, 0))
	cfg, err := config.Parse("x.yaml", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	for _, s := range i.Settings {
		if got := config.Text(cfg, s.Key); got != s.Value {
			t.Errorf("%s is %s in the file, and was to be %s", s.Key, got, s.Value)
		}
		for _, why := range s.Why {
			fit(t, why)
		}
	}
	for _, n := range i.Notes {
		fit(t, n.What)
		fit(t, n.Remedy)
	}
	if cfg.SSH.PortSet || !cfg.Guard.Enforce || cfg.Exposure != config.ExposurePublic {
		t.Errorf("it says who reaches SSH, which fail2ban says nothing of:\n%s", file)
	}
}

func fit(t testing.TB, s string) {
	t.Helper()
	if printable.Text(s) != s {
		t.Errorf("%q is not fit for a terminal", s)
	}
}

// FuzzImport: whatever the files hold, there is a whole configuration or an error with its place.
func FuzzImport(f *testing.F) {
	a, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range a {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var texts [2]string
		for n, file := range a.Files[:min(2, len(a.Files)-1)] {
			texts[n] = string(file.Data)
		}
		f.Add(texts[0], texts[1])
	}
	f.Add("[sshd]\nenabled=1\nfilter=sshd[mode=%(known/mode)s]", "[INCLUDES]\nbefore = ../jail.local\n  x.conf\n x.local\nafter=x.conf")
	f.Add("[DEFAULT]\na=%(b)s%(b)s\nb=%(c)s%(c)s\nc=%(a)s\nignoreip = %(a)s ::1/0 1.2.3.4/255.255.0.0 \x1b[31m", "[sshd]\nmaxretry=999999999999\nbantime=-1e9y\nfindtime=((((1")
	f.Add("[sshd]\nenabled=yes\nbantime.increment=true\nbantime=1e300\nbantime.maxtime=0.001\nbackend=systemd\u2028x", "[sshd?a]\naction = a[b='c, d=\"e]\n  f[][g=h]\nport=0,1:3,x\n[x]\nenabled=on\nfilter=\x00")
	f.Fuzz(func(t *testing.T, local, more string) {
		i, err := read(based(map[string]string{"jail.local": local, "jail.d/x.conf": more}), dir)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.File == "" || e.Hint == "" {
				t.Fatalf("%v is no error with a place and a hint", err)
			}
			fit(t, err.Error())
			fit(t, e.Hint)
			return
		}
		whole(t, i)
	})
}

// TestBounds: neither sizes nor circles of files cost more than they may.
func TestBounds(t *testing.T) {
	doubling := "[DEFAULT]\na0 = xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
	for n := range 9 {
		doubling += fmt.Sprintf("a%d = %s\n", n+1, strings.Repeat(fmt.Sprintf("%%(a%d)s", n), 30))
	}
	everybody := map[string]string{}
	for n := range 60 {
		text := "[INCLUDES]\nafter ="
		for other := range 60 {
			text += fmt.Sprintf(" ../inc/%d\n ", other)
		}
		everybody[fmt.Sprintf("inc/%d", n)] = text
	}
	everybody["jail.local"] = "[INCLUDES]\nbefore = inc/0\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		err   string // "": it is taken
	}{
		{"a large file", map[string]string{"jail.local": strings.Repeat("# x\n", maxFile/4+1)}, "/etc/fail2ban/jail.local: it has more than 1 MiB"},
		{"much in all", map[string]string{"jail.d/1.conf": strings.Repeat("\n", maxFile), "jail.d/2.conf": strings.Repeat("\n", maxFile), "jail.d/3.conf": strings.Repeat("\n", maxFile), "jail.d/4.conf": strings.Repeat("\n", maxFile), "jail.d/5.conf": strings.Repeat("\n", maxFile), "jail.d/6.conf": strings.Repeat("\n", maxFile), "jail.d/7.conf": strings.Repeat("\n", maxFile), "jail.d/8.conf": strings.Repeat("\n", maxFile)}, "more than 8 MiB"},
		{"a value that doubles", map[string]string{"jail.local": doubling + "[sshd]\nmaxretry = %(a9)s\n"}, "/etc/fail2ban/jail.local:13: maxretry of [sshd]: it becomes longer than 65536 bytes"},
		{"a value of nothing that doubles", map[string]string{"jail.local": strings.ReplaceAll(doubling, "x", "") + "[sshd]\nmaxretry = %(a9)s\n"}, "it names more than 10000 others"},
		{"a value that names itself", map[string]string{"jail.local": "[DEFAULT]\nbantime = %(bantime)s\n"}, "/etc/fail2ban/jail.local:2: bantime of [sshd]: it names itself"},
		{"files that include each other", map[string]string{"jail.local": "[INCLUDES]\nbefore = a.conf\n", "a.conf": "[INCLUDES]\nafter = jail.local\n[sshd]\nmaxretry = 7\n"}, ""},
		{"a file that includes itself", map[string]string{"jail.local": "[INCLUDES]\nbefore = jail.local\n"}, ""},
		{"all include all", everybody, "are included"},
		{"many lines of one option", map[string]string{"jail.local": "[sshd]\naction = x\n" + strings.Repeat(" \n", 200_000)}, ""},
		{"many brackets", map[string]string{"jail.local": "[sshd]\nbantime = " + strings.Repeat("(", 60_000)}, "is no time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := read(based(tt.files), dir)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}

// TestMachine: what is no file on the disk stands in nobody's way.
func TestMachine(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"jail.d", "jail.d/folder.conf"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put("jail.conf", base)
	put("jail.d/latin.conf", "[sshd]\nmaxretry = 9 # gr\xf6\xdfer\n")
	put("jail.d/.hidden.conf", "not a configuration")
	put("jail.d/z.conf", "[sshd]\nenabled = yes\n")
	for link, to := range map[string]string{"jail.local": "jail.local", "jail.d/a.conf": "../nowhere", "jail.d/b.local": "/dev/zero"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	i, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	for _, n := range i.Notes {
		notes = append(notes, strings.ReplaceAll(n.What, root, "."))
	}
	want := []string{
		"./jail.d/folder.conf is not read: it is no ordinary file",
		"./jail.d/latin.conf is not read, by fail2ban neither: it is not in UTF-8",
		"./jail.d/b.local is not read: it is no ordinary file",
	}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{root + "/jail.conf", root + "/jail.d/z.conf"}, i.Files); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := Read(root + "/nowhere"); err == nil || !strings.Contains(err.Error(), "there is no jail.conf") {
		t.Errorf("of no folder: %v", err)
	}
}
