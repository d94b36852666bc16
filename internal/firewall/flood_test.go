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
// turns on the same core.
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

// flood injects SYNs into the host's stack as if its veth had received them: an XDP
// program gives each frame a source of its own and passes it on (live frames of
// BPF_PROG_TEST_RUN, Linux 5.18). A tenth of what a packet socket costs: what is
// measured is the receiving side.
type flood struct {
	w     wire
	prog  int
	frame []byte
	ctx   [6]uint32 // struct xdp_md
}

func newFlood(b *testing.B, w wire) *flood {
	b.Helper()
	f := &flood{w: w}
	var index int
	w.host.do(b, func() error {
		i, err := net.InterfaceByName("veth0")
		if err == nil {
			index = i.Index
			f.frame = synFrame(i.HardwareAddr, net.HardwareAddr{2, 0, 0, 0, 0, 1}, floodSource(0), 1024)
		}
		return err
	})
	f.ctx = [6]uint32{1: uint32(len(f.frame)), 3: uint32(index)}
	// The sum of the header without its checksum and the source's lower half.
	sum := int32(^binary.BigEndian.Uint16(f.frame[ipAt+10:]))
	program := []instruction{
		{code: 0x61, regs: 0x17, off: 0},                   // r7 = data
		{code: 0x61, regs: 0x13, off: 4},                   // r3 = data_end
		{code: 0xbf, regs: 0x72},                           // r2 = r7
		{code: 0x07, regs: 0x02, imm: int32(len(f.frame))}, // r2 += length
		{code: 0x2d, regs: 0x32, off: 12},                  // if r2 > r3: to the end
		{code: 0x85, imm: 7},                               // r0 = random
		{code: 0x94, regs: 0x00, imm: floodSources},        // r0 %= sources
		{code: 0xbf, regs: 0x01},                           // r1 = r0
		{code: 0xdc, regs: 0x01, imm: 16},                  // r1 = be16(r1)
		{code: 0x6b, regs: 0x17, off: ipAt + 14},           // source's lower half = r1
		{code: 0x07, regs: 0x00, imm: sum},                 // r0 += sum
		{code: 0xbf, regs: 0x01},                           // r1 = r0
		{code: 0x77, regs: 0x01, imm: 16},                  // r1 >>= 16
		{code: 0x0f, regs: 0x10},                           // r0 += r1
		{code: 0xa7, regs: 0x00, imm: -1},                  // r0 = ^r0
		{code: 0xdc, regs: 0x00, imm: 16},                  // r0 = be16(r0)
		{code: 0x6b, regs: 0x07, off: ipAt + 10},           // checksum = r0
		{code: 0xb7, regs: 0x00, imm: 2},                   // XDP_PASS
		{code: 0x95},                                       // end
	}
	license := []byte("GPL\x00")
	attr := struct {
		typ, count     uint32
		insns, license uint64
		_              [96]byte
	}{
		typ: unix.BPF_PROG_TYPE_XDP, count: uint32(len(program)),
		insns: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if errno != 0 {
		b.Fatalf("load the flood's program: %v", errno)
	}
	f.prog = int(fd)
	b.Cleanup(func() { _ = unix.Close(f.prog) })
	return f
}

// instruction is struct bpf_insn; regs is the source in the upper half and the
// destination in the lower.
type instruction struct {
	code, regs uint8
	off        int16
	imm        int32
}

// send sends one round and returns the packets per second.
func (f *flood) send(b *testing.B) (pps float64) {
	b.Helper()
	attr := struct {
		prog, retval, sizeIn, sizeOut uint32
		dataIn, dataOut               uint64
		repeat, duration              uint32
		ctxIn, ctxOut                 uint32
		ctx, ctxBack                  uint64
		flags, cpu, batch             uint32
		_                             [4]byte
	}{
		prog: uint32(f.prog), sizeIn: uint32(len(f.frame)), dataIn: uint64(uintptr(unsafe.Pointer(&f.frame[0]))),
		repeat: floodPackets, ctxIn: uint32(unsafe.Sizeof(f.ctx)), ctx: uint64(uintptr(unsafe.Pointer(&f.ctx[0]))),
		flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
	}
	f.w.host.do(b, func() error {
		var one unix.CPUSet
		if err := unix.SchedGetaffinity(0, &one); err != nil {
			return err
		}
		for cpu := 0; one.Count() > 1; cpu++ {
			one.Clear(cpu)
		}
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			return err
		}
		start := time.Now()
		_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		pps = floodPackets / time.Since(start).Seconds()
		runtime.KeepAlive(f)
		if errno != 0 {
			return fmt.Errorf("inject frames (Linux 5.18): %w", errno)
		}
		return nil
	})
	return pps
}

const ipAt = 14 // where the IP header begins in a frame

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
