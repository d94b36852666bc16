package firewall

import (
	"net/netip"
)

// Packet is the first packet of a connection, as Judge is asked about it.
type Packet struct {
	From, To         netip.Addr // To may be zero: this host
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
// expressions that the kernel is given. A rate limit counts as not yet reached.
func (s State) Judge(p Packet, live Live) Judgement { return Judgement{} }

// Line is one rule for people.
type Line struct {
	Chain string // without the generation
	Text  string // its comment
}

// Lines are the rules of s in order, for people: two States with equal Lines
// differ in nothing but the addresses of countries.
func (s State) Lines() []Line { return nil }

// Validate says what is wrong with r, with a hint; nil when it can be put in force.
func (r Rules) Validate() error { return nil }
