package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestNew(t *testing.T) {
	good := Config{Issuer: "https://id.example.com/realm", ClientID: "gate", RedirectURL: redirect}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		err    string
	}{
		{name: "good", change: func(*Config) {}},
		{name: "this host", change: func(c *Config) { c.Issuer, c.RedirectURL = "http://127.0.0.1:9998/", "http://localhost:8022/back" }},
		{name: "issuer over http", change: func(c *Config) { c.Issuer = "http://id.example.com" }, err: `issuer "http://id.example.com": write it with https`},
		{name: "issuer by a name like this host's", change: func(c *Config) { c.Issuer = "http://localhost.example.com" }, err: "https"},
		{name: "no issuer", change: func(c *Config) { c.Issuer = "" }, err: "https://host/path"},
		{name: "issuer with a query", change: func(c *Config) { c.Issuer += "?a=b" }, err: "neither ? nor #"},
		{name: "issuer with a password", change: func(c *Config) { c.Issuer = "https://a:b@id.example.com" }, err: "https://host/path"},
		{name: "way back over http", change: func(c *Config) { c.RedirectURL = "http://gate.example.com/back" }, err: "redirect URL"},
		{name: "no way back", change: func(c *Config) { c.RedirectURL = "/back" }, err: "redirect URL"},
		{name: "no client", change: func(c *Config) { c.ClientID = "" }, err: "client ID"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			_, err := New(cfg)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	whole := Identity{
		Subject: "42", Person: "hanako@example.com", Name: "山田 花子", Email: "hanako@example.com", EmailVerified: true,
		Groups: []string{"dev", "ops"},
	}
	for _, tt := range []struct {
		name   string
		lie    func(*liar)
		change func(*Config)
		want   func(*Identity)
		asks   int64 // for user info
	}{
		{name: "all in the ID token"},
		{name: "secret in the form", lie: func(l *liar) {
			l.doc = map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_post"}}
		}},
		{name: "groups in the user info", lie: func(l *liar) { l.claims = map[string]any{"groups": nil} }, asks: 1,
			want: func(id *Identity) { id.Groups = []string{"from-userinfo"} }},
		{name: "address in the user info", lie: func(l *liar) { l.claims = map[string]any{"email": nil, "email_verified": nil} }, asks: 1},
		{name: "address verified in the user info", lie: func(l *liar) { l.claims = map[string]any{"email": "old@example.com", "email_verified": nil} }, asks: 1},
		{name: "verified as a string", lie: func(l *liar) { l.claims = map[string]any{"email_verified": "true"} }},
		{name: "one group", lie: func(l *liar) { l.claims = map[string]any{"groups": "ops"} }, want: func(id *Identity) { id.Groups = []string{"ops"} }},
		{name: "as many groups as there may be", lie: func(l *liar) { l.claims = map[string]any{"groups": many(maxGroups, "")} },
			want: func(id *Identity) { id.Groups = many(maxGroups, "") }},
		{name: "groups as long as they may be", lie: func(l *liar) { l.claims = map[string]any{"groups": []string{strings.Repeat("長", maxGroup)}} },
			want: func(id *Identity) { id.Groups = []string{strings.Repeat("長", maxGroup)} }},
		{name: "no groups", lie: func(l *liar) { l.claims, l.userinfo = map[string]any{"groups": nil}, map[string]any{"sub": "42"} }, asks: 1,
			want: func(id *Identity) { id.Groups = nil }},
		{name: "groups are not asked for", change: func(c *Config) { c.GroupsClaim = "" }, want: func(id *Identity) { id.Groups = nil }},
		{name: "no user info there", lie: func(l *liar) {
			l.claims, l.doc = map[string]any{"groups": nil}, map[string]any{"userinfo_endpoint": nil}
		}, want: func(id *Identity) { id.Groups = nil }},
		{name: "person by subject", change: func(c *Config) { c.PersonClaim = "sub" }, lie: func(l *liar) { l.claims = map[string]any{"email_verified": false} },
			want: func(id *Identity) { id.Person, id.EmailVerified = "42", false }},
		{name: "person by another claim", change: func(c *Config) { c.PersonClaim = "https://example.com/login" },
			lie:  func(l *liar) { l.claims = map[string]any{"https://example.com/login": "hanako", "email": nil} },
			want: func(id *Identity) { id.Person, id.Email, id.EmailVerified = "hanako", "", false }},
		{name: "a name that is none", lie: func(l *liar) { l.claims = map[string]any{"name": "a\u202eb"} }, want: func(id *Identity) { id.Name = "" }},
		{name: "several audiences, made for the gate", lie: func(l *liar) { l.claims = map[string]any{"aud": []string{"other", clientID}, "azp": clientID} }},
		{name: "no at_hash", lie: func(l *liar) { l.claims = map[string]any{"at_hash": nil} }},
		{name: "no algorithms told", lie: func(l *liar) { l.doc = map[string]any{"id_token_signing_alg_values_supported": nil} }},
		{name: "issuer told on the way back", lie: func(l *liar) {
			l.doc = map[string]any{"authorization_response_iss_parameter_supported": true}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLiar(t)
			if tt.lie != nil {
				tt.lie(l)
			}
			cfg := l.config()
			if tt.change != nil {
				tt.change(&cfg)
			}
			p, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			to, kept, err := p.Begin(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			back := l.authorize(to)
			if l.doc["authorization_response_iss_parameter_supported"] != nil {
				back.Set("iss", l.server.URL)
			}
			got, err := p.Finish(context.Background(), kept, back)
			if err != nil {
				t.Fatal(err)
			}
			want := whole
			want.Issuer = l.server.URL
			if tt.want != nil {
				tt.want(&want)
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Identity{}, "Until")); diff != "" {
				t.Errorf("who (-want +got):\n%s", diff)
			}
			if left := time.Until(got.Until); left < 50*time.Minute || left > time.Hour {
				t.Errorf("it ends in %s", left)
			}
			if n := l.asked["/userinfo"].Load(); n != tt.asks {
				t.Errorf("user info was asked for %d times, want %d", n, tt.asks)
			}
			if n := l.asked["/token"].Load(); n != 1 {
				t.Errorf("the code was shown %d times", n)
			}
			// Used twice, the code is good for nothing.
			if _, err := p.Finish(context.Background(), kept, back); !errors.Is(err, &Error{Reason: Stale}) {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func many(n int, suffix string) []string {
	groups := make([]string, n)
	for i := range groups {
		groups[i] = fmt.Sprintf("group-%05d%s", i, suffix)
	}
	return groups
}

// What the browser is sent away with.
func TestBegin(t *testing.T) {
	l := newLiar(t)
	cfg := l.config()
	cfg.Scopes = []string{"roles", "email", "two words"}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 3 {
		to, kept, err := p.Begin(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		for _, secret := range []string{"state", "nonce", "code_challenge"} {
			if v := q.Get(secret); len(v) < 26 || seen[v] {
				t.Errorf("%s is %q: short, or not new", secret, v)
			}
			seen[q.Get(secret)] = true
			q.Del(secret)
		}
		want := url.Values{
			"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {redirect}, "code_challenge_method": {"S256"},
			"scope": {"openid profile email groups roles"},
		}
		if diff := cmp.Diff(want, q); diff != "" || !strings.HasPrefix(to, l.server.URL+"/auth?") {
			t.Errorf("sent to %s (-want +got):\n%s", to, diff)
		}
		var kp pending
		if err := json.Unmarshal(kept, &kp); err != nil || strings.Contains(to, kp.Verifier) {
			t.Errorf("the verifier is told, or: %v", err)
		}
	}
}

func wantReason(t *testing.T, err error, want Reason) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("got %v, want it refused as %s", err, want)
	}
	if e.Hint() == "" || len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\r\x1b") || strings.Contains(err.Error(), secret) {
		t.Errorf("%q has no hint, says much, or what it must not", err)
	}
}

func TestTokenRefused(t *testing.T) {
	elsewhere := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusTemporaryRedirect)
	}
	huge := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token":"a","keys":[`)
		for range maxAnswer / 10 {
			if _, err := io.WriteString(w, `{"kty":"x"},`); err != nil {
				return
			}
		}
	}
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	at := func(path string, h http.HandlerFunc) func(*liar) {
		return func(l *liar) { l.answers = map[string]http.HandlerFunc{path: h} }
	}
	claim := func(name string, v any) func(*liar) {
		return func(l *liar) { l.claims = map[string]any{name: v} }
	}
	for _, tt := range []struct {
		name string
		lie  func(*liar)
		want Reason
	}{
		{name: "another issuer", lie: claim("iss", "https://id.example.net"), want: BadToken},
		{name: "issuer with a slash more", lie: func(l *liar) { l.claims = map[string]any{"iss": l.server.URL + "/"} }, want: BadToken},
		{name: "another audience", lie: claim("aud", "other"), want: BadToken},
		{name: "no audience", lie: claim("aud", nil), want: BadToken},
		{name: "several audiences, made for nobody", lie: claim("aud", []string{clientID, "other"}), want: BadToken},
		{name: "made for another", lie: func(l *liar) { l.claims = map[string]any{"aud": []string{clientID, "other"}, "azp": "other"} }, want: BadToken},
		{name: "one audience, made for another", lie: claim("azp", "other"), want: BadToken},
		{name: "expired", lie: claim("exp", time.Now().Add(-time.Minute).Unix()), want: Expired},
		{name: "no end", lie: claim("exp", nil), want: Expired},
		{name: "not yet", lie: claim("nbf", time.Now().Add(time.Hour).Unix()), want: BadToken},
		{name: "unsigned", lie: func(l *liar) { l.alg = "none" }, want: BadToken},
		{name: "signed with the public key", lie: func(l *liar) { l.alg = "HS256" }, want: BadToken},
		{name: "signed with another key", lie: func(l *liar) { l.key = otherKey() }, want: BadToken},
		{name: "signed with a key that is not served", lie: func(l *liar) { l.key, l.keyID = otherKey(), "two" }, want: BadToken},
		{name: "no nonce", lie: claim("nonce", nil), want: BadToken},
		{name: "another nonce", lie: claim("nonce", "AAAAAAAAAAAAAAAAAAAAAAAAAA"), want: BadToken},
		{name: "another access token", lie: claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), want: BadToken},
		{name: "no ID token", lie: func(l *liar) { l.token = map[string]any{"id_token": nil} }, want: BadToken},
		{name: "ID token is no string", lie: func(l *liar) { l.token = map[string]any{"id_token": 5} }, want: BadToken},
		{name: "ID token is nonsense", lie: func(l *liar) { l.token = map[string]any{"id_token": "a.b.c"} }, want: BadToken},
		{name: "no subject", lie: claim("sub", nil), want: NoPerson},
		{name: "long subject", lie: claim("sub", strings.Repeat("x", maxSubject+1)), want: NoPerson},

		{name: "address not verified", lie: claim("email_verified", false), want: Unverified},
		{name: "address not verified, as a string", lie: claim("email_verified", "false"), want: Unverified},
		{name: "address verified by a number", lie: claim("email_verified", 1), want: Unverified},
		{name: "nobody says whether the address is verified", lie: func(l *liar) {
			l.claims, l.userinfo = map[string]any{"email_verified": nil}, map[string]any{"sub": "42"}
		}, want: Unverified},
		{name: "another address is verified", lie: func(l *liar) {
			l.claims, l.userinfo = map[string]any{"email_verified": nil}, map[string]any{"sub": "42", "email_verified": true}
		}, want: Unverified},
		{name: "no address", lie: func(l *liar) { l.claims, l.userinfo = map[string]any{"email": nil}, map[string]any{"sub": "42"} }, want: NoPerson},
		{name: "address is a list", lie: claim("email", []string{"hanako@example.com"}), want: NoPerson},
		{name: "address with a line end", lie: claim("email", "hanako@example.com\n"), want: NoPerson},
		{name: "long address", lie: claim("email", strings.Repeat("x", maxPerson)+"@"), want: NoPerson},
		{name: "user info of another", lie: func(l *liar) { l.claims, l.userinfo["sub"] = map[string]any{"groups": nil}, "43" }, want: BadToken},
		{name: "user info refuses", lie: func(l *liar) { l.claims, l.userinfo = map[string]any{"groups": nil}, nil }, want: Unreachable},
		{name: "user info elsewhere", lie: func(l *liar) { l.claims = map[string]any{"groups": nil}; at("/userinfo", elsewhere)(l) }, want: Unreachable},
		{name: "user info is much", lie: func(l *liar) { l.claims = map[string]any{"groups": nil}; at("/userinfo", huge)(l) }, want: Unreachable},

		{name: "groups are a number", lie: claim("groups", 5), want: BadGroups},
		{name: "groups are an object", lie: claim("groups", map[string]any{"ops": true}), want: BadGroups},
		{name: "a group is a number", lie: claim("groups", []any{"ops", 5}), want: BadGroups},
		{name: "a group is nothing", lie: claim("groups", []any{"ops", nil}), want: BadGroups},
		{name: "a group is empty", lie: claim("groups", []string{""}), want: BadGroups},
		{name: "a group has a line end", lie: claim("groups", []string{"ops\nadmin"}), want: BadGroups},
		{name: "a group is long", lie: claim("groups", []string{strings.Repeat("長", maxGroup+1)}), want: BadGroups},
		{name: "one group too many", lie: claim("groups", many(maxGroups+1, "")), want: BadGroups},
		{name: "10,000 groups", lie: claim("groups", many(10_000, "")), want: BadGroups},
		{name: "more groups than are taken in", lie: claim("groups", many(10_000, strings.Repeat("x", 100))), want: Unreachable},
		{name: "groups are elsewhere", lie: func(l *liar) {
			l.claims = map[string]any{
				"groups": nil, "_claim_names": map[string]any{"groups": "src1"},
				"_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "http://127.0.0.1:1/groups"}},
			}
		}, want: BadGroups},

		{name: "code refused", lie: at("/token", status(400, `{"error":"invalid_grant","error_description":"a\nb`+strings.Repeat("x", 9999)+`"}`)), want: Stale},
		{name: "secret refused", lie: at("/token", status(401, `{"error":"invalid_client"}`)), want: Misconfigured},
		{name: "secret refused in few words", lie: at("/token", status(401, ``)), want: Misconfigured},
		{name: "provider broken", lie: at("/token", status(500, "\x1b[2J<html>"+strings.Repeat("x", 9999))), want: Unreachable},
		{name: "no JSON", lie: at("/token", status(200, "\x1b[2J<html>")), want: Unreachable},
		{name: "token elsewhere", lie: at("/token", elsewhere), want: Unreachable},
		{name: "token is much", lie: at("/token", huge), want: Unreachable},
		{name: "keys elsewhere", lie: at("/keys", elsewhere), want: Unreachable},
		{name: "keys are much", lie: at("/keys", huge), want: Unreachable},
		{name: "no keys for now", lie: at("/keys", status(503, "\x1b[2J")), want: Unreachable},
		{name: "keys are no JSON", lie: at("/keys", status(200, "\x1b[2J")), want: Unreachable},
		{name: "no keys at all", lie: func(l *liar) { l.served = nil }, want: Unreachable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLiar(t)
			tt.lie(l)
			id, err := l.login(l.provider())
			wantReason(t, err, tt.want)
			if diff := cmp.Diff(Identity{}, id); diff != "" {
				t.Errorf("refused, and yet (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCallbackRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		doc    map[string]any
		change func(url.Values)
		want   Reason
	}{
		{name: "state of another login", change: func(v url.Values) { v.Set("state", "AAAAAAAAAAAAAAAAAAAAAAAAAA") }, want: Stale},
		{name: "no state", change: func(v url.Values) { v.Del("state") }, want: Stale},
		{name: "two states", change: func(v url.Values) { v.Add("state", "x") }, want: Stale},
		{name: "no code", change: func(v url.Values) { v.Del("code") }, want: Stale},
		{name: "two codes", change: func(v url.Values) { v.Add("code", "x") }, want: Stale},
		{name: "long code", change: func(v url.Values) { v.Set("code", strings.Repeat("x", maxCode+1)) }, want: Stale},
		{name: "code that nobody gave", change: func(v url.Values) { v.Set("code", "x") }, want: Stale},
		{name: "refused", change: func(v url.Values) {
			v.Set("error", "access_denied")
			v.Set("error_description", "\x1b[2J"+strings.Repeat("x", 9999))
		}, want: Denied},
		{name: "refused, and of another login", change: func(v url.Values) { v.Set("error", "access_denied"); v.Del("state") }, want: Stale},
		{name: "from another provider", change: func(v url.Values) { v.Set("iss", "https://id.example.net") }, want: BadToken},
		{name: "from nobody knows where", doc: map[string]any{"authorization_response_iss_parameter_supported": true},
			change: func(url.Values) {}, want: BadToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLiar(t)
			l.doc = tt.doc
			p := l.provider()
			to, kept, err := p.Begin(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			back := l.authorize(to)
			tt.change(back)
			_, err = p.Finish(context.Background(), kept, back)
			wantReason(t, err, tt.want)
			for _, broken := range []string{"", "{}", `{"state":"a","nonce":"b"}`} {
				var e *Error
				if _, err := p.Finish(context.Background(), []byte(broken), back); err == nil || errors.As(err, &e) {
					t.Errorf("kept as %q: %v, want an error that is nobody's fault outside", broken, err)
				}
			}
		})
	}
}

// Somebody has another's browser finish a login with a code of their own, or the other way
// round. A provider that knows PKCE refuses the code; where one ignores it, the nonce does.
func TestInjectedCode(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ignore bool
		want   Reason
	}{
		{name: "PKCE is checked", want: Stale},
		{name: "PKCE is ignored", ignore: true, want: BadToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLiar(t)
			l.anyPKCE = tt.ignore
			p := l.provider()
			mine, kept, err := p.Begin(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			theirs, _, err := p.Begin(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			back, other := l.authorize(mine), l.authorize(theirs)
			back.Set("code", other.Get("code"))
			_, err = p.Finish(context.Background(), kept, back)
			wantReason(t, err, tt.want)
		})
	}
}

func TestDiscoveryRefused(t *testing.T) {
	const path = "/.well-known/openid-configuration"
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	for _, tt := range []struct {
		name   string
		doc    map[string]any
		answer http.HandlerFunc
		want   Reason
		says   string
	}{
		{name: "another issuer", doc: map[string]any{"issuer": "https://id.example.net\n"}, want: Misconfigured, says: `it calls itself "https://id.example.net\n"`},
		{name: "tokens over http", doc: map[string]any{"token_endpoint": "http://id.example.com/token"}, want: Misconfigured, says: "token_endpoint"},
		{name: "keys from a file", doc: map[string]any{"jwks_uri": "file:///etc/passwd"}, want: Misconfigured, says: "jwks_uri"},
		{name: "no keys", doc: map[string]any{"jwks_uri": nil}, want: Misconfigured, says: "jwks_uri"},
		{name: "no page to log in", doc: map[string]any{"authorization_endpoint": "javascript:alert(1)"}, want: Misconfigured, says: "authorization_endpoint"},
		{name: "user info over http", doc: map[string]any{"userinfo_endpoint": "http://id.example.com/"}, want: Misconfigured, says: "userinfo_endpoint"},
		{name: "signs with the secret alone", doc: map[string]any{"id_token_signing_alg_values_supported": []string{"HS256", "none"}}, want: Misconfigured, says: "HS256"},
		{name: "PKCE without a hash", doc: map[string]any{"code_challenge_methods_supported": []string{"plain"}}, want: Misconfigured, says: "S256"},
		{name: "not there", answer: status(404, "x"), want: Misconfigured, says: "404"},
		{name: "broken", answer: status(503, "x"), want: Unreachable, says: "503"},
		{name: "a page", answer: status(200, "<html>"), want: Misconfigured, says: "not JSON"},
		{name: "elsewhere", answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusFound)
		}, want: Unreachable, says: "http://127.0.0.1:1/elsewhere"},
		{name: "much", answer: status(200, strings.Repeat(" ", maxAnswer+1)), want: Unreachable, says: fmt.Sprint(maxAnswer)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLiar(t)
			l.doc = tt.doc
			if tt.answer != nil {
				l.answers = map[string]http.HandlerFunc{path: tt.answer}
			}
			p := l.provider()
			_, _, err := p.Begin(context.Background())
			wantReason(t, err, tt.want)
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q does not say %q", err, tt.says)
			}
			_, err = p.VerifyIDToken(context.Background(), "a.b.c")
			wantReason(t, err, tt.want)
		})
	}
}

// A provider that is down keeps nobody from starting, is not asked by everybody at once, and is
// asked again.
func TestProviderDown(t *testing.T) {
	const path = "/.well-known/openid-configuration"
	l := newLiar(t)
	l.answers = map[string]http.HandlerFunc{path: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }}
	p := l.provider()
	var clock sync.Mutex
	now := time.Now()
	p.now = func() time.Time { clock.Lock(); defer clock.Unlock(); return now }
	gone, cancel := context.WithCancel(context.Background())
	cancel() // whoever asks first does not wait; the others are not to suffer
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			ctx := context.Background()
			if i == 0 {
				ctx = gone
			}
			if _, _, err := p.Begin(ctx); !errors.Is(err, &Error{Reason: Unreachable}) {
				t.Errorf("down: %v", err)
			}
		})
	}
	all.Wait()
	if n := l.asked[path].Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	l.set(func() { l.answers = nil })
	if _, err := l.login(p); err == nil {
		t.Error("it was asked again at once")
	}
	clock.Lock()
	now = now.Add(pause)
	clock.Unlock()
	if _, err := l.login(p); err != nil {
		t.Errorf("it is back: %v", err)
	}
	if n := l.asked[path].Load(); n != 2 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestSlowProvider(t *testing.T) {
	for _, path := range []string{"/.well-known/openid-configuration", "/token", "/keys", "/userinfo"} {
		t.Run(path, func(t *testing.T) {
			l := newLiar(t)
			l.claims = map[string]any{"groups": nil} // so that user info is asked for
			l.answers = map[string]http.HandlerFunc{path: func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush() // and then nothing
				select {
				case <-r.Context().Done():
				case <-l.done:
				}
			}}
			cfg := l.config()
			cfg.HTTP = &http.Client{Timeout: 200 * time.Millisecond}
			p, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, err = l.login(p)
			wantReason(t, err, Unreachable)
		})
	}
	// Nobody waits for longer than that, whatever they are given.
	if c := newClient(&http.Client{Timeout: time.Hour}); c.Timeout != timeout {
		t.Errorf("waits for %s", c.Timeout)
	}
	if c := newClient(nil); c.Timeout != timeout {
		t.Errorf("waits for %s", c.Timeout)
	}
}

// Keys that are new are fetched; tokens of no key at all do not have them fetched all the time.
func TestKeyRotation(t *testing.T) {
	l := newLiar(t)
	p := l.provider()
	now := time.Now()
	p.now = func() time.Time { return now }
	if _, err := l.login(p); err != nil {
		t.Fatal(err)
	}
	if _, err := l.login(p); err != nil {
		t.Fatal(err)
	}
	if n := l.asked["/keys"].Load(); n != 1 {
		t.Errorf("keys were asked for %d times", n)
	}
	now = now.Add(pause)
	l.set(func() {
		l.key, l.keyID = otherKey(), "two"
		l.served = append(l.served, servedKey{"two", &otherKey().PublicKey})
	})
	if _, err := l.login(p); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	now = now.Add(pause)
	for range 20 {
		_, err := p.VerifyIDToken(context.Background(), sign("RS256", otherKey(), "three", map[string]any{}))
		wantReason(t, err, BadToken)
	}
	if n := l.asked["/keys"].Load(); n != 3 {
		t.Errorf("keys were asked for %d times, want 3", n)
	}
	if _, err := l.login(p); err != nil {
		t.Errorf("while others try: %v", err)
	}
	// A key that is withdrawn is good until the next fetch, and no longer.
	now = now.Add(pause)
	l.set(func() {
		l.key, l.keyID, l.served = theKey(), "one", []servedKey{{"two", &otherKey().PublicKey}}
	})
	_, err := p.VerifyIDToken(context.Background(), sign("RS256", otherKey(), "three", map[string]any{}))
	wantReason(t, err, BadToken)
	now = now.Add(pause)
	for range 1000 { // go-oidc answers who waits before it takes over the keys
		if _, err = l.login(p); err != nil {
			break
		}
	}
	wantReason(t, err, BadToken)
	// That the keys could not be had is told as such, also to who comes right after.
	l.set(func() { l.answers = map[string]http.HandlerFunc{"/keys": http.NotFound} })
	now = now.Add(pause)
	for range 2 {
		_, err = l.login(p)
		wantReason(t, err, Unreachable)
	}
}

func TestVerifyIDToken(t *testing.T) {
	for _, tt := range []struct {
		name   string
		claims map[string]any
		alg    string
		key    bool // another
		pad    int
		want   Reason
	}{
		{name: "good"},
		{name: "expired", claims: map[string]any{"exp": time.Now().Add(-time.Second).Unix()}, want: Expired},
		{name: "another audience", claims: map[string]any{"aud": "other"}, want: BadToken},
		{name: "another issuer", claims: map[string]any{"iss": "https://id.example.net"}, want: BadToken},
		{name: "unsigned", alg: "none", want: BadToken},
		{name: "signed with the public key", alg: "HS256", want: BadToken},
		{name: "signed with another key", key: true, want: BadToken},
		{name: "not verified", claims: map[string]any{"email_verified": nil}, want: Unverified},
		{name: "much", pad: maxToken, want: BadToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLiar(t)
			l.claims = tt.claims
			if tt.alg != "" {
				l.alg = tt.alg
			}
			if tt.key {
				l.key = otherKey()
			}
			raw := l.idToken(map[string]any{"x": strings.Repeat("x", tt.pad)})
			id, err := l.provider().VerifyIDToken(context.Background(), raw)
			if tt.want != "" {
				wantReason(t, err, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if id.Person != "hanako@example.com" || !slices.Equal(id.Groups, []string{"dev", "ops"}) {
				t.Errorf("who: %+v", id)
			}
			if n := l.asked["/userinfo"].Load() + l.asked["/token"].Load(); n != 0 {
				t.Errorf("more was asked for: %d", n)
			}
		})
	}
}

// No provider writes a claim that makes trouble later, or stops this.
func FuzzClaims(f *testing.F) {
	for _, s := range []string{
		`{"groups":["ops"],"email":"a@b","email_verified":true}`, `{"groups":"ops"}`, `{"groups":[null]}`, `{"groups":{}}`, `{"groups":5}`,
		`{"_claim_names":{"groups":"a"}}`, `{"email":"\ud800"}`, `null`, `{"groups":["a\u0000"]}`,
	} {
		f.Add([]byte(s), []byte(`{"email":"c@d","email_verified":true}`))
	}
	f.Fuzz(func(t *testing.T, token, info []byte) {
		var c, more claims
		if json.Unmarshal(token, &c) != nil || json.Unmarshal(info, &more) != nil || c == nil {
			return
		}
		cfg := Config{PersonClaim: "email", GroupsClaim: "groups"}
		before, _ := c.text("email")
		verified := c.yes("email_verified")
		if c.lack(cfg) {
			c.fill(more)
		}
		after, _ := c.text("email")
		theirs, _ := more.text("email")
		if c.yes("email_verified") && !(verified && after == before) && !(more.yes("email_verified") && after == theirs) {
			t.Fatalf("%q is verified by nobody: %s, %s", after, token, info)
		}
		groups, err := c.groups("groups")
		if err != nil {
			wantReason(t, err, BadGroups)
			return
		}
		if len(groups) > maxGroups || !slices.IsSorted(groups) {
			t.Fatalf("%d groups", len(groups))
		}
		for _, g := range groups {
			if !presentable(g, maxGroup) || strings.ContainsAny(g, "\x00\n\u202e") {
				t.Fatalf("group %q", g)
			}
		}
	})
}

func FuzzVerifyIDToken(f *testing.F) {
	l := newLiar(f)
	p := l.provider()
	good := l.idToken(nil)
	if _, err := p.VerifyIDToken(context.Background(), good); err != nil {
		f.Fatal(err)
	}
	f.Add(sign("none", nil, "one", map[string]any{"sub": "1"}))
	f.Add(sign("RS256", theKey(), "two", map[string]any{"sub": "1"}))
	f.Add(`{"payload":"e30","signatures":[]}`)
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := p.VerifyIDToken(context.Background(), raw); err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Hint() == "" || len(err.Error()) > 1000 {
				t.Fatalf("an error that callers cannot tell: %v", err)
			}
			return
		}
		t.Fatalf("taken: %q", raw)
	})
}

func FuzzCallback(f *testing.F) {
	l := newLiar(f)
	p := l.provider()
	l.answers = map[string]http.HandlerFunc{"/token": func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
	}}
	for _, s := range []string{"state=s&code=c", "state=s&error=access_denied", "state=s&code=c&iss=x", "state=s&state=t", "%zz"} {
		f.Add(s)
	}
	kept := []byte(`{"state":"s","nonce":"n","verifier":"v"}`)
	f.Fuzz(func(t *testing.T, query string) {
		v, _ := url.ParseQuery(query)
		_, err := p.Finish(context.Background(), kept, v)
		var e *Error
		if !errors.As(err, &e) || e.Hint() == "" || len(err.Error()) > 2000 {
			t.Fatalf("an error that callers cannot tell: %v", err)
		}
	})
}
