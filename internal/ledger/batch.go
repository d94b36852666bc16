package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	maxBatch = 64 // writes that share a commit
	maxTries = 5  // of a batch that the database ended
)

// write is one call of Write. Its function is run by its caller, when it is its turn.
type write struct {
	turn chan turn
	back chan error // what the function came to
	err  error      // of its last turn
}

type turn struct {
	tx   *Tx
	over bool // the batch is: err is Write's
	err  error
}

// errPanicked stands for a function that did not return.
var errPanicked = errors.New("the function did not return")

// Write runs f in a transaction: all of it is kept, durably, when Write returns nil, and
// nothing of it else, but for ErrUnsure. f may be run again, and must have no effect but
// through its Tx; it is to be quick, since other writes wait for it, and does not call
// Write or Read. A write that has begun is not cut short by ctx.
func (l *Ledger) Write(ctx context.Context, f func(*Tx) error) error {
	w := &write{turn: make(chan turn), back: make(chan error)}
	select {
	case <-l.closing:
		return ErrClosed
	default:
	}
	select {
	case l.queue <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.closing:
		return ErrClosed
	}
	for {
		t := <-w.turn
		if t.over {
			return t.err
		}
		w.run(ctx, t.tx, f)
	}
}

// run runs f. Where it panics the transaction goes back before the panic goes on; the
// batch does not wait for a caller that is gone.
func (w *write) run(ctx context.Context, tx *Tx, f func(*Tx) error) {
	returned := false
	defer func() {
		if !returned {
			tx.over = true
			w.back <- errPanicked
		}
	}()
	err := ctx.Err()
	if err == nil {
		err = f(tx)
	}
	if err == nil {
		err = tx.broken
	}
	returned = true
	tx.over = true
	w.back <- err
}

// writer makes a batch of the writes that wait, again and again.
func (l *Ledger) writer() {
	batch := make([]*write, 0, maxBatch)
	for {
		select {
		case <-l.closing:
			return
		case w := <-l.queue:
			batch = append(batch[:0], w)
		}
	more:
		for len(batch) < maxBatch {
			select {
			case w := <-l.queue:
				batch = append(batch, w)
			default:
				break more
			}
		}
		l.commit(batch)
	}
}

// commit makes a batch, and tells each write what it came to.
func (l *Ledger) commit(batch []*write) {
	var err error
	for try := 1; ; try++ {
		if err = l.attempt(batch); err == nil || try == maxTries || !again(err) {
			break
		}
		wait := time.NewTimer(rand.N(time.Duration(try) * 50 * time.Millisecond))
		select {
		case <-wait.C:
		case <-l.closing:
			wait.Stop()
		}
	}
	if err != nil {
		err = fmt.Errorf("write the gate's state: %w", sorted(err))
	}
	for _, w := range batch {
		if errors.Is(w.err, errPanicked) {
			continue
		}
		if w.err == nil {
			w.err = err
		}
		w.turn <- turn{over: true, err: w.err}
	}
}

// attempt makes a batch once. An error is the whole batch's.
func (l *Ledger) attempt(batch []*write) error {
	ctx, cancel := l.db.bounded()
	defer cancel()
	link, head, err := l.db.write(ctx)
	if err != nil {
		for _, w := range batch {
			if !errors.Is(w.err, errPanicked) {
				w.err = nil
			}
		}
		return err
	}
	kept, changed := 0, false
	first := head
	for _, w := range batch {
		if errors.Is(w.err, errPanicked) {
			continue
		}
		w.err = nil
		if len(batch) > 1 && err == nil {
			_, err = link.exec(ctx, `SAVEPOINT w`)
		}
		if err != nil {
			continue // the transaction is lost; those that have had no turn need none
		}
		before := head
		tx := &Tx{ctx: ctx, link: link, log: l.log, now: l.now, head: &head}
		w.turn <- turn{tx: tx}
		w.err = <-w.back
		switch {
		case w.err == nil:
			kept++
			changed = changed || tx.changed
		case len(batch) == 1:
			l.db.rollback(link)
			return retried(tx)
		default:
			head = before
			if _, err = link.exec(ctx, `ROLLBACK TO SAVEPOINT w`); err != nil && tx.broken != nil {
				err = errors.Join(tx.broken, err)
			}
		}
		if err == nil && len(batch) > 1 {
			_, err = link.exec(ctx, `RELEASE SAVEPOINT w`)
		}
	}
	if err == nil && kept > 0 && head != first {
		_, err = link.exec(ctx, `UPDATE head SET seq = $1, hash = $2 WHERE id = 1`, head.Seq, head.Hash)
	}
	heard := false
	if err == nil && changed {
		heard, err = l.db.tell(ctx, link)
	}
	if err != nil || kept == 0 {
		l.db.rollback(link)
		return err
	}
	if err := l.db.commit(ctx, link); err != nil {
		return err
	}
	if changed && !heard {
		l.watch.tick()
	}
	return nil
}

// retried is the error of a write that was alone, where it may be made again.
func retried(tx *Tx) error {
	if tx.broken != nil && again(tx.broken) {
		return tx.broken
	}
	return nil
}
