package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"modernc.org/sqlite"

	"sekisho/internal/statefile"
)

// applicationID stands in the file's header: "SEKG".
const applicationID = 0x53454B47

const (
	readers   = 4
	closeTime = 5 * time.Second
	checkTime = 500 * time.Millisecond // of the structure check at open: a start must stay quick
)

// lite is an SQLite file: one connection that writes, some that read beside it. One gate
// has it at a time, by a lock on a file beside it that ends with the process.
type lite struct {
	path   string
	lock   *os.File
	db     *sql.DB
	writer *link
	opened int        // links that read
	free   chan *link // those that nobody has
	closed chan struct{}
	file   os.FileInfo // what was opened, to notice that it was removed
}

func openSQLite(ctx context.Context, path string, o Options) (_ *lite, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the gate's state %s: %w", path, sorted(err))
		}
	}()
	if path == "" {
		return nil, fmt.Errorf("%w: no file is named", ErrInvalid)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := statefile.PrepareDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	l := &lite{path: path, free: make(chan *link, readers), closed: make(chan struct{})}
	if l.lock, err = lockFile(path + ".lock"); err != nil {
		return nil, err
	}
	if err := l.open(ctx, o); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// lockFile takes the lock that one process has at a time.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return nil, fmt.Errorf("%w: the lock file %s is a link: remove it", ErrInsecure, path)
	case err != nil:
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: another gate holds it (%s): stop that one, or use PostgreSQL for several", ErrBusy, path)
		}
		return nil, err
	}
	return f, nil
}

func (l *lite) open(ctx context.Context, o Options) error {
	found, err := statefile.Inspect(l.path)
	if err != nil {
		return err
	}
	if !found {
		if err := l.create(ctx, o.Now()); err != nil {
			return fmt.Errorf("create: %w", err)
		}
	}
	if l.file, err = os.Stat(l.path); err != nil {
		return err
	}
	if l.db, err = openDB(l.path, readers+1); err != nil {
		return err
	}
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return err
	}
	l.writer = &link{conn: conn, stmts: map[string]*sql.Stmt{}}
	if err := l.check(ctx); err != nil {
		return err
	}
	if err := migrateSQLite(ctx, conn, o.Now()); err != nil {
		return err
	}
	for range readers {
		conn, err := l.db.Conn(ctx)
		if err != nil {
			return err
		}
		l.opened++
		l.free <- &link{conn: conn, stmts: map[string]*sql.Stmt{}}
		if _, err := conn.ExecContext(ctx, `PRAGMA query_only=ON`); err != nil {
			return err
		}
	}
	return nil
}

func (l *lite) create(ctx context.Context, now time.Time) error {
	return statefile.Create(l.path, func(path string) error {
		db, err := openDB(path, 1)
		if err != nil {
			return err
		}
		conn, err := db.Conn(ctx)
		if err == nil {
			_, err = conn.ExecContext(ctx, fmt.Sprintf(`PRAGMA journal_mode=WAL; PRAGMA application_id=%d`, applicationID))
			if err == nil {
				err = migrateSQLite(ctx, conn, now)
			}
			conn.Close()
		}
		return errors.Join(err, db.Close())
	})
}

func migrateSQLite(ctx context.Context, conn *sql.Conn, now time.Time) error {
	if _, err := conn.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	err := migrate(ctx, conn, now, func(s string) string { return s })
	if err == nil {
		_, err = conn.ExecContext(ctx, `COMMIT`)
	}
	if err != nil {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
	}
	return err
}

// check refuses what is not a sound file of ours. A large one is not read through: what
// is damaged there shows itself in use.
func (l *lite) check(ctx context.Context) error {
	var id int64
	var mode string
	err := l.writer.conn.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id)
	if err == nil {
		err = l.writer.conn.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode)
	}
	if err != nil {
		return err
	}
	if id != applicationID || mode != "wal" {
		return fmt.Errorf("%w: not a gate's database (application %#x, journal %q)", ErrCorrupt, id, mode)
	}
	bounded, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var found string
	err = l.writer.conn.QueryRowContext(bounded, `PRAGMA quick_check(1)`).Scan(&found)
	switch {
	case bounded.Err() != nil && ctx.Err() == nil && err != nil:
		return nil
	case err != nil:
		return err
	case found != "ok":
		return fmt.Errorf("%w: %s", ErrCorrupt, found)
	}
	return nil
}

func openDB(path string, connections int) (*sql.DB, error) {
	q := url.Values{
		"_txlock":       {"immediate"},
		"_busy_timeout": {"2000"},
		"_synchronous":  {"FULL"},
		"_defensive":    {"1"},
		"_pragma": {"cache_size(-2000); pragma journal_size_limit(8388608);" +
			"pragma cell_size_check(ON); pragma trusted_schema(OFF); pragma temp_store(MEMORY)"},
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	c, err := sqlite.NewConnector(u.String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// bounded has no end: nothing in a batch waits for anything but the disk.
func (l *lite) bounded() (context.Context, context.CancelFunc) {
	return context.Background(), func() {}
}

func (l *lite) write(ctx context.Context) (*link, Head, error) {
	if info, err := os.Stat(l.path); err != nil || !os.SameFile(info, l.file) {
		return nil, Head{}, fmt.Errorf("%w: %s was removed or replaced: start the gate again", ErrBusy, l.path)
	}
	w := l.writer
	if _, err := w.exec(ctx, `BEGIN IMMEDIATE`); err != nil {
		return nil, Head{}, err
	}
	var head Head
	s, err := w.stmt(ctx, `SELECT seq, hash FROM head WHERE id = 1`)
	if err == nil {
		err = s.QueryRowContext(ctx).Scan(&head.Seq, &head.Hash)
	}
	if err != nil {
		l.rollback(w)
		return nil, head, err
	}
	return w, head, nil
}

func (l *lite) commit(ctx context.Context, w *link) error {
	_, err := w.exec(ctx, `COMMIT`)
	if err != nil {
		l.rollback(w)
	}
	return err
}

// rollback has no error that matters: SQLite may have rolled back by itself.
func (l *lite) rollback(w *link) { _, _ = w.exec(context.Background(), `ROLLBACK`) }

func (l *lite) read(ctx context.Context) (*link, error) {
	select {
	case r := <-l.free:
		if _, err := r.exec(ctx, `BEGIN DEFERRED`); err != nil {
			l.free <- r
			return nil, err
		}
		return r, nil
	case <-l.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *lite) endRead(r *link) {
	l.rollback(r)
	l.free <- r
}

func (l *lite) tell(context.Context, *link) (heard bool, err error) { return false, nil }

func (l *lite) listen(context.Context, func()) {} // nobody else writes

// close waits for those who read, but not for ever.
func (l *lite) close() error {
	close(l.closed)
	var err error
	if l.db != nil {
		if l.writer != nil {
			err = l.writer.close()
		}
		patience := time.NewTimer(closeTime)
		defer patience.Stop()
	wait:
		for range l.opened {
			select {
			case r := <-l.free:
				err = errors.Join(err, r.close())
			case <-patience.C:
				break wait
			}
		}
		err = errors.Join(err, l.db.Close())
	}
	return errors.Join(err, l.lock.Close())
}
