package ledger

import (
	"context"
	"fmt"
	"sync"
)

// maxWatchers bounds them; a gate has a few.
const maxWatchers = 10_000

type watchers struct {
	mu  sync.Mutex
	all map[chan struct{}]struct{}
}

// Watch returns a channel that ticks after each commit, of any gate, that has changed
// grants, hosts, people, targets or who is disabled. Ticks that are not read yet are one.
// At PostgreSQL it also ticks when the connection is there again after it was lost, and
// now and then as a net. It is closed when ctx ends.
func (l *Ledger) Watch(ctx context.Context) (<-chan struct{}, error) {
	c := make(chan struct{}, 1)
	w := &l.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.all) >= maxWatchers {
		return nil, fmt.Errorf("watch the gate's state: %w: %d", ErrFull, maxWatchers)
	}
	if w.all == nil {
		w.all = map[chan struct{}]struct{}{}
	}
	w.all[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, c)
		close(c)
	})
	return c, nil
}

func (w *watchers) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.all {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
