package daemon

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/access"
	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// cloud is an endpoint with a group in each of two regions, and a daemon that reaps there.
type cloud struct {
	*ec2test.Server
	*following
	here, there ec2test.Place
	groups      map[ec2test.Place]string
}

func newCloud(t *testing.T, more string) *cloud {
	t.Helper()
	c := &cloud{Server: ec2test.Start(t), here: ec2test.Place{Region: "eu-central-1"}, there: ec2test.Place{Region: "ap-northeast-1"}, groups: map[ec2test.Place]string{}}
	for _, p := range []ec2test.Place{c.here, c.there} {
		c.groups[p] = c.AddGroup(p, ec2test.Group{Name: "web"})
	}
	for _, v := range c.Environ(c.here) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	c.following = follow(t, c.config(more, "10s"))
	c.opts.reap = reapTimes{every: 20 * time.Millisecond, backoff: 5 * time.Millisecond, settle: 5 * time.Millisecond}
	return c
}

func (c *cloud) config(more, reap string) string {
	return dryFiles + "log: {source: files, files: [DIR/a]}\n" + more + fmt.Sprintf(`
people: {alice: {groups: [ops]}}
aws: {reap: %s}
targets:
  here: {aws: {region: eu-central-1, group: %s}, allow: [ops]}
  there: {aws: {region: ap-northeast-1, group: %s}, allow: [ops]}
`, reap, c.groups[c.here], c.groups[c.there])
}

// rule puts a rule into a group whose lease ended so long ago.
func (c *cloud) rule(p ec2test.Place, prefix string, ended time.Duration) (id string) {
	tags := securitygroup.ManagedTags()
	key, value := securitygroup.Lease{ID: "alice", Person: "alice", Until: time.Now().Add(-ended)}.Tag()
	tags[key] = value
	return c.AddRule(p, ec2test.Rule{Group: c.groups[p], From: 22, Prefix: netip.MustParsePrefix(prefix), Tags: tags})
}

// has reports whether a rule is there.
func (c *cloud) has(p ec2test.Place, id string) bool {
	return slices.ContainsFunc(c.Rules(p), func(r ec2test.Rule) bool { return r.ID == id })
}

// problems are those of status that speak of any of the words.
func (c *cloud) problems(t *testing.T, words ...string) (found []Problem) {
	t.Helper()
	for _, p := range c.Status(t.Context()).Problems {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(p.What, w) }) {
			found = append(found, p)
		}
	}
	return found
}

// times counts the lines of the log with all of the words.
func (c *cloud) times(words ...string) (n int) {
	for line := range strings.Lines(c.said.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

// TestReap: what is past its end goes in every region, soon after the start and later;
// what is needed and what is not ours stays.
func TestReap(t *testing.T) {
	port := freePort(t)
	c := newCloud(t, fmt.Sprintf("metrics: {listen: 127.0.0.1:%d}", port))
	over, overThere := c.rule(c.here, "203.0.113.7/32", time.Second), c.rule(c.there, "203.0.113.7/32", time.Hour)
	needed := c.rule(c.here, "198.51.100.9/32", -time.Hour)
	foreign := c.AddRule(c.here, ec2test.Rule{Group: c.groups[c.here], From: 22, Prefix: netip.MustParsePrefix("192.0.2.1/32")})
	c.start(t)
	eventually(t, "the first look", func() bool { return !c.has(c.here, over) && !c.has(c.there, overThere) })
	later := c.rule(c.there, "203.0.113.8/32", time.Second)
	eventually(t, "a later look", func() bool { return !c.has(c.there, later) })
	if !c.has(c.here, needed) || !c.has(c.here, foreign) {
		t.Error("a rule is gone that is needed, or not ours")
	}
	for _, want := range []string{"sekisho_reap_revoked_total 3", "sekisho_reap_live_rules 1", "sekisho_reap_overdue_rules 0", "sekisho_reap_stuck_rules 0", "sekisho_reap_failures_total 0", "sekisho_reap_last_look_seconds 0."} {
		eventually(t, want, func() bool { return strings.Contains(scrape(t, port), want) })
	}
	if c.times("is taken away", overThere, "203.0.113.7/32") != 1 {
		t.Errorf("it was not told:\n%s", c.said.String())
	}
	if got := c.problems(t, "past their end", "time is over"); len(got) > 0 {
		t.Errorf("problems: %v", got)
	}
}

// TestReapStuck: a rule that cannot be taken away long after its end is a problem until
// it is gone, told once when that begins and once when it ends; it is tried again and
// again.
func TestReapStuck(t *testing.T) {
	port := freePort(t)
	c := newCloud(t, fmt.Sprintf("metrics: {listen: 127.0.0.1:%d}", port))
	allow := c.Inject(ec2test.Fault{Action: "RevokeSecurityGroupIngress", Region: "eu-central-1", Code: "UnauthorizedOperation"})
	stuck := c.rule(c.here, "203.0.113.7/32", access.StuckAfter+time.Second)
	late := c.rule(c.here, "203.0.113.8/32", time.Second) // is no alarm yet
	other := c.rule(c.there, "203.0.113.9/32", time.Second)
	c.start(t)
	eventually(t, "the other region", func() bool { return !c.has(c.there, other) })
	var found []Problem
	eventually(t, "the problem", func() bool { found = c.problems(t, "past their end"); return len(found) > 0 })
	if w := found[0].What; !strings.Contains(w, stuck) || !strings.Contains(w, "203.0.113.7/32") || !strings.Contains(w, "UnauthorizedOperation") || strings.Contains(w, "203.0.113.8/32") {
		t.Errorf("problem: %s", w)
	}
	if !strings.Contains(found[0].Remedy, "RevokeSecurityGroupIngress") && !strings.Contains(found[0].Remedy, "aws policy") {
		t.Errorf("remedy: %s", found[0].Remedy)
	}
	for _, want := range []string{"sekisho_reap_overdue_rules 2", "sekisho_reap_stuck_rules 1"} {
		eventually(t, want, func() bool { return strings.Contains(scrape(t, port), want) })
	}
	tries := func() (n int) {
		for _, call := range c.Calls() {
			if call.Action == "RevokeSecurityGroupIngress" && call.Code != "" {
				n++
			}
		}
		return n
	}
	eventually(t, "more tries", func() bool { return tries() >= 8 })
	if n := c.times("ERROR", stuck); n != 1 {
		t.Errorf("told %d times:\n%s", n, c.said.String())
	}
	allow()
	eventually(t, "it is gone", func() bool { return !c.has(c.here, stuck) && !c.has(c.here, late) })
	eventually(t, "no problem", func() bool { return len(c.problems(t, "past their end")) == 0 })
	eventually(t, "its end is told", func() bool { return c.times("INFO", "is gone, or needed again", stuck) == 1 })
	eventually(t, "the figure", func() bool { return strings.Contains(scrape(t, port), "sekisho_reap_stuck_rules 0") })
}

// TestReapUnseen: a place that cannot be looked at for long is a problem with its remedy,
// told once when that begins and once when it ends.
func TestReapUnseen(t *testing.T) {
	c := newCloud(t, "")
	c.opts.reap.unseen = 100 * time.Millisecond
	allow := c.Inject(ec2test.Fault{Action: "DescribeSecurityGroupRules", Region: "ap-northeast-1", Code: "UnauthorizedOperation"})
	c.start(t)
	var found []Problem
	eventually(t, "the problem", func() bool { found = c.problems(t, "time is over"); return len(found) > 0 })
	if p := found[0]; !strings.Contains(p.What, "ap-northeast-1") || !strings.Contains(p.Remedy, "ec2:DescribeSecurityGroupRules") || len(found) > 1 {
		t.Errorf("problems: %+v", found)
	}
	calls := len(c.Calls())
	eventually(t, "more tries", func() bool { return len(c.Calls()) > calls+20 })
	if n := c.times("ERROR", "cannot be looked for"); n != 1 {
		t.Errorf("told %d times:\n%s", n, c.said.String())
	}
	allow()
	eventually(t, "no problem", func() bool { return len(c.problems(t, "time is over")) == 0 })
	if n := c.times("INFO", "can be looked for again"); n != 1 {
		t.Errorf("told %d times:\n%s", n, c.said.String())
	}
}

// TestReapReload: a reload begins it, changes it, and ends it with its problems.
func TestReapReload(t *testing.T) {
	c := newCloud(t, "")
	c.set(c.config("", "no"))
	c.Inject(ec2test.Denied("RevokeSecurityGroupIngress"))
	c.rule(c.here, "203.0.113.7/32", time.Hour)
	c.start(t)
	reload := func(config string) {
		t.Helper()
		c.set(config)
		if err := c.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	begun := func(words ...string) int { return c.times(append(words, "past their end are taken out")...) }

	reload(c.config("", "no"))
	if n := len(c.Calls()); n > 0 {
		t.Errorf("%d calls though told not to", n)
	}
	reload(c.config("", "10s"))
	eventually(t, "the problem", func() bool { return len(c.problems(t, "past their end")) == 1 })
	reload(c.config("admins: [192.0.2.9]", "10s")) // which has nothing to do with it
	reload(c.config("", "30s"))
	eventually(t, "the change", func() bool { return begun("every=30s", "places=2") == 1 })
	if n := begun(); n != 2 {
		t.Errorf("begun %d times", n)
	}
	if n := c.times("ERROR", "cannot be taken away"); n != 1 { // it is remembered
		t.Errorf("told %d times", n)
	}
	reload(c.config("", "no"))
	eventually(t, "no problem", func() bool { return len(c.problems(t, "past their end")) == 0 })
	c.ForgetCalls()
	over := c.rule(c.there, "203.0.113.7/32", time.Hour)
	reload(c.config("", "no"))
	if n := len(c.Calls()); n > 0 {
		t.Errorf("%d calls after its end", n)
	}
	reload(c.config("", "10s"))
	eventually(t, "it goes on", func() bool { return len(c.Calls()) > 0 })
	if !c.has(c.there, over) {
		t.Error("a rule is gone though that is denied")
	}
}

// TestWatchReload: a target that a reload brings is watched, also where its place was known
// before, and one that it takes away is not. The reaper itself goes on as it was: it was
// the configuration of its start that was watched.
func TestWatchReload(t *testing.T) {
	c := newCloud(t, "")
	all := netip.MustParsePrefix("0.0.0.0/0")
	later := c.AddGroup(c.here, ec2test.Group{Name: "later"})
	open := c.AddRule(c.here, ec2test.Rule{Group: later, From: 22, Prefix: all})
	c.start(t)
	told := func(rule string) int { return c.times("something is wrong in a security group", rule) }

	before := c.groups[c.here]
	c.groups[c.here] = later
	c.set(c.config("", "10s"))
	if err := c.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the finding", func() bool { return told(open) > 0 })
	left := c.AddRule(c.here, ec2test.Rule{Group: before, From: 22, Prefix: all})
	other := c.AddRule(c.there, ec2test.Rule{Group: c.groups[c.there], From: 22, Prefix: all})
	eventually(t, "the next finding", func() bool { return told(other) > 0 })
	if told(left) > 0 {
		t.Error("a group is watched that no target names any more")
	}
	if n := c.times("past their end are taken out"); n != 1 {
		t.Errorf("begun %d times", n)
	}
}

// TestReapShutdown: the daemon ends at once though AWS does not answer.
func TestReapShutdown(t *testing.T) {
	c := newCloud(t, "")
	waiting := make(chan struct{}, 100)
	c.Inject(ec2test.Fault{Action: "RevokeSecurityGroupIngress", Do: func(ec2test.Call) { waiting <- struct{}{} }})
	c.Inject(ec2test.Fault{Action: "RevokeSecurityGroupIngress", Delay: time.Hour})
	c.rule(c.here, "203.0.113.7/32", time.Hour)
	c.start(t)
	<-waiting
	began := time.Now()
	c.stop()
	err := <-c.done
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	if err != nil {
		t.Error(err)
	}
	c.done <- nil
}

// TestMetricsDocument: docs/metrics.md names what there is, and nothing else, of the
// reaper; and everything that a daemon that reaps says of itself.
func TestMetricsDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\bsekisho_[a-z0-9_]+`)
	told := map[string]bool{}
	for _, n := range name.FindAllString(string(text), -1) {
		told[n] = true
	}
	port := freePort(t)
	c := newCloud(t, fmt.Sprintf("metrics: {listen: 127.0.0.1:%d}", port))
	c.start(t)
	there := map[string]bool{}
	figures := ""
	eventually(t, "the first look", func() bool {
		figures = scrape(t, port)
		return strings.Contains(figures, "sekisho_reap_last_look_seconds")
	})
	for line := range strings.Lines(figures) {
		if n := name.FindString(line); n != "" && strings.HasPrefix(line, n) {
			there[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(n, "_bucket"), "_sum"), "_count")] = true
		}
	}
	for n := range there {
		if !told[n] {
			t.Errorf("docs/metrics.md does not name %s", n)
		}
	}
	reaps := func(names map[string]bool) []string {
		return slices.DeleteFunc(slices.Sorted(maps.Keys(names)), func(n string) bool { return !strings.HasPrefix(n, "sekisho_reap_") })
	}
	if diff := cmp.Diff(reaps(there), reaps(told)); diff != "" {
		t.Errorf("the reaper's figures (-there +told):\n%s", diff)
	}
}
