package trial

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sekisho/internal/firewall"
	"sekisho/internal/prefixset"
)

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b []string
		want []Change
	}{
		{"nothing", nil, nil, nil},
		{"the same", []string{"1", "2"}, []string{"1", "2"}, nil},
		{"added in the middle", []string{"1", "3"}, []string{"1", "2", "3"}, []Change{{Add, "ssh", "2"}}},
		{"removed at the end", []string{"1", "2"}, []string{"1"}, []Change{{Remove, "ssh", "2"}}},
		{"changed: what goes comes first", []string{"1", "2", "3"}, []string{"1", "x", "3"}, []Change{{Remove, "ssh", "2"}, {Add, "ssh", "x"}}},
		{"moved", []string{"1", "2", "3"}, []string{"2", "3", "1"}, []Change{{Remove, "ssh", "1"}, {Add, "ssh", "1"}}},
		{"twice", []string{"1", "1"}, []string{"1"}, []Change{{Remove, "ssh", "1"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, compare("ssh", tt.a, tt.b)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestCompareProperty: taking the removed lines out of a, and putting the added
// ones in, makes b, and no shorter list of changes does.
func TestCompareProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2", "3", "4"}), 0, 8)
		a, b := lines.Draw(t, "a"), lines.Draw(t, "b")
		changes := compare("ssh", a, b)
		if !makes(a, b, changes) {
			t.Fatalf("%v does not become %v by %v", a, b, changes)
		}
		if want := len(a) + len(b) - 2*common(a, b); len(changes) != want {
			t.Fatalf("%d changes, %d are enough", len(changes), want)
		}
	})
}

// makes reports whether the changes, in their order, make b of a.
func makes(a, b []string, changes []Change) bool {
	if len(a) > 0 && len(b) > 0 && a[0] == b[0] && makes(a[1:], b[1:], changes) {
		return true
	}
	switch {
	case len(changes) == 0:
		return len(a) == 0 && len(b) == 0
	case changes[0].Op == Remove:
		return len(a) > 0 && a[0] == changes[0].Text && makes(a[1:], b, changes[1:])
	}
	return len(b) > 0 && b[0] == changes[0].Text && makes(a, b[1:], changes[1:])
}

// common is the length of the longest common subsequence, by trying all of a's.
func common(a, b []string) (most int) {
	for mask := range 1 << len(a) {
		rest, n := b, 0
		for i, line := range a {
			if mask&(1<<i) == 0 {
				continue
			}
			at := slices.Index(rest, line)
			if at < 0 {
				n = -1
				break
			}
			rest, n = rest[at+1:], n+1
		}
		most = max(most, n)
	}
	return most
}

func TestChains(t *testing.T) {
	line := func(chains ...string) (lines []firewall.Line) {
		for _, c := range chains {
			lines = append(lines, firewall.Line{Chain: c, Text: "a rule"})
		}
		return lines
	}
	for _, tt := range []struct {
		name            string
		now, next, want []string
	}{
		{"none", nil, nil, nil},
		{"of next", nil, []string{"raw", "input", "raw"}, []string{"raw", "input"}},
		{"of now", []string{"raw", "ssh"}, nil, []string{"raw", "ssh"}},
		{"gone from the middle", []string{"raw", "forward", "ssh"}, []string{"raw", "ssh"}, []string{"raw", "forward", "ssh"}},
		{"gone from the end", []string{"raw", "ssh", "forward", "rawout"}, []string{"raw", "ssh"}, []string{"raw", "ssh", "forward", "rawout"}},
		{"all others", []string{"a", "b"}, []string{"c"}, []string{"a", "b", "c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, was, will := chains(line(tt.now...), line(tt.next...))
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			n := 0
			for _, name := range got {
				n += len(was[name]) + len(will[name])
			}
			if n != len(tt.now)+len(tt.next) {
				t.Errorf("%d lines, want %d", n, len(tt.now)+len(tt.next))
			}
		})
	}
}

func set(t testing.TB, prefixes ...string) prefixset.Set {
	t.Helper()
	var list []netip.Prefix
	for _, p := range prefixes {
		list = append(list, netip.MustParsePrefix(p))
	}
	s, err := prefixset.Of(list...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDiff is a plan as people read it.
func TestDiff(t *testing.T) {
	japan := public
	japan.Countries.Allow = []string{"JP"}
	state := func(generation uint32, r firewall.Rules) firewall.State {
		return firewall.State{Ports: r.Ports, Ruleset: firewall.Ruleset{Generation: generation, Rules: r, Countries: set(t, "198.51.100.0/24")}}
	}
	for _, tt := range []struct {
		name      string
		now, next firewall.State
		want      []Change
	}{
		{"the same", state(1, japan), state(2, japan), nil},
		{"countries", state(1, public), state(2, japan), []Change{{Add, "ssh", "drop: not in JP"}}},
		{"exposure", state(1, japan), state(2, fixed), []Change{
			{Remove, "ssh", "pass: whoever holds a grant"},
			{Remove, "ssh", "drop: not in JP"},
			{Remove, "ssh", "pass: everyone else"},
			{Add, "ssh", "pass: admin 192.0.2.7"},
			{Add, "ssh", "drop: only admins"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Diff(tt.now, tt.next)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	first := Diff(firewall.State{Ports: []uint16{22}}, state(1, japan))
	if len(first) == 0 {
		t.Error("the first rule set changes nothing")
	}
	for _, c := range first {
		if c.Op != Add {
			t.Errorf("the first rule set: %+v", c)
		}
	}
}

func TestDiffOfAddresses(t *testing.T) {
	rules := public
	rules.Countries.Allow = []string{"JP", "KR"}
	state := func(generation uint32, addrs prefixset.Set) firewall.State {
		return firewall.State{Ports: []uint16{22}, Ruleset: firewall.Ruleset{Generation: generation, Rules: rules, Countries: addrs}}
	}
	now := state(1, set(t, "192.0.2.0/24", "2001:db8::/48"))
	next := state(2, set(t, "192.0.2.0/25", "198.51.100.0/24", "2001:db8::/47"))
	want := []Change{{Op: Modify, Text: "addresses of JP, KR: 256 IPv4 addresses and 65536 IPv6 networks (/64) more; 128 IPv4 addresses and 0 IPv6 networks (/64) fewer"}}
	if diff := cmp.Diff(want, Diff(now, next)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := Diff(now, state(2, now.Ruleset.Countries)); len(got) > 0 {
		t.Errorf("of the same: %v", got)
	}
}

func TestSettings(t *testing.T) {
	first := firewall.Rules{
		Mode: firewall.ModeGuard, Ports: []uint16{22}, Exposure: firewall.ExposurePublic,
		Admins: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}, Countries: firewall.Countries{Allow: []string{"JP"}}, Rate: firewall.Rate{PerMinute: 2, Burst: 5},
	}
	second := firewall.Rules{
		Mode: firewall.ModeLockdown, Ports: []uint16{22, 51921}, Exposure: firewall.ExposureFixed,
		Admins: []netip.Prefix{netip.MustParsePrefix("2001:db8::/48")}, Countries: firewall.Countries{Deny: []string{"KP"}},
		NoTrack: true, NoIPv6: true, Forward: true,
		Open: []firewall.Service{
			{Proto: "tcp", First: 80, Last: 80},
			{Proto: "udp", First: 60000, Last: 60010, From: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.9/32")}},
		},
	}
	opened := second
	opened.Open = opened.Open[:1]
	for _, tt := range []struct {
		name      string
		now, next firewall.Rules
		want      []Change
	}{
		{"the same", first, first, nil},
		{"the first", firewall.Rules{}, first, []Change{
			{Op: Add, Text: "firewall.mode: guard"},
			{Op: Add, Text: "exposure: public"},
			{Op: Add, Text: "ssh.port: + 22"},
			{Op: Add, Text: "admins: + 192.0.2.7"},
			{Op: Add, Text: "firewall.countries: + JP"},
			{Op: Add, Text: "firewall.rate: {per_minute: 2, burst: 5}"},
			{Op: Add, Text: "firewall.track: yes"},
			{Op: Add, Text: "firewall.ipv6: yes"},
			{Op: Add, Text: "firewall.forward: no"},
		}},
		{"all of it", first, second, []Change{
			{Op: Modify, Text: "firewall.mode: guard -> lockdown"},
			{Op: Modify, Text: "exposure: public -> fixed"},
			{Op: Add, Text: "ssh.port: + 51921"},
			{Op: Remove, Text: "admins: - 192.0.2.7"},
			{Op: Add, Text: "admins: + 2001:db8::/48"},
			{Op: Remove, Text: "firewall.countries: - JP"},
			{Op: Add, Text: "firewall.countries.deny: + KP"},
			{Op: Modify, Text: "firewall.rate: {per_minute: 2, burst: 5} -> no"},
			{Op: Modify, Text: "firewall.track: yes -> no"},
			{Op: Modify, Text: "firewall.ipv6: yes -> no"},
			{Op: Add, Text: "firewall.open: + 80/tcp"},
			{Op: Add, Text: "firewall.open: + 60000-60010/udp from 198.51.100.0/24, 203.0.113.9"},
			{Op: Modify, Text: "firewall.forward: no -> yes"},
		}},
		{"one port less", second, opened, []Change{{Op: Remove, Text: "firewall.open: - 60000-60010/udp from 198.51.100.0/24, 203.0.113.9"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Settings(tt.now, tt.next)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
