package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sekisho/internal/gate/api"
)

// gates opens a state as often as it can be.
func gates(t *testing.T, dsn string) []*Ledger {
	all := []*Ledger{open(t, dsn, Options{Instance: "one"})}
	if !isLite(all[0]) {
		all = append(all, open(t, dsn, Options{Instance: "two"}))
	}
	return all
}

// Fifty goroutines at two gates: one live grant of a person, a target and a prefix at any
// time, each nonce fresh and each token taken exactly once, an audit without gap or fork.
func TestTwoGates(t *testing.T) {
	const workers, things, turns = 50, 40, 12
	both(t, func(t *testing.T, dsn string) {
		all := gates(t, dsn)
		x := tx{t, all[0]}
		x.does(nil, func(t *Tx) error {
			for i := range things {
				if err := t.PutOnce(Once{Kind: "k", Key: [32]byte{byte(i)}, Until: time.Now().Add(time.Hour)}); err != nil {
					return err
				}
			}
			return nil
		})
		var fresh, taken [things]atomic.Int32
		var live [4]atomic.Int32
		var entries, opened atomic.Int64
		var wait sync.WaitGroup
		for worker := range workers {
			wait.Go(func() {
				l := all[worker%len(all)]
				write := func(f func(*Tx) error) bool {
					err := l.Write(t.Context(), func(t *Tx) error {
						if err := f(t); err != nil {
							return err
						}
						_, err := t.Append(api.Entry{Who: fmt.Sprint("worker ", worker), What: "something"})
						return err
					})
					switch {
					case err == nil:
						entries.Add(1)
						return true
					case !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound):
						t.Error(err)
					}
					return false
				}
				for _, i := range rand.Perm(things)[:things/2] {
					write(func(t *Tx) error {
						first, err := t.UseNonce([32]byte{byte(i)}, time.Now().Add(time.Hour))
						if err == nil && first {
							fresh[i].Add(1) // SQLite and PostgreSQL here run it once
						}
						if err == nil && !first {
							err = ErrConflict
						}
						return err
					})
					if write(func(t *Tx) error { _, err := t.TakeOnce("k", [32]byte{byte(i)}); return err }) {
						taken[i].Add(1)
					}
				}
				for turn := range turns {
					door := rand.N(len(live))
					g := grant(fmt.Sprintf("g%d-%d", worker, turn))
					g.Target = fmt.Sprint("door", door)
					if !write(func(t *Tx) (err error) { g, err = t.PutGrant(g); return err }) {
						continue
					}
					opened.Add(1)
					if n := live[door].Add(1); n != 1 {
						t.Errorf("%d live grants of one person for one prefix at %s", n, g.Target)
					}
					live[door].Add(-1)
					g.State, g.Ended = api.Ended, time.Now()
					if !write(func(t *Tx) error { _, err := t.UpdateGrant(g); return err }) {
						t.Errorf("grant %s did not end", g.ID)
					}
				}
			})
		}
		wait.Wait()
		for i := range things {
			if f, k := fresh[i].Load(), taken[i].Load(); f > 1 || k > 1 {
				t.Errorf("nonce %d: fresh %d times; token: taken %d times", i, f, k)
			}
		}
		v := reads(x, func(t *Tx) (api.Verdict, error) { return t.Verify() })
		if !v.OK || v.Entries != entries.Load() {
			t.Errorf("%d entries are acknowledged: %+v", entries.Load(), v)
		}
		if opened.Load() < 2*int64(len(live)) {
			t.Errorf("%d grants: the doors were hardly opened", opened.Load())
		}
	})
}

// Claims by Rev: of all that want a grant at once, one has it.
func TestClaim(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		all := gates(t, dsn)
		x := tx{t, all[0]}
		var g Grant
		x.does(nil, func(t *Tx) (err error) { g, err = t.PutGrant(grant("a")); return err })
		var won atomic.Int32
		var wait sync.WaitGroup
		for i := range 20 {
			wait.Go(func() {
				mine := g
				mine.Owner = fmt.Sprint(i)
				err := all[i%len(all)].Write(t.Context(), func(t *Tx) error { _, err := t.UpdateGrant(mine); return err })
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if won.Load() != 1 {
			t.Errorf("%d have it", won.Load())
		}
	})
}

// Gates that start at once on an empty database.
func TestStartAtOnce(t *testing.T) {
	dsn := server(t).Database(t)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			l, err := Open(t.Context(), dsn, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			tx{t, l}.does(nil, func(t *Tx) error { _, err := t.Append(api.Entry{Who: "gate", What: "start"}); return err })
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	x := tx{t, open(t, dsn, Options{})}
	sees(x, 1, func(t *Tx) (int64, error) { return one(t, "count", scanInt, `SELECT count(*) FROM migrations`) })
	sees(x, 8, func(t *Tx) (int64, error) { v, err := t.Verify(); return v.Entries, err })
}

func TestOneGateAtAFile(t *testing.T) {
	dsn := t.TempDir() + "/gate.db"
	l := open(t, dsn, Options{})
	_, err := Open(t.Context(), dsn, Options{})
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "another gate") {
		t.Errorf("a second one: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dsn, Options{})
}

func init() { parts["write"] = writeForEver }

// writeForEver opens doors, several at a time, and tells each that was acknowledged.
func writeForEver(dsn string) error {
	ctx := context.Background()
	l, err := Open(ctx, dsn, Options{Instance: "child"})
	if err != nil {
		return err
	}
	fmt.Println("open")
	var out sync.Mutex
	failed := make(chan error)
	for worker := range 6 {
		go func() {
			for n := 0; ; n++ {
				g := grant(fmt.Sprintf("g-%d-%d-%d", os.Getpid(), worker, n))
				g.Person = g.ID
				err := l.Write(ctx, func(t *Tx) error {
					if _, err := t.PutGrant(g); err != nil {
						return err
					}
					_, err := t.Append(api.Entry{Who: g.Person, What: "open", Grant: g.ID})
					return err
				})
				if err != nil {
					failed <- err
					return
				}
				out.Lock()
				fmt.Println(g.ID)
				out.Unlock()
			}
		}()
	}
	return <-failed
}

// Killed at any moment, the first of its life included: what was acknowledged is there,
// each grant with its entry and no half of anything, and the chain holds.
func TestKill(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	both(t, func(t *testing.T, dsn string) {
		acked := map[string]bool{}
		for round := range rounds {
			cmd := self(t, "write", dsn)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// Every fourth dies around its opening, the others in the middle of commits.
			delay, after := rand.N(60*time.Millisecond), -1
			if round%4 != 0 {
				delay, after = rand.N(4*time.Millisecond), rand.N(40)
			}
			kill := func() { time.AfterFunc(delay, func() { cmd.Process.Kill() }) }
			if after < 0 {
				kill()
			}
			lines := bufio.NewScanner(out)
			for i := 0; lines.Scan(); i++ {
				if lines.Text() != "open" {
					acked[lines.Text()] = true
				}
				if i == after {
					kill()
				}
			}
			if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("round %d: the child ended by itself: %v", round, err)
			}
			if round%2 == 0 && round < rounds-1 {
				continue // the next child finds what this one left
			}
			l, err := Open(t.Context(), dsn, Options{})
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			checkWhole(t, l, acked)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d acknowledged, %d kills", len(acked), rounds)
	})
}

// checkWhole expects of each grant one entry, of each entry its grant, all of acked among
// them, and a chain that holds.
func checkWhole(t *testing.T, l *Ledger, acked map[string]bool) {
	t.Helper()
	err := l.Read(t.Context(), func(r *Tx) error {
		grants := map[string]bool{}
		all, err := r.Live()
		if err != nil {
			return err
		}
		for _, g := range all {
			grants[g.ID] = true
		}
		for id := range acked {
			if !grants[id] {
				t.Fatalf("%s was acknowledged and is not there", id)
			}
		}
		entries := 0
		if err := r.AuditAll(func(e api.Entry) error {
			entries++
			if !grants[e.Grant] {
				return fmt.Errorf("entry %d without its grant %s", e.Seq, e.Grant)
			}
			return nil
		}); err != nil {
			return err
		}
		v, err := r.Verify()
		if err == nil && (!v.OK || entries != len(grants) || v.Entries != int64(entries)) {
			err = fmt.Errorf("%d entries, %d grants: %+v", entries, len(grants), v)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
