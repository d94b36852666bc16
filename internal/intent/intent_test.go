package intent

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

var key = Key{"web-prod", "hanako", netip.MustParsePrefix("203.0.113.7/32")}

func book(t *testing.T) *Book {
	t.Helper()
	b, err := In(filepath.Join(t.TempDir(), "access"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func enter(t *testing.T, b *Book) *Use {
	t.Helper()
	u, err := b.Enter(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Done() })
	return u
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	b := book(t)
	u := enter(t, b)
	if _, ok := u.Entry(); ok {
		t.Error("there is an entry before any was written")
	}
	now := time.Now().Round(0).UTC()
	want := Entry{Key: key, Lease: "hanako-ab12", Rule: "sgr-1", State: Open, From: now, Until: now.Add(time.Minute), Fresh: now.Add(30 * time.Second)}
	if err := u.Write(want); err != nil {
		t.Fatal(err)
	}
	got, ok := u.Entry()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); !ok || diff != "" {
		t.Errorf("entry: %v, -want +got:\n%s", ok, diff)
	}
	for name, tt := range map[string]struct {
		at   time.Time
		want bool
	}{"now": {now, true}, "when it is stale": {want.Fresh, false}, "before it was written": {now.Add(-time.Second), false}} {
		if got.Usable(tt.at) != tt.want {
			t.Errorf("usable %s: %v, want %v", name, !tt.want, tt.want)
		}
	}
	if err := u.Forget(); err != nil {
		t.Fatal(err)
	}
	if entries, err := b.Entries(); err != nil || len(entries) != 0 {
		t.Errorf("after Forget: %v, %v", entries, err)
	}
}

func TestTheLastOneEndsIt(t *testing.T) {
	b := book(t)
	first, second := enter(t, b), (*Use)(nil)
	if err := first.Hold(); err != nil {
		t.Fatal(err)
	}
	second = enter(t, b) // Hold let it in
	if err := second.Hold(); err != nil {
		t.Fatal(err)
	}
	if last, err := first.Leave(t.Context()); last || err != nil {
		t.Errorf("the first to leave is the last: %v, %v", last, err)
	}
	if last, err := second.Leave(t.Context()); !last || err != nil {
		t.Errorf("the second to leave is not the last: %v, %v", last, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if u, err := b.Enter(ctx, key); err == nil {
		u.Done()
		t.Error("somebody got at the entry while the last one ended it")
	}
	other := key
	other.Target = "db-prod"
	u, err := b.Enter(t.Context(), other)
	if err != nil {
		t.Fatal("another door was kept shut, too:", err)
	}
	u.Done()
	if err := second.Done(); err != nil {
		t.Fatal(err)
	}
	enter(t, b)
}

// TestNobodyEndsWhatIsInUse: whatever the order in which many come and go, none is ended
// while somebody needs it, and the last one ends it.
func TestNobodyEndsWhatIsInUse(t *testing.T) {
	b := book(t)
	var using, opened, ended atomic.Int64
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			for range 25 {
				u, err := b.Enter(t.Context(), key)
				if err != nil {
					return err
				}
				if e, ok := u.Entry(); !ok || e.State != Open {
					opened.Add(1)
					if err := u.Write(Entry{State: Open, Until: time.Now().Add(time.Hour)}); err != nil {
						return err
					}
				}
				using.Add(1)
				if err := u.Hold(); err != nil {
					return err
				}
				if e, ok := u.Entry(); !ok || e.State != Open {
					return fmt.Errorf("in use, and the entry is %+v", e)
				}
				using.Add(-1)
				last, err := u.Leave(t.Context())
				if err != nil {
					return err
				}
				if last {
					if n := using.Load(); n != 0 {
						return fmt.Errorf("ended while %d need it", n)
					}
					ended.Add(1)
					if err := u.Forget(); err != nil {
						return err
					}
				}
				if err := u.Done(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if opened.Load() != ended.Load() {
		t.Errorf("opened %d times, ended %d times", opened.Load(), ended.Load())
	}
}

// TestAKillEndsAUse: what a killed process held is held no longer.
func TestAKillEndsAUse(t *testing.T) {
	if dir := os.Getenv("SEKISHO_TEST_HOLD"); dir != "" {
		b, err := In(dir)
		if err != nil {
			t.Fatal(err)
		}
		u, err := b.Enter(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Hold(); err != nil {
			t.Fatal(err)
		}
		fmt.Println("held")
		select {}
	}
	b := book(t)
	u := enter(t, b)
	if err := u.Hold(); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAKillEndsAUse$", "-test.timeout=1m")
	child.Env = append(os.Environ(), "SEKISHO_TEST_HOLD="+b.dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "held\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	if last, err := u.Leave(t.Context()); last || err != nil {
		t.Errorf("last while another process needs it: %v, %v", last, err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	u = enter(t, b)
	if last, err := u.Leave(t.Context()); !last || err != nil {
		t.Errorf("not the last though the other was killed: %v, %v", last, err)
	}
}

func TestBrokenEntriesAreNone(t *testing.T) {
	b := book(t)
	if err := os.WriteFile(b.path(key), []byte(`{"target": `), 0o600); err != nil {
		t.Fatal(err)
	}
	u := enter(t, b)
	if e, ok := u.Entry(); ok {
		t.Errorf("a broken file is the entry %+v", e)
	}
	if entries, err := b.Entries(); err != nil || len(entries) != 0 {
		t.Errorf("Entries: %v, %v", entries, err)
	}
}
