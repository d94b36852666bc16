package access

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// TestWhere: in every account, region, group and list, by what holds the address.
func TestWhere(t *testing.T) {
	w := newWorld(t, `
aws:
  accounts:
    here: {id: "123456789012", regions: [eu-central-1, us-east-1]}
    there: {id: "210987654321", role: "arn:aws:iam::210987654321:role/sekisho", regions: [eu-central-1]}
people:
  alice: {groups: [ops]}
targets:
  web-prod: {aws: {account: here, region: eu-central-1, group: GROUP}, port: 22, allow: [ops], at_most: 8h}
`)
	w.server.AddRole(ec2test.Role{ARN: "arn:aws:iam::210987654321:role/sekisho"})
	us, there := ec2test.Place{Region: "us-east-1"}, ec2test.Place{Account: "210987654321", Region: region}
	rule := func(p ec2test.Place, r ec2test.Rule) string {
		if r.From == 0 {
			r.From = 22
		}
		return w.server.AddRule(p, r)
	}
	list := w.server.AddPrefixList(w.here, ec2test.PrefixList{Name: "office", MaxEntries: 5, Entries: []ec2test.Entry{{Prefix: bobs}, {Prefix: netip.MustParsePrefix("203.0.113.0/28")}}})
	other := w.server.AddPrefixList(w.here, ec2test.PrefixList{Name: "other", MaxEntries: 5, Entries: []ec2test.Entry{{Prefix: bobs}}})
	w.server.AddInstance(w.here, ec2test.Instance{ID: "i-0123456789abcdef0", Tags: map[string]string{"Name": "web1"}, Groups: []string{w.group}})
	usGroup, theirs := w.server.AddGroup(us, ec2test.Group{Name: "us"}), w.server.AddGroup(there, ec2test.Group{Name: "theirs"})
	want := map[string]string{ // within, by rule
		rule(w.here, ec2test.Rule{Group: w.group, Prefix: alices}):                                        "203.0.113.7/32",
		rule(w.here, ec2test.Rule{Group: w.group, Prefix: netip.MustParsePrefix("203.0.113.0/24")}):       "203.0.113.0/24",
		rule(w.here, ec2test.Rule{Group: w.group, From: 443, Prefix: netip.MustParsePrefix("0.0.0.0/0")}): "0.0.0.0/0",
		rule(w.here, ec2test.Rule{Group: w.group, PrefixList: list}):                                      "203.0.113.0/28",
		rule(us, ec2test.Rule{Group: usGroup, Prefix: alices}):                                            "203.0.113.7/32",
		rule(there, ec2test.Rule{Group: theirs, Prefix: alices}):                                          "203.0.113.7/32",
	}
	rule(w.here, ec2test.Rule{Group: w.group, Prefix: bobs})
	rule(w.here, ec2test.Rule{Group: w.group, PrefixList: other})
	rule(w.here, ec2test.Rule{Group: w.group, Prefix: netip.MustParsePrefix("::/0")})
	rule(us, ec2test.Rule{Group: usGroup, Source: usGroup})
	rule(w.here, ec2test.Rule{Group: w.group, Egress: true, Prefix: netip.MustParsePrefix("0.0.0.0/0")})

	var last Progress
	hits, failed := w.Where(t.Context(), alices.Addr(), w.Places(), func(p Progress) { last = p })
	if len(failed) > 0 || len(hits) != len(want) {
		t.Fatalf("%v, %+v", failed, hits)
	}
	for _, h := range hits {
		if want[h.Rule] != h.Within.String() {
			t.Errorf("%s is within %s, want %s", h.Rule, h.Within, want[h.Rule])
		}
		if here := h.Group == w.group; here != (len(h.Behind) == 1 && h.Behind[0].Name == "web1") || here && h.GroupName != "web" {
			t.Errorf("hit: %+v", h)
		}
		if wants := h.Group == w.group && h.Ports == "22/tcp"; wants != slices.Equal(h.Targets, []string{"web-prod"}) {
			t.Errorf("%s is the door of %v", h.Rule, h.Targets)
		}
	}
	if last != (Progress{Places: 3, Done: 3, Rules: 10}) {
		t.Errorf("it went as far as %+v", last)
	}

	// One region is out, and in another nobody may ask for instances.
	w.server.Inject(ec2test.Fault{Region: "us-east-1", Action: "Describe*", Code: "UnauthorizedOperation"})
	w.server.Inject(ec2test.Fault{Account: "210987654321", Action: "DescribeInstances", Code: "UnauthorizedOperation"})
	hits, failed = w.Where(t.Context(), alices.Addr(), w.Places(), nil)
	if len(failed) != 2 || failed[0].Place.Region != "us-east-1" || failed[1].Place.Account != "there" || failed[0].Hint == "" {
		t.Errorf("failed: %+v", failed)
	}
	if len(hits) != len(want)-1 || !slices.ContainsFunc(hits, func(h Hit) bool { return h.Group == theirs && h.GroupName == "theirs" }) {
		t.Errorf("hits that are left: %+v", hits)
	}
}

func TestWho(t *testing.T) {
	w := newWorld(t, twoPeople)
	tags := func(all ...tagged) map[string]string {
		tags := asTags(all...)
		tags[securitygroup.TagManaged] = "yes"
		return tags
	}
	w.add("192.0.2.1/32", tags(securitygroup.Fixed("alice bob")))
	w.add("192.0.2.2/32", tags(lease("alice", time.Hour), lease("bob", 2*time.Hour), lease("carol", -time.Hour)))
	w.add("192.0.2.3/32", tags(lease("carol", -time.Hour)))
	w.add("192.0.2.4/32", nil)
	w.add("192.0.2.5/32", tags(securitygroup.Fixed("alice"), lease("bob", time.Hour)))
	who, failed := w.Who(t.Context(), w.Doors())
	var got []string
	for _, a := range who {
		got = append(got, fmt.Sprintf("%s %s %s %d", a.Source, a.By, strings.Join(a.People, "+"), len(a.Leases)))
	}
	want := []string{"192.0.2.3 over  0", "192.0.2.2 lease alice+bob 2", "192.0.2.1 fixed alice+bob 0", "192.0.2.5 fixed alice+bob 1", "192.0.2.4 foreign  0"}
	if !slices.Equal(got, want) || len(failed) > 0 {
		t.Errorf("%v\ngot  %q\nwant %q", failed, got, want)
	}

	ended, err := w.Close(t.Context(), w.Doors(), "bob")
	if err != nil || len(ended) != 2 {
		t.Errorf("%v, ended %+v", err, ended)
	}
	if len(w.rules()) != 5 {
		t.Errorf("rules: %v", w.rules())
	}
	if ended, err = w.Close(t.Context(), w.Doors(), ""); err != nil || len(ended) != 1 || len(w.rules()) != 4 {
		t.Errorf("%v, ended %+v, left %v", err, ended, w.rules())
	}
	if ended, err = w.Close(t.Context(), w.Doors(), ""); err != nil || len(ended) != 0 {
		t.Errorf("%v, ended %+v", err, ended)
	}
}
