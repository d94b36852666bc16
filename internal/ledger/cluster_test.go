package ledger

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"sekisho/internal/ledger/postgrestest"
)

var theServer struct {
	sync.Once
	*postgrestest.Server
	err error
}

// server starts the PostgreSQL of this run of the tests when it is first asked for.
func server(t testing.TB) *postgrestest.Server {
	t.Helper()
	theServer.Do(func() { theServer.Server, theServer.err = postgrestest.New() })
	if errors.Is(theServer.err, exec.ErrNotFound) {
		t.Skipf("LEFT OUT: %v: make deps installs it", theServer.err)
	}
	if theServer.err != nil {
		t.Fatal(theServer.err)
	}
	return theServer.Server
}

func stopServer() error {
	if s := theServer.Server; s != nil {
		return s.Close()
	}
	return nil
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
	t.Run("postgres", func(t *testing.T) { test(t, server(t).Database(t)) })
}
