package ledger

import (
	"context"
	"database/sql"
	"strings"
	"time"
)

// link is one connection. The parameters of statements are $1, $2, ...
type link struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // nil: the driver keeps them itself

	// PostgreSQL's:
	id       string        // of the transaction
	patience time.Duration // with one statement that reads
}

// maxStmts bounds the statements that are kept: Filter makes some.
const maxStmts = 256

func (l *link) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := l.stmts[query]; s != nil {
		return s, nil
	}
	s, err := l.conn.PrepareContext(ctx, strings.ReplaceAll(query, "$", "?"))
	if err != nil {
		return nil, err
	}
	if len(l.stmts) >= maxStmts {
		for _, s := range l.stmts {
			s.Close()
		}
		clear(l.stmts)
	}
	l.stmts[query] = s
	return s, nil
}

func (l *link) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if l.stmts == nil {
		return l.conn.ExecContext(ctx, query, args...)
	}
	s, err := l.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

func (l *link) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if l.stmts == nil {
		return l.conn.QueryContext(ctx, query, args...)
	}
	s, err := l.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// close gives the connection back, with nothing open on it.
func (l *link) close() error {
	for _, s := range l.stmts {
		s.Close()
	}
	clear(l.stmts)
	return l.conn.Close()
}
