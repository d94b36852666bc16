package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/trial"
)

// revertWithin is for asking the daemon to go back.
const revertWithin = 10 * time.Second

func applyCommand(g *globals) *cobra.Command {
	a := &application{g: g}
	var within string
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Try what the configuration asks for; it reverts by itself unless confirmed",
		Long: "Show the plan, then put the rule set that the configuration file asks for on trial: it judges for as long as --within\n" +
			"says, and the kernel goes back to the rules before by itself, even where this program and the daemon are killed.\n" +
			"A new SSH login that comes through the new rules confirms them, or `sekisho confirm` typed in such a login.\n" +
			"Ctrl-C goes back at once. Where no daemon runs, this command guards the host for as long as the trial takes.\n" +
			"The exit code is 0 where it was confirmed or nothing was to do, 1 where it was refused or reverted.",
		Example: `  sekisho apply
  sekisho apply --within 3m
  sekisho apply --yes --no-wait      # a new machine that nobody uses yet`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := config.ParseDuration(within)
			if err != nil || d < trial.MinWithin || d > trial.MaxWithin {
				return &exitError{exitUsage, withHint(fmt.Errorf("a trial of %q cannot be", within), fmt.Sprintf("give --within from %s to %s, for example 90s", shortDuration(trial.MinWithin), shortDuration(trial.MaxWithin)))}
			}
			a.request.Within = d
			return a.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&within, "within", "60s", "how long there is to confirm")
	cmd.Flags().BoolVar(&a.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&a.request.Force, "force", false, "also where it would lock somebody out")
	cmd.Flags().BoolVar(&a.request.NoWait, "no-wait", false, "confirm at once, without a proof that somebody still gets in")
	return cmd
}

// application is one run of the command.
type application struct {
	g       *globals
	yes     bool
	request daemon.ApplyRequest
}

func (a *application) run(ctx context.Context) error {
	own := ownSession(ctx)
	plan, alone, err := hostPlan(ctx, a.g, own)
	if err != nil {
		return err
	}
	u := newUI(a.g)
	if a.g.json {
		err = u.json(plan)
	} else {
		printPlan(u, plan, own)
	}
	switch {
	case err != nil:
		return err
	case len(plan.Changes) == 0:
		return nil
	case forbidden(plan) && !a.request.Force:
		return withHint(errors.New("refused: nothing was changed"), "do as the hints say; if you can come in another way, use --force")
	}
	if !a.yes && u.interactive() {
		question := fmt.Sprintf("Try this for %s?", shortDuration(a.request.Within))
		if a.request.NoWait {
			question = "Put this in force without a trial?"
		}
		if !u.agreed(ctx, question) {
			return errors.New("nothing was changed")
		}
	}
	a.request.Peer, a.request.Digest = own.peer, plan.Digest
	if a.request.Config, err = filepath.Abs(a.g.configPath); err != nil {
		return err
	}
	view := newTrialView(a.g, u)
	view.forced, view.noWait = len(plan.Refusals) > 0, a.request.NoWait
	if alone {
		return a.alone(ctx, view)
	}
	c := newClient(a.g)
	// The daemon holds the trial: what ends us does not end it, unless it is asked to.
	going := context.WithoutCancel(ctx)
	return view.follow(ctx.Done(), func(progress func(trial.Event)) error {
		return c.try(going, a.request, progress)
	}, func() error {
		asking, cancel := context.WithTimeout(going, revertWithin)
		defer cancel()
		return c.post(asking, "revert", struct{}{}, new(daemon.Reply))
	})
}

// forbidden reports whether the daemon will refuse the plan unless it is forced.
func forbidden(p daemon.PlanReply) bool {
	return len(p.Refusals) > 0 || slices.ContainsFunc(p.Blocks, func(b daemon.BlockStatus) bool { return b.Certain })
}

// alone is the trial where no daemon runs: this process is one meanwhile. It goes
// on without a terminal, for a new login may still confirm it; only an interrupt
// or SIGTERM ends it, and that reverts.
func (a *application) alone(ctx context.Context, view *trialView) error {
	gone := make(chan os.Signal, 1)
	signal.Notify(gone, syscall.SIGHUP, syscall.SIGPIPE)
	defer signal.Stop(gone)
	out := newLogWriter(view.live)
	defer out.close()
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	who := fmt.Sprintf("uid %d", os.Getuid())
	if account, err := user.Current(); err == nil {
		who = account.Username
	}
	return view.follow(ctx.Done(), func(progress func(trial.Event)) error {
		return aloneError(daemon.Apply(ctx, a.g.daemonOptions(log), a.request, who, progress))
	}, func() error { return nil }) // ctx has ended: it reverts by itself
}
