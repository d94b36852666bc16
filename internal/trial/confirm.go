package trial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sekisho/internal/printable"
)

// Confirm confirms the trial under way, asked for by the session whose client is
// peer: it must have come through the trial's rules, unless force is set. Its
// error says why not, with what to do; one that wraps ErrUnsaved says that it is
// confirmed all the same.
func (t *Trials) Confirm(ctx context.Context, peer netip.AddrPort, force bool, by string) error {
	tr := t.underWay()
	if tr == nil {
		return &Error{ErrNone, "begin one: sekisho apply"}
	}
	if stage := tr.last().Stage; stage == "" || stage == Loading {
		return &Error{errors.New("the rules are still being loaded"), "log in anew, in another terminal, once they are armed, and type it there"}
	}
	peer = plain(peer)
	by = printable.Text(by)
	switch {
	case force:
		return tr.confirm(ctx, by+", by force")
	case !peer.IsValid():
		return tr.noProof("this is no SSH session")
	case peer.Addr().IsLoopback():
		return tr.noProof("this session comes from this machine itself")
	}
	if _, before := tr.before[peer]; before {
		return tr.noProof("this session was there before the trial")
	}
	switch seen, err := t.seen(ctx, peer); {
	case err != nil:
		return &Error{fmt.Errorf("the kernel does not say whether this session came through the rules on trial: %w", err), tr.again()}
	case !seen:
		return tr.noProof("this session did not come through the rules on trial, or did so more than five minutes ago")
	}
	return tr.confirm(ctx, fmt.Sprintf("%s, in the session from %s port %d", by, peer.Addr(), peer.Port()))
}

// confirm asks Run's goroutine to confirm.
func (tr *trial) confirm(ctx context.Context, by string) error {
	answer := make(chan error, 1)
	if tr.ask(ctx, ask{confirm: by, answer: answer}) {
		return <-answer
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if e := tr.last(); e.Stage == Reverted {
		return &Error{fmt.Errorf("%w: it was reverted a moment before by %s", ErrOver, e.By), "sekisho apply tries the rules again"}
	}
	return nil // confirmed by somebody else, a moment before
}

// Revert ends the trial under way at once.
func (t *Trials) Revert(ctx context.Context, by string) error {
	tr := t.underWay()
	if tr == nil {
		return &Error{ErrNone, "the confirmed rules are in force"}
	}
	tr.callOff(&called{printable.Text(by)})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-tr.over:
	}
	if e := tr.last(); e.Stage == Confirmed {
		return &Error{errors.New("it was confirmed a moment before by " + e.By), "put the former settings into the configuration file again, and run sekisho apply"}
	}
	return tr.failure
}

// noProof is the error of a confirmation from a session that proves nothing.
func (tr *trial) noProof(why string) error {
	return &Error{
		errors.New(why + ": it does not prove that one can still log in"),
		fmt.Sprintf("log in anew, in another terminal, and type it there: %s (or --force)", tr.remaining()),
	}
}

// again is the hint to try once more.
func (tr *trial) again() string { return "try again: " + tr.remaining() }

func (tr *trial) remaining() string {
	left := max(0, time.Until(tr.end()).Truncate(time.Second))
	return fmt.Sprintf("%d seconds are left", left/time.Second)
}

// late is the error of a confirmation that came when it was over.
func (tr *trial) late() error {
	return &Error{fmt.Errorf("%w: its time was up, and the rules before are in force again", ErrOver), "sekisho apply tries them again"}
}
