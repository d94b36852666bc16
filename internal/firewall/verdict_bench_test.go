package firewall

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	countries "sekisho/internal/country"
	"sekisho/internal/prefixset"
)

const (
	verdictSources = 1 << 15 // of each flood
	verdictPackets = 30_000  // of one round on one side
	verdictRounds  = 9
	verdictBans    = 100_000
)

// embedded is the addresses of a country in the program's own snapshot.
func embedded(tb testing.TB, code countries.Code) prefixset.Set {
	tb.Helper()
	data, err := countries.Embedded()
	if err != nil {
		tb.Fatal(err)
	}
	set, err := data.Set(code)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// BenchmarkVerdict is what a packet costs a host with 100,000 bans and Japan's
// addresses allowed, beside what it costs one whose table has the same base chains
// with an `accept` in each, and one with the classic rules (iptables, ipset,
// hashlimit; IPv4). The same packets in turns on one core, CPU time, without what
// making the packets costs; the median of the ratios of neighbouring rounds. No
// conntrack anywhere, SYN cookies for all: what is not the firewall's is cheap.
func BenchmarkVerdict(b *testing.B) {
	jp := embedded(b, countries.Code{'J', 'P'})
	ours, empty, classic := newReceiver(b), newReceiver(b), newReceiver(b)

	k := newKernel(b, ours.n)
	r := publicFor(b, 7, []string{"JP"})
	r.Rules.Mode, r.Rules.NoTrack, r.Countries = ModeGuard, false, jp
	// Nobody is over the rate: each packet is looked up in the set of rates, and let in.
	r.Rules.Rate = Rate{PerMinute: 10_000, Burst: 10_000}
	r.Rules.Admins = prefixes("198.51.100.10/32", "2001:db8:ad::/48")
	if err := k.Ensure(b.Context(), stateOf(r)); err != nil {
		b.Fatal(err)
	}
	bans := hostBans(verdictBans)
	if err := k.Ban(b.Context(), bans); err != nil {
		b.Fatal(err)
	}
	empty.n.feed(b, `add table inet sekisho
add chain inet sekisho raw { type filter hook prerouting priority -300; }
add rule inet sekisho raw accept
add chain inet sekisho input { type filter hook input priority -10; }
add rule inet sekisho input accept
`, "nft", "-f", "-")
	hasClassic := classic.classic(b, jp, bans)

	random := rand.New(rand.NewPCG(1, 2))
	from4, from6 := sourcesIn(random, jp, false), sourcesIn(random, jp, true)
	var banned, foreign []netip.Addr
	for range verdictSources {
		banned = append(banned, bans[random.IntN(len(bans))].Prefix.Addr())
		foreign = append(foreign, netip.AddrFrom4([4]byte{198, 18, byte(random.IntN(256)), byte(random.IntN(256))}))
	}
	for _, kind := range []struct {
		name  string
		from  []netip.Addr
		proto int
		port  uint16
		flags byte
	}{
		{"let-in-IPv4", from4, unix.IPPROTO_TCP, sshPort, flagSYN},
		{"let-in-IPv6", from6, unix.IPPROTO_TCP, sshPort, flagSYN},
		{"foreign", foreign, unix.IPPROTO_TCP, sshPort, flagSYN},
		{"banned", banned, unix.IPPROTO_TCP, sshPort, flagSYN},
		{"segments", from4, unix.IPPROTO_TCP, sshPort, flagACK},
		{"web", from4, unix.IPPROTO_TCP, webPort, flagSYN},
		{"UDP-IPv4", from4, unix.IPPROTO_UDP, udpPort, 0},
		{"UDP-IPv6", from6, unix.IPPROTO_UDP, udpPort, 0},
	} {
		b.Run(kind.name, func(b *testing.B) {
			var frames [][]byte
			for _, from := range kind.from {
				p := Packet{From: from, To: netip.MustParseAddr(host4), FromPort: 40000, ToPort: kind.port, Proto: byte(kind.proto), Flags: kind.flags}
				if from.Is6() {
					p.To = netip.MustParseAddr(host6)
				}
				frames = append(frames, p.packet())
			}
			gun := newGun(b, frames)
			send := func(r *receiver, drop bool) float64 { return gun.send(b, r, drop) }
			var nsOurs, nsEmpty, nsClassic, ratio, ratioClassic []float64
			for _, r := range []*receiver{ours, empty, classic, ours, empty, classic} { // all sources are known then
				send(r, false)
			}
			for b.Loop() {
				for range verdictRounds {
					making := send(empty, true)
					e, o := send(empty, false)-making, send(ours, false)-making
					nsEmpty, nsOurs, ratio = append(nsEmpty, e), append(nsOurs, o), append(ratio, o/e)
					if hasClassic && kind.from[0].Is4() {
						c := send(classic, false) - making
						nsClassic, ratioClassic = append(nsClassic, c), append(ratioClassic, c/e)
					}
				}
			}
			b.ReportMetric(median(nsOurs), "sekisho-ns")
			b.ReportMetric(median(nsEmpty), "empty-ns")
			b.ReportMetric(median(ratio), "ratio")
			if len(nsClassic) > 0 {
				b.ReportMetric(median(nsClassic), "ipset-ns")
				b.ReportMetric(median(ratioClassic), "ipset-ratio")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

const udpPort = 4242

// sourcesIn are addresses spread over those of a set, of one family.
func sourcesIn(random *rand.Rand, set prefixset.Set, v6 bool) (addrs []netip.Addr) {
	var nets []netip.Prefix
	for _, p := range set.Prefixes() {
		if p.Addr().Is6() == v6 {
			nets = append(nets, p)
		}
	}
	for range verdictSources {
		p := nets[random.IntN(len(nets))]
		a := p.Addr().AsSlice()
		for bit := p.Bits(); bit < len(a)*8; bit++ {
			a[bit/8] |= byte(random.IntN(2)) << (7 - bit%8)
		}
		addr, _ := netip.AddrFromSlice(a)
		addrs = append(addrs, addr)
	}
	return addrs
}

// receiver is a host that takes floods on veth0; what it answers goes nowhere.
type receiver struct {
	n     namespace
	index uint32
	mac   net.HardwareAddr
}

func newReceiver(b *testing.B) *receiver {
	b.Helper()
	r := &receiver{n: newNamespace(b)}
	for _, args := range []string{
		"link add veth0 type veth peer name veth1", "link add out type veth peer name nowhere", "link set out arp off",
		"addr add " + host4 + "/32 dev veth0", "addr add " + host6 + "/128 dev veth0 nodad",
		"link set veth1 up", "link set veth0 up", "link set out up",
		"route add default via 10.0.0.254 dev out onlink", "-6 route add default via fe80::1 dev out onlink",
	} {
		r.n.run(b, "ip", strings.Fields(args)...)
	}
	r.n.set(b, "net.ipv4.tcp_syncookies=2", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.veth0.rp_filter=0", "net.ipv4.conf.default.log_martians=0")
	r.n.do(b, func() error {
		i, err := net.InterfaceByName("veth0")
		if err != nil {
			return err
		}
		r.index, r.mac = uint32(i.Index), i.HardwareAddr
		for _, port := range []int{sshPort, webPort} {
			l, err := net.Listen("tcp", fmt.Sprintf("[::]:%d", port))
			if err != nil {
				return err
			}
			b.Cleanup(func() { _ = l.Close() })
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf("[::]:%d", udpPort)) // nobody reads it
		if err == nil {
			b.Cleanup(func() { _ = u.Close() })
		}
		return err
	})
	return r
}

// classic gives r the rules of many a guide: bans, a country and a rate by iptables,
// ipset and hashlimit. False where these are not installed.
func (r *receiver) classic(b *testing.B, allowed prefixset.Set, bans []Ban) bool {
	b.Helper()
	iptables := "iptables-legacy"
	if _, err := exec.LookPath(iptables); err != nil {
		iptables = "iptables"
	}
	for _, name := range []string{iptables, "ipset"} {
		if _, err := exec.LookPath(name); err != nil {
			b.Logf("LEFT OUT: ipset's side: needs the command %s", name)
			return false
		}
	}
	var sets strings.Builder
	sets.WriteString("create banned hash:ip hashsize 65536 maxelem 200000 timeout 3600\ncreate allowed hash:net hashsize 16384 maxelem 200000\n")
	for _, ban := range bans {
		fmt.Fprintf(&sets, "add banned %s\n", ban.Prefix.Addr())
	}
	for _, p := range allowed.Prefixes() {
		if p.Addr().Is4() {
			fmt.Fprintf(&sets, "add allowed %s\n", p)
		}
	}
	r.n.feed(b, sets.String(), "ipset", "restore")
	for _, rule := range []string{
		"-m set --match-set banned src -j DROP",
		"-p tcp --dport 22 --syn -m set ! --match-set allowed src -j DROP",
		"-p tcp --dport 22 --syn -m hashlimit --hashlimit-name ssh --hashlimit-mode srcip --hashlimit-above 10000/min --hashlimit-burst 10000 --hashlimit-htable-size 65536 --hashlimit-htable-max 200000 --hashlimit-htable-expire 120000 -j DROP",
	} {
		r.n.run(b, iptables, append([]string{"-w", "-A", "INPUT"}, strings.Fields(rule)...)...)
	}
	return true
}

// gun sends packets that were made before, in turn: an XDP program copies what of a
// frame is different (addresses and checksums) from a table over one that is sent
// again and again.
type gun struct {
	frame      []byte
	pass, drop int // the programs
}

// A frame's bytes after Ethernet's header that may be different: both headers.
const gunBytes = 64

func newGun(b *testing.B, packets [][]byte) *gun {
	b.Helper()
	size := len(packets[0])
	if size > gunBytes || len(packets) != verdictSources {
		b.Fatalf("%d packets of %d bytes", len(packets), size)
	}
	etherType := []byte{0x08, 0x00}
	if packets[0][0]>>4 == 6 {
		etherType = []byte{0x86, 0xdd}
	}
	g := &gun{frame: append(append(make([]byte, 12), etherType...), packets[0]...)}

	// One element: the counter, then the packets.
	table := struct{ typ, key, value, entries, flags uint32 }{unix.BPF_MAP_TYPE_ARRAY, 4, gunBytes * (verdictSources + 1), 1, unix.BPF_F_MMAPABLE}
	fd, err := bpf(unix.BPF_MAP_CREATE, unsafe.Pointer(&table), unsafe.Sizeof(table))
	if err != nil {
		b.Fatalf("make the flood's table: %v", err)
	}
	b.Cleanup(func() { _ = unix.Close(fd) })
	memory, err := unix.Mmap(fd, 0, int(table.value), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		b.Fatalf("map the flood's table: %v", err)
	}
	for i, p := range packets {
		copy(memory[gunBytes*(i+1):], p)
	}
	if err := unix.Munmap(memory); err != nil {
		b.Fatal(err)
	}

	load := func(verdict int32) int {
		program := []instruction{
			{code: 0x61, regs: 0x17, off: 0},                   // r7 = data
			{code: 0x61, regs: 0x13, off: 4},                   // r3 = data_end
			{code: 0xbf, regs: 0x72},                           // r2 = r7
			{code: 0x07, regs: 0x02, imm: int32(len(g.frame))}, // r2 += length
			{code: 0x2d, regs: 0x32, off: 0},                   // if r2 > r3: to the end (below)
			{code: 0x18, regs: 0x21, imm: int32(fd)},           // r1 = the table
			{},
			{code: 0x61, regs: 0x10},                          // r0 = counter
			{code: 0x07, regs: 0x00, imm: 1},                  // r0++
			{code: 0x63, regs: 0x01},                          // counter = r0
			{code: 0x57, regs: 0x00, imm: verdictSources - 1}, // r0 &= sources - 1
			{code: 0x67, regs: 0x00, imm: 6},                  // r0 *= 64
			{code: 0x0f, regs: 0x01},                          // r1 += r0
		}
		for at := range int16(size / 4) {
			program = append(program,
				instruction{code: 0x61, regs: 0x12, off: gunBytes + 4*at}, // r2 = the packet's
				instruction{code: 0x63, regs: 0x27, off: ipAt + 4*at})     // the frame's = r2
		}
		program = append(program,
			instruction{code: 0xb7, regs: 0x00, imm: verdict}, // r0 = verdict
			instruction{code: 0x95})                           // end
		program[4].off = int16(len(program) - 2 - 5)
		license := []byte("GPL\x00")
		attr := struct {
			typ, count     uint32
			insns, license uint64
			_              [96]byte
		}{
			typ: unix.BPF_PROG_TYPE_XDP, count: uint32(len(program)),
			insns: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
		}
		prog, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
		runtime.KeepAlive(program)
		runtime.KeepAlive(license)
		if err != nil {
			b.Fatalf("load the flood's program: %v", err)
		}
		b.Cleanup(func() { _ = unix.Close(prog) })
		return prog
	}
	const xdpDrop, xdpPass = 1, 2
	g.pass, g.drop = load(xdpPass), load(xdpDrop)
	return g
}

func bpf(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// send sends one round to r and returns the nanoseconds of CPU time for each packet;
// with drop the packets are made, and thrown away.
func (g *gun) send(b *testing.B, r *receiver, drop bool) (ns float64) {
	b.Helper()
	copy(g.frame, r.mac)
	prog := g.pass
	if drop {
		prog = g.drop
	}
	ctx := [6]uint32{1: uint32(len(g.frame)), 3: r.index}
	attr := struct {
		prog, retval, sizeIn, sizeOut uint32
		dataIn, dataOut               uint64
		repeat, duration              uint32
		ctxIn, ctxOut                 uint32
		ctx, ctxBack                  uint64
		flags, cpu, batch             uint32
		_                             [4]byte
	}{
		prog: uint32(prog), sizeIn: uint32(len(g.frame)), dataIn: uint64(uintptr(unsafe.Pointer(&g.frame[0]))),
		repeat: verdictPackets, ctxIn: uint32(unsafe.Sizeof(ctx)), ctx: uint64(uintptr(unsafe.Pointer(&ctx[0]))),
		flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
	}
	r.n.do(b, func() error {
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
		var before, after unix.Timespec
		err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before)
		_, runErr := bpf(unix.BPF_PROG_TEST_RUN, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
		runtime.KeepAlive(g)
		runtime.KeepAlive(&ctx)
		if runErr != nil {
			runErr = fmt.Errorf("inject frames (Linux 5.18): %w", runErr)
		}
		err = errors.Join(err, runErr, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after))
		ns = float64(after.Nano()-before.Nano()) / verdictPackets
		return err
	})
	return ns
}
