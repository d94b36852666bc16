package cli

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/access"
)

func whoCommand(g *globals) *cobra.Command {
	var direct bool
	cmd := &cobra.Command{
		Use:   "who [TARGET...]",
		Short: "Show who can reach which target right now, and by what",
		Long: "Show who gets to the port of each target (default: of all) right now: what the gate that the configuration names has open, as far\n" +
			"as you may see it; or, where it names none, by which rule of the security group: a fixed address, a lease, or a rule that is not\n" +
			"ours. The exit code is 1 where a lease that has ended still lets somebody in, or something could not be looked at.",
		Example: `  sekisho who
  sekisho who web-prod`,
		ValidArgsFunction: g.targetNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := g.gateway(direct)
			if err != nil {
				return err
			}
			if at != nil {
				return at.who(cmd.Context(), args)
			}
			c, err := g.cloud("")
			if err != nil {
				return err
			}
			doors, err := c.doors(args)
			if err != nil {
				return err
			}
			u := newUI(g)
			view := whoView{Who: []access.Admitted{}}
			who, failed := c.Who(cmd.Context(), doors)
			view.Who, view.Failed = who, orEmpty(failed)
			ended := c.failures(u, failed)
			switch {
			case g.json:
				err = u.json(view)
			case len(who) > 0 || ended == nil: // else who gets in is not known
				u.who(view.Who)
			}
			for _, w := range view.Who {
				if w.By == "over" && ended == nil {
					ended = &exitError{exitFailure, errTold}
				}
			}
			return errors.Join(err, ended)
		},
	}
	gateFlags(g, cmd, &direct)
	return cmd
}

// whoView is what who tells.
type whoView struct {
	Who    []access.Admitted `json:"who"`
	Failed []access.Failure  `json:"failed"`
}

func (u *ui) who(who []access.Admitted) {
	if len(who) == 0 {
		u.line("nobody gets to any of them")
		return
	}
	rows := [][]string{{"TARGET", "FROM", "WHO", "BY", "LEFT"}}
	over := false
	for _, w := range who {
		left := ""
		by := map[string]string{"fixed": "fixed address", "lease": "lease", "foreign": "a rule that is not ours, " + w.Rule, "over": "a lease that has ended"}[w.By]
		switch {
		case w.By == "lease":
			left = shortDuration(time.Until(w.Until))
		case w.By == "fixed" && len(w.Leases) > 0:
			by += ", and a lease"
		case w.By == "over":
			over, left = true, "over"
		}
		name := strings.Join(w.People, ", ")
		if w.By == "foreign" {
			name = w.Text
		}
		rows = append(rows, []string{w.Target, w.Source.String(), name, by, left})
	}
	u.table(rows)
	if over {
		u.warn("what has ended still lets somebody in", "sekisho reap")
	}
}
