package store

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sekisho/internal/lease"
)

// RecorderOptions are NewRecorder's. The zero value is ready to use.
type RecorderOptions struct {
	Logger *slog.Logger  // nil: discard
	Every  time.Duration // a lease waits this long for others, 100 ms unless set; what is none, ten times as long
	Retry  time.Duration // the longest wait after a failure, 5 s unless set
	// Live gives all bans and grants in force: they are written again into a state
	// file that had to be begun anew. It is called on Run's goroutine.
	Live iter.Seq[lease.Lease]
	// Bounds of what waits while nothing can be written. Past MaxCounts (16384)
	// distinct counts, further ones are summed without source and user; past
	// MaxBans (1048576) bans, the oldest are dropped.
	MaxCounts, MaxBans int
}

// Recorder writes effects behind the back of those who cannot wait for a disk.
// Its methods are safe for concurrent use. What was added in one Add is
// committed in one transaction; what is added while nothing can be written is
// kept, merged, and written when that is possible again.
type Recorder struct {
	store *Store
	o     RecorderOptions
	wake  chan struct{} // something waits
	soon  chan struct{} // a lease or its ending does
	hurry chan struct{} // somebody waits for it

	mu        sync.Mutex
	pending   batch
	added     uint64        // Adds so far
	committed uint64        // of those, on the disk
	tried     chan struct{} // closed and made anew after each attempt
	degraded  error
	since     time.Time

	relive bool // the file is new to us: the live leases must be written. Run's own.
}

// NewRecorder gives a Recorder for s, which may be one that could not be opened.
func NewRecorder(s *Store, o RecorderOptions) *Recorder {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Every <= 0 {
		o.Every = 100 * time.Millisecond
	}
	if o.Retry <= 0 {
		o.Retry = 5 * time.Second
	}
	if o.MaxCounts <= 0 {
		o.MaxCounts = 1 << 14
	}
	if o.MaxBans <= 0 {
		o.MaxBans = 1 << 20
	}
	r := &Recorder{store: s, o: o, wake: make(chan struct{}, 1), soon: make(chan struct{}, 1), hurry: make(chan struct{}, 1), tried: make(chan struct{})}
	r.pending = r.newBatch()
	return r
}

func (r *Recorder) newBatch() batch {
	return batch{maxCounts: r.o.MaxCounts, maxBans: r.o.MaxBans, maxOthers: 1 << 16}
}

// Add takes e on. It waits for no disk. A position must come in the same Add as
// the effects of the lines before it: they are never separated.
func (r *Recorder) Add(e Effects) {
	r.mu.Lock()
	r.pending.add(e)
	r.added++
	r.mu.Unlock()
	if len(e.Bans)+len(e.Unbans)+len(e.Grants)+len(e.Revokes) > 0 {
		signal(r.soon)
	}
	signal(r.wake)
}

// Degraded is why nothing can be written, nil while all is well.
func (r *Recorder) Degraded() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.degraded
}

// Flush waits until all that was added before is on the disk, or ctx ends; the
// error then also says why it was not. Run must be running.
func (r *Recorder) Flush(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for target := r.added; r.committed < target; {
		tried := r.tried
		r.mu.Unlock()
		signal(r.hurry)
		select {
		case <-tried:
		case <-ctx.Done():
		}
		r.mu.Lock()
		if err := ctx.Err(); err != nil {
			return errors.Join(err, r.degraded)
		}
	}
	return nil
}

// Run writes what is added until ctx ends, then what is left; its error is then
// why that could not be written. With nothing to write it sleeps.
func (r *Recorder) Run(ctx context.Context) error {
	var wait time.Duration // until the next try; 0: all is well
	if r.store.broken() {
		wait = r.o.Every
	}
	for {
		soon := r.soon
		if wait > 0 {
			soon = nil // degraded: what comes in does not shorten the wait
		} else {
			select {
			case <-r.wake:
				wait = 10 * r.o.Every
			case <-r.hurry:
			case <-ctx.Done():
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-soon:
			timer.Reset(r.o.Every)
			select {
			case <-timer.C:
			case <-r.hurry:
			case <-ctx.Done():
			}
		case <-r.hurry:
		case <-ctx.Done():
		}
		timer.Stop()
		ended := ctx.Err() != nil // before the write: what comes in during it is for the last one
		switch err := r.write(context.WithoutCancel(ctx)); {
		case ended:
			return err
		case err == nil:
			wait = 0
		default:
			wait = min(max(2*wait, r.o.Every), r.o.Retry)
		}
	}
}

// write commits what waits; on failure it waits on.
func (r *Recorder) write(ctx context.Context) error {
	r.mu.Lock()
	taken, target := r.pending, r.added
	r.pending = r.newBatch()
	r.mu.Unlock()

	err := r.commit(ctx, &taken)
	if errors.Is(err, ErrCorrupt) {
		err = r.commit(ctx, &taken) // into a new file
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.committed = target
	} else {
		newer := r.pending.effects()
		taken.lost += r.pending.lost
		taken.add(newer)
		r.pending = taken
	}
	r.tell(err, taken.lost)
	close(r.tried)
	r.tried = make(chan struct{})
	return err
}

func (r *Recorder) commit(ctx context.Context, b *batch) error {
	if r.store.broken() {
		if _, err := r.store.Reopen(ctx); err != nil {
			return err
		}
		r.relive = true
	}
	if r.relive && r.o.Live != nil {
		// Before the positions, and so before any line is done with for good.
		for some := range slices.Chunk(slices.Collect(r.o.Live), 4096) {
			var e Effects
			for _, l := range some {
				if l.Verdict == lease.Allow {
					e.Grants = append(e.Grants, l)
				} else {
					e.Bans = append(e.Bans, l)
				}
			}
			if err := r.store.Commit(ctx, e); err != nil {
				return err
			}
		}
	}
	r.relive = false
	if b.empty() {
		return nil
	}
	return r.store.Commit(ctx, b.effects())
}

// tell keeps and logs whether we can write, once per change.
func (r *Recorder) tell(err error, lost int) {
	switch {
	case err != nil && r.degraded == nil:
		r.since = time.Now()
		r.o.Logger.Error("the state cannot be written; protection goes on from memory", "err", err)
	case err == nil && r.degraded != nil:
		r.o.Logger.Warn("the state is written again", "after", time.Since(r.since).Round(time.Millisecond), "lost", lost)
	}
	r.degraded = err
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
