package ledger

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"sekisho/internal/gate/api"
)

// Handle is what a person's authenticators know the person by: 32 random bytes, made when
// they are first asked for.
func (t *Tx) Handle(person string) ([]byte, error) {
	const what = "read a person's handle"
	handle, err := one(t, what, scanBytes, `SELECT handle FROM handles WHERE person = $1`, person)
	if err == nil || !errors.Is(err, ErrNotFound) {
		return handle, err
	}
	if err := key("person", person); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	handle = make([]byte, 32)
	rand.Read(handle)
	_, err = t.exec("make a person's handle", `INSERT INTO handles (person, handle) VALUES ($1, $2)`, person, handle)
	return handle, err
}

// PersonByHandle is whose it is.
func (t *Tx) PersonByHandle(handle []byte) (string, error) {
	return one(t, "look for a handle", scanString, `SELECT person FROM handles WHERE handle = $1`, bytesOf(handle))
}

// PutPasskey adds a passkey, or writes a known one's Name, Data and Used; one that is
// another person's is ErrConflict.
func (t *Tx) PutPasskey(p Passkey) error {
	const what = "write a passkey"
	if err := errors.Join(key("person", p.Person), blob("id", p.ID, 1, maxID), blob("handle", p.Handle, 0, 64), blob("passkey", p.Data, 0, maxData)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	n, err := t.exec(what, `UPDATE passkeys SET name = $3, data = $4, used = $5 WHERE id = $1 AND person = $2`,
		p.ID, p.Person, text(p.Name, maxKey), bytesOf(p.Data), micros(p.Used))
	if err != nil || n > 0 {
		return err
	}
	if err := t.room(what, MaxPasskeys, `SELECT count(*) FROM passkeys WHERE person = $1`, p.Person); err != nil {
		return err
	}
	n, err = t.exec(what, `INSERT INTO passkeys (id, person, handle, name, data, created, used) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		p.ID, p.Person, bytesOf(p.Handle), text(p.Name, maxKey), bytesOf(p.Data), micros(p.Created), micros(p.Used))
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: %w", what, ErrConflict)
	}
	return err
}

const passkeyColumns = `SELECT id, person, handle, name, data, created, used FROM passkeys `

func scanPasskey(t *Tx, rows *sql.Rows) (p Passkey, err error) {
	var created, used int64
	err = t.scan(rows, &p.ID, &p.Person, &p.Handle, &p.Name, &p.Data, &created, &used)
	p.Created, p.Used = timeOf(created), timeOf(used)
	return p, err
}

// Passkeys are a person's, oldest first.
func (t *Tx) Passkeys(person string) ([]Passkey, error) {
	return list(t, "read passkeys", scanPasskey, passkeyColumns+`WHERE person = $1 ORDER BY created, id`, person)
}

// AllPasskeys are everybody's, by person.
func (t *Tx) AllPasskeys() ([]Passkey, error) {
	return list(t, "read passkeys", scanPasskey, passkeyColumns+`ORDER BY person, created, id`)
}

// Passkey is the one of that id.
func (t *Tx) Passkey(id []byte) (Passkey, error) {
	return one(t, "read a passkey", scanPasskey, passkeyColumns+`WHERE id = $1`, bytesOf(id))
}

// DeletePasskey forgets one.
func (t *Tx) DeletePasskey(id []byte) error {
	return t.remove("delete a passkey", `DELETE FROM passkeys WHERE id = $1`, bytesOf(id))
}

// DeletePasskeysOf forgets all that a person has, and their handle.
func (t *Tx) DeletePasskeysOf(person string) error {
	_, err := t.exec("delete a person's passkeys", `DELETE FROM passkeys WHERE person = $1`, person)
	if err == nil {
		_, err = t.exec("delete a person's handle", `DELETE FROM handles WHERE person = $1`, person)
	}
	return err
}

// PutSession adds a session, or writes a known one's Until, Seen, From and Agent. A person
// has the MaxSessions that were made last.
func (t *Tx) PutSession(s Session) error {
	const what = "write a session"
	if err := key("person", s.Person); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	n, err := t.exec(what, `UPDATE sessions SET until = $3, seen = $4, source = $5, agent = $6 WHERE hash = $1 AND person = $2`,
		s.Hash[:], s.Person, micros(s.Until), micros(s.Seen), addrText(s.From), text(s.Agent, maxText))
	if err != nil || n > 0 {
		return err
	}
	n, err = t.exec(what, `INSERT INTO sessions (hash, person, via, created, until, seen, source, agent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		s.Hash[:], s.Person, text(string(s.Via), maxKey), micros(s.Created), micros(s.Until), micros(s.Seen), addrText(s.From), text(s.Agent, maxText))
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: %w", what, ErrConflict)
	}
	if err != nil {
		return err
	}
	_, err = t.exec("end a person's oldest session", `DELETE FROM sessions WHERE person = $1 AND hash <> $2 AND hash IN (
		SELECT hash FROM sessions WHERE person = $1 AND hash <> $2 ORDER BY created DESC, hash LIMIT 1000 OFFSET $3)`,
		s.Person, s.Hash[:], int64(MaxSessions-1))
	return err
}

const sessionColumns = `SELECT hash, person, via, created, until, seen, source, agent FROM sessions `

func scanSession(t *Tx, rows *sql.Rows) (s Session, err error) {
	var hash []byte
	var via, from string
	var created, until, seen int64
	if err := t.scan(rows, &hash, &s.Person, &via, &created, &until, &seen, &from, &s.Agent); err != nil {
		return s, err
	}
	s.Via, s.Created, s.Until, s.Seen = api.Via(via), timeOf(created), timeOf(until), timeOf(seen)
	if copy(s.Hash[:], hash) != len(s.Hash) {
		return s, t.fail(fmt.Errorf("%w: a hash of %d bytes", ErrCorrupt, len(hash)))
	}
	s.From, err = t.addrOf(from)
	return s, err
}

// Session is the one of that hash, whether its time is over or not.
func (t *Tx) Session(hash [32]byte) (Session, error) {
	return one(t, "read a session", scanSession, sessionColumns+`WHERE hash = $1`, hash[:])
}

// Sessions are a person's, newest first.
func (t *Tx) Sessions(person string) ([]Session, error) {
	return list(t, "read sessions", scanSession, sessionColumns+`WHERE person = $1 ORDER BY created DESC, hash`, person)
}

// DeleteSession ends one; one that is not there has ended.
func (t *Tx) DeleteSession(hash [32]byte) error {
	_, err := t.exec("end a session", `DELETE FROM sessions WHERE hash = $1`, hash[:])
	return err
}

// DeleteSessionsOf ends all that a person has.
func (t *Tx) DeleteSessionsOf(person string) error {
	_, err := t.exec("end a person's sessions", `DELETE FROM sessions WHERE person = $1`, person)
	return err
}

// PutOnce adds what can be taken once. Where there are MaxOnce of the kind, the one goes
// that ends first.
func (t *Tx) PutOnce(o Once) error {
	const what = "write a one-time token"
	if err := errors.Join(key("kind", o.Kind), blob("data", o.Data, 0, maxData)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	n, err := t.exec(what, `INSERT INTO once (kind, key, data, person, until) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		o.Kind, o.Key[:], bytesOf(o.Data), text(o.Person, maxKey), micros(o.Until))
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: %w", what, ErrConflict)
	}
	if err != nil {
		return err
	}
	n, err = one(t, what, scanInt, `SELECT count(*) FROM once WHERE kind = $1`, o.Kind)
	if err != nil || n <= MaxOnce {
		return err
	}
	_, err = t.exec(what, `DELETE FROM once WHERE kind = $1 AND key <> $2 AND key IN (
		SELECT key FROM once WHERE kind = $1 AND key <> $2 ORDER BY until, key LIMIT $3)`, o.Kind, o.Key[:], n-MaxOnce)
	return err
}

const onceColumns = `kind, key, data, person, until`

func scanOnce(t *Tx, rows *sql.Rows) (o Once, err error) {
	var key []byte
	var until int64
	if err := t.scan(rows, &o.Kind, &key, &o.Data, &o.Person, &until); err != nil {
		return o, err
	}
	o.Until = timeOf(until)
	if copy(o.Key[:], key) != len(o.Key) {
		return o, t.fail(fmt.Errorf("%w: a key of %d bytes", ErrCorrupt, len(key)))
	}
	return o, nil
}

// TakeOnce takes one, for good where the transaction is kept. One whose time is over is
// returned with ErrExpired; Prune keeps it for a week, so that its owner can be told.
func (t *Tx) TakeOnce(kind string, key [32]byte) (Once, error) {
	const what = "take a one-time token"
	if err := t.usable(true); err != nil {
		return Once{}, fmt.Errorf("%s: %w", what, err)
	}
	o, err := one(t, what, scanOnce, `DELETE FROM once WHERE kind = $1 AND key = $2 RETURNING `+onceColumns, kind, key[:])
	if err == nil && !t.now().Before(o.Until) {
		err = fmt.Errorf("%s: %w", what, ErrExpired)
	}
	return o, err
}

// Once looks at one and leaves it; errors are TakeOnce's.
func (t *Tx) Once(kind string, key [32]byte) (Once, error) {
	const what = "read a one-time token"
	o, err := one(t, what, scanOnce, `SELECT `+onceColumns+` FROM once WHERE kind = $1 AND key = $2`, kind, key[:])
	if err == nil && !t.now().Before(o.Until) {
		err = fmt.Errorf("%s: %w", what, ErrExpired)
	}
	return o, err
}

// Outstanding are those of a kind that can be taken, the first to end first.
func (t *Tx) Outstanding(kind string) ([]Once, error) {
	return list(t, "read one-time tokens", scanOnce, `SELECT `+onceColumns+` FROM once WHERE kind = $1 AND until > $2 ORDER BY until, key`, kind, micros(t.now()))
}

// DeleteOnceOf takes back those of a kind that are for a person.
func (t *Tx) DeleteOnceOf(kind, person string) error {
	_, err := t.exec("take one-time tokens back", `DELETE FROM once WHERE kind = $1 AND person = $2`, kind, person)
	return err
}

// UseNonce reports whether a nonce is used for the first time. It is remembered until then
// at least.
func (t *Tx) UseNonce(key [32]byte, until time.Time) (fresh bool, err error) {
	n, err := t.exec("remember a nonce", `INSERT INTO nonces (key, until) VALUES ($1, $2) ON CONFLICT DO NOTHING`, key[:], micros(until))
	return n == 1, err
}
