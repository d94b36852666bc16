package gate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
)

// Kinds of what is taken once.
const (
	onceInvite = "invite"
	onceHost   = "host"
	onceFirst  = "first"

	maxOutstanding = 1000 // invitations, and hosts' tokens
	inviteTime     = 72 * time.Hour
	firstTime      = 24 * time.Hour
	sessionTime    = 12 * time.Hour // where the configuration says nothing
	seenEvery      = time.Minute    // a session's use is written down at most as often
	maxAgent       = 200            // characters
)

// PersonOfKey is whose an SSH key is. It fails with api.Unknown where it is nobody's, and
// with api.Disabled. Strangers are counted in the audit.
func (g *Gate) PersonOfKey(ctx context.Context, key ssh.PublicKey, from netip.Addr) (person string, err error) {
	d, err := g.directory(ctx)
	if err != nil {
		return "", err
	}
	name := d.keys[ssh.FingerprintSHA256(key)]
	if name == "" {
		g.stranger(from)
		return "", api.Errorf(api.Unknown, "have an administrator add the key "+ssh.FingerprintSHA256(key), "the signature is good, but nobody here has this key")
	}
	if d.disabled(name) {
		return "", errDisabled(name)
	}
	return name, nil
}

// PersonOfLogin is whom an identity provider means.
func (g *Gate) PersonOfLogin(ctx context.Context, l Login, from netip.Addr) (person string, err error) {
	d, err := g.directory(ctx)
	if err != nil {
		return "", err
	}
	name := ""
	if l.Login != "" {
		name = d.logins[d.login(l.Login)]
	}
	if name == "" {
		g.stranger(from)
		return "", api.Errorf(api.Unknown, "have an administrator write what the provider calls you into `login`", "nobody here is called that by the identity provider")
	}
	if d.disabled(name) {
		return "", errDisabled(name)
	}
	if err := g.claims(ctx, d, name, l); err != nil {
		return "", err
	}
	return name, nil
}

// claims keeps which groups the provider says that person is in, for claimsTime.
func (g *Gate) claims(ctx context.Context, d *directory, person string, l Login) error {
	s := d.cfg.Gate.Serve
	if s == nil || s.OIDC == nil || g.ledger == nil {
		return nil
	}
	says := claims{Login: d.login(l.Login), Groups: []string{}}
	for _, t := range l.Groups {
		if ours := s.OIDC.Groups[t]; ours != "" && !slices.Contains(says.Groups, ours) {
			says.Groups = append(says.Groups, ours)
		}
	}
	slices.Sort(says.Groups)
	now := g.now()
	var before claims
	if was, there := d.edits.person(claimed + person); there {
		if err := json.Unmarshal(was.Config, &before); err != nil {
			return g.unwritable("read what the identity provider said", err)
		}
	}
	// Said again, it is written again only now and then.
	same := before.Login == says.Login && slices.Equal(before.Groups, says.Groups) && now.Before(before.Until)
	if len(before.Groups) == 0 && len(says.Groups) == 0 || same && before.Until.Sub(now) > claimsTime/2 {
		return nil
	}
	says.Until = now.Add(claimsTime)
	raw, err := json.Marshal(says)
	if err != nil {
		return err
	}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		rev := int64(0)
		people, err := tx.People()
		if err != nil {
			return err
		}
		for _, p := range people {
			if p.Name == claimed+person {
				rev = p.Rev
			}
		}
		if _, err := tx.PutPerson(ledger.Person{Name: claimed + person, Config: raw, By: "identity provider", Rev: rev}); err != nil {
			return err
		}
		if same {
			return nil
		}
		e := g.about(Who{Person: person, Via: api.ViaOIDC}, "person.groups", person, "")
		e.Why = strings.Join(says.Groups, ", ")
		_, err = tx.Append(e)
		return err
	})
	if err != nil {
		return g.ledgerError("keep what the identity provider says", err)
	}
	return g.afterEdit(ctx)
}

// RoleOf is what a person may do; "" where there is no such person, or they are disabled.
func (g *Gate) RoleOf(person string) api.Role {
	d, err := g.directory(context.Background())
	if err != nil {
		return ""
	}
	return d.role(person)
}

// UseNonce reports whether a signature is used for the first time, and remembers it until
// its time has passed.
func (g *Gate) UseNonce(ctx context.Context, key [32]byte, until time.Time) (fresh bool, err error) {
	if g.ledger == nil {
		return g.nonces.use(key, g.now(), until)
	}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) (err error) {
		fresh, err = tx.UseNonce(key, until)
		return err
	})
	if err != nil {
		return false, g.unwritable("remember a signature", err)
	}
	return fresh, nil
}

// NewSession begins a session of person and returns its token, which is told once.
func (g *Gate) NewSession(ctx context.Context, person string, via api.Via, from netip.Addr, agent string) (token string, s Session, err error) {
	if g.ledger == nil {
		return "", Session{}, errStateless("nobody can sign in with a browser")
	}
	d, err := g.directory(ctx)
	if err != nil {
		return "", Session{}, err
	}
	if d.role(person) == "" {
		return "", Session{}, errDisabled(person)
	}
	now := g.now()
	length := sessionTime
	if serve := d.cfg.Gate.Serve; serve != nil && serve.Session > 0 {
		length = serve.Session
	}
	token = rand.Text() + rand.Text()
	s = Session{Person: person, Via: via, Created: now, Until: now.Add(length), Seen: now, From: from, Agent: short(agent, maxAgent)}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if off, err := tx.IsDisabled(person); err != nil || off {
			if off {
				return errDisabled(person)
			}
			return err
		}
		if err := tx.PutSession(sessionRow(token, s)); err != nil {
			return err
		}
		_, err := tx.Append(g.about(Who{Person: person, Via: via, From: from}, "session.begin", person, ""))
		return err
	})
	if err != nil {
		return "", Session{}, g.ledgerError("begin a session", err)
	}
	return token, s, nil
}

func sessionRow(token string, s Session) ledger.Session {
	return ledger.Session{Hash: sha256.Sum256([]byte(token)), Person: s.Person, Via: s.Via, Created: s.Created, Until: s.Until, Seen: s.Seen, From: s.From, Agent: s.Agent}
}

// SessionOf is the session of a token. It fails with api.NoIdentity or api.Expired, and
// with api.Disabled.
func (g *Gate) SessionOf(ctx context.Context, token string, from netip.Addr) (Session, error) {
	gone := api.Errorf(api.NoIdentity, "sign in", "nobody is signed in")
	if token == "" || g.ledger == nil {
		return Session{}, gone
	}
	d, err := g.directory(ctx)
	if err != nil {
		return Session{}, err
	}
	var row ledger.Session
	off := false
	err = g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		if row, err = tx.Session(sha256.Sum256([]byte(token))); err != nil {
			return err
		}
		off, err = tx.IsDisabled(row.Person)
		return err
	})
	now := g.now()
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return Session{}, gone
	case err != nil:
		return Session{}, g.unwritable("look for a session", err)
	case row.Via == api.ViaHost:
		return Session{}, gone
	case off:
		return Session{}, errDisabled(row.Person)
	case !now.Before(row.Until):
		return Session{}, api.Errorf(api.Expired, "sign in again", "the session has ended")
	case d.role(row.Person) == "":
		return Session{}, gone
	}
	s := Session{Person: row.Person, Via: row.Via, Created: row.Created, Until: row.Until, Seen: row.Seen, From: row.From, Agent: row.Agent}
	if now.Sub(row.Seen) > seenEvery {
		row.Seen, row.From = now, from
		err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
			if _, err := tx.Session(row.Hash); err != nil {
				return err // it has ended meanwhile
			}
			return tx.PutSession(row)
		})
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			g.log.Warn("the use of a session could not be written down", "person", s.Person, "error", err)
		}
		s.Seen = now
	}
	return s, nil
}

// EndSession ends one session; one that there is not is no error.
func (g *Gate) EndSession(ctx context.Context, who Who, token string) error {
	if g.ledger == nil {
		return nil
	}
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		hash := sha256.Sum256([]byte(token))
		s, err := tx.Session(hash)
		if errors.Is(err, ledger.ErrNotFound) || err == nil && s.Person != who.Person {
			return nil
		}
		if err != nil {
			return err
		}
		if err := tx.DeleteSession(hash); err != nil {
			return err
		}
		_, err = tx.Append(g.about(who, "session.end", who.Person, ""))
		return err
	})
	return g.ledgerError("end a session", err)
}

// EndSessions ends all sessions of who, and takes back the link by which another browser of
// theirs could enrol: whoever had one of the sessions may have made it.
func (g *Gate) EndSessions(ctx context.Context, who Who) error {
	if g.ledger == nil || who.Person == "" {
		return nil
	}
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if err := tx.DeleteSessionsOf(who.Person); err != nil {
			return err
		}
		if err := tx.DeleteOnceOf(onceInvite, who.Person); err != nil {
			return err
		}
		e := g.about(who, "session.end", who.Person, "")
		e.Why = "all of them"
		_, err := tx.Append(e)
		return err
	})
	return g.ledgerError("end sessions", err)
}

// Handle is what passkeys call a person: 32 random bytes, the same always.
func (g *Gate) Handle(ctx context.Context, person string) (handle []byte, err error) {
	if g.ledger == nil {
		return nil, errStateless("there are no passkeys")
	}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) (err error) {
		handle, err = tx.Handle(person)
		return err
	})
	return handle, g.ledgerError("make a handle", err)
}

// PersonByHandle is the person of a handle.
func (g *Gate) PersonByHandle(ctx context.Context, handle []byte) (person string, err error) {
	if g.ledger == nil {
		return "", errStateless("there are no passkeys")
	}
	err = g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		person, err = tx.PersonByHandle(handle)
		return err
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return "", api.Errorf(api.Unknown, "enrol it by an invitation", "nobody here has this passkey")
	}
	return person, g.ledgerError("look for a passkey's owner", err)
}

// Passkeys are a person's.
func (g *Gate) Passkeys(ctx context.Context, person string) ([]Passkey, error) {
	if g.ledger == nil {
		return []Passkey{}, nil
	}
	var rows []ledger.Passkey
	err := g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		rows, err = tx.Passkeys(person)
		return err
	})
	res := []Passkey{}
	for _, p := range rows {
		res = append(res, passkeyOf(p))
	}
	return res, g.ledgerError("read passkeys", err)
}

func passkeyOf(p ledger.Passkey) Passkey {
	return Passkey{ID: p.ID, Person: p.Person, Name: p.Name, Data: p.Data, Created: p.Created, Used: p.Used}
}

// Passkey is one, by its id.
func (g *Gate) Passkey(ctx context.Context, id []byte) (Passkey, error) {
	if g.ledger == nil {
		return Passkey{}, errStateless("there are no passkeys")
	}
	var p ledger.Passkey
	err := g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		p, err = tx.Passkey(id)
		return err
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return Passkey{}, api.Errorf(api.Unknown, "enrol it by an invitation", "nobody here has this passkey")
	}
	return passkeyOf(p), g.ledgerError("look for a passkey", err)
}

// AddPasskey keeps a new passkey of who. invitation, unless "", is the token that it is
// enrolled by: it is taken in the same step, and must be for the same person.
func (g *Gate) AddPasskey(ctx context.Context, who Who, p Passkey, invitation string) error {
	if g.ledger == nil {
		return errStateless("there are no passkeys")
	}
	d, err := g.directory(ctx)
	if err != nil {
		return err
	}
	if p.Person = who.Person; d.role(p.Person) == "" {
		return errDisabled(p.Person)
	}
	if p.Created.IsZero() {
		p.Created = g.now()
	}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if off, err := tx.IsDisabled(p.Person); err != nil || off {
			if off {
				return errDisabled(p.Person)
			}
			return err
		}
		if invitation != "" {
			o, err := tx.TakeOnce(onceInvite, sha256.Sum256([]byte(invitation)))
			if err != nil {
				return err
			}
			if o.Person != p.Person {
				return api.Errorf(api.Forbidden, "use your own", "the invitation is for somebody else")
			}
		}
		if _, err := tx.Passkey(p.ID); err == nil {
			return api.Errorf(api.Conflict, "it is known already: sign in with it", "this passkey is enrolled already")
		} else if !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		handle, err := tx.Handle(p.Person)
		if err != nil {
			return err
		}
		if err := tx.PutPasskey(ledger.Passkey{ID: p.ID, Person: p.Person, Handle: handle, Name: short(p.Name, 80), Data: p.Data, Created: p.Created, Used: p.Used}); err != nil {
			return err
		}
		e := g.about(who, "passkey.add", p.Person, "")
		e.Why = short(p.Name, 80)
		_, err = tx.Append(e)
		return err
	})
	return g.tokenError("keep a passkey", err)
}

// UsedPasskey keeps what a use has changed of a passkey.
func (g *Gate) UsedPasskey(ctx context.Context, p Passkey) error {
	if g.ledger == nil {
		return errStateless("there are no passkeys")
	}
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		was, err := tx.Passkey(p.ID)
		if err != nil {
			return err
		}
		if was.Person != p.Person {
			return ledger.ErrNotFound
		}
		was.Data, was.Used = p.Data, p.Used
		return tx.PutPasskey(was)
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return api.Errorf(api.Unknown, "enrol it by an invitation", "nobody here has this passkey any more")
	}
	return g.ledgerError("note the use of a passkey", err)
}

// DeletePasskey forgets a passkey: one's own, or, for an administrator, anybody's, whose
// sessions end then, for one of them may be that passkey's.
func (g *Gate) DeletePasskey(ctx context.Context, who Who, person string, id []byte) error {
	d, err := g.person(ctx, who)
	if err != nil {
		return err
	}
	if g.ledger == nil {
		return errStateless("there are no passkeys")
	}
	if person != who.Person && d.role(who.Person) != api.RoleAdmin {
		return errAdmin()
	}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if err := enabled(tx, who); err != nil {
			return err
		}
		p, err := tx.Passkey(id)
		if err != nil {
			return err
		}
		if p.Person != person {
			return ledger.ErrNotFound
		}
		if err := tx.DeletePasskey(id); err != nil {
			return err
		}
		if person != who.Person {
			if err := tx.DeleteSessionsOf(person); err != nil {
				return err
			}
		}
		e := g.about(who, "passkey.delete", person, "")
		e.Why = p.Name
		_, err = tx.Append(e)
		return err
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return api.Errorf(api.NotFound, "", "there is no such passkey")
	}
	return g.ledgerError("forget a passkey", err)
}

// Begin keeps a ceremony.
func (g *Gate) Begin(ctx context.Context, c Ceremony) error {
	if g.ledger == nil {
		return errStateless("nothing can be begun that is finished later")
	}
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		return tx.PutOnce(ledger.Once{Kind: "ceremony " + c.Kind, Key: sha256.Sum256([]byte(c.Key)), Data: c.Data, Person: c.Person, Until: c.Until})
	})
	return g.ledgerError("keep what was begun", err)
}

// Finish takes a ceremony, once. It fails with api.NotFound or api.Expired.
func (g *Gate) Finish(ctx context.Context, kind, key string) (Ceremony, error) {
	if g.ledger == nil {
		return Ceremony{}, errStateless("nothing can be begun that is finished later")
	}
	var o ledger.Once
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) (err error) {
		o, err = tx.TakeOnce("ceremony "+kind, sha256.Sum256([]byte(key)))
		return err
	})
	if err != nil {
		return Ceremony{}, g.tokenError("finish what was begun", err)
	}
	return Ceremony{Kind: kind, Key: key, Data: o.Data, Person: o.Person, Until: o.Until}, nil
}

// Invited is whom an invitation is for, without taking it. It fails with api.NotFound,
// for one that was used, too, or api.Expired. The first administrator's is for "" until
// Claim has named them.
func (g *Gate) Invited(ctx context.Context, token string) (person string, until time.Time, err error) {
	if g.ledger == nil {
		return "", time.Time{}, errStateless("there are no invitations")
	}
	key := sha256.Sum256([]byte(token))
	var o ledger.Once
	err = g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		if o, err = tx.Once(onceInvite, key); errors.Is(err, ledger.ErrNotFound) {
			o, err = tx.Once(onceFirst, key)
		}
		return err
	})
	if err != nil {
		return "", time.Time{}, g.tokenError("look at an invitation", err)
	}
	return o.Person, o.Until, nil
}

// FirstAdministrator makes the one-time token for the first administrator, where nobody is
// one who could sign in. needed is false where somebody is.
func (g *Gate) FirstAdministrator(ctx context.Context) (token string, until time.Time, needed bool, err error) {
	if g.ledger == nil {
		return "", time.Time{}, false, nil
	}
	if err := g.reread(ctx); err != nil {
		return "", time.Time{}, false, g.unwritable("look for administrators", err)
	}
	d, err := g.directory(ctx)
	if err != nil {
		return "", time.Time{}, false, err
	}
	token = rand.Text() + rand.Text()
	until = g.now().Add(firstTime)
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		needed, err = noAdministrator(tx, d)
		if err != nil || !needed {
			return err
		}
		old, err := tx.Outstanding(onceFirst) // what was printed before, and may be in a log
		if err != nil {
			return err
		}
		for _, o := range old {
			if _, err := tx.TakeOnce(onceFirst, o.Key); err != nil && !errors.Is(err, ledger.ErrExpired) {
				return err
			}
		}
		for _, name := range d.administrators() { // whom one of those has named, who has not enrolled
			if err := tx.DeleteOnceOf(onceInvite, name); err != nil {
				return err
			}
		}
		return tx.PutOnce(ledger.Once{Kind: onceFirst, Key: sha256.Sum256([]byte(token)), Until: until})
	})
	if err != nil || !needed {
		return "", time.Time{}, false, g.ledgerError("look for administrators", err)
	}
	return token, until, true, nil
}

// noAdministrator reports whether nobody is an administrator who could sign in.
func noAdministrator(tx *ledger.Tx, d *directory) (bool, error) {
	provider := d.cfg.Gate.Serve != nil && d.cfg.Gate.Serve.OIDC != nil
	for _, name := range d.administrators() {
		p := d.cfg.People[name]
		if len(p.Keys) > 0 || provider && p.Login != "" {
			return false, nil
		}
		keys, err := tx.Passkeys(name)
		if err != nil || len(keys) > 0 {
			return false, err
		}
	}
	return true, nil
}

// Claim names the first administrator, who is made a person in the group of
// administrators: with the token, and before a passkey is enrolled by it.
func (g *Gate) Claim(ctx context.Context, token, name string, from netip.Addr) error {
	if g.ledger == nil {
		return errStateless("there are no invitations")
	}
	d, err := g.directory(ctx)
	if err != nil {
		return err
	}
	var text []byte
	_, known := d.cfg.People[name]
	switch {
	case known && d.role(name) != api.RoleAdmin:
		return api.Errorf(api.Conflict, "take another name, or one of those whom gate.serve.admins names", "%q is somebody else, who is no administrator", name)
	case !known:
		p := config.Person{}
		serve := d.cfg.Gate.Serve
		if serve == nil || !serve.Edit {
			return api.Errorf(api.Declared, "name one of the configuration's administrators, or set gate.serve.edit: yes", "people cannot be added here")
		}
		if !slices.Contains(serve.Admins, name) {
			group := slices.IndexFunc(serve.Admins, func(a string) bool { _, person := d.cfg.People[a]; return !person })
			if group < 0 {
				return api.Errorf(api.Conflict, "write a group into gate.serve.admins, as admins: [admins], or take the name of a person there", "the configuration names no group of administrators")
			}
			p.Groups = []string{serve.Admins[group]}
		}
		text = config.PersonText(p)
		if _, err := config.ParsePerson(name, text, d.cfg); err != nil {
			return editError(err)
		}
	}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		key := sha256.Sum256([]byte(token))
		o, err := tx.TakeOnce(onceFirst, key)
		if err != nil {
			return err
		}
		if needed, err := noAdministrator(tx, d); err != nil || !needed {
			if err == nil {
				err = api.Errorf(api.Forbidden, "have that one invite you", "somebody is an administrator already")
			}
			return err
		}
		if !known {
			if _, err := tx.PutPerson(ledger.Person{Name: name, Config: text, By: "the first administrator's link"}); err != nil {
				return err
			}
		}
		if err := tx.PutOnce(ledger.Once{Kind: onceInvite, Key: key, Person: name, Until: o.Until}); err != nil {
			return err
		}
		e := g.about(Who{Person: name, Via: api.ViaLink, From: from}, "person.add", name, "")
		e.Why = "the first administrator"
		_, err = tx.Append(e)
		return err
	})
	if err != nil {
		return g.tokenError("name the first administrator", err)
	}
	return g.afterEdit(ctx)
}

// Invite makes a one-time link by which name enrols a passkey.
func (g *Gate) Invite(ctx context.Context, who Who, name string) (api.Invitation, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return api.Invitation{}, err
	}
	if g.ledger == nil {
		return api.Invitation{}, errStateless("there are no invitations")
	}
	if name != who.Person && d.role(who.Person) != api.RoleAdmin {
		return api.Invitation{}, errAdmin()
	}
	if _, there := d.cfg.People[name]; !there {
		return api.Invitation{}, errNobody(name)
	}
	token := rand.Text() + rand.Text()
	until := g.now().Add(inviteTime)
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if err := enabled(tx, who); err != nil {
			return err
		}
		if off, err := tx.IsDisabled(name); err != nil || off {
			if off {
				return errDisabled(name)
			}
			return err
		}
		if err := tx.DeleteOnceOf(onceInvite, name); err != nil { // the last one counts
			return err
		}
		if err := g.roomOnce(tx, onceInvite); err != nil {
			return err
		}
		if err := tx.PutOnce(ledger.Once{Kind: onceInvite, Key: sha256.Sum256([]byte(token)), Person: name, Until: until}); err != nil {
			return err
		}
		_, err := tx.Append(g.about(who, "person.invite", name, ""))
		return err
	})
	if err != nil {
		return api.Invitation{}, g.ledgerError("make an invitation", err)
	}
	return api.Invitation{For: name, URL: strings.TrimSuffix(d.cfg.Gate.URL, "/") + "/invite#" + token, Until: until}, nil
}

// roomOnce refuses where there are as many of a kind as there may be.
func (g *Gate) roomOnce(tx *ledger.Tx, kind string) error {
	all, err := tx.Outstanding(kind)
	if err == nil && len(all) >= maxOutstanding {
		err = api.Errorf(api.TooMany, "wait until some were used, or have ended", "%d are outstanding already", len(all))
	}
	return err
}

// tokenError is ledgerError for what takes a token.
func (g *Gate) tokenError(what string, err error) error {
	switch {
	case errors.Is(err, ledger.ErrExpired):
		return api.Errorf(api.Expired, "ask for another", "its time is over")
	case errors.Is(err, ledger.ErrNotFound):
		return api.Errorf(api.NotFound, "ask for another", "there is no such thing any more: it was used, or replaced, or never was")
	}
	return g.ledgerError(what, err)
}

// short is a stranger's text of at most so many characters.
func short(s string, most int) string {
	s = clean(s)
	if rs := []rune(s); len(rs) > most {
		return string(rs[:most])
	}
	return s
}

// passkeyID is a passkey's id as the API has it.
func passkeyID(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }
