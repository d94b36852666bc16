// Package ledger keeps a gate's state in SQLite or PostgreSQL: grants, hosts, who was added,
// disabled and signed in, what is good for one use, and the audit as a chain of hashes. One
// implementation over database/sql, one suite for both. Who may do what is not known here.
//
// Writes are serial, in one gate and among all gates of one PostgreSQL: each locks the
// audit's head first. So what a write has read stays true until it is committed. Those that
// come together share a transaction and its sync to the disk, each in a savepoint of its
// own.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Options are Open's. The zero value is ready to use.
type Options struct {
	Logger   *slog.Logger     // nil: discard
	Now      func() time.Time // nil: time.Now
	Instance string           // the gate's name, seen in PostgreSQL's list of sessions
}

// Ledger is an open state. Its methods are safe for concurrent use.
type Ledger struct {
	db    database
	log   *slog.Logger
	now   func() time.Time
	watch watchers

	queue   chan *write
	closing chan struct{}      // closed by Close
	stop    context.CancelFunc // of what listens
	close   sync.Once
	closed  error
	tasks   sync.WaitGroup
}

// database is what SQLite and PostgreSQL do each in its own way.
type database interface {
	// bounded is the context of one batch.
	bounded() (context.Context, context.CancelFunc)
	// write begins a transaction that is alone until its end, and says where the audit's
	// head is.
	write(ctx context.Context) (*link, Head, error)
	// commit ends it; the link is given back either way.
	commit(ctx context.Context, l *link) error
	rollback(l *link)
	// read begins a transaction with one view of everything.
	read(ctx context.Context) (*link, error)
	endRead(l *link)
	// tell lets the other gates know, when the transaction is committed, that something
	// has changed. It reports whether this gate hears of it by listen.
	tell(ctx context.Context, l *link) (heard bool, err error)
	// listen calls tick for what others tell, until ctx ends.
	listen(ctx context.Context, tick func())
	close() error
}

// Open opens the state that dsn names, "postgres://..." or "postgresql://...", else the
// path of an SQLite file, and makes it where there is none. In PostgreSQL it wants a
// database, or by search_path a schema, of its own, and sessions of its own (a pooler that
// gives each transaction another session does not do: it has no LISTEN). Errors are ErrBusy (not to be
// had now, or held by another gate), ErrCorrupt, ErrNewer, ErrInsecure, ErrInvalid.
func Open(ctx context.Context, dsn string, o Options) (*Ledger, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var db database
	var err error
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		db, err = openPostgres(ctx, dsn, o)
	} else {
		db, err = openSQLite(ctx, dsn, o)
	}
	if err != nil {
		return nil, err
	}
	listening, stop := context.WithCancel(context.Background())
	l := &Ledger{db: db, log: o.Logger, now: o.Now, queue: make(chan *write), closing: make(chan struct{}), stop: stop}
	l.tasks.Go(l.writer)
	l.tasks.Go(func() { db.listen(listening, l.watch.tick) })
	return l, nil
}

// Close waits for the writes that are under way and gives the state back. Writes after it
// are ErrClosed.
func (l *Ledger) Close() error {
	l.close.Do(func() {
		close(l.closing)
		l.stop()
		l.tasks.Wait()
		l.closed = l.db.close()
	})
	return l.closed
}

// Read runs f on one view of the state: no write is seen in half, or begins to be seen
// while f runs. f does not call Write or Read, and does not wait for strangers: four (SQLite)
// or six (PostgreSQL) can read at a time.
func (l *Ledger) Read(ctx context.Context, f func(*Tx) error) error {
	select {
	case <-l.closing:
		return ErrClosed
	default:
	}
	link, err := l.db.read(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("read the gate's state: %w", sorted(err))
	}
	defer l.db.endRead(link)
	t := &Tx{ctx: ctx, link: link, log: l.log, now: l.now}
	defer func() { t.over = true }()
	err = f(t)
	if err == nil {
		err = t.broken
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, ErrBusy) {
		return ctx.Err()
	}
	return err
}
