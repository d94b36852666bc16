package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Kernel is the Firewall that is in force. It keeps nothing of the bans in
// memory: the kernel's sets are all there is. Safe for concurrent use.
type Kernel struct {
	log   *slog.Logger
	netNS int

	// Where the kernel does not time the elements of interval sets, bans of prefixes
	// end when Bans is called next, and a host's ban is cut at oldTimeout.
	features

	mu     sync.Mutex // guards what follows; held over a change
	rules  *nftables.Conn
	elems  *sock
	out    message
	hosts  []host
	wanted *State // what Ensure wrote last

	reading  sync.Mutex // guards readSock: a long listing keeps no ban waiting
	readSock *sock
}

// oldTimeout is the longest timeout that kernels before 4.16 take rightly.
const oldTimeout = 23 * 24 * time.Hour

// Options are a Kernel's.
type Options struct {
	Logger *slog.Logger // nil: discard
	NetNS  int          // file descriptor of a network namespace; 0: the caller's
}

// NewKernel opens the kernel's nf_tables, changing nothing. Its error says which
// capability or module is missing.
func NewKernel(o Options) (*Kernel, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	k := &Kernel{log: o.Logger, netNS: o.NetNS}
	if err := k.open(); err != nil {
		_ = k.Close()
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	return k, nil
}

// Probe reports whether a Kernel would work here; its error says what is missing.
func Probe(o Options) error {
	k, err := NewKernel(o)
	if err != nil {
		return err
	}
	return k.Close()
}

func (k *Kernel) open() (err error) {
	if k.elems, err = dial(k.netNS); err != nil {
		return err
	}
	if k.readSock, err = dial(k.netNS); err != nil {
		return err
	}
	if k.rules, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(k.netNS)); err != nil {
		return explain(err)
	}
	if err := k.try(false); err != nil {
		return explain(err)
	}
	switch err := k.try(true); {
	case err == nil:
		k.intervalTimeouts = true
	case errors.Is(err, unix.EOPNOTSUPP):
		k.log.Warn("this kernel cannot time bans of prefixes: they are ended by this program")
	default:
		return explain(err)
	}
	return nil
}

// try asks the kernel for a table with an interval set, timed or not, and takes
// the question back: a batch without an end is checked, then dropped.
func (k *Kernel) try(timed bool) error {
	const name = tableName + "_probe"
	m := &k.out
	m.begin()
	m.start(nfnl|unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	m.string(unix.NFTA_TABLE_NAME, name)
	m.end()
	m.start(nfnl|unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_ACK)
	m.string(unix.NFTA_SET_TABLE, name)
	m.string(unix.NFTA_SET_NAME, net4.String())
	flags := uint32(unix.NFT_SET_INTERVAL)
	if timed {
		flags |= unix.NFT_SET_TIMEOUT
	}
	m.uint32(unix.NFTA_SET_FLAGS, flags)
	m.uint32(unix.NFTA_SET_KEY_TYPE, nftables.TypeIPAddr.GetNFTMagic())
	m.uint32(unix.NFTA_SET_KEY_LEN, nftables.TypeIPAddr.Bytes)
	m.uint32(unix.NFTA_SET_ID, 1)
	m.end()
	return k.elems.commit(m)
}

// Close lets go of the kernel and leaves the table as it is.
func (k *Kernel) Close() error {
	var errs []error
	for _, s := range []*sock{k.elems, k.readSock} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	if k.rules != nil {
		errs = append(errs, k.rules.CloseLasting())
	}
	return errors.Join(errs...)
}

// Ensure implements Firewall. A set of another shape (an older version's) is made
// anew and so loses its bans.
func (k *Kernel) Ensure(ctx context.Context, s State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.SSHOnly && len(s.Ports) == 0 {
		return errors.New("write rules: no port of SSH is given")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s.Ports = slices.Clone(s.Ports)
	want := desired(s, nil, k.features)
	have, err := k.layout()
	if err != nil {
		return fmt.Errorf("read rules: %w", explain(err))
	}
	if len(drift(have, want)) > 0 {
		if err := k.write(have, want); err != nil {
			return fmt.Errorf("write rules: %w", explain(err))
		}
		if have, err = k.layout(); err != nil {
			return fmt.Errorf("read rules back: %w", explain(err))
		}
		if missing := drift(have, want); len(missing) > 0 {
			return fmt.Errorf("the kernel does not hold what was written: %s", strings.Join(missing, ", "))
		}
	}
	k.wanted = &s
	return nil
}

// write turns have into want in one transaction.
func (k *Kernel) write(have, want layout) error {
	c := k.rules
	c.AddTable(want.table)
	if have.table != nil {
		c.FlushTable(want.table) // the rules only; nothing refers to a chain or set after it
		for _, h := range have.chains {
			if w := want.chain(h.Name); w == nil || !sameChain(h.Chain, w.Chain) {
				c.DelChain(h.Chain)
			}
		}
		for _, h := range have.sets {
			if w := want.set(h.Name); w == nil || !sameSet(h.Set, w.Set) || w.fixed {
				c.DelSet(h.Set)
			}
		}
	}
	for _, w := range want.sets {
		var elements []nftables.SetElement
		for _, p := range w.ports {
			elements = append(elements, nftables.SetElement{Key: []byte{byte(p >> 8), byte(p)}})
		}
		if err := c.AddSet(w.Set, elements); err != nil {
			return err
		}
	}
	for _, w := range want.chains {
		c.AddChain(w.Chain)
	}
	for _, w := range want.chains {
		for _, r := range w.rules {
			c.AddRule(r)
		}
	}
	return c.Flush()
}

// layout reads what is there.
func (k *Kernel) layout() (have layout, err error) {
	tables, err := k.rules.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return have, err
	}
	table := find(tables, func(t *nftables.Table) bool { return t.Name == tableName })
	if table == nil {
		return have, nil
	}
	chains, err := k.rules.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return have, err
	}
	for _, c := range chains {
		if c.Table.Name != tableName {
			continue
		}
		rules, err := k.rules.GetRules(*table, c)
		if err != nil {
			return have, err
		}
		have.chains = append(have.chains, chain{Chain: c, rules: rules})
	}
	sets, err := k.rules.GetSets(*table)
	if err != nil {
		return have, err
	}
	for _, s := range sets {
		have.sets = append(have.sets, set{Set: s})
	}
	if s := have.set(portsName); s != nil {
		elements, err := k.rules.GetSetElements(s.Set)
		if err != nil {
			return have, err
		}
		for _, e := range elements {
			if len(e.Key) >= 2 {
				s.ports = append(s.ports, uint16(e.Key[0])<<8|uint16(e.Key[1]))
			}
		}
		slices.Sort(s.ports)
	}
	have.table = *table
	return have, nil
}

// Intact implements Firewall.
func (k *Kernel) Intact(ctx context.Context) (missing []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	have, err := k.layout()
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", explain(err))
	}
	if k.wanted == nil {
		return []string{"rules: none were written yet"}, nil
	}
	return drift(have, desired(*k.wanted, nil, k.features)), nil
}

// Counters implements Firewall.
func (k *Kernel) Counters(ctx context.Context) ([]Counter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	rules, err := k.rules.GetRules(table, &nftables.Chain{Name: chainName, Table: table})
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", absent(err))
	}
	if len(rules) == 0 {
		return nil, fmt.Errorf("read counters: %w", ErrAbsent)
	}
	var counters []Counter
	for _, r := range rules {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				counters = append(counters, Counter{Chain: chainName, Drops: true, Packets: c.Packets, Bytes: c.Bytes})
			}
		}
	}
	return counters, nil
}

// Remove implements Firewall.
func (k *Kernel) Remove(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rules.DelTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet})
	if err := k.rules.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove table inet %s: %w", tableName, explain(err))
	}
	k.wanted = nil
	return nil
}

// absent makes ErrAbsent of the kernel's error for it.
func absent(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return ErrAbsent
	}
	return explain(err)
}
