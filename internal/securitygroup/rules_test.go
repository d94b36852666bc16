package securitygroup

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sekisho/internal/securitygroup/ec2test"
)

func TestRulesInPages(t *testing.T) {
	s, c := begin(t, Options{})
	want := map[string]bool{}
	var groups []string
	for i := range 450 {
		var rules []ec2test.Rule
		for j := range 5 {
			rules = append(rules, ec2test.Rule{From: 22, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i % 250), byte(i/250*5 + j)}), 32), Tags: map[string]string{"sekisho:managed": "yes", "n": fmt.Sprint(j)}})
		}
		groups = append(groups, s.AddGroup(there, ec2test.Group{}, rules...))
	}
	for _, r := range s.Rules(there) {
		if !r.Egress {
			want[r.ID] = true
		}
	}
	for _, tt := range []struct {
		name        string
		q           Query
		rules, asks int
	}{
		{"all", Query{}, 2250, 3},
		{"of groups", Query{Groups: groups}, 2250, 2 + 2 + 1},
		{"of a group twice", Query{Groups: []string{groups[0], groups[0]}}, 5, 1},
		{"with a tag", Query{Groups: groups[:10], Tags: map[string]string{"sekisho:managed": "yes", "n": "3"}}, 10, 1},
		{"of no group", Query{Groups: []string{"sg-0123456789abcdef0"}}, 0, 1},
		{"with a tag that looks like a pattern", Query{Tags: map[string]string{"n": "*"}}, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.ForgetCalls()
			seen := map[string]bool{}
			err := c.Rules(t.Context(), here, tt.q, func(rules []Rule) error {
				for _, r := range rules {
					if seen[r.ID] || !want[r.ID] {
						t.Errorf("%s came twice, or lets out", r.ID)
					}
					seen[r.ID] = true
				}
				return nil
			})
			if err != nil || len(seen) != tt.rules || len(s.Calls()) != tt.asks {
				t.Errorf("%d rules by %d calls, %v, want %d by %d", len(seen), len(s.Calls()), err, tt.rules, tt.asks)
			}
		})
	}
	mine := errors.New("enough")
	s.ForgetCalls()
	if err := c.Rules(t.Context(), here, Query{}, func([]Rule) error { return mine }); err != mine || len(s.Calls()) != 1 { //nolint:errorlint // it is to come as it is
		t.Errorf("%v after %d calls", err, len(s.Calls()))
	}
	all := read(t, c, here, Query{})
	var ids []string
	for _, r := range all[:250] {
		ids = append(ids, r.ID)
	}
	if diff := cmp.Diff(all[:250], read(t, c, here, Query{IDs: append(ids, "sgr-0123456789abcdef0")}), cmpopts.EquateComparable(netip.Prefix{}), cmpopts.SortSlices(func(a, b Rule) bool { return a.ID < b.ID })); diff != "" {
		t.Errorf("by id: -want +got:\n%s", diff)
	}
}

// Whatever can be asked for can be made, read, changed and removed.
func TestChangeRules(t *testing.T) {
	s, c := begin(t, Options{})
	ctx := t.Context()
	list := s.AddPrefixList(there, ec2test.PrefixList{MaxEntries: 2})
	other := s.AddGroup(there, ec2test.Group{})
	for _, tt := range []struct {
		name  string
		p, to Permission
	}{
		{"IPv4", TCP(22, pfx("203.0.113.7/32")), TCP(2222, pfx("203.0.113.8/32"))},
		{"IPv6", TCP(22, pfx("2001:db8::7/128")), TCP(22, pfx("2001:db8::8/128"))},
		{"prefix list", TCP(22, Source{PrefixList: list}), TCP(2222, Source{PrefixList: list})},
		{"group", TCP(22, Source{Group: other}), TCP(2222, Source{Group: other})},
		{"a range", Permission{Protocol: "udp", From: 8000, To: 8100, Source: pfx("198.51.100.0/24")}, TCP(22, pfx("198.51.100.0/25"))},
		{"ICMP", Permission{Protocol: "icmp", From: -1, To: -1, Source: pfx("198.51.100.0/24")}, Permission{Protocol: "icmp", From: 8, To: 0, Source: pfx("198.51.100.0/24")}},
		{"all", Permission{Protocol: "-1", From: -1, To: -1, Source: pfx("0.0.0.0/0")}, TCP(22, pfx("0.0.0.0/0"))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			group := s.AddGroup(there, ec2test.Group{})
			tags := map[string]string{TagManaged: "yes", "Name": "x"}
			made, err := c.Authorize(ctx, here, group, []Permission{tt.p}, "hanako", tags)
			if err != nil || len(made) != 1 {
				t.Fatalf("Authorize: %+v, %v", made, err)
			}
			want := []Rule{{ID: made[0].ID, Group: group, Permission: tt.p, Description: "hanako", Tags: tags}}
			check := func(what string) {
				t.Helper()
				if diff := cmp.Diff(want, read(t, c, here, Query{Groups: []string{group}}), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
					t.Errorf("%s: -want +got:\n%s", what, diff)
				}
			}
			if diff := cmp.Diff(want, made, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("Authorize: -want +got:\n%s", diff)
			}
			check("Authorize")
			if _, err := c.Authorize(ctx, here, group, []Permission{TCP(2222, pfx("192.0.2.1/32")), tt.p}, "saburo", nil); !IsDuplicate(err) {
				t.Errorf("Authorize again: %v", err)
			}
			check("Authorize again")
			if err := c.SetDescription(ctx, here, group, made[0].ID, "hanako +1"); err != nil {
				t.Error(err)
			}
			want[0].Description = "hanako +1"
			check("SetDescription")
			if err := c.Tag(ctx, here, made[0].ID, map[string]string{"Name": "y", "more": ""}); err != nil {
				t.Error(err)
			}
			want[0].Tags = map[string]string{TagManaged: "yes", "Name": "y", "more": ""}
			check("Tag")
			if err := c.UntagIf(ctx, here, made[0].ID, nil); err != nil {
				t.Error(err)
			}
			check("UntagIf of nothing")
			if err := c.UntagIf(ctx, here, made[0].ID, map[string]string{"Name": "x", "more": "", "absent": "z"}); err != nil {
				t.Error(err)
			}
			want[0].Tags = map[string]string{TagManaged: "yes", "Name": "y"}
			check("UntagIf it has another value")
			if err := c.UntagIf(ctx, here, made[0].ID, map[string]string{"Name": "y", "absent": ""}); err != nil {
				t.Error(err)
			}
			want[0].Tags = ManagedTags()
			check("UntagIf")
			if err := c.Modify(ctx, here, group, want); err != nil {
				t.Error(err)
			}
			check("Modify to the same")
			want[0].Permission, want[0].Description = tt.to, "moved"
			if err := c.Modify(ctx, here, group, want); err != nil {
				t.Error(err)
			}
			check("Modify")
			if err := c.Revoke(ctx, here, group, []string{made[0].ID}); err != nil {
				t.Error(err)
			}
			want = nil
			check("Revoke")
			if err := c.Revoke(ctx, here, group, []string{made[0].ID}); !IsNotFound(err) || IsNoGroup(err) {
				t.Errorf("Revoke again: %v", err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	s, c := begin(t, Options{})
	ctx := t.Context()
	p := []Permission{TCP(22, pfx("203.0.113.7/32"))}
	var full []ec2test.Rule
	for i := range 60 {
		full = append(full, ec2test.Rule{From: 22, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 32)})
	}
	group, absent := s.AddGroup(there, ec2test.Group{}, full...), "sg-0123456789abcdef0"
	if _, err := c.Authorize(ctx, here, group, p, "", nil); !IsQuota(err) || Hint(err) == "" {
		t.Errorf("into a full group: %v", err)
	}
	if _, err := c.Authorize(ctx, here, absent, p, "", nil); !IsNoGroup(err) || !IsNotFound(err) {
		t.Errorf("into no group: %v", err)
	}
	if _, err := c.Authorize(ctx, here, "sg-x", p, "", nil); !IsNoGroup(err) || IsNotFound(err) {
		t.Errorf("into what cannot be a group: %v", err)
	}
	s.ForgetCalls()
	if _, err := c.Authorize(ctx, here, group, []Permission{TCP(22, Source{})}, "", nil); err == nil || len(s.Calls()) > 0 {
		t.Errorf("for nobody: %v after %d calls", err, len(s.Calls()))
	}
	if err := c.Modify(ctx, here, group, []Rule{{ID: "sgr-0123456789abcdef0", Permission: TCP(22, Source{})}}); err == nil || len(s.Calls()) > 0 {
		t.Errorf("Modify for nobody: %v after %d calls", err, len(s.Calls()))
	}
	id := s.Rules(there, group)[0].ID
	tags := map[string]string{}
	for i := range MaxTags + 1 {
		tags[fmt.Sprintf("k%d", i)] = "v"
	}
	if err := c.Tag(ctx, here, id, tags); !IsTagLimit(err) || IsQuota(err) {
		t.Errorf("too many tags: %v", err)
	}
}

// What EC2 may say that we would not.
func TestRuleAsSaid(t *testing.T) {
	port := func(n int32) *int32 { return aws.Int32(n) }
	for _, tt := range []struct {
		name string
		said types.SecurityGroupRule
		want Rule
	}{
		{"not canonical", types.SecurityGroupRule{IpProtocol: aws.String("tcp"), FromPort: port(22), ToPort: port(22), CidrIpv4: aws.String("100.68.0.18/18")}, Rule{Permission: TCP(22, pfx("100.68.0.0/18"))}},
		{"IPv6 in its long form", types.SecurityGroupRule{IpProtocol: aws.String("tcp"), FromPort: port(22), ToPort: port(22), CidrIpv6: aws.String("2001:0db8:0:0:0:0:0:7/128")}, Rule{Permission: TCP(22, pfx("2001:db8::7/128"))}},
		{"without ports", types.SecurityGroupRule{IpProtocol: aws.String("-1"), CidrIpv4: aws.String("0.0.0.0/0")}, Rule{Permission: Permission{Protocol: "-1", From: -1, To: -1, Source: pfx("0.0.0.0/0")}}},
		{"no prefix", types.SecurityGroupRule{IpProtocol: aws.String("-1"), CidrIpv4: aws.String("300.1.1.1/32"), Description: aws.String("x")}, Rule{Permission: Permission{Protocol: "-1", From: -1, To: -1}, Description: `source "300.1.1.1/32" not understood; x`}},
		{"no source", types.SecurityGroupRule{IpProtocol: aws.String("-1")}, Rule{Permission: Permission{Protocol: "-1", From: -1, To: -1}, Description: `source "" not understood;`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff([]Rule{tt.want}, inbound([]types.SecurityGroupRule{{IsEgress: aws.Bool(true)}, tt.said}), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// FuzzRuleAsSaid: whatever a source is said to be, the rule is kept, and what was
// understood can be asked for.
func FuzzRuleAsSaid(f *testing.F) {
	f.Add("203.0.113.7/32", "tcp", int32(22), int32(22))
	f.Add("::ffff:203.0.113.7/128", "-1", int32(-1), int32(-1))
	f.Add("fe80::1%eth0/64", "58", int32(0), int32(70000))
	f.Fuzz(func(t *testing.T, cidr, protocol string, from, to int32) {
		got := inbound([]types.SecurityGroupRule{{CidrIpv4: &cidr, IpProtocol: &protocol, FromPort: &from, ToPort: &to}})
		if len(got) != 1 {
			t.Fatalf("%d rules", len(got))
		}
		if got[0].Source == (Source{}) {
			return
		}
		p := got[0].Source.Prefix
		if p != p.Masked() {
			t.Errorf("%v is not canonical", p)
		}
		if _, err := ipPermission(got[0].Permission, ""); err != nil {
			t.Error(err)
		}
	})
}
