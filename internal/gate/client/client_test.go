package client

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

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/crypto/ssh"

	"sekisho/internal/gate/api"
	"sekisho/internal/ownaddr"
	"sekisho/internal/printable"
	"sekisho/internal/sshsig"
)

// key is a person's, and counts what it signs.
type key struct {
	ssh.Signer
	fails error

	mu   sync.Mutex
	made int
}

func newKey(t testing.TB) *key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return &key{Signer: s}
}

func (k *key) Fingerprint() string { return ssh.FingerprintSHA256(k.PublicKey()) }

func (k *key) Sign(_ context.Context, namespace string, message []byte) ([]byte, error) {
	if k.fails != nil {
		return nil, k.fails
	}
	k.mu.Lock()
	k.made++
	k.mu.Unlock()
	return sshsig.Sign(k.Signer, namespace, message)
}

func (k *key) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.made
}

// server is a gate as far as these tests need one: it verifies signatures, and answers with
// what answer says of whoever signed.
type server struct {
	*httptest.Server
	t      testing.TB
	now    func() time.Time
	knows  map[string]string // people, by fingerprint
	answer func(w http.ResponseWriter, r *http.Request, person string, body []byte)

	mu     sync.Mutex
	nonces map[string]bool
	asked  []string
}

func newServer(t testing.TB, knows ...*key) *server {
	t.Helper()
	s := &server{t: t, now: time.Now, knows: map[string]string{}, nonces: map[string]bool{}}
	for _, k := range knows {
		s.knows[k.Fingerprint()] = "hanako"
	}
	s.answer = func(w http.ResponseWriter, r *http.Request, person string, _ []byte) {
		writeJSON(w, 200, api.Me{Person: person})
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func fails(w http.ResponseWriter, e *api.Error) { writeJSON(w, e.Code.Status(), e) }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
	s.mu.Unlock()
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	if r.URL.Path == api.Version+"/address" {
		s.answer(w, r, "", body)
		return
	}
	at, err := time.Parse(time.RFC3339, r.Header.Get(api.HeaderTime))
	if err != nil {
		fails(w, api.Errorf(api.BadSignature, "", "no time"))
		return
	}
	if off := at.Sub(s.now()); off.Abs() > api.Skew {
		fails(w, api.Errorf(api.Clock, "set it", "the clock is off"))
		return
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(r.Header.Get(api.HeaderSignature))
	if err != nil {
		fails(w, api.Errorf(api.BadSignature, "", "no base64"))
		return
	}
	sig, err := sshsig.Parse(blob)
	if err == nil {
		err = sshsig.Verify(sig, api.Namespace, api.Signed{
			Method: r.Method, URL: s.URL + r.URL.RequestURI(), Time: r.Header.Get(api.HeaderTime), Nonce: r.Header.Get(api.HeaderNonce), Body: body,
		}.Text())
	}
	if err != nil {
		fails(w, api.Errorf(api.BadSignature, "", "%v", err))
		return
	}
	person, known := s.knows[sig.Fingerprint()]
	if !known {
		fails(w, api.Errorf(api.Unknown, "", "nobody has this key"))
		return
	}
	s.mu.Lock()
	used := s.nonces[r.Header.Get(api.HeaderNonce)]
	s.nonces[r.Header.Get(api.HeaderNonce)] = true
	s.mu.Unlock()
	if used {
		fails(w, api.Errorf(api.Replayed, "", "used already"))
		return
	}
	s.answer(w, r, person, body)
}

func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// ca is a file of the server's certificate.
func (s *server) ca() string {
	path := filepath.Join(s.t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *server) client(keys ...*key) *Client {
	s.t.Helper()
	return s.with(Options{}, keys...)
}

func (s *server) with(o Options, keys ...*key) *Client {
	s.t.Helper()
	o.URL, o.CA = s.URL, s.ca()
	o.Keys = func(context.Context) ([]Key, error) {
		all := make([]Key, len(keys))
		for i, k := range keys {
			all[i] = k
		}
		return all, nil
	}
	c, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func TestKeysAreTriedInOrder(t *testing.T) {
	stranger, mine, other := newKey(t), newKey(t), newKey(t)
	locked := newKey(t)
	locked.fails = errors.New("the agent is locked")
	s := newServer(t, mine, other)
	last := filepath.Join(t.TempDir(), "last")
	c := s.with(Options{Last: last}, locked, stranger, mine, other)
	var all sync.WaitGroup
	for range 8 { // one finds it out, for all
		all.Go(func() {
			if me, err := c.Me(t.Context()); err != nil || me.Person != "hanako" {
				t.Errorf("%+v, %v", me, err)
			}
		})
	}
	all.Wait()
	if stranger.count() != 1 || mine.count() != 8 || other.count() != 0 {
		t.Errorf("signed: stranger %d, mine %d, other %d", stranger.count(), mine.count(), other.count())
	}
	// Another process begins with it.
	if _, err := s.with(Options{Last: last}, locked, stranger, mine, other).Me(t.Context()); err != nil || stranger.count() != 1 {
		t.Errorf("%v; the stranger has signed %d", err, stranger.count())
	}
	// Another gate's is not that one's; and what cannot be read is forgotten.
	for _, text := range []string{"https://elsewhere.example " + mine.Fingerprint(), "\x00\xff", strings.Repeat("x", 9<<10), ""} {
		if err := os.WriteFile(last, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := stranger.count()
		if _, err := s.with(Options{Last: last}, stranger, mine).Me(t.Context()); err != nil || stranger.count() != before+1 {
			t.Errorf("%.20q: %v; the stranger has signed %d", text, err, stranger.count()-before)
		}
	}
	// The gate forgets the key: another is found.
	c = s.client(mine, other)
	if _, err := c.Me(t.Context()); err != nil {
		t.Fatal(err)
	}
	delete(s.knows, mine.Fingerprint())
	if me, err := c.Me(t.Context()); err != nil || me.Person != "hanako" || other.count() != 1 {
		t.Errorf("%+v, %v; signed %d", me, err, other.count())
	}
}

func TestNoKeyIsKnown(t *testing.T) {
	s := newServer(t)
	many := make([]*key, 40)
	for i := range many {
		many[i] = newKey(t)
	}
	_, err := s.client(many...).Me(t.Context())
	if !IsCode(err, api.Unknown) || !strings.Contains(err.Error(), many[0].Fingerprint()) || !strings.Contains(err.Error(), "and 11 more") || !strings.Contains(Hint(err), "gate.identity") {
		t.Errorf("%v (%s)", err, Hint(err))
	}
	if n := len(s.requests()); n != maxKeys {
		t.Errorf("%d keys were tried, want %d", n, maxKeys)
	}
	locked := newKey(t)
	locked.fails = errors.New("the agent is locked")
	if _, err := s.client(locked).Me(t.Context()); !errors.Is(err, locked.fails) {
		t.Errorf("%v", err)
	}
	if _, err := s.client(many[0], locked).Me(t.Context()); !IsCode(err, api.Unknown) || !strings.Contains(Hint(err), "the agent is locked") {
		t.Errorf("%v (%s)", err, Hint(err))
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
		hint   string
		silent bool
	}{
		{name: "an error", answer: func(w http.ResponseWriter, _ *http.Request) {
			fails(w, &api.Error{Code: api.NotAllowed, Message: "no\x1b[2J\nsekisho: all is well", Hint: "wait\u202e", Reasons: []api.Reason{{Text: "\x07"}}})
		}, want: `no\x1b[2J\nsekisho: all is well`, hint: `wait\u202e`},
		{name: "a long one", answer: func(w http.ResponseWriter, _ *http.Request) {
			fails(w, &api.Error{Code: api.Busy, Message: strings.Repeat("x", 60_000)})
		}, want: strings.Repeat("x", longest-1) + "…"},
		{name: "one too long to read", answer: func(w http.ResponseWriter, _ *http.Request) {
			fails(w, &api.Error{Code: api.Busy, Message: strings.Repeat("x", maxError)})
		}, want: "what answers in its place says 503", silent: true},
		{name: "a page", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(502)
			_, _ = io.WriteString(w, "<html>")
		}, want: "what answers in its place says 502 Bad Gateway", silent: true},
		{name: "another's JSON", answer: func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 404, map[string]any{"detail": "no"}) }, want: "says 404", silent: true},
		{name: "a redirect", answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/\x1b", http.StatusTemporaryRedirect)
		}, want: "it sends us elsewhere", hint: "gate.url", silent: true},
		{name: "no JSON", answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") }, want: "its answer cannot be read", silent: true},
		{name: "too much", answer: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+1))
		}, want: "it answers with more than", silent: true},
		{name: "broken off", answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: "does not answer", silent: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newKey(t)
			s := newServer(t, k)
			s.answer = func(w http.ResponseWriter, r *http.Request, _ string, _ []byte) { tt.answer(w, r) }
			_, err := s.client(k).Me(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) || isSilent(err) != tt.silent || !strings.Contains(Hint(err), tt.hint) {
				t.Errorf("%.200v (%s), want %.200q", err, Hint(err), tt.want)
			}
			if tt.silent && Hint(err) == "" {
				t.Error("there is no hint")
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\n\x07") {
				t.Errorf("a terminal would obey %q", err)
			}
			if tt.name == "a redirect" && len(s.requests()) != 1 {
				t.Errorf("it was followed: %v", s.requests())
			}
		})
	}
}

func TestClockThatIsOff(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  time.Duration
		want string
	}{
		{"behind", -5 * time.Minute, "this machine's clock is 5m0s behind the gate's"},
		{"ahead", 26 * time.Hour, "this machine's clock is 26h0m0s ahead of the gate's"},
		{"a little", time.Minute, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
			k := newKey(t)
			s := newServer(t, k)
			s.now = func() time.Time { return at }
			c := s.with(Options{Now: func() time.Time { return at.Add(tt.off) }}, k)
			_, err := c.Me(t.Context())
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else if !IsCode(err, api.Clock) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(Hint(err), "2026-11-29T12:00:00Z") {
				t.Errorf("%v (%s)", err, Hint(err))
			}
			// What the gate says of times is meant by its clock.
			if got, off := c.Here(at.Add(time.Hour)), at.Add(time.Hour+tt.off); got.Sub(off).Abs() > time.Second {
				t.Errorf("an hour from now is %s here, want %s", got, off)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	k := newKey(t)
	s := newServer(t, k)
	tests := []struct {
		name, url, ca, want, hint string
	}{
		{name: "an authority that nobody knows", url: s.URL, want: "certificate signed by unknown authority", hint: "gate.ca"},
		{name: "another name", url: strings.Replace(s.URL, "127.0.0.1", "localhost", 1), ca: s.ca(), want: "certificate", hint: "gate.url"},
		{name: "plain HTTP at a port of TLS", url: strings.Replace(s.URL, "https", "http", 1), want: "what answers in its place", hint: "gate.url"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := New(Options{URL: tt.url, CA: tt.ca, Keys: func(context.Context) ([]Key, error) { return []Key{k}, nil }})
			if err != nil {
				t.Fatal(err)
			}
			if _, err = c.Me(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(Hint(err), tt.hint) {
				t.Errorf("%v (%s)", err, Hint(err))
			}
		})
	}
}

func TestGatesThatAreNone(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(none, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, url, ca string }{
		{"nothing", "", ""},
		{"no host", "https://", ""},
		{"HTTP to another machine", "http://gate.example.com", ""},
		{"HTTP to an address", "http://192.0.2.1", ""},
		{"another scheme", "ftp://gate.example.com", ""},
		{"a path", "https://gate.example.com/x", ""},
		{"a password", "https://a:b@gate.example.com", ""},
		{"a query", "https://gate.example.com?x", ""},
		{"no certificates", "https://gate.example.com", none},
		{"no file", "https://gate.example.com", none + "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(Options{URL: tt.url, CA: tt.ca}); err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestOpenIsAskedOnce: an answer that got lost is asked for again, by the same name.
func TestOpenIsAskedOnce(t *testing.T) {
	k := newKey(t)
	s := newServer(t, k)
	var got []api.OpenRequest
	s.answer = func(w http.ResponseWriter, r *http.Request, _ string, body []byte) {
		if r.URL.Path != api.Version+"/doors/web/open" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		var q api.OpenRequest
		if err := json.Unmarshal(body, &q); err != nil {
			t.Error(err)
		}
		got = append(got, q)
		if len(got) == 1 {
			panic(http.ErrAbortHandler)
		}
		writeJSON(w, 200, api.Grant{ID: q.Lease, State: api.Open})
	}
	c := s.client(k)
	g, err := c.Open(t.Context(), "web", api.OpenRequest{Address: netip.MustParseAddr("203.0.113.7"), Seconds: 60})
	if err != nil || len(got) != 2 || got[0].Lease == "" || got[0].Lease != g.ID {
		t.Fatalf("%+v, %v; asked %+v", g, err, got)
	}
	if diff := cmp.Diff(got[0], got[1], cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	if k.count() != 2 {
		t.Errorf("signed %d times", k.count())
	}
}

// TestDoorsThatAreNone: what ssh or a shell would take for something else is no name.
func TestDoorsThatAreNone(t *testing.T) {
	k := newKey(t)
	s := newServer(t, k)
	for _, tt := range []struct {
		name, target string
		hosts        []string
		ok           bool
	}{
		{"good", "web-prod", []string{"web.example.com", "2001:db8::1", "203.0.113.7"}, true},
		{"an option", "web", []string{"-oProxyCommand=x"}, false},
		{"a shell's", "web; rm -rf", []string{"a"}, false},
		{"a line", "web", []string{"a\nHost *"}, false},
		{"no host", "web", nil, false},
		{"an option for a name", "-web", []string{"a"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.answer = func(w http.ResponseWriter, r *http.Request, _ string, _ []byte) {
				d := api.Door{Target: tt.target, Hosts: tt.hosts}
				if strings.HasSuffix(r.URL.Path, "/doors") {
					writeJSON(w, 200, []api.Door{d})
					return
				}
				writeJSON(w, 200, d)
			}
			c := s.client(k)
			_, err := c.Door(t.Context(), "web")
			_, errs := c.Doors(t.Context())
			if (err == nil) != tt.ok || (errs == nil) != tt.ok {
				t.Errorf("%v, %v", err, errs)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	s := newServer(t)
	local := netip.MustParseAddr("127.0.0.3")
	for _, tt := range []struct {
		name   string
		family ownaddr.Family
		answer any
		from   netip.Addr
		want   string // of the address; "": an error
	}{
		{name: "as the gate sees it", family: ownaddr.IPv4, from: local, want: "127.0.0.3"},
		{name: "what it says", family: ownaddr.IPv4, answer: api.Seen{Address: netip.MustParseAddr("203.0.113.7"), Family: 4}, want: "203.0.113.7"},
		{name: "in IPv6's form", family: ownaddr.IPv4, answer: map[string]any{"address": "::ffff:203.0.113.7"}, want: "203.0.113.7"},
		{name: "the other family", family: ownaddr.IPv4, answer: api.Seen{Address: netip.MustParseAddr("2001:db8::7"), Family: 6}},
		{name: "nothing", family: ownaddr.IPv4, answer: map[string]any{}},
		{name: "no address", family: ownaddr.IPv4, answer: map[string]any{"address": "me"}},
		{name: "a zone", family: ownaddr.IPv6, answer: map[string]any{"address": "fe80::1%eth0"}},
		{name: "a family that the gate has not", family: ownaddr.IPv6, answer: api.Seen{Address: netip.MustParseAddr("2001:db8::7"), Family: 6}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // nobody asks it
			s.answer = func(w http.ResponseWriter, r *http.Request, _ string, _ []byte) {
				if r.Header.Get(api.HeaderSignature) != "" {
					t.Error("it is signed")
				}
				if tt.answer == nil {
					writeJSON(w, 200, api.Seen{Address: netip.MustParseAddrPort(r.RemoteAddr).Addr()})
					return
				}
				writeJSON(w, 200, tt.answer)
			}
			got, err := s.client().Address(t.Context(), tt.family, tt.from)
			if tt.want == "" {
				if err == nil {
					t.Errorf("got %s", got)
				}
				return
			}
			if err != nil || got.String() != tt.want {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
}

func TestExport(t *testing.T) {
	k := newKey(t)
	s := newServer(t, k)
	line := func(n int) string { return fmt.Sprintf(`{"seq":%d,"what":"open","new":"kept"}`, n) }
	for _, tt := range []struct {
		name, text string
		abort      bool
		want       int
		ok         bool
	}{
		{"all", line(1) + "\n" + line(2) + "\n", false, 2, true},
		{"none", "", false, 0, true},
		{"broken off", line(1) + "\n" + line(2) + "\n", true, 2, false},
		{"half a line", line(1) + "\n" + line(2)[:9], false, 1, false},
		{"a line too long", line(1) + "\n" + strings.Repeat("x", maxLine+1), false, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.answer = func(w http.ResponseWriter, _ *http.Request, _ string, _ []byte) {
				_, _ = io.WriteString(w, tt.text)
				if tt.abort {
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
			}
			n := 0
			err := s.client(k).Export(t.Context(), func(got []byte, e api.Entry) error {
				n++
				if string(got) != line(n) || e.Seq != int64(n) {
					t.Errorf("line %d is %s", n, got)
				}
				return nil
			})
			if (err == nil) != tt.ok || n != tt.want {
				t.Errorf("%d lines, %v", n, err)
			}
		})
	}
}

func TestFollow(t *testing.T) {
	k := newKey(t)
	s := newServer(t, k)
	n := 0
	s.answer = func(w http.ResponseWriter, _ *http.Request, _ string, _ []byte) {
		switch n++; n {
		case 1:
			writeJSON(w, 200, api.Grant{ID: "a", State: api.Waiting})
		case 2:
			fails(w, api.Errorf(api.Busy, "", "not now"))
		case 3:
			w.WriteHeader(502)
		default:
			writeJSON(w, 200, api.Grant{ID: "a", State: api.Open})
		}
	}
	done := func(g api.Grant) bool { return g.State == api.Open }
	g, err := s.client(k).Follow(t.Context(), api.Grant{ID: "a", State: api.Waiting}, time.Millisecond, done)
	if err != nil || g.State != api.Open || n != 4 {
		t.Errorf("%+v, %v after %d", g, err, n)
	}
	s.answer = func(w http.ResponseWriter, _ *http.Request, _ string, _ []byte) {
		fails(w, api.Errorf(api.NotFound, "", "gone"))
	}
	if _, err := s.client(k).Follow(t.Context(), api.Grant{ID: "a"}, time.Millisecond, done); !IsCode(err, api.NotFound) {
		t.Errorf("%v", err)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := s.client(k).Follow(ctx, api.Grant{ID: "a"}, time.Hour, done); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

// TestGivenUp: what ends a request is told, and not blamed on the gate.
func TestGivenUp(t *testing.T) {
	k := newKey(t)
	s := newServer(t, k)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	s.answer = func(w http.ResponseWriter, r *http.Request, _ string, _ []byte) {
		cancel(why)
		<-r.Context().Done()
	}
	if _, err := s.client(k).Me(ctx); !errors.Is(err, why) || isSilent(err) {
		t.Errorf("%v", err)
	}
}

// FuzzFailure: whatever answers in a gate's place, what is told of it is one line that a
// terminal shows.
func FuzzFailure(f *testing.F) {
	for _, s := range []string{`{"code":"busy","message":"no"}`, `{"code":"clock","message":"\u001b[2J","hint":"a\nb","reasons":[{"text":"\u202e"}]}`, "<html>", "", `{"code":1}`, "\xff"} {
		f.Add(503, []byte(s), "Sun, 29 Nov 2026 12:00:00 GMT")
	}
	c, err := New(Options{URL: "https://gate.example.com"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, date string) {
		err := c.failure(t.Context(), &http.Response{StatusCode: status, Header: http.Header{"Date": {date}, "Location": {date}}, Body: io.NopCloser(bytes.NewReader(body))})
		if err == nil || err.Error() == "" {
			t.Fatal("it is no error")
		}
		for _, text := range []string{err.Error(), Hint(err)} {
			if text != printable.Text(text) {
				t.Errorf("a terminal would obey %q", text)
			}
		}
	})
}
