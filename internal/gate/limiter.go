package gate

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
)

// limiter allows so many in a time, for each of at most maxMemo names.
type limiter struct {
	most int
	per  time.Duration

	mu    sync.Mutex
	began time.Time
	count map[string]int
}

func (l *limiter) allow(name string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == nil || now.Sub(l.began).Abs() >= l.per {
		l.began, l.count = now, map[string]int{}
	}
	if _, there := l.count[name]; !there && len(l.count) >= maxMemo {
		return false
	}
	l.count[name]++
	return l.count[name] <= l.most
}

// strangersEvery is how often the audit tells of keys and logins that nobody has.
const strangersEvery = time.Minute

// strangers counts those who are nobody, so that they cannot fill the audit.
type strangers struct {
	mu    sync.Mutex
	count int64
	last  netip.Addr
	from  map[netip.Addr]bool // at most 1,000
}

// stranger counts one.
func (g *Gate) stranger(from netip.Addr) {
	s := &g.strangers
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	s.last = from
	if s.from == nil {
		s.from = map[netip.Addr]bool{}
	}
	if len(s.from) < 1000 {
		s.from[from] = true
	}
}

// tellStrangers writes one entry about those of the last minute.
func (g *Gate) tellStrangers(ctx context.Context) error {
	s := &g.strangers
	s.mu.Lock()
	count, last, from := s.count, s.last, len(s.from)
	s.count, s.from = 0, nil
	s.mu.Unlock()
	if count == 0 {
		return nil
	}
	e := api.Entry{Who: "gate", From: last, What: "key.unknown", Why: fmt.Sprintf("%d requests by keys or logins that are nobody's, from %d addresses; the last is named", count, from)}
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		_, err := tx.Append(e)
		return err
	})
	if err != nil {
		s.mu.Lock()
		s.count += count
		s.mu.Unlock()
		return fmt.Errorf("write down who was not known: %w", err)
	}
	return nil
}
