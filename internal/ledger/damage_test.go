package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/durable"
	"sekisho/internal/gate/api"
)

// tenEntries is a state whose audit has ten, and the heads after each.
func tenEntries(t *testing.T, l *Ledger) (heads []Head) {
	for i := range 10 {
		tx{t, l}.does(nil, func(t *Tx) error {
			e, err := t.Append(api.Entry{At: t0.Add(time.Duration(i) * time.Minute), Who: []string{"mika", "rin"}[i%2], What: []string{"open", "close", "person.disable"}[i%3],
				Person: "mika", Target: []string{"web", "db"}[i/5], Why: fmt.Sprint("why-", i), OK: true})
			heads = append(heads, Head{e.Seq, e.Hash})
			return err
		})
	}
	return heads
}

func TestAudit(t *testing.T) {
	tests := []struct {
		name   string
		filter Filter
		want   []int64
	}{
		{"all, newest first", Filter{}, []int64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		{"a person, who did it or whom it is about", Filter{Person: "rin"}, []int64{10, 8, 6, 4, 2}},
		{"a target", Filter{Target: "db"}, []int64{10, 9, 8, 7, 6}},
		{"an action", Filter{What: "close"}, []int64{8, 5, 2}},
		{"actions that begin alike", Filter{What: "person.*"}, []int64{9, 6, 3}},
		{"a pattern of SQL's is none", Filter{What: "perso%"}, nil},
		{"nor a quote", Filter{Person: "' OR 1=1 --", Target: hostile}, nil},
		{"from then", Filter{From: t0.Add(8 * time.Minute)}, []int64{10, 9}},
		{"to then, not included", Filter{To: t0.Add(2 * time.Minute)}, []int64{2, 1}},
		{"a page", Filter{Before: 6, Limit: 2}, []int64{5, 4}},
		{"a page of a person's", Filter{Person: "rin", Before: 10, Limit: 2}, []int64{8, 6}},
		{"all of it", Filter{Person: "rin", Target: "web", What: "close", From: t0, To: t0.Add(time.Hour), Before: 9, Limit: 5}, []int64{2}},
	}
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		heads := tenEntries(t, l)
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				var got []int64
				for _, e := range reads(tx{t, l}, func(t *Tx) ([]api.Entry, error) { return t.Audit(tt.filter) }) {
					got = append(got, e.Seq)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
			})
		}
		x := tx{t, l}
		prev := none
		n := 0
		reads(x, func(r *Tx) (bool, error) {
			return true, r.AuditAll(func(e api.Entry) error {
				b, err := sealed(e)
				want := hashOf(e.Prev, b)
				if err != nil || e.Hash != want || e.Prev != prev || e.Hash != heads[n].Hash {
					t.Errorf("%+v: hash %s: %v", e, want, err)
				}
				prev = e.Hash
				n++
				return nil
			})
		})
		if n != 10 {
			t.Errorf("%d entries", n)
		}
		stop := errors.New("enough")
		if err := l.Read(t.Context(), func(t *Tx) error { return t.AuditAll(func(api.Entry) error { return stop }) }); !errors.Is(err, stop) {
			t.Error(err)
		}
		if got := reads(x, func(t *Tx) ([]api.Entry, error) { return t.AuditAfter(7, 2) }); len(got) != 2 || got[0].Seq != 8 {
			t.Errorf("%+v", got)
		}
		sees(x, heads[9], (*Tx).Head)
		x.does(nil, func(t *Tx) error {
			if h, err := t.Head(); err != nil || h != heads[9] {
				return fmt.Errorf("%+v: %w", h, err)
			}
			return nil
		})
	})
}

// TestAuditPlan: the newest of somebody's entries are found without a look at all of them:
// the doors of whoever was at it most would be the slowest.
func TestAuditPlan(t *testing.T) {
	l, _ := openAt(t, filepath.Join(t.TempDir(), "gate.db"), t0)
	query, args := Filter{Person: "rin", Limit: 200}.query()
	var plan []string
	err := l.Read(t.Context(), func(t *Tx) error {
		return t.each("explain", func(rows *sql.Rows) error {
			var id, parent, unused int64
			var step string
			err := rows.Scan(&id, &parent, &unused, &step)
			plan = append(plan, step)
			return err
		}, "EXPLAIN QUERY PLAN "+query, args...)
	})
	text := strings.Join(plan, "\n")
	if err != nil || !strings.Contains(text, "COVERING INDEX audit_person (person=?") || !strings.Contains(text, "COVERING INDEX audit_who (who=?") || strings.Contains(text, "ORDER BY") || strings.Contains(text, "MULTI-INDEX") {
		t.Errorf("%v\n%s", err, text)
	}
}

// What an entry's hash is over is part of what we say to others: it does not change.
func TestHash(t *testing.T) {
	e := api.Entry{Seq: 1, At: t0, Who: "mika", Via: api.ViaKey, What: "open", Target: "web", Why: "<b>", OK: true, Prev: none}
	b, err := sealed(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"seq":1,"at":"2026-11-29T12:00:00.123456Z","who":"mika","via":"key","what":"open","target":"web","why":"\u003cb\u003e","ok":true,"prev":"` + none + `"}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Error(diff)
	}
	e.Hash = "anything"
	if b, err = sealed(e); err != nil {
		t.Fatal(err)
	}
	if got, want := hashOf(e.Prev, b), "cda16347207160565ef486e49e109d89bdacd408c4cd2af03b1cb0cd868fc9c5"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Whatever is changed behind our back is found, with the first entry that does not fit.
func TestVerify(t *testing.T) {
	set := func(statements ...string) []string { return statements }
	tests := []struct {
		name   string
		damage []string
		known  []int // heads that are known elsewhere
		broken int64 // 0: nothing is found
		what   string
	}{
		{name: "sound", known: []int{1, 5, 10}},
		{name: "a changed entry", damage: set(`UPDATE audit SET entry = replace(entry, 'why-3', 'why-4') WHERE seq = 4`), broken: 4, what: "changed"},
		{name: "a space", damage: set(`UPDATE audit SET entry = entry || ' ' WHERE seq = 4`), broken: 4, what: "changed"},
		{name: "nonsense", damage: set(`UPDATE audit SET entry = '{' WHERE seq = 10`), broken: 10, what: "read"},
		{name: "a changed hash", damage: set(`UPDATE audit SET hash = '` + none + `' WHERE seq = 1`), broken: 1, what: "changed"},
		{name: "what it is looked for by: who", damage: set(`UPDATE audit SET who = 'rin' WHERE seq = 5`), broken: 5, what: "looked for"},
		{name: "what it is looked for by: at", damage: set(`UPDATE audit SET at = at + 1 WHERE seq = 5`), broken: 5, what: "looked for"},
		{name: "what it is looked for by: target", damage: set(`UPDATE audit SET target = '' WHERE seq = 5`), broken: 5, what: "looked for"},
		{name: "a deleted entry", damage: set(`DELETE FROM audit WHERE seq = 6`), broken: 6, what: "missing"},
		{name: "a deleted beginning", damage: set(`DELETE FROM audit WHERE seq < 3`), broken: 1, what: "missing"},
		{name: "all deleted", damage: set(`DELETE FROM audit`), broken: 1, what: "end is missing"},
		{
			name:   "a deleted entry, those after it moved up",
			damage: set(`DELETE FROM audit WHERE seq = 6`, `UPDATE audit SET seq = seq - 1 WHERE seq = 7`), broken: 6, what: "another's place",
		},
		{
			name:   "a swapped pair",
			damage: set(`UPDATE audit SET seq = -4 WHERE seq = 4`, `UPDATE audit SET seq = 4 WHERE seq = 5`, `UPDATE audit SET seq = 5 WHERE seq = -4`), broken: 4, what: "another's place",
		},
		{name: "one before the first", damage: set(`UPDATE audit SET seq = -1 WHERE seq = 10`), broken: 1, what: "missing"},
		{name: "the end cut off", damage: set(`DELETE FROM audit WHERE seq > 8`), broken: 9, what: "end is missing"},
		{name: "an entry after the head", damage: set(`UPDATE head SET seq = 9`), broken: 10, what: "head"},
		{name: "the head has another hash", damage: set(`UPDATE head SET hash = '` + none + `'`), broken: 10, what: "head"},
		{
			name:   "the end cut off with its head, which nobody knows",
			damage: set(`DELETE FROM audit WHERE seq > 8`, `UPDATE head SET seq = 8, hash = (SELECT hash FROM audit WHERE seq = 8)`),
		},
		{
			name:   "the end cut off with its head, which is known",
			damage: set(`DELETE FROM audit WHERE seq > 8`, `UPDATE head SET seq = 8, hash = (SELECT hash FROM audit WHERE seq = 8)`),
			known:  []int{10}, broken: 9, what: "end is missing",
		},
	}
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		heads := tenEntries(t, l)
		restore := errors.New("put it back")
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				var known []Head
				for _, n := range tt.known {
					known = append(known, heads[n-1])
				}
				var got api.Verdict
				// In a transaction that is not kept: the same ten for each.
				err := l.Write(t.Context(), func(w *Tx) error {
					for _, s := range tt.damage {
						if _, err := w.exec("damage", s); err != nil {
							return err
						}
					}
					view := *w
					view.head = nil // as a reader sees it
					var err error
					if got, err = view.Verify(known...); err != nil {
						return err
					}
					if tt.broken > 0 && tt.what != "end is missing" && !strings.Contains(tt.name, "head") {
						if err := view.AuditAll(func(api.Entry) error { return nil }); (tt.what == "missing") == errors.Is(err, ErrCorrupt) {
							t.Errorf("what is damaged is given to readers: %v", err)
						}
					}
					return restore
				})
				if !errors.Is(err, restore) {
					t.Fatal(err)
				}
				if got.OK != (tt.broken == 0) || got.Broken != tt.broken || !strings.Contains(got.What, tt.what) {
					t.Errorf("got %+v, want broken %d, %q", got, tt.broken, tt.what)
				}
			})
		}

		// All written anew from the fifth on, with hashes that fit: only who knows a head
		// from before can tell.
		x := tx{t, l}
		x.does(nil, func(t *Tx) error {
			prev := heads[3].Hash
			all, err := t.AuditAfter(4, 10)
			if err != nil {
				return err
			}
			for _, e := range all {
				e.Prev, e.Who = prev, "nobody"
				b, err := sealed(e)
				if err != nil {
					return err
				}
				prev = hashOf(e.Prev, b)
				if _, err := t.exec("damage", `UPDATE audit SET who = $1, entry = $2, hash = $3 WHERE seq = $4`, e.Who, string(b), prev, e.Seq); err != nil {
					return err
				}
			}
			t.head.Hash = prev
			return nil
		})
		sees(x, true, func(t *Tx) (bool, error) { v, err := t.Verify(heads[3]); return v.OK, err })
		sees(x, 7, func(t *Tx) (int64, error) { v, err := t.Verify(heads[6], heads[3]); return v.Broken, err })
		sees(x, 5, func(t *Tx) (int64, error) {
			v, err := t.Verify(heads[6], Head{5, none}, heads[4])
			return v.Broken, err
		})
	})
}

// A byte flipped on the disk, in an entry: found, with its Seq.
func TestFlippedByte(t *testing.T) {
	dsn := filepath.Join(t.TempDir(), "gate.db")
	l, _ := openAt(t, dsn, t0)
	tenEntries(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dsn)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		at := bytes.Index(b, fmt.Append(nil, `"why":"why-`, n))
		if at < 0 {
			t.Fatal("the entry is not in the file")
		}
		bad := append([]byte{}, b...)
		bad[at+8] ^= 1 << rand.N(3) // another letter
		dsn := filepath.Join(t.TempDir(), "gate.db")
		if err := os.WriteFile(dsn, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		l, _ := openAt(t, dsn, t0)
		sees(tx{t, l}, int64(n+1), func(t *Tx) (int64, error) { v, err := t.Verify(); return v.Broken, err })
	}
}

// Any byte of the file flipped, any end cut off: never a crash, and an error that says
// what is wrong.
func TestRot(t *testing.T) {
	dsn := filepath.Join(t.TempDir(), "gate.db")
	l, _ := openAt(t, dsn, t0)
	heads := tenEntries(t, l)
	tx{t, l}.does(nil, func(t *Tx) error { _, err := t.PutGrant(grant("a")); return err })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(dsn)
	if err != nil {
		t.Fatal(err)
	}
	rounds := 400
	if testing.Short() {
		rounds = 80
	}
	dir, err := os.MkdirTemp("/dev/shm", "ledger") // where a sync costs nothing
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var refused, failed, found int
	for round := range rounds {
		b := append([]byte{}, sound...)
		i := rand.N(len(b))
		if round%4 == 0 {
			i = rand.N(100)
		}
		if round%10 == 9 {
			b = b[:i]
		} else {
			b[i] ^= 1 << rand.N(8)
		}
		dsn := filepath.Join(dir, fmt.Sprint("gate", round, ".db"))
		if err := os.WriteFile(dsn, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(t.Context(), dsn, Options{})
		if err != nil {
			refused++
			if !ours(err) {
				t.Fatalf("byte %d: %v", i, err)
			}
			continue
		}
		err = l.Read(t.Context(), func(t *Tx) error {
			v, err := t.Verify(heads...)
			if err == nil && !v.OK {
				found++
			}
			_, err2 := t.Live()
			_, err3 := t.Audit(Filter{Person: "mika"})
			return errors.Join(err, err2, err3)
		})
		if err == nil {
			err = l.Write(t.Context(), func(t *Tx) error { _, err := t.Append(api.Entry{Who: "gate", What: "start"}); return err })
		}
		if err != nil {
			failed++
			if !ours(err) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
		l.Close()
		os.Remove(dsn)
	}
	t.Logf("%d times: %d refused, %d failed in use, %d found by the chain", rounds, refused, failed, found)
}

func TestOpenRefuses(t *testing.T) {
	foreign := func(t *testing.T, path string) {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(`PRAGMA journal_mode=WAL; CREATE TABLE mine (x)`); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		make func(t *testing.T, path string)
		want error
		hint string
	}{
		{"garbage", func(t *testing.T, path string) { os.WriteFile(path, bytes.Repeat([]byte("garbage "), 1000), 0o600) }, ErrCorrupt, "restore a backup"},
		{"an empty file", func(t *testing.T, path string) { os.WriteFile(path, nil, 0o600) }, ErrCorrupt, "empty"},
		{"a directory", func(t *testing.T, path string) { os.Mkdir(path, 0o700) }, ErrCorrupt, "directory"},
		{"a link", func(t *testing.T, path string) { os.Symlink("/etc/passwd", path) }, ErrCorrupt, ""},
		{"another's database", foreign, ErrCorrupt, "not a gate's"},
		{"a log that has lost its database", func(t *testing.T, path string) { os.WriteFile(path+"-wal", []byte("x"), 0o600) }, ErrCorrupt, "lost"},
		{"a folder that others may write to", func(t *testing.T, path string) { os.Chmod(filepath.Dir(path), 0o777) }, ErrInsecure, "chmod"},
		{"a link in the lock's place", func(t *testing.T, path string) { os.Symlink("/etc/passwd", path+".lock") }, ErrInsecure, "lock"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "gate", "gate.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			tt.make(t, path)
			_, err := Open(t.Context(), path, Options{})
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.hint) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %v, %q", err, tt.want, tt.hint)
			}
		})
	}
	if _, err := Open(t.Context(), "", Options{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no name: %v", err)
	}
}

// The file is its owner's alone, and so is its folder.
func TestFileModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate", "gate.db")
	l := open(t, path, Options{})
	tenEntries(t, l)
	for name, want := range map[string]os.FileMode{"": 0o700 | os.ModeDir, "gate.db": 0o600, "gate.db-wal": 0o600, "gate.db-shm": 0o600, "gate.db.lock": 0o600} {
		info, err := os.Stat(filepath.Join(filepath.Dir(path), name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if _, err := os.Stat(path + durable.Fresh); err == nil {
		t.Error("the file it was made from is there still")
	}
}

// A file that was taken away under us is not written to as if it were there.
func TestRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	l := open(t, path, Options{})
	tenEntries(t, l)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	x := tx{t, l}
	x.does(ErrBusy, func(*Tx) error { return nil })
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	x.does(ErrBusy, func(*Tx) error { return nil })
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	x.does(nil, func(*Tx) error { return nil })
}

func TestNewer(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l := open(t, dsn, Options{})
		tx{t, l}.does(nil, func(t *Tx) error {
			_, err := t.exec("upgrade", `INSERT INTO migrations (version, at) VALUES (2, 1)`)
			return err
		})
		l.Close()
		if _, err := Open(t.Context(), dsn, Options{}); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("got %v", err)
		}
	})
}

// A schema with gaps is none of ours.
func TestGaps(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l := open(t, dsn, Options{})
		tx{t, l}.does(nil, func(t *Tx) error { _, err := t.exec("damage", `UPDATE migrations SET version = 7`); return err })
		l.Close()
		if _, err := Open(t.Context(), dsn, Options{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v", err)
		}
	})
}

// A full disk: what does not fit is not written, none of it; what was is there; and it
// goes on when there is room.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("LEFT OUT: mounting a small disk needs root")
	}
	cmd := self(t, "full", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func init() { parts["full"] = fillDisk }

func fillDisk(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m,mode=0700"); err != nil {
		return err
	}
	ctx := context.Background()
	path, ballast := filepath.Join(dir, "gate.db"), filepath.Join(dir, "ballast")
	l, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	n := 0
	write := func() error {
		g := grant(fmt.Sprint("g", n))
		g.Person = g.ID
		err := l.Write(ctx, func(t *Tx) error {
			if _, err := t.PutGrant(g); err != nil {
				return err
			}
			_, err := t.Append(api.Entry{Who: g.ID, What: "open", Grant: g.ID, Why: strings.Repeat("x", 900)})
			return err
		})
		if err == nil {
			n++
		}
		return err
	}
	whole := func() error {
		return l.Read(ctx, func(t *Tx) error {
			all, err := t.Live()
			if err != nil {
				return err
			}
			v, err := t.Verify()
			if err == nil && (len(all) != n || v.Entries != int64(n) || !v.OK) {
				err = fmt.Errorf("%d were written, %d grants are there: %+v", n, len(all), v)
			}
			return err
		})
	}
	for round := range 3 {
		if err := os.WriteFile(ballast, make([]byte, 1<<20>>round), 0o600); err != nil {
			return err
		}
		before := n
		for err = nil; err == nil; {
			err = write()
		}
		if !errors.Is(err, ErrBusy) || errors.Is(err, ErrCorrupt) || n == before {
			return fmt.Errorf("round %d: %d written: %w", round, n, err)
		}
		if err := write(); err != nil && !errors.Is(err, ErrBusy) {
			return fmt.Errorf("round %d: once more: %w", round, err)
		}
		if err := whole(); err != nil {
			return fmt.Errorf("round %d: on a full disk: %w", round, err)
		}
		if err := os.Remove(ballast); err != nil {
			return err
		}
		if err := write(); err != nil {
			return fmt.Errorf("round %d: with room again: %w", round, err)
		}
		if err := whole(); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return l.Close()
}

// Whatever stands in a row of the audit, by somebody who can reckon hashes too: it is an
// entry that fits its place, or what is wrong is told.
func FuzzEntry(f *testing.F) {
	b, err := sealed(api.Entry{Seq: 1, At: t0, Who: "mika", What: "open", Prev: none})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, none)
	f.Add(bytes.Replace(b, []byte(none), []byte("x"), 1), "x")
	f.Add([]byte(`{"seq":1,"prev":"x"}`), "x")
	f.Add([]byte(`[`), none)
	f.Fuzz(func(t *testing.T, entry []byte, prev string) {
		r := auditRow{seq: 1, at: micros(t0), who: "mika", what: "open", hash: hashOf(prev, entry), entry: entry}
		e, wrong := r.open()
		if wrong == "" && (e.Seq != 1 || e.Who != "mika" || e.What != "open" || e.Prev+string(entry) != prev+string(entry) || e.Hash != r.hash || !json.Valid(entry)) {
			t.Errorf("believed: %+v", e)
		}
		c := NewChain()
		c.add(r.seq, e, wrong)
		if v := c.Verdict(); v.OK != (wrong == "" && e.Prev == none) || v.OK != (v.Entries == 1) {
			t.Errorf("%+v of %+v, %q", v, e, wrong)
		}
	})
}

// What was exported is checked without the state it came from.
func TestChain(t *testing.T) {
	l, _ := openAt(t, filepath.Join(t.TempDir(), "gate.db"), t0)
	heads := tenEntries(t, l)
	var lines [][]byte
	for _, e := range reads(tx{t, l}, func(t *Tx) ([]api.Entry, error) { return t.AuditAfter(0, 100) }) {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, b)
	}
	tests := []struct {
		name   string
		change func([][]byte) [][]byte
		known  []Head
		broken int64
	}{
		{name: "sound", known: heads},
		{name: "cut off, unknown", change: func(b [][]byte) [][]byte { return b[:7] }},
		{name: "cut off, known", change: func(b [][]byte) [][]byte { return b[:7] }, known: heads[8:], broken: 8},
		{name: "nothing", change: func(b [][]byte) [][]byte { return nil }},
		{name: "nothing, where there was something", change: func(b [][]byte) [][]byte { return nil }, known: heads[:1], broken: 1},
		{name: "without its beginning", change: func(b [][]byte) [][]byte { return b[3:] }, broken: 1},
		{name: "one left out", change: func(b [][]byte) [][]byte { return append(b[:3], b[4:]...) }, broken: 4},
		{name: "two swapped", change: func(b [][]byte) [][]byte { b[3], b[4] = b[4], b[3]; return b }, broken: 4},
		{name: "one twice", change: func(b [][]byte) [][]byte { b[4] = b[3]; return b }, broken: 5},
		{name: "one changed", change: func(b [][]byte) [][]byte { b[6] = bytes.Replace(b[6], []byte("why-6"), []byte("why-7"), 1); return b }, broken: 7},
		{name: "a number changed", change: func(b [][]byte) [][]byte {
			b[6] = bytes.Replace(b[6], []byte(`"seq":7`), []byte(`"seq":9`), 1)
			return b
		}, broken: 7},
		{name: "a field more", change: func(b [][]byte) [][]byte { b[6] = bytes.Replace(b[6], []byte("{"), []byte(`{"x":1,`), 1); return b }, broken: 7},
		{name: "a field twice", change: func(b [][]byte) [][]byte {
			b[6] = bytes.Replace(b[6], []byte(`{`), []byte(`{"what":"close",`), 1)
			return b
		}, broken: 7},
		{name: "a capital", change: func(b [][]byte) [][]byte { b[6] = bytes.Replace(b[6], []byte(`"why"`), []byte(`"Why"`), 1); return b }, broken: 7},
		{name: "no JSON", change: func(b [][]byte) [][]byte { b[6] = b[6][1:]; return b }, broken: 7},
		{name: "written anew, known", change: func(b [][]byte) [][]byte {
			prev := none
			for i := range b {
				var e api.Entry
				if err := json.Unmarshal(b[i], &e); err != nil {
					panic(err)
				}
				e.Prev, e.Who = prev, "nobody"
				s, err := sealed(e)
				if err != nil {
					panic(err)
				}
				e.Hash = hashOf(prev, s)
				if b[i], err = json.Marshal(e); err != nil {
					panic(err)
				}
				prev = e.Hash
			}
			return b
		}, known: heads[4:5], broken: 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all := append([][]byte{}, lines...)
			if tt.change != nil {
				all = tt.change(all)
			}
			c := NewChain(tt.known...)
			for _, line := range all {
				c.Add(line)
			}
			if v := c.Verdict(); v.Broken != tt.broken || v.OK != (tt.broken == 0) || v.OK && v.Entries != int64(len(all)) {
				t.Errorf("got %+v, want broken %d", v, tt.broken)
			}
		})
	}
}

// A commit is on the disk when it returns; what reads cannot write.
func TestPragmas(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "gate.db"), Options{})
	x := tx{t, l}
	x.does(nil, func(t *Tx) error {
		for name, want := range map[string]int64{"synchronous": 2, "query_only": 0} {
			if got, err := one(t, name, scanInt, `PRAGMA `+name); err != nil || got != want {
				return fmt.Errorf("%s is %d: %w", name, got, err)
			}
		}
		return nil
	})
	sees(x, 1, func(t *Tx) (int64, error) { return one(t, "look", scanInt, `PRAGMA query_only`) })
}
