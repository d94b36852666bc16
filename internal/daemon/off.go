package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"sekisho/internal/durable"
	"sekisho/internal/firewall"
	"sekisho/internal/trial"
)

// offMarker in the state directory keeps boot and daemon from arming.
const offMarker = "off"

// isOff reports whether `sekisho off` was the last word.
func isOff(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, offMarker))
	return err == nil
}

// markOff writes the marker so that a crash does not undo it.
func markOff(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, offMarker), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), durable.SyncDir(dir))
}

// markOn takes the marker away.
func markOn(dir string) error {
	if err := os.Remove(filepath.Join(dir, offMarker)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return durable.SyncDir(dir)
}

// takeDown is what off does to disk and kernel; gone: nothing of ours is in the
// kernel. The marker comes first: killed halfway, the next boot brings nothing back.
// A disk that cannot be written keeps nobody locked out: the kernel's rules go all
// the same.
func takeDown(ctx context.Context, dir string, fw firewall.Firewall) (gone bool, err error) {
	err = markOff(dir)
	if rerr := fw.Remove(ctx); rerr != nil {
		return false, errors.Join(rerr, err)
	}
	if err = errors.Join(err, trial.Forget(dir)); err != nil {
		return true, &Error{
			fmt.Errorf("nothing of ours is in the kernel any more, but that could not be written down: %w", err),
			"the next boot, reload or restart may bring the rules back: mend " + dir + ", then `sekisho off` again",
		}
	}
	return true, nil
}

// Off takes our table and the confirmed rule set away until the next apply. Bans go
// on being decided, and are put in force by it.
func (d *Daemon) Off(ctx context.Context, who string) error {
	if err := d.endTrial(ctx, "sekisho off, asked for by "+who); err != nil {
		d.log.Warn("a trial ended otherwise", "error", err)
	}
	d.reloading.Lock() // no reload arms meanwhile
	defer d.reloading.Unlock()
	if d.onTrial() {
		return refuse(http.StatusConflict, "sekisho revert", "%w", trial.ErrBusy)
	}
	d.rules.Lock()
	defer d.rules.Unlock()
	if err := d.openKernel(ctx); err != nil {
		return err
	}
	d.setKept(keepNothing, false) // first, or the repair would bring it back
	gone, err := takeDown(ctx, d.opts.StateDir, d.fw)
	if !gone {
		return err
	}
	d.mu.Lock()
	d.snapshot, d.want.Ruleset = trial.Snapshot{}, firewall.Ruleset{}
	d.trials = d.newTrials() // what they knew is gone
	d.recovered = false
	d.mu.Unlock()
	d.solved("snapshot")
	d.log.Warn("the firewall is off: no rule and no ban of ours is in force", "by", who)
	return err
}
