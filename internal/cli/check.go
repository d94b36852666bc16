package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/posture"
)

func checkCommand(g *globals) *cobra.Command {
	var quiet, local bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Look how well this host protects SSH, and what to do about it",
		Long: "Looks at sshd, the firewall, the accounts and their keys, and the system; and, where the configuration names targets, at their\n" +
			"security groups and for former addresses in all groups. Nothing is changed, and root is not needed: what\n" +
			"only root sees is told. The exit code is 1 where something is wrong.",
		Example: `  sekisho check
  sekisho check --quiet --local`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := checkOptions(cmd.Context(), g)
			if err != nil {
				return err
			}
			report := posture.Judge(posture.Look(cmd.Context(), o))
			if o.Config != nil && len((&access.Access{Config: o.Config}).Doors()) > 0 && !local {
				report = report.With(g.checkGroups(cmd.Context()))
			}
			u := newUI(g)
			if g.json {
				if err := u.json(report); err != nil {
					return err
				}
			} else {
				u.posture(report, quiet)
			}
			if !report.Clean() {
				return &exitError{exitFailure, errTold}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&local, "local", false, "leave out the security groups of targets")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "leave out what is no finding, and why each matters")
	return cmd
}

// checkOptions are what Sekisho knows of itself. A wrong file is a finding, unless
// --config names one that is not there.
func checkOptions(ctx context.Context, g *globals) (posture.Options, error) {
	var o posture.Options
	cfg, err := config.Load(g.configPath)
	switch {
	case err == nil:
		o.Config = cfg
	case errors.Is(err, fs.ErrNotExist) && !g.configSet:
	case g.configSet && errors.Is(err, fs.ErrNotExist):
		return o, &exitError{exitUsage, err}
	default:
		o.ConfigErr = err
	}
	o.Daemon = askDaemon(ctx, g)
	return o, nil
}

// checkGroups looks at the targets' security groups: what is wrong there, and what could
// not be looked at.
func (g *globals) checkGroups(ctx context.Context) (found []posture.Finding, unseen []posture.Unseen) {
	c, err := g.cloud("")
	if err != nil {
		return nil, []posture.Unseen{{What: "security groups", Why: err.Error()}}
	}
	var plan access.Plan
	var former, orphans []access.Finding
	var failed, unread []access.Failure
	var looks sync.WaitGroup
	looks.Go(func() { plan = c.Plan(ctx, c.Doors(), nil) })
	looks.Go(func() { former, failed = c.Former(ctx, c.Places()) })
	looks.Go(func() { orphans, unread = c.Orphans(ctx, c.Places()) })
	looks.Wait()
	for _, f := range slices.Concat(plan.Findings, former, orphans) {
		found = append(found, posture.Finding{ID: f.ID, Severity: posture.Severity(f.Severity), What: f.What, Why: f.Why, Remedy: f.Remedy})
	}
	for _, group := range plan.Groups {
		if n := len(group.Changes); n > 0 {
			found = append(found, posture.Finding{
				ID: "group_plan", Severity: planSeverity(group.Changes), What: fmt.Sprintf("%s in %s (%s) is not as the file says: %s", group.Group.ID, group.Place, strings.Join(group.Targets, ", "), plural(n, "change")),
				Why: "somebody gets in who should not, or the other way round", Remedy: "sekisho plan --groups, then: sekisho apply --groups",
			})
		}
	}
	told := map[string]bool{}
	for _, f := range slices.Concat(plan.Failed, failed, unread) {
		if !told[f.Error] {
			told[f.Error] = true
			unseen = append(unseen, posture.Unseen{What: "security groups in " + f.Place.String(), Why: f.Error, Remedy: f.Hint})
		}
	}
	return found, unseen
}

// planSeverity is how bad it is that a group is not as the file says: worse where somebody
// gets in who should not.
func planSeverity(changes []access.Change) posture.Severity {
	if slices.ContainsFunc(changes, func(c access.Change) bool { return c.Op == access.Remove || c.Op == access.Modify }) {
		return posture.Medium
	}
	return posture.Low
}

// askDaemon asks the daemon, shortly.
func askDaemon(ctx context.Context, g *globals) posture.Daemon {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var s daemon.Status
	if err := newClient(g).get(ctx, "status", nil, &s); err != nil {
		// A socket that is not there is nobody's; one that may not be opened says nothing.
		_, missing := os.Lstat(g.socket)
		return posture.Daemon{Asked: errors.Is(missing, fs.ErrNotExist) || os.Geteuid() == 0 && errors.Is(err, errSilent)}
	}
	d := posture.Daemon{
		Asked: true, Running: true, Enforcing: s.Enforcing, Off: s.Firewall.Off,
		Generation: s.Firewall.Generation, Exposure: config.Exposure(s.Firewall.Exposure), Applied: s.Firewall.Applied,
	}
	for _, p := range s.Problems {
		d.Problems = append(d.Problems, posture.Problem{What: p.What, Remedy: p.Remedy})
	}
	return d
}

// posture prints a report for people, worst first.
func (u *ui) posture(r posture.Report, quiet bool) {
	u.line("exposure: " + r.Rung.Name + ": " + r.Rung.Why)
	if r.Rung.Next != "" {
		u.line("next: " + r.Rung.Next)
	}
	counts := map[posture.Severity]int{}
	for _, f := range r.Findings {
		counts[f.Severity]++
		if quiet && f.Severity == posture.Info {
			continue
		}
		u.finding(f, quiet)
	}
	if len(r.Unseen) > 0 {
		u.line("")
		u.line("not seen:")
		for _, s := range r.Unseen {
			u.line("  " + s.What + ": " + s.Why)
			if s.Remedy != "" {
				u.line("    to see it: " + s.Remedy)
			}
		}
	}
	u.line("")
	u.line(tally(counts))
}

func (u *ui) finding(f posture.Finding, quiet bool) {
	style := map[posture.Severity]string{posture.Critical: red, posture.High: red, posture.Medium: yellow}[f.Severity]
	if style == "" {
		style = bold
	}
	u.line("")
	fmt.Fprintf(u.g.stdout, "%s %s [%s]\n", paint(u.colorOut, style, string(f.Severity)+":"), sanitize(f.What), f.ID)
	if !quiet {
		u.line("  why: " + f.Why)
	}
	if f.Remedy != "" {
		u.line("  do:  " + f.Remedy)
	}
}

// tally says how many findings of each severity there are.
func tally(counts map[posture.Severity]int) string {
	var words []string
	for _, s := range []posture.Severity{posture.Critical, posture.High, posture.Medium, posture.Low} {
		if counts[s] > 0 {
			words = append(words, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	if len(words) == 0 {
		return "nothing is wrong, as far as was seen"
	}
	return "findings: " + strings.Join(words, ", ")
}
