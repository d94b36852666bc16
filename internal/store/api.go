// Package store keeps a host's state in one SQLite file: bans, grants and
// their history, log positions, logins, daily counts. It is the only package that
// imports a database driver.
package store

import (
	"net/netip"
	"time"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// Effects is everything that a stretch of log came to, committed as one
// transaction with the position after it.
type Effects struct {
	Positions map[string][]byte // source name → JSON of its position
	Bans      []lease.Lease     // begun
	Unbans    []Unban           // lifted by hand
	Grants    []lease.Lease     // begun
	Revokes   []Revoke          // grants taken back by hand
	Counts    []Count           // to add to the daily counts
	Logins    []sshlog.Login
}

// Unban is a ban lifted by hand; the guard forgets what it counted before At.
type Unban struct {
	Prefix netip.Prefix
	At     time.Time
	By     string
}

// Revoke is a grant taken back by hand.
type Revoke struct {
	Prefix netip.Prefix
	At     time.Time
	By     string
}

// ending is an Unban or a Revoke.
type ending = struct {
	Prefix netip.Prefix
	At     time.Time
	By     string
}

// Count is what a day's counts grow by.
type Count struct {
	Day      string     // "2006-01-02", local time of the host
	Source   netip.Addr // masked as the guard counts it; invalid: sources past the bound, summed
	User     string     // "" where unknown or past the bound
	Country  string     // ISO code, "" where unknown
	Kind     string     // sshlog.Kind's word
	Lines    int
	Attempts int
}
