package firewall

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"go4.org/netipx"
)

// Packet is the first packet of a connection, as Judge is asked about it.
type Packet struct {
	From, To         netip.Addr // To may be zero: this host; a network's broadcast address is taken for a host's
	FromPort, ToPort uint16
	Proto            uint8 // IPPROTO_TCP, IPPROTO_UDP, ...
	Flags            uint8 // TCP's, in the order of its header; SYN is 0x02
	Loopback         bool  // comes in by lo
}

// Verdict is what becomes of a packet.
type Verdict uint8

// The verdicts. The zero value is Unknown: something in the way cannot be judged.
const (
	Unknown Verdict = iota
	Pass
	Drop
	Reject
)

// Judgement is a verdict and whose it is.
type Judgement struct {
	Verdict Verdict
	Chain   string // without the generation; "" where no rule spoke
	Rule    string // the comment of the rule that decided
}

// Live is what a judgement needs to know of the sets that are not in the State.
// A nil func knows nobody.
type Live struct {
	Banned  func(netip.Addr) bool
	Granted func(netip.Addr) bool
}

// Judge is what the rules that s asks for do with p, found by running the very
// expressions that the kernel is given. A rate limit counts as not yet reached,
// and p as no part of a connection that is older than the rules, nor as an ACK out
// of nothing, which the kernel judges where it knows a listener's. Where Reject is
// as possible as Drop it is Drop.
func (s State) Judge(p Packet, live Live) Judgement {
	return desired(s, nil, features{}).judge(p, live)
}

// judge runs p through the base chains that it meets on its way in.
func (l layout) judge(p Packet, live Live) Judgement {
	if !p.From.IsValid() {
		return Judgement{}
	}
	g := newPassage(p)
	r := l.ruling(p, live)
	var j Judgement
	for _, base := range []string{chainName, inputName} {
		if l.chain(base) == nil {
			continue
		}
		end := r.judge(g, base, Pass)
		j = end.Judgement
		if base := plain(end.Chain); base == passName && end.via != nil {
			j.Chain, j.Rule = end.via.chain, end.via.rule // of the rule that let it in
		}
		j.Chain = plain(j.Chain)
		if j.Verdict != Pass {
			break
		}
	}
	return j
}

// plain is a chain's name without the generation.
func plain(chain string) string {
	name, _, _ := strings.Cut(chain, "_")
	return name
}

// ruling is l as it can be run.
func (l layout) ruling(p Packet, live Live) ruling {
	r := ruling{chains: make(map[string][]*nftables.Rule)}
	for _, c := range l.chains {
		r.chains[c.Name] = c.rules
	}
	knows := func(f func(netip.Addr) bool) judgedSet {
		return judgedSet{has: func([]byte) bool { return f != nil && f(p.From.Unmap()) }}
	}
	r.sets = func(name string) (judgedSet, bool) {
		s := l.set(name)
		if s == nil {
			return judgedSet{}, false
		}
		in := judgedSet{has: s.holds}
		switch {
		case s.fixed:
		case isOneOf(name, ban4, setCount):
			in = knows(live.Banned)
		case isOneOf(name, grant4, grant6n+1):
			in = knows(live.Granted)
		}
		in.size = int(s.KeyType.Bytes)
		return in, true
	}
	return r
}

func isOneOf(name string, first, end setID) bool {
	for id := first; id < end; id++ {
		if id.String() == name {
			return true
		}
	}
	return false
}

// holds reports whether key is one of the rules' own elements of s.
func (s *set) holds(key []byte) bool {
	if !s.Interval {
		return len(key) == 2 && slices.Contains(s.ports, binary.BigEndian.Uint16(key))
	}
	a, ok := netip.AddrFromSlice(key)
	i, found := slices.BinarySearchFunc(s.ranges, a, func(r netipx.IPRange, a netip.Addr) int { return r.From().Compare(a) })
	return ok && (found || i > 0 && s.ranges[i-1].Contains(a))
}
