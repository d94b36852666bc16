package firewall

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Sources of new connections fill the set of their rates, and are counted there.
func TestFills(t *testing.T) {
	w := newWire(t)
	in := w.inject(t, false)
	if err := w.k.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.k.Fills(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Errorf("without a table: %v", err)
	}
	w.ensure(t, Rules{Mode: ModeGuard, Ports: []uint16{sshPort}, Exposure: ExposurePublic, Rate: Rate{PerMinute: 2, Burst: 5}})
	to := netip.AddrPortFrom(ip(host4), sshPort)
	const sources = 1000
	for i := range sources {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 7, byte(i >> 8), byte(i)}), 4000)
		in.send(t, ipPacket(from.Addr(), to.Addr(), unix.IPPROTO_TCP, tcp(from, to, flagSYN, 7, 0, nil)))
	}
	used := func() int {
		fills, err := w.k.Fills(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(fills, func(f Fill) bool { return f.Size == dynamicSize && f.Used > 0 })
		if at < 0 {
			return 0
		}
		return fills[at].Used
	}
	eventually(t, func() bool { return used() == sources })
}
