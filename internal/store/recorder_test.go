package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// logCount counts what is logged at Warn and above.
type logCount struct{ errors, warnings atomic.Int32 }

func (c *logCount) Enabled(context.Context, slog.Level) bool { return true }
func (c *logCount) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *logCount) WithGroup(string) slog.Handler            { return c }
func (c *logCount) Handle(_ context.Context, r slog.Record) error {
	switch r.Level {
	case slog.LevelError:
		c.errors.Add(1)
	case slog.LevelWarn:
		c.warnings.Add(1)
	}
	return nil
}

func TestRecorder(t *testing.T) {
	s := fresh(t)
	r := NewRecorder(s, RecorderOptions{Every: time.Millisecond})
	stop := run(t, r)
	const adders, each = 4, 100
	var wg sync.WaitGroup
	for a := range adders {
		wg.Go(func() {
			for i := range each {
				r.Add(Effects{
					Bans:      []lease.Lease{ban(fmt.Sprintf("10.0.%d.%d/32", a, i), t0, 0)},
					Positions: map[string][]byte{fmt.Sprint(a): []byte(fmt.Sprint(i))},
					Counts:    []Count{{Day: "2026-11-22", Kind: "failed", Lines: 2, Attempts: 1}},
				})
			}
			if err := r.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			positions, err := s.Positions(t.Context())
			if err != nil || string(positions[fmt.Sprint(a)]) != fmt.Sprint(each-1) {
				t.Errorf("flushed, and the position is %q: %v", positions, err)
			}
		})
	}
	wg.Wait()
	r.Add(Effects{Bans: []lease.Lease{ban("192.0.2.1/32", t0, 0)}}) // for the last write
	if err := stop(); err != nil {
		t.Error(err)
	}
	if n := len(live(t, s, t0)); n != adders*each+1 {
		t.Errorf("%d bans", n)
	}
	want := []Count{{Day: "2026-11-22", Kind: "failed", Lines: 2 * adders * each, Attempts: adders * each}}
	if diff := cmp.Diff(want, counts(t, s, ""), byValue); diff != "" {
		t.Error(diff)
	}
}

// While nothing can be written, everything waits, is said once, and is written
// when that works again. It begins with a store that could not be opened.
func TestRecorderWaits(t *testing.T) {
	var logged logCount
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	holder, _ := open(t, path, Options{}) // another process, as far as the file knows
	s, _, err := Open(t.Context(), path, Options{})
	if !errors.Is(err, ErrDegraded) {
		t.Fatal(err)
	}
	defer s.Close()
	r := NewRecorder(s, RecorderOptions{Every: time.Millisecond, Retry: 10 * time.Millisecond, Logger: slog.New(&logged)})
	stop := run(t, r)
	for i := range 10 {
		r.Add(numbered(i + 1))
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if err := r.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
	}
	r.mu.Lock()
	tried := r.tried
	r.mu.Unlock()
	<-tried
	if err := r.Degraded(); !errors.Is(err, ErrDegraded) {
		t.Error(err)
	}
	holder.Close()
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Degraded(); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if n, err := reached(t.Context(), s); n != 10 || err != nil {
		t.Errorf("%d effects are there: %v", n, err)
	}
	if e, w := logged.errors.Load(), logged.warnings.Load(); e != 1 || w != 1 {
		t.Errorf("%d errors and %d warnings were logged", e, w)
	}
}

func TestRecorderEndsDegraded(t *testing.T) {
	s, _, err := Open(t.Context(), filepath.Join(t.TempDir(), "nowhere", "\x00"), Options{})
	if err == nil {
		t.Fatal("opened a name with a NUL byte")
	}
	r := NewRecorder(s, RecorderOptions{Every: time.Millisecond})
	stop := run(t, r)
	r.Add(numbered(1))
	if err := stop(); err == nil {
		t.Error("what could not be written was not told")
	}
}

func TestBatchBounds(t *testing.T) {
	b := batch{maxCounts: 10, maxBans: 32, maxOthers: 16}
	var lines int
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		b.add(Effects{
			Bans:    []lease.Lease{ban(netip.PrefixFrom(a, 32).String(), t0, 0)},
			Unbans:  []Unban{{Prefix: netip.PrefixFrom(a, 32)}},
			Grants:  []lease.Lease{grant(netip.PrefixFrom(a, 32).String(), t0, 0)},
			Revokes: []Revoke{{Prefix: netip.PrefixFrom(a, 32)}},
			Logins:  []sshlog.Login{{Addr: a}},
			Counts:  []Count{{Day: "2026-11-22", Source: a, User: "root", Kind: "failed", Lines: 3}},
		})
		lines += 3
	}
	if len(b.bans) > 32 || len(b.unbans) > 16 || len(b.logins) > 16 || len(b.counts) > 11 {
		t.Errorf("%d bans, %d unbans, %d logins, %d counts wait", len(b.bans), len(b.unbans), len(b.logins), len(b.counts))
	}
	if len(b.grants) > 16 || len(b.revokes) > 16 {
		t.Errorf("%d grants, %d revokes wait", len(b.grants), len(b.revokes))
	}
	if b.lost != 5000-len(b.bans)-len(b.unbans)-len(b.grants)-len(b.revokes)-len(b.logins) {
		t.Errorf("%d are told lost", b.lost)
	}
	if got := b.bans[len(b.bans)-1].Prefix.String(); got != "10.0.3.231/32" {
		t.Errorf("the newest ban that waits is %s", got)
	}
	for _, t := range b.counts {
		lines -= t.lines
	}
	if lines != 0 {
		t.Errorf("%d lines were lost", lines)
	}
}

// However a stretch of effects is cut into batches, with failures in between, the
// store ends up the same as when each was committed alone.
func TestBatchingChangesNothing(t *testing.T) {
	dir := memDir(t)
	small := rapid.IntRange(0, 3)
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		return netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/32", small.Draw(t, "host")))
	})
	at := rapid.Custom(func(t *rapid.T) time.Time { return t0.Add(time.Duration(small.Draw(t, "second")) * time.Second) })
	effects := rapid.Custom(func(t *rapid.T) Effects {
		e := Effects{Positions: map[string][]byte{fmt.Sprint(small.Draw(t, "source")): []byte(fmt.Sprint(rapid.Int().Draw(t, "offset")))}}
		for range small.Draw(t, "bans") {
			e.Bans = append(e.Bans, ban(prefix.Draw(t, "prefix").String(), at.Draw(t, "from"), time.Hour))
		}
		if small.Draw(t, "unban") == 0 {
			e.Unbans = append(e.Unbans, Unban{Prefix: prefix.Draw(t, "prefix"), At: at.Draw(t, "at")})
		}
		for range small.Draw(t, "grants") {
			e.Grants = append(e.Grants, grant(prefix.Draw(t, "prefix").String(), at.Draw(t, "from"), time.Hour))
		}
		if small.Draw(t, "revoke") == 0 {
			e.Revokes = append(e.Revokes, Revoke{Prefix: prefix.Draw(t, "prefix"), At: at.Draw(t, "at")})
		}
		for range small.Draw(t, "logins") {
			e.Logins = append(e.Logins, sshlog.Login{Addr: prefix.Draw(t, "peer").Addr(), Port: uint16(small.Draw(t, "port")), Time: at.Draw(t, "at")})
		}
		for range small.Draw(t, "counts") {
			e.Counts = append(e.Counts, Count{Day: "2026-11-22", Source: prefix.Draw(t, "peer").Addr(), User: fmt.Sprint(small.Draw(t, "user")), Kind: "failed", Lines: small.Draw(t, "lines"), Attempts: 1})
		}
		for range small.Draw(t, "rules") {
			e.Rules = append(e.Rules, RuleCount{
				Day: fmt.Sprintf("2026-11-2%d", small.Draw(t, "day")), Chain: "ssh", Rule: fmt.Sprint(small.Draw(t, "rule")), Drops: small.Draw(t, "drops") > 0,
				Packets: uint64(small.Draw(t, "packets")), Bytes: uint64(small.Draw(t, "bytes")), Fresh: small.Draw(t, "fresh") > 0,
			})
		}
		return e
	})
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		one, _, err := Open(t.Context(), filepath.Join(dir, fmt.Sprint(n), "one.db"), Options{})
		if err != nil {
			rt.Fatal(err)
		}
		defer one.Close()
		many, _, err := Open(t.Context(), filepath.Join(dir, fmt.Sprint(n), "many.db"), Options{})
		if err != nil {
			rt.Fatal(err)
		}
		defer many.Close()
		r := NewRecorder(many, RecorderOptions{})
		for _, e := range rapid.SliceOfN(effects, 1, 12).Draw(rt, "effects") {
			commit(t, one, e)
			r.Add(e)
			switch small.Draw(rt, "then") {
			case 0:
				if err := r.write(t.Context()); err != nil {
					rt.Fatal(err)
				}
			case 1:
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				if err := r.write(ended); err == nil {
					rt.Fatal("written with an ended context")
				}
			}
		}
		if err := r.write(t.Context()); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(dump(t, one), dump(t, many)); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// dump is all of the store's rows.
func dump(t *testing.T, s *Store) []string {
	positions, err := s.Positions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, source := range slices.Sorted(maps.Keys(positions)) {
		rows = append(rows, source+" "+string(positions[source]))
	}
	for _, l := range all(t, func(y func(lease.Lease) error) error { return s.Bans(t.Context(), time.Time{}, y) }) {
		rows = append(rows, fmt.Sprintf("%+v", l))
	}
	for _, u := range all(t, func(y func(Unban) error) error { return s.Unbans(t.Context(), time.Time{}, y) }) {
		rows = append(rows, fmt.Sprintf("%+v", u))
	}
	for _, l := range all(t, func(y func(lease.Lease) error) error { return s.Grants(t.Context(), time.Time{}, y) }) {
		rows = append(rows, fmt.Sprintf("%+v", l))
	}
	for _, r := range all(t, func(y func(Revoke) error) error { return s.Revokes(t.Context(), time.Time{}, y) }) {
		rows = append(rows, fmt.Sprintf("%+v", r))
	}
	for _, l := range all(t, func(y func(sshlog.Login) error) error { return s.Logins(t.Context(), time.Time{}, y) }) {
		rows = append(rows, fmt.Sprintf("%+v", l))
	}
	for _, o := range all(t, func(y func(Onset) error) error { return s.Onsets(t.Context(), time.Time{}, y) }) {
		rows = append(rows, fmt.Sprintf("%+v", o))
	}
	for _, c := range rules(t, s, "") {
		rows = append(rows, fmt.Sprintf("%+v", c))
	}
	for _, c := range counts(t, s, "") {
		rows = append(rows, strings.TrimSpace(fmt.Sprintf("%+v", c)))
	}
	return rows
}
