package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/printable"
)

func doorsCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doors",
		Short: "Show what one may have the gate open, and what is open",
		Long: "Show all targets of the gate as it shows them to you: what is open and for how long yet, who else is in, and what you may have\n" +
			"opened. The gate's page shows the same.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := g.theGate()
			if err != nil {
				return err
			}
			doors, me, err := at.everything(cmd.Context())
			if err != nil {
				return err
			}
			u := newUI(g)
			if g.json {
				return u.json(doors)
			}
			u.doors(at, doors, me)
			return nil
		},
	}
	gateFlags(g, cmd, nil)
	return cmd
}

func (u *ui) doors(at *atGate, doors []api.Door, me string) {
	if len(doors) == 0 {
		u.line("the gate has no targets")
		return
	}
	rows := [][]string{{"TARGET", "NOW", "LEFT", "MAY BE OPENED", "ALSO IN"}}
	var denied []string
	for _, d := range doors {
		now, left := "shut", ""
		var others []string
		for _, g := range d.Grants {
			if g.Person != me {
				if g.State != api.Waiting {
					others = append(others, g.Person)
				}
				continue
			}
			switch g.State {
			case api.Waiting:
				if now == "shut" {
					now = "waits for a yes"
				}
			case api.Ending:
				if now == "shut" {
					now = "ending"
				}
			default:
				now, left = "open", shortDuration(time.Until(at.Here(g.Until)))
				if !g.InForce {
					now = "being opened"
				}
			}
		}
		if d.Denied != nil && now == "shut" {
			now = "denied"
			denied = append(denied, deniedText(d))
		}
		if d.Kind == api.KindHost && !d.Connected {
			now += ", not connected"
		}
		rows = append(rows, []string{d.Target, now, left, mayBe(d), strings.Join(distinctNames(others), ", ")})
	}
	u.table(rows)
	for _, text := range denied {
		u.line(text)
	}
	for _, d := range doors {
		var warnings, errs []string
		for _, g := range d.Grants {
			if g.Person != me {
				continue
			}
			warnings = append(warnings, g.Warnings...)
			if g.Error != "" && (d.Kind == api.KindHost || g.State != api.Open) { // else it is only told of
				errs = append(errs, g.Error)
			}
		}
		for _, w := range distinctNames(warnings) {
			u.warn(d.Target+": "+w, "")
		}
		for _, e := range distinctNames(errs) {
			u.warn(d.Target+": "+e, "the gate goes on trying")
		}
	}
}

// deniedText says who said no, and why.
func deniedText(d api.Door) string {
	text := fmt.Sprintf("%s: %s said no", d.Target, d.Denied.By)
	if d.Denied.Why != "" {
		text += ": " + d.Denied.Why
	}
	return text
}

// mayBe says what one may ask for.
func mayBe(d api.Door) string {
	if !d.Allowed {
		why := "no"
		if n := len(d.Reasons); n > 0 {
			why += ": " + d.Reasons[n-1].Text
		}
		if d.Needs.BreakGlass {
			why += "; in an emergency --break-glass"
		}
		return why
	}
	text := "for " + config.FormatDuration(time.Duration(d.AtMost)*time.Second)
	if d.Needs.Reason {
		text += ", for a reason"
	}
	if len(d.Needs.Approval) > 0 {
		text += ", with a yes of " + either(d.Needs.Approval)
	}
	return text
}

// distinctNames are names, each once, in their order.
func distinctNames(names []string) []string {
	seen := map[string]bool{}
	var all []string
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			all = append(all, n)
		}
	}
	return all
}

// Approvals.

func approvalsCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approvals",
		Short: "List what waits for your yes",
		Long:  "List what others have asked the gate for and what waits for the yes of somebody like you: its ID is what approve and deny take.",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := g.theGate()
			if err != nil {
				return err
			}
			waiting, err := at.Waiting(cmd.Context())
			if err != nil {
				return at.explain(err)
			}
			u := newUI(g)
			if g.json {
				return u.json(orEmpty(waiting))
			}
			if len(waiting) == 0 {
				u.line("nothing waits for your yes")
				return nil
			}
			rows := [][]string{{"ID", "WHO", "TARGET", "FROM", "FOR", "ASKED", "REASON"}}
			for _, w := range waiting {
				rows = append(rows, []string{w.ID, w.Person, w.Target, printable.Prefix(w.Prefix), config.FormatDuration(time.Duration(w.Length) * time.Second), clockTime(at.Here(w.Asked)), w.Reason})
			}
			u.table(rows)
			return nil
		},
	}
	gateFlags(g, cmd, nil)
	return cmd
}

func approveCommand(g *globals) *cobra.Command {
	return answerCommand(g, "approve", "Say yes to what somebody else has asked for", "why, a `TEXT` for whoever reads the audit later", true)
}

func denyCommand(g *globals) *cobra.Command {
	return answerCommand(g, "deny", "Say no to it", "why, a `TEXT` that who asked is told, and whoever reads the audit later", false)
}

func answerCommand(g *globals, name, short, why string, yes bool) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   name + " ID",
		Short: short,
		Long:  short + ": `sekisho approvals` lists what waits.",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := g.theGate()
			if err != nil {
				return err
			}
			answer := at.Deny
			if yes {
				answer = at.Approve
			}
			got, err := answer(cmd.Context(), args[0], reason)
			if err != nil {
				return at.explain(err)
			}
			u := newUI(g)
			switch {
			case g.json:
				return u.json(got)
			case !yes:
				u.line(fmt.Sprintf("%s is not opened for %s", got.Target, got.Person))
			case got.State == api.Open:
				u.line(fmt.Sprintf("%s is open for %s, from %s, until %s", got.Target, got.Person, printable.Prefix(got.Prefix), clockTime(at.Here(got.Until))))
			default:
				u.line(fmt.Sprintf("%s is being opened for %s, from %s", got.Target, got.Person, printable.Prefix(got.Prefix)))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", why)
	gateFlags(g, cmd, nil)
	return cmd
}
