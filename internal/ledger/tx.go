package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Tx is one transaction. It is good until the function that got it returns, and for one
// goroutine at a time.
type Tx struct {
	ctx     context.Context
	link    *link
	log     *slog.Logger
	now     func() time.Time
	head    *Head // of the batch; nil: reading
	changed bool  // what Watch tells of
	broken  error // the first error of the database: the transaction is not to be kept
	over    bool
}

func (t *Tx) usable(writing bool) error {
	switch {
	case t.over:
		return fmt.Errorf("%w: the transaction is over", ErrInvalid)
	case writing && t.head == nil:
		return fmt.Errorf("%w: the transaction is for reading", ErrInvalid)
	}
	return t.broken
}

func (t *Tx) fail(err error) error {
	err = sorted(err)
	if err != nil && t.broken == nil {
		t.broken = err
	}
	return err
}

// exec runs a statement that writes and returns how many rows it has touched.
func (t *Tx) exec(what, query string, args ...any) (int64, error) {
	if err := t.usable(true); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	result, err := t.link.exec(t.ctx, query, args...)
	var n int64
	if err == nil {
		n, err = result.RowsAffected()
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, t.fail(err))
	}
	return n, nil
}

// each yields the rows that a query has; what yield returns ends it.
func (t *Tx) each(what string, yield func(*sql.Rows) error, query string, args ...any) error {
	if err := t.usable(false); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	ctx := t.ctx
	if t.link.patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.link.patience)
		defer cancel()
	}
	rows, err := t.link.query(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, t.fail(err))
	}
	defer rows.Close()
	for rows.Next() {
		if err := yield(rows); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, t.fail(err))
	}
	return nil
}

// list reads all the rows of a query.
func list[T any](t *Tx, what string, scan func(*Tx, *sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	var all []T
	err := t.each(what, func(rows *sql.Rows) error {
		v, err := scan(t, rows)
		all = append(all, v)
		return err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// one reads the row of a query, or ErrNotFound.
func one[T any](t *Tx, what string, scan func(*Tx, *sql.Rows) (T, error), query string, args ...any) (T, error) {
	var v T
	found := false
	err := t.each(what, func(rows *sql.Rows) (err error) {
		v, err = scan(t, rows)
		found = true
		return err
	}, query, args...)
	if err == nil && !found {
		err = fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return v, err
}

// scan reads a row's columns; what does not fit is damage.
func (t *Tx) scan(rows *sql.Rows, to ...any) error {
	if err := rows.Scan(to...); err != nil {
		return t.fail(fmt.Errorf("%w: %w", ErrCorrupt, err))
	}
	return nil
}

func scanInt(t *Tx, rows *sql.Rows) (n int64, err error) { return n, t.scan(rows, &n) }

func scanString(t *Tx, rows *sql.Rows) (s string, err error) { return s, t.scan(rows, &s) }

func scanBytes(t *Tx, rows *sql.Rows) (b []byte, err error) { return b, t.scan(rows, &b) }

// remove deletes what must be there.
func (t *Tx) remove(what, query string, args ...any) error {
	n, err := t.exec(what, query, args...)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return err
}

// room refuses where a table has as many rows as it may have.
func (t *Tx) room(what string, most int64, query string, args ...any) error {
	n, err := one(t, what, scanInt, query, args...)
	if err == nil && n >= most {
		err = fmt.Errorf("%s: %w: %d", what, ErrFull, most)
	}
	return err
}

// micros is a time as a column has it, 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func timeOf(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// text is s as a column has it: as given, but for what is no text (PostgreSQL takes
// neither a zero byte nor bytes that are not UTF-8) and what is longer than most bytes.
func text(s string, most int) string {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	}
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// key refuses what cannot be the name of a row: a name is never cut.
func key(what, s string) error {
	if s == "" || len(s) > maxKey || text(s, maxKey) != s {
		return fmt.Errorf("%w: %s of %d bytes: want text of 1 to %d", ErrInvalid, what, len(s), maxKey)
	}
	return nil
}

func blob(what string, b []byte, least, most int) error {
	if len(b) < least || len(b) > most {
		return fmt.Errorf("%w: %s of %d bytes: want %d to %d", ErrInvalid, what, len(b), least, most)
	}
	return nil
}

// bytesOf is b as a column has it: never NULL.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.WithZone("").String()
}

func (t *Tx) addrOf(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, t.fail(fmt.Errorf("%w: %q is not an address", ErrCorrupt, s))
	}
	return a, nil
}
