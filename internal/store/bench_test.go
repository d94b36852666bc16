package store

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sekisho/internal/lease"
)

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func manyBans(n int) (e Effects) {
	for i := range n {
		e.Bans = append(e.Bans, ban(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32).String(), t0, time.Hour))
	}
	return e
}

// 1,000 new bans in one commit.
func BenchmarkCommit1000(b *testing.B) {
	s := fresh(b)
	e := manyBans(1000)
	for i := 0; b.Loop(); i++ {
		for j := range e.Bans {
			e.Bans[j].From = t0.Add(time.Duration(i) * time.Second)
		}
		commit(b, s, e)
	}
}

// A second of a steady attack, 1,000 lines, in two batches: the figure to look
// at is cpu-ms/s, of which 10 are one per cent of a core.
func BenchmarkSteadySecond(b *testing.B) {
	for _, bm := range []struct {
		name    string
		sources int
		users   int
	}{
		{"50_sources_10_users", 50, 10},
		{"all_distinct", 1000, 1 << 30},
	} {
		b.Run(bm.name, func(b *testing.B) {
			s, _ := open(b, filepath.Join(b.TempDir(), "state.db"), Options{})
			r := NewRecorder(s, RecorderOptions{})
			line := 0
			began := cpu()
			for b.Loop() {
				for range 2 {
					for range 500 {
						line++
						source := line / 3 % bm.sources
						r.Add(Effects{
							Positions: map[string][]byte{"file:/var/log/auth.log": []byte(`{"device":1,"inode":2,"fingerprint":3,"offset":4}`)},
							Counts: []Count{{
								Day: "2026-11-22", Source: netip.AddrFrom4([4]byte{10, 0, byte(source >> 8), byte(source)}),
								User: fmt.Sprint("user", line/3%bm.users), Country: "JP", Kind: []string{"invalid_user", "failed", "closed"}[line%3], Lines: 1, Attempts: 1,
							}},
						})
					}
					if err := r.write(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64((cpu()-began).Microseconds())/1000/float64(b.N), "cpu-ms/s")
		})
	}
}

func BenchmarkLiveBans100k(b *testing.B) {
	s := fresh(b)
	commit(b, s, manyBans(100_000))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := s.LiveBans(b.Context(), t0, func(lease.Lease) error { n++; return nil }); err != nil || n != 100_000 {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkOpen100k(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state.db")
	s, _ := open(b, path, Options{})
	commit(b, s, manyBans(100_000))
	s.Close()
	for b.Loop() {
		s, report, err := Open(b.Context(), path, Options{})
		if err != nil || report.Unchecked {
			b.Fatal(err, report)
		}
		s.Close()
	}
}
