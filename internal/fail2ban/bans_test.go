package fail2ban

import (
	"database/sql"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// now is a time in the tests' past.
var now = time.Unix(1_700_000_000, 0).UTC()

// bansTable is fail2ban's table of the bans in force, by its columns.
const bansTable = `CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL,
	bancount INTEGER NOT NULL DEFAULT 1, data JSON, PRIMARY KEY(ip, jail))`

func database(t *testing.T, statements ...string) string {
	t.Helper()
	plain := filepath.Join(t.TempDir(), "plain")
	db, err := sql.Open("sqlite", plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	path := filepath.Join(filepath.Dir(plain), "f?a=%23#.sqlite3") // it must be escaped in a URL
	if err := errors.Join(db.Close(), os.Rename(plain, path)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBans(t *testing.T) {
	path := database(t, bansTable, `INSERT INTO bips(ip, jail, timeofban, bantime, bancount) VALUES
		('203.0.113.7', 'sshd', 1699999000, 3600, 2),
		('203.0.113.7', 'recidive', 1699999000, 604800, 1),
		('203.0.113.7', 'nginx', 1699999000, -1, 1),
		('203.0.113.8', 'sshd', 1699990000, 3600, 1),
		('203.0.113.9', 'sshd', 1600000000, -1, 7),
		('203.0.113.10', 'sshd', 1699999000, -2, 1),
		('2001:db8::1', 'sshd', 1699999999, 60, 1),
		('198.51.100.0/24', 'sshd', 1699999999, 60, 1),
		('some-user', 'sshd', 1699999999, 60, 1),
		('203.0.113.11', 'sshd', 9223372036854775807, 1, 1),
		('203.0.113.12', 'sshd', 'x', 'y', 'z'),
		(x'ff00', 'sshd', 1699999999, 60, 1)`)
	got, skipped, err := Bans(t.Context(), path, []string{"sshd", "recidive"}, now)
	if err != nil {
		t.Fatal(err)
	}
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	until := func(seconds int64) *time.Time { u := at(seconds); return &u }
	want := []Ban{
		{netip.MustParsePrefix("198.51.100.0/24"), "sshd", at(1699999999), until(1700000059), 1},
		{netip.MustParsePrefix("203.0.113.7/32"), "recidive", at(1699999000), until(1700603800), 1},
		{netip.MustParsePrefix("203.0.113.9/32"), "sshd", at(1600000000), nil, 7},
		{netip.MustParsePrefix("2001:db8::1/128"), "sshd", at(1699999999), until(1700000059), 1},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if skipped != 4 {
		t.Errorf("%d are left out, want 4", skipped)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("reading left something behind: %v, %v", entries, err)
	}
}

func TestBansOfNone(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, want string }{
		{"none", "/nowhere/f.sqlite3", "there is no database of fail2ban's"},
		{"a folder", t.TempDir(), "it is no ordinary file"},
		{"no database", text, "it could not be read"},
		{"an old one", database(t, `CREATE TABLE bans(ip TEXT)`), "fail2ban keeps one since 0.11"},
		{"another's", database(t, `CREATE TABLE bips(a TEXT)`), "it could not be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bans, _, err := Bans(t.Context(), tt.path, []string{"sshd"}, now)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(e.Message, tt.want) || e.Hint == "" {
				t.Errorf("got %v, %v, want an error with a hint: %s", bans, err, tt.want)
			}
		})
	}
}

// TestBansSame: what fail2ban's own code writes is read, while it holds the database.
func TestBansSame(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.CommandContext(t.Context(), python, "-c", "import fail2ban.server.database").Run(); err != nil {
		t.Skip("LEFT OUT: fail2ban is not installed, to write a database")
	}
	path := filepath.Join(t.TempDir(), "fail2ban.sqlite3")
	cmd := exec.CommandContext(t.Context(), python, "testdata/ban.py", path, "203.0.113.7", "2001:db8::7")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil { // they are banned
		t.Fatal(err)
	}
	got, skipped, err := Bans(t.Context(), path, []string{"sshd"}, time.Now())
	in.Close()
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || skipped != 0 || got[0].Prefix.String() != "203.0.113.7/32" || got[1].Prefix.String() != "2001:db8::7/128" {
		t.Fatalf("got %v, %d left out", got, skipped)
	}
	for _, b := range got {
		if b.Until == nil || b.Until.Sub(b.From) != time.Hour || b.Count != 3 {
			t.Errorf("got %+v", b)
		}
	}
}
