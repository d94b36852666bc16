package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
)

func offCommand(g *globals) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "off",
		Short: "Take every rule and ban of ours out of the kernel, until the next apply",
		Long: "Remove the table `inet sekisho` from the kernel, and the confirmed rule set from the state directory: nothing is\n" +
			"loaded at the next boot either. The daemon goes on reading and telling, but drops nobody. `sekisho apply` ends it.\n" +
			"Asked twice on a terminal; elsewhere --yes is needed.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			u := newUI(g)
			if !yes {
				if err := askOff(cmd.Context(), u); err != nil {
					return err
				}
			}
			var reply daemon.Reply
			err := newClient(g).post(cmd.Context(), "off", struct{}{}, &reply)
			if errors.Is(err, errSilent) {
				log := slog.New(slog.NewTextHandler(g.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
				err = aloneError(daemon.Off(cmd.Context(), g.daemonOptions(log)))
				reply = daemon.Reply{OK: true, Text: "off: nothing of ours is in the kernel; `sekisho apply` puts rules in force again"}
			}
			if err != nil {
				return err
			}
			return tellReply(g, reply)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// askOff asks twice, and the second time for something else than yes.
func askOff(ctx context.Context, u *ui) error {
	if !u.interactive() {
		return &exitError{exitUsage, withHint(errors.New("this takes all protection away, and there is nobody to ask"), "if you mean it: sekisho off --yes")}
	}
	if !u.agreed(ctx, "Take every rule and every ban of ours away? SSH is then open to whomever other firewalls let in.") {
		return errors.New("nothing was changed")
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "off"
	}
	if u.ask(ctx, fmt.Sprintf("To be sure that it is this host: type %s:", name)) != name {
		return errors.New("nothing was changed")
	}
	return nil
}
