package cli

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sekisho/internal/config"
	"sekisho/internal/daemon"
)

var update = flag.Bool("update", false, "write what is generated anew: docs/commands.md, the goldens of top's screens")

// headOf is a program that runs another and ends it after so many lines, which it prints.
func headOf(lines string, argv []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	want := 0
	fmt.Sscan(lines, &want)
	for scan := bufio.NewScanner(out); want > 0 && scan.Scan(); want-- {
		fmt.Println(scan.Text())
	}
	cancel()
	_ = cmd.Wait()
	if want > 0 {
		return 1
	}
	return 0
}

// onTerminal is a program that runs another on a terminal alone.
func onTerminal(tty string, argv []string) int {
	f, err := os.OpenFile(tty, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	cmd := exec.CommandContext(context.Background(), argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, f
	if cmd.Run() != nil {
		return 1
	}
	return 0
}

// aHost is what a scripted daemon tells top.
const aHost = `> GET live 200
{"time":"2026-11-01T10:00:00Z","status":{"version":"1.2.3","pid":1,"mode":"aggressive","enforcing":true,"problems":[{"what":"no log is read: open /var/log/secure: permission denied","remedy":"mend log.source or log.files, then ` + "`sekisho reload`" + `","severity":"critical"}],"bans":340,"grants":1,"guard":{"sessions":1,"under_attack":["root","管理者"]},"dropped_packets":1234,"conntrack":{"in_use":true,"count":3000,"max":4000},"firewall":{"generation":7,"mode":"lockdown","exposure":"public","applied":true,"trial":TRIAL,"countries":{"allow":["JP"]},"counters":[{"chain":"ssh","rule":"not in JP","drops":true,"packets":15}]}},"attempts":[0,0,1,2,3,4,5,6,7,8,3,3,3,4,9,9],"sources":[{"prefix":"203.0.113.7/32","country":"CN","attempts":12,"last":"2026-11-01T09:59:58Z","names":["root","管理者","\u001b[2J\u001b]0;x\u0007","\u202eabc","z\u0301\u0301"],"names_count":9,"banned":true},{"prefix":"2001:db8:1:2::/64","attempts":3,"last":"2026-11-01T09:59:50Z","names":["admin"],"names_count":1}],"bans":[{"prefix":"203.0.113.7/32","from":"2025-11-01T09:59:59Z","until":"{{90m50s}}","attempts":5,"cause":"attempts","holder":"guard","count":1,"country":"CN"},{"prefix":"198.51.100.0/24","from":"2025-10-01T08:59:59Z","until":null,"attempts":0,"cause":"manual","holder":"root","count":3}],"grants":[{"prefix":"192.0.2.44/32","from":"2026-11-01T09:00:00Z","until":"{{3h50m}}","reason":"夜勤 night shift","holder":"hanako"}]}
> GET why 200
{"addr":"203.0.113.7","banned":true,"enforced":true,"bans":[{"prefix":"203.0.113.7/32","from":"2026-11-01T09:59:59Z","until":"{{70h}}","attempts":5,"cause":"attempts","reason":"5 attempts\u001b[2J","holder":"guard"}],"guard":{"addr":"203.0.113.7","source":"203.0.113.7/32","bar":5,"bar_cause":"max_retry"},"earlier":[],"max_retry":5,"find_time":"10m0s"}
> POST unban 200
{"lifted":[{"prefix":"203.0.113.7/32"}]}
> POST ban 409
{"error":"203.0.113.7 is never banned: within 203.0.113.0/24","hint":"take it out of admins first"}
> DELETE grants 200
{"revoked":[{"prefix":"192.0.2.44/32"}]}
`

// scripted answers as a file says.
func scripted(t *testing.T, socket, file string) (*control, *http.Server) {
	t.Helper()
	c, err := newControl(file)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket) //nolint:noctx // it is closed with the test
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: c, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return c, server
}

// tmux is a terminal as people have one, with a shell in it.
type tmux struct {
	t      *testing.T
	socket string
}

func newTmux(t *testing.T, width, height int, environ ...string) *tmux {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("LEFT OUT: needs tmux (package tmux)")
	}
	x := &tmux{t, filepath.Join(t.TempDir(), "tmux")}
	args := []string{"-u", "-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height)}
	for _, e := range append([]string{"TZ=UTC", "LC_ALL=C.UTF-8", "SSH_CONNECTION=", "NO_COLOR=1"}, environ...) {
		args = append(args, "-e", e)
	}
	x.do(append(args, "/bin/sh -i")...)
	t.Cleanup(func() {
		_ = exec.CommandContext(context.WithoutCancel(t.Context()), "tmux", "-S", x.socket, "kill-server").Run()
	})
	x.run("clear; PS1='shell''> '")
	x.await(`(?m)^shell>`)
	return x
}

func (x *tmux) do(args ...string) string {
	x.t.Helper()
	out, err := exec.CommandContext(x.t.Context(), "tmux", append([]string{"-S", x.socket}, args...)...).CombinedOutput()
	if err != nil {
		x.t.Fatalf("tmux %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// keys presses keys, by tmux's names for them.
func (x *tmux) keys(keys ...string) {
	x.t.Helper()
	x.do(append([]string{"send-keys"}, keys...)...)
}

// run types a command.
func (x *tmux) run(command string) {
	x.t.Helper()
	x.do("send-keys", "-l", command)
	x.keys("Enter")
}

func (x *tmux) screen() string { return x.do("capture-pane", "-p") }

// await waits until the screen shows what pattern describes.
func (x *tmux) await(pattern string) string {
	x.t.Helper()
	return x.awaitThat(pattern, regexp.MustCompile(pattern).MatchString)
}

func (x *tmux) awaitThat(what string, is func(string) bool) string {
	x.t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for tooLong := time.After(20 * time.Second); ; {
		screen := x.screen()
		if is(screen) {
			return screen
		}
		select {
		case <-again.C:
		case <-tooLong:
			x.t.Fatalf("%s is not shown, but:\n%s", what, screen)
		}
	}
}

var title = regexp.MustCompile(`^sekisho on \S+ +(.*?) +\d\d:\d\d:\d\d\n`)

// golden holds a screen to what it was, but for the host's name and the clock.
func golden(t *testing.T, name, screen string) {
	t.Helper()
	got := title.ReplaceAllString(screen, "sekisho on HOST $1 CLOCK\n")
	name = filepath.Join("testdata", "top", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// sekishoCommand is the command line of this program, for a shell.
func sekishoCommand(t *testing.T, dir string) string {
	t.Helper()
	path, err := exec.LookPath("sekisho")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s --socket %s/sock --state-dir %s/state --config %s/none", path, dir, dir, dir)
}

// TestTopScreens: the program on a real terminal, of two sizes: what it shows and
// what its keys do.
func TestTopScreens(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {120, 40}} {
		name := fmt.Sprintf("%dx%d", size[0], size[1])
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c, _ := scripted(t, filepath.Join(dir, "sock"), strings.Replace(aHost, "TRIAL", "null", 1))
			x := newTmux(t, size[0], size[1])
			x.run(sekishoCommand(t, dir) + " top")
			golden(t, name+"_attackers", x.await(`> 203\.0\.113\.7 `))
			x.keys("Tab")
			golden(t, name+"_bans", x.await(`\[2 Bans 340\](?s:.*)> 203`))
			x.keys("Down")
			x.await(`> 198\.51\.100\.0/24`)
			x.keys("Up", "u")
			x.await(`unban 203\.0\.113\.7\? y/N`)
			x.keys("n")
			x.await("nothing was done")
			if asked, ok := c.last("POST unban"); ok {
				t.Errorf("asked %s", asked)
			}
			x.keys("u", "y")
			x.await(`203\.0\.113\.7 is no longer banned`)
			if asked, _ := c.last("POST unban"); !strings.Contains(asked, `"prefix":"203.0.113.7/32"`) {
				t.Errorf("asked %s", asked)
			}
			x.keys("b")
			x.await(`ban whom: 203\.0\.113\.7`)
			x.keys("Enter", "y")
			x.await(`never banned: within 203\.0\.113\.0/24; take it out`)
			x.keys("w")
			golden(t, name+"_why", x.await(`let it in again with: sekisho unban`))
			x.keys("q", "3", "u", "y")
			x.await("1 grant ended")
			x.keys("4")
			x.await("not in JP")
			x.keys("/")
			x.do("send-keys", "-l", "夜勤")
			x.await("only what holds: 夜勤")
			x.keys("Enter")
			x.await(`only "夜勤"`)
			if err := c.await("GET live find=%E5%A4%9C%E5%8B%A4", nil); err != nil {
				t.Error(err)
			}
			x.keys("?")
			golden(t, name+"_help", x.await(`leave`))
			x.keys("x", "q")
			x.await(`(?m)^shell>`) // the screen before is back
		})
	}
}

// TestTopTrial: what is on trial stands first, large, with what to type.
func TestTopTrial(t *testing.T) {
	dir := t.TempDir()
	scripted(t, filepath.Join(dir, "sock"), strings.Replace(aHost, "TRIAL", `{"stage":"armed","generation":8,"until":"{{5m}}"}`, 1))
	x := newTmux(t, 80, 24)
	x.run(sekishoCommand(t, dir) + " top")
	screen := x.await(`\n.*ON TRIAL: rule set 8\n.*a new SSH login, or in one type: sekisho confirm\n.*sekisho revert`)
	if !strings.HasPrefix(strings.Split(screen, "\n")[1], " _ ") {
		t.Errorf("the countdown is not first:\n%s", screen)
	}
}

// TestTopTerminal: it follows the terminal's size, goes to the shell and comes back,
// waits for a daemon that has gone away, and draws without UTF-8.
func TestTopTerminal(t *testing.T) {
	dir := t.TempDir()
	socket, file := filepath.Join(dir, "sock"), strings.Replace(aHost, "TRIAL", "null", 1)
	_, server := scripted(t, socket, file)
	x := newTmux(t, 80, 24)
	x.run(sekishoCommand(t, dir) + " top")
	x.await(`> 203\.0\.113\.7 `)
	x.do("resize-window", "-x", "30", "-y", "8")
	x.await(`^too small: 30x8`)
	x.do("resize-window", "-x", "120", "-y", "40")
	x.awaitThat("the wide screen", func(s string) bool {
		return strings.HasPrefix(s, "sekisho on") && len(strings.SplitN(s, "\n", 2)[0]) == 119 && strings.Contains(s, "> 203.0.113.7")
	})
	x.keys("C-z")
	x.await(`Stopped|Suspended`)
	x.run("echo $((40+2))")
	x.await("42")
	x.run("fg")
	x.await(`(?s)^sekisho on.*> 203\.0\.113\.7 `)

	server.Close()
	x.await(`no answer for \d+s: the daemon does not answer on`)
	x.await(`do: start it: systemctl start sekisho`)
	_ = os.Remove(socket)
	scripted(t, socket, file)
	x.awaitThat("the daemon's coming back", func(s string) bool { return !strings.Contains(s, "no answer") })
	x.keys("C-c")
	x.await(`(?m)^shell>`)

	x.run("LC_ALL=C " + sekishoCommand(t, dir) + " top")
	if screen := x.await(`root \\u7ba1\\u7406\\u8005`); strings.ContainsFunc(screen, func(r rune) bool { return r > '~' }) {
		t.Errorf("not ASCII:\n%s", screen)
	}
	x.keys("q")
	x.await(`(?m)^shell>`)

	// Whoever ends it finds the terminal as it was.
	x.run("clear; timeout --foreground 1 " + sekishoCommand(t, dir) + " top; stty -a")
	x.await(`> 203\.0\.113\.7 `)
	x.await(`(?s)[^-]icanon.*[^-]echo .*shell>`)
}

// TestTopDaemon: before a real daemon: an attack comes in, the ban is seen, and a key
// lifts it.
func TestTopDaemon(t *testing.T) {
	dir := t.TempDir()
	in, log := io.Pipe()
	d := daemon.New(daemon.Options{
		Load: func() (*config.Config, error) {
			return config.Parse("test", []byte("version: 1\nguard: {enforce: no, mode: normal}\nlog: {source: stdin}\n"))
		},
		StateDir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "sock"), Stdin: in,
	})
	ended := make(chan error, 1)
	go func() { ended <- d.Run(t.Context()) }()
	select {
	case <-d.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	attack := func(addr, user string, n int) {
		for i := range n {
			fmt.Fprintf(log, "%s host sshd[%d]: Failed password for %s from %s port %d ssh2\n", time.Now().Format(time.RFC3339Nano), 100+i, user, addr, 2000+i)
		}
	}
	x := newTmux(t, 100, 30)
	x.run(sekishoCommand(t, dir) + " top")
	x.await(`DRY RUN(?s:.*)nobody attacks`)
	attack("203.0.113.9", "root", 5)
	attack("2001:db8:7::1", "invalid user 管理者", 2)
	x.await(`> 203\.0\.113\.9 +5 +\S+ +banned +root`)
	x.await(`2001:db8:7::/64 +2 +\S+ +管理者`)
	x.keys("2", "w")
	x.await(`203\.0\.113\.9 would be banned, but this is a dry run`)
	x.keys("Escape")
	x.await(`\[2 Bans 1\]`)
	x.keys("u", "y")
	x.await(`203\.0\.113\.9 is no longer banned`)
	x.await(`nobody is banned`)
	x.keys("q")
	x.await(`(?m)^shell>`)
	log.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestTopSlowLine: one picture a second, of what has changed; a key is answered at once.
// (A line with wide characters is sent whole each time: terminals differ in their widths.)
func TestTopSlowLine(t *testing.T) {
	dir := t.TempDir()
	c, _ := scripted(t, filepath.Join(dir, "sock"), strings.Replace(aHost, "TRIAL", `{"stage":"armed","generation":8,"until":"{{5m}}"}`, 1))
	p, err := openPTY()
	if err != nil {
		t.Skipf("LEFT OUT: no pseudo-terminal to be had: %v", err)
	}
	defer p.close()
	if err := unix.IoctlSetWinsize(int(p.controller.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("sekisho")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "--socket", filepath.Join(dir, "sock"), "--state-dir", dir, "top")
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8", "SSH_CONNECTION=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.terminal, p.terminal, p.terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	looks := func(n int) {
		t.Helper()
		tooLong := time.After(30 * time.Second)
		for {
			c.mu.Lock()
			change, have := c.change, strings.Count(strings.Join(c.asked, "\n"), "GET live")
			c.mu.Unlock()
			if have >= n {
				return
			}
			select {
			case <-change:
			case <-tooLong:
				t.Fatalf("%d looks of %d; shown: %q", have, n, p.text())
			}
		}
	}
	if err := p.await(regexp.MustCompile(`203\.0\.113\.7`)); err != nil {
		t.Fatal(err)
	}
	looks(3)
	before := len(p.text())
	looks(8)
	took := len(p.text()) - before
	t.Logf("the first picture: some %d bytes; then %d bytes a second", before, took/5)
	if took/5 > 250 {
		t.Errorf("%d bytes a second; shown: %q", took/5, p.text()[before:])
	}
	began := time.Now()
	if _, err := p.controller.WriteString("?"); err != nil {
		t.Fatal(err)
	}
	if err := p.await(regexp.MustCompile(`Ctrl-Z`)); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(began); waited > 500*time.Millisecond {
		t.Errorf("a key was answered after %v", waited)
	}
	if _, err := p.controller.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := p.await(regexp.MustCompile(`\x1b\[\?1049l`)); err != nil { // the screen before
		t.Error(err)
	}
	if strings.Contains(p.text(), "\x1b]0;x") {
		t.Error("what an attacker wrote came through")
	}
}
