package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// crashRunsEnv is how many runs TestAccessCrash makes; make test-crash sets it.
const crashRunsEnv = "SEKISHO_TEST_CRASH_RUNS"

const (
	fewRuns  = 60 // where nobody says
	oneBatch = 60 // runs, and then everything is looked at and reaped
	atOnce   = 20
	sharers  = 4 // people, and addresses, that runs share

	briefLease = 4 * time.Second // of some, who renew theirs

	// replaced is how long a rule may be missing from under somebody: where who took it away
	// died before, and nothing says how far they had come, another takes its place.
	replaced = 2 * time.Second
)

// TestAccessCrash opens doors, goes through them and shuts them, while in each run one of its
// processes is killed at a random moment, or at a random call to EC2, before it took
// effect or after. No lease ends early, of the living or the dead; when all have ended, one
// reap leaves no rule of ours; and what is not ours is at no time another than it was.
//
// Three kinds of runs are mixed. Alone: a person and an address of its own, of which all is
// known that must be there. Shared: people and addresses that other runs have at the same time;
// whoever goes through a door must find it open until they leave. Wild: as shared, and
// people close each other's doors.
func TestAccessCrash(t *testing.T) {
	runs := fewRuns
	if s := os.Getenv(crashRunsEnv); s != "" {
		var err error
		if runs, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	c := newCrashes(t)
	begun := time.Now()
	for first := 0; first < runs; first += oneBatch {
		c.batch(t, first, min(runs, first+oneBatch))
		if t.Failed() {
			break
		}
	}
	t.Logf("%d runs in %s: %d processes, %d of them killed (%d at a call), %d calls to EC2, %d leases of the dead, %d rules reaped at their end",
		runs, time.Since(begun).Round(time.Second), c.processes.Load(), c.killed.Load(), c.killedAtCall.Load(), c.finished.Load(), c.left.Load(), c.reaped.Load())
	if c.killed.Load() < int64(runs)/4 || c.left.Load() == 0 {
		t.Errorf("too few were killed, or left something: it proves little")
	}
}

// crashes is the world that it happens in.
type crashes struct {
	self    string
	ec2     *ec2test.Server
	ahead   atomic.Int64 // AWS's clock, before ours
	groups  map[string]string
	port    int
	foreign []ec2test.Rule
	seed    uint64
	home    string // of a batch

	mu      sync.Mutex
	begun   map[string]int                       // calls of each access key
	history map[string]map[netip.Prefix][]string // of a batch: what rules of ours have said, by group

	processes, killed, killedAtCall, finished, left, reaped atomic.Int64
}

// The targets of the world, by how they are shut.
const (
	doorExit  = "exit"
	doorAfter = "after"
	doorWild  = "wild"
)

func newCrashes(t *testing.T) *crashes {
	t.Helper()
	c := &crashes{seed: uint64(time.Now().UnixNano()), groups: map[string]string{}, begun: map[string]int{}, history: map[string]map[netip.Prefix][]string{}}
	var err error
	if c.self, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d", c.seed)
	if c.ec2, err = ec2test.New(ec2test.Options{Now: c.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.ec2.Close() })
	c.ec2.SetLatency(6 * time.Millisecond)
	c.ec2.Inject(ec2test.Fault{Do: func(call ec2test.Call) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.begun[call.Key]++
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.port = int(l.Addr().(*net.TCPAddr).AddrPort().Port())
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn) // until the client has gone
			}()
		}
	}()
	for _, door := range []string{doorExit, doorAfter, doorWild} {
		c.groups[door] = c.ec2.AddGroup(here, ec2test.Group{Name: door})
		for _, r := range []ec2test.Rule{
			{Prefix: netip.MustParsePrefix("10.0.0.0/8"), From: 22, Description: "the VPN"},
			{Prefix: shared(0), From: 22, Description: "sekisho: open for nobody"},
			{Prefix: shared(1), From: c.port + 1, Tags: map[string]string{"sekisho:lease:hanako": "2020-01-01T00:00:00Z hanako"}},
			{Prefix: netip.MustParsePrefix("203.0.113.0/24"), From: 0, To: 65535, Tags: map[string]string{"Owner": "ops"}},
			{Prefix: shared(sharers), From: c.port, Description: "by hand"}, // whoever comes from there finds it open
		} {
			r.Group = c.groups[door]
			c.ec2.AddRule(here, r)
		}
	}
	c.foreign = c.rules(false)
	c.ec2.OnChange(c.keep)
	return c
}

// keep writes down what rules of ours say now.
func (c *crashes) keep(change ec2test.Change) {
	for _, group := range change.Groups {
		now := map[netip.Prefix]string{}
		for _, r := range c.ec2.Rules(here, group) {
			if r.Tags[securitygroup.TagManaged] != "" {
				now[r.Prefix] = fmt.Sprint(r.ID, " ", r.Tags)
			}
		}
		c.mu.Lock()
		was := c.history[group]
		if was == nil {
			was = map[netip.Prefix][]string{}
			c.history[group] = was
		}
		for p := range was {
			if _, there := now[p]; !there {
				now[p] = "no rule"
			}
		}
		for p, says := range now {
			if lines := was[p]; len(lines) == 0 || !strings.HasSuffix(lines[len(lines)-1], says) {
				was[p] = append(lines, c.now().Format("15:04:05.000 ")+change.Action+": "+says)
			}
		}
		c.mu.Unlock()
	}
}

// story is what happened to a door, for an address.
func (c *crashes) story(door string, p netip.Prefix) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("it is %s, by AWS's clock; the rule:\n%s", c.now().Format("15:04:05.000"), strings.Join(c.history[c.groups[door]][p], "\n"))
}

func (c *crashes) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// shared is an address that several runs have.
func shared(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + i)}), 32)
}

// rules are all that are ours, or that are not.
func (c *crashes) rules(ours bool) []ec2test.Rule {
	return slices.DeleteFunc(c.ec2.Rules(here), func(r ec2test.Rule) bool { return (r.Tags[securitygroup.TagManaged] != "") != ours })
}

// leaseOf is one lease, as it is on a rule.
type leaseOf struct {
	door   string
	prefix netip.Prefix
	id     string
}

func (l leaseOf) String() string { return l.id + " on " + l.door + " at " + l.prefix.String() }

// leases are all that are on rules of ours, and when they end.
func (c *crashes) leases() map[leaseOf]time.Time {
	all := map[leaseOf]time.Time{}
	for _, r := range c.rules(true) {
		for key, value := range r.Tags {
			id, is := strings.CutPrefix(key, securitygroup.Key(""))
			text, _, _ := strings.Cut(value, " ")
			until, err := time.Parse(time.RFC3339, text)
			if is && err == nil {
				for door, group := range c.groups {
					if group == r.Group {
						all[leaseOf{door, r.Prefix, id}] = until
					}
				}
			}
		}
	}
	return all
}

// batch makes some runs, side by side, and reaps beside them. Then it looks at what is left.
func (c *crashes) batch(t *testing.T, first, end int) {
	t.Helper()
	c.home = t.TempDir()
	// No clock is right. Where ours is behind by more than a lease lasts, the lease looks ended
	// from when its rule is made until EC2's answer has told the time: of those that open
	// makes, which last longer, that is kept away here. For a reaper that looks just then, and
	// dies when it has marked the rule, has who comes next put another in its place; and who
	// dies in that, between the two calls that it takes, takes the lease along.
	c.ahead.Store(int64(rand.New(rand.NewPCG(c.seed, uint64(end))).Int64N(int64(40*time.Minute)) - int64(20*time.Minute)))
	var config strings.Builder
	config.WriteString("version: 1\npeople:\n")
	for i := first; i < end; i++ {
		fmt.Fprintf(&config, "  alone%d: {groups: [ops]}\n", i)
	}
	for i := range sharers {
		fmt.Fprintf(&config, "  shared%d: {groups: [ops]}\n  wild%d: {groups: [ops]}\n", i, i)
	}
	config.WriteString("targets:\n")
	for door, group := range c.groups {
		close := "at_exit"
		if door == doorAfter {
			close = "after_connect"
		}
		fmt.Fprintf(&config, "  %s: {aws: {region: %s, group: %s}, host: %s.example.com, port: %d, allow: [ops], close: %s}\n", door, here.Region, group, door, c.port, close)
	}
	if err := os.WriteFile(filepath.Join(c.home, "sekisho.yaml"), []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	kept := make([]map[leaseOf]time.Time, end-first)
	over := make(chan struct{})
	var reaping, all sync.WaitGroup
	reaping.Go(func() {
		random := rand.New(rand.NewPCG(c.seed, uint64(first)<<32))
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
			}
			p := c.start(t, fmt.Sprintf("AKIDREAP%dN%d", first, i), "reaper", 0, "reap")
			if random.IntN(2) == 0 {
				c.kill(p, random)
			}
			c.end(t, p)
		}
	})
	room := make(chan struct{}, atOnce)
	for i := first; i < end; i++ {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			r := &crash{crashes: c, t: t, number: i, random: rand.New(rand.NewPCG(c.seed, uint64(i)))}
			kept[i-first] = r.run()
		})
	}
	all.Wait()
	close(over)
	reaping.Wait()
	c.settled(t, "")

	// The dead's leases are as they were, and stay until their end.
	there := c.leases()
	check := func(when string) {
		t.Helper()
		there := c.leases()
		for _, leases := range kept {
			for l, until := range leases {
				if c.now().Before(until) && there[l].Before(until) {
					t.Errorf("%s the lease %v, which ends at %s, is said to end at %s; %s", when, l, until, there[l], c.story(l.door, l.prefix))
				}
			}
		}
		if diff := cmp.Diff(c.foreign, c.rules(false), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s what is not ours is another than it was:\n%s", when, diff)
		}
	}
	check("before the reap")
	reap := func(name string) {
		t.Helper()
		p := c.start(t, fmt.Sprintf("AKIDLAST%d%s", first, name), "reaper", 0, "reap")
		<-p.ended
		if !p.cmd.ProcessState.Success() {
			t.Errorf("reap: %v: %s", p.cmd.ProcessState, p.errors(t))
		}
	}
	reap("A")
	check("after the reap")
	now := c.leases()
	for l, until := range there {
		if c.now().Before(until) && !now[l].Equal(until) {
			t.Errorf("the reap ended %v, which ends at %s; %s", l, until, c.story(l.door, l.prefix))
		}
	}
	c.left.Add(int64(len(now)))
	last := c.now()
	for _, until := range now {
		if until.After(last) {
			last = until
		}
		if until.After(c.now().Add(2 * time.Hour)) {
			t.Errorf("a lease ends at %s only; it is %s", until, c.now())
		}
	}
	c.ahead.Add(int64(last.Sub(c.now()) + time.Second))
	before := len(c.rules(true))
	reap("B")
	check("after all have ended")
	if rules := c.rules(true); len(rules) > 0 {
		t.Errorf("one reap after the end of all there are still %d rules of ours: %+v", len(rules), rules)
	}
	c.reaped.Add(int64(before))
	c.finished.Add(int64(len(c.ec2.Calls())))
	c.ec2.ForgetCalls()
	c.mu.Lock()
	clear(c.begun)
	clear(c.history)
	c.mu.Unlock()
}

// settled waits until EC2 has answered all calls of access keys that begin so: whoever made
// them may be dead, and what they sent last may be read a moment later.
func (c *crashes) settled(t *testing.T, prefix string) {
	t.Helper()
	quiet, last := 0, -1
	eventually(t, "EC2 has answered", func() bool {
		c.mu.Lock()
		begun := 0
		for key, n := range c.begun {
			if strings.HasPrefix(key, prefix) {
				begun += n
			}
		}
		c.mu.Unlock()
		done := 0
		for _, call := range c.ec2.Calls() {
			if strings.HasPrefix(call.Key, prefix) {
				done++
			}
		}
		if done != begun || done != last {
			quiet, last = 0, done
		}
		quiet++
		return done == begun && quiet > 30 // looks, 10 ms apart
	})
}

// victim is a process of ours, which may be killed.
type victim struct {
	*process
	key   string
	stdin io.WriteCloser
	read  *os.File // what it says
	alive func()   // removes what was to kill it
}

// start starts a command of ours, with an access key of its own.
func (c *crashes) start(t *testing.T, key, machine string, lease time.Duration, args ...string) *victim {
	t.Helper()
	base := filepath.Join(c.home, key)
	argv := slices.Concat([]string{"--config", filepath.Join(c.home, "sekisho.yaml"), "--state-dir", filepath.Join(c.home, machine)}, args)
	p := &process{cmd: exec.Command(c.self, argv...), out: base + ".out", err: base + ".err", ended: make(chan struct{})}
	r, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := os.Create(p.err)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = r, w, errs
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "SSH_") })
	env = append(env, beSekisho+"=1", "GORACE=atexit_sleep_ms=0", "HOME="+c.home)
	env = append(env, c.ec2.Environ(here)...)
	p.cmd.Env = append(env, "AWS_ACCESS_KEY_ID="+key)
	if lease > 0 {
		p.cmd.Env = append(p.cmd.Env, leaseTime+"="+lease.String())
	}
	err = p.cmd.Start()
	for _, f := range []*os.File{r, w, errs} {
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.processes.Add(1)
	go func() {
		_ = p.cmd.Wait() // its state says how
		close(p.ended)
	}()
	return &victim{process: p, key: key, stdin: stdin, read: read, alive: func() {}}
}

// kill has a process be killed: some time from now, or at a call to EC2.
func (c *crashes) kill(p *victim, random *rand.Rand) {
	if random.IntN(2) == 0 {
		timer := time.AfterFunc(time.Duration(random.IntN(400))*time.Millisecond, func() { _ = p.cmd.Process.Kill() })
		p.alive = func() { timer.Stop() }
		return
	}
	fault := ec2test.Fault{Key: p.key, Skip: random.IntN(7), Times: 1, Do: func(ec2test.Call) {
		if p.cmd.Process.Kill() == nil {
			c.killedAtCall.Add(1)
		}
		<-p.ended
	}}
	switch random.IntN(3) {
	case 0: // it never gets there
		fault.Cut = true
	case 1: // it gets there after the end of who made it
	case 2: // it has taken effect
		fault.After = true
	}
	p.alive = c.ec2.Inject(fault)
}

// end waits for a process, and reports whether it ended by itself: then it must have done well.
func (c *crashes) end(t *testing.T, p *victim) bool {
	t.Helper()
	p.stdin.Close()
	defer p.read.Close()
	defer func() { p.alive() }()
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		t.Errorf("%v does not end: %s", p.cmd.Args, p.errors(t))
		return false
	}
	if p.cmd.ProcessState.ExitCode() < 0 {
		c.killed.Add(1)
		return false
	}
	if !p.cmd.ProcessState.Success() {
		t.Errorf("%v: %v: %s", p.cmd.Args[5:], p.cmd.ProcessState, p.errors(t))
	}
	return true
}

// crash is one run.
type crash struct {
	*crashes
	t      *testing.T
	number int
	random *rand.Rand

	person, machine, door string
	prefix                netip.Prefix
	lease                 time.Duration
	strict                bool // nobody but this run has to do with the door of this person from there
	holds                 bool // nobody shuts it but who leaves
	steps                 int
}

// known is what is known of a lease. The zero value: it is not there.
type known int

const (
	absent known = iota
	present
	either
)

func (r *crash) run() map[leaseOf]time.Time {
	pick := func(n int) int { return r.random.IntN(n) }
	r.door = []string{doorExit, doorAfter}[pick(2)]
	r.strict, r.holds = true, true
	r.person = fmt.Sprint("alone", r.number)
	r.prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100 + byte(r.number>>8), byte(r.number)}), 32)
	if kind := pick(4); kind > 1 {
		r.strict = false
		r.person, r.prefix = fmt.Sprint("shared", pick(sharers)), shared(pick(sharers+1))
		if kind == 3 {
			r.holds, r.door, r.person = false, doorWild, fmt.Sprint("wild", pick(sharers))
		}
	}
	r.machine = r.person + "-" + strconv.Itoa(pick(2)) // of two that each person has
	if strings.HasSuffix(r.person, "1") || strings.HasSuffix(r.person, "3") {
		r.lease = briefLease
	}
	plans := [][]string{{"open", "connect", "close"}, {"connect"}, {"connect", "connect"}, {"open", "close"}, {"open", "connect"}, {"open"}, {"connect", "close"}}
	plan := plans[pick(len(plans))]
	if !r.strict && r.holds {
		plan = slices.DeleteFunc(slices.Clone(plan), func(s string) bool { return s == "close" })
	}
	dies := pick(len(plan))
	opened, connected := absent, absent
	did := make([]string, len(plan))
	for i, step := range plan {
		good := r.step(step, i == dies)
		did[i] = step
		if !good {
			did[i] += " (killed)"
		}
		switch {
		case step == "open" && good:
			opened = present
		case step == "open" && opened == absent:
			opened = either
		case step == "connect" && good:
			connected = absent
		case step == "connect":
			connected = either
		case step == "close" && good:
			opened, connected = absent, absent
		case step == "close":
			opened, connected = min(opened, 1)*either, min(connected, 1)*either
		}
	}
	if !r.strict {
		return nil
	}
	r.settled(r.t, r.key(""))
	mine := map[leaseOf]time.Time{}
	for l, until := range r.leases() {
		if l.door != r.door || l.prefix != r.prefix {
			continue
		}
		mine[l] = until
		if !r.now().Before(until) { // by the clock of somebody who died before hearing AWS's: close does not end it
			continue
		}
		is := connected
		if l.id == r.person {
			is = opened
		}
		if is == absent {
			r.t.Errorf("run %d, %v: the lease %v should have been ended, and is there until %s: %s", r.number, did, l, until, r.story(r.door, r.prefix))
		}
	}
	if _, there := mine[leaseOf{r.door, r.prefix, r.person}]; opened == present && !there {
		r.t.Errorf("run %d, %v: what was opened is shut: %s", r.number, did, r.story(r.door, r.prefix))
	}
	return mine
}

func (r *crash) key(step string) string { return fmt.Sprintf("AKIDRUN%dN%s", r.number, step) }

// step runs a command, and reports whether it ended by itself. One that dies is killed.
func (r *crash) step(command string, dies bool) bool {
	start := func(args ...string) *victim {
		r.steps++
		p := r.start(r.t, r.key(strconv.Itoa(r.steps)), r.machine, r.lease, args...)
		if dies {
			r.kill(p, r.random)
		}
		return p
	}
	switch command {
	case "open":
		return r.end(r.t, start("open", r.door, "--person", r.person, "--ip", r.prefix.Addr().String(), "--for", "30m"))
	case "close":
		return r.end(r.t, start("close", r.door, "--person", r.person))
	}
	p := start("connect", "--target", r.door, "--person", r.person, "--ip", r.prefix.Addr().String(), "127.0.0.1")
	r.through(p)
	return r.end(r.t, p)
}

// through goes through a door, and stays for a while.
func (r *crash) through(p *victim) {
	_, err := io.WriteString(p.stdin, "x")
	if err == nil {
		_, err = io.ReadFull(p.read, make([]byte, 1))
	}
	if err != nil { // it is dead, or end says why
		return
	}
	stay := time.Duration(r.random.IntN(300)) * time.Millisecond
	if r.lease == briefLease && r.random.IntN(4) == 0 {
		stay = briefLease + briefLease/4
	}
	if r.door != doorExit || !r.holds || r.prefix == shared(sharers) {
		select {
		case <-p.ended:
		case <-time.After(stay):
		}
		return
	}
	// The host answers before the door is open here: it may take a moment longer.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var since, shut time.Time
	for begun := time.Now(); since.IsZero() || time.Since(since) < stay || !shut.IsZero(); {
		select {
		case <-p.ended:
			return
		case <-tick.C:
		}
		open := false
		for l, until := range r.leases() {
			open = open || l.door == r.door && l.prefix == r.prefix && strings.HasPrefix(l.id, r.person+"-") && until.After(r.now())
		}
		switch {
		case open:
			shut = time.Time{}
			if since.IsZero() {
				since = time.Now()
			}
		case !since.IsZero() && shut.IsZero():
			shut = time.Now()
		case !since.IsZero() && time.Since(shut) > replaced && !p.dead():
			r.t.Errorf("run %d: %s at %s is shut for %s (%s), who is still there: %s", r.number, r.door, r.prefix, r.person, r.machine, r.story(r.door, r.prefix))
			return
		case since.IsZero() && time.Since(begun) > patience:
			r.t.Errorf("run %d: %s never opens for %s", r.number, r.door, r.prefix)
			return
		}
	}
}

// dead reports whether a process has ended, or is about to.
func (p *victim) dead() bool {
	state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(state), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}
