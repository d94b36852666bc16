package trial

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/firewall"
)

func TestPreflight(t *testing.T) {
	japan := public
	japan.Countries.Allow, japan.Rate = []string{"JP"}, firewall.Rate{PerMinute: 2, Burst: 5}
	deny := public
	deny.Countries.Deny = []string{"KP"}
	onRequest := fixed
	onRequest.Exposure = firewall.ExposureOnRequest
	noIPv6 := public
	noIPv6.NoIPv6 = true
	lockdown := japan
	lockdown.Mode, lockdown.Ports = firewall.ModeLockdown, []uint16{22, 51921}
	addrs := set(t, "198.51.100.0/24", "2001:db8:1::/48")

	only := func(a string) func(netip.Addr) bool {
		return func(b netip.Addr) bool { return b == netip.MustParseAddr(a) }
	}
	const refused4, refused6 = "203.0.113.9", "2001:db8::9"
	for _, tt := range []struct {
		name  string
		rules firewall.Rules
		live  firewall.Live
		peers []string
		want  []Refusal
	}{
		{"nobody is asked about", fixed, firewall.Live{}, nil, nil},
		{"admin", fixed, firewall.Live{}, []string{"192.0.2.7", "::ffff:192.0.2.7"}, nil},
		{"this machine", fixed, firewall.Live{}, []string{"127.0.0.1", "::1"}, nil},
		{"public", public, firewall.Live{}, []string{refused4, refused6}, nil},
		{"in the country", japan, firewall.Live{}, []string{"198.51.100.5", "2001:db8:1::5"}, nil},
		{"in the country, lockdown", lockdown, firewall.Live{}, []string{"198.51.100.5", "2001:db8:1::5"}, nil},
		{"granted", onRequest, firewall.Live{Granted: only(refused4)}, []string{refused4}, nil},
		{"granted, of no country", japan, firewall.Live{Granted: only(refused6)}, []string{refused6}, nil},
		{"not denied", deny, firewall.Live{}, []string{refused4, refused6}, nil},

		{"not an admin", fixed, firewall.Live{Granted: only(refused4)}, []string{refused4, "192.0.2.7", refused6, refused4}, []Refusal{
			{netip.MustParseAddr(refused4), "ssh: only admins", "add it to admins: [203.0.113.9], or --force"},
			{netip.MustParseAddr(refused6), "ssh: only admins", "add it to admins: [2001:db8::9], or --force"},
		}},
		{"not granted", onRequest, firewall.Live{}, []string{refused4}, []Refusal{
			{netip.MustParseAddr(refused4), "ssh: only admins, and whoever holds a grant", "add it to admins: [203.0.113.9], or let it in for a while: sekisho open --addr 203.0.113.9, or --force"},
		}},
		{"not in the country", japan, firewall.Live{}, []string{refused4}, []Refusal{
			{netip.MustParseAddr(refused4), "ssh: not in JP", "add it to admins: [203.0.113.9], or its country to firewall.countries (sekisho country lookup 203.0.113.9), or --force"},
		}},
		{"not in the country, lockdown", lockdown, firewall.Live{}, []string{refused6}, []Refusal{
			{netip.MustParseAddr(refused6), "ssh: not in JP", "add it to admins: [2001:db8::9], or its country to firewall.countries (sekisho country lookup 2001:db8::9), or --force"},
		}},
		{"denied", deny, firewall.Live{}, []string{"198.51.100.5"}, []Refusal{
			{netip.MustParseAddr("198.51.100.5"), "ssh: in KP", "add it to admins: [198.51.100.5], or take its country out of firewall.countries.deny (sekisho country lookup 198.51.100.5), or --force"},
		}},
		{"no IPv6", noIPv6, firewall.Live{}, []string{refused4, refused6}, []Refusal{
			{netip.MustParseAddr(refused6), "ssh: SSH is not reached over IPv6", "log in over IPv4, or set firewall.ipv6 to yes, or --force"},
		}},
		{"banned", public, firewall.Live{Banned: only(refused4)}, []string{refused4, refused6}, []Refusal{
			{netip.MustParseAddr(refused4), "raw: banned IPv4 hosts", "it is banned: sekisho unban 203.0.113.9; with admins: [203.0.113.9] it is never banned"},
		}},
		{"banned admin", fixed, firewall.Live{Banned: only("192.0.2.7")}, []string{"192.0.2.7"}, []Refusal{
			{netip.MustParseAddr("192.0.2.7"), "raw: banned IPv4 hosts", "it is banned: sekisho unban 192.0.2.7; with admins: [192.0.2.7] it is never banned"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var peers []netip.Addr
			for _, p := range tt.peers {
				peers = append(peers, netip.MustParseAddr(p))
			}
			next := firewall.State{Ports: tt.rules.Ports, Ruleset: firewall.Ruleset{Generation: 2, Rules: tt.rules, Countries: addrs}}
			got := Preflight(next, tt.live, append(peers, netip.Addr{}))
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestPreflightBansOnly: where no rules are in force, only bans keep anybody out.
func TestPreflightBansOnly(t *testing.T) {
	peer := netip.MustParseAddr("203.0.113.9")
	next := firewall.State{Ports: []uint16{22}, SSHOnly: true}
	if got := Preflight(next, firewall.Live{}, []netip.Addr{peer}); len(got) > 0 {
		t.Errorf("got %+v", got)
	}
	banned := firewall.Live{Banned: func(netip.Addr) bool { return true }}
	if got := Preflight(next, banned, []netip.Addr{peer}); len(got) != 1 {
		t.Errorf("of a banned one: got %+v", got)
	}
}
