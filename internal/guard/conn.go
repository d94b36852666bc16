package guard

import (
	"bytes"
	"hash/maphash"
	"net/netip"

	"sekisho/internal/sshlog"
)

const (
	maxConns = 1 << 16

	// connIdle is how long after its last line a connection is remembered, in
	// milliseconds: longer than LoginGraceTime (2 minutes; nothing more is to come
	// then before somebody logs in), shorter than pids take to come round.
	connIdle = 10 * 60 * 1000

	// pamIdle is how long a failed PAM module waits for sshd's own word.
	pamIdle = 10 * 1000

	maxUser = 64 // bytes of a user name that a connection keeps
)

// conn is what the lines of one connection have said so far. It holds no
// pointer, so that the garbage collector has nothing to do with the table; what
// every line looks at comes first.
type conn struct {
	addr       addr   // zero until a line names it
	last       int64  // milliseconds; of its last line
	hash       uint64 // of the whole user name; 0 where none is known
	prev, next uint32 // in the order of last; index plus 1
	port       uint16 // 0 until a line names it
	counted    uint16 // attempts accounted for
	owed       uint16 // attempts seen before any line named the peer

	accepted  bool // somebody logged in
	ended     bool // a line said that it is over
	abused    bool // it counted as an abusive connection
	credit    bool // the attempt that the next failure line speaks of is accounted for
	pamCredit bool // likewise: "error: PAM: ..." was, and "Failed keyboard-interactive/pam" may follow
	keys      bool // the public keys of a user who does not exist are accounted for
	failed    bool // the last line was "Failed ...", which is accounted for
	pending   bool // a PAM module failed: sshd itself or the end of the connection will tell
	ahead     bool // and was charged before a line told
	told      bool // sshd itself told of a failed login
	queued    bool // in the queue of what is pending
	invalid   bool // the user does not exist
	userLen   uint8

	module    uint32 // hash of the PAM module that failed
	creditFor uint64 // the user whom the credit is for
	started   int64  // milliseconds
	own       [2]tally
	user      [maxUser]byte
}

// tally is the weight that a connection charged for one user: what a login of
// that user forgives. Of further users nothing is forgiven.
type tally struct {
	hash   uint64
	weight uint16
}

func (c *conn) charge(hash uint64, weight int) {
	for i := range c.own {
		if t := &c.own[i]; t.hash == hash || t.hash == 0 {
			t.hash = hash
			t.weight = uint16(min(int(t.weight)+weight, 1<<16-1))
			return
		}
	}
}

func (c *conn) name() []byte {
	if c.hash == 0 {
		return nil
	}
	return c.user[:c.userLen]
}

func (c *conn) peer() netip.AddrPort { return netip.AddrPortFrom(c.addr.netip(), c.port) }

// setUser notes whom the connection tries to be.
func (c *conn) setUser(user []byte, hash uint64) {
	c.hash = hash
	c.userLen = uint8(copy(c.user[:], user))
}

// knowsUser reports whether user is whom the connection is known to try to be.
func (c *conn) knowsUser(user []byte) bool {
	return c.hash != 0 && len(user) < maxUser && string(user) == string(c.user[:c.userLen])
}

// contradicts reports whether an event names another peer than c's.
func (c *conn) contradicts(ev *sshlog.Event) bool {
	if !ev.Addr.IsValid() || !c.addr.known() {
		return false
	}
	return addrOf(ev.Addr) != c.addr || ev.Port != 0 && c.port != 0 && ev.Port != c.port
}

// conns holds the connections, bounded by maxConns: at the bound the one whose
// last line is oldest is forgotten, what it left pending charged first. An
// attacker who holds more connections open than that loses nothing of what was
// counted; only what the lines of the forgotten ones would have joined is
// counted anew.
type conns struct {
	table[conn]
	oldest, newest uint32 // index plus 1

	text     maphash.Seed
	host     []byte // the last line's, and its hash: it rarely changes
	hostHash uint64
}

func newConns() conns { return conns{text: maphash.MakeSeed()} }

// key is the connection that a line of process pid belongs to. A log without
// pids has only the peer to tell connections by.
func (cs *conns) key(l *sshlog.Line, ev *sshlog.Event, pid int32) (key, bool) {
	if !bytes.Equal(l.Host, cs.host) {
		cs.host = append(cs.host[:0], l.Host...)
		cs.hostHash = maphash.Bytes(cs.text, l.Host)
	}
	if pid > 0 {
		return key{cs.hostHash, uint64(pid)}, true
	}
	if ev.Addr.IsValid() && ev.Port != 0 {
		k := addrKey(ev.Addr)
		return key{cs.hostHash ^ k.hi, 1<<63 | k.lo<<16 ^ uint64(ev.Port)}, true
	}
	return key{}, false
}

// hash is a user name's; never 0.
func (cs *conns) hash(user []byte) uint64 {
	return maphash.Bytes(cs.text, user) | 1
}

// touch makes i the connection with the newest line.
func (cs *conns) touch(i uint32, ms int64) {
	c := &cs.at(i).val
	c.last = ms
	if cs.newest == i+1 {
		return
	}
	cs.unlink(c)
	c.prev, c.next = cs.newest, 0
	if cs.newest != 0 {
		cs.at(cs.newest - 1).val.next = i + 1
	} else {
		cs.oldest = i + 1
	}
	cs.newest = i + 1
}

func (cs *conns) unlink(c *conn) {
	if c.prev != 0 {
		cs.at(c.prev - 1).val.next = c.next
	} else if c.next != 0 || cs.newest != 0 && &cs.at(cs.newest-1).val == c {
		cs.oldest = c.next
	}
	if c.next != 0 {
		cs.at(c.next - 1).val.prev = c.prev
	} else if cs.newest != 0 && &cs.at(cs.newest-1).val == c {
		cs.newest = c.prev
	}
	c.prev, c.next = 0, 0
}

// reset begins a connection anew in the place of an earlier one.
func (c *conn) reset(ms int64) {
	*c = conn{prev: c.prev, next: c.next, started: ms, queued: c.queued}
}

// open begins a connection; the entry may be there already.
func (cs *conns) open(k key, ms int64) (*conn, uint32) {
	if i, ok := cs.index(k); ok {
		c := &cs.at(i).val
		c.reset(ms)
		return c, i
	}
	c, i := cs.insert(k)
	c.started = ms
	return c, i
}

// forget takes a connection out.
func (cs *conns) forget(i uint32) {
	cs.unlink(&cs.at(i).val)
	cs.removeAt(i)
}
