package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// TestAccess has a real ssh go through doors: that one is shut is proven by packets.
func TestAccess(t *testing.T) {
	b := newBehind(t)
	tests := []struct {
		name string
		test func(*testing.T, *behind)
	}{
		// The longest first.
		{"somebody else's address", testOthersAddress},
		{"nobody listens", testNobodyListens},
		{"EC2 is down", testEC2Down},
		{"connect is killed", testConnectKilled},
		{"at exit", testAtExit},
		{"twenty at once", testTwenty},
		{"after connect", testAfterConnect},
		{"IPv6", testIPv6},
		{"two people", testTwoPeople},
		{"two machines", testTwoMachines},
		{"closed by hand", testClosedByHand},
		{"copies", testCopies},
		{"git", testGit},
		{"ControlMaster", testControlMaster},
		{"handed over", testHandedOver},
		{"sekisho ssh", testSekishoSSH},
		{"ssh is killed", testSSHKilled(unix.SIGKILL)},
		{"ssh is ended", testSSHKilled(unix.SIGTERM)},
		{"terminal hangs up", testHangUp},
		{"Ctrl-C", testInterrupt},
		{"foreign rule", testForeign},
		{"slow EC2", testSlowEC2},
		{"mistakes", testMistakes},
	}
	// Most of them wait for most of the time; go test runs no more at once than there are processors.
	room := make(chan struct{}, 7)
	var all sync.WaitGroup
	for _, tt := range tests {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			t.Run(tt.name, func(t *testing.T) { tt.test(t, b) })
		})
	}
	all.Wait()
}

func testAfterConnect(t *testing.T, b *behind) {
	afterConnect(t, b.door(t, doorOptions{}))
}

func testIPv6(t *testing.T, b *behind) {
	afterConnect(t, b.door(t, doorOptions{six: true}))
}

// afterConnect is what it is all about.
func afterConnect(t *testing.T, d *door) {
	t.Helper()
	if d.answers(t) {
		t.Fatal("the host answers before the door is open")
	}
	s := d.session(t, nil)
	if len(d.rules(true)) > 0 { // else it is shut already, on a busy machine
		client := client4
		if d.host.Is6() {
			client = client6
		}
		if r := d.one(t); r.Prefix != netip.PrefixFrom(client, client.BitLen()) || r.From != 22 || r.To != 22 {
			t.Errorf("the rule is %+v", r)
		}
	}
	d.shut(t)
	s.lives(t)
	s.exits(t)
	d.once(t)
}

func testAtExit(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{close: "at_exit", lease: 8 * time.Second})
	s := d.session(t, nil)
	first := d.leases(t)["hanako"]
	if left := time.Until(first); left > 9*time.Second {
		t.Fatalf("the lease ends in %s", left)
	}
	for range 2 { // it is renewed, and renewed again
		eventually(t, "the end of the lease comes", func() bool { return time.Now().After(first.Add(time.Second)) })
		now := d.leases(t)["hanako"]
		if !now.After(time.Now()) {
			t.Fatalf("it is %s, and the lease was to end at %s and is at %s", time.Now(), first, now)
		}
		if !d.answers(t) {
			t.Error("a new connection is not answered while the session lives")
		}
		first = now
	}
	s.lives(t)
	s.exits(t)
	d.shut(t)
	d.once(t)
}

func testTwenty(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{})
	var all sync.WaitGroup
	processes := make([]*process, 20)
	begun := time.Now()
	for i := range processes {
		processes[i] = d.start(t, nil, "ssh", "-F", d.ssh, target, fmt.Sprint("echo ", i))
	}
	for i, p := range processes {
		all.Go(func() {
			<-p.ended
			if code, got := p.cmd.ProcessState.ExitCode(), p.output(t); code != 0 || got != fmt.Sprintln(i) {
				t.Errorf("ssh %d: exit %d, %q: %s", i, code, got, p.errors(t))
			}
		})
	}
	all.Wait()
	t.Logf("20 took %s", time.Since(begun))
	d.shut(t)
	if n := d.calls()[authorize]; n > 5 {
		t.Errorf("it was opened %d times", n)
	}
	t.Logf("calls: %v", d.calls())
}

func testTwoPeople(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{close: "at_exit"})
	hanako := d.session(t, nil)
	ichiro := d.session(t, as("ichiro"))
	eventually(t, "the rule is for both", func() bool { return len(d.leases(t)) == 2 })
	rule := d.one(t)
	told(t, rule.Description, "sekisho: open for hanako")
	hanako.exits(t)
	eventually(t, "the rule is for one", func() bool { return len(d.leases(t)) == 1 })
	if got := d.one(t); got.ID != rule.ID || d.leases(t)["ichiro"].IsZero() {
		t.Errorf("the rule is %+v", got)
	}
	if !d.answers(t) {
		t.Error("hanako has left, and ichiro's door is shut")
	}
	ichiro.lives(t)
	ichiro.exits(t)
	d.shut(t)
	d.once(t)
}

// testTwoMachines: what one of somebody's machines leaves, the other still needs.
func testTwoMachines(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{close: "at_exit"})
	desktop := d.session(t, nil)
	id := d.one(t).ID
	through := fmt.Sprintf("ProxyCommand=%s --config %s --state-dir %s connect %%h %%p", d.self, filepath.Join(d.home, "sekisho.yaml"), filepath.Join(d.home, "laptop"))
	laptop := d.session(t, nil, "-o", through)
	leases := func(n int) func() bool {
		return func() bool {
			n := n
			for key := range d.one(t).Tags {
				if strings.HasPrefix(key, securitygroup.Key("hanako-")) {
					n--
				}
			}
			return n == 0
		}
	}
	eventually(t, "both have a lease", leases(2))
	desktop.exits(t)
	eventually(t, "one has a lease", leases(1))
	if d.one(t).ID != id || !d.answers(t) {
		t.Error("one has left, and the door of the other is shut")
	}
	laptop.exits(t)
	d.shut(t)
	d.once(t)
}

// testClosedByHand: who relies on what others of theirs have opened finds it shut, and opens
// it anew. The session that is there goes on.
func testClosedByHand(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{close: "at_exit"})
	first := d.session(t, nil)
	told(t, d.run(t, slices.Concat([]string{d.self}, d.flags(), []string{"close", target})...), "web-prod is shut for 192.0.2.2")
	d.shut(t)
	first.lives(t)
	begun := time.Now()
	second := d.session(t, nil)
	t.Logf("it took %s", time.Since(begun))
	first.exits(t)
	second.lives(t)
	if !d.answers(t) {
		t.Error("the first has left, and the door of the second is shut")
	}
	second.exits(t)
	d.shut(t)
}

func testCopies(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{})
	content := make([]byte, 64<<10)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(content) // it never fails
	from := d.write(t, "from", string(content))
	there, back := filepath.Join(d.home, "there"), filepath.Join(d.home, "back")
	same := func(path string) {
		t.Helper()
		if got := read(t, path); got != string(content) {
			t.Errorf("%s has %d other bytes", path, len(got))
		}
	}
	d.run(t, "scp", "-F", d.ssh, from, target+":"+there)
	same(there)
	d.run(t, "scp", "-F", d.ssh, target+":"+there, back)
	same(back)
	d.shut(t)
	t.Run("rsync", func(t *testing.T) {
		if _, err := exec.LookPath("rsync"); err != nil {
			t.Skipf("LEFT OUT: %v", err)
		}
		d.run(t, "rsync", "-a", "-e", "ssh -F "+d.ssh, from, target+":"+there+".rsync")
		same(there + ".rsync")
		d.shut(t)
	})
}

func testGit(t *testing.T, b *behind) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	d := b.door(t, doorOptions{})
	repository, clone := filepath.Join(d.home, "repository"), filepath.Join(d.home, "clone")
	d.run(t, "git", "init", "-q", repository)
	if err := os.WriteFile(filepath.Join(repository, "file"), []byte("content\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.run(t, "git", "-C", repository, "add", "file")
	d.run(t, "git", "-C", repository, "-c", "user.name=hanako", "-c", "user.email=hanako@example.com", "commit", "-q", "-m", "a file")
	d.run(t, "git", "-c", "core.sshCommand=ssh -F "+d.ssh, "clone", "-q", "ssh://"+target+repository, clone)
	if got := read(t, filepath.Join(clone, "file")); got != "content\n" {
		t.Errorf("the clone has %q", got)
	}
	d.shut(t)
}

func testControlMaster(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{})
	shared := []string{"ssh", "-F", d.ssh, "-o", "ControlPath=" + filepath.Join(d.home, "c"), "-o", "ControlMaster=auto", "-o", "ControlPersist=yes"}
	defer func() { // whatever went wrong, it does not stay
		p := d.start(t, nil, append(shared, "-O", "exit", target)...)
		p.wait(t)
	}()
	for i := range 3 {
		if got := d.run(t, append(shared, target, fmt.Sprint("echo ", i))...); got != fmt.Sprintln(i) {
			t.Errorf("session %d: %q", i, got)
		}
	}
	d.shut(t)
	if got := d.run(t, append(shared, target, "echo 3")...); got != "3\n" {
		t.Errorf("a session that comes later: %q", got)
	}
	d.once(t)
}

func testHandedOver(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{pass: true})
	told(t, read(t, d.ssh), "ProxyUseFdpass yes")
	s := d.session(t, nil)
	if pids := s.proxies(t); len(pids) > 0 {
		t.Errorf("a ProxyCommand stays: %v", pids)
	}
	d.shut(t)
	s.lives(t)
	s.exits(t)
	d.once(t)
}

func testSekishoSSH(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{})
	base := d.write(t, "base_config", read(t, d.ssh)[strings.Index(read(t, d.ssh), "\nHost *\n"):])
	p := d.sekisho(t, "ssh", target, "-F", base, "echo hi; exit 3")
	p.in.Close()
	if code := p.wait(t); code != 3 || p.output(t) != "hi\n" {
		t.Errorf("exit %d, %q", code, p.output(t))
	}
	d.shut(t)
	p = d.sekisho(t, "ssh", "root@"+target, "-F", base, "echo hi")
	p.in.Close()
	if code := p.wait(t); code != 0 || p.output(t) != "hi\n" {
		t.Errorf("exit %d, %q", code, p.output(t))
	}
	d.shut(t)
}

func testSSHKilled(signal syscall.Signal) func(*testing.T, *behind) {
	return func(t *testing.T, b *behind) {
		for _, close := range []string{"after_connect", "at_exit"} {
			t.Run(close, func(t *testing.T) {
				d := b.door(t, doorOptions{close: close})
				s := d.session(t, nil)
				d.one(t)
				s.signal(t, signal)
				s.wait(t)
				begun := time.Now()
				d.shut(t)
				t.Logf("shut %s after", time.Since(begun))
				d.once(t)
			})
		}
	}
}

// terminal has a process be the first of a terminal's. Closing the other end hangs up.
func terminal(t *testing.T) (change func(*exec.Cmd), controller *os.File) {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(controller.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	end, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end.Close(); controller.Close() })
	return func(cmd *exec.Cmd) {
		cmd.Stdin = end
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	}, controller
}

func testHangUp(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{close: "at_exit"})
	change, controller := terminal(t)
	s := d.session(t, change)
	d.one(t)
	controller.Close()
	s.wait(t)
	d.shut(t)
	d.once(t)
}

func testInterrupt(t *testing.T, b *behind) {
	for _, through := range []string{"connect", "ssh"} {
		t.Run(through, func(t *testing.T) {
			d := b.door(t, doorOptions{deaf: true})
			change, controller := terminal(t)
			argv := []string{"ssh", "-F", d.ssh, target, "true"}
			if through == "connect" {
				argv = slices.Concat([]string{d.self}, d.flags(), []string{"connect", target, "22"})
			}
			p := d.start(t, change, argv...)
			eventually(t, "the door is open", func() bool { return len(d.rules(true)) == 1 })
			if _, err := controller.Write([]byte{3}); err != nil {
				t.Fatal(err)
			}
			code := p.wait(t)
			eventually(t, "the door shuts", func() bool { return len(d.rules(true)) == 0 })
			eventually(t, "it says so", func() bool { return strings.Contains(p.errors(t), "no answer") })
			why := "signal received after"
			if through == "ssh" && !strings.Contains(p.errors(t), why) { // ssh had gone before the signal came to us
				why = "whoever asked for the connection is gone after"
			}
			told(t, p.errors(t), fmt.Sprintf("%s:22 (", d.host), why)
			if code == 0 {
				t.Error("exit 0")
			}
			d.once(t)
		})
	}
}

func testConnectKilled(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{close: "at_exit"})
	s := d.session(t, nil)
	eventually(t, "the door is open for hanako", func() bool { return !d.leases(t)["hanako"].IsZero() })
	pids := s.proxies(t)
	if len(pids) != 1 {
		t.Fatalf("ProxyCommands: %v", pids)
	}
	if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(t); code == 0 {
		t.Error("ssh has not noticed")
	}
	reap := func(want string) {
		t.Helper()
		p := d.sekisho(t, "reap")
		if code := p.wait(t); code != 0 {
			t.Errorf("reap: exit %d", code)
		}
		told(t, p.output(t), want)
	}
	until := d.leases(t)["hanako"]
	reap("nothing has ended; 1 rule in use")
	d.ec2.SetClock(func() time.Time { return until.Add(-time.Second / 2) })
	reap("nothing has ended; 1 rule in use")
	if d.leases(t)["hanako"] != until {
		t.Errorf("the lease was to end at %s: %v", until, d.rules(true))
	}
	if !d.answers(t) {
		t.Error("the lease lasts, and a new connection is not answered")
	}
	d.ec2.SetClock(func() time.Time { return until })
	reap("its last lease has ended")
	d.shut(t)
}

// testOthersAddress: whose own address is another, nothing answers.
func testOthersAddress(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{})
	p := d.sekisho(t, "connect", "--ip", "203.0.113.9", target, "22")
	eventually(t, "the door is open", func() bool { return len(d.rules(true)) == 1 })
	if got := d.one(t).Prefix.String(); got != "203.0.113.9/32" {
		t.Errorf("it is open for %s", got)
	}
	if code := p.wait(t); code != 1 {
		t.Errorf("exit %d", code)
	}
	told(t, p.errors(t), "203.0.113.9 (by --ip)", fmt.Sprintf("%s:22 (", d.host), "no answer", "hint: see that the machine runs", d.group, "--ip ADDR")
	d.shut(t)
	d.once(t)
}

func testNobodyListens(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{port: 2222})
	begun := time.Now()
	p := d.sekisho(t, "connect", target)
	if code := p.wait(t); code != 1 {
		t.Errorf("exit %d", code)
	}
	t.Logf("it took %s", time.Since(begun))
	told(t, p.errors(t), fmt.Sprintf("%s:2222 (", d.host), "the host refuses", "nothing listens on the port", "hint: see that sshd runs there and listens on port 2222")
	d.shut(t)
	d.once(t)
}

func testForeign(t *testing.T, b *behind) {
	t.Run("the same", func(t *testing.T) {
		own := ec2test.Rule{Prefix: netip.PrefixFrom(client4, 32), From: 22, Description: "by hand", Tags: map[string]string{"Owner": "jiro"}}
		d := b.door(t, doorOptions{foreign: []ec2test.Rule{own}})
		if !d.answers(t) {
			t.Fatal("the filter does not follow the group")
		}
		s := d.session(t, nil)
		s.lives(t)
		s.exits(t)
		if rules := d.rules(true); len(rules) > 0 || d.calls()[revoke] > 0 {
			t.Errorf("rules %v, calls %v", rules, d.calls())
		}
	})
	t.Run("wider", func(t *testing.T) {
		wide := ec2test.Rule{Prefix: netip.MustParsePrefix("192.0.2.0/26"), From: 20, To: 30, Description: "the office"}
		d := b.door(t, doorOptions{foreign: []ec2test.Rule{wide}})
		s := d.session(t, nil)
		s.exits(t)
		eventually(t, "what is ours goes", func() bool { return len(d.rules(true)) == 0 })
		if !d.answers(t) {
			t.Error("the rule that is not ours lets nobody in any more")
		}
	})
}

func testSlowEC2(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{})
	d.ec2.SetLatency(time.Second)
	begun := time.Now()
	if got := d.run(t, "ssh", "-F", d.ssh, target, "echo hi"); got != "hi\n" {
		t.Errorf("got %q", got)
	}
	t.Logf("it took %s", time.Since(begun))
	d.shut(t)
	d.once(t)
}

func testEC2Down(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{})
	tests := []struct {
		name  string
		fault ec2test.Fault
		env   []string
		wants []string
		most  time.Duration
	}{
		{"refused", ec2test.Fault{}, []string{"AWS_ENDPOINT_URL=http://127.0.0.1:9"}, []string{"AuthorizeSecurityGroupIngress", "connection refused", "hint: "}, 15 * time.Second},
		{"cut", ec2test.Outage(here.Region), nil, []string{"AuthorizeSecurityGroupIngress", "hint: "}, 15 * time.Second},
		{"denied", ec2test.Denied(authorize), nil, []string{"UnauthorizedOperation", "MakeOurRules"}, 5 * time.Second},
		{"no credentials", ec2test.Fault{}, []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}, []string{"credentials", "hint: "}, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.fault.Cut || tt.fault.Code != "" {
				defer d.ec2.Inject(tt.fault)()
			}
			begun := time.Now()
			p := d.start(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, tt.env...) }, "ssh", "-F", d.ssh, target, "true")
			if code := p.wait(t); code != 255 {
				t.Errorf("exit %d", code)
			}
			took := time.Since(begun)
			t.Logf("it took %s", took)
			if took > tt.most {
				t.Errorf("it took %s", took)
			}
			told(t, p.errors(t), tt.wants...)
			if rules := d.rules(true); len(rules) > 0 {
				t.Errorf("there is %v", rules)
			}
		})
	}
}

// testMistakes: what is wrong is told before anything is asked for.
func testMistakes(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{close: "at_exit"})
	tests := []struct {
		name   string
		args   []string
		person string
		wants  []string
	}{
		{"wrong port", []string{"connect", target, "2222"}, "hanako", []string{"web-prod opens port 22, and ssh asks for port 2222", "hint: write `Port 22`"}},
		{"no port", []string{"connect", target, "ssh"}, "hanako", []string{`"ssh" is no port`}},
		{"unknown host", []string{"connect", "web-prd", "22"}, "hanako", []string{`there is no target "web-prd"`, "hint: did you mean web-prod?"}},
		{"unknown person", []string{"connect", target, "22"}, "hanakko", []string{`nobody is called "hanakko"`, "hint: did you mean hanako?"}},
		{"a network", []string{"connect", "--ip", "192.0.2.0/24", target, "22"}, "hanako", []string{`"192.0.2.0/24" is not one address`}},
		{"the other family", []string{"connect", "--ip", "2001:db8::1", target, "22"}, "hanako", []string{"has no IPv6 address"}},
		{"handed over, and kept open", []string{"connect", "--fdpass", target, "22"}, "hanako", []string{"set `close: after_connect`"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := d.start(t, as(tt.person), slices.Concat([]string{d.self}, d.flags(), tt.args)...)
			if code := p.wait(t); code != 2 && code != 1 {
				t.Errorf("exit %d", code)
			}
			told(t, p.errors(t), tt.wants...)
		})
	}
	if calls := d.ec2.Calls(); len(calls) > 0 {
		t.Errorf("EC2 was asked: %v", d.calls())
	}
	p := d.start(t, nil, "ssh", "-F", d.ssh, "-p", "2222", target, "true")
	if code := p.wait(t); code != 255 {
		t.Errorf("exit %d", code)
	}
	told(t, p.errors(t), "opens port 22")
	if bytes.Contains([]byte(p.errors(t)), []byte("panic")) {
		t.Error("it panics")
	}
}
