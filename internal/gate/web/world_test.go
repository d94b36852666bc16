package web

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/securitygroup"
	"sekisho/internal/sshsig"
)

// memory are security groups in which everything succeeds at once; package access's own
// tests have what EC2 does besides.
type memory struct{}

func (memory) Open(_ context.Context, _ access.Door, prefix netip.Prefix, id, person string, length time.Duration, _ func()) (access.Opened, error) {
	return access.Opened{
		Rule:  securitygroup.Rule{ID: "sgr-" + prefix.Addr().String()},
		Lease: securitygroup.Lease{ID: id, Person: person, Until: time.Now().Add(length)},
	}, nil
}
func (memory) Shorten(context.Context, access.Door, netip.Prefix, string, time.Duration) error {
	return nil
}
func (memory) Release(context.Context, access.Door, access.Opened) error { return nil }
func (memory) Reap(context.Context, []securitygroup.Place) access.Reaped { return access.Reaped{} }
func (memory) Who(context.Context, []access.Door) ([]access.Admitted, []access.Failure) {
	return nil, nil
}

const origin = "https://gate.example.com"

// world is a gate with SQLite, and its HTTP.
type world struct {
	t    testing.TB
	gate *gate.Gate
	*Handler
	keys map[string]ssh.Signer // of people, and of hosts
	log  *lockedBuffer

	mu       sync.Mutex
	settings Settings
	ahead    time.Duration // of the clock that the gate and its HTTP see
	cfg      *config.Config
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func line(s ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

const people = `version: 1
gate:
  url: %s
  serve: {admins: [admins], groups: [guests]}
people:
  root: {groups: [admins], keys: [%q]}
  hanako: {groups: [ops], keys: [%q]}
  taro: {groups: [ops], keys: [%q]}
  lea: {groups: [leads], keys: [%q]}
  jiro: {groups: [ops], keys: [%q]}
targets:
  web: {aws: {region: eu-central-1, group: sg-0123456789abcdef0}, host: web.example.com, allow: [ops], at_most: 8h}
  db: {aws: {region: eu-central-1, group: sg-0123456789abcdef1}, allow: [ops, admins], at_most: 2h, approval: leads, break_glass: [hanako]}
  box: {agent: box-1, allow: [ops], at_most: 2h}
`

// newWorld has root (an administrator), hanako and taro, lea (who approves db), jiro (who
// is disabled), and a host, box-1, that is enrolled.
func newWorld(t testing.TB, change ...func(*Options, *Settings)) *world {
	t.Helper()
	w := &world{t: t, keys: map[string]ssh.Signer{}, log: &lockedBuffer{}}
	for _, name := range []string{"root", "hanako", "taro", "lea", "jiro", "box-1", "stranger"} {
		w.keys[name] = newKey(t)
	}
	logger := slog.New(slog.NewTextHandler(w.log, nil))
	options := Options{Logger: logger, Now: w.time}
	w.settings = Settings{URL: origin, Edit: true}
	for _, f := range change {
		f(&options, &w.settings)
	}
	w.start(options, fmt.Sprintf(people, w.settings.URL, line(w.keys["root"]), line(w.keys["hanako"]), line(w.keys["taro"]), line(w.keys["lea"]), line(w.keys["jiro"])))

	root := w.who("root")
	if _, err := w.gate.Disable(t.Context(), root, "jiro", api.DisableRequest{}); err != nil {
		t.Fatal(err)
	}
	told, err := w.gate.AddHost(t.Context(), root, "box-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.gate.Enrol(t.Context(), w.keys["box-1"].PublicKey(), api.EnrolRequest{Token: told.Token, Version: "1"}, netip.MustParseAddr("192.0.2.50")); err != nil {
		t.Fatal(err)
	}
	return w
}

// nobody is a configuration in which no administrator can sign in.
const nobody = `version: 1
gate:
  url: %s
  serve: {admins: [admins], groups: [admins, ops]}
people:
  lea: {groups: [leads]}
targets:
  web: {aws: {region: eu-central-1, group: sg-0123456789abcdef0}, host: [web.example.com, web2.example.com], allow: [ops], at_most: 8h}
  db: {aws: {region: eu-central-1, group: sg-0123456789abcdef1}, allow: [ops], at_most: 2h, reason: yes, approval: admins, break_glass: [ops]}
  box: {agent: box-1, allow: [ops, admins], at_most: 2h}
`

// newEmptyWorld has nobody, and the token of the first administrator.
func newEmptyWorld(t testing.TB, change ...func(*Options, *Settings)) (w *world, token string) {
	t.Helper()
	w = &world{t: t, keys: map[string]ssh.Signer{}, log: &lockedBuffer{}}
	options := Options{Logger: slog.New(slog.NewTextHandler(w.log, nil)), Now: w.time}
	w.settings = Settings{URL: origin, Edit: true}
	for _, f := range change {
		f(&options, &w.settings)
	}
	w.start(options, fmt.Sprintf(nobody, w.settings.URL))
	token, _, needed, err := w.gate.FirstAdministrator(t.Context())
	if err != nil || !needed {
		t.Fatalf("no token for the first administrator: %v", err)
	}
	return w, token
}

// start makes the gate of a configuration, and its handler.
func (w *world) start(options Options, text string) {
	t := w.t
	t.Helper()
	cfg, err := config.Parse("sekisho.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = cfg
	l, err := ledger.Open(context.Background(), filepath.Join(t.TempDir(), "state", "gate.db"), ledger.Options{Now: w.time})
	if err != nil {
		t.Fatal(err)
	}
	w.gate = gate.New(gate.Options{
		Config: func() *config.Config { return cfg }, Ledger: l, Alone: true, Logger: options.Logger, Now: w.time,
		Groups: func(*config.Config) gate.Groups { return memory{} },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.gate.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if options.Gate == nil {
		options.Gate = w.gate
	}
	if options.Settings == nil {
		options.Settings = func() Settings {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.settings
		}
	}
	w.Handler = New(options)
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += d
}

var addresses = map[string]string{"root": "198.51.100.1", "hanako": "203.0.113.7", "taro": "203.0.113.8", "lea": "198.51.100.9", "jiro": "198.51.100.10", "box-1": "192.0.2.50"}

func from(name string) netip.Addr {
	if a, ok := addresses[name]; ok {
		return netip.MustParseAddr(a)
	}
	return netip.MustParseAddr("192.0.2.99")
}

func (w *world) who(name string) gate.Who {
	return gate.Who{Person: name, Role: w.gate.RoleOf(name), Via: api.ViaPasskey, From: from(name)}
}

// session is the token of a new session.
func (w *world) session(name string) string {
	w.t.Helper()
	token, _, err := w.gate.NewSession(context.Background(), name, api.ViaPasskey, from(name), "a test")
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// request is one from name's address, with the headers of a browser or a program.
func (w *world) request(method, path, name string, body []byte) *http.Request {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	if len(body) == 0 {
		r = httptest.NewRequest(method, path, nil)
	}
	r.Host = strings.TrimPrefix(strings.TrimPrefix(w.settings.URL, "https://"), "http://")
	r.RemoteAddr = netip.AddrPortFrom(from(name), 40000).String()
	return r
}

func withJSON(r *http.Request) *http.Request {
	r.Header.Set("Content-Type", "application/json")
	return r
}

func withForm(r *http.Request) *http.Request {
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func (w *world) withSession(r *http.Request, token string) *http.Request {
	s, err := newSite(w.settings)
	if err != nil {
		w.t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: s.sessionCookie(), Value: token})
	return r
}

// sign signs a request as a client does. change is what is changed of it before.
func (w *world) sign(r *http.Request, key ssh.Signer, namespace string, body []byte, change ...func(*api.Signed)) *http.Request {
	w.t.Helper()
	s := api.Signed{Method: r.Method, URL: w.settings.URL + r.URL.RequestURI(), Time: w.time().UTC().Format("2006-01-02T15:04:05Z"), Nonce: strings.Map(func(c rune) rune {
		if c == '-' || c == '_' {
			return 'x'
		}
		return c
	}, base64.RawURLEncoding.EncodeToString([]byte(randomText()))), Body: body}
	for _, f := range change {
		f(&s)
	}
	armored, err := sshsig.Sign(key, namespace, s.Text())
	if err != nil {
		w.t.Fatal(err)
	}
	block, _ := pem.Decode(armored)
	if block == nil {
		w.t.Fatal("no armour")
	}
	r.Header.Set(api.HeaderTime, s.Time)
	r.Header.Set(api.HeaderNonce, s.Nonce)
	r.Header.Set(api.HeaderSignature, base64.StdEncoding.EncodeToString(block.Bytes))
	return r
}

func randomText() string {
	b := make([]byte, 18)
	rand.Read(b)
	return string(b)
}

// do answers a request. What the API answers is held to the OpenAPI document.
func (w *world) do(r *http.Request) *answer {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	conforms(w.t, r, rec.Code, rec.Header(), rec.Body.Bytes())
	return answerOf(rec)
}

// answer is what was answered.
type answer struct {
	StatusCode int
	Header     http.Header
	cookies    []*http.Cookie
	text       string
}

func answerOf(rec *httptest.ResponseRecorder) *answer {
	a := &answer{StatusCode: rec.Code, Header: rec.Header(), text: rec.Body.String()}
	for _, line := range rec.Header().Values("Set-Cookie") {
		if c, err := http.ParseSetCookie(line); err == nil {
			a.cookies = append(a.cookies, c)
		}
	}
	return a
}

func (a *answer) Cookies() []*http.Cookie { return a.cookies }

func read(_ testing.TB, a *answer) string { return a.text }

func decode[T any](t testing.TB, a *answer) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(a.text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%d %s: %v", a.StatusCode, a.text, err)
	}
	return v
}

// call is a signed request of a person's, with v as its body.
func (w *world) call(name, method, path string, v any) *answer {
	w.t.Helper()
	var body []byte
	if v != nil {
		var err error
		if body, err = json.Marshal(v); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.do(w.sign(withJSON(w.request(method, path, name, body)), w.keys[name], api.Namespace, body))
}
