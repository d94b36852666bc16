package cli

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/printable"
)

func bansCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "bans",
		Short: "List the bans in force",
		Long:  "List who is banned, for how long yet, and why. `sekisho why ADDR` tells all of one of them.",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var bans []daemon.Ban
			if err := newClient(g).get(cmd.Context(), "bans", nil, &bans); err != nil {
				return err
			}
			u := newUI(g)
			if g.json {
				return u.json(bans)
			}
			if len(bans) == 0 {
				u.line("nobody is banned")
				return nil
			}
			now := time.Now()
			rows := [][]string{{"PREFIX", "LEFT", "ATTEMPTS", "BANS", "CAUSE", "REASON"}}
			for _, b := range bans {
				rows = append(rows, []string{printable.Prefix(b.Prefix), left(b, now), fmt.Sprint(b.Attempts), fmt.Sprint(b.Count), b.Cause, sanitize(b.Reason)})
			}
			u.table(rows)
			return nil
		},
	}
}

func banCommand(g *globals) *cobra.Command {
	var duration, reason string
	var force bool
	cmd := &cobra.Command{
		Use:   "ban ADDR",
		Short: "Ban an address or a prefix by hand",
		Long: "Ban an address or a prefix, as the guard does, at once. Admins are never banned, nor, without --force, an address from which\n" +
			"somebody is logged in. `sekisho unban` ends it.",
		Example: `  sekisho ban 203.0.113.7
  sekisho ban 203.0.113.0/24 --for 7d --reason "scans us"
  sekisho ban 2001:db8::/48 --for forever`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := parsePrefix(args[0])
			if err != nil {
				return err
			}
			if !force {
				if err := notOneself(cmd.Context(), p, "if you can come in another way, use --force"); err != nil {
					return err
				}
			}
			q := daemon.BanRequest{Prefix: p, Reason: reason, Force: force}
			switch duration {
			case "":
			case "forever":
				q.For = -1
			default:
				if q.For, err = config.ParseDuration(duration); err != nil || q.For <= 0 {
					return &exitError{exitUsage, withHint(fmt.Errorf("%q is not a duration", duration), "for example 30m, 12h, 7d, or forever")}
				}
			}
			var ban daemon.Ban
			if err := newClient(g).post(cmd.Context(), "ban", q, &ban); err != nil {
				return err
			}
			u := newUI(g)
			if g.json {
				return u.json(ban)
			}
			u.line(fmt.Sprintf("%s is banned (%s left)", printable.Prefix(ban.Prefix), left(ban, time.Now())))
			return nil
		},
	}
	cmd.Flags().StringVar(&duration, "for", "", "how long, a `DURATION` such as 30m or 7d, or forever (default: guard.ban_time)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, a `TEXT` for whoever asks later")
	cmd.Flags().BoolVar(&force, "force", false, "also where somebody is logged in from there")
	return cmd
}

func unbanCommand(g *globals) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "unban ADDR | --all",
		Short: "Lift bans",
		Long:  "Lift every ban that touches an address or a prefix, and forget what was counted there.",
		Example: `  sekisho unban 203.0.113.7
  sekisho unban 203.0.113.0/24
  sekisho unban --all`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := daemon.UnbanRequest{All: all}
			if all == (len(args) == 1) {
				return &exitError{exitUsage, withHint(fmt.Errorf("give one address or --all"), "see `sekisho bans`")}
			}
			if !all {
				p, err := parsePrefix(args[0])
				if err != nil {
					return err
				}
				q.Prefix = p
			}
			var reply daemon.UnbanReply
			if err := newClient(g).post(cmd.Context(), "unban", q, &reply); err != nil {
				return err
			}
			u := newUI(g)
			if g.json {
				return u.json(reply)
			}
			switch n := len(reply.Lifted); {
			case n == 0 && all:
				u.line("nobody was banned")
			case n == 0:
				u.line(args[0] + " was not banned; what was counted is forgotten")
			case n <= 10:
				for _, b := range reply.Lifted {
					u.line(printable.Prefix(b.Prefix) + " is no longer banned")
				}
			default:
				u.line(fmt.Sprintf("%d bans lifted", n))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "lift every ban")
	return cmd
}

// notOneself refuses to ban whoever asks for it.
func notOneself(ctx context.Context, p netip.Prefix, hint string) error {
	if own := ownSession(ctx).addr(); own.IsValid() && p.Contains(own) {
		return withHint(fmt.Errorf("you are logged in from %s yourself", own), hint)
	}
	return nil
}

// parsePrefix reads an address or a prefix given on the command line.
func parsePrefix(s string) (netip.Prefix, error) {
	p, hint, err := config.ParsePrefix(s)
	if err != nil {
		return p, &exitError{exitUsage, withHint(err, hint)}
	}
	return p, nil
}

// left is how much of a ban is left.
func left(b daemon.Ban, now time.Time) string {
	if b.Until == nil {
		return "for ever"
	}
	return shortDuration(b.Until.Sub(now))
}

// shortDuration is a duration as people say it: its two largest units.
func shortDuration(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
