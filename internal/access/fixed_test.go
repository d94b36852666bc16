package access

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"sekisho/internal/config"
	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// scene is a cloud with whatever there may be in it, and a configuration that wants
// something else.
type scene struct {
	*Access
	server  *ec2test.Server
	foreign map[string]ec2test.Rule // by id
	leases  []held
	named   map[string]string // the Name tags of rules of ours, by id
}

// held is a lease that has not ended, and what it lets in.
type held struct {
	place ec2test.Place
	group string
	by    securitygroup.Permission
	id    string
}

var addresses = func() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range []string{
		"203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32", "203.0.113.4/32", "198.51.100.0/28", "198.51.100.3/32",
		"2001:db8::1/128", "2001:db8::2/128", "2001:db8:1::/64",
	} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}()

// newAccess is a process that works at s.
func newAccess(s *ec2test.Server, cfg *config.Config) *Access {
	return &Access{Config: cfg, Cloud: securitygroup.Open(securitygroup.Options{Endpoint: s.URL()}), Settle: 2 * time.Millisecond}
}

// draw makes a scene. With marks, there are those whom death took while they took rules
// away; only with lists does the configuration want some.
func draw(t *rapid.T, s *ec2test.Server, marks, withLists bool) *scene {
	sc := &scene{server: s, foreign: map[string]ec2test.Rule{}, named: map[string]string{}}
	cfg := &config.Config{People: map[string]config.Person{}, Targets: map[string]config.Target{}}
	some := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }
	chance := func(percent int) bool { return some(100) < percent }
	subset := func(all []string, least int) []string {
		var res []string
		for _, s := range all {
			if chance(50) {
				res = append(res, s)
			}
		}
		if len(res) < least {
			return all[:least]
		}
		return res
	}
	names := []string{"alice", "bob", "carol", "dave"}[:1+some(4)]
	for _, name := range names {
		p := config.Person{Groups: subset([]string{"ops", "dev"}, 0)}
		for _, a := range addresses {
			if chance(25) && !slices.ContainsFunc(p.Fixed, a.Overlaps) {
				p.Fixed = append(p.Fixed, a)
			}
		}
		cfg.People[name] = p
	}
	places := []ec2test.Place{{Region: "eu-central-1"}, {Region: "us-east-1"}}
	type in struct {
		place ec2test.Place
		group string
	}
	var groups []in
	for _, p := range places[:1+some(2)] {
		for range 1 + some(2) {
			groups = append(groups, in{p, s.AddGroup(p, ec2test.Group{Name: "g"})})
		}
	}
	type door struct {
		in
		port uint16
	}
	doors := map[door]bool{}
	for i := range 1 + some(4) {
		d := door{groups[some(len(groups))], []uint16{22, 2222}[some(2)]}
		if doors[d] {
			continue
		}
		doors[d] = true
		target := config.Target{
			AWS: config.TargetAWS{Region: d.place.Region, Group: d.group, Via: []config.Via{config.ViaRules, config.ViaPrefixList}[some(2)]}, Port: d.port,
			Exposure: config.ExposureOnRequest, AtMost: time.Hour, IPv6: 128,
		}
		if !withLists {
			target.AWS.Via = config.ViaRules
		}
		for _, who := range subset([]string{"ops", "dev", "alice"}, 1) {
			target.Allow = append(target.Allow, config.Allow{Who: who})
		}
		cfg.Targets[fmt.Sprintf("target%d", i)] = target
	}
	sc.Access = newAccess(s, cfg)

	lists, office := map[ec2test.Place][]string{}, map[ec2test.Place]string{}
	for _, p := range places {
		if chance(30) { // somebody else's
			office[p] = s.AddPrefixList(p, ec2test.PrefixList{Name: "office", MaxEntries: 3, Entries: []ec2test.Entry{{Prefix: addresses[some(4)]}}})
		}
		for range some(3) { // of ours, as it was once, or of nobody any more
			key := listKey{"", securitygroup.Place{Region: p.Region}, strings.Join(subset([]string{"alice", "dev", "ops"}, 1), " "), 4}
			l := ec2test.PrefixList{Name: key.name(), MaxEntries: 5, Tags: map[string]string{securitygroup.TagManaged: "yes", securitygroup.TagList: key.tag()}}
			for _, a := range addresses[:5] {
				if chance(30) {
					l.Entries = append(l.Entries, ec2test.Entry{Prefix: a, Description: "as it was"})
				}
			}
			lists[p] = append(lists[p], s.AddPrefixList(p, l))
		}
	}
	now := time.Now()
	for _, g := range groups {
		there := map[securitygroup.Permission]bool{}
		for range some(10) {
			r := ec2test.Rule{Group: g.group, Protocol: "tcp", From: []int{22, 2222}[some(2)]}
			r.To = r.From
			var source securitygroup.Source
			switch kind := some(10); {
			case kind < 7:
				r.Prefix = addresses[some(len(addresses))]
			case kind == 7:
				r.Prefix = netip.MustParsePrefix([]string{"0.0.0.0/0", "::/0", "203.0.113.0/24", "10.0.0.0/8"}[some(4)])
			case kind == 8 && office[g.place] != "" && chance(50):
				r.PrefixList = office[g.place]
			case kind >= 8 && len(lists[g.place]) > 0 && (doors[door{g, 22}] || doors[door{g, 2222}]):
				r.PrefixList = lists[g.place][some(len(lists[g.place]))]
			default:
				r.Source = groups[0].group
				if groups[0].place != g.place {
					r.Source = g.group
				}
			}
			source = securitygroup.Source{Prefix: r.Prefix, PrefixList: r.PrefixList, Group: r.Source}
			by := securitygroup.TCP(uint16(r.From), source)
			if there[by] {
				continue
			}
			there[by] = true
			r.Tags = map[string]string{}
			if chance(50) {
				r.Tags["Name"] = "by hand"
			}
			ours := slices.Contains(lists[g.place], r.PrefixList) // who names it is ours, too
			if !ours && (source.Group != "" || r.PrefixList != "" || r.Prefix.IsValid() && r.Prefix.Bits() < 25 && r.Prefix.Addr().Is4() || r.Prefix == netip.MustParsePrefix("::/0") || chance(40)) {
				r.Description = "keep out"
				r.ID = s.AddRule(g.place, r)
				sc.foreign[r.ID] = r
				continue
			}
			r.Tags[securitygroup.TagManaged] = "yes"
			fixed := ours || chance(60)
			if fixed {
				r.Tags[securitygroup.TagFixed] = strings.Join(subset([]string{"alice", "bob", "erin"}, 1), " ")
			}
			if r.PrefixList == "" && (!fixed || chance(30)) {
				r.Tags[securitygroup.TagSource] = by.String()
				l := securitygroup.Lease{ID: "l1", Person: "bob", Until: now.Add([]time.Duration{-time.Hour, time.Hour}[some(2)])}
				if l.Until.After(now) {
					sc.leases = append(sc.leases, held{g.place, g.group, by, l.ID})
				}
				maps.Copy(r.Tags, asTags(l))
			}
			if marks && chance(40) {
				maps.Copy(r.Tags, asTags(securitygroup.Mark{ID: "dead", Since: now.Add(-time.Hour)}))
			}
			id := s.AddRule(g.place, r)
			sc.named[id] = r.Tags["Name"]
		}
	}
	return sc
}

// at is where a door is, to the server.
func at(d Door) ec2test.Place { return ec2test.Place{Region: d.AWS.Region} }

// entry is whom somebody is let in from by a door.
type entry struct {
	door   string
	prefix netip.Prefix
}

// lets reports whether all of p is let in by a door.
func (sc *scene) lets(d Door, p netip.Prefix) bool {
	within := func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }
	for _, r := range sc.server.Rules(at(d), d.AWS.Group) {
		if r.Egress || r.From > int(d.Port) || r.To < int(d.Port) {
			continue
		}
		if r.Prefix.IsValid() && within(r.Prefix) {
			return true
		}
		for _, l := range sc.server.PrefixLists(at(d)) {
			if l.ID == r.PrefixList && slices.ContainsFunc(l.Entries, func(e ec2test.Entry) bool { return within(e.Prefix) }) {
				return true
			}
		}
	}
	return false
}

// wanted is all that the configuration wants let in for good.
func (sc *scene) wanted() map[entry]Door {
	all := map[entry]Door{}
	for _, d := range sc.Doors() {
		for p := range sc.fixedOf(d) {
			all[entry{d.Name, p}] = d
		}
	}
	return all
}

// watch notes who had what the configuration still wants, and is shut out at any moment.
func (sc *scene) watch() (stop func() []string) {
	had := sc.wanted()
	maps.DeleteFunc(had, func(e entry, d Door) bool { return !sc.lets(d, e.prefix) })
	var mu sync.Mutex
	var shut []string
	remove := sc.server.OnChange(func(c ec2test.Change) {
		mu.Lock()
		defer mu.Unlock()
		for e, d := range had {
			if !sc.lets(d, e.prefix) {
				shut = append(shut, fmt.Sprintf("%s shut %s out of %s", c.Action, e.prefix, e.door))
			}
		}
	})
	return func() []string {
		remove()
		mu.Lock()
		defer mu.Unlock()
		return shut
	}
}

// check fails where the cloud is not as the configuration wants it.
func (sc *scene) check(t *rapid.T) {
	if p := sc.Plan(t.Context(), sc.Doors(), nil); !p.Empty() || len(p.Failed) > 0 {
		t.Fatalf("a second plan has still %+v\n%+v\nand failed %v", p.Groups, p.Lists, p.Failed)
	}
	for e, d := range sc.wanted() {
		if !sc.lets(d, e.prefix) {
			t.Errorf("%s is not let in by %s", e.prefix, e.door)
		}
	}
	var wants []string
	for _, p := range sc.Places() {
		for _, r := range sc.server.Rules(ec2test.Place{Region: p.Region}) {
			if before, is := sc.foreign[r.ID]; is && r.Tags == nil {
				r.Tags = before.Tags
			}
			if before, is := sc.foreign[r.ID]; is {
				if diff := cmp.Diff(before, r, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
					t.Errorf("a foreign rule has changed:\n%s", diff)
				}
				wants = append(wants, r.ID)
			} else if name := sc.named[r.ID]; name != "" && r.Tags["Name"] != name { // a rule that takes another's place has another id
				t.Errorf("%s has lost its name: %v", r.ID, r.Tags)
			}
		}
	}
	for id, r := range sc.foreign {
		if !slices.Contains(wants, id) && slices.ContainsFunc(sc.Doors(), func(d Door) bool { return d.AWS.Group == r.Group }) {
			t.Errorf("the foreign rule %s is gone", id)
		}
	}
	for _, h := range sc.leases {
		if !slices.ContainsFunc(sc.server.Rules(h.place, h.group), func(r ec2test.Rule) bool {
			return r.Prefix == h.by.Source.Prefix && r.From == h.by.From && r.Tags[securitygroup.Key(h.id)] != ""
		}) {
			t.Errorf("the lease on %s is gone", h.by)
		}
	}
}

// TestApply: whatever there is, apply reaches the plan, and a second plan is empty.
func TestApply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, err := ec2test.New(ec2test.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sc := draw(t, s, false, true)
		stop := sc.watch()
		res := sc.Apply(t.Context(), sc.Doors(), sc.Plan(t.Context(), sc.Doors(), nil))
		if err := res.Err(); err != nil {
			t.Fatalf("%v; done %+v", err, res.Done)
		}
		for _, s := range stop() {
			t.Error(s)
		}
		sc.check(t)
	})
}

// TestApplyTwiceAtOnce: two begin at the same time, answers are lost, people died.
func TestApplyTwiceAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, err := ec2test.New(ec2test.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sc := draw(t, s, true, false)
		if every := rapid.IntRange(0, 9).Draw(t, "lost"); every > 1 {
			s.Inject(ec2test.Fault{Action: "*", Every: every * 3, After: true, Cut: true, Times: 3})
		}
		var group errgroup.Group
		for _, a := range []*Access{sc.Access, newAccess(s, sc.Config)} {
			group.Go(func() error {
				res := a.Apply(t.Context(), a.Doors(), a.Plan(t.Context(), a.Doors(), nil))
				if err := res.Err(); err != nil {
					return fmt.Errorf("%w; done %+v; left %+v %+v", err, res.Done, res.Left.Groups, res.Left.Lists)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		sc.check(t)
	})
}

// TestApplyIsKilled at any of its calls, which takes effect or not; another does the rest.
func TestApplyIsKilled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, err := ec2test.New(ec2test.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sc := draw(t, s, false, true)
		stop := sc.watch()
		plan := sc.Plan(t.Context(), sc.Doors(), nil)
		ctx, kill := context.WithCancel(t.Context())
		defer kill()
		var calls atomic.Int64
		at := rapid.Int64Range(1, 40).Draw(t, "killed at")
		remove := s.Inject(ec2test.Fault{Do: func(ec2test.Call) {
			if calls.Add(1) == at {
				kill()
			}
		}})
		sc.Apply(ctx, sc.Doors(), plan)
		remove()
		a := newAccess(s, sc.Config)
		res := a.Apply(t.Context(), a.Doors(), a.Plan(t.Context(), a.Doors(), nil))
		if err := res.Err(); err != nil {
			t.Fatalf("%v; done %+v", err, res.Done)
		}
		// A mark that the dead left has others put a new rule in the place of the old.
		for _, s := range stop() {
			if !strings.HasPrefix(s, "RevokeSecurityGroupIngress") {
				t.Error(s)
			}
		}
		sc.check(t)
	})
}
