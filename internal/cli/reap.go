package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/landlock"
	"sekisho/internal/securitygroup"
	"sekisho/internal/systemd"
)

func reapCommand(g *globals) *cobra.Command {
	var every string
	cmd := &cobra.Command{
		Use:   "reap",
		Short: "Take every rule of ours away whose lease has ended",
		Long: "Look through all accounts and regions of the configuration for rules of ours that nobody needs any more, going by their own tags\n" +
			"and by AWS's clock, and take them away. It needs no state, may run anywhere, and several may run at once. Rules that are not\n" +
			"ours are not touched. The exit code is 1 where something is left that should be gone, or could not be looked at.",
		Example: `  sekisho reap
  sekisho reap --every 1m      # for ever`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var wait time.Duration
			if every != "" {
				var err error
				if wait, err = config.ParseDuration(every); err != nil || wait < time.Second {
					return &exitError{exitUsage, withHint(fmt.Errorf("%q is not a time between two looks", every), "give --every from 1s up, for example 1m")}
				}
			}
			c, err := g.cloud("")
			if err != nil {
				return err
			}
			c.role = access.RoleReaper
			if len(c.Places()) == 0 {
				return &exitError{exitUsage, withHint(fmt.Errorf("%s names no place to look at", g.configPath), "name targets, or the `regions` of an account of aws.accounts")}
			}
			if systemd.IsService() {
				landlock.Confine(g.debugLog(), true) // AWS's credentials may come from a program
			}
			for {
				err := c.reap(cmd.Context())
				if wait == 0 {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return err
				case <-time.After(wait):
				}
			}
		},
	}
	cmd.Flags().StringVar(&every, "every", "", "look again and again, each `DURATION`")
	return cmd
}

func (c *inCloud) reap(ctx context.Context) error {
	u := newUI(c.g)
	r := c.Reap(ctx, c.Places())
	ended := c.failures(u, r.Failed)
	if len(r.Left) > 0 && ended == nil {
		ended = &exitError{exitFailure, errTold}
	}
	if c.g.json {
		return errors.Join(u.json(r), ended)
	}
	for _, e := range r.Revoked {
		u.line(fmt.Sprintf("%s %s: %s no longer lets in %s: %s", e.Place, e.Group, e.Rule, e.Lets, e.Why))
	}
	for _, e := range r.Left {
		u.warn(leftText(e), "take it away by hand: "+e.Revoking())
		if e.Err() != nil && securitygroup.IsDenied(e.Err()) {
			u.fail(c.explain(e.Err()))
		}
	}
	if len(r.Revoked)+len(r.Left)+len(r.Failed) == 0 {
		u.line(fmt.Sprintf("nothing has ended; %s in use", plural(r.Live, "rule")))
	}
	return ended
}

func leftText(e access.Ended) string {
	text := fmt.Sprintf("%s %s: %s still lets in %s, though %s", e.Place, e.Group, e.Rule, e.Lets, e.Why)
	if !e.Since.IsZero() {
		text += " (" + clockTime(e.Since) + ")"
	}
	return text + ": " + e.Error
}
