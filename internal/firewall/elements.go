package firewall

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// host is one element of a hash set.
type host struct {
	key  [16]byte
	set  setID
	left time.Duration // 0: without end
}

// perTransaction bounds what a batch takes of memory, ours and the kernel's.
const perTransaction = 4096

// Ban implements Firewall. It goes by transactions of a few thousand; at an error
// the earlier ones are in force.
func (k *Kernel) Ban(ctx context.Context, bans []Ban) error {
	if err := checkBans(bans); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.eachHosts(ctx, k.addHosts, func(yield func(host) error) error {
		for _, b := range bans {
			set := home(b.Prefix)
			if set.interval() || b.Left < 0 {
				continue
			}
			if err := yield(k.hostOf(set, b)); err != nil {
				return err
			}
		}
		return nil
	})
	for _, set := range []setID{net4, net6} {
		mine := func(b Ban) bool { return home(b.Prefix) == set }
		if err != nil || !slices.ContainsFunc(bans, mine) {
			continue
		}
		err = k.rewriteNets(ctx, set, func(nets map[netip.Prefix]time.Time, now time.Time) {
			for _, b := range bans {
				if mine(b) && b.Left >= 0 {
					nets[b.Prefix] = endOf(b, now)
				}
			}
		})
	}
	if err != nil {
		return fmt.Errorf("ban %d prefixes: %w", len(bans), absent(err))
	}
	return nil
}

// Unban implements Firewall.
func (k *Kernel) Unban(ctx context.Context, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if err := check(p); err != nil {
			return fmt.Errorf("un%w", err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.eachHosts(ctx, k.deleteHosts, func(yield func(host) error) error {
		for _, p := range prefixes {
			if set := home(p); !set.interval() {
				if err := yield(k.hostOf(set, Ban{Prefix: p})); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for _, set := range []setID{net4, net6} {
		// Hosts too: an interval made by hand is told as hosts where it is not a prefix.
		mine := func(p netip.Prefix) bool { return p.Addr().Is6() == set.v6() }
		if err != nil || !slices.ContainsFunc(prefixes, mine) {
			continue
		}
		err = k.rewriteNets(ctx, set, func(nets map[netip.Prefix]time.Time, _ time.Time) {
			for _, p := range prefixes {
				delete(nets, p)
			}
		})
	}
	if err != nil {
		return fmt.Errorf("unban %d prefixes: %w", len(prefixes), absent(err))
	}
	return nil
}

// hostOf is b as an element of the hash set that holds it, with what this kernel can
// hold of its time.
func (k *Kernel) hostOf(set setID, b Ban) host {
	h := host{set: set, left: b.Left}
	if !k.intervalTimeouts {
		h.left = min(h.left, oldTimeout)
	}
	h.key, _ = key(b.Prefix.Addr())
	return h
}

// eachHosts commits what list yields, a transaction at a time: sorted by set, and
// of the same host the last one only.
func (k *Kernel) eachHosts(ctx context.Context, commit func([]host) error, list func(yield func(host) error) error) error {
	k.hosts = k.hosts[:0]
	flush := func() error {
		if len(k.hosts) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		slices.SortStableFunc(k.hosts, func(a, b host) int {
			return cmp.Or(cmp.Compare(a.set, b.set), bytes.Compare(a.key[:], b.key[:]))
		})
		once := k.hosts[:0]
		for i, h := range k.hosts {
			if i+1 == len(k.hosts) || h.set != k.hosts[i+1].set || h.key != k.hosts[i+1].key {
				once = append(once, h)
			}
		}
		err := inParts(once, commit)
		k.hosts = k.hosts[:0]
		return err
	}
	if err := list(func(h host) error {
		if k.hosts = append(k.hosts, h); len(k.hosts) < perTransaction {
			return nil
		}
		return flush()
	}); err != nil {
		return err
	}
	return flush()
}

// addHosts puts hosts in force. Kernels before 6.12 do not change the timeout of an
// element that is there, so each is added (then deleting cannot fail), deleted and
// added. Trying first whether all are new is no gain: a batch that fails costs the
// kernel a grace period, some 10 ms.
func (k *Kernel) addHosts(hosts []host) error {
	k.out.begin()
	k.out.hosts(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, hosts, false)
	k.out.hosts(unix.NFT_MSG_DELSETELEM, 0, hosts, false)
	k.out.hosts(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, hosts, true)
	k.out.finish()
	return k.elems.commit(&k.out)
}

// deleteHosts takes hosts out; adding them first is what lets one be missing.
func (k *Kernel) deleteHosts(hosts []host) error {
	k.out.begin()
	k.out.hosts(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, hosts, false)
	k.out.hosts(unix.NFT_MSG_DELSETELEM, 0, hosts, false)
	k.out.finish()
	return k.elems.commit(&k.out)
}

// inParts commits hosts, in halves where they are too many for the buffers or the
// memory that there is. What was committed already may be committed again.
func inParts(hosts []host, commit func([]host) error) error {
	err := commit(hosts)
	small := errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
	if !small || len(hosts) < 2 {
		return err
	}
	half := len(hosts) / 2
	if err := inParts(hosts[:half], commit); err != nil {
		return err
	}
	return inParts(hosts[half:], commit)
}

// hosts writes messages of hosts, which are sorted by set.
func (m *message) hosts(typ, flags uint16, hosts []host, timed bool) {
	for len(hosts) > 0 {
		set, size := hosts[0].set, 4
		if set.v6() {
			size = 16
		}
		list := m.elements(typ, flags, set.String())
		n := 0
		for n < len(hosts) && hosts[n].set == set && len(m.b)-list < messageLimit {
			var left time.Duration
			if timed {
				left = hosts[n].left
			}
			m.element(hosts[n].key[:size], 0, left, "")
			n++
		}
		m.close(list)
		m.end()
		hosts = hosts[n:]
	}
}

// elements begins a message about elements of set, up to their list.
func (m *message) elements(typ, flags uint16, set string) (list int) {
	m.start(nfnl|typ, flags)
	return m.beginElements(tableName, set)
}

func (m *message) beginElements(table, set string) (list int) {
	m.string(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	m.string(unix.NFTA_SET_ELEM_LIST_SET, set)
	return m.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
}

func (m *message) element(key []byte, flags uint32, left time.Duration, comment string) {
	at := m.nest(unix.NFTA_LIST_ELEM)
	k := m.nest(unix.NFTA_SET_ELEM_KEY)
	m.bytes(unix.NFTA_DATA_VALUE, key)
	m.close(k)
	if flags != 0 {
		m.uint32(unix.NFTA_SET_ELEM_FLAGS, flags)
	}
	if left > 0 {
		m.uint64(unix.NFTA_SET_ELEM_TIMEOUT, milliseconds(left))
	}
	if comment != "" {
		// A comment as nft reads it: type 0, length, text, zero.
		m.bytes(unix.NFTA_SET_ELEM_USERDATA, append(append([]byte{0, byte(len(comment) + 1)}, comment...), 0))
	}
	m.close(at)
}

// rawElement is one element of a dump.
type rawElement struct {
	key     []byte
	flags   uint32
	left    time.Duration
	timed   bool
	comment []byte
}

// list dumps a set.
func list(s *sock, req *message, set string, strict bool, each func(rawElement) error) error {
	req.b = req.b[:0]
	req.start(nfnl|unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP)
	req.string(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	req.string(unix.NFTA_SET_ELEM_LIST_SET, set)
	req.end()
	return s.dump(req, strict, func(data []byte) error {
		var err error
		attributes(data[min(4, len(data)):], func(typ uint16, data []byte) {
			if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				return
			}
			attributes(data, func(_ uint16, data []byte) {
				if err == nil {
					err = each(parseElement(data))
				}
			})
		})
		return err
	})
}

func parseElement(data []byte) (e rawElement) {
	attributes(data, func(typ uint16, data []byte) {
		switch {
		case typ == unix.NFTA_SET_ELEM_KEY:
			attributes(data, func(typ uint16, data []byte) {
				if typ == unix.NFTA_DATA_VALUE {
					e.key = data
				}
			})
		case typ == unix.NFTA_SET_ELEM_FLAGS && len(data) == 4:
			e.flags = binary.BigEndian.Uint32(data)
		case typ == unix.NFTA_SET_ELEM_EXPIRATION && len(data) == 8:
			e.timed = true
			e.left = time.Duration(min(binary.BigEndian.Uint64(data), uint64(1<<63-1)/uint64(time.Millisecond))) * time.Millisecond
		case typ == unix.NFTA_SET_ELEM_USERDATA:
			e.comment = userComment(data)
		}
	})
	if e.timed {
		e.left = max(e.left, time.Millisecond)
	}
	return e
}

// userComment finds the comment in an element's user data.
func userComment(b []byte) []byte {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == 0 {
			return bytes.TrimSuffix(b[2:2+int(b[1])], []byte{0})
		}
		b = b[2+int(b[1]):]
	}
	return nil
}

// Bans implements Firewall. A ban that is made or that ends while they are being
// read may be missed or told twice. yield must not call k.
func (k *Kernel) Bans(ctx context.Context, yield func(Ban) error) error {
	k.reading.Lock()
	defer k.reading.Unlock()
	for set := range setCount {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if set.interval() {
			err = k.yieldNets(ctx, set, yield)
		} else {
			err = k.yieldHosts(set, yield)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// yieldHosts calls yield for the elements of a hash set of hosts or /64s.
func (k *Kernel) yieldHosts(set setID, yield func(Ban) error) error {
	var stopped error
	err := list(k.readSock, new(message), set.String(), false, func(e rawElement) error {
		a, ok := addr(e.key)
		if !ok {
			return nil
		}
		bits := a.BitLen()
		if set == ban6n || set == grant6n {
			bits = 64
		}
		stopped = yield(Ban{Prefix: netip.PrefixFrom(a, bits), Left: e.left})
		return stopped
	})
	if stopped != nil {
		return stopped
	}
	if err != nil {
		return fmt.Errorf("read set %s: %w", set, absent(err))
	}
	return nil
}
