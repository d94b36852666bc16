package fail2ban

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"modernc.org/sqlite"
)

// Ban is a ban that fail2ban has in force.
type Ban struct {
	Prefix netip.Prefix `json:"prefix"`
	Jail   string       `json:"jail"` // of several, the one in which it ends last
	From   time.Time    `json:"from"`
	Until  *time.Time   `json:"until"` // nil: without end
	Count  int          `json:"count"` // how many it has had
}

// maxBans bounds what is read of a database.
const maxBans = 100_000

// Bans reads which bans of jails are in force at now, by prefix, out of fail2ban's database. It
// is only read: fail2ban may run meanwhile. skipped counts what is no address, or of an unknown
// end. A mistake is an *Error.
func Bans(ctx context.Context, path string, jails []string, now time.Time) (_ []Ban, skipped int, _ error) {
	fail := func(err error, message, hint string) ([]Ban, int, error) {
		return nil, 0, &Error{Place: Place{File: path}, Message: message, Hint: hint, cause: err}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(err, "there is no database of fail2ban's", "name it with --database FILE; fail2ban-client get dbfile tells it")
	case err != nil:
		return nil, 0, unreadable(path, err)
	case !info.Mode().IsRegular():
		return fail(nil, errNoFile.Error(), "name fail2ban's database with --database FILE")
	}
	whole, err := filepath.Abs(path) // a URL has no others
	if err != nil {
		return nil, 0, err
	}
	q := url.Values{
		"mode":          {"ro"},
		"_busy_timeout": {"5000"},
		"_defensive":    {"1"},
		"_pragma":       {"cell_size_check(ON); pragma trusted_schema(OFF); pragma query_only(ON)"},
	}
	connector, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: whole, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, 0, err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	db.SetMaxOpenConns(1)
	var tables int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'bips'`).Scan(&tables); err != nil {
		return fail(err, fmt.Sprintf("it could not be read: %v", err), "read it as root; see whether it is fail2ban's database")
	}
	if tables == 0 {
		return fail(nil, "it has no table of the bans in force: fail2ban keeps one since 0.11", "fail2ban-client status sshd lists them: sekisho ban ADDR --for 1h")
	}
	rows, err := db.QueryContext(ctx, `SELECT CAST(ip AS TEXT), CAST(jail AS TEXT), CAST(timeofban AS INTEGER), CAST(bantime AS INTEGER), CAST(bancount AS INTEGER)
		FROM bips WHERE timeofban + bantime > ? OR bantime < 0 LIMIT ?`, now.Unix(), maxBans)
	if err != nil {
		return fail(err, fmt.Sprintf("it could not be read: %v", err), "see whether it is fail2ban's database")
	}
	defer rows.Close()
	latest := map[netip.Prefix]Ban{}
	for rows.Next() {
		var ip, jail sql.NullString
		var from, length, count sql.NullInt64
		if err := rows.Scan(&ip, &jail, &from, &length, &count); err != nil {
			return fail(err, fmt.Sprintf("it could not be read: %v", err), "")
		}
		if !slices.Contains(jails, jail.String) {
			continue
		}
		prefix, ok := ignoredPrefix(ip.String)
		// -1 is without end; -2 is one that an old fail2ban began, which had no such column.
		if !ok || !length.Valid || length.Int64 < -1 || from.Int64 < 0 || from.Int64 > 1<<40 || length.Int64 > 1<<40 {
			skipped++
			continue
		}
		b := Ban{Prefix: prefix, Jail: jail.String, From: time.Unix(from.Int64, 0).UTC(), Count: int(max(1, min(count.Int64, 1<<30)))}
		if length.Int64 >= 0 {
			until := time.Unix(from.Int64+length.Int64, 0).UTC()
			b.Until = &until
		}
		if before, ok := latest[prefix]; !ok || before.Until != nil && (b.Until == nil || b.Until.After(*before.Until)) {
			latest[prefix] = b
		}
	}
	if err := rows.Err(); err != nil {
		return fail(err, fmt.Sprintf("it could not be read: %v", err), "")
	}
	bans := []Ban{}
	for _, b := range latest {
		bans = append(bans, b)
	}
	slices.SortFunc(bans, func(a, b Ban) int { return a.Prefix.Compare(b.Prefix) })
	return bans, skipped, nil
}
