package firewall

import (
	"errors"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// probe asks the kernel what it can do.
func (k *Kernel) probe() error {
	interval := &nftables.Set{Name: "interval", KeyType: nftables.TypeIPAddr, Interval: true}
	ask := func(t *transaction) error { t.makeSet(interval); return nil }
	if err := k.try(ask); err != nil {
		return explain(err)
	}
	interval.HasTimeout = true
	switch err := k.try(ask); {
	case err == nil:
		k.intervalTimeouts = true
	case errors.Is(err, unix.EOPNOTSUPP):
		k.log.Warn("this kernel cannot time bans of prefixes: they are ended by this program")
	default:
		return explain(err)
	}
	err := k.try(func(t *transaction) error {
		c := &nftables.Chain{Name: "input", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter}
		t.makeChain(c)
		return t.addRule(c.Name, &nftables.Rule{Exprs: []expr.Any{
			&expr.Socket{Key: expr.SocketKeyWildcard, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
		}}, expr.Counter{})
	})
	k.socketWildcard = err == nil
	switch err := k.try(func(t *transaction) error {
		t.makeSet(rateSet(nil, "rate", false).Set)
		return nil
	}); {
	case err == nil:
	case errors.Is(err, unix.EOPNOTSUPP):
		k.noDynamic = true
		k.log.Warn("this kernel has no sets that packets fill: no rate limit, and a trial is confirmed by `sekisho confirm --force` only")
	default:
		return explain(err)
	}
	return nil
}

// able says what of r this kernel cannot do.
func (k *Kernel) able(r Rules) error {
	if k.noDynamic && r.Rate != (Rate{}) && r.Exposure == ExposurePublic {
		return errors.New("this kernel cannot limit the rate of new connections: set `firewall.rate: no`")
	}
	return nil
}

// probeName names what is never made.
const probeName = tableName + "_probe"

// try asks the kernel whether it would take what ask writes, in a table of its own,
// and takes the question back: a batch without an end is checked, then dropped.
func (k *Kernel) try(ask func(*transaction) error) error {
	t := &k.tx
	t.begin()
	t.in = probeName
	t.table()
	t.ack()
	if err := ask(t); err != nil {
		return err
	}
	return k.layouts.commit(&t.message)
}
