package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sekisho/internal/run"
)

// helperEnv makes the test binary build a lab and wait to be killed.
const helperEnv = "SEKISHO_LAB_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		if err := buildAndWait(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// buildAndWait tells of a lab in full use: the folder, sshd's PID, the PIDs of
// a program on the host and of that program's own child, the two network
// namespaces. It never returns but with an error.
func buildAndWait() error {
	ctx := context.Background()
	l, err := New(ctx, Options{})
	if err != nil {
		return err
	}
	if _, err := l.Login(ctx, Admin4); err != nil {
		return err
	}
	child, err := l.Start(ctx, run.Command{Args: []string{"sh", "-c", "sleep 1000 & echo $!; wait"}})
	if err != nil {
		return err
	}
	var grandchild int
	if _, err := fmt.Fscan(child.Stdout, &grandchild); err != nil {
		return err
	}
	fmt.Println(l.scrap.dir, l.server.child.PID(), child.PID(), grandchild, inode(l.Host), inode(l.World))
	select {}
}

func inode(n *Namespace) uint64 {
	var st syscall.Stat_t
	if err := syscall.Fstat(n.FD(), &st); err != nil {
		return 0
	}
	return st.Ino
}

// TestKill kills a lab in full use and looks for what is left.
func TestKill(t *testing.T) {
	sshd, err := FindSSHD()
	if err == nil {
		err = Available(sshd)
	}
	if err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	before := read(t, "/proc/self/mountinfo")

	victim, err := run.Start(t.Context(), run.Command{
		Args: []string{os.Args[0]},
		Env:  append(os.Environ(), helperEnv+"=1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var dir string
	var server, child, grandchild int
	var host, world uint64
	report, err := bufio.NewReader(victim.Stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("no lab: %v (%s)", err, victim.Stderr())
	}
	if _, err := fmt.Sscan(report, &dir, &server, &child, &grandchild, &host, &world); err != nil {
		t.Fatal(err)
	}
	if got := inNamespaces(host, world); len(got) < 4 {
		t.Errorf("in the lab's namespaces are %v, want sshd, its session, a program and its child", got)
	}
	if err := victim.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	victim.Wait()

	// All but the grandchild go at once.
	eventually(t, "the lab's processes to end", func() error {
		if got := inNamespaces(host, world); len(got) > 1 || len(got) == 1 && got[0] != grandchild {
			return fmt.Errorf("still there: %v (sshd %d, child %d)", got, server, child)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(dir, "auth.log")); err != nil {
		t.Errorf("the folder is gone before the sweep: %v", err)
	}

	var swept bytes.Buffer
	if err := sweep(os.TempDir(), slog.New(slog.NewTextHandler(&swept, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(swept.String(), "processes=1") {
		t.Errorf("the sweep said %q, want one process", swept.String())
	}
	eventually(t, "the grandchild to end", func() error {
		if got := inNamespaces(host, world); len(got) > 0 {
			return fmt.Errorf("still there: %v", got)
		}
		return nil
	})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
	if got := read(t, "/proc/self/mountinfo"); got != before {
		t.Errorf("the machine's mounts have changed:\n%s\nwere\n%s", got, before)
	}
}

// inNamespaces returns the processes in any of the network namespaces.
func inNamespaces(inodes ...uint64) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		for _, inode := range inodes {
			if target == fmt.Sprintf("net:[%d]", inode) {
				var pid int
				fmt.Sscanf(link, "/proc/%d/", &pid)
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// eventually polls what only the kernel knows the end of.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited for %s: %v", what, err)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestSweepLeavesOthers(t *testing.T) {
	parent := t.TempDir()
	live, err := newScrapIn(parent)
	if err != nil {
		t.Fatal(err)
	}
	defer live.remove()
	dead, err := newScrapIn(parent)
	if err != nil {
		t.Fatal(err)
	}
	dead.lock.Close()
	unlocked := filepath.Join(parent, "sekisho-lab-young")
	foreign := filepath.Join(parent, "sekisho-lab-link")
	if err := errors.Join(os.Mkdir(unlocked, 0o755), os.Symlink(live.dir, foreign)); err != nil {
		t.Fatal(err)
	}
	if err := sweep(parent, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		want bool
	}{{live.dir, true}, {dead.dir, false}, {unlocked, true}, {foreign, true}} {
		_, err := os.Lstat(tt.path)
		if got := err == nil; got != tt.want {
			t.Errorf("%s is there: %t, want %t", tt.path, got, tt.want)
		}
	}
}
