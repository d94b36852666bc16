package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// OpenReadOnly opens the state file at path for readers alone, while no daemon holds
// it. No file is made, brought up to date or set aside: what an older schema does not
// have, there is nothing of. Commit, Prune and Reopen are not for such a Store.
//
// fs.ErrNotExist: there is no file. fs.ErrPermission: it may not be opened. ErrNewer,
// ErrCorrupt and ErrDegraded are as elsewhere; the last also where a daemon holds it.
func OpenReadOnly(ctx context.Context, path string, o Options) (*Store, error) {
	s := &Store{path: path, log: o.Logger, now: o.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.view(ctx); err != nil {
		return nil, fmt.Errorf("read state file %s: %w", path, errors.Join(err, s.close()))
	}
	return s, nil
}

func (s *Store) view(ctx context.Context) (err error) {
	if s.path, err = filepath.Abs(s.path); err != nil {
		return err
	}
	if err := viewable(s.path); err != nil {
		return err
	}
	if s.db, err = openDB(s.path, true); err != nil {
		return fmt.Errorf("%w: %w", ErrDegraded, err)
	}
	var id, version int64
	var known int
	err = s.db.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id)
	if err == nil && id != applicationID {
		return fmt.Errorf("%w: not a database of ours", ErrCorrupt)
	}
	if err == nil {
		err = s.db.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM migrations`).Scan(&version)
	}
	if err != nil {
		return viewFault(ctx, err)
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	if known = len(names); version > int64(known) {
		return fmt.Errorf("%w: its schema is version %d, this program knows %d", ErrNewer, version, known)
	}
	s.stmts = map[string]*sql.Stmt{}
	for _, q := range statements {
		st, err := s.db.PrepareContext(ctx, q)
		switch {
		case err == nil:
			s.stmts[q] = st
		case ctx.Err() != nil || version == int64(known):
			return viewFault(ctx, err)
		}
	}
	return nil
}

func viewFault(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case openFaultOf(err) == faultCorrupt:
		return fmt.Errorf("%w: %w: %w", ErrDegraded, ErrCorrupt, err)
	}
	return fmt.Errorf("%w: %w", ErrDegraded, err)
}

// viewable is what must be there before SQLite, which makes what is not, is asked.
func viewable(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close() // before SQLite opens it: a close drops the process's locks
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Size() == 0:
		return fmt.Errorf("%w: not a database", ErrCorrupt)
	}
	return nil
}
