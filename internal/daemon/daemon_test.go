package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/lease"
	"sekisho/internal/store"
)

// dry starts a daemon that only tells, on a log that comes by a pipe.
func dry(t *testing.T, more string) (d *Daemon, log io.WriteCloser, dir string, done <-chan error) {
	t.Helper()
	dir = t.TempDir()
	in, log := io.Pipe()
	d = New(Options{
		Load: func() (*config.Config, error) {
			return config.Parse("test", []byte("version: 1\nguard: {enforce: no, mode: normal}\nlog: {source: stdin}\n"+more))
		},
		StateDir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "sock"), Stdin: in,
	})
	ended := make(chan error, 1)
	go func() { ended <- d.Run(t.Context()) }()
	select {
	case <-d.Ready():
	case err := <-ended:
		t.Fatalf("the daemon ended: %v", err)
	}
	return d, log, dir, ended
}

func failures(addr string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s host sshd[%d]: Failed password for root from %s port %d ssh2\n", time.Now().Format(time.RFC3339Nano), 100+i, addr, 2000+i)
	}
	return b.String()
}

// clientOf speaks to the daemon in dir.
func clientOf(dir string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "sock"))
	}}}
}

// control asks the daemon as the commands do.
func control(t *testing.T, dir, method, path, body string, into any) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://sekisho/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := clientOf(dir).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if err := json.NewDecoder(reply.Body).Decode(into); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return reply.StatusCode
}

// TestWholeLife: a log comes in on standard input, the ban is told and kept, a
// ban by hand and an unban work, and the end of the log ends the daemon.
func TestWholeLife(t *testing.T) {
	port := freePort(t)
	d, log, dir, done := dry(t, fmt.Sprintf("metrics: {listen: 127.0.0.1:%d}\n", port))
	if _, err := io.WriteString(log, failures("203.0.113.9", 5)+failures("127.0.0.1", 9)); err != nil {
		t.Fatal(err)
	}
	var bans []Ban
	for len(bans) == 0 {
		control(t, dir, "GET", "bans", "", &bans)
	}
	if len(bans) != 1 || bans[0].Prefix != netip.MustParsePrefix("203.0.113.9/32") || bans[0].Attempts != 5 || bans[0].Reason == "" {
		t.Errorf("bans: %+v", bans)
	}

	var f Failure
	if code := control(t, dir, "POST", "ban", `{"prefix":"127.0.0.1/32"}`, &f); code != http.StatusConflict || f.Hint == "" {
		t.Errorf("a ban of this host itself: %d %+v", code, f)
	}
	if code := control(t, dir, "POST", "ban", `{"prefix":"0.0.0.0/0"}`, &f); code != http.StatusBadRequest {
		t.Errorf("a ban of everybody: %d %+v", code, f)
	}
	if code := control(t, dir, "POST", "ban", `{"prefix":"198.51.100.0/24","colour":"red"}`, &f); code != http.StatusBadRequest {
		t.Errorf("an unknown field: %d %+v", code, f)
	}
	var ban Ban
	if code := control(t, dir, "POST", "ban", `{"prefix":"198.51.100.0/24","for_ns":-1,"reason":"x\u001b[2J"}`, &ban); code != http.StatusOK || ban.Until != nil || strings.Contains(ban.Reason, "\x1b") {
		t.Errorf("a ban without end: %d %+v", code, ban)
	}
	var lifted UnbanReply
	control(t, dir, "POST", "unban", `{"prefix":"203.0.113.9/32"}`, &lifted)
	if len(lifted.Lifted) != 1 {
		t.Errorf("lifted: %+v", lifted)
	}
	var why WhyReply
	control(t, dir, "GET", "why?addr=203.0.113.9", "", &why)
	if why.Banned || len(why.Earlier) != 1 {
		t.Errorf("why: %+v", why)
	}
	var status Status
	control(t, dir, "GET", "status", "", &status)
	if len(status.Sources) != 1 || status.Sources[0].SSHD != 14 || status.Enforcing || status.Bans != 1 {
		t.Errorf("status: %+v", status)
	}
	for _, want := range []string{`sekisho_events_total{kind="failed"} 14`, "sekisho_attempts_total 14", "sekisho_bans 1", `sekisho_bans_total{cause="attempts"} 1`} {
		if got := scrape(t, port); !strings.Contains(got, want) {
			t.Errorf("metrics lack %s:\n%s", want, got)
		}
	}

	log.Close()
	if err := <-done; err != nil {
		t.Errorf("the end of the log: %v", err)
	}
	kept := map[netip.Prefix]bool{}
	st, _, err := store.Open(t.Context(), filepath.Join(d.opts.StateDir, "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.LiveBans(t.Context(), time.Now(), func(l lease.Lease) error { kept[l.Prefix] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[netip.Prefix]bool{netip.MustParsePrefix("198.51.100.0/24"): true}, kept, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("kept bans (-want +got):\n%s", diff)
	}
}

// TestForgeable: lines without an envelope are shown and never banned on.
func TestForgeable(t *testing.T) {
	_, log, dir, done := dry(t, "")
	if _, err := io.WriteString(log, strings.Repeat("Failed password for root from 203.0.113.9 port 22 ssh2\n", 20)); err != nil {
		t.Fatal(err)
	}
	var status Status
	for len(status.Problems) < 2 { // the dry run is one
		control(t, dir, "GET", "status", "", &status)
	}
	if !strings.Contains(fmt.Sprint(status.Problems), "forge") {
		t.Errorf("status does not tell: %+v", status.Problems)
	}
	log.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	st, _, err := store.Open(t.Context(), filepath.Join(dir, "state", "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.LiveBans(t.Context(), time.Now(), func(l lease.Lease) error { t.Errorf("banned on a forgeable line: %v", l.Prefix); return nil }); err != nil {
		t.Fatal(err)
	}
}

// TestSecondDaemon: a live control socket is not taken over.
func TestSecondDaemon(t *testing.T) {
	_, log, dir, done := dry(t, "")
	defer func() { log.Close(); <-done }()
	if l, err := listenSocket(t.Context(), filepath.Join(dir, "sock")); err == nil {
		l.Close()
		t.Error("took over the socket of a live daemon")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := listenSocket(t.Context(), file); err == nil {
		l.Close()
		t.Error("replaced a file that is no socket")
	}
}

func TestGateways(t *testing.T) {
	dir := t.TempDir()
	v4, v6 := filepath.Join(dir, "v4"), filepath.Join(dir, "v6")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(v4, "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t020000C0\t0003\neth0\t000200C0\t00000000\t0001\n")
	write(v6, strings.Repeat("0", 32)+" 00 "+strings.Repeat("0", 32)+" 00 20010db8000a00000000000000000002 00000400\nshort line\n")
	want := []netip.Addr{netip.MustParseAddr("192.0.0.2"), netip.MustParseAddr("2001:db8:a::2")}
	if diff := cmp.Diff(want, gateways(v4, v6), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if got := gateways(filepath.Join(dir, "none"), filepath.Join(dir, "none")); len(got) != 0 {
		t.Errorf("no route files: %v", got)
	}
}

func TestPeerAllowed(t *testing.T) {
	tests := []struct {
		name string
		peer peer
		want bool
	}{
		{"root", peer{uid: 0}, true},
		{"ourselves", peer{uid: uint32(os.Geteuid())}, true},
		{"somebody else", peer{uid: 12345, gid: 12345}, false},
		{"unknown", peer{err: os.ErrInvalid}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.peer.allowed(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func scrape(t *testing.T, port int) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
