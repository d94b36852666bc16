package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"sekisho/internal/sshlog"
)

// Bounds of what is written: attackers write some of it.
const (
	maxText = 512     // bytes of a reason
	maxName = 255     // bytes of a holder, a user who logged in, an operator
	maxUser = 64      // bytes of a user in the counts; a longer one is no account's name
	maxWord = 32      // bytes of a kind, a country
	maxRoot = 80      // bytes of a cause, which may have the id of what caused it
	maxAdd  = 1 << 40 // what a count may grow by at once, so that no sum overflows
)

const (
	putPosition = `INSERT INTO positions (source, position, sum) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET position = excluded.position, sum = excluded.sum`
	putLogin = `INSERT INTO logins (addr, user, port, at, sum) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET port = excluded.port, at = excluded.at, sum = excluded.sum WHERE excluded.at >= at`
	addCount = `INSERT INTO counts (day, source, user, country, kind, lines, attempts) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET lines = lines + excluded.lines, attempts = attempts + excluded.attempts`
)

// Commit writes e in one transaction, all or nothing, and returns when it is on
// the disk. It is idempotent per ban or grant (prefix, from) and does not wake
// what an unban or a revoke has ended, in whatever order the two come. Texts are clipped; what
// cannot be a row (an invalid prefix or day) is left out and logged, so that no
// content can stand in the way of the rest. A commit once begun is not cut short
// by ctx.
func (s *Store) Commit(ctx context.Context, e Effects) error {
	return s.use(ctx, "commit", func(ctx context.Context) error {
		if info, err := os.Stat(s.path); err != nil || !os.SameFile(info, s.file) {
			return fmt.Errorf("%s was removed or replaced", s.path)
		}
		return s.transact(ctx, func(tx *writeTx) { tx.write(e) })
	})
}

// transact runs f in a transaction of its own. Without a context that ends: a
// COMMIT is made or not made, never unknown.
func (s *Store) transact(ctx context.Context, f func(*writeTx)) error {
	ctx = context.WithoutCancel(ctx)
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	w := &writeTx{ctx: ctx, s: s, tx: tx, stmts: map[string]*sql.Stmt{}, added: map[int64]int{}}
	f(w)
	if w.err == nil {
		w.err = tx.Commit()
	}
	if w.err != nil {
		s.counted = map[int64]int{}
		if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
			return errors.Join(w.err, err)
		}
		return w.err
	}
	return nil
}

// writeTx is a transaction whose first error stays and stops the rest.
type writeTx struct {
	ctx   context.Context
	s     *Store
	tx    *sql.Tx
	stmts map[string]*sql.Stmt
	added map[int64]int // day → rows that this transaction may have added to its counts
	err   error
}

func (w *writeTx) stmt(q string) *sql.Stmt {
	st := w.stmts[q]
	if st == nil {
		st = w.tx.StmtContext(w.ctx, w.s.stmts[q])
		w.stmts[q] = st
	}
	return st
}

func (w *writeTx) exec(q string, args ...any) {
	if w.err == nil {
		_, w.err = w.stmt(q).ExecContext(w.ctx, args...)
	}
}

func (w *writeTx) drop(what string, v any) {
	w.s.log.Error("left out of the state: not a valid row", "of", what, "value", fmt.Sprintf("%+q", fmt.Sprint(v)))
}

func (w *writeTx) write(e Effects) {
	for source, position := range e.Positions {
		w.exec(putPosition, seal("positions", clip(source, 4096), append([]byte{}, position...))...)
	}
	for _, l := range e.Bans {
		w.begin(bans, l)
	}
	for _, u := range e.Unbans {
		w.end(bans, ending(u))
	}
	for _, l := range e.Grants {
		w.begin(grants, l)
	}
	for _, r := range e.Revokes {
		w.end(grants, ending(r))
	}
	for _, l := range e.Logins {
		w.login(l)
	}
	for _, c := range e.Counts {
		w.count(c)
	}
	w.boundCounts()
	for _, o := range e.Onsets {
		w.onset(o)
	}
	for _, c := range e.Rules {
		w.rule(c)
	}
}

func (w *writeTx) login(l sshlog.Login) {
	addr := encodeAddr(l.Addr)
	if len(addr) == 0 {
		w.drop("login", l.Addr)
		return
	}
	w.exec(putLogin, seal("logins", addr, clip(l.User, maxName), int64(l.Port), encodeTime(l.Time))...)
}

func (w *writeTx) count(c Count) {
	day := encodeDay(c.Day)
	if day == 0 {
		w.drop("day", c.Day)
		return
	}
	user := c.User
	if len(user) > maxUser {
		user = ""
	}
	w.added[day]++
	w.exec(addCount, day, encodeAddr(c.Source), clip(user, maxUser), clip(c.Country, maxWord), clip(c.Kind, maxWord),
		int64(min(max(c.Lines, 0), maxAdd)), int64(min(max(c.Attempts, 0), maxAdd)))
}
