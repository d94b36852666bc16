package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/lab"
)

const guidePort = 51921 // of SSH, in the guide

// verdict is one line of the comparison: what arrives, and what becomes of it with the
// hand-made set-up and with the guide's file.
type verdict struct {
	what       string
	hand, ours string
	why        string // they differ
	see        func(*testing.T, *site) string
	live       bool // it needs sshd
}

// one is a row of a packet of its own.
func one(packet func(s *site) []byte) func(*testing.T, *site) string {
	return func(t *testing.T, s *site) string { return s.fate(t, packet(s)) }
}

// from is a row of a packet of somebody in Japan.
func from(packet func(a netip.Addr) []byte) func(*testing.T, *site) string {
	return func(t *testing.T, s *site) string { return s.fate(t, packet(s.somebody())) }
}

// at is a segment to SSH's port.
func at(port uint16, flags byte) func(netip.Addr) []byte {
	return func(a netip.Addr) []byte { return segment(a, port, flags) }
}

// sent is a fixed packet.
func sent(p []byte) func(*testing.T, *site) string { return one(func(*site) []byte { return p }) }

// some puts n packets on the wire at once, and counts what passes.
func some(n int, packet func(i int) []byte) func(*testing.T, *site) string {
	return func(t *testing.T, s *site) string {
		var all [][]byte
		for i := range n {
			all = append(all, packet(i))
		}
		return fmt.Sprintf("%d of %d pass", s.put(t, all...)["pass"], n)
	}
}

// stands is whether a session still does.
func stands(session func(*testing.T, *site) *lab.Session) func(*testing.T, *site) string {
	return func(t *testing.T, s *site) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if err := session(t, s).Alive(ctx); err != nil {
			return "drop"
		}
		return "pass"
	}
}

var (
	american    = netip.MustParseAddr("12.1.0.7")
	american6   = netip.MustParseAddr("2600:1f00:1::7")
	japanese6   = netip.MustParseAddr("2400:4050:1::7")
	fixed       = netip.MustParseAddr("198.51.100.10") // of the guide's admins
	burstSource = netip.MustParseAddr("133.11.2.1")
	banned4     = netip.MustParseAddr("133.11.3.1")
	routerOut   = netip.MustParseAddr("12.1.0.1") // on some way
	v6Router    = netip.MustParseAddr("2600:1f00:1::1")
)

// solicitation asks for the host's link address.
var solicitation = control(lab.Gateway6, 135, 0, append(make([]byte, 4), lab.Host6.AsSlice()...))

// knocks are seven new connections at once.
func knocks(a netip.Addr) func(*testing.T, *site) string {
	return some(7, func(int) []byte { return syn(a, guidePort) })
}

// refill waits until half a minute has gone by since the burst, or more.
func refill(t *testing.T, s *site) string {
	const each = 30 * time.Second
	<-time.After(time.Until(s.emptied.Add(each + time.Second)))
	least := int(time.Since(s.emptied) / each)
	n := s.put(t, bytesOf(7, syn(burstSource, guidePort))...)["pass"]
	if most := int(time.Since(s.burst) / each); int(n) < least || int(n) > most {
		return fmt.Sprintf("%d pass, want %d to %d", n, least, most)
	}
	return "1 for each 30 s"
}

const refused = "who mistyped is told at once, by 50 answers a second at most"

// verdicts is the comparison. The order matters where a row says so.
var verdicts = []verdict{
	{what: "7 SYNs at once from one address in Japan", hand: "5 of 7 pass", ours: "5 of 7 pass", see: func(t *testing.T, s *site) string {
		s.burst = time.Now()
		passed := knocks(burstSource)(t, s)
		s.emptied = time.Now()
		return passed
	}},
	{what: "7 more from another address: counted apart", hand: "5 of 7 pass", ours: "5 of 7 pass", see: knocks(burstSource.Next())},
	{what: "SYN to SSH, from Japan", hand: "pass", ours: "pass", see: from(at(guidePort, flagSYN))},
	{what: "SYN to SSH, from elsewhere", hand: "drop", ours: "drop", see: sent(syn(american, guidePort))},
	{what: "SYN to SSH, from an address of `admins`", hand: "drop", ours: "pass", why: "whoever travels, or whose address is registered elsewhere, has a way in; never limited, never banned", see: sent(syn(fixed, guidePort))},
	{what: "SYN to port 22", hand: "drop", ours: "reset", why: refused, see: from(at(22, flagSYN))},
	{what: "SYN to another port", hand: "drop", ours: "reset", why: "the same", see: sent(syn(american, 8080))},
	{what: "UDP to a closed port", hand: "drop", ours: "unreachable", why: "the same", see: sent(datagram(american, lab.Host4, 53))},
	{what: "UDP answer to a question of this host", hand: "pass", ours: "pass", see: ownQuestion},
	{what: "over loopback", hand: "pass", ours: "pass", see: loopback},
	{what: "an SSH session, begun under the rules", hand: "pass", ours: "pass", live: true, see: stands(func(t *testing.T, s *site) *lab.Session {
		s.newer = s.login(t, s.somebody(), guidePort)
		return s.newer
	})},
	{what: "an SSH session from before them, where nothing was tracked", hand: "drop", ours: "pass", live: true, why: "the administrator's own session freezes at the first apply: its packets are \"new\" and no SYN", see: stands(func(_ *testing.T, s *site) *lab.Session { return s.older })},

	{what: "NULL (no flag), to SSH", hand: "drop", ours: "drop", see: from(at(guidePort, 0))},
	{what: "XMAS (FIN, PSH, URG), to SSH", hand: "drop", ours: "drop", see: from(at(guidePort, flagFIN|flagPSH|flagURG))},
	{what: "all six flags, to SSH", hand: "drop", ours: "drop", see: from(at(guidePort, flagFIN|flagSYN|flagRST|flagPSH|flagACK|flagURG))},
	{what: "SYN and FIN, to SSH", hand: "drop", ours: "drop", see: from(at(guidePort, flagSYN|flagFIN))},
	{what: "FIN alone, to SSH", hand: "drop", ours: "pass", why: "SSH is judged by its first packets, without tracking; to a FIN of no connection a listening sshd's kernel says nothing", see: from(at(guidePort, flagFIN))},
	{what: "ACK of no connection, to SSH, from elsewhere", hand: "drop", ours: "drop", see: sent(segment(american, guidePort, flagACK))},
	{what: "ACK of no connection, to SSH, from Japan", hand: "drop", ours: "pass", why: "judged as a first packet: it may be the end of a handshake by SYN cookies; to any other the kernel answers by a reset", see: from(at(guidePort, flagACK))},
	{what: "NULL, to another port", hand: "drop", ours: "drop", see: from(at(8080, 0))},
	{what: "FIN alone, to another port", hand: "drop", ours: "drop", see: from(at(8080, flagFIN))},
	{what: "ACK of no connection, to another port", hand: "drop", ours: "drop", see: from(at(8080, flagACK))},
	{what: "SYN and ACK of no connection (invalid), to another port", hand: "drop", ours: "drop", see: from(at(8080, flagSYN|flagACK))},
	{what: "RST of no connection (invalid), to another port", hand: "drop", ours: "drop", see: from(at(8080, flagRST))},

	{what: "ping", hand: "pass", ours: "pass", see: from(func(a netip.Addr) []byte { return control(a, 8, 0, []byte{0, 1, 0, 1}) })},
	{what: "ICMP \"fragmentation needed\", about a session", hand: "pass", ours: "pass", live: true, see: one(func(s *site) []byte { return trouble(routerOut, 3, 4, guidePort, s.newer.From) })},
	{what: "ICMP \"fragmentation needed\", about a connection that is not tracked", hand: "drop", ours: "pass", why: "large packets get through on every path, also for connections that are older than the rules; the kernel checks what it is about", see: one(func(*site) []byte {
		return trouble(routerOut, 3, 4, guidePort, netip.AddrPortFrom(burstSource, 999))
	})},
	{what: "ICMP \"time exceeded\", about such a one", hand: "drop", ours: "pass", why: "the same", see: one(func(*site) []byte {
		return trouble(routerOut, 11, 0, guidePort, netip.AddrPortFrom(burstSource, 999))
	})},
	{what: "ICMP redirect", hand: "drop", ours: "drop", see: one(func(*site) []byte {
		return trouble(lab.Gateway4, 5, 1, guidePort, netip.AddrPortFrom(burstSource, 999))
	})},
	{what: "ICMP timestamp request", hand: "drop", ours: "unreachable", why: refused, see: from(func(a netip.Addr) []byte { return control(a, 13, 0, make([]byte, 16)) })},
	{what: "an unknown protocol (GRE)", hand: "drop", ours: "unreachable", why: "the same", see: from(func(a netip.Addr) []byte { return ipPacket(a, lab.Host4, unix.IPPROTO_GRE, make([]byte, 8)) })},
	{what: "broadcast, UDP", hand: "drop", ours: "drop", see: sent(datagram(lab.Gateway4, netip.MustParseAddr("192.0.2.255"), 137))},
	{what: "multicast, UDP", hand: "drop", ours: "drop", see: sent(datagram(lab.Gateway4, netip.MustParseAddr("224.0.0.1"), 5353))},

	{what: "SYN to SSH in two fragments, from Japan", hand: "pass", ours: "pass", see: func(t *testing.T, s *site) string {
		return s.fate(t, pieces(syn(s.somebody(), guidePort), 24)...)
	}},
	{what: "the same, from elsewhere", hand: "drop", ours: "drop", see: func(t *testing.T, s *site) string {
		return s.fate(t, pieces(syn(american, guidePort), 24)...)
	}},
	{what: "a second fragment without a first", hand: "drop", ours: "drop", see: func(t *testing.T, s *site) string {
		return s.fate(t, pieces(syn(s.somebody(), guidePort), 24)[1])
	}},

	{what: "IPv6: SYN to SSH, from Japan", hand: "pass", ours: "pass", see: sent(syn(japanese6, guidePort))},
	{what: "IPv6: SYN to SSH, from elsewhere", hand: "pass", ours: "drop", why: "rules of iptables say nothing of IPv6: all of it is open", see: sent(syn(american6, guidePort))},
	{what: "IPv6: SYN to another port", hand: "pass", ours: "reset", why: "the same", see: sent(syn(american6, 8080))},
	{what: "IPv6: NULL, to SSH", hand: "pass", ours: "drop", why: "the same", see: sent(segment(american6, guidePort, 0))},
	{what: "IPv6: 7 SYNs at once, from two addresses of a /64 in Japan", hand: "7 of 7 pass", ours: "5 of 7 pass", why: "the same; a /64 is one customer", see: some(7, func(i int) []byte {
		return syn(netip.AddrFrom16([16]byte{0x24, 0, 0x40, 0x50, 0, 1, 0, 5, 15: byte(1 + i%2)}), guidePort)
	})},
	{what: "IPv6: neighbour solicitation", hand: "pass", ours: "pass", see: sent(solicitation)},
	{what: "IPv6: \"packet too big\"", hand: "pass", ours: "pass", see: one(func(*site) []byte {
		return trouble(v6Router, 2, 0, guidePort, netip.AddrPortFrom(japanese6, 999))
	})},
	{what: "IPv6: ping", hand: "pass", ours: "pass", see: sent(control(american6, 128, 0, []byte{0, 1, 0, 1}))},

	{what: "a banned address: SYN to SSH", hand: "drop", ours: "drop", see: func(t *testing.T, s *site) string {
		if s.ban != nil {
			if s.lab != nil {
				s.newer = s.login(t, banned4, guidePort)
			}
			s.ban(t, banned4)
		}
		return s.fate(t, syn(banned4, guidePort))
	}},
	{what: "a banned address: its session from before the ban", hand: "pass", ours: "drop", live: true, why: "bans come first; `guard.cut_connections` resets the session at once", see: stands(func(_ *testing.T, s *site) *lab.Session { return s.newer })},
	{what: "a banned address: ping", hand: "pass", ours: "drop", why: "bans are of all packets; `guard.drop: ssh` makes them SSH's alone", see: sent(control(banned4, 8, 0, []byte{0, 1, 0, 1}))},
	{what: "100 pings at once (by hand 1 a second and burst 4; 50 a second)", hand: "limited", ours: "limited", see: func(t *testing.T, s *site) string {
		n := s.put(t, bytesOf(100, control(american, 8, 0, []byte{0, 1, 0, 1}))...)["pass"]
		if n == 0 || n >= 100 {
			return fmt.Sprintf("%d pass", n)
		}
		return "limited"
	}},
	{what: "7 more from the first address, half a minute after its burst", hand: "1 for each 30 s", ours: "1 for each 30 s", see: refill},
}

func bytesOf(n int, p []byte) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = bytes.Clone(p)
	}
	return all
}

// ownQuestion is asked of somebody, and answered.
func ownQuestion(t *testing.T, s *site) string {
	t.Helper()
	var answering, asking net.PacketConn
	err := s.World.Do(func() (err error) {
		answering, err = new(net.ListenConfig).ListenPacket(t.Context(), "udp4", netip.AddrPortFrom(american, 0).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer answering.Close()
	err = s.Host.Do(func() (err error) {
		asking, err = new(net.ListenConfig).ListenPacket(t.Context(), "udp4", netip.AddrPortFrom(lab.Host4, 0).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer asking.Close()
	b := make([]byte, 10)
	if _, err := asking.WriteTo([]byte("?"), answering.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	_ = answering.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, asker, err := answering.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := answering.WriteTo([]byte("!"), asker); err != nil {
		t.Fatal(err)
	}
	_ = asking.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, _, err := asking.ReadFrom(b); err != nil {
		return "drop"
	}
	return "pass"
}

// loopback is a connection of the host with itself.
func loopback(t *testing.T, s *site) string {
	t.Helper()
	opened := "drop"
	err := s.Host.Do(func() error {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		d := net.Dialer{Timeout: 2 * time.Second}
		if c, err := d.DialContext(t.Context(), "tcp4", l.Addr().String()); err == nil {
			c.Close()
			opened = "pass"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// table is the comparison as the document has it.
func table() string {
	var b strings.Builder
	b.WriteString("| what arrives | by hand | sekisho.yaml | |\n|---|---|---|---|\n")
	for _, v := range verdicts {
		why := v.why
		if why == "" {
			why = "="
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", v.what, v.hand, v.ours, why)
	}
	return b.String()
}
