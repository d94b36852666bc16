package gate

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/notify"
	"sekisho/internal/securitygroup"
)

// withoutHanako is doors where hanako is no ops any more.
var withoutHanako = strings.Replace(doors, "hanako: {groups: [ops]}", "hanako: {groups: [leads]}", 1)

// Rule 6, of a gate that did not run when the configuration was changed.
func TestPolicyChangedMeanwhile(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.open(hanako, "web", api.OpenRequest{Seconds: 7200})
		w.open(taro, "web", api.OpenRequest{Seconds: 7200})
		w.end()
		w.configure(withoutHanako)
		_, end := w.gate("again")
		defer end()
		passes(10 * time.Second)
		w.lets(taroWeb)
	})
}

// Rule 6, where nobody asks the gate for anything.
func TestPolicyChangesInSilence(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		_, end := w.gate("earlier by name") // which looks at the groups
		defer end()
		passes(reapEvery / 2)
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 7200})
		passes(time.Second)
		w.configure(withoutHanako)
		passes(2 * beatEvery)
		w.lets()
		if r := w.row(o.ID); r.Why != "policy" {
			t.Errorf("got %+v", r)
		}
	})
}

// Rule 6: what was decided by what was just changed.
func TestPolicyChangesAtTheSameTime(t *testing.T) {
	for _, tt := range []struct {
		name string
		ask  func(w *world) error
	}{
		{"open", func(w *world) error {
			_, err := w.Open(context.Background(), hanako, "web", api.OpenRequest{})
			return err
		}},
		{"approve", func(w *world) error {
			rows := w.live.person("hanako")
			_, err := w.Approve(context.Background(), lea, rows[0].ID, api.AnswerRequest{})
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, doors, func(t *testing.T, w *world) {
				if tt.name == "approve" {
					w.open(hanako, "db", api.OpenRequest{Reason: "x"})
				}
				held, goOn := make(chan struct{}), make(chan struct{})
				go func() { // the ledger is busy, when it is decided already
					_ = w.ledger.Write(context.Background(), func(*ledger.Tx) error {
						close(held)
						<-goOn
						return errors.New("nothing")
					})
				}()
				<-held
				asked := make(chan error, 1)
				go func() { asked <- tt.ask(w) }()
				passes(time.Millisecond)
				w.configure(withoutHanako)
				if _, err := w.directory(t.Context()); err != nil {
					t.Fatal(err)
				}
				passes(time.Second) // what is there is looked at
				close(goOn)
				<-asked
				passes(10 * time.Second)
				w.lets()
			})
		})
	}
}

// A rule that somebody took away by hand: the page says so, and who asks again gets it.
func TestRuleTakenAway(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 7200})
		passes(3 * reapEvery)
		take := func() {
			w.groups.mu.Lock()
			clear(w.groups.leases)
			w.groups.mu.Unlock()
		}
		take()
		again := w.open(hanako, "web", api.OpenRequest{Seconds: 60})
		if again.ID != o.ID || !again.Until.Equal(o.Until) || again.State != api.Open {
			t.Errorf("got %+v", again)
		}
		w.lets(hanakoWeb)
		take()
		passes(3 * reapEvery)
		got, err := w.Grants(t.Context(), hanako, false)
		if err != nil || len(got) != 1 || got[0].InForce || len(got[0].Warnings) != 1 {
			t.Fatalf("got %+v, %v", got, err)
		}
		if whats := w.whats(o.ID); whats[len(whats)-1] != "failed" {
			t.Errorf("the audit has %v", whats)
		}
		w.lets() // who took it away may have meant it
		if e, err := w.Extend(t.Context(), hanako, o.ID, api.ExtendRequest{Seconds: 60}); err != nil || !e.InForce || len(e.Warnings) > 0 {
			t.Errorf("got %+v, %v", e, err)
		}
		w.lets(hanakoWeb)
		passes(3 * reapEvery)
		if r := w.row(o.ID); !r.InForce || r.State != api.Open {
			t.Errorf("got %+v", r)
		}
	})
}

// A gate that AWS does not answer leaves what is to end to the others.
func TestGateCutOffFromCloud(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		_, end := w.gate("two")
		defer end()
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 60})
		w.groups.mu.Lock() // its tags are of no help
		for _, leases := range w.groups.leases {
			l := leases[o.ID]
			l.Until = l.Until.Add(time.Hour)
			leases[o.ID] = l
		}
		w.groups.mu.Unlock()
		w.groups.meets(func(_, id string) error {
			if w.row(id).Owner == "one" {
				return errDown
			}
			return nil
		})
		passes(2 * time.Minute)
		w.lets()
		if r := w.row(o.ID); r.State != api.Ended {
			t.Errorf("got %+v", r)
		}
	})
}

// What is to end is ended by who is at it, though that one waits to try what was asked before.
func TestEndWhileItIsTriedAgain(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		g, end := w.gate("two")
		defer end()
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 600})
		passes(time.Second)
		w.groups.meets(func(what, _ string) error {
			if what == "open" {
				return errDown
			}
			return nil
		})
		r := w.row(o.ID)
		is, err := w.change(t.Context(), r.ID, func(_ *ledger.Tx, r *row) ([]api.Entry, error) {
			r.State, r.Owner, r.Claimed, r.Tries, r.Until = api.Asked, "one", time.Now().Add(50*time.Second), 6, r.Until.Add(time.Hour)
			return nil, nil
		})
		if err != nil || is.State != api.Asked {
			t.Fatal(err)
		}
		passes(time.Second)
		if _, err := g.Disable(t.Context(), ann, "hanako", api.DisableRequest{}); err != nil {
			t.Fatal(err)
		}
		passes(2 * time.Second)
		w.lets()
	})
}

// A host that was forgotten, or has another stream, hears no more at any gate.
func TestStreamsAtOtherGates(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(w *world)
	}{
		{"forgotten", func(w *world) {
			if err := w.DeleteHost(w.t.Context(), ann, "box-1"); err != nil {
				w.t.Fatal(err)
			}
		}},
		{"enrolled anew", func(w *world) { w.enrol("box-1", 2) }},
		{"listening elsewhere", func(w *world) {
			h, _ := w.listen(w.Gate, "box-1")
			w.t.Cleanup(h.stop)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, doors, func(t *testing.T, w *world) {
				g, end := w.gate("two")
				defer end()
				w.enrol("box-1", 1)
				h, _ := w.listen(g, "box-1")
				defer h.stop()
				stays, _ := w.listen(w.Gate, "box-1")
				stays.stop() // and its end does not matter
				h, _ = w.listen(g, "box-1")
				defer h.stop()
				passes(2 * hostsEvery)
				if g.streams.get("box-1") == nil {
					t.Fatal("the stream has ended before")
				}
				tt.then(w)
				passes(hostsEvery + time.Second)
				if g.streams.get("box-1") != nil {
					t.Error("it listens still")
				}
			})
		})
	}
}

// Connections are cut each time that it is asked for.
func TestCutTwice(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.enrol("box-1", 1)
		h, _ := w.listen(w.Gate, "box-1")
		defer h.stop()
		for range 2 {
			opened := make(chan api.Grant, 1)
			go func() { opened <- w.open(hanako, "box", api.OpenRequest{}) }()
			if c := h.change(); c.Let == nil {
				t.Fatalf("got %+v", c)
			}
			<-opened
			if _, err := w.Disable(t.Context(), ann, "hanako", api.DisableRequest{Cut: true}); err != nil {
				t.Fatal(err)
			}
			var ended, cut bool
			for !ended || !cut {
				c := h.change()
				ended, cut = ended || c.End != "", cut || c.Cut != nil
				if c.Let != nil {
					t.Fatalf("got %+v", c)
				}
			}
			if _, err := w.Enable(t.Context(), ann, "hanako"); err != nil {
				t.Fatal(err)
			}
			passes(time.Second)
		}
	})
}

// What somebody said yes to is not what is asked for afterwards, though a host has not
// ended it yet.
func TestApprovalIsUsedOnce(t *testing.T) {
	yaml := strings.Replace(doors, "box: {agent: box-1, allow: [ops], at_most: 2h}",
		"box: {agent: box-1, allow: [{who: ops, at_most: 2h, approval: leads}, {who: hanako, at_most: 10m}], at_most: 2h, break_glass: [hanako]}", 1)
	in(t, yaml, func(t *testing.T, w *world) {
		w.enrol("box-1", 1)
		o := w.open(hanako, "box", api.OpenRequest{Seconds: 7200})
		if o.State != api.Waiting {
			t.Fatalf("got %+v", o)
		}
		if _, err := w.Approve(t.Context(), lea, o.ID, api.AnswerRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Close(t.Context(), hanako, o.ID); err != nil {
			t.Fatal(err)
		}
		again := w.open(hanako, "box", api.OpenRequest{Seconds: 300})
		if again.Approver != "" || again.InForce {
			t.Errorf("got %+v", again)
		}
		broken := w.open(hanako, "box", api.OpenRequest{Seconds: 600, Break: true, Reason: "fire"})
		if !broken.Break {
			t.Errorf("got %+v", broken)
		}
		if _, err := w.Close(t.Context(), hanako, o.ID); err != nil {
			t.Fatal(err)
		}
		if again := w.open(hanako, "box", api.OpenRequest{Seconds: 300}); again.Break {
			t.Errorf("got %+v", again)
		}
	})
}

// What was approved is not made shorter where who approved it has left: others may approve it.
func TestApproverLeaves(t *testing.T) {
	yaml := strings.Replace(doors, "web: {aws: {region: eu-central-1, group: sg-0123456789abcdef0}, allow: [ops], at_most: 8h}",
		"web: {aws: {region: eu-central-1, group: sg-0123456789abcdef0}, allow: [{who: ops, at_most: 8h, approval: leads}, {who: hanako, at_most: 1h}]}", 1)
	in(t, yaml, func(t *testing.T, w *world) {
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 8 * 3600})
		p, err := w.Approve(t.Context(), lea, o.ID, api.AnswerRequest{})
		if err != nil || p.State != api.Open {
			t.Fatalf("got %+v, %v", p, err)
		}
		w.configure(strings.Replace(yaml, "lea: {groups: [leads, ops]}", "lea: {groups: [ops]}", 1))
		passes(10 * time.Second)
		if r := w.row(o.ID); !r.Until.Equal(p.Until) {
			t.Errorf("it ends at %v, and was approved until %v", r.Until, p.Until)
		}
		w.configure(strings.Replace(yaml, "at_most: 8h, approval", "at_most: 2h, approval", 1))
		passes(10 * time.Second)
		if r := w.row(o.ID); time.Until(r.Until) > 2*time.Hour {
			t.Errorf("it ends at %v still", r.Until)
		}
	})
}

// Of two administrators who disable each other one stays, and who is disabled undoes nothing
// at a gate that has not heard of it.
func TestDisabledAdministrator(t *testing.T) {
	yaml := strings.Replace(doors, "otto: {}", "otto: {groups: [admins]}", 1)
	in(t, yaml, func(t *testing.T, w *world) {
		ottoAdmin := otto
		ottoAdmin.Role = api.RoleAdmin
		if _, err := w.AddPerson(t.Context(), ann, api.PersonEdit{Name: "kept"}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.EditTarget(t.Context(), ann, "kept", api.TargetEdit{Config: "aws: {region: eu-central-1, group: sg-0123456789abcdef5}\nallow: [ops]\n"}); err != nil {
			t.Fatal(err)
		}
		before, err := w.directory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Disable(t.Context(), ann, "otto", api.DisableRequest{}); err != nil {
			t.Fatal(err)
		}
		w.dir.Store(before)
		_, err = w.Disable(t.Context(), ottoAdmin, "ann", api.DisableRequest{})
		refuses(t, "disable", err, api.Disabled)
		w.dir.Store(before)
		_, err = w.Enable(t.Context(), ottoAdmin, "otto")
		refuses(t, "enable oneself", err, api.Disabled)
		w.dir.Store(before)
		_, err = w.AddPerson(t.Context(), ottoAdmin, api.PersonEdit{Name: "jiro"})
		refuses(t, "edit", err, api.Disabled)
		for what, do := range map[string]func() error{
			"invite somebody": func() error { _, err := w.Invite(t.Context(), ottoAdmin, "hanako"); return err },
			"add a host":      func() error { _, err := w.AddHost(t.Context(), ottoAdmin, "box-2"); return err },
			"forget a host":   func() error { return w.DeleteHost(t.Context(), ottoAdmin, "box-3") },
			"remove a person": func() error { return w.DeletePerson(t.Context(), ottoAdmin, "kept") },
			"remove a target": func() error { return w.DeleteTarget(t.Context(), ottoAdmin, "kept") },
			"remove a passkey": func() error {
				return w.DeletePasskey(t.Context(), ottoAdmin, "hanako", []byte("0123456789abcdef"))
			},
		} {
			w.dir.Store(before)
			refuses(t, what, do(), api.Disabled)
		}
	})
}

// Everybody is told, too, of what was opened by breaking the glass and is made longer.
func TestBrokenGlassMadeLonger(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		told := func() (n int) {
			for _, k := range w.kinds() {
				if k == notify.GateBreakGlass {
					n++
				}
			}
			return n
		}
		o := w.open(hanako, "db", api.OpenRequest{Break: true, Reason: "fire", Seconds: 60})
		if _, err := w.Extend(t.Context(), hanako, o.ID, api.ExtendRequest{Seconds: 600}); err != nil {
			t.Fatal(err)
		}
		w.open(hanako, "db", api.OpenRequest{Break: true, Reason: "fire", Seconds: 1200})
		if n := told(); n != 3 {
			t.Errorf("told %d times", n)
		}
	})
}

// What is being closed is waited for, though this gate has not heard of it.
func TestClosingElsewhere(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		o := w.open(hanako, "web", api.OpenRequest{})
		w.groups.takes = 3 * time.Second
		r := w.row(o.ID)
		r.State, r.Why = api.Ending, "closed"
		r.Owner, r.Claimed = "another", time.Now().Add(5*time.Second)
		err := w.ledger.Write(t.Context(), func(tx *ledger.Tx) error {
			_, err := tx.UpdateGrant(r)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		w.live.mu.Lock()
		w.live.drop(w.live.rows[o.ID]) // it is not there yet
		w.live.mu.Unlock()
		_, err = w.Open(t.Context(), hanako, "web", api.OpenRequest{})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// A row that is heard of late does not come back.
func TestHeardOfLate(t *testing.T) {
	l := newLive(func(row, row) {})
	g := ledger.Grant{ID: "a", Person: "hanako", Target: "web", Prefix: netip.MustParsePrefix("203.0.113.7/32"), State: api.Open, Rev: 1}
	l.apply(g)
	late := g
	late.Rev = 2
	over := g
	over.Rev, over.State = 3, api.Ended
	l.apply(over)
	l.apply(late)
	if _, there := l.get("a"); there {
		t.Error("what has ended is there")
	}
	unseen := over
	unseen.ID = "b"
	late.ID = "b"
	l.apply(unseen)
	l.apply(late)
	if _, there := l.get("b"); there {
		t.Error("what had ended before it was known is there")
	}
	if diff := cmp.Diff(0, len(l.rows)); diff != "" {
		t.Error(diff)
	}
}

// A host is told where a target has moved to it, and one that lets in at another place is
// not made longer there.
func TestTargetMoves(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 600})
		w.groups.meets(func(what, _ string) error {
			if what == "release" {
				lasts(3 * time.Second)
			}
			return nil
		})
		w.configure(strings.Replace(doors, "abcdef0}", "abcdef9}", 1))
		moved := w.open(hanako, "web", api.OpenRequest{Seconds: 1200})
		if moved.ID == o.ID || moved.State != api.Open {
			t.Errorf("got %+v", moved)
		}
		passes(5 * time.Second)
		w.lets("hanako sg-0123456789abcdef9 203.0.113.7/32")
		if r := w.row(o.ID); r.State != api.Ended || r.Why != "policy" {
			t.Errorf("got %+v", r)
		}
	})
}

// lasts is a step of a cloud that takes so long; others go on meanwhile, so that it cannot wait
// until all is quiet, as passes does.
func lasts(d time.Duration) { <-time.After(d) }

// What a host has open is closed, too, though that cannot be written down.
func TestHostClosesWithoutLedger(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.enrol("box-1", 1)
		h, _ := w.listen(w.Gate, "box-1")
		defer h.stop()
		opened := make(chan api.Grant, 1)
		go func() { opened <- w.open(hanako, "box", api.OpenRequest{}) }()
		c := h.change()
		if c.Let == nil {
			t.Fatalf("got %+v", c)
		}
		w.report(w.Gate, "box-1", api.Report{Ticket: h.ticket, Grants: []api.ReportedGrant{{ID: c.Let.ID, InForce: true}}})
		o := <-opened
		if err := w.ledger.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := w.Close(t.Context(), hanako, o.ID)
		refuses(t, "close", err, api.Busy)
		if c := h.change(); c.End != o.ID {
			t.Errorf("got %+v", c)
		}
	})
}

// A host that comes from another gate is told of what this one has not heard of yet.
func TestHostComesFromAnotherGate(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.enrol("box-1", 1)
		closed := w.open(hanako, "box", api.OpenRequest{Seconds: 600})
		opened := w.open(taro, "box", api.OpenRequest{Seconds: 600})
		stale := rowOf(w.row(closed.ID))
		is := stale.Grant
		is.State, is.Why, is.Ended = api.Ended, "closed", time.Now()
		err := w.ledger.Write(t.Context(), func(tx *ledger.Tx) error {
			_, err := tx.UpdateGrant(is)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		passes(reloadMost)
		w.live.mu.Lock() // as it was before
		w.live.drop(w.live.rows[opened.ID])
		w.live.rows[stale.ID] = stale
		index(w.live.byHost, "box-1", stale.ID)
		w.live.mu.Unlock()
		h, s := w.listen(w.Gate, "box-1")
		defer h.stop()
		if len(s.Grants) != 1 || s.Grants[0].ID != opened.ID {
			t.Errorf("got %+v", s.Grants)
		}
	})
}

// A gate that cannot reach the ledger others share leaves its hosts to them.
func TestHostsOfGateCutOffFromLedger(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.enrol("box-1", 1)
		h, _ := w.listen(w.Gate, "box-1")
		defer h.stop()
		passes(time.Minute)
		if w.streams.get("box-1") == nil {
			t.Fatal("it has ended before")
		}
		if err := w.ledger.Close(); err != nil {
			t.Fatal(err)
		}
		passes(aliveFor + 2*beatEvery)
		if w.streams.get("box-1") != nil {
			t.Error("it listens still")
		}
	})
}

// A gate that was slow, and failed, does not end what another has taken over.
func TestSlowAndFailed(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		g, end := w.gate("slow")
		defer end()
		inIt, goOn := make(chan string, 1), make(chan struct{})
		w.groups.meets(func(what, id string) error {
			if what == "open" && w.row(id).Owner == "slow" {
				inIt <- id
				<-goOn
				return errDown
			}
			if what == "open" { // the other is at it, too, when the slow one has failed
				close(goOn)
				lasts(5 * time.Second)
			}
			return nil
		})
		go func() { _, _ = g.Open(context.Background(), hanako, "web", api.OpenRequest{Seconds: 3600}) }()
		id := <-inIt
		w.groups.leave(id) // it is not there to be at it
		passes(claimTime + 20*time.Second)
		w.lets(hanakoWeb)
		if r := w.row(id); r.State != api.Open {
			t.Errorf("got %+v", r)
		}
	})
}

// What was closed, and could not be written down, ends; what is asked for afterwards does not.
func TestOpenAfterOwedEnd(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 600})
		w.owedEnds.put(o.ID, owedEnd{hanako, "closed", false})
		_, err := w.Extend(t.Context(), hanako, o.ID, api.ExtendRequest{Seconds: 1200})
		refuses(t, "what is owed", err, api.Conflict)
		again := w.open(hanako, "web", api.OpenRequest{Seconds: 1200})
		if again.ID == o.ID {
			t.Error("what was closed is made longer")
		}
		passes(attendMost + time.Second)
		w.lets(hanakoWeb)
		if r := w.row(o.ID); r.State != api.Ended || r.Why != "closed" {
			t.Errorf("got %+v", r)
		}
	})
}

// A gate says where another's clock is ahead of its own.
func TestClocksDiffer(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		for _, ahead := range []time.Duration{0, time.Minute, 0} {
			err := w.ledger.Write(t.Context(), func(tx *ledger.Tx) error {
				return tx.Heartbeat("another", time.Now().Add(aliveFor+ahead))
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.heartbeat(t.Context()); err != nil {
				t.Fatal(err)
			}
			if w.clockTold != (ahead > clockSlack) {
				t.Errorf("ahead by %v: told %v", ahead, w.clockTold)
			}
		}
	})
}

// Policy allows for less time what is open: the tag of its rule says so first, whatever
// fails or dies in between, and never more than the row does.
func TestShortensTheTag(t *testing.T) {
	shorter := strings.Replace(doors, "allow: [ops], at_most: 8h", "allow: [ops], at_most: 1h", 1)
	ends := func(w *world, id string) time.Duration {
		l, _ := w.groups.lease(id)
		return time.Until(l.Until)
	}
	t.Run("the tag is first", func(t *testing.T) {
		in(t, doors, func(t *testing.T, w *world) {
			a := w.open(hanako, "web", api.OpenRequest{Seconds: 4 * 3600})
			first := false
			w.groups.meets(func(what, _ string) error {
				if what == "shortened" {
					r := w.row(a.ID)
					first = time.Until(r.Until) > 3*time.Hour
				}
				return nil
			})
			w.configure(shorter)
			passes(beatEvery + time.Second)
			if left := ends(w, a.ID); !first || left > time.Hour+tagSlack || left < 59*time.Minute {
				t.Errorf("the tag before the row: %v; it ends in %v", first, left)
			}
			if r := w.row(a.ID); r.State != api.Open || time.Until(r.Until) > time.Hour {
				t.Errorf("got %+v", r)
			}
			if got := w.whats(a.ID); !slices.Equal(got, []string{"open", "opened", "shorten"}) {
				t.Errorf("the audit: %v", got)
			}
		})
	})
	t.Run("the tag cannot be written", func(t *testing.T) {
		in(t, doors, func(t *testing.T, w *world) {
			a := w.open(hanako, "web", api.OpenRequest{Seconds: 4 * 3600})
			w.groups.meets(func(what, _ string) error {
				if what == "shorten" {
					return errDown
				}
				return nil
			})
			w.configure(shorter)
			passes(beatEvery + time.Second)
			if r := w.row(a.ID); r.State != api.Asked || time.Until(r.Until) > time.Hour {
				t.Errorf("got %+v", r)
			}
			w.groups.meets(nil)
			passes(3 * time.Minute)
			if r, left := w.row(a.ID), ends(w, a.ID); r.State != api.Open || r.Error != "" || left > time.Until(r.Until)+tagSlack {
				t.Errorf("the tag ends in %v: %+v", left, r)
			}
			passes(time.Hour)
			w.lets()
		})
	})
	t.Run("it is being made longer", func(t *testing.T) {
		in(t, doors, func(t *testing.T, w *world) {
			a := w.open(hanako, "web", api.OpenRequest{Seconds: 2 * 3600})
			done := make(chan error, 1)
			w.groups.meets(func(what, _ string) error {
				if what == "open" {
					w.groups.meets(nil)
					w.configure(shorter) // while AWS is asked
					return pause(context.Background(), 10*time.Second)
				}
				return nil
			})
			go func() {
				_, err := w.Extend(context.Background(), hanako, a.ID, api.ExtendRequest{Seconds: 4 * 3600})
				done <- err
			}()
			<-done
			passes(time.Minute)
			if r, left := w.row(a.ID), ends(w, a.ID); r.State != api.Open || left > time.Until(r.Until)+tagSlack || left > time.Hour {
				t.Errorf("the tag ends in %v: %+v", left, r)
			}
		})
	})
	t.Run("the gate dies before the row", func(t *testing.T) {
		in(t, doors, func(t *testing.T, w *world) {
			g, end := w.gate("two")
			a, err := g.Open(t.Context(), hanako, "web", api.OpenRequest{Seconds: 4 * 3600})
			if err != nil {
				t.Fatal(err)
			}
			w.end()
			w.groups.meets(func(what, _ string) error {
				if what == "shortened" {
					go kill(g, end)
					return errDown
				}
				return nil
			})
			w.configure(shorter)
			passes(time.Minute)
			w.groups.meets(nil)
			_, end3 := w.gate("three")
			passes(2 * time.Minute)
			if r, left := w.row(a.ID), ends(w, a.ID); r.State != api.Open || left > time.Until(r.Until)+tagSlack || left > time.Hour {
				t.Errorf("the tag ends in %v: %+v", left, r)
			}
			end3()
		})
	})
}

// The account of what is open is taken out of the configuration: who can do something about
// it is told at once, it is tried until the rule has ended by its own tags, and not for good.
func TestAccountTakenAway(t *testing.T) {
	with := strings.Replace(strings.Replace(doors, "version: 1\n", "version: 1\naws: {accounts: {prod: {role: 'arn:aws:iam::111122223333:role/gate'}}}\n", 1),
		"web: {aws: {", "web: {aws: {account: prod, ", 1)
	errGone := securitygroup.Open(securitygroup.Options{}).Rules(t.Context(), securitygroup.Place{Account: "prod", Region: "eu-central-1"}, securitygroup.Query{}, nil)
	if !securitygroup.IsNoAccount(errGone) {
		t.Fatal(errGone)
	}
	for _, back := range []bool{false, true} {
		t.Run(map[bool]string{false: "for good", true: "by mistake"}[back], func(t *testing.T) {
			in(t, with, func(t *testing.T, w *world) {
				a := w.open(hanako, "web", api.OpenRequest{Seconds: 3600})
				tried := 0
				w.groups.meets(func(string, string) error { tried++; return errGone })
				w.configure(people + "targets: {}\n")
				passes(beatEvery + 5*time.Second)
				if r := w.row(a.ID); r.State != api.Ending || r.Why != "policy" || !strings.Contains(r.Error, "account") {
					t.Errorf("got %+v", r)
				}
				told := w.tellings(notify.LeaseStuck)
				if len(told) != 1 || told[0].Level != notify.Alarm || !strings.Contains(told[0].Remedy, "aws.accounts") {
					t.Fatalf("told %+v", told)
				}
				if back {
					w.groups.meets(nil)
					passes(2 * backoffMost)
					w.lets()
					if r := w.row(a.ID); r.State != api.Ended || r.Error != "" {
						t.Errorf("got %+v", r)
					}
					return
				}
				passes(time.Hour + stuckAfter + 2*backoffMost)
				r := w.row(a.ID)
				if r.State != api.Ended || r.Why != "policy" || !strings.Contains(r.Error, `"prod"`) {
					t.Errorf("got %+v", r)
				}
				if got := w.whats(a.ID); !slices.Equal(got, []string{"open", "opened", "end.policy", "stuck", "left"}) {
					t.Errorf("the audit: %v", got)
				}
				if told = w.tellings(notify.LeaseStuck); len(told) != 2 || told[1].State == notify.Over || !strings.Contains(told[1].Remedy, "sekisho reap") {
					t.Errorf("told %+v", told)
				}
				before := tried
				passes(time.Hour)
				if tried != before {
					t.Errorf("it was tried %d times more", tried-before)
				}
			})
		})
	}
}

// tellings are what people were told of a kind.
func (w *world) tellings(k notify.Kind) (all []notify.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.told {
		if e.Kind == k {
			all = append(all, e)
		}
	}
	return all
}
