package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

const (
	maxConns    = 8
	maxReads    = maxConns - 2 // writes always find a connection
	oldest      = 130000       // PostgreSQL's version: pg_xact_status
	migrateLock = 0x53454B49_47415445
	channel     = "sekisho_gate"
	pollEvery   = 30 * time.Second // a net under what is told
	askTime     = 5 * time.Second  // for what became of a commit
	patience    = 12 * time.Second // with a server that does not answer: for a batch, for a statement that reads
)

// settings are of every connection, unless the address has them.
var settings = map[string]string{
	"application_name":                    "sekisho",
	"statement_timeout":                   "10s",
	"lock_timeout":                        "5s",
	"idle_in_transaction_session_timeout": "30s",
}

type postgres struct {
	db        *sql.DB
	config    *pgconn.Config
	log       *slog.Logger
	reads     chan struct{}
	patience  time.Duration
	listening atomic.Bool
}

func openPostgres(ctx context.Context, dsn string, o Options) (_ *postgres, err error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		// What the parser says may hold a password's end: all that follows a "/" in it.
		return nil, fmt.Errorf("%w: the address of the gate's PostgreSQL cannot be read: want postgres://USER:PASSWORD@HOST:PORT/DATABASE, "+
			"in which other characters than letters and digits of USER and PASSWORD are written as %%XX", ErrInvalid)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the gate's state at PostgreSQL (%s, database %q, user %q): %w", config.Host, config.Database, config.User, sorted(err))
		}
	}()
	configure(config, o.Instance)
	p := &postgres{config: config, log: o.Logger, reads: make(chan struct{}, maxReads), patience: patience}
	p.db = sql.OpenDB(&pgConnector{config})
	p.db.SetMaxOpenConns(maxConns)
	p.db.SetMaxIdleConns(maxConns)
	p.db.SetConnMaxIdleTime(5 * time.Minute)
	if err := p.migrate(ctx, o.Now()); err != nil {
		return nil, errors.Join(err, p.db.Close())
	}
	return p, nil
}

func configure(config *pgconn.Config, instance string) {
	for name, value := range settings {
		if _, ok := config.RuntimeParams[name]; !ok {
			config.RuntimeParams[name] = value
		}
	}
	if instance != "" && config.RuntimeParams["application_name"] == "sekisho" {
		config.RuntimeParams["application_name"] = text("sekisho "+instance, 63)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = askTime
	}
	// One of several hosts is the one that can be written to.
	if len(config.Fallbacks) > 0 && config.ValidateConnect == nil {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	config.AfterConnect = durably
	config.DialFunc = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}, Control: soon}).DialContext
}

// soon has a connection end where nothing that was sent arrives for that long.
func soon(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var err error
	return errors.Join(c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience.Milliseconds()))
	}), err)
}

// durably has a commit be on the disk when it returns, whatever the server's default.
func durably(ctx context.Context, conn *pgconn.PgConn) error {
	return conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`).Close()
}

func (p *postgres) migrate(ctx context.Context, now time.Time) error {
	l, err := p.begin(ctx, `BEGIN`)
	if err != nil {
		return err
	}
	exec := func(s string) error {
		_, err := l.conn.ExecContext(ctx, s)
		return err
	}
	err = func() error {
		var version int
		var encoding string
		if err := l.conn.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding')`).Scan(&version, &encoding); err != nil {
			return err
		}
		if version < oldest || encoding != "UTF8" {
			return fmt.Errorf("%w: PostgreSQL %d with encoding %s: want 13 or newer and a database with encoding UTF8", ErrInvalid, version/10000, encoding)
		}
		if err := exec(`SET LOCAL statement_timeout = '2min'; SET LOCAL lock_timeout = '2min'`); err != nil {
			return err
		}
		if err := exec(fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, int64(migrateLock))); err != nil {
			return err
		}
		return migrate(ctx, l.conn, now, toPostgres.Replace)
	}()
	if err != nil {
		p.rollback(l)
		return err
	}
	return p.commitOnce(ctx, l)
}

// begin takes a connection and begins a transaction on it.
func (p *postgres) begin(ctx context.Context, statement string) (*link, error) {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn}
	if _, err := conn.ExecContext(ctx, statement); err != nil {
		p.discard(l)
		return nil, err
	}
	return l, nil
}

// discard closes a link's connection, whatever is under way on it.
func (p *postgres) discard(l *link) {
	_ = l.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = l.conn.Close()
}

func (p *postgres) write(ctx context.Context) (*link, Head, error) {
	l, err := p.begin(ctx, `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`)
	if err != nil {
		return nil, Head{}, err
	}
	// Each statement after this one sees all that was committed by whoever had the row.
	var head Head
	err = l.conn.QueryRowContext(ctx, `SELECT seq, hash, pg_current_xact_id()::text FROM head WHERE id = 1 FOR UPDATE`).Scan(&head.Seq, &head.Hash, &l.id)
	if err != nil {
		p.rollback(l)
		return nil, head, err
	}
	return l, head, nil
}

func (p *postgres) commitOnce(ctx context.Context, l *link) error {
	_, err := l.conn.ExecContext(ctx, `COMMIT`)
	if err != nil {
		p.discard(l)
		return err
	}
	_ = l.conn.Close()
	return nil
}

func (p *postgres) commit(ctx context.Context, l *link) error {
	err := p.commitOnce(ctx, l)
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR" {
		return err
	}
	return p.ask(l.id, err)
}

// ask finds out what became of a commit whose answer was lost.
func (p *postgres) ask(id string, lost error) error {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	for {
		var status sql.NullString
		err := p.db.QueryRowContext(ctx, `SELECT pg_xact_status($1::text::xid8)`, id).Scan(&status)
		switch {
		case err == nil && status.String == "committed":
			return nil
		case err == nil && status.String == "aborted":
			return fmt.Errorf("%w: %w", errLost, lost)
		case err == nil && !status.Valid:
			return fmt.Errorf("%w: %w: %w", ErrBusy, ErrUnsure, lost)
		}
		wait := time.NewTimer(20 * time.Millisecond)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%w: %w: %w", ErrBusy, ErrUnsure, lost)
		}
	}
}

func (p *postgres) rollback(l *link) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	if _, err := l.conn.ExecContext(ctx, `ROLLBACK`); err != nil {
		p.discard(l)
		return
	}
	_ = l.conn.Close()
}

func (p *postgres) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), p.patience)
}

func (p *postgres) read(ctx context.Context) (*link, error) {
	select {
	case p.reads <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	bounded, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	const begin = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
	l, err := p.begin(bounded, begin)
	if err != nil && again(err) {
		l, err = p.begin(bounded, begin) // the pool's had died
	}
	if err != nil {
		<-p.reads
		return nil, err
	}
	l.patience = p.patience
	return l, nil
}

func (p *postgres) endRead(l *link) {
	p.rollback(l)
	<-p.reads
}

func (p *postgres) tell(ctx context.Context, l *link) (heard bool, err error) {
	_, err = l.exec(ctx, `SELECT pg_notify($1, '')`, channel)
	return p.listening.Load(), err
}

// listen has a connection of its own for what is told, and makes it anew where it is lost.
func (p *postgres) listen(ctx context.Context, tick func()) {
	failures := 0
	for ctx.Err() == nil {
		err := p.hear(ctx, tick, func() {
			if failures > 0 {
				p.log.Info("the gate hears of changes again")
			}
			failures = 0
		})
		if ctx.Err() != nil {
			return
		}
		if failures++; failures == 1 {
			p.log.Warn("the gate does not hear of other gates' changes", "error", err)
		}
		wait := time.NewTimer(rand.N(min(time.Duration(failures)*200*time.Millisecond, askTime)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
	}
}

func (p *postgres) hear(ctx context.Context, tick, begun func()) error {
	conn, err := pgconn.ConnectConfig(ctx, p.config)
	if err != nil {
		return err
	}
	defer func() {
		p.listening.Store(false)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if err := conn.Exec(ctx, `LISTEN `+channel).Close(); err != nil {
		return err
	}
	p.listening.Store(true)
	begun()
	tick() // for what was told before
	for {
		err := p.await(ctx, conn)
		if err != nil {
			return err
		}
		tick()
	}
}

// await returns when something was told, or it is time to look all the same.
func (p *postgres) await(ctx context.Context, conn *pgconn.PgConn) error {
	bounded, cancel := context.WithTimeout(ctx, pollEvery)
	defer cancel()
	err := conn.WaitForNotification(bounded)
	if err == nil || bounded.Err() == nil || ctx.Err() != nil {
		return err
	}
	alive, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return conn.Ping(alive)
}

func (p *postgres) close() error { return p.db.Close() }
