// Package lease is the verdict on an address with a cause and an end: a ban or
// a grant. Pure values; everything above may import it.
package lease

import (
	"net/netip"
	"time"
)

// Verdict is what a lease says of its prefix. The zero value is invalid.
type Verdict uint8

// The verdicts.
const (
	Deny Verdict = iota + 1
	Allow
)

// Lease is a verdict on a prefix, with a cause, a holder and an end.
type Lease struct {
	Prefix   netip.Prefix // masked, never v4-mapped
	Verdict  Verdict
	Cause    string // machine word: "attempts", "escalation", "distributed", "manual", "gate/" with a grant's id
	Reason   string // for people, one line; never holds unescaped log text
	Holder   string // who made it: "guard", or the operator's account
	From     time.Time
	Until    time.Time // zero: without end
	Attempts int       // what had been counted when it was made
	Count    int       // how many bans this prefix has had, this one included
}

// Live reports whether l is in force at t.
func (l Lease) Live(t time.Time) bool {
	return !t.Before(l.From) && (l.Until.IsZero() || t.Before(l.Until))
}
