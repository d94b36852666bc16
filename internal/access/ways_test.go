package access

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/securitygroup/ec2test"
)

// counted is how often an action was called.
func (w *world) counted(action string) int {
	n := 0
	for _, c := range w.server.Calls() {
		if c.Action == action {
			n++
		}
	}
	return n
}

// TestPassagesShareADoor: two processes, one rule; the last of them shuts it.
func TestPassagesShareADoor(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, nil)
	first := p.pass(t)
	w.server.ForgetCalls()
	began := time.Now()
	second := p.pass(t)
	if calls := w.server.Calls(); len(calls) != 0 {
		t.Errorf("to use what is open there were %d calls", len(calls))
	}
	t.Logf("it took %v to use what is open", time.Since(began).Round(time.Microsecond))
	if err := first.Leave(t.Context()); err != nil || len(w.rules()) != 1 {
		t.Errorf("the first left: %v, and the rules are %v", err, w.rules())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what ended us is why it has to be shut
	if err := second.Leave(ctx); err != nil || len(w.rules()) != 0 {
		t.Errorf("the last left: %v, and the rules are %v", err, w.rules())
	}
	if entries, err := p.Book.Entries(); err != nil || len(entries) != 0 {
		t.Errorf("kept: %+v, %v", entries, err)
	}
}

// TestAPassageThroughAForeignRule leaves it as it is.
func TestAPassageThroughAForeignRule(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, nil)
	id := w.server.AddRule(w.here, ec2test.Rule{Group: w.group, From: int(p.Door.Port), Prefix: alices, Description: "by hand"})
	way := p.pass(t)
	if err := way.renew(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
	if err := way.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if r := w.rules(); len(r) != 1 || r[0].ID != id || len(r[0].Tags) != 0 || r[0].Description != "by hand" {
		t.Errorf("rules: %+v", r)
	}
	for _, c := range w.server.Calls() {
		if !strings.HasPrefix(c.Action, "Describe") && c.Code == "" {
			t.Errorf("%s was called", c.Action)
		}
	}
}

// TestAPassageThatIsRefused makes no call.
func TestAPassageThatIsRefused(t *testing.T) {
	w := newWorld(t, office)
	for _, tt := range []struct {
		name, person string
		change       func(*Door)
	}{
		{"not allowed", "eve", nil},
		{"unknown", "hanak", nil},
		{"fixed", "hanako", func(d *Door) { d.Exposure = config.ExposureFixed }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			web := w.Config.Targets["web"]
			w.Config.Targets["web-prod"] = web
			p := w.passage(t, tt.change)
			p.Person = tt.person
			if way, err := p.Connect(t.Context()); err == nil {
				way.Conn.Close()
				t.Error("it was let through")
			}
			if calls := w.server.Calls(); len(calls) != 0 {
				t.Errorf("there were %d calls", len(calls))
			}
		})
	}
}

// TestADoorThatCannotBeOpened: where the host can be reached all the same, that is enough;
// else it is said why.
func TestADoorThatCannotBeOpened(t *testing.T) {
	w := newWorld(t, twoPeople)
	w.server.Inject(ec2test.Denied("AuthorizeSecurityGroupIngress"))
	p := w.passage(t, nil)
	var said bytes.Buffer
	p.Log = slog.New(slog.NewTextHandler(&said, nil))
	way, err := p.Connect(t.Context())
	if err == nil {
		way.Conn.Close()
		<-way.opening
		err = way.Leave(t.Context())
	} else if !strings.Contains(err.Error(), "not authorized") { // the refusal may come first
		t.Errorf("it says %v", err)
	}
	if way != nil && err != nil {
		t.Errorf("left: %v", err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there
	p.Door.Port = uint16(l.Addr().(*net.TCPAddr).Port)
	if _, err := p.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "not authorized") {
		t.Errorf("it says %v", err)
	}
	if len(w.rules()) != 0 {
		t.Errorf("rules: %v", w.rules())
	}
}

// TestNobodyListens: the door opens, nothing answers, and it is shut again.
func TestNobodyListens(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p.Door.Port = uint16(l.Addr().(*net.TCPAddr).Port)
	_, err = p.Connect(t.Context())
	silent, is := errors.AsType[*NoAnswer](err)
	if !is || !strings.Contains(err.Error(), "lets in 203.0.113.7 (by --ip)") || silent.Hint() == "" {
		t.Errorf("it says %v", err)
	}
	if len(w.rules()) != 0 || w.counted("AuthorizeSecurityGroupIngress") != 1 {
		t.Errorf("rules: %v", w.rules())
	}
}

// TestAPassageIsKept as long as the policy lets it, and opened anew where somebody took its
// rule away.
func TestAPassageIsKept(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, nil)
	p.LeaseTime = 2 * time.Second
	way := p.pass(t)
	way.until = time.Now().Add(3500 * time.Millisecond)
	w.server.RemoveRule(w.here, w.rules()[0].ID)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	way.Keep(ctx)
	if took := time.Since(began); ctx.Err() != nil || took < 3*time.Second {
		t.Errorf("it was kept for %v", took)
	}
	if len(w.rules()) != 1 || w.counted("AuthorizeSecurityGroupIngress") != 2 {
		t.Errorf("rules: %v", w.rules())
	}
	if err := way.Leave(t.Context()); err != nil || len(w.rules()) != 0 {
		t.Errorf("left: %v, %v", err, w.rules())
	}
}

// TestShut leaves a door in the place of who handed its connection over.
func TestShut(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, nil)
	way := p.pass(t)
	way.use.Done() // it ended
	if err := p.Shut(t.Context(), way.Own); err != nil || len(w.rules()) != 0 {
		t.Errorf("shut: %v, %v", err, w.rules())
	}
	if err := p.Shut(t.Context(), way.Own); err != nil {
		t.Errorf("shut twice: %v", err)
	}
	if e, _ := p.Book.Entries(); len(e) != 0 {
		t.Errorf("kept: %+v", e)
	}
}

// TestTwoAddressesTwoDoors: who moves from one network to another opens anew.
func TestTwoAddressesTwoDoors(t *testing.T) {
	w := newWorld(t, twoPeople)
	p := w.passage(t, nil)
	one := p.pass(t)
	p.IP = bobs.Addr()
	two := p.pass(t)
	if len(w.rules()) != 2 {
		t.Errorf("rules: %v", w.rules())
	}
	for _, way := range []*Way{one, two} {
		if err := way.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if len(w.rules()) != 0 {
		t.Errorf("rules: %v", w.rules())
	}
}
