package fail2ban

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// theirs is what fail2ban's own reader makes of a folder (testdata/read.py).
type theirs struct {
	Error  string
	Broken []string
	Jails  map[string]reading
}

// reading is what a jail of sshd's says.
type reading struct {
	Backend    string
	MaxRetry   *int
	FindTime   *float64
	BanTime    *float64
	MaxTime    *float64
	Increment  bool
	IgnoreSelf *bool
	IgnoreIP   []string
	LogPath    string
	Filter     string
	Mode       string
	Actions    [][2]any // name, parameters
}

// fail2banReader runs fail2ban's own reader.
type fail2banReader struct {
	w   *os.File
	out *bufio.Scanner
}

func startFail2ban(t *testing.T) *fail2banReader {
	const python = "/usr/bin/python3" // the system's, which has fail2ban's modules
	if err := exec.CommandContext(t.Context(), python, "-c", "import fail2ban.client.configurator").Run(); err != nil {
		t.Skip("LEFT OUT: fail2ban is not installed, to compare with")
	}
	if _, err := os.Stat(defaultDir + "/jail.conf"); err != nil {
		t.Skip("LEFT OUT: fail2ban's own configuration is not installed, to compare with")
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), python, "testdata/read.py") // it ends with its input
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() {
		w.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	return &fail2banReader{w: w, out: lines}
}

func (f *fail2banReader) read(t *testing.T, dir string) (res theirs) {
	t.Helper()
	if _, err := fmt.Fprintln(f.w, dir); err != nil {
		t.Fatal(err)
	}
	if !f.out.Scan() {
		t.Fatal("fail2ban's reader is gone: ", f.out.Err())
	}
	if err := json.Unmarshal(f.out.Bytes(), &res); err != nil {
		t.Fatal(err)
	}
	return res
}

// defaultDir is what the package of fail2ban has.
const defaultDir = "/etc/fail2ban"

// TestSame: what is read is what fail2ban reads, of what it ships and of any that is laid over it.
func TestSame(t *testing.T) {
	f := startFail2ban(t)
	if their := f.read(t, defaultDir); their.Error != "" {
		t.Fatal(their.Error)
	}
	same(t, f, defaultDir)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	src := rand.New(rand.NewPCG(seed, 1))
	const rounds = 60
	taken := 0
	for n := range rounds {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(n))
		files := randomFiles(src)
		lay(t, dir, files)
		if same(t, f, dir) {
			taken++
		}
		if t.Failed() {
			for _, name := range slices.Sorted(maps.Keys(files)) {
				t.Logf("== %s\n%s", name, files[name])
			}
			t.FailNow()
		}
	}
	if taken < rounds/3 {
		t.Errorf("only %d of %d were configurations for fail2ban", taken, rounds)
	}
	t.Logf("%d of %d were configurations for fail2ban", taken, rounds)
}

// TestSameFiles: the same of testdata, over what fail2ban ships.
func TestSameFiles(t *testing.T) {
	f := startFail2ban(t)
	for _, text := range []string{
		"[sshd]\nenabled = true\nmaxretry = 3 ; no comment;here\nbantime = 1h\n  \n  30m\n# c\n  ; c\n\nfindtime: 5m\n",
		"[DEFAULT]\nmaxretry = 9\n[sshd]\nenabled : ON\nBanTime = %(findtime)s\nmaxretry = %(default/maxretry)s\nignoreip = a%%b\n",
		"[DEFAULT]\nenabled = true\n[INCLUDES]\nbefore = jail.conf\n",
		"[sshd]\nenabled = true\nmaxretry = %(known/maxretry)s\nport = %(nginx-http-auth/port)s\naction = %(action_mw)s\n",
		"[sshd]\nenabled = true\n\tmaxretry = 3\nmaxretry = 4\n",
		"  [sshd]\n  enabled = true\n    maxretry = 3\n",
		"[sshd] ; x\nenabled = true\n[a]b]\nenabled = 0\nfilter = %(__name__)s\n",
		"[sshd]\r\nenabled = true\r\nmaxretry = 8\rbantime = 9\r\n",
		"[sshd]\nenabled = true\nmode = aggressive\nfilter = sshd[mode=%(mode)s, publickey=any]\n",
		"[sshd?x]\nenabled = true\n",
		"[DEFAULT]\nmode = ddos\n[sshd]\nenabled = true\nmode = %(known/mode)s\n", // not the filter's
		"[sshd]\nenabled = true\nmaxretry = \n",
		"[sshd]\nenabled = true\nmaxretry = 5\nMAXRETRY = 6\n", // wrong
		"[sshd]\nenabled\n",                         // wrong
		"enabled = 1\n",                             // wrong
		"[sshd]\nenabled = true\nmaxretry = %(x\n",  // wrong
		"[sshd]\nenabled = true\nmaxretry = 50%\n",  // wrong
		"[sshd]\nenabled = true\nbackend = %(a)s\n", // wrong
	} {
		dir := t.TempDir()
		lay(t, dir, map[string]string{"jail.local": text})
		their := f.read(t, dir)
		_, err := Read(dir)
		if (their.Error != "") != (err != nil) && len(their.Broken) == 0 {
			t.Errorf("%q: fail2ban says %q, and here it is %v", text, their.Error, err)
		}
		same(t, f, dir)
	}
}

// lay makes a folder with what fail2ban ships, and files over it.
func lay(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir+"/jail.d", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"jail.conf", "fail2ban.conf", "filter.d", "action.d", "paths-common.conf", "paths-debian.conf", "paths-fedora.conf"} {
		if _, err := os.Stat(defaultDir + "/" + name); err != nil {
			continue
		}
		if err := os.Symlink(defaultDir+"/"+name, dir+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// same compares what is read of dir. ok is whether it is a configuration for fail2ban.
func same(t *testing.T, f *fail2banReader, dir string) (ok bool) {
	t.Helper()
	their := f.read(t, dir)
	if their.Error != "" {
		return false // what fail2ban refuses may be taken here, with a note
	}
	r := newReader(machine{}, dir)
	all, err := readJails(r)
	if err != nil {
		t.Errorf("fail2ban takes it: %v", err)
		return true
	}
	var got []string
	want := slices.Concat(slices.Sorted(maps.Keys(their.Jails)), their.Broken)
	for _, j := range all.all {
		if j.broken != nil {
			t.Errorf("fail2ban takes it: %v", j.broken)
		}
		if j.enabled {
			got = append(got, j.name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("enabled (-fail2ban +got):\n%s", diff)
	}
	for _, j := range all.all {
		want, ok := their.Jails[j.name]
		if _, sshd := j.filter.sshdMode(); !ok || !sshd {
			continue
		}
		if err := j.readFilter(r); err != nil {
			t.Fatal(err)
		}
		got := readingOf(t, j, want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("[%s] (-fail2ban +got):\n%s", j.name, diff)
		}
	}
	if i, err := Read(dir); err == nil {
		whole(t, i)
	}
	return true
}

// readingOf is what is read here. Of an action's parameters fail2ban has more: want's, where
// the jail gives none.
func readingOf(t *testing.T, j *jail, want reading) (res reading) {
	t.Helper()
	text := func(key string) (string, bool) {
		o, ok, err := j.get(key)
		if err != nil {
			t.Fatalf("fail2ban takes it: %v", err)
		}
		return o.text, ok
	}
	seconds := func(key string) *float64 {
		s, _, ok, err := j.seconds(key)
		if err != nil {
			t.Fatalf("fail2ban takes it: %v", err)
		}
		if !ok {
			return nil
		}
		s = math.Round(s*1e6) / 1e6
		return &s
	}
	res.Backend, _ = text("backend")
	res.FindTime, res.BanTime, res.MaxTime = seconds("findtime"), seconds("bantime"), seconds("bantime.maxtime")
	increment, _ := text("bantime.increment")
	res.Increment = isTrue(increment)
	if s, ok := text("ignoreself"); ok {
		yes := isTrue(s)
		res.IgnoreSelf = &yes
	}
	ignored, _ := text("ignoreip")
	if res.IgnoreIP = splitWords(ignored); res.IgnoreIP == nil {
		res.IgnoreIP = []string{}
	}
	res.LogPath, _ = text("logpath")
	res.Filter, res.Mode = j.filter.name, j.mode()
	if s, ok := text("maxretry"); ok {
		if n, err := strconv.Atoi(s); err == nil {
			res.MaxRetry = &n
		}
	}
	actions, _ := text("action")
	res.Actions = [][2]any{}
	for n, s := range splitCalls(actions) {
		c, err := parseCall(s)
		if err != nil {
			t.Fatal(err)
		}
		parameters := map[string]any{}
		if n < len(want.Actions) {
			maps.Copy(parameters, want.Actions[n][1].(map[string]any))
		}
		for key, value := range c.parameters {
			if key != "name" && key != "actname" {
				parameters[key] = value
			}
		}
		res.Actions = append(res.Actions, [2]any{c.name, parameters})
	}
	return res
}

// randomFiles lays files over what fail2ban ships.
func randomFiles(src *rand.Rand) map[string]string {
	pick := func(of ...string) string { return of[src.IntN(len(of))] }
	values := map[string]func() string{
		"enabled": func() string { return pick("true", "true", "yes", "1", "ON", "false", "no", "maybe", "") },
		"maxretry": func() string {
			return pick("3", "5", "10", "%(known/maxretry)s", "%(default/maxretry)s", "7 ; c", "2;c")
		},
		"findtime": func() string {
			return pick("10m", "1h", "1d 2h", "600", "1d12h", "2 weeks", "%(bantime)s", "1mo", "30*60")
		},
		"bantime": func() string {
			return pick("1h", "-1", "1y", "3600 # c", "1 hour + 10 min", "%(default/bantime)s", "1w-1d", "(1h+1m)*2")
		},
		"bantime.increment": func() string { return pick("true", "false", "on") },
		"bantime.maxtime":   func() string { return pick("5w", "1d", "86400") },
		"ignoreself":        func() string { return pick("true", "false") },
		"ignoreip": func() string {
			return pick("127.0.0.1/8 ::1", "127.0.0.1/8, 10.0.0.0/8", "203.0.113.7\n  # c\n  203.0.113.8\n\n  2001:db8::/32", "%(known/ignoreip)s 192.0.2.1", "office.example.com,10.0.0.1", "%%a")
		},
		"logpath": func() string {
			return pick("/var/log/auth.log", "%(sshd_log)s", "/var/log/a\n\t/var/log/b tail", "%(syslog_authpriv)s")
		},
		"backend": func() string {
			return pick("systemd", "auto", "polling", "%(sshd_backend)s", "%(default_backend)s", "pyinotify")
		},
		"mode": func() string { return pick("normal", "ddos", "extra", "aggressive", "%(known/mode)s") },
		"filter": func() string {
			return pick("sshd", "sshd[mode=ddos]", "sshd[mode=%(mode)s]", "%(__name__)s[mode=%(mode)s]", "sshd[mode=\"extra\", publickey=any]", "sshd[mode='aggressive'][publickey=invalid]")
		},
		"port": func() string {
			return pick("ssh", "ssh,2222", "22", "0:65535", "%(http/port)s", "%(nginx-http-auth/port)s")
		},
		"banaction": func() string {
			return pick("nftables", "iptables-allports", "%(banaction_allports)s", "nftables[type=allports]", "firewallcmd-ipset")
		},
		"destemail": func() string { return pick("root", "ops@example.com", "a@example.com b@example.com") },
		"mta":       func() string { return pick("sendmail", "mail") },
		"action": func() string {
			return pick("%(action_)s", "%(action_mw)s", "%(action_mwl)s", "%(action_)s\n  dummy", "iptables[type=oneport, port=ssh]\n\n  sendmail[name=x, dest=\"%(destemail)s\"]")
		},
	}
	keys := slices.Sorted(maps.Keys(values))
	section := func(name string) string {
		text := fmt.Sprintf("%s[%s]\n", pick("", "", "# c\n", "\n"), name)
		for _, n := range src.Perm(len(keys))[:src.IntN(6)] {
			key := keys[n]
			if key == "enabled" && name == "DEFAULT" { // all that is shipped would be on: hundreds of files each
				continue
			}
			value := strings.ReplaceAll(values[key](), "%(known/"+map[bool]string{true: key}[name == "DEFAULT"]+")s", "1")
			if src.IntN(8) == 0 {
				key = strings.ToUpper(key)
			}
			text += key + pick(" = ", "=", ": ", "  =   ") + value + pick("\n", "\n", "\n\n", "\n; c\n", "  \n")
		}
		return text
	}
	file := func() string {
		text := pick("", "# c\n\n")
		if src.IntN(5) == 0 {
			text += fmt.Sprintf("[INCLUDES]\n%s = %s\n", pick("before", "after"), pick("more.conf", "missing.conf", "jail.local", "more.conf\n  missing.conf", "../more.conf", "a.conf"))
		}
		for _, name := range []string{"DEFAULT", "sshd", "my-ssh", "nginx-http-auth"} {
			if src.IntN(3) > 0 && (name != "nginx-http-auth" || src.IntN(4) == 0) {
				s := section(name)
				if name == "my-ssh" && !strings.Contains(strings.ToLower(s), "filter") {
					s += "filter = sshd\n"
				}
				if name == "nginx-http-auth" {
					s = "[nginx-http-auth]\nbantime = 2h\n"
				}
				text += s
			}
		}
		return text
	}
	res := map[string]string{}
	for _, name := range []string{"jail.local", "jail.d/a.conf", "jail.d/a.local", "jail.d/z.conf", "jail.d/m.local", "more.conf", "more.local", "jail.d/.x.conf"} {
		if src.IntN(2) == 0 {
			res[name] = file()
		}
	}
	return res
}
