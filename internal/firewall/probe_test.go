package firewall

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Linux 4.15 refuses sets that are bounded and time out: bans were refused with
// them. What needs none of them works there, and what does is named.
func TestWithoutDynamicSets(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	k.features = features{noDynamic: true}
	state, next := changedState(t)
	state.Ruleset.Rules.Rate, next.Rules.Rate = Rate{}, Rate{}
	must(t, k.Ensure(t.Context(), state))
	ban(t, k, Ban{prefix("192.0.2.1/32"), time.Hour})
	must(t, k.Stage(t.Context(), next))
	must(t, k.Arm(t.Context(), time.Hour))
	intact(t, k)
	if _, err := k.Seen(t.Context(), netip.MustParseAddrPort("192.0.2.1:1")); err == nil || !strings.Contains(err.Error(), "confirm --force") {
		t.Errorf("seen: %v", err)
	}
	must(t, k.Confirm(t.Context()))
	if out := n.run(t, "nft", "-t", "list", "table", "inet", "sekisho"); strings.Contains(out, "dynamic") || strings.Contains(out, "@seen") {
		t.Errorf("the kernel was given what it has not:\n%s", out)
	}

	next.Generation++
	next.Rules.Exposure, next.Rules.Rate = ExposurePublic, Rate{PerMinute: 2, Burst: 5}
	for what, err := range map[string]error{
		"stage":  k.Stage(t.Context(), next),
		"ensure": k.Ensure(t.Context(), State{Ports: []uint16{22}, Ruleset: next}),
	} {
		if err == nil || !strings.Contains(err.Error(), "firewall.rate: no") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
