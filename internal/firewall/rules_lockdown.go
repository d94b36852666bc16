package firewall

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What lockdown lets through of what costs an answer, from all sources together.
const (
	pingsPerSecond   = 50
	rejectsPerSecond = 50
)

var linkLocal = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0x80}), 10)

// lockdown goes on where input ends: the whole host, closed but for what is
// named here.
func (b *builder) lockdown(r Ruleset) {
	chain := r.name(inputName)
	rule := func(comment string, parts ...match) { b.rule(chain, comment, parts...) }

	// ICMP comes before conntrack. Path MTU discovery has to work for connections that
	// it does not know: those without tracking, and those older than it.
	rule("IPv6 routers and neighbours, told by hop limit 255", icmp6(133, 137), neighbour(), accept())
	rule("IPv6 multicast listeners (MLD) of this link", from.within(linkLocal), icmp6(130, 132), accept())
	rule("IPv6 multicast listeners (MLDv2) of this link", from.within(linkLocal), icmp6(143, 143), accept())
	rule("ICMP errors: unreachable, fragmentation needed", icmp(3, 3), accept())
	rule("ICMP errors: time exceeded, bad parameter", icmp(11, 12), accept())
	rule("ICMPv6 errors: unreachable, packet too big, time exceeded, bad parameter", icmp6(1, 4), accept())
	pings := fmt.Sprintf("more than %d pings a second", pingsPerSecond)
	rule(pings, icmp(8, 8), morePerSecond(pingsPerSecond), drop())
	rule(pings, icmp6(128, 128), morePerSecond(pingsPerSecond), drop())
	rule("pings", icmp(8, 8), accept())
	rule("pings", icmp6(128, 128), accept())

	const all = flagFIN | flagSYN | flagRST | flagPSH | flagACK | flagURG
	rule("TCP without flags (NULL scan)", flags(all, expr.CmpOpEq, 0), drop())
	rule("TCP with FIN, PSH and URG (XMAS scan)", flags(all, expr.CmpOpEq, flagFIN|flagPSH|flagURG), drop())
	rule("TCP with SYN and FIN", flags(flagFIN|flagSYN, expr.CmpOpEq, flagFIN|flagSYN), drop())

	// Without conntrack, so that no session ends when it begins to look, or is full.
	rule("SSH: what is not a new connection", to.portIn(r.name(portsName)), accept())
	rule("connections that stand, and what belongs to them", state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept())
	if b.f.socketWildcard {
		rule("connections older than conntrack", flags(flagSYN, expr.CmpOpEq, 0), ownSocket(), accept())
	}
	rule("what conntrack finds invalid", state(expr.CtStateBitINVALID), drop())
	rule("new TCP connections without SYN", state(expr.CtStateBitNEW), flags(opening, expr.CmpOpNeq, flagSYN), drop())

	rule("DHCP: answers to this host", family(unix.NFPROTO_IPV4), udp(67, 68), accept())
	rule("DHCPv6: answers to this host", from.within(linkLocal), udp(547, 546), accept())
	rule("IPv4 multicast", to.within(netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4)), drop())
	rule("IPv6 multicast", to.within(netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8)), drop())
	rule("broadcast", broadcast(), drop())

	for _, s := range r.Rules.Open {
		p := byte(unix.IPPROTO_TCP)
		if s.Proto == "udp" {
			p = unix.IPPROTO_UDP
		}
		if len(s.From) == 0 {
			rule("open: "+s.String(), ports(p, s.First, s.Last), accept())
		}
		for _, f := range s.From {
			rule(fmt.Sprintf("open: %v from %v", s, f), from.within(f), ports(p, s.First, s.Last), accept())
		}
	}

	// Polite, so that nobody waits for a time-out by mistake; not without bounds, and
	// to multicast and broadcast never.
	rule(fmt.Sprintf("closed, and more than %d refusals a second", rejectsPerSecond), morePerSecond(rejectsPerSecond), drop())
	rule("closed: TCP reset", proto(unix.IPPROTO_TCP), reject(unix.NFT_REJECT_TCP_RST, 0))
	rule("closed: UDP port unreachable", proto(unix.IPPROTO_UDP), reject(unix.NFT_REJECT_ICMPX_UNREACH, unix.NFT_REJECT_ICMPX_PORT_UNREACH))
	rule("closed: IPv4 protocol unreachable", family(unix.NFPROTO_IPV4), reject(unix.NFT_REJECT_ICMP_UNREACH, 2))
	rule("closed: IPv6 prohibited", family(unix.NFPROTO_IPV6), reject(unix.NFT_REJECT_ICMP_UNREACH, 1))
	rule("everything else", drop())
}

// String is s as the configuration has it: "443/tcp", "60000-61000/udp".
func (s Service) String() string {
	if s.First == s.Last {
		return fmt.Sprintf("%d/%s", s.First, s.Proto)
	}
	return fmt.Sprintf("%d-%d/%s", s.First, s.Last, s.Proto)
}
