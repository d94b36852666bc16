package oidc

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// found is what a provider says that it is.
type found struct {
	oauth       oauth2.Config
	provider    *gooidc.Provider
	keys        *gooidc.RemoteKeySet
	algorithms  []string
	userinfo    bool
	tellsIssuer bool // RFC 9207
}

// document is OpenID Connect Discovery's, as far as it is read.
type document struct {
	Issuer      string   `json:"issuer"`
	Authorize   string   `json:"authorization_endpoint"`
	Token       string   `json:"token_endpoint"`
	Keys        string   `json:"jwks_uri"`
	UserInfo    string   `json:"userinfo_endpoint"`
	Algorithms  []string `json:"id_token_signing_alg_values_supported"`
	Scopes      []string `json:"scopes_supported"`
	Auth        []string `json:"token_endpoint_auth_methods_supported"`
	Challenges  []string `json:"code_challenge_methods_supported"`
	TellsIssuer bool     `json:"authorization_response_iss_parameter_supported"`
}

// discover asks the provider what it is until it has answered once. One asks at a time, and
// for a moment after a failure nobody does.
func (p *Provider) discover(ctx context.Context) (*found, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	if p.failed != nil && p.now().Sub(p.failedAt) < pause {
		return nil, p.failed
	}
	// The others who wait do not depend on whether the first one stays.
	f, err := p.ask(context.WithoutCancel(ctx))
	if err != nil {
		p.failed, p.failedAt = err, p.now()
		return nil, err
	}
	p.found, p.failed = f, nil
	return f, nil
}

func (p *Provider) ask(ctx context.Context) (*found, error) {
	const doing = "ask the provider what it is"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(p.cfg.Issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return nil, unreachable(doing, err)
	}
	answer, err := p.client.Do(req)
	if err != nil {
		return nil, unreachable(doing, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body) // bounded by the transport
	if err != nil {
		return nil, unreachable(doing, err)
	}
	if answer.StatusCode != http.StatusOK {
		reason := Unreachable
		if answer.StatusCode == http.StatusNotFound {
			reason = Misconfigured
		}
		return nil, refuse(reason, "%s: it answers %d at %q", doing, answer.StatusCode, req.URL)
	}
	var d document
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, refuse(Misconfigured, "%s: what it answers at %q is not JSON that says so", doing, req.URL)
	}
	if d.Issuer != p.cfg.Issuer {
		return nil, refuse(Misconfigured, "%s: it calls itself %q, and here it is called %q", doing, cut(d.Issuer), p.cfg.Issuer)
	}
	for name, endpoint := range map[string]string{"authorization_endpoint": d.Authorize, "token_endpoint": d.Token, "jwks_uri": d.Keys} {
		if err := secure(endpoint); err != nil {
			return nil, refuse(Misconfigured, "%s: its %s %q: %v", doing, name, cut(endpoint), err)
		}
	}
	if d.UserInfo != "" && secure(d.UserInfo) != nil {
		return nil, refuse(Misconfigured, "%s: its userinfo_endpoint %q: %v", doing, cut(d.UserInfo), secure(d.UserInfo))
	}
	if len(d.Challenges) > 0 && !slices.Contains(d.Challenges, "S256") {
		return nil, refuse(Misconfigured, "%s: it knows no PKCE by S256", doing)
	}
	f := &found{userinfo: d.UserInfo != "", tellsIssuer: d.TellsIssuer}
	for _, a := range d.Algorithms {
		if slices.Contains(signed, a) {
			f.algorithms = append(f.algorithms, a)
		}
	}
	if len(d.Algorithms) > 0 && len(f.algorithms) == 0 {
		return nil, refuse(Misconfigured, "%s: it signs by nothing but %q", doing, cut(fmt.Sprint(d.Algorithms)))
	}
	f.oauth = oauth2.Config{
		ClientID: p.cfg.ClientID, ClientSecret: p.cfg.Secret, RedirectURL: p.cfg.RedirectURL, Scopes: p.cfg.scopes(d.Scopes),
		Endpoint: oauth2.Endpoint{AuthURL: d.Authorize, TokenURL: d.Token, AuthStyle: p.authStyle(d.Auth)},
	}
	f.provider = (&gooidc.ProviderConfig{
		IssuerURL: d.Issuer, AuthURL: d.Authorize, TokenURL: d.Token, UserInfoURL: d.UserInfo, JWKSURL: d.Keys, Algorithms: f.algorithms,
	}).NewProvider(p.with(ctx))
	paced := *p.client
	paced.Transport = &pacer{next: p.client.Transport, now: p.now}
	f.keys = gooidc.NewRemoteKeySet(gooidc.ClientContext(context.Background(), &paced), d.Keys)
	return f, nil
}

// signed are the algorithms by which an ID token may be signed: those of public keys.
var signed = []string{
	gooidc.RS256, gooidc.RS384, gooidc.RS512, gooidc.ES256, gooidc.ES384, gooidc.ES512, gooidc.PS256, gooidc.PS384, gooidc.PS512, gooidc.EdDSA,
}

// authStyle is how the gate shows its secret. Asking by trial, as oauth2 does unasked, spends the code.
func (p *Provider) authStyle(supported []string) oauth2.AuthStyle {
	basic := len(supported) == 0 || slices.Contains(supported, "client_secret_basic")
	if p.cfg.Secret == "" || !basic {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}
