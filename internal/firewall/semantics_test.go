package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// both eachFamily' addresses of the peer and the host, for tests of each.
var eachFamily = []struct {
	name       string
	peer, host netip.Addr
	icmp       byte
}{
	{"IPv4", ip("10.0.0.2"), ip(host4), unix.IPPROTO_ICMP},
	{"IPv6", ip("2001:db8::2"), ip(host6), unix.IPPROTO_ICMPV6},
}

// ensure puts rules in force, a new generation of them.
func (w *wire) ensure(t testing.TB, r Rules, countries ...string) {
	t.Helper()
	w.generation++
	r = r.Canonical()
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	s := State{Ports: r.Ports, Ruleset: Ruleset{Generation: w.generation, Rules: r, Countries: setOf(t, countries...)}}
	if err := w.k.Ensure(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// free takes the kernel's own limit off its ICMP errors, in the namespace.
func (w wire) free(t testing.TB) {
	w.host.set(t, "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
}

// Lockdown, packet by packet, as the issue of each line is: what passes, what is
// dropped, and how the rest is answered.
func TestLockdownPackets(t *testing.T) {
	w := newWire(t)
	w.free(t)
	in := w.inject(t, true)
	rules := Rules{
		Mode: ModeLockdown, Ports: []uint16{22, 2222}, Exposure: ExposureFixed, Admins: prefixes("10.0.0.2/32", "2001:db8::2/128"),
		Open: []Service{{"tcp", 80, 80, nil}, {"udp", 60000, 61000, nil}, {"tcp", 9100, 9110, prefixes("10.0.0.3/32", "2001:db8::3/128")}},
	}
	for _, noTrack := range []bool{false, true} {
		rules.NoTrack = noTrack
		w.ensure(t, rules)
		for _, f := range eachFamily {
			port := uint16(1024)
			segment := func(from netip.Addr, to uint16, flags byte) []byte {
				port++ // no two are of one connection
				return ipPacket(from, f.host, unix.IPPROTO_TCP, tcp(netip.AddrPortFrom(from, port), netip.AddrPortFrom(f.host, to), flags, 7, 7, nil))
			}
			udpTo := func(host netip.Addr, from, to uint16) []byte {
				return ipPacket(f.peer, host, unix.IPPROTO_UDP, datagram(netip.AddrPortFrom(f.peer, from), netip.AddrPortFrom(host, to), nil))
			}
			icmpOf := func(typ byte) []byte {
				return ipPacket(f.peer, f.host, f.icmp, control(f.peer, f.host, typ, 0, make([]byte, 48)))
			}
			v4 := f.peer.Is4()
			third := ip("10.0.0.3")
			all, refusal, echo, unreachable, exceeded := ip("224.0.0.1"), "protocol unreachable", byte(8), byte(3), byte(11)
			if !v4 {
				third = ip("2001:db8::3")
				all, refusal, echo, unreachable, exceeded = ip("ff02::1"), "prohibited", 128, 1, 3
			}
			type try struct {
				name   string
				packet []byte
				want   string
			}
			tries := []try{
				{"SSH of an admin", segment(f.peer, 22, flagSYN), "pass"},
				{"SSH of an admin, second port", segment(f.peer, 2222, flagSYN), "pass"},
				{"SSH of another", segment(third, 22, flagSYN), "drop"},
				{"SSH of another, second port", segment(third, 2222, flagSYN), "drop"},
				{"SSH of another, ECN", segment(third, 22, flagSYN|0xc0), "drop"},
				{"SSH of another, URG and PSH", segment(third, 22, flagSYN|flagURG|flagPSH), "drop"},
				{"SSH, an ACK of no connection", segment(third, 22, flagACK), "drop"},
				{"NULL to SSH", segment(f.peer, 22, 0), "drop"},
				{"XMAS to SSH", segment(f.peer, 22, flagFIN|flagPSH|flagURG), "drop"},
				{"SYN and FIN to SSH", segment(f.peer, 22, flagSYN|flagFIN), "drop"},
				{"NULL", segment(f.peer, 80, 0), "drop"},
				{"XMAS", segment(f.peer, 80, flagFIN|flagPSH|flagURG), "drop"},
				{"SYN and FIN", segment(f.peer, 80, flagSYN|flagFIN), "drop"},
				{"all flags", segment(f.peer, 80, 0xff), "drop"},
				{"ACK without a connection", segment(f.peer, 80, flagACK), "drop"},
				{"FIN without a connection", segment(f.peer, 80, flagFIN|flagACK), "drop"},
				{"RST without a connection", segment(f.peer, 80, flagRST), "drop"},
				{"SYN and ACK without a connection", segment(f.peer, 80, flagSYN|flagACK), "drop"},
				{"open port", segment(f.peer, 80, flagSYN), "pass"},
				{"open port of UDP", udpTo(f.host, 5000, 60000), "pass"},
				{"end of the range", udpTo(f.host, 5000, 61000), "pass"},
				{"behind the range", udpTo(f.host, 5000, 61001), "port unreachable"},
				{"open by TCP only", udpTo(f.host, 5000, 80), "port unreachable"},
				{"open to a source", segment(third, 9105, flagSYN), "pass"},
				{"open to another source", segment(f.peer, 9105, flagSYN), "reset"},
				{"closed port", segment(f.peer, 81, flagSYN), "reset"},
				{"another protocol", ipPacket(f.peer, f.host, unix.IPPROTO_GRE, make([]byte, 8)), refusal},
				{"multicast", udpTo(all, 5000, 60000), "drop"},
				{"ping", icmpOf(echo), "pass"},
				{"unreachable", icmpOf(unreachable), "pass"},
				{"time exceeded", icmpOf(exceeded), "pass"},
			}
			if v4 {
				tries = append(tries,
					try{"parameter problem", icmpOf(12), "pass"},
					try{"redirect", icmpOf(5), "drop"}, // errors are never answered
					try{"broadcast", udpTo(ip("255.255.255.255"), 5000, 60000), "drop"},
					try{"broadcast of the network", udpTo(ip("10.255.255.255"), 5000, 60000), "drop"},
					try{"DHCP", udpTo(f.host, 67, 68), "pass"},
				)
			} else {
				router, us := ip("fe80::99"), f.host
				from := func(a netip.Addr, hop byte, typ byte) []byte {
					b := ipPacket(a, us, unix.IPPROTO_ICMPV6, control(a, us, typ, 0, make([]byte, 20)))
					b[7] = hop
					return b
				}
				dhcp := func(a netip.Addr) []byte {
					return ipPacket(a, us, unix.IPPROTO_UDP, datagram(netip.AddrPortFrom(a, 547), netip.AddrPortFrom(us, 546), nil))
				}
				tries = append(tries,
					try{"packet too big", icmpOf(2), "pass"},
					try{"parameter problem", icmpOf(4), "pass"},
					try{"router", from(router, 255, 134), "pass"},
					try{"neighbour", from(router, 255, 135), "pass"},
					try{"neighbour without an address", from(netip.IPv6Unspecified(), 255, 135), "pass"},
					try{"neighbour's answer", from(f.peer, 255, 136), "pass"},
					try{"router far away", from(router, 254, 134), "prohibited"},
					try{"MLD of the link", from(router, 1, 130), "pass"},
					try{"MLDv2 of the link", from(router, 1, 143), "pass"},
					try{"MLD from outside", from(f.peer, 1, 130), "prohibited"},
					try{"DHCPv6", dhcp(router), "pass"},
					try{"DHCPv6 from outside", dhcp(f.peer), "port unreachable"},
				)
			}
			for _, try := range tries {
				t.Run(fmt.Sprintf("notrack=%v/%s/%s", noTrack, f.name, try.name), func(t *testing.T) {
					if got := in.verdict(t, try.packet); got != try.want {
						t.Errorf("got %s, want %s", got, try.want)
					}
				})
			}
		}
	}
}

// fragment6 is a fragment of an IPv6 packet: part of what follows the header.
func fragment6(from, to netip.Addr, next byte, offset int, more bool, part []byte) []byte {
	h := make([]byte, 8, 8+len(part))
	h[0] = next
	word := uint16(offset)
	if more {
		word |= 1
	}
	binary.BigEndian.PutUint16(h[2:], word)
	binary.BigEndian.PutUint32(h[4:], 0x5ec15ec1)
	return ipPacket(from, to, unix.IPPROTO_FRAGMENT, append(h, part...))
}

// Nobody gets an answer from SSH by what could hide a SYN, in either mode. Each
// trick is tried first where only bans are: some get an answer there.
func TestHiddenSYN(t *testing.T) {
	w := newWire(t)
	w.host.set(t, "net.ipv4.tcp_synack_retries=0") // or an earlier trick's answer comes again, and is taken for a later one's
	in := w.inject(t, false)
	mallory4, mallory6 := ip("10.0.0.3"), ip("2001:db8::3")
	h4, h6 := ip(host4), ip(host6)
	port := uint16(2000)
	open := func(from, to netip.Addr, flags byte, data []byte) []byte {
		port++
		return tcp(netip.AddrPortFrom(from, port), netip.AddrPortFrom(to, sshPort), flags, 7, 0, data)
	}
	options := []byte{unix.IPPROTO_TCP, 0, 1, 4, 0, 0, 0, 0} // destination options: padding, then TCP
	ext := func(header byte, rest []byte) []byte {
		return ipPacket(mallory6, h6, header, append(append([]byte(nil), options...), rest...))
	}
	data := make([]byte, 64)
	tricks := []struct {
		name    string
		packets func() [][]byte
		works   bool // without rules, on kernels of today
	}{
		{"SYN", func() [][]byte { return [][]byte{ipPacket(mallory4, h4, 6, open(mallory4, h4, flagSYN, nil))} }, true},
		{"SYN, IPv6", func() [][]byte { return [][]byte{ipPacket(mallory6, h6, 6, open(mallory6, h6, flagSYN, nil))} }, true},
		{"SYN with data", func() [][]byte { return [][]byte{ipPacket(mallory4, h4, 6, open(mallory4, h4, flagSYN, data))} }, true},
		{"SYN with ECN, PSH and URG", func() [][]byte {
			return [][]byte{ipPacket(mallory4, h4, 6, open(mallory4, h4, flagSYN|flagPSH|flagURG|0xc0, nil))}
		}, true},
		{"SYN and FIN", func() [][]byte { return [][]byte{ipPacket(mallory4, h4, 6, open(mallory4, h4, flagSYN|flagFIN, nil))} }, false},
		{"IPv4 options", func() [][]byte {
			b := ipPacket(mallory4, h4, 6, append([]byte{1, 1, 1, 0}, open(mallory4, h4, flagSYN, nil)...))
			b[0] = 0x46
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], sum16(0, b[:24]))
			return [][]byte{b}
		}, true},
		{"IPv4 fragments", func() [][]byte {
			whole := open(mallory4, h4, flagSYN, data)
			first, second := ipPacket(mallory4, h4, 6, whole[:8]), ipPacket(mallory4, h4, 6, whole[8:])
			for i, b := range [][]byte{first, second} {
				binary.BigEndian.PutUint16(b[4:], port)
				binary.BigEndian.PutUint16(b[6:], [...]uint16{0x2000, 1}[i])
				b[10], b[11] = 0, 0
				binary.BigEndian.PutUint16(b[10:], sum16(0, b[:20]))
			}
			return [][]byte{first, second}
		}, true},
		{"destination options", func() [][]byte { return [][]byte{ext(unix.IPPROTO_DSTOPTS, open(mallory6, h6, flagSYN, nil))} }, true},
		{"hop-by-hop options", func() [][]byte { return [][]byte{ext(unix.IPPROTO_HOPOPTS, open(mallory6, h6, flagSYN, nil))} }, true},
		{"one fragment", func() [][]byte {
			return [][]byte{fragment6(mallory6, h6, 6, 0, false, open(mallory6, h6, flagSYN, nil))}
		}, true},
		{"fragments, the header whole", func() [][]byte {
			whole := open(mallory6, h6, flagSYN, data)
			return [][]byte{fragment6(mallory6, h6, 6, 0, true, whole[:24]), fragment6(mallory6, h6, 6, 24, false, whole[24:])}
		}, true},
		{"fragments, the second one first", func() [][]byte {
			whole := open(mallory6, h6, flagSYN, data)
			return [][]byte{fragment6(mallory6, h6, 6, 24, false, whole[24:]), fragment6(mallory6, h6, 6, 0, true, whole[:24])}
		}, true},
		{"fragments, the flags in the second one", func() [][]byte {
			whole := open(mallory6, h6, flagSYN, data)
			return [][]byte{fragment6(mallory6, h6, 6, 0, true, whole[:8]), fragment6(mallory6, h6, 6, 8, false, whole[8:])}
		}, false}, // since 5.11
		{"fragments, the header in the second one", func() [][]byte {
			whole := open(mallory6, h6, flagSYN, data)
			return [][]byte{fragment6(mallory6, h6, unix.IPPROTO_DSTOPTS, 0, true, options), fragment6(mallory6, h6, unix.IPPROTO_DSTOPTS, 8, false, whole)}
		}, false}, // since 5.11
		{"one fragment of options", func() [][]byte {
			return [][]byte{fragment6(mallory6, h6, unix.IPPROTO_DSTOPTS, 0, false, append(append([]byte(nil), options...), open(mallory6, h6, flagSYN, nil)...))}
		}, true},
		{"a fragment of a fragment", func() [][]byte {
			inner := fragment6(mallory6, h6, 6, 0, false, open(mallory6, h6, flagSYN, nil))[40:]
			return [][]byte{fragment6(mallory6, h6, unix.IPPROTO_FRAGMENT, 0, false, inner)}
		}, false},
	}
	fixed := Rules{Ports: []uint16{sshPort}, Exposure: ExposureFixed, Admins: prefixes("10.0.0.2/32", "2001:db8::2/128")}
	for _, mode := range []Mode{"", ModeGuard, ModeLockdown} {
		if mode == "" {
			if err := w.k.Ensure(t.Context(), everything); err != nil {
				t.Fatal(err)
			}
		} else {
			fixed.Mode = mode
			w.ensure(t, fixed)
		}
		for _, trick := range tricks {
			t.Run(string(mode)+"/"+trick.name, func(t *testing.T) {
				for _, p := range trick.packets() {
					in.send(t, p)
				}
				c := in.seen(t)
				if answered := c.answers > 0 && c.kind == "handshake"; answered != (mode == "" && trick.works) {
					t.Errorf("answered is %v (%+v)", answered, c)
				}
			})
		}
	}
}

// What is forwarded is dropped in lockdown, unless it is left alone.
func TestForward(t *testing.T) {
	w := newWire(t)
	in := w.inject(t, false)
	w.host.set(t, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	w.host.run(t, "ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1")
	w.host.run(t, "ip", "link", "set", "out0", "up")
	w.host.run(t, "ip", "link", "set", "out1", "up")
	for _, a := range [][]string{{"-4", "203.0.113.0/24"}, {"-6", "2001:db8:f::/48"}} {
		w.host.run(t, "ip", a[0], "route", "add", a[1], "dev", "out0")
	}
	base := Rules{Ports: []uint16{22}, Exposure: ExposureFixed, Admins: prefixes("10.0.0.2/32")}
	for _, tt := range []struct {
		name    string
		mode    Mode
		forward bool
		passes  bool
	}{{"guard", ModeGuard, false, true}, {"lockdown", ModeLockdown, false, false}, {"lockdown that forwards", ModeLockdown, true, true}} {
		r := base
		r.Mode, r.Forward = tt.mode, tt.forward
		w.ensure(t, r)
		for _, there := range []string{"203.0.113.9", "2001:db8:f::9"} {
			t.Run(tt.name+"/"+there, func(t *testing.T) {
				here := ip("10.0.0.2")
				if ip(there).Is6() {
					here = ip("2001:db8::2")
				}
				in.send(t, ipPacket(here, ip(there), unix.IPPROTO_UDP, datagram(netip.AddrPortFrom(here, 9), netip.AddrPortFrom(ip(there), 9), nil)))
				if c := in.seen(t); (c.forwarded > 0) != tt.passes {
					t.Errorf("forwarded: %+v, want %v", c, tt.passes)
				}
			})
		}
	}
}

// Who may reach SSH, by real connections, in both modes.
func TestExposure(t *testing.T) {
	w := newWire(t)
	grants := func(ps ...string) {
		var gs []Grant
		for _, p := range prefixes(ps...) {
			gs = append(gs, Grant{p, time.Hour})
		}
		if err := w.k.Grant(t.Context(), gs); err != nil {
			t.Fatal(err)
		}
	}
	grants("10.0.0.3/32", "2001:db8::3/128", "2001:db8:0:5::/64")
	admins := prefixes("10.0.0.2/32", "2001:db8::2/128")
	type who map[string]bool
	for _, tt := range []struct {
		name      string
		rules     Rules
		countries []string
		passes    who
	}{
		{"fixed", Rules{Exposure: ExposureFixed, Admins: admins}, nil,
			who{"10.0.0.2": true, "10.0.0.3": false, "2001:db8::2": true, "2001:db8::3": false}},
		{"on request", Rules{Exposure: ExposureOnRequest, Admins: admins}, nil,
			who{"10.0.0.2": true, "10.0.0.3": true, "10.1.0.2": false, "2001:db8::2": true, "2001:db8::3": true, "2001:db8:0:5::2": true, "2001:db8:7::2": false}},
		{"public", Rules{Exposure: ExposurePublic}, nil,
			who{"10.1.0.2": true, "2001:db8:7::2": true}},
		{"allowed countries", Rules{Exposure: ExposurePublic, Admins: admins, Countries: Countries{Allow: []string{"JP"}}}, []string{"10.1.0.0/16", "2001:db8:7::/48"},
			who{"10.1.0.2": true, "2001:db8:7::2": true, "10.0.0.2": true, "10.0.0.3": true, "2001:db8::2": true, "2001:db8:0:5::2": true}},
		{"allowed countries, of others", Rules{Exposure: ExposurePublic, Admins: prefixes("192.0.2.1/32"), Countries: Countries{Allow: []string{"JP"}}}, []string{"192.0.2.0/24", "2001:db8:8::/48"},
			who{"10.1.0.2": false, "10.0.0.2": false, "10.0.0.3": true, "2001:db8:7::2": false, "2001:db8::2": false}},
		{"denied countries", Rules{Exposure: ExposurePublic, Admins: admins, Countries: Countries{Deny: []string{"JP"}}}, []string{"10.0.0.0/8", "2001:db8::/47"},
			who{"10.1.0.2": false, "2001:db8::2": true, "10.0.0.2": true, "10.0.0.3": true, "2001:db8:7::2": true}},
		{"no IPv6", Rules{Exposure: ExposurePublic, Admins: admins, NoIPv6: true}, nil,
			who{"10.1.0.2": true, "2001:db8::2": false, "2001:db8::3": false, "2001:db8:7::2": false}},
		{"another port", Rules{Ports: []uint16{2222}, Exposure: ExposureFixed, Admins: admins}, nil,
			who{"10.1.0.2": true}}, // guard leaves it alone
	} {
		for _, mode := range []Mode{ModeGuard, ModeLockdown} {
			r := tt.rules
			r.Mode = mode
			if r.Ports == nil {
				r.Ports = []uint16{sshPort}
			} else if mode == ModeLockdown {
				continue
			}
			w.ensure(t, r, tt.countries...)
			for from, passes := range tt.passes {
				t.Run(fmt.Sprintf("%s/%s/%s", tt.name, mode, from), func(t *testing.T) {
					wait := impatience
					if passes {
						wait = patience
					}
					if got := w.reaches(t, from, sshPort, wait); got != passes {
						t.Errorf("passes is %v, want %v", got, passes)
					}
				})
			}
		}
	}
	t.Run("bans first", func(t *testing.T) {
		w.ensure(t, Rules{Mode: ModeGuard, Ports: []uint16{sshPort}, Exposure: ExposureFixed, Admins: admins})
		ban(t, w.k, Ban{prefix("10.0.0.2/32"), time.Hour}, Ban{prefix("2001:db8::/64"), time.Hour})
		for _, from := range []string{"10.0.0.2", "2001:db8::2"} {
			if w.reaches(t, from, sshPort, impatience) {
				t.Errorf("%s passes", from)
			}
		}
	})
}
