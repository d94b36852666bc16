package ownaddr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Finder finds our own address. Only First or Services is needed. Its methods may be called concurrently.
type Finder struct {
	First    *Witness      // who is asked before the services, and believed alone; nil: nobody
	Services []string      // https URLs that answer with the address that asks, and nothing else
	Timeout  time.Duration // for all of them; 0: 5 s
	Cache    string        // a file for answers, kept for 5 minutes; "": none
	Logger   *slog.Logger  // nil: silence

	source func(ctx context.Context, family Family, toward netip.Addr) (netip.Addr, error) // tests: nil is the kernel's
	ask    func(ctx context.Context, family Family, from netip.Addr, service string) (netip.Addr, error)
	now    func() time.Time
}

// Witness is somebody who tells the address that they see us by, in one family, asked from
// an address of ours.
type Witness struct {
	Name string
	Ask  func(ctx context.Context, family Family, from netip.Addr) (netip.Addr, error)
}

// OwnInterface is who said so where it is an address of our own interface.
const OwnInterface = "own interface"

// Answer is an address of ours, and how it came about.
type Answer struct {
	Addr      netip.Addr
	By        []string              // who said so: hosts of services, sorted, or OwnInterface. One service alone may lie
	Disagreed map[string]netip.Addr // what other services said, by host
	Cached    bool                  // it was said some minutes ago
}

// DisagreeError says that no two services have said the same.
type DisagreeError struct {
	Family Family
	Said   map[string]netip.Addr // by host
}

func (e *DisagreeError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "find our own %s address: no two services agree:", e.Family)
	for i, host := range slices.Sorted(maps.Keys(e.Said)) {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %s says %s", host, e.Said[host])
	}
	return b.String() + "; give the right one with --ip"
}

// ErrNoRoute says that this machine has no way to the target in its family.
var ErrNoRoute = errors.New("this machine has no route to it")

// Find finds the address that toward, a target, sees us by. Where the route there begins at a
// public address, or does not leave private networks, it is the address it begins at, and nobody is
// asked. Otherwise all services are, side by side, from where that route begins: what two of them
// say is the answer at once; what a single one says is, once no other can. Nothing is sent to the target.
func (f *Finder) Find(ctx context.Context, family Family, toward netip.Addr) (Answer, error) {
	toward = toward.Unmap()
	if !toward.IsValid() || FamilyOf(toward) != family {
		return Answer{}, fmt.Errorf("find our own %s address: the target's, %s, is not of this family", family, toward)
	}
	find := f.source
	if find == nil {
		find = source
	}
	from, err := find(ctx, family, toward)
	if err != nil {
		return Answer{}, fmt.Errorf("find our own address toward %s: %w", toward, err)
	}
	if Public(from) || !Public(toward) {
		return Answer{Addr: plain(from), By: []string{OwnInterface}}, nil
	}
	if a, ok := f.remembered(family, from); ok {
		return a, nil
	}
	a, err := f.witnessed(ctx, family, from)
	if err != nil {
		if a, err = f.poll(ctx, family, from); err != nil {
			return Answer{}, err
		}
	}
	f.remember(family, from, a)
	return a, nil
}

func (f *Finder) log() *slog.Logger {
	if f.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return f.Logger
}

func (f *Finder) time() time.Time {
	if f.now == nil {
		return time.Now()
	}
	return f.now()
}

// source is where the route toward an address begins. Connecting a UDP socket sends nothing.
func source(ctx context.Context, family Family, toward netip.Addr) (netip.Addr, error) {
	const discard = 9 // any port does
	conn, err := new(net.Dialer).DialContext(ctx, family.network("udp"), netip.AddrPortFrom(toward, discard).String())
	if err != nil {
		if e, ok := errors.AsType[*net.OpError](err); ok {
			err = e.Err
		}
		if ctx.Err() != nil {
			return netip.Addr{}, context.Cause(ctx)
		}
		return netip.Addr{}, fmt.Errorf("%w: %w", ErrNoRoute, err)
	}
	defer conn.Close()
	return plain(conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()), nil
}
