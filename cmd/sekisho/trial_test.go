package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/firewall"
	"sekisho/internal/lab"
	"sekisho/internal/run"
	"sekisho/internal/trial"
)

// visitor is somebody who is no administrator.
var visitor = netip.MustParseAddr("198.51.100.9")

// ask sends a request to the daemon; the caller closes the answer's body.
func (h *host) ask(t *testing.T, path string, body any) *http.Response {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", h.socket())
		},
	}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://sekisho/v1/"+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// trying is a trial whose events are read as they come.
type trying struct {
	body  io.Closer
	lines *json.Decoder
}

func (h *host) apply(t *testing.T, q daemon.ApplyRequest) *trying {
	t.Helper()
	reply := h.ask(t, "apply", q)
	if reply.StatusCode != http.StatusOK {
		defer reply.Body.Close()
		text, _ := io.ReadAll(reply.Body)
		t.Fatalf("apply: %s: %s", reply.Status, text)
	}
	t.Cleanup(func() { reply.Body.Close() })
	return &trying{reply.Body, json.NewDecoder(reply.Body)}
}

// until reads on to a stage.
func (a *trying) until(t *testing.T, stage trial.Stage) trial.Event {
	t.Helper()
	for {
		var e struct {
			trial.Event
			Error string
		}
		if err := a.lines.Decode(&e); err != nil || e.Error != "" {
			t.Fatalf("the trial was over without %q: %v %s", stage, err, e.Error)
		}
		if e.Stage == stage {
			return e.Event
		}
	}
}

func (h *host) standing(t *testing.T) firewall.Standing {
	t.Helper()
	s, err := h.kernel.Standing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// boot is what sekisho-firewall.service does.
func (h *host) boot(t *testing.T) {
	t.Helper()
	err := h.InHost(func() error {
		return daemon.Boot(t.Context(), daemon.Options{
			Load:     func() (*config.Config, error) { return config.Load(h.configPath()) },
			StateDir: h.stateDir(),
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTrialLife is the life of a rule set on a real host: refused, confirmed by a new
// login, reverted by the kernel alone, repaired, booted, switched off.
func TestTrialLife(t *testing.T) {
	t.Parallel() // it waits most of the time
	h := newHost(t, lab.Options{}, "exposure: fixed\n")
	h.up(t)
	if !h.answers(t, visitor) {
		t.Fatal("a start put the file's rule set in force")
	}
	guest, err := h.Login(t.Context(), visitor)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	admin, err := h.Login(t.Context(), lab.Admin4)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	h.caughtUp(t)

	refused := h.ask(t, "apply", daemon.ApplyRequest{Peer: guest.From})
	refused.Body.Close()
	if refused.StatusCode != http.StatusConflict {
		t.Errorf("a guest who would be locked out applies: %s", refused.Status)
	}

	a := h.apply(t, daemon.ApplyRequest{Peer: admin.From, Within: 30 * time.Second})
	a.until(t, trial.Armed)
	if h.answers(t, visitor) {
		t.Error("on trial, but a visitor is let in")
	}
	second, err := h.Login(t.Context(), lab.Admin6)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	e := a.until(t, trial.Confirmed)
	if s := h.standing(t); s.Confirmed != e.Generation || s.Armed != 0 {
		t.Errorf("the kernel holds %+v, confirmed was %d", s, e.Generation)
	}
	for _, session := range []*lab.Session{guest, admin, second} {
		if err := session.Alive(t.Context()); err != nil {
			t.Errorf("the session from %s did not live through it: %v", session.From, err)
		}
	}
	h.mustRun(t, "ban", attacker.String())

	// Nobody confirms, and nobody of ours lives to revert.
	h.configure(t, "exposure: public\n")
	a = h.apply(t, daemon.ApplyRequest{Peer: admin.From, Within: 5 * time.Second})
	a.until(t, trial.Armed)
	if !h.answers(t, visitor) {
		t.Error("on trial, but a visitor is kept out")
	}
	h.kill(t, syscall.SIGKILL)
	eventually(t, "the kernel goes back by itself", func() bool { return h.standing(t).Armed == 0 })
	if h.answers(t, visitor) {
		t.Error("the trial outlived its time")
	}
	h.up(t)
	s, _ := h.status(t)
	if s.Firewall.Generation != e.Generation || s.Firewall.Exposure != "fixed" || s.Firewall.Applied || s.Firewall.Trial != nil {
		t.Errorf("status after the crash: %+v", s.Firewall)
	}

	needsNft(t)
	flush, err := h.Start(t.Context(), run.Command{Args: []string{"nft", "flush", "ruleset"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := flush.Wait(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the whole rule set is back", func() bool { return h.standing(t).Confirmed == e.Generation && h.banned(t, attacker) })
	if h.answers(t, visitor) {
		t.Error("flushed and repaired, but a visitor is let in")
	}

	// A reboot: nothing is in the kernel, and the daemon is not there yet.
	h.kill(t, syscall.SIGTERM)
	if err := h.kernel.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.boot(t)
	if h.answers(t, visitor) || !h.banned(t, attacker) {
		t.Error("booted, but a visitor is let in or a ban forgotten")
	}
	if third, err := h.Login(t.Context(), lab.Admin4); err != nil {
		t.Errorf("booted, and the administrator: %v", err)
	} else {
		third.Close()
	}

	h.up(t)
	off := h.ask(t, "off", struct{}{})
	off.Body.Close()
	if off.StatusCode != http.StatusOK || h.standing(t).Table {
		t.Errorf("off: %s", off.Status)
	}
	h.kill(t, syscall.SIGTERM)
	h.boot(t)
	if h.standing(t).Table {
		t.Error("booted what was switched off")
	}
	if left, err := filepath.Glob(filepath.Join(h.stateDir(), "firewall*.json")); err != nil || len(left) != 0 {
		t.Errorf("off left %v %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(h.stateDir(), "off")); err != nil {
		t.Error(err)
	}
}

// needsNft leaves a test out where there is no program to play the other tool.
func needsNft(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("LEFT OUT: needs the command nft, to play the other tool")
	}
}
