package web

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
	"sekisho/internal/oidc"
)

// Provider is an identity provider that people sign in at: *oidc.Provider is.
type Provider interface {
	// Begin makes the address of the provider that a browser is sent to; pending is for Finish.
	Begin(ctx context.Context) (to string, pending []byte, err error)
	// Finish is who came back from there with that query.
	Finish(ctx context.Context, pending []byte, query url.Values) (oidc.Identity, error)
	// VerifyIDToken is who a token of the provider's is of, that was made for this gate.
	VerifyIDToken(ctx context.Context, raw string) (oidc.Identity, error)
}

const (
	oidcKind   = "oidc"
	oidcCookie = "sekisho-oidc"
	// Callback is where an identity provider sends a browser back to, below the gate URL.
	Callback = "/signin/oidc/callback"
)

// kept is what is kept while a browser is at the provider.
type kept struct {
	Pending []byte `json:"pending"`
	Next    string `json:"next"`
}

func (q *request) provider() (Provider, error) {
	if q.h.provider == nil || q.site.Provider == "" {
		return nil, api.Errorf(api.NotFound, "sign in another way", "this gate has no identity provider")
	}
	return q.h.provider, nil
}

// beginOIDC sends a browser to the provider. It alone, by a cookie, can come back for it:
// else somebody could be signed in as another without knowing.
func (q *request) beginOIDC() error {
	p, err := q.provider()
	if err != nil {
		return err
	}
	if q.h.gate.Stateless() {
		return api.Errorf(api.NotFound, "send the provider's token: Authorization: Bearer", "this gate keeps no sessions")
	}
	if err := q.beginOne(); err != nil {
		return err
	}
	form, err := decodeForm(q.Header, q.body)
	if err != nil {
		return err
	}
	to, pending, err := p.Begin(q.Context())
	if err != nil {
		return q.strange(err)
	}
	data, err := json.Marshal(kept{Pending: pending, Next: local(form.Get("next"))})
	if err != nil {
		return err
	}
	until := q.now.Add(2 * ceremonyTime)
	browser := rand.Text()
	if err := q.h.gate.Begin(q.Context(), gate.Ceremony{Kind: oidcKind, Key: browser, Data: data, Until: until}); err != nil {
		return err
	}
	q.setCookie(oidcCookie, browser, until)
	// A form's redirect to elsewhere is what form-action would forbid: the page leads there.
	return q.showLeave(to)
}

func (q *request) finishOIDC() error {
	p, err := q.provider()
	if err != nil {
		return err
	}
	if err := q.check(1); err != nil {
		return err
	}
	browser := cookieValue(q.Request, q.site.cookieName(oidcCookie))
	q.setCookie(oidcCookie, "", time.Unix(1, 0))
	lost := withStatus{api.Errorf(api.NotFound, "sign in again, in one browser", "this signing in was not begun in this browser, or too long ago"), http.StatusBadRequest}
	if browser == "" {
		return q.failed(lost)
	}
	c, err := q.h.gate.Finish(q.Context(), oidcKind, browser)
	if e, ok := errors.AsType[*api.Error](err); ok && (e.Code == api.NotFound || e.Code == api.Expired) {
		return q.failed(lost)
	}
	if err != nil {
		return err
	}
	var k kept
	if err := json.Unmarshal(c.Data, &k); err != nil {
		return err
	}
	who, err := p.Finish(q.Context(), k.Pending, q.URL.Query())
	if err != nil {
		return q.failed(q.strange(err))
	}
	person, err := q.h.gate.PersonOfLogin(q.Context(), loginOf(who), q.from)
	if err != nil {
		return q.failed(err)
	}
	if _, err := q.signedIn(person, api.ViaOIDC); err != nil {
		return err
	}
	return q.seeOther(local(k.Next))
}

// proveToken takes a token of the provider's for who it is of.
func (q *request) proveToken(ctx context.Context, raw string) error {
	p, err := q.provider()
	if err != nil {
		return errNobodyHere
	}
	if err := q.check(1); err != nil {
		return err
	}
	who, err := p.VerifyIDToken(ctx, strings.TrimSpace(raw))
	if err != nil {
		return q.strange(err)
	}
	person, err := q.h.gate.PersonOfLogin(ctx, loginOf(who), q.from)
	if err != nil {
		return err
	}
	return q.is(person, api.ViaOIDC)
}

func loginOf(who oidc.Identity) gate.Login {
	return gate.Login{Issuer: who.Issuer, Subject: who.Subject, Login: who.Person, Groups: who.Groups}
}

// strange is what a person is told of a provider's answer. What is in it is the log's.
func (q *request) strange(err error) error {
	e, ok := errors.AsType[*oidc.Error](err)
	if !ok {
		return err
	}
	// What comes of a stranger's token is theirs, and no more of it is logged than of other failures.
	strangers := e.Reason == oidc.BadToken || e.Reason == oidc.Expired
	if !strangers || q.h.failures.wait(q.now, q.from) == 0 {
		q.h.logger.WarnContext(q.Context(), "identity provider", "request", q.id, "from", q.from, "reason", string(e.Reason), "error", e.What)
	}
	switch e.Reason {
	case oidc.Unreachable, oidc.Misconfigured:
		return api.Errorf(api.Unreachable, e.Hint(), "the identity provider does not answer as it should")
	case oidc.BadToken, oidc.Stale:
		return api.Errorf(api.BadSignature, e.Hint(), "what came from the identity provider is worth nothing here")
	case oidc.Expired:
		return api.Errorf(api.Expired, e.Hint(), "the identity provider's token has ended")
	}
	return api.Errorf(api.Forbidden, e.Hint(), "the identity provider did not say who you are")
}

// local is a path of ours to go to, or "/": never another site.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || len(next) > 512 || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" ||
		!strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\t\r\n") || strings.HasPrefix(u.Path, "//") {
		return "/"
	}
	return next
}
