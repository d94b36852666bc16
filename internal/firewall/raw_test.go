package firewall

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// injector puts packets of any kind on the wire, as the peer could.
type injector struct {
	fd     int
	to     unix.SockaddrLinklayer
	host   [8]byte
	probe  *nftables.Conn
	sent   uint64
	before counts
	kinds  [16]uint64
	kind   string
}

// marker is the traffic class of injected packets: nobody else's.
const marker = 46 << 2

// counts is what a table of the test's own has seen of injected packets.
type counts struct {
	arrived, passed, forwarded, answers uint64
	kind                                string // of the last answer
}

// inject makes an injector. What comes past our table is counted, and goes no
// further where stop is set.
func (w wire) inject(t testing.TB, stop bool) *injector {
	t.Helper()
	in := &injector{}
	var host net.HardwareAddr
	w.host.do(t, func() error {
		i, err := net.InterfaceByName("veth0")
		if err == nil {
			host = i.HardwareAddr
		}
		return err
	})
	w.peer.do(t, func() error {
		i, err := net.InterfaceByName("veth1")
		if err != nil {
			return err
		}
		in.to = unix.SockaddrLinklayer{Ifindex: i.Index, Halen: 6}
		copy(in.host[:], host)
		in.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
		return err
	})
	t.Cleanup(func() { _ = unix.Close(in.fd) })
	for _, family := range []string{"-4", "-6"} { // a route back to every source
		w.host.run(t, "ip", family, "route", "add", "default", "dev", "veth0")
	}
	end := ""
	if stop {
		end = "drop"
	}
	w.host.feed(t, `table inet probe {
		chain arrived { type filter hook prerouting priority -450; ip dscp ef counter; ip6 dscp ef counter; }
		chain passed { type filter hook input priority 10; ip dscp ef counter `+end+`; ip6 dscp ef counter `+end+`; }
		chain forwarded { type filter hook forward priority 10; ip dscp ef counter; ip6 dscp ef counter; }
		chain answers {
			type filter hook output priority 0;
			oif "lo" accept
			tcp flags & rst == rst counter comment "reset"
			tcp flags & (syn|ack) == syn|ack counter comment "handshake"
			icmp type destination-unreachable icmp code port-unreachable counter comment "port unreachable"
			icmp type destination-unreachable icmp code prot-unreachable counter comment "protocol unreachable"
			icmpv6 type destination-unreachable icmpv6 code port-unreachable counter comment "port unreachable"
			icmpv6 type destination-unreachable icmpv6 code admin-prohibited counter comment "prohibited"
			icmp type echo-reply counter comment "pong"
			icmpv6 type echo-reply counter comment "pong"
			icmpv6 type nd-neighbor-advert counter comment "neighbour"
		}
	}`, "nft", "-f", "-")
	var err error
	if in.probe, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(w.host.fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.probe.CloseLasting() })
	return in
}

func (in *injector) read(t testing.TB) (c counts) {
	t.Helper()
	table := &nftables.Table{Name: "probe", Family: nftables.TableFamilyINet}
	for chain, n := range map[string]*uint64{"arrived": &c.arrived, "passed": &c.passed, "forwarded": &c.forwarded, "answers": &c.answers} {
		rules, err := in.probe.GetRules(table, &nftables.Chain{Name: chain, Table: table})
		if err != nil || len(rules) == 0 {
			t.Fatalf("read the probe: %d rules, %v", len(rules), err)
		}
		for i, r := range rules {
			for _, e := range r.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					*n += counter.Packets
					if chain == "answers" && counter.Packets > in.kinds[i] {
						in.kinds[i], in.kind = counter.Packets, comment(r)
					}
				}
			}
		}
	}
	c.kind = in.kind
	return c
}

// send puts one IP packet on the wire.
func (in *injector) send(t testing.TB, packet []byte) {
	t.Helper()
	in.to.Protocol, in.to.Addr = 0x0008, in.host // ETH_P_IP in the network's order
	switch v6 := packet[0]>>4 == 6; {
	case v6 && packet[24] == 0xff:
		in.to.Addr = [8]byte{0x33, 0x33, packet[36], packet[37], packet[38], packet[39]}
	case !v6 && packet[19] == 255:
		in.to.Addr = [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	case !v6 && packet[16]>>4 == 0xe:
		in.to.Addr = [8]byte{0x01, 0x00, 0x5e, packet[17] & 0x7f, packet[18], packet[19]}
	}
	if packet[0]>>4 == 6 {
		in.to.Protocol = 0xdd86
	}
	if err := unix.Sendto(in.fd, packet, 0, &in.to); err != nil {
		t.Fatal(err)
	}
	in.sent++
}

// seen waits until all that was sent has arrived, and returns what became of it
// since the last time. A veth delivers on the sender's CPU, so that all hooks have
// run soon after the first one; what they did is read twice the same.
func (in *injector) seen(t testing.TB) counts {
	t.Helper()
	deadline := time.Now().Add(patience)
	last := counts{}
	for {
		now := in.read(t)
		if now.arrived >= in.before.arrived+in.sent && now == last {
			d := counts{
				now.arrived - in.before.arrived, now.passed - in.before.passed,
				now.forwarded - in.before.forwarded, now.answers - in.before.answers, now.kind,
			}
			in.before, in.sent, in.kind = now, 0, ""
			return d
		}
		if time.Now().After(deadline) {
			t.Fatalf("of %d packets %d arrived", in.sent, now.arrived-in.before.arrived)
		}
		last = now
	}
}

// verdict sends one packet and tells what became of it: "pass", "drop", or how it
// was answered.
func (in *injector) verdict(t testing.TB, packet []byte) string {
	t.Helper()
	in.send(t, packet)
	switch c := in.seen(t); {
	case c.passed > 0:
		return "pass"
	case c.answers > 0:
		return c.kind
	}
	return "drop"
}

// ipPacket is an IP packet from one address to another.
func ipPacket(from, to netip.Addr, proto byte, payload []byte) []byte {
	if from.Is4() {
		b := make([]byte, 20, 20+len(payload))
		b[0], b[1], b[8], b[9] = 0x45, marker, 64, proto
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
		copy(b[12:], from.AsSlice())
		copy(b[16:], to.AsSlice())
		binary.BigEndian.PutUint16(b[10:], sum16(0, b))
		return append(b, payload...)
	}
	b := make([]byte, 40, 40+len(payload))
	b[0], b[1], b[6], b[7] = 0x60|marker>>4, marker<<4&0xff, proto, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.AsSlice())
	return append(b, payload...)
}

// sum16 is the Internet checksum of parts, after start.
func sum16(start uint32, parts ...[]byte) uint16 {
	sum := start
	for _, p := range parts {
		for i := 0; i < len(p); i += 2 {
			w := uint32(p[i]) << 8
			if i+1 < len(p) {
				w |= uint32(p[i+1])
			}
			sum += w
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pseudo is what the pseudo header adds to a checksum.
func pseudo(from, to netip.Addr, proto byte, size int) uint32 {
	return uint32(^sum16(uint32(proto)+uint32(size), from.AsSlice(), to.AsSlice()))
}

// tcp is a TCP segment with its checksum.
func tcp(from, to netip.AddrPort, flags byte, seq, ack uint32, data []byte) []byte {
	b := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint16(b[0:], from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], ack)
	b[12], b[13], b[14] = 5<<4, flags, 0xff
	b = append(b, data...)
	binary.BigEndian.PutUint16(b[16:], sum16(pseudo(from.Addr(), to.Addr(), unix.IPPROTO_TCP, len(b)), b))
	return b
}

// datagram is a UDP datagram with its checksum.
func datagram(from, to netip.AddrPort, data []byte) []byte {
	b := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(b[0:], from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
	b = append(b, data...)
	binary.BigEndian.PutUint16(b[6:], sum16(pseudo(from.Addr(), to.Addr(), unix.IPPROTO_UDP, len(b)), b))
	return b
}

// control is a message of ICMP or ICMPv6.
func control(from, to netip.Addr, typ, code byte, data []byte) []byte {
	b := append([]byte{typ, code, 0, 0}, data...)
	start := uint32(0)
	if from.Is6() {
		start = pseudo(from, to, unix.IPPROTO_ICMPV6, len(b))
	}
	binary.BigEndian.PutUint16(b[2:], sum16(start, b))
	return b
}

// packet is p on the wire.
func (p Packet) packet() []byte {
	from, to := netip.AddrPortFrom(p.From, p.FromPort), netip.AddrPortFrom(p.To, p.ToPort)
	payload := []byte{0, 0, 0, 0, 0, 0, 0, 0}
	switch p.Proto {
	case unix.IPPROTO_TCP:
		payload = tcp(from, to, p.Flags, 1, 1, nil)
	case unix.IPPROTO_UDP:
		payload = datagram(from, to, nil)
	}
	return ipPacket(p.From, p.To, p.Proto, payload)
}
