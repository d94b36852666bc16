package firewall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// host under test and its peer, joined by a veth pair.
type wire struct {
	host, peer namespace
	generation uint32 // of ensure
	k          *Kernel
}

const (
	host4, host6 = "10.0.0.1", "2001:db8::1"
	sshPort      = 22
	webPort      = 80
)

// peers are the other side's addresses.
var peerNets = []string{"10.0.0.2/8", "10.0.0.3/8", "10.1.0.2/8", "2001:db8::2/32", "2001:db8::3/32", "2001:db8:0:5::2/32", "2001:db8:7::2/32"}

func newWire(t testing.TB) wire {
	t.Helper()
	w := wire{host: newNamespace(t), peer: newNamespace(t)}
	w.host.run(t, "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", w.peer.path())
	for _, a := range []string{host4 + "/8", host6 + "/32"} {
		w.host.run(t, "ip", "addr", "add", a, "dev", "veth0", "nodad")
	}
	for _, a := range peerNets {
		w.peer.run(t, "ip", "addr", "add", a, "dev", "veth1", "nodad")
	}
	w.host.run(t, "ip", "link", "set", "veth0", "up")
	w.peer.run(t, "ip", "link", "set", "veth1", "up")
	w.k = newKernel(t, w.host)
	if err := w.k.Ensure(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{sshPort, webPort} {
		w.listen(t, port)
	}
	return w
}

// listen accepts and closes connections to port on the host.
func (w wire) listen(t testing.TB, port int) {
	t.Helper()
	var l net.Listener
	w.host.do(t, func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", port))
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
}

// dial opens a connection from the peer's address from; nil when that does not
// succeed within wait.
func (w wire) dial(t testing.TB, from string, port int, wait time.Duration) (c net.Conn) {
	t.Helper()
	to := host4
	if strings.Contains(from, ":") {
		to = host6
	}
	w.peer.do(t, func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: wait}
		c, err = d.Dial("tcp", net.JoinHostPort(to, fmt.Sprint(port)))
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return nil
		}
		return err
	})
	return c
}

// reaches reports whether a TCP handshake from the peer's address from succeeds
// within wait.
func (w wire) reaches(t testing.TB, from string, port int, wait time.Duration) bool {
	t.Helper()
	c := w.dial(t, from, port, wait)
	if c == nil {
		return false
	}
	_ = c.Close()
	return true
}

const (
	patience   = 5 * time.Second        // for what must come through
	impatience = 300 * time.Millisecond // for what must not: one SYN
)

func TestPackets(t *testing.T) {
	w := newWire(t)
	for _, tt := range []struct {
		name   string
		state  State
		ban    string
		from   string
		port   int
		passes bool
	}{
		{name: "nothing banned, IPv4", state: everything, from: "10.0.0.2", port: sshPort, passes: true},
		{name: "nothing banned, IPv6", state: everything, from: "2001:db8::2", port: sshPort, passes: true},
		{name: "/32", state: everything, ban: "10.0.0.2/32", from: "10.0.0.2", port: sshPort},
		{name: "/32, another port", state: everything, ban: "10.0.0.2/32", from: "10.0.0.2", port: webPort},
		{name: "/32, its neighbour", state: everything, ban: "10.0.0.2/32", from: "10.0.0.3", port: sshPort, passes: true},
		{name: "/24", state: everything, ban: "10.0.0.0/24", from: "10.0.0.3", port: sshPort},
		{name: "/24, beside it", state: everything, ban: "10.0.0.0/24", from: "10.1.0.2", port: sshPort, passes: true},
		{name: "/128", state: everything, ban: "2001:db8::2/128", from: "2001:db8::2", port: sshPort},
		{name: "/128, its neighbour", state: everything, ban: "2001:db8::2/128", from: "2001:db8::3", port: sshPort, passes: true},
		{name: "/64", state: everything, ban: "2001:db8:0:5::/64", from: "2001:db8:0:5::2", port: sshPort},
		{name: "/64, beside it", state: everything, ban: "2001:db8:0:5::/64", from: "2001:db8:7::2", port: sshPort, passes: true},
		{name: "/48", state: everything, ban: "2001:db8:7::/48", from: "2001:db8:7::2", port: sshPort},
		{name: "/48, beside it", state: everything, ban: "2001:db8:7::/48", from: "2001:db8::2", port: sshPort, passes: true},
		{name: "SSH only, SSH", state: State{Ports: []uint16{2222, sshPort}, SSHOnly: true}, ban: "10.0.0.2/32", from: "10.0.0.2", port: sshPort},
		{name: "SSH only, web", state: State{Ports: []uint16{2222, sshPort}, SSHOnly: true}, ban: "10.0.0.2/32", from: "10.0.0.2", port: webPort, passes: true},
		{name: "SSH only, IPv6, SSH", state: State{Ports: []uint16{sshPort}, SSHOnly: true}, ban: "2001:db8:0:5::/64", from: "2001:db8:0:5::2", port: sshPort},
		{name: "SSH only, IPv6, web", state: State{Ports: []uint16{sshPort}, SSHOnly: true}, ban: "2001:db8:0:5::/64", from: "2001:db8:0:5::2", port: webPort, passes: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := w.k.Ensure(t.Context(), tt.state); err != nil {
				t.Fatal(err)
			}
			if tt.ban != "" {
				ban(t, w.k, Ban{prefix(tt.ban), time.Hour})
				defer unban(t, w.k, tt.ban)
			}
			wait := impatience
			if tt.passes {
				wait = patience
			}
			if got := w.reaches(t, tt.from, tt.port, wait); got != tt.passes {
				t.Errorf("%s to port %d: passes is %v, want %v", tt.from, tt.port, got, tt.passes)
			}
			if tt.ban != "" {
				unban(t, w.k, tt.ban)
				if !w.reaches(t, tt.from, tt.port, patience) {
					t.Errorf("%s does not pass after the unban", tt.from)
				}
			}
		})
	}
}

// A banned packet is gone before conntrack sees it.
func TestNoConntrackEntry(t *testing.T) {
	w := newWire(t)
	// A rule that needs conntrack turns it on.
	w.host.run(t, "nft", "add table inet watcher; add chain inet watcher input { type filter hook input priority 0; }; add rule inet watcher input ct state new counter")
	entries := func() string {
		var out string
		w.host.do(t, func() error {
			b, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
			if err != nil {
				return err
			}
			line := strings.Split(string(b), "\n")[1]
			out = strings.Fields(line)[0]
			return nil
		})
		return out
	}
	before := entries()
	ban(t, w.k, Ban{prefix("10.0.0.2/32"), time.Hour})
	if w.reaches(t, "10.0.0.2", sshPort, impatience) {
		t.Fatal("a banned source passes")
	}
	if got := entries(); got != before {
		t.Errorf("conntrack entries after a banned SYN: %s, want %s", got, before)
	}
	counters, err := w.k.Counters(t.Context())
	var packets, bytes uint64
	for _, c := range counters {
		packets, bytes = packets+c.Packets, bytes+c.Bytes
	}
	if err != nil || packets == 0 || bytes < 40*packets {
		t.Errorf("counters: %d packets, %d bytes, %v", packets, bytes, err)
	}
	if !w.reaches(t, "10.0.0.3", sshPort, patience) {
		t.Fatal("an innocent source does not pass")
	}
	if got := entries(); got == before {
		t.Error("no conntrack entry of the innocent source: this test sees nothing")
	}
}

// The kernel ends a ban by itself, and a ban made again is longer.
func TestBanEnds(t *testing.T) {
	w := newWire(t)
	for _, p := range []string{"10.0.0.2/32", "10.0.0.3/32"} {
		ban(t, w.k, Ban{prefix(p), time.Second})
	}
	ban(t, w.k, Ban{prefix("10.0.0.3/32"), time.Hour})
	if w.reaches(t, "10.0.0.2", sshPort, impatience) {
		t.Error("a banned source passes")
	}
	if !w.reaches(t, "10.0.0.2", sshPort, patience) { // its SYN is sent again after 1 and 3 s
		t.Error("the ban did not end")
	}
	if w.reaches(t, "10.0.0.3", sshPort, impatience) {
		t.Error("the ban made again ended with the first")
	}
}

// An established connection of a banned peer gets no packet through either.
func TestEstablishedIsBanned(t *testing.T) {
	w := newWire(t)
	var l net.Listener
	w.host.do(t, func() (err error) {
		l, err = net.Listen("tcp", host4+":2222")
		return err
	})
	defer func() { _ = l.Close() }()
	var c net.Conn
	w.peer.do(t, func() (err error) {
		c, err = net.Dial("tcp", host4+":2222")
		return err
	})
	defer func() { _ = c.Close() }()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	peer := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	ban(t, w.k, Ban{netip.PrefixFrom(peer, 32), time.Hour})
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetReadDeadline(time.Now().Add(impatience)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read from a banned peer: got %v, want a timeout", err)
	}
}
