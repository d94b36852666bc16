package ledger

import "time"

// How long what is over is kept.
const (
	keepGrants    = 400 * 24 * time.Hour
	keepOnce      = 7 * 24 * time.Hour // so that its owner can be told that it is over
	keepInstances = 24 * time.Hour
	keepNonces    = time.Hour // by the clock of who prunes, which may be ahead of the others'
	pruneAtOnce   = 1000      // rows of a table: a transaction stays short
)

// Prune forgets what has been over for long, and reports whether there is more of it. The
// audit is never pruned.
func (t *Tx) Prune(now time.Time) (more bool, err error) {
	for _, p := range []struct {
		what, query string
		before      time.Time
	}{
		{"forget old grants", `DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE state = 'ended' AND ended < $1 ORDER BY ended LIMIT $2)`, now.Add(-keepGrants)},
		{"forget old sessions", `DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE until < $1 ORDER BY until LIMIT $2)`, now},
		{"forget old one-time tokens", `DELETE FROM once WHERE (kind, key) IN (SELECT kind, key FROM once WHERE until < $1 LIMIT $2)`, now.Add(-keepOnce)},
		{"forget old nonces", `DELETE FROM nonces WHERE key IN (SELECT key FROM nonces WHERE until < $1 ORDER BY until LIMIT $2)`, now.Add(-keepNonces)},
		{"forget old instances", `DELETE FROM instances WHERE name IN (SELECT name FROM instances WHERE until < $1 LIMIT $2)`, now.Add(-keepInstances)},
	} {
		n, err := t.exec(p.what, p.query, micros(p.before), int64(pruneAtOnce))
		if err != nil {
			return false, err
		}
		more = more || n == pruneAtOnce
	}
	return more, nil
}
