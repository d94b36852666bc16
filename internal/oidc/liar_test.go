package oidc

import (
	"cmp"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	clientID = "gate"
	secret   = "s3cret+/ %"
	redirect = "https://gate.example.com/login/oidc"
)

// liar is a provider that does right until a test has it do otherwise.
type liar struct {
	t      testing.TB
	server *httptest.Server
	done   chan struct{} // closed when the test ends

	mu       sync.Mutex
	doc      map[string]any              // in place of members of the discovery document; nil takes one away
	claims   map[string]any              // in place of claims of the ID token; nil takes one away
	userinfo map[string]any              // nil: no such endpoint
	answers  map[string]http.HandlerFunc // in place of what a path answers
	token    map[string]any              // in place of members of the token endpoint's answer
	alg      string                      // of the signature: RS256, none, HS256
	key      *rsa.PrivateKey
	keyID    string // in the token
	served   []servedKey
	codes    map[string]url.Values // the authorization requests behind the codes
	anyPKCE  bool                  // the verifier is not looked at
	asked    map[string]*atomic.Int64
}

type servedKey struct {
	id  string
	key *rsa.PublicKey
}

var theKey = sync.OnceValue(func() *rsa.PrivateKey { return newKey() })

var otherKey = sync.OnceValue(func() *rsa.PrivateKey { return newKey() })

func newKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

func newLiar(t testing.TB) *liar {
	l := &liar{
		t: t, done: make(chan struct{}), alg: "RS256", key: theKey(), keyID: "one",
		served: []servedKey{{"one", &theKey().PublicKey}},
		codes:  map[string]url.Values{}, asked: map[string]*atomic.Int64{},
		userinfo: map[string]any{"sub": "42", "email": "hanako@example.com", "email_verified": true, "groups": []string{"from-userinfo"}},
	}
	for _, path := range []string{"/.well-known/openid-configuration", "/keys", "/token", "/userinfo"} {
		l.asked[path] = new(atomic.Int64)
	}
	l.server = httptest.NewServer(http.HandlerFunc(l.serve))
	t.Cleanup(func() {
		close(l.done)
		l.server.Close()
	})
	return l
}

func (l *liar) serve(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	if n := l.asked[r.URL.Path]; n != nil {
		n.Add(1)
	}
	if h := l.answers[r.URL.Path]; h != nil {
		l.mu.Unlock()
		h(w, r)
		return
	}
	defer l.mu.Unlock()
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		doc := map[string]any{
			"issuer": l.server.URL, "authorization_endpoint": l.server.URL + "/auth", "token_endpoint": l.server.URL + "/token",
			"jwks_uri": l.server.URL + "/keys", "userinfo_endpoint": l.server.URL + "/userinfo",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
			"scopes_supported":                      []string{"openid", "groups"},
			"code_challenge_methods_supported":      []string{"plain", "S256"},
		}
		override(doc, l.doc)
		reply(w, http.StatusOK, doc)
	case "/keys":
		var keys []map[string]any
		for _, k := range l.served {
			keys = append(keys, map[string]any{
				"kty": "RSA", "use": "sig", "alg": "RS256", "kid": k.id,
				"n": b64(k.key.N.Bytes()), "e": b64(big.NewInt(int64(k.key.E)).Bytes()),
			})
		}
		reply(w, http.StatusOK, map[string]any{"keys": keys})
	case "/token":
		l.serveToken(w, r)
	case "/userinfo":
		if r.Header.Get("Authorization") != "Bearer the-access-token" || l.userinfo == nil {
			reply(w, http.StatusUnauthorized, map[string]any{})
			return
		}
		reply(w, http.StatusOK, l.userinfo)
	default:
		http.NotFound(w, r)
	}
}

func (l *liar) serveToken(w http.ResponseWriter, r *http.Request) {
	wrong := func(code string) { reply(w, http.StatusBadRequest, map[string]any{"error": code}) }
	id, pass, _ := r.BasicAuth() // each is form-encoded first, RFC 6749 section 2.3.1
	pass, _ = url.QueryUnescape(pass)
	if cmp.Or(id, r.PostFormValue("client_id")) != clientID || cmp.Or(pass, r.PostFormValue("client_secret")) != secret {
		wrong("invalid_client")
		return
	}
	code := r.PostFormValue("code")
	asked, ok := l.codes[code]
	delete(l.codes, code)
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	switch {
	case !ok, r.PostFormValue("redirect_uri") != asked.Get("redirect_uri"), r.PostFormValue("grant_type") != "authorization_code":
		wrong("invalid_grant")
		return
	case !l.anyPKCE && (asked.Get("code_challenge_method") != "S256" || asked.Get("code_challenge") != b64(sum[:])):
		wrong("invalid_grant")
		return
	}
	answer := map[string]any{
		"access_token": "the-access-token", "token_type": "Bearer", "expires_in": 300,
		"id_token": l.idToken(map[string]any{"nonce": asked.Get("nonce")}),
	}
	override(answer, l.token)
	reply(w, http.StatusOK, answer)
}

// idToken makes an ID token.
func (l *liar) idToken(more map[string]any) string {
	hash := sha256.Sum256([]byte("the-access-token"))
	claims := map[string]any{
		"iss": l.server.URL, "aud": clientID, "sub": "42", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"email": "hanako@example.com", "email_verified": true, "name": "山田 花子", "groups": []string{"ops", "dev", "ops"},
		"at_hash": b64(hash[:16]),
	}
	maps.Copy(claims, more)
	override(claims, l.claims)
	return sign(l.alg, l.key, l.keyID, claims)
}

func sign(alg string, key *rsa.PrivateKey, keyID string, claims map[string]any) string {
	head, err := json.Marshal(map[string]any{"alg": alg, "kid": keyID, "typ": "JWT"})
	if err != nil {
		panic(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	text := b64(head) + "." + b64(payload)
	sum := sha256.Sum256([]byte(text))
	var signature []byte
	switch alg {
	case "RS256":
		if signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:]); err != nil {
			panic(err)
		}
	case "HS256": // with what everybody knows: the public key as it is commonly written
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			panic(err)
		}
		mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		mac.Write([]byte(text))
		signature = mac.Sum(nil)
	}
	return text + "." + b64(signature)
}

// authorize does what the authorization endpoint and the person there do: the browser comes
// back with what it returns.
func (l *liar) authorize(to string) url.Values {
	u, err := url.Parse(to)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	code := fmt.Sprintf("code-%d", len(l.codes)+1)
	l.codes[code] = u.Query()
	return url.Values{"state": {u.Query().Get("state")}, "code": {code}}
}

func (l *liar) config() Config {
	return Config{Issuer: l.server.URL, ClientID: clientID, Secret: secret, RedirectURL: redirect, GroupsClaim: "groups"}
}

func (l *liar) provider() *Provider {
	p, err := New(l.config())
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// login goes the whole way.
func (l *liar) login(p *Provider) (Identity, error) {
	to, kept, err := p.Begin(context.Background())
	if err != nil {
		return Identity{}, err
	}
	return p.Finish(context.Background(), kept, l.authorize(to))
}

func (l *liar) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func override(m, with map[string]any) {
	for k, v := range with {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
