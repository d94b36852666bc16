package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// Set elements go over a socket and a codec of our own: google/nftables makes an
// object of each element, which costs too much at 100,000 bans. Layouts are those
// of linux/netfilter/nf_tables.h; an attribute's header is in the machine's byte
// order, its value in the network's.

const (
	// sendBuffer holds the biggest batch of hosts with room to spare.
	sendBuffer = 2 << 20
	// messageLimit keeps the list of elements, an attribute with a 16 bit length,
	// well under 64 KiB.
	messageLimit = 32 << 10
	// receiveBuffer is the most that the kernel puts into one answer of a dump.
	receiveBuffer = 32 << 10
)

// sock is a netlink socket that asks and answers in turn. The kernel does the work
// inside of send and has put its answers into the queue when that returns, so
// nothing here ever waits.
type sock struct {
	conn   *socket.Conn
	raw    syscall.RawConn
	portID uint32
	in     []byte
}

func dial(netNS int) (*sock, error) {
	conn, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER, "netlink", &socket.Config{NetNS: netNS})
	if err != nil {
		return nil, explain(err)
	}
	s := &sock{conn: conn, in: make([]byte, receiveBuffer)}
	if err := s.setup(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("set up netlink socket: %w", err)
	}
	return s, nil
}

func (s *sock) setup() error {
	if err := s.conn.Bind(&unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	sa, err := s.conn.Getsockname()
	if err != nil {
		return err
	}
	if nl, ok := sa.(*unix.SockaddrNetlink); ok {
		s.portID = nl.Pid
	}
	// An error then does not carry the whole message that it is about.
	if err := s.conn.SetsockoptInt(unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return err
	}
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		return err
	}
	// Only the kernel may talk to us from here on.
	if err := s.control(func(fd int) error {
		return unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}); err != nil {
		return err
	}
	return s.grow(sendBuffer)
}

// grow raises the send buffer to hold a batch of size bytes, as far as we may.
func (s *sock) grow(size int) error {
	if s.conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size) == nil {
		return nil
	}
	return s.conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_SNDBUF, size)
}

func (s *sock) control(f func(fd int) error) error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

func (s *sock) close() error { return s.conn.Close() }

func (s *sock) send(b []byte) error {
	write := func(fd int) error {
		for {
			if _, err := unix.Write(fd, b); !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	}
	err := s.control(write)
	if errors.Is(err, unix.EMSGSIZE) {
		if err := s.grow(len(b) + 4096); err != nil {
			return err
		}
		err = s.control(write)
	}
	return err
}

// receive reads what is in the queue and calls each for every message, until it
// says stop or the queue is empty: unix.EAGAIN. A message's data holds until each
// returns.
func (s *sock) receive(each func(h header, data []byte) (stop bool, err error)) error {
	return s.control(func(fd int) error {
		for {
			n, err := unix.Read(fd, s.in)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case err != nil:
				return err
			}
			stop, err := messages(s.in[:n], each)
			if err != nil || stop {
				return err
			}
		}
	})
}

// commit sends a batch and returns the first error that the kernel has with it;
// the whole batch is in force then, or nothing of it.
func (s *sock) commit(b *message) error {
	if err := s.send(b.b); err != nil {
		return err
	}
	answered := false
	var first error
	err := s.receive(func(h header, data []byte) (bool, error) {
		if h.typ != unix.NLMSG_ERROR {
			return false, nil
		}
		answered = true
		if err := errno(data); err != nil && first == nil {
			first = &batchError{h.seq, err}
		}
		return false, nil
	})
	if !errors.Is(err, unix.EAGAIN) {
		return err
	}
	if !answered {
		return errors.New("the kernel did not answer")
	}
	return first
}

// batchError is what the kernel has with one message of a batch.
type batchError struct {
	seq uint32 // of the message, from 1 on
	err error
}

func (e *batchError) Error() string { return e.err.Error() }
func (e *batchError) Unwrap() error { return e.err }

// dump sends a request for a dump and calls each for every message of it. With
// strict set, a dump that the kernel knows to be torn is unix.EINTR.
func (s *sock) dump(req *message, strict bool, each func(data []byte) error) error {
	// What an earlier dump left, when its caller stopped it.
	if err := s.receive(func(header, []byte) (bool, error) { return false, nil }); !errors.Is(err, unix.EAGAIN) {
		return err
	}
	if err := s.send(req.b); err != nil {
		return err
	}
	torn := false
	err := s.receive(func(h header, data []byte) (bool, error) {
		torn = torn || h.flags&unix.NLM_F_DUMP_INTR != 0
		switch h.typ {
		case unix.NLMSG_DONE:
			if len(data) >= 4 {
				return true, errno(data)
			}
			return true, nil
		case unix.NLMSG_ERROR:
			return true, errno(data)
		case unix.NLMSG_NOOP:
			return false, nil
		}
		return false, each(data)
	})
	switch {
	case errors.Is(err, unix.EAGAIN):
		return errors.New("the kernel did not answer")
	case err == nil && torn && strict:
		return unix.EINTR
	}
	return err
}

// errno is the error of an NLMSG_ERROR or NLMSG_DONE message; nil for none.
func errno(data []byte) error {
	if len(data) < 4 {
		return unix.EBADMSG
	}
	if n := int32(binary.NativeEndian.Uint32(data)); n != 0 {
		return unix.Errno(-n)
	}
	return nil
}

// header is struct nlmsghdr without its length.
type header struct {
	typ, flags  uint16
	seq, portID uint32
}

// messages calls each for every message in b.
func messages(b []byte, each func(h header, data []byte) (stop bool, err error)) (bool, error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return true, unix.EBADMSG
		}
		stop, err := each(header{
			typ: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]),
			seq: binary.NativeEndian.Uint32(b[8:]), portID: binary.NativeEndian.Uint32(b[12:]),
		}, b[unix.NLMSG_HDRLEN:n])
		if err != nil || stop {
			return true, err
		}
		b = b[min(align(n), len(b)):]
	}
	return false, nil
}

// attributes calls each for every attribute in b; what is cut short ends it.
func attributes(b []byte, each func(typ uint16, data []byte)) {
	for len(b) >= unix.NLA_HDRLEN {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.NLA_HDRLEN || n > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.NLA_HDRLEN:n])
		b = b[min(align(n), len(b)):]
	}
}

func align(n int) int { return (n + 3) &^ 3 }

// message is a run of netlink messages being written. The zero value is ready.
type message struct {
	b   []byte
	at  int    // where the message being written begins
	seq uint32 // of the next one
}

const nfnl = unix.NFNL_SUBSYS_NFTABLES << 8

// start begins a message about our table's family.
func (m *message) start(typ, flags uint16) { m.header(typ, flags, unix.NFPROTO_INET, 0) }

func (m *message) header(typ, flags uint16, family uint8, resource uint16) {
	m.at = len(m.b)
	m.b = append(m.b, make([]byte, unix.NLMSG_HDRLEN)...)
	binary.NativeEndian.PutUint16(m.b[m.at+4:], typ)
	binary.NativeEndian.PutUint16(m.b[m.at+6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(m.b[m.at+8:], m.seq)
	m.seq++
	m.b = append(m.b, family, unix.NFNETLINK_V0, byte(resource>>8), byte(resource))
}

// end closes the message that start began.
func (m *message) end() {
	binary.NativeEndian.PutUint32(m.b[m.at:], uint32(len(m.b)-m.at))
}

// begin starts a batch, dropping what was written before.
func (m *message) begin() {
	m.b, m.seq = m.b[:0], 0
	m.header(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	m.end()
}

// finish asks for an answer to the last message and closes the batch. An answer
// to the end itself is given by new kernels only.
func (m *message) finish() {
	m.ack()
	m.header(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	m.end()
}

// ack asks for an answer to the message written last.
func (m *message) ack() {
	flags := m.b[m.at+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
}

func (m *message) nest(typ uint16) (at int) {
	at = len(m.b)
	m.attribute(typ|unix.NLA_F_NESTED, 0)
	return at
}

func (m *message) close(at int) {
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
}

func (m *message) attribute(typ uint16, size int) {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(unix.NLA_HDRLEN+size))
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
}

func (m *message) bytes(typ uint16, v []byte) {
	m.attribute(typ, len(v))
	m.b = append(m.b, v...)
	m.pad()
}

func (m *message) string(typ uint16, v string) {
	m.attribute(typ, len(v)+1)
	m.b = append(append(m.b, v...), 0)
	m.pad()
}

func (m *message) uint32(typ uint16, v uint32) {
	m.attribute(typ, 4)
	m.b = binary.BigEndian.AppendUint32(m.b, v)
}

func (m *message) uint64(typ uint16, v uint64) {
	m.attribute(typ, 8)
	m.b = binary.BigEndian.AppendUint64(m.b, v)
}

func (m *message) pad() {
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

// explain adds to an error of the kernel what to do about it.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: the capability CAP_NET_ADMIN is missing (run as root, or give it with AmbientCapabilities=)", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: this kernel has no nf_tables (try: modprobe nf_tables)", err)
	}
	return err
}
