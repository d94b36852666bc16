package gate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
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

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/ledger/postgrestest"
	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

const (
	partEnv      = "SEKISHO_GATE_TEST_PART"
	dsnEnv       = "SEKISHO_GATE_TEST_DSN"
	configEnv    = "SEKISHO_GATE_TEST_CONFIG"
	crashRunsEnv = "SEKISHO_TEST_CRASH_RUNS"
	fewRuns      = 20
)

// TestMain gives all tests credentials that ec2test takes, and runs this binary as a gate
// where a test asks for that.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": ec2test.KeyOf(ec2test.DefaultAccount), "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"} {
		_ = os.Setenv(name, value)
	}
	if os.Getenv(partEnv) == "gate" {
		if err := beGate(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// order is what a test asks of a gate's process, and what it answers.
type order struct {
	N       int
	Open    bool
	Person  string
	Addr    netip.Addr
	Seconds int64
	ID      string
	Grant   api.Grant
	Failed  string
	Look    bool // how many grants are neither open nor over
	Busy    int
}

// beGate is a gate that does what it is asked to, a line each.
func beGate(in io.Reader, out io.Writer) error {
	cfg, err := config.Parse("sekisho.yaml", []byte(os.Getenv(configEnv)))
	if err != nil {
		return err
	}
	dsn := os.Getenv(dsnEnv)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l, err := ledger.Open(ctx, dsn, ledger.Options{})
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("SEKISHO_GATE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	g := New(Options{Config: func() *config.Config { return cfg }, Ledger: l, Alone: !strings.HasPrefix(dsn, "postgres"), Settle: 20 * time.Millisecond, Logger: log})
	go func() { _ = g.Run(ctx) }()
	var mu sync.Mutex
	fmt.Fprintln(out, "{}") // it is there
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		go func() {
			who := Who{Person: o.Person, Role: api.RolePerson, Via: api.ViaKey, From: o.Addr}
			var err error
			if o.Look {
				err = g.reload(ctx)
				o.Busy = len(g.live.all(func(r row) bool { return r.State != api.Open }))
			} else if o.Open {
				o.Grant, err = g.Open(ctx, who, "web", api.OpenRequest{Seconds: o.Seconds})
			} else {
				o.Grant, err = g.Close(ctx, who, o.ID)
			}
			if err != nil {
				o.Failed = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			_ = json.NewEncoder(out).Encode(o)
		}()
	}
	return nil
}

// crashes are gates that are killed, in front of one EC2.
type crashes struct {
	t      *testing.T
	ec2    *ec2test.Server
	here   ec2test.Place
	group  string
	dsn    string
	config string
	gates  []*process
	orders atomic.Int64
	killed int
	looked chan order

	mu       sync.Mutex
	promised map[string]api.Grant
	closed   map[string]bool // asked to be
	sure     map[string]bool // and answered
	answered int
	early    []string
	calls    atomic.Int64
	killAt   atomic.Int64 // kill victim at this call
	victim   atomic.Pointer[process]
}

// process is a gate.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	ready chan struct{}
	over  chan struct{}
}

func crashRuns(t *testing.T) int {
	runs := fewRuns
	if s := os.Getenv(crashRunsEnv); s != "" {
		var err error
		if runs, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return runs
}

func TestCrashSQLite(t *testing.T) {
	t.Parallel()
	newCrashes(t, filepath.Join(t.TempDir(), "state", "gate.db"), 1).run(crashRuns(t))
}

func TestCrashPostgres(t *testing.T) {
	t.Parallel()
	newCrashes(t, postgres(t), 2).run(crashRuns(t))
}

func newCrashes(t *testing.T, dsn string, gates int) *crashes {
	c := &crashes{t: t, ec2: ec2test.Start(t), here: ec2test.Place{Region: "eu-central-1"}, dsn: dsn, promised: map[string]api.Grant{}, closed: map[string]bool{}, sure: map[string]bool{}, looked: make(chan order, 1), gates: make([]*process, gates)}
	c.group = c.ec2.AddGroup(c.here, ec2test.Group{Name: "web"}, ec2test.Rule{Protocol: "tcp", From: 22, To: 22, Prefix: netip.MustParsePrefix("10.0.0.0/8"), Description: "the VPN"})
	c.config = "version: 1\naws: {endpoint: '" + c.ec2.URL() + "'}\npeople:\n"
	for i := range 20 {
		c.config += fmt.Sprintf("  p%d: {groups: [ops]}\n", i)
	}
	c.config += "targets:\n  web: {aws: {region: eu-central-1, group: " + c.group + "}, allow: [ops], at_most: 8h}\n"
	c.ec2.SetLatency(4 * time.Millisecond)
	c.ec2.Inject(ec2test.Fault{Do: func(ec2test.Call) {
		if c.calls.Add(1) == c.killAt.Load() {
			if p := c.victim.Load(); p != nil {
				_ = p.cmd.Process.Kill()
			}
		}
	}})
	c.ec2.OnChange(func(ec2test.Change) { c.look() })
	return c
}

// look holds what is let in to what was promised: nothing ends early.
func (c *crashes) look() {
	lets := map[netip.Prefix]bool{}
	for _, r := range c.ec2.Rules(c.here, c.group) {
		lets[r.Prefix] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for id, g := range c.promised {
		if !c.closed[id] && now.Before(g.Until.Add(-50*time.Millisecond)) && !lets[g.Prefix] {
			c.early = append(c.early, fmt.Sprintf("%s of %s, until %v, is gone at %v", id, g.Person, g.Until, now))
			delete(c.promised, id)
		}
	}
}

func (c *crashes) begin(i int) {
	exe, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.CommandContext(c.t.Context(), exe)
	cmd.Env = append(os.Environ(), partEnv+"=gate", dsnEnv+"="+c.dsn, configEnv+"="+c.config)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	p := &process{cmd: cmd, in: in, ready: make(chan struct{}), over: make(chan struct{})}
	c.gates[i] = p
	go func() {
		defer close(p.over)
		first := true
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if first {
				first = false
				close(p.ready)
				continue
			}
			var o order
			if json.Unmarshal(lines.Bytes(), &o) != nil {
				break // it died while it wrote
			}
			c.answer(o)
		}
		_ = cmd.Wait() // killed
	}()
	select {
	case <-p.ready:
	case <-p.over:
		c.t.Fatal("a gate did not begin")
	}
}

func (c *crashes) answer(o order) {
	if o.Look {
		c.looked <- o
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered++
	if o.Failed == "" && !o.Open {
		c.sure[o.ID] = true
	}
	if o.Failed == "" && o.Open && o.Grant.State == api.Open && !c.closed[o.Grant.ID] && !o.Grant.Until.Before(c.promised[o.Grant.ID].Until) {
		c.promised[o.Grant.ID] = o.Grant
	}
}

func (c *crashes) ask(p *process, o order) {
	o.N = int(c.orders.Add(1))
	raw, err := json.Marshal(o)
	if err != nil {
		c.t.Fatal(err)
	}
	_, _ = p.in.Write(append(raw, '\n')) // it may be dead
}

func (c *crashes) run(runs int) {
	t := c.t
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	began := time.Now()
	for i := range c.gates {
		c.begin(i)
	}
	for run := range runs {
		i := r.IntN(len(c.gates))
		victim := c.gates[i]
		c.victim.Store(victim)
		for range 1 + r.IntN(4) {
			person := r.IntN(20)
			o := order{Open: true, Person: fmt.Sprintf("p%d", person), Addr: netip.AddrFrom4([4]byte{203, 0, 113, byte(person % 15)}), Seconds: 2 + r.Int64N(6)}
			if r.IntN(3) == 0 {
				o.Seconds = 3600
			}
			c.ask(c.gates[r.IntN(len(c.gates))], o)
		}
		c.mu.Lock()
		for id, g := range c.promised {
			if g.Length == 3600 && r.IntN(3) == 0 {
				c.closed[id] = true
				c.ask(c.gates[r.IntN(len(c.gates))], order{Person: g.Person, Addr: g.Prefix.Addr(), ID: id})
			}
		}
		c.mu.Unlock()
		wait := time.Duration(r.Int64N(int64(500 * time.Millisecond)))
		if run%2 == 0 {
			c.killAt.Store(c.calls.Load() + 1 + r.Int64N(25))
			wait = time.Second
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			_ = victim.cmd.Process.Kill()
		case <-victim.over:
		}
		timer.Stop()
		<-victim.over
		c.killed++
		c.begin(i)
	}
	c.victim.Store(nil)
	asked := int(c.orders.Load())
	c.settle()
	c.mu.Lock()
	answered := c.answered
	c.mu.Unlock()
	t.Logf("%d kills in %v: %d of %d requests answered, %d calls of EC2", c.killed, time.Since(began).Round(time.Second), answered, asked, c.calls.Load())
	if answered < runs/3 || answered == asked {
		t.Error("it proves little: all requests, or none, were answered")
	}
	for _, p := range c.gates {
		_ = p.in.Close() // which ends it
		<-p.over
	}
	c.verify()
}

// settle waits until what the dead left was taken over, and what is short has ended.
func (c *crashes) settle() {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	late := time.Now().Add(2*claimTime + 30*time.Second)
	for range tick.C {
		wrong := c.disagree()
		c.ask(c.gates[0], order{Look: true})
		if o := <-c.looked; o.Failed != "" || o.Busy > 0 {
			wrong = append(wrong, fmt.Sprintf("%d grants are asked for, or ending, still %s", o.Busy, o.Failed))
		}
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(late) {
			c.t.Errorf("after %v:\n%s", 2*claimTime, strings.Join(wrong, "\n"))
			return
		}
	}
}

// disagree tells where rows and rules do not agree. A gate answers what the rows are, for
// the ledger is theirs.
func (c *crashes) disagree() (wrong []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, rule := range c.ec2.Rules(c.here, c.group) {
		ours, is := (securitygroup.Rule{Tags: rule.Tags}).Ours()
		if !is {
			continue
		}
		for _, l := range ours.Leases {
			switch {
			case now.After(l.Until.Add(time.Second)):
				wrong = append(wrong, fmt.Sprintf("%s lets in %s until %v: an orphan", rule.ID, l.Person, l.Until))
			case c.sure[l.ID]:
				wrong = append(wrong, fmt.Sprintf("%s lets in %s by %s, which was closed", rule.ID, l.Person, l.ID))
			case l.Until.Sub(now) < 10*time.Second:
				wrong = append(wrong, fmt.Sprintf("%s lets in %s until %v still", rule.ID, l.Person, l.Until))
			}
		}
		if len(ours.Ending) > 0 || len(ours.Leases) == 0 {
			wrong = append(wrong, fmt.Sprintf("%s is being taken away: %v", rule.ID, rule.Tags))
		}
	}
	return wrong
}

// verify reads the ledger when no gate has it any more.
func (c *crashes) verify() {
	ctx := context.Background()
	l, err := ledger.Open(ctx, c.dsn, ledger.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer l.Close()
	leases := map[string]netip.Prefix{}
	for _, rule := range c.ec2.Rules(c.here, c.group) {
		ours, _ := (securitygroup.Rule{Tags: rule.Tags}).Ours()
		for _, lease := range ours.Leases {
			leases[lease.ID] = rule.Prefix
		}
	}
	for _, text := range c.early {
		c.t.Errorf("it ended early: %s", text)
	}
	err = l.Read(ctx, func(tx *ledger.Tx) error {
		rows, err := tx.Live()
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.State != api.Open {
				c.t.Errorf("%s of %s is %s still: %+v", r.ID, r.Person, r.State, r)
			}
			if p, there := leases[r.ID]; !there || p != r.Prefix {
				c.t.Errorf("%s of %s is open, and no rule says so", r.ID, r.Person)
			}
			delete(leases, r.ID)
		}
		for id, p := range leases {
			c.t.Errorf("%s is let in by %s, which is not open", p, id)
		}
		for id := range c.sure {
			if slices.ContainsFunc(rows, func(r ledger.Grant) bool { return r.ID == id }) {
				c.t.Errorf("%s was closed, and is live", id)
			}
		}
		v, err := tx.Verify()
		if err == nil && !v.OK {
			c.t.Errorf("the audit: %+v", v)
		}
		return err
	})
	if err != nil {
		c.t.Error(err)
	}
}

// postgres starts a PostgreSQL of the test's own, which ends with it, and returns its
// address.
func postgres(t *testing.T) string {
	t.Helper()
	s, err := postgrestest.New()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skipf("LEFT OUT: %v: make deps installs it", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Database(t)
}
