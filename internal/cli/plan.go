package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
	"sekisho/internal/sshd"
	"sekisho/internal/trial"
)

func planCommand(g *globals) *cobra.Command {
	var about scope
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would change, and what speaks against it",
		Long: "Show how the rule set that the configuration file asks for differs from the one in force, whom it would lock out, and\n" +
			"which other firewall stands in the way; and which lines of sshd's configuration would change, and what that changes.\n" +
			"Where it names targets: how the rules of their security groups differ from people's fixed addresses.\n" +
			"Nothing is changed. Who is not root does not see all of sshd's.\n" +
			"The exit code is 0 where nothing would change, 2 where something would, 1 for every error.",
		Example: `  sekisho plan
  sekisho plan --groups`,
		Args: func(cmd *cobra.Command, args []string) error { return failureOf(usageArgs(cobra.NoArgs)(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.plan(cmd.Context(), about)
		},
	}
	scopeFlags(cmd, &about)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withHint(err, "see '"+cmd.CommandPath()+" --help'")
	})
	return cmd
}

// planView is a plan of both parts, as JSON.
type planView struct {
	*hostPlan
	Groups *groupsView `json:"groups,omitempty"`
}

func (g *globals) plan(ctx context.Context, about scope) error {
	u := newUI(g)
	about, err := about.settled(g, u)
	if err != nil {
		return failureOf(err)
	}
	own := ownSession(ctx)
	changes := false
	var view planView
	if about.host {
		host, err := planHost(ctx, g, own)
		if err != nil {
			return failureOf(err)
		}
		view.hostPlan = &host
		changes = !host.empty()
		if !g.json {
			host.tell(u, own)
		}
	}
	var failed error
	if about.groups {
		c, plan, groups, err := g.groupsPlan(ctx, u, own)
		if err != nil {
			return failureOf(err)
		}
		view.Groups = &groups
		changes = changes || !plan.Empty()
		if !g.json {
			if about.host {
				u.line("")
			}
			u.groups(c, groups)
		}
		failed = failureOf(c.failures(u, plan.Failed))
	}
	if g.json {
		if err := u.json(view); err != nil {
			return failureOf(err)
		}
	}
	if failed == nil && changes {
		return &exitError{exitChanges, errChanges}
	}
	return failed
}

// failureOf gives err the exit code 1, whatever it had: here 2 means something else.
func failureOf(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitFailure, err}
}

// daemonOptions are for what is done without a daemon.
func (g *globals) daemonOptions(log *slog.Logger) daemon.Options {
	return daemon.Options{Load: g.load, ConfigPath: g.configPath, StateDir: g.stateDir, Socket: g.socket, Version: version, Stdin: g.stdin, Logger: log}
}

// aloneError adds to what went wrong without a daemon what to do now.
func aloneError(err error) error {
	if h, ok := errors.AsType[*daemon.Error](err); ok {
		return withHint(err, h.Hint)
	}
	if h, ok := errors.AsType[*trial.Error](err); ok {
		return withHint(err, h.Hint)
	}
	if h, ok := errors.AsType[*sshd.Error](err); ok && h.Hint != "" {
		return withHint(err, h.Hint)
	}
	if errors.Is(err, os.ErrPermission) {
		return withHint(err, "use sudo")
	}
	return err
}

// printRules tells what changes in the settings, then in the rules.
func printRules(u *ui, p daemon.PlanReply) {
	switch {
	case len(p.Changes) == 0:
		u.line("nothing would change: " + inForce(p.Now))
	case p.Now == 0:
		u.line("no rule set is in force, only bans; the first would be:")
	default:
		u.line(fmt.Sprintf("rule set %d would take the place of %d:", p.Next, p.Now))
	}
	if len(p.Settings) > 0 {
		u.heading("settings")
		for _, c := range p.Settings {
			u.change("  ", c)
		}
	}
	chain := ""
	for _, c := range p.Changes {
		if c.Chain != chain {
			chain = c.Chain
			u.heading("chain " + chain)
		}
		u.change("  "+signs[c.Op]+" ", c)
	}
}

// printConcerns tells what is to be thought of before the rules are tried.
func printConcerns(u *ui, p daemon.PlanReply, own session) {
	if len(p.Changes) > 0 {
		tellOwn(u, p, own)
	}
	for _, w := range p.Warnings {
		u.warn(w.What, w.Remedy)
	}
	for _, b := range p.Blocks {
		does := "drops"
		if !b.Certain {
			does = "may drop"
		}
		u.warn(fmt.Sprintf("another firewall %s new connections to port %d: %s: %s", does, b.Port, b.Where, b.Rule), b.Remedy)
	}
	for _, r := range p.Refusals {
		u.refusal(r)
	}
}

// tellOwn says whether whoever reads this could come in again. Where that would be
// refused, the refusal says it.
func tellOwn(u *ui, p daemon.PlanReply, own session) {
	switch {
	case own.old.IsValid():
		u.warn(fmt.Sprintf("this shell was begun from %s, and that connection is over (tmux, screen): whether you could come in again is not known", own.old),
			"run it in a shell of the session that you are logged in with")
	case !own.peer.IsValid():
		u.line("this is no SSH session: there is no address of yours to be let in")
	case !slices.ContainsFunc(p.Refusals, func(r trial.Refusal) bool { return r.Peer == own.peer.Addr() }):
		u.line(fmt.Sprintf("you are logged in from %s, which would be let in", own.peer.Addr()))
	}
}

func inForce(generation uint32) string {
	if generation == 0 {
		return "there is no rule set, only bans"
	}
	return fmt.Sprintf("rule set %d is as the configuration asks", generation)
}

// heading begins a part of what the command tells.
func (u *ui) heading(s string) { fmt.Fprintln(u.g.stdout, paint(u.colorOut, bold, sanitize(s))) }

// signs are how the lines of a plan begin.
var signs = map[trial.Op]string{trial.Add: "+", trial.Remove: "-", trial.Modify: "~"}

// change prints one line of a plan.
func (u *ui) change(begin string, c trial.Change) {
	style := map[trial.Op]string{trial.Add: green, trial.Remove: red, trial.Modify: yellow}[c.Op]
	fmt.Fprintln(u.g.stdout, paint(u.colorOut, style, begin+sanitize(c.Text)))
}

// refusal prints whom the rules would lock out, or what else forbids them.
func (u *ui) refusal(r trial.Refusal) {
	who := ""
	if r.Peer.IsValid() {
		who = fmt.Sprintf("%s would be locked out: ", r.Peer)
	}
	u.refused(who+r.Rule, r.Hint)
}
