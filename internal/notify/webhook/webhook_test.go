package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/notifytest"
	"sekisho/internal/notify/outbound"
)

const secret = "s3cret of the webhook"

// receiver is a server that takes what is signed, as docs/notify.md tells its authors to.
type receiver struct {
	*httptest.Server
	got     chan request
	answers chan int // what to answer next; 204 where there is none
}

type request struct {
	header http.Header
	body   []byte
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{got: make(chan request, 100), answers: make(chan int, 10)}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		at := q.Header.Get(TimestampHeader)
		signature, ok := strings.CutPrefix(q.Header.Get(SignatureHeader), "sha256=")
		if !ok || !hmac.Equal([]byte(signature), []byte(Sign([]byte(secret), at, body))) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "wrong signature, it is not of %s", secret)
			return
		}
		r.got <- request{q.Header, body}
		select {
		case s := <-r.answers:
			w.WriteHeader(s)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func sender(t *testing.T, r *receiver, secret config.Secret) *Sender {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	client := outbound.New(outbound.Options{Private: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Roots: roots})
	s, err := New(config.Webhook{URL: r.URL + "/hook", Secret: secret}, "web-1", client)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSend(t *testing.T) {
	r := receive(t)
	s := sender(t, r, secret)
	m := notifytest.Message("hello")
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := <-r.got
	if got.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", got.header)
	}
	var d document
	if err := json.Unmarshal(got.body, &d); err != nil {
		t.Fatal(err)
	}
	want := document{Version: 1, ID: "01HZX", Host: "web-1", Level: notify.Warning, Subject: "hello", Events: m.Events}
	if diff := cmp.Diff(want, d, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

// TestAgain: what is sent again is the same document, signed anew.
func TestAgain(t *testing.T) {
	r := receive(t)
	s := sender(t, r, secret)
	now := time.Unix(1_800_000_000, 0)
	s.now = func() time.Time { return now }
	m := notifytest.Message("hello")
	r.answers <- http.StatusServiceUnavailable
	err := s.Send(t.Context(), m)
	if step, ok := errors.AsType[*notify.Step](err); !ok || step.Final {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	first, second := <-r.got, <-r.got
	if !bytes.Equal(first.body, second.body) || first.header.Get(TimestampHeader) != "1800000000" || second.header.Get(TimestampHeader) != "1800000060" ||
		first.header.Get(SignatureHeader) == second.header.Get(SignatureHeader) {
		t.Errorf("%v\n%v", first.header, second.header)
	}
}

// TestSign is a signature that anybody's tools give.
func TestSign(t *testing.T) {
	want := "7321475872b03ff21bdc2dfd86ea2d99ec29c479fbe4a77aa6acf4509505493f" // printf 1800000000.{} | openssl dgst -sha256 -hmac key
	if got := Sign([]byte("key"), "1800000000", []byte("{}")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWrongSecret(t *testing.T) {
	r := receive(t)
	for _, tt := range []struct{ name, secret string }{{"another", "not that one"}, {"none", ""}} {
		t.Run(tt.name, func(t *testing.T) {
			err := sender(t, r, config.Secret(tt.secret)).Send(t.Context(), notifytest.Message("hello"))
			step, ok := errors.AsType[*notify.Step](err)
			if !ok || !step.Final || !strings.Contains(step.Hint, "secret") || strings.Contains(err.Error(), "/hook") {
				t.Errorf("%v", err)
			}
		})
	}
	// Whoever tells the secret, it is not we.
	r2 := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		fmt.Fprintf(w, "I know %s", secret)
	}))
	defer r2.Close()
	err := sender(t, &receiver{Server: r2}, secret).Send(t.Context(), notifytest.Message("hello"))
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("%v", err)
	}
}

func TestNew(t *testing.T) {
	for _, url := range []string{"http://example.com/" + secret, "https://", "ftp://example.com/", "https://u:p@example.com/"} {
		if _, err := New(config.Webhook{URL: url}, "web-1", outbound.New(outbound.Options{})); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestInjection: whatever is in an event, what arrives is one JSON document that holds it.
func TestInjection(t *testing.T) {
	r := receive(t)
	s := sender(t, r, secret)
	for _, h := range notifytest.Hostile() {
		if err := s.Send(t.Context(), notifytest.Message(h)); err != nil {
			t.Fatalf("%.60q: %v", h, err)
		}
		check(t, (<-r.got).body, h)
	}
}

func TestTooLarge(t *testing.T) {
	m := notifytest.Message("x")
	m.More = 3
	for len(m.Events) < 200 {
		m.Events = append(m.Events, notifytest.Ban(strings.Repeat("y", 1000)))
	}
	b, err := Document(m, "web-1")
	var d document
	if err := errors.Join(err, json.Unmarshal(b, &d)); err != nil {
		t.Fatal(err)
	}
	if len(b) > maxBody || len(d.Events) == 0 || len(d.Events)+d.More != 203 {
		t.Errorf("%d bytes, %d events and %d more", len(b), len(d.Events), d.More)
	}
}

func FuzzDocument(f *testing.F) {
	for _, h := range notifytest.Hostile() {
		if len(h) < 1000 {
			f.Add(h)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := Document(notifytest.Message(s), s)
		if err != nil {
			t.Fatal(err)
		}
		check(t, b, s)
	})
}

func check(t *testing.T, body []byte, s string) {
	t.Helper()
	var d document
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil || decoder.More() {
		t.Fatalf("%.60q: %v", s, err)
	}
	if len(body) > maxBody || bytes.ContainsFunc(body, func(r rune) bool { return r < ' ' || r == utf8.RuneError && !strings.Contains(s, "\ufffd") }) {
		t.Errorf("%.60q: %d bytes, %.200q", s, len(body), body)
	}
	if bytes.ContainsAny(body, "<>") {
		t.Errorf("%.60q: %.200q has markup", s, body)
	}
	if strings.ContainsFunc(d.Subject+d.Host, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%.60q: subject %q, host %q", s, d.Subject, d.Host)
	}
	if len(d.Events)+d.More != 1 || len(s) < 1000 && d.Events[0].What != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
		t.Errorf("%.60q: %d events, %d more", s, len(d.Events), d.More)
	}
}

// TestExample runs the example of docs/notify.md for receivers.
func TestExample(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("LEFT OUT: python3 is not installed, to run the example of docs/notify.md")
	}
	text, err := os.ReadFile("../../../docs/notify.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```python\n")
	code, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("docs/notify.md has no example in Python")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "example.py"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"version":1}`)
	now := fmt.Sprint(time.Now().Unix())
	for _, tt := range []struct {
		name, secret, at, signature string
		want                        string
	}{
		{"right", secret, now, "sha256=" + Sign([]byte(secret), now, body), "True"},
		{"another secret", "x", now, "sha256=" + Sign([]byte(secret), now, body), "False"},
		{"another time", secret, "1" + now, "sha256=" + Sign([]byte(secret), now, body), "False"},
		{"old", secret, "1800000000", "sha256=" + Sign([]byte(secret), "1800000000", body), "False"},
		{"no signature", secret, now, "", "False"},
		{"no time", secret, "", "sha256=" + Sign([]byte(secret), "", body), "False"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, python, "-c", "import example, sys; print(example.genuine(sys.argv[1].encode(), sys.argv[2], sys.argv[3], sys.stdin.buffer.read()))", tt.secret, tt.at, tt.signature)
			cmd.Dir, cmd.Stdin = dir, bytes.NewReader(body)
			out, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != tt.want {
				t.Errorf("%q, %v; want %s", out, err, tt.want)
			}
		})
	}
}
