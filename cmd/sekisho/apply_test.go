package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sekisho/internal/lab"
	"sekisho/internal/run"
)

// said is what a program has written so far.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// command is `sekisho` as a process on the host, typed in the session of a client.
type command struct {
	child *run.Child
	said  said
}

func (h *host) command(t *testing.T, session *lab.Session, args ...string) *command {
	t.Helper()
	return h.commandTo(t, nil, session, args...)
}

// commandTo is command, but for where its standard output goes; nil: command.said.
func (h *host) commandTo(t *testing.T, to io.Writer, session *lab.Session, args ...string) *command {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	connection := ""
	if session != nil {
		connection = fmt.Sprintf("%s %d %s %d", session.From.Addr(), session.From.Port(), session.To.Addr(), session.To.Port())
	}
	c := &command{}
	if to == nil {
		to = &c.said
	}
	c.child, err = h.Start(context.WithoutCancel(t.Context()), run.Command{
		Args: append(append([]string{self}, args...), h.flags()...), Env: append(append(os.Environ(), h.env...), beSekisho+"=1", "SSH_CONNECTION="+connection),
		Stdout: to, Stderr: &c.said,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// says waits until the program has said something.
func (c *command) says(t *testing.T, pattern string) {
	t.Helper()
	eventually(t, fmt.Sprintf("it says %q", pattern), func() bool { return regexp.MustCompile(pattern).MatchString(c.said.String()) })
}

// ends waits for the program's end, which must have this exit code and these words.
func (c *command) ends(t *testing.T, code int, patterns ...string) {
	t.Helper()
	got := 0
	if err := c.child.Wait(); err != nil {
		got = -1
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			got = exit.ExitCode()
		}
	}
	if got != code {
		t.Errorf("exit %d, want %d:\n%s", got, code, c.said.String())
	}
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(c.said.String()) {
			t.Errorf("%q is not in:\n%s", p, c.said.String())
		}
	}
}

// TestApplyAlone is the life of a rule set where no daemon runs: each command is a
// process that a person types in an SSH session.
func TestApplyAlone(t *testing.T) {
	t.Parallel() // it waits most of the time
	h := newHost(t, lab.Options{}, "exposure: fixed\n")
	admin, err := h.Login(t.Context(), lab.Admin4)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	h.command(t, admin, "plan").ends(t, 2, `no rule set is in force`, `exposure: fixed`, `\+ drop: only admins`,
		"you are logged in from "+regexp.QuoteMeta(lab.Admin4.String())+", which would be let in")
	if h.standing(t).Table {
		t.Error("plan changed the kernel")
	}

	// Its terminal goes away, nobody takes what it says, and a new login confirms it.
	taker, giver, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	apply := h.commandTo(t, giver, admin, "apply", "--within", "40s")
	giver.Close()
	apply.says(t, "On trial until")
	taker.Close()
	if h.answers(t, visitor) {
		t.Error("on trial, but a visitor is let in")
	}
	if err := apply.child.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	second, err := h.Login(t.Context(), lab.Admin6)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	apply.ends(t, 0, "a new login came through the new rules: .*"+regexp.QuoteMeta(lab.Admin6.String()))
	if s := h.standing(t); s.Confirmed != 1 || s.Staged != 0 {
		t.Errorf("confirmed, but the kernel holds %+v", s)
	}
	h.command(t, admin, "plan").ends(t, 0, "nothing would change")
	h.command(t, admin, "apply").ends(t, 0, "nothing would change")

	// Ctrl-C goes back.
	h.configure(t, "exposure: public\n")
	h.command(t, admin, "plan").ends(t, 2, `exposure: fixed -> public`, `- drop: only admins`)
	apply = h.command(t, admin, "apply", "--within", "40s")
	apply.says(t, "On trial until")
	if !h.answers(t, visitor) {
		t.Error("on trial, but a visitor is kept out")
	}
	if err := apply.child.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	apply.ends(t, 1, "going back", "reverted: the rules before are in force")
	if s := h.standing(t); s.Confirmed != 1 || s.Staged != 0 || h.answers(t, visitor) {
		t.Errorf("reverted, but the kernel holds %+v", s)
	}

	// The session that was there before proves nothing; a new one does.
	apply = h.command(t, admin, "apply", "--within", "40s")
	apply.says(t, "On trial until")
	h.command(t, admin, "confirm").ends(t, 1, "this session was there before the trial", "hint: log in anew")
	h.command(t, nil, "confirm").ends(t, 1, "this is no SSH session", "--force")
	third, err := h.Login(t.Context(), visitor)
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	h.command(t, third, "confirm").ends(t, 0, "confirmed")
	apply.ends(t, 0, `rule set \d+ is in force, confirmed by .*in the session from `+regexp.QuoteMeta(visitor.String()))

	// Who would lock himself out is told so, and by which rule.
	h.configure(t, "exposure: fixed\n")
	h.command(t, third, "apply").ends(t, 1, "refused: "+regexp.QuoteMeta(visitor.String())+" would be locked out: .*only admins", "nothing was changed")
	h.command(t, third, "apply", "--force", "--no-wait").ends(t, 0, "without waiting for proof")

	// Boot, and a boot that fails: the host is left as it is.
	if err := h.kernel.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.command(t, nil, "boot").ends(t, 0)
	before := h.standing(t)
	if before.Confirmed == 0 || h.answers(t, visitor) {
		t.Errorf("booted, but the kernel holds %+v", before)
	}
	snapshot := filepath.Join(h.stateDir(), "firewall.json")
	whole, err := os.ReadFile(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(snapshot, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	h.command(t, nil, "boot").ends(t, 1, "sekisho: .*firewall.json", "hint: ")
	if after := h.standing(t); after != before {
		t.Errorf("a boot that failed made %+v of %+v", after, before)
	}
	if err := os.WriteFile(snapshot, whole, 0o600); err != nil {
		t.Fatal(err)
	}

	h.command(t, admin, "off").ends(t, 2, "there is nobody to ask", "hint: if you mean it: sekisho off --yes")
	h.command(t, admin, "off", "--yes").ends(t, 0, "nothing of ours is in the kernel")
	h.command(t, nil, "boot").ends(t, 0)
	if h.standing(t).Table || !h.answers(t, visitor) {
		t.Error("off, but our table is there")
	}
}

// TestGrantLife is the life of a grant, and what status and why say of it.
func TestGrantLife(t *testing.T) {
	t.Parallel() // it waits most of the time
	h := newHost(t, lab.Options{}, "exposure: on_request\n")
	h.up(t)
	if _, errs, code := h.sekisho(t, "apply", "--no-wait"); code != 0 {
		t.Fatalf("apply: exit %d: %s", code, errs)
	}
	if out := h.mustRun(t, "status"); !strings.Contains(out, "exposure on_request") {
		t.Errorf("status:\n%s", out)
	}
	if h.answers(t, visitor) {
		t.Error("a visitor without a grant is let in")
	}
	if out := h.mustRun(t, "why", visitor.String()); !strings.Contains(out, `a new connection is dropped by the rule "only admins, and whoever holds a grant"`) {
		t.Errorf("why:\n%s", out)
	}
	h.mustRun(t, "open", "--addr", visitor.String(), "--for", "10m", "--reason", "visits")
	if !h.answers(t, visitor) {
		t.Error("a visitor with a grant is kept out")
	}
	if out := h.mustRun(t, "why", visitor.String()); !strings.Contains(out, "a new connection is let in") || !strings.Contains(out, "visits") {
		t.Errorf("why:\n%s", out)
	}
	if out := h.mustRun(t, "leases"); !strings.Contains(out, visitor.String()) || !strings.Contains(out, "visits") {
		t.Errorf("leases:\n%s", out)
	}
	h.mustRun(t, "close", "--addr", visitor.String())
	if h.answers(t, visitor) {
		t.Error("a visitor whose grant has ended is let in")
	}
}
