package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// The schema grows by appending a file: one that was released is never edited.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings db to the newest schema, each step in a transaction of its
// own. The versions in the table are 1..n without a gap; more than we know is
// ErrNewer, anything else is damage.
func migrate(ctx context.Context, db *sql.DB, now time.Time) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migrations (
		version INTEGER NOT NULL PRIMARY KEY, at INTEGER NOT NULL) STRICT`); err != nil {
		return err
	}
	var have, newest int
	if err := db.QueryRowContext(ctx, `SELECT count(*), coalesce(max(version), 0) FROM migrations WHERE version > 0`).Scan(&have, &newest); err != nil {
		return err
	}
	switch {
	case have != newest:
		return fmt.Errorf("%w: schema versions have gaps: %d of %d", errDamaged, have, newest)
	case newest > len(names):
		return fmt.Errorf("%w: its schema is version %d, this program knows %d", ErrNewer, newest, len(names))
	}
	for i, name := range names[newest:] {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		if err := step(ctx, db, string(text), newest+i+1, now); err != nil {
			return fmt.Errorf("migrate to %s: %w", name, err)
		}
	}
	return nil
}

func step(ctx context.Context, db *sql.DB, text string, version int, now time.Time) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, text)
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO migrations (version, at) VALUES (?, ?)`, version, now.UnixNano())
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
