package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"sekisho/internal/config"
	"sekisho/internal/firewall"
	"sekisho/internal/trial"
)

// keep is what the daemon does about the kernel's rule set.
type keep uint8

const (
	keepNothing keep = iota // a dry run with nothing confirmed, or off
	keepState               // the kernel is held to Daemon.want
	keepFound               // what was confirmed cannot be read: the kernel's stays as it was found
)

// openKernel opens the kernel's tables for this process, once.
func (d *Daemon) openKernel(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.trials != nil {
		return nil
	}
	if d.fw == nil {
		table, err := lockTable(ctx, d.log)
		if err != nil {
			return err
		}
		fw, err := firewall.NewKernel(firewall.Options{Logger: d.log})
		if err != nil {
			table.Close()
			return &Error{err, "or only watch and tell: guard.enforce: no"}
		}
		d.fw, d.table = fw, table
		close(d.armed)
	}
	d.trials = d.newTrials()
	return nil
}

// putInForce makes the kernel follow cfg: what was confirmed last, and bans unless
// this is a dry run. What cfg says of the rule set itself waits for `apply`.
func (d *Daemon) putInForce(ctx context.Context, cfg *config.Config) error {
	if err := d.keepRules(ctx, cfg); err != nil {
		return err
	}
	return errors.Join(d.enforceAll(ctx), d.grantAll(ctx))
}

func (d *Daemon) keepRules(ctx context.Context, cfg *config.Config) error {
	d.rules.Lock()
	defer d.rules.Unlock()
	if isOff(d.opts.StateDir) {
		d.setKept(keepNothing, false)
		return nil
	}
	if !d.recovered && !cfg.Guard.Enforce {
		// Nothing of the kernel's is needed where nothing is to be put there.
		if snapshot, err := trial.Load(d.opts.StateDir); err == nil && snapshot.Generation == 0 {
			return nil
		}
	}
	if err := d.openKernel(ctx); err != nil {
		return err
	}
	if err := d.recoverRules(ctx); err != nil {
		return d.keepAsFound(ctx, cfg, err)
	}
	d.mu.Lock()
	kept, enforcing, old := d.kept, d.enforcing, d.want
	set := old.Ruleset
	d.mu.Unlock()
	if !cfg.Guard.Enforce && set.Generation == 0 {
		if kept == keepNothing {
			return nil
		}
		d.setKept(keepNothing, false)
		return d.fw.Remove(ctx)
	}
	want := stateOf(cfg, set)
	if kept != keepState || !sameBans(old, want) {
		if d.onTrial() {
			return &Error{errors.New("guard.drop or ssh.port changed during a trial"), "end the trial first: `sekisho confirm` or `sekisho revert`"}
		}
		if err := d.fw.Ensure(ctx, want); err != nil {
			return err
		}
	}
	d.mu.Lock()
	d.want, d.kept, d.enforcing = want, keepState, cfg.Guard.Enforce
	d.mu.Unlock()
	if enforcing && !cfg.Guard.Enforce || kept != keepState && !cfg.Guard.Enforce {
		return d.clearBans(ctx)
	}
	return nil
}

func (d *Daemon) setKept(k keep, enforcing bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept, d.enforcing = k, enforcing
}

// recoverRules learns, once, what was confirmed last.
func (d *Daemon) recoverRules(ctx context.Context) error {
	if d.recovered {
		return nil
	}
	snapshot, err := d.trials.Recover(ctx)
	if err != nil {
		return err
	}
	set, err := d.ruleset(snapshot)
	if err != nil {
		return err
	}
	d.recovered = true
	d.solved("snapshot")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.snapshot, d.want.Ruleset = snapshot, set
	return nil
}

// keepAsFound guards without a word about the rule set, which must not become worse
// for our not knowing what it should be. Only a table that holds none is ours to make.
func (d *Daemon) keepAsFound(ctx context.Context, cfg *config.Config, unreadable error) error {
	d.problem("snapshot", "the confirmed rule set cannot be read; what the kernel holds is left as it is: "+unreadable.Error(),
		"mend or remove the file and restart; without it there are bans only until `sekisho apply`")
	d.log.Error("the confirmed rule set cannot be read; what the kernel holds is left as it is", "error", unreadable)
	standing, err := d.fw.Standing(ctx)
	if err != nil {
		return fmt.Errorf("%w; and the kernel cannot be asked: %w", unreadable, err)
	}
	want := stateOf(cfg, firewall.Ruleset{})
	if cfg.Guard.Enforce && standing.Confirmed == 0 && standing.Staged == 0 {
		if err := d.fw.Ensure(ctx, want); err != nil {
			return err
		}
	}
	d.mu.Lock()
	d.want, d.kept, d.enforcing = want, keepFound, cfg.Guard.Enforce
	d.mu.Unlock()
	return nil
}

// ruleset is a confirmed snapshot with the addresses of its countries.
func (d *Daemon) ruleset(s trial.Snapshot) (firewall.Ruleset, error) {
	addrs, err := addressesOf(d.countryData(), s.Rules.Countries)
	if err != nil {
		return firewall.Ruleset{}, err
	}
	return firewall.Ruleset{Generation: s.Generation, Rules: s.Rules, Countries: addrs}, nil
}

// clearBans takes all bans out of the kernel, which keeps its rules.
func (d *Daemon) clearBans(ctx context.Context) error {
	var prefixes []netip.Prefix
	if err := d.fw.Bans(ctx, func(b firewall.Ban) error { prefixes = append(prefixes, b.Prefix); return nil }); err != nil {
		return err
	}
	for chunk := range slices.Chunk(prefixes, enforceChunk) {
		if err := d.fw.Unban(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

// swapped is called by the trials when another rule set is in force for good.
func (d *Daemon) swapped(s trial.Snapshot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.snapshot = s
	d.want.Ruleset = firewall.Ruleset{Generation: s.Generation, Rules: s.Rules}
	if t := d.trying; t != nil && reflect.DeepEqual(t.rules.Countries, s.Rules.Countries) {
		d.want.Ruleset.Countries = t.countries // as the kernel has them, older than d.countries or not
	} else {
		// The trial before, of which it is known only now how it ended.
		var err error
		if d.want.Ruleset.Countries, err = addressesOf(d.countries, s.Rules.Countries); err != nil {
			d.log.Error("the addresses of the countries in force are not known", "error", err)
		}
	}
	d.engine.SetPolicy(d.policy(d.cfg)) // who is an administrator now
	d.log.Info("another rule set is in force", "generation", s.Generation, "mode", s.Rules.Mode, "exposure", s.Rules.Exposure, "confirmed_by", s.By)
}
