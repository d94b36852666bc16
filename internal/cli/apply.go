package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/hardening"
	"sekisho/internal/sshlog"
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
		Long: "Show the plan, then put what the configuration file asks for on trial, for as long as --within says: the rule set, from which\n" +
			"the kernel goes back by itself, even where this program and the daemon are killed; and sshd's settings and ports, which\n" +
			"a timer puts back. A new SSH login that comes through the new rules, and by the new port, confirms them, or\n" +
			"`sekisho confirm` typed in such a login. A move of the port takes two trials: the old port closes in the second.\n" +
			"Where it names targets, people's fixed addresses are then put into their security groups: what lets in comes first, what shuts\n" +
			"out last, and what would shut you out is refused.\n" +
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
			return a.all(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&within, "within", "60s", "how long there is to confirm, a `DURATION` such as 3m")
	cmd.Flags().BoolVar(&a.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&a.request.Force, "force", false, "also where it would lock somebody out")
	cmd.Flags().BoolVar(&a.request.NoWait, "no-wait", false, "confirm at once, without a proof that somebody still gets in")
	scopeFlags(cmd, &a.about)
	return cmd
}

// application is one run of the command.
type application struct {
	g       *globals
	yes     bool
	about   scope
	request daemon.ApplyRequest
}

// all applies what the command is about: this host first, then the groups.
func (a *application) all(ctx context.Context) error {
	u := newUI(a.g)
	about, err := a.about.settled(a.g, u)
	if err != nil {
		return err
	}
	if about.host {
		if err := a.run(ctx); err != nil {
			return err
		}
	}
	if about.groups {
		if about.host && !a.g.json {
			u.line("")
		}
		return a.applyGroups(ctx, u, ownSession(ctx))
	}
	return nil
}

// mostSteps is how many trials one apply makes: the rules alone where sshd has both
// ports already, sshd's new port, and the end of its old one.
const mostSteps = 3

func (a *application) run(ctx context.Context) error {
	own := ownSession(ctx)
	u := newUI(a.g)
	for step := range mostSteps {
		plan, err := planHost(ctx, a.g, own)
		if err == nil {
			if a.g.json {
				err = u.json(&plan)
			} else {
				plan.tell(u, own)
			}
		}
		switch {
		case err != nil:
			return err
		case plan.needsRoot:
			return withHint(errors.New("sshd is changed by root alone: nothing was changed"), "use sudo")
		case plan.empty():
			return nil
		case plan.refused() && !a.request.Force && step == 0:
			return withHint(errors.New("refused: nothing was changed"), "do as the hints say; if you can come in another way, use --force")
		case plan.refused() && !a.request.Force:
			return withHint(errors.New("refused: what was confirmed so far stays"), "do as the hints say, then `sekisho apply` goes on; if you can come in another way, use --force")
		}
		if step == 0 {
			if err := a.agree(ctx, u, &plan); err != nil {
				return err
			}
		}
		if err := a.try(ctx, u, own, &plan); err != nil || !plan.another() {
			return err
		}
		if !a.g.json {
			u.line("")
		}
	}
	return withHint(errors.New("it was confirmed, and still more is to do"), "see what: sekisho plan")
}

// agree asks, once, where somebody can be asked.
func (a *application) agree(ctx context.Context, u *ui, plan *hostPlan) error {
	if a.yes || !u.interactive() {
		return nil
	}
	question := fmt.Sprintf("Try this for %s?", shortDuration(a.request.Within))
	switch {
	case a.request.NoWait:
		question = "Put this in force without a trial?"
	case plan.another():
		question = fmt.Sprintf("Try this for %s, and once it is confirmed close what sshd leaves, for as long?", shortDuration(a.request.Within))
	}
	if !u.agreed(ctx, question) {
		return errors.New("nothing was changed")
	}
	return nil
}

// try makes the trials of one step.
func (a *application) try(ctx context.Context, u *ui, own session, plan *hostPlan) error {
	request := a.request
	request.Peer, request.Digest, request.Ports = own.peer, plan.Digest, plan.ports
	var err error
	if request.Config, err = filepath.Abs(a.g.configPath); err != nil {
		return err
	}
	view := newTrialView(a.g, u)
	view.forced, view.noWait, view.rules = plan.forced(), a.request.NoWait, len(plan.Changes) > 0
	p := &pair{closing: plan.SSHD.Step == hardening.Close, noWait: a.request.NoWait}
	running, stop := context.WithCancel(ctx)
	defer stop()
	if plan.triesSSHD() {
		if err := a.idle(ctx, plan); err != nil {
			return err
		}
		view.sshd, view.how = &plan.SSHD, loginCommand(own, plan.SSHD)
		request.Hold = p.closing && !p.noWait // else its old port would be open without a rule
		p.sshd = func(ctx context.Context, g *gate, progress func(hardening.Event)) error {
			r := hardening.Request{Within: request.Within, NoWait: p.noWait, ByHand: view.forced, By: whoAmI()}
			r.Logins = func(ctx context.Context, tell func(sshlog.Login)) error {
				return g.follow(ctx, plan.logins.follow, tell)
			}
			return plan.host.Try(ctx, plan.SSHD, r, progress)
		}
	}
	if p.sshd != nil || plan.alone {
		// Its trial lives in this process, which goes on without a terminal, for a new
		// login may still confirm it; only an interrupt or SIGTERM ends it, and reverts.
		gone := make(chan os.Signal, 1)
		signal.Notify(gone, syscall.SIGHUP, syscall.SIGPIPE)
		defer signal.Stop(gone)
	}
	c := newClient(a.g)
	// A daemon holds the trial of the rules: what ends us does not end that, unless it
	// is asked to.
	going := context.WithoutCancel(ctx)
	post := func(path string, body any) error {
		asking, cancel := context.WithTimeout(going, revertWithin)
		defer cancel()
		return c.post(asking, path, body, new(daemon.Reply))
	}
	p.confirmRules = func(peer netip.AddrPort) error { return post("confirm", daemon.ConfirmRequest{Peer: peer}) }
	revert := func() error { return nil } // the end of running does it
	switch {
	case !view.rules:
	case plan.alone:
		out := newLogWriter(view.live)
		defer out.close()
		log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
		trying, callOff := context.WithCancel(running)
		defer callOff()
		p.rules = func(progress func(trial.Event)) error {
			return aloneError(daemon.Apply(trying, a.g.daemonOptions(log), request, whoAmI(), progress))
		}
		p.revertRules = func() error { callOff(); return nil }
	default:
		p.rules = func(progress func(trial.Event)) error { return c.try(going, request, progress) }
		p.revertRules = func() error { return post("revert", struct{}{}) }
		revert = p.revertRules
	}
	return view.follow(ctx.Done(), func(progress func(event)) error { return p.run(running, progress) }, revert)
}

// idle makes sure that no other trial of sshd is under way. One whose time is over, and
// whose guardian did not come, is reverted.
func (a *application) idle(ctx context.Context, plan *hostPlan) error {
	if err := plan.host.Expire(ctx, false); err != nil {
		return fmt.Errorf("revert the trial of sshd before: %w", aloneError(err))
	}
	pending, ok, err := plan.host.Pending(ctx)
	if err != nil || !ok {
		return aloneError(err)
	}
	return withHint(fmt.Errorf("%w, until %s, begun by %s", hardening.ErrBusy, pending.Until.Local().Format(time.TimeOnly), pending.By), "wait for its end, or: sekisho revert")
}

// whoAmI is this user's name.
func whoAmI() string {
	if account, err := user.Current(); err == nil {
		return account.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// loginCommand is how whoever typed this logs in by the port that p is about; "" where
// nobody can tell.
func loginCommand(own session, p hardening.Plan) string {
	ports := without(p.Wanted, p.Now)
	if len(ports) == 0 {
		ports = p.Wanted
	}
	if !own.here.IsValid() || len(ports) == 0 {
		return ""
	}
	name := os.Getenv("SUDO_USER") // through su it is root's session that is known, not whose
	if name == "" {
		name = whoAmI()
	}
	return fmt.Sprintf("ssh -p %d %s@%s", ports[0], name, own.here.Addr())
}
