package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/printable"
)

func openCommand(g *globals) *cobra.Command {
	var addr, duration, reason string
	cmd := &cobra.Command{
		Use:   "open",
		Short: "Let an address in to SSH for a while",
		Long: "Let a host, or an IPv6 /64, in to SSH on this host for a while: in front of countries and rates, behind bans. It counts\n" +
			"where the exposure is on_request or public. It ends by itself, in the kernel. Without --addr it is the address that\n" +
			"you are logged in from.",
		Example: `  sekisho open --addr 203.0.113.7 --for 2h --reason "night shift"
  sekisho open --addr 2001:db8:1:2::/64`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := prefixOrOwn(cmd.Context(), addr)
			if err != nil {
				return err
			}
			q := daemon.GrantRequest{Prefix: p, Reason: reason}
			if q.For, err = config.ParseDuration(duration); err != nil || q.For <= 0 {
				return &exitError{exitUsage, withHint(fmt.Errorf("%q is not a duration", duration), "for example 30m, 12h or 7d; an address that is to stay belongs under admins")}
			}
			var grant daemon.Grant
			if err := newClient(g).post(cmd.Context(), "grants", q, &grant); err != nil {
				return err
			}
			u := newUI(g)
			if g.json {
				return u.json(grant)
			}
			u.line(fmt.Sprintf("%s is let in until %s", printable.Prefix(grant.Prefix), clockTime(grant.Until)))
			return nil
		},
	}
	cmd.Flags().StringVar(&addr, "addr", "", "whom (default: the address that you are logged in from)")
	cmd.Flags().StringVar(&duration, "for", "1h", "how long, for example 30m or 7d")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever asks later")
	return cmd
}

func closeCommand(g *globals) *cobra.Command {
	var addr string
	var all bool
	cmd := &cobra.Command{
		Use:   "close",
		Short: "End what open began",
		Long:  "End every grant that touches an address or a prefix. Connections that are there stay.",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := daemon.RevokeRequest{All: all}
			if all && addr != "" {
				return &exitError{exitUsage, withHint(errors.New("give --addr or --all"), "see `sekisho leases`")}
			}
			if !all {
				var err error
				if q.Prefix, err = prefixOrOwn(cmd.Context(), addr); err != nil {
					return err
				}
			}
			var reply daemon.RevokeReply
			if err := newClient(g).delete(cmd.Context(), "grants", q, &reply); err != nil {
				return err
			}
			u := newUI(g)
			if g.json {
				return u.json(reply)
			}
			for _, grant := range reply.Revoked {
				u.line(printable.Prefix(grant.Prefix) + " is no longer let in by a grant")
			}
			switch {
			case len(reply.Revoked) > 0:
			case all:
				u.line("there was no grant")
			default:
				u.line(printable.Prefix(q.Prefix) + " had no grant")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&addr, "addr", "", "whose (default: the address that you are logged in from)")
	cmd.Flags().BoolVar(&all, "all", false, "every grant")
	return cmd
}

func leasesCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "leases",
		Short: "List who is let in for a while",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var grants []daemon.Grant
			if err := newClient(g).get(cmd.Context(), "grants", nil, &grants); err != nil {
				return err
			}
			u := newUI(g)
			if g.json {
				return u.json(grants)
			}
			if len(grants) == 0 {
				u.line("there is no grant")
				return nil
			}
			now := time.Now()
			rows := [][]string{{"PREFIX", "LEFT", "HOLDER", "REASON"}}
			for _, grant := range grants {
				rows = append(rows, []string{printable.Prefix(grant.Prefix), shortDuration(grant.Until.Sub(now)), grant.Holder, grant.Reason})
			}
			u.table(rows)
			return nil
		},
	}
}

// prefixOrOwn reads the value of --addr; without one it is the address that the
// command's session comes from.
func prefixOrOwn(ctx context.Context, addr string) (netip.Prefix, error) {
	if addr != "" {
		return parsePrefix(addr)
	}
	s := ownSession(ctx)
	if !s.peer.IsValid() {
		err := errors.New("this is no SSH session: whose address is meant cannot be told")
		if s.old.IsValid() {
			err = fmt.Errorf("the connection from %s that this shell was begun by is over: whose address is meant cannot be told", s.old)
		}
		return netip.Prefix{}, &exitError{exitUsage, withHint(err, "give it: --addr ADDR")}
	}
	a := s.peer.Addr()
	return netip.PrefixFrom(a, a.BitLen()), nil
}
