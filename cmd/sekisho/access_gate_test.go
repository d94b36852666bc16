package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/config"
	"sekisho/internal/gate/gatetest"
	"sekisho/internal/securitygroup/ec2test"
)

// serveGate is a gate of a process of its own, until that is ended.
func serveGate(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	cfg, err := config.Parse(path, text)
	if err != nil {
		return err
	}
	u, err := url.Parse(cfg.Gate.URL)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	return gatetest.Serve(ctx, gatetest.Options{Config: cfg, Dir: filepath.Dir(path)}, l)
}

// startGate starts a gate in the client's namespace, by a configuration with people and
// targets, and returns the one of those who ask it.
func (d *door) startGate(t testing.TB, text string) string {
	t.Helper()
	key := filepath.Join(d.home, "hanako")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	approver := filepath.Join(d.home, "ichiro")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", approver).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	last := d.host.AsSlice()
	where := fmt.Sprintf("127.0.0.1:%d", 20000+int(last[len(last)-1]))
	text = strings.Replace(text, "hanako: {groups: [ops]}", fmt.Sprintf("hanako: {groups: [ops], keys: ['%s']}", strings.TrimSpace(read(t, key+".pub"))), 1)
	text = strings.Replace(text, "ichiro: {groups: [ops]}", fmt.Sprintf("ichiro: {groups: [ops], keys: ['%s']}", strings.TrimSpace(read(t, approver+".pub"))), 1)
	text += fmt.Sprintf("gate:\n  url: http://%s\n  serve: {listen: ['%s'], admins: [ichiro]}\n", where, where)
	path := d.write(t, "gate.yaml", text)
	p := d.start(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, append(d.ec2.Environ(here), beGate+"="+path)...) }, d.self)
	eventually(t, "the gate listens", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("the gate has ended: %s", p.errors(t))
		default:
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
		defer cancel()
		conn, err := d.World.Dial(ctx, netip.Addr{}, netip.MustParseAddrPort(where))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	d.gate = p
	return fmt.Sprintf("version: 1\ngate: {url: 'http://%s', identity: %s}\n", where, key)
}

// TestAccessByGate has a real ssh go through doors that a gate opens, without credentials of
// AWS: that one is shut is proven by packets.
func TestAccessByGate(t *testing.T) {
	b := newBehind(t)
	tests := []struct {
		name string
		test func(*testing.T, *behind)
	}{
		{"connect is killed", testGateConnectKilled},
		{"two machines", testGateTwoMachines},
		{"somebody's yes", testGateApproval},
		{"at exit", testGateAtExit},
		{"the gate is started anew", testGateAnew},
		{"after connect", func(t *testing.T, b *behind) { afterConnect(t, b.door(t, doorOptions{gate: true})) }},
		{"IPv6", func(t *testing.T, b *behind) { afterConnect(t, b.door(t, doorOptions{gate: true, six: true})) }},
		{"two sessions", testGateTwoSessions},
		{"twenty at once", testGateTwenty},
		{"opened by hand", testGateByHand},
		{"handed over", testGateHandedOver},
		{"ssh is killed", testGateSSHKilled},
		{"sekisho ssh", testGateSekishoSSH},
		{"foreign rule", testGateForeign},
		{"the gate is down", testGateDown},
	}
	room := make(chan struct{}, 6)
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

// testGateAtExit: it is open for as long as the session, which is renewed, and no longer.
func testGateAtExit(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true, close: "at_exit", lease: 8 * time.Second})
	s := d.session(t, nil)
	first := d.leases(t)["hanako"]
	if left := time.Until(first); left > 9*time.Second {
		t.Fatalf("the lease ends in %s", left)
	}
	for range 2 {
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

// testGateConnectKilled: the gate ends the grant at its time.
func testGateConnectKilled(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true, close: "at_exit", lease: 4 * time.Second})
	s := d.session(t, nil)
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
	until := d.leases(t)["hanako"]
	d.shut(t)
	if now := time.Now(); now.Before(until) {
		t.Errorf("it is %s, and it was to be open until %s", now, until)
	}
	d.once(t)
}

func testGateSSHKilled(t *testing.T, b *behind) {
	for _, close := range []string{"after_connect", "at_exit"} {
		t.Run(close, func(t *testing.T) {
			d := b.door(t, doorOptions{gate: true, close: close})
			s := d.session(t, nil)
			s.signal(t, unix.SIGKILL)
			s.wait(t)
			begun := time.Now()
			d.shut(t)
			t.Logf("shut %s after", time.Since(begun))
			d.once(t)
		})
	}
}

// testGateTwoSessions: the last of them shuts the door that both go through.
func testGateTwoSessions(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true, close: "at_exit"})
	first, second := d.session(t, nil), d.session(t, nil)
	rule := d.one(t)
	first.exits(t)
	if got := d.one(t); got.ID != rule.ID || !d.answers(t) {
		t.Error("one has left, and the door of the other is shut")
	}
	second.lives(t)
	second.exits(t)
	d.shut(t)
	d.once(t)
}

func testGateTwenty(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true})
	var all sync.WaitGroup
	for i := range 20 {
		p := d.start(t, nil, "ssh", "-F", d.ssh, target, fmt.Sprint("echo ", i))
		all.Go(func() {
			<-p.ended
			if code, got := p.cmd.ProcessState.ExitCode(), p.output(t); code != 0 || got != fmt.Sprintln(i) {
				t.Errorf("ssh %d: exit %d, %q: %s", i, code, got, p.errors(t))
			}
		})
	}
	all.Wait()
	d.shut(t)
	if n := d.calls()[authorize]; n > 5 {
		t.Errorf("it was opened %d times", n)
	}
}

// testGateTwoMachines: a gate has one grant for both of somebody's machines behind an
// address. Neither ends what the other needs, and it ends by itself after both.
func testGateTwoMachines(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true, close: "at_exit", lease: 6 * time.Second})
	desktop := d.session(t, nil)
	through := fmt.Sprintf("ProxyCommand=%s --config %s --state-dir %s connect %%h %%p", d.self, filepath.Join(d.home, "sekisho.yaml"), filepath.Join(d.home, "laptop"))
	laptop := d.session(t, nil, "-o", through)
	desktop.exits(t)
	if len(d.rules(true)) != 1 || !d.answers(t) {
		t.Error("one has left, and the door of the other is shut")
	}
	laptop.lives(t)
	laptop.exits(t)
	d.shut(t)
	d.once(t)
}

// testGateByHand: what was opened by hand outlives the sessions that go through it.
func testGateByHand(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true})
	sekisho := func(args ...string) []string { return slices.Concat([]string{d.self}, d.flags(), args) }
	told(t, d.run(t, sekisho("open", target, "--for", "30m")...), "web-prod is open for 192.0.2.2 (by own interface) until ")
	rule, until := d.one(t), d.leases(t)["hanako"]
	s := d.session(t, nil)
	s.exits(t)
	if got := d.one(t); got.ID != rule.ID || d.leases(t)["hanako"] != until {
		t.Errorf("the rule is %+v, and was %+v", got, rule)
	}
	told(t, d.run(t, sekisho("close", target)...), "web-prod is shut for 192.0.2.2 (hanako)")
	d.shut(t)
	d.once(t)

	t.Run("meanwhile", func(t *testing.T) {
		d := b.door(t, doorOptions{gate: true, close: "at_exit"})
		s := d.session(t, nil)
		d.run(t, slices.Concat([]string{d.self}, d.flags(), []string{"open", target, "--for", "30m"})...)
		s.exits(t)
		d.rests(t)
		again := d.session(t, nil) // whose grant has the name that the first session gave it
		again.exits(t)
		d.rests(t)
		if !d.answers(t) || len(d.rules(true)) != 1 {
			t.Error("a session has ended what was opened by hand")
		}
	})
}

func testGateHandedOver(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true, pass: true})
	s := d.session(t, nil)
	if pids := s.proxies(t); len(pids) > 0 {
		t.Errorf("a ProxyCommand stays: %v", pids)
	}
	d.shut(t)
	s.lives(t)
	s.exits(t)
	d.once(t)
}

func testGateSekishoSSH(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true})
	base := d.write(t, "base_config", read(t, d.ssh)[strings.Index(read(t, d.ssh), "\nHost *\n"):])
	p := d.sekisho(t, "ssh", "--reason", "it's $HOME", target, "-F", base, "echo hi; exit 3")
	p.in.Close()
	if code := p.wait(t); code != 3 || p.output(t) != "hi\n" {
		t.Errorf("exit %d, %q", code, p.output(t))
	}
	d.shut(t)
}

func testGateForeign(t *testing.T, b *behind) {
	own := ec2test.Rule{Prefix: netip.PrefixFrom(client4, 32), From: 22, Description: "by hand"}
	d := b.door(t, doorOptions{gate: true, foreign: []ec2test.Rule{own}})
	s := d.session(t, nil)
	s.lives(t)
	s.exits(t)
	if rules := d.rules(true); len(rules) > 0 || d.calls()[revoke] > 0 {
		t.Errorf("rules %v, calls %v", rules, d.calls())
	}
}

// testGateAnew: a session outlives its gate, which ends what is left when it is back.
func testGateAnew(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true, close: "at_exit", lease: 8 * time.Second})
	s := d.session(t, nil)
	d.gate.signal(t, unix.SIGKILL)
	d.gate.wait(t)
	s.lives(t)
	p := d.start(t, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, append(d.ec2.Environ(here), beGate+"="+filepath.Join(d.home, "gate.yaml"))...)
	}, d.self)
	until := d.leases(t)["hanako"]
	eventually(t, "it is renewed at the new one", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("the gate has ended: %s", p.errors(t))
		default:
		}
		return d.leases(t)["hanako"].After(until)
	})
	s.lives(t)
	s.exits(t)
	d.shut(t)
	d.once(t)
}

func testGateDown(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true})
	d.gate.signal(t, unix.SIGTERM)
	d.gate.wait(t)
	p := d.sekisho(t, "connect", target, "22")
	if code := p.wait(t); code != 3 {
		t.Errorf("exit %d", code)
	}
	told(t, p.errors(t), "does not answer", "connection refused", "hint: see that gate.url is right")
	if n := d.calls()[authorize]; n > 0 {
		t.Errorf("it was opened %d times", n)
	}
}

// testGateApproval: ssh waits for somebody's yes, and what it got is shut behind it. Who hangs
// up takes back what was asked for.
func testGateApproval(t *testing.T, b *behind) {
	d := b.door(t, doorOptions{gate: true, more: "    approval: [ichiro]\n"})
	by := filepath.Join(d.home, "ichiro")
	waiting := func() string {
		var id string
		eventually(t, "it waits for a yes", func() bool {
			for line := range strings.Lines(d.run(t, slices.Concat([]string{d.self}, d.flags(), []string{"approvals", "--identity", by})...)) {
				if f := strings.Fields(line); len(f) > 2 && f[1] == "hanako" {
					id = f[0]
				}
			}
			return id != ""
		})
		return id
	}
	s := &session{process: d.start(t, nil, "ssh", "-F", d.ssh, target, "echo up; exec cat")}
	id := waiting()
	if d.answers(t) {
		t.Error("the host answers before anybody has said yes")
	}
	told(t, s.errors(t), "web-prod waits for a yes of ichiro: request "+id)
	told(t, d.run(t, slices.Concat([]string{d.self}, d.flags(), []string{"approve", id, "--identity", by})...), "web-prod is open for hanako, from 192.0.2.2, until ")
	s.says(t, "up\n")
	d.shut(t)
	s.lives(t)
	s.exits(t)
	d.once(t)

	p := d.start(t, nil, "ssh", "-F", d.ssh, target, "true")
	waiting()
	p.signal(t, unix.SIGTERM)
	p.wait(t)
	eventually(t, "it is withdrawn", func() bool {
		return d.run(t, slices.Concat([]string{d.self}, d.flags(), []string{"approvals", "--identity", by})...) == "nothing waits for your yes\n"
	})
}
