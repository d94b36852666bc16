package ec2test_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"

	"sekisho/internal/securitygroup/ec2test"
)

var home = ec2test.Place{Account: ec2test.DefaultAccount, Region: ec2test.DefaultRegion}

// ours is a peer of a server of its own.
func ours(t *testing.T) (*ec2test.Server, *peer) {
	t.Helper()
	s := ec2test.Start(t)
	p := &peer{t: t, ctx: t.Context(), kind: "ours"}
	p.make = func(region, account string) (*ec2.Client, *sts.Client) {
		return clients(t, "ours", s.URL(), region, account, s.Client())
	}
	p.Client, p.sts = p.make("", ec2test.DefaultAccount)
	return s, p
}

// clock is a clock that a test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func clocked(s *ec2test.Server) *clock {
	c := new(clock)
	c.at.Store(time.Date(2026, 11, 22, 16, 0, 0, 0, time.UTC).UnixNano())
	s.SetClock(c.now)
	return c
}

func TestAddressesAndEnvironment(t *testing.T) {
	first, err := ec2test.New(ec2test.Options{})
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(first.URL(), "http://")
	if _, err := ec2test.New(ec2test.Options{Addr: addr}); err == nil || !strings.Contains(err.Error(), "listen for calls of EC2") {
		t.Errorf("a second server on %s: %v", addr, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := ec2test.New(ec2test.Options{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, pair := range s.Environ(ec2test.Place{Account: "210987654321", Region: "eu-west-1"}) {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ec2.NewFromConfig(cfg).DescribeVpcs(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	call := s.Calls()[0]
	if call.Account != "210987654321" || call.Region != "eu-west-1" || call.Code != "" {
		t.Errorf("%+v", call)
	}
}

func TestStaleReads(t *testing.T) {
	s, p := ours(t)
	now := clocked(s)
	s.SetStaleness(5 * time.Second)
	group := s.AddGroup(home, ec2test.Group{})
	now.advance(10 * time.Second)
	rule := p.must(group, ssh("x", "203.0.113.1/32"))[0]
	if err := p.shows(group); err != nil {
		t.Errorf("at once: %v", err)
	}
	if _, err := p.authorize(group, ssh("x", "203.0.113.1/32")); code(err) != "InvalidPermission.Duplicate" {
		t.Errorf("a write was answered by what reads show: %v", err)
	}
	if got := s.Rules(home, group); len(got) != 2 {
		t.Errorf("a view is stale: %v", got)
	}
	now.advance(4 * time.Second)
	if _, err := p.revoke(group, *rule.SecurityGroupRuleId); err != nil {
		t.Fatal(err)
	}
	now.advance(time.Second)
	if err := p.shows(group, "203.0.113.1/32 x"); err != nil {
		t.Errorf("after 5 s: %v", err)
	}
	now.advance(4 * time.Second)
	if err := p.shows(group); err != nil {
		t.Errorf("after 9 s: %v", err)
	}
	s.SetStaleness(0)
}

func TestThrottle(t *testing.T) {
	s, p := ours(t)
	now := clocked(s)
	s.SetThrottle("DescribeVpcs", ec2test.Throttle{Burst: 2, PerSecond: 1})
	ask := func(region string) string {
		c, _ := p.make(region, home.Account)
		_, err := c.DescribeVpcs(p.ctx, nil)
		return code(err)
	}
	got := []string{ask(""), ask(""), ask(""), ask("eu-west-1")}
	now.advance(time.Second)
	got = append(got, ask(""), ask(""))
	want := []string{"accepted", "accepted", "RequestLimitExceeded", "accepted", "accepted", "RequestLimitExceeded"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := p.DescribeRegions(p.ctx, nil); err != nil {
		t.Errorf("another action is throttled: %v", err)
	}
	s.SetThrottle("DescribeVpcs", ec2test.Throttle{})
	if got := ask(""); got != "accepted" {
		t.Errorf("after the throttle: %s", got)
	}
}

func TestFaults(t *testing.T) {
	lost := "Cut"
	for _, test := range []struct {
		name  string
		fault ec2test.Fault
		want  []string // what each of four calls that make a rule was logged as
		rules int      // that are there then, of four
	}{
		{"none", ec2test.Fault{}, []string{"", "", "", ""}, 4},
		{"denied", ec2test.Denied("Authorize*"), slices.Repeat([]string{"UnauthorizedOperation"}, 4), 0},
		{"another action", ec2test.Denied("Describe*"), []string{"", "", "", ""}, 4},
		{"another region", ec2test.Outage("eu-west-1"), []string{"", "", "", ""}, 4},
		{"outage", ec2test.Outage(home.Region), []string{lost, lost, lost, lost}, 0},
		{"lost after success", ec2test.Lost("AuthorizeSecurityGroupIngress"), []string{lost, "", "", ""}, 4},
		{"expired after two", ec2test.Expired(ec2test.KeyOf(home.Account), 2), []string{"", "", "RequestExpired", "RequestExpired"}, 2},
		{"every second, before", ec2test.Fault{Every: 2, Status: 500}, []string{"", "InternalError", "", "InternalError"}, 2},
		{"every second, after", ec2test.Fault{Every: 2, After: true, Status: 503}, []string{"", "Unavailable", "", "Unavailable"}, 4},
		{"the second, once", ec2test.Fault{Skip: 1, Times: 1, Cut: true}, []string{"", lost, "", ""}, 3},
		{"of a code", ec2test.Fault{Account: home.Account, Code: "RequestLimitExceeded"}, slices.Repeat([]string{"RequestLimitExceeded"}, 4), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, p := ours(t)
			group := s.AddGroup(home, ec2test.Group{})
			remove := s.Inject(test.fault)
			for i := range 4 {
				_, err := p.authorize(group, ssh("x", fmt.Sprintf("203.0.113.%d/32", i)))
				if want := test.want[i]; want != lost && want != "" && code(err) != want || (err == nil) != (want == "") {
					t.Errorf("call %d: %v, want %q", i, err, want)
				}
			}
			var got []string
			for _, c := range s.Calls() {
				got = append(got, c.Code)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if n := len(s.Rules(home, group)) - 1; n != test.rules {
				t.Errorf("%d rules are there, want %d", n, test.rules)
			}
			remove()
			if _, err := p.authorize(group, ssh("x", "198.51.100.1/32")); err != nil {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}

func TestFaultOfSTS(t *testing.T) {
	s, p := ours(t)
	s.Inject(ec2test.Expired("", 0))
	_, err := p.sts.GetCallerIdentity(p.ctx, nil)
	if code(err) != "ExpiredToken" {
		t.Error(err)
	}
}

// A change is told before its call is answered, to a watcher that sees it.
func TestOnChange(t *testing.T) {
	s, p := ours(t)
	group := s.AddGroup(home, ec2test.Group{})
	var told []string
	remove := s.OnChange(func(c ec2test.Change) {
		told = append(told, fmt.Sprintf("%s %v %d", c.Action, c.Groups[0] == group, len(s.Rules(c.Place, c.Groups...))))
	})
	rule := p.must(group, ssh("x", "203.0.113.1/32"))[0] // the answer orders what was told and what is read
	_, _ = p.authorize(group, ssh("x", "203.0.113.1/32"))
	if _, err := p.CreateTags(p.ctx, &ec2.CreateTagsInput{Resources: []string{*rule.SecurityGroupRuleId}, Tags: tags("a", "b")}); err != nil {
		t.Fatal(err)
	}
	if err := p.modify(group, *rule.SecurityGroupRuleId, "203.0.113.2/32"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.revoke(group, *rule.SecurityGroupRuleId); err != nil {
		t.Fatal(err)
	}
	s.AddRule(home, ec2test.Rule{Group: group, From: 22, Prefix: netip.MustParsePrefix("203.0.113.3/32")})
	remove()
	p.must(group, ssh("x", "203.0.113.4/32"))
	want := []string{"AuthorizeSecurityGroupIngress true 2", "CreateTags true 2", "ModifySecurityGroupRules true 2", "RevokeSecurityGroupIngress true 1", " true 2"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

// What a fault does is waited for: here each call until all are there.
func TestCallsInFlight(t *testing.T) {
	s, p := ours(t)
	var all sync.WaitGroup
	all.Add(4)
	s.Inject(ec2test.Fault{Do: func(c ec2test.Call) {
		all.Done()
		all.Wait()
	}})
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			if _, err := p.DescribeVpcs(p.ctx, nil); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if n := s.MaxInFlight(); n != 4 {
		t.Errorf("at most %d in flight, want 4", n)
	}
	s.ForgetCalls()
	if n := len(s.Calls()); n != 0 {
		t.Errorf("%d calls are not forgotten", n)
	}
}

func TestLatencyAndTime(t *testing.T) {
	s, p := ours(t)
	now := clocked(s)
	s.SetLatency(30 * time.Millisecond)
	began := time.Now()
	out, err := p.DescribeVpcs(p.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	if at, _ := middleware.GetServerTime(out.ResultMetadata); !at.Equal(now.now()) {
		t.Errorf("the time is %v, want %v", at, now.now())
	}
	if id, ok := middleware.GetRequestIDMetadata(out.ResultMetadata); !ok || len(id) != 36 {
		t.Errorf("the request's id is %q", id)
	}
}

func TestRoles(t *testing.T) {
	s, p := ours(t)
	now := clocked(s)
	const arn = "arn:aws:iam::210987654321:role/team/gate"
	s.AddRole(ec2test.Role{ARN: arn, ExternalID: "secret", Trusts: []string{home.Account}})
	assume := func(c *sts.Client, role, session, external string) (*sts.AssumeRoleOutput, error) {
		return c.AssumeRole(p.ctx, &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: &session, ExternalId: &external, SourceIdentity: aws.String("hanako"), DurationSeconds: aws.Int32(900)})
	}
	_, stranger := p.make("", "333333333333")
	for _, test := range []struct {
		name, role, session, external string
		client                        *sts.Client
		want                          string
	}{
		{"right", arn, "hanako", "secret", p.sts, "accepted"},
		{"wrong external id", arn, "hanako", "guess", p.sts, "AccessDenied"},
		{"no such role", arn + "s", "hanako", "secret", p.sts, "AccessDenied"},
		{"a stranger", arn, "hanako", "secret", stranger, "AccessDenied"},
		{"a name that is none", arn, "hana ko", "secret", p.sts, "ValidationError"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := assume(test.client, test.role, test.session, test.external); code(err) != test.want {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
	out, err := assume(p.sts, arn, "hanako", "secret")
	if err != nil {
		t.Fatal(err)
	}
	lent := func(token string) *ec2.Client {
		return ec2.New(ec2.Options{Region: "eu-west-1", BaseEndpoint: aws.String(s.URL()), Retryer: aws.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, "x", token)})
	}
	s.ForgetCalls()
	if _, err := lent(*out.Credentials.SessionToken).DescribeVpcs(p.ctx, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := s.Calls()[0].Caller, "arn:aws:sts::210987654321:assumed-role/gate/hanako"; got != want {
		t.Errorf("caller is %s, want %s", got, want)
	}
	if _, err := lent("other").DescribeVpcs(p.ctx, nil); code(err) != "AuthFailure" {
		t.Errorf("another token: %v", err)
	}
	now.advance(15 * time.Minute)
	if _, err := lent(*out.Credentials.SessionToken).DescribeVpcs(p.ctx, nil); code(err) != "RequestExpired" {
		t.Errorf("after its end: %v", err)
	}
}

// While a prefix list is being modified, it holds what it held, and takes no other change.
func TestPrefixListSettles(t *testing.T) {
	s, p := ours(t)
	now := clocked(s)
	id := s.AddPrefixList(home, ec2test.PrefixList{MaxEntries: 2, Entries: []ec2test.Entry{{Prefix: netip.MustParsePrefix("203.0.113.1/32")}}})
	s.SetSettling(time.Second)
	add := func(version int64, cidr string) error {
		_, err := p.ModifyManagedPrefixList(p.ctx, &ec2.ModifyManagedPrefixListInput{PrefixListId: &id, CurrentVersion: &version, AddEntries: []types.AddPrefixListEntry{{Cidr: &cidr}}})
		return err
	}
	if err := add(1, "203.0.113.2/32"); err != nil {
		t.Fatal(err)
	}
	if err := add(1, "203.0.113.3/32"); code(err) != "IncorrectState" {
		t.Errorf("a change meanwhile: %v", err)
	}
	if l := s.PrefixLists(home)[0]; l.Version != 1 || len(l.Entries) != 1 {
		t.Errorf("meanwhile: %+v", l)
	}
	now.advance(time.Second)
	if l := s.PrefixLists(home)[0]; l.Version != 2 || len(l.Entries) != 2 {
		t.Errorf("then: %+v", l)
	}
	if err := add(2, "203.0.113.3/32"); code(err) != "PrefixListMaxEntriesExceeded" {
		t.Errorf("one too many: %v", err)
	}
	if err := add(2, "203.0.113.1/32"); code(err) != "InvalidPrefixListModification" {
		t.Errorf("one that is there: %v", err)
	}
	s.SetSettling(0)
	if _, err := p.RestoreManagedPrefixListVersion(p.ctx, &ec2.RestoreManagedPrefixListVersionInput{PrefixListId: &id, CurrentVersion: aws.Int64(2), PreviousVersion: aws.Int64(1)}); err != nil {
		t.Fatal(err)
	}
	if l := s.PrefixLists(home)[0]; l.Version != 3 || len(l.Entries) != 1 {
		t.Errorf("restored: %+v", l)
	}
	// A group that it is too big for keeps it from growing.
	group := s.AddGroup(home, ec2test.Group{}, ec2test.Rule{From: 22, PrefixList: id})
	if _, err := p.ModifyManagedPrefixList(p.ctx, &ec2.ModifyManagedPrefixListInput{PrefixListId: &id, MaxEntries: aws.Int32(61)}); err != nil {
		t.Fatal(err)
	}
	l, err := p.settle(id, made)
	if err != nil || l.State != types.PrefixListStateModifyFailed || *l.MaxEntries != 2 || !strings.Contains(*l.StateMessage, group) {
		t.Errorf("grown too much: %+v, %v", l, err)
	}
}

func TestInstances(t *testing.T) {
	s, p := ours(t)
	group := s.AddGroup(home, ec2test.Group{Name: "web"})
	id := s.AddInstance(home, ec2test.Instance{Groups: []string{group}, Public: netip.MustParseAddr("198.51.100.7"), Tags: map[string]string{"Name": "web-1"}})
	s.AddInstance(home, ec2test.Instance{})
	s.AddInterface(home, ec2test.Interface{Groups: []string{group}, Description: "RDSNetworkInterface"})
	out, err := p.DescribeInstances(p.ctx, &ec2.DescribeInstancesInput{Filters: filter("instance.group-id", group)})
	if err != nil {
		t.Fatal(err)
	}
	i := out.Reservations[0].Instances[0]
	if len(out.Reservations) != 1 || *i.InstanceId != id || *i.PublicIpAddress != "198.51.100.7" || *i.SecurityGroups[0].GroupName != "web" || i.State.Name != types.InstanceStateNameRunning {
		t.Errorf("%+v", i)
	}
	interfaces, err := p.DescribeNetworkInterfaces(p.ctx, &ec2.DescribeNetworkInterfacesInput{Filters: filter("group-id", group)})
	if err != nil {
		t.Fatal(err)
	}
	if n := interfaces.NetworkInterfaces; len(n) != 2 || *n[0].Attachment.InstanceId != id || *n[0].Association.PublicIp != "198.51.100.7" || n[1].Attachment != nil {
		t.Errorf("%+v", n)
	}
	if _, err := p.DeleteSecurityGroup(p.ctx, &ec2.DeleteSecurityGroupInput{GroupId: &group}); code(err) != "DependencyViolation" {
		t.Errorf("a group in use is deleted: %v", err)
	}
}

// fleet seeds 200 groups of 60 rules in each of 4 regions.
func fleet(s *ec2test.Server) {
	for _, region := range []string{"eu-central-1", "eu-west-1", "us-east-1", "us-west-2"} {
		for g := range 200 {
			rules := make([]ec2test.Rule, 60)
			for i := range rules {
				prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(g), byte(i), 1}), 32)
				rules[i] = ec2test.Rule{From: 22, Prefix: prefix, Description: "hanako", Tags: map[string]string{"sekisho:id": fmt.Sprint(g, "-", i), "sekisho:person": "hanako"}}
			}
			s.AddGroup(ec2test.Place{Region: region}, ec2test.Group{}, rules...)
		}
	}
}

func TestFleet(t *testing.T) {
	s, p := ours(t)
	began := time.Now()
	fleet(s)
	seeded := time.Since(began)
	began = time.Now()
	rules, err := p.rules(&ec2.DescribeSecurityGroupRulesInput{MaxResults: aws.Int32(1000)})
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) != 200*60 || len(s.Calls()) != 13 {
		t.Errorf("%d rules by %d calls, want 12000 by 13", len(rules), len(s.Calls()))
	}
	t.Logf("48,000 rules seeded in %v, 12,200 read in %v", seeded, time.Since(began))
	if seeded > 2*time.Second {
		t.Errorf("seeding took %v", seeded)
	}
}

func BenchmarkPage(b *testing.B) {
	s := ec2test.Start(b)
	fleet(s)
	body := "Action=DescribeSecurityGroupRules&Version=2016-11-15&MaxResults=1000"
	for b.Loop() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, request(body))
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}

// request is a signed call.
func request(body string) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+ec2test.KeyOf(home.Account)+"/20261122/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=00")
	return r
}

func TestUnsigned(t *testing.T) {
	s, _ := ours(t)
	for _, header := range []string{"", "Basic eDp5", "AWS4-HMAC-SHA256 Credential=AKIA/20261122/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00"} {
		r := request("Action=DescribeVpcs&Version=2016-11-15")
		r.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized || !bytes.Contains(w.Body.Bytes(), []byte("<Code>AuthFailure</Code>")) {
			t.Errorf("%q: %d %s", header, w.Code, w.Body)
		}
	}
}

// FuzzHandler has anybody say anything: every answer is XML, and none is of a mistake of
// the server's own.
func FuzzHandler(f *testing.F) {
	for _, seed := range []string{
		"", "Action=", "%", "Action=DescribeVpcs&Version=2016-11-15", "Action=AssumeRole&RoleArn=x&RoleSessionName=y&Version=2011-06-15",
		"Action=AuthorizeSecurityGroupIngress&GroupId=sg-00000000000000001&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=22&IpPermissions.1.ToPort=22&IpPermissions.1.IpRanges.1.CidrIp=203.0.113.1/32",
		"Action=AuthorizeSecurityGroupIngress&GroupName=web&IpProtocol=6&FromPort=1&ToPort=2&CidrIp=::/0",
		"Action=RevokeSecurityGroupIngress&GroupId=sg-00000000000000001&SecurityGroupRuleId.1=sgr-00000000000000001",
		"Action=ModifySecurityGroupRules&GroupId=sg-00000000000000001&SecurityGroupRule.1.SecurityGroupRuleId=sgr-00000000000000001&SecurityGroupRule.1.SecurityGroupRule.CidrIpv6=::1/128&SecurityGroupRule.1.SecurityGroupRule.IpProtocol=-1",
		"Action=DescribeSecurityGroupRules&MaxResults=5&NextToken=MC4wLjA=&Filter.1.Name=tag:a&Filter.1.Value.1=*?\\*",
		"Action=DescribeSecurityGroups&Filter.1.Name=egress.ip-permission.cidr&Filter.1.Value.1=0.0.0.0/0",
		"Action=CreateTags&ResourceId.1=sgr-00000000000000001&Tag.1.Key=a&Tag.1.Value=b", "Action=DeleteTags&ResourceId.1=pl-00000000000000001",
		"Action=ModifyManagedPrefixList&PrefixListId=pl-00000000000000001&CurrentVersion=1&AddEntry.1.Cidr=203.0.113.7/32&RemoveEntry.1.Cidr=203.0.113.1/32",
		"Action=GetManagedPrefixListEntries&PrefixListId=pl-00000000000000001&TargetVersion=-1",
		"Action=CreateManagedPrefixList&AddressFamily=IPv6&MaxEntries=3&PrefixListName=x&Entry.1.Cidr=::/0", "Action=DeleteSecurityGroup&GroupId=sg-00000000000000001",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		s := ec2test.Deaf()
		s.AddGroup(home, ec2test.Group{ID: "sg-00000000000000001", Name: "web"}, ec2test.Rule{ID: "sgr-00000000000000001", From: 22, Prefix: netip.MustParsePrefix("203.0.113.1/32")})
		s.AddPrefixList(home, ec2test.PrefixList{ID: "pl-00000000000000001", Entries: []ec2test.Entry{{Prefix: netip.MustParsePrefix("203.0.113.1/32")}}})
		w := httptest.NewRecorder()
		s.ServeHTTP(w, request(body))
		if w.Code >= 500 {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
		if err := wellFormedXML(w.Body.Bytes()); err != nil {
			t.Errorf("%v: %s", err, w.Body)
		}
	})
}
