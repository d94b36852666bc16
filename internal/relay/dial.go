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
	"time"

	"golang.org/x/sys/unix"
)

// DialOptions say how often and for how long Dial tries. The zero value is good.
type DialOptions struct {
	Every    time.Duration // between the beginnings of two attempts; 0: 300 ms, for a host's own rate limit counts SYNs
	Each     time.Duration // what one attempt is given; 0: 3 s
	Parallel int           // attempts under way at once, the oldest makes room for a new one; 0: 8
	// Refused is how many times in a row all that can be reached must refuse, once the
	// door is open, until Dial gives up; 0: 3, below 0: never.
	Refused int
	// Now has a value when the door has just opened: what began before is cut, and one
	// begins at once. nil: the door is open already.
	Now <-chan struct{}
	// LocalAddr is where to connect from; the zero value leaves it to the kernel.
	LocalAddr netip.Addr

	within func(func() error) error // tests: has a function run in a network namespace
}

// Tried is what came of one address.
type Tried struct {
	Addr     netip.AddrPort
	Attempts int
	Refused  int   // in a row, at the end and with the door open
	Last     error // of the last attempt that had an answer; nil: none was answered
}

// DialError says that no address could be connected to. It unwraps to Cause.
type DialError struct {
	Tried []Tried // in the order of the addresses
	For   time.Duration
	Cause error // why there is no further attempt: the context's, or ErrRefused
}

// ErrRefused says that the hosts are reached, and nothing listens on the port.
var ErrRefused = errors.New("connection refused: the host is reached, but nothing listens on the port")

func (e *DialError) Unwrap() error { return e.Cause }

func (e *DialError) Error() string {
	var b strings.Builder
	b.WriteString("connect")
	for i, t := range e.Tried {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " to %s (%d attempts, ", t.Addr, t.Attempts)
		if t.Last == nil {
			b.WriteString("no answer)")
		} else {
			fmt.Fprintf(&b, "%v)", t.Last)
		}
	}
	fmt.Fprintf(&b, ": %v after %s", e.Cause, e.For.Round(time.Millisecond))
	return b.String()
}

// keepAlive keeps an idle session in mind of whatever tracks its connection. A security
// group lets a session live on whose rule is gone for as long as it is tracked: 350 s of
// idleness on EC2's Nitro v6, where that is shortest.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 30 * time.Second, Count: 4}
}

// Dial connects to the first of addrs that answers. A door that opens in a moment drops
// what comes before, so it does not wait for TCP's own retransmissions (after 1, 3, 7 s)
// but goes on beginning new attempts, at one address after the other, until ctx ends; an
// attempt that fails at once makes way for the next address at once. The server
// never accepts more than the one connection that is returned: a lost one would cost one
// of its login slots, and counts as an attack with many a guard. The error is a *DialError,
// unless an argument is wrong.
//
// The connection has keep-alives that hold it in any tracker's mind.
func Dial(ctx context.Context, addrs []netip.AddrPort, o DialOptions) (*net.TCPConn, error) {
	if len(addrs) == 0 {
		return nil, errors.New("connect: there is no address to connect to")
	}
	if o.LocalAddr.IsValid() {
		for _, a := range addrs {
			if a.Addr().Unmap().Is4() != o.LocalAddr.Unmap().Is4() {
				return nil, fmt.Errorf("connect to %s from %s: they are not of the same family", a, o.LocalAddr)
			}
		}
	}
	d := &dialing{
		DialOptions: o.withDefaults(),
		begun:       time.Now(),
		addrs:       make([]address, len(addrs)),
		done:        make(chan result),
		quit:        make(chan struct{}),
		open:        o.Now == nil,
	}
	for i, a := range addrs {
		d.addrs[i].Addr = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	conn, err := d.run(ctx)
	close(d.quit)
	d.cut()
	d.attempts.Wait()
	if err != nil {
		return nil, err
	}
	if err := settle(conn); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to %s: %w", conn.RemoteAddr(), err)
	}
	return conn, nil
}

func (o DialOptions) withDefaults() DialOptions {
	if o.Every <= 0 {
		o.Every = 300 * time.Millisecond
	}
	if o.Each <= 0 {
		o.Each = 3 * time.Second
	}
	if o.Parallel <= 0 {
		o.Parallel = 8
	}
	if o.Refused == 0 {
		o.Refused = 3
	}
	return o
}

// dialing is one call of Dial. All of it belongs to the goroutine of run, but for the channels.
type dialing struct {
	DialOptions
	begun    time.Time
	addrs    []address
	next     int        // of addrs, whose turn it is
	underWay []*attempt // oldest first
	attempts sync.WaitGroup
	done     chan result
	quit     chan struct{} // closed when nobody reads done any more
	open     bool          // the door
}

// address is what is known of one.
type address struct {
	Tried
	last time.Time // when its last attempt began
}

// attempt is one that is under way.
type attempt struct {
	to     *address
	open   bool // the door, when it began
	cancel context.CancelFunc
}

// result is how an attempt ended.
type result struct {
	*attempt
	conn *net.TCPConn
	err  error
}

func (d *dialing) run(ctx context.Context) (*net.TCPConn, error) {
	tick := time.NewTicker(d.Every)
	defer tick.Stop()
	now := d.Now
	d.begin(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil, d.failed(context.Cause(ctx))
		case <-tick.C:
			d.begin(ctx)
		case _, ok := <-now:
			if !ok {
				now = nil
				continue
			}
			d.open = true
			d.cut()
			for i := range d.addrs {
				d.addrs[i].Refused, d.addrs[i].last = 0, time.Time{}
			}
			d.next = 0
			tick.Reset(d.Every)
			d.begin(ctx)
		case r := <-d.done:
			r.cancel()
			d.underWay = slices.DeleteFunc(d.underWay, func(a *attempt) bool { return a == r.attempt })
			if r.err == nil {
				return r.conn, nil
			}
			if !d.note(r) {
				continue
			}
			if d.hopeless() {
				return nil, d.failed(ErrRefused)
			}
			// One that said no at once leaves the rest of its time to the next.
			if time.Since(d.addrs[d.next].last) >= d.Every {
				tick.Reset(d.Every)
				d.begin(ctx)
			}
		}
	}
}

// begin begins an attempt at the address whose turn it is.
func (d *dialing) begin(ctx context.Context) {
	if len(d.underWay) == d.Parallel {
		d.underWay[0].cancel()
		d.underWay = slices.Delete(d.underWay, 0, 1)
	}
	to := &d.addrs[d.next]
	d.next = (d.next + 1) % len(d.addrs)
	to.Attempts++
	to.last = time.Now()
	ctx, cancel := context.WithTimeout(ctx, d.Each)
	a := &attempt{to: to, open: d.open, cancel: cancel}
	d.underWay = append(d.underWay, a)
	addr := to.Addr
	d.attempts.Go(func() {
		r := result{attempt: a}
		r.conn, r.err = d.dial(ctx, addr)
		select {
		case d.done <- r:
		case <-d.quit:
			if r.err == nil {
				_ = r.conn.Close()
			}
		}
	})
}

// dial makes one attempt.
func (d *dialing) dial(ctx context.Context, to netip.AddrPort) (conn *net.TCPConn, err error) {
	dialer := net.Dialer{KeepAliveConfig: keepAlive(), Control: prepare}
	dialer.SetMultipathTCP(false)
	if d.LocalAddr.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(d.LocalAddr.Unmap(), 0))
	}
	connect := func() error {
		c, err := dialer.DialContext(ctx, "tcp", to.String())
		if err == nil {
			conn = c.(*net.TCPConn)
		}
		return err
	}
	if d.within != nil {
		return conn, d.within(connect)
	}
	err = connect()
	return conn, err
}

// cut ends what is under way.
func (d *dialing) cut() {
	for _, a := range d.underWay {
		a.cancel()
	}
	d.underWay = nil
}

// note keeps the answer that an attempt had; false where it had none.
func (d *dialing) note(r result) bool {
	if errors.Is(r.err, context.Canceled) {
		return false
	}
	if e, ok := errors.AsType[net.Error](r.err); ok && e.Timeout() {
		r.to.Refused = 0
		return false
	}
	r.to.Last = r.err
	if e, ok := errors.AsType[*net.OpError](r.err); ok {
		r.to.Last = e.Err // the address is told anyway
	}
	switch {
	case !errors.Is(r.err, syscall.ECONNREFUSED):
		r.to.Refused = 0
	case r.open:
		r.to.Refused++
	}
	return true
}

// hopeless reports whether all that is reached refuses, though the door is open.
func (d *dialing) hopeless() bool {
	if d.Refused < 0 {
		return false
	}
	refused := false
	for _, a := range d.addrs {
		switch {
		case a.Refused >= d.Refused:
			refused = true
		case a.Last == nil || errors.Is(a.Last, syscall.ECONNREFUSED):
			return false
		}
	}
	return refused
}

func (d *dialing) failed(cause error) error {
	e := &DialError{For: time.Since(d.begun), Cause: cause}
	for _, a := range d.addrs {
		e.Tried = append(e.Tried, a.Tried)
	}
	return e
}

// prepare makes a socket whose connection does not count before settle. The last of TCP's
// three packets is held back (for at most 200 ms, TCP_DELACK_MAX), and closing resets:
// of several attempts that are answered at the same time, the server's kernel then forgets all
// but one while they are half open, and sshd never hears of them.
func prepare(_, _ string, c syscall.RawConn) error {
	var errs error
	err := c.Control(func(fd uintptr) {
		errs = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0),
			unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
			// One retransmission, after 1 s: Linux 6.5 and later would send one every second.
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1),
		)
	})
	return errors.Join(err, errs)
}

// settle completes what prepare held back.
func settle(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var errs error
	err = raw.Control(func(fd uintptr) {
		errs = errors.Join(
			unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{}),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1),
		)
	})
	return errors.Join(err, errs)
}
