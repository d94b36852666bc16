package store

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
	"sekisho/internal/statefile"
)

// memDir is a directory where a fsync costs nothing, if there is one.
func memDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "store")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// rot is a small state file's bytes, and what was in it.
func rot(t *testing.T) ([]byte, Effects) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, _ := open(t, path, Options{})
	var e Effects
	for n := range 12 {
		some := numbered(n)
		some.Bans = append(some.Bans, ban(netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(n)}), 64).String(), t0, 0))
		e.Positions = some.Positions
		e.Bans = append(e.Bans, some.Bans...)
		e.Unbans = append(e.Unbans, some.Unbans...)
		e.Grants = append(e.Grants, some.Grants...)
		e.Revokes = append(e.Revokes, some.Revokes...)
		e.Logins = append(e.Logins, some.Logins...)
		e.Onsets = append(e.Onsets, some.Onsets...)
		commit(t, s, some)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, e
}

// believe opens a damaged file and fails where anything is believed that was
// never written, or where the store is not usable afterwards.
func believe(t *testing.T, path string, wrote Effects) (lost int, report Report) {
	t.Helper()
	ctx := t.Context()
	s, report, err := Open(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fail := errors.New("believed what was never written")
	bans := map[netip.Prefix]lease.Lease{}
	for _, l := range wrote.Bans {
		bans[l.Prefix] = l
	}
	logins := map[netip.Addr]sshlog.Login{}
	for _, l := range wrote.Logins {
		logins[l.Addr] = l
	}
	unbans := map[Unban]bool{}
	for _, u := range wrote.Unbans {
		unbans[Unban{Prefix: u.Prefix.Masked(), At: u.At, By: u.By}] = true
	}
	grants := map[netip.Prefix]lease.Lease{}
	for _, l := range wrote.Grants {
		grants[l.Prefix] = l
	}
	revokes := map[Revoke]bool{}
	for _, r := range wrote.Revokes {
		revokes[Revoke{Prefix: r.Prefix.Masked(), At: r.At, By: r.By}] = true
	}
	onsets := map[Onset]bool{}
	for _, o := range wrote.Onsets {
		onsets[o] = true
	}
	n := 0
	errs := errors.Join(
		s.Onsets(ctx, time.Time{}, func(o Onset) error {
			if !onsets[o] {
				return fail
			}
			return nil
		}),
		s.Rules(ctx, "", func(RuleCount) error { return nil }),
		s.LiveGrants(ctx, t0.AddDate(1, 0, 0), func(l lease.Lease) error {
			if !cmp.Equal(l, grants[l.Prefix], byValue) {
				return fail
			}
			return nil
		}),
		s.Revokes(ctx, time.Time{}, func(r Revoke) error {
			if !revokes[r] {
				return fail
			}
			return nil
		}),
		s.LiveBans(ctx, t0.AddDate(1, 0, 0), func(l lease.Lease) error {
			n++
			if !cmp.Equal(l, bans[l.Prefix], byValue) {
				return fail
			}
			return nil
		}),
		s.Logins(ctx, time.Time{}, func(l sshlog.Login) error {
			if l != logins[l.Addr] {
				return fail
			}
			return nil
		}),
		s.Unbans(ctx, time.Time{}, func(u Unban) error {
			if !unbans[u] {
				return fail
			}
			return nil
		}),
		s.Counts(ctx, "", func(Count) error { return nil }))
	positions, err := s.Positions(ctx)
	if len(positions) > 0 && !cmp.Equal(positions, wrote.Positions) {
		err = fail
	}
	if errs = errors.Join(errs, err); errs != nil && (errors.Is(errs, fail) || !errors.Is(errs, ErrCorrupt)) {
		t.Fatal(errs)
	}
	if err := s.Commit(ctx, numbered(100)); err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if report, err = s.Reopen(ctx); err != nil {
			t.Fatal(err)
		}
		commit(t, s, numbered(100))
	}
	return len(wrote.Bans) - n, report
}

// Any byte flipped: never a crash, never a wrong address, always a store that
// works afterwards.
func TestFlippedBits(t *testing.T) {
	sound, wrote := rot(t)
	path := filepath.Join(memDir(t), "state.db")
	var flips, aside, lost int
	for i := range sound {
		used := i < 100 || sound[i] != 0
		switch {
		case !used && rand.N(100) > 0, used && rand.N(20) > 0 && i >= 100, testing.Short() && rand.N(8) > 0:
			continue
		}
		b := append([]byte{}, sound...)
		b[i] ^= 1 << rand.N(8)
		for _, tail := range statefile.Tails {
			os.Remove(path + tail)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		n, report := believe(t, path, wrote)
		if t.Failed() {
			t.Fatalf("byte %d: %#x became %#x", i, sound[i], b[i])
		}
		flips++
		lost += n
		if report.SetAside != "" {
			aside++
		}
	}
	t.Logf("%d flips, %d set aside, %d of %d bans lost on average", flips, aside, lost/max(flips, 1), len(wrote.Bans))
}

func TestTruncated(t *testing.T) {
	sound, wrote := rot(t)
	path := filepath.Join(memDir(t), "state.db")
	for size := 0; size < len(sound); size += 1 + rand.N(1500) {
		if err := os.WriteFile(path, sound[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, report := believe(t, path, wrote); report.SetAside == "" && size < len(sound)-4096 {
			t.Errorf("cut to %d of %d bytes and not noticed", size, len(sound))
		}
		os.Remove(path)
	}
}

// A rotten write-ahead log: the state goes back to a whole earlier commit.
func TestFlippedLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, _ := open(t, path, Options{})
	const n = 10
	for i := range n {
		commit(t, s, numbered(i+1))
	}
	db, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		i := rand.N(len(wal))
		b := append([]byte{}, wal...)
		b[i] ^= 1 << rand.N(8)
		path := filepath.Join(t.TempDir(), "state.db")
		if err := errors.Join(os.WriteFile(path, db, 0o600), os.WriteFile(path+"-wal", b, 0o600)); err != nil {
			t.Fatal(err)
		}
		s, report := open(t, path, Options{})
		if got, err := reached(t.Context(), s); err != nil || got > n || report.SetAside != "" {
			t.Fatalf("byte %d: reached %d, %v, %+v", i, got, err, report)
		}
	}
}

// Damage that shows itself only in use: the file is set aside, and the live bans
// and all that waited are in the new one.
func TestRecorderBeginsAnew(t *testing.T) {
	var logged logCount
	s, _ := open(t, filepath.Join(t.TempDir(), "state.db"), Options{})
	bans := []lease.Lease{ban("192.0.2.1/32", t0, 0), ban("192.0.2.2/32", t0, 0)}
	granted := grant("192.0.2.9/32", t0, 0)
	r := NewRecorder(s, RecorderOptions{Every: time.Millisecond, Logger: slog.New(&logged), Live: func(yield func(lease.Lease) bool) {
		_ = yield(bans[0]) && yield(granted) && yield(bans[1])
	}})
	stop := run(t, r)
	for i := range 2000 {
		r.Add(numbered(i + 1))
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	_, err := s.db.Exec(`PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory`)
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := f.Stat()
	for off := int64(4096); off < info.Size(); off += 4096 {
		if _, err := f.WriteAt([]byte("garbage garbage garbage"), off); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()

	r.Add(Effects{Bans: []lease.Lease{ban("192.0.2.3/32", t0, 0)}, Positions: map[string][]byte{"log": []byte("2001")}})
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if aside, _ := filepath.Glob(s.path + ".corrupt-*"); len(aside) == 0 {
		t.Error("nothing was set aside")
	}
	want := append(bans, ban("192.0.2.3/32", t0, 0))
	if diff := cmp.Diff(want, live(t, s, t0), byValue); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]lease.Lease{granted}, liveGrants(t, s, t0), byValue); diff != "" {
		t.Error(diff)
	}
	positions, err := s.Positions(t.Context())
	if err != nil || string(positions["log"]) != "2001" {
		t.Errorf("%q, %v", positions, err)
	}
}

// run runs r until the test ends or stop is called.
func run(t testing.TB, r *Recorder) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = func() error {
		cancel()
		err := <-done
		done <- err
		return err
	}
	t.Cleanup(func() { stop() })
	return stop
}
