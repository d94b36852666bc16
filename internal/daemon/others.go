package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sekisho/internal/firewall"
)

// othersEvery is how often it is looked whether another firewall has come up since.
const othersEvery = 5 * time.Minute

// watchOthers tells of other firewalls that close SSH's ports, or rule beside a
// lockdown: they may come up long after apply has looked.
func (d *Daemon) watchOthers(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.armed:
	}
	every := time.NewTicker(othersEvery)
	defer every.Stop()
	for {
		d.lookAtOthers(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}

// othersOf is what of the other firewalls bears on rules.
func othersOf(ctx context.Context, fw firewall.Firewall, rules firewall.Rules, peers []netip.Addr) (firewall.Others, error) {
	others, err := fw.Others(ctx, rules.Ports, peers)
	if !rules.NoTrack {
		others.Blocks = slices.DeleteFunc(others.Blocks, func(b firewall.Block) bool { return b.Untracked })
	}
	return others, err
}

func (d *Daemon) lookAtOthers(ctx context.Context) {
	d.mu.Lock()
	fw, kept, rules := d.fw, d.kept, d.snapshot.Rules
	d.mu.Unlock()
	if kept != keepState || len(rules.Ports) == 0 {
		d.solved("others")
		return
	}
	others, err := othersOf(ctx, fw, rules, nil)
	if err != nil {
		if ctx.Err() == nil && d.rarely("others") {
			d.log.Warn("other firewalls of this host cannot be looked at", "error", err)
		}
		return
	}
	for _, b := range others.Blocks {
		if b.Certain {
			d.problem("others", fmt.Sprintf("%s drops new connections to port %d of SSH (%s), whatever our rules say", b.Where, b.Port, b.Rule), "open it there: "+b.Remedy)
			return
		}
	}
	if rules.Mode == firewall.ModeLockdown && len(others.Managers) > 0 {
		m := others.Managers[0]
		d.problem("others", fmt.Sprintf("%s is active (%s) beside a lockdown: what one lets in the other may drop", m.Name, m.How), fmt.Sprintf("end it: %s, or set firewall.mode: guard, then `sekisho apply`", m.Stop))
		return
	}
	d.solved("others")
}
