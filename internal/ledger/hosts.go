package ledger

import (
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const hostColumns = `name, key, fingerprint, enrolled, seen, version, connected, connected_until, in_force, error`

func scanHost(t *Tx, rows *sql.Rows) (h Host, err error) {
	var enrolled, seen, until int64
	err = t.scan(rows, &h.Name, &h.Key, &h.Fingerprint, &enrolled, &seen, &h.Version, &h.Connected, &until, &h.InForce, &h.Error)
	h.Enrolled, h.Seen, h.ConnectedUntil = timeOf(enrolled), timeOf(seen), timeOf(until)
	return h, err
}

// PutHost adds a host or writes it over. ErrConflict where another has its fingerprint.
// That only Seen and ConnectedUntil have changed is not told to those who Watch.
func (t *Tx) PutHost(h Host) error {
	const what = "write a host"
	if err := key("name", h.Name); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if h.Fingerprint != "" {
		if err := errors.Join(key("fingerprint", h.Fingerprint), blob("key", []byte(h.Key), 0, maxData)); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		switch other, err := t.HostByFingerprint(h.Fingerprint); {
		case err == nil && other.Name != h.Name:
			return fmt.Errorf("%s: %w: host %q has the same key", what, ErrConflict, other.Name)
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
	}
	h.Enrolled, h.Seen, h.ConnectedUntil = timeOf(micros(h.Enrolled)), timeOf(micros(h.Seen)), timeOf(micros(h.ConnectedUntil))
	h.Key, h.Version, h.Connected, h.Error = text(h.Key, maxData), text(h.Version, maxKey), text(h.Connected, maxKey), text(h.Error, maxText)
	was, err := t.Host(h.Name)
	switch {
	case errors.Is(err, ErrNotFound):
		if err := t.room(what, MaxHosts, `SELECT count(*) FROM hosts`); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	was.Seen, was.ConnectedUntil = h.Seen, h.ConnectedUntil
	if was != h {
		t.changed = true
	}
	_, err = t.exec(what, `INSERT INTO hosts (`+hostColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (name) DO UPDATE SET key = excluded.key, fingerprint = excluded.fingerprint, enrolled = excluded.enrolled, seen = excluded.seen,
		version = excluded.version, connected = excluded.connected, connected_until = excluded.connected_until, in_force = excluded.in_force, error = excluded.error`,
		h.Name, h.Key, h.Fingerprint, micros(h.Enrolled), micros(h.Seen), h.Version, h.Connected, micros(h.ConnectedUntil), int64(h.InForce), h.Error)
	return err
}

// Host is the one of that name.
func (t *Tx) Host(name string) (Host, error) {
	return one(t, "read a host", scanHost, `SELECT `+hostColumns+` FROM hosts WHERE name = $1`, name)
}

// HostByFingerprint is the one that has enrolled with the key.
func (t *Tx) HostByFingerprint(fingerprint string) (Host, error) {
	return one(t, "look for a host's key", scanHost, `SELECT `+hostColumns+` FROM hosts WHERE fingerprint = $1 AND fingerprint <> ''`, fingerprint)
}

// Hosts are all, by name.
func (t *Tx) Hosts() ([]Host, error) {
	return list(t, "read the hosts", scanHost, `SELECT `+hostColumns+` FROM hosts ORDER BY name`)
}

// DeleteHost forgets one.
func (t *Tx) DeleteHost(name string) error {
	t.changed = true
	return t.remove("delete a host", `DELETE FROM hosts WHERE name = $1`, name)
}

// Heartbeat says that a gate is alive until then.
func (t *Tx) Heartbeat(instance string, until time.Time) error {
	const what = "write an instance"
	if err := key("instance", instance); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	n, err := t.exec(what, `UPDATE instances SET until = $2 WHERE name = $1`, instance, micros(until))
	if err != nil || n > 0 {
		return err
	}
	err = t.room(what, MaxInstances, `SELECT count(*) FROM instances`)
	if errors.Is(err, ErrFull) { // one that begins again and again, each time by another name
		if _, err := t.exec(what, `DELETE FROM instances WHERE until < $1`, micros(t.now())); err != nil {
			return err
		}
		err = t.room(what, MaxInstances, `SELECT count(*) FROM instances`)
	}
	if err != nil {
		return err
	}
	_, err = t.exec(what, `INSERT INTO instances (name, until) VALUES ($1, $2)`, instance, micros(until))
	return err
}

// Instances are the gates that were heard of in the last day, by name.
func (t *Tx) Instances() ([]Instance, error) {
	return list(t, "read the instances", func(t *Tx, rows *sql.Rows) (i Instance, err error) {
		var until int64
		err = t.scan(rows, &i.Name, &until)
		i.Until = timeOf(until)
		return i, err
	}, `SELECT name, until FROM instances ORDER BY name`)
}
