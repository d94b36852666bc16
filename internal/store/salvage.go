package store

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"time"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// salvage carries the sound leases, their onsets and endings, and logins over from a file that
// was set aside, as far as it can be read. Positions are left behind: the sources
// read their backlog again, and what was lost is decided anew.
func (s *Store) salvage(ctx context.Context, aside string) (n int) {
	if info, err := os.Lstat(aside); err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return 0 // SQLite would wait for a FIFO's writer
	}
	old := &Store{path: aside, log: s.log, now: s.now}
	db, err := openDB(aside, true)
	if err != nil {
		return 0
	}
	old.db, old.stmts = db, map[string]*sql.Stmt{}
	defer old.close()
	var e Effects
	move := func() error {
		if e.rows() < pageRows {
			return nil
		}
		return s.keep(&e, &n)
	}
	var errs error
	// A table that is not there, as in a file of an older schema, holds up no other.
	from := func(read func() error, q string) {
		var err error
		if old.stmts[q], err = db.PrepareContext(ctx, q); err == nil {
			err = read()
		}
		errs = errors.Join(errs, err)
	}
	since := time.Time{}
	from(func() error {
		return old.Unbans(ctx, since, func(u Unban) error { e.Unbans = append(e.Unbans, u); return move() })
	}, bans.pageEnds)
	from(func() error {
		return old.Bans(ctx, since, func(l lease.Lease) error { e.Bans = append(e.Bans, l); return move() })
	}, bans.page)
	from(func() error {
		return old.Onsets(ctx, since, func(o Onset) error { e.Onsets = append(e.Onsets, o); return move() })
	}, pageOnsets)
	from(func() error {
		return old.Revokes(ctx, since, func(r Revoke) error { e.Revokes = append(e.Revokes, r); return move() })
	}, grants.pageEnds)
	from(func() error {
		return old.Grants(ctx, since, func(l lease.Lease) error { e.Grants = append(e.Grants, l); return move() })
	}, grants.page)
	from(func() error {
		return old.Logins(ctx, since, func(l sshlog.Login) error { e.Logins = append(e.Logins, l); return move() })
	}, pageLogins)
	errs = errors.Join(errs, s.keep(&e, &n))
	s.log.Warn("sound rows were carried over from the damaged file", "rows", n, "err", errs)
	return n
}

// rows is how many rows of leases, their onsets and endings, and logins e holds.
func (e *Effects) rows() int {
	return len(e.Bans) + len(e.Unbans) + len(e.Grants) + len(e.Revokes) + len(e.Logins) + len(e.Onsets)
}

// keep commits e and empties it. The caller holds the lock.
func (s *Store) keep(e *Effects, n *int) error {
	err := s.transact(context.Background(), func(tx *writeTx) { tx.write(*e) })
	if err == nil {
		*n += e.rows()
	}
	*e = Effects{}
	return err
}
