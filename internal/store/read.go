package store

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strings"
	"time"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// pageRows is how many rows are read at once. Between two pages the file is
// free, and the caller's yield runs then: however slow, it delays no commit, and
// it may use the Store.
const pageRows = 1024

const banColumns = `SELECT prefix, begun, ends, cause, reason, holder, attempts, count, sum FROM bans `

const (
	getPositions = `SELECT source, position, sum FROM positions`
	pageLiveBans = banColumns + `WHERE (prefix, begun) > (?, ?) AND begun <= ? AND (ends = 0 OR ends > ?) ORDER BY prefix, begun LIMIT ?`
	pageBans     = banColumns + `WHERE (prefix, begun) > (?, ?) AND begun >= ? ORDER BY prefix, begun LIMIT ?`
	pageUnbans   = `SELECT prefix, at, by, sum FROM unbans WHERE (prefix, at) > (?, ?) AND at >= ? ORDER BY prefix, at LIMIT ?`
	pageLogins   = `SELECT addr, user, port, at, sum FROM logins WHERE (addr, user) > (?, ?) AND at >= ? ORDER BY addr, user LIMIT ?`
	pageCounts   = `SELECT day, source, user, country, kind, lines, attempts FROM counts
		WHERE (day, source, user, country, kind) > (?, ?, ?, ?, ?) ORDER BY day, source, user, country, kind LIMIT ?`
)

// The most that BansOf tells of one address, and the lookups it takes: one per
// length of prefix.
const (
	maxBansOf = 1000
	maxCovers = 129
)

var getBansOf = banColumns + `WHERE prefix IN (?` + strings.Repeat(`, ?`, maxCovers-1) + `) ORDER BY begun DESC LIMIT ?`

// statements are prepared at open, which also proves that the tables are there.
var statements = []string{
	putPosition, putBan, getLifted, putUnban, getLiftable, putLogin, addCount,
	sumSmallCounts, delSmallCounts, numCounts,
	getPositions, pageLiveBans, pageBans, pageUnbans, pageLogins, pageCounts, getBansOf,
}

// banRow is a row of bans.
type banRow struct {
	prefix                []byte
	begun, ends           int64
	cause, reason, holder string
	attempts, count       int64
}

func banRowOf(l lease.Lease) banRow {
	return banRow{
		prefix: encodePrefix(l.Prefix), begun: encodeTime(l.From), ends: encodeTime(l.Until),
		cause: clip(l.Cause, maxWord), reason: clip(l.Reason, maxText), holder: clip(l.Holder, maxName),
		attempts: int64(l.Attempts), count: int64(l.Count),
	}
}

func (r *banRow) sealed() []any {
	return seal("bans", r.prefix, r.begun, r.ends, r.cause, r.reason, r.holder, r.attempts, r.count)
}

// scan reports whether the row is sound.
func (r *banRow) scan(rows *sql.Rows) bool {
	var sum int64
	err := rows.Scan(&r.prefix, &r.begun, &r.ends, &r.cause, &r.reason, &r.holder, &r.attempts, &r.count, &sum)
	return err == nil && sum == checksum("bans", r.prefix, r.begun, r.ends, r.cause, r.reason, r.holder, r.attempts, r.count)
}

func (r *banRow) lease() (lease.Lease, bool) {
	p, ok := decodePrefix(r.prefix)
	return lease.Lease{
		Prefix: p, Verdict: lease.Deny, Cause: r.cause, Reason: r.reason, Holder: r.holder,
		From: decodeTime(r.begun), Until: decodeTime(r.ends), Attempts: int(r.attempts), Count: int(r.count),
	}, ok
}

func scanBan(rows *sql.Rows) (lease.Lease, bool) {
	var r banRow
	if !r.scan(rows) {
		return lease.Lease{}, false
	}
	return r.lease()
}

func banKey(l lease.Lease) []any { return []any{encodePrefix(l.Prefix), encodeTime(l.From)} }

// LiveBans yields the bans in force at now, at most one of a prefix: the one
// that ends last. An error of yield ends it and is returned; so with all below.
func (s *Store) LiveBans(ctx context.Context, now time.Time, yield func(lease.Lease) error) error {
	var held lease.Lease // its prefix may come again
	err := pages(ctx, s, "read the live bans", pageLiveBans, []any{[]byte{}, int64(math.MinInt64)}, []any{encodeTime(now), encodeTime(now)}, scanBan, banKey,
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

// History yields, once per prefix that had a ban begun since then, how often it
// was banned and when last.
func (s *Store) History(ctx context.Context, since time.Time, yield func(lease.History) error) error {
	var h lease.History
	err := pages(ctx, s, "read the history of bans", pageBans, []any{[]byte{}, int64(math.MinInt64)}, []any{encodeTime(since)}, scanBan, banKey,
		func(l lease.Lease) error {
			prev := h
			if l.Prefix != h.Prefix {
				h = lease.History{Prefix: l.Prefix}
			}
			h.Count, h.Last = max(h.Count+1, l.Count), l.From
			if l.Prefix == prev.Prefix || !prev.Prefix.IsValid() {
				return nil
			}
			return yield(prev)
		})
	if err == nil && h.Prefix.IsValid() {
		err = yield(h)
	}
	return err
}

// Bans yields every ban begun since then that is remembered, live or not, by
// prefix and beginning.
func (s *Store) Bans(ctx context.Context, since time.Time, yield func(lease.Lease) error) error {
	return pages(ctx, s, "read the bans", pageBans, []any{[]byte{}, int64(math.MinInt64)}, []any{encodeTime(since)}, scanBan, banKey, yield)
}

// Unbans yields the unbans since then.
func (s *Store) Unbans(ctx context.Context, since time.Time, yield func(Unban) error) error {
	return pages(ctx, s, "read the unbans", pageUnbans, []any{[]byte{}, int64(math.MinInt64)}, []any{encodeTime(since)},
		func(rows *sql.Rows) (Unban, bool) {
			var prefix []byte
			var at, sum int64
			var by string
			err := rows.Scan(&prefix, &at, &by, &sum)
			p, ok := decodePrefix(prefix)
			return Unban{Prefix: p, At: decodeTime(at), By: by}, err == nil && ok && sum == checksum("unbans", prefix, at, by)
		},
		func(u Unban) []any { return []any{encodePrefix(u.Prefix), encodeTime(u.At)} }, yield)
}

// Logins yields the last login of each user from each address since then.
func (s *Store) Logins(ctx context.Context, since time.Time, yield func(sshlog.Login) error) error {
	return pages(ctx, s, "read the logins", pageLogins, []any{[]byte{}, ""}, []any{encodeTime(since)},
		func(rows *sql.Rows) (sshlog.Login, bool) {
			var addr []byte
			var user string
			var port, at, sum int64
			err := rows.Scan(&addr, &user, &port, &at, &sum)
			a, ok := decodeAddr(addr)
			return sshlog.Login{Addr: a, Port: uint16(port), User: user, Time: decodeTime(at)},
				err == nil && ok && a.IsValid() && sum == checksum("logins", addr, user, port, at)
		},
		func(l sshlog.Login) []any { return []any{encodeAddr(l.Addr), l.User} }, yield)
}

// Counts yields the counts of sinceDay ("2006-01-02") and the days after it, in
// the order of days. A row without Source and User is the sum of what was past
// the bound.
func (s *Store) Counts(ctx context.Context, sinceDay string, yield func(Count) error) error {
	return pages(ctx, s, "read the counts", pageCounts, []any{encodeDay(sinceDay) - 1, []byte{}, "", "", ""}, nil,
		func(rows *sql.Rows) (Count, bool) {
			var day, lines, attempts int64
			var source []byte
			var c Count
			err := rows.Scan(&day, &source, &c.User, &c.Country, &c.Kind, &lines, &attempts)
			a, ok := decodeAddr(source)
			c.Day, c.Source, c.Lines, c.Attempts = decodeDay(day), a, int(lines), int(attempts)
			return c, err == nil && ok && encodeDay(c.Day) == day && lines >= 0 && attempts >= 0
		},
		func(c Count) []any {
			return []any{encodeDay(c.Day), encodeAddr(c.Source), c.User, c.Country, c.Kind}
		}, yield)
}

// Positions gives the sources' positions, as committed last.
func (s *Store) Positions(ctx context.Context) (map[string][]byte, error) {
	positions := map[string][]byte{}
	err := s.use(ctx, "read the positions", func(ctx context.Context) error {
		rows, err := s.stmts[getPositions].QueryContext(ctx)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var source string
			var position []byte
			var sum int64
			if rows.Scan(&source, &position, &sum) != nil || sum != checksum("positions", source, position) {
				s.skip("positions", 1)
				continue
			}
			positions[source] = position
		}
		return rows.Err()
	})
	return positions, err
}

// BansOf gives the bans of addr and of the prefixes around it, ended ones too,
// newest first, at most the newest 1,000.
func (s *Store) BansOf(ctx context.Context, addr netip.Addr) ([]lease.Lease, error) {
	addr = addr.WithZone("").Unmap()
	if !addr.IsValid() {
		return nil, nil
	}
	args := make([]any, 0, maxCovers+1)
	for bits := range maxCovers {
		// An IPv4 address has fewer lengths: its own key fills the rest.
		args = append(args, encodePrefix(netip.PrefixFrom(addr, min(bits, addr.BitLen()))))
	}
	var bans []lease.Lease
	err := s.use(ctx, "read the bans of an address", func(ctx context.Context) error {
		rows, err := s.stmts[getBansOf].QueryContext(ctx, append(args, maxBansOf)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			l, ok := scanBan(rows)
			if !ok {
				s.skip("bans", 1)
				continue
			}
			bans = append(bans, l)
		}
		return rows.Err()
	})
	return bans, err
}

func (s *Store) skip(table string, n int) {
	s.skipped.Add(int64(n))
	s.log.Warn("damaged rows of the state were skipped", "table", table, "rows", n)
}

// pages runs q, whose first parameters are the key after which to go on, then
// args, then how many rows at most. Rows that scan does not find sound are
// skipped and counted.
func pages[T any](ctx context.Context, s *Store, what, q string, key, args []any,
	scan func(*sql.Rows) (v T, sound bool), keyOf func(T) []any, yield func(T) error) error {
	page := make([]T, 0, pageRows)
	for {
		page = page[:0]
		var n, damaged int
		err := s.use(ctx, what, func(ctx context.Context) error {
			rows, err := s.stmts[q].QueryContext(ctx, append(append(append([]any{}, key...), args...), pageRows)...)
			if err != nil {
				return err
			}
			defer rows.Close()
			for ; rows.Next(); n++ {
				if v, sound := scan(rows); sound {
					page = append(page, v)
				} else {
					damaged++
				}
			}
			return rows.Err()
		})
		if damaged > 0 {
			s.skip(what, damaged)
		}
		for _, v := range page {
			if err := yield(v); err != nil {
				return err
			}
		}
		if err != nil || n < pageRows {
			return err
		}
		last := key
		if len(page) > 0 {
			last = keyOf(page[len(page)-1])
		}
		if compareKeys(last, key) <= 0 { // a whole page of damaged rows, or a tree out of order
			return s.use(ctx, what, func(context.Context) error { return fmt.Errorf("%w: keys do not ascend", errDamaged) })
		}
		key = last
	}
}

// compareKeys orders keys as SQLite does.
func compareKeys(a, b []any) int {
	for i := range a {
		c := 0
		switch x := a[i].(type) {
		case int64:
			c = cmp.Compare(x, b[i].(int64))
		case string:
			c = cmp.Compare(x, b[i].(string))
		case []byte:
			c = bytes.Compare(x, b[i].([]byte))
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// salvage carries the sound bans, unbans and logins over from a file that was
// set aside, as far as it can be read. Positions are left behind: the sources
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
	for _, q := range []string{pageBans, pageUnbans, pageLogins} {
		if old.stmts[q], err = db.PrepareContext(ctx, q); err != nil {
			return 0
		}
	}
	var e Effects
	move := func() error {
		if len(e.Bans)+len(e.Unbans)+len(e.Logins) < pageRows {
			return nil
		}
		return s.keep(&e, &n)
	}
	errs := errors.Join(
		old.Unbans(ctx, time.Time{}, func(u Unban) error { e.Unbans = append(e.Unbans, u); return move() }),
		old.Bans(ctx, time.Time{}, func(l lease.Lease) error { e.Bans = append(e.Bans, l); return move() }),
		old.Logins(ctx, time.Time{}, func(l sshlog.Login) error { e.Logins = append(e.Logins, l); return move() }),
		s.keep(&e, &n))
	s.log.Warn("sound rows were carried over from the damaged file", "rows", n, "err", errs)
	return n
}

// keep commits e and empties it. The caller holds the lock.
func (s *Store) keep(e *Effects, n *int) error {
	err := s.transact(context.Background(), func(tx *writeTx) { tx.write(*e) })
	if err == nil {
		*n += len(e.Bans) + len(e.Unbans) + len(e.Logins)
	}
	*e = Effects{}
	return err
}
