package firewall

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestValidate(t *testing.T) {
	valid := Rules{
		Mode: ModeLockdown, Ports: []uint16{22}, Exposure: ExposurePublic, Admins: prefixes("10.0.0.0/8"), Rate: Rate{2, 5},
		Countries: Countries{Allow: []string{"JP"}}, Open: []Service{{"tcp", 80, 80, nil}, {"udp", 1, 65535, prefixes("::1/128")}}, Forward: true,
	}
	if err := valid.Validate(); err != nil {
		t.Error(err)
	}
	open := func(s Service) func(*Rules) { return func(r *Rules) { r.Open = []Service{s} } }
	for _, tt := range []struct {
		name   string
		change func(*Rules)
		want   string // "" : no error
	}{
		{"zero value", func(r *Rules) { *r = Rules{} }, `mode ""`},
		{"mode", func(r *Rules) { r.Mode = "open" }, `it is "guard" or "lockdown"`},
		{"exposure", func(r *Rules) { r.Exposure = "all" }, `it is "fixed", "on_request" or "public"`},
		{"no port", func(r *Rules) { r.Ports = nil }, "no port of SSH"},
		{"port 0", func(r *Rules) { r.Ports = []uint16{0, 22} }, "port 0"},
		{"ports", func(r *Rules) { r.Ports = make([]uint16, 17) }, "at most 16"},
		{"nobody", func(r *Rules) { r.Exposure, r.Admins = ExposureFixed, nil }, "lets nobody in"},
		{"nobody by IPv4", func(r *Rules) { r.Exposure, r.Admins, r.NoIPv6 = ExposureFixed, prefixes("2001:db8::/32"), true }, "nobody is let in"},
		{"nobody yet", func(r *Rules) { r.Exposure, r.Admins = ExposureOnRequest, nil }, ""},
		{"admin with bits", func(r *Rules) { r.Admins = prefixes("10.0.0.1/8") }, "the prefix is 10.0.0.0/8"},
		{"admin, mapped", func(r *Rules) { r.Admins = prefixes("::ffff:10.0.0.1/128") }, "written as IPv6"},
		{"admin, zero", func(r *Rules) { r.Admins = make([]netip.Prefix, 1) }, "not a prefix"},
		{"everyone is admin", func(r *Rules) { r.Admins = prefixes("0.0.0.0/0") }, "that is everyone"},
		{"too many admins", func(r *Rules) { r.Admins = slices.Repeat(prefixes("10.0.0.1/32"), 4097) }, "at most 4096"},
		{"allow and deny", func(r *Rules) { r.Countries.Deny = []string{"US"} }, "name one kind"},
		{"code", func(r *Rules) { r.Countries.Allow = []string{"jp"} }, "two capitals"},
		{"long code", func(r *Rules) { r.Countries.Allow = []string{"JPN"} }, "two capitals"},
		{"no rate", func(r *Rules) { r.Rate = Rate{} }, ""},
		{"no burst", func(r *Rules) { r.Rate.Burst = 0 }, "1 to 10000"},
		{"no rate but a burst", func(r *Rules) { r.Rate.PerMinute = 0 }, "1 to 10000"},
		{"rate", func(r *Rules) { r.Rate.PerMinute = 10_001 }, "1 to 10000"},
		{"negative rate", func(r *Rules) { r.Rate.PerMinute = -1 }, "1 to 10000"},
		{"guard opens nothing", func(r *Rules) { r.Mode, r.Forward = ModeGuard, false }, "open: mode guard"},
		{"guard forwards nothing", func(r *Rules) { r.Mode, r.Open = ModeGuard, nil }, "forward: mode guard"},
		{"protocol", open(Service{"sctp", 1, 1, nil}), "it is tcp or udp"},
		{"open 0", open(Service{"tcp", 0, 1, nil}), "1 to 65535"},
		{"backwards", open(Service{"tcp", 90, 80, nil}), "lower port"},
		{"SSH", open(Service{"tcp", 22, 22, nil}), "SSH's own port"},
		{"SSH's port of UDP", open(Service{"udp", 22, 22, nil}), ""},
		{"from, with bits", open(Service{"tcp", 80, 80, prefixes("10.0.0.1/8")}), "from 10.0.0.1/8: the prefix is 10.0.0.0/8"},
		{"from everywhere", open(Service{"tcp", 80, 80, prefixes("::/0")}), "open to everyone"},
		{"too many", open(Service{"tcp", 80, 80, slices.Repeat(prefixes("10.0.0.1/32"), 1025)}), "at most 1024"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := valid
			tt.change(&r)
			err := r.Validate()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCanonical(t *testing.T) {
	got := Rules{
		Ports: []uint16{2222, 22, 2222}, Admins: prefixes("2001:db8::1/32", "10.0.0.1/8", "10.0.0.0/8"), Countries: Countries{Allow: []string{"US", "JP", "US"}},
		Open: []Service{{"udp", 53, 53, nil}, {"tcp", 80, 80, prefixes("10.1.0.9/16", "10.0.0.1/32")}, {"udp", 53, 53, nil}},
	}.Canonical()
	want := Rules{
		Ports: []uint16{22, 2222}, Admins: prefixes("10.0.0.0/8", "2001:db8::/32"), Countries: Countries{Allow: []string{"JP", "US"}},
		Open: []Service{{"tcp", 80, 80, prefixes("10.0.0.1/32", "10.1.0.0/16")}, {"udp", 53, 53, nil}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("canonical (-want +got):\n%s", diff)
	}
}
