// Package trial changes what could lock somebody out: plan, preflight, arm,
// confirm or revert. A rule set on trial judges packets only while a timed
// element lives in the kernel, so no crash of ours leaves it in force. A flow:
// the daemon wires it; it imports mechanisms and values only.
package trial

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"sekisho/internal/firewall"
	"sekisho/internal/prefixset"
)

// Options is what Trials are made of. Firewall and Dir are needed.
type Options struct {
	Firewall firewall.Firewall
	Dir      string // holds firewall.json, the confirmed snapshot, and firewall.pending.json
	Logger   *slog.Logger
	// Alive reports whether the connection from peer is still open; nil: it is.
	Alive func(ctx context.Context, peer netip.AddrPort) (bool, error)
	// Swapped is called when another rule set is in force for good: once the kernel
	// holds it and the snapshot is on the disk, or the disk would not take it (Settle
	// tries again). From then on it is the one to Ensure.
	Swapped func(Snapshot)
}

// Trials makes the trials of one host, one at a time. Safe for concurrent use.
type Trials struct {
	fw      firewall.Firewall
	disk    disk
	log     *slog.Logger
	alive   func(context.Context, netip.AddrPort) (bool, error)
	swapped func(Snapshot)

	mu      sync.Mutex
	current *trial // under way; nil: none

	work    sync.Mutex // held by one of Recover, Settle, Run; it guards what follows, the disk, and which rule sets the kernel holds
	settled bool       // what follows is known
	inForce Snapshot   // confirmed, as far as we know
	unsaved bool       // inForce is not on the disk
	highest uint32     // generation that was ever used, as far as we know
}

// New makes Trials; nothing is touched before Recover.
func New(o Options) *Trials {
	t := &Trials{fw: o.Firewall, disk: disk{dir: o.Dir}, log: o.Logger, alive: o.Alive, swapped: o.Swapped}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.alive == nil {
		t.alive = func(context.Context, netip.AddrPort) (bool, error) { return true, nil }
	}
	if t.swapped == nil {
		t.swapped = func(Snapshot) {}
	}
	return t
}

// Request is a rule set to be tried.
type Request struct {
	Rules     firewall.Rules
	Countries prefixset.Set
	Within    time.Duration    // for confirmation: MinWithin to MaxWithin
	Sessions  []netip.AddrPort // logged in when it began: a confirm from them proves nothing
	NoWait    bool             // force: confirmed without proof once the kernel holds it
	ByHand    bool             // no login confirms by itself: its asker may be shut out, and others come in
	By        string           // who asks
}

// Stage is how far a trial has come.
type Stage string

// The stages.
const (
	Loading   Stage = "loading"
	Armed     Stage = "armed"
	Login     Stage = "login" // a new login came through; it is watched for a few seconds
	Confirmed Stage = "confirmed"
	Reverted  Stage = "reverted"
)

// Event is a step of a trial.
type Event struct {
	Stage      Stage     `json:"stage"`
	Generation uint32    `json:"generation"`
	Until      time.Time `json:"until,omitzero"` // Armed, Login: when the kernel reverts
	By         string    `json:"by,omitempty"`   // what confirmed or reverted it, for people; Login: whose; Armed once more: why a login proved nothing
	// Warning is what is wrong in spite of all: confirmed, but not on the disk.
	Warning string `json:"warning,omitempty"`
}

// Current is the last event of the trial under way; ok is false where there is none.
func (t *Trials) Current() (e Event, ok bool) {
	if tr := t.underWay(); tr != nil {
		e = tr.last()
		return e, e.Stage != ""
	}
	return Event{}, false
}

func (t *Trials) underWay() *trial {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current
}

// ErrBusy is Run's error while another trial is under way.
var ErrBusy = errors.New("another trial is under way")

// ErrNone is the error of Confirm and Revert where no trial is under way.
var ErrNone = errors.New("no trial is under way")

// ErrOver is the error of a confirmation that comes too late: the rules before are
// in force again.
var ErrOver = errors.New("the trial is over")

// ErrUnsaved is the error of a rule set that is confirmed and in force, but not on
// the disk: a reboot would bring back the one before.
var ErrUnsaved = errors.New("in force, but not on the disk")

// Error is an error that also says what to do about it.
type Error struct {
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }
