package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// The test binary runs itself again in these parts.
func TestMain(m *testing.M) {
	part, path := os.Getenv("STORE_TEST_PART"), os.Getenv("STORE_TEST_PATH")
	var err error
	switch part {
	case "":
		os.Exit(m.Run())
	case "commit":
		err = commitForEver(path)
	case "full":
		err = fillDisk(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func self(t *testing.T, part, path string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "STORE_TEST_PART="+part, "STORE_TEST_PATH="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// numbered is the n-th effects: a row in every table, all telling n.
func numbered(n int) Effects {
	a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	from := t0.Add(time.Duration(n) * time.Second)
	return Effects{
		Positions: map[string][]byte{"log": []byte(strconv.Itoa(n))},
		Bans:      []lease.Lease{ban(netip.PrefixFrom(a, 32).String(), from, 0)},
		Unbans:    []Unban{{Prefix: netip.PrefixFrom(a, 24), At: from}},
		Grants:    []lease.Lease{grant(netip.PrefixFrom(a, 32).String(), from, 0)},
		Revokes:   []Revoke{{Prefix: netip.PrefixFrom(a, 24), At: from}},
		Logins:    []sshlog.Login{{Addr: a, User: "u", Time: from}},
		Counts:    []Count{{Day: "2026-11-22", Kind: "failed", Lines: 1}},
		Onsets:    []Onset{{Prefix: netip.PrefixFrom(a, 32), Begun: from, First: from.Add(-time.Minute)}},
		Rules:     []RuleCount{{Day: "2026-11-22", Chain: "ssh", Rule: "not in JP", Drops: true, Packets: uint64(n), Bytes: uint64(60 * n), Fresh: true}},
	}
}

// reached is the last n of a store that numbered effects were committed to; an
// error says which table has more or less.
func reached(ctx context.Context, s *Store) (int, error) {
	positions, err := s.Positions(ctx)
	if err != nil {
		return 0, err
	}
	n, _ := strconv.Atoi(string(positions["log"]))
	var bans, unbans, grants, revokes, logins, lines, onsets, packets int
	err = errors.Join(
		s.LiveBans(ctx, t0.AddDate(9, 0, 0), func(l lease.Lease) error { bans++; return nil }),
		s.Unbans(ctx, t0, func(Unban) error { unbans++; return nil }),
		s.LiveGrants(ctx, t0.AddDate(9, 0, 0), func(l lease.Lease) error { grants++; return nil }),
		s.Revokes(ctx, t0, func(Revoke) error { revokes++; return nil }),
		s.Logins(ctx, t0, func(sshlog.Login) error { logins++; return nil }),
		s.Counts(ctx, "", func(c Count) error { lines += c.Lines; return nil }),
		s.Onsets(ctx, t0, func(Onset) error { onsets++; return nil }),
		s.Rules(ctx, "", func(c RuleCount) error { packets += int(c.Packets); return nil }))
	if err == nil && (bans != n || unbans != n || grants != n || revokes != n || logins != n || lines != n || onsets != n || packets != n) {
		err = fmt.Errorf("half a commit: position %d, %d bans, %d unbans, %d grants, %d revokes, %d logins, %d lines, %d onsets, %d packets", n, bans, unbans, grants, revokes, logins, lines, onsets, packets)
	}
	return n, err
}

func commitForEver(path string) error {
	ctx := context.Background()
	s, report, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	if report.SetAside != "" {
		return fmt.Errorf("set aside: %+v", report)
	}
	n, err := reached(ctx, s)
	for err == nil {
		n++
		if err = s.Commit(ctx, numbered(n)); err == nil {
			fmt.Println(n)
		}
	}
	return err
}

// Killed at any moment, the first of its life included: what was acknowledged
// is there, and there is no half of anything.
func TestKill(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	path := filepath.Join(t.TempDir(), "state", "state.db")
	acked := 0
	for round := range rounds {
		cmd := self(t, "commit", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Every fourth dies around its opening, the others in the middle of commits.
		delay, after := rand.N(30*time.Millisecond), 0
		if round%4 != 0 {
			delay, after = rand.N(3*time.Millisecond), 1+rand.N(20)
		}
		kill := func() { time.AfterFunc(delay, func() { cmd.Process.Kill() }) }
		if after == 0 {
			kill()
		}
		lines := bufio.NewScanner(out)
		for i := 1; lines.Scan(); i++ {
			if acked, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
			if i == after {
				kill()
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("round %d: the child ended by itself: %v", round, err)
		}
		if round%2 == 0 {
			continue // the next child finds the log as this one left it
		}
		s, report, err := Open(t.Context(), path, Options{})
		if err != nil || report.SetAside != "" {
			t.Fatalf("round %d: %+v, %v", round, report, err)
		}
		n, err := reached(t.Context(), s)
		if err != nil || n < acked {
			t.Fatalf("round %d: %d was acknowledged, %d is there: %v", round, acked, n, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d commits, %d kills", acked, rounds)
}

// A full disk: the commit that does not fit is not made, none before it is
// hurt, and commits work again when there is room.
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

func fillDisk(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m,mode=0700"); err != nil {
		return err
	}
	ctx := context.Background()
	path, ballast := filepath.Join(dir, "state.db"), filepath.Join(dir, "ballast")
	s, _, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	n := 0
	for round := range 3 {
		if err := fill(ballast, 2<<20>>(2*round)); err != nil {
			return err
		}
		for err = nil; err == nil; n++ {
			err = s.Commit(ctx, numbered(n+1))
		}
		n--
		if !errors.Is(err, ErrDegraded) || errors.Is(err, ErrCorrupt) {
			return fmt.Errorf("round %d: the %d-th commit on a full disk: %w", round, n, err)
		}
		if got, err := reached(ctx, s); err != nil || got != n {
			return fmt.Errorf("round %d: %d of %d are there: %w", round, got, n, err)
		}
		if err := fill(ballast, 9<<20); !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		// A start on a full disk: nothing is lost, whatever can be read now.
		s.Close()
		report := Report{}
		if s, report, err = Open(ctx, path, Options{}); err != nil && !errors.Is(err, ErrDegraded) || report.SetAside != "" {
			return fmt.Errorf("round %d: open on a full disk: %+v: %w", round, report, err)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "opening on a full disk:", err)
		}
		if err := s.Commit(ctx, numbered(n+1)); err == nil {
			n++ // it fitted
		}
		if err := os.Remove(ballast); err != nil {
			return err
		}
		if s.broken() {
			if _, err := s.Reopen(ctx); err != nil {
				return err
			}
		}
		n++
		if err := s.Commit(ctx, numbered(n)); err != nil {
			return fmt.Errorf("round %d: with room again: %w", round, err)
		}
		if got, err := reached(ctx, s); err != nil || got != n {
			return fmt.Errorf("round %d: %d of %d are there: %w", round, got, n, err)
		}
	}
	return nil
}

func fill(path string, size int) error {
	return os.WriteFile(path, make([]byte, size), 0o600)
}
