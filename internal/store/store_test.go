package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
	"sekisho/internal/statefile"
)

var (
	t0      = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)
	byValue = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
)

func open(t testing.TB, path string, o Options) (*Store, Report) {
	t.Helper()
	s, report, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, report
}

func fresh(t testing.TB) *Store {
	s, _ := open(t, filepath.Join(t.TempDir(), "state.db"), Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	return s
}

func commit(t testing.TB, s *Store, e Effects) {
	t.Helper()
	if err := s.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// all collects what one of the Store's readers yields.
func all[T any](t testing.TB, read func(func(T) error) error) []T {
	t.Helper()
	var got []T
	if err := read(func(v T) error { got = append(got, v); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func live(t testing.TB, s *Store, now time.Time) []lease.Lease {
	t.Helper()
	return all(t, func(yield func(lease.Lease) error) error { return s.LiveBans(t.Context(), now, yield) })
}

func liveGrants(t testing.TB, s *Store, now time.Time) []lease.Lease {
	t.Helper()
	return all(t, func(yield func(lease.Lease) error) error { return s.LiveGrants(t.Context(), now, yield) })
}

func counts(t testing.TB, s *Store, since string) []Count {
	t.Helper()
	return all(t, func(yield func(Count) error) error { return s.Counts(t.Context(), since, yield) })
}

func rules(t testing.TB, s *Store, since string) []RuleCount {
	t.Helper()
	return all(t, func(yield func(RuleCount) error) error { return s.Rules(t.Context(), since, yield) })
}

func ban(prefix string, from time.Time, d time.Duration) lease.Lease {
	l := lease.Lease{
		Prefix: netip.MustParsePrefix(prefix), Verdict: lease.Deny, Cause: "attempts", Reason: "5 attempts in 10m", Holder: "guard",
		From: from, Attempts: 5, Count: 1,
	}
	if d != 0 {
		l.Until = from.Add(d)
	}
	return l
}

// grant is ban with the other verdict.
func grant(prefix string, from time.Time, d time.Duration) lease.Lease {
	l := ban(prefix, from, d)
	l.Verdict, l.Cause, l.Reason, l.Holder, l.Attempts, l.Count = lease.Allow, "manual", "at home today", "hanako", 0, 0
	return l
}

func TestCommitAndReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "state.db")
	s, report := open(t, path, Options{})
	if diff := cmp.Diff(Report{Created: true}, report); diff != "" {
		t.Fatal(diff)
	}
	e := Effects{
		Positions: map[string][]byte{"journald": []byte(`{"cursor":"s=1"}`), "file:/var/log/auth.log": []byte(`{"offset":7}`)},
		Bans: []lease.Lease{
			ban("192.0.2.1/32", t0, time.Hour),
			ban("192.0.2.0/24", t0, 0),
			ban("2001:db8:0:1::/64", t0.Add(time.Second), time.Minute),
		},
		Unbans:  []Unban{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), At: t0, By: "root"}},
		Grants:  []lease.Lease{grant("2001:db8::/64", t0, 0), grant("192.0.2.1/32", t0, time.Hour)},
		Revokes: []Revoke{{Prefix: netip.MustParsePrefix("198.51.100.1/32"), At: t0, By: "root"}},
		Logins:  []sshlog.Login{{Addr: netip.MustParseAddr("203.0.113.7"), Port: 4022, User: "hanako", Time: t0}},
		Counts: []Count{
			{Day: "2026-11-21", Source: netip.MustParseAddr("192.0.2.1"), User: "root", Country: "JP", Kind: "failed", Lines: 2, Attempts: 1},
			{Day: "2026-11-22", Kind: "failed", Lines: 9, Attempts: 9},
		},
	}
	commit(t, s, e)
	check := func(s *Store) {
		t.Helper()
		positions, err := s.Positions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := Effects{
			Positions: positions,
			Bans:      live(t, s, t0.Add(2*time.Second)),
			Unbans:    all(t, func(yield func(Unban) error) error { return s.Unbans(t.Context(), t0, yield) }),
			Grants:    liveGrants(t, s, t0.Add(2*time.Second)),
			Revokes:   all(t, func(yield func(Revoke) error) error { return s.Revokes(t.Context(), t0, yield) }),
			Logins:    all(t, func(yield func(sshlog.Login) error) error { return s.Logins(t.Context(), t0, yield) }),
			Counts:    counts(t, s, "2026-11-21"),
		}
		want := e
		want.Bans = []lease.Lease{e.Bans[2], e.Bans[1], e.Bans[0]} // by their keys
		if diff := cmp.Diff(want, got, byValue); diff != "" {
			t.Error(diff)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, report = open(t, path, Options{})
	if diff := cmp.Diff(Report{}, report); diff != "" {
		t.Error(diff)
	}
	check(s)
	if _, err := os.Stat(path + "-shm"); err == nil {
		t.Error("there is a shared-memory file: locking_mode came too late")
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, _ := e.Info()
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if info, _ := os.Stat(filepath.Dir(path)); info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v", info.Mode())
	}
}

func TestBansInForce(t *testing.T) {
	const p = "192.0.2.1/32"
	unban := func(at time.Time) Unban { return Unban{Prefix: netip.MustParsePrefix(p), At: at, By: "root"} }
	for _, tc := range []struct {
		name    string
		commits []Effects
		at      time.Time
		want    []lease.Lease
	}{
		{"not begun", []Effects{{Bans: []lease.Lease{ban(p, t0, time.Hour)}}}, t0.Add(-1), nil},
		{"begins", []Effects{{Bans: []lease.Lease{ban(p, t0, time.Hour)}}}, t0, []lease.Lease{ban(p, t0, time.Hour)}},
		{"ended", []Effects{{Bans: []lease.Lease{ban(p, t0, time.Hour)}}}, t0.Add(time.Hour), nil},
		{"without end", []Effects{{Bans: []lease.Lease{ban(p, t0, 0)}}}, t0.AddDate(100, 0, 0), []lease.Lease{ban(p, t0, 0)}},
		{"decided twice", []Effects{{Bans: []lease.Lease{ban(p, t0, time.Hour)}}, {Bans: []lease.Lease{ban(p, t0, time.Hour)}}}, t0, []lease.Lease{ban(p, t0, time.Hour)}},
		{"the one that ends last", []Effects{{Bans: []lease.Lease{ban(p, t0, 3*time.Hour), ban(p, t0.Add(1), time.Hour), ban(p, t0.Add(2), 2*time.Hour)}}}, t0.Add(5), []lease.Lease{ban(p, t0, 3*time.Hour)}},
		{"endless beats all", []Effects{{Bans: []lease.Lease{ban(p, t0, 3*time.Hour), ban(p, t0.Add(1), 0), ban(p, t0.Add(2), 9*time.Hour)}}}, t0.Add(5), []lease.Lease{ban(p, t0.Add(1), 0)}},
		{"lifted", []Effects{{Bans: []lease.Lease{ban(p, t0, time.Hour)}}, {Unbans: []Unban{unban(t0.Add(time.Minute))}}}, t0.Add(time.Minute), nil},
		{"lifted in one commit", []Effects{{Bans: []lease.Lease{ban(p, t0, time.Hour)}, Unbans: []Unban{unban(t0.Add(time.Minute))}}}, t0.Add(time.Minute), nil},
		{"lifted, then decided again after a crash", []Effects{{Unbans: []Unban{unban(t0.Add(time.Minute))}}, {Bans: []lease.Lease{ban(p, t0, 0)}}}, t0.Add(time.Minute), nil},
		{"begun after the unban", []Effects{{Unbans: []Unban{unban(t0)}}, {Bans: []lease.Lease{ban(p, t0.Add(1), time.Hour)}}}, t0.Add(time.Minute), []lease.Lease{ban(p, t0.Add(1), time.Hour)}},
		{"another prefix lifted", []Effects{{Bans: []lease.Lease{ban("192.0.2.0/24", t0, time.Hour)}, Unbans: []Unban{unban(t0.Add(1))}}}, t0.Add(time.Minute), []lease.Lease{ban("192.0.2.0/24", t0, time.Hour)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := fresh(t)
			for _, e := range tc.commits {
				commit(t, s, e)
			}
			if diff := cmp.Diff(tc.want, live(t, s, tc.at), byValue); diff != "" {
				t.Error(diff)
			}
			if got := liveGrants(t, s, tc.at); len(got) > 0 {
				t.Errorf("bans let in: %v", got)
			}
			// The same of grants.
			s = fresh(t)
			allow := func(ls []lease.Lease) (grants []lease.Lease) {
				for _, l := range ls {
					l.Verdict = lease.Allow
					grants = append(grants, l)
				}
				return grants
			}
			for _, e := range tc.commits {
				g := Effects{Grants: allow(e.Bans)}
				for _, u := range e.Unbans {
					g.Revokes = append(g.Revokes, Revoke(u))
				}
				commit(t, s, g)
			}
			if diff := cmp.Diff(allow(tc.want), liveGrants(t, s, tc.at), byValue); diff != "" {
				t.Error(diff)
			}
			if got := live(t, s, tc.at); len(got) > 0 {
				t.Errorf("grants ban: %v", got)
			}
		})
	}
}

// A ban and a grant of one prefix know nothing of each other: what ends one leaves
// the other.
func TestVerdictsAreApart(t *testing.T) {
	const p = "192.0.2.1/32"
	prefix := netip.MustParsePrefix(p)
	s := fresh(t)
	commit(t, s, Effects{Bans: []lease.Lease{ban(p, t0, 0)}, Grants: []lease.Lease{grant(p, t0, 0)}})
	commit(t, s, Effects{Unbans: []Unban{{Prefix: prefix, At: t0.Add(1)}}})
	if b, g := live(t, s, t0.Add(2)), liveGrants(t, s, t0.Add(2)); len(b) != 0 || len(g) != 1 {
		t.Errorf("after the unban: bans %v, grants %v", b, g)
	}
	commit(t, s, Effects{Bans: []lease.Lease{ban(p, t0.Add(3), 0)}})
	commit(t, s, Effects{Revokes: []Revoke{{Prefix: prefix, At: t0.Add(4)}}})
	if b, g := live(t, s, t0.Add(5)), liveGrants(t, s, t0.Add(5)); len(b) != 1 || len(g) != 0 {
		t.Errorf("after the revoke: bans %v, grants %v", b, g)
	}
	// What is over is remembered, with who ended it.
	past := all(t, func(yield func(lease.Lease) error) error { return s.Grants(t.Context(), t0, yield) })
	want := grant(p, t0, 4)
	if diff := cmp.Diff([]lease.Lease{want}, past, byValue); diff != "" {
		t.Error(diff)
	}
}

// firstSchema is a state file as the first version of the schema left it, with a
// ban in it.
func firstSchema(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := openDB(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	text, err := migrations.ReadFile("migrations/0001_state.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		fmt.Sprintf("PRAGMA journal_mode=WAL; PRAGMA application_id=%d", applicationID),
		`CREATE TABLE migrations (version INTEGER NOT NULL PRIMARY KEY, at INTEGER NOT NULL) STRICT`,
	} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := step(t.Context(), db, string(text), 1, t0); err != nil {
		t.Fatal(err)
	}
	row := leaseRowOf(ban("192.0.2.1/32", t0, 0))
	if _, err := db.ExecContext(t.Context(), bans.put, row.sealed("bans")...); err != nil {
		t.Fatal(err)
	}
}

// A file from before there were grants is brought up to date, and keeps its bans;
// so does one that is damaged.
func TestFirstSchema(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage string
	}{
		{"sound", ""},
		{"damaged", "DROP TABLE counts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state", "state.db")
			firstSchema(t, path)
			if tc.damage != "" {
				db, err := openDB(path, false)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := db.ExecContext(t.Context(), tc.damage); err != nil {
					t.Fatal(err)
				}
				db.Close()
			}
			s, report := open(t, path, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
			if (report.SetAside != "") != (tc.damage != "") || (report.Salvaged == 1) != (tc.damage != "") {
				t.Errorf("%+v", report)
			}
			commit(t, s, Effects{Grants: []lease.Lease{grant("192.0.2.2/32", t0, 0)}})
			want := []lease.Lease{ban("192.0.2.1/32", t0, 0)}
			if diff := cmp.Diff(want, live(t, s, t0), byValue); diff != "" {
				t.Error(diff)
			}
			if got := liveGrants(t, s, t0); len(got) != 1 {
				t.Errorf("grants: %v", got)
			}
		})
	}
}

// Whatever the content, it cannot stand in the way of the rest.
func TestContentIsNeverRefused(t *testing.T) {
	s := fresh(t)
	good := ban("192.0.2.1/32", t0, time.Hour)
	odd := ban("::ffff:198.51.100.9/128", t0, time.Hour)
	odd.Prefix = netip.PrefixFrom(odd.Prefix.Addr(), 128)
	odd.Reason = strings.Repeat("関", 4000) + "\x00\xff"
	hostBits := ban("203.0.113.77/24", t0, time.Hour)
	commit(t, s, Effects{
		Bans:    []lease.Lease{{}, good, odd, hostBits},
		Unbans:  []Unban{{}},
		Grants:  []lease.Lease{{}, grant("::ffff:198.51.100.9/128", t0, time.Hour)},
		Revokes: []Revoke{{}},
		Logins:  []sshlog.Login{{}, {Addr: netip.MustParseAddr("fe80::1%eth0"), User: strings.Repeat("u", 9999), Time: time.Time{}.AddDate(5000, 0, 0)}},
		Counts:  []Count{{}, {Day: "2026-1122-"}, {Day: "yesterday"}, {Day: "2026-11-22", User: strings.Repeat("x", 65), Kind: "a\x00\xffb", Lines: -1, Attempts: 1 << 62}},
	})
	got := live(t, s, t0)
	if len(got) != 3 {
		t.Fatalf("got %v", got)
	}
	want := []netip.Prefix{good.Prefix, netip.MustParsePrefix("198.51.100.9/32"), netip.MustParsePrefix("203.0.113.0/24")}
	if diff := cmp.Diff(want, []netip.Prefix{got[0].Prefix, got[1].Prefix, got[2].Prefix}, byValue); diff != "" {
		t.Error(diff)
	}
	if got := liveGrants(t, s, t0); len(got) != 1 || got[0].Prefix.String() != "198.51.100.9/32" {
		t.Errorf("grants: %v", got)
	}
	if n := len(got[1].Reason); n > maxText || n < maxText-3 {
		t.Errorf("a reason of %d bytes", n)
	}
	if diff := cmp.Diff([]Count{{Day: "2026-11-22", Kind: "a\x00\uFFFDb", Attempts: maxAdd}}, counts(t, s, ""), byValue); diff != "" {
		t.Error(diff)
	}
}

func TestBansOf(t *testing.T) {
	s := fresh(t)
	a, b, c := ban("192.0.2.1/32", t0, time.Minute), ban("192.0.2.0/24", t0.Add(time.Hour), time.Minute), ban("0.0.0.0/0", t0.Add(-time.Hour), time.Minute)
	v6, v6wide := ban("2001:db8::/64", t0, time.Minute), ban("2001:db8::/32", t0.Add(1), time.Minute)
	commit(t, s, Effects{Bans: []lease.Lease{a, b, c, v6, v6wide, ban("192.0.2.2/32", t0, 0), ban("192.0.2.0/31", t0.Add(2), time.Minute), ban("2001:db8:0:1::/64", t0, 0)}})
	for _, tc := range []struct {
		addr string
		want []lease.Lease
	}{
		{"192.0.2.1", []lease.Lease{b, ban("192.0.2.0/31", t0.Add(2), time.Minute), a, c}},
		{"::ffff:192.0.2.9", []lease.Lease{b, c}},
		{"198.51.100.1", []lease.Lease{c}},
		{"2001:db8::7", []lease.Lease{v6wide, v6}},
		{"2001:db9::7", nil},
	} {
		got, err := s.BansOf(t.Context(), netip.MustParseAddr(tc.addr))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got, byValue); diff != "" {
			t.Errorf("%s: %s", tc.addr, diff)
		}
	}
}

func TestHistory(t *testing.T) {
	s := fresh(t)
	second := ban("192.0.2.1/32", t0.Add(time.Hour), time.Minute)
	second.Count = 7 // what was pruned still counts
	commit(t, s, Effects{Bans: []lease.Lease{
		ban("192.0.2.1/32", t0, time.Minute), second,
		ban("192.0.2.2/32", t0, time.Minute), ban("192.0.2.2/32", t0.Add(1), time.Minute),
		ban("192.0.2.3/32", t0.Add(-time.Hour), time.Minute),
	}})
	got := all(t, func(yield func(lease.History) error) error { return s.History(t.Context(), t0, yield) })
	want := []lease.History{
		{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Count: 7, Last: t0.Add(time.Hour)},
		{Prefix: netip.MustParsePrefix("192.0.2.2/32"), Count: 2, Last: t0.Add(1)},
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Error(diff)
	}
}

// A million hostile sources make a bounded number of rows; the totals stay true
// and the worst source stays named.
func TestCountsOfADayAreBounded(t *testing.T) {
	const rows, sources = 64, 5000
	s, _ := open(t, filepath.Join(t.TempDir(), "state.db"), Options{DayRows: rows})
	worst := netip.MustParseAddr("198.51.100.1")
	var total int
	for i := 0; i < sources; i += 50 {
		e := Effects{Counts: []Count{{Day: "2026-11-22", Source: worst, User: "root", Country: "JP", Kind: "failed", Lines: 4, Attempts: 2}}}
		for j := i; j < i+50; j++ {
			a := netip.AddrFrom4([4]byte{10, 0, byte(j >> 8), byte(j)})
			e.Counts = append(e.Counts, Count{Day: "2026-11-22", Source: a, User: fmt.Sprint("u", j), Country: []string{"", "CN"}[j%2], Kind: "failed", Lines: 2, Attempts: 1})
		}
		commit(t, s, e)
		total += 2 + 50
	}
	got := counts(t, s, "2026-11-22")
	if len(got) > rows+2 {
		t.Errorf("%d rows, bound %d", len(got), rows)
	}
	var sum, ofWorst int
	for _, c := range got {
		sum += c.Attempts
		if c.Source == worst {
			ofWorst += c.Attempts
		}
	}
	if sum != total || ofWorst != 2*sources/50 {
		t.Errorf("counted %d of %d attempts, %d of %d of the worst", sum, total, ofWorst, 2*sources/50)
	}
}

func TestPrune(t *testing.T) {
	s := fresh(t)
	now := t0
	e := Effects{
		Bans: []lease.Lease{
			ban("192.0.2.1/32", now.AddDate(-3, 0, 0), 0),         // in force for ever
			ban("192.0.2.2/32", now.AddDate(-3, 0, 0), time.Hour), // old
			ban("192.0.2.3/32", now.AddDate(-2, 0, 0), 0),
			ban("192.0.2.4/32", now.Add(-48*time.Hour), time.Hour),
		},
		Unbans: []Unban{{Prefix: netip.MustParsePrefix("192.0.2.9/32"), At: now.AddDate(-2, 0, 0)}, {Prefix: netip.MustParsePrefix("192.0.2.9/32"), At: now}},
		Grants: []lease.Lease{
			grant("192.0.2.1/32", now.AddDate(-3, 0, 0), 0), // in force for ever
			grant("192.0.2.1/32", now.AddDate(-2, 0, 0), time.Hour),
			grant("192.0.2.2/32", now.Add(-48*time.Hour), time.Hour),
		},
		Revokes: []Revoke{{Prefix: netip.MustParsePrefix("192.0.2.9/32"), At: now.AddDate(-2, 0, 0)}, {Prefix: netip.MustParsePrefix("192.0.2.9/32"), At: now}},
		Logins:  []sshlog.Login{{Addr: netip.MustParseAddr("192.0.2.9"), User: "a", Time: now.AddDate(-2, 0, 0)}, {Addr: netip.MustParseAddr("192.0.2.9"), User: "b", Time: now}},
		Counts:  []Count{{Day: "2024-01-01", Kind: "failed", Lines: 1}, {Day: "2026-11-22", Kind: "failed", Lines: 1}},
		Onsets:  []Onset{{Prefix: netip.MustParsePrefix("192.0.2.9/32"), Begun: now.AddDate(-2, 0, 0)}, {Prefix: netip.MustParsePrefix("192.0.2.9/32"), Begun: now}},
		Rules: []RuleCount{
			{Day: "2024-01-01", Chain: "ssh", Rule: "old", Packets: 1, Fresh: true},
			{Day: "2026-11-22", Chain: "ssh", Rule: "new", Packets: 1, Fresh: true},
		},
	}
	for i := range 20 { // yesterday: more than we keep
		e.Counts = append(e.Counts, Count{Day: "2026-11-21", Source: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Kind: "failed", Lines: i, Attempts: i})
	}
	for i := range 100 { // ended: more than we keep, the later ones end later
		e.Bans = append(e.Bans, ban(fmt.Sprintf("10.0.0.%d/32", i), now.Add(time.Duration(i-300)*time.Hour), time.Hour))
	}
	commit(t, s, e)
	if err := s.prune(t.Context(), now, 50, 50, 50, 10); err != nil {
		t.Fatal(err)
	}
	if got := live(t, s, now); len(got) != 2 {
		t.Errorf("live bans after the prune: %v", got)
	}
	if got := liveGrants(t, s, now); len(got) != 1 {
		t.Errorf("live grants after the prune: %v", got)
	}
	if n := len(all(t, func(yield func(lease.Lease) error) error { return s.Grants(t.Context(), time.Time{}, yield) })); n != 2 {
		t.Errorf("%d grants are remembered", n)
	}
	if n := len(all(t, func(yield func(Revoke) error) error { return s.Revokes(t.Context(), time.Time{}, yield) })); n != 1 {
		t.Errorf("%d revokes", n)
	}
	bans := all(t, func(yield func(lease.Lease) error) error { return s.Bans(t.Context(), time.Time{}, yield) })
	if len(bans) < 3 || len(bans) > 2+50 {
		t.Errorf("%d bans are remembered", len(bans))
	}
	if !slices.ContainsFunc(bans, func(l lease.Lease) bool { return l.Prefix.String() == "192.0.2.4/32" }) {
		t.Error("the latest ended ban was forgotten before older ones")
	}
	if n := len(counts(t, s, "")); n != 10+1+1 {
		t.Errorf("%d counts", n)
	}
	if n := len(all(t, func(yield func(Unban) error) error { return s.Unbans(t.Context(), time.Time{}, yield) })); n != 1 {
		t.Errorf("%d unbans", n)
	}
	if n := len(all(t, func(yield func(Onset) error) error { return s.Onsets(t.Context(), time.Time{}, yield) })); n != 1 {
		t.Errorf("%d onsets", n)
	}
	// The mark of the old rule went with its days: what it says is of nobody knows when.
	commit(t, s, Effects{Rules: []RuleCount{{Day: "2026-11-22", Chain: "ssh", Rule: "old", Packets: 9}}})
	if got := rules(t, s, ""); len(got) != 1 || got[0].Rule != "new" {
		t.Errorf("rules: %+v", got)
	}
}

// A slow reader holds up no commit, and may use the store.
func TestReadWhileWriting(t *testing.T) {
	s := fresh(t)
	var e Effects
	for i := range 3 * pageRows {
		e.Bans = append(e.Bans, ban(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32).String(), t0, time.Hour))
	}
	commit(t, s, e)
	done := make(chan error)
	n := 0
	err := s.LiveBans(t.Context(), t0, func(lease.Lease) error {
		n++
		go func() {
			done <- s.Commit(context.WithoutCancel(t.Context()), Effects{Positions: map[string][]byte{"a": nil}})
		}()
		return <-done
	})
	if err != nil || n != 3*pageRows {
		t.Errorf("%d bans, %v", n, err)
	}
}

func TestHeldByAnother(t *testing.T) {
	s := fresh(t)
	other, _, err := Open(t.Context(), s.path, Options{})
	if !errors.Is(err, ErrDegraded) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("opened twice: %v", err)
	}
	if err := other.Commit(t.Context(), Effects{}); !errors.Is(err, ErrDegraded) {
		t.Error(err)
	}
	s.Close()
	if _, err := other.Reopen(t.Context()); err != nil {
		t.Error(err)
	}
	other.Close()
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	newer := filepath.Join(dir, "newer.db")
	s, _ := open(t, newer, Options{})
	if _, err := s.db.ExecContext(t.Context(), `INSERT INTO migrations SELECT max(version) + 1, 0 FROM migrations`); err != nil {
		t.Fatal(err)
	}
	s.Close()
	loose := filepath.Join(dir, "loose")
	if err := errors.Join(os.Mkdir(loose, 0o700), os.Chmod(loose, 0o777)); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(loose, link); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path string
		want       error
	}{
		{"newer schema", newer, ErrNewer},
		{"others may write", filepath.Join(loose, "state.db"), ErrInsecure},
		{"directory is a link", filepath.Join(link, "state.db"), ErrInsecure},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, report, err := Open(t.Context(), tc.path, Options{})
			if !errors.Is(err, tc.want) || report.SetAside != "" || errors.Is(err, ErrDegraded) {
				t.Errorf("got %v, %+v", err, report)
			}
			if err := s.Commit(t.Context(), Effects{}); !errors.Is(err, ErrDegraded) {
				t.Error(err)
			}
		})
	}
	if _, err := os.Stat(newer); err != nil {
		t.Error(err)
	}
}

func TestDamagedIsSetAside(t *testing.T) {
	now := func() time.Time { return t0 }
	put := func(b []byte) func(string) error {
		return func(path string) error { return os.WriteFile(path, b, 0o600) }
	}
	for _, tc := range []struct {
		name string
		make func(path string) error
	}{
		{"empty", put(nil)},
		{"garbage", put([]byte(strings.Repeat("not a database ", 1000)))},
		{"one byte", put([]byte("S"))},
		{"header only", put([]byte("SQLite format 3\x00"))},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"symlink", func(path string) error { return os.Symlink("/etc/passwd", path) }},
		{"dangling symlink", func(path string) error { return os.Symlink("/nowhere", path) }},
		{"fifo", func(path string) error { return syscall.Mkfifo(path, 0o600) }},
		{"log without its database", func(path string) error { return os.WriteFile(path+"-wal", []byte("x"), 0o600) }},
		{"another program's database", func(path string) error {
			db, err := openDB(path, false)
			if err != nil {
				return err
			}
			_, err = db.Exec(`CREATE TABLE t (x); INSERT INTO t VALUES (1)`)
			return errors.Join(err, db.Close())
		}},
		{"schema versions with a gap", func(path string) error {
			s, _, err := Open(context.Background(), path, Options{})
			if err != nil {
				return err
			}
			_, err = s.db.Exec(`UPDATE migrations SET version = 4 WHERE version = 2`)
			return errors.Join(err, s.Close())
		}},
		{"a table is missing", func(path string) error {
			s, _, err := Open(context.Background(), path, Options{})
			if err != nil {
				return err
			}
			_, err = s.db.Exec(`DROP TABLE counts`)
			return errors.Join(err, s.Close())
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			if err := tc.make(path); err != nil {
				t.Fatal(err)
			}
			s, report := open(t, path, Options{Now: now})
			if want := path + ".corrupt-20261122T100000Z"; report.SetAside != want || !report.Created || report.Why == "" {
				t.Errorf("got %+v, want %s", report, want)
			}
			commit(t, s, Effects{Bans: []lease.Lease{ban("192.0.2.1/32", t0, 0)}})
		})
	}
}

func TestSetAsideIsBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	for i := range 3 * keepAside {
		if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, report := open(t, path, Options{Now: func() time.Time { return t0.Add(time.Duration(i/2) * time.Second) }})
		if _, err := os.Stat(report.SetAside); err != nil {
			t.Error(err)
		}
		s.Close()
	}
	got, _ := filepath.Glob(path + ".corrupt-*")
	if len(got) != keepAside {
		t.Errorf("kept %v", got)
	}
}

func TestRemovedInUse(t *testing.T) {
	s := fresh(t)
	for _, tail := range statefile.Tails {
		os.Remove(s.path + tail)
	}
	if err := s.Commit(t.Context(), Effects{}); !errors.Is(err, ErrDegraded) || !s.broken() {
		t.Fatalf("committed to a removed file: %v", err)
	}
	report, err := s.Reopen(t.Context())
	if err != nil || !report.Created {
		t.Fatalf("%+v, %v", report, err)
	}
	commit(t, s, Effects{Bans: []lease.Lease{ban("192.0.2.1/32", t0, 0)}})
}

// TestEachLiveGrant: all that are in force of a prefix, also where LiveGrants gives the
// longest; one is ended by its row alone, and the cause keeps an id.
func TestEachLiveGrant(t *testing.T) {
	s := fresh(t)
	p := netip.MustParsePrefix("192.0.2.1/32")
	id := "gate/" + strings.Repeat("A", 64)
	row := func(cause string, from, until time.Duration) lease.Lease {
		return lease.Lease{Prefix: p, Verdict: lease.Allow, Cause: cause, From: t0.Add(from), Until: t0.Add(until)}
	}
	for _, rows := range [][]lease.Lease{
		{row("manual", 0, time.Hour), row(id, 1, 2*time.Hour), row("gate/B", 2, 3*time.Hour), row("over", -time.Hour, -1)},
		{row("gate/B", 2, 0)},
	} {
		commit(t, s, Effects{Grants: rows})
	}
	var got []string
	for _, l := range all(t, func(yield func(lease.Lease) error) error {
		return s.EachLiveGrant(t.Context(), t0.Add(time.Minute), yield)
	}) {
		got = append(got, l.Cause)
	}
	if want := []string{"manual", id}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
