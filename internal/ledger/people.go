package ledger

import (
	"database/sql"
	"fmt"
	"time"
)

// edited is what people and targets have in common.
type edited struct {
	name    string
	config  []byte
	updated time.Time
	by      string
	rev     int64
}

// put writes a row by its revision, and returns it as it is written.
func (t *Tx) put(table string, most int64, e edited) (edited, error) {
	what := "write to " + table
	if err := key("name", e.name); err != nil {
		return e, fmt.Errorf("%s: %w", what, err)
	}
	if err := blob("configuration", e.config, 0, maxConfig); err != nil {
		return e, fmt.Errorf("%s: %w", what, err)
	}
	if e.updated.IsZero() {
		e.updated = t.now()
	}
	e.updated, e.by = timeOf(micros(e.updated)), text(e.by, maxKey)
	was := e.rev
	e.rev = max(was+1, t.now().UnixMicro()) // never one that an earlier row of the name had
	var n int64
	var err error
	if was == 0 {
		if err := t.room(what, most, `SELECT count(*) FROM `+table); err != nil {
			return e, err
		}
		n, err = t.exec(what, `INSERT INTO `+table+` (name, config, updated, by, rev) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			e.name, bytesOf(e.config), micros(e.updated), e.by, e.rev)
	} else {
		n, err = t.exec(what, `UPDATE `+table+` SET config = $2, updated = $3, by = $4, rev = $5 WHERE name = $1 AND rev = $6`,
			e.name, bytesOf(e.config), micros(e.updated), e.by, e.rev, was)
	}
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: %w", what, ErrConflict)
	}
	t.changed = true
	return e, err
}

func (t *Tx) edits(table string) ([]edited, error) {
	return list(t, "read "+table, func(t *Tx, rows *sql.Rows) (edited, error) {
		var e edited
		var updated int64
		err := t.scan(rows, &e.name, &e.config, &updated, &e.by, &e.rev)
		e.updated = timeOf(updated)
		return e, err
	}, `SELECT name, config, updated, by, rev FROM `+table+` ORDER BY name`)
}

// PutPerson writes p where it has the Rev of what is there (0: nothing) and returns it
// with its new one; else ErrConflict.
func (t *Tx) PutPerson(p Person) (Person, error) {
	e, err := t.put("people", MaxPeople, edited{p.Name, p.Config, p.Updated, p.By, p.Rev})
	return Person{e.name, e.config, e.updated, e.by, e.rev}, err
}

// DeletePerson takes away the person's row, and nothing else of theirs.
func (t *Tx) DeletePerson(name string) error {
	t.changed = true
	return t.remove("delete a person", `DELETE FROM people WHERE name = $1`, name)
}

// People are all, by name.
func (t *Tx) People() ([]Person, error) {
	all, err := t.edits("people")
	people := make([]Person, 0, len(all))
	for _, e := range all {
		people = append(people, Person{e.name, e.config, e.updated, e.by, e.rev})
	}
	return people, err
}

// PutTarget is PutPerson for targets.
func (t *Tx) PutTarget(p Target) (Target, error) {
	e, err := t.put("targets", MaxTargets, edited{p.Name, p.Config, p.Updated, p.By, p.Rev})
	return Target{e.name, e.config, e.updated, e.by, e.rev}, err
}

// DeleteTarget takes away the target's row; its grants are the caller's to end.
func (t *Tx) DeleteTarget(name string) error {
	t.changed = true
	return t.remove("delete a target", `DELETE FROM targets WHERE name = $1`, name)
}

// Targets are all, by name.
func (t *Tx) Targets() ([]Target, error) {
	all, err := t.edits("targets")
	targets := make([]Target, 0, len(all))
	for _, e := range all {
		targets = append(targets, Target{e.name, e.config, e.updated, e.by, e.rev})
	}
	return targets, err
}

// PutDisabled disables somebody; who is disabled already stays so since then.
func (t *Tx) PutDisabled(d Disabled) error {
	const what = "disable a person"
	if err := key("person", d.Person); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if d.At.IsZero() {
		d.At = t.now()
	}
	t.changed = true
	_, err := t.exec(what, `INSERT INTO disabled (person, at, by, why) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		d.Person, micros(d.At), text(d.By, maxKey), text(d.Why, maxText))
	return err
}

// DeleteDisabled enables somebody.
func (t *Tx) DeleteDisabled(person string) error {
	t.changed = true
	return t.remove("enable a person", `DELETE FROM disabled WHERE person = $1`, person)
}

// Disabled are all who are, by name.
func (t *Tx) Disabled() ([]Disabled, error) {
	return list(t, "read who is disabled", scanDisabled, `SELECT person, at, by, why FROM disabled ORDER BY person`)
}

// IsDisabled reports whether somebody is.
func (t *Tx) IsDisabled(person string) (bool, error) {
	n, err := one(t, "read who is disabled", scanInt, `SELECT count(*) FROM disabled WHERE person = $1`, person)
	return n > 0, err
}

func scanDisabled(t *Tx, rows *sql.Rows) (d Disabled, err error) {
	var at int64
	err = t.scan(rows, &d.Person, &at, &d.By, &d.Why)
	d.At = timeOf(at)
	return d, err
}
