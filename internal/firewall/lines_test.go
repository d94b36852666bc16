package firewall

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"pgregory.net/rapid"
)

func written(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s: %s\n", l.Chain, l.Text)
	}
	return b.String()
}

func TestLines(t *testing.T) {
	s := State{Ports: []uint16{22}, SSHOnly: true, Ruleset: Ruleset{
		Generation: 4, Countries: setOf(t, "192.0.2.0/24"),
		Rules: Rules{
			Mode: ModeLockdown, Ports: []uint16{22, 2222}, Exposure: ExposurePublic, Admins: prefixes("198.51.100.10/32", "2001:db8:1::/48"),
			Countries: Countries{Allow: []string{"JP", "US"}}, Rate: Rate{2, 5}, NoTrack: true, Open: []Service{{"tcp", 80, 80, nil}},
		},
	}}
	golden(t, "lines.txt", written(s.Lines()))
}

// A comment longer than nft shows would be an error of the kernel, or cut.
func TestCommentsFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, c := range desired(State{Ruleset: Ruleset{Generation: MaxGeneration, Rules: drawRules(t)}}, nil, all).chains {
			if len(c.Name) > 15 {
				t.Fatalf("chain %s has %d characters", c.Name, len(c.Name))
			}
			for _, r := range c.rules {
				if n := len(comment(r)); n == 0 || n > 127 {
					t.Fatalf("comment %q has %d characters", comment(r), n)
				}
			}
		}
	})
}

// drawRules draws valid, canonical rules.
func drawRules(t *rapid.T) Rules {
	r := Rules{
		Mode:     rapid.SampledFrom([]Mode{ModeGuard, ModeLockdown}).Draw(t, "mode"),
		Exposure: rapid.SampledFrom([]Exposure{ExposureFixed, ExposureOnRequest, ExposurePublic}).Draw(t, "exposure"),
		Ports:    rapid.SliceOfN(rapid.SampledFrom([]uint16{22, 2222, 51921}), 1, 3).Draw(t, "ports"),
		Admins:   rapid.SliceOfN(rapid.SampledFrom(prefixes("10.0.0.2/32", "10.1.0.0/16", "2001:db8::2/128", "2001:db8:5::/48")), 1, 3).Draw(t, "admins"),
		NoTrack:  rapid.Bool().Draw(t, "notrack"),
		NoIPv6:   rapid.Bool().Draw(t, "noipv6"),
	}
	codes := rapid.SliceOfN(rapid.StringMatching("[A-Z]{2}"), 0, 40).Draw(t, "codes")
	if rapid.Bool().Draw(t, "deny") {
		r.Countries.Deny = codes
	} else {
		r.Countries.Allow = codes
	}
	if rapid.Bool().Draw(t, "limited") {
		r.Rate = Rate{rapid.IntRange(1, 60).Draw(t, "rate"), rapid.IntRange(1, 60).Draw(t, "burst")}
	}
	if r.Mode == ModeLockdown {
		r.Forward = rapid.Bool().Draw(t, "forward")
		for range rapid.IntRange(0, 3).Draw(t, "open") {
			s := Service{Proto: rapid.SampledFrom([]string{"tcp", "udp"}).Draw(t, "proto"), First: rapid.Uint16Range(80, 90).Draw(t, "first")}
			s.Last = s.First + rapid.Uint16Range(0, 3).Draw(t, "more")
			s.From = rapid.SliceOfN(rapid.SampledFrom(prefixes("10.1.0.0/16", "10.0.0.3/32", "2001:db8:7::/48")), 0, 2).Draw(t, "from")
			r.Open = append(r.Open, s)
		}
	}
	r = r.Canonical()
	if r.Exposure == ExposureFixed && r.NoIPv6 {
		r.Admins = prefixes("10.0.0.2/32")
	}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	return r
}

// Rules with equal lines judge alike; what differs in the rules differs in the
// lines.
func TestLinesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := func(r Rules) State { return State{Ports: r.Ports, Ruleset: Ruleset{Generation: 1, Rules: r}} }
		a, b := state(drawRules(t)), state(drawRules(t))
		equal := slices.Equal(a.Lines(), b.Lines())
		same := true
		la, lb := desired(a, nil, all), desired(b, nil, all)
		for _, c := range la.chains {
			o := lb.chain(c.Name)
			same = same && o != nil && slices.EqualFunc(c.rules, o.rules, sameRule)
		}
		for _, s := range la.sets {
			o := lb.set(s.Name)
			same = same && o != nil && slices.Equal(s.ports, o.ports) && slices.Equal(s.ranges, o.ranges)
		}
		same = same && len(la.chains) == len(lb.chains) && len(la.sets) == len(lb.sets)
		if equal != same {
			t.Fatalf("lines equal: %v, rules equal: %v\n%s", equal, same, cmp.Diff(written(a.Lines()), written(b.Lines())))
		}
		if !slices.Equal(a.Lines(), state(a.Ruleset.Rules.Canonical()).Lines()) {
			t.Fatal("canonical rules are other rules")
		}
	})
}

func sameRule(a, b *nftables.Rule) bool {
	x, errX := canonicalExprs(a.Exprs)
	y, errY := canonicalExprs(b.Exprs)
	return errX == nil && errY == nil && bytes.Equal(x, y) && bytes.Equal(a.UserData, b.UserData)
}
