package hosts

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"os/signal"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/cli"
	"sekisho/internal/config"
	"sekisho/internal/garbage"
	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
	"sekisho/internal/gate/web"
	"sekisho/internal/ledger"
	"sekisho/internal/sshsig"
)

// helperEnv makes the test binary another program: a gate, or sekisho itself.
const helperEnv = "SEKISHO_HOSTS_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "gate":
		if err := beGate(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "sekisho":
		os.Exit(cli.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// beGate is a gate on SQLite, until it is told to end. It says "ready" when it listens.
func beGate(configPath, listen string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := config.Load(configPath)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	l, err := ledger.Open(ctx, cfg.Gate.Serve.Database, ledger.Options{Logger: log})
	if err != nil {
		return err
	}
	defer l.Close()
	g := gate.New(gate.Options{Config: func() *config.Config { return cfg }, Ledger: l, Alone: true, Logger: log})
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	settings := web.SettingsOf(cfg)
	// All hosts of a test are one address' to the gate, which is no source of a thousand.
	limits := web.Limits{PerSource: 10_000}
	h := web.New(web.Options{Gate: g, Settings: func() web.Settings { return settings }, Logger: log, Limits: limits})
	go func() { // as whoever runs a gate does
		var c garbage.Collector
		for tick := time.NewTicker(time.Second); ; <-tick.C {
			c.Tune()
		}
	}()
	fmt.Println("ready")
	err = web.Serve(ctx, h, web.Serving{Listeners: []net.Listener{listener}, TLS: web.Files{Cert: cfg.Gate.Serve.Cert, Key: cfg.Gate.Serve.Key}, Limits: limits, Logger: log})
	stop()
	return errors.Join(err, <-done)
}

// person is somebody who signs what they ask of a gate.
type person struct {
	name   string
	signer ssh.Signer
}

func newPerson(t testing.TB, name string) person {
	t.Helper()
	_, s := newKey(t)
	return person{name, s}
}

func newKey(t testing.TB) (text []byte, _ ssh.Signer) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), s
}

func (p person) line() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p.signer.PublicKey())))
}

// configOf is a gate's configuration: root administers it, the others may open what there
// is.
func configOf(t testing.TB, dir, url, targets string, root person, others ...person) string {
	t.Helper()
	var b strings.Builder
	secure := ""
	if strings.HasPrefix(url, "https") {
		secure = fmt.Sprintf(", tls: {cert: %[1]s/cert.pem, key: %[1]s/key.pem}", dir)
	}
	fmt.Fprintf(&b, "version: 1\ngate:\n  url: %s\n  serve: {admins: [admins], database: %s%s}\npeople:\n  %s: {groups: [admins], keys: [%q]}\n", url, filepath.Join(dir, "gate.db"), secure, root.name, root.line())
	for _, p := range others {
		fmt.Fprintf(&b, "  %s: {groups: [ops], keys: [%q]}\n", p.name, p.line())
	}
	b.WriteString("targets:\n" + targets)
	path := filepath.Join(dir, "gate.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// asking is a gate as people see it.
type asking struct {
	url    string
	client *http.Client
}

// ask asks the gate as p: into is what it answers, or an error.
func (a asking) ask(ctx context.Context, p person, method, path string, in, into any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	signed := api.Signed{Method: method, URL: a.url + api.Version + path, Time: time.Now().UTC().Format(time.RFC3339), Nonce: rand.Text(), Body: body}
	armored, err := sshsig.Sign(p.signer, api.Namespace, signed.Text())
	if err != nil {
		return err
	}
	s, err := sshsig.Parse(armored)
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(ctx, method, signed.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set(api.HeaderTime, signed.Time)
	q.Header.Set(api.HeaderNonce, signed.Nonce)
	q.Header.Set(api.HeaderSignature, base64.StdEncoding.EncodeToString(s.Marshal()))
	res, err := a.client.Do(q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %d: %s", method, path, res.StatusCode, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

func (a asking) open(ctx context.Context, p person, target string, address netip.Addr, length time.Duration) (g api.Grant, err error) {
	err = a.ask(ctx, p, http.MethodPost, "/doors/"+target+"/open", api.OpenRequest{Address: address, Seconds: int64(length / time.Second)}, &g)
	return g, err
}

func (a asking) shut(ctx context.Context, p person, id string) (g api.Grant, err error) {
	err = a.ask(ctx, p, http.MethodPost, "/grants/"+id+"/close", nil, &g)
	return g, err
}

// eventually waits for what nobody tells us of.
func eventually(t testing.TB, what string, within time.Duration, done func() error) {
	t.Helper()
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	deadline := time.After(within)
	for {
		err := done()
		if err == nil {
			return
		}
		select {
		case <-every.C:
		case <-deadline:
			t.Fatalf("did not come within %v: %s: %v", within, what, err)
		}
	}
}
