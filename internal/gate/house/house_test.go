package house

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
)

// begin runs a house of the configuration until the test ends, and gives where it listens
// and what it told as the first administrator's link.
func begin(t *testing.T, cfg *config.Config, dir string) (h *House, base, link string) {
	t.Helper()
	ready := make(chan struct{})
	h, err := Open(t.Context(), Options{
		Config: cfg, StateDir: dir, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		First: func(l string, _ time.Time) { link = l }, Ready: func() { close(ready) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the gate ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the gate ended: %v", err)
	}
	return h, "http://" + h.Addrs()[0].String(), link
}

// parsed is a configuration whose gate listens at a free port of loopback.
func parsed(t *testing.T, more string) *config.Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	cfg, err := config.Parse("test.yaml", []byte(strings.ReplaceAll("version: 1\ngate:\n  url: http://AT\n  serve:\n    listen: ['AT']\n"+more, "AT", at)))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestServes(t *testing.T) {
	cfg := parsed(t, "people: {hanako: {groups: [ops]}}\n")
	dir := t.TempDir()
	h, base, link := begin(t, cfg, dir)
	if !strings.HasPrefix(link, cfg.Gate.URL+"/invite#") {
		t.Errorf("the first administrator's link is %q", link)
	}
	if code, body := get(t, base+"/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d %s", code, body)
	}
	if code, body := get(t, base+"/api/v1/address"); code != http.StatusOK || !strings.Contains(body, `"127.0.0.1"`) {
		t.Errorf("address: %d %s", code, body)
	}
	if code, _ := get(t, base+"/api/v1/doors"); code != http.StatusUnauthorized {
		t.Errorf("doors, for a stranger: %d", code)
	}
	_, err := Open(t.Context(), Options{Config: parsed(t, ""), StateDir: dir})
	if e, ok := errors.AsType[*Error](err); !ok || e.Hint == "" {
		t.Errorf("a second gate with the same state: %v", err)
	}
	_, err = Open(t.Context(), Options{Config: cfg, StateDir: t.TempDir()})
	if e, ok := errors.AsType[*Error](err); !ok || e.Hint == "" {
		t.Errorf("a second gate at the same address: %v", err)
	}
	if !h.Takes(cfg) {
		t.Error("a gate does not take its own configuration")
	}
}

// TestHeadIsTold: the log says where the audit ends each time that a gate starts, so that who
// writes the audit anew is found out by who has the log.
func TestHeadIsTold(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var log bytes.Buffer
	h, err := Open(ctx, Options{Config: parsed(t, "people: {hanako: {groups: [ops]}}\n"), StateDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&log, nil)), Ready: stop})
	if err != nil {
		t.Fatal(err)
	}
	var e api.Entry
	err = h.ledger.Write(ctx, func(tx *ledger.Tx) (err error) {
		e, err = tx.Append(api.Entry{Who: "hanako", What: "open", OK: true})
		return err
	})
	if err := errors.Join(err, h.Run(ctx)); err != nil {
		t.Fatal(err)
	}
	if want := "known=1:" + e.Hash; !strings.Contains(log.String(), want) {
		t.Errorf("there is no %s:\n%s", want, log.String())
	}
}

// TestFirstOnce: a gate that has an administrator who could sign in tells no link.
func TestFirstOnce(t *testing.T) {
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJQGqnrBZHAR8dwcaeCTb9bcXzRVYHBh5X1pK8sZcTX4"
	_, _, link := begin(t, parsed(t, "    admins: [ops]\npeople: {hanako: {groups: [ops], keys: ['"+key+"']}}\n"), t.TempDir())
	if link != "" {
		t.Errorf("told %q", link)
	}
}

func TestTakes(t *testing.T) {
	src := "people: {hanako: {groups: [ops]}}\n"
	cfg := parsed(t, src)
	h := &House{o: Options{Config: cfg}}
	other := func(change func(*config.Config)) *config.Config {
		c := *cfg
		serve := *cfg.Gate.Serve
		c.Gate.Serve = &serve
		change(&c)
		return &c
	}
	for _, tt := range []struct {
		name string
		cfg  *config.Config
		want bool
	}{
		{"people", other(func(c *config.Config) { c.People = map[string]config.Person{} }), true},
		{"administrators", other(func(c *config.Config) { c.Gate.Serve.Admins = []string{"hanako"} }), true},
		{"pages", other(func(c *config.Config) { c.Gate.Serve.Edit = !c.Gate.Serve.Edit }), true},
		{"URL", other(func(c *config.Config) { c.Gate.URL = "http://localhost" }), false},
		{"listener", other(func(c *config.Config) { c.Gate.Serve.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")} }), false},
		{"proxies", other(func(c *config.Config) { c.Gate.Serve.Proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }), false},
		{"database", other(func(c *config.Config) { c.Gate.Serve.Database = "/elsewhere" }), false},
		{"provider", other(func(c *config.Config) { c.Gate.Serve.OIDC = &config.OIDC{} }), false},
		{"accounts", other(func(c *config.Config) { c.AWS.Accounts = map[string]config.Account{"a": {}} }), false},
		{"no gate", other(func(c *config.Config) { c.Gate.Serve = nil }), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := h.Takes(tt.cfg); got != tt.want {
				t.Errorf("takes: %v", got)
			}
		})
	}
}

// TestEverybodyIsHere: a gate behind a proxy that is not named would take everybody for
// this machine, and open every door to it.
func TestEverybodyIsHere(t *testing.T) {
	for _, tt := range []struct {
		name, gate string
		refused    bool
	}{
		{"by its name alone", "{url: https://gate.example.com, serve: {listen: [127.0.0.1:8022]}}", true},
		{"with a certificate", "{url: https://gate.example.com, serve: {listen: [127.0.0.1:8022], tls: {cert: /c, key: /k}}}", false},
		{"behind a proxy", "{url: https://gate.example.com, serve: {listen: [127.0.0.1:8022], proxies: [127.0.0.1], forwarded: x_forwarded_for}}", false},
		{"for this machine", "{url: 'http://localhost:8022', serve: {listen: [127.0.0.1:8022]}}", false},
		{"for this machine by address", "{url: 'http://127.0.0.1:8022', serve: {listen: [127.0.0.1:8022]}}", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := config.Parse("test.yaml", []byte("version: 1\ngate: "+tt.gate+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			if err := everybodyIsHere(cfg.Gate); (err != nil) != tt.refused {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

// TestSecretsStay: a database's password is nowhere in what is told when it cannot be had.
func TestSecretsStay(t *testing.T) {
	name := filepath.Join(t.TempDir(), "dsn")
	writeSecret(t, name, "postgres://sekisho:hunter2hunter2@127.0.0.1:1/gate?connect_timeout=1")
	cfg := parsed(t, "    database_file: "+name+"\n")
	var log bytes.Buffer
	_, err := Open(t.Context(), Options{Config: cfg, StateDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err == nil {
		t.Fatal("there is no database there")
	}
	if text := err.Error() + log.String(); strings.Contains(text, "hunter2") {
		t.Errorf("told the password: %s", text)
	}
}

func writeSecret(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}
