package store

import (
	"context"
	"database/sql"
	"time"
)

// How long things are remembered, and how many at most.
const (
	keepEnded  = 366 * 24 * time.Hour // ended bans and grants, onsets, unbans, revokes, logins
	keepCounts = 400 * 24 * time.Hour
	maxEnded   = 500_000 // ended bans; live ones are never pruned
	maxUnbans  = 100_000 // the same of ended grants, revokes
	maxLogins  = 100_000
)

// Prune forgets what is old: ended bans and grants, onsets, unbans, revokes and logins after
// a year, counts after 400 days. Where there are more than the bound all the same
// (500,000 ended bans, 100,000 of each of the others), the time is halved until there
// are not, so the oldest go first. Days before now's keep their 1,000 counts with the most
// attempts and the sum of the rest. What is in force is never touched. The file does
// not shrink; its free pages are used again.
func (s *Store) Prune(ctx context.Context, now time.Time) error {
	return s.prune(ctx, now, maxEnded, maxUnbans, maxLogins, pastDayRows)
}

func (s *Store) prune(ctx context.Context, now time.Time, maxEnded, maxUnbans, maxLogins, pastDayRows int) error {
	// Each in a transaction of its own: commits go in between.
	for _, p := range []struct {
		del, num string
		max      int
	}{
		{`DELETE FROM bans WHERE ends != 0 AND ends < ?`, `SELECT count(*) FROM bans WHERE ends != 0 AND ends < ?`, maxEnded},
		{`DELETE FROM unbans WHERE at < ?`, `SELECT count(*) FROM unbans WHERE at < ?`, maxUnbans},
		{`DELETE FROM grants WHERE ends != 0 AND ends < ?`, `SELECT count(*) FROM grants WHERE ends != 0 AND ends < ?`, maxUnbans},
		{`DELETE FROM revokes WHERE at < ?`, `SELECT count(*) FROM revokes WHERE at < ?`, maxUnbans},
		{`DELETE FROM onsets WHERE begun < ?`, `SELECT count(*) FROM onsets WHERE begun < ?`, maxEnded},
		{`DELETE FROM logins WHERE at < ?`, `SELECT count(*) FROM logins WHERE at < ?`, maxLogins},
	} {
		err := s.pruneStep(ctx, func(w *writeTx) {
			for keep := keepEnded; w.err == nil && keep > time.Second; keep /= 2 {
				w.run(p.del, encodeTime(now.Add(-keep)))
				if w.num(p.num, encodeTime(now)) <= p.max {
					break
				}
			}
		})
		if err != nil {
			return err
		}
	}
	today := encodeDay(now.Format(time.DateOnly))
	var days []int64
	err := s.pruneStep(ctx, func(w *writeTx) {
		oldest := encodeDay(now.Add(-keepCounts).Format(time.DateOnly))
		w.run(`DELETE FROM counts WHERE day < ?`, oldest)
		w.run(`DELETE FROM rule_days WHERE day < ?`, oldest)
		w.run(`DELETE FROM rule_marks WHERE day < ?`, oldest)
		days = w.days(today)
	})
	for _, day := range days {
		if err != nil {
			break
		}
		err = s.pruneStep(ctx, func(w *writeTx) {
			if w.numCounts(day) > pastDayRows {
				w.foldCounts(day, pastDayRows)
			}
		})
	}
	return err
}

func (s *Store) pruneStep(ctx context.Context, f func(*writeTx)) error {
	return s.use(ctx, "prune", func(ctx context.Context) error { return s.transact(ctx, f) })
}

// run and num are for statements too rare to be kept prepared.
func (w *writeTx) run(q string, args ...any) {
	if w.err == nil {
		_, w.err = w.tx.ExecContext(w.ctx, q, args...)
	}
}

func (w *writeTx) num(q string, args ...any) (n int) {
	if w.err == nil {
		w.err = w.tx.QueryRowContext(w.ctx, q, args...).Scan(&n)
	}
	return n
}

// days gives the days before the given one that have counts, by seeking from
// one to the next.
func (w *writeTx) days(before int64) (days []int64) {
	for day := int64(0); w.err == nil; {
		var next sql.NullInt64
		w.err = w.tx.QueryRowContext(w.ctx, `SELECT min(day) FROM counts WHERE day > ? AND day < ?`, day, before).Scan(&next)
		if !next.Valid {
			break
		}
		day = next.Int64
		days = append(days, day)
	}
	return days
}
