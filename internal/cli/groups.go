package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/securitygroup"
	"sekisho/internal/trial"
)

// The groups' part of plan and apply: the fixed addresses of people in the security groups
// of targets.

// scope is which part of the configuration plan and apply are about.
type scope struct{ host, groups bool }

// scopeFlags lets a command be about one part only.
func scopeFlags(cmd *cobra.Command, s *scope) {
	cmd.Flags().BoolVar(&s.host, "host", false, "this host only")
	cmd.Flags().BoolVar(&s.groups, "groups", false, "the security groups of targets only")
	cmd.MarkFlagsMutuallyExclusive("host", "groups")
}

// settled is s where nothing was said: the host, and the groups where the file names
// targets; the groups alone for whoever may not look at the host.
func (s scope) settled(g *globals, u *ui) (scope, error) {
	if s.host || s.groups {
		return s, nil
	}
	cfg, err := g.load()
	if errors.Is(err, os.ErrPermission) { // the daemon may read it
		return scope{host: true}, nil
	}
	if err != nil {
		return s, err
	}
	s = scope{host: true, groups: len((&access.Access{Config: cfg}).Doors()) > 0}
	if s.groups && os.Geteuid() != 0 {
		if _, err := os.Stat(g.socket); err != nil {
			s.host = false
			u.say("this host is left out: no daemon runs, and you are not root (--host asks for it)")
		}
	}
	return s, nil
}

// groupsView is the groups' plan as it is told.
type groupsView struct {
	Changes  []changeView     `json:"changes"`
	Covered  []coveredView    `json:"covered"` // wanted, and there by rules that are not ours
	Groups   []groupView      `json:"groups"`
	Findings []access.Finding `json:"findings"`
	Refusals []access.Refusal `json:"refusals"` // whom it would lock out
	Failed   []access.Failure `json:"failed"`   // what could not be looked at
}

type changeView struct {
	Place securitygroup.Place `json:"place"`
	Group string              `json:"group,omitempty"`
	Op    access.Op           `json:"op"`
	Text  string              `json:"text"`
}

type coveredView struct {
	Group  string   `json:"group"`
	Rule   string   `json:"rule"`
	People []string `json:"people"`
	Lets   string   `json:"lets_in"`
}

// groupView is how full a group is, when the changes have been made.
type groupView struct {
	Place   securitygroup.Place `json:"place"`
	Group   string              `json:"group"`
	Name    string              `json:"name"`
	Targets []string            `json:"targets"`
	IPv4    int                 `json:"ipv4_rules"`
	IPv6    int                 `json:"ipv6_rules"`
	Quota   int                 `json:"quota"` // AWS's default for each
}

// planGroups looks at the groups of doors.
func (c *inCloud) planGroups(ctx context.Context, u *ui, doors []access.Door) (plan access.Plan) {
	places := map[securitygroup.Place]bool{}
	for _, d := range doors {
		places[d.Place()] = true
	}
	u.doneWithin(func(live *liveLine) {
		seen := 0
		plan = c.Plan(ctx, doors, func() {
			seen++
			u.step(live, seen, len(places), fmt.Sprintf("%d of %d places", seen, len(places)))
		})
	})
	return plan
}

// viewOf is a plan as it is told, and whom of addrs it would lock out.
func (c *inCloud) viewOf(plan access.Plan, addrs []netip.Addr) groupsView {
	v := groupsView{Changes: []changeView{}, Covered: []coveredView{}, Groups: []groupView{}, Findings: orEmpty(plan.Findings), Refusals: orEmpty(c.LocksOut(plan, addrs)), Failed: orEmpty(plan.Failed)}
	for _, l := range plan.Lists {
		if !l.Empty() {
			v.Changes = append(v.Changes, changeView{l.Place, "", l.Op(), l.Text()})
		}
	}
	for _, g := range plan.Groups {
		v.Groups = append(v.Groups, groupView{g.Place, g.Group.ID, g.Group.Name, g.Targets, g.Used.IPv4, g.Used.IPv6, access.Quota})
		for _, ch := range g.Changes {
			v.Changes = append(v.Changes, changeView{g.Place, g.Group.ID, ch.Op, ch.Text()})
		}
		for _, cov := range g.Covered {
			v.Covered = append(v.Covered, coveredView{g.Group.ID, cov.By.ID, cov.Wanted.People, cov.Wanted.Permission.String()})
		}
	}
	return v
}

// groupSigns are how the lines of a groups' plan begin.
var groupSigns = map[access.Op]trial.Op{access.Add: trial.Add, access.Remove: trial.Remove, access.Modify: trial.Modify, access.Retag: trial.Modify, access.Adopt: trial.Modify}

// groups prints a plan for people.
func (u *ui) groups(c *inCloud, v groupsView) {
	if len(v.Changes) == 0 && len(v.Failed) == 0 {
		u.line(fmt.Sprintf("nothing would change in %s", plural(len(v.Groups), "security group")))
	}
	at := ""
	for _, ch := range v.Changes {
		head := "prefix lists in " + ch.Place.String()
		if ch.Group != "" {
			head = fmt.Sprintf("security group %s in %s%s", ch.Group, ch.Place, targetsOf(v.Groups, ch))
		}
		if head != at {
			at = head
			u.heading(sanitize(head))
		}
		op := groupSigns[ch.Op]
		u.change("  "+signs[op]+" ", trial.Change{Op: op, Text: ch.Text})
	}
	for _, cov := range v.Covered {
		u.line(fmt.Sprintf("  = %s is let in to %s by rule %s already, which is not ours: sekisho adopt %s", cov.Lets, cov.Group, cov.Rule, cov.Rule))
	}
	for _, g := range v.Groups {
		if max(g.IPv4, g.IPv6) > g.Quota {
			u.warn(fmt.Sprintf("%s in %s would have %d IPv4 and %d IPv6 rules: AWS allows %d of each unless you have asked for more", g.Group, g.Place, g.IPv4, g.IPv6, g.Quota),
				"see `via: prefix_list`, which costs a group as many rules as the list may hold, or ask AWS for more")
		}
	}
	for _, f := range v.Findings {
		if f.Severity != access.Info {
			u.groupFinding(f)
		}
	}
	for _, r := range v.Refusals {
		u.refused(r.String(), "put the address under `fixed` of its owner, or use --force if you can come in another way")
	}
}

func targetsOf(groups []groupView, ch changeView) string {
	for _, g := range groups {
		if g.Group == ch.Group && g.Place == ch.Place {
			return fmt.Sprintf(" (%s)", strings.Join(g.Targets, ", "))
		}
	}
	return ""
}

func (u *ui) groupFinding(f access.Finding) {
	style := map[access.Severity]string{access.Critical: red, access.High: red, access.Medium: yellow}[f.Severity]
	if style == "" {
		style = bold
	}
	fmt.Fprintf(u.g.stdout, "%s %s\n", paint(u.colorOut, style, string(f.Severity)+":"), sanitize(f.What))
	fmt.Fprintf(u.g.stdout, "%s %s\n", paint(u.colorOut, bold, "   hint:"), sanitize(f.Remedy))
}

// ownAddrs are the addresses that whoever types this is known to come from: nobody is to
// lock themselves out.
func ownAddrs(own session) []netip.Addr {
	if a := own.addr(); a.IsValid() {
		return []netip.Addr{a}
	}
	return nil
}

// groupsPlan looks at all groups; empty says that there is nothing to do.
func (g *globals) groupsPlan(ctx context.Context, u *ui, own session) (c *inCloud, plan access.Plan, view groupsView, err error) {
	if c, err = g.cloud(""); err != nil {
		return nil, plan, view, err
	}
	c.role = access.RoleAdmin
	plan = c.planGroups(ctx, u, c.Doors())
	addrs := ownAddrs(own)
	if !own.addr().IsValid() {
		addrs = append(addrs, c.myFixed()...)
	}
	return c, plan, c.viewOf(plan, addrs), nil
}

// myFixed are the fixed addresses of whoever we are, as far as that is known: they are not
// to be shut out by a mistake in the file.
func (c *inCloud) myFixed() []netip.Addr {
	name, err := whose(c.Config, "")
	if err != nil {
		return nil
	}
	var addrs []netip.Addr
	for _, p := range c.Config.People[name].Fixed {
		if p.IsSingleIP() {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs
}

// applyGroups brings the groups to what the file says.
func (a *application) applyGroups(ctx context.Context, u *ui, own session) error {
	c, plan, view, err := a.g.groupsPlan(ctx, u, own)
	if err != nil {
		return err
	}
	if !a.g.json {
		u.groups(c, view)
	}
	failed := c.failures(u, plan.Failed)
	switch {
	case plan.Empty():
		if a.g.json {
			return errors.Join(u.json(appliedView{Groups: appliedGroups{Done: []access.Done{}, Failed: view.Failed}}), failed)
		}
		return failed
	case len(view.Refusals) > 0 && !a.request.Force:
		if a.g.json {
			err = u.json(refusedView{view})
		}
		return errors.Join(err, withHint(errors.New("refused: no group was changed"), "do as the hints say; if you can come in another way, use --force"))
	case !a.yes && u.interactive():
		if !u.agreed(ctx, fmt.Sprintf("Make %s?", plural(len(view.Changes), "change"))) {
			return errors.New("no group was changed")
		}
	}
	applied := c.Apply(ctx, c.Doors(), plan)
	if a.g.json {
		err = u.json(appliedView{Groups: appliedGroups{Done: orEmpty(applied.Done), Failed: orEmpty(applied.Left.Failed)}})
	} else {
		u.applied(applied)
	}
	if why := applied.Err(); why != nil {
		return errors.Join(err, c.explain(why))
	}
	return errors.Join(err, failed)
}

// appliedView is what apply tells of the groups, as JSON.
type appliedView struct {
	Groups appliedGroups `json:"groups"`
}

// refusedView is the same where nothing was done: the plan, with whom it would lock out.
type refusedView struct {
	Groups groupsView `json:"groups"`
}

type appliedGroups struct {
	Done   []access.Done    `json:"done"` // with an error: it was not
	Failed []access.Failure `json:"failed"`
}

// applied tells what was made, and what was not.
func (u *ui) applied(r access.Applied) {
	made, not := 0, 0
	for _, d := range r.Done {
		if d.Error == "" {
			made++
			continue
		}
		not++
		u.warn(fmt.Sprintf("%s %s was not made: %s: %s", d.Place, d.Group, d.Text, d.Error), "")
	}
	left := 0
	for _, g := range r.Left.Groups {
		left += len(g.Changes)
	}
	switch {
	case not+left == 0:
		u.line(fmt.Sprintf("%s made: the groups are as the configuration says", plural(made, "change")))
	default:
		u.line(fmt.Sprintf("%s made, %d not", plural(made, "change"), max(not, left)))
	}
}

func adoptCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "adopt RULE...",
		Short: "Make rules that others made, and that the configuration wants, ours",
		Long: "Tag rules of targets' groups as ours that let in just a fixed address of somebody: apply keeps them from then on, changes them with\n" +
			"the address, and takes them away with it. A rule that the configuration does not want is refused. `sekisho plan` lists those that\n" +
			"can be adopted.",
		Example: `  sekisho adopt sgr-0123456789abcdef0`,
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.cloud("")
			if err != nil {
				return err
			}
			c.role = access.RoleAdmin
			u := newUI(g)
			plan := c.planGroups(cmd.Context(), u, c.Doors())
			failed := c.failures(u, plan.Failed)
			done, err := c.Adopt(cmd.Context(), plan, args)
			var told error
			if g.json {
				told = u.json(orEmpty(done))
			} else {
				for _, d := range done {
					if d.Error == "" {
						u.line(fmt.Sprintf("%s %s: %s", d.Place, d.Group, d.Text))
					}
				}
			}
			if err != nil {
				return errors.Join(told, c.explain(err))
			}
			return errors.Join(told, failed)
		},
	}
}

// whyTarget says why somebody may have a target opened, or may not.
func whyTarget(ctx context.Context, g *globals, person, target string) error {
	c, err := g.cloud(person)
	if err != nil {
		return err
	}
	door, err := c.Door(target)
	if err != nil {
		return &exitError{exitUsage, advised(err)}
	}
	d, err := c.Decide(door, access.Request{Person: person, At: time.Now()})
	if err != nil {
		return &exitError{exitUsage, advised(err)}
	}
	u := newUI(g)
	if g.json {
		err = u.json(d)
	} else {
		u.decision(d, len(d.Always) > 0)
	}
	if err == nil && !d.Askable() && len(d.Always) == 0 {
		err = &exitError{exitFailure, errTold}
	}
	return err
}

// decision tells one; always: a fixed address gets in whatever is decided.
func (u *ui) decision(d access.Decision, always bool) {
	switch {
	case d.Allowed:
		u.line(fmt.Sprintf("%s may have %s opened, for %s at most", d.Person, d.Target, config.FormatDuration(d.AtMost)))
	case d.Askable():
		u.line(fmt.Sprintf("%s may ask for %s to be opened, for %s at most", d.Person, d.Target, config.FormatDuration(d.AtMost)))
	case always:
		u.line(fmt.Sprintf("%s gets to %s by a fixed address only", d.Person, d.Target))
	default:
		u.line(fmt.Sprintf("%s does not get to %s", d.Person, d.Target))
	}
	for _, r := range d.Reasons {
		sign, style := "+", green
		if !r.OK {
			sign, style = "-", red
		}
		fmt.Fprintln(u.g.stdout, paint(u.colorOut, style, "  "+sign+" "+sanitize(r.Text)))
	}
	if d.Hint != "" {
		fmt.Fprintf(u.g.stdout, "%s %s\n", paint(u.colorOut, bold, "hint:"), sanitize(d.Hint))
	}
}
