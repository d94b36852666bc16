package store

import (
	"bytes"
	"net/netip"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// batch is effects that wait, merged: counts summed, positions the latest,
// logins the last of a user from an address.
type batch struct {
	maxCounts, maxBans, maxOthers int // bounds; others: unbans, grants, revokes, logins, rules

	positions map[string][]byte
	bans      []lease.Lease
	onsets    []Onset
	unbans    []Unban
	grants    []lease.Lease
	revokes   []Revoke
	logins    map[loginKey]sshlog.Login
	counts    map[countKey]tally
	rules     []RuleCount
	ruleAt    map[ruleKey]pendingRule // where in rules
	lost      int                     // bans, unbans, grants, revokes and logins past the bounds
}

type loginKey struct {
	addr netip.Addr
	user string
}

type countKey struct {
	day           string
	source        netip.Addr
	user          string
	country, kind string
}

type tally struct{ lines, attempts int }

func (b *batch) empty() bool {
	return len(b.positions)+len(b.bans)+len(b.unbans)+len(b.grants)+len(b.revokes)+len(b.logins)+len(b.counts)+len(b.onsets)+len(b.rules) == 0
}

func (b *batch) add(e Effects) {
	if b.positions == nil {
		b.positions, b.logins, b.counts = map[string][]byte{}, map[loginKey]sshlog.Login{}, map[countKey]tally{}
	}
	for source, position := range e.Positions {
		b.positions[source] = bytes.Clone(position)
	}
	var lost [4]int
	b.bans, lost[0] = appendBounded(b.bans, e.Bans, b.maxBans)
	b.onsets, _ = appendBounded(b.onsets, e.Onsets, b.maxBans)
	b.unbans, lost[1] = appendBounded(b.unbans, e.Unbans, b.maxOthers)
	b.grants, lost[2] = appendBounded(b.grants, e.Grants, b.maxOthers)
	b.revokes, lost[3] = appendBounded(b.revokes, e.Revokes, b.maxOthers)
	b.lost += lost[0] + lost[1] + lost[2] + lost[3]
	for _, l := range e.Logins {
		k := loginKey{l.Addr, l.User}
		old, ok := b.logins[k]
		switch {
		case !ok && len(b.logins) >= b.maxOthers:
			b.lost++
		case !ok || !l.Time.Before(old.Time):
			b.logins[k] = l
		}
	}
	for _, c := range e.Counts {
		k := countKey{c.Day, c.Source, c.User, c.Country, c.Kind}
		t, ok := b.counts[k]
		if !ok && len(b.counts) >= b.maxCounts {
			k.source, k.user = netip.Addr{}, ""
			t = b.counts[k]
		}
		b.counts[k] = tally{t.lines + c.Lines, t.attempts + c.Attempts}
	}
	b.addRules(e.Rules)
}

// appendBounded drops the oldest, a sixteenth at once, where there are too many.
func appendBounded[T any](s, more []T, limit int) ([]T, int) {
	s = append(s, more...)
	if len(s) <= limit {
		return s, 0
	}
	drop := len(s) - limit + limit/16
	return append(s[:0], s[drop:]...), drop
}

func (b *batch) effects() Effects {
	e := Effects{Positions: b.positions, Bans: b.bans, Unbans: b.unbans, Grants: b.grants, Revokes: b.revokes, Onsets: b.onsets, Rules: b.rules}
	for _, l := range b.logins {
		e.Logins = append(e.Logins, l)
	}
	for k, t := range b.counts {
		e.Counts = append(e.Counts, Count{Day: k.day, Source: k.source, User: k.user, Country: k.country, Kind: k.kind, Lines: t.lines, Attempts: t.attempts})
	}
	return e
}
