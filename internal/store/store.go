package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"sekisho/internal/statefile"
)

// applicationID stands in the file's header: "SEKI".
const applicationID = 0x53454B49

// checkTime bounds the structure check at open: a start must stay quick, and a
// row is believed by its checksum anyway.
const checkTime = 500 * time.Millisecond

// Options are Open's. The zero value is ready to use.
type Options struct {
	Logger  *slog.Logger     // nil: discard
	Now     func() time.Time // nil: time.Now
	DayRows int              // rows of counts that one day may have, 16384 unless set
}

// Report is what opening came to.
type Report struct {
	Created   bool   // the file is new
	SetAside  string // the damaged file's new name; empty: nothing was damaged
	Why       string // what was damaged
	Salvaged  int    // sound rows (leases, their onsets and endings, logins) carried over from the damaged file
	Unchecked bool   // the file is too large to check it all at a start
}

// Store is one open state file. Its methods are safe for concurrent use. A
// Store that could not be opened is safe to use too: its methods return
// ErrDegraded until Reopen works.
//
// One connection holds the file exclusively: there is no shared-memory file,
// and another process (sqlite3(1) too) is refused while we run. A commit is
// appended to the write-ahead log and synced before Commit returns, so it
// outlives kill -9, and power loss on a disk that honours fsync.
type Store struct {
	path    string
	log     *slog.Logger
	now     func() time.Time
	dayRows int
	skipped atomic.Int64

	mu        sync.Mutex // one connection: held over every use of it
	db        *sql.DB    // nil: not open
	stmts     map[string]*sql.Stmt
	file      os.FileInfo   // what was opened, to notice that it was removed
	condemned error         // why the file must be set aside; nil: it need not
	stale     bool          // the connection is of no more use
	counted   map[int64]int // day → rows of counts, at most; absent: not known
}

// Open opens the state file at path, or makes it. A damaged file is set aside
// and a new one begun; the report says so. The Store is never nil: where err is
// not nil it is not open, and the caller may go on without it and Reopen later.
func Open(ctx context.Context, path string, o Options) (*Store, Report, error) {
	s := &Store{path: path, log: o.Logger, now: o.Now, dayRows: o.DayRows}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.dayRows <= 0 {
		s.dayRows = 16384
	}
	report, err := s.Reopen(ctx)
	return s, report, err
}

// Reopen closes the file and opens it again, as Open does. A file that proved
// damaged in use is set aside.
func (s *Store) Reopen(ctx context.Context) (Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var report Report
	if err := s.reopen(ctx, &report); err != nil {
		s.close()
		if ctx.Err() == nil && !errors.Is(err, ErrNewer) && !errors.Is(err, ErrInsecure) {
			err = fmt.Errorf("%w: %w", ErrDegraded, err)
		}
		return report, fmt.Errorf("open state file %s: %w", s.path, err)
	}
	return report, nil
}

func (s *Store) reopen(ctx context.Context, report *Report) error {
	s.close()
	path, err := filepath.Abs(s.path)
	if err != nil {
		return err
	}
	s.path = path
	if err := statefile.PrepareDir(filepath.Dir(path)); err != nil {
		return err
	}
	err = s.condemned
	if err == nil {
		err = s.openFound(ctx, report)
	}
	if !errors.Is(err, errDamaged) {
		return err
	}
	report.Why = err.Error()
	if report.SetAside, err = setAside(path, s.now()); err != nil {
		return fmt.Errorf("set the damaged file aside: %w", err)
	}
	s.condemned = nil
	s.log.Error("the state file was damaged and set aside; a new one was begun", "file", report.SetAside, "why", report.Why)
	if err := s.openFound(ctx, report); err != nil {
		return err
	}
	report.Salvaged = s.salvage(ctx, report.SetAside)
	return nil
}

// openFound opens what is at the path, and creates it where there is nothing.
func (s *Store) openFound(ctx context.Context, report *Report) error {
	found, err := statefile.Inspect(s.path)
	if err != nil {
		return err
	}
	if !found {
		if err := s.create(ctx); err != nil {
			return fmt.Errorf("create: %w", err)
		}
		report.Created = true
	}
	err = s.connect(ctx, report)
	if err != nil {
		s.close()
		if !errors.Is(err, errDamaged) && openFaultOf(err) == faultCorrupt {
			err = fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	return err
}

// create makes the file.
func (s *Store) create(ctx context.Context) error {
	return statefile.Create(s.path, func(path string) error {
		db, err := openDB(path, false)
		if err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, fmt.Sprintf("PRAGMA journal_mode=WAL; PRAGMA application_id=%d", applicationID))
		if err == nil {
			err = migrate(ctx, db, s.now())
		}
		return errors.Join(err, db.Close())
	})
}

func (s *Store) connect(ctx context.Context, report *Report) (err error) {
	if s.db, err = openDB(s.path, false); err != nil {
		return err
	}
	var id int64
	if err := s.db.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id); err != nil {
		return err
	}
	var mode string
	if err := s.db.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode); err != nil {
		return err
	}
	if id != applicationID || mode != "wal" {
		return fmt.Errorf("%w: not a database of ours (application %#x, journal %s)", errDamaged, id, mode)
	}
	if report.Unchecked, err = quickCheck(ctx, s.db); err != nil {
		return err
	}
	if err := migrate(ctx, s.db, s.now()); err != nil {
		return err
	}
	s.stmts = make(map[string]*sql.Stmt, len(statements))
	for _, q := range statements {
		if s.stmts[q], err = s.db.PrepareContext(ctx, q); err != nil {
			return err
		}
	}
	if s.file, err = os.Stat(s.path); err != nil {
		return err
	}
	s.counted = map[int64]int{}
	return nil
}

// openDB gives a database of exactly one connection. locking_mode must stand
// before whatever reads the file, or the index of the write-ahead log is a
// shared-memory file; the driver would sort the pragmas if they were many.
func openDB(path string, queryOnly bool) (*sql.DB, error) {
	q := url.Values{
		"_txlock":       {"immediate"},
		"_busy_timeout": {"500"},
		"_synchronous":  {"FULL"},
		"_defensive":    {"1"},
		"_pragma": {"locking_mode(EXCLUSIVE); pragma cache_size(-2000); pragma journal_size_limit(4194304);" +
			"pragma cell_size_check(ON); pragma trusted_schema(OFF); pragma temp_store(MEMORY)"},
	}
	if queryOnly { // not mode=ro: the exclusive lock needs a file that can be written
		q.Set("_pragma", q.Get("_pragma")+"; pragma query_only(ON)")
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	c, err := sqlite.NewConnector(u.String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	return db, nil
}

// quickCheck reads every page, for at most checkTime.
func quickCheck(ctx context.Context, db *sql.DB) (unchecked bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var found string
	err = db.QueryRowContext(bounded, `PRAGMA quick_check(1)`).Scan(&found)
	switch {
	case bounded.Err() != nil && ctx.Err() == nil && err != nil:
		return true, nil
	case err != nil:
		return false, err
	case found != "ok":
		return false, fmt.Errorf("%w: %s", errDamaged, found)
	}
	return false, nil
}

// Skipped is how many rows were found damaged, and not believed, since Open.
func (s *Store) Skipped() int { return int(s.skipped.Load()) }

// Close writes the log back into the database and closes it. A commit under way
// ends first.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.close()
}

func (s *Store) close() error {
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db, s.stmts, s.file, s.stale = nil, nil, nil, false
	return err
}

// use runs f on the connection; what is wrong with the file is told apart.
func (s *Store) use(ctx context.Context, what string, f func(context.Context) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	switch {
	case s.condemned != nil:
		return fmt.Errorf("%s: %w: %w: %w", what, ErrDegraded, ErrCorrupt, s.condemned)
	case s.db == nil:
		return fmt.Errorf("%s: %w: not open", what, ErrDegraded)
	}
	err := f(ctx)
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	switch faultOf(err) {
	case faultCorrupt:
		s.condemned = fmt.Errorf("%w: %w", errDamaged, err)
		return fmt.Errorf("%s: %w: %w: %w", what, ErrDegraded, ErrCorrupt, err)
	case faultStale:
		s.stale = true
	}
	return fmt.Errorf("%s: %w: %w", what, ErrDegraded, err)
}

// broken reports that only Reopen can help.
func (s *Store) broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db == nil || s.stale || s.condemned != nil
}
