package ledger

import (
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sekisho/internal/gate/api"
)

const grantColumns = `id, target, person, prefix, state, asked, opened, until, ended, length, why, reason, approver, break_glass,
	via, source, rule, foreign_rule, in_force, error, tries, owner, claimed, cut, door, rev`

func (g *Grant) row() []any {
	return []any{g.ID, g.Target, g.Person, g.Prefix.String(), string(g.State), micros(g.Asked), micros(g.Opened), micros(g.Until), micros(g.Ended),
		g.Length.Microseconds(), g.Why, g.Reason, g.Approver, bit(g.Break), string(g.Via), addrText(g.From), g.Rule, bit(g.Foreign), bit(g.InForce),
		g.Error, int64(g.Tries), g.Owner, micros(g.Claimed), bit(g.Cut), g.Where, g.Rev}
}

func scanGrant(t *Tx, rows *sql.Rows) (g Grant, err error) {
	var prefix, from string
	var asked, opened, until, ended, length, claimed int64
	err = t.scan(rows, &g.ID, &g.Target, &g.Person, &prefix, (*string)(&g.State), &asked, &opened, &until, &ended,
		&length, &g.Why, &g.Reason, &g.Approver, &g.Break, (*string)(&g.Via), &from, &g.Rule, &g.Foreign, &g.InForce,
		&g.Error, &g.Tries, &g.Owner, &claimed, &g.Cut, &g.Where, &g.Rev)
	if err != nil {
		return g, err
	}
	g.Asked, g.Opened, g.Until, g.Ended, g.Claimed = timeOf(asked), timeOf(opened), timeOf(until), timeOf(ended), timeOf(claimed)
	g.Length = time.Duration(length) * time.Microsecond
	if g.Prefix, err = netip.ParsePrefix(prefix); err != nil {
		return g, t.fail(fmt.Errorf("%w: grant %q: %q is not a prefix", ErrCorrupt, g.ID, prefix))
	}
	g.From, err = t.addrOf(from)
	return g, err
}

// kept is the grant as it will be read again.
func (g Grant) kept() (Grant, error) {
	if err := errors.Join(key("id", g.ID), key("target", g.Target), key("person", g.Person)); err != nil {
		return g, err
	}
	switch g.State {
	case api.Waiting, api.Asked, api.Open, api.Ending, api.Ended:
	default:
		return g, fmt.Errorf("%w: state %q", ErrInvalid, g.State)
	}
	if !g.Prefix.IsValid() || g.Prefix != g.Prefix.Masked() {
		return g, fmt.Errorf("%w: prefix %s", ErrInvalid, g.Prefix)
	}
	for _, t := range []*time.Time{&g.Asked, &g.Opened, &g.Until, &g.Ended, &g.Claimed} {
		*t = timeOf(micros(*t))
	}
	g.Length = g.Length.Truncate(time.Microsecond)
	g.From = g.From.WithZone("")
	g.Via = api.Via(text(string(g.Via), maxKey))
	for _, s := range []*string{&g.Why, &g.Reason, &g.Rule, &g.Error, &g.Where} {
		*s = text(*s, maxText)
	}
	for _, s := range []*string{&g.Approver, &g.Owner} {
		*s = text(*s, maxKey)
	}
	return g, nil
}

// PutGrant adds a grant and returns it as it is kept, with Rev 1. ErrConflict where a live
// one of the same person, target and prefix is there, or one of the same id was.
func (t *Tx) PutGrant(g Grant) (Grant, error) {
	const what = "write a grant"
	g, err := g.kept()
	if err != nil {
		return g, fmt.Errorf("%s: %w", what, err)
	}
	g.Rev = 1
	n, err := t.exec(what, `INSERT INTO grants (`+grantColumns+`) VALUES
		($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26) ON CONFLICT DO NOTHING`, g.row()...)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: %w", what, ErrConflict)
	}
	t.changed = true
	return g, err
}

// UpdateGrant writes a grant over the one that has its Rev, and returns it with the next;
// else ErrConflict. Its id, target, person and prefix stay, and one that has ended stays
// so.
func (t *Tx) UpdateGrant(g Grant) (Grant, error) {
	const what = "change a grant"
	g, err := g.kept()
	if err != nil {
		return g, fmt.Errorf("%s: %w", what, err)
	}
	n, err := t.exec(what, `UPDATE grants SET state = $5, asked = $6, opened = $7, until = $8, ended = $9, length = $10, why = $11, reason = $12,
		approver = $13, break_glass = $14, via = $15, source = $16, rule = $17, foreign_rule = $18, in_force = $19, error = $20, tries = $21, owner = $22,
		claimed = $23, cut = $24, door = $25, rev = rev + 1
		WHERE id = $1 AND target = $2 AND person = $3 AND prefix = $4 AND rev = $26 AND (state <> 'ended' OR $5 = 'ended')`, g.row()...)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: %w", what, ErrConflict)
	}
	g.Rev++
	t.changed = true
	return g, err
}

// Grant is the one of that id, live or ended.
func (t *Tx) Grant(id string) (Grant, error) {
	return one(t, "read a grant", scanGrant, `SELECT `+grantColumns+` FROM grants WHERE id = $1`, id)
}

// Live are all live grants, in the order in which they were asked for.
func (t *Tx) Live() ([]Grant, error) {
	return list(t, "read the live grants", scanGrant, `SELECT `+grantColumns+` FROM grants WHERE state <> 'ended' ORDER BY asked, id`)
}

// LiveOf are a person's live grants.
func (t *Tx) LiveOf(person string) ([]Grant, error) {
	return list(t, "read a person's grants", scanGrant, `SELECT `+grantColumns+` FROM grants WHERE person = $1 AND state <> 'ended' ORDER BY asked, id`, person)
}

// LiveOn are a target's live grants.
func (t *Tx) LiveOn(target string) ([]Grant, error) {
	return list(t, "read a target's grants", scanGrant, `SELECT `+grantColumns+` FROM grants WHERE target = $1 AND state <> 'ended' ORDER BY asked, id`, target)
}

// LiveAt is the live grant of a person at a target for a prefix.
func (t *Tx) LiveAt(person, target string, prefix netip.Prefix) (Grant, error) {
	return one(t, "read a live grant", scanGrant, `SELECT `+grantColumns+` FROM grants WHERE person = $1 AND target = $2 AND prefix = $3 AND state <> 'ended'`,
		person, target, prefix.String())
}

// CountLive is how many live grants a person and a target have.
func (t *Tx) CountLive(person, target string) (ofPerson, onTarget int, err error) {
	const what = "count the live grants"
	p, err := one(t, what, scanInt, `SELECT count(*) FROM grants WHERE person = $1 AND state <> 'ended'`, person)
	if err != nil {
		return 0, 0, err
	}
	n, err := one(t, what, scanInt, `SELECT count(*) FROM grants WHERE target = $1 AND state <> 'ended'`, target)
	return int(p), int(n), err
}

// GrantsSince are the grants, live or ended, that were asked for since then, the newest
// first, at most limit.
func (t *Tx) GrantsSince(since time.Time, limit int) ([]Grant, error) {
	return list(t, "read the grants", scanGrant, `SELECT `+grantColumns+` FROM grants WHERE asked >= $1 ORDER BY asked DESC, id DESC LIMIT $2`,
		micros(since), int64(max(limit, 0)))
}
