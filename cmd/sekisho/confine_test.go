package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/daemon"
	"sekisho/internal/lab"
	"sekisho/internal/trial"
)

// confined has the daemon be the service, in a program without cgo, as the one that is
// installed: the kernel holds it to its folders.
func (h *host) confined(t *testing.T) {
	t.Helper()
	if version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 || version < 2 {
		t.Skipf("LEFT OUT: needs a kernel with Landlock of version 2 (Linux 5.19): this one has %d (%v)", version, errno)
	}
	h.daemon = filepath.Join(h.dir, "sekisho")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", h.daemon, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build sekisho: %v\n%s", err, out)
	}
	temporary := filepath.Join(h.dir, "tmp")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, "NOTIFY_SOCKET="+filepath.Join(h.dir, "notify"), "TMPDIR="+temporary) // the test's folder is in /tmp
}

// TestConfined: the daemon as a service does all that it does, and what it starts writes
// nowhere else.
func TestConfined(t *testing.T) {
	t.Parallel() // it waits most of the time
	h := newHost(t, lab.Options{}, "exposure: fixed\n")
	h.confined(t)
	h.up(t)
	admin, err := h.Login(t.Context(), lab.Admin4)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	h.caughtUp(t)
	a := h.apply(t, daemon.ApplyRequest{Peer: admin.From, Within: 30 * time.Second})
	a.until(t, trial.Armed)
	second, err := h.Login(t.Context(), lab.Admin6)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	e := a.until(t, trial.Confirmed)
	h.mustRun(t, "ban", attacker.String())

	// A trial that ends by itself, and a daemon that is killed and started again: its socket
	// and its lock are there already.
	h.configure(t, "exposure: public\n")
	a = h.apply(t, daemon.ApplyRequest{Peer: admin.From, Within: 5 * time.Second})
	a.until(t, trial.Armed)
	a.until(t, trial.Reverted)
	h.kill(t, syscall.SIGKILL)
	h.up(t)
	s, _ := h.status(t)
	if s.Firewall.Generation != e.Generation || !h.banned(t, attacker) {
		t.Errorf("status after the crash: %+v", s.Firewall)
	}

	// A program that a reload adds is held to the folders.
	mark := filepath.Join(h.dir, "mark")
	inside := filepath.Join(h.stateDir(), "mark")
	program := filepath.Join(h.dir, "tell")
	script := fmt.Sprintf("#!/bin/sh\necho x >%s\necho x >%s || exit 3\n", inside, mark)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	h.configure(t, "exposure: fixed\nnotify: {command: {argv: ["+program+"], events: [ban]}}\n")
	h.mustRun(t, "reload")
	h.mustRun(t, "ban", visitor.String())
	eventually(t, "the program is started", func() bool { _, err := os.Stat(inside); return err == nil })
	if _, err := os.Stat(mark); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what the daemon starts wrote elsewhere: %v", err)
	}
	h.kill(t, syscall.SIGTERM)
	said, err := os.ReadFile(h.said.Name())
	if err != nil || strings.Contains(string(said), "not held to folders") || strings.Contains(string(said), "read-only") {
		t.Errorf("the daemon said:\n%s", said)
	}
}
