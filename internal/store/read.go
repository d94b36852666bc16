package store

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// pageRows is how many rows are read at once. Between two pages the file is
// free, and the caller's yield runs then: however slow, it delays no commit, and
// it may use the Store.
const pageRows = 1024

const (
	getPositions = `SELECT source, position, sum FROM positions`
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

var getBansOf = `SELECT prefix, begun, ends, cause, reason, holder, attempts, count, sum FROM bans WHERE prefix IN (?` + strings.Repeat(`, ?`, maxCovers-1) + `) ORDER BY begun DESC LIMIT ?`

// statements are prepared at open, which also proves that the tables are there.
var statements = slices.Concat(bans.prepared, grants.prepared, []string{
	putPosition, putLogin, addCount, putOnset, getMark, putMark, addRule,
	sumSmallCounts, delSmallCounts, numCounts,
	getPositions, pageLogins, pageCounts, pageOnsets, pageRules, getBansOf,
})

// LiveBans yields the bans in force at now, at most one of a prefix: the one
// that ends last. An error of yield ends it and is returned; so with all below.
func (s *Store) LiveBans(ctx context.Context, now time.Time, yield func(lease.Lease) error) error {
	return s.live(ctx, bans, now, yield)
}

// LiveGrants yields the grants in force at now, at most one of a prefix: the one
// that ends last. A shorter grant takes nothing from a longer one; a Revoke ends
// them all.
func (s *Store) LiveGrants(ctx context.Context, now time.Time, yield func(lease.Lease) error) error {
	return s.live(ctx, grants, now, yield)
}

// EachLiveGrant yields the grants in force at now, several of a prefix where there are, by
// prefix and beginning.
func (s *Store) EachLiveGrant(ctx context.Context, now time.Time, yield func(lease.Lease) error) error {
	return pages(ctx, s, "read the live grants", grants.pageLive, beforeAll(), []any{encodeTime(now), encodeTime(now)}, grants.scanLease, leaseKey, yield)
}

// History yields, once per prefix that had a ban begun since then, how often it
// was banned and when last.
func (s *Store) History(ctx context.Context, since time.Time, yield func(lease.History) error) error {
	var h lease.History
	err := s.begun(ctx, bans, since,
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
	return s.begun(ctx, bans, since, yield)
}

// Unbans yields the unbans since then.
func (s *Store) Unbans(ctx context.Context, since time.Time, yield func(Unban) error) error {
	return s.ended(ctx, bans, since, func(e ending) error { return yield(Unban(e)) })
}

// Grants yields every grant begun since then that is remembered, live or not, by
// prefix and beginning.
func (s *Store) Grants(ctx context.Context, since time.Time, yield func(lease.Lease) error) error {
	return s.begun(ctx, grants, since, yield)
}

// Revokes yields the revokes since then.
func (s *Store) Revokes(ctx context.Context, since time.Time, yield func(Revoke) error) error {
	return s.ended(ctx, grants, since, func(e ending) error { return yield(Revoke(e)) })
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

// Onsets yields when what brought the bans begun since then began, by prefix and
// beginning. Not every ban has one.
func (s *Store) Onsets(ctx context.Context, since time.Time, yield func(Onset) error) error {
	return pages(ctx, s, "read the onsets", pageOnsets, beforeAll(), []any{encodeTime(since)}, scanOnset, onsetKey, yield)
}

// Rules yields what the rules counted on sinceDay ("2006-01-02") and the days after
// it, in the order of days.
func (s *Store) Rules(ctx context.Context, sinceDay string, yield func(RuleCount) error) error {
	number := func(drops bool) int64 {
		if drops {
			return 1
		}
		return 0
	}
	return pages(ctx, s, "read the rules' counts", pageRules, beforeDay(sinceDay), nil,
		func(rows *sql.Rows) (RuleCount, bool) {
			var day, drops, packets, bytes int64
			var c RuleCount
			err := rows.Scan(&day, &c.Chain, &c.Rule, &drops, &packets, &bytes)
			c.Day, c.Drops, c.Packets, c.Bytes = decodeDay(day), drops == 1, uint64(packets), uint64(bytes)
			return c, err == nil && encodeDay(c.Day) == day && number(c.Drops) == drops && packets >= 0 && bytes >= 0
		},
		func(c RuleCount) []any { return []any{encodeDay(c.Day), c.Chain, c.Rule, number(c.Drops)} }, yield)
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
	var found []lease.Lease
	err := s.use(ctx, "read the bans of an address", func(ctx context.Context) error {
		rows, err := s.stmts[getBansOf].QueryContext(ctx, append(args, maxBansOf)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			l, ok := bans.scanLease(rows)
			if !ok {
				s.skip("bans", 1)
				continue
			}
			found = append(found, l)
		}
		return rows.Err()
	})
	return found, err
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
			stmt := s.stmts[q]
			if stmt == nil {
				return nil // read only, and of a schema that has no such table
			}
			rows, err := stmt.QueryContext(ctx, append(append(append([]any{}, key...), args...), pageRows)...)
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
