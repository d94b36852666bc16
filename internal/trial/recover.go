package trial

import (
	"context"
	"errors"
	"fmt"

	"sekisho/internal/firewall"
)

const unsaved = "the confirmed rule set is in force, but not on the disk; a reboot would bring back the one before"

// Recover settles what an earlier process left: a rule set that the kernel holds
// as confirmed while the disk still says pending is written down as confirmed, any
// other pending one is put away. It returns the confirmed snapshot, which the
// caller puts in force with Ensure. A snapshot that cannot be read is an error that
// names the file and what to do; nothing is changed then.
//
// Killed before the kernel's Confirm, or rebooted before the file's rename: the
// rules before. Killed after the kernel's Confirm: the new ones.
func (t *Trials) Recover(ctx context.Context) (Snapshot, error) {
	if !t.work.TryLock() {
		return Snapshot{}, busy()
	}
	defer t.work.Unlock()
	if _, err := t.settle(ctx); errors.Is(err, ErrUnsaved) {
		t.log.Error(unsaved, "generation", t.inForce.Generation, "error", err)
	} else if err != nil {
		return Snapshot{}, fmt.Errorf("recover the confirmed rule set: %w", err)
	}
	return t.inForce, nil
}

// Settle writes down a rule set that was confirmed when the disk would not take
// it, or whose file somebody took away or damaged since: until then a reboot brings
// back the one before, or none. nil where there is none, or
// a trial is under way; else its error wraps ErrUnsaved. To be called every minute
// or so.
func (t *Trials) Settle(context.Context) error {
	if !t.work.TryLock() {
		return nil // a trial settles before it begins
	}
	defer t.work.Unlock()
	if !t.settled || t.inForce.Generation == 0 {
		return nil
	}
	if s, err := t.disk.read(confirmedFile); !t.unsaved && err == nil && s.Generation == t.inForce.Generation {
		return nil
	}
	if !t.unsaved {
		t.log.Warn("the confirmed rule set is not on the disk any more; writing it down again", "generation", t.inForce.Generation)
	}
	return t.save()
}

// settle brings the disk to what the kernel holds. Its error wraps ErrUnsaved where
// only writing failed. The caller holds t.work.
func (t *Trials) settle(ctx context.Context) (firewall.Standing, error) {
	confirmed, err := t.disk.read(confirmedFile)
	if err != nil {
		return firewall.Standing{}, err
	}
	standing, err := t.fw.Standing(ctx)
	if err != nil {
		return standing, fmt.Errorf("ask the kernel which rule sets it holds: %w", err)
	}
	pending, err := t.disk.read(pendingFile)
	if err != nil && standing.Confirmed != 0 && standing.Confirmed != confirmed.Generation && standing.Confirmed != t.inForce.Generation {
		return standing, err // it may be what the kernel holds
	}
	if err != nil {
		t.log.Warn("the pending rule set cannot be read; the kernel does not hold it as confirmed, and it is put away", "error", err)
	}
	reverted, err := t.disk.read(revertedFile)
	if err != nil {
		t.log.Warn("the reverted rule set cannot be read; nothing needs it", "error", err)
	}
	t.settled = true
	t.highest = max(t.highest, confirmed.Generation, pending.Generation, reverted.Generation, standing.Confirmed, standing.Staged)

	switch {
	case pending.Generation > confirmed.Generation && pending.Generation == standing.Confirmed:
		// We ended between the kernel's Confirm and the rename.
		t.inForce = pending
		return standing, t.save()
	case t.inForce.Generation > confirmed.Generation:
		// The disk would not take it, or somebody took the file away.
		return standing, t.save()
	}
	if standing.Confirmed != 0 && standing.Confirmed != confirmed.Generation {
		t.log.Warn("the kernel holds a rule set that the disk knows nothing of; the disk's is the confirmed one",
			"kernel", standing.Confirmed, "disk", confirmed.Generation)
	}
	t.inForce, t.unsaved = confirmed, false
	if err := t.disk.shelve(); err != nil {
		t.log.Warn("a rule set that was not confirmed stays on the disk; no boot loads it", "error", err)
	}
	return standing, nil
}

// save writes down what is in force. The caller holds t.work.
func (t *Trials) save() error {
	t.unsaved = true
	if err := t.disk.confirm(t.inForce); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsaved, err)
	}
	t.unsaved = false
	return nil
}
