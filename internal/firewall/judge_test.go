package firewall

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

func syn(from string, port uint16) Packet {
	return Packet{From: ip(from), FromPort: 50000, ToPort: port, Proto: unix.IPPROTO_TCP, Flags: flagSYN}
}

func TestJudge(t *testing.T) {
	public := Rules{
		Mode: ModeGuard, Ports: []uint16{22, 2222}, Exposure: ExposurePublic, Admins: prefixes("198.51.100.10/32", "2001:db8:1::/48"),
		Countries: Countries{Allow: []string{"JP"}}, Rate: Rate{2, 5},
	}
	jp := setOf(t, "192.0.2.0/24", "2001:db8:2::/48")
	but := func(r Rules, change func(*Rules)) Rules { change(&r); return r }
	lockdown := but(public, func(r *Rules) {
		r.Mode = ModeLockdown
		r.Open = []Service{{"tcp", 80, 80, nil}, {"udp", 60000, 61000, nil}, {"tcp", 9100, 9100, prefixes("10.0.0.0/8")}}
	})
	live := Live{
		Banned:  func(a netip.Addr) bool { return a == ip("192.0.2.66") || a == ip("198.51.100.66") },
		Granted: func(a netip.Addr) bool { return a == ip("203.0.113.5") || a == ip("2001:db8:3::5") },
	}
	udp := func(from, to string, port uint16) Packet {
		p := Packet{From: ip(from), FromPort: 50000, ToPort: port, Proto: unix.IPPROTO_UDP}
		if to != "" {
			p.To = ip(to)
		}
		return p
	}
	segment := func(from string, port uint16, flags uint8) Packet {
		p := syn(from, port)
		p.Flags = flags
		return p
	}
	lo := syn("127.0.0.1", 22)
	lo.Loopback = true
	for _, tt := range []struct {
		name  string
		rules Rules
		p     Packet
		want  Judgement
	}{
		{"admin", public, syn("198.51.100.10", 22), Judgement{Pass, "ssh", "admins"}},
		{"admin, IPv6", public, syn("2001:db8:1:9::1", 2222), Judgement{Pass, "ssh", "admins"}},
		{"admin, written as IPv6", public, syn("::ffff:198.51.100.10", 22), Judgement{Pass, "ssh", "admins"}},
		{"country", public, syn("192.0.2.1", 22), Judgement{Pass, "ssh", "everyone else"}},
		{"country, IPv6", public, syn("2001:db8:2::1", 22), Judgement{Pass, "ssh", "everyone else"}},
		{"another country", public, syn("198.51.100.11", 22), Judgement{Drop, "ssh", "not in JP"}},
		{"another country, granted", public, syn("203.0.113.5", 22), Judgement{Pass, "ssh", "whoever holds a grant"}},
		{"another country, granted, IPv6", public, syn("2001:db8:3::5", 22), Judgement{Pass, "ssh", "whoever holds a grant"}},
		{"another country, established", public, segment("198.51.100.11", 22, flagACK), Judgement{Verdict: Pass}},
		{"another port", public, syn("198.51.100.11", 80), Judgement{Verdict: Pass}},
		{"banned", public, syn("192.0.2.66", 22), Judgement{Drop, "raw", "banned IPv4 hosts"}},
		{"loopback", public, lo, Judgement{Pass, "input", "loopback"}},
		{"SYN with ECN, PSH and URG", public, segment("198.51.100.11", 22, flagSYN|flagPSH|flagURG|0xc0), Judgement{Drop, "ssh", "not in JP"}},

		{"denied", but(public, func(r *Rules) { r.Countries = Countries{Deny: []string{"JP"}} }), syn("192.0.2.1", 22), Judgement{Drop, "ssh", "in JP"}},
		{"not denied", but(public, func(r *Rules) { r.Countries = Countries{Deny: []string{"JP"}} }), syn("198.51.100.11", 22), Judgement{Pass, "ssh", "everyone else"}},
		{"fixed", but(public, func(r *Rules) { r.Exposure = ExposureFixed }), syn("192.0.2.1", 22), Judgement{Drop, "ssh", "only admins"}},
		{"fixed, granted", but(public, func(r *Rules) { r.Exposure = ExposureFixed }), syn("203.0.113.5", 22), Judgement{Drop, "ssh", "only admins"}},
		{"on request", but(public, func(r *Rules) { r.Exposure = ExposureOnRequest }), syn("192.0.2.1", 22), Judgement{Drop, "ssh", "only admins, and whoever holds a grant"}},
		{"on request, granted", but(public, func(r *Rules) { r.Exposure = ExposureOnRequest }), syn("203.0.113.5", 22), Judgement{Pass, "ssh", "whoever holds a grant"}},
		{"no IPv6", but(public, func(r *Rules) { r.NoIPv6 = true }), syn("2001:db8:1:9::1", 22), Judgement{Drop, "ssh", "SSH is not reached over IPv6"}},
		{"no IPv6, IPv4", but(public, func(r *Rules) { r.NoIPv6 = true }), syn("192.0.2.1", 22), Judgement{Pass, "ssh", "everyone else"}},

		{"lockdown, SSH", lockdown, syn("192.0.2.1", 22), Judgement{Pass, "ssh", "everyone else"}},
		{"lockdown, SSH, not new", lockdown, segment("198.51.100.11", 22, flagACK), Judgement{Pass, "input", "SSH: what is not a new connection"}},
		{"lockdown, SSH without conntrack", but(lockdown, func(r *Rules) { r.NoTrack = true }), syn("192.0.2.1", 22), Judgement{Pass, "ssh", "everyone else"}},
		{"open", lockdown, syn("198.51.100.11", 80), Judgement{Pass, "input", "open: 80/tcp"}},
		{"open range", lockdown, udp("198.51.100.11", "", 60500), Judgement{Pass, "input", "open: 60000-61000/udp"}},
		{"beside the range", lockdown, udp("198.51.100.11", "", 61001), Judgement{Reject, "input", "closed: UDP port unreachable"}},
		{"open to a source", lockdown, syn("10.1.2.3", 9100), Judgement{Pass, "input", "open: 9100/tcp from 10.0.0.0/8"}},
		{"open to another", lockdown, syn("11.1.2.3", 9100), Judgement{Reject, "input", "closed: TCP reset"}},
		{"closed, IPv6", lockdown, syn("2001:db8::1", 81), Judgement{Reject, "input", "closed: TCP reset"}},
		{"NULL", lockdown, segment("192.0.2.1", 22, 0), Judgement{Drop, "input", "TCP without flags (NULL scan)"}},
		{"XMAS", lockdown, segment("192.0.2.1", 80, flagFIN|flagPSH|flagURG), Judgement{Drop, "input", "TCP with FIN, PSH and URG (XMAS scan)"}},
		{"SYN and FIN", lockdown, segment("192.0.2.1", 80, flagSYN|flagFIN), Judgement{Drop, "input", "TCP with SYN and FIN"}},
		{"new without SYN", lockdown, segment("192.0.2.1", 80, flagACK), Judgement{Drop, "input", "new TCP connections without SYN"}},
		{"SYN and ACK", lockdown, segment("192.0.2.1", 80, flagSYN|flagACK), Judgement{Drop, "input", "what conntrack finds invalid"}},
		{"DHCP", lockdown, Packet{From: ip("192.0.2.1"), FromPort: 67, ToPort: 68, Proto: unix.IPPROTO_UDP}, Judgement{Pass, "input", "DHCP: answers to this host"}},
		{"DHCPv6", lockdown, Packet{From: ip("fe80::1"), FromPort: 547, ToPort: 546, Proto: unix.IPPROTO_UDP}, Judgement{Pass, "input", "DHCPv6: answers to this host"}},
		{"multicast", lockdown, udp("192.0.2.1", "224.0.0.251", 60500), Judgement{Drop, "input", "IPv4 multicast"}},
		{"multicast, IPv6", lockdown, udp("fe80::1", "ff02::fb", 60500), Judgement{Drop, "input", "IPv6 multicast"}},
		{"broadcast", lockdown, udp("192.0.2.1", "255.255.255.255", 60500), Judgement{Drop, "input", "broadcast"}},
		{"another protocol", lockdown, Packet{From: ip("192.0.2.1"), Proto: unix.IPPROTO_GRE}, Judgement{Reject, "input", "closed: IPv4 protocol unreachable"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.rules.Validate(); err != nil {
				t.Fatal(err)
			}
			s := State{Ports: tt.rules.Ports, Ruleset: Ruleset{Generation: 3, Rules: tt.rules, Countries: jp}}
			if diff := cmp.Diff(tt.want, s.Judge(tt.p, live)); diff != "" {
				t.Errorf("judgement (-want +got):\n%s", diff)
			}
		})
	}
	s := State{Ports: []uint16{22}}
	if got := s.Judge(syn("192.0.2.1", 22), live); got != (Judgement{Verdict: Pass}) {
		t.Errorf("no rule set: %+v", got)
	}
	if got := s.Judge(Packet{}, Live{}); got.Verdict != Unknown {
		t.Errorf("no packet: %+v", got)
	}
}

// What cannot be evaluated leaves the verdict open, unless it makes no difference.
func TestRulingUnknown(t *testing.T) {
	r := func(parts ...match) *nftables.Rule {
		var rule nftables.Rule
		for _, p := range parts {
			rule.Exprs = append(rule.Exprs, p...)
		}
		return &rule
	}
	mark := match{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1, 0, 0, 0}}}
	ssh := ports(unix.IPPROTO_TCP, 22, 22)
	opaque := match{&expr.Queue{}}
	eth := match{&expr.Meta{Key: expr.MetaKeyIIF, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 0, 0, 9}}}
	toOther := to.within(prefix("10.9.9.9/32"))
	for _, tt := range []struct {
		name   string
		chains map[string][]*nftables.Rule
		policy Verdict
		want   Verdict
	}{
		{"policy", map[string][]*nftables.Rule{"c": {}}, Drop, Drop},
		{"mark decides", map[string][]*nftables.Rule{"c": {r(mark, accept())}}, Drop, Unknown},
		{"mark makes no difference", map[string][]*nftables.Rule{"c": {r(mark, accept()), r(ssh, accept())}}, Drop, Pass},
		{"drop or reject", map[string][]*nftables.Rule{"c": {r(mark, drop()), r(reject(unix.NFT_REJECT_TCP_RST, 0))}}, Pass, Drop},
		{"a chain perhaps, both drop", map[string][]*nftables.Rule{"c": {r(mark, jump("d")), r(drop())}, "d": {r(ssh, drop())}}, Pass, Drop},
		{"a chain perhaps, to its end", map[string][]*nftables.Rule{"c": {r(mark, jump("d")), r(ssh, accept())}, "d": {r(ports(unix.IPPROTO_TCP, 80, 80), drop())}}, Drop, Pass},
		{"a chain perhaps, differs", map[string][]*nftables.Rule{"c": {r(eth, goTo("d")), r(drop())}, "d": {r(ssh, accept())}}, Drop, Unknown},
		{"not loopback", map[string][]*nftables.Rule{"c": {r(loIn(), accept())}}, Drop, Drop},
		{"unreadable", map[string][]*nftables.Rule{"c": {r(opaque, drop()), r(ssh, accept())}}, Drop, Unknown},
		{"unreadable, too late", map[string][]*nftables.Rule{"c": {r(ssh, accept()), r(opaque, drop())}}, Drop, Pass},
		{"unreadable, of others", map[string][]*nftables.Rule{"c": {r(ports(unix.IPPROTO_UDP, 1, 9), opaque), r(ssh, accept())}}, Drop, Pass},
		{"to another address perhaps", map[string][]*nftables.Rule{"c": {r(toOther, drop())}}, Pass, Unknown},
		{"not to multicast", map[string][]*nftables.Rule{"c": {r(to.within(prefix("224.0.0.0/4")), drop())}}, Pass, Pass},
		{"no such chain", map[string][]*nftables.Rule{"c": {r(jump("gone"))}}, Pass, Unknown},
		{"no such set", map[string][]*nftables.Rule{"c": {r(from.in("gone", false, false), accept())}}, Drop, Unknown},
		{"a circle", map[string][]*nftables.Rule{"c": {r(jump("c"))}}, Pass, Unknown},
		{"limits are not reached", map[string][]*nftables.Rule{"c": {r(morePerSecond(3), drop())}}, Pass, Pass},
		{"new", map[string][]*nftables.Rule{"c": {r(state(expr.CtStateBitNEW), accept())}}, Drop, Pass},
		{"untracked", map[string][]*nftables.Rule{"c": {r(notrack()), r(state(expr.CtStateBitNEW), accept())}}, Drop, Drop},
		{"untracked perhaps", map[string][]*nftables.Rule{"c": {r(mark, notrack()), r(state(expr.CtStateBitNEW), accept())}}, Drop, Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sets := func(string) (judgedSet, bool) { return judgedSet{}, false }
			got := ruling{chains: tt.chains, sets: sets}.judge(newPassage(syn("192.0.2.1", 22)), "c", tt.policy)
			if got.Verdict != tt.want {
				t.Errorf("got %v (%+v), want %v", got.Verdict, got, tt.want)
			}
		})
	}
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }
