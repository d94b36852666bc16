package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"sekisho/internal/access"
	"sekisho/internal/printable"
)

func whereCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "where ADDR",
		Short: "Find every rule of every security group that lets an address in",
		Long: "Look through all groups in all accounts and regions of the configuration, also those that no target names, for rules that let an\n" +
			"address in: by the address itself, by a network that holds it, or by a prefix list. The exit code is 1 where something could\n" +
			"not be looked at.",
		Example: `  sekisho where 203.0.113.7`,
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := netip.ParseAddr(args[0])
			if err != nil {
				return &exitError{exitUsage, withHint(fmt.Errorf("%q is not an address", args[0]), "give one address, for example 203.0.113.7")}
			}
			c, err := g.cloud("")
			if err != nil {
				return err
			}
			c.role = access.RoleAdmin
			u := newUI(g)
			var view whereView
			var failed []access.Failure
			u.doneWithin(func(live *liveLine) {
				view.Hits, failed = c.Where(cmd.Context(), addr.Unmap(), c.Places(), func(p access.Progress) {
					u.step(live, p.Done, p.Places, fmt.Sprintf("%d of %d places, %s", p.Done, p.Places, plural(p.Rules, "rule")))
				})
			})
			view.Failed = orEmpty(failed)
			ended := c.failures(u, failed)
			if g.json {
				return errors.Join(u.json(view), ended)
			}
			u.where(addr, view, len(c.Places()))
			return ended
		},
	}
}

// whereView is what where tells.
type whereView struct {
	Hits   []access.Hit     `json:"hits"`
	Failed []access.Failure `json:"failed"` // what could not be looked at: hits may be missing there
}

func (u *ui) where(addr netip.Addr, v whereView, places int) {
	seen := fmt.Sprintf("%d of %d places", places-len(v.Failed), places)
	if len(v.Hits) == 0 {
		u.line(fmt.Sprintf("no rule lets %s in (%s looked at)", addr, seen))
		return
	}
	rows := [][]string{{"PLACE", "GROUP", "RULE", "PORTS", "BY", "OURS", "BEHIND"}}
	for _, h := range v.Hits {
		by := h.Source.String()
		if h.Source.PrefixList != "" {
			by += " (" + printable.Prefix(h.Within) + ")"
		}
		ours := "no"
		if h.Ours {
			ours = "yes"
		}
		rows = append(rows, []string{h.Place.String(), h.Group + " " + h.GroupName, h.Rule, h.Ports, by, ours, behind(h.Behind)})
	}
	u.table(rows)
	u.line("")
	u.line(fmt.Sprintf("%s in %s", plural(len(v.Hits), "rule"), seen))
}

func behind(all []access.Behind) string {
	var names []string
	for i, b := range all {
		if i == 3 {
			names = append(names, fmt.Sprintf("%d more", len(all)-i))
			break
		}
		if b.Name != "" {
			names = append(names, b.Name+" ("+b.ID+")")
		} else {
			names = append(names, b.ID)
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
