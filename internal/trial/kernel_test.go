package trial

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/firewall"
	"sekisho/internal/lab"
)

// The world of these tests: two sides, of which each rule set lets in one, somebody
// whom all of them let in, and somebody whom none does.
var (
	sides    = [2]client{{"198.51.100.1", "2001:db8:b::1"}, {"198.51.100.2", "2001:db8:b::2"}}
	always   = client{"198.51.100.3", "2001:db8:b::3"}
	never    = client{"203.0.113.9", "2001:db8:bad::9"}
	sshPort  = uint16(22)
	armedFor = 400 * time.Millisecond // whatever is asked for: the test has many rounds
)

// client is who connects, by IPv4 and by IPv6.
type client [2]string

func (c client) addrs() (addrs [2]netip.Addr) {
	for i, a := range c {
		addrs[i] = netip.MustParseAddr(a)
	}
	return addrs
}

// rulesFor let in one side.
func rulesFor(side int) firewall.Rules {
	r := firewall.Rules{Mode: firewall.ModeGuard, Ports: []uint16{sshPort}, Exposure: firewall.ExposureFixed}
	for _, c := range []client{sides[side], always} {
		for _, a := range c.addrs() {
			r.Admins = append(r.Admins, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(r.Admins, netip.Prefix.Compare)
	return r
}

// sideOf is whom rules let in.
func sideOf(r firewall.Rules) int {
	for side := range sides {
		if slices.Equal(rulesFor(side).Admins, r.Admins) {
			return side
		}
	}
	return -1
}

// network is a host with a listener where sshd's is, and a world around it.
type network struct {
	*lab.Network
	t testing.TB
}

func newNetwork(t testing.TB) *network {
	if os.Geteuid() != 0 {
		t.Skip("LEFT OUT: needs root, to make network namespaces")
	}
	n, err := lab.NewNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	var listener net.Listener
	if err := n.Host.Do(func() (err error) {
		listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf(":%d", sshPort))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() { // until the peer has had enough
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 1))
			})
		}
	})
	t.Cleanup(func() { listener.Close() })
	return &network{n, t}
}

func (n *network) kernel() *firewall.Kernel {
	n.t.Helper()
	k, err := firewall.NewKernel(firewall.Options{NetNS: n.Host.FD()})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { k.Close() })
	return k
}

// dial connects from an address; within is for it to succeed.
func (n *network) dial(from netip.Addr, within time.Duration) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	host := lab.Host4
	if from.Is6() {
		host = lab.Host6
	}
	conn, err := n.World.Dial(ctx, from, netip.AddrPortFrom(host, sshPort))
	if err == nil {
		err = conn.SetLinger(0) // no port is left waiting
	}
	return conn, err
}

// letsIn reports whether an address gets a connection.
func (n *network) letsIn(from netip.Addr, within time.Duration) bool {
	conn, err := n.dial(from, within)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// atOnce says why an address did not get a connection by its first SYN: one that was
// dropped is sent again after a second, however slow this machine is.
func (n *network) atOnce(from netip.Addr) error {
	conn, err := n.dial(from, aWhile)
	if err != nil {
		return fmt.Errorf("%v is not let in: %w", from, err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var info *unix.TCPInfo
	var failed error
	if err := raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	if info.Total_retrans > 0 {
		return fmt.Errorf("%v was let in by its SYN number %d only", from, info.Total_retrans+1)
	}
	return nil
}

const (
	aBlink = 40 * time.Millisecond // that an answer may take, where none is expected
	aWhile = 5 * time.Second       // where one is; a lost SYN is sent again after 1 s
)

// watch checks, until the test ends, that who is always let in always is, and that
// who never is never is.
func (n *network) watch() (probes *atomic.Int64) {
	ctx, cancel := context.WithCancel(context.Background())
	var watchers sync.WaitGroup
	probes = new(atomic.Int64)
	for i := range 2 {
		watchers.Go(func() {
			for ctx.Err() == nil {
				if err := n.atOnce(always.addrs()[i]); err != nil {
					n.t.Error(err)
				}
				probes.Add(1)
				pausing(ctx, 5*time.Millisecond) // others have work to do
			}
		})
		watchers.Go(func() {
			for ctx.Err() == nil {
				if from := never.addrs()[i]; n.letsIn(from, aBlink) {
					n.t.Errorf("%v is let in", from)
				}
				probes.Add(1)
			}
		})
	}
	n.t.Cleanup(func() { cancel(); watchers.Wait() })
	return probes
}

// only checks that of both sides this one is let in.
func (n *network) only(side int, why string) {
	n.t.Helper()
	for i := range 2 {
		if from := sides[side].addrs()[i]; !n.letsIn(from, aWhile) {
			n.t.Errorf("%s: %v is not let in", why, from)
		}
		if from := sides[1-side].addrs()[i]; n.letsIn(from, aBlink) {
			n.t.Errorf("%s: %v is let in", why, from)
		}
	}
}

// ended checks that a rule set that lets in side judges nothing after end.
func (n *network) ended(side int, end time.Time, why string) {
	n.t.Helper()
	<-time.After(time.Until(end) + 20*time.Millisecond) // jiffies
	for _, from := range sides[side].addrs() {
		if n.letsIn(from, aBlink) {
			n.t.Errorf("%s: %v is let in after the trial's time", why, from)
		}
	}
}

// TestKernelLogin is a trial as it is meant: a login from the world, through the
// rules on trial, confirms it, and then a command in such a session.
func TestKernelLogin(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	h := &host{t: t, dir: t.TempDir(), closed: make(map[netip.AddrPort]bool)}
	if err := (disk{dir: h.dir}).write(confirmedFile, Snapshot{Generation: 1, Rules: rulesFor(0)}); err != nil {
		t.Fatal(err)
	}
	k := n.kernel()
	h.start(k)
	n.only(0, "at first")
	n.watch()

	for round, from := range []netip.Addr{sides[1].addrs()[0], sides[0].addrs()[1]} { // IPv4, then IPv6
		side := 1 - round
		old, err := n.dial(sides[1-side].addrs()[round], aWhile)
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		armed := make(chan Event, 1)
		done := make(chan error, 1)
		var last Event
		go func() {
			done <- h.trials.Run(t.Context(), Request{Rules: rulesFor(side), Within: MinWithin, By: "a test"}, func(e Event) {
				if last = e; e.Stage == Armed {
					armed <- e
				}
			})
		}()
		<-armed
		peer := func(c *net.TCPConn) netip.AddrPort { return c.LocalAddr().(*net.TCPAddr).AddrPort() }
		// A session from before proves nothing, whatever the log says.
		h.trials.Login(t.Context(), "old", peer(old), time.Now())
		if err := h.trials.Confirm(t.Context(), peer(old), false, "a test"); err == nil {
			t.Error("it was confirmed by a session from before")
		}
		conn, err := n.dial(from, aWhile)
		if err != nil {
			t.Fatalf("through the rules on trial: %v", err)
		}
		defer conn.Close()
		want := fmt.Sprintf("from %s port %d", from, peer(conn).Port())
		if round == 0 {
			want = "the login of hanako " + want
			h.trials.Login(t.Context(), "hanako", peer(conn), time.Now())
		} else {
			want = "a test, in the session " + want
			if err := h.trials.Confirm(t.Context(), peer(conn), false, "a test"); err != nil {
				t.Error(err)
			}
		}
		if err := <-done; err != nil || last.Stage != Confirmed || last.By != want {
			t.Fatalf("%+v, error %v, want by %q", last, err, want)
		}
		n.only(side, "confirmed")
		if s, err := Load(h.dir); err != nil || s.Generation != last.Generation || sideOf(s.Rules) != side {
			t.Errorf("on the disk is %+v, %v", s, err)
		}
		if missing, err := k.Intact(t.Context()); err != nil || len(missing) > 0 {
			t.Errorf("not intact: %q, %v", missing, err)
		}
	}
}

// The child's orders, in its environment.
const (
	childDir    = "SEKISHO_TRIAL_TEST_DIR"    // its state directory; fd 3 is its network namespace
	childSide   = "SEKISHO_TRIAL_TEST_SIDE"   // whom its rules let in
	childEnding = "SEKISHO_TRIAL_TEST_ENDING" // what it does once they are armed
	childStep   = "SEKISHO_TRIAL_TEST_STEP"   // at which it kills itself; -1: none
)

func TestMain(m *testing.M) {
	if os.Getenv(childDir) != "" {
		if err := child(); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(childFull); dir != "" {
		if err := onFullDisk(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// suicide is a firewall of a process that is killed at one of its steps: really.
type suicide struct {
	firewall.Firewall
	mu       sync.Mutex
	n, until int
}

// step tells of a step before it is taken, so that the last one told is where we died.
func (s *suicide) step(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Println("step", name)
	if s.n == s.until {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	s.n++
	return nil
}

func (s *suicide) Stage(ctx context.Context, r firewall.Ruleset) error {
	_ = s.step("before Stage")
	err := s.Firewall.Stage(ctx, r)
	_ = s.step("after Stage")
	return err
}

func (s *suicide) Arm(ctx context.Context, _ time.Duration) error {
	_ = s.step("before Arm")
	fmt.Println("arming")
	err := s.Firewall.Arm(ctx, armedFor)
	fmt.Println("armed", time.Now().UnixNano())
	_ = s.step("after Arm")
	return err
}

func (s *suicide) Confirm(ctx context.Context) error {
	_ = s.step("before Confirm")
	fmt.Println("confirming")
	err := s.Firewall.Confirm(ctx)
	if err == nil {
		fmt.Println("confirmed")
	}
	_ = s.step("after Confirm")
	return err
}

func (s *suicide) Abort(ctx context.Context) error {
	_ = s.step("before Abort")
	err := s.Firewall.Abort(ctx)
	_ = s.step("after Abort")
	return err
}

// child is a daemon that makes one trial.
func child() error {
	ctx := context.Background()
	until, err1 := strconv.Atoi(os.Getenv(childStep))
	side, err2 := strconv.Atoi(os.Getenv(childSide))
	k, err3 := firewall.NewKernel(firewall.Options{NetNS: 3})
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	s := &suicide{Firewall: k, until: until}
	t := New(Options{Firewall: s, Dir: os.Getenv(childDir)})
	now, err := t.Recover(ctx)
	if err == nil {
		err = k.Ensure(ctx, stateOf(now))
	}
	if err != nil {
		return err
	}
	t.disk.before = s.step
	armed, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- t.Run(ctx, Request{Rules: rulesFor(side), Within: minute, By: "a child"}, func(e Event) {
			if e.Stage == Armed {
				close(armed)
			}
		})
	}()
	select {
	case <-armed:
	case err := <-done:
		return err
	}
	switch os.Getenv(childEnding) {
	case "confirm":
		err = t.Confirm(ctx, netip.AddrPort{}, true, "a child")
	case "revert":
		err = t.Revert(ctx, "a child")
	}
	if errors.Is(err, ErrNone) || errors.Is(err, ErrOver) {
		err = nil // the kernel was sooner
	}
	return errors.Join(err, <-done)
}

// told is what a child said before it ended.
type told struct {
	steps                         []string
	arming, confirming, confirmed bool
	end                           time.Time // of its trial, at the latest
}

// run runs a child until it ends, or has lived for life.
func (n *network) run(dir string, side int, ending string, step int, life time.Duration) told {
	n.t.Helper()
	fd, err := unix.FcntlInt(uintptr(n.Host.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	ns := os.NewFile(uintptr(fd), "a network namespace")
	defer ns.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childEnding+"="+ending, fmt.Sprintf("%s=%d", childSide, side), fmt.Sprintf("%s=%d", childStep, step))
	cmd.ExtraFiles = []*os.File{ns}
	cmd.Stderr = n.t.Output()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	if life > 0 {
		timer := time.AfterFunc(life, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	var said told
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch word, rest, _ := strings.Cut(lines.Text(), " "); word {
		case "step":
			said.steps = append(said.steps, rest)
		case "arming":
			said.arming = true
		case "armed":
			at, err := strconv.ParseInt(rest, 10, 64)
			if err != nil {
				n.t.Fatal(err)
			}
			said.end = time.Unix(0, at).Add(armedFor)
		case "confirming":
			said.confirming = true
		case "confirmed":
			said.confirmed = true
		default:
			n.t.Fatalf("the child: %s", lines.Text())
		}
	}
	err = cmd.Wait()
	died := time.Now()
	if said.arming && said.end.IsZero() {
		said.end = died.Add(armedFor)
	}
	killed := false
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status, ok := exit.Sys().(syscall.WaitStatus)
		killed = ok && status.Signal() == syscall.SIGKILL
	}
	if err != nil && !killed || err == nil && step >= 0 {
		n.t.Fatalf("the child ended with %v after %v", err, said.steps)
	}
	return said
}

// TestKillKernel kills a real process with a real trial at each of its steps, and
// many times at any time at all. The kernel ends the trial by itself, and the next
// process finds the rules before, or the new ones once the kernel was asked to
// confirm them.
func TestKillKernel(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	dir := t.TempDir()
	if err := (disk{dir: dir}).write(confirmedFile, Snapshot{Generation: 1, Rules: rulesFor(0)}); err != nil {
		t.Fatal(err)
	}
	recovered := func(why string) Snapshot {
		t.Helper()
		k, err := firewall.NewKernel(firewall.Options{NetNS: n.Host.FD()})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		s, err := New(Options{Firewall: k, Dir: dir}).Recover(t.Context())
		if err == nil {
			err = k.Ensure(t.Context(), stateOf(s))
		}
		if err != nil {
			t.Fatalf("%s: %v", why, err)
		}
		standing, err := k.Standing(t.Context())
		if want := (firewall.Standing{Table: true, Confirmed: s.Generation}); err != nil || standing != want {
			t.Errorf("%s: the kernel holds %+v (%v), want %+v", why, standing, err, want)
		}
		if missing, err := k.Intact(t.Context()); err != nil || len(missing) > 0 {
			t.Errorf("%s: not intact: %q, %v", why, missing, err)
		}
		n.only(sideOf(s.Rules), why)
		return s
	}
	now := recovered("at first")
	probes := n.watch()
	round := func(ending string, step int, life time.Duration) told {
		side := 1 - sideOf(now.Rules)
		said := n.run(dir, side, ending, step, life)
		why := fmt.Sprintf("%s, killed at %v", ending, said.steps[max(0, len(said.steps)-1):])
		if !said.confirming {
			n.ended(side, said.end, why)
			n.only(1-side, why) // also before anybody recovers
		}
		before := now
		now = recovered(why)
		is := now.Generation > before.Generation
		if is && !said.confirming || !is && said.confirmed || is != (sideOf(now.Rules) == side) {
			t.Errorf("%s: recovered is %+v, before it was %+v, and the child said %+v", why, now, before, said)
		}
		return said
	}
	steps := map[string][]string{}
	for _, ending := range []string{"confirm", "revert", "over"} {
		said := round(ending, -1, 0)
		for range 5 { // on a slow machine the kernel may be sooner
			if said.confirmed || ending != "confirm" {
				break
			}
			said = round(ending, -1, 0)
		}
		steps[ending] = said.steps
		if said.confirmed != (ending == "confirm") {
			t.Fatalf("%s: the child said %+v", ending, said)
		}
		after := slices.Index(steps[ending], "after Arm")
		for step := range steps[ending] {
			if ending == "confirm" || step > after { // until then they are the same
				round(ending, step, 0)
			}
		}
	}
	for i := range 6 {
		ending := []string{"confirm", "revert", "over"}[i%3]
		round(ending, -1, time.Duration(20+i*60)*time.Millisecond)
	}
	t.Logf("%d probes of those who are always, and never, let in; steps: %q", probes.Load(), steps)
}
