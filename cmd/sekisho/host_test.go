package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sekisho/internal/cli"
	"sekisho/internal/daemon"
	"sekisho/internal/firewall"
	"sekisho/internal/lab"
	"sekisho/internal/run"
)

// host is a lab with Sekisho as a real process on its host.
type host struct {
	*lab.Lab
	dir    string
	said   *os.File
	kernel *firewall.Kernel
	child  *run.Child
	env    []string // of programs, beside our own
	daemon string   // the daemon's program; "": the test's own
}

func newHost(t *testing.T, o lab.Options, config string) *host {
	t.Helper()
	if err := lab.Available(""); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	l, err := lab.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &host{Lab: l, dir: t.TempDir()}
	h.said, err = os.Create(filepath.Join(h.dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.said.Close()
		if t.Failed() {
			said, _ := os.ReadFile(h.said.Name())
			if len(said) > 20_000 {
				said = said[len(said)-20_000:]
			}
			t.Logf("the daemon said:\n%s", said)
		}
	})
	h.kernel, err = firewall.NewKernel(firewall.Options{NetNS: l.Host.FD()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.kernel.Close() })
	h.configure(t, config)
	return h
}

// configure writes the configuration: the lab's log, and what config adds.
func (h *host) configure(t *testing.T, config string) {
	t.Helper()
	source := fmt.Sprintf("version: 1\nadmins: [%s, %s]\nlog: {source: files, files: [%s]}\n%s", lab.Admin4, lab.Admin6, h.LogPath, config)
	if err := os.WriteFile(h.configPath(), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h *host) configPath() string { return filepath.Join(h.dir, "sekisho.yaml") }
func (h *host) stateDir() string   { return filepath.Join(h.dir, "state") }
func (h *host) socket() string     { return filepath.Join(h.dir, "run", "sock") }

func (h *host) flags() []string {
	return []string{"--config", h.configPath(), "--state-dir", h.stateDir(), "--socket", h.socket()}
}

// start starts the daemon and does not wait for it.
func (h *host) start(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self = cmp.Or(h.daemon, self)
	h.child, err = h.Start(context.WithoutCancel(t.Context()), run.Command{
		Args: append([]string{self, "run"}, h.flags()...), Env: append(append(os.Environ(), h.env...), beSekisho+"=1"),
		Stdout: h.said, Stderr: h.said,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// kill ends the daemon as the kernel would.
func (h *host) kill(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := h.child.Signal(s); err != nil {
		t.Fatal(err)
	}
	_ = h.child.Wait() // its exit code is what the signal makes it
	h.child = nil
}

// sekisho runs a command against the daemon and returns what it printed.
func (h *host) sekisho(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Run(t.Context(), append(args, h.flags()...), nil, &out, &errs)
	return out.String(), errs.String(), code
}

// status asks the daemon; ok is false while it does not answer.
func (h *host) status(t *testing.T) (s daemon.Status, ok bool) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", h.socket())
		},
	}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://sekisho/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := client.Do(request)
	if err != nil {
		return s, false
	}
	defer reply.Body.Close()
	return s, json.NewDecoder(reply.Body).Decode(&s) == nil
}

// caughtUp waits until the daemon has read all that stands in the log.
func (h *host) caughtUp(t *testing.T) {
	t.Helper()
	eventually(t, "the daemon reads its log to the end", func() bool {
		s, ok := h.status(t)
		if !ok || len(s.Sources) != 1 {
			return false
		}
		info, err := os.Stat(h.LogPath)
		if err != nil {
			t.Fatal(err)
		}
		return s.Sources[0].Offset == info.Size()
	})
}

// inKernel are the prefixes that the kernel drops.
func (h *host) inKernel(t *testing.T) map[netip.Prefix]bool {
	t.Helper()
	bans := map[netip.Prefix]bool{}
	err := h.kernel.Bans(t.Context(), func(b firewall.Ban) error { bans[b.Prefix] = true; return nil })
	if err != nil && !errors.Is(err, firewall.ErrAbsent) {
		t.Fatal(err)
	}
	return bans
}

// explained is what `explain` makes of the host's log: the reference, one pass
// without any interruption.
type explained struct {
	attempts map[netip.Addr]int
	bans     map[netip.Prefix]bool
}

func (h *host) explain(t *testing.T) explained {
	t.Helper()
	out, errs, code := h.sekisho(t, "explain", "--json", "--bans", h.LogPath)
	if code != 0 {
		t.Fatalf("explain: exit %d: %s", code, errs)
	}
	e := explained{map[netip.Addr]int{}, map[netip.Prefix]bool{}}
	for lines := bufio.NewScanner(bytes.NewBufferString(out)); lines.Scan(); {
		var line struct {
			Addr     netip.Addr
			Attempts int
			Ban      *struct{ Prefix netip.Prefix }
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("explain printed %q: %v", lines.Text(), err)
		}
		if line.Ban != nil {
			e.bans[line.Ban.Prefix] = true
		} else if line.Attempts > 0 {
			e.attempts[line.Addr] += line.Attempts
		}
	}
	return e
}

// eventually waits for a condition, and fails the test where it does not come.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("did not come: %s", what)
		}
		<-every.C
	}
}
