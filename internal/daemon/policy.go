package daemon

import (
	"slices"

	"sekisho/internal/config"
	"sekisho/internal/guard"
)

// PolicyOf is the guard's policy that a configuration asks for. The daemon adds
// this host's own addresses to Never; `explain` judges with it as it is.
func PolicyOf(cfg *config.Config) guard.Policy {
	g := cfg.Guard
	mode, err := guard.ParseMode(g.Mode.String())
	if err != nil { // config knows no other words
		panic(err)
	}
	p := guard.DefaultPolicy()
	p.Mode = mode
	p.DryRun = !g.Enforce
	p.MaxRetry, p.FindTime, p.BanTime = g.MaxRetry, g.FindTime, g.BanTime
	p.Growth = guard.Growth(g.Growth)
	p.IPv4Bits, p.IPv6Bits = g.Prefix.IPv4, g.Prefix.IPv6
	p.Escalate = guard.Escalate{Hosts: g.Escalate.Hosts, IPv4Bits: g.Escalate.IPv4, IPv6Bits: g.Escalate.IPv6, Within: g.Escalate.Within}
	p.Known = guard.Known(g.Known)
	p.SpareLive = g.SpareSessions
	p.Weights = g.Weights
	p.MaxSources = g.MaxSources
	p.Never = slices.Concat(cfg.Admins, g.Ignore)
	if !g.Distributed {
		p.Distributed = guard.Distributed{}
	} else if p.Distributed.MaxRetry > p.MaxRetry {
		p.Distributed.MaxRetry = p.MaxRetry
	}
	return p
}
