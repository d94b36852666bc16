// Package store keeps a host's state in one SQLite file: bans, grants and
// their history, log positions, logins, daily counts of events and of the rules. It is the only package that
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
	Onsets    []Onset           // of what brought the bans
	Unbans    []Unban           // lifted by hand
	Grants    []lease.Lease     // begun
	Revokes   []Revoke          // grants taken back by hand
	Counts    []Count           // to add to the daily counts
	Logins    []sshlog.Login
	Rules     []RuleCount // as the kernel tells them
}

// Unban is a ban lifted by hand; the guard forgets what it counted before At.
type Unban struct {
	Prefix netip.Prefix
	At     time.Time
	By     string
}

// Onset is when what brought a ban began.
type Onset struct {
	Prefix netip.Prefix // the ban's
	Begun  time.Time    // the ban's From
	First  time.Time    // the first failure that was seen of its source
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

// RuleCount is what a rule of the kernel's has counted: when it is committed, since
// the rule was written; when it is read, in a day.
type RuleCount struct {
	Day     string // "2006-01-02", local time of the host
	Chain   string
	Rule    string // its words
	Drops   bool
	Packets uint64
	Bytes   uint64
	// Fresh: the rule was written since the rules were read last, so that all is the
	// day's. Else what a rule that was never read before has counted is of days that
	// nobody knows, and is left out. It plays no part where the rule was read before.
	Fresh bool
}
