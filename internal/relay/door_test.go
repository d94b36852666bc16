package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"sekisho/internal/lab"
)

const doorPort = 22

// door is a host whose packet filter lets nobody in, until it does.
type door struct {
	net    *lab.Network
	filter *nftables.Conn
	table  *nftables.Table
	in     *nftables.Chain
	out    *nftables.Chain

	mu       sync.Mutex
	accepted []netip.AddrPort // peers, in the order in which the server got them
	arrived  chan struct{}    // one for each
}

func newDoor(t *testing.T) *door {
	t.Helper()
	if err := lab.Available(""); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	network, err := lab.NewNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { network.Close() })
	// The two must know each other's link addresses first: a device that just came up loses
	// what is asked, and it is asked again a second later.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, host := range []netip.Addr{lab.Host4, lab.Host6} {
		if host.Is6() && !network.IPv6 {
			continue
		}
		if conn, err := network.World.Dial(ctx, netip.Addr{}, netip.AddrPortFrom(host, doorPort)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("%s: got %v, %v before anybody listens", host, conn, err)
		}
	}
	d := &door{net: network, arrived: make(chan struct{}, 1000)}
	if d.filter, err = nftables.New(nftables.WithNetNSFd(network.Host.FD())); err != nil {
		t.Fatal(err)
	}
	d.table = d.filter.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "door"})
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return &nftables.Chain{Name: name, Table: d.table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter}
	}
	d.in, d.out = chain("in", nftables.ChainHookInput), chain("out", nftables.ChainHookOutput)
	d.filter.AddRule(&nftables.Rule{Table: d.table, Chain: d.filter.AddChain(d.in), Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Counter{},
	}})
	d.set(t, nftables.ChainPolicyDrop, nftables.ChainPolicyAccept)
	return d
}

// set has the host take and give packets, or drop them.
func (d *door) set(t *testing.T, in, out nftables.ChainPolicy) {
	t.Helper()
	d.in.Policy, d.out.Policy = &in, &out
	d.filter.AddChain(d.in)
	d.filter.AddChain(d.out)
	if err := d.filter.Flush(); err != nil {
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EOPNOTSUPP) {
			t.Skipf("LEFT OUT: this kernel has no nftables: %v", err)
		}
		t.Fatal(err)
	}
}

// knocked waits until n packets of TCP have come to the host.
func (d *door) knocked(t *testing.T, ctx context.Context, n uint64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		rules, err := d.filter.GetRules(d.table, d.in)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range rules[0].Exprs {
			if c, ok := e.(*expr.Counter); ok && c.Packets >= n {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("nobody knocks at the door")
		}
	}
}

// reject has the host refuse TCP by a reset, until the rules are flushed.
func (d *door) reject(t *testing.T) {
	t.Helper()
	d.filter.AddRule(&nftables.Rule{Table: d.table, Chain: d.in, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(doorPort)},
		&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
	}})
	d.set(t, nftables.ChainPolicyAccept, nftables.ChainPolicyAccept)
}

func (d *door) flush(t *testing.T) {
	t.Helper()
	d.filter.FlushChain(d.in)
	if err := d.filter.Flush(); err != nil {
		t.Fatal(err)
	}
}

// listen serves at the door, on an address of the host. Whoever comes is kept.
func (d *door) listen(t *testing.T, at netip.Addr) netip.AddrPort {
	t.Helper()
	to := netip.AddrPortFrom(at, doorPort)
	var l net.Listener
	err := d.net.Host.Do(func() (err error) {
		l, err = net.Listen("tcp", to.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		var all []net.Conn
		defer func() {
			for _, c := range all {
				c.Close()
			}
		}()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all = append(all, c)
			d.mu.Lock()
			d.accepted = append(d.accepted, c.RemoteAddr().(*net.TCPAddr).AddrPort())
			d.mu.Unlock()
			d.arrived <- struct{}{}
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return to
}

// peers are those that the server has accepted so far.
func (d *door) peers() []netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.accepted)
}

// probe connects by itself and waits until it is accepted: whoever was before it in the
// queue is then, too. It returns all the others.
func (d *door) probe(t *testing.T, ctx context.Context, to netip.AddrPort) []netip.AddrPort {
	t.Helper()
	conn, err := d.net.World.Dial(ctx, netip.Addr{}, to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	me := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	for {
		if all := d.peers(); slices.Contains(all, me) {
			return slices.DeleteFunc(all, func(p netip.AddrPort) bool { return p == me })
		}
		select {
		case <-d.arrived:
		case <-ctx.Done():
			t.Fatal("the probe is not accepted")
		}
	}
}

// dial is Dial from the world, with a count of the attempts that have begun.
func (d *door) dial(ctx context.Context, o DialOptions, addrs ...netip.AddrPort) (begun <-chan struct{}, done <-chan dialled) {
	began := make(chan struct{}, 10000)
	o.within = func(f func() error) error {
		began <- struct{}{}
		return d.net.World.Do(f)
	}
	ended := make(chan dialled, 1)
	go func() {
		conn, err := Dial(ctx, addrs, o)
		ended <- dialled{conn, err, time.Now()}
	}()
	return began, ended
}

type dialled struct {
	conn *net.TCPConn
	err  error
	at   time.Time
}

// after waits for n attempts.
func after(t *testing.T, ctx context.Context, n int, begun <-chan struct{}, done <-chan dialled) {
	t.Helper()
	for range n {
		select {
		case <-begun:
		case r := <-done:
			t.Fatalf("Dial returned: %+v", r)
		case <-ctx.Done():
			t.Fatal("there are no more attempts")
		}
	}
}

func (d *door) one(t *testing.T, ctx context.Context, to netip.AddrPort, r dialled) {
	t.Helper()
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.conn.Close()
	want := []netip.AddrPort{r.conn.LocalAddr().(*net.TCPAddr).AddrPort()}
	if got := d.probe(t, ctx, to); !slices.Equal(got, want) {
		t.Errorf("the server accepted %v, want %v alone", got, want)
	}
}

// TestDoor: while the door is shut nothing gets to the server; when it opens, and Dial is
// told, it is connected in no time, by one connection.
func TestDoor(t *testing.T) {
	for _, tt := range []struct {
		name   string
		o      DialOptions
		before int // attempts before the door opens
		told   bool
	}{
		// Beside being told, nothing makes it try again but TCP itself, after a second.
		{"told", DialOptions{Every: time.Hour, Each: time.Hour}, 1, true},
		{"not told", DialOptions{}, 3, false},
		{"many at once", DialOptions{Every: time.Millisecond, Parallel: 64}, 20, true},
		{"one at a time", DialOptions{Every: 100 * time.Millisecond, Parallel: 1}, 3, false},
		{"attempts that end before", DialOptions{Each: 50 * time.Millisecond}, 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDoor(t)
			to := d.listen(t, lab.Host4)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			now := make(chan struct{}, 1)
			if tt.told {
				tt.o.Now = now
			}
			begun, done := d.dial(ctx, tt.o, to)
			after(t, ctx, tt.before, begun, done)
			d.knocked(t, ctx, uint64(tt.before))
			if got := d.peers(); len(got) != 0 {
				t.Fatalf("accepted behind a shut door: %v", got)
			}
			d.set(t, nftables.ChainPolicyAccept, nftables.ChainPolicyAccept)
			opened := time.Now()
			now <- struct{}{}
			r := <-done
			took := r.at.Sub(opened)
			t.Logf("connected %s after the door was open", took)
			if took > 700*time.Millisecond { // a busy machine's
				t.Errorf("it took %s", took)
			}
			d.one(t, ctx, to, r)
		})
	}
}

// TestDoorAnswersAtOnce: many attempts are answered at the same moment, as where the way
// back is longer than the time between two of them. The server gets one connection.
func TestDoorAnswersAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		told bool
	}{{"not told", false}, {"told", true}} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDoor(t)
			to := d.listen(t, lab.Host4)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			o := DialOptions{Every: time.Millisecond, Parallel: 200}
			now := make(chan struct{}, 1)
			if tt.told {
				o.Now = now
			}
			// The host takes SYNs, but its answers stay away; it sends them again, many by
			// one tick of its timer.
			d.set(t, nftables.ChainPolicyAccept, nftables.ChainPolicyDrop)
			begun, done := d.dial(ctx, o, to)
			after(t, ctx, 150, begun, done)
			d.set(t, nftables.ChainPolicyAccept, nftables.ChainPolicyAccept)
			if tt.told {
				now <- struct{}{}
			}
			d.one(t, ctx, to, <-done)
		})
	}
}

// TestDoorThatRefuses: a door that refuses while it is shut says nothing of the port
// behind it.
func TestDoorThatRefuses(t *testing.T) {
	d := newDoor(t)
	d.reject(t)
	to := d.listen(t, lab.Host4)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	now := make(chan struct{}, 1)
	begun, done := d.dial(ctx, DialOptions{Every: 5 * time.Millisecond, Now: now}, to)
	after(t, ctx, 10, begun, done)
	d.flush(t)
	now <- struct{}{}
	d.one(t, ctx, to, <-done)
}

// TestDoorOfOneFamily: an address that never answers does not keep from the one that does.
func TestDoorOfOneFamily(t *testing.T) {
	d := newDoor(t)
	if !d.net.IPv6 {
		t.Skip("LEFT OUT: this kernel has no IPv6")
	}
	six := d.listen(t, lab.Host6)
	dead := netip.AddrPortFrom(lab.Host4, doorPort)
	for _, addrs := range [][]netip.AddrPort{{dead, six}, {six, dead}} {
		t.Run(fmt.Sprint(addrs[0].Addr()), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, done := d.dial(ctx, DialOptions{}, addrs...)
			r := <-done
			if r.err != nil {
				t.Fatal(r.err)
			}
			r.conn.Close()
			if got := r.conn.RemoteAddr().(*net.TCPAddr).AddrPort(); got != six {
				t.Errorf("connected to %s", got)
			}
		})
	}
}

// TestDoorThatStaysShut: the error tells what was tried.
func TestDoorThatStaysShut(t *testing.T) {
	d := newDoor(t)
	to := d.listen(t, lab.Host4)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	why := errors.New("the lease has ended")
	inner, end := context.WithCancelCause(ctx)
	// 203.0.113.0/24 is the world's own: nothing is there.
	nothing := netip.AddrPortFrom(lab.Others4.Addr().Next(), doorPort)
	begun, done := d.dial(inner, DialOptions{Every: 10 * time.Millisecond}, to, nothing)
	after(t, ctx, 10, begun, done)
	end(why)
	r := <-done
	e, ok := errors.AsType[*DialError](r.err)
	if !ok || !errors.Is(r.err, why) || len(e.Tried) != 2 {
		t.Fatalf("error %v", r.err)
	}
	if e.Tried[0].Addr != to || e.Tried[0].Attempts < 3 || e.Tried[0].Last != nil {
		t.Errorf("the shut one: %+v", e.Tried[0])
	}
	if e.Tried[1].Addr != nothing || !errors.Is(e.Tried[1].Last, syscall.ECONNREFUSED) {
		t.Errorf("the one that refuses: %+v", e.Tried[1])
	}
	if !strings.Contains(r.err.Error(), "no answer") || !strings.Contains(r.err.Error(), why.Error()) {
		t.Errorf("it says %q", r.err)
	}
	d.set(t, nftables.ChainPolicyAccept, nftables.ChainPolicyAccept)
	if got := d.probe(t, ctx, to); len(got) != 0 {
		t.Errorf("the server accepted %v", got)
	}
}
