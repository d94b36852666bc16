package ledger

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// This is what database/sql needs of PostgreSQL, over pgx's protocol package: numbers,
// texts and bytes, which is all that the schema has. pgx's own driver knows every type of
// PostgreSQL's, at 3 MiB.

// PostgreSQL's types (its pg_type.dat).
const (
	oidBool  = 16
	oidBytea = 17
	oidInt8  = 20
	oidInt2  = 21
	oidInt4  = 23
	oidText  = 25
)

const (
	idleTime = time.Second // after which a connection is tried before it is used again
	tryTime  = 2 * time.Second
)

var binaryFormat = []int16{1}

type pgConnector struct{ config *pgconn.Config }

func (c *pgConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := pgconn.ConnectConfig(ctx, c.config)
	if err != nil {
		return nil, err
	}
	return &pgConn{PgConn: conn, stmts: map[string]*pgconn.StatementDescription{}, used: time.Now()}, nil
}

func (c *pgConnector) Driver() driver.Driver { return pgDriver{} }

type pgDriver struct{}

func (pgDriver) Open(string) (driver.Conn, error) { return nil, errors.ErrUnsupported }

// pgConn is a connection; each statement with parameters is prepared on it once.
type pgConn struct {
	*pgconn.PgConn
	stmts map[string]*pgconn.StatementDescription
	worn  bool // not to be used again
	used  time.Time
}

func (c *pgConn) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), tryTime)
	defer cancel()
	return c.PgConn.Close(ctx)
}

// IsValid is asked when the connection is given back.
func (c *pgConn) IsValid() bool {
	c.used = time.Now()
	return !c.worn && !c.IsClosed() && c.TxStatus() == 'I'
}

// ResetSession is called before the connection is used again.
func (c *pgConn) ResetSession(ctx context.Context) error {
	if c.IsClosed() {
		return driver.ErrBadConn
	}
	if time.Since(c.used) < idleTime {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	if c.Ping(ctx) != nil {
		return driver.ErrBadConn
	}
	return nil
}

func (c *pgConn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }

func (c *pgConn) Begin() (driver.Tx, error) { return nil, errors.ErrUnsupported } // links say BEGIN

// ExecContext runs a statement; one without parameters may be many.
func (c *pgConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 0 {
		results := c.Exec(ctx, query)
		var tag pgconn.CommandTag
		var err error
		for err == nil && results.NextResult() {
			tag, err = results.ResultReader().Close()
		}
		return driver.RowsAffected(tag.RowsAffected()), c.failed(errors.Join(err, results.Close()))
	}
	reader, err := c.run(ctx, query, args)
	if err != nil {
		return nil, err
	}
	tag, err := reader.Close()
	return driver.RowsAffected(tag.RowsAffected()), c.failed(err)
}

func (c *pgConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	reader, err := c.run(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return &pgRows{conn: c, reader: reader}, nil
}

func (c *pgConn) run(ctx context.Context, query string, args []driver.NamedValue) (*pgconn.ResultReader, error) {
	s := c.stmts[query]
	if s == nil {
		var err error
		if s, err = c.PgConn.Prepare(ctx, "s"+strconv.Itoa(len(c.stmts)), query, nil); err != nil {
			return nil, c.failed(err)
		}
		c.stmts[query] = s
		c.worn = len(c.stmts) >= maxStmts // a fresh one has none
	}
	if len(args) != len(s.ParamOIDs) {
		return nil, fmt.Errorf("%w: %d parameters for %d", ErrInvalid, len(args), len(s.ParamOIDs))
	}
	values := make([][]byte, len(args))
	for i, a := range args {
		var err error
		if values[i], err = encode(a.Value, s.ParamOIDs[i]); err != nil {
			return nil, err
		}
	}
	return c.ExecPrepared(ctx, s.Name, values, binaryFormat, binaryFormat), nil
}

// failed notices what makes prepared statements useless: another gate has changed a table
// (0A000, "cached plan must not change result type"), a proxy has changed the session.
func (c *pgConn) failed(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "0A000" || pg.Code == "26000") {
		c.worn = true
	}
	return err
}

// encode is a value in the binary format of a parameter's type.
func encode(v driver.Value, oid uint32) ([]byte, error) {
	switch v := v.(type) {
	case int64:
		switch {
		case oid == oidInt8:
			return binary.BigEndian.AppendUint64(nil, uint64(v)), nil
		case oid == oidInt4 && v >= math.MinInt32 && v <= math.MaxInt32:
			return binary.BigEndian.AppendUint32(nil, uint32(v)), nil
		}
	case string:
		if oid == oidText {
			return append([]byte{}, v...), nil
		}
	case []byte:
		if oid == oidBytea && v != nil {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%w: a %T for a parameter of PostgreSQL's type %d", ErrInvalid, v, oid)
}

// decode is a column's value, good until the next row.
func decode(b []byte, oid uint32) (driver.Value, error) {
	switch {
	case b == nil:
		return nil, nil
	case oid == oidInt8 && len(b) == 8:
		return int64(binary.BigEndian.Uint64(b)), nil
	case oid == oidInt4 && len(b) == 4:
		return int64(int32(binary.BigEndian.Uint32(b))), nil
	case oid == oidInt2 && len(b) == 2:
		return int64(int16(binary.BigEndian.Uint16(b))), nil
	case oid == oidBool && len(b) == 1:
		return b[0] != 0, nil
	case oid == oidText, oid == oidBytea:
		return b, nil
	}
	return nil, fmt.Errorf("%w: %d bytes of PostgreSQL's type %d", ErrInvalid, len(b), oid)
}

type pgRows struct {
	conn   *pgConn
	reader *pgconn.ResultReader
}

func (r *pgRows) Columns() []string {
	fields := r.reader.FieldDescriptions()
	names := make([]string, len(fields))
	for i := range fields {
		names[i] = fields[i].Name
	}
	return names
}

func (r *pgRows) Next(dest []driver.Value) error {
	if !r.reader.NextRow() {
		_, err := r.reader.Close()
		if err == nil {
			err = io.EOF
		}
		return r.conn.failed(err)
	}
	fields := r.reader.FieldDescriptions()
	for i, b := range r.reader.Values() {
		var err error
		if dest[i], err = decode(b, fields[i].DataTypeOID); err != nil {
			return err
		}
	}
	return nil
}

func (r *pgRows) Close() error {
	_, err := r.reader.Close()
	return r.conn.failed(err)
}
