package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watcher sees every IPv4 address that comes into any nftables set of its
// network namespace, whoever puts it there.
type watcher struct {
	socket *os.File

	mu    sync.Mutex
	seen  map[netip.Addr]time.Time // when it came first
	err   error
	grown chan struct{} // closed and replaced at each change
}

// newWatcher listens in the calling thread's network namespace.
func newWatcher() (*watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("watch nftables: %w", err)
	}
	w := &watcher{socket: os.NewFile(uintptr(fd), "netlink"), seen: map[netip.Addr]time.Time{}, grown: make(chan struct{})}
	// 100,000 elements come in one transaction.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 512<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}); err != nil {
		w.socket.Close()
		return nil, fmt.Errorf("watch nftables: %w", err)
	}
	go w.listen()
	return w, nil
}

func (w *watcher) close() { w.socket.Close() }

func (w *watcher) listen() {
	buf := make([]byte, 1<<20)
	for {
		n, err := w.socket.Read(buf)
		now := time.Now()
		w.mu.Lock()
		if err != nil {
			w.err = err
		} else {
			for addr := range elements(buf[:n]) {
				if _, ok := w.seen[addr]; !ok {
					w.seen[addr] = now
				}
			}
		}
		close(w.grown)
		w.grown = make(chan struct{})
		w.mu.Unlock()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}

// wait waits until done, which is called with the lock held, and at most for
// patience; it reports whether done was seen.
func (w *watcher) wait(ctx context.Context, patience time.Duration, done func(seen map[netip.Addr]time.Time) bool) (bool, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		w.mu.Lock()
		ok, err, grown := done(w.seen), w.err, w.grown
		w.mu.Unlock()
		switch {
		case ok:
			return true, nil
		case err != nil:
			return false, fmt.Errorf("watch nftables: %w", err)
		}
		select {
		case <-grown:
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// when waits for addr and returns when it came.
func (w *watcher) when(ctx context.Context, addr netip.Addr, patience time.Duration) (at time.Time, ok bool, err error) {
	ok, err = w.wait(ctx, patience, func(seen map[netip.Addr]time.Time) bool {
		at, ok = seen[addr]
		return ok
	})
	return at, ok, err
}

// elements yields the first four bytes of each set element's key that the
// NFT_MSG_NEWSETELEM messages of b add (linux/netfilter/nf_tables.h).
func elements(b []byte) func(yield func(netip.Addr) bool) {
	const (
		newSetElem   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSETELEM
		headers      = unix.NLMSG_HDRLEN + 4 // nlmsghdr, nfgenmsg
		listElements = 3                     // NFTA_SET_ELEM_LIST_ELEMENTS
		elemKey      = 1                     // NFTA_SET_ELEM_KEY
		elemFlags    = 3                     // NFTA_SET_ELEM_FLAGS
		dataValue    = 1                     // NFTA_DATA_VALUE
	)
	return func(yield func(netip.Addr) bool) {
		for len(b) >= headers {
			size := int(binary.NativeEndian.Uint32(b))
			if size < headers || size > len(b) {
				return
			}
			message, kind := b[headers:size], binary.NativeEndian.Uint16(b[4:])
			b = b[min(len(b), (size+3)&^3):]
			if kind != newSetElem {
				continue
			}
			for _, element := range nested(message, listElements) {
				for _, attr := range attributes(element) {
					if len(attr.value) >= 4 && attr.kind == elemFlags && binary.BigEndian.Uint32(attr.value)&1 != 0 {
						break // the end of an interval
					}
					if attr.kind != elemKey {
						continue
					}
					for _, data := range attributes(attr.value) {
						if data.kind == dataValue && len(data.value) >= 4 && !yield(netip.AddrFrom4([4]byte(data.value))) {
							return
						}
					}
				}
			}
		}
	}
}

type attribute struct {
	kind  uint16
	value []byte
}

// attributes splits a row of netlink attributes; what is malformed ends it.
func attributes(b []byte) []attribute {
	var out []attribute
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			break
		}
		out = append(out, attribute{binary.NativeEndian.Uint16(b[2:]) &^ unix.NLA_F_NESTED, b[4:size]})
		b = b[min(len(b), (size+3)&^3):]
	}
	return out
}

// nested returns the values in the attributes of one kind.
func nested(b []byte, kind uint16) [][]byte {
	var out [][]byte
	for _, attr := range attributes(b) {
		if attr.kind == kind {
			for _, inner := range attributes(attr.value) {
				out = append(out, inner.value)
			}
		}
	}
	return out
}
