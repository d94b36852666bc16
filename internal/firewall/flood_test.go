package firewall

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	floodSources = 10_000
	floodPackets = 400_000 // of one round on one side
	floodRounds  = 5
)

// BenchmarkFlood drops the same flood of SYNs from 10,000 banned sources by our
// rules and by those of fail2ban's action nftables-multiport (its set in a chain at
// input, after conntrack; with drop, which is cheaper than its default reject), in
// turns on the same core. Sending is part of both figures.
func BenchmarkFlood(b *testing.B) {
	ours, theirs := newWire(b), newWire(b)
	for _, w := range []wire{ours, theirs} { // as on any host with a stateful firewall
		w.host.run(b, "nft", "add table inet stateful; add chain inet stateful input { type filter hook input priority 0; }; add rule inet stateful input ct state established,related counter accept")
	}
	bans := make([]Ban, floodSources)
	for i := range bans {
		bans[i] = Ban{netip.PrefixFrom(floodSource(i), 32), time.Hour}
	}
	if err := ours.k.Ban(b.Context(), bans); err != nil {
		b.Fatal(err)
	}
	if err := theirs.k.Remove(b.Context()); err != nil {
		b.Fatal(err)
	}
	var elements strings.Builder
	for _, ban := range bans {
		fmt.Fprintf(&elements, "add element inet f2b-table addr-set-sshd { %s }\n", ban.Prefix.Addr())
	}
	theirs.host.feed(b, "add table inet f2b-table\n"+
		"add chain inet f2b-table f2b-chain { type filter hook input priority -1; }\n"+
		"add set inet f2b-table addr-set-sshd { type ipv4_addr; }\n"+elements.String()+
		"add rule inet f2b-table f2b-chain tcp dport { 22 } ip saddr @addr-set-sshd counter drop\n", "nft", "-f", "-")

	runtime.LockOSThread() // never unlocked: the thread ends with the benchmark
	var one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &one); err != nil {
		b.Fatal(err)
	}
	for cpu := 0; one.Count() > 1; cpu++ {
		one.Clear(cpu) // the last one: interrupts of other things favour the first
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		b.Fatal(err)
	}
	a, z := newFlood(b, ours), newFlood(b, theirs)
	var us, them, ratio []float64
	a.send(b)
	z.send(b)
	for b.Loop() {
		for range floodRounds {
			x, y := a.send(b), z.send(b)
			us, them, ratio = append(us, x), append(them, y), append(ratio, x/y)
		}
	}
	counted(b, ours.host, "sekisho", len(us))
	counted(b, theirs.host, "f2b-table", len(them))
	b.ReportMetric(median(us)/1e6, "sekisho-Mpps")
	b.ReportMetric(median(them)/1e6, "fail2ban-Mpps")
	b.ReportMetric(median(ratio), "ratio")
	b.ReportMetric(0, "ns/op")
}

func floodSource(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)}) }

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// counted fails unless the rules of table dropped nearly all that was sent.
func counted(b *testing.B, n namespace, table string, rounds int) {
	b.Helper()
	var most, packets int
	for line := range strings.Lines(n.run(b, "nft", "list", "table", "inet", table)) {
		if _, counter, ok := strings.Cut(line, "counter packets "); ok {
			if _, err := fmt.Sscan(counter, &packets); err == nil {
				most = max(most, packets)
			}
		}
	}
	if sent := (rounds + 1) * floodPackets; most < sent*99/100 {
		b.Fatalf("%s dropped %d of %d packets", table, most, sent)
	}
}

// flood is a packet socket on the peer's side and the frames to send.
type flood struct {
	fd       int
	messages []mmsghdr
}

// mmsghdr is struct mmsghdr of socket.h.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

func newFlood(b *testing.B, w wire) *flood {
	b.Helper()
	var hostMAC, peerMAC net.HardwareAddr
	var index int
	w.host.do(b, func() error {
		i, err := net.InterfaceByName("veth0")
		if err == nil {
			hostMAC = i.HardwareAddr
		}
		return err
	})
	f := &flood{}
	w.peer.do(b, func() error {
		i, err := net.InterfaceByName("veth1")
		if err != nil {
			return err
		}
		peerMAC, index = i.HardwareAddr, i.Index
		if f.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(f.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
			return err
		}
		return unix.Bind(f.fd, &unix.SockaddrLinklayer{Protocol: 0x0008, Ifindex: index})
	})
	b.Cleanup(func() { _ = unix.Close(f.fd) })
	for i := range floodSources {
		frame := synFrame(hostMAC, peerMAC, floodSource(i), uint16(1024+i))
		iov := &unix.Iovec{Base: &frame[0]}
		iov.SetLen(len(frame))
		m := mmsghdr{hdr: unix.Msghdr{Iov: iov}}
		m.hdr.SetIovlen(1)
		f.messages = append(f.messages, m)
	}
	return f
}

// send sends one round and returns the packets per second.
func (f *flood) send(b *testing.B) float64 {
	b.Helper()
	const burst = 64
	start := time.Now()
	for sent := 0; sent < floodPackets; {
		at := sent % len(f.messages)
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&f.messages[at])),
			uintptr(min(burst, len(f.messages)-at)), 0, 0, 0)
		if errno == unix.ENOBUFS || errno == unix.EINTR || errno == unix.EAGAIN {
			continue
		}
		if errno != 0 {
			b.Fatalf("sendmmsg: %v", errno)
		}
		sent += int(n)
	}
	return floodPackets / time.Since(start).Seconds()
}

// synFrame is an Ethernet frame with a SYN from src to the host's SSH port.
func synFrame(to, from net.HardwareAddr, src netip.Addr, port uint16) []byte {
	f := append(append(append([]byte{}, to...), from...), 0x08, 0x00)
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], 40)
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], netip.MustParseAddr(host4).AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, port)
	binary.BigEndian.PutUint16(tcp[2:], sshPort)
	tcp[12], tcp[13] = 5<<4, 0x02
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	pseudo := append(append(slices.Clone(ip[12:20]), 0, unix.IPPROTO_TCP, 0, 20), tcp...)
	binary.BigEndian.PutUint16(tcp[16:], checksum(pseudo))
	return append(append(f, ip...), tcp...)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
