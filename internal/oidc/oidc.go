// Package oidc lets an OpenID Connect provider say who somebody is: the authorization code
// flow with PKCE, state and nonce (https://openid.net/specs/openid-connect-core-1_0.html, RFC 7636,
// RFC 9207), and ID tokens that somebody else has got. It alone imports go-oidc and oauth2.
//
// It keeps no state of anybody's. What must be remembered of a login is handed out as bytes;
// whoever stores them does so on the server, for [Wait] at most, under a random name that only
// the browser has that began, in a cookie, and gives them back once.
package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Wait is how long a person may take over a login.
const Wait = 5 * time.Minute

const (
	maxCode  = 4 << 10  // of a callback's code
	maxToken = 64 << 10 // of an ID token that comes from outside
	// After a failure nobody asks again for so long, nor for keys that were got so lately.
	pause = 5 * time.Second
)

// Config is a provider and what is known of the gate there.
type Config struct {
	Issuer      string // as the provider spells it: https, or http on this host
	ClientID    string
	Secret      string // "": a public client
	RedirectURL string // the gate's page that people come back to; registered at the provider
	PersonClaim string // which says who it is; "": email. Should be one that people cannot change themselves
	GroupsClaim string // which says their groups; "": none does
	Scopes      []string
	HTTP        *http.Client // its transport and, if it is shorter, its timeout; nil: one of its own
}

// Identity is who a provider says somebody is.
type Identity struct {
	Issuer        string
	Subject       string // the provider's own name for them, which it never gives to another
	Person        string // the value of the claim that says who it is
	Name          string // what they like to be called; for show alone
	Email         string
	EmailVerified bool
	Groups        []string  // sorted, each once
	Until         time.Time // the end of the ID token
}

// Provider is safe for concurrent use.
type Provider struct {
	cfg    Config
	client *http.Client
	now    func() time.Time

	mu       sync.Mutex // held while the provider is asked what it is
	found    *found
	failed   error
	failedAt time.Time
}

// New checks what can be checked without the provider: it is asked at the first login, and again
// while it does not answer.
func New(cfg Config) (*Provider, error) {
	if err := secure(cfg.Issuer); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", cfg.Issuer, err)
	}
	if u, _ := url.Parse(cfg.Issuer); u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("issuer %q: an issuer has neither ? nor #", cfg.Issuer)
	}
	if err := secure(cfg.RedirectURL); err != nil {
		return nil, fmt.Errorf("redirect URL %q: %w", cfg.RedirectURL, err)
	}
	if cfg.ClientID == "" {
		return nil, errors.New("a client ID is missing: the provider gives it when the gate is registered there")
	}
	if cfg.PersonClaim == "" {
		cfg.PersonClaim = "email"
	}
	return &Provider{cfg: cfg, client: newClient(cfg.HTTP), now: time.Now}, nil
}

// secure says what is wrong with a URL that secrets are sent to.
func secure(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("write it as https://host/path")
	}
	if u.Scheme == "https" || u.Scheme == "http" && local(u.Hostname()) {
		return nil
	}
	return errors.New("write it with https: http is for this host alone")
}

func local(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// pending is what is remembered of a login.
type pending struct {
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"` // of PKCE
}

// Begin begins a login: the browser is sent to the URL, and comes back to the redirect URL.
func (p *Provider) Begin(ctx context.Context) (to string, kept []byte, err error) {
	f, err := p.discover(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("begin a login: %w", err)
	}
	l := pending{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()}
	if kept, err = json.Marshal(l); err != nil {
		return "", nil, fmt.Errorf("begin a login: %w", err)
	}
	return f.oauth.AuthCodeURL(l.State, gooidc.Nonce(l.Nonce), oauth2.S256ChallengeOption(l.Verifier)), kept, nil
}

// Finish takes the parameters that a browser came back with. A login that is worth nothing is an [Error].
func (p *Provider) Finish(ctx context.Context, pending []byte, callback url.Values) (Identity, error) {
	id, err := p.finish(ctx, pending, callback)
	if err != nil {
		return Identity{}, fmt.Errorf("log in by %s: %w", p.host(), err)
	}
	return id, nil
}

func (p *Provider) finish(ctx context.Context, kept []byte, callback url.Values) (Identity, error) {
	var l pending
	if err := json.Unmarshal(kept, &l); err != nil {
		return Identity{}, fmt.Errorf("read what was kept: %w", err)
	}
	if l.State == "" || l.Nonce == "" || l.Verifier == "" {
		return Identity{}, errors.New("read what was kept: a part is missing")
	}
	f, err := p.discover(ctx)
	if err != nil {
		return Identity{}, err
	}
	code, err := p.readCallback(l, f, callback)
	if err != nil {
		return Identity{}, err
	}
	token, err := f.oauth.Exchange(p.with(ctx), code, oauth2.VerifierOption(l.Verifier))
	if err != nil {
		return Identity{}, exchangeError(err)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return Identity{}, refuse(BadToken, "the provider gave no ID token")
	}
	verified, claims, err := p.verify(ctx, f, raw)
	if err != nil {
		return Identity{}, err
	}
	if subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(l.Nonce)) != 1 {
		return Identity{}, refuse(BadToken, "the ID token is of another login")
	}
	if verified.AccessTokenHash != "" && verified.VerifyAccessToken(token.AccessToken) != nil {
		return Identity{}, refuse(BadToken, "the ID token is of another access token")
	}
	if f.userinfo && claims.lack(p.cfg) {
		more, err := p.userInfo(ctx, f, verified.Subject, token)
		if err != nil {
			return Identity{}, err
		}
		claims.fill(more)
	}
	return p.identity(verified, claims)
}

// readCallback checks where a browser comes from, and takes the code that it brings.
func (p *Provider) readCallback(l pending, f *found, callback url.Values) (code string, err error) {
	for _, name := range []string{"state", "code", "iss", "error"} {
		if len(callback[name]) > 1 {
			return "", refuse(Stale, "the browser brings %s twice", name)
		}
	}
	if subtle.ConstantTimeCompare([]byte(callback.Get("state")), []byte(l.State)) != 1 {
		return "", refuse(Stale, "the browser comes back from another login")
	}
	// RFC 9207: against providers that pass for each other.
	if iss := callback.Get("iss"); iss != p.cfg.Issuer && (iss != "" || f.tellsIssuer) {
		return "", refuse(BadToken, "the browser comes back from %q", cut(iss))
	}
	if e := callback.Get("error"); e != "" {
		return "", refuse(Denied, "the provider says %q, %q", cut(e), cut(callback.Get("error_description")))
	}
	code = callback.Get("code")
	if code == "" || len(code) > maxCode {
		return "", refuse(Stale, "the browser brings a code of %d bytes", len(code))
	}
	return code, nil
}

func exchangeError(err error) error {
	var said *oauth2.RetrieveError
	if !errors.As(err, &said) {
		return unreachable("get the tokens", err)
	}
	status := 0
	if said.Response != nil {
		status = said.Response.StatusCode
	}
	what := fmt.Sprintf("get the tokens: the provider answers %d %q, %q", status, cut(said.ErrorCode), cut(said.ErrorDescription))
	switch {
	case said.ErrorCode == "invalid_grant":
		return refuse(Stale, "%s", what)
	case said.ErrorCode != "" || status == http.StatusUnauthorized:
		return refuse(Misconfigured, "%s", what)
	}
	return refuse(Unreachable, "%s", what)
}

// userInfo asks for claims that the ID token lacks: many providers keep it small.
func (p *Provider) userInfo(ctx context.Context, f *found, subject string, token *oauth2.Token) (claims, error) {
	info, err := f.provider.UserInfo(p.with(ctx), oauth2.StaticTokenSource(token))
	if err != nil {
		return nil, unreachable("get the claims that the ID token lacks", err)
	}
	if info.Subject != subject { // section 5.3.4
		return nil, refuse(BadToken, "the provider tells of another person than it let in")
	}
	var c claims
	if err := info.Claims(&c); err != nil {
		return nil, refuse(BadToken, "the claims are no object of JSON")
	}
	return c, nil
}

// VerifyIDToken says who an ID token is of that was made for the gate's client ID, by its
// signature, issuer, audience and end. Whoever holds it may show it again until then.
func (p *Provider) VerifyIDToken(ctx context.Context, raw string) (Identity, error) {
	id, err := p.verifyIDToken(ctx, raw)
	if err != nil {
		return Identity{}, fmt.Errorf("verify an ID token of %s: %w", p.host(), err)
	}
	return id, nil
}

func (p *Provider) verifyIDToken(ctx context.Context, raw string) (Identity, error) {
	if len(raw) > maxToken {
		return Identity{}, refuse(BadToken, "a token of %d bytes", len(raw))
	}
	f, err := p.discover(ctx)
	if err != nil {
		return Identity{}, err
	}
	verified, claims, err := p.verify(ctx, f, raw)
	if err != nil {
		return Identity{}, err
	}
	return p.identity(verified, claims)
}

func (p *Provider) verify(ctx context.Context, f *found, raw string) (*gooidc.IDToken, claims, error) {
	// go-oidc tells a provider that gives no keys and a signature that is wrong alike.
	keys := &asked{set: f.keys}
	verifier := gooidc.NewVerifier(p.cfg.Issuer, keys, &gooidc.Config{
		ClientID: p.cfg.ClientID, SupportedSigningAlgs: f.algorithms, Now: p.now,
	})
	verified, err := verifier.Verify(ctx, raw)
	var expired *gooidc.TokenExpiredError
	switch {
	case keys.err != nil:
		return nil, nil, unreachable("get the provider's keys", keys.err)
	case errors.As(err, &expired):
		return nil, nil, refuse(Expired, "the ID token ended at %s, and here it is %s", expired.Expiry.UTC().Format(time.RFC3339), p.now().UTC().Format(time.RFC3339))
	case err != nil:
		return nil, nil, refuse(BadToken, "the ID token: %q", cut(err.Error()))
	}
	var c claims
	if err := verified.Claims(&c); err != nil {
		return nil, nil, refuse(BadToken, "the claims are no object of JSON")
	}
	// Section 3.1.3.7, steps 3 to 5: a token for several says for whom it was made.
	azp, _ := c.text("azp")
	if (azp != "" || len(verified.Audience) > 1) && azp != p.cfg.ClientID {
		return nil, nil, refuse(BadToken, "the ID token was made for %q", cut(azp))
	}
	return verified, c, nil
}

func (p *Provider) identity(verified *gooidc.IDToken, c claims) (Identity, error) {
	id := Identity{Issuer: p.cfg.Issuer, Subject: verified.Subject, Until: verified.Expiry}
	if !presentable(id.Subject, maxSubject) {
		return Identity{}, refuse(NoPerson, "the subject is nothing that can name a person")
	}
	var ok bool
	if id.Person, ok = c.text(p.cfg.PersonClaim); !ok {
		return Identity{}, refuse(NoPerson, "the provider does not tell claim %q", p.cfg.PersonClaim)
	}
	if !presentable(id.Person, maxPerson) {
		return Identity{}, refuse(NoPerson, "claim %q is nothing that can name a person", p.cfg.PersonClaim)
	}
	if email, _ := c.text("email"); presentable(email, maxPerson) {
		id.Email, id.EmailVerified = email, c.yes("email_verified")
	}
	if name, _ := c.text("name"); presentable(name, maxPerson) {
		id.Name = name
	}
	if p.cfg.PersonClaim == "email" && !id.EmailVerified {
		return Identity{}, refuse(Unverified, "the provider has not verified the address %q", id.Person)
	}
	if p.cfg.GroupsClaim != "" {
		groups, err := c.groups(p.cfg.GroupsClaim)
		if err != nil {
			return Identity{}, err
		}
		id.Groups = groups
	}
	return id, nil
}

// host names the provider in errors.
func (p *Provider) host() string {
	u, _ := url.Parse(p.cfg.Issuer) // New has parsed it
	return u.Host
}

// with makes a context in which go-oidc and oauth2 use the client.
func (p *Provider) with(ctx context.Context) context.Context {
	return gooidc.ClientContext(ctx, p.client)
}

// scopes are what is asked for.
func (c Config) scopes(supported []string) []string {
	scopes := []string{gooidc.ScopeOpenID, gooidc.ScopeProfile, gooidc.ScopeEmail}
	// Some give a claim for a scope of its name, and some refuse a scope that they do not know.
	if c.GroupsClaim != "" && slices.Contains(supported, c.GroupsClaim) {
		scopes = append(scopes, c.GroupsClaim)
	}
	for _, s := range c.Scopes {
		if !slices.Contains(scopes, s) && !strings.ContainsAny(s, " \t\r\n") {
			scopes = append(scopes, s)
		}
	}
	return scopes
}
