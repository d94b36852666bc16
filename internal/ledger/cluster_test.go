package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// password has what an address must not be torn apart by.
const password = "s3cr:t/@ %&?"

// postgresServer is a PostgreSQL of the tests' own: a temporary folder, a user without
// rights, the loopback, fsync on.
type postgresServer struct {
	dir     string
	bin     string
	port    int
	cred    *syscall.Credential
	process *os.Process
	ended   chan error
	log     bytes.Buffer
	fresh   atomic.Int64 // databases made
}

var theServer struct {
	sync.Once
	*postgresServer
	err error
}

// server starts the PostgreSQL of this run of the tests when it is first asked for.
func server(t testing.TB) *postgresServer {
	t.Helper()
	theServer.Do(func() { theServer.postgresServer, theServer.err = newServer() })
	if errors.Is(theServer.err, exec.ErrNotFound) {
		t.Skipf("LEFT OUT: %v: make deps installs it", theServer.err)
	}
	if theServer.err != nil {
		t.Fatal(theServer.err)
	}
	return theServer.postgresServer
}

func stopServer() error {
	if s := theServer.postgresServer; s != nil {
		return errors.Join(s.stop(syscall.SIGINT), os.RemoveAll(s.dir))
	}
	return nil
}

func newServer() (*postgresServer, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // Debian's
	initdb, err := exec.LookPath("initdb")
	if err == nil {
		found = append(found, initdb)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("PostgreSQL's initdb: %w", exec.ErrNotFound)
	}
	s := &postgresServer{bin: filepath.Dir(slices.Max(found))}
	if s.dir, err = os.MkdirTemp("", "sekisho-postgres-"); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // as which it does not run
		nobody, err := user.Lookup("nobody")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, uid, gid); err != nil {
			return nil, err
		}
	}
	err = s.init()
	if err == nil {
		err = s.start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

func (s *postgresServer) init() error {
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(password), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.bin, "initdb"), "-D", filepath.Join(s.dir, "data"), "-U", "gate", "-A", "scram-sha-256", "--pwfile", secret,
		"-E", "UTF8", "--locale", "C", "--no-instructions")
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	return l.Close()
}

// start returns when it takes connections. It does not outlive this process.
func (s *postgresServer) start() error {
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories="+s.dir, "-c", "max_connections=120", "-c", "fsync=on", "-c", "shared_buffers=32MB")
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGQUIT}
	started := make(chan error)
	s.ended = make(chan error, 1)
	go func() {
		runtime.LockOSThread() // whose death the signal is of
		err := cmd.Start()
		started <- err
		if err == nil {
			s.ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process = cmd.Process
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		conn, err := pgconn.Connect(ctx, s.dsn("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		wait := time.NewTimer(50 * time.Millisecond)
		select {
		case <-wait.C:
		case <-s.ended:
			return fmt.Errorf("postgres ended: %s", s.log.Bytes())
		case <-ctx.Done():
			return errors.Join(err, s.stop(syscall.SIGQUIT))
		}
	}
}

func (s *postgresServer) stop(signal os.Signal) error {
	if err := s.process.Signal(signal); err != nil {
		return err
	}
	<-s.ended
	return nil
}

func (s *postgresServer) dsn(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("gate", password), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + database,
		RawQuery: "sslmode=disable"}
	return u.String()
}

func (s *postgresServer) admin(t testing.TB, statement string) {
	t.Helper()
	conn, err := pgconn.Connect(context.Background(), s.dsn("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.Exec(context.Background(), statement).Close(); err != nil {
		t.Fatal(err)
	}
}

// database makes an empty one and returns its address.
func (s *postgresServer) database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("gate%d", s.fresh.Add(1))
	s.admin(t, `CREATE DATABASE `+name)
	t.Cleanup(func() { s.admin(t, `DROP DATABASE `+name+` WITH (FORCE)`) })
	return s.dsn(name)
}

// The test binary runs itself again in parts.
func TestMain(m *testing.M) {
	if part := os.Getenv("LEDGER_TEST_PART"); part != "" {
		if err := parts[part](os.Getenv("LEDGER_TEST_DSN")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if err := stopServer(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var parts = map[string]func(dsn string) error{}

// self is this binary, in a part.
func self(t *testing.T, part, dsn string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "LEDGER_TEST_PART="+part, "LEDGER_TEST_DSN="+dsn)
	cmd.Stderr = os.Stderr
	return cmd
}

// both runs a test on SQLite and on PostgreSQL, each with an empty state.
func both(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "gate", "gate.db")) })
	t.Run("postgres", func(t *testing.T) { test(t, server(t).database(t)) })
}
