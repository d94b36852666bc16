package main

import (
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/lab"
	"sekisho/internal/lease"
	"sekisho/internal/store"
)

// TestKillAnywhere kills the daemon at random points of a run of real attacks.
// In the end its memory must be what one undisturbed reading of the same log
// gives: no line lost, none counted twice, no ban forgotten.
func TestKillAnywhere(t *testing.T) {
	h := newHost(t, lab.Options{LogFormat: lab.ISO}, "guard: {mode: normal, escalate: {hosts: 0}, distributed: no}\n")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	attacked := make(chan error, 1)
	go func() {
		var attacks []lab.Attack
		from := netip.MustParseAddr("198.18.7.1")
		for i := range 90 {
			attack := lab.Attack{Method: lab.Password, From: from, User: "root", Passwords: []string{"a", "b", "c"}, Conns: 1 + i%3, Patience: time.Second}
			if i%4 == 0 {
				attack.User = "nobody-has-this-name"
			}
			attacks = append(attacks, attack)
			from = from.Next()
		}
		_, err := h.AttackAll(t.Context(), attacks, 8)
		attacked <- err
	}()

	kills := 0
	for over := false; !over; {
		h.start(t)
		select {
		case err := <-attacked:
			if err != nil {
				t.Fatal(err)
			}
			over = true
		case <-time.After(time.Duration(random.IntN(400)) * time.Millisecond):
		}
		h.kill(t, syscall.SIGKILL)
		kills++
	}
	if err := h.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.start(t)
	h.caughtUp(t)
	h.kill(t, syscall.SIGTERM)
	t.Logf("killed %d times", kills)
	if kills < 5 {
		t.Errorf("killed only %d times: the attack was over too soon to prove anything", kills)
	}

	want := h.explain(t)
	if len(want.bans) == 0 {
		t.Fatal("nobody was to be banned: the test proves nothing")
	}
	st, report, err := store.Open(t.Context(), filepath.Join(h.stateDir(), "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if report.SetAside != "" {
		t.Errorf("the state was damaged by kills: %s", report.SetAside)
	}
	attempts := map[netip.Addr]int{}
	err = st.Counts(t.Context(), "", func(c store.Count) error {
		if c.Attempts > 0 {
			attempts[c.Source] += c.Attempts
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.attempts, attempts, compareAddr); diff != "" {
		t.Errorf("attempts, undisturbed (-) and killed (+):\n%s", diff)
	}
	stored := map[netip.Prefix]bool{}
	err = st.LiveBans(t.Context(), time.Now(), func(l lease.Lease) error { stored[l.Prefix] = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.bans, stored, compareAddr); diff != "" {
		t.Errorf("bans, undisturbed (-) and stored (+):\n%s", diff)
	}
	if diff := cmp.Diff(want.bans, h.inKernel(t), compareAddr); diff != "" {
		t.Errorf("bans, undisturbed (-) and in the kernel (+):\n%s", diff)
	}
}

var compareAddr = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}
