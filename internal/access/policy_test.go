package access

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

const accounts = `
aws:
  accounts:
    prod: {id: "111122223333", role: "arn:aws:iam::111122223333:role/sekisho", external_id: sekisho-prod}
    china: {id: "444455556666", regions: [cn-north-1]}
people:
  alice: {groups: [ops]}
targets:
  web: {aws: {account: prod, region: eu-central-1, group: sg-00000000000000001}, allow: [ops]}
  db: {aws: {account: prod, region: eu-central-1, group: sg-00000000000000001}, port: 2222, allow: [ops]}
  us: {aws: {account: prod, region: us-east-1, group: sg-00000000000000002}, allow: [ops], host: us.example.com}
`

func TestPolicy(t *testing.T) {
	a := newWorld(t, accounts).Access
	for _, account := range []string{"prod", "china"} {
		for _, role := range Roles() {
			p, err := a.Policy(account, role)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := p.JSON()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "policy-"+account+"-"+string(role)+".json", string(raw))
		}
	}
	raw, err := a.Callers().JSON()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "policy-callers.json", string(raw))
	if _, err := a.Policy("prod", "root"); err == nil {
		t.Error("there is a policy for any role")
	}
	for _, test := range []struct {
		role   Role
		action string
		want   []string
	}{
		{RolePerson, "AssumeRole", []string{"AssumeTheRoles"}},
		{RolePerson, "RevokeSecurityGroupIngress", []string{"ChangeTheGroups"}},
		{RolePerson, "AuthorizeSecurityGroupIngress", []string{"MakeOurRules", "ChangeTheGroups"}}, // of the rule, and of the group
		{RolePerson, "CreateTags", []string{"TagWhatIsMade", "TagOurRules"}},
		{RoleAdmin, "CreateTags", []string{"TagWhatIsMade", "TagRules", "TagLists"}},
		{RoleAdmin, "DescribeInstances", []string{"Look"}},
		{RolePerson, "DescribeInstances", nil},
		{RoleAdmin, "RunInstances", nil},
	} {
		var got []string
		for line := range strings.Lines(a.Gives("prod", test.role, test.action)) {
			var s Statement
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				t.Fatal(err)
			}
			got = append(got, s.Sid)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s is given to %s by %q, want %q", test.action, test.role, got, test.want)
		}
	}
}

// allows are the actions that a policy allows.
func allows(t *testing.T, a *Access, role Role) []string {
	t.Helper()
	p, err := a.Policy("", role)
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, s := range p.Statement {
		for _, action := range s.Action {
			actions = append(actions, strings.TrimPrefix(action, "ec2:"))
		}
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

// TestPolicyIsEnough: what the flows of a role call is what its policy allows, no less and
// no more.
func TestPolicyIsEnough(t *testing.T) {
	person := func(t *testing.T, w *world) {
		o := w.open(t, "alice", alices, time.Hour)
		w.open(t, "bob", alices, time.Hour)
		if _, err := w.Renew(t.Context(), w.door(t), o, time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := w.Release(t.Context(), w.door(t), o); err != nil {
			t.Fatal(err)
		}
		if _, failed := w.Who(t.Context(), w.Doors()); len(failed) > 0 {
			t.Fatal(failed)
		}
		if _, err := w.Close(t.Context(), w.Doors(), ""); err != nil {
			t.Fatal(err)
		}
		// Somebody died closing.
		tags := asTags(lease("alice", time.Hour), securitygroup.Mark{ID: "dead", Since: time.Now()})
		tags[securitygroup.TagManaged] = "yes"
		w.add("203.0.113.7/32", tags)
		if err := w.Release(t.Context(), w.door(t), w.open(t, "bob", alices, time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	reaper := func(t *testing.T, w *world) {
		for p, l := range map[string]map[string]string{
			"192.0.2.1/32": asTags(lease("alice", -time.Hour)), "192.0.2.2/32": asTags(lease("alice", time.Hour), lease("bob", -time.Hour)),
		} {
			l[securitygroup.TagManaged] = "yes"
			w.add(p, l)
		}
		if r := w.reap(t); len(r.Revoked) != 1 || !r.Clean() {
			t.Fatalf("%+v", r)
		}
	}
	admin := func(t *testing.T, w *world) {
		person(t, w)
		reaper(t, w)
		config := func(via, addr string) *Access {
			return w.configured(t, `
people:
  alice: {fixed: [`+addr+`], groups: [ops], former: [192.0.2.99]}
targets:
  web-prod: {aws: {region: eu-central-1, group: GROUP, via: `+via+`}, port: 22, allow: [ops], at_most: 8h}
`)
		}
		foreign := w.add("198.51.100.1/32", nil)
		w.add("192.0.2.99/32", nil)
		a := config("rules", "198.51.100.1")
		if _, err := a.Adopt(t.Context(), a.Plan(t.Context(), a.Doors(), nil), []string{foreign}); err != nil {
			t.Fatal(err)
		}
		for _, a := range []*Access{config("rules", "198.51.100.2"), config("prefix_list", "198.51.100.2"), config("prefix_list", "198.51.100.3, 198.51.100.4, 198.51.100.5, 198.51.100.6, 198.51.100.7, 198.51.100.8"), config("rules", "198.51.100.2")} {
			if err := w.apply(t, a).Err(); err != nil {
				t.Fatal(err)
			}
		}
		office := w.server.AddPrefixList(w.here, ec2test.PrefixList{Name: "office", MaxEntries: 1, Entries: []ec2test.Entry{{Prefix: bobs}}})
		w.server.AddRule(w.here, ec2test.Rule{Group: w.group, From: 22, PrefixList: office})
		if hits, failed := a.Where(t.Context(), netip.MustParseAddr("198.51.100.9"), a.Places(), nil); len(hits) != 1 || len(failed) > 0 {
			t.Fatal(hits, failed)
		}
		if found, failed := a.Former(t.Context(), a.Places()); len(found) != 1 || len(failed) > 0 {
			t.Fatal(found, failed)
		}
	}
	for role, flows := range map[Role]func(*testing.T, *world){RolePerson: person, RoleReaper: reaper, RoleAdmin: admin} {
		t.Run(string(role), func(t *testing.T) {
			w := newWorld(t, twoPeople)
			flows(t, w)
			var called []string
			for _, c := range w.server.Calls() {
				called = append(called, c.Action)
			}
			slices.Sort(called)
			called = slices.Compact(called)
			if allowed := allows(t, w.Access, role); !slices.Equal(called, allowed) {
				t.Errorf("called  %q\nallowed %q", called, allowed)
			}
		})
	}
}

// TestPolicyKnowsAllCalls: what can be called at all is in the widest policy.
func TestPolicyKnowsAllCalls(t *testing.T) {
	sources, err := filepath.Glob("../securitygroup/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatal(sources, err)
	}
	allowed := allows(t, newWorld(t, twoPeople).Access, RoleAdmin)
	calls := 0
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\(\*ec2\.Client\)\.(\w+)`).FindAllStringSubmatch(string(text), -1) {
			if calls++; !slices.Contains(allowed, m[1]) {
				t.Errorf("%s calls %s, which the policy of an admin does not allow", path, m[1])
			}
		}
	}
	if calls < 15 {
		t.Errorf("only %d calls were found", calls)
	}
}
