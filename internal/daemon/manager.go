package daemon

import (
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// tellSystemd tells systemd; without it nothing happens (sd_notify(3)).
func tellSystemd(state string) { _, _ = systemd.SdNotify(false, state) }

// notifyReloading is what Type=notify-reload asks for: the state and the time.
func notifyReloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
		tellSystemd(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
	}
}

// heartbeat feeds systemd's watchdog as long as the guard can be had: a daemon
// that hangs is started again, and reads on where it was.
func (d *Daemon) heartbeat(ctx context.Context) error {
	every, err := systemd.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return nil
	}
	beats := time.NewTicker(every / 3)
	defer beats.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-beats.C:
			bans := d.stats().Bans // waits for ever where the guard hangs: then no beat
			tellSystemd(fmt.Sprintf("WATCHDOG=1\nSTATUS=%d bans in force", bans))
		}
	}
}
