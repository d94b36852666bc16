package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// said is a place for the fallback's text. Safe for concurrent use.
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

func textHandler(s *said) slog.Handler { return slog.NewTextHandler(s, nil) }

// listen is a journal of the test's own.
func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// decode reads an entry of the native protocol.
func decode(data []byte) (map[string]string, error) {
	fields := map[string]string{}
	for len(data) > 0 {
		end := bytes.IndexAny(data, "=\n")
		if end < 0 {
			return nil, fmt.Errorf("%q has no end", data)
		}
		name, kind := string(data[:end]), data[end]
		data = data[end+1:]
		n := bytes.IndexByte(data, '\n')
		if kind == '\n' {
			if len(data) < 8 {
				return nil, fmt.Errorf("%s has no length", name)
			}
			n = int(binary.LittleEndian.Uint64(data))
			data = data[8:]
		}
		if n < 0 || n >= len(data) || data[n] != '\n' {
			return nil, fmt.Errorf("%s does not end", name)
		}
		if _, ok := fields[name]; ok {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		fields[name] = string(data[:n])
		data = data[n+1:]
	}
	return fields, nil
}

func receive(t *testing.T, conn *net.UnixConn) map[string]string {
	t.Helper()
	buf := make([]byte, 1<<20)
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	fields, err := decode(buf[:n])
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func TestEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	conn := listen(t, path)
	h, err := Open(Options{Socket: path, Identifier: "sekisho", Fallback: slog.DiscardHandler})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	log := slog.New(h)
	for _, test := range []struct {
		name string
		log  func()
		want map[string]string
	}{
		{
			"a ban, for a reason that an attacker wrote",
			func() {
				log.Info("ban", "prefix", netip.MustParsePrefix("203.0.113.7/32"), "reason", "users \"root\nMESSAGE=forged\nPRIORITY=0\" \x1b[2J", "attempts", 5, "enforced", true)
			},
			map[string]string{
				"MESSAGE": "ban prefix=203.0.113.7/32 attempts=5 enforced=true", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "sekisho", "SEKISHO_EVENT": "ban",
				"SEKISHO_PREFIX": "203.0.113.7/32", "SEKISHO_REASON": "users \"root\nMESSAGE=forged\nPRIORITY=0\" \x1b[2J", "SEKISHO_ATTEMPTS": "5", "SEKISHO_ENFORCED": "true",
			},
		},
		{
			"an error, and what belongs together",
			func() {
				log.With("from", "here").WithGroup("g").Error("it failed", "error", errors.New("no \"room\"\n\x1b[2J"), "took", 3*time.Second, "odd-key ä", "x")
			},
			map[string]string{
				"MESSAGE": `it failed error="no 'room'\n\x1b[2J" took=3s`, "PRIORITY": "3", "SYSLOG_IDENTIFIER": "sekisho", "SEKISHO_EVENT": "it failed",
				"SEKISHO_FROM": "here", "SEKISHO_G_ERROR": "no \"room\"\n\x1b[2J", "SEKISHO_G_TOOK": "3s", "SEKISHO_G_ODD_KEY__": "x",
			},
		},
		{
			"a group, a zone, and nothing",
			func() {
				log.Warn("w", slog.Group("at", slog.Int("n", 1)), "addr", netip.MustParseAddr("fe80::1%\x1b"), "list", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "none", nil)
			},
			map[string]string{
				"MESSAGE": `w n=1 addr=fe80::1%\x1b`, "PRIORITY": "4", "SYSLOG_IDENTIFIER": "sekisho", "SEKISHO_EVENT": "w",
				"SEKISHO_AT_N": "1", "SEKISHO_ADDR": "fe80::1%\x1b", "SEKISHO_LIST": "[10.0.0.0/8]", "SEKISHO_NONE": "<nil>",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.log()
			if diff := cmp.Diff(test.want, receive(t, conn)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	log.Debug("not asked for")
	log.Info("huge", "text", strings.Repeat("x", 1<<20))
	if got := receive(t, conn); got["SEKISHO_EVENT"] != "huge" || len(got["SEKISHO_TEXT"]) != maxValue {
		t.Errorf("%s, %d bytes", got["SEKISHO_EVENT"], len(got["SEKISHO_TEXT"]))
	}
}

// TestGone: where there is no journal it says so; one that goes away is replaced by the
// fallback, and taken again when it is back.
func TestGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := Open(Options{Socket: path}); err == nil {
		t.Error("a journal that is not there was opened")
	}
	conn := listen(t, path)
	fallback := &said{}
	h, err := Open(Options{Socket: path, Identifier: "sekisho", Fallback: textHandler(fallback)})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(h).With("by", "test")
	log.Info("one")
	if got := receive(t, conn); got["MESSAGE"] != "one" || got["SEKISHO_BY"] != "test" {
		t.Errorf("%v", got)
	}
	conn.Close()
	_ = os.Remove(path)
	log.Info("two", "user", "a\nb")
	for tooLong := time.After(20 * time.Second); !strings.Contains(fallback.String(), "two"); {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-tooLong:
			t.Fatal("it was lost")
		}
	}
	if got := fallback.String(); !strings.Contains(got, `level=INFO msg=two user="a\nb" by=test`) {
		t.Errorf("the fallback has %q", got)
	}
	conn = listen(t, path)
	log.Info("three")
	if got := receive(t, conn); got["MESSAGE"] != "three" {
		t.Errorf("%v", got)
	}
	log.Info("last")
	h.Close()
	if got := receive(t, conn); got["MESSAGE"] != "last" {
		t.Errorf("%v", got)
	}
}

// TestHung: a journal that takes nothing any more keeps nobody from going on, and what
// was left out is told.
func TestHung(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	conn := listen(t, path)
	h, err := Open(Options{Socket: path, Identifier: "sekisho", Fallback: slog.DiscardHandler})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(h)
	began := time.Now()
	for range 20_000 {
		log.Info("line", "text", strings.Repeat("x", 100))
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("logging took %v", took)
	}
	for {
		got := receive(t, conn)
		if strings.HasPrefix(got["MESSAGE"], "log entries were left out") {
			break
		}
		if got["SEKISHO_EVENT"] != "line" {
			t.Fatal(got)
		}
		if got["MESSAGE"] == "" {
			t.Fatal("what was left out is not told")
		}
		h.signal() // it is told with what comes next
	}
	h.Close()
}

// TestIsStream: a stream is the journal's where its numbers are those that systemd
// told.
func TestIsStream(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	right := fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
	for value, want := range map[string]bool{right: true, right + "0": false, "": false, "x": false} {
		if got := IsStream(value, f); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
	if IsStream(right, nil) {
		t.Error("nothing is a stream")
	}
}

// TestJournald: a real journald has every field as it was written.
func TestJournald(t *testing.T) {
	const daemon = "/usr/lib/systemd/systemd-journald"
	if os.Geteuid() != 0 {
		t.Skip("LEFT OUT: needs root, for a journald with a /run of its own")
	}
	for _, program := range []string{daemon, "journalctl", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("LEFT OUT: needs %s (package systemd)", program)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "sh", "-c", `
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
if ! [ -s /etc/machine-id ]; then echo 0123456789abcdef0123456789abcdef >/run/id; mount --bind /run/id /etc/machine-id; fi
exec `+daemon)
	var out said
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cancel(); <-ended })
	run := fmt.Sprintf("/proc/%d/root/run", cmd.Process.Pid)
	var h *Handler
	for tooLong := time.After(20 * time.Second); h == nil; {
		// Before it has a /run of its own the host's would be taken.
		if _, err := os.Stat(run + "/log/journal"); err == nil {
			h, _ = Open(Options{Socket: run + "/systemd/journal/socket", Identifier: "sekisho", Fallback: slog.DiscardHandler})
		}
		select {
		case err := <-ended:
			ended <- err
			t.Skipf("LEFT OUT: journald cannot be run here: %v: %s", err, out.String())
		case <-tooLong:
			t.Fatalf("journald does not listen: %s", out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	mark := fmt.Sprintf("test %d", time.Now().UnixNano())
	hostile := "users \"root\nMESSAGE=forged\n\x00\x1b[2J\xff管理者"
	slog.New(h).Warn("a test", "mark", mark, "prefix", netip.MustParsePrefix("203.0.113.7/32"), "reason", hostile)
	h.Close()
	var got map[string]any
	for tooLong := time.After(20 * time.Second); got == nil; {
		text, err := exec.CommandContext(t.Context(), "journalctl", "--directory", run+"/log/journal", "-o", "json", "--no-pager", "SEKISHO_MARK="+mark).Output()
		if err == nil && len(text) > 0 {
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-tooLong:
			t.Fatalf("the entry did not come: %s (%v)", out.String(), err)
		}
	}
	for name, want := range map[string]string{"MESSAGE": "a test prefix=203.0.113.7/32", "SEKISHO_EVENT": "a test", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "sekisho", "SEKISHO_PREFIX": "203.0.113.7/32", "_TRANSPORT": "journal"} {
		if got[name] != want {
			t.Errorf("%s is %v, want %q", name, got[name], want)
		}
	}
	var reason []byte // what is not UTF-8 comes as numbers
	for _, n := range anys(got["SEKISHO_REASON"]) {
		reason = append(reason, byte(n.(float64)))
	}
	if string(reason) != hostile {
		t.Errorf("SEKISHO_REASON is %q", reason)
	}
}

func anys(v any) []any {
	list, _ := v.([]any)
	return list
}

func FuzzEntry(f *testing.F) {
	f.Add("ban", "reason", "a\nMESSAGE=b")
	f.Add("", "", "\x00\xff")
	f.Fuzz(func(t *testing.T, message, key, value string) {
		h := &Handler{writer: &writer{options: Options{Identifier: "sekisho"}, wake: make(chan struct{}, 1)}, level: slog.LevelInfo, prefix: "SEKISHO_"}
		r := slog.NewRecord(time.Now(), slog.LevelInfo, message, 0)
		r.AddAttrs(slog.String(key, value))
		if err := h.Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if len(h.waiting) != 1 {
			t.Skip("too long")
		}
		got, err := decode(h.waiting[0].data)
		if err != nil {
			if strings.HasPrefix(fieldName(key), "EVENT") {
				t.Skip("an attribute of that name")
			}
			t.Fatal(err)
		}
		if strings.ContainsAny(got["MESSAGE"], "\n\x1b") || got["SYSLOG_IDENTIFIER"] != "sekisho" {
			t.Errorf("%q", got)
		}
		names := []string{"MESSAGE", "PRIORITY", "SEKISHO_EVENT", "SYSLOG_IDENTIFIER"}
		for name := range got {
			if !slices.Contains(names, name) && !strings.HasPrefix(name, "SEKISHO_") {
				t.Errorf("a field %q", name)
			}
		}
	})
}
