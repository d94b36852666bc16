package statefile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sekisho/internal/durable"
)

// head is the beginning of a database with a write-ahead log.
const head = "SQLite format 3\x00\x10\x00\x02\x02"

func TestInspect(t *testing.T) {
	write := func(tail, content string) func(string) error {
		return func(path string) error { return os.WriteFile(path+tail, []byte(content), 0o644) }
	}
	tests := []struct {
		name  string
		make  func(path string) error
		found bool
		err   error
		says  string
	}{
		{"nothing", func(string) error { return nil }, false, nil, ""},
		{"a database", write("", head), true, nil, ""},
		{"empty", write("", ""), false, ErrDamaged, "empty"},
		{"too short", write("", head[:19]), false, ErrDamaged, "write-ahead"},
		{"another journal", write("", "SQLite format 3\x00\x10\x00\x01\x01"), false, ErrDamaged, "write-ahead"},
		{"another format", write("", "SQLite format 4\x00\x10\x00\x02\x02"), false, ErrDamaged, "write-ahead"},
		{"a log alone", write("-wal", "x"), false, ErrDamaged, "lost its database"},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, false, ErrDamaged, "directory"},
		{"a link", func(path string) error { return os.Symlink("/etc/passwd", path) }, false, ErrDamaged, "symbolic"},
		{"a device", func(path string) error { return os.Symlink("/dev/null", path) }, false, ErrDamaged, "symbolic"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			found, err := Inspect(path)
			if found != tt.found || !errors.Is(err, tt.err) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, %v", found, err)
			}
			if tt.found {
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("others may read it: %v, %v", info.Mode(), err)
				}
			}
		})
	}
}

func TestPrepareDir(t *testing.T) {
	tests := []struct {
		name string
		make func(dir string) error
		err  error
	}{
		{"not there", func(string) error { return nil }, nil},
		{"ours", func(dir string) error { return os.Mkdir(dir, 0o755) }, nil},
		{"others may write", func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)) }, ErrInsecure},
		{"a link", func(dir string) error { return os.Symlink(filepath.Dir(dir), dir) }, ErrInsecure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			if err := tt.make(dir); err != nil {
				t.Fatal(err)
			}
			if err := PrepareDir(dir); !errors.Is(err, tt.err) {
				t.Errorf("got %v, want %v", err, tt.err)
			}
			if info, err := os.Stat(dir); tt.name == "not there" && (err != nil || info.Mode().Perm() != 0o700) {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
	if os.Geteuid() != 0 {
		t.Skip("LEFT OUT: a folder of another user's needs root")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := PrepareDir(dir); !errors.Is(err, ErrInsecure) || !strings.Contains(err.Error(), "chown") {
		t.Errorf("another user's: %v", err)
	}
}

// What was left half made is made anew; what cannot be made leaves nothing at the path.
func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	for _, tail := range Tails {
		if err := os.WriteFile(path+durable.Fresh+tail, []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	full := errors.New("no room")
	if err := Create(path, func(string) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if found, err := Inspect(path); found || err != nil {
		t.Errorf("after it failed: %v, %v", found, err)
	}
	err := Create(path, func(fresh string) error {
		if b, err := os.ReadFile(fresh); err != nil || len(b) > 0 {
			t.Errorf("it is not empty: %q, %v", b, err)
		}
		return os.WriteFile(fresh, []byte(head), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := Inspect(path); !found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}
