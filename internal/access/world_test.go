package access

import (
	"context"
	"flag"
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

// world is a cloud with one group that the target web-prod is in, and what the
// configuration says of it.
type world struct {
	*Access
	server *ec2test.Server
	here   ec2test.Place
	group  string
}

const region = "eu-central-1"

var (
	alices = netip.MustParsePrefix("203.0.113.7/32")
	bobs   = netip.MustParsePrefix("198.51.100.9/32")
)

// TestMain gives all tests credentials that ec2test takes.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if raced && !given {
		_ = flag.Set("rapid.checks", "25")
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": ec2test.KeyOf(ec2test.DefaultAccount), "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"} {
		_ = os.Setenv(name, value)
	}
	m.Run()
}

// newWorld makes a world from a configuration in which GROUP stands for the group's id.
func newWorld(t testing.TB, yaml string) *world {
	t.Helper()
	s := ec2test.Start(t)
	w := &world{server: s, here: ec2test.Place{Region: region}}
	w.group = s.AddGroup(w.here, ec2test.Group{Name: "web"})
	w.Access = w.configured(t, yaml)
	return w
}

// configured is another process with its own configuration.
func (w *world) configured(t testing.TB, yaml string) *Access {
	t.Helper()
	cfg, err := config.Parse("sekisho.yaml", []byte("version: 1\n"+strings.ReplaceAll(yaml, "GROUP", w.group)))
	if err != nil {
		t.Fatal(err)
	}
	return &Access{Config: cfg, Cloud: securitygroup.Open(securitygroup.Options{Accounts: cfg.AWS.Accounts, Endpoint: w.server.URL()}), Settle: 20 * time.Millisecond}
}

const twoPeople = `
people:
  alice: {fixed: [], groups: [ops]}
  bob: {groups: [ops]}
targets:
  web-prod: {aws: {region: eu-central-1, group: GROUP}, port: 22, allow: [ops], at_most: 8h}
`

func (w *world) door(t testing.TB) Door {
	t.Helper()
	d, err := w.Door("web-prod")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// rules are what is true of the group.
func (w *world) rules() []securitygroup.Rule {
	var rules []securitygroup.Rule
	for _, r := range w.server.Rules(w.here, w.group) {
		if !r.Egress {
			rules = append(rules, securitygroup.Rule{
				ID: r.ID, Group: r.Group, Description: r.Description, Tags: r.Tags,
				Permission: securitygroup.Permission{Protocol: r.Protocol, From: r.From, To: r.To, Source: securitygroup.Source{Prefix: r.Prefix, PrefixList: r.PrefixList}},
			})
		}
	}
	return rules
}

// lets reports whether the group lets p in to the target's port.
func (w *world) lets(p netip.Prefix) bool {
	return slices.ContainsFunc(w.rules(), func(r securitygroup.Rule) bool { return r.Opens(22) && r.Source.Prefix == p })
}

func (w *world) open(t testing.TB, person string, p netip.Prefix, length time.Duration) Opened {
	t.Helper()
	o, err := w.Open(t.Context(), w.door(t), p, person, person, length, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (w *world) reap(t testing.TB) Reaped {
	t.Helper()
	r := w.Reap(context.WithoutCancel(t.Context()), w.Places())
	if len(r.Failed) > 0 {
		t.Fatal(r.Failed[0].Error)
	}
	return r
}

// asTags are what is written on a rule.
func asTags(all ...tagged) map[string]string {
	tags := map[string]string{}
	for _, t := range all {
		key, value := t.Tag()
		tags[key] = value
	}
	return tags
}
