package daemon

import (
	"slices"

	"sekisho/internal/config"
	"sekisho/internal/firewall"
)

// RulesOf is the rule set that a configuration asks for, canonical. Pure.
func RulesOf(cfg *config.Config) firewall.Rules {
	f := cfg.Firewall
	r := firewall.Rules{
		Mode:      firewall.Mode(f.Mode),
		Ports:     cfg.SSH.Ports,
		Exposure:  firewall.Exposure(cfg.Exposure),
		Admins:    cfg.Admins,
		Countries: firewall.Countries{Allow: f.Countries.Allow, Deny: f.Countries.Deny},
		Rate:      firewall.Rate{PerMinute: f.Rate.PerMinute, Burst: f.Rate.Burst},
		NoTrack:   !f.Track,
		NoIPv6:    !f.IPv6,
	}
	if r.Exposure != firewall.ExposurePublic {
		// Nobody is asked for his country or counted: what is written there waits for
		// the day of another exposure, and makes no difference until then.
		r.Countries, r.Rate = firewall.Countries{}, firewall.Rate{}
	}
	if r.Rate.PerMinute == 0 {
		r.Rate = firewall.Rate{}
	}
	if r.Mode == firewall.ModeLockdown {
		r.Forward = f.Forward
		for _, s := range f.Open {
			r.Open = append(r.Open, firewall.Service{Proto: s.Proto, First: s.First, Last: s.Last, From: s.From})
		}
	}
	return r.Canonical()
}

// stateOf is what the kernel is to hold: the bans' part as cfg has it, the rules as
// they were confirmed. Bans name every port that either of them calls SSH's.
func stateOf(cfg *config.Config, set firewall.Ruleset) firewall.State {
	ports := slices.Concat(cfg.SSH.Ports, set.Rules.Ports)
	slices.Sort(ports)
	return firewall.State{Ports: slices.Compact(ports), SSHOnly: cfg.Guard.Drop == config.DropSSH, Ruleset: set}
}

// sameBans reports whether two states treat banned peers alike.
func sameBans(a, b firewall.State) bool {
	return slices.Equal(a.Ports, b.Ports) && a.SSHOnly == b.SSHOnly
}
