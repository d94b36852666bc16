package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/prefixset"
)

// While the addresses of countries are replaced again and again under a flood, no
// packet from an address that is in the old set and in the new one is dropped, and
// none from an address that is in neither passes.
func TestSwapMissesNoPacket(t *testing.T) {
	w := newWire(t)
	// Who is flooding, and whether it is in all of the sets.
	sources := map[string]bool{"10.77.0.1": true, "10.88.0.1": false, "2001:db8:77::1": true, "2001:db8:88::1": false}
	inBoth := setOf(t, "10.77.0.0/24", "2001:db8:77::/48")
	var sets []prefixset.Set
	for seed := range 2 {
		sets = append(sets, country(t, 3000, 1500, seed).Union(inBoth))
	}
	r := publicFor(t, 7, []string{"JP"})
	r.Rules.Mode, r.Rules.Rate, r.Rules.NoTrack, r.Countries = ModeGuard, Rate{}, false, sets[0]
	must(t, w.k.Ensure(t.Context(), stateOf(r)))

	countSources(t, w, sources)
	stop := floodFrom(t, w, sources)
	swaps := 0
	for begin := time.Now(); time.Since(begin) < 3*time.Second || swaps < 5; { // a machine that is emulated takes its time
		swaps++
		must(t, w.k.SetCountries(t.Context(), sets[swaps%2]))
	}
	stop()

	noneMissed(t, w, sources, swaps)
	intact(t, w.k)
}

// countSources counts what comes from sources before our rules and after them.
func countSources(t *testing.T, w wire, sources map[string]bool) {
	t.Helper()
	script := "add table inet counting\n" +
		"add chain inet counting before { type filter hook prerouting priority -400; }\n" +
		"add chain inet counting after { type filter hook input priority 0; }\n"
	for source := range sources {
		family := "ip"
		if strings.Contains(source, ":") {
			family = "ip6"
		}
		script += fmt.Sprintf("add rule inet counting before %s saddr %s counter\nadd rule inet counting after %s saddr %s counter drop\n", family, source, family, source)
	}
	w.host.feed(t, script, "nft", "-f", "-")
}

// noneMissed fails unless all packets from sources that pass did, and none of the
// others, in so many rounds.
func noneMissed(t *testing.T, w wire, sources map[string]bool, rounds int) {
	t.Helper()
	for source, passes := range sources {
		before, after := countedFrom(t, w.host, "before", source), countedFrom(t, w.host, "after", source)
		t.Logf("%s: %d of %d packets passed in %d rounds", source, after, before, rounds)
		switch {
		case before < 1000:
			t.Errorf("%s: only %d packets came: this tests too little", source, before)
		case passes && after != before:
			t.Errorf("%s: %d of %d packets were dropped", source, before-after, before)
		case !passes && after != 0:
			t.Errorf("%s: %d of %d packets passed", source, after, before)
		}
	}
}

// floodFrom sends SYNs to the host's SSH port from all sources in turn, until stop
// is called; all of them have been judged when that returns.
func floodFrom(t *testing.T, w wire, sources map[string]bool) (stop func()) {
	t.Helper()
	var to net.HardwareAddr
	w.host.do(t, func() error {
		i, err := net.InterfaceByName("veth0")
		if err == nil {
			to = i.HardwareAddr
		}
		return err
	})
	var frames [][]byte
	for source := range sources {
		frames = append(frames, synTo(to, netip.MustParseAddr(source)))
	}
	var ended atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.peer.do(t, func() error {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(fd) }()
			i, err := net.InterfaceByName("veth1")
			if err != nil {
				return err
			}
			_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1) // only faster
			for n := 0; !ended.Load(); n++ {
				err := unix.Sendto(fd, frames[n%len(frames)], 0, &unix.SockaddrLinklayer{Ifindex: i.Index})
				if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
					return err
				}
			}
			return nil
		})
	}()
	return func() {
		ended.Store(true)
		<-done
		// What is on its way still has been counted when nothing more comes.
		last := ""
		eventually(t, func() bool {
			now := w.host.run(t, "nft", "list", "table", "inet", "counting")
			same := now == last
			last = now
			return same
		})
	}
}

// countedFrom is what the chain of the table `counting` has counted of source.
func countedFrom(t *testing.T, n namespace, chain, source string) (packets int) {
	t.Helper()
	for line := range strings.Lines(n.run(t, "nft", "list", "chain", "inet", "counting", chain)) {
		if _, counter, ok := strings.Cut(line, "saddr "+source+" counter packets "); ok {
			if _, err := fmt.Sscan(counter, &packets); err != nil {
				t.Fatal(err)
			}
		}
	}
	return packets
}

// synTo is an Ethernet frame with a SYN from src to the host's SSH port, over IPv4 or
// IPv6. No checksum of TCP: the rules do not look at it.
func synTo(to net.HardwareAddr, src netip.Addr) []byte {
	from := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	if src.Is4() {
		return synFrame(to, from, src, 40000)
	}
	f := append(append(append([]byte{}, to...), from...), 0x86, 0xdd)
	ip := make([]byte, 40)
	ip[0], ip[5], ip[6], ip[7] = 0x60, 20, unix.IPPROTO_TCP, 64
	copy(ip[8:], src.AsSlice())
	copy(ip[24:], netip.MustParseAddr(host6).AsSlice())
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, 40000)
	binary.BigEndian.PutUint16(tcp[2:], sshPort)
	tcp[12], tcp[13] = 5<<4, 0x02
	return append(append(f, ip...), tcp...)
}
