package web

import (
	"encoding/base64"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/gate/api"
)

func TestSigned(t *testing.T) {
	w := newWorld(t)
	open := api.Version + "/doors/web/open"
	body := []byte(`{"seconds":600}`)
	signed := func(change ...func(*api.Signed)) *http.Request {
		return w.sign(withJSON(w.request(post, open, "hanako", body)), w.keys["hanako"], api.Namespace, body, change...)
	}
	for _, tt := range []struct {
		name    string
		request func() *http.Request
		want    api.Code // "": 200
		says    string
	}{
		{name: "as it should be", request: func() *http.Request { return signed() }},
		{name: "with a query", request: func() *http.Request {
			return w.sign(w.request(get, api.Version+"/grants?all=false", "hanako", nil), w.keys["hanako"], api.Namespace, nil)
		}},
		{name: "another's body", request: func() *http.Request { return signed(func(s *api.Signed) { s.Body = []byte(`{"seconds":7200}`) }) }, want: api.BadSignature},
		{name: "another method", request: func() *http.Request { return signed(func(s *api.Signed) { s.Method = put }) }, want: api.BadSignature},
		{name: "another path", request: func() *http.Request {
			return signed(func(s *api.Signed) { s.URL = origin + api.Version + "/doors/db/open" })
		}, want: api.BadSignature},
		{name: "another gate", request: func() *http.Request { return signed(func(s *api.Signed) { s.URL = "https://evil.example.com" + open }) }, want: api.BadSignature, says: "sign the method, all of the URL (it begins with " + origin + ")"},
		{name: "another time", request: func() *http.Request {
			r := signed()
			r.Header.Set(api.HeaderTime, w.time().Add(time.Second).UTC().Format("2006-01-02T15:04:05Z"))
			return r
		}, want: api.BadSignature},
		{name: "another nonce", request: func() *http.Request {
			r := signed()
			r.Header.Set(api.HeaderNonce, strings.Repeat("a", 32))
			return r
		}, want: api.BadSignature},
		{name: "another namespace", request: func() *http.Request {
			return w.sign(withJSON(w.request(post, open, "hanako", body)), w.keys["hanako"], "file", body)
		}, want: api.BadSignature, says: "an SSH signature made for something else"},
		{name: "a host's namespace", request: func() *http.Request {
			return w.sign(withJSON(w.request(post, open, "hanako", body)), w.keys["hanako"], api.HostNamespace, body)
		}, want: api.BadSignature},
		{name: "nobody's key", request: func() *http.Request {
			return w.sign(withJSON(w.request(post, open, "hanako", body)), w.keys["stranger"], api.Namespace, body)
		}, want: api.Unknown},
		{name: "a host's key", request: func() *http.Request {
			return w.sign(withJSON(w.request(post, open, "hanako", body)), w.keys["box-1"], api.Namespace, body)
		}, want: api.Unknown},
		{name: "a disabled person's key", request: func() *http.Request {
			return w.sign(withJSON(w.request(post, open, "jiro", body)), w.keys["jiro"], api.Namespace, body)
		}, want: api.Disabled},
		{name: "a clock that is slow", request: func() *http.Request {
			return signed(func(s *api.Signed) { s.Time = w.time().Add(-3 * time.Minute).UTC().Format("2006-01-02T15:04:05Z") })
		}, want: api.Clock, says: "before the gate's time, and 2m0s is the most"},
		{name: "a clock that is fast", request: func() *http.Request {
			return signed(func(s *api.Signed) { s.Time = w.time().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z") })
		}, want: api.Clock, says: "after the gate's time"},
		{name: "a clock that is a little off", request: func() *http.Request {
			return signed(func(s *api.Signed) { s.Time = w.time().Add(-time.Minute).UTC().Format("2006-01-02T15:04:05Z") })
		}},
		{name: "a time in a zone", request: func() *http.Request {
			return signed(func(s *api.Signed) { s.Time = w.time().Format("2006-01-02T15:04:05+00:00") })
		}, want: api.BadSignature},
		{name: "a short nonce", request: func() *http.Request { return signed(func(s *api.Signed) { s.Nonce = "abc" }) }, want: api.BadSignature},
		{name: "a nonce with a line feed", request: func() *http.Request { return signed(func(s *api.Signed) { s.Nonce = strings.Repeat("a", 20) + "\n" }) }, want: api.BadSignature},
		{name: "no signature", request: func() *http.Request {
			r := signed()
			r.Header.Del(api.HeaderSignature)
			return r
		}, want: api.BadSignature},
		{name: "two signatures", request: func() *http.Request {
			r := signed()
			r.Header.Add(api.HeaderSignature, "AAAA")
			return r
		}, want: api.BadSignature},
		{name: "garbage", request: func() *http.Request {
			r := signed()
			r.Header.Set(api.HeaderSignature, base64.StdEncoding.EncodeToString([]byte("SSHSIG<script>")))
			return r
		}, want: api.BadSignature},
		{name: "not base64", request: func() *http.Request {
			r := signed()
			r.Header.Set(api.HeaderSignature, "<script>")
			return r
		}, want: api.BadSignature},
		{name: "a wrong signature beside a good session", request: func() *http.Request {
			r := signed(func(s *api.Signed) { s.Method = put })
			return w.withSession(r, w.session("hanako"))
		}, want: api.BadSignature},
		{name: "nothing", request: func() *http.Request { return withJSON(w.request(post, open, "hanako", body)) }, want: api.NoIdentity},
		{name: "a token where no provider is", request: func() *http.Request {
			r := withJSON(w.request(post, open, "hanako", body))
			r.Header.Set("Authorization", "Bearer abc")
			return r
		}, want: api.NoIdentity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Each from an address of its own, so that they do not wait for each other.
			r := w.do(tt.request())
			if tt.want == "" {
				if r.StatusCode != 200 {
					t.Fatalf("got %d %s", r.StatusCode, read(t, r))
				}
				return
			}
			e := decode[api.Error](t, r)
			if e.Code != tt.want || r.StatusCode != tt.want.Status() || !strings.Contains(e.Message+e.Hint, tt.says) || e.Request == "" {
				t.Errorf("got %d %+v, want %s with %q", r.StatusCode, e, tt.want, tt.says)
			}
		})
		w.failures = newBySource(time.Second, 20)
	}
}

func TestSignatureIsGoodOnce(t *testing.T) {
	w := newWorld(t)
	r := w.sign(w.request(get, api.Version+"/me", "hanako", nil), w.keys["hanako"], api.Namespace, nil)
	if got := w.do(r.Clone(t.Context())); got.StatusCode != 200 {
		t.Fatal(read(t, got))
	}
	for _, passed := range []time.Duration{0, time.Minute, api.Skew} {
		w.pass(passed)
		got := w.do(r.Clone(t.Context()))
		if e := decode[api.Error](t, got); e.Code != api.Replayed && e.Code != api.Clock {
			t.Errorf("%v later: got %+v", passed, e)
		}
	}
	// A nonce that somebody else has burnt is not used: it counts with the key alone.
	nonce := strings.Repeat("n", 20)
	set := func(s *api.Signed) { s.Nonce = nonce }
	if got := w.do(w.sign(w.request(get, api.Version+"/me", "taro", nil), w.keys["taro"], api.Namespace, nil, set)); got.StatusCode != 200 {
		t.Fatal(read(t, got))
	}
	if got := w.do(w.sign(w.request(get, api.Version+"/me", "hanako", nil), w.keys["hanako"], api.Namespace, nil, set)); got.StatusCode != 200 {
		t.Error(read(t, got))
	}
	// One that was never good is not remembered.
	bad := w.sign(w.request(get, api.Version+"/me", "hanako", nil), w.keys["hanako"], api.Namespace, nil, func(s *api.Signed) { s.Nonce, s.Method = strings.Repeat("m", 20), put })
	if got := w.do(bad); got.StatusCode != 401 {
		t.Fatal("a wrong signature is taken")
	}
	if got := w.do(w.sign(w.request(get, api.Version+"/me", "hanako", nil), w.keys["hanako"], api.Namespace, nil, func(s *api.Signed) { s.Nonce = strings.Repeat("m", 20) })); got.StatusCode != 200 {
		t.Errorf("a nonce is burnt by a wrong signature: %s", read(t, got))
	}
}

// What ssh-keygen writes is taken, as the documentation has it.
func TestSSHKeygenSigns(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("LEFT OUT: no ssh-keygen is installed")
	}
	w := newWorld(t)
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.gate.AddPerson(t.Context(), w.who("root"), api.PersonEdit{Name: "keiko", Groups: []string{"ops"}, Keys: []string{strings.Join(strings.Fields(string(public))[:2], " ")}}); err != nil {
		t.Fatal(err)
	}
	r := w.request(get, api.Version+"/me", "keiko", nil)
	at, nonce := w.time().UTC().Format("2006-01-02T15:04:05Z"), strings.Repeat("k", 24)
	cmd := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", api.Namespace, "-f", key)
	cmd.Stdin = strings.NewReader(string(api.Signed{Method: get, URL: origin + api.Version + "/me", Time: at, Nonce: nonce}.Text()))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for l := range strings.Lines(string(out)) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "---") {
			lines = append(lines, l)
		}
	}
	r.Header.Set(api.HeaderTime, at)
	r.Header.Set(api.HeaderNonce, nonce)
	r.Header.Set(api.HeaderSignature, strings.Join(lines, ""))
	got := w.do(r)
	if me := decode[api.Me](t, got); me.Person != "keiko" || me.Via != api.ViaKey || me.Role != api.RolePerson {
		t.Errorf("got %+v", me)
	}
}

func TestCookies(t *testing.T) {
	for _, tt := range []struct {
		name, url, cookie string
		secure            bool
	}{
		{"https", origin, "__Host-sekisho", true},
		{"loopback", "http://localhost:8022", "sekisho", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(_ *Options, s *Settings) { s.URL = tt.url })
			r := w.request(post, "/signout", "hanako", nil)
			got := w.do(w.withSession(r, w.session("hanako")))
			if len(got.Cookies()) != 1 {
				t.Fatalf("%d %v", got.StatusCode, got.Header)
			}
			c := got.Cookies()[0]
			if c.Name != tt.cookie || c.Secure != tt.secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge >= 0 {
				t.Errorf("got %v", c)
			}
			if hsts := got.Header.Get("Strict-Transport-Security"); (hsts != "") != tt.secure {
				t.Errorf("Strict-Transport-Security: %q", hsts)
			}
		})
	}
}

func TestSessions(t *testing.T) {
	w := newWorld(t)
	me := func(token string) *answer {
		return w.do(w.withSession(w.request(get, api.Version+"/me", "hanako", nil), token))
	}
	one, two, other := w.session("hanako"), w.session("hanako"), w.session("taro")
	for _, token := range []string{one, two, other} {
		if got := me(token); got.StatusCode != 200 {
			t.Fatal(read(t, got))
		}
	}
	// Signing out ends one session, at the gate and not only in the browser.
	if got := w.do(w.withSession(w.request(post, api.Version+"/signout", "hanako", nil), one)); got.StatusCode != 204 {
		t.Fatal(read(t, got))
	}
	if got := me(one); got.StatusCode != 401 {
		t.Errorf("an ended session is good: %d", got.StatusCode)
	}
	if got := me(two); got.StatusCode != 200 {
		t.Errorf("another session has ended too: %d", got.StatusCode)
	}
	three := w.session("hanako")
	if got := w.do(w.withSession(w.request(post, api.Version+"/signout/everywhere", "hanako", nil), two)); got.StatusCode != 204 {
		t.Fatal(read(t, got))
	}
	for _, token := range []string{two, three} {
		if got := me(token); got.StatusCode != 401 {
			t.Errorf("signed out everywhere, and a session is good: %d", got.StatusCode)
		}
	}
	if got := me(other); got.StatusCode != 200 {
		t.Errorf("somebody else's session has ended: %d", got.StatusCode)
	}
	w.pass(13 * time.Hour)
	if got := me(other); got.StatusCode != 401 || decode[api.Error](t, got).Code != api.Expired {
		t.Errorf("a session of yesterday: %d", got.StatusCode)
	}
	// A page leads to where one signs in, and back.
	r := w.withSession(w.request(get, "/doors/web?x=1", "taro", nil), other)
	r.Header.Set("Accept", "text/html")
	if got := w.do(r); got.StatusCode != 303 || got.Header.Get("Location") != "/signin?next=%2Fdoors%2Fweb%3Fx%3D1" {
		t.Errorf("got %d %v", got.StatusCode, got.Header)
	}
	// Two cookies of one name: somebody has put one there.
	r = w.request(get, api.Version+"/me", "taro", nil)
	fresh := w.session("taro")
	w.withSession(w.withSession(r, fresh), fresh)
	if got := w.do(r); got.StatusCode != 401 {
		t.Errorf("two cookies: %d", got.StatusCode)
	}
}

// Who keeps failing is told to wait; who shows rightly who they are is let in beside them,
// from the same address.
func TestFailuresAreBounded(t *testing.T) {
	w := newWorld(t)
	fail := func() *answer {
		return w.do(w.sign(w.request(get, api.Version+"/me", "hanako", nil), w.keys["stranger"], api.Namespace, nil))
	}
	for i := range 20 {
		if got := fail(); got.StatusCode != 401 {
			t.Fatalf("failure %d: got %d", i+1, got.StatusCode)
		}
	}
	got := fail()
	if e := decode[api.Error](t, got); got.StatusCode != 429 || e.Code != api.TooMany || e.After < 1 || got.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %+v %v", got.StatusCode, e, got.Header)
	}
	if got := w.call("hanako", get, api.Version+"/me", nil); got.StatusCode != 200 {
		t.Errorf("who is known is locked out: %s", read(t, got))
	}
	// Guessed sessions and invitations count too.
	if got := w.do(w.withSession(w.request(get, api.Version+"/me", "hanako", nil), "guessed")); got.StatusCode != 429 {
		t.Errorf("a guessed session: %d", got.StatusCode)
	}
	if got := w.do(withJSON(w.request(post, api.Version+"/invitations/show", "hanako", []byte(`{"token":"guessed"}`)))); got.StatusCode != 429 {
		t.Errorf("a guessed invitation: %d", got.StatusCode)
	}
	// Another source is not held up.
	if got := w.do(w.sign(w.request(get, api.Version+"/me", "taro", nil), w.keys["stranger"], api.Namespace, nil)); got.StatusCode != 401 {
		t.Errorf("another source: %d", got.StatusCode)
	}
	// Nor does what is over the bound fill the log.
	if n := strings.Count(w.log.String(), "identity refused"); n > 21 {
		t.Errorf("%d lines in the log", n)
	}
	w.pass(time.Minute)
	if got := fail(); got.StatusCode != 401 {
		t.Errorf("a minute later: %d", got.StatusCode)
	}
}

func TestRequestsOfOneAreBounded(t *testing.T) {
	w := newWorld(t)
	w.people = newRate[string](time.Second, 3, 10)
	for range 3 {
		if got := w.call("hanako", get, api.Version+"/me", nil); got.StatusCode != 200 {
			t.Fatal(read(t, got))
		}
	}
	if got := w.call("hanako", get, api.Version+"/me", nil); got.StatusCode != 429 {
		t.Errorf("got %d", got.StatusCode)
	}
	if got := w.call("taro", get, api.Version+"/me", nil); got.StatusCode != 200 {
		t.Errorf("somebody else: %d", got.StatusCode)
	}
}

// A stranger chooses the key; a long one must not buy more of the gate's time.
func TestCost(t *testing.T) {
	key := func(bits int) ssh.PublicKey {
		n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
		k, err := ssh.ParsePublicKey(ssh.Marshal(struct {
			Type string
			E, N *big.Int
		}{ssh.KeyAlgoRSA, big.NewInt(65537), n}))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, tt := range []struct {
		name string
		key  ssh.PublicKey
		want int
	}{
		{"Ed25519", newKey(t).PublicKey(), 1},
		{"RSA of 2048 bits", key(2048), 1},
		{"RSA of 4096 bits", key(4096), 1},
		{"RSA of 8192 bits", key(8192), 4},
		{"RSA of 16384 bits, the longest", key(16384), 16},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := cost(tt.key); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// What a source has the gate compute is bounded before it is computed.
func TestChecksAreBounded(t *testing.T) {
	w := newWorld(t)
	w.checked = newBySource(time.Second, 2)
	for range 2 {
		if got := w.call("hanako", get, api.Version+"/me", nil); got.StatusCode != 200 {
			t.Fatal(read(t, got))
		}
	}
	if got := w.call("hanako", get, api.Version+"/me", nil); got.StatusCode != 429 {
		t.Errorf("got %d", got.StatusCode)
	}
	if got := w.do(w.withSession(w.request(get, api.Version+"/me", "hanako", nil), w.session("hanako"))); got.StatusCode != 200 {
		t.Errorf("a session, which costs nothing: %d", got.StatusCode)
	}
}
