package access

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// TestReapersThatMayNotRevoke: each of them left a mark, until the tags were full and nobody
// could mark the rule any more, not even who may revoke it.
func TestReapersThatMayNotRevoke(t *testing.T) {
	w := newWorld(t, twoPeople)
	tags := asTags(lease("alice", -time.Hour))
	maps.Copy(tags, securitygroup.ManagedTags())
	w.add("203.0.113.7/32", tags)
	allowed := w.server.Inject(ec2test.Denied("RevokeSecurityGroupIngress"))
	for range 3 {
		if r := w.reap(t); len(r.Left) != 1 || len(r.Stuck) != 1 || !strings.Contains(r.Left[0].Error, "UnauthorizedOperation") {
			t.Fatalf("%+v", r)
		}
	}
	if ours, _ := w.rules()[0].Ours(); len(ours.Ending) != 0 {
		t.Errorf("they left %v", ours.Ending)
	}
	allowed()
	if r := w.reap(t); !r.Clean() || len(w.rules()) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestFullOfTags: a rule whose tags are full of what is of no use can be ended, and opened.
func TestFullOfTags(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	for _, tt := range []struct {
		name string
		tag  func(i int) tagged
	}{
		{"marks of the dead", func(i int) tagged { return securitygroup.Mark{ID: fmt.Sprintf("m%d", i), Since: old} }},
		{"leases that have ended", func(i int) tagged { return securitygroup.Lease{ID: fmt.Sprintf("l%d", i), Person: "x", Until: old} }},
		{"leases that cannot be read", func(i int) tagged { return tag{securitygroup.Key(fmt.Sprint(i)), "tomorrow"} }},
	} {
		full := func(w *world) {
			tags := securitygroup.ManagedTags()
			for i := range securitygroup.MaxTags - 1 {
				maps.Copy(tags, asTags(tt.tag(i)))
			}
			w.add("203.0.113.7/32", tags)
		}
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, twoPeople)
			full(w)
			if r := w.reap(t); !r.Clean() || len(w.rules()) != 0 {
				t.Errorf("%+v", r)
			}
			full(w)
			o := w.open(t, "alice", alices, time.Hour)
			if !w.lets(alices) {
				t.Error("it is not open")
			}
			if err := w.Release(t.Context(), w.door(t), o); err != nil || len(w.rules()) != 0 {
				t.Errorf("released: %v, %v", err, w.rules())
			}
		})
	}
}

// TestFullOfLeases: who finds no room is told so, and the others stay.
func TestFullOfLeases(t *testing.T) {
	w := newWorld(t, twoPeople)
	tags := securitygroup.ManagedTags()
	for i := range securitygroup.MaxTags - 1 {
		maps.Copy(tags, asTags(securitygroup.Lease{ID: fmt.Sprintf("l%d", i), Person: "x", Until: time.Now().Add(time.Hour)}))
	}
	w.add("203.0.113.7/32", tags)
	_, err := w.Open(t.Context(), w.door(t), alices, "a", "alice", time.Hour, nil)
	if e, is := errors.AsType[*Error](err); !is || !strings.Contains(e.Hint, "sekisho leases") {
		t.Errorf("it says %v", err)
	}
	if r := w.rules(); len(r) != 1 || len(r[0].Tags) != securitygroup.MaxTags {
		t.Errorf("rules: %v", r)
	}
}

// TestOneStuckAmongOthers: what cannot be taken away says nothing of the others.
func TestOneStuckAmongOthers(t *testing.T) {
	w := newWorld(t, twoPeople)
	for i := range 5 {
		tags := asTags(lease("alice", -time.Hour))
		maps.Copy(tags, securitygroup.ManagedTags())
		w.add(fmt.Sprintf("192.0.2.%d/32", i), tags)
	}
	w.server.Inject(ec2test.Fault{Action: "RevokeSecurityGroupIngress", Code: "UnauthorizedOperation", Times: 1})
	r := w.reap(t)
	if len(r.Revoked) != 4 || len(r.Left) != 1 || len(r.Stuck) != 1 || len(w.rules()) != 1 {
		t.Errorf("%+v", r)
	}
}

// TestManyToReap: more than are claimed at a time.
func TestManyToReap(t *testing.T) {
	w := newWorld(t, twoPeople)
	for i := range claimed + 5 {
		tags := asTags(lease("alice", -time.Hour))
		maps.Copy(tags, securitygroup.ManagedTags())
		w.add(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i % 250)}), 32).String(), tags)
	}
	if r := w.reap(t); len(r.Revoked) != claimed+5 || !r.Clean() || len(w.rules()) != 0 {
		t.Errorf("%d revoked, %d left", len(r.Revoked), len(r.Left))
	}
}

// TestReapOnePlaceOut: what cannot be looked at is named, the rest is done.
func TestReapOnePlaceOut(t *testing.T) {
	w := newWorld(t, twoPeople)
	tags := asTags(lease("alice", -time.Hour))
	maps.Copy(tags, securitygroup.ManagedTags())
	w.add("203.0.113.7/32", tags)
	w.server.Inject(ec2test.Fault{Region: "us-east-1", Code: "UnauthorizedOperation"})
	r := w.Reap(t.Context(), []securitygroup.Place{{Region: region}, {Region: "us-east-1"}})
	if len(r.Revoked) != 1 || len(r.Failed) != 1 || r.Failed[0].Place.Region != "us-east-1" || r.Failed[0].Hint == "" || r.Clean() {
		t.Errorf("%+v", r)
	}
}

// TestStoodStill: a machine that was suspended between its look and its call makes none.
func TestStoodStill(t *testing.T) {
	for _, tt := range []struct {
		ago  time.Duration
		late bool
	}{{0, false}, {lateAfter / 2, false}, {lateAfter + time.Second, true}, {-lateAfter - time.Second, true}, {24 * time.Hour, true}} {
		if err := (claim{began: time.Now().Round(0).Add(-tt.ago)}).late(); errors.Is(err, errLate) != tt.late {
			t.Errorf("after %v: %v", tt.ago, err)
		}
	}
	if lateAfter*2 > StuckAfter || claimTime > lateAfter/2 {
		t.Error("others take a mark for a dead one's too soon")
	}
}

// TestReleasedWhenAllIsGone: a door that somebody else shut by hand, whoever needed it, took
// as many looks as others could change it in.
func TestReleasedWhenAllIsGone(t *testing.T) {
	w := newWorld(t, twoPeople)
	w.open(t, "alice", alices, time.Hour)
	b := w.open(t, "bob", alices, time.Hour)
	w.server.RemoveRule(w.here, b.Rule.ID)
	w.server.ForgetCalls()
	if err := w.Release(t.Context(), w.door(t), b); err != nil {
		t.Error(err)
	}
	if n := len(w.server.Calls()); n > 6 { // two looks
		t.Errorf("there were %d calls", n)
	}
}

// TestSomebodyChangedTheRule in the console, while somebody wrote a lease on it.
func TestSomebodyChangedTheRule(t *testing.T) {
	w := newWorld(t, twoPeople)
	o := w.open(t, "alice", alices, time.Hour)
	to := o.Rule
	to.Source.Prefix = netip.MustParsePrefix("192.0.2.1/32")
	var done bool
	remove := w.server.Inject(ec2test.Fault{Action: "CreateTags", After: true, Do: func(ec2test.Call) {
		if !done { // from another process
			done = true
			a := w.configured(t, twoPeople)
			if err := a.Cloud.Modify(t.Context(), w.door(t).Place(), w.group, []securitygroup.Rule{to}); err != nil {
				t.Error(err)
			}
		}
	}})
	b := w.open(t, "bob", alices, time.Hour)
	remove()
	if !w.lets(alices) || b.Rule.ID == o.Rule.ID {
		t.Errorf("bob was told %+v, and the rules are %v", b, w.rules())
	}
	// Alice's goes to hers when it is renewed, and the altered rule with a reaper.
	if _, err := w.Renew(t.Context(), w.door(t), o, time.Hour); err != nil {
		t.Error(err)
	}
	w.reap(t)
	if r := w.rules(); len(r) != 1 || r[0].Source.Prefix != alices {
		t.Fatalf("rules: %v", r)
	}
	if ours, _ := w.rules()[0].Ours(); len(ours.Leases) != 2 {
		t.Errorf("it says %+v", ours)
	}
}
