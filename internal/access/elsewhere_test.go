package access

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// elsewhere is an endpoint that need not be ours: nothing is known of it but what the
// Cloud says. Each test has a region of its own, in whose default group it works.
type elsewhere struct {
	*Access
	t     *testing.T
	kind  string
	url   string
	place securitygroup.Place
	group string
}

func (e *elsewhere) configured(people map[string]config.Person, via config.Via) *Access {
	cfg := &config.Config{People: people, Targets: map[string]config.Target{"web-prod": {
		AWS: config.TargetAWS{Region: e.place.Region, Group: e.group, Via: via}, Port: 22, Exposure: config.ExposureOnRequest,
		Allow: []config.Allow{{Who: "ops"}}, AtMost: 8 * time.Hour, IPv6: 128,
	}}}
	return &Access{Config: cfg, Cloud: securitygroup.Open(securitygroup.Options{Endpoint: e.url}), Settle: 5 * time.Millisecond}
}

func (e *elsewhere) door() Door { return e.Doors()[0] }

// rules are those to the target's port.
func (e *elsewhere) rules() []securitygroup.Rule {
	var rules []securitygroup.Rule
	if err := e.Cloud.Rules(e.t.Context(), e.place, securitygroup.Query{Groups: []string{e.group}}, func(rs []securitygroup.Rule) error {
		for _, r := range rs {
			if r.From == 22 {
				rules = append(rules, r)
			}
		}
		return nil
	}); err != nil {
		e.t.Fatal(err)
	}
	slices.SortFunc(rules, func(a, b securitygroup.Rule) int { return strings.Compare(a.String(), b.String()) })
	return rules
}

func (e *elsewhere) make(prefix string, tags map[string]string) securitygroup.Rule {
	made, err := e.Cloud.Authorize(e.t.Context(), e.place, e.group, []securitygroup.Permission{securitygroup.TCP(22, securitygroup.Source{Prefix: netip.MustParsePrefix(prefix)})}, "made by the test", tags)
	if err != nil || len(made) != 1 {
		e.t.Fatal(made, err)
	}
	return made[0]
}

func ops(fixed ...string) config.Person {
	p := config.Person{Groups: []string{"ops"}}
	for _, f := range fixed {
		p.Fixed = append(p.Fixed, netip.MustParsePrefix(f))
	}
	return p
}

var flows = []struct {
	name string
	run  func(*elsewhere)
}{
	{"open, renew and release", func(e *elsewhere) {
		ctx := e.t.Context()
		o, err := e.Open(ctx, e.door(), alices, "a", "alice", time.Hour, nil)
		if err != nil || !o.Made {
			e.t.Fatal(o, err)
		}
		b, err := e.Open(ctx, e.door(), alices, "b", "bob", 2*time.Hour, nil)
		if err != nil || b.Made || b.Rule.ID != o.Rule.ID || len(b.Others) != 1 {
			e.t.Fatal(b, err)
		}
		if o, err = e.Renew(ctx, e.door(), o, 3*time.Hour); err != nil {
			e.t.Fatal(err)
		}
		if ours, _ := e.rules()[0].Ours(); len(ours.Leases) != 2 || ours.Leases[1].Person != "alice" {
			e.t.Errorf("it says %+v", ours)
		}
		for i, o := range []Opened{o, b, b} {
			if err := e.Release(ctx, e.door(), o); err != nil {
				e.t.Fatal(err)
			}
			if left, want := len(e.rules()), max(0, 1-i); left != want {
				e.t.Errorf("%d have left, and there are %d rules", i+1, left)
			}
		}
	}},
	{"a foreign rule", func(e *elsewhere) {
		r := e.make("203.0.113.7/32", map[string]string{"Name": "x"})
		o, err := e.Open(e.t.Context(), e.door(), alices, "a", "alice", time.Hour, nil)
		if err != nil || !o.Foreign || o.Rule.ID != r.ID {
			e.t.Fatal(o, err)
		}
		if err := e.Release(e.t.Context(), e.door(), o); err != nil {
			e.t.Error(err)
		}
		if r := e.rules(); len(r) != 1 || len(r[0].Tags) != 1 || r[0].Description != "made by the test" {
			e.t.Errorf("it is %+v", r)
		}
	}},
	{"somebody died closing", func(e *elsewhere) {
		tags := asTags(lease("bob", time.Hour), securitygroup.Mark{ID: "dead", Since: time.Now().Add(-time.Hour)})
		tags[securitygroup.TagManaged] = "yes"
		old := e.make("203.0.113.7/32", tags)
		o, err := e.Open(e.t.Context(), e.door(), alices, "a", "alice", time.Hour, nil)
		if ours, _ := e.rules()[0].Ours(); err != nil || o.Rule.ID == old.ID || len(ours.Leases) != 2 || len(ours.Ending) != 0 {
			e.t.Errorf("%v, %+v, %+v", err, o, ours)
		}
	}},
	{"reap", func(e *elsewhere) {
		over, live := asTags(lease("alice", -time.Hour)), asTags(lease("alice", time.Hour), lease("bob", -time.Hour))
		over[securitygroup.TagManaged], live[securitygroup.TagManaged] = "yes", "yes"
		e.make("203.0.113.7/32", over)
		stays := e.make("203.0.113.8/32", live)
		foreign := e.make("203.0.113.9/32", nil)
		r := e.Reap(e.t.Context(), []securitygroup.Place{e.place})
		if !r.Clean() || len(r.Revoked) != 1 || r.Live != 1 {
			e.t.Errorf("%+v", r)
		}
		rules := e.rules()
		if len(rules) != 2 || rules[0].ID != stays.ID || rules[1].ID != foreign.ID {
			e.t.Fatalf("left: %v", rules)
		}
		if ours, _ := rules[0].Ours(); len(ours.Leases) != 1 {
			e.t.Errorf("it says %+v", ours)
		}
	}},
	{"apply", func(e *elsewhere) {
		ctx := e.t.Context()
		foreign := e.make("192.0.2.99/32", map[string]string{"Name": "x"})
		var first securitygroup.Rule
		for i, people := range []map[string]config.Person{
			{"alice": ops("203.0.113.7/32", "2001:db8::7/128"), "bob": ops("203.0.113.7/32")},
			{"alice": ops("203.0.113.8/32", "2001:db8::7/128"), "bob": ops()},
			{"alice": ops("203.0.113.8/32")},
			{"alice": ops()},
		} {
			a := e.Access
			e.Access = e.Access.withPeople(people)
			a.Config = e.Config
			res := a.Apply(ctx, a.Doors(), a.Plan(ctx, a.Doors(), nil))
			if err := res.Err(); err != nil {
				e.t.Fatalf("%d: %v, %+v", i, err, res.Done)
			}
			rules := e.rules()
			var got []string
			for _, r := range rules {
				ours, _ := r.Ours()
				got = append(got, fmt.Sprintf("%s=%s", r.Source, strings.Join(ours.Fixed, "+")))
			}
			want := [][]string{
				{"192.0.2.99=", "2001:db8::7=alice", "203.0.113.7=alice+bob"}, {"192.0.2.99=", "2001:db8::7=alice", "203.0.113.8=alice"},
				{"192.0.2.99=", "203.0.113.8=alice"}, {"192.0.2.99="},
			}[i]
			if !slices.Equal(got, want) {
				e.t.Errorf("%d: got %q, want %q", i, got, want)
			}
			switch i {
			case 0:
				first = rules[2]
			case 1:
				if rules[2].ID != first.ID {
					e.t.Errorf("the rule was not modified")
				}
			}
			if rules[0].ID != foreign.ID || rules[0].Description != foreign.Description || len(rules[0].Tags) != 1 {
				e.t.Errorf("the foreign rule is %+v", rules[0])
			}
		}
	}},
	{"prefix lists", func(e *elsewhere) {
		ctx := e.t.Context()
		for i, people := range []map[string]config.Person{
			{"alice": ops("203.0.113.7/32")}, {"alice": ops("203.0.113.8/32"), "bob": ops("203.0.113.9/32")}, {"alice": ops()},
		} {
			a := e.configured(people, config.ViaPrefixList)
			res := a.Apply(ctx, a.Doors(), a.Plan(ctx, a.Doors(), nil))
			if err := res.Err(); err != nil {
				e.t.Fatalf("%d: %v, %+v", i, err, res.Done)
			}
			lists, err := a.Cloud.Lists(ctx, e.place, securitygroup.ListQuery{Tags: securitygroup.ManagedTags()}, true)
			if err != nil {
				e.t.Fatal(err)
			}
			rules, entries := len(e.rules()), 0
			for _, l := range lists {
				entries += len(l.Entries)
			}
			if wantRules, wantEntries := []int{1, 1, 0}[i], i; rules != wantRules || entries != []int{1, 2, 0}[wantEntries] {
				e.t.Errorf("%d: %d rules, %d entries", i, rules, entries)
			}
		}
	}},
	{"adopt, who, where and close", func(e *elsewhere) {
		ctx := e.t.Context()
		e.Config.People = map[string]config.Person{"alice": ops("203.0.113.7/32"), "bob": ops()}
		foreign := e.make("203.0.113.7/32", nil)
		if _, err := e.Adopt(ctx, e.Plan(ctx, e.Doors(), nil), []string{foreign.ID}); err != nil {
			e.t.Fatal(err)
		}
		if p := e.Plan(ctx, e.Doors(), nil); !p.Empty() {
			e.t.Errorf("adopted, and the plan is %+v", p.Groups)
		}
		if _, err := e.Open(ctx, e.door(), bobs, "b", "bob", time.Hour, nil); err != nil {
			e.t.Fatal(err)
		}
		who, failed := e.Who(ctx, e.Doors())
		if len(failed) > 0 || len(who) != 2 || who[0].By != "lease" || who[1].By != "fixed" {
			e.t.Errorf("%v, %+v", failed, who)
		}
		hits, failed := e.Where(ctx, alices.Addr(), []securitygroup.Place{e.place}, nil)
		if len(failed) > 0 || !slices.ContainsFunc(hits, func(h Hit) bool { return h.Rule == foreign.ID && h.Ours }) {
			e.t.Errorf("%v, %+v", failed, hits)
		}
		if ended, err := e.Close(ctx, e.Doors(), ""); err != nil || len(ended) != 1 || len(e.rules()) != 1 {
			e.t.Errorf("%v, %+v, %v", err, ended, e.rules())
		}
	}},
}

// withPeople is a with other people.
func (a *Access) withPeople(people map[string]config.Person) *Access {
	cfg := *a.Config
	cfg.People = people
	return &Access{Config: &cfg, Cloud: a.Cloud, Settle: a.Settle}
}

// TestFlows runs what does not need faults against ec2test, and against another endpoint
// where SEKISHO_TEST_EC2_ENDPOINT names one.
func TestFlows(t *testing.T) {
	regions := []string{"eu-west-1", "eu-west-2", "eu-west-3", "us-east-1", "us-east-2", "us-west-1", "us-west-2"}
	all := func(kind, url string, seed func(place ec2test.Place)) func(*testing.T) {
		return func(t *testing.T) {
			for i, f := range flows {
				t.Run(f.name, func(t *testing.T) {
					e := &elsewhere{t: t, kind: kind, url: url, place: securitygroup.Place{Region: regions[i]}}
					seed(ec2test.Place{Region: regions[i]})
					e.Access = e.configured(map[string]config.Person{"alice": ops(), "bob": ops()}, config.ViaRules)
					groups, err := e.Cloud.Groups(t.Context(), e.place, nil)
					if err != nil {
						t.Fatal(err)
					}
					g := slices.IndexFunc(groups, func(g securitygroup.Group) bool { return g.Name == "default" })
					if g < 0 {
						t.Fatalf("there is no default group among %v", groups)
					}
					e.group = groups[g].ID
					e.Access = e.configured(e.Config.People, config.ViaRules)
					for _, r := range e.rules() { // of a run before
						if err := e.Cloud.Revoke(t.Context(), e.place, e.group, []string{r.ID}); err != nil {
							t.Fatal(err)
						}
					}
					f.run(e)
				})
			}
		}
	}
	s := ec2test.Start(t)
	t.Run("ours", all("ours", s.URL(), func(p ec2test.Place) { s.AddGroup(p, ec2test.Group{Name: "default"}) }))
	kind, url := os.Getenv("SEKISHO_TEST_EC2_KIND"), os.Getenv("SEKISHO_TEST_EC2_ENDPOINT")
	if url == "" {
		return
	}
	t.Run(kind, all(kind, url, func(ec2test.Place) {}))
	t.Run("what needs faults", func(t *testing.T) {
		t.Skipf("%s has no faults, no late reads and no say in the order of calls: all other tests of this package run against ec2test alone", kind)
	})
}
