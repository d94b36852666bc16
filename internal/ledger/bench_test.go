package ledger

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"sekisho/internal/gate/api"
)

// bothOf is both for benchmarks.
func bothOf(b *testing.B, bench func(b *testing.B, dsn string)) {
	b.Run("sqlite", func(b *testing.B) { bench(b, filepath.Join(b.TempDir(), "gate", "gate.db")) })
	b.Run("postgres", func(b *testing.B) { bench(b, server(b).Database(b)) })
}

// An opened door is a grant and an entry of the audit, on the disk.
func BenchmarkOpen(b *testing.B) {
	bothOf(b, func(b *testing.B, dsn string) {
		l := open(b, dsn, Options{})
		var n atomic.Int64
		b.ReportAllocs()
		b.SetParallelism(64)
		b.ResetTimer() // what a server and a schema take is not an open's
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				g := grant(fmt.Sprint("grant", n.Add(1)))
				g.Person = g.ID
				err := l.Write(context.Background(), func(t *Tx) error {
					if ofPerson, onTarget, err := t.CountLive(g.Person, "none"); err != nil || ofPerson > 50 || onTarget > 500 {
						return fmt.Errorf("%d, %d: %w", ofPerson, onTarget, err)
					}
					if _, err := t.PutGrant(g); err != nil {
						return err
					}
					_, err := t.Append(api.Entry{Who: g.Person, Via: g.Via, From: g.From, What: "open", Person: g.Person, Target: g.Target, Grant: g.ID,
						Prefix: g.Prefix.String(), Until: g.Until, Why: g.Reason, OK: true})
					return err
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "opens/s")
	})
}

// A session is looked up for each request of a browser.
func BenchmarkSession(b *testing.B) {
	bothOf(b, func(b *testing.B, dsn string) {
		l := open(b, dsn, Options{})
		s := session(1, "mika")
		if err := l.Write(b.Context(), func(t *Tx) error { return t.PutSession(s) }); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := l.Read(context.Background(), func(t *Tx) error { _, err := t.Session(s.Hash); return err }); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// The chain of an audit is checked from its first entry.
func BenchmarkVerify(b *testing.B) {
	const entries = 10_000
	bothOf(b, func(b *testing.B, dsn string) {
		l := open(b, dsn, Options{})
		err := l.Write(b.Context(), func(t *Tx) error {
			for i := range entries {
				if _, err := t.Append(api.Entry{Who: "mika", Via: api.ViaKey, What: "open", Person: "mika", Target: "web", Grant: fmt.Sprint(i), OK: true}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			err := l.Read(b.Context(), func(t *Tx) error {
				v, err := t.Verify()
				if err == nil && (!v.OK || v.Entries != entries) {
					err = fmt.Errorf("%+v", v)
				}
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
}
