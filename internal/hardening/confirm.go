package hardening

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"sekisho/internal/conntrack"
	"sekisho/internal/printable"
	"sekisho/internal/sshd"
)

// Pending is the trial under way; ok is false where there is none.
func (h *Host) Pending(context.Context) (p Pending, ok bool, err error) {
	st, err := h.load()
	if err != nil || st.Pending == nil {
		return Pending{}, false, err
	}
	q := st.Pending
	return Pending{q.Step, q.Proof, q.Began, q.Until, q.By}, true, nil
}

// Outcome is how the last trial ended that is over; ok is false where there was none.
func (h *Host) Outcome(context.Context) (stage Stage, by string, ok bool, err error) {
	st, err := h.load()
	if err != nil || st.Last == nil {
		return "", "", false, err
	}
	return st.Last.Stage, st.Last.By, true, nil
}

// Confirm confirms the trial under way, from another process. peer is the asker's own
// SSH client, through a connection newer than the trial and by one of its ports, unless
// force says so.
func (h *Host) Confirm(ctx context.Context, peer netip.AddrPort, force bool, by string) error {
	st, err := h.load()
	if err != nil {
		return err
	}
	if st.Pending == nil {
		return ErrNone
	}
	warning, err := h.confirm(ctx, st.Pending.ID, plain(peer), force, printable.Text(by))
	switch {
	case errors.Is(err, errOver):
		return ErrNone
	case err == nil && warning != "":
		h.log.Warn("the trial of sshd is confirmed, but", "warning", warning)
	}
	return err
}

// confirm confirms the trial of that id: one write of the state. errOver: it is over.
func (h *Host) confirm(ctx context.Context, id string, peer netip.AddrPort, force bool, by string) (warning string, err error) {
	c, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	release, err := h.lock(c, false)
	if err != nil {
		return "", err
	}
	defer release()
	st, err := h.mine(id)
	if err != nil {
		return "", err
	}
	p := st.Pending
	if !p.Listening {
		return "", withHint(errors.New("sshd has not taken over what is on trial yet"), "try again in a moment")
	}
	if !force {
		if err := p.proves(c, peer); err != nil {
			return "", withHint(fmt.Errorf("this session proves nothing: %w", err), "log in anew, by "+portWords(p.Proof)+", and run sekisho confirm there; or --force")
		}
	}
	st.confirm(by)
	h.step("confirm")
	if err := h.save(st); err != nil {
		// It may be there all the same: then only a crash of the machine undoes it.
		if st, loadErr := h.load(); loadErr != nil || st.Pending != nil {
			return "", err
		}
		warning = err.Error()
	}
	h.step("confirmed")
	h.log.Info("a change of sshd is confirmed", "step", string(p.Step), "by", by)
	h.disarm(c, p)
	if p.Step == Close {
		h.closed(c, st, p.Next)
	}
	return warning, nil
}

// proves is an error that says why a connection from peer does not show that the trial
// lets people in.
func (p *pending) proves(ctx context.Context, peer netip.AddrPort) error {
	switch {
	case !peer.IsValid():
		return errors.New("it is no SSH session")
	case slices.Contains(p.Sessions, peer):
		return errors.New("it is older than the trial")
	case peer.Addr().IsLoopback() && !p.Loopback:
		// Unless everybody comes through a tunnel that ends on this host: then that is
		// the way in that has to work.
		return errors.New("it comes from this host itself, not by the network")
	}
	alive, err := conntrack.Alive(ctx, peer, p.Proof)
	if err == nil && !alive {
		err = fmt.Errorf("it did not come by %s, or is closed", portWords(p.Proof))
	}
	return err
}

// closed undoes what was prepared for ports that are not used any more.
func (h *Host) closed(ctx context.Context, st *state, ports []uint16) {
	var kept []sshd.Undoing
	for _, u := range st.Undoings {
		if u.Port != 0 && !slices.Contains(ports, u.Port) {
			err := u.Do(ctx)
			if err == nil {
				continue
			}
			h.log.Warn("what was prepared for a port stays, though sshd left it", "port", u.Port, "kind", u.Kind, "error", err)
		}
		kept = append(kept, u)
	}
	if len(kept) == len(st.Undoings) {
		return
	}
	st.Undoings = kept
	if err := h.save(st); err != nil {
		h.log.Warn("what was undone stays written down; undoing it twice is no mistake", "error", err)
	}
}
