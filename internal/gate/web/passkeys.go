package web

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
	"sekisho/internal/passkey"
	"sekisho/internal/printable"
)

// ceremonyTime is how long a person may take to touch what they are asked to.
const ceremonyTime = 5 * time.Minute

// The kinds of ceremonies. One that was begun for one thing finishes nothing else.
const (
	invitedKind = "invited"
	passkeyKind = "passkey"
	signInKind  = "signin"
)

func (q *request) relying() (*passkey.Relying, error) {
	if q.site.passkeys == nil || q.h.gate.Stateless() {
		return nil, api.Errorf(api.NotFound, "sign in another way", "there are no passkeys at this gate")
	}
	return q.site.passkeys, nil
}

// beginOne bounds what a source begins.
func (q *request) beginOne() error {
	if wait := q.h.begun.take(q.now, q.from, 1); wait > 0 {
		return tooMany(wait, "too much is begun from your address")
	}
	return nil
}

// begin keeps a ceremony and returns what the browser needs for it.
func (q *request) begin(kind, person string, options json.RawMessage, pending []byte) (api.Ceremony, error) {
	key := rand.Text()
	err := q.h.gate.Begin(q.Context(), gate.Ceremony{Kind: kind, Key: key, Data: pending, Person: person, Until: q.now.Add(ceremonyTime)})
	return api.Ceremony{Key: key, Options: options}, err
}

func (q *request) finish(kind, key string) (gate.Ceremony, error) {
	if len(key) < 16 || len(key) > 64 {
		return gate.Ceremony{}, api.Errorf(api.NotFound, "begin anew", "nothing of this name was begun")
	}
	c, err := q.h.gate.Finish(q.Context(), kind, key)
	return c, gone(err)
}

// gone makes 410 of what is no longer good: nobody has to sign in for it.
func gone(err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Code == api.Expired {
		return withStatus{e, 410}
	}
	return err
}

// refused is what a person is told of a response that is worth nothing.
func refused(err error) error {
	if e, ok := errors.AsType[*passkey.Error](err); ok {
		return api.Errorf(api.BadSignature, e.Hint(), "the passkey was not accepted: %s", e.Error())
	}
	return err
}

func (q *request) showInvitation(in api.InvitedRequest) (api.Invited, error) {
	name, until, err := q.invited(in.Token)
	return api.Invited{For: name, Until: until}, err
}

// maxToken is the longest invitation; nothing longer is looked for.
const maxToken = 128

func (q *request) invited(token string) (string, time.Time, error) {
	if token == "" || len(token) > maxToken {
		return "", time.Time{}, q.failed(api.Errorf(api.NotFound, "ask for another", "this invitation is not known"))
	}
	name, until, err := q.h.gate.Invited(q.Context(), token)
	if err != nil {
		return "", time.Time{}, q.failed(gone(err))
	}
	return name, until, nil
}

func (q *request) beginInvited(in api.EnrolBegin) (no api.Ceremony, err error) {
	r, err := q.relying()
	if err != nil {
		return no, err
	}
	if err := q.beginOne(); err != nil {
		return no, err
	}
	name, _, err := q.invited(in.Token)
	if err != nil {
		return no, err
	}
	if name == "" {
		if name = strings.TrimSpace(in.Name); name == "" {
			return no, api.Errorf(api.BadRequest, "write the name that you go by here", "the first administrator has no name yet")
		}
		if err := q.h.gate.Claim(q.Context(), in.Token, name, q.from); err != nil {
			return no, gone(err)
		}
	}
	return q.register(r, invitedKind, name)
}

func (q *request) register(r *passkey.Relying, kind, name string) (no api.Ceremony, err error) {
	user, err := q.user(name)
	if err != nil {
		return no, err
	}
	has, err := q.h.gate.Passkeys(q.Context(), name)
	if err != nil {
		return no, err
	}
	var existing []passkey.Credential
	for _, p := range has {
		var c passkey.Credential
		if err := json.Unmarshal(p.Data, &c); err != nil {
			return no, err
		}
		existing = append(existing, c)
	}
	options, pending, err := r.BeginRegister(user, existing)
	if err != nil {
		return no, err
	}
	return q.begin(kind, name, options, pending)
}

func (q *request) user(name string) (passkey.User, error) {
	handle, err := q.h.gate.Handle(q.Context(), name)
	return passkey.User{Handle: handle, Name: name, Display: name}, err
}

// keep finishes the making of a passkey.
func (q *request) keep(kind, key, label string, response []byte, invitation string) (person string, err error) {
	r, err := q.relying()
	if err != nil {
		return "", err
	}
	label = strings.TrimSpace(label)
	if utf8.RuneCountInString(label) > 64 || label != printable.Text(label) {
		return "", api.Errorf(api.BadRequest, "", "a passkey's name has at most 64 printable characters")
	}
	c, err := q.finish(kind, key)
	if err != nil {
		return "", err
	}
	who := q.who
	if kind == invitedKind {
		who = gate.Who{Person: c.Person, Via: api.ViaLink, From: q.from}
	}
	if who.Person != c.Person {
		return "", api.Errorf(api.NotFound, "begin anew", "this was begun by somebody else")
	}
	user, err := q.user(c.Person)
	if err != nil {
		return "", err
	}
	made, err := r.FinishRegister(user, c.Data, response)
	if err != nil {
		return "", refused(err)
	}
	data, err := json.Marshal(made)
	if err != nil {
		return "", err
	}
	return c.Person, gone(q.h.gate.AddPasskey(q.Context(), who, gate.Passkey{ID: made.ID, Person: c.Person, Name: label, Data: data, Created: q.now}, invitation))
}

func (q *request) finishInvited(in api.EnrolFinish) (api.Me, error) {
	if _, _, err := q.invited(in.Token); err != nil {
		return api.Me{}, err
	}
	name, err := q.keep(invitedKind, in.Key, in.Label, in.Response, in.Token)
	if err != nil {
		return api.Me{}, q.failed(err)
	}
	return q.signedIn(name, api.ViaPasskey)
}

// signedIn begins a session and says whose.
func (q *request) signedIn(name string, via api.Via) (api.Me, error) {
	if err := q.is(name, via); err != nil {
		return api.Me{}, err
	}
	if err := q.signIn(name, via); err != nil {
		return api.Me{}, err
	}
	return q.me()
}

func (q *request) beginPasskey(_ none) (api.Ceremony, error) {
	r, err := q.relying()
	if err != nil {
		return api.Ceremony{}, err
	}
	if err := q.beginOne(); err != nil {
		return api.Ceremony{}, err
	}
	return q.register(r, passkeyKind, q.who.Person)
}

func (q *request) finishPasskey(in api.PasskeyFinish) (api.Person, error) {
	if _, err := q.keep(passkeyKind, in.Key, in.Label, in.Response, ""); err != nil {
		return api.Person{}, err
	}
	return q.h.gate.Person(q.Context(), q.who, q.who.Person)
}

func (q *request) beginSignIn(_ none) (api.Ceremony, error) {
	r, err := q.relying()
	if err != nil {
		return api.Ceremony{}, err
	}
	if err := q.beginOne(); err != nil {
		return api.Ceremony{}, err
	}
	options, pending, err := r.BeginLogin()
	if err != nil {
		return api.Ceremony{}, err
	}
	return q.begin(signInKind, "", options, pending)
}

func (q *request) finishSignIn(in api.SignInFinish) (api.Me, error) {
	r, err := q.relying()
	if err != nil {
		return api.Me{}, err
	}
	if err := q.check(1); err != nil {
		return api.Me{}, err
	}
	c, err := q.finish(signInKind, in.Key)
	if err != nil {
		return api.Me{}, q.failed(err)
	}
	var used gate.Passkey
	made, user, err := r.FinishLogin(c.Data, in.Response, func(id, handle []byte) (passkey.User, passkey.Credential, error) {
		var c passkey.Credential
		var err error
		if used, err = q.h.gate.Passkey(q.Context(), id); err != nil {
			return passkey.User{}, c, err
		}
		if err := json.Unmarshal(used.Data, &c); err != nil {
			return passkey.User{}, c, err
		}
		user, err := q.user(used.Person)
		return user, c, err
	})
	if err != nil {
		if errors.Is(err, passkey.ErrCloned) {
			q.h.logger.WarnContext(q.Context(), "a passkey may have been copied", "request", q.id, "person", user.Name, "from", q.from)
		}
		if e, ok := errors.AsType[*api.Error](err); ok && e.Code == api.NotFound {
			err = api.Errorf(api.Unknown, "ask an administrator for an invitation", "this passkey is not known here")
		}
		return api.Me{}, q.failed(refused(err))
	}
	if used.Data, err = json.Marshal(made); err != nil {
		return api.Me{}, err
	}
	used.Used = q.now
	if err := q.h.gate.UsedPasskey(q.Context(), used); err != nil {
		return api.Me{}, err
	}
	return q.signedIn(user.Name, api.ViaPasskey)
}

func (q *request) deletePasskey(person, id string) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(raw) == 0 || len(raw) > 1023 {
		return api.Errorf(api.NotFound, "", "there is no such passkey")
	}
	return q.h.gate.DeletePasskey(q.Context(), q.who, person, raw)
}

// signOut ends the session that the request is of, or all that its person has.
func (q *request) signOut(everywhere bool) error {
	var err error
	switch {
	case everywhere:
		err = q.h.gate.EndSessions(q.Context(), q.who)
	case q.token != "":
		err = q.h.gate.EndSession(q.Context(), q.who, q.token)
	}
	if err == nil {
		q.signedOut()
	}
	return err
}
