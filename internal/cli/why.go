package cli

import (
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
	"sekisho/internal/iso3166"
	"sekisho/internal/printable"
)

func whyCommand(g *globals) *cobra.Command {
	var direct bool
	cmd := &cobra.Command{
		Use:   "why ADDR | PERSON TARGET",
		Short: "Say why an address is in or out, or why somebody may open a target",
		Long: "With an address: everything that is known of it on this host. With a person and a target: each reason for a yes or a no, as the gate\n" +
			"has it where the configuration names one (an administrator may ask for anybody, others for themselves); the exit\n" +
			"code is 1 where the person gets in neither on request nor by a fixed address.",
		Example: `  sekisho why 203.0.113.7
  sekisho why hanako web-prod`,
		Args: usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				at, err := g.gateway(direct)
				if err != nil {
					return err
				}
				if at != nil {
					return at.why(cmd.Context(), args[0], args[1])
				}
				return whyTarget(cmd.Context(), g, args[0], args[1])
			}
			addr, err := netip.ParseAddr(args[0])
			if err != nil {
				return &exitError{exitUsage, withHint(fmt.Errorf("%q is not an address", args[0]), "give one address, for example 203.0.113.7")}
			}
			var reply daemon.WhyReply
			if err := newClient(g).get(cmd.Context(), "why", url.Values{"addr": {addr.String()}}, &reply); err != nil {
				return err
			}
			u := newUI(g)
			if g.json {
				return u.json(reply)
			}
			printWhy(u, reply)
			return nil
		},
	}
	gateFlags(g, cmd, &direct)
	return cmd
}

// printWhy tells it in the order in which it is decided.
func printWhy(u *ui, r daemon.WhyReply) {
	w := r.Guard
	now := time.Now()
	switch {
	case r.Banned && !r.Enforced:
		u.line(fmt.Sprintf("%s would be banned, but this is a dry run", r.Addr))
	case r.Banned:
		u.line(fmt.Sprintf("%s is banned", r.Addr))
	case w.Never != "":
		u.line(fmt.Sprintf("%s is never banned: %s", r.Addr, w.Never))
	default:
		u.line(fmt.Sprintf("%s is not banned: it has %d of the %d attempts that bring a ban", r.Addr, w.Weight, w.Bar))
	}
	rows := [][]string{}
	if r.SSH != nil {
		rows = append(rows, []string{"ssh", sshVerdict(*r.SSH, r.Banned && r.Enforced)})
	}
	if r.Country != "" {
		rows = append(rows, []string{"country", countryName(r.Country)})
	}
	if r.Grant != nil {
		why := ""
		if r.Grant.Reason != "" {
			why = ": " + r.Grant.Reason
		}
		rows = append(rows, []string{"grant", fmt.Sprintf("%s, %s left%s (by %s)", printable.Prefix(r.Grant.Prefix), shortDuration(r.Grant.Until.Sub(now)), why, r.Grant.Holder)})
	}
	for _, b := range r.Bans {
		rows = append(rows, []string{"ban", fmt.Sprintf("%s, %s left, cause %s: %s (by %s)", printable.Prefix(b.Prefix), left(b, now), b.Cause, b.Reason, b.Holder)})
	}
	rows = append(rows,
		[]string{"counted as", w.Source.String()},
		[]string{"window", fmt.Sprintf("%d attempts within %s, %d in all", w.Weight, r.FindTime, w.Total)},
		[]string{"bar", fmt.Sprintf("%d attempts (%s)", w.Bar, w.BarCause)})
	if w.Login != nil {
		rows = append(rows, []string{"last login", fmt.Sprintf("%s as %s from %s", clockTime(w.Login.Time), w.Login.User, w.Login.Addr)})
	}
	for _, s := range w.Sessions {
		rows = append(rows, []string{"logged in", fmt.Sprintf("%s as %s since %s", s.Peer, s.User, clockTime(s.Since))})
	}
	if w.Bans > 0 && w.LastBan != nil {
		rows = append(rows, []string{"banned", fmt.Sprintf("%d times, last on %s", w.Bans, clockTime(*w.LastBan))})
	}
	u.table(rows)
	if len(w.Attempts) > 0 {
		rows = [][]string{{"ATTEMPT", "KIND", "USER"}}
		for _, a := range w.Attempts {
			rows = append(rows, []string{clockTime(a.Time), a.Kind, a.User})
		}
		u.line("")
		u.table(rows)
	}
	if len(r.Earlier) > 0 {
		rows = [][]string{{"EARLIER BAN", "FROM", "CAUSE", "REASON"}}
		for _, b := range r.Earlier {
			rows = append(rows, []string{printable.Prefix(b.Prefix), clockTime(b.From), b.Cause, b.Reason})
		}
		u.line("")
		u.table(rows)
	}
	if r.StoreNote != "" {
		u.warn("earlier bans may be missing: "+r.StoreNote, "see `sekisho status`")
	}
	if r.Banned {
		u.line("")
		u.line("let it in again with: sekisho unban " + r.Addr.String())
	}
}

// sshVerdict says what becomes of a new connection to SSH.
func sshVerdict(v daemon.Verdict, banned bool) string {
	does := map[string]string{"pass": "a new connection is let in", "drop": "a new connection is dropped", "reject": "a new connection is refused"}[v.Verdict]
	switch {
	case does == "":
		does = "what becomes of a new connection cannot be told"
	case v.Verdict == "pass" && banned:
		does = "but for the ban, " + does
	}
	if v.Rule != "" {
		does += fmt.Sprintf(" by the rule %q", v.Rule)
		if v.Chain != "" {
			does += " in chain " + v.Chain
		}
	}
	return does
}

// countryName is a country's code with its name.
func countryName(code string) string {
	c, err := iso3166.Parse(code)
	if err != nil {
		return code
	}
	return fmt.Sprintf("%s, %s", c, c.Name())
}

func clockTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
