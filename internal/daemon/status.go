package daemon

import (
	"context"
	"net/netip"
	"reflect"

	"golang.org/x/sys/unix"

	"sekisho/internal/config"
	"sekisho/internal/firewall"
)

const (
	banChain = "raw" // where bans are dropped
	tcpSYN   = 0x02
	anyPort  = 50000 // a client's, where it makes no difference
)

// firewallStatus adds what is in force, and what is wrong with that.
func (d *Daemon) firewallStatus(ctx context.Context, fw firewall.Firewall, s *Status) {
	d.mu.Lock()
	kept, snapshot, set, data := d.kept, d.snapshot, d.want.Ruleset, d.countries
	d.mu.Unlock()
	f := FirewallStatus{Off: isOff(d.opts.StateDir), Trial: d.Trial(), Counters: []CounterStatus{}, Applied: d.applied()}
	if kept == keepState && snapshot.Generation != 0 {
		confirmed := snapshot.Confirmed
		f.Generation, f.Mode, f.Exposure = snapshot.Generation, string(snapshot.Rules.Mode), string(snapshot.Rules.Exposure)
		f.Confirmed, f.By = &confirmed, snapshot.By
		if c := snapshot.Rules.Countries; !c.None() {
			f.Countries = &CountryStatus{Allow: c.Allow, Deny: c.Deny, Ranges: len(set.Countries.Ranges()), Source: data.Source, Time: data.Time, Embedded: data.Embedded}
		}
	}
	if kept != keepNothing {
		if counters, err := fw.Counters(ctx); err == nil {
			var banned uint64
			for _, c := range counters {
				f.Counters = append(f.Counters, CounterStatus(c))
				if c.Drops && c.Chain == banChain {
					banned += c.Packets
				}
			}
			if s.Enforcing {
				s.Dropped = &banned
			}
		}
	}
	s.Firewall = f
	switch {
	case f.Off:
		s.Problems = append(s.Problems, problemOf("off", "the firewall is off: bans are decided and told, but nothing is dropped", "sekisho apply puts it in force again"))
		return
	case !s.Enforcing && kept == keepState && f.Generation != 0:
		s.Problems = append(s.Problems, problemOf("dry", "dry run: bans are decided and told, but not put in force; the confirmed rule set is", "set guard.enforce: yes, then `sekisho reload`; or `sekisho off`"))
	case !s.Enforcing:
		s.Problems = append(s.Problems, problemOf("dry", "dry run: bans are decided and told, but nothing is dropped", "set guard.enforce: yes, then `sekisho reload`"))
	}
	if !f.Applied && f.Trial == nil {
		what := "the file asks for another rule set than the one in force: not applied"
		if f.Generation == 0 {
			what = "the file asks for a rule set, and none was ever confirmed: not applied"
		}
		s.Problems = append(s.Problems, problemOf("unapplied", what, "see `sekisho plan`, then `sekisho apply`"))
	}
}

// applied reports whether the file asks for what is in force, as far as it can be
// read. Where nothing was ever confirmed, a file that says nothing of it asks for
// nothing.
func (d *Daemon) applied() bool {
	d.mu.Lock()
	cfg, snapshot := d.cfg, d.snapshot
	d.mu.Unlock()
	if next, err := d.opts.Load(); err == nil {
		cfg = next
	}
	rules := RulesOf(cfg)
	if snapshot.Generation != 0 {
		return reflect.DeepEqual(rules, snapshot.Rules.Canonical())
	}
	if !cfg.Guard.Enforce {
		return true
	}
	silent := *config.Default()
	silent.SSH, silent.Admins = cfg.SSH, cfg.Admins
	return reflect.DeepEqual(rules, RulesOf(&silent))
}

// notApplied is what a reload has to say of the rule set.
func (d *Daemon) notApplied() string {
	if d.applied() || isOff(d.opts.StateDir) {
		return ""
	}
	return "; the file's rule set is not applied: see `sekisho plan`, then `sekisho apply`"
}

// judge asks the rules in force about a new connection from addr to SSH.
func (d *Daemon) judge(state firewall.State, addr netip.Addr) *Verdict {
	if len(state.Ports) == 0 {
		return nil
	}
	port := state.Ports[0]
	if ports := state.Ruleset.Rules.Ports; len(ports) > 0 {
		port = ports[0]
	}
	j := state.Judge(firewall.Packet{From: addr, FromPort: anyPort, ToPort: port, Proto: unix.IPPROTO_TCP, Flags: tcpSYN}, d.live(nil))
	v := &Verdict{Verdict: "unknown", Chain: j.Chain, Rule: j.Rule}
	switch j.Verdict {
	case firewall.Pass:
		v.Verdict = "pass"
	case firewall.Drop:
		v.Verdict = "drop"
	case firewall.Reject:
		v.Verdict = "reject"
	case firewall.Unknown:
	}
	return v
}
