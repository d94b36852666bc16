package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
	"sekisho/internal/hardening"
)

// mostProblems are shown by a status that is to fit on a screen.
const mostProblems = 6

func statusCommand(g *globals) *cobra.Command {
	var all, check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is going on, what is wrong first",
		Long: "Show what is going on, what is wrong first and what to do about it. The exit code is 1 where something is wrong.\n" +
			"With --check: one line and an exit code as Nagios and its kin take them: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (no answer).",
		Example: `  sekisho status
  sekisho status --all
  sekisho status --check      # for Nagios and its kin`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s hostStatus
			u := newUI(g)
			_, pending, err := g.pendingSSHD(cmd.Context())
			if err != nil {
				s.SSHD.Error = err.Error()
			}
			s.SSHD.Trial = pending
			err = newClient(g).get(cmd.Context(), "status", nil, &s.Status)
			if check {
				return checked(u, s, err)
			}
			if err != nil {
				if rows := sshdRows(s.SSHD, time.Now()); len(rows) > 0 && !g.json {
					u.table(rows) // its trial needs no daemon
				}
				return err
			}
			if g.json {
				if err := u.json(s); err != nil {
					return err
				}
				return verdict(s.Status)
			}
			u.status(s, all, time.Now())
			return verdict(s.Status)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "show all details, and what each rule has counted")
	cmd.Flags().BoolVar(&check, "check", false, "one line for a monitoring system, with its exit codes")
	cmd.MarkFlagsMutuallyExclusive("all", "check")
	return cmd
}

// hostStatus is what status tells: the daemon's, and what needs none.
type hostStatus struct {
	daemon.Status
	SSHD sshdStatus `json:"sshd"`
}

// sshdStatus is what is on trial of sshd.
type sshdStatus struct {
	Trial *hardening.Pending `json:"trial"`           // null: nothing is, or only root sees it
	Error string             `json:"error,omitempty"` // why it is not known
}

// verdict makes status end with 1 where something is wrong.
func verdict(s daemon.Status) error {
	if len(s.Problems) > 0 {
		return &exitError{exitFailure, errTold}
	}
	return nil
}

// status prints what is wrong, each with its remedy, then what runs out, then the
// rest: a screen, unless all is asked for.
func (u *ui) status(s hostStatus, all bool, now time.Time) {
	for i, p := range s.Problems {
		if i == mostProblems && !all {
			u.line(plural(len(s.Problems)-mostProblems, "more problem") + ": sekisho status --all")
			break
		}
		u.problem(p)
	}
	if len(s.Problems) == 0 {
		u.line("guarding, nothing is wrong")
	}
	trials := trialRows(s.Firewall, now)
	if all {
		u.table(slices.Concat(trials, statusRows(s.Status, now), sshdRows(s.SSHD, now)))
		printCounters(u, s.Firewall.Rules())
		return
	}
	u.table(slices.Concat(trials, sshdRows(s.SSHD, now), firewallRows(s.Firewall, now), briefRows(s.Status)))
}

// problem prints a problem and what to do about it.
func (u *ui) problem(p daemon.Problem) {
	if p.Severity != daemon.Critical {
		u.warn(p.What, p.Remedy)
		return
	}
	fmt.Fprintf(u.g.stdout, "%s %s\n", paint(u.colorOut, red, "critical:"), sanitize(p.What))
	if p.Remedy != "" {
		fmt.Fprintf(u.g.stdout, "%s %s\n", paint(u.colorOut, bold, "    hint:"), sanitize(p.Remedy))
	}
}

func sshdRows(s sshdStatus, now time.Time) [][]string {
	switch t := s.Trial; {
	case s.Error != "":
		return [][]string{{"sshd", "what is on trial is not known: " + s.Error}}
	case t == nil:
		return nil
	default:
		return [][]string{{"sshd", fmt.Sprintf("on trial (%s), %s left to confirm by a login through %s (until %s), begun by %s",
			t.Step, shortDuration(t.Until.Sub(now)), portsText(t.Ports), t.Until.Local().Format(time.TimeOnly), t.By)}}
	}
}

// briefRows are the rest of a host that does well.
func briefRows(s daemon.Status) [][]string {
	bans := fmt.Sprintf("%d in force, %s tracked", s.Bans, plural(s.Guard.Sources, "source"))
	if s.Dropped != nil {
		bans += fmt.Sprintf(", %d packets dropped", *s.Dropped)
	}
	if n := len(s.Guard.UnderAttack); n > 0 {
		bans += "; many sources try " + strings.Join(s.Guard.UnderAttack[:min(n, 5)], ", ")
	}
	rows := [][]string{{"bans", bans}}
	if s.Grants > 0 {
		rows = append(rows, []string{"grants", fmt.Sprint(s.Grants)})
	}
	rows = append(rows, gateRows(s.Gate)...)
	if c := s.Conntrack; c != nil && c.InUse {
		rows = append(rows, []string{"conntrack", conntrackText(*c)})
	}
	var logs []string
	for _, source := range s.Sources {
		text := source.Name + " (nothing of sshd yet)"
		if source.Last != nil {
			text = fmt.Sprintf("%s (last %s)", source.Name, clockTime(*source.Last))
		}
		logs = append(logs, text)
	}
	if len(logs) > 0 {
		rows = append(rows, []string{"logs", strings.Join(logs, ", ")})
	}
	guarding := s.Mode
	if s.Drift > 0 {
		guarding += fmt.Sprintf(", %s of our table undone", plural(int(s.Drift), "foreign change"))
	}
	return append(rows, []string{"guard", guarding}, []string{"daemon", fmt.Sprintf("%s, since %s", s.Version, clockTime(s.Since))})
}

// statusRows are all that is known.
func statusRows(s daemon.Status, now time.Time) [][]string {
	since := "since " + s.Since.Local().Format("2006-01-02 15:04:05")
	rows := [][]string{
		{"daemon", fmt.Sprintf("%s, pid %d, %s", s.Version, s.PID, since)},
		{"config", s.Config},
		{"mode", s.Mode},
	}
	rows = append(rows, firewallRows(s.Firewall, now)...)
	if s.Grants > 0 {
		rows = append(rows, []string{"grants", fmt.Sprint(s.Grants)})
	}
	rows = append(rows, gateRows(s.Gate)...)
	rows = append(rows, []string{"bans", fmt.Sprint(s.Bans)})
	if s.Dropped != nil {
		rows = append(rows, []string{"dropped", fmt.Sprintf("%d packets of banned peers", *s.Dropped)})
	}
	rows = append(rows, []string{"tracked", fmt.Sprintf("%d sources, %d connections", s.Guard.Sources, s.Guard.Connections)})
	if s.Drift > 0 {
		rows = append(rows, []string{"repaired", fmt.Sprintf("%d foreign changes of our table", s.Drift)})
	}
	if c := s.Conntrack; c != nil {
		rows = append(rows, []string{"conntrack", conntrackText(*c)})
	}
	for _, source := range s.Sources {
		text := fmt.Sprintf("%d lines, %d of sshd", source.Read, source.SSHD)
		if source.Last != nil {
			text += ", last " + source.Last.Local().Format("2006-01-02 15:04:05")
		}
		if !source.Live {
			text += ", catching up or silent"
		}
		if source.Dropped > 0 {
			text += fmt.Sprintf(", %d too long", source.Dropped)
		}
		rows = append(rows, []string{"log", sanitize(source.Name) + ": " + text})
	}
	for _, c := range s.Channels {
		text := fmt.Sprintf("%s sent, %d waiting", plural(int(c.Sent), "message"), c.Waiting)
		if c.Dropped > 0 {
			text += fmt.Sprintf(", %d events never told", c.Dropped)
		}
		if c.Error != "" {
			text += fmt.Sprintf("; fails since %s: %s", clockTime(c.Since), c.Error)
		}
		rows = append(rows, []string{"told by", c.Channel + ": " + text})
	}
	return rows
}

// trialRows tell what is on trial of the rules, and what to do.
func trialRows(f daemon.FirewallStatus, now time.Time) [][]string {
	t := f.Trial
	if t == nil {
		return nil
	}
	if t.Until.IsZero() {
		return [][]string{{"on trial", fmt.Sprintf("rule set %d is %s", t.Generation, t.Stage)}}
	}
	return [][]string{
		{"on trial", fmt.Sprintf("rule set %d, %s left to confirm (until %s)", t.Generation, shortDuration(t.Until.Sub(now)), t.Until.Local().Format(time.TimeOnly))},
		{"", "to keep it log in anew, or type in a new session: sekisho confirm; back at once: sekisho revert"},
	}
}

// firewallRows tells which rule set is in force, and since when.
func firewallRows(f daemon.FirewallStatus, now time.Time) [][]string {
	var rows [][]string
	switch {
	case f.Off:
		rows = append(rows, []string{"rules", "off: nothing of ours is in force, until `sekisho apply`"})
	case f.Generation == 0:
		rows = append(rows, []string{"rules", "none yet, bans only; `sekisho plan` shows what `sekisho apply` would try"})
	default:
		text := fmt.Sprintf("rule set %d: %s, exposure %s", f.Generation, f.Mode, f.Exposure)
		if f.Confirmed != nil {
			text += ", confirmed " + clockTime(*f.Confirmed)
			if f.By != "" {
				text += " (" + f.By + ")"
			}
		}
		rows = append(rows, []string{"rules", text})
	}
	if c := f.Countries; c != nil {
		who := "only from " + strings.Join(c.Allow, ", ")
		if len(c.Deny) > 0 {
			who = "not from " + strings.Join(c.Deny, ", ")
		}
		source := c.Source
		if c.Embedded {
			source += ", the program's own"
		}
		days := max(0, int(now.Sub(c.Time).Hours()/24))
		rows = append(rows, []string{"countries", fmt.Sprintf("%s; %s of %s (%s old; %s)", who, plural(c.Ranges, "range"), c.Time.Format(time.DateOnly), plural(days, "day"), source)})
	}
	return rows
}

// conntrackText is how the kernel's table of connections does. What is wrong with it
// is among the problems.
func conntrackText(c daemon.ConntrackStatus) string {
	if !c.InUse {
		return "nothing is tracked"
	}
	count := plural(int(c.Count), "connection")
	if c.Max > 0 {
		count += fmt.Sprintf(" of %d (%d %%)", c.Max, c.Count*100/c.Max)
	}
	parts := []string{count}
	if n := c.Drops + c.EarlyDrops; n > 0 {
		parts = append(parts, fmt.Sprintf("%d dropped", n))
	}
	for _, a := range c.Allowances {
		if a.ConntrackAvailable != nil {
			parts = append(parts, fmt.Sprintf("EC2 leaves %d on %s", *a.ConntrackAvailable, a.Interface))
		}
		if a.ConntrackExceeded > 0 {
			parts = append(parts, fmt.Sprintf("EC2 dropped %d packets on %s", a.ConntrackExceeded, a.Interface))
		}
	}
	return strings.Join(parts, ", ")
}

// printCounters tells what each rule has counted.
func printCounters(u *ui, rules []daemon.CounterStatus) {
	if len(rules) == 0 {
		return
	}
	rows := [][]string{{"CHAIN", "PACKETS", "RULE"}}
	for _, r := range rules {
		rows = append(rows, []string{r.Chain, fmt.Sprint(r.Packets), r.Rule})
	}
	u.line("")
	u.table(rows)
}

// checked prints the line of a monitoring plugin: the state, what is wrong first, and
// figures. See https://nagios-plugins.org/doc/guidelines.html.
func checked(u *ui, s hostStatus, err error) error {
	if err != nil {
		u.checkLine("UNKNOWN", err.Error(), "")
		return &exitError{checkUnknown, errTold}
	}
	critical := 0
	for _, p := range s.Problems {
		if p.Severity == daemon.Critical {
			critical++
		}
	}
	figures := fmt.Sprintf("bans=%d;;;0 sources=%d;;;0 sessions=%d;;;0 attempts=%dc;;;0 grants=%d;;;0 problems=%d;0;;0 critical=%d;;0;0",
		s.Bans, s.Guard.Sources, s.Guard.Sessions, s.Guard.Attempts, s.Grants, len(s.Problems), critical)
	if c := s.Conntrack; c != nil && c.InUse && c.Max > 0 {
		figures += fmt.Sprintf(" conntrack=%.1f%%;;;0;100", float64(c.Count)*100/float64(c.Max))
	}
	if s.Dropped != nil {
		figures += fmt.Sprintf(" dropped=%dc;;;0", *s.Dropped)
	}
	if len(s.Problems) == 0 {
		u.checkLine("OK", fmt.Sprintf("guarding, %s in force", plural(s.Bans, "ban")), figures)
		return nil
	}
	text := s.Problems[0].What
	if more := len(s.Problems) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	if critical > 0 {
		u.checkLine("CRITICAL", text, figures)
		return &exitError{checkCritical, errTold}
	}
	u.checkLine("WARNING", text, figures)
	return &exitError{checkWarning, errTold}
}

// The exit codes of status --check, which are Nagios'.
const (
	checkWarning  = 1
	checkCritical = 2
	checkUnknown  = 3
)

// checkLine prints such a line: a bar in it would begin the figures.
func (u *ui) checkLine(state, text, figures string) {
	line := "SEKISHO " + state + ": " + strings.ReplaceAll(text, "|", "/")
	if figures != "" {
		line += " | " + figures
	}
	u.line(line)
}
