// Package postgrestest is a PostgreSQL of the tests' own: a temporary folder, a user without
// rights, the loopback, fsync on. It does not outlive the process that starts it.
package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Password is the user gate's: it has what an address must not be torn apart by.
const Password = "s3cr:t/@ %&?"

// Server is one of them.
type Server struct {
	Port int

	dir     string
	bin     string
	cred    *syscall.Credential
	process *os.Process
	ended   chan error
	log     bytes.Buffer
	fresh   atomic.Int64 // databases made
}

// New starts one. It fails with exec.ErrNotFound where PostgreSQL is not installed.
func New() (*Server, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // Debian's
	initdb, err := exec.LookPath("initdb")
	if err == nil {
		found = append(found, initdb)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("PostgreSQL's initdb: %w", exec.ErrNotFound)
	}
	s := &Server{bin: filepath.Dir(slices.Max(found))}
	if s.dir, err = os.MkdirTemp("", "sekisho-postgres-"); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // as which it does not run
		nobody, err := user.Lookup("nobody")
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(s.dir))
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
		err = s.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

func (s *Server) init() error {
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(Password), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.bin, "initdb"), "-D", filepath.Join(s.dir, "data"), "-U", "gate", "-A", "scram-sha-256", "--pwfile", secret,
		"-E", "UTF8", "--locale", "C", "--no-instructions")
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	s.Port, err = freePort()
	return err
}

// freePort is one of the loopback that nobody has, and that the kernel gives nobody who asks
// for any: a server that crashes has to get it back.
func freePort() (int, error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, err
	}
	least := 32768 // Linux's
	if f := strings.Fields(string(text)); len(f) == 2 {
		if n, err := strconv.Atoi(f[0]); err == nil {
			least = n
		}
	}
	const first = 5000
	if least <= first+1000 {
		least = first + 1000
	}
	for range 100 {
		port := first + rand.N(least-first)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// Start returns when it takes connections. It does not outlive this process.
func (s *Server) Start() error {
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.Port), "-c", "listen_addresses=127.0.0.1",
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
		conn, err := pgconn.Connect(ctx, s.DSN("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		wait := time.NewTimer(50 * time.Millisecond)
		select {
		case <-wait.C:
		case <-s.ended:
			return fmt.Errorf("postgres ended: %s", s.log.Bytes())
		case <-ctx.Done():
			return errors.Join(err, s.Stop(syscall.SIGQUIT))
		}
	}
}

// Stop ends it by a signal: SIGQUIT is a crash.
func (s *Server) Stop(signal os.Signal) error {
	if err := s.process.Signal(signal); err != nil {
		return err
	}
	<-s.ended
	return nil
}

// DSN is the address of a database of it.
func (s *Server) DSN(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("gate", Password), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), Path: "/" + database,
		RawQuery: "sslmode=disable"}
	return u.String()
}

// Admin runs a statement as who owns all of it.
func (s *Server) Admin(t testing.TB, statement string) {
	t.Helper()
	conn, err := pgconn.Connect(context.Background(), s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.Exec(context.Background(), statement).Close(); err != nil {
		t.Fatal(err)
	}
}

// Database makes an empty one and returns its address.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("gate%d", s.fresh.Add(1))
	s.Admin(t, `CREATE DATABASE `+name)
	t.Cleanup(func() { s.Admin(t, `DROP DATABASE `+name+` WITH (FORCE)`) })
	return s.DSN(name)
}

// Close ends it, and takes its folder away.
func (s *Server) Close() error {
	return errors.Join(s.Stop(syscall.SIGINT), os.RemoveAll(s.dir))
}
