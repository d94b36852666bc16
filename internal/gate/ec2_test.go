package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/notify"
	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// cloud is a gate in front of ec2test, with a ledger or without.
type cloud struct {
	*Gate
	ec2   *ec2test.Server
	here  ec2test.Place
	group string
	log   *lockedBuffer
	ahead atomic.Int64 // its clock, before ours
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newCloud(t *testing.T, stateless bool) *cloud {
	t.Helper()
	c := &cloud{ec2: ec2test.Start(t), here: ec2test.Place{Region: "eu-central-1"}, log: &lockedBuffer{}}
	c.group = c.ec2.AddGroup(c.here, ec2test.Group{Name: "web"}, ec2test.Rule{Protocol: "tcp", From: 22, To: 22, Prefix: netip.MustParsePrefix("192.0.2.1/32"), Description: "by hand"})
	cfg := parse(t, strings.Replace(strings.ReplaceAll(doors, "sg-0123456789abcdef0", c.group), "\npeople:", "\naws: {endpoint: '"+c.ec2.URL()+"'}\npeople:", 1))
	now := func() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }
	o := Options{Now: now, Config: func() *config.Config { return cfg }, Settle: 20 * time.Millisecond, Logger: slog.New(slog.NewJSONHandler(c.log, nil)), Notify: func(notify.Event) {}}
	if !stateless {
		l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "state", "gate.db"), ledger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
		o.Ledger, o.Alone = l, true
	}
	c.Gate = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// lets are who is let in by our rules: "203.0.113.7/32 hanako taro".
func (c *cloud) lets() []string {
	res := []string{}
	for _, r := range c.ec2.Rules(c.here, c.group) {
		ours, is := (securitygroup.Rule{Tags: r.Tags}).Ours()
		if !is {
			continue
		}
		text := r.Prefix.String()
		var people []string
		for _, l := range ours.Leases {
			people = append(people, l.Person)
		}
		slices.Sort(people)
		res = append(res, strings.TrimSpace(text+" "+strings.Join(people, " ")))
	}
	slices.Sort(res)
	return res
}

func (c *cloud) want(t *testing.T, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, c.lets()); diff != "" {
		t.Errorf("let in (-want +got):\n%s", diff)
	}
}

// Both kinds of gate do the same to the groups.
func TestGroupsOfEC2(t *testing.T) {
	for _, tt := range []struct {
		name      string
		stateless bool
	}{{"with a ledger", false}, {"without", true}} {
		t.Run(tt.name, func(t *testing.T) {
			c, ctx := newCloud(t, tt.stateless), t.Context()
			a, err := c.Open(ctx, hanako, "web", api.OpenRequest{Seconds: 600})
			if err != nil || a.State != api.Open || !strings.HasPrefix(a.Rule, "sgr-") || time.Until(a.Until) < 595*time.Second {
				t.Fatalf("got %+v, %v", a, err)
			}
			c.want(t, "203.0.113.7/32 hanako")
			b, err := c.Open(ctx, taro, "web", api.OpenRequest{Seconds: 1200})
			if err != nil || b.ID == a.ID || !slices.Equal(b.Shared, []string{"hanako"}) || len(b.Warnings) == 0 || b.Rule != a.Rule {
				t.Errorf("got %+v, %v", b, err)
			}
			c.want(t, "203.0.113.7/32 hanako taro")
			if !tt.stateless { // else what is asked twice may be two leases
				again, err := c.Open(ctx, hanako, "web", api.OpenRequest{Seconds: 1800})
				if err != nil || again.ID != a.ID || !again.Until.After(a.Until) {
					t.Errorf("got %+v, %v", again, err)
				}
				a.Until = again.Until
			}
			longer, err := c.Extend(ctx, hanako, a.ID, api.ExtendRequest{Seconds: 3600})
			if err != nil || longer.ID != a.ID || !longer.Until.After(a.Until) {
				t.Errorf("got %+v, %v", longer, err)
			}
			_, err = c.Extend(ctx, taro, a.ID, api.ExtendRequest{})
			refuses(t, "another's", err, api.NotFound)
			_, err = c.Close(ctx, taro, a.ID)
			refuses(t, "another's", err, api.NotFound)
			if mine, err := c.Grants(ctx, hanako, false); err != nil || len(mine) != 1 || mine[0].ID != a.ID || !slices.Equal(mine[0].Shared, []string{"taro"}) {
				t.Errorf("got %+v, %v", mine, err)
			}
			if all, err := c.Grants(ctx, ann, true); err != nil || len(all) != 2 {
				t.Errorf("got %+v, %v", all, err)
			}
			if doors, err := c.Doors(ctx, lea); err != nil || len(doors) != 3 || len(doors[2].Grants) != 2 {
				t.Errorf("got %+v, %v", doors, err)
			}
			if got, err := c.Gate.Grant(ctx, hanako, a.ID); err != nil || got.State != api.Open {
				t.Errorf("got %+v, %v", got, err)
			}
			if e, err := c.Close(ctx, hanako, a.ID); err != nil || e.State != api.Ended || e.Why != "closed" {
				t.Errorf("got %+v, %v", e, err)
			}
			c.want(t, "203.0.113.7/32 taro")
			if e, err := c.Close(ctx, ann, b.ID); err != nil || e.State != api.Ended {
				t.Errorf("got %+v, %v", e, err)
			}
			c.want(t)

			// By a rule that is not ours it is open already.
			hand := hanako
			hand.From = netip.MustParseAddr("192.0.2.1")
			f, err := c.Open(ctx, hand, "web", api.OpenRequest{})
			if err != nil || !f.Foreign || len(f.Warnings) == 0 {
				t.Errorf("got %+v, %v", f, err)
			}
			if !tt.stateless {
				if e, err := c.Close(ctx, hand, f.ID); err != nil || e.State != api.Ended {
					t.Errorf("got %+v, %v", e, err)
				}
			}
			if rules := c.ec2.Rules(c.here, c.group); !slices.ContainsFunc(rules, func(r ec2test.Rule) bool { return r.Description == "by hand" }) {
				t.Errorf("what is not ours is gone: %+v", rules)
			}
		})
	}
}

func TestStateless(t *testing.T) {
	c, ctx := newCloud(t, true), t.Context()
	if !c.Stateless() {
		t.Error("it is not")
	}
	_, err := c.Open(ctx, hanako, "db", api.OpenRequest{Reason: "x"})
	refuses(t, "that needs approval", err, api.Forbidden)
	_, err = c.Open(ctx, hanako, "box", api.OpenRequest{})
	refuses(t, "a host", err, api.Forbidden)
	_, err = c.Open(ctx, otto, "web", api.OpenRequest{})
	refuses(t, "whom it is not for", err, api.NotAllowed)
	const lease = "abcdefghij0123456789"
	a, err := c.Open(ctx, hanako, "web", api.OpenRequest{Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := c.Open(ctx, taro, "web", api.OpenRequest{Lease: lease}); err != nil || b.ID == a.ID {
		t.Errorf("two people have one lease: %+v, %v", b, err)
	}
	var entries []api.Entry
	for l := range strings.Lines(c.log.String()) {
		var record struct {
			Msg   string    `json:"msg"`
			Audit api.Entry `json:"audit"`
		}
		if err := json.Unmarshal([]byte(l), &record); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		if record.Msg == "audit" {
			entries = append(entries, record.Audit)
		}
	}
	var whats []string
	for _, e := range entries {
		whats = append(whats, e.What)
		if e.At.IsZero() || e.Who == "" || e.Target == "" {
			t.Errorf("got %+v", e)
		}
	}
	if diff := cmp.Diff([]string{"open.refused", "open.refused", "open", "opened", "open", "opened"}, whats); diff != "" {
		t.Error(diff)
	}

	// All that needs a state says so.
	for name, err := range map[string]error{
		"Approve":       second(c.Approve(ctx, lea, a.ID, api.AnswerRequest{})),
		"AddPerson":     second(c.AddPerson(ctx, ann, api.PersonEdit{Name: "x"})),
		"DeletePerson":  c.DeletePerson(ctx, ann, "x"),
		"Invite":        second(c.Invite(ctx, ann, "hanako")),
		"Disable":       second(c.Disable(ctx, ann, "hanako", api.DisableRequest{})),
		"Enable":        second(c.Enable(ctx, ann, "hanako")),
		"EditTarget":    second(c.EditTarget(ctx, ann, "x", api.TargetEdit{})),
		"DeleteTarget":  c.DeleteTarget(ctx, ann, "x"),
		"Hosts":         second(c.Hosts(ctx, ann)),
		"AddHost":       second(c.AddHost(ctx, ann, "x")),
		"DeleteHost":    c.DeleteHost(ctx, ann, "x"),
		"Audit":         second(c.Audit(ctx, ann, Filter{})),
		"AuditAll":      c.AuditAll(ctx, ann, nil),
		"Verify":        second(c.Verify(ctx, ann)),
		"Handle":        second(c.Handle(ctx, "hanako")),
		"PersonBy":      second(c.PersonByHandle(ctx, nil)),
		"Passkey":       second(c.Passkey(ctx, nil)),
		"AddPasskey":    c.AddPasskey(ctx, hanako, Passkey{}, ""),
		"UsedPasskey":   c.UsedPasskey(ctx, Passkey{}),
		"DeletePasskey": c.DeletePasskey(ctx, hanako, "hanako", nil),
		"Begin":         c.Begin(ctx, Ceremony{}),
		"Finish":        second(c.Finish(ctx, "", "")),
		"Claim":         c.Claim(ctx, "", "", netip.Addr{}),
		"Enrol":         second(c.Enrol(ctx, newKey(t, 1), api.EnrolRequest{}, netip.Addr{})),
		"HostOfKey":     second(c.HostOfKey(ctx, newKey(t, 1), netip.Addr{})),
		"HostOfTicket":  second(c.HostOfTicket(ctx, "")),
		"Stream":        second(c.Stream(ctx, box1)),
		"Report":        c.Report(ctx, box1, api.Report{}),
	} {
		refuses(t, name, err, api.Forbidden)
	}
	if _, _, needed, err := c.FirstAdministrator(ctx); needed || err != nil {
		t.Errorf("an administrator is needed: %v, %v", needed, err)
	}
	if people, err := c.People(ctx, ann); err != nil || len(people) != 5 {
		t.Errorf("got %+v, %v", people, err)
	}
	if targets, err := c.Targets(ctx, ann); err != nil || len(targets) != 3 || !targets[0].Declared {
		t.Errorf("got %+v, %v", targets, err)
	}
	for i, want := range []bool{true, false} {
		if fresh, err := c.UseNonce(ctx, [32]byte{1}, time.Now().Add(time.Minute)); err != nil || fresh != want {
			t.Errorf("use %d: %v, %v", i, fresh, err)
		}
	}
	var n nonces
	for i := range maxNonces {
		if _, err := n.use([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, time.Unix(0, 0), time.Unix(60, 0)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = n.use([32]byte{31: 1}, time.Unix(0, 0), time.Unix(60, 0))
	refuses(t, "one more", err, api.Busy)
	if fresh, err := n.use([32]byte{31: 1}, time.Unix(61, 0), time.Unix(90, 0)); !fresh || err != nil || len(n.m) != 1 {
		t.Errorf("when they are over: %v, %v, %d", fresh, err, len(n.m))
	}
}

func second[T any](_ T, err error) error { return err }

// What EC2 says is told so that people know whose turn it is.
func TestErrorsOfEC2(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault ec2test.Fault
		says  string
	}{
		{"denied", ec2test.Denied("AuthorizeSecurityGroupIngress"), "does not let the gate"},
		{"expired", ec2test.Fault{Action: "AuthorizeSecurityGroupIngress", Code: "ExpiredToken"}, "no valid credentials"},
		{"full", ec2test.Fault{Action: "AuthorizeSecurityGroupIngress", Code: "RulesPerSecurityGroupLimitExceeded"}, "no room"},
		{"no group", ec2test.Fault{Action: "AuthorizeSecurityGroupIngress", Code: "InvalidGroup.NotFound"}, "not there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCloud(t, false)
			c.ec2.Inject(tt.fault)
			_, err := c.Open(t.Context(), hanako, "web", api.OpenRequest{})
			refuses(t, tt.name, err, api.Unreachable)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "sg-") {
				t.Errorf("it says %v", err)
			}
			c.want(t)
		})
	}
}

// An answer that is lost, and throttling, are nothing that people see.
func TestLostAnswers(t *testing.T) {
	c := newCloud(t, false)
	c.ec2.Inject(ec2test.Lost("AuthorizeSecurityGroupIngress"))
	o, err := c.Open(t.Context(), hanako, "web", api.OpenRequest{})
	if err != nil || o.State != api.Open {
		t.Fatalf("got %+v, %v", o, err)
	}
	c.want(t, "203.0.113.7/32 hanako")
	c.ec2.Inject(ec2test.Lost("RevokeSecurityGroupIngress"))
	if o, err = c.Close(t.Context(), hanako, o.ID); err != nil || o.State != api.Ended {
		t.Errorf("got %+v, %v", o, err)
	}
	c.want(t)
}

// What a dead gate opened for a grant that others had ended meanwhile is found by its tag.
func TestReconcile(t *testing.T) {
	c, ctx := newCloud(t, false), t.Context()
	o, err := c.Open(ctx, hanako, "web", api.OpenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Close(ctx, hanako, o.ID); err != nil {
		t.Fatal(err)
	}
	stray := securitygroup.Lease{ID: o.ID, Person: "hanako", Until: time.Now().Add(time.Hour)}
	others := securitygroup.Lease{ID: "taro-laptop", Person: "taro", Until: time.Now().Add(time.Hour)} // without the gate
	tags := securitygroup.ManagedTags()
	for _, l := range []securitygroup.Lease{stray, others} {
		key, value := l.Tag()
		tags[key] = value
	}
	c.ec2.AddRule(c.here, ec2test.Rule{Group: c.group, Protocol: "tcp", From: 22, To: 22, Prefix: o.Prefix, Tags: tags})
	if err := c.reconcile(ctx); err != nil {
		t.Fatal(err)
	}
	c.want(t, "203.0.113.7/32 hanako taro") // it is too early to say
	c.ahead.Store(int64(2 * claimTime))
	if err := c.reconcile(ctx); err != nil {
		t.Fatal(err)
	}
	c.want(t, "203.0.113.7/32 taro")
}
