// Package top is the live screen of a host: Model, which takes in what happens and
// draws lines of text, and touches nothing; and Run, which shows it on a terminal.
// Only it imports bubbletea. Package cli gives it the Host to look at.
package top

import (
	"context"
	"net/netip"
	"time"

	"sekisho/internal/daemon"
	"sekisho/internal/hardening"
)

// Host is what is looked at and acted on. What its methods return may hold text that
// others wrote. Their errors may be an *Error, which says what to do.
type Host interface {
	Look(ctx context.Context, find string) (Look, error)
	// Why is everything that is known of an address, for people, in lines.
	Why(ctx context.Context, addr netip.Addr) ([]string, error)
	// These return what was done, for people.
	Ban(ctx context.Context, p netip.Prefix) (string, error)
	Unban(ctx context.Context, p netip.Prefix) (string, error)
	EndGrant(ctx context.Context, p netip.Prefix) (string, error)
}

// Look is a host at a moment.
type Look struct {
	daemon.LiveReply
	SSHD *hardening.Pending `json:"sshd_trial"` // what is on trial of sshd; null: nothing, or only root sees it
}

// Error is an error that says what to do about it.
type Error struct {
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Options say how the screen is drawn.
type Options struct {
	Name   string // of the host
	Colour bool
	ASCII  bool // the terminal takes no UTF-8
	Now    func() time.Time
}

const (
	lookEvery  = time.Second
	lookWithin = 5 * time.Second  // a look that takes longer has failed
	actWithin  = 30 * time.Second // and so has an act
	tellFor    = 8 * time.Second  // what an act came to is told so long
	maxTyped   = 100              // characters

	// A smaller terminal shows nothing but that it is too small.
	minWidth, minHeight = 40, 10
)
