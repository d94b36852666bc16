package securitygroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sekisho/internal/config"
	"sekisho/internal/securitygroup/ec2test"
)

var (
	here  = Place{Region: "ap-northeast-1"}
	there = ec2test.Place{Region: "ap-northeast-1"}
)

// environment has the test know nothing of this machine's credentials; names without a
// value are taken away.
func environment(t testing.TB, set ...string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
			_ = os.Unsetenv(name)
		}
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "credentials"))
	for _, entry := range set {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
}

// begin starts an endpoint, and gives a Cloud that finds it by the environment.
func begin(t testing.TB, o Options) (*ec2test.Server, *Cloud) {
	t.Helper()
	s := ec2test.Start(t)
	environment(t, s.Environ(there)...)
	return s, Open(o)
}

func pfx(s string) Source { return Source{Prefix: netip.MustParsePrefix(s)} }

// read is all of what Rules hands over.
func read(t testing.TB, c *Cloud, p Place, q Query) []Rule {
	t.Helper()
	var all []Rule
	if err := c.Rules(t.Context(), p, q, func(rules []Rule) error { all = append(all, rules...); return nil }); err != nil {
		t.Fatalf("rules of %v: %v", p, err)
	}
	return all
}

func count(s *ec2test.Server, action, code string) int {
	n := 0
	for _, call := range s.Calls() {
		if (action == "" || call.Action == action) && call.Code == code {
			n++
		}
	}
	return n
}

func TestInFlight(t *testing.T) {
	s, c := begin(t, Options{})
	s.SetLatency(20 * time.Millisecond)
	var wg sync.WaitGroup
	for region := range 4 {
		p := Place{Region: fmt.Sprintf("eu-west-%d", region+1)}
		for range 20 {
			wg.Go(func() {
				if _, err := c.Groups(t.Context(), p, nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if got := s.MaxInFlight(); got > inFlight {
		t.Errorf("%d calls were in flight, at most %d are wanted", got, inFlight)
	}
	if got := len(s.Calls()); got != 80 {
		t.Errorf("%d calls for 80", got)
	}
}

// The credentials of a call are got by a call: that one must not wait for the first.
func TestInFlightOfOneWithRole(t *testing.T) {
	s, c := begin(t, Options{InFlight: 1, Accounts: map[string]config.Account{"prod": {Role: prodRole}}})
	s.AddRole(ec2test.Role{ARN: prodRole})
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if _, err := c.Groups(t.Context(), Place{Account: "prod", Region: fmt.Sprintf("eu-west-%d", i%3+1)}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, roles := s.MaxInFlight(), count(s, "AssumeRole", ""); got != 1 || roles != 1 {
		t.Errorf("%d calls were in flight, and the role was assumed %d times", got, roles)
	}
}

// A call that found no slot ends with its context, and leaves the slots as they were.
func TestInFlightEndsWithContext(t *testing.T) {
	s, c := begin(t, Options{InFlight: 1})
	entered, leave := make(chan struct{}), make(chan struct{})
	remove := s.Inject(ec2test.Fault{Times: 1, Do: func(ec2test.Call) { close(entered); <-leave }})
	defer remove()
	done := make(chan error, 1)
	go func() { _, err := c.Groups(t.Context(), here, nil); done <- err }()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, p := range []Place{here, {Region: "eu-west-1"}} {
		if _, err := c.Groups(ctx, p, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("a call whose context has ended: %v", err)
		}
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := c.Groups(t.Context(), here, nil); err != nil {
		t.Error(err)
	}
}

// The bucket is of EC2's size for calls that change something. 200 groups are asked for at
// once; each refused call is one too many.
func TestThrottled(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	s, c := begin(t, Options{})
	s.SetThrottle("", ec2test.Throttle{Burst: 50, PerSecond: 20})
	began := time.Now()
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, err := c.Groups(t.Context(), here, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seconds := map[int]int{}
	for _, call := range s.Calls() {
		if call.Code == "RequestLimitExceeded" {
			seconds[int(call.When.Sub(began).Seconds())]++
		}
	}
	took, refused := time.Since(began), count(s, "", "RequestLimitExceeded")
	t.Logf("200 calls took %v, %d were refused, by second: %v", took.Round(time.Millisecond), refused, seconds)
	for second, n := range seconds {
		if n > inFlight {
			t.Errorf("%d calls were refused in second %d", n, second)
		}
	}
	if refused > 30 {
		t.Errorf("%d calls were refused for 200 that were wanted", refused)
	}
}

func TestNow(t *testing.T) {
	s, c := begin(t, Options{})
	off := 5 * time.Minute
	s.SetClock(func() time.Time { return time.Now().Add(off) })
	if got, heard := c.Now(here); heard || time.Since(got) > time.Minute {
		t.Errorf("before an answer: %v, heard %v", got, heard)
	}
	if _, err := c.Groups(t.Context(), here, nil); err != nil {
		t.Fatal(err)
	}
	got, heard := c.Now(here)
	behind := time.Now().Add(off).Sub(got)
	if !heard || behind < 0 || behind > time.Second+500*time.Millisecond {
		t.Errorf("Now is %v behind AWS's clock (heard %v), want 0 to 1 s and the way", behind, heard)
	}
	if _, heard := c.Now(Place{Region: "eu-west-1"}); heard {
		t.Error("a place has heard of another's clock")
	}
	// Errors have a Date too.
	off = -time.Hour
	s.Inject(ec2test.Denied("DescribeSecurityGroups"))
	if _, err := c.Groups(t.Context(), here, nil); !IsDenied(err) {
		t.Fatal(err)
	}
	if got, _ := c.Now(here); time.Since(got) < 59*time.Minute {
		t.Errorf("after an error: %v", got)
	}
}

// EC2 says RequestExpired where the clock is wrong, and also where the session is over.
func TestClockSkew(t *testing.T) {
	s, c := begin(t, Options{})
	s.SetClock(func() time.Time { return time.Now().Add(20 * time.Minute) })
	s.Inject(ec2test.Fault{Code: "RequestExpired", Message: "Request has expired.", Times: 1})
	if _, err := c.Groups(t.Context(), here, nil); err != nil {
		t.Errorf("the clock's error was not corrected: %v", err)
	}
	s.ForgetCalls()
	s.Inject(ec2test.Fault{Code: "RequestExpired", Message: "Request has expired."})
	_, err := c.Groups(t.Context(), here, nil)
	if !IsExpired(err) || len(s.Calls()) != 2 {
		t.Errorf("a session that is over, too: %v after %d calls", err, len(s.Calls()))
	}
	if got, want := Hint(err), "set this machine's clock: it is 20m"; !strings.HasPrefix(got, want) && !strings.HasPrefix(got, "set this machine's clock: it is 19m59s") {
		t.Errorf("hint %q, want %q...", got, want)
	}
}

func TestIdentity(t *testing.T) {
	_, c := begin(t, Options{})
	got, err := c.Identity(t.Context(), here)
	want := Identity{Account: ec2test.DefaultAccount, ARN: "arn:aws:iam::" + ec2test.DefaultAccount + ":user/test"}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

// An answer that is lost: what was asked for is there, and the call that is made again
// meets it.
func TestAnswerLost(t *testing.T) {
	s, c := begin(t, Options{})
	group := s.AddGroup(there, ec2test.Group{})
	lease := TCP(22, pfx("203.0.113.7/32"))
	s.Inject(ec2test.Lost("AuthorizeSecurityGroupIngress"))
	if _, err := c.Authorize(t.Context(), here, group, []Permission{lease}, "hanako", ManagedTags()); !IsDuplicate(err) {
		t.Errorf("Authorize: %v, want a duplicate", err)
	}
	rules := read(t, c, here, Query{Groups: []string{group}, Tags: ManagedTags()})
	if len(rules) != 1 || rules[0].Permission != lease {
		t.Fatalf("rules %+v", rules)
	}
	s.Inject(ec2test.Lost("RevokeSecurityGroupIngress"))
	if err := c.Revoke(t.Context(), here, group, []string{rules[0].ID}); !IsNotFound(err) || IsNoGroup(err) {
		t.Errorf("Revoke: %v, want not found", err)
	}
	if rules := read(t, c, here, Query{}); len(rules) > 0 {
		t.Errorf("rules %+v", rules)
	}
}

// An attempt that is not answered ends, and the next one is.
func TestAttemptTimesOut(t *testing.T) {
	s, c := begin(t, Options{attempt: 100 * time.Millisecond})
	s.AddGroup(there, ec2test.Group{Name: "web"})
	s.Inject(ec2test.Fault{Times: 2, Delay: time.Minute})
	groups, err := c.Groups(t.Context(), here, nil)
	if err != nil || len(groups) != 1 {
		t.Errorf("%v, %v", groups, err)
	}
}

func TestUnreachable(t *testing.T) {
	s, c := begin(t, Options{attempt: 50 * time.Millisecond})
	s.Inject(ec2test.Fault{Region: here.Region, Delay: time.Minute})
	remove := s.Inject(ec2test.Outage("eu-west-1"))
	_, err := c.Groups(t.Context(), Place{Region: "eu-west-1"}, nil)
	if n := count(s, "DescribeSecurityGroups", "Cut"); !IsUnreachable(err) || n != attempts {
		t.Errorf("%v after %d calls, want unreachable after %d", err, n, attempts)
	}
	remove()
	t.Setenv("AWS_MAX_ATTEMPTS", "2")
	c = Open(Options{attempt: 50 * time.Millisecond})
	_, err = c.Groups(t.Context(), here, nil)
	if !IsUnreachable(err) || !strings.Contains(err.Error(), "did not answer in time") || Hint(err) == "" {
		t.Errorf("%v, hint %q", err, Hint(err))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err = c.Groups(ctx, here, nil); !errors.Is(err, context.DeadlineExceeded) || IsUnreachable(err) {
		t.Errorf("%v", err)
	}
	_ = s.Close()
	if _, err = c.Groups(t.Context(), here, nil); !IsUnreachable(err) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v", err)
	}
}

func TestDenied(t *testing.T) {
	s, c := begin(t, Options{})
	group := s.AddGroup(there, ec2test.Group{})
	s.Inject(ec2test.Denied("Authorize*"))
	_, err := c.Authorize(t.Context(), here, group, []Permission{TCP(22, pfx("203.0.113.7/32"))}, "", nil)
	if !IsDenied(err) || len(s.Calls()) != 1 {
		t.Errorf("%v after %d calls", err, len(s.Calls()))
	}
	if strings.Contains(err.Error(), "Encoded") || !strings.HasPrefix(err.Error(), "ap-northeast-1: AuthorizeSecurityGroupIngress "+group+": UnauthorizedOperation: You are not authorized") {
		t.Errorf("text %q", err)
	}
	if got, want := Hint(err), "let the policy of the account allow ec2:AuthorizeSecurityGroupIngress on "+group; got != want {
		t.Errorf("hint %q, want %q", got, want)
	}
}

func TestLogged(t *testing.T) {
	var log bytes.Buffer
	s, c := begin(t, Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	s.Inject(ec2test.Fault{Status: 500, Times: 1})
	if _, err := c.Groups(t.Context(), here, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`msg="called AWS"`, "action=DescribeSecurityGroups", "region=ap-northeast-1", "request=", "attempts=2", "took="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s: %s", want, log.String())
		}
	}
}

func TestGroups(t *testing.T) {
	s, c := begin(t, Options{})
	var want []Group
	var ids []string
	for i := range 450 {
		g := Group{Name: fmt.Sprintf("web-%d", i), VPC: ec2test.DefaultVPC, Owner: ec2test.DefaultAccount, Tags: map[string]string{"team": "a"}}
		g.ID = s.AddGroup(there, ec2test.Group{Name: g.Name, Tags: g.Tags})
		want, ids = append(want, g), append(ids, g.ID)
	}
	for name, asked := range map[string][]string{"all": nil, "by id": ids, "twice": append(slices.Clone(ids), ids[0])} {
		got, err := c.Groups(t.Context(), here, asked)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.SortSlices(func(a, b Group) bool { return a.ID < b.ID })); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	got, err := c.Groups(t.Context(), here, []string{"sg-0123456789abcdef0"})
	if err != nil || len(got) != 0 {
		t.Errorf("a group that is not there: %v, %v", got, err)
	}
}

func TestInstances(t *testing.T) {
	s, c := begin(t, Options{})
	web, db := s.AddGroup(there, ec2test.Group{}), s.AddGroup(there, ec2test.Group{})
	id := s.AddInstance(there, ec2test.Instance{Groups: []string{web, db}, Tags: map[string]string{"Name": "web-1"}})
	s.AddInstance(there, ec2test.Instance{Groups: []string{db}})
	got, err := c.Instances(t.Context(), here, []string{web})
	groups := []string{web, db}
	slices.Sort(groups)
	if diff := cmp.Diff([]Instance{{ID: id, Name: "web-1", State: "running", Groups: groups}}, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if got, err := c.Instances(t.Context(), here, nil); got != nil || err != nil {
		t.Errorf("of no groups: %v, %v", got, err)
	}
}
