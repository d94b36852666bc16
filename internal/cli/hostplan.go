package cli

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/hardening"
)

// hostPlan is what the next step of apply would change on this host: the firewall's
// part, which a daemon holds where one runs, and sshd's, which is ours.
type hostPlan struct {
	daemon.PlanReply
	SSHD hardening.Plan `json:"sshd"`

	alone bool     // no daemon runs
	ports []uint16 // of SSH, whose rules they are; nil: ssh.port's
	// rulesFirst: sshd waits for another step. It leaves its old port only where the
	// rules in force let the new one in, or a trial of them that ends a moment before
	// sshd's would leave no way in.
	rulesFirst bool
	unseen     string // why sshd's part is not known; "": it is
	needsRoot  bool   // because the asker is not root
	host       *hardening.Host
	logins     loginSource
}

// planHost finds out what apply would change next. The configuration is read here too:
// its mistakes are told with their places.
func planHost(ctx context.Context, g *globals, s session) (p hostPlan, err error) {
	cfg, err := g.load()
	switch {
	case err == nil:
		err = p.planSSHD(ctx, g, cfg, s)
	case errors.Is(err, os.ErrPermission): // the daemon reads it
		p.SSHD, p.unseen, err = leftAlone("the configuration could not be read"), "the configuration file may not be read", nil
	}
	if err != nil {
		return p, err
	}
	p.SSHD = withoutNull(p.SSHD)
	if p.SSHD.Unmanaged == "" && !cfg.SSH.PortSet && len(without(p.SSHD.Now, cfg.SSH.Ports)) > 0 {
		// The file names no port, and sshd stays where it is: so do the rules. Else its port
		// would be unguarded or, in lockdown, shut.
		p.ports = union(cfg.SSH.Ports, p.SSHD.Now)
	}
	if p.SSHD.Unmanaged == "" && cfg.SSH.PortSet {
		p.ports = p.SSHD.Wanted
		if !p.SSHD.Empty() {
			p.ports = p.SSHD.Next
		}
	}
	if p.SSHD.Step == hardening.Close {
		both := union(p.SSHD.Now, p.SSHD.Wanted)
		if p.PlanReply, p.alone, err = planRules(ctx, g, s, both); err != nil {
			return p, err
		}
		if len(p.Changes) > 0 {
			p.ports, p.rulesFirst = both, true
			return p, nil
		}
	}
	p.PlanReply, p.alone, err = planRules(ctx, g, s, p.ports)
	return p, err
}

// planSSHD finds out sshd's part of the plan.
func (p *hostPlan) planSSHD(ctx context.Context, g *globals, cfg *config.Config, s session) (err error) {
	p.logins = loginSource{daemon.LogSpecs(cfg.Log)}
	if p.host, err = g.sshdHost(slog.New(slog.DiscardHandler), p.logins); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		p.SSHD = leftAlone(hardening.NothingAsked)
		if hardening.Asks(cfg) {
			p.SSHD, p.unseen, p.needsRoot = leftAlone("only root may look at it"), "only root may look at sshd", true
		}
		return nil
	}
	p.SSHD, err = p.host.Plan(ctx, cfg, s.here.Port())
	return aloneError(err)
}

func leftAlone(why string) hardening.Plan { return hardening.Plan{Unmanaged: why} }

// withoutNull is p with empty lists in place of none, for who reads its JSON.
func withoutNull(p hardening.Plan) hardening.Plan {
	p.Now, p.Wanted, p.Next = orEmpty(p.Now), orEmpty(p.Wanted), orEmpty(p.Next)
	p.Changes, p.Files, p.Exceptions, p.Skipped = orEmpty(p.Changes), orEmpty(p.Files), orEmpty(p.Exceptions), orEmpty(p.Skipped)
	p.Refusals, p.Warnings = orEmpty(p.Refusals), orEmpty(p.Warnings)
	return p
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// sshdHost is this host's sshd under our hand.
func (g *globals) sshdHost(log *slog.Logger, logins loginSource) (*hardening.Host, error) {
	dir, err := filepath.Abs(g.stateDir) // the guardian works in another folder
	if err != nil {
		return nil, err
	}
	return hardening.New(hardening.Options{StateDir: dir, Logger: log, Logins: logins.past}), nil
}

// planRules asks the daemon what apply would change in the rules, for these ports of
// SSH; where none runs it is found out here, and alone is true.
func planRules(ctx context.Context, g *globals, s session, ports []uint16) (plan daemon.PlanReply, alone bool, err error) {
	path, err := filepath.Abs(g.configPath)
	if err != nil {
		return plan, false, err
	}
	query := url.Values{"config": {path}}
	if s.peer.IsValid() {
		query.Set("peer", s.peer.String())
	}
	if len(ports) > 0 {
		query.Set("ports", portList(ports, ","))
	}
	err = newClient(g).get(ctx, "plan", query, &plan)
	if !errors.Is(err, errSilent) {
		return plan, false, err
	}
	plan, err = daemon.Plan(ctx, g.daemonOptions(slog.New(slog.DiscardHandler)), s.peer, ports)
	return plan, true, aloneError(err)
}

// portList writes ports one after the other.
func portList(ports []uint16, between string) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = strconv.Itoa(int(p))
	}
	return strings.Join(words, between)
}

// union are the ports of both, in order.
func union(a, b []uint16) []uint16 {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// triesSSHD reports whether sshd is put on trial in this step.
func (p *hostPlan) triesSSHD() bool { return !p.SSHD.Empty() && !p.rulesFirst }

// empty reports whether all is as declared.
func (p *hostPlan) empty() bool { return len(p.Changes) == 0 && p.SSHD.Empty() }

// another reports whether a further step follows this one.
func (p *hostPlan) another() bool { return p.rulesFirst || p.SSHD.Step == hardening.Open }

// refused reports whether it is not tried unless it is forced.
func (p *hostPlan) refused() bool {
	rules := len(p.Changes) > 0 && (len(p.Refusals) > 0 || slices.ContainsFunc(p.Blocks, func(b daemon.BlockStatus) bool { return b.Certain }))
	return rules || !p.SSHD.Empty() && len(p.SSHD.Refusals) > 0
}

// forced reports whether it is tried in spite of refusals: no login confirms it by
// itself then.
func (p *hostPlan) forced() bool {
	return len(p.Changes) > 0 && len(p.Refusals) > 0 || p.triesSSHD() && len(p.SSHD.Refusals) > 0
}

// tell tells the plan, in the order in which it matters: what changes in the firewall,
// in sshd, then what is to be thought of before.
func (p *hostPlan) tell(u *ui, own session) {
	printRules(u, p.PlanReply)
	printSSHD(u, p)
	concerns := len(p.Changes) + len(p.Refusals) + len(p.Blocks) + len(p.Warnings) + len(p.SSHD.Refusals) + len(p.SSHD.Warnings) + len(p.unseen)
	if concerns > 0 {
		u.line("")
	}
	printConcerns(u, p.PlanReply, own)
	for _, w := range p.SSHD.Warnings {
		u.warn(w.What, w.Hint)
	}
	if p.unseen != "" {
		u.warn(p.unseen+": what would change in sshd is not known", "use sudo")
	}
	for _, r := range p.SSHD.Refusals {
		u.refused(r.What, r.Hint)
	}
}
