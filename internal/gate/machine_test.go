package gate

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
)

// TestMachine has two gates, that die now and then, do at random what people and
// administrators ask of them while EC2 fails, and holds what is open, after each step and
// the time that its settling may take, to what was promised: nobody is let in who should
// not be, and nobody's time ends early.
func TestMachine(t *testing.T) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		before := flag.Lookup("rapid.checks").Value.String()
		_ = flag.Set("rapid.checks", "40")
		defer func() { _ = flag.Set("rapid.checks", before) }()
	}
	var n atomic.Int64
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 40).Draw(rt, "steps")
		var told []string
		// A bubble of its own for each, in which nothing of rapid's is called.
		ok := t.Run("", func(t *testing.T) {
			path := filepath.Join(dir, fmt.Sprint(n.Add(1)), "gate.db")
			synctest.Test(t, func(t *testing.T) {
				l, err := ledger.Open(t.Context(), path, ledger.Options{})
				if err != nil {
					t.Fatal(err)
				}
				m := &machine{t: t, ledger: l, groups: newFakeGroups(), yaml: doors, cfg: parse(t, doors), due: map[string]promise{}}
				m.begin(0)
				m.begin(1)
				for i, s := range steps {
					m.do(s)
					if told = m.check(); len(told) > 0 {
						told = append(told, fmt.Sprintf("after step %d: %v", i, s))
						break
					}
				}
				for _, g := range m.gates {
					g.end()
				}
				m.asking.Wait()
				if len(m.groups.twice) > 0 {
					told = append(told, fmt.Sprintf("two were at the same grant at the same time: %v", m.groups.twice))
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		})
		if !ok || len(told) > 0 {
			rt.Fatalf("%s", strings.Join(told, "\n"))
		}
	})
}

type step struct {
	what   string
	gate   int
	person string
	target string
	addr   int
	number int
}

func drawStep(t *rapid.T) step {
	return step{
		what: rapid.SampledFrom([]string{
			"open", "open", "open", "extend", "close", "approve", "disable", "enable", "time", "time", "kill", "race", "race", "slow", "down", "lost", "up", "regroup",
		}).Draw(t, "what"),
		gate:   rapid.IntRange(0, 1).Draw(t, "gate"),
		person: rapid.SampledFrom([]string{"hanako", "taro", "lea"}).Draw(t, "person"),
		target: rapid.SampledFrom([]string{"web", "db"}).Draw(t, "target"),
		addr:   rapid.IntRange(1, 2).Draw(t, "addr"),
		number: rapid.IntRange(1, 40).Draw(t, "number"),
	}
}

// promise is what somebody was told of a grant.
type promise struct {
	person string
	until  time.Time
}

type running struct {
	*Gate
	end func()
}

type machine struct {
	t      *testing.T
	ledger *ledger.Ledger
	groups *fakeGroups
	gates  [2]running
	born   int
	asking sync.WaitGroup

	mu    sync.Mutex
	yaml  string
	cfg   *config.Config
	due   map[string]promise // by grant
	fault string
}

func (m *machine) begin(i int) {
	m.born++
	g := New(Options{
		Config: func() *config.Config {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.cfg
		},
		Ledger: m.ledger, Instance: fmt.Sprintf("gate-%d-%d", i, m.born), Groups: m.groups.of,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	var once sync.Once
	m.gates[i] = running{g, func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				m.t.Error(err)
			}
		})
	}}
	synctest.Wait()
}

func (m *machine) who(person string, addr int) Who {
	return Who{Person: person, Role: api.RolePerson, Via: api.ViaKey, From: netip.AddrFrom4([4]byte{203, 0, 113, byte(addr)})}
}

// promised notes what a gate has answered.
func (m *machine) promised(o api.Grant, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && o.State == api.Open && o.Until.After(m.due[o.ID].until) {
		m.due[o.ID] = promise{o.Person, o.Until}
	}
}

func (m *machine) forget(drop func(id string, p promise) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, p := range m.due {
		if drop(id, p) {
			delete(m.due, id)
		}
	}
}

// some are grants that are live now, in order.
func (m *machine) some(state api.State) []ledger.Grant {
	rows := m.rows()
	return slices.DeleteFunc(rows, func(r ledger.Grant) bool { return r.State != state })
}

func (m *machine) rows() (rows []ledger.Grant) {
	err := m.ledger.Read(context.Background(), func(tx *ledger.Tx) (err error) {
		rows, err = tx.Live()
		return err
	})
	if err != nil {
		m.t.Error(err)
	}
	return rows
}

func (m *machine) do(s step) {
	g, ctx := m.gates[s.gate].Gate, context.Background()
	switch s.what {
	case "open":
		q := api.OpenRequest{Seconds: int64(s.number) * 60, Reason: "because", Break: s.target == "db" && s.person != "taro" && s.number%2 == 0}
		m.promised(g.Open(ctx, m.who(s.person, s.addr), s.target, q))
	case "extend":
		if rows := m.some(api.Open); len(rows) > 0 {
			r := rows[s.number%len(rows)]
			o, err := g.Extend(ctx, m.who(r.Person, 1), r.ID, api.ExtendRequest{Seconds: int64(s.number) * 120})
			m.promised(o, err)
		}
	case "close":
		if rows := m.rows(); len(rows) > 0 {
			r := rows[s.number%len(rows)]
			m.forget(func(id string, _ promise) bool { return id == r.ID })
			if _, err := g.Close(ctx, m.who(r.Person, 1), r.ID); err != nil && !m.off(r.Person) {
				m.t.Errorf("close: %v", err)
			}
		}
	case "approve":
		if rows := m.some(api.Waiting); len(rows) > 0 {
			r := rows[s.number%len(rows)]
			o, err := g.Approve(ctx, m.who(s.person, 1), r.ID, api.AnswerRequest{})
			if err == nil && (s.person != "lea" || r.Person == "lea") {
				m.t.Errorf("%s approved what %s asked for", s.person, r.Person)
			}
			m.promised(o, err)
		}
	case "disable":
		// While the same person, and another, are asking at another gate.
		other := m.gates[1-s.gate].Gate
		m.asking.Go(func() {
			_, _ = other.Open(ctx, m.who(s.person, s.addr), "web", api.OpenRequest{Seconds: 3600})
		})
		m.forget(func(_ string, p promise) bool { return p.person == s.person })
		if _, err := g.Disable(ctx, Who{Person: "ann", Role: api.RoleAdmin, Via: api.ViaPasskey}, s.person, api.DisableRequest{}); err != nil {
			m.t.Errorf("disable: %v", err)
		}
	case "enable":
		if _, err := g.Enable(ctx, Who{Person: "ann", Role: api.RoleAdmin, Via: api.ViaPasskey}, s.person); err != nil {
			m.t.Errorf("enable: %v", err)
		}
	case "race": // the same door at both gates, for a while and for longer
		m.asking.Go(func() {
			m.promised(m.gates[1-s.gate].Open(ctx, m.who(s.person, s.addr), "web", api.OpenRequest{Seconds: int64(s.number) * 120}))
		})
		passes(time.Duration(s.number) * 25 * time.Millisecond)
		m.promised(g.Open(ctx, m.who(s.person, s.addr), "web", api.OpenRequest{Seconds: int64(s.number) * 60}))
	case "slow":
		m.groups.mu.Lock()
		m.groups.takes = time.Second - m.groups.takes
		m.groups.mu.Unlock()
	case "time":
		passes(time.Duration(s.number) * 40 * time.Second)
	case "kill":
		m.asking.Go(func() { // which is what it dies in
			_, _ = g.Open(ctx, m.who(s.person, s.addr), "web", api.OpenRequest{Seconds: int64(s.number) * 60})
		})
		m.groups.mu.Lock()
		m.groups.takes = time.Second
		m.groups.mu.Unlock()
		passes(time.Duration(s.number) * 50 * time.Millisecond)
		kill(g, m.gates[s.gate].end)
		m.groups.mu.Lock()
		m.groups.takes = 0
		m.groups.mu.Unlock()
		m.asking.Wait()
		m.begin(s.gate)
	case "down", "lost":
		m.fault = s.what
		m.groups.meets(func(what, id string) error {
			if m.fault == "down" && (what == "open" || what == "release") || m.fault == "lost" && (what == "opened" || what == "released") {
				return errDown
			}
			return nil
		})
	case "up":
		m.fault = ""
		m.groups.meets(nil)
	case "regroup": // who is in ops is not always the same
		m.mu.Lock()
		was, is := s.person+": {groups: [ops]}", s.person+": {groups: [guests]}"
		if s.person == "lea" {
			was, is = "lea: {groups: [leads, ops]}", "lea: {groups: [leads, guests]}"
		}
		if strings.Contains(m.yaml, is) {
			m.yaml = strings.Replace(m.yaml, is, was, 1)
		} else {
			m.yaml = strings.Replace(m.yaml, was, is, 1)
			for id, p := range m.due {
				if p.person == s.person {
					delete(m.due, id)
				}
			}
		}
		cfg, err := config.Parse("sekisho.yaml", []byte(m.yaml))
		if err != nil {
			m.t.Error(err)
		} else {
			m.cfg = cfg
		}
		m.mu.Unlock()
	}
}

func (m *machine) off(person string) bool {
	off := false
	err := m.ledger.Read(context.Background(), func(tx *ledger.Tx) (err error) {
		off, err = tx.IsDisabled(person)
		return err
	})
	if err != nil {
		m.t.Error(err)
	}
	return off
}

// check waits until all has settled, and tells what is wrong.
func (m *machine) check() (wrong []string) {
	m.asking.Wait()
	for range 400 { // what dead gates were at takes a claim's time, what failed a backoff's
		rows := m.rows()
		busy := slices.ContainsFunc(rows, func(r ledger.Grant) bool { return r.State == api.Asked || r.State == api.Ending })
		if !busy || m.fault != "" && !slices.ContainsFunc(rows, func(r ledger.Grant) bool { return r.Tries == 0 && (r.State == api.Asked || r.State == api.Ending) }) {
			break
		}
		passes(time.Second)
	}
	passes(3 * time.Second) // configurations are looked at, what was opened too late is closed
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	now := time.Now()
	rows := map[string]ledger.Grant{}
	for _, r := range m.rows() {
		rows[r.ID] = r
		if m.fault == "" && (r.State == api.Asked || r.State == api.Ending) {
			say("%s of %s is %s still, %d tries, owner %s until %v: %s", r.ID, r.Person, r.State, r.Tries, r.Owner, r.Claimed.Sub(now), r.Error)
		}
		if (r.State == api.Open || r.State == api.Waiting) && m.off(r.Person) {
			say("%s, who is disabled, has %s in state %s", r.Person, r.ID, r.State)
		}
		l, there := m.groups.lease(r.ID)
		if r.State == api.Open && now.Before(r.Until.Add(-time.Second)) && (!there || l.Until.Before(r.Until.Add(-time.Second))) {
			say("%s of %s is open until %v, and its lease says %v (%v)", r.ID, r.Person, r.Until, l.Until, there)
		}
	}
	m.groups.mu.Lock()
	defer m.groups.mu.Unlock()
	for at, leases := range m.groups.leases {
		for id, l := range leases {
			r, live := rows[id]
			switch {
			case m.fault != "" && (!live || r.State != api.Open): // it cannot be closed now
			case !live:
				say("%s is let in at %v by %s, which has ended", l.Person, at, id)
			case r.State != api.Open:
				say("%s is let in at %v by %s, which is %s", l.Person, at, id, r.State)
			case !now.Before(r.Until.Add(2 * time.Second)):
				say("%s is let in at %v by %s, past its end", l.Person, at, id)
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, p := range m.due {
		switch r, live := rows[id]; {
		case !now.Before(p.until.Add(-2 * time.Second)):
			delete(m.due, id)
		case !live || r.State != api.Open && (m.fault == "" || r.State != api.Asked):
			say("%s was promised %s until %v, and it is %q now", p.person, id, p.until, r.State)
		case r.Until.Before(p.until):
			say("%s was promised %s until %v, and it ends at %v", p.person, id, p.until, r.Until)
		}
	}
	return wrong
}
