package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/firewall"
	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/store"
)

// said is a log that a test may read while it is written.
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

// following starts a dry daemon on log files, with a configuration that the test
// may change.
type following struct {
	*Daemon
	dir  string
	said said
	stop context.CancelFunc
	done chan error

	mu     sync.Mutex
	config string
}

// enforceInMemory gives the daemon a firewall of the test's own.
func (f *following) enforceInMemory() *firewall.Fake {
	fake := firewall.NewFake(nil)
	f.fw, f.table = fake, io.NopCloser(nil)
	close(f.armed)
	return fake
}

func follow(t *testing.T, source string) *following {
	t.Helper()
	f := &following{dir: t.TempDir(), done: make(chan error, 1)}
	f.set(source)
	f.Daemon = New(Options{
		Load: func() (*config.Config, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return config.Parse("test", []byte("version: 1\n"+strings.ReplaceAll(f.config, "DIR", f.dir)))
		},
		StateDir: filepath.Join(f.dir, "state"), Socket: filepath.Join(f.dir, "sock"),
		Logger: slog.New(slog.NewTextHandler(&f.said, nil)),
	})
	return f
}

func (f *following) set(config string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.config = config
}

func (f *following) start(t *testing.T) {
	t.Helper()
	f.write(t, "a", "")
	ctx, stop := context.WithCancel(t.Context())
	f.stop = stop
	go func() { f.done <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-f.done
		if t.Failed() {
			t.Logf("the daemon said:\n%s", f.said.String())
		}
	})
	select {
	case <-f.Ready():
	case err := <-f.done:
		f.done <- err
		t.Fatalf("the daemon ended: %v", err)
	}
}

func (f *following) write(t *testing.T, name, text string) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(f.dir, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := io.WriteString(file, text); err != nil {
		t.Fatal(err)
	}
}

func (f *following) read(t *testing.T, lines int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d lines are read", lines), func() bool {
		n := int64(0)
		for _, s := range f.Status(t.Context()).Sources {
			n += s.SSHD
		}
		return n >= lines
	})
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * mostRest)
	every := time.NewTicker(time.Millisecond)
	defer every.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("did not come: %s", what)
		}
		<-every.C
	}
}

func (f *following) banned(p string) bool {
	for l := range f.liveBans {
		if l.Prefix.String() == p {
			return true
		}
	}
	return false
}

const dryFiles = "guard: {enforce: no, mode: normal, known: {for: 0s}}\n"

// TestReloadCountsNothingTwice: a reload that opens a log again used to replay
// one find_time of it into windows that held it already: the fourth of five
// failures banned.
func TestReloadCountsNothingTwice(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	f.write(t, "a", failures("203.0.113.9", 3))
	f.read(t, 3)
	f.set(dryFiles + "log: {source: files, files: [DIR/a, DIR/b]}\n")
	if err := f.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.write(t, "a", failures("203.0.113.9", 1))
	f.write(t, "b", failures("203.0.113.8", 5))
	f.read(t, 6)
	if f.banned("203.0.113.9/32") {
		t.Error("banned for four attempts")
	}
	if !f.banned("203.0.113.8/32") {
		t.Error("the new log is not read")
	}
	if n := f.stats().Attempts; n != 9 {
		t.Errorf("%d attempts counted, 9 were made", n)
	}
}

// TestReloadsAtOnce: reloads by signal and by socket used to interleave, and to
// leave two readers on one log.
func TestReloadsAtOnce(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			f.set(dryFiles + "log: {source: files, files: [DIR/a, DIR/" + string(rune('b'+i)) + "]}\n")
			if err := f.Reload(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f.write(t, "a", failures("203.0.113.9", 4))
	f.read(t, 4)
	if n := f.stats().Attempts; n != 4 || f.banned("203.0.113.9/32") {
		t.Errorf("%d attempts counted, 4 were made", n)
	}
}

// TestReloadRevertsWhole: whatever of a new configuration cannot be had, the old
// one is in force afterwards, its log is read, and its metrics are there.
func TestReloadRevertsWhole(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := freePort(t)
	good := dryFiles + fmt.Sprintf("log: {source: files, files: [DIR/a]}\nmetrics: {listen: 127.0.0.1:%d}\n", port)
	tests := []struct{ name, config, err string }{
		{"metrics' port taken", dryFiles + "log: {source: files, files: [DIR/b]}\nmetrics: {listen: " + taken.Addr().String() + "}\n", "address already in use"},
		{"log is a directory", dryFiles + "log: {source: files, files: [DIR/state]}\n", "state"},
		{"wrong", "guard: {max_retry: -1}\n", "max_retry"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := follow(t, good)
			f.start(t)
			f.set(test.config)
			if err := f.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			f.write(t, "a", failures("203.0.113.9", 5))
			f.read(t, 5)
			if !f.banned("203.0.113.9/32") {
				t.Error("the old log is not read")
			}
			if !strings.Contains(scrape(t, port), "sekisho_attempts_total 5") {
				t.Error("the old metrics are gone")
			}
			if s := f.Status(t.Context()); len(s.Problems) != 2 || !strings.Contains(s.Problems[0].What, "reload") {
				t.Errorf("status: %+v", s.Problems)
			}
			f.set(dryFiles + "log: {source: files, files: [DIR/a]}\n")
			if err := f.Reload(t.Context()); err != nil {
				t.Error(err)
			}
			if s := f.Status(t.Context()); len(s.Problems) != 1 {
				t.Errorf("status after a good reload: %+v", s.Problems)
			}
			if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
				conn.Close()
				t.Error("metrics are off, but somebody listens")
			}
		})
	}
}

// TestMetricsPortTaken: nobody can watch the guard, and it guards all the same.
func TestMetricsPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\nmetrics: {listen: "+taken.Addr().String()+"}\n")
	f.start(t)
	if s := f.Status(t.Context()); len(s.Problems) != 2 || !strings.Contains(s.Problems[0].What, taken.Addr().String()) {
		t.Errorf("status does not name the port: %+v", s.Problems)
	}
	taken.Close()
	f.retryMetrics(t.Context())
	if s := f.Status(t.Context()); len(s.Problems) != 1 {
		t.Errorf("the port is free, but: %+v", s.Problems)
	}
}

// TestNewAdministratorIsLetIn: whoever is put among the admins used to stay
// banned until the ban's end.
func TestNewAdministratorIsLetIn(t *testing.T) {
	const config = "guard: {mode: normal}\nlog: {source: files, files: [DIR/a]}\n"
	f := follow(t, config)
	fake := f.enforceInMemory()
	f.start(t)
	for _, p := range []string{"203.0.113.9/32", "198.51.100.0/24", "100.64.9.9/32"} {
		if _, err := f.Ban(t.Context(), BanRequest{Prefix: netip.MustParsePrefix(p)}, "root"); err != nil {
			t.Fatal(err)
		}
	}
	f.set(config + "admins: [203.0.113.9, 198.51.100.77]\n")
	if err := f.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left []string
	if err := fake.Bans(t.Context(), func(b firewall.Ban) error { left = append(left, b.Prefix.String()); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"100.64.9.9/32"}, left); diff != "" {
		t.Errorf("in the kernel (-want +got):\n%s", diff)
	}
}

// TestKernelBeforeWords: a ban is in the kernel before it is told of, however
// slowly that is taken.
func TestKernelBeforeWords(t *testing.T) {
	f := follow(t, "guard: {mode: normal}\nlog: {source: files, files: [DIR/a]}\n")
	fake := f.enforceInMemory()
	told := make(chan int, 1)
	f.log = slog.New(heard{slog.DiscardHandler, func(r slog.Record) {
		if r.Message == "ban" {
			n := 0
			_ = fake.Bans(context.Background(), func(firewall.Ban) error { n++; return nil })
			told <- n
		}
	}})
	f.start(t)
	f.write(t, "a", failures("203.0.113.9", 5))
	if n := <-told; n != 1 {
		t.Error("told of a ban that is not in the kernel")
	}
}

// heard calls f with every record.
type heard struct {
	slog.Handler
	f func(slog.Record)
}

func (heard) Enabled(context.Context, slog.Level) bool { return true }
func (h heard) Handle(_ context.Context, r slog.Record) error {
	h.f(r)
	return nil
}

// TestFlushStorm: somebody flushes our table in a loop. The log stays short, and
// the bans are back once it stops.
func TestFlushStorm(t *testing.T) {
	f := follow(t, "guard: {mode: normal}\nlog: {source: files, files: [DIR/a]}\n")
	fake := f.enforceInMemory()
	f.start(t)
	if _, err := f.Ban(t.Context(), BanRequest{Prefix: netip.MustParsePrefix("203.0.113.9/32")}, "root"); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		fake.Flush(4711, "evil")
		if err := fake.Ensure(t.Context(), firewall.State{Ports: []uint16{22}}); err != nil {
			t.Fatal(err)
		}
	}
	fake.Flush(4711, "evil")
	eventually(t, "the ban is back", func() bool {
		n := 0
		err := fake.Bans(t.Context(), func(firewall.Ban) error { n++; return nil })
		return err == nil && n == 1
	})
	if n := strings.Count(f.said.String(), "level=WARN"); n > 4 {
		t.Errorf("%d warnings", n)
	}
	if !strings.Contains(f.said.String(), "process=evil") {
		t.Error("the log does not name who it was")
	}
	f.Daemon.mu.Lock()
	f.drift.told = f.drift.told.Add(-2 * reconcileEvery)
	f.Daemon.mu.Unlock()
	f.calm()
	if s := f.Status(t.Context()); len(s.Problems) != 1 || !strings.Contains(s.Problems[0].What, "evil") {
		t.Errorf("status: %+v", s.Problems)
	}
}

// TestUnbanAll: many unbans go in chunks. All at once, the recorder dropped those
// past its bound of 65,536, and their bans were back after a restart.
func TestUnbanAll(t *testing.T) {
	const bans = 3 * enforceChunk
	f := follow(t, "guard: {mode: normal}\nlog: {source: files, files: [DIR/a]}\n")
	fake := f.enforceInMemory()
	f.start(t)
	fill(t, f.Daemon, bans)
	began := time.Now()
	reply, err := f.Unban(t.Context(), UnbanRequest{All: true}, "root")
	if err != nil || len(reply.Lifted) != bans {
		t.Fatalf("lifted %d, %v", len(reply.Lifted), err)
	}
	t.Logf("%d bans lifted in %v", bans, time.Since(began).Round(time.Millisecond))
	if err := fake.Bans(t.Context(), func(b firewall.Ban) error { t.Errorf("%v is in the kernel still", b.Prefix); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := f.store.LiveBans(t.Context(), time.Now(), func(l lease.Lease) error { t.Errorf("%v is in the store still", l.Prefix); return nil }); err != nil {
		t.Fatal(err)
	}
}

// TestUnbanWithoutTable: somebody has just flushed our table. What is lifted then
// must not come back with it.
func TestUnbanWithoutTable(t *testing.T) {
	f := follow(t, "guard: {mode: normal}\nlog: {source: files, files: [DIR/a]}\n")
	fake := f.enforceInMemory()
	f.start(t)
	fill(t, f.Daemon, 2*enforceChunk)
	f.Daemon.mu.Lock()
	f.enforcing = false // nobody repairs while we look
	f.Daemon.mu.Unlock()
	fake.Flush(4711, "evil")
	f.Daemon.mu.Lock()
	f.enforcing = true
	f.Daemon.mu.Unlock()
	if _, err := f.Unban(t.Context(), UnbanRequest{All: true}, "root"); err != nil {
		t.Error(err)
	}
	if err := f.compare(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if err := fake.Bans(t.Context(), func(b firewall.Ban) error { return fmt.Errorf("%v came back", b.Prefix) }); err != nil {
		t.Error(err)
	}
}

// fill puts very many bans in force and waits until they are written down.
func fill(t testing.TB, d *Daemon, bans int) {
	t.Helper()
	now := time.Now()
	some := make([]lease.Lease, 0, bans)
	for a := netip.MustParseAddr("20.0.0.1"); len(some) < bans; a = a.Next() {
		some = append(some, lease.Lease{
			Prefix: netip.PrefixFrom(a, 32), Verdict: lease.Deny, Cause: guard.CauseAttempts, Holder: "guard",
			Reason: "5 attempts within 10m0s: failed 5; users \"root\"", From: now, Until: now.Add(time.Hour), Attempts: 5, Count: 1,
		})
	}
	d.mu.Lock()
	for _, l := range some {
		d.engine.Begin(l)
	}
	d.rec.Add(store.Effects{Bans: some})
	d.mu.Unlock()
	if err := d.enforceAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.rec.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestLogGone: status says that nothing is read while the log is not there.
func TestLogGone(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	absent := func() bool {
		s := f.Status(t.Context())
		return len(s.Problems) == 2 && strings.Contains(s.Problems[0].What, "nothing is read")
	}
	f.write(t, "a", failures("203.0.113.9", 4))
	f.read(t, 4)
	if absent() {
		t.Error("the log is there")
	}
	if err := os.Remove(filepath.Join(f.dir, "a")); err != nil {
		t.Fatal(err)
	}
	if !absent() {
		t.Error("the log is gone, and status does not say so")
	}
	f.write(t, "a", failures("203.0.113.9", 1))
	eventually(t, "the new log is read", func() bool { return f.banned("203.0.113.9/32") })
}

// TestNotify is what systemd hears from a start, a reload and a stop.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "30000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	beats := 0
	hear := func() string {
		b := make([]byte, 4096)
		for {
			if err := systemd.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := systemd.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(b[:n]), "WATCHDOG=1") {
				return string(b[:n])
			}
			beats++
		}
	}
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	if got := hear(); got != "READY=1" {
		t.Errorf("start: %q", got)
	}
	if err := f.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := hear(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("reload: %q", got)
	}
	if got := hear(); got != "READY=1" {
		t.Errorf("reloaded: %q", got)
	}
	ticks := time.NewTimer(50 * time.Millisecond)
	<-ticks.C
	f.stop()
	if got := hear(); got != "STOPPING=1" {
		t.Errorf("stop: %q", got)
	}
	if beats == 0 {
		t.Error("the watchdog was not fed")
	}
}

// TestHostileClients: whatever comes over the control socket, the next command is
// answered.
func TestHostileClients(t *testing.T) {
	_, log, dir, done := dry(t, "")
	defer func() { log.Close(); <-done }()
	info, err := os.Stat(filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	if perm := info.Mode().Perm(); perm&0o007 != 0 {
		t.Errorf("the control socket is open to everybody: %v", perm)
	}
	dial := func() net.Conn {
		c, err := net.Dial("unix", filepath.Join(dir, "sock"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, text := range []string{
		"\x00\xff\x16\x03\x01 garbage\r\n\r\n",
		"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"POST /v1/ban HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{\"prefix\":\"" + strings.Repeat("1", 1<<17),
		"POST /v1/unban HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"GET /v1/why?addr=%00%1b[2J HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/ban HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n" + `{"prefix":"203.0.113.9/32","for_ns":9223372036854775807}     `,
	} {
		c := dial()
		_, _ = io.WriteString(c, text) // it may be hung up on halfway
		c.Close()
	}
	var idle []net.Conn // half a request each; more than are served at once
	for range maxConns - 1 {
		c := dial()
		if _, err := io.WriteString(c, "GET /v1/sta"); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	var status Status
	if code := control(t, dir, "GET", "status", "", &status); code != http.StatusOK {
		t.Errorf("status: %d", code)
	}
	for _, c := range idle {
		c.Close()
	}
	var failure Failure
	if code := control(t, dir, "GET", "why?addr=fe80::1%25eth0%1b[2J", "", &failure); code != http.StatusOK && code != http.StatusBadRequest {
		t.Errorf("why of a zone: %d %+v", code, failure)
	}
	var ban Ban
	if code := control(t, dir, "POST", "ban", `{"prefix":"203.0.113.7/32","for_ns":9223372036854775807}`, &ban); code != http.StatusOK || ban.Until == nil || ban.Until.Before(time.Now()) {
		t.Errorf("a very long ban: %d %+v", code, ban)
	}
	var bans []Ban
	control(t, dir, "GET", "bans", "", &bans)
	if !strings.Contains(fmt.Sprint(bans), "203.0.113.7") {
		t.Errorf("the very long ban is over: %+v", bans)
	}
}

func TestSocketPath(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	_, err := listenSocket(t.Context(), long)
	if err == nil || !strings.Contains(err.Error(), long) || !strings.Contains(err.Error(), "107") {
		t.Errorf("a path that is too long: %v", err)
	}
}
