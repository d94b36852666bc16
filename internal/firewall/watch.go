package firewall

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// watchBuffer holds what the kernel tells until it is read; our own changes never
// get into it.
const watchBuffer = 4 << 20

// Watch implements Firewall. Where the kernel had more to tell than it could keep,
// the change is "events lost": the table may be in any state then. The end of a
// ban by itself is no change.
func (k *Kernel) Watch(ctx context.Context, changed func(Change)) error {
	return k.watch(ctx, watchBuffer, func() {}, changed)
}

// watch calls ready when nothing can be missed any more; buffer bytes are kept
// while changed is at work.
func (k *Kernel) watch(ctx context.Context, buffer int, ready func(), changed func(Change)) error {
	conn, err := k.subscribe(buffer)
	if err != nil {
		return fmt.Errorf("watch nf_tables: %w", explain(err))
	}
	k.suspect.Store(true) // whatever was before
	k.watches.Add(1)
	defer func() {
		k.watches.Add(-1)
		_ = conn.Close()
	}()
	tell := func(c Change) {
		k.suspect.Store(true)
		changed(c)
	}
	ready()

	in := make([]byte, receiveBuffer)
	var seen changes
	for {
		n, _, err := conn.Recvfrom(ctx, in, 0)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			seen = changes{}
			tell(Change{What: "events lost"})
			continue
		case err != nil:
			return fmt.Errorf("watch nf_tables: %w", err)
		}
		if _, err := messages(in[:n], func(h header, data []byte) (bool, error) {
			if c, ok := seen.add(h.typ, data); ok {
				tell(c)
			}
			return false, nil
		}); err != nil {
			return fmt.Errorf("watch nf_tables: %w", err)
		}
	}
}

func (k *Kernel) subscribe(buffer int) (*socket.Conn, error) {
	conn, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER, "netlink", &socket.Config{NetNS: k.netNS})
	if err != nil {
		return nil, err
	}
	if err := setupWatch(conn, buffer, k.layouts.portID, k.elems.portID, k.readSock.portID); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func setupWatch(conn *socket.Conn, buffer int, ours ...uint32) error {
	if err := conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer); err != nil {
		if err := conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			return err
		}
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	// The kernel itself leaves out what our own sockets did: a load of 100,000 bans
	// would flood us.
	program := notFrom(ours)
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{
			Len: uint16(len(program)), Filter: &program[0],
		})
	}); cerr != nil {
		return cerr
	}
	if err != nil {
		return err
	}
	if err := conn.Bind(&unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return conn.SetsockoptInt(unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTABLES)
}

// notFrom is a socket filter that passes messages unless nlmsg_pid, the port of
// the socket that made the change, is one of ports.
func notFrom(ports []uint32) []unix.SockFilter {
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12}}
	for i, p := range ports {
		// The filter loads in the network's byte order what is in the machine's.
		program = append(program, unix.SockFilter{
			Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
			K:    binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, p)),
			Jt:   uint8(len(ports) - i), // to the last instruction
		})
	}
	return append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
}

// changes gathers the events of one transaction; the kernel ends it with the new
// generation and whose it is.
type changes struct {
	rank int // of what, in the table of add; 0: our table is not concerned
	what string
}

// add takes an event and returns a change when the transaction is complete and was
// about our table: the gravest thing that was done.
func (c *changes) add(typ uint16, data []byte) (Change, bool) {
	if typ>>8 != unix.NFNL_SUBSYS_NFTABLES || len(data) < 4 {
		return Change{}, false
	}
	family, data := data[0], data[4:]
	if typ&0xff == unix.NFT_MSG_NEWGEN {
		done := *c
		*c = changes{}
		if done.rank == 0 {
			return Change{}, false
		}
		change := Change{What: done.what}
		attributes(data, func(typ uint16, data []byte) {
			switch {
			case typ == unix.NFTA_GEN_PROC_PID && len(data) == 4:
				change.PID = int32(binary.BigEndian.Uint32(data))
			case typ == unix.NFTA_GEN_PROC_NAME:
				change.Process = text(data)
			}
		})
		return change, true
	}
	// In all of these the first attribute is the table's name; that of the set or
	// chain is the second, but for a chain's own events.
	typ &= 0xff
	nameAt := uint16(unix.NFTA_SET_NAME)
	if typ == unix.NFT_MSG_NEWCHAIN || typ == unix.NFT_MSG_DELCHAIN {
		nameAt = unix.NFTA_CHAIN_NAME
	}
	var table, name string
	attributes(data, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_TABLE_NAME:
			table = text(data)
		case nameAt:
			name = text(data)
		}
	})
	if family != unix.NFPROTO_INET || table != tableName {
		return Change{}, false
	}
	rank, what := 1, "table changed"
	switch typ {
	case unix.NFT_MSG_DELTABLE:
		rank, what = 9, "table deleted"
	case unix.NFT_MSG_DELCHAIN:
		rank, what = 8, "chain "+name+" deleted"
	case unix.NFT_MSG_DELSET:
		rank, what = 7, "set "+name+" deleted"
	case unix.NFT_MSG_DELRULE:
		rank, what = 6, "rule of chain "+name+" deleted"
	case unix.NFT_MSG_NEWRULE:
		rank, what = 5, "rule of chain "+name+" added"
	case unix.NFT_MSG_DELSETELEM:
		rank, what = 4, "elements of set "+name+" deleted"
	case unix.NFT_MSG_NEWSETELEM:
		rank, what = 3, "elements of set "+name+" added"
	case unix.NFT_MSG_NEWCHAIN:
		rank, what = 2, "chain "+name+" changed"
	case unix.NFT_MSG_NEWSET:
		rank, what = 2, "set "+name+" changed"
	}
	if rank > c.rank {
		c.rank, c.what = rank, what
	}
	return Change{}, false
}

// text is a zero-terminated string.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
