package firewall

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// Judge and the kernel say the same of any packet, whatever the rules.
func TestJudgeIsTheKernel(t *testing.T) {
	w := newWire(t)
	w.k.socketWildcard = false // Judge knows no sockets
	in := w.inject(t, true)
	sources := []string{"10.0.0.2", "10.0.0.3", "10.1.0.2", "10.9.9.9", "192.0.2.1", "2001:db8::2", "2001:db8::3", "2001:db8:0:5::2", "2001:db8:7::2", "fe80::99"}
	generation, port := uint32(0), uint16(0)
	judged, unknown, seen := 0, 0, make(map[Judgement]int)
	// counted is what each rule that drops has counted.
	counted := func() map[Judgement]uint64 {
		counters, err := w.k.Counters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := make(map[Judgement]uint64)
		for _, c := range counters {
			if c.Drops {
				n[Judgement{Chain: c.Chain, Rule: c.Rule}] += c.Packets
			}
		}
		return n
	}
	rapid.Check(t, func(rt *rapid.T) {
		generation++
		rules := drawRules(rt)
		rules.Ports = append(rules.Ports, sshPort)
		if rules.Rate != (Rate{}) {
			rules.Rate = Rate{mostPer, mostPer}
		}
		rules = rules.Canonical()
		s := State{Ports: rules.Ports, SSHOnly: rapid.Bool().Draw(rt, "sshonly"), Ruleset: Ruleset{Generation: generation, Rules: rules}}
		if !rules.Countries.None() {
			s.Ruleset.Countries = setOf(t, "10.1.0.0/16", "2001:db8:7::/48")
		}
		if err := w.k.Ensure(t.Context(), s); err != nil {
			rt.Fatal(err)
		}
		pick := func(label string) netip.Addr { return ip(rapid.SampledFrom(sources).Draw(rt, label)) }
		banned, granted := pick("banned"), pick("granted")
		hour := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
		if err := w.k.Ban(t.Context(), []Ban{{hour(banned), time.Hour}}); err != nil {
			rt.Fatal(err)
		}
		if err := w.k.Grant(t.Context(), []Grant{{hour(granted), time.Hour}}); err != nil {
			rt.Fatal(err)
		}
		defer func() {
			if err := w.k.Unban(t.Context(), []netip.Prefix{hour(banned)}); err != nil {
				rt.Fatal(err)
			}
			if err := w.k.Ungrant(t.Context(), []netip.Prefix{hour(granted)}); err != nil {
				rt.Fatal(err)
			}
		}()
		live := Live{
			Banned:  func(a netip.Addr) bool { return a == banned },
			Granted: func(a netip.Addr) bool { return a == granted },
		}
		before := counted()
		for range 15 {
			p := Packet{
				From: pick("from"), FromPort: rapid.SampledFrom([]uint16{22, 67, 547, 1024, 50000}).Draw(rt, "sport"),
				ToPort: rapid.SampledFrom([]uint16{22, 80, 82, 85, 2222, 68, 546, 51921}).Draw(rt, "dport"),
				Proto:  rapid.SampledFrom([]uint8{unix.IPPROTO_TCP, unix.IPPROTO_TCP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6, 253}).Draw(rt, "proto"),
				Flags:  rapid.OneOf(rapid.Just(uint8(flagSYN)), rapid.Byte()).Draw(rt, "flags"),
			}
			if p.Proto == unix.IPPROTO_TCP { // no part of an earlier connection
				port = max(1024, port+1)
				p.FromPort = port
			}
			p.To = ip(host4)
			if p.From.Is6() {
				p.To = ip(host6)
			}
			if p.Proto != unix.IPPROTO_TCP {
				p.Flags = 0
				if rapid.IntRange(0, 5).Draw(rt, "to all") == 0 {
					p.To = ip("255.255.255.255")
					if p.From.Is6() {
						p.To = ip("ff02::1")
					} else if rapid.Bool().Draw(rt, "multicast") {
						p.To = ip("224.0.0.1")
					}
				}
			}
			want := s.Judge(p, live)
			judged++
			if want.Verdict == Unknown {
				unknown++
				continue
			}
			seen[want]++
			in.send(t, p.packet())
			if in.seen(t).passed > 0 {
				if want.Verdict != Pass {
					rt.Fatalf("%+v of %+v: the kernel lets it pass, Judge says %+v", p, rules, want)
				}
				continue
			}
			// The peer's own kernel may have said something meanwhile (a neighbour's
			// advertisement from a banned address) that another rule has counted.
			var got []Judgement
			after, agreed := counted(), false
			for rule, n := range after {
				if n > before[rule] {
					got = append(got, rule)
					limited := want.Verdict == Reject && rule.Rule == "closed, and more than 50 refusals a second"
					agreed = agreed || rule.Chain == want.Chain && (rule.Rule == want.Rule || limited)
				}
			}
			before = after
			if !agreed {
				rt.Fatalf("%+v of %+v: the kernel drops it by %+v, Judge says %+v", p, rules, got, want)
			}
		}
	})
	t.Logf("%d packets, %d unknown; %d different judgements: %v", judged, unknown, len(seen), seen)
	if unknown*4 > judged || len(seen) < 20 {
		t.Errorf("of %d packets %d are unknown, %d different judgements", judged, unknown, len(seen))
	}
}
