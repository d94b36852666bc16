package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
	"sekisho/internal/hardening"
)

func confirmCommand(g *globals) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: "Confirm what is on trial, from a login that came through it",
		Long: "Make the rule set on trial the one in force, and sshd's part of the trial too. It must be typed in an SSH session that\n" +
			"was opened after the trial began, by a port that sshd keeps: one that was there before proves nothing. With --force it\n" +
			"is taken without a proof, for example at a console.",
		Example: `  sekisho confirm
  sekisho confirm --force     # at a console`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			own := ownSession(cmd.Context())
			return g.bothTrials(cmd.Context(), func(ctx context.Context, h *hardening.Host) error {
				return h.Confirm(ctx, own.peer, force, whoAmI())
			}, func(ctx context.Context, reply *daemon.Reply) error {
				return newClient(g).post(ctx, "confirm", daemon.ConfirmRequest{Peer: own.peer, Force: force}, reply)
			}, "confirmed")
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "without a proof that somebody still gets in")
	return cmd
}

func revertCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "revert",
		Short: "End the trial under way: back to what was before, at once",
		Long: "End the trial under way, of rules and of sshd, without waiting for its end: the kernel goes back to the rules before, and\n" +
			"sshd's files are as they were. What was confirmed before stays; where nothing is on trial that is said.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.bothTrials(cmd.Context(), func(ctx context.Context, h *hardening.Host) error {
				return h.Revert(ctx, whoAmI())
			}, func(ctx context.Context, reply *daemon.Reply) error {
				return newClient(g).post(ctx, "revert", struct{}{}, reply)
			}, "reverted: all is as it was before")
		},
	}
}

// bothTrials does the same to both trials under way, and tells it. Where sshd leaves a
// port its part goes first, and the rules' where it gets one: see pair. Where the first
// fails the second is left to its end.
func (g *globals) bothTrials(ctx context.Context, ofSSHD func(context.Context, *hardening.Host) error, ofRules func(context.Context, *daemon.Reply) error, text string) error {
	host, pending, err := g.pendingSSHD(ctx)
	if err != nil {
		newUI(g).fail(err) // the rules' trial is none the worse for it
	}
	var reply daemon.Reply
	if pending == nil {
		if err := ofRules(ctx, &reply); err != nil {
			return noTrialHolder(err)
		}
		return tellReply(g, reply)
	}
	var under daemon.TrialReply
	if err := newClient(g).get(ctx, "trial", nil, &under); err != nil && !errors.Is(err, errSilent) {
		return err
	}
	sshd := func() error { return aloneError(ofSSHD(ctx, host)) }
	acts := []func() error{sshd}
	if under.Trial != nil {
		rules := func() error { return ofRules(ctx, &reply) }
		if acts = []func() error{rules, sshd}; pending.Step == hardening.Close {
			acts = []func() error{sshd, rules}
		}
	}
	for _, act := range acts {
		if err := act(); err != nil {
			return err
		}
	}
	return tellReply(g, daemon.Reply{OK: true, Text: text})
}

// pendingSSHD is the trial of sshd under way; nil: none is, or only root would see it.
func (g *globals) pendingSSHD(ctx context.Context) (*hardening.Host, *hardening.Pending, error) {
	host, err := g.sshdHost(slog.New(slog.DiscardHandler), loginSource{})
	if err != nil {
		return nil, nil, err
	}
	pending, ok, err := host.Pending(ctx)
	switch {
	case errors.Is(err, os.ErrPermission):
		return host, nil, nil
	case err != nil:
		return host, nil, aloneError(err)
	case !ok:
		return host, nil, nil
	}
	return host, &pending, nil
}

// noTrialHolder says that without a daemon there is no trial either: what holds
// one answers on the socket.
func noTrialHolder(err error) error {
	if errors.Is(err, errSilent) {
		return &exitError{exitNoReply, withHint(errors.New("no trial is under way: no daemon runs, and no `sekisho apply`"), "begin one: sekisho apply")}
	}
	return err
}

func tellReply(g *globals, reply daemon.Reply) error {
	u := newUI(g)
	if g.json {
		return u.json(reply)
	}
	u.line(reply.Text)
	return nil
}
