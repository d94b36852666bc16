package store

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"time"

	"sekisho/internal/lease"
)

// ledger is two tables: leases of one verdict, and when they were taken back by
// hand. Bans and grants are kept alike.
type ledger struct {
	verdict   lease.Verdict
	leases    string // names of the tables
	endings   string
	prepared  []string // the statements below
	put       string
	getEnded  string
	putEnding string
	getOpen   string
	pageLive  string
	page      string
	pageEnds  string
}

func newLedger(verdict lease.Verdict, leases, endings string) *ledger {
	columns := `SELECT prefix, begun, ends, cause, reason, holder, attempts, count, sum FROM ` + leases
	l := &ledger{
		verdict: verdict, leases: leases, endings: endings,
		put: `INSERT INTO ` + leases + ` (prefix, begun, ends, cause, reason, holder, attempts, count, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET ends = excluded.ends, cause = excluded.cause, reason = excluded.reason, holder = excluded.holder,
			attempts = excluded.attempts, count = excluded.count, sum = excluded.sum`,
		getEnded: `SELECT min(at) FROM ` + endings + ` WHERE prefix = ? AND at >= ?`,
		putEnding: `INSERT INTO ` + endings + ` (prefix, at, by, sum) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET by = excluded.by, sum = excluded.sum`,
		getOpen:  columns + ` WHERE prefix = ? AND begun <= ? AND (ends = 0 OR ends > ?)`,
		pageLive: columns + ` WHERE (prefix, begun) > (?, ?) AND begun <= ? AND (ends = 0 OR ends > ?) ORDER BY prefix, begun LIMIT ?`,
		page:     columns + ` WHERE (prefix, begun) > (?, ?) AND begun >= ? ORDER BY prefix, begun LIMIT ?`,
		pageEnds: `SELECT prefix, at, by, sum FROM ` + endings + ` WHERE (prefix, at) > (?, ?) AND at >= ? ORDER BY prefix, at LIMIT ?`,
	}
	l.prepared = []string{l.put, l.getEnded, l.putEnding, l.getOpen, l.pageLive, l.page, l.pageEnds}
	return l
}

var (
	bans   = newLedger(lease.Deny, "bans", "unbans")
	grants = newLedger(lease.Allow, "grants", "revokes")
)

// leaseRow is a row of leases.
type leaseRow struct {
	prefix                []byte
	begun, ends           int64
	cause, reason, holder string
	attempts, count       int64
}

func leaseRowOf(l lease.Lease) leaseRow {
	return leaseRow{
		prefix: encodePrefix(l.Prefix), begun: encodeTime(l.From), ends: encodeTime(l.Until),
		cause: clip(l.Cause, maxRoot), reason: clip(l.Reason, maxText), holder: clip(l.Holder, maxName),
		attempts: int64(l.Attempts), count: int64(l.Count),
	}
}

func (r *leaseRow) sealed(table string) []any {
	return seal(table, r.prefix, r.begun, r.ends, r.cause, r.reason, r.holder, r.attempts, r.count)
}

// scan reports whether the row of l is sound.
func (l *ledger) scan(rows *sql.Rows, r *leaseRow) bool {
	var sum int64
	err := rows.Scan(&r.prefix, &r.begun, &r.ends, &r.cause, &r.reason, &r.holder, &r.attempts, &r.count, &sum)
	return err == nil && sum == checksum(l.leases, r.prefix, r.begun, r.ends, r.cause, r.reason, r.holder, r.attempts, r.count)
}

func (l *ledger) scanLease(rows *sql.Rows) (lease.Lease, bool) {
	var r leaseRow
	if !l.scan(rows, &r) {
		return lease.Lease{}, false
	}
	p, ok := decodePrefix(r.prefix)
	return lease.Lease{
		Prefix: p, Verdict: l.verdict, Cause: r.cause, Reason: r.reason, Holder: r.holder,
		From: decodeTime(r.begun), Until: decodeTime(r.ends), Attempts: int(r.attempts), Count: int(r.count),
	}, ok
}

func leaseKey(l lease.Lease) []any { return []any{encodePrefix(l.Prefix), encodeTime(l.From)} }

// begin writes a lease, ended as early as it was taken back.
func (w *writeTx) begin(in *ledger, l lease.Lease) {
	r := leaseRowOf(l)
	if r.prefix == nil {
		w.drop(in.leases, l.Prefix)
		return
	}
	if w.err != nil {
		return
	}
	var ended sql.NullInt64
	if w.err = w.stmt(in.getEnded).QueryRowContext(w.ctx, r.prefix, r.begun).Scan(&ended); w.err != nil {
		return
	}
	if ended.Valid && (r.ends == 0 || ended.Int64 < r.ends) {
		r.ends = ended.Int64
	}
	w.exec(in.put, r.sealed(in.leases)...)
}

// end writes that the leases of a prefix were taken back.
func (w *writeTx) end(in *ledger, e ending) {
	prefix, at := encodePrefix(e.Prefix), encodeTime(e.At)
	if prefix == nil {
		w.drop(in.endings, e.Prefix)
		return
	}
	w.exec(in.putEnding, seal(in.endings, prefix, at, clip(e.By, maxName))...)
	if w.err != nil {
		return
	}
	var open []leaseRow
	rows, err := w.stmt(in.getOpen).QueryContext(w.ctx, prefix, at, at)
	if err != nil {
		w.err = err
		return
	}
	defer rows.Close()
	for rows.Next() {
		var r leaseRow
		if in.scan(rows, &r) {
			r.ends = at
			open = append(open, r)
		}
	}
	if w.err = errors.Join(rows.Err(), rows.Close()); w.err != nil {
		return
	}
	for _, r := range open {
		w.exec(in.put, r.sealed(in.leases)...)
	}
}

// live yields the leases of l in force at now, at most one of a prefix: the one
// that ends last.
func (s *Store) live(ctx context.Context, l *ledger, now time.Time, yield func(lease.Lease) error) error {
	var held lease.Lease // its prefix may come again
	err := pages(ctx, s, "read the live "+l.leases, l.pageLive, beforeAll(), []any{encodeTime(now), encodeTime(now)}, l.scanLease, leaseKey,
		func(l lease.Lease) error {
			prev := held
			if l.Prefix == prev.Prefix && (prev.Until.IsZero() || !l.Until.IsZero() && l.Until.Before(prev.Until)) {
				return nil
			}
			held = l
			if l.Prefix == prev.Prefix || !prev.Prefix.IsValid() {
				return nil
			}
			return yield(prev)
		})
	if err == nil && held.Prefix.IsValid() {
		err = yield(held)
	}
	return err
}

// begun yields the leases of l begun since then.
func (s *Store) begun(ctx context.Context, l *ledger, since time.Time, yield func(lease.Lease) error) error {
	return pages(ctx, s, "read the "+l.leases, l.page, beforeAll(), []any{encodeTime(since)}, l.scanLease, leaseKey, yield)
}

// ended yields what of l was taken back since then.
func (s *Store) ended(ctx context.Context, l *ledger, since time.Time, yield func(ending) error) error {
	return pages(ctx, s, "read the "+l.endings, l.pageEnds, beforeAll(), []any{encodeTime(since)},
		func(rows *sql.Rows) (ending, bool) {
			var prefix []byte
			var at, sum int64
			var by string
			err := rows.Scan(&prefix, &at, &by, &sum)
			p, ok := decodePrefix(prefix)
			return ending{Prefix: p, At: decodeTime(at), By: by}, err == nil && ok && sum == checksum(l.endings, prefix, at, by)
		},
		func(e ending) []any { return []any{encodePrefix(e.Prefix), encodeTime(e.At)} }, yield)
}

// beforeAll is the key before every prefix and time.
func beforeAll() []any { return []any{[]byte{}, int64(math.MinInt64)} }
