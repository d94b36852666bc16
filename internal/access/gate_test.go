package access

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sekisho/internal/config"
)

const guarded = `
people:
  hanako: {fixed: [203.0.113.7], groups: [ops]}
  taro: {groups: [dev, night]}
  jiro: {groups: [dev, leads]}
  lone: {}
targets:
  web: {aws: {region: eu-central-1, group: GROUP}, allow: [{who: ops, reason: no, approval: no, at_most: 2h}, dev], reason: yes, approval: [leads, hanako], at_most: 8h, hours: "mon-fri 08:00-20:00 Asia/Tokyo", break_glass: [night, hanako]}
  log: {aws: {region: eu-central-1, group: GROUP}, port: 2222, allow: [{who: dev, at_most: 30m}, {who: leads, reason: yes, at_most: 2h}, {who: night, approval: hanako, at_most: 4h}]}
  late: {aws: {region: eu-central-1, group: GROUP}, port: 2224, allow: [{who: dev, hours: "daily 09:00-10:30 Asia/Tokyo", at_most: 2h}, {who: leads, at_most: 1h}]}
  self: {aws: {region: eu-central-1, group: GROUP}, port: 2223, allow: [leads], approval: leads}
  host: {agent: host-1, allow: [ops], at_most: 1h}
`

const theGate = "gate: {url: 'https://gate.example.com'}\n"

// TestDecideByPolicy tells every yes and no about reasons, approval and the glass.
func TestDecideByPolicy(t *testing.T) {
	w := newWorld(t, guarded)
	gated := w.configured(t, guarded+theGate)
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	const monday, saturday = "2026-11-30 10:00", "2026-11-28 23:00"
	tests := []struct {
		name, target, at string
		q                Request
		gate             bool
	}{
		{"nothing is asked of these", "web", monday, Request{Person: "hanako"}, true},
		{"longer than these may", "web", monday, Request{Person: "hanako", For: 3 * time.Hour}, true},
		{"both are missing", "web", monday, Request{Person: "taro"}, true},
		{"both, and no gate", "web", monday, Request{Person: "taro"}, false},
		{"a reason alone", "web", monday, Request{Person: "taro", Reason: "deploy"}, true},
		{"a reason alone, and no gate", "web", monday, Request{Person: "taro", Reason: "deploy"}, false},
		{"spaces are no reason", "web", monday, Request{Person: "taro", Reason: " \n", ApprovedBy: "jiro"}, true},
		{"approved by one of a group", "web", monday, Request{Person: "taro", Reason: "deploy", ApprovedBy: "jiro"}, true},
		{"approved by a person", "web", monday, Request{Person: "taro", Reason: "deploy", ApprovedBy: "hanako", For: 8 * time.Hour}, true},
		{"approved, without a gate", "web", monday, Request{Person: "taro", Reason: "deploy", ApprovedBy: "hanako"}, false},
		{"approved, too long", "web", monday, Request{Person: "taro", Reason: "deploy", ApprovedBy: "hanako", For: 9 * time.Hour}, true},
		{"approved by oneself", "web", monday, Request{Person: "jiro", Reason: "deploy", ApprovedBy: "jiro"}, true},
		{"approved by somebody else", "web", monday, Request{Person: "jiro", Reason: "deploy", ApprovedBy: "taro"}, true},
		{"approved by one in no group", "web", monday, Request{Person: "jiro", Reason: "deploy", ApprovedBy: "lone"}, true},
		{"approved by a stranger", "web", monday, Request{Person: "jiro", Reason: "deploy", ApprovedBy: "no\x1body"}, true},
		{"approved by one whom a provider says is a lead", "web", monday, Request{Person: "jiro", Reason: "deploy", ApprovedBy: "lone", ApproverGroups: []string{"leads"}}, true},
		{"not approved by what a provider says of who asks", "web", monday, Request{Person: "taro", Reason: "deploy", ApprovedBy: "taro", ApproverGroups: []string{"leads"}, Groups: []string{"leads"}}, true},
		{"let in by what a provider says", "web", monday, Request{Person: "lone", Groups: []string{"ops"}}, true},
		{"the glass, without a reason", "web", saturday, Request{Person: "taro", BreakGlass: true}, true},
		{"the glass, at night", "web", saturday, Request{Person: "taro", BreakGlass: true, Reason: "it burns"}, true},
		{"the glass, too long", "web", saturday, Request{Person: "taro", BreakGlass: true, Reason: "it burns", For: 9 * time.Hour}, true},
		{"the glass, by day", "web", monday, Request{Person: "taro", BreakGlass: true, Reason: "it burns", For: 8 * time.Hour}, true},
		{"the glass, of who may not", "web", saturday, Request{Person: "jiro", BreakGlass: true, Reason: "it burns"}, true},
		{"the glass, where there is none", "log", saturday, Request{Person: "jiro", BreakGlass: true, Reason: "it burns"}, true},
		{"the glass, of who is not allowed", "web", saturday, Request{Person: "lone", Groups: []string{"night"}, BreakGlass: true, Reason: "it burns"}, true},
		{"at night, of who may break the glass", "web", saturday, Request{Person: "taro", Reason: "it burns"}, true},
		{"of several the one that asks nothing", "log", monday, Request{Person: "jiro"}, true},
		{"of several the longest", "log", monday, Request{Person: "jiro", Reason: "x"}, true},
		{"of several the one that allows that long", "log", monday, Request{Person: "jiro", For: time.Hour}, true},
		{"of several the one that allows that long, for approval", "log", monday, Request{Person: "taro", For: time.Hour}, true},
		{"longer than any of them", "log", monday, Request{Person: "taro", For: 5 * time.Hour}, true},
		{"one's own group", "self", monday, Request{Person: "jiro", ApprovedBy: "jiro"}, true},
		{"of several whose hours end, one that allows that long", "late", monday, Request{Person: "jiro", For: 2 * time.Hour}, true},
		{"of several whose hours end, the longest", "late", monday, Request{Person: "jiro", For: time.Hour}, true},
		{"a host", "host", monday, Request{Person: "hanako"}, true},
		{"a host, without a gate", "host", monday, Request{Person: "hanako"}, false},
	}
	var b strings.Builder
	for _, tt := range tests {
		a := w.Access
		if tt.gate {
			a = gated
		}
		door, err := a.Door(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		if tt.q.At, err = time.ParseInLocation("2006-01-02 15:04", tt.at, tokyo); err != nil {
			t.Fatal(err)
		}
		d, err := a.Decide(door, tt.q)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s: %s to %s at %s for %s, gate: %t\n", tt.name, tt.q.Person, tt.target, tt.at, tt.q.For, tt.gate)
		for _, r := range d.Reasons {
			fmt.Fprintf(&b, "%s %s\n", map[bool]string{true: "yes", false: "no "}[r.OK], r.Text)
		}
		fmt.Fprintf(&b, "rule %q, needs reason %t, approval %q, glass %t, may break it %t, always %d\n", d.Rule, d.NeedsReason, d.NeedsApproval, d.BreakGlass, d.MayBreakGlass, len(d.Always))
		if d.Allowed {
			fmt.Fprintf(&b, "=> until %s, at the latest %s, at most %s\n\n", d.Until.In(tokyo).Format("Mon 15:04"), d.Latest.In(tokyo).Format("Mon 15:04"), d.AtMost)
		} else {
			fmt.Fprintf(&b, "=> %v\nhint: %s\n\n", d.Err(), d.Hint)
		}
	}
	golden(t, "policy_decide.txt", b.String())
}

// TestDecideNeverWidens: whatever is asked, and whatever the policy is.
func TestDecideNeverWidens(t *testing.T) {
	people := map[string]config.Person{
		"a": {Groups: []string{"ops"}}, "b": {Groups: []string{"dev", "ops"}}, "c": {Groups: []string{"leads"}}, "d": {},
	}
	who := rapid.SampledFrom([]string{"a", "b", "c", "d", "ops", "dev", "leads"})
	some := rapid.SliceOfNDistinct(who, 0, 3, rapid.ID)
	lengths := rapid.SampledFrom([]time.Duration{time.Minute, 30 * time.Minute, time.Hour, 8 * time.Hour, 30 * 24 * time.Hour})
	hours := rapid.SampledFrom([]config.Hours{nil, {{Days: [7]bool{true, true, true, true, true, true, true}, From: 8 * time.Hour, To: 20 * time.Hour, Zone: time.UTC}}})
	rapid.Check(t, func(t *rapid.T) {
		tg := config.Target{
			Exposure: config.ExposureOnRequest, AtMost: lengths.Draw(t, "most"), IPv6: 128, Hours: hours.Draw(t, "hours"),
			Reason: rapid.Bool().Draw(t, "reason"), Approval: some.Draw(t, "approval"), BreakGlass: some.Draw(t, "glass"),
		}
		for _, name := range rapid.SliceOfNDistinct(who, 1, 4, rapid.ID).Draw(t, "allow") {
			e := config.Allow{Who: name, Hours: hours.Draw(t, "their hours"), Approval: some.Draw(t, "their approval"), Reason: rapid.SampledFrom([]*bool{nil, new(true), new(false)}).Draw(t, "their reason")}
			if rapid.Bool().Draw(t, "limited") {
				e.AtMost = lengths.Draw(t, "their most")
			}
			e.Unapproved = len(e.Approval) == 0 && rapid.Bool().Draw(t, "unapproved")
			tg.Allow = append(tg.Allow, e)
		}
		door := Door{"web", tg}
		names := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		a := &Access{Config: &config.Config{People: people, Targets: map[string]config.Target{"web": tg}, Gate: config.Gate{URL: rapid.SampledFrom([]string{"", "https://g.example"}).Draw(t, "gate")}}}
		q := Request{
			Person: names.Draw(t, "person"), At: time.Date(2026, 11, 30, rapid.IntRange(0, 23).Draw(t, "hour"), 10, 0, 0, time.UTC),
			For: rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour, 9 * time.Hour}).Draw(t, "for"), Reason: rapid.SampledFrom([]string{"", "x"}).Draw(t, "why"),
			ApprovedBy: rapid.OneOf(names, rapid.Just("")).Draw(t, "by"), BreakGlass: rapid.Bool().Draw(t, "break"),
		}
		decide := func(q Request) Decision {
			d, err := a.Decide(door, q)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		d := decide(q)
		entries := admits(door, q.Person, people[q.Person])
		most := time.Duration(0)
		for _, e := range entries {
			most = max(most, e.AtMost)
		}
		if d.AtMost > most || d.Latest.After(q.At.Add(most)) || d.Until.After(d.Latest) || d.Allowed && (d.Until.Sub(q.At) <= 0 || d.AtMost == 0 || len(entries) == 0) {
			t.Errorf("longer than the %s that one may: %+v", most, d)
		}
		i := slices.IndexFunc(entries, func(e config.Allow) bool { return e.Who == d.Rule })
		switch {
		case d.Allowed && i < 0:
			t.Errorf("by no rule: %+v", d)
		case d.Allowed && q.BreakGlass && (!among(tg.BreakGlass, q.Person, people[q.Person].Groups) || q.Reason == "" || !d.BreakGlass):
			t.Errorf("the glass of others, or silently: %+v", d)
		case d.Allowed && !q.BreakGlass:
			e := entries[i]
			if *e.Reason && q.Reason == "" || !e.Hours.Allow(q.At) || len(e.Approval) > 0 && (q.ApprovedBy == q.Person || !among(e.Approval, q.ApprovedBy, people[q.ApprovedBy].Groups)) {
				t.Errorf("without what %+v asks for: %+v", e, d)
			}
		case !d.Allowed && (d.Hint == "" || d.Reasons[len(d.Reasons)-1].OK || d.Err() == nil || !d.Until.IsZero()):
			t.Errorf("a no that does not say why: %+v", d)
		}
		if less := decide(with(q, func(q *Request) { q.ApprovedBy = q.Person })); less.Allowed != decide(with(q, func(q *Request) { q.ApprovedBy = "" })).Allowed {
			t.Errorf("somebody approves for themselves: %+v", less)
		}
		if less := decide(with(q, func(q *Request) { q.ApprovedBy, q.Reason = "", "" })); less.Allowed && (!d.Allowed && !q.BreakGlass || d.Latest.Before(less.Latest)) {
			t.Errorf("who says more gets less: %+v, %+v", less, d)
		}
		if !d.Allowed && d.Askable() {
			approvers := []string{"a", "b", "c", "d"}
			if len(d.NeedsApproval) == 0 {
				approvers = []string{q.ApprovedBy}
			}
			for _, by := range approvers {
				if len(d.NeedsApproval) == 0 || a.MayApprove(d.NeedsApproval, by, nil, q.Person) {
					if more := decide(with(q, func(q *Request) { q.ApprovedBy, q.Reason = by, "x" })); !more.Allowed {
						t.Errorf("it was not all that is missing: %+v, then %+v", d, more)
					}
				}
			}
		}
		if diff := cmp.Diff(d, decide(q)); diff != "" {
			t.Errorf("asked again:\n%s", diff)
		}
	})
}

func with(q Request, change func(*Request)) Request {
	change(&q)
	return q
}

// TestHostsAreNotGroups: what looks at security groups leaves hosts alone, and what would
// open one says who does.
func TestHostsAreNotGroups(t *testing.T) {
	w := newWorld(t, guarded)
	alone := len(w.AllDoors()) - 1
	if n := len(w.Doors()); n != alone {
		t.Fatalf("%d doors are groups, want %d", n, alone)
	}
	ctx := t.Context()
	if places := w.Places(); len(places) != 1 || places[0].Region != region {
		t.Errorf("places = %v", places)
	}
	plan := w.Plan(ctx, w.AllDoors(), nil)
	if len(plan.Failed) > 0 || len(plan.Groups) != 1 || slices.Contains(plan.Groups[0].Targets, "host") {
		t.Errorf("plan = %+v", plan)
	}
	if applied := w.Apply(ctx, w.AllDoors(), plan); applied.Err() != nil {
		t.Errorf("apply: %v", applied.Err())
	}
	who, failed := w.Who(ctx, w.AllDoors())
	if len(failed) > 0 || len(who) == 0 || slices.ContainsFunc(who, func(a Admitted) bool { return a.Target == "host" }) {
		t.Errorf("who = %+v, %+v", who, failed)
	}
	if _, failed := w.Watch(ctx, w.AllDoors()); len(failed) > 0 {
		t.Errorf("watch: %+v", failed)
	}
	if _, failed := w.Orphans(ctx, w.Places()); len(failed) > 0 {
		t.Errorf("orphans: %+v", failed)
	}
	if _, err := w.Close(ctx, w.AllDoors(), ""); err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := w.Policy("", RolePerson); err != nil {
		t.Errorf("policy: %v", err)
	}
	for _, tt := range []struct {
		name string
		*Access
		hint string
	}{
		{"without a gate", w.Access, nameGate},
		{"with one", w.configured(t, guarded+theGate), "the gate opens it, and knows who is in: https://gate.example.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host, err := tt.Door("host")
			if err != nil {
				t.Fatal(err)
			}
			_, opened := tt.Open(ctx, host, netip.MustParsePrefix("198.51.100.9/32"), "hanako", "hanako", time.Hour, nil)
			_, connected := (&Passage{Opener: Direct{tt.Access}, Door: host, Person: "hanako"}).Connect(ctx)
			for _, err := range []error{opened, connected} {
				if err == nil || !strings.HasSuffix(err.Error(), "host is the host host-1, and opens through the gate only") || Hint(err) != tt.hint {
					t.Errorf("got %v (%s)", err, Hint(err))
				}
			}
		})
	}
	none := w.configured(t, "people: {hanako: {}}\ntargets: {host: {agent: host-1, allow: [hanako]}}\n")
	if places := none.Places(); len(places) != 0 {
		t.Errorf("hosts alone are at %v", places)
	}
}
