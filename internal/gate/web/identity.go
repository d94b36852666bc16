package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
	"sekisho/internal/sshsig"
)

// identify finds who a request is from, where its route asks for somebody. A way of showing
// it that is tried and fails is an error, whatever else the request has.
func (q *request) identify() error {
	if q.route.roles == anyone {
		return nil
	}
	err := q.prove()
	if err != nil {
		return q.failed(err)
	}
	who := q.who.Person
	if q.who.Role == api.RoleHost {
		who = "host " + q.who.Host // no person's name has a space
	}
	if wait := q.h.people.take(q.now, who); wait > 0 {
		return tooMany(wait, "this is more than anybody has to ask")
	}
	known(q.Context())
	return nil
}

// failed counts a failure to show who one is. Over the bound it is told as that; who does
// show it is let in all the same.
func (q *request) failed(err error) error {
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		return err
	}
	switch e.Code {
	case api.BadSignature, api.Clock, api.Replayed, api.Unknown, api.Expired, api.NotFound, api.Disabled, api.NoIdentity:
	default:
		return err
	}
	if e == errNobodyHere {
		return err // nothing was tried
	}
	if wait := q.h.failures.take(q.now, q.from, 1); wait > 0 {
		return tooMany(wait, "too much from your address has failed to show who it is from")
	}
	// Only what is within the bound: the log is no stranger's to fill.
	q.h.logger.InfoContext(q.Context(), "identity refused", "request", q.id, "from", q.from, "code", string(e.Code), "path", q.URL.Path)
	return err
}

func tooMany(wait time.Duration, what string) *api.Error {
	e := api.Errorf(api.TooMany, "wait, then ask again", "%s", what)
	e.After = int64((wait + time.Second - 1) / time.Second)
	return e
}

var errNobodyHere = api.Errorf(api.NoIdentity, "sign in, or sign the request with your SSH key", "the gate does not know who you are")

// check bounds what a source has the gate compute: so many times what one signature costs.
func (q *request) check(cost int) error {
	if wait := q.h.checked.take(q.now, q.from, cost); wait > 0 {
		return tooMany(wait, "this is more than the gate checks for one address")
	}
	return nil
}

// prove takes what a request shows of who it is from.
func (q *request) prove() error {
	ctx := q.Context()
	if q.route.roles == host {
		return q.proveHost(ctx)
	}
	if q.signed() {
		key, err := q.signature(api.Namespace)
		if err != nil {
			return err
		}
		person, err := q.h.gate.PersonOfKey(ctx, key, q.from)
		if err != nil {
			return err
		}
		if err := q.fresh(ctx, key); err != nil {
			return err
		}
		if err := q.is(person, api.ViaKey); err != nil {
			return err
		}
		q.who.Nonce = q.Header.Get(api.HeaderNonce)
		q.who.Signed, err = time.Parse(time.RFC3339, q.Header.Get(api.HeaderTime)) // which signature has read, too
		return err
	}
	if raw, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer "); ok {
		return q.proveToken(ctx, raw)
	}
	if token := cookieValue(q.Request, q.site.sessionCookie()); token != "" {
		s, err := q.h.gate.SessionOf(ctx, token, q.from)
		if err != nil {
			return err
		}
		q.token, q.until = token, s.Until
		return q.is(s.Person, s.Via)
	}
	return errNobodyHere
}

// is takes the request for a person's.
func (q *request) is(person string, via api.Via) error {
	role := q.h.gate.RoleOf(person)
	if role == "" {
		return api.Errorf(api.Disabled, "ask an administrator", "you have no role here now")
	}
	q.who = gate.Who{Person: person, Role: role, Via: via, From: q.from}
	return nil
}

// proveHost is an enrolled host's: by its key, or, for what it reports, by its stream's ticket.
func (q *request) proveHost(ctx context.Context) error {
	var name string
	var err error
	switch {
	case q.signed():
		var key ssh.PublicKey
		if key, err = q.signature(api.HostNamespace); err != nil {
			return err
		}
		if name, err = q.h.gate.HostOfKey(ctx, key, q.from); err != nil {
			return err
		}
		if err = q.fresh(ctx, key); err != nil {
			return err
		}
	case q.route.ticket:
		var r api.Report
		if err = decodeJSON(q.Header, q.body, &r); err != nil {
			return err
		}
		if name, err = q.h.gate.HostOfTicket(ctx, r.Ticket); err != nil {
			return err
		}
	default:
		return errNobodyHere
	}
	q.who = gate.Who{Role: api.RoleHost, Via: api.ViaHost, From: q.from, Host: name}
	return nil
}

// signed reports whether a request claims to be.
func (q *request) signed() bool {
	for _, name := range []string{api.HeaderSignature, api.HeaderNonce, api.HeaderTime} {
		if q.Header.Get(name) != "" {
			return true
		}
	}
	return false
}

// signature is the key that has signed the request. Whose that is, and whether it is used
// for the first time, is not known yet.
func (q *request) signature(namespace string) (ssh.PublicKey, error) {
	bad := func(hint, format string, args ...any) (ssh.PublicKey, error) {
		return nil, api.Errorf(api.BadSignature, hint, format, args...)
	}
	for _, name := range []string{api.HeaderTime, api.HeaderNonce, api.HeaderSignature} {
		if len(q.Header.Values(name)) != 1 {
			return bad("a signed request has "+api.HeaderTime+", "+api.HeaderNonce+" and "+api.HeaderSignature+", each once", "the request's signature is not whole: %s", name)
		}
	}
	stamp, nonce := q.Header.Get(api.HeaderTime), q.Header.Get(api.HeaderNonce)
	at, err := time.Parse(time.RFC3339, stamp)
	if err != nil || at.Format("2006-01-02T15:04:05Z") != stamp {
		return bad("write it as 2026-01-02T15:04:05Z", "%s is not a time in UTC, to the second", api.HeaderTime)
	}
	if !properNonce(nonce) {
		return bad("make a new one for each request", "%s is not 16 to 64 letters and digits", api.HeaderNonce)
	}
	if off := at.Sub(q.now); off < -api.Skew || off > api.Skew {
		side := "before"
		if off > 0 {
			side = "after"
		}
		return nil, api.Errorf(api.Clock, "set this machine's clock: the gate's says "+q.now.UTC().Format(time.RFC3339),
			"the request was signed %v %s the gate's time, and %v is the most", off.Abs().Round(time.Second), side, api.Skew)
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(q.Header.Get(api.HeaderSignature))
	if err != nil {
		return bad("put the signature on one line, in base64, without the lines about it", "%s is not base64", api.HeaderSignature)
	}
	s, err := sshsig.Parse(blob)
	if err != nil {
		return bad(sshsig.Hint(err), "%v", err)
	}
	if err := q.check(cost(s.PublicKey())); err != nil {
		return nil, err
	}
	uri := q.RequestURI
	if uri == "" { // the function's requests have none
		uri = q.URL.RequestURI()
	}
	text := api.Signed{Method: q.Method, URL: q.site.URL + uri, Time: stamp, Nonce: nonce, Body: q.body}.Text()
	if err := sshsig.Verify(s, namespace, text); err != nil {
		hint := sshsig.Hint(err)
		if errors.Is(err, sshsig.ErrMismatch) {
			hint = "sign the method, all of the URL (it begins with " + q.site.URL + "), the time, the nonce and the body as they are sent"
		}
		return bad(hint, "%v", err)
	}
	return s.PublicKey(), nil
}

// cost is what a signature by key costs to check, where an ordinary one is 1. That of an
// RSA key grows with the square of its length, and a stranger chooses it.
func cost(key ssh.PublicKey) int {
	const ordinary = 512 // bytes of an RSA key of 4096 bits
	n := max(1, len(key.Marshal())/ordinary)
	return n * n
}

func properNonce(s string) bool {
	if len(s) < 16 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}

// fresh sees to it that a good signature of a known key is used once. It is remembered for
// longer than any gate's clock lets it pass.
func (q *request) fresh(ctx context.Context, key ssh.PublicKey) error {
	sum := sha256.New()
	sum.Write(key.Marshal())
	sum.Write([]byte(q.Header.Get(api.HeaderNonce)))
	first, err := q.h.gate.UseNonce(ctx, [32]byte(sum.Sum(nil)), q.now.Add(3*api.Skew))
	if err != nil {
		return err
	}
	if !first {
		return api.Errorf(api.Replayed, "sign each request anew; if you did, somebody else may have sent yours", "this signature was used already")
	}
	return nil
}

// Cookies. Those with __Host- are the host's alone: no other name, no plain HTTP can set them.

func (s *site) cookieName(name string) string {
	if s.secure {
		return "__Host-" + name
	}
	return name
}

func (s *site) sessionCookie() string { return s.cookieName("sekisho") }

// maxCookie is the longest value that one of ours has.
const maxCookie = 256

func cookieValue(r *http.Request, name string) string {
	all := r.CookiesNamed(name)
	if len(all) != 1 || len(all[0].Value) > maxCookie {
		return "" // twice: one of them is not ours
	}
	return all[0].Value
}

// setCookie lasts until a time; the zero time: as long as the browser is open; the past: it is removed.
func (q *request) setCookie(name, value string, until time.Time) {
	c := &http.Cookie{Name: q.site.cookieName(name), Value: value, Path: "/", HttpOnly: true, Secure: q.site.secure, SameSite: http.SameSiteLaxMode, Expires: until}
	if !until.IsZero() {
		c.MaxAge = int(until.Sub(q.now) / time.Second)
		if c.MaxAge <= 0 {
			c.MaxAge = -1
		}
	}
	http.SetCookie(q.w, c)
}

// signIn begins a session with a new token, whatever the browser had: a token that somebody
// else has put there is worth nothing afterwards.
func (q *request) signIn(person string, via api.Via) error {
	ctx := q.Context()
	if old := cookieValue(q.Request, q.site.sessionCookie()); old != "" {
		if s, err := q.h.gate.SessionOf(ctx, old, q.from); err == nil {
			if err := q.h.gate.EndSession(ctx, gate.Who{Person: s.Person, Via: s.Via, From: q.from}, old); err != nil {
				return err
			}
		}
	}
	agent := q.UserAgent()
	if len(agent) > 200 {
		agent = agent[:200]
	}
	token, s, err := q.h.gate.NewSession(ctx, person, via, q.from, strings.ToValidUTF8(agent, "?"))
	if err != nil {
		return err
	}
	q.token, q.until = token, s.Until
	q.setCookie("sekisho", token, s.Until)
	return nil
}

func (q *request) signedOut() { q.setCookie("sekisho", "", time.Unix(1, 0)) }
