package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"sekisho/internal/lab"
	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// The stage of access on request: a host with a real sshd, whose packet filter does what
// EC2 does with security groups, and a client in another namespace, from where EC2's endpoint
// is reached, too.

// behind4 and behind6 are the addresses of the host that are behind doors, and client4 and
// client6 those that the client has toward them.
var (
	behind4 = netip.MustParsePrefix("192.0.2.128/25")
	behind6 = netip.MustParsePrefix("2001:db8:a:0:1::/80")
	client4 = lab.Gateway4
	client6 = lab.Admin6
)

// here is where the groups are.
var here = ec2test.Place{Region: "eu-central-1"}

// unanswered is how long a connection is waited for that is not to be: its first packet is
// sent twice.
const unanswered = 1200 * time.Millisecond

// behind is the host behind doors.
type behind struct {
	*lab.Lab
	dir  string
	self string

	mu     sync.Mutex
	filter *nftables.Conn
	table  *nftables.Table
	chain  *nftables.Chain
	lets   map[netip.Addr][]ec2test.Rule // by the host's address, what its group lets in
	last   byte
}

func newBehind(t testing.TB) *behind {
	t.Helper()
	if err := lab.Available(""); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	for _, program := range []string{"ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("LEFT OUT: %v", err)
		}
	}
	b := &behind{dir: t.TempDir(), lets: map[netip.Addr][]ec2test.Rule{}, last: 128}
	var err error
	if b.self, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(b.dir, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.Lab, err = lab.New(t.Context(), lab.Options{SSHDOptions: []string{"AuthorizedKeysFile=" + key + ".pub", "StrictModes=no", "Subsystem=sftp internal-sftp"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(b.LogPath)
			t.Logf("sshd said:\n%s", log)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	served := []netip.Prefix{behind4}
	if b.IPv6 {
		served = append(served, behind6)
	}
	if err := b.Serve(served...); err != nil {
		t.Fatal(err)
	}
	if b.filter, err = nftables.New(nftables.WithNetNSFd(b.Host.FD())); err != nil {
		t.Fatal(err)
	}
	b.table = b.filter.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "groups"})
	b.chain = b.filter.AddChain(&nftables.Chain{Name: "in", Table: b.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	if err := b.follow(netip.Addr{}, nil); err != nil {
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EOPNOTSUPP) {
			t.Skipf("LEFT OUT: this kernel has no nftables: %v", err)
		}
		t.Fatal(err)
	}
	return b
}

// follow has the filter let in, to an address of the host, by rules. All is written anew,
// in one transaction.
func (b *behind) follow(host netip.Addr, rules []ec2test.Rule) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if host.IsValid() {
		b.lets[host] = slices.DeleteFunc(rules, func(r ec2test.Rule) bool { return r.Egress })
	}
	b.filter.FlushChain(b.chain)
	add := func(verdict expr.VerdictKind, exprs ...[]expr.Any) {
		all := append(slices.Concat(exprs...), &expr.Verdict{Kind: verdict})
		b.filter.AddRule(&nftables.Rule{Table: b.table, Chain: b.chain, Exprs: all})
	}
	// As a group's: what was let in once lives on.
	tracked := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	add(expr.VerdictAccept, []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: tracked, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	})
	for host, rules := range b.lets {
		for _, r := range rules {
			if !r.Prefix.IsValid() || r.Prefix.Addr().Is4() != host.Is4() {
				continue
			}
			add(expr.VerdictAccept, within(netip.PrefixFrom(host, host.BitLen()), true), within(r.Prefix, false), ports(r.From, r.To))
		}
	}
	for _, p := range []netip.Prefix{behind4, behind6} {
		add(expr.VerdictDrop, within(p, true), ports(0, 65535))
	}
	return b.filter.Flush()
}

// within matches packets to (or from) a prefix.
func within(p netip.Prefix, to bool) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if p.Addr().Is6() {
		family, offset, size = unix.NFPROTO_IPV6, 8, 16
	}
	if to {
		offset += size
	}
	mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// ports matches TCP to a range of them.
func ports(from, to int) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: binaryutil.BigEndian.PutUint16(uint16(from)), ToData: binaryutil.BigEndian.PutUint16(uint16(to))},
	}
}

// next is an address of the host that nobody has yet.
func (b *behind) next(six bool) netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	if six {
		a := behind6.Addr().As16()
		a[15] = b.last
		return netip.AddrFrom16(a)
	}
	a := behind4.Addr().As4()
	a[3] = b.last
	return netip.AddrFrom4(a)
}

// doorOptions say what is different about a door.
type doorOptions struct {
	close   string        // after_connect where it is empty
	port    int           // 22 where it is 0
	six     bool          // its host has an IPv6 address alone
	deaf    bool          // the filter does not follow the group
	lease   time.Duration // that passages' leases take; 0: as long as they do
	pass    bool          // ssh's configuration has connections handed over
	gate    bool          // a gate opens it
	more    string        // lines of the target
	foreign []ec2test.Rule
}

// door is one target, in an EC2 of its own, and what a user of it has at home.
type door struct {
	*behind
	ec2     *ec2test.Server
	options doorOptions
	group   string
	host    netip.Addr
	home    string
	ssh     string // a configuration file, with what ssh-config says
	foreign []ec2test.Rule
	gate    *process // where one opens it

	mu    sync.Mutex
	files int
}

const target = "web-prod"

func (b *behind) door(t testing.TB, o doorOptions) *door {
	t.Helper()
	if o.six && !b.IPv6 {
		t.Skip("LEFT OUT: this kernel has no IPv6")
	}
	if o.close == "" {
		o.close = "after_connect"
	}
	if o.port == 0 {
		o.port = lab.Port
	}
	d := &door{behind: b, options: o, host: b.next(o.six), home: t.TempDir()}
	err := b.World.Do(func() (err error) {
		d.ec2, err = ec2test.New(ec2test.Options{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.ec2.Close() })
	d.group = d.ec2.AddGroup(here, ec2test.Group{Name: "web"})
	for _, r := range o.foreign {
		r.Group = d.group
		d.ec2.AddRule(here, r)
	}
	d.foreign = d.rules(false)
	if !o.deaf {
		follow := func() {
			if err := b.follow(d.host, d.ec2.Rules(here, d.group)); err != nil {
				t.Errorf("the packet filter: %v", err)
			}
		}
		follow()
		d.ec2.OnChange(func(ec2test.Change) { follow() })
	}
	config := fmt.Sprintf("version: 1\npeople:\n  hanako: {groups: [ops]}\n  ichiro: {groups: [ops]}\ntargets:\n  %s:\n    aws: {region: %s, group: %s}\n    host: %q\n    port: %d\n    allow: [ops]\n    close: %s\n%s",
		target, here.Region, d.group, d.host, o.port, o.close, o.more)
	if o.gate {
		config = d.startGate(t, config)
	}
	d.write(t, "sekisho.yaml", config)
	args := []string{"ssh-config"}
	if o.pass {
		args = append(args, "--fdpass")
	}
	block := d.sekisho(t, args...)
	if code := block.wait(t); code != 0 {
		t.Fatalf("ssh-config: exit %d: %s", code, block.errors(t))
	}
	d.ssh = d.write(t, "ssh_config", block.output(t)+fmt.Sprintf(`
Host *
    User root
    IdentityFile %s
    IdentitiesOnly yes
    BatchMode yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    GlobalKnownHostsFile /dev/null
    LogLevel ERROR
`, filepath.Join(b.dir, "key")))
	t.Cleanup(func() {
		// Whoever is leaving still writes below d.home.
		every := time.NewTicker(10 * time.Millisecond)
		defer every.Stop()
		for late := time.Now().Add(5 * time.Second); d.used(t) && time.Now().Before(late); {
			<-every.C
		}
		if diff := slices.CompareFunc(d.foreign, d.rules(false), compareRules); diff != 0 {
			t.Errorf("the rules that are not ours were %v, and are %v", d.foreign, d.rules(false))
		}
	})
	return d
}

func compareRules(a, b ec2test.Rule) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }

func (d *door) write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(d.home, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rules are those of the group that are ours, or those that are not.
func (d *door) rules(ours bool) []ec2test.Rule {
	return slices.DeleteFunc(d.ec2.Rules(here, d.group), func(r ec2test.Rule) bool {
		return r.Egress || (r.Tags[securitygroup.TagManaged] != "") != ours
	})
}

// leases are those that rules of ours have, as they end by AWS's clock, by person.
func (d *door) leases(t testing.TB) map[string]time.Time {
	t.Helper()
	leases := map[string]time.Time{}
	for _, r := range d.rules(true) {
		for key, value := range r.Tags {
			if strings.HasPrefix(key, securitygroup.Key("")) {
				until, person, _ := strings.Cut(value, " ")
				at, err := time.Parse(time.RFC3339, until)
				if err != nil {
					t.Errorf("tag %s=%q", key, value)
				}
				if leases[person].Before(at) {
					leases[person] = at
				}
			}
		}
	}
	return leases
}

// calls are how often each action took effect at EC2.
func (d *door) calls() map[string]int {
	n := map[string]int{}
	for _, c := range d.ec2.Calls() {
		if c.Code == "" {
			n[c.Action]++
		}
	}
	return n
}

const (
	authorize = "AuthorizeSecurityGroupIngress"
	revoke    = "RevokeSecurityGroupIngress"
)

// answers reports whether the host answers a new connection from the client.
func (d *door) answers(t testing.TB) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), unanswered)
	defer cancel()
	conn, err := d.World.Dial(ctx, netip.Addr{}, netip.AddrPortFrom(d.host, uint16(d.options.port)))
	if err == nil {
		conn.Close()
		return true
	}
	if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
		t.Errorf("a new connection ends with %v: it is to get no answer at all", err)
	}
	return false
}

// shut waits until there is no rule of ours, and proves by packets that there is none.
func (d *door) shut(t testing.TB) {
	t.Helper()
	eventually(t, "the door shuts", func() bool {
		// The group is a moment ahead of the filter.
		d.behind.mu.Lock()
		defer d.behind.mu.Unlock()
		return len(d.rules(true)) == 0 && len(d.lets[d.host]) == len(d.foreign)
	})
	if d.answers(t) {
		t.Error("there is no rule, and a new connection is answered")
	}
}

// process is a program of the client's.
type process struct {
	cmd      *exec.Cmd
	in       *os.File // what it reads comes from here
	out, err string   // files
	ended    chan struct{}
}

// start starts a program in the client's namespace.
func (d *door) start(t testing.TB, change func(*exec.Cmd), argv ...string) *process {
	t.Helper()
	d.mu.Lock()
	d.files++
	base := filepath.Join(d.home, strconv.Itoa(d.files))
	d.mu.Unlock()
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), out: base + ".out", err: base + ".err", ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.cmd.Stdin = w, r
	out, outErr := os.Create(p.out)
	errs, errsErr := os.Create(p.err)
	if err := errors.Join(outErr, errsErr); err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = out, errs
	// What the test's own environment says of AWS is not to count.
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "SSH_") })
	p.cmd.Env = append(env, beSekisho+"=1", "GORACE=atexit_sleep_ms=0", "SEKISHO_PERSON=hanako", "HOME="+d.home, "GIT_CONFIG_NOSYSTEM=1")
	if !d.options.gate { // else the gate alone has credentials
		p.cmd.Env = append(p.cmd.Env, d.ec2.Environ(here)...)
	}
	if d.options.lease > 0 {
		p.cmd.Env = append(p.cmd.Env, leaseTime+"="+d.options.lease.String())
	}
	if change != nil {
		change(p.cmd)
	}
	err = d.World.Do(p.cmd.Start)
	r.Close()
	out.Close()
	errs.Close()
	if err != nil {
		w.Close()
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its state says how
		close(p.ended)
	}()
	t.Cleanup(func() {
		w.Close()
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			out, _ := os.ReadFile(p.out)
			errs, _ := os.ReadFile(p.err)
			t.Logf("%s: %v, and said:\n%.2000s%.4000s", filepath.Base(argv[0]), p.cmd.ProcessState, out, errs)
		}
	})
	return p
}

func (d *door) flags() []string {
	return []string{"--config", filepath.Join(d.home, "sekisho.yaml"), "--state-dir", filepath.Join(d.home, "state")}
}

// sekisho starts a command of ours.
func (d *door) sekisho(t testing.TB, args ...string) *process {
	t.Helper()
	return d.start(t, nil, slices.Concat([]string{d.self}, d.flags(), args)...)
}

// as has a program be somebody else's.
func as(person string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "SEKISHO_PERSON="+person) }
}

// run runs a program to its end, which is to be good, and returns what it said.
func (d *door) run(t testing.TB, argv ...string) string {
	t.Helper()
	p := d.start(t, nil, argv...)
	p.in.Close()
	if code := p.wait(t); code != 0 {
		t.Fatalf("%v: exit %d: %s", argv, code, p.errors(t))
	}
	return p.output(t)
}

func (p *process) output(t testing.TB) string { t.Helper(); return read(t, p.out) }
func (p *process) errors(t testing.TB) string { t.Helper(); return read(t, p.err) }

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// patience is how long a program may take to its end.
const patience = 60 * time.Second

// wait waits for the end, and returns the exit code; -1: a signal ended it.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%v does not end; it said %s", p.cmd.Args, p.errors(t))
		return 0
	}
}

func (p *process) signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// proxies are ssh's ProxyCommands: its children.
func (p *process) proxies(t testing.TB) []int {
	t.Helper()
	pid := p.cmd.Process.Pid
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for f := range strings.FieldsSeq(string(text)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, n)
	}
	return pids
}

// session is an ssh whose command says again what it is told.
type session struct {
	*process
	lines int
}

func (d *door) session(t testing.TB, change func(*exec.Cmd), args ...string) *session {
	t.Helper()
	s := &session{process: d.start(t, change, append([]string{"ssh", "-F", d.ssh}, append(args, target, "echo up; exec cat")...)...)}
	s.says(t, "up\n")
	return s
}

// says waits until a process has said all that it is to say.
func (p *process) says(t testing.TB, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("it says %q", want), func() bool {
		select {
		case <-p.ended:
			if got := p.output(t); got != want {
				t.Fatalf("it has ended (%v), and said %q: %s", p.cmd.ProcessState, got, p.errors(t))
			}
		default:
		}
		return p.output(t) == want
	})
}

// lives proves that what is typed still comes back.
func (s *session) lives(t testing.TB) {
	t.Helper()
	before := s.output(t)
	s.lines++
	line := fmt.Sprintf("line %d\n", s.lines)
	if _, err := io.WriteString(s.in, line); err != nil {
		t.Fatal(err)
	}
	s.says(t, before+line)
}

// exits ends a session as the user does.
func (s *session) exits(t testing.TB) {
	t.Helper()
	s.in.Close()
	if code := s.wait(t); code != 0 {
		t.Errorf("ssh: exit %d: %s", code, s.errors(t))
	}
}

// told fails the test where what a program said lacks something.
func told(t testing.TB, said string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	t.Logf("it says:\n%s", bytes.TrimSpace([]byte(said)))
}

// one is the only rule of ours.
func (d *door) one(t testing.TB) ec2test.Rule {
	t.Helper()
	rules := d.rules(true)
	if len(rules) != 1 {
		t.Fatalf("rules of ours: %v", rules)
	}
	return rules[0]
}

// once fails the test where one door was not opened and shut by one call each.
func (d *door) once(t testing.TB) {
	t.Helper()
	eventually(t, "EC2 has answered", func() bool { return d.calls()[revoke] > 0 })
	if calls := d.calls(); calls[authorize] != 1 || calls[revoke] != 1 {
		t.Errorf("calls: %v", calls)
	}
}

// rests waits until no process of ours has to do with the door: a connect whose ssh has ended
// still leaves it.
func (d *door) rests(t testing.TB) {
	t.Helper()
	eventually(t, "all who used the door have ended", func() bool { return !d.used(t) })
}

// used reports whether a process of ours goes through the door, or is leaving it.
func (d *door) used(t testing.TB) bool {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(all, func(name string) bool {
		args, err := os.ReadFile(name)
		uses := bytes.Contains(args, []byte("\x00connect\x00")) || bytes.Contains(args, []byte("\x00shut\x00"))
		return err == nil && uses && bytes.Contains(args, []byte(d.home))
	})
}
