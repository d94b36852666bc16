package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"sekisho/internal/lease"
)

func TestOpenReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, _ := open(t, path, Options{})
	commit(t, s, numbered(1))
	if _, err := OpenReadOnly(t.Context(), path, Options{}); !errors.Is(err, ErrDegraded) {
		t.Errorf("while another holds it: %v", err)
	}
	s.Close()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v, err := OpenReadOnly(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := reached(t.Context(), v); n != 1 || err != nil {
		t.Errorf("reached %d, %v", n, err)
	}
	if err := v.Commit(t.Context(), Effects{Bans: []lease.Lease{ban("192.0.2.1/32", t0, 0)}}); err == nil {
		t.Error("written")
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(before) != string(after) {
		t.Errorf("the file has changed: %v", err)
	}
}

// A killed daemon's log is read with the rest.
func TestOpenReadOnlyAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, _ := open(t, path, Options{})
	commit(t, s, numbered(1))
	copied := filepath.Join(t.TempDir(), "state.db")
	for _, tail := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + tail)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied+tail, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v, err := OpenReadOnly(t.Context(), copied, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if n, err := reached(t.Context(), v); n != 1 || err != nil {
		t.Errorf("reached %d, %v", n, err)
	}
}

func TestOpenReadOnlyRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newer := filepath.Join(dir, "newer.db")
	s, _ := open(t, newer, Options{})
	if _, err := s.db.ExecContext(t.Context(), `INSERT INTO migrations VALUES (99, 0)`); err != nil {
		t.Fatal(err)
	}
	s.Close()
	dropped := filepath.Join(dir, "dropped.db")
	s, _ = open(t, dropped, Options{})
	if _, err := s.db.ExecContext(t.Context(), `DROP TABLE rule_days`); err != nil {
		t.Fatal(err)
	}
	s.Close()
	link := filepath.Join(dir, "link.db")
	fifo := filepath.Join(dir, "fifo.db")
	if err := errors.Join(os.Symlink(newer, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path string
		want       error
	}{
		{"nothing there", filepath.Join(dir, "none.db"), fs.ErrNotExist},
		{"no folder", filepath.Join(dir, "none", "state.db"), fs.ErrNotExist},
		{"empty", file("empty.db", ""), ErrCorrupt},
		{"text", file("text.db", "Subject: hello\n"), ErrCorrupt},
		{"newer", newer, ErrNewer},
		{"a table is gone", dropped, ErrDegraded},
		{"a link", link, syscall.ELOOP},
		{"a pipe", fifo, ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := OpenReadOnly(t.Context(), tc.path, Options{})
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if s != nil {
				t.Error("opened")
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "none.db")); err == nil {
		t.Error("a file was made")
	}
}
