package securitygroup

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTagsOfALease(t *testing.T) {
	now := time.Date(2026, 11, 29, 19, 0, 0, 0, time.UTC)
	a := Lease{ID: "aaaa", Person: "hanako", Until: now.Add(time.Minute)}
	b := Lease{ID: "bbbb", Person: "ichiro", Until: now.Add(-time.Second)}
	tags := ManagedTags()
	for _, l := range []Lease{a, b} {
		key, value := l.Tag()
		tags[key] = value
	}
	tags[tagLease+"cccc"] = "tomorrow ichiro"
	tags[TagFixed] = "hanako saburo"
	key, value := Mark{"reaper", now}.Tag()
	tags[key] = value
	tags["Name"] = "somebody else's"
	p := TCP(22, Source{Prefix: netip.MustParsePrefix("203.0.113.7/32")})
	tags[TagSource] = p.String()
	r := Rule{Permission: p, Tags: tags}

	got, ok := r.Ours()
	want := Ours{Fixed: []string{"hanako", "saburo"}, Leases: []Lease{b, a}, Broken: []string{tagLease + "cccc"}, Source: "203.0.113.7/32 22/tcp", Ending: []Mark{{"reaper", now}}}
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("Ours: %v, -want +got:\n%s", ok, diff)
	}
	if diff := cmp.Diff([]Lease{a}, got.Live(now)); diff != "" {
		t.Errorf("Live: -want +got:\n%s", diff)
	}
	if !got.Until().Equal(a.Until) {
		t.Errorf("Until = %v, want %v", got.Until(), a.Until)
	}
	if got.Altered(r) {
		t.Error("the rule as it was made is called altered")
	}
	r.Source.Prefix = netip.MustParsePrefix("0.0.0.0/0")
	if !got.Altered(r) {
		t.Error("a rule that was widened by hand is not called altered")
	}
	for name, tags := range map[string]map[string]string{"none": nil, "managed by whom": {TagManaged: "no"}, "a lease alone": {tagLease + "x": tags[tagLease+"aaaa"]}} {
		if _, ok := (Rule{Tags: tags}).Ours(); ok {
			t.Errorf("a rule with other tags (%s) is called ours", name)
		}
	}
}

func TestPermissionOpens(t *testing.T) {
	for _, tt := range []struct {
		name  string
		p     Permission
		opens bool
		text  string
	}{
		{"the port", TCP(22, Source{}), true, "22/tcp"},
		{"a range", Permission{Protocol: "tcp", From: 20, To: 30}, true, "20-30/tcp"},
		{"another port", TCP(2222, Source{}), false, "2222/tcp"},
		{"all", Permission{Protocol: "-1", From: -1, To: -1}, true, "all"},
		{"all of TCP", Permission{Protocol: "tcp", From: -1, To: -1}, true, "tcp"},
		{"by number", Permission{Protocol: "6", From: 0, To: 65535}, true, "0-65535/6"},
		{"udp", Permission{Protocol: "udp", From: 22, To: 22}, false, "22/udp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.p.Opens(22); got != tt.opens {
				t.Errorf("Opens(22) = %v, want %v", got, tt.opens)
			}
			if got := tt.p.Ports(); got != tt.text {
				t.Errorf("Ports = %q, want %q", got, tt.text)
			}
		})
	}
}

// FuzzTags: whoever may tag a rule writes what we read.
func FuzzTags(f *testing.F) {
	f.Add("yes", "hanako", "2026-11-29T19:00:00Z hanako", "2026-11-29T19:00:00Z")
	f.Add("yes", "", "2026-11-29T19:00:00Z", "x")
	f.Fuzz(func(t *testing.T, m, fixed, lease, closing string) {
		o, ok := readTags(map[string]string{TagManaged: m, TagFixed: fixed, tagLease + "id": lease, tagMark + "x": closing})
		if ok != (m == managed) {
			t.Errorf("ours: %v for %q", ok, m)
		}
		for _, l := range o.Leases {
			key, value := l.Tag()
			again, _ := readTags(map[string]string{TagManaged: managed, key: value})
			if diff := cmp.Diff([]Lease{l}, again.Leases, cmpopts.EquateApproxTime(time.Second)); diff != "" {
				t.Errorf("written and read again: -was +is:\n%s", diff)
			}
		}
	})
}
