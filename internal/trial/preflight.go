package trial

import (
	"fmt"
	"net/netip"
	"slices"

	"sekisho/internal/firewall"
)

// Refusal is why a rule set must not be tried: whom it would lock out, and by
// which rule.
type Refusal struct {
	Peer netip.Addr `json:"peer"`
	Rule string     `json:"rule"`
	Hint string     `json:"hint"`
}

const (
	protoTCP = 6
	flagSYN  = 0x02
	anyPort  = 50_000 // that a client may come from
)

// Preflight asks for each peer whether next still lets it open a new SSH
// connection, to any of its ports, by running the rules. A peer that is no address
// or this machine itself is not asked about. Pure.
func Preflight(next firewall.State, live firewall.Live, peers []netip.Addr) []Refusal {
	var refusals []Refusal
	var asked []netip.Addr
	for _, peer := range peers {
		peer = peer.Unmap().WithZone("")
		if !peer.IsValid() || peer.IsLoopback() || slices.Contains(asked, peer) {
			continue
		}
		asked = append(asked, peer)
		if j, in := letsIn(next, live, peer); !in {
			refusals = append(refusals, Refusal{Peer: peer, Rule: ruleOf(j), Hint: hintFor(next, live, peer)})
		}
	}
	return refusals
}

// letsIn reports whether peer reaches one of SSH's ports, and else who stands in
// the way to the first of them.
func letsIn(next firewall.State, live firewall.Live, peer netip.Addr) (first firewall.Judgement, in bool) {
	ports := next.Ruleset.Rules.Ports
	if next.Ruleset.Generation == 0 {
		ports = next.Ports
	}
	for i, port := range ports {
		j := next.Judge(firewall.Packet{From: peer, FromPort: anyPort, ToPort: port, Proto: protoTCP, Flags: flagSYN}, live)
		if j.Verdict == firewall.Pass {
			return j, true
		}
		if i == 0 {
			first = j
		}
	}
	return first, len(ports) == 0 // no port that could be closed
}

func ruleOf(j firewall.Judgement) string {
	text := j.Rule
	switch {
	case text == "" && j.Verdict == firewall.Unknown:
		text = "a rule that cannot be judged"
	case text == "":
		text = "no rule lets it in"
	}
	if j.Chain != "" {
		text = j.Chain + ": " + text
	}
	return text
}

// hintFor says how peer would be let in.
func hintFor(next firewall.State, live firewall.Live, peer netip.Addr) string {
	r := next.Ruleset.Rules
	admins := fmt.Sprintf("admins: [%s]", peer)
	const force = ", or --force"
	switch {
	case live.Banned != nil && live.Banned(peer):
		return fmt.Sprintf("it is banned: sekisho unban %s; with %s it is never banned", peer, admins)
	case r.NoIPv6 && peer.Is6():
		return "log in over IPv4, or set firewall.ipv6 to yes" + force
	case r.Exposure == firewall.ExposureFixed:
		return "add it to " + admins + force
	case r.Exposure == firewall.ExposureOnRequest:
		return fmt.Sprintf("add it to %s, or let it in for a while: sekisho open --addr %s%s", admins, peer, force)
	case len(r.Countries.Allow) > 0 && !next.Ruleset.Countries.Contains(peer):
		return fmt.Sprintf("add it to %s, or its country to firewall.countries (sekisho country lookup %s)%s", admins, peer, force)
	case len(r.Countries.Deny) > 0 && next.Ruleset.Countries.Contains(peer):
		return fmt.Sprintf("add it to %s, or take its country out of firewall.countries.deny (sekisho country lookup %s)%s", admins, peer, force)
	}
	return "add it to " + admins + force
}
