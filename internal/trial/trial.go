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
	"time"

	"sekisho/internal/firewall"
	"sekisho/internal/prefixset"
)

// Snapshot is a confirmed rule set as the disk holds it: what the boot loads.
type Snapshot struct {
	Generation uint32         `json:"generation"` // 0: nothing was ever confirmed
	Rules      firewall.Rules `json:"rules"`
	Confirmed  time.Time      `json:"confirmed"`
	By         string         `json:"by"` // what confirmed it: a login, a command, force; printable
}

// Change is one line of a plan.
type Change struct {
	Op    Op     `json:"op"`
	Chain string `json:"chain,omitempty"` // of a rule, without the generation; "" of a setting
	Text  string `json:"text"`            // for people: a rule's comment; "exposure: public -> fixed"
}

// Op is what happens to a line.
type Op string

// The operations.
const (
	Add    Op = "add"
	Remove Op = "remove"
	Modify Op = "modify" // of Settings only: "exposure: public -> fixed"
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
type Trials struct{}

// New makes Trials; nothing is touched before Recover.
func New(o Options) *Trials { return &Trials{} }

// Recover settles what an earlier process left: a rule set that the kernel holds
// as confirmed while the disk still says pending is written down as confirmed, any
// other pending one is dropped. It returns the confirmed snapshot, which the caller
// puts in force with Ensure. A snapshot that cannot be read is an error that names
// the file and what to do; nothing is changed then.
func (t *Trials) Recover(ctx context.Context) (Snapshot, error) { return Snapshot{}, errSoon }

// Settle writes down a rule set that was confirmed when the disk would not take
// it: until then a reboot brings back the one before. nil where there is none;
// else its error wraps ErrUnsaved. To be called every minute or so.
func (t *Trials) Settle(ctx context.Context) error { return nil }

// Load reads the confirmed snapshot in dir, changing nothing; the zero Snapshot
// where nothing was ever confirmed.
func Load(dir string) (Snapshot, error) { return Snapshot{}, errSoon }

// Request is a rule set to be tried.
type Request struct {
	Rules     firewall.Rules
	Countries prefixset.Set
	Within    time.Duration    // for confirmation
	Sessions  []netip.AddrPort // logged in when it began: a confirm from them proves nothing
	NoWait    bool             // force: confirmed without proof once the kernel holds it
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
	Until      time.Time `json:"until,omitzero"` // Armed: when the kernel reverts
	By         string    `json:"by,omitempty"`   // what confirmed or reverted it, for people; Login: whose
	// Warning is what is wrong in spite of all: confirmed, but not on the disk.
	Warning string `json:"warning,omitempty"`
}

// Run tries r: writes it down as pending, stages, arms, and waits until it is
// confirmed or over. Where a first event was told, the last is Confirmed or
// Reverted; a trial that nobody confirmed, or that somebody reverted, is no error.
// An error means that something failed or ctx ended, that the rules before are in
// force (or the kernel goes back to them in time), and why. When ctx ends, it is
// reverted at once. progress is called by one goroutine, one event after the other.
func (t *Trials) Run(ctx context.Context, r Request, progress func(Event)) error { return errSoon }

// Login tells of a successful login, as sshd's log has it. Only one through an
// armed rule set, newer than it, not from loopback, and open for some seconds more,
// confirms.
func (t *Trials) Login(ctx context.Context, user string, peer netip.AddrPort, at time.Time) {}

// Confirm confirms the trial under way, asked for by the session whose client is
// peer: it must have come through the trial's rules, unless force is set. Its
// error says why not, with what to do.
func (t *Trials) Confirm(ctx context.Context, peer netip.AddrPort, force bool, by string) error {
	return errSoon
}

// Revert ends the trial under way at once.
func (t *Trials) Revert(ctx context.Context, by string) error { return errSoon }

// Current is the last event of the trial under way; ok is false where there is none.
func (t *Trials) Current() (e Event, ok bool) { return Event{}, false }

// Diff is what changes when next takes the place of now, in the order of the
// rules. Pure.
func Diff(now, next firewall.State) []Change { return nil }

// Settings is the change from now to next in terms of the configuration file:
// "exposure: public -> fixed", "firewall.open: + 80/tcp". The zero now is a host
// where nothing was confirmed yet. Pure.
func Settings(now, next firewall.Rules) []Change { return nil }

// Refusal is why a rule set must not be tried: whom it would lock out, and by
// which rule.
type Refusal struct {
	Peer netip.Addr `json:"peer"`
	Rule string     `json:"rule"`
	Hint string     `json:"hint"`
}

// Preflight asks for each peer whether next still lets it open a new SSH
// connection, by running the rules. Pure.
func Preflight(next firewall.State, live firewall.Live, peers []netip.Addr) []Refusal { return nil }

var errSoon = errors.New("not there yet")

// ErrBusy is Run's error while another trial is under way.
var ErrBusy = errors.New("another trial is under way")

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
