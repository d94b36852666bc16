package ledger

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// The schema grows by appending a file: one that was released is never edited.
//
//go:embed migrations/*.sql
var migrations embed.FS

// toPostgres gives a migration PostgreSQL's names: the order of names is that of their
// bytes, as SQLite's is.
var toPostgres = strings.NewReplacer("INTEGER", "BIGINT", "BLOB", "BYTEA", "TEXT", `TEXT COLLATE "C"`, " STRICT, WITHOUT ROWID", "", " STRICT", "")

// migrate brings the schema to the newest version, in the transaction that conn is in and
// that nobody else has at the same time.
func migrate(ctx context.Context, conn *sql.Conn, now time.Time, dialect func(string) string) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, dialect(`CREATE TABLE IF NOT EXISTS migrations (version INTEGER NOT NULL PRIMARY KEY, at INTEGER NOT NULL) STRICT`)); err != nil {
		return err
	}
	var have, newest int
	if err := conn.QueryRowContext(ctx, `SELECT count(*), coalesce(max(version), 0) FROM migrations`).Scan(&have, &newest); err != nil {
		return err
	}
	switch {
	case have != newest:
		return fmt.Errorf("%w: schema versions have gaps: %d of %d", ErrCorrupt, have, newest)
	case newest > len(names):
		return fmt.Errorf("%w: its schema is version %d, this program knows %d", ErrNewer, newest, len(names))
	}
	for i, name := range names[newest:] {
		text, err := migrations.ReadFile(name)
		if err == nil {
			_, err = conn.ExecContext(ctx, dialect(string(text)))
		}
		if err == nil {
			_, err = conn.ExecContext(ctx, fmt.Sprintf(`INSERT INTO migrations (version, at) VALUES (%d, %d)`, newest+i+1, now.UnixMicro()))
		}
		if err != nil {
			return fmt.Errorf("migrate to %s: %w", name, err)
		}
	}
	return nil
}
