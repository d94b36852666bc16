package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// held is our table as the kernel tells it.
type held struct {
	table  bool // it is there
	flags  uint32
	chains []heldChain
	sets   []heldSet
	armed  time.Duration // what is left of the longest element of the set `armed`; 0: it has none
}

type heldChain struct {
	name string
	baseChain
	rules []heldRule
}

// baseChain is where a chain is hooked in; the zero value: nowhere.
type baseChain struct {
	typ      string
	hook     uint32
	priority int32
	policy   uint32
}

type heldRule struct {
	user  []byte // its comment is in it
	exprs []byte // attributes, each an expression
	form  []byte // their canonical form
}

type heldSet struct {
	name string
	setShape
	read     bool   // elements is told
	elements digest // only of sets whose elements are the rules' own
}

// setShape is all of a set but for its name and elements.
type setShape struct {
	flags, keyType, keyLen, size uint32
	timeout                      uint64 // milliseconds; 0: none, or each element's own
}

// digest tells elements from others, whatever their order, at no cost of memory.
type digest struct {
	n   int
	sum uint64
}

func (d *digest) add(seed maphash.Seed, key []byte, end bool) {
	var b [17]byte
	if end {
		b[16] = 1
	}
	n := copy(b[:16], key)
	d.n++
	d.sum += maphash.Bytes(seed, append(b[:n], b[16]))
}

// digest is that of the elements that are the rules' own.
func (s set) digest(seed maphash.Seed) (d digest) {
	for _, p := range s.ports {
		d.add(seed, []byte{byte(p >> 8), byte(p)}, false)
	}
	for _, r := range s.ranges {
		first, size := key(r.From())
		d.add(seed, first[:size], false)
		if next := r.To().Next(); next.IsValid() {
			end, size := key(next)
			d.add(seed, end[:size], true)
		}
	}
	return d
}

func (h held) chain(name string) *heldChain {
	return find(h.chains, func(c heldChain) bool { return c.name == name })
}

func (h held) set(name string) *heldSet {
	return find(h.sets, func(s heldSet) bool { return s.name == name })
}

// comment is the rule's comment.
func (r heldRule) comment() string {
	s, _ := userdata.GetString(r.user, userdata.TypeComment)
	return s
}

// each calls do for every expression.
func (r heldRule) each(do func(name string, data []byte)) {
	attributes(r.exprs, func(_ uint16, b []byte) { do(expression(b)) })
}

// counter is what the rule's counter says.
func (r heldRule) counter() (packets, bytes uint64, ok bool) {
	r.each(func(name string, data []byte) {
		if name != "counter" || ok {
			return
		}
		ok = true
		attributes(data, func(typ uint16, data []byte) {
			switch {
			case len(data) != 8:
			case typ == unix.NFTA_COUNTER_PACKETS:
				packets = binary.BigEndian.Uint64(data)
			case typ == unix.NFTA_COUNTER_BYTES:
				bytes = binary.BigEndian.Uint64(data)
			}
		})
	})
	return packets, bytes, ok
}

// verdict is the rule's own, with the chain that it goes to.
func (r heldRule) verdict() (code int32, chain string, ok bool) {
	r.each(func(name string, data []byte) {
		if name != "immediate" {
			return
		}
		attributes(data, func(typ uint16, data []byte) {
			if typ != unix.NFTA_IMMEDIATE_DATA {
				return
			}
			attributes(data, func(typ uint16, data []byte) {
				if typ != unix.NFTA_DATA_VERDICT {
					return
				}
				attributes(data, func(typ uint16, data []byte) {
					switch {
					case typ == unix.NFTA_VERDICT_CODE && len(data) == 4:
						code, ok = int32(binary.BigEndian.Uint32(data)), true
					case typ == unix.NFTA_VERDICT_CHAIN:
						chain = text(data)
					}
				})
			})
		})
	})
	return code, chain, ok
}

// drops reports whether the rule lets nothing through: it drops or rejects.
func (r heldRule) drops() (drops bool) {
	code, _, ok := r.verdict()
	if ok && code == int32(expr.VerdictDrop) {
		return true
	}
	r.each(func(name string, _ []byte) { drops = drops || name == "reject" })
	return drops
}

// looksUp reports whether the rule looks into the set.
func (r heldRule) looksUp(set string) (found bool) {
	r.each(func(name string, data []byte) {
		if name == "lookup" {
			attributes(data, func(typ uint16, data []byte) {
				found = found || typ == unix.NFTA_LOOKUP_SET && text(data) == set
			})
		}
	})
	return found
}

// read reads what is there, with the elements of the sets of want for which
// elements says so. It is asked anew while others change the table meanwhile.
func (k *Kernel) read(want layout, elements func(*held, set) bool) (h held, err error) {
	for i := range 10 {
		// Whoever bans all the time tears every dump, though of other things than ours.
		if h, err = k.readOnce(want, elements, i < 9); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return h, err
}

func (k *Kernel) readOnce(want layout, elements func(*held, set) bool, strict bool) (held, error) {
	var h held
	dump := func(typ uint16, table uint16, each func(attrs []byte)) error {
		m := &k.tx.message
		m.b = m.b[:0]
		m.start(nfnl|typ, unix.NLM_F_DUMP)
		if table != 0 {
			m.string(table, tableName)
		}
		m.end()
		return k.layouts.dump(m, strict, func(data []byte) error {
			each(data[min(4, len(data)):])
			return nil
		})
	}
	if err := dump(unix.NFT_MSG_GETTABLE, 0, h.addTable); err != nil || !h.table {
		return h, err
	}
	if err := dump(unix.NFT_MSG_GETCHAIN, 0, h.addChain); err != nil {
		return h, err
	}
	if err := dump(unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE, h.addRule); err != nil {
		return h, err
	}
	if err := dump(unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, h.addSet); err != nil {
		return h, err
	}
	for i := range h.sets {
		s := &h.sets[i]
		w := want.set(s.name)
		if s.name == armedName {
			if err := list(k.layouts, &k.tx.message, s.name, false, func(e rawElement) error {
				if !e.timed {
					e.left = math.MaxInt64
				}
				h.armed = max(h.armed, e.left)
				return nil
			}); err != nil {
				return h, err
			}
		}
		if w == nil || !w.fixed || shapeOf(w.Set) != s.setShape || !elements(&h, *w) {
			continue
		}
		s.read = true
		if err := list(k.layouts, &k.tx.message, s.name, false, func(e rawElement) error {
			s.elements.add(k.seed, e.key, e.flags&unix.NFT_SET_ELEM_INTERVAL_END != 0)
			return nil
		}); err != nil {
			return h, err
		}
	}
	return h, nil
}

func (h *held) addTable(attrs []byte) {
	var name string
	var flags uint32
	attributes(attrs, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_TABLE_NAME:
			name = text(data)
		case unix.NFTA_TABLE_FLAGS:
			flags = number(data)
		}
	})
	if name == tableName {
		h.table, h.flags = true, flags
	}
}

func (h *held) addChain(attrs []byte) {
	var c heldChain
	var table string
	attributes(attrs, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			table = text(data)
		case unix.NFTA_CHAIN_NAME:
			c.name = text(data)
		case unix.NFTA_CHAIN_TYPE:
			c.typ = text(data)
		case unix.NFTA_CHAIN_POLICY:
			c.policy = number(data)
		case unix.NFTA_CHAIN_HOOK:
			attributes(data, func(typ uint16, data []byte) {
				switch typ {
				case unix.NFTA_HOOK_HOOKNUM:
					c.hook = number(data)
				case unix.NFTA_HOOK_PRIORITY:
					c.priority = int32(number(data))
				}
			})
		}
	})
	if table == tableName {
		h.chains = append(h.chains, c)
	}
}

func (h *held) addRule(attrs []byte) {
	var r heldRule
	var table, chain string
	attributes(attrs, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_RULE_TABLE:
			table = text(data)
		case unix.NFTA_RULE_CHAIN:
			chain = text(data)
		case unix.NFTA_RULE_USERDATA:
			r.user = slices.Clone(data)
		case unix.NFTA_RULE_EXPRESSIONS:
			r.exprs = slices.Clone(data)
		}
	})
	if c := h.chain(chain); table == tableName && c != nil {
		attributes(r.exprs, func(_ uint16, b []byte) { r.form = canonical(r.form, b) })
		c.rules = append(c.rules, r)
	}
}

func (h *held) addSet(attrs []byte) {
	var s heldSet
	var table string
	attributes(attrs, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_SET_TABLE:
			table = text(data)
		case unix.NFTA_SET_NAME:
			s.name = text(data)
		case unix.NFTA_SET_FLAGS:
			s.flags = number(data)
		case unix.NFTA_SET_KEY_TYPE:
			s.keyType = number(data)
		case unix.NFTA_SET_KEY_LEN:
			s.keyLen = number(data)
		case unix.NFTA_SET_TIMEOUT:
			if len(data) == 8 {
				s.timeout = binary.BigEndian.Uint64(data)
			}
		case unix.NFTA_SET_DESC:
			attributes(data, func(typ uint16, data []byte) {
				if typ == unix.NFTA_SET_DESC_SIZE {
					s.size = number(data)
				}
			})
		}
	})
	if table == tableName {
		h.sets = append(h.sets, s)
	}
}

func number(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// shapeOf is what a wanted set must look like. That it is a concatenation follows
// from its type; kernels before 5.6 know no flag for it.
func shapeOf(s *nftables.Set) setShape {
	var flags uint32
	if s.Interval {
		flags |= unix.NFT_SET_INTERVAL
	}
	if s.HasTimeout {
		flags |= unix.NFT_SET_TIMEOUT
	}
	if s.Dynamic {
		flags |= unix.NFT_SET_EVAL
	}
	return setShape{
		flags: flags, keyType: s.KeyType.GetNFTMagic(), keyLen: s.KeyType.Bytes, size: s.Size,
		timeout: uint64(s.Timeout.Milliseconds()),
	}
}

// baseOf is where a wanted chain is hooked in.
func baseOf(c *nftables.Chain) (b baseChain) {
	if c.Hooknum == nil {
		return baseChain{}
	}
	b = baseChain{typ: string(c.Type), hook: uint32(*c.Hooknum), policy: uint32(nftables.ChainPolicyAccept)}
	if c.Priority != nil {
		b.priority = int32(*c.Priority)
	}
	if c.Policy != nil {
		b.policy = uint32(*c.Policy)
	}
	return b
}

// drift says in which ways have is not want, in words for people; nothing when it
// is. Each is also what Intact reports as missing.
func (k *Kernel) drift(have held, want layout) (missing []string, err error) {
	miss := func(format string, args ...any) { missing = append(missing, fmt.Sprintf(format, args...)) }
	if !have.table {
		return []string{"table inet " + tableName}, nil
	}
	if have.flags != 0 {
		miss("table inet %s has other flags", tableName)
	}
	for _, w := range want.chains {
		switch h := have.chain(w.Name); {
		case h == nil:
			miss("chain %s", w.Name)
		case h.baseChain != baseOf(w.Chain):
			miss("chain %s is another", w.Name)
		}
	}
	for _, w := range want.sets {
		switch h := have.set(w.Name); {
		case h == nil:
			miss("set %s", w.Name)
		case h.setShape != shapeOf(w.Set):
			miss("set %s is another", w.Name)
		}
	}
	for _, h := range have.chains {
		if want.chain(h.name) == nil {
			miss("chain %s is not ours", h.name)
		}
	}
	for _, h := range have.sets {
		if want.set(h.name) == nil {
			miss("set %s is not ours", h.name)
		}
	}
	for _, w := range want.chains {
		h := have.chain(w.Name)
		if h == nil && len(w.rules) > 0 {
			miss("rules of chain %s", w.Name)
		}
		if h == nil {
			continue
		}
		switch same, err := sameRules(h.rules, w.rules); {
		case err != nil:
			return nil, err
		case !same:
			miss("rules of chain %s", w.Name)
		}
	}
	for _, w := range want.sets {
		if h := have.set(w.Name); !k.sameElements(h, w) {
			miss("elements of set %s", w.Name)
		}
	}
	return missing, nil
}

// sameElements is true also where they were not read.
func (k *Kernel) sameElements(h *heldSet, w set) bool {
	return h == nil || !h.read || h.elements == w.digest(k.seed)
}

func sameRules(have []heldRule, want []*nftables.Rule) (bool, error) {
	if len(have) != len(want) {
		return false, nil
	}
	for i, w := range want {
		form, err := canonicalExprs(w.Exprs)
		if err != nil {
			return false, fmt.Errorf("rule %q: %w", comment(w), err)
		}
		if string(form) != string(have[i].form) || string(w.UserData) != string(have[i].user) {
			return false, nil
		}
	}
	return true, nil
}
