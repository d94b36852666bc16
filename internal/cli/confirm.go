package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
)

func confirmCommand(g *globals) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: "Confirm the rules on trial, from a login that came through them",
		Long: "Make the rule set on trial the one in force. It must be typed in an SSH session that was opened after the trial began:\n" +
			"one that was there before proves nothing. With --force it is taken without a proof, for example at a console.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			own := ownSession(cmd.Context())
			var reply daemon.Reply
			if err := newClient(g).post(cmd.Context(), "confirm", daemon.ConfirmRequest{Peer: own.peer, Force: force}, &reply); err != nil {
				return noTrialHolder(err)
			}
			return tellReply(g, reply)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "without a proof that somebody still gets in")
	return cmd
}

func revertCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "revert",
		Short: "End the trial under way: back to the rules before, at once",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply daemon.Reply
			if err := newClient(g).post(cmd.Context(), "revert", struct{}{}, &reply); err != nil {
				return noTrialHolder(err)
			}
			return tellReply(g, reply)
		},
	}
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
