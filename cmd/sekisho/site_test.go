package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/lab"
	"sekisho/internal/run"
)

// Where the guide's packets come from, beside the lab's own addresses. None leaves its
// namespace, whosever it is on the internet.
var (
	japan4  = netip.MustParsePrefix("133.11.0.0/16")
	abroad4 = netip.MustParsePrefix("12.1.0.0/16")
	japan6  = netip.MustParsePrefix("2400:4050:1::/48")
	abroad6 = netip.MustParsePrefix("2600:1f00:1::/48")
)

// site is a host with a set-up, on which anybody's packets can be put, and what becomes
// of them seen: whether they come past all rules, or how they are answered.
type site struct {
	*lab.Network
	lab            *lab.Lab // nil: no sshd runs there
	start          func(run.Command) (*run.Child, error)
	ban            func(*testing.T, netip.Addr)
	iptables       string       // by hand: which
	older          *lab.Session // logged in before the rules came
	newer          *lab.Session // since
	burst, emptied time.Time    // when its first and last packet came
	used           byte         // Japanese addresses that had a row of their own

	fd   int
	to   unix.SockaddrLinklayer
	host [8]byte
	dir  string
	last map[string]uint64
}

// marker is the traffic class of injected packets, tapPort where they come from: nobody
// else's.
const (
	marker  = 46 << 2
	tapPort = 1000
)

// tap counts injected packets before and after all rules. Where they end nothing was
// done with them yet: no connection begins, and conntrack forgets them.
const tap = `table inet tap
delete table inet tap
table inet tap {
	chain arrived { type filter hook prerouting priority -450; ip dscp ef counter comment "arrived"; ip6 dscp ef counter comment "arrived"; }
	chain pass { type filter hook input priority 10; ip dscp ef counter drop comment "pass"; ip6 dscp ef counter drop comment "pass"; }
	chain answers {
		type filter hook output priority 0;
		oif "lo" accept
		tcp dport 1000 tcp flags & rst == rst counter comment "reset"
		icmp type destination-unreachable icmp code port-unreachable counter comment "unreachable"
		icmp type destination-unreachable icmp code prot-unreachable counter comment "unreachable"
		icmpv6 type destination-unreachable counter comment "unreachable"
	}
}
`

// inject makes the site ready for packets.
func (s *site) inject(t *testing.T) {
	t.Helper()
	s.dir = t.TempDir()
	if err := s.Own(japan4, abroad4, japan6, abroad6, freshJapan4, internet4); err != nil {
		t.Fatal(err)
	}
	device := func(mac *[8]byte, index *int) func() error {
		return func() error {
			i, err := net.InterfaceByName(lab.Device)
			if err == nil {
				copy(mac[:], i.HardwareAddr)
				*index = i.Index
			}
			return err
		}
	}
	var index int
	if err := s.Host.Do(device(&s.host, &index)); err != nil {
		t.Fatal(err)
	}
	var mac [8]byte
	if err := s.World.Do(device(&mac, &index)); err != nil {
		t.Fatal(err)
	}
	s.to = unix.SockaddrLinklayer{Ifindex: index, Halen: 6}
	err := s.World.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(s.fd) })
	path := filepath.Join(s.dir, "tap")
	if err := os.WriteFile(path, []byte(tap), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(t, "nft", "-f", path)
	s.last = s.counters(t)
}

// run runs a program on the host, and returns what it said.
func (s *site) run(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	child, err := s.start(run.Command{Args: args, Stdout: &out})
	if err == nil {
		err = child.Wait()
	}
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, child.Stderr())
	}
	return out.String()
}

var counted = regexp.MustCompile(`counter packets (\d+) bytes \d+(?: drop)? comment "(\w+)"`)

// counters are the tap's.
func (s *site) counters(t *testing.T) map[string]uint64 {
	t.Helper()
	all := map[string]uint64{}
	for _, m := range counted.FindAllStringSubmatch(s.run(t, "nft", "list", "table", "inet", "tap"), -1) {
		n, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		all[m[2]] += n
	}
	return all
}

// put puts packets on the wire, and returns what became of them: how many arrived,
// passed, were answered by a reset, or as unreachable.
func (s *site) put(t *testing.T, packets ...[]byte) map[string]uint64 {
	t.Helper()
	for _, p := range packets {
		s.to.Protocol, s.to.Addr = 0x0008, s.host // ETH_P_IP in the network's order
		switch v6 := p[0]>>4 == 6; {
		case v6:
			s.to.Protocol = 0xdd86
			if p[24] == 0xff {
				s.to.Addr = [8]byte{0x33, 0x33, p[36], p[37], p[38], p[39]}
			}
		case p[19] == 255:
			s.to.Addr = [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		case p[16]>>4 == 0xe:
			s.to.Addr = [8]byte{0x01, 0x00, 0x5e, p[17] & 0x7f, p[18], p[19]}
		}
		if err := unix.Sendto(s.fd, p, 0, &s.to); err != nil {
			t.Fatal(err)
		}
	}
	// A veth delivers on the sender's CPU: all hooks have run soon after the first.
	before := map[string]uint64{}
	var now map[string]uint64
	eventually(t, "the packets arrive", func() bool {
		now = s.counters(t)
		same := now["arrived"] >= s.last["arrived"]+uint64(len(packets))
		for name, n := range now {
			same = same && before[name] == n
		}
		before = now
		return same
	})
	became := map[string]uint64{}
	for name, n := range now {
		became[name] = n - s.last[name]
	}
	s.last = now
	return became
}

// fate is what becomes of packets that are one thing: pass, drop, reset, unreachable.
func (s *site) fate(t *testing.T, packets ...[]byte) string {
	t.Helper()
	became := s.put(t, packets...)
	for _, name := range []string{"pass", "reset", "unreachable"} {
		if became[name] > 0 {
			return name
		}
	}
	return "drop"
}

// somebody is an address in Japan that no row has used.
func (s *site) somebody() netip.Addr {
	s.used++
	return netip.AddrFrom4([4]byte{133, 11, 1, s.used})
}

const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
)

// ipPacket is an IP packet from one address to another, with the marker.
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
	if proto == unix.IPPROTO_ICMPV6 {
		b[7] = 255
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.AsSlice())
	return append(b, payload...)
}

// pieces are the fragments of an IPv4 packet, which is cut after so many bytes of its payload.
func pieces(p []byte, after int) [][]byte {
	cut := func(payload []byte, offset uint16) []byte {
		b := append(bytes.Clone(p[:20]), payload...)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[4:], binary.BigEndian.Uint16(p[14:])) // a number of the source's own
		binary.BigEndian.PutUint16(b[6:], offset)
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], sum16(0, b[:20]))
		return b
	}
	const more = 1 << 13
	return [][]byte{cut(p[20:20+after], more), cut(p[20+after:], uint16(after/8))}
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

// hostOf is the host's address of the family.
func hostOf(from netip.Addr) netip.Addr {
	if from.Is6() {
		return lab.Host6
	}
	return lab.Host4
}

// segment is a TCP segment to a port of the host.
func segment(from netip.Addr, port uint16, flags byte) []byte {
	to := hostOf(from)
	b := make([]byte, 20, 32)
	binary.BigEndian.PutUint16(b[0:], tapPort)
	binary.BigEndian.PutUint16(b[2:], port)
	binary.BigEndian.PutUint32(b[4:], 1000)
	if flags&flagACK != 0 {
		binary.BigEndian.PutUint32(b[8:], 1000)
	}
	b[12], b[13], b[14] = 5<<4, flags, 0xff
	b = append(b, "first words "...)
	binary.BigEndian.PutUint16(b[16:], sum16(pseudo(from, to, unix.IPPROTO_TCP, len(b)), b))
	return ipPacket(from, to, unix.IPPROTO_TCP, b)
}

func syn(from netip.Addr, port uint16) []byte { return segment(from, port, flagSYN) }

// datagram is a UDP datagram.
func datagram(from, to netip.Addr, port uint16) []byte {
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b[0:], tapPort)
	binary.BigEndian.PutUint16(b[2:], port)
	binary.BigEndian.PutUint16(b[4:], 8)
	binary.BigEndian.PutUint16(b[6:], sum16(pseudo(from, to, unix.IPPROTO_UDP, len(b)), b))
	return ipPacket(from, to, unix.IPPROTO_UDP, b)
}

// control is a message of ICMP or ICMPv6 to the host.
func control(from netip.Addr, typ, code byte, data []byte) []byte {
	b, to := append([]byte{typ, code, 0, 0}, data...), hostOf(from)
	proto, start := byte(unix.IPPROTO_ICMP), uint32(0)
	if from.Is6() {
		proto = unix.IPPROTO_ICMPV6
		start = pseudo(from, to, proto, len(b))
	}
	binary.BigEndian.PutUint16(b[2:], sum16(start, b))
	return ipPacket(from, to, proto, b)
}

// trouble is an ICMP error of a router on the way, about a packet that the host sent
// from a port to a peer.
func trouble(router netip.Addr, typ, code byte, port uint16, peer netip.AddrPort) []byte {
	about := ipPacket(hostOf(peer.Addr()), peer.Addr(), unix.IPPROTO_TCP, nil)
	if peer.Addr().Is4() {
		binary.BigEndian.PutUint16(about[2:], 1500)
		about[10], about[11] = 0, 0
		binary.BigEndian.PutUint16(about[10:], sum16(0, about))
	} else {
		binary.BigEndian.PutUint16(about[4:], 1460)
	}
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, port), peer.Port())
	data := append([]byte{0, 0, 1400 >> 8, 1400 & 0xff}, about...) // the next link's MTU
	return control(router, typ, code, append(append(data, ports...), 0, 0, 0, 1))
}
