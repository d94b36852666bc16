package daemon

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/firewall"
)

func parsed(t *testing.T, source string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("test", []byte("version: 1\n"+source))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

var comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func TestRulesOf(t *testing.T) {
	prefixes := func(texts ...string) (out []netip.Prefix) {
		for _, s := range texts {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	tests := []struct {
		name, source string
		want         firewall.Rules
	}{
		{"nothing said", "", firewall.Rules{
			Mode: firewall.ModeGuard, Ports: []uint16{22}, Exposure: firewall.ExposurePublic, Rate: firewall.Rate{PerMinute: 2, Burst: 5},
		}},
		{
			"all said", `ssh: {port: [2222, 22]}
admins: [198.51.100.10, 192.0.2.0/24]
exposure: public
firewall:
  mode: lockdown
  open: [443/tcp, 80/tcp]
  countries: [JP, DE]
  rate: {per_minute: 6, burst: 9}
  track: no
  ipv6: off
  forward: yes
`, firewall.Rules{
				Mode: firewall.ModeLockdown, Ports: []uint16{22, 2222}, Exposure: firewall.ExposurePublic,
				Admins:    prefixes("192.0.2.0/24", "198.51.100.10/32"),
				Countries: firewall.Countries{Allow: []string{"DE", "JP"}},
				Rate:      firewall.Rate{PerMinute: 6, Burst: 9},
				NoTrack:   true, NoIPv6: true, Forward: true,
				Open: []firewall.Service{{Proto: "tcp", First: 80, Last: 80}, {Proto: "tcp", First: 443, Last: 443}},
			},
		},
		{
			"what makes no difference", "admins: [192.0.2.7]\nexposure: fixed\nfirewall: {mode: guard, countries: [JP]}\n",
			firewall.Rules{Mode: firewall.ModeGuard, Ports: []uint16{22}, Exposure: firewall.ExposureFixed, Admins: prefixes("192.0.2.7/32")},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := RulesOf(parsed(t, test.source))
			if diff := cmp.Diff(test.want, got, comparePrefixes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := got.Validate(); err != nil {
				t.Errorf("not valid: %v", err)
			}
		})
	}
}

// TestOneRuleOfBothFamilies: what counts once for IPv4 and once for IPv6 is one; what lets in
// is not what drops.
func TestOneRuleOfBothFamilies(t *testing.T) {
	f := FirewallStatus{Counters: []CounterStatus{
		{"input", "ssh", false, 1, 60}, {"raw", "bans", true, 2, 80}, {"raw", "bans", true, 3, 120}, {"input", "ssh", true, 4, 240}, {"input", "ssh", false, 5, 300},
	}}
	want := []CounterStatus{{"input", "ssh", false, 6, 360}, {"raw", "bans", true, 5, 200}, {"input", "ssh", true, 4, 240}}
	if diff := cmp.Diff(want, f.Rules()); diff != "" {
		t.Error(diff)
	}
}
