package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/intent"
	"sekisho/internal/ownaddr"
	"sekisho/internal/relay"
	"sekisho/internal/securitygroup"
)

// A passage is one connection through a door: opened, dialled while it opens, and shut
// behind it. All processes of a user on a machine that go through the same door share one
// lease; the last of them shuts it. The lease is short, and renewed while it is needed, so
// that nothing of ours has to live for the door to shut.

const (
	leaseTime = 2 * time.Minute  // of a passage's lease
	margin    = 30 * time.Second // of its time that nobody relies on any more
	linger    = 2 * time.Second  // how long a door that was used stays open for the next: ssh often comes in numbers
	dialTime  = 25 * time.Second // for the host to answer once the door is open
	stale     = 4 * time.Second  // for a host to answer where others said that the door is open
	shutTime  = 30 * time.Second // to shut a door behind us
	soon      = 2 * time.Second  // the same, where EC2 was not heard of
	// apart is how much later a lease ends than one that was there under its id, so that it
	// does by AWS's clock, too: that is how who ends that one knows.
	apart = 3 * time.Second
)

// Passage says who goes where. All fields are needed but those that say otherwise.
type Passage struct {
	Opener  Opener
	Door    Door
	Person  string
	Host    string // what to connect to; a name or an address
	Machine string // names this machine and user among the person's others: letters and digits
	Book    *intent.Book
	Own     *ownaddr.Finder
	IP      netip.Addr // our own address, given by hand; the zero value: it is found out
	Reason  string     // why; "": nobody said
	Log     *slog.Logger

	LeaseTime, Linger time.Duration // 0: leaseTime, linger
}

// Way is a passage that is connected.
type Way struct {
	Conn *net.TCPConn
	Own  netip.Prefix // what was opened
	By   []string     // who said that it is our address

	p       *Passage
	use     *intent.Use
	length  time.Duration // of its leases
	until   time.Time     // when the policy wants it shut
	opening chan struct{} // closed when nothing of ours is about to open it any more
	foreign atomic.Bool   // it is open by a rule that is not ours
	leaving time.Duration // what Leave may take; 0: shutTime
}

// errSilent is why nobody is waited for any longer.
var errSilent = errors.New("no answer")

// NoAnswer is that nothing answers behind an open door.
type NoAnswer struct {
	Door Door
	Own  netip.Prefix
	By   []string
	// Asked: others were asked for our address, and may not know it.
	Asked bool
	*relay.DialError

	remembered bool // they were asked some minutes ago
}

func (e *NoAnswer) Error() string {
	own := e.Own.Addr().String()
	if len(e.By) > 0 {
		own += fmt.Sprintf(" (by %s)", list(e.By))
	}
	but := "nothing answers there"
	if errors.Is(e, relay.ErrRefused) {
		but = "the host refuses"
	}
	return fmt.Sprintf("%s lets in %s, but %s: %v", e.Door.Name, own, but, e.DialError)
}

func (e *NoAnswer) Unwrap() error { return e.DialError }

// Hint says what to look at.
func (e *NoAnswer) Hint() string {
	if errors.Is(e, relay.ErrRefused) {
		return fmt.Sprintf("see that sshd runs there and listens on port %d (`port` of target %s), and that nothing on the way refuses in its name", e.Door.Port, e.Door.Name)
	}
	in := ""
	if group := e.Door.AWS.Group; group != "" {
		in = " and is in group " + group
	}
	return "see that the machine runs" + in + ", that its own firewall and the network's ACL let you in, and that you leave by that address " +
		"(a VPN, a proxy or a second line may differ): `--ip ADDR` names another"
}

// Connect opens the door and connects. The door stays open until the way is left.
func (p *Passage) Connect(ctx context.Context) (*Way, error) {
	now := time.Now()
	d, err := p.Opener.Span(ctx, p.Door, Request{Person: p.Person, At: now, Reason: p.Reason})
	if err != nil {
		return nil, err
	}
	if !d.Whole {
		d.Length = min(d.Length, p.leaseTime())
	}
	addrs, err := ownaddr.Resolve(ctx, p.Host)
	if err != nil {
		return nil, &Error{err, "see `host` of target " + p.Door.Name + " in the configuration"}
	}
	way, reused, err := p.connect(ctx, addrs, d, now, false)
	silent, is := errors.AsType[*NoAnswer](err)
	if reused && is && ctx.Err() == nil { // somebody shut it meanwhile
		way, _, err = p.connect(ctx, addrs, d, now, true)
		silent, is = errors.AsType[*NoAnswer](err)
	}
	if !is || !silent.Asked {
		return way, err
	}
	_ = p.Own.Forget() // it may be another by now
	if !silent.remembered || ctx.Err() != nil {
		return way, err
	}
	if own, _, again := p.own(ctx, addrs); again == nil && p.Door.Prefix(own.Addr) != silent.Own { // it was another network's
		way, _, err = p.connect(ctx, addrs, d, now, true)
	}
	return way, err
}

// connect is Connect by one address of ours, as was decided at a time. reused says that
// others had opened the door; with anew set it is opened whatever they did.
func (p *Passage) connect(ctx context.Context, addrs []netip.Addr, d Span, at time.Time, anew bool) (_ *Way, reused bool, err error) {
	own, to, err := p.own(ctx, addrs)
	if err != nil {
		return nil, false, err
	}
	w := &Way{Own: p.Door.Prefix(own.Addr), By: own.By, p: p, length: d.Length, until: d.Latest, opening: make(chan struct{})}
	if err := p.Opener.Admit(ctx, p.Door, w.Own); err != nil { // that may take hours: nobody else is kept from the entry meanwhile
		return nil, false, err
	}
	if w.use, err = p.Book.Enter(ctx, intent.Key{Target: p.Door.Name, Person: p.Person, Prefix: w.Own}); err != nil {
		return nil, false, err
	}
	e, there := w.use.Entry()
	now := time.Now()
	if reused = there && e.Usable(now) && !anew; reused {
		close(w.opening)
		if err := w.use.Hold(); err != nil {
			_ = w.use.Done() // the first error says more
			return nil, true, err
		}
		dialling, cancel := context.WithTimeoutCause(ctx, stale, errSilent)
		defer cancel()
		w.Conn, err = relay.Dial(dialling, to, relay.DialOptions{})
	} else {
		until := at.Add(d.Length)
		if after := e.Ends.Add(apart); there && after.Sub(until) < w.length { // else somebody set our clock
			until = later(until, after)
		}
		w.Conn, err = w.open(ctx, intent.Entry{Lease: p.Opener.Lease(p.Person, p.Machine), State: intent.Asked, From: now, Until: until, Ends: until}, to)
	}
	if err == nil {
		return w, reused, nil
	}
	if securitygroup.IsUnreachable(err) { // most likely it does not hear either that it is to shut
		w.leaving = soon
	}
	left := w.Leave(ctx)
	no, is := errors.AsType[*relay.DialError](err)
	switch {
	case !is:
		return nil, reused, err // it says also why what may be open cannot be shut, and that ends by itself
	case ctx.Err() == nil:
		err = &NoAnswer{p.Door, w.Own, own.By, !p.IP.IsValid(), no, own.Cached}
	}
	return nil, reused, errors.Join(err, left)
}

// open opens the door until e.Until while it dials already. It returns when that
// connects: whether the door stays open may be looked at for a moment longer.
func (w *Way) open(ctx context.Context, e intent.Entry, to []netip.AddrPort) (*net.TCPConn, error) {
	if err := w.use.Write(e); err != nil {
		close(w.opening)
		return nil, err
	}
	dialling, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opened := make(chan struct{}, 1)
	ready := func() {
		time.AfterFunc(dialTime, func() { cancel(errSilent) })
		select {
		case opened <- struct{}{}:
		default:
		}
	}
	failed := make(chan error, 1)
	go func() {
		defer close(w.opening)
		// What was asked for is seen through, for it has to be ended then.
		ctx, done := context.WithTimeout(context.WithoutCancel(ctx), shutTime)
		defer done()
		if err := w.ask(ctx, e, ready); err != nil {
			failed <- err
			cancel(err)
		}
	}()
	conn, err := relay.Dial(dialling, to, relay.DialOptions{Now: opened})
	select {
	case why := <-failed:
		if err != nil {
			return nil, why
		}
		w.p.Log.Warn("the door was open already, but could not be opened by us", "target", w.p.Door.Name, "error", why)
	default:
	}
	return conn, err
}

// ask opens the door, and writes down what came of it.
func (w *Way) ask(ctx context.Context, e intent.Entry, ready func()) error {
	e.Key = intent.Key{Target: w.p.Door.Name, Person: w.p.Person, Prefix: w.Own}
	h, err := w.p.Opener.Open(ctx, w.p.Door, e, e.Until.Sub(e.From), ready)
	if err != nil {
		return errors.Join(err, w.use.Hold()) // it may be open all the same: the entry stays as asked for
	}
	w.foreign.Store(h.Foreign)
	return errors.Join(w.use.Write(h.entry(e)), w.use.Hold())
}

// own is our address as the target sees it, who said so, and where to connect then: the
// addresses of the first family of addrs in which we have one.
func (p *Passage) own(ctx context.Context, addrs []netip.Addr) (own ownaddr.Answer, to []netip.AddrPort, err error) {
	var errs []error
	for _, family := range families(addrs, p.IP) {
		to = nil
		for _, a := range addrs {
			if ownaddr.FamilyOf(a) == family {
				to = append(to, netip.AddrPortFrom(a, p.Door.Port))
			}
		}
		if len(to) == 0 {
			return own, nil, hinted("give one of the family that the host has", "%s has no %s address, and %s is one", p.Host, family, p.IP)
		}
		if p.IP.IsValid() {
			return ownaddr.Answer{Addr: p.IP, By: []string{"--ip"}}, to, nil
		}
		answer, err := p.Own.Find(ctx, family, to[0].Addr())
		if err == nil {
			return answer, to, nil
		}
		errs = append(errs, err)
	}
	return own, nil, &Error{errors.Join(errs...), "give the address that you are seen by: --ip ADDR"}
}

// families are those of addrs, in their order; the one of ip alone where that is given.
func families(addrs []netip.Addr, ip netip.Addr) []ownaddr.Family {
	if ip.IsValid() {
		return []ownaddr.Family{ownaddr.FamilyOf(ip)}
	}
	var res []ownaddr.Family
	for _, a := range addrs {
		if f := ownaddr.FamilyOf(a); !slices.Contains(res, f) {
			res = append(res, f)
		}
	}
	return res
}

func (p *Passage) leaseTime() time.Duration { return cmp.Or(p.LeaseTime, leaseTime) }
func (p *Passage) linger() time.Duration    { return cmp.Or(p.Linger, linger) }

// Keep holds the door open until ctx ends, or the policy wants it shut. Who came to a door
// that others had opened renews at once where it has to be soon: they may have left.
func (w *Way) Keep(ctx context.Context) {
	for {
		left := time.Until(w.until)
		if left <= 0 {
			return
		}
		again := w.length / 2
		if err := w.renew(ctx, min(w.length, left)); err != nil && ctx.Err() == nil {
			w.p.Log.Warn("the door could not be kept open; it is tried again", "target", w.p.Door.Name, "error", err)
			again = w.length / 16
		}
		if pause(ctx, min(again, left)) != nil {
			return
		}
	}
}

func (w *Way) renew(ctx context.Context, length time.Duration) error {
	<-w.opening
	if w.foreign.Load() {
		return nil
	}
	if err := w.use.Again(ctx); err != nil {
		return err
	}
	e, ok := w.use.Entry()
	now := time.Now()
	if !ok || e.State != intent.Open || e.Fresh.Sub(now) >= length/2 { // another has renewed it
		return w.use.Hold()
	}
	h, there, err := w.p.Opener.Extend(ctx, w.p.Door, e, length)
	if err == nil && there {
		err = w.use.Write(h.entry(e))
	}
	if err = errors.Join(err, w.use.Hold()); err != nil {
		return err
	}
	// Nobody has to wait while it is looked at whether that lasts.
	lasts, err := w.p.Opener.Lasting(ctx, w.p.Door, e, h, there, length)
	if err != nil || there && lasts == h {
		return err
	}
	w.foreign.Store(lasts.Foreign)
	if lasts.Foreign {
		return nil
	}
	if err := w.use.Again(ctx); err != nil {
		return err
	}
	if e, ok = w.use.Entry(); ok && e.State == intent.Open {
		err = w.use.Write(lasts.entry(e))
	}
	return errors.Join(err, w.use.Hold())
}

// Linger waits for as long as a door that was used stays open for the next, or until ctx
// ends.
func (w *Way) Linger(ctx context.Context) { _ = pause(ctx, w.p.linger()) }

// Leave shuts the door, unless others still need it. It takes its time also when ctx has
// ended: what ended us is why it has to be shut.
func (w *Way) Leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(w.leaving, shutTime))
	defer cancel()
	<-w.opening
	defer func() { _ = w.use.Done() }() // a file of locks alone
	last, err := w.use.Leave(ctx)
	if err != nil || !last || w.foreign.Load() {
		return err
	}
	e, ok := w.use.Entry()
	if !ok {
		return nil
	}
	e.State = intent.Ending
	if err := errors.Join(w.use.Write(e), w.use.Done()); err != nil { // who comes now opens it anew
		return err
	}
	if err := w.p.Opener.Release(ctx, w.p.Door, e); err != nil {
		return fmt.Errorf("shut %s: %w", w.p.Door.Name, err)
	}
	again, err := w.p.Book.Enter(ctx, e.Key)
	if err != nil {
		return err
	}
	w.use = again
	if now, ok := w.use.Entry(); ok && now.State == intent.Ending && now.Until.Equal(e.Until) {
		return w.use.Forget()
	}
	return nil
}

// Shut leaves a door in the place of a process that handed its connection over and has
// ended.
func (p *Passage) Shut(ctx context.Context, prefix netip.Prefix) error {
	w := &Way{p: p, Own: prefix, opening: make(chan struct{})}
	close(w.opening)
	var err error
	if w.use, err = p.Book.Enter(ctx, intent.Key{Target: p.Door.Name, Person: p.Person, Prefix: prefix}); err != nil {
		return err
	}
	if err := w.use.Hold(); err != nil {
		_ = w.use.Done() // the first error says more
		return err
	}
	w.Linger(ctx)
	return w.Leave(ctx)
}

// HandsOver reports whether a door may be left by another process than went through it.
func (d Door) HandsOver() bool { return d.Close == config.CloseAfterConnect }
