package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

const onePerson = `
people:
  alice: {fixed: [203.0.113.7], groups: [ops]}
targets:
  web-prod: {aws: {region: eu-central-1, group: GROUP}, port: 22, allow: [ops], at_most: 8h}
`

// must is the plan, carried out.
func (w *world) apply(t testing.TB, a *Access) Applied {
	t.Helper()
	return a.Apply(t.Context(), a.Doors(), a.Plan(t.Context(), a.Doors(), nil))
}

func (w *world) add(prefix string, tags map[string]string) string {
	return w.server.AddRule(w.here, ec2test.Rule{Group: w.group, Protocol: "tcp", From: 22, To: 22, Prefix: netip.MustParsePrefix(prefix), Tags: tags})
}

func fixedTags(people string) map[string]string {
	tags := asTags(securitygroup.Fixed(people))
	maps.Copy(tags, securitygroup.ManagedTags())
	return tags
}

func TestAnAddressChanges(t *testing.T) {
	w := newWorld(t, onePerson)
	tags := fixedTags("alice")
	tags["Name"] = "alice at home"
	id := w.add("192.0.2.1/32", tags)
	res := w.apply(t, w.Access)
	rules := w.rules()
	if res.Err() != nil || len(res.Done) != 1 || res.Done[0].Op != Modify {
		t.Fatalf("%v, %+v", res.Err(), res.Done)
	}
	if len(rules) != 1 || rules[0].ID != id || rules[0].Source.Prefix != alices || rules[0].Tags["Name"] != "alice at home" || len(rules[0].Tags) != 3 {
		t.Errorf("the rule is now %+v", rules)
	}
}

// TestATargetBesideOthersInItsGroup: a plan for one target is one for its group, and leaves
// the lists of other groups alone.
func TestATargetBesideOthersInItsGroup(t *testing.T) {
	w := newWorld(t, twoPeople)
	w.Access = w.configured(t, `
people:
  alice: {fixed: [203.0.113.7], groups: [ops]}
  bob: {fixed: [198.51.100.9], groups: [dev]}
targets:
  web-prod: {aws: {region: eu-central-1, group: GROUP}, port: 22, allow: [ops]}
  db-prod: {aws: {region: eu-central-1, group: GROUP}, port: 2222, allow: [dev]}
  other: {aws: {region: eu-central-1, group: `+w.server.AddGroup(w.here, ec2test.Group{Name: "other"})+`, via: prefix_list}, port: 22, allow: [dev]}
`)
	if err := w.apply(t, w.Access).Err(); err != nil {
		t.Fatal(err)
	}
	before := w.rules()
	one := []Door{w.door(t)}
	p := w.Plan(t.Context(), one, nil)
	if !p.Empty() || len(p.Groups) != 1 || len(p.Groups[0].Targets) != 2 {
		t.Errorf("the plan for one target is %+v, %+v", p.Groups, p.Lists)
	}
	if len(before) != 2 {
		t.Errorf("rules: %v", before)
	}
}

// TestAnotherDescriptionInAList: EC2 refuses an entry that is there already.
func TestAnotherDescriptionInAList(t *testing.T) {
	const yaml = `
people:
  alice: {fixed: [203.0.113.7], groups: [ops]}
  bob: {fixed: [%s], groups: [ops]}
targets:
  web-prod: {aws: {region: eu-central-1, group: GROUP, via: prefix_list}, port: 22, allow: [ops]}
`
	w := newWorld(t, fmt.Sprintf(yaml, "198.51.100.9"))
	if err := w.apply(t, w.Access).Err(); err != nil {
		t.Fatal(err)
	}
	w.Access = w.configured(t, fmt.Sprintf(yaml, "203.0.113.7"))
	if res := w.apply(t, w.Access); res.Err() != nil || !res.Left.Empty() {
		t.Errorf("%v, left %+v", res.Err(), res.Left.Lists)
	}
	if l := w.server.PrefixLists(w.here); len(l) != 1 || len(l[0].Entries) != 1 {
		t.Errorf("lists: %+v", l)
	}
}

// TestFromRulesToAList: whoever is let in by a rule is let in by the list before it goes.
func TestFromRulesToAListAndBack(t *testing.T) {
	w := newWorld(t, onePerson)
	w.add("203.0.113.7/32", fixedTags("alice"))
	lists := w.configured(t, strings.Replace(onePerson, "group: GROUP", "group: GROUP, via: prefix_list", 1))
	for _, a := range []*Access{lists, w.Access} {
		sc := &scene{Access: a, server: w.server}
		stop := sc.watch()
		plan := a.Plan(t.Context(), a.Doors(), nil)
		if r := a.LocksOut(plan, []netip.Addr{alices.Addr()}); len(r) != 0 {
			t.Errorf("it is said to lock out: %v", r)
		}
		if err := a.Apply(t.Context(), a.Doors(), plan).Err(); err != nil {
			t.Fatal(err)
		}
		for _, s := range stop() {
			t.Error(s)
		}
	}
	if r, l := w.rules(), w.server.PrefixLists(w.here); len(r) != 1 || len(l) != 0 {
		t.Errorf("left are %v and %v", r, l)
	}
}

// TestTwoConfigurationsKeepTheirLists: of two configurations in one account whose targets
// allow groups of the same name, neither lets its people in through the other's doors.
func TestTwoConfigurationsKeepTheirLists(t *testing.T) {
	listed := strings.Replace(onePerson, "group: GROUP", "group: GROUP, via: prefix_list", 1)
	w := newWorld(t, listed)
	other := w.server.AddGroup(w.here, ec2test.Group{Name: "another team's"})
	theirs := strings.NewReplacer("GROUP", other, "203.0.113.7", "192.0.2.99").Replace(listed)
	if res := w.apply(t, w.Access); res.Err() != nil {
		t.Fatal(res.Err())
	}
	b := w.configured(t, theirs)
	if res := w.apply(t, b); res.Err() == nil || !strings.Contains(res.Err().Error(), "another configuration keeps it") {
		t.Errorf("the other's apply: %v", res.Err())
	}
	entries := func() (all []string) {
		for _, l := range w.server.PrefixLists(w.here) {
			for _, e := range l.Entries {
				all = append(all, e.Prefix.String())
			}
		}
		slices.Sort(all)
		return all
	}
	if got := entries(); !slices.Equal(got, []string{"203.0.113.7/32"}) {
		t.Errorf("the lists hold %v", got)
	}
	b = w.configured(t, theirs+"aws: {name: theirs}\n")
	for _, a := range []*Access{b, w.Access, b} {
		if res := w.apply(t, a); res.Err() != nil || !res.Left.Empty() {
			t.Errorf("with a name of its own: %v, %+v", res.Err(), res.Left.Lists)
		}
	}
	if got := entries(); !slices.Equal(got, []string{"192.0.2.99/32", "203.0.113.7/32"}) {
		t.Errorf("the lists hold %v", got)
	}
}

func TestLocksOut(t *testing.T) {
	listed := strings.Replace(onePerson, "group: GROUP", "group: GROUP, via: prefix_list", 1)
	gone := func(yaml string) string {
		return strings.Replace(yaml, "fixed: [203.0.113.7]", "fixed: [203.0.113.8]", 1)
	}
	tests := []struct {
		name         string
		before, then string
		also         string // a rule of others
		want         int
	}{
		{"an address goes", onePerson, gone(onePerson), "", 1},
		{"it goes, and a rule of others lets it in", onePerson, gone(onePerson), "203.0.113.0/24", 0},
		{"nothing changes", onePerson, onePerson, "", 0},
		{"it goes from a list", listed, gone(listed), "", 1},
		{"it goes with the change to a list", onePerson, gone(listed), "", 1},
		{"it goes with the change from a list", listed, gone(onePerson), "", 1},
		{"a list takes its rule's place", onePerson, listed, "", 0},
		{"a rule takes its list's place", listed, onePerson, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.before)
			if err := w.apply(t, w.Access).Err(); err != nil {
				t.Fatal(err)
			}
			if tt.also != "" {
				w.add(tt.also, nil)
			}
			a := w.configured(t, tt.then)
			plan := a.Plan(t.Context(), a.Doors(), nil)
			if got := a.LocksOut(plan, []netip.Addr{alices.Addr(), bobs.Addr()}); len(got) != tt.want {
				t.Errorf("it locks out %v, want %d", got, tt.want)
			}
		})
	}
}

// TestAFullGroup: what goes makes room for what comes; where it does not, it is told what
// fills the group.
func TestAFullGroup(t *testing.T) {
	fill := func(w *world, n int, tags map[string]string) {
		for i := range n {
			w.add(fmt.Sprintf("10.0.%d.%d/32", len(tags), i+1), tags)
		}
	}
	t.Run("an old address makes room", func(t *testing.T) {
		w := newWorld(t, onePerson)
		fill(w, 59, nil)
		w.add("192.0.2.1/32", fixedTags("erin"))
		if err := w.apply(t, w.Access).Err(); err != nil || len(w.rules()) != 60 || !w.lets(alices) {
			t.Errorf("%v, %d rules", err, len(w.rules()))
		}
	})
	t.Run("one is modified", func(t *testing.T) {
		w := newWorld(t, onePerson)
		fill(w, 59, nil)
		id := w.add("192.0.2.1/32", fixedTags("alice"))
		if err := w.apply(t, w.Access).Err(); err != nil || w.rules()[59].ID != id || !w.lets(alices) {
			t.Errorf("%v, %v", err, w.rules()[59])
		}
	})
	t.Run("there is no room", func(t *testing.T) {
		w := newWorld(t, onePerson)
		fill(w, 56, nil)
		over := asTags(lease("bob", -time.Hour))
		maps.Copy(over, securitygroup.ManagedTags())
		live := asTags(lease("bob", time.Hour), lease("carol", time.Hour))
		maps.Copy(live, securitygroup.ManagedTags())
		fill(w, 3, over)
		fill(w, 1, live)
		before := len(w.rules())
		res := w.apply(t, w.Access)
		err := res.Err()
		if err == nil || len(w.rules()) != before {
			t.Fatalf("%v, %d rules", err, len(w.rules()))
		}
		want := "0 are fixed addresses of ours, 1 leases, 3 leases that have ended, 56 not ours"
		if e, is := errors.AsType[*Error](err); !is || !strings.Contains(err.Error(), want) || !strings.Contains(e.Hint, "sekisho reap") {
			t.Errorf("it says %s, and not %q", said(err), want)
		}
		if len(res.Done) != 1 || res.Done[0].Error == "" {
			t.Errorf("done: %+v", res.Done)
		}
	})
	t.Run("it is asked for once", func(t *testing.T) {
		w := newWorld(t, strings.Replace(onePerson, "203.0.113.7", "203.0.113.7, 203.0.113.8, 203.0.113.9", 1))
		fill(w, 60, nil)
		plan := w.Plan(t.Context(), w.Doors(), nil)
		w.server.ForgetCalls()
		done := w.carryOut(t.Context(), plan)
		calls := map[string]int{}
		for _, c := range w.server.Calls() {
			calls[c.Action]++
		}
		want := map[string]int{"AuthorizeSecurityGroupIngress": 3, "DescribeSecurityGroupRules": 1} // what fills it
		if diff := cmp.Diff(want, calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		if len(done) != 3 {
			t.Fatalf("done: %+v", done)
		}
		for _, d := range done {
			if !securitygroup.IsQuota(d.Err()) || !strings.Contains(d.Error, "60 not ours") {
				t.Errorf("done: %+v", d)
			}
		}
	})
	t.Run("who stays is not shut out for it", func(t *testing.T) {
		w := newWorld(t, onePerson)
		w.add("203.0.113.7/32", fixedTags("alice"))
		fill(w, 59, nil)
		listed := w.configured(t, strings.Replace(onePerson, "group: GROUP", "group: GROUP, via: prefix_list", 1))
		if err := w.apply(t, listed).Err(); err == nil || !w.lets(alices) {
			t.Errorf("%v, and alice is let in: %t", err, w.lets(alices))
		}
	})
}

// TestCredentialsExpireMidway: what was made is told apart from what was not.
func TestCredentialsExpireMidway(t *testing.T) {
	w := newWorld(t, `
people:
  alice: {fixed: [203.0.113.1, 203.0.113.2, 203.0.113.3, 203.0.113.4], groups: [ops]}
targets:
  web-prod: {aws: {region: eu-central-1, group: GROUP}, port: 22, allow: [ops]}
`)
	plan := w.Plan(t.Context(), w.Doors(), nil)
	w.server.Inject(ec2test.Expired(ec2test.KeyOf(ec2test.DefaultAccount), 2))
	res := w.Apply(t.Context(), w.Doors(), plan)
	var made, not int
	for _, d := range res.Done {
		if d.Err() == nil {
			made++
		} else if not++; !securitygroup.IsExpired(d.Err()) {
			t.Errorf("%s: %v", d.Text, d.Err())
		}
	}
	if made != 2 || not != 2 || len(w.rules()) != 2 || !securitygroup.IsExpired(res.Err()) {
		t.Errorf("%d made, %d not, %d are there: %v", made, not, len(w.rules()), res.Err())
	}
}

func TestAdopt(t *testing.T) {
	w := newWorld(t, onePerson)
	good := w.server.AddRule(w.here, ec2test.Rule{Group: w.group, Protocol: "tcp", From: 22, To: 22, Prefix: alices, Description: "by hand", Tags: map[string]string{"Name": "x"}})
	other, ours := w.add("192.0.2.1/32", nil), w.add("192.0.2.2/32", fixedTags("alice"))
	plan := w.Plan(t.Context(), w.Doors(), nil)
	for _, tt := range []struct{ name, id, want string }{
		{"not wanted", other, "the configuration does not want"},
		{"ours", ours, "is ours already"},
		{"unknown", "sgr-00000000000000000", "there is no rule"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done, err := w.Adopt(t.Context(), plan, []string{good, tt.id})
			if e, is := errors.AsType[*Error](err); !is || !strings.Contains(e.Error(), tt.want) || len(done) != 0 || e.Hint == "" {
				t.Errorf("%v, %+v", err, done)
			}
		})
	}
	if r := w.rules()[0]; len(r.Tags) != 1 {
		t.Fatalf("refused, and the rule is %+v", r)
	}
	done, err := w.Adopt(t.Context(), plan, []string{good})
	if err != nil || len(done) != 1 {
		t.Fatal(done, err)
	}
	if r := w.rules()[0]; r.ID != good || r.Tags["Name"] != "x" || r.Tags[securitygroup.TagFixed] != "alice" {
		t.Errorf("it is %+v", r)
	}
	// It is like any other of ours from then on.
	w.server.RemoveRule(w.here, ours)
	a := w.configured(t, strings.Replace(onePerson, "203.0.113.7", "203.0.113.99", 1))
	if err := w.apply(t, a).Err(); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(w.rules(), func(r securitygroup.Rule) bool { return r.ID == good })
	if i < 0 || w.rules()[i].Source.String() != "203.0.113.99" || w.rules()[i].Tags["Name"] != "x" {
		t.Errorf("alice's address changed, and the rules are %+v", w.rules())
	}
}

// TestListsAreMadeOnce: two who want the same list at the same time ask with the same token.
func TestListsAreMadeOnce(t *testing.T) {
	w := newWorld(t, strings.Replace(onePerson, "group: GROUP", "group: GROUP, via: prefix_list", 1))
	plan := w.Plan(t.Context(), w.Doors(), nil)
	w.server.SetClock(func() time.Time { return time.Date(2026, 11, 29, 12, 0, 30, 0, time.UTC) })
	for range 2 {
		a := w.configured(t, strings.Replace(onePerson, "group: GROUP", "group: GROUP, via: prefix_list", 1))
		if _, err := a.Cloud.Groups(t.Context(), w.door(t).Place(), []string{w.group}); err != nil { // the clock
			t.Fatal(err)
		}
		if _, err := a.carryOutList(context.WithoutCancel(t.Context()), plan.Lists[0]); err != nil {
			t.Fatal(err)
		}
	}
	var tokens []string
	for _, c := range w.server.Calls() {
		if c.Action == "CreateManagedPrefixList" {
			tokens = append(tokens, c.Form.Get("ClientToken"))
		}
	}
	if len(tokens) != 2 || tokens[0] != tokens[1] || len(tokens[0]) != 64 {
		t.Errorf("tokens: %q", tokens)
	}
}

// TestLeaveList: a target leaves a list that another takes over, which loses somebody whom
// the first lets in by a rule from now on. The list lost them before the rule was there, once.
func TestLeaveList(t *testing.T) {
	const (
		before = `
people:
  alice: {fixed: [203.0.113.7], groups: [ops]}
  bob: {fixed: [203.0.113.8], groups: [ops]}
targets:
  web: {aws: {region: eu-central-1, group: GROUP, via: prefix_list}, allow: [ops]}
`
		after = `
people:
  alice: {fixed: [203.0.113.7], groups: [ops]}
  bob: {fixed: [203.0.113.8], groups: [dev]}
targets:
  web: {aws: {region: eu-central-1, group: GROUP, via: VIA}, allow: [ops, dev]}
  db: {aws: {region: eu-central-1, group: OTHER, via: prefix_list}, allow: [ops]}
`
	)
	for _, tt := range []struct{ name, via string }{{"for rules", "rules"}, {"for another list, whose id the next round knows", "prefix_list"}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, before)
			other := w.server.AddGroup(w.here, ec2test.Group{Name: "db"})
			if err := w.apply(t, w.Access).Err(); err != nil {
				t.Fatal(err)
			}
			a := w.configured(t, strings.NewReplacer("OTHER", other, "VIA", tt.via).Replace(after))
			sc := &scene{Access: a, server: w.server}
			stop := sc.watch()
			if err := w.apply(t, a).Err(); err != nil {
				t.Fatal(err)
			}
			for _, s := range stop() {
				t.Error(s)
			}
			for _, d := range a.Doors() {
				if got, want := sc.lets(d, netip.MustParsePrefix("203.0.113.8/32")), d.Name == "web"; got != want {
					t.Errorf("%s lets bob in: %v", d.Name, got)
				}
			}
		})
	}
}
