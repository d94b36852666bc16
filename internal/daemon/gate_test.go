package daemon

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/config"
	"sekisho/internal/firewall"
	"sekisho/internal/gate/agent"
	"sekisho/internal/gate/api"
	"sekisho/internal/lease"
	"sekisho/internal/store"
)

const (
	grantA = "AAAAAAAAAAAAAAAA1"
	grantB = "BBBBBBBBBBBBBBBB1"
)

// opens gives a fake firewall rules of that exposure, as if they had been confirmed.
func opens(t *testing.T, d *Daemon, exposure firewall.Exposure) *firewall.Fake {
	t.Helper()
	fake := firewall.NewFake(nil)
	state := firewall.State{Ports: []uint16{22}, SSHOnly: true, Ruleset: firewall.Ruleset{Generation: 1, Rules: firewall.Rules{Mode: firewall.ModeGuard, Ports: []uint16{22}, Exposure: exposure}.Canonical()}}
	if err := fake.Ensure(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fw, d.table, d.want, d.kept = fake, io.NopCloser(nil), state, keepState
	return fake
}

// kernelGrantsOf are what is left of the kernel's grants, in whole seconds.
func kernelGrantsOf(t *testing.T, fw firewall.Firewall) map[string]int {
	t.Helper()
	got := map[string]int{}
	if err := fw.Grants(t.Context(), func(g firewall.Grant) error {
		got[g.Prefix.String()] = int(g.Left.Round(time.Second) / time.Second)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func gateGrant(id, person, prefix string, left time.Duration) agent.Grant {
	return agent.Grant{ID: id, Person: person, Prefix: netip.MustParsePrefix(prefix), Until: time.Now().Add(left), Port: 22}
}

func words(errs []error) []string {
	res := make([]string, len(errs))
	for i, err := range errs {
		if err != nil {
			res[i] = err.Error()
		}
	}
	return res
}

// TestGateHost: what the gate's grants come to on this host.
func TestGateHost(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\nssh: {port: [22, 2222]}\n")
	f.start(t)
	fake := opens(t, f.Daemon, firewall.ExposureOnRequest)
	ctx, h := t.Context(), gateHost{f.Daemon}
	check := func(what string, errs []error, want ...string) {
		t.Helper()
		if got := words(errs); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	kernel := func(what string, want map[string]int) {
		t.Helper()
		if got := kernelGrantsOf(t, fake); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: the kernel holds %v, want %v", what, got, want)
		}
	}
	if _, err := f.Ban(ctx, BanRequest{Prefix: netip.MustParsePrefix("198.51.100.0/24")}, "root"); err != nil {
		t.Fatal(err)
	}
	other := gateGrant(grantB, "p", "192.0.2.9/32", time.Hour)
	other.Port = 80
	check("let", h.Let(ctx, []agent.Grant{
		gateGrant(grantA, "hanako", "192.0.2.1/32", 100*time.Second),
		gateGrant("BANNED0000000000", "taro", "198.51.100.7/32", time.Hour),
		other,
		gateGrant("OVER000000000000", "taro", "192.0.2.8/32", -1),
	}), "", "198.51.100.0/24 is banned, which a grant does not change", "port 80 is none of SSH's on this host (ssh.port)", "its time is over")
	kernel("let", map[string]int{"192.0.2.1/32": 100})

	// Two people on one address, and a grant of this host's own.
	check("two", h.Let(ctx, []agent.Grant{gateGrant(grantB, "taro", "192.0.2.1/32", 500*time.Second)}), "")
	kernel("two", map[string]int{"192.0.2.1/32": 500})
	if _, err := f.Grant(ctx, GrantRequest{Prefix: netip.MustParsePrefix("192.0.2.1/32"), For: 200 * time.Second}, "root"); err != nil {
		t.Fatal(err)
	}
	kernel("the host's own is shorter", map[string]int{"192.0.2.1/32": 500})
	check("end", h.End(ctx, []agent.Grant{gateGrant(grantB, "taro", "192.0.2.1/32", 0)}), "")
	kernel("the longest has ended", map[string]int{"192.0.2.1/32": 200})
	check("shorter", h.Let(ctx, []agent.Grant{gateGrant(grantA, "hanako", "192.0.2.1/32", 50*time.Second)}), "")
	kernel("the host's own stays", map[string]int{"192.0.2.1/32": 200})
	check("end again", h.End(ctx, []agent.Grant{gateGrant(grantA, "hanako", "192.0.2.1/32", 0), gateGrant(grantB, "taro", "192.0.2.1/32", 0)}), "", "")
	kernel("the gate's are gone", map[string]int{"192.0.2.1/32": 200})
	if len(h.Held()) != 0 {
		t.Errorf("held: %+v", h.Held())
	}

	// What is taken back here stays so.
	g := gateGrant(grantA, "hanako", "192.0.2.5/32", time.Hour)
	check("let", h.Let(ctx, []agent.Grant{g}), "")
	reply, err := f.Revoke(ctx, RevokeRequest{All: true}, "root")
	if err != nil || len(reply.Revoked) != 2 {
		t.Fatalf("%+v, %v", reply, err)
	}
	kernel("revoked", map[string]int{})
	check("asked again", h.Let(ctx, []agent.Grant{g}), "it was taken back on this host; ask for a new one")
	kernel("asked again", map[string]int{})
	var ended, taken int
	if err := f.store.Grants(ctx, time.Now().Add(-time.Hour), func(l lease.Lease) error {
		if !l.Until.After(time.Now()) {
			ended++
		}
		if l.Cause == takenCause+grantA {
			taken++
		}
		return nil
	}); err != nil || ended != 4 || taken != 1 {
		t.Errorf("%d are over in the store and %d taken back, %v", ended, taken, err)
	}

	// Where grants do not count, that is told.
	f.Daemon.mu.Lock()
	f.want.Ruleset.Rules.Exposure = firewall.ExposureFixed
	f.Daemon.mu.Unlock()
	g = gateGrant(grantB, "hanako", "192.0.2.6/32", time.Hour)
	check("fixed", h.Let(ctx, []agent.Grant{g}), "with exposure: fixed nobody is let in by a grant")
	f.Daemon.mu.Lock()
	f.want.Ruleset.Rules.Exposure = firewall.ExposureOnRequest
	f.trying = newTrying(f.cfg, f.want.Ruleset.Countries)
	f.trying.rules.Exposure = firewall.ExposureFixed
	f.Daemon.mu.Unlock()
	check("on trial", h.Let(ctx, []agent.Grant{g}), "the host tries a rule set by which nobody is let in by a grant")
	f.Daemon.mu.Lock()
	f.trying, f.want.Ruleset.Generation = nil, 0
	f.Daemon.mu.Unlock()
	check("no rules", h.Let(ctx, []agent.Grant{g}), "the host has no rule set in force (sekisho apply): it lets everybody in, or another decides")
	f.setKept(keepNothing, false)
	check("off", h.Let(ctx, []agent.Grant{g}), "the host's firewall is not in force (a dry run, or off): it lets everybody in, or another decides")
}

// TestGateSeen: who holds a grant by now was not turned away.
func TestGateSeen(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	ctx, h := t.Context(), gateHost{f.Daemon}
	if away, _, err := h.Seen(ctx); err != nil || len(away) > 0 {
		t.Errorf("without a firewall: %v, %v", away, err)
	}
	fake := opens(t, f.Daemon, firewall.ExposureOnRequest)
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"} {
		fake.Knock(netip.MustParseAddr(a))
	}
	if got := words(h.Let(ctx, []agent.Grant{gateGrant(grantA, "hanako", "192.0.2.1/32", time.Hour), gateGrant(grantB, "hanako", "2001:db8::/64", time.Hour)})); got[0] != "" || got[1] != "" {
		t.Fatalf("%q", got)
	}
	fake.Knock(netip.MustParseAddr("2001:db8::7"))
	away, in, err := h.Seen(ctx)
	slices.SortFunc(away, netip.Addr.Compare)
	if err != nil || fmt.Sprint(away) != "[192.0.2.2 2001:db8:0:1::1]" || !slices.Contains(in, netip.MustParseAddr("2001:db8::7")) {
		t.Errorf("%v, %v, %v", away, in, err)
	}
	fake.FailCall("Knocks", errors.New("no"))
	if _, _, err := h.Seen(ctx); err == nil {
		t.Error("no error")
	}
}

// TestGateUnput: what the kernel did not take is told, and tried again.
func TestGateUnput(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	fake := opens(t, f.Daemon, firewall.ExposureOnRequest)
	ctx, h := t.Context(), gateHost{f.Daemon}
	broken := &brokenGrants{Firewall: fake}
	f.Daemon.mu.Lock()
	f.fw = broken
	f.Daemon.mu.Unlock()
	g := gateGrant(grantA, "hanako", "192.0.2.1/32", time.Hour)
	for range 2 {
		if got := words(h.Let(ctx, []agent.Grant{g})); got[0] != "the kernel did not take it yet: no" {
			t.Errorf("%q", got)
		}
	}
	broken.mend()
	if got := words(h.Let(ctx, []agent.Grant{g})); got[0] != "" {
		t.Errorf("%q", got)
	}
	if got := kernelGrantsOf(t, fake); got["192.0.2.1/32"] != 3600 {
		t.Errorf("the kernel holds %v", got)
	}
	broken.breaks()
	if got := words(h.End(ctx, []agent.Grant{g})); got[0] != "the kernel did not let go of it yet: no" {
		t.Errorf("%q", got)
	}
	broken.mend()
	if got := words(h.End(ctx, []agent.Grant{g})); got[0] != "" || len(kernelGrantsOf(t, fake)) != 0 {
		t.Errorf("%q, %v", got, kernelGrantsOf(t, fake))
	}
}

// brokenGrants is a firewall that takes no grants.
type brokenGrants struct {
	firewall.Firewall
	mu   sync.Mutex
	well bool
}

func (b *brokenGrants) mend()   { b.mu.Lock(); b.well = true; b.mu.Unlock() }
func (b *brokenGrants) breaks() { b.mu.Lock(); b.well = false; b.mu.Unlock() }

func (b *brokenGrants) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.well {
		return nil
	}
	return errors.New("no")
}

func (b *brokenGrants) Grant(ctx context.Context, g []firewall.Grant) error {
	if err := b.err(); err != nil {
		return err
	}
	return b.Firewall.Grant(ctx, g)
}

func (b *brokenGrants) Ungrant(ctx context.Context, p []netip.Prefix) error {
	if err := b.err(); err != nil {
		return err
	}
	return b.Firewall.Ungrant(ctx, p)
}

// TestGateManyBans: one look at all bans finds what touches which grant.
func TestGateManyBans(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	tests := []struct {
		name, ban, grant string
		want             bool
	}{
		{"the address", "203.0.113.1/32", "203.0.113.1/32", true},
		{"its neighbour", "203.0.113.2/32", "203.0.113.1/32", false},
		{"its network", "203.0.113.0/24", "203.0.113.1/32", true},
		{"an address of IPv6", "2001:db8::1/128", "2001:db8::1/128", true},
		{"another of the same /64", "2001:db8::2/128", "2001:db8::1/128", false},
		{"its /64", "2001:db8::/64", "2001:db8::1/128", true},
		{"one within", "2001:db8::7/128", "2001:db8::/64", true},
		{"part of it", "2001:db8::/96", "2001:db8::/64", true},
		{"more than it", "2001:db8::/32", "2001:db8::/64", true},
		{"the next", "2001:db8:0:1::/64", "2001:db8::/64", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ban, p := netip.MustParsePrefix(tt.ban), netip.MustParsePrefix(tt.grant)
			if _, err := f.Ban(t.Context(), BanRequest{Prefix: ban}, "root"); err != nil {
				t.Fatal(err)
			}
			f.Daemon.mu.Lock()
			got, found := f.bansOver([]netip.Prefix{netip.MustParsePrefix("198.51.100.1/32"), p}, time.Now())[p]
			f.Daemon.mu.Unlock()
			if found != tt.want || found && got != ban {
				t.Errorf("%v, %v", got, found)
			}
			if _, err := f.Unban(t.Context(), UnbanRequest{All: true}, "root"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestGateRestart: what the gate has granted is there after a restart, by its id and no
// longer than before, whatever the clock says.
func TestGateRestart(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	write := func(effects store.Effects) {
		t.Helper()
		st, _, err := store.Open(t.Context(), filepath.Join(dir, "state.db"), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		if err := st.Commit(t.Context(), effects); err != nil {
			t.Fatal(err)
		}
	}
	p := netip.MustParsePrefix("192.0.2.1/32")
	row := func(cause, holder string, from, until time.Duration) lease.Lease {
		return lease.Lease{Prefix: p, Verdict: lease.Allow, Cause: cause, Holder: holder, From: now.Add(from), Until: now.Add(until)}
	}
	write(store.Effects{Grants: []lease.Lease{
		row("manual", "root", -4*time.Hour, 100*time.Second),
		row("manual", "root", -3*time.Hour, 90*time.Second), // asked for anew, and shorter
		row(gateCause+grantA, "gate: hanako", -2*time.Hour, 3*time.Hour),
		row(gateCause+grantB, "gate: taro", -time.Hour, 50*time.Second),
		row(takenCause+"CCCCCCCCCCCCCCCC", "gate: goro", -30*time.Minute, -time.Minute),
	}})
	d := New(Options{StateDir: dir, Load: func() (*config.Config, error) { return config.Default(), nil }})
	d.cfg = config.Default()
	fake := opens(t, d, firewall.ExposureOnRequest)
	// The kernel has counted an hour that the clock has not.
	if err := fake.Grant(t.Context(), []firewall.Grant{{Prefix: p, Left: 2 * time.Hour}}); err != nil {
		t.Fatal(err)
	}
	st, _, err := store.Open(t.Context(), filepath.Join(dir, "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	d.store, d.rec = st, store.NewRecorder(st, store.RecorderOptions{})
	d.openEngine(t.Context(), true, false)
	var got []string
	for _, l := range d.Grants() {
		got = append(got, fmt.Sprintf("%s %v", l.Holder, l.Until.Sub(now).Round(10*time.Second)))
	}
	if want := []string{"gate: taro 50s", "root 1m40s", "gate: hanako 2h0m0s"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	held := gateHost{d}.Held()
	ids := []string{}
	for _, g := range held {
		ids = append(ids, g.ID+" "+g.Person)
	}
	if want := []string{grantB + " taro", grantA + " hanako"}; !slices.Equal(ids, want) {
		t.Errorf("%q, want %q", ids, want)
	}
	if _, taken := d.gate.taken["CCCCCCCCCCCCCCCC"]; !taken || len(d.gate.taken) != 1 {
		t.Errorf("taken back: %v", d.gate.taken)
	}
}

// TestGateRole: a host that is enrolled follows its gate, tells so, and stops when the
// configuration says so.
func TestGateRole(t *testing.T) {
	var mu sync.Mutex
	var reports []api.Report
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/hosts/stream", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"snapshot":{"host":"web-1","grants":[{"id":%q,"person":"hanako","prefix":"192.0.2.1/32","milliseconds":60000,"port":22}],"now":"2026-01-01T00:00:00Z","ticket":"T"}}`+"\n", grantA)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("POST /api/v1/hosts/report", func(_ http.ResponseWriter, r *http.Request) {
		var rep api.Report
		if err := json.NewDecoder(r.Body).Decode(&rep); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, rep)
	})
	gate := httptest.NewServer(mux)
	t.Cleanup(gate.Close)

	port := freePort(t)
	base := dryFiles + "log: {source: files, files: [DIR/a]}\n" + fmt.Sprintf("metrics: {listen: 127.0.0.1:%d}\n", port)
	f := follow(t, base+"gate: {url: "+strings.Replace(gate.URL, "127.0.0.1", "localhost", 1)+"}\n")
	f.start(t)
	t.Cleanup(gate.CloseClientConnections)
	if s := f.Status(t.Context()); s.Gate != nil {
		t.Errorf("it is enrolled nowhere: %+v", s.Gate)
	}
	opens(t, f.Daemon, firewall.ExposureOnRequest)
	key := filepath.Join(f.dir, "key")
	writeKey(t, key)
	if err := NoteEnrolled(f.opts.StateDir, Enrolment{URL: f.cfg.Gate.URL, Host: "web-1", Key: key}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(f.opts.StateDir, gateMarker)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	f.gateMayDiffer()
	eventually(t, "the grant", func() bool { s := f.Status(t.Context()).Gate; return s != nil && s.Connected && s.Grants == 1 })
	eventually(t, "the report", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(reports) > 0 && reports[0].Whole && slices.Equal(reports[0].Grants, []api.ReportedGrant{{ID: grantA, InForce: true}})
	})
	if got := f.Grants(); len(got) != 1 || got[0].Holder != "gate: hanako" {
		t.Errorf("%+v", got)
	}
	figures := scrape(t, port)
	for _, want := range []string{"sekisho_gate_connected 1", "sekisho_gate_grants 1", "sekisho_gate_grants_waiting 0", "sekisho_gate_reconnects_total 0"} {
		if !strings.Contains(figures, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}

	// Another gate: it is not followed, and what was granted stays to its end.
	f.set(base + "gate: {url: https://other.example.com}\n")
	if err := f.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the problem", func() bool {
		s := f.Status(t.Context())
		return s.Gate == nil && slices.ContainsFunc(s.Problems, func(p Problem) bool { return strings.Contains(p.What, "it follows neither") })
	})
	if len(f.Grants()) != 1 {
		t.Errorf("%+v", f.Grants())
	}
	f.set(base)
	if err := f.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no problem", func() bool {
		return !slices.ContainsFunc(f.Status(t.Context()).Problems, func(p Problem) bool { return strings.Contains(p.What, "enrolled") })
	})
}

// TestGateAway: a gate that is away for long is a problem, and so is what is not in force.
func TestGateAway(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	a := agent.New(agent.Options{URL: "https://gate.example.com", Host: gateHost{f.Daemon}})
	f.Daemon.mu.Lock()
	f.gate.agent, f.gate.where = a, Enrolment{URL: "https://gate.example.com", Host: "web-1"}
	f.Daemon.mu.Unlock()
	f.watchGate(time.Now())
	away := func() bool {
		return slices.ContainsFunc(f.Status(t.Context()).Problems, func(p Problem) bool {
			return strings.Contains(p.What, "there is no stream from the gate since") && p.Remedy != "" && p.Severity == Warning
		})
	}
	if away() {
		t.Error("told at once")
	}
	f.watchGate(time.Now().Add(gateAway))
	if !away() {
		t.Errorf("not told: %+v", f.Status(t.Context()).Problems)
	}
}

func TestEnrolled(t *testing.T) {
	tests := []struct {
		name, text string
		want       Enrolment
		wantErr    bool
	}{
		{name: "nowhere"},
		{name: "torn", text: `{"format"`, wantErr: true},
		{name: "another's", text: "{}", wantErr: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.text != "" {
				if err := os.WriteFile(filepath.Join(dir, gateMarker), []byte(tt.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Enrolled(dir)
			if got != tt.want || (err != nil) != tt.wantErr {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "new")
	want := Enrolment{URL: "https://gate.example.com", Host: "web-1", Key: "/etc/ssh/ssh_host_ed25519_key"}
	if err := NoteEnrolled(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := Enrolled(dir); got != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func writeKey(t *testing.T, path string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
}
