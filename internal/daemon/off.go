package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

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
	return errors.Join(f.Sync(), f.Close(), syncDir(dir))
}

// markOn takes the marker away.
func markOn(dir string) error {
	if err := os.Remove(filepath.Join(dir, offMarker)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// takeDown is what off does to disk and kernel. The marker comes first: killed
// halfway, the next boot brings nothing back.
func takeDown(ctx context.Context, dir string, fw firewall.Firewall) error {
	if err := markOff(dir); err != nil {
		return &Error{fmt.Errorf("note that the firewall is off: %w", err), "mend the state directory; nothing was changed"}
	}
	if err := fw.Remove(ctx); err != nil {
		return err
	}
	return trial.Forget(dir)
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
	if err := takeDown(ctx, d.opts.StateDir, d.fw); err != nil {
		return err
	}
	d.mu.Lock()
	d.snapshot, d.want.Ruleset = trial.Snapshot{}, firewall.Ruleset{}
	d.trials = d.newTrials() // what they knew is gone
	d.recovered = false
	d.mu.Unlock()
	d.solved("snapshot")
	d.log.Warn("the firewall is off: no rule and no ban of ours is in force", "by", who)
	return nil
}
