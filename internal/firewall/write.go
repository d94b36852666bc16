package firewall

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// transaction is a batch about our table's layout: all of it is in force after
// commit, or nothing.
type transaction struct {
	message
	in    string   // the table
	what  []string // of each message, for errors
	needs []string // of each message: the kernel's modules that it needs
}

func (t *transaction) begin() {
	t.message.begin()
	t.in, t.what, t.needs = tableName, t.what[:0], t.needs[:0]
}

func (t *transaction) empty() bool { return len(t.what) == 0 }

// op starts a message, told as what.
func (t *transaction) op(typ, flags uint16, what string) {
	t.what, t.needs = append(t.what, what), append(t.needs, "")
	t.start(nfnl|typ, flags)
}

// commit puts t in force, or says which part of it the kernel refused.
func (k *Kernel) commit(t *transaction) error {
	t.finish()
	err := k.layouts.commit(&t.message)
	if k.committed != nil {
		k.committed()
	}
	var at *batchError
	if errors.As(err, &at) && at.seq > 0 && int(at.seq) <= len(t.what) {
		what, needs := t.what[at.seq-1], t.needs[at.seq-1]
		if needs != "" && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP)) {
			return fmt.Errorf("%s: %w (it needs the kernel's modules %s; try modprobe)", what, err, needs)
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	return err
}

// modules are what an expression of that name needs beside nf_tables itself, as
// kernels since 4.14 have it; empty for none.
func modules(name string) string {
	switch name {
	case "ct", "limit", "socket", "log", "fib":
		return "nft_" + name
	case "notrack":
		return "nft_ct"
	case "reject":
		return "nft_reject_inet"
	case "exthdr":
		return "nft_exthdr" // part of nf_tables since 4.18
	}
	return ""
}

// table makes the table unless it is there, and wakes it up.
func (t *transaction) table() {
	t.op(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "make table inet "+t.in)
	t.string(unix.NFTA_TABLE_NAME, t.in)
	t.uint32(unix.NFTA_TABLE_FLAGS, 0)
	t.end()
}

func (t *transaction) makeSet(s *nftables.Set) {
	shape := shapeOf(s)
	t.op(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, "make set "+s.Name)
	t.string(unix.NFTA_SET_TABLE, t.in)
	t.string(unix.NFTA_SET_NAME, s.Name)
	t.uint32(unix.NFTA_SET_FLAGS, shape.flags)
	t.uint32(unix.NFTA_SET_KEY_TYPE, shape.keyType)
	t.uint32(unix.NFTA_SET_KEY_LEN, shape.keyLen)
	t.uint32(unix.NFTA_SET_ID, t.seq)
	if shape.timeout != 0 {
		t.uint64(unix.NFTA_SET_TIMEOUT, shape.timeout)
	}
	if shape.size != 0 {
		desc := t.nest(unix.NFTA_SET_DESC)
		t.uint32(unix.NFTA_SET_DESC_SIZE, shape.size)
		t.close(desc)
	}
	// For nft: in which order an element's bytes are to be read.
	order := uint32(2)
	if s.KeyByteOrder == binaryutil.NativeEndian {
		order = 1
	}
	t.bytes(unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, order))
	t.end()
}

func (t *transaction) deleteSet(name string) {
	t.op(unix.NFT_MSG_DELSET, 0, "delete set "+name)
	t.string(unix.NFTA_SET_TABLE, t.in)
	t.string(unix.NFTA_SET_NAME, name)
	t.end()
}

// flushSet takes all elements out of a set.
func (t *transaction) flushSet(name string) {
	t.op(unix.NFT_MSG_DELSETELEM, 0, "flush set "+name)
	t.string(unix.NFTA_SET_ELEM_LIST_TABLE, t.in)
	t.string(unix.NFTA_SET_ELEM_LIST_SET, name)
	t.end()
}

func (t *transaction) addPorts(name string, ports []uint16) {
	if len(ports) == 0 {
		return
	}
	t.op(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, "fill set "+name)
	list := t.beginElements(t.in, name)
	for _, p := range ports {
		t.element([]byte{byte(p >> 8), byte(p)}, 0, 0, "")
	}
	t.close(list)
	t.end()
}

// addRanges writes one message of ranges and returns those that are left.
func (t *transaction) addRanges(name string, ranges []netipx.IPRange) []netipx.IPRange {
	t.op(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, "fill set "+name)
	list := t.beginElements(t.in, name)
	n := 0
	for n < len(ranges) && len(t.b)-list < messageLimit {
		first, size := key(ranges[n].From())
		t.element(first[:size], 0, 0, "")
		if next := ranges[n].To().Next(); next.IsValid() {
			end, size := key(next)
			t.element(end[:size], unix.NFT_SET_ELEM_INTERVAL_END, 0, "")
		}
		n++
	}
	t.close(list)
	t.end()
	return ranges[n:]
}

func (t *transaction) makeChain(c *nftables.Chain) {
	t.op(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, "make chain "+c.Name)
	t.string(unix.NFTA_CHAIN_TABLE, t.in)
	t.string(unix.NFTA_CHAIN_NAME, c.Name)
	if b := baseOf(c); b != (baseChain{}) {
		hook := t.nest(unix.NFTA_CHAIN_HOOK)
		t.uint32(unix.NFTA_HOOK_HOOKNUM, b.hook)
		t.uint32(unix.NFTA_HOOK_PRIORITY, uint32(b.priority))
		t.close(hook)
		t.uint32(unix.NFTA_CHAIN_POLICY, b.policy)
		t.string(unix.NFTA_CHAIN_TYPE, b.typ)
	}
	t.end()
}

func (t *transaction) deleteChain(name string) {
	t.op(unix.NFT_MSG_DELCHAIN, 0, "delete chain "+name)
	t.string(unix.NFTA_CHAIN_TABLE, t.in)
	t.string(unix.NFTA_CHAIN_NAME, name)
	t.end()
}

// flushChain takes the rules out of a chain; of all chains where name is empty.
func (t *transaction) flushChain(name string) {
	t.op(unix.NFT_MSG_DELRULE, 0, "flush chain "+name)
	t.string(unix.NFTA_RULE_TABLE, t.in)
	if name != "" {
		t.string(unix.NFTA_RULE_CHAIN, name)
	}
	t.end()
}

func (t *transaction) addRule(c string, r *nftables.Rule, count expr.Counter) error {
	t.op(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, fmt.Sprintf("add rule %q to chain %s", comment(r), c))
	t.string(unix.NFTA_RULE_TABLE, t.in)
	t.string(unix.NFTA_RULE_CHAIN, c)
	exprs := t.nest(unix.NFTA_RULE_EXPRESSIONS)
	var needs []string
	need := func(b []byte) {
		name, _ := expression(b)
		if m := modules(name); m != "" && !slices.Contains(needs, m) {
			needs = append(needs, m)
		}
	}
	for _, e := range r.Exprs {
		if _, ok := e.(*expr.Counter); ok {
			e = &count
		}
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			return fmt.Errorf("rule %q of chain %s: %w", comment(r), c, err)
		}
		t.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
		need(b)
		if d, ok := e.(*expr.Dynset); ok {
			for _, e := range d.Exprs {
				if b, err := expr.Marshal(unix.NFPROTO_INET, e); err == nil {
					need(b)
				}
			}
		}
	}
	t.needs[len(t.needs)-1] = strings.Join(needs, ", ")
	t.close(exprs)
	if len(r.UserData) > 0 {
		t.bytes(unix.NFTA_RULE_USERDATA, r.UserData)
	}
	t.end()
	return nil
}

// write turns have into want, in three steps: interval sets are made and filled
// while no rule speaks of them, in batches of which a ban waits for one at most;
// then the rules are switched in one transaction, which begins with what head
// writes; then what no rule speaks of any more is deleted. Being killed in between
// leaves the rules of before or the new ones, and sets or chains that no packet
// comes by, which the next write deletes. switched tells whether the new rules are
// in force.
func (k *Kernel) write(ctx context.Context, have held, want layout, head func(*transaction)) (switched bool, err error) {
	var filled []string
	for _, w := range want.sets {
		if !w.fixed || !w.Interval {
			continue
		}
		h := have.set(w.Name)
		if h != nil && h.setShape == shapeOf(w.Set) && k.sameElements(h, w) {
			continue
		}
		if h != nil {
			err = k.dropSet(ctx, &have, &want, w.Name)
		}
		if err == nil {
			filled = append(filled, w.Name)
			err = k.fill(ctx, w)
		}
		if err != nil {
			k.discard(filled)
			return false, err
		}
	}
	if err := k.verify(want, filled); err != nil {
		k.discard(filled)
		return false, err
	}
	if err := k.switchOver(have, want, head); err != nil {
		k.discard(filled)
		return false, err
	}
	return true, k.clean(have, want)
}

const (
	// fillTime is what one batch of a fill may take of a core, and so what a ban may
	// wait for it.
	fillTime = time.Millisecond
	// fillFirst is the first batch's size, and fillLeast the least of any, in ranges.
	fillFirst, fillLeast = 256, 64
	// fillShare bounds how many batches a fill takes: each is at least that part of
	// what is filled already. Kernels that keep a sorted copy of an interval set
	// (2026; stable ones too) copy all of it at each commit, 60 ns an element.
	fillShare = 64
)

// fill makes a set and fills it, in batches whose size follows from what the one
// before cost.
func (k *Kernel) fill(ctx context.Context, s set) error {
	// A batch is worked off inside of send: by this thread's clock it costs the same
	// however busy the machine is.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t := &k.tx
	for done, n, first := 0, fillFirst, true; first || done < len(s.ranges); first = false {
		if err := ctx.Err(); err != nil {
			return err
		}
		t.begin()
		if first {
			t.table()
			t.makeSet(s.Set)
		}
		batch := s.ranges[done:min(done+n, len(s.ranges))]
		for left := batch; len(left) > 0; {
			left = t.addRanges(s.Name, left)
		}
		start := threadTime()
		if err := k.commit(t); err != nil {
			return err
		}
		took := max(threadTime()-start, time.Microsecond)
		done += len(batch)
		n = max(min(int(int64(n)*int64(fillTime)/int64(took)), 2*n), fillLeast, done/fillShare)
	}
	return nil
}

// threadTime is how long this thread has been at work.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0 // as if it cost nothing: only batches get bigger
	}
	return time.Duration(t.Nano())
}

// verifyLimit is the most ranges that are read back at once: the kernel begins each
// part of a dump at the first element, 2.3 s for 200,000 ranges. Of more it has at
// least said that it took them all.
const verifyLimit = 50_000

// verify reads filled sets back.
func (k *Kernel) verify(want layout, filled []string) error {
	if len(filled) == 0 {
		return nil
	}
	have, err := k.read(want, func(_ *held, s set) bool {
		return slices.Contains(filled, s.Name) && len(s.ranges) <= verifyLimit
	})
	if err != nil {
		return err
	}
	for _, name := range filled {
		if h := have.set(name); h == nil || !k.sameElements(h, *want.set(name)) {
			return fmt.Errorf("the kernel does not hold what was written: elements of set %s", name)
		}
	}
	return nil
}

// discard deletes sets of a write that failed, as far as that goes; the next
// Ensure finds what is left.
func (k *Kernel) discard(sets []string) {
	for _, name := range sets {
		t := &k.tx
		t.begin()
		t.deleteSet(name)
		_ = k.commit(t)
	}
}

// dropSet takes away an interval set that is not what its name says: what a killed
// process left half filled, or somebody has written into. Where rules speak of it,
// they are switched to a copy first: the set must not be written into while packets
// are judged by it.
func (k *Kernel) dropSet(ctx context.Context, have *held, want *layout, name string) error {
	drop := func() error {
		t := &k.tx
		t.begin()
		t.deleteSet(name)
		return k.commit(t)
	}
	err := drop()
	if errors.Is(err, unix.EBUSY) {
		away := min(len(name), 14)
		if _, err = k.write(ctx, *have, renamed(*want, name, name[:away]+"x"), nil); err != nil {
			return err
		}
		*have, err = k.read(*want, allElements)
	}
	if err == nil || errors.Is(err, unix.ENOENT) {
		have.sets = slices.DeleteFunc(have.sets, func(s heldSet) bool { return s.name == name })
		return nil
	}
	return err
}

// renamed is l with another name for one set.
func renamed(l layout, from, to string) layout {
	l.sets, l.chains = slices.Clone(l.sets), slices.Clone(l.chains)
	for i, s := range l.sets {
		if s.Name == from {
			other := *s.Set
			other.Name = to
			l.sets[i].Set = &other
		}
	}
	for i, c := range l.chains {
		l.chains[i].rules = slices.Clone(c.rules)
		for j, r := range c.rules {
			rule := *r
			rule.Exprs = slices.Clone(r.Exprs)
			for n, e := range r.Exprs {
				switch e := e.(type) {
				case *expr.Lookup:
					if e.SetName == from {
						other := *e
						other.SetName = to
						rule.Exprs[n] = &other
					}
				case *expr.Dynset:
					if e.SetName == from {
						other := *e
						other.SetName = to
						rule.Exprs[n] = &other
					}
				}
			}
			l.chains[i].rules[j] = &rule
		}
	}
	return l
}

// switchOver makes all rules those of want, in one transaction that touches only
// the chains that differ. A rule that stays what it was keeps its counter, also in a
// chain that is written anew.
func (k *Kernel) switchOver(have held, want layout, head func(*transaction)) error {
	t := &k.tx
	t.begin()
	if head != nil {
		head(t)
	}
	if !have.table || have.flags != 0 {
		t.table()
	}
	// What has another shape must go first, and all rules with it, since they may
	// speak of it.
	var bad []string
	for _, w := range want.chains {
		if h := have.chain(w.Name); h != nil && h.baseChain != baseOf(w.Chain) {
			bad = append(bad, w.Name)
		}
	}
	nChains := len(bad)
	for _, w := range want.sets {
		if h := have.set(w.Name); h != nil && h.setShape != shapeOf(w.Set) {
			bad = append(bad, w.Name)
		}
	}
	anew := len(bad) > 0
	if anew {
		t.flushChain("")
		for _, name := range bad[nChains:] {
			t.deleteSet(name)
		}
		for _, name := range bad[:nChains] {
			t.deleteChain(name)
		}
	}

	for _, w := range want.sets {
		h := have.set(w.Name)
		switch {
		case w.fixed && w.Interval: // filled already
		case h == nil || slices.Contains(bad[nChains:], w.Name):
			t.makeSet(w.Set)
			t.addPorts(w.Name, w.ports)
		case !k.sameElements(h, w):
			t.flushSet(w.Name)
			t.addPorts(w.Name, w.ports)
		}
	}
	for _, w := range want.chains {
		if have.chain(w.Name) == nil || slices.Contains(bad[:nChains], w.Name) {
			t.makeChain(w.Chain)
		}
	}
	for _, w := range want.chains {
		var old []heldRule
		if h := have.chain(w.Name); h != nil {
			old = h.rules
		}
		same, err := sameRules(old, w.rules)
		if err != nil {
			return err
		}
		if same && !anew {
			continue
		}
		if len(old) > 0 && !anew {
			t.flushChain(w.Name)
		}
		for _, r := range w.rules {
			var c expr.Counter
			c, old = countedBy(old, comment(r))
			if err := t.addRule(w.Name, r, c); err != nil {
				return err
			}
		}
	}
	if t.empty() {
		return nil
	}
	return k.commit(t)
}

// countedBy is what the first rule with that comment has counted, and the rules
// after it: IPv4's and IPv6's rules have the same comment, in the same order.
func countedBy(rules []heldRule, comment string) (c expr.Counter, after []heldRule) {
	i := slices.IndexFunc(rules, func(r heldRule) bool { return r.comment() == comment })
	if i < 0 {
		return c, rules
	}
	c.Packets, c.Bytes, _ = rules[i].counter()
	return c, rules[i+1:]
}

// clean deletes the chains and sets that are not in want; no rule that judges
// packets speaks of them any more.
func (k *Kernel) clean(have held, want layout) error {
	t := &k.tx
	t.begin()
	for _, h := range have.chains {
		if want.chain(h.name) == nil {
			t.flushChain(h.name)
		}
	}
	for _, h := range have.sets {
		if want.set(h.name) == nil {
			t.deleteSet(h.name)
		}
	}
	for _, h := range have.chains {
		if want.chain(h.name) == nil {
			t.deleteChain(h.name)
		}
	}
	if t.empty() {
		return nil
	}
	return k.commit(t)
}

// allElements and doubtful say which sets' elements are read. Those of interval sets
// are many: they were read back when they were filled, and nobody but this package
// writes into them once rules speak of them.
func allElements(*held, set) bool { return true }

func doubtful(h *held, s set) bool {
	return !s.Interval || !slices.ContainsFunc(h.chains, func(c heldChain) bool {
		return slices.ContainsFunc(c.rules, func(r heldRule) bool { return r.looksUp(s.Name) })
	})
}

// readBack fails unless the kernel holds want.
func (k *Kernel) readBack(want layout) error {
	have, err := k.read(want, doubtful)
	if err != nil {
		return fmt.Errorf("read rules back: %w", explain(err))
	}
	missing, err := k.drift(have, want)
	if err != nil {
		return fmt.Errorf("read rules back: %w", err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("the kernel does not hold what was written: %s", strings.Join(missing, ", "))
	}
	return nil
}
