package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sekisho/internal/lab"
	"sekisho/internal/run"
)

// TestApplyAlone: where no daemon runs, apply is one for as long as the trial takes;
// it lives through the loss of its terminal, and a new login confirms.
func TestApplyAlone(t *testing.T) {
	h := newHost(t, lab.Options{}, "exposure: fixed\n")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func(args ...string) (*run.Child, *bytes.Buffer) { // on the host, not here
		t.Helper()
		var out bytes.Buffer
		child, err := h.Start(context.WithoutCancel(t.Context()), run.Command{
			Args: slices.Concat([]string{self}, args, h.flags()), Env: append(os.Environ(), beSekisho+"=1"),
			Stdout: &out, Stderr: h.said,
		})
		if err != nil {
			t.Fatal(err)
		}
		return child, &out
	}
	begin := func(within string) (*run.Child, *bytes.Buffer) {
		t.Helper()
		child, out := start("apply", "--yes", "--within", within)
		eventually(t, "the trial is armed", func() bool { return h.standing(t).Armed > 0 })
		return child, out
	}

	child, out := begin("30s")
	if h.answers(t, visitor) {
		t.Error("on trial, but a visitor is let in")
	}
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGPIPE} {
		if err := child.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	session, err := h.Login(t.Context(), lab.Admin4)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if err := child.Wait(); err != nil {
		t.Errorf("apply: %v\n%s", err, out)
	}
	if s := h.standing(t); s.Confirmed != 1 || s.Armed != 0 {
		t.Errorf("after the login: %+v", s)
	}
	if h.answers(t, visitor) {
		t.Error("confirmed, but a visitor is let in")
	}

	// An interrupt goes back at once.
	h.configure(t, "exposure: public\n")
	child, out = begin("60s")
	if err := child.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil {
		t.Errorf("an interrupted apply succeeded:\n%s", out)
	}
	if s := h.standing(t); s.Confirmed != 1 || s.Staged != 0 {
		t.Errorf("after the interrupt: %+v", s)
	}

	// confirm finds the trial where no daemon runs.
	child, out = begin("60s")
	h.mustRun(t, "confirm", "--force")
	if err := child.Wait(); err != nil {
		t.Errorf("apply: %v\n%s", err, out)
	}
	if !h.answers(t, visitor) {
		t.Error("confirmed, but a visitor is kept out")
	}
	child, out = start("off", "--yes")
	if err := child.Wait(); err != nil || !strings.Contains(out.String(), "off") || h.standing(t).Table {
		t.Errorf("off: %v: %s", err, out)
	}
}
