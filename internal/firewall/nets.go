package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// rewriteNets reads the prefixes of set, has them changed and writes the pieces
// that differ, in one transaction.
func (k *Kernel) rewriteNets(ctx context.Context, set setID, change func(nets map[netip.Prefix]time.Time, now time.Time)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now()
	old, err := readNets(k.elems, set, now)
	if err != nil {
		return err
	}
	nets, _ := desiredNets(old)
	change(nets, now)
	maps.DeleteFunc(nets, func(_ netip.Prefix, end time.Time) bool { return !end.IsZero() && !end.After(now) })
	wanted := pieces(nets)

	have := make(map[span]string, len(old))
	for _, p := range old {
		if have[p.span()], err = p.comment(); err != nil {
			have[p.span()] = "" // not one of ours: a foreign interval of very many prefixes
		}
	}
	var add []piece
	for _, p := range wanted {
		text, err := p.comment()
		if err != nil {
			return err
		}
		if was, ok := have[p.span()]; ok && was == text {
			delete(have, p.span())
			continue
		}
		add = append(add, p)
	}
	if len(have) == 0 && len(add) == 0 {
		return nil
	}
	var remove []piece
	for _, p := range old {
		if _, ok := have[p.span()]; ok {
			remove = append(remove, p)
		}
	}

	m := &k.out
	m.begin()
	if err := k.putPieces(m, unix.NFT_MSG_DELSETELEM, 0, set, remove, now); err != nil {
		return err
	}
	if err := k.putPieces(m, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, set, add, now); err != nil {
		return err
	}
	m.finish()
	if err := k.elems.commit(m); err == nil || errors.Is(err, unix.EPERM) {
		return err
	}
	// An interval may have timed out since it was read, and what lies around it be
	// left in halves: all of it is written anew then, still in one transaction.
	m.begin()
	m.start(nfnl|unix.NFT_MSG_DELSETELEM, 0)
	m.string(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	m.string(unix.NFTA_SET_ELEM_LIST_SET, set.String())
	m.end()
	if err := k.putPieces(m, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, set, wanted, now); err != nil {
		return err
	}
	m.finish()
	return k.elems.commit(m)
}

// span tells an interval from another.
type span struct{ first, last netip.Addr }

func (p piece) span() span { return span{p.first, p.last} }

// putPieces writes messages of pieces: for each the element where it starts, and
// the one after its end unless it reaches to the last address.
func (k *Kernel) putPieces(m *message, typ, flags uint16, set setID, pieces []piece, now time.Time) error {
	for len(pieces) > 0 {
		list := m.elements(typ, flags, set.String())
		n := 0
		for n < len(pieces) && len(m.b)-list < messageLimit {
			p := pieces[n]
			var left time.Duration
			var text string
			if typ == unix.NFT_MSG_NEWSETELEM {
				var err error
				if text, err = p.comment(); err != nil {
					return err
				}
				if end := p.end(); !end.IsZero() && k.intervalTimeouts {
					left = max(end.Sub(now), time.Millisecond)
				}
			}
			first, size := key(p.first)
			m.element(first[:size], 0, left, text)
			if next := p.last.Next(); next.IsValid() {
				end, size := key(next)
				m.element(end[:size], unix.NFT_SET_ELEM_INTERVAL_END, 0, "")
			}
			n++
		}
		m.close(list)
		m.end()
		pieces = pieces[n:]
	}
	return nil
}

// readNets reads the pieces of an interval set.
func readNets(s *sock, set setID, now time.Time) ([]piece, error) {
	for range 10 {
		var bounds []bound
		err := list(s, new(message), set.String(), true, func(e rawElement) error {
			if a, ok := addr(e.key); ok {
				bounds = append(bounds, bound{addr: a, end: e.flags&unix.NFT_SET_ELEM_INTERVAL_END != 0, left: e.left, comment: string(e.comment)})
			}
			return nil
		})
		if !errors.Is(err, unix.EINTR) { // else someone changed the rule set meanwhile
			return join(bounds, now), err
		}
	}
	return nil, fmt.Errorf("set %s: its contents keep changing", set)
}

func (k *Kernel) yieldNets(ctx context.Context, set setID, yield func(Ban) error) error {
	if !k.intervalTimeouts {
		k.mu.Lock()
		err := k.rewriteNets(ctx, set, func(map[netip.Prefix]time.Time, time.Time) {})
		k.mu.Unlock()
		if err != nil {
			return fmt.Errorf("end bans of set %s: %w", set, absent(err))
		}
	}
	now := time.Now()
	found, err := readNets(k.readSock, set, now)
	if err != nil {
		return fmt.Errorf("read set %s: %w", set, absent(err))
	}
	nets, whole := desiredNets(found)
	for p, end := range nets {
		b := Ban{Prefix: p}
		if !end.IsZero() {
			if b.Left = end.Sub(now); b.Left <= 0 {
				continue
			}
		}
		if !whole(p) {
			continue // someone took a part of it out: a ban of it is not in force
		}
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}
