package access

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/intent"
	"sekisho/internal/securitygroup/ec2test"
)

// passage is alice's through a door behind which something listens.
func (w *world) passage(t *testing.T, change func(*Door)) *Passage {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	book, err := intent.In(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &Passage{
		Opener: Direct{w.Access}, Door: w.door(t), Person: "alice", Host: "127.0.0.1", Machine: "here", Book: book, IP: alices.Addr(),
		Log: slog.New(slog.DiscardHandler), Linger: time.Millisecond,
	}
	p.Door.Port = l.Addr().(*net.TCPAddr).AddrPort().Port()
	if change != nil {
		change(&p.Door)
	}
	return p
}

// until is when the lease on the only rule ends; the zero time: there is none.
func (w *world) until(t *testing.T) time.Time {
	t.Helper()
	rules := w.rules()
	if len(rules) == 0 {
		return time.Time{}
	}
	ours, _ := rules[0].Ours()
	if len(rules) != 1 || len(ours.Leases) != 1 {
		t.Fatalf("rules %+v", rules)
	}
	return ours.Until()
}

func (p *Passage) pass(t *testing.T) *Way {
	t.Helper()
	way, err := p.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	way.Conn.Close()
	<-way.opening
	return way
}

// TestLeaseBesideAnother: a lease that takes the place of one that a killed process left used
// to be longer by as much as AWS's clock is ahead of ours, each time anew.
func TestLeaseBesideAnother(t *testing.T) {
	w := newWorld(t, twoPeople)
	ahead := func() time.Time { return time.Now().Add(time.Hour) }
	w.server.SetClock(ahead)
	p := w.passage(t, nil)
	var last time.Time
	for i := range 3 {
		way := p.pass(t)
		until := w.until(t)
		if left := until.Sub(ahead()); left < leaseTime-2*time.Second || left > leaseTime+time.Duration(i)*apart {
			t.Errorf("the lease lasts for %s", left)
		}
		if !until.After(last) {
			t.Errorf("the lease ends at %s, and the one before it at %s", until, last)
		}
		last = until
		// As the kernel leaves it when a process is killed; and nobody relies on it any more.
		e, _ := way.use.Entry()
		e.Fresh = time.Time{}
		if err := way.use.Write(e); err != nil {
			t.Fatal(err)
		}
		way.use.Done()
	}
	if err := p.pass(t).Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rules := w.rules(); len(rules) > 0 {
		t.Errorf("left: %v", rules)
	}
}

// TestKeepShortLeases: short leases were renewed when they had ended.
func TestKeepShortLeases(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, nil)
	p.LeaseTime = 4 * time.Second
	w.keeps(t, p.pass(t))
}

// TestOwnLimit: a lease ends when its person's own limit does.
func TestOwnLimit(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, func(d *Door) { d.Allow = []config.Allow{{Who: "ops", AtMost: 4 * time.Second}} })
	way := p.pass(t)
	if left := time.Until(w.until(t)); left > 4*time.Second {
		t.Errorf("the lease lasts for %s", left)
	}
	if err := way.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLimitsOfOthers: that some may have a target opened for a short time only made everybody's
// leases as short.
func TestLimitsOfOthers(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, func(d *Door) { d.Allow = append(d.Allow, config.Allow{Who: "contractors", AtMost: 4 * time.Second}) })
	way := p.pass(t)
	if left := time.Until(w.until(t)); left < leaseTime-10*time.Second || left > leaseTime+time.Second {
		t.Errorf("the lease lasts for %s", left)
	}
	if err := way.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLeaveWhileAnotherEnters: where somebody who came meanwhile kept the entry until the time to
// leave was over, leaving ended with a nil pointer.
func TestLeaveWhileAnotherEnters(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, nil)
	way := p.pass(t)
	e, _ := way.use.Entry()
	w.server.Inject(ec2test.Fault{Action: "RevokeSecurityGroupIngress", Times: 1, Do: func(ec2test.Call) {
		other, err := p.Book.Enter(t.Context(), e.Key)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { other.Done() })
	}})
	way.leaving = 3 * time.Second
	if err := way.Leave(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if rules := w.rules(); len(rules) > 0 {
		t.Errorf("left: %v", rules)
	}
}

// TestKeepWhatOthersOpened: who came to a door shortly before others were to renew its lease,
// and was left alone with it, renewed it when it had ended.
func TestKeepWhatOthersOpened(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, nil)
	p.LeaseTime = 4 * time.Second
	first := p.pass(t)
	e, _ := first.use.Entry()
	until(t, e.Fresh.Add(-100*time.Millisecond))
	second := p.pass(t)
	if err := first.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.server.Calls()) > 2 {
		t.Fatalf("the second has not come to what the first had opened: %v", w.server.Calls())
	}
	w.keeps(t, second)
}

func until(t *testing.T, at time.Time) {
	t.Helper()
	select {
	case <-time.After(time.Until(at)):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// keeps has a way be kept for longer than its lease lasts, and fails where that ends.
func (w *world) keeps(t *testing.T, way *Way) {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), w.until(t).Add(2*time.Second))
	defer cancel()
	kept := make(chan struct{})
	go func() {
		way.Keep(ctx)
		close(kept)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-kept:
			over = true
		case now := <-tick.C:
			if until := w.until(t); !until.After(now) {
				t.Fatalf("at %s the lease has ended, at %s", now, until)
			}
		}
	}
	if err := way.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !w.until(t).IsZero() {
		t.Error("it stays open")
	}
}
