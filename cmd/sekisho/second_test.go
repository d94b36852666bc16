package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sekisho/internal/lab"
	"sekisho/internal/run"
)

// tryRun runs `sekisho run` on the lab's host with other flags, until it ends.
func (h *host) tryRun(t *testing.T, attr *syscall.SysProcAttr, flags ...string) (stderr string, failed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	args := append([]string{self, "run"}, append(h.flags(), flags...)...) // the last of a flag counts
	child, err := h.Start(ctx, run.Command{Args: args, Env: append(os.Environ(), beSekisho+"=1"), Stdout: io.Discard, Stderr: &said, Attr: attr})
	if err != nil {
		t.Fatal(err)
	}
	err = child.Wait()
	if ctx.Err() != nil {
		t.Fatalf("it did not end:\n%s", said.String())
	}
	t.Log(err)
	return said.String(), err != nil
}

// TestSecondDaemon: a second daemon on the same state, socket or table used to
// take the first one's bans out of the kernel, or to run without a memory for
// ever. It is told whose place is taken, and touches nothing.
func TestSecondDaemon(t *testing.T) {
	h := newHost(t, lab.Options{}, "")
	h.up(t)
	h.mustRun(t, "ban", attacker.String())
	tests := []struct {
		name  string
		flags []string
		want  string
	}{
		{"same state", []string{"--socket", filepath.Join(h.dir, "sock2")}, "holds the state directory"},
		{"same table", []string{"--socket", filepath.Join(h.dir, "sock2"), "--state-dir", filepath.Join(h.dir, "state2")}, "holds the table"},
		{"same socket", []string{"--state-dir", filepath.Join(h.dir, "state3")}, "another daemon answers"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			said, failed := h.tryRun(t, nil, test.flags...)
			if !failed || !strings.Contains(said, test.want) {
				t.Errorf("failed: %v, it said:\n%s", failed, said)
			}
			if test.name != "same socket" && (!strings.Contains(said, "(pid ") || !strings.Contains(said, "hint:")) {
				t.Errorf("it names no process, or nothing to do:\n%s", said)
			}
		})
	}
	if !h.banned(t, attacker) {
		t.Error("the ban of the first daemon is gone")
	}
	if s, ok := h.status(t); !ok || s.Drift != 0 || len(s.Problems) != 0 {
		t.Errorf("the first daemon was troubled: %+v", s)
	}
}

// TestWithoutCapability: who may not write nf_tables is told so, and how to go on.
func TestWithoutCapability(t *testing.T) {
	h := newHost(t, lab.Options{}, "")
	if err := os.Chmod(h.dir, 0o777); err != nil { //nolint:gosec // nobody makes its state in there
		t.Fatal(err)
	}
	for dir := filepath.Dir(h.dir); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // it comes by on its way
			t.Fatal(err)
		}
	}
	if err := os.Chmod(h.configPath(), 0o644); err != nil { //nolint:gosec // as above
		t.Fatal(err)
	}
	if self, err := os.Executable(); err != nil || os.Chmod(filepath.Dir(self), 0o755) != nil || os.Chmod(filepath.Dir(filepath.Dir(self)), 0o755) != nil { //nolint:gosec // as above
		t.Fatal(err)
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	said, failed := h.tryRun(t, nobody)
	for _, want := range []string{"CAP_NET_ADMIN", "hint:", "guard.enforce: no"} {
		if !failed || !strings.Contains(said, want) {
			t.Errorf("failed: %v, %q is not said:\n%s", failed, want, said)
		}
	}
}

// TestStatusExit: scripts may ask whether all is well.
func TestStatusExit(t *testing.T) {
	h := newHost(t, lab.Options{}, "")
	if _, errs, code := h.sekisho(t, "status"); code != 3 || !strings.Contains(errs, "hint:") {
		t.Errorf("no daemon: exit %d, %s", code, errs)
	}
	h.up(t)
	if out, errs, code := h.sekisho(t, "status"); code != 0 || !strings.Contains(out, "nothing is wrong") {
		t.Errorf("all is well: exit %d, %s%s", code, out, errs)
	}
	h.configure(t, "guard: {enforce: no}\n")
	h.mustRun(t, "reload")
	if out, errs, code := h.sekisho(t, "status"); code != 1 || !strings.Contains(out, "dry run") || errs != "" {
		t.Errorf("a dry run: exit %d, %s%s", code, out, errs)
	}
	if out, _, code := h.sekisho(t, "status", "--json"); code != 1 || !strings.HasPrefix(out, "{") {
		t.Errorf("a dry run: exit %d, %s", code, out)
	}
}
