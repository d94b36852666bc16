package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/gate/api"
	gateclient "sekisho/internal/gate/client"
	"sekisho/internal/ledger"
	"sekisho/internal/printable"
)

// gate's subcommands ask a gate that runs, by signed requests, for what its administrators
// keep.

func gateCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gate",
		Short: "Be the gate, or keep it: people, hosts, its audit",
		Args:  usageArgs(cobra.NoArgs),
	}
	serveGateCommand(g, cmd)
	cmd.AddCommand(
		gateEnrolCommand(g),
		gatePeople(g), gateInvite(g), gatePasskey(g), gateDisable(g), gateEnable(g),
		gateHosts(g), gateAddHost(g), gateAudit(g),
	)
	return cmd
}

// atGateCommand is a command that asks the gate.
func atGateCommand(g *globals, cmd *cobra.Command, run func(cmd *cobra.Command, at *atGate, u *ui, args []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		at, err := g.theGate()
		if err != nil {
			return err
		}
		return run(cmd, at, newUI(g), args)
	}
	gateFlags(g, cmd, nil)
	return cmd
}

func gatePeople(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "people", Short: "List whom the gate knows", Long: "List the people of the gate: their groups, by what they are known (keys, passkeys), and who is disabled.", Args: usageArgs(cobra.NoArgs)}
	return atGateCommand(g, cmd, func(cmd *cobra.Command, at *atGate, u *ui, _ []string) error {
		people, err := at.People(cmd.Context())
		if err != nil {
			return at.explain(err)
		}
		if g.json {
			return u.json(orEmpty(people))
		}
		if len(people) == 0 {
			u.line("the gate knows nobody")
			return nil
		}
		rows := [][]string{{"NAME", "ROLE", "GROUPS", "KEYS", "PASSKEYS", "KEPT IN", "LAST SEEN"}}
		for _, p := range people {
			role := string(p.Role)
			if p.Disabled {
				role = fmt.Sprintf("disabled by %s", p.By)
			}
			kept := "the gate"
			if p.Declared {
				kept = "the file"
			}
			seen := "never"
			if !p.Seen.IsZero() {
				seen = clockTime(at.Here(p.Seen))
			}
			rows = append(rows, []string{p.Name, role, strings.Join(p.Groups, ", "), fmt.Sprint(len(p.Keys)), fmt.Sprint(len(p.Passkeys)), kept, seen})
		}
		u.table(rows)
		return nil
	})
}

func gateInvite(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "invite NAME", Short: "Make a one-time link by which somebody enrols a passkey", Long: "Make a link by which somebody enrols a passkey in a browser. It is good once, and for a while: send it to nobody else.", Args: usageArgs(cobra.ExactArgs(1))}
	return atGateCommand(g, cmd, func(cmd *cobra.Command, at *atGate, u *ui, args []string) error {
		i, err := at.Invite(cmd.Context(), args[0])
		return at.invited(u, i, err)
	})
}

func gatePasskey(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "passkey", Short: "Make a one-time link by which you enrol a passkey in a browser", Args: usageArgs(cobra.NoArgs)}
	return atGateCommand(g, cmd, func(cmd *cobra.Command, at *atGate, u *ui, _ []string) error {
		i, err := at.InviteMe(cmd.Context())
		return at.invited(u, i, err)
	})
}

func (at *atGate) invited(u *ui, i api.Invitation, err error) error {
	if err != nil {
		return at.explain(err)
	}
	if at.g.json {
		return u.json(i)
	}
	u.line(i.URL)
	u.say(fmt.Sprintf("for %s, once, until %s: whoever opens it can enrol a passkey as theirs", i.For, clockTime(at.Here(i.Until))))
	return nil
}

func gateDisable(g *globals) *cobra.Command {
	var q api.DisableRequest
	cmd := &cobra.Command{
		Use:   "disable NAME",
		Short: "End all that somebody has, now, until they are enabled",
		Long: "End somebody's sessions and all that is open for them, and refuse what they ask for from now on. Connections that are there\n" +
			"stay; with --cut, hosts that run sekisho end those, too.",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.Flags().BoolVar(&q.Cut, "cut", false, "end their connections, too, where a host can")
	cmd.Flags().StringVar(&q.Reason, "reason", "", "why, a `TEXT` for whoever reads the audit later")
	return atGateCommand(g, cmd, func(cmd *cobra.Command, at *atGate, u *ui, args []string) error {
		ended, err := at.Disable(cmd.Context(), args[0], q)
		if err != nil {
			return at.explain(err)
		}
		if g.json {
			return u.json(orEmpty(ended))
		}
		u.line(fmt.Sprintf("%s is disabled; %s ended", args[0], plural(len(ended), "grant")))
		for _, e := range ended {
			u.line(fmt.Sprintf("%s, from %s", e.Target, printable.Prefix(e.Prefix)))
			for _, w := range e.Warnings {
				u.warn(w, "")
			}
		}
		return nil
	})
}

func gateEnable(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "enable NAME", Short: "Undo disable", Long: "Let somebody ask the gate again. What was ended stays ended.", Args: usageArgs(cobra.ExactArgs(1))}
	return atGateCommand(g, cmd, func(cmd *cobra.Command, at *atGate, u *ui, args []string) error {
		p, err := at.Enable(cmd.Context(), args[0])
		if err != nil {
			return at.explain(err)
		}
		if g.json {
			return u.json(p)
		}
		u.line(fmt.Sprintf("%s may ask again", p.Name))
		return nil
	})
}

func gateHosts(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "hosts", Short: "List the hosts that are doors", Long: "List the hosts that were enrolled at the gate, and whether each is connected.", Args: usageArgs(cobra.NoArgs)}
	return atGateCommand(g, cmd, func(cmd *cobra.Command, at *atGate, u *ui, _ []string) error {
		hosts, err := at.Hosts(cmd.Context())
		if err != nil {
			return at.explain(err)
		}
		if g.json {
			return u.json(orEmpty(hosts))
		}
		if len(hosts) == 0 {
			u.line("there is no host; `sekisho gate add-host NAME` makes one known")
			return nil
		}
		rows := [][]string{{"NAME", "STATE", "VERSION", "GRANTS", "LAST SEEN", "KEY"}}
		for _, h := range hosts {
			state, seen := "connected", "never"
			switch {
			case h.Key == "":
				state = "not enrolled yet"
			case !h.Connected:
				state = "not connected"
			}
			if h.Error != "" && h.Key != "" {
				state += ": " + h.Error
			}
			if !h.Seen.IsZero() {
				seen = clockTime(at.Here(h.Seen))
			}
			rows = append(rows, []string{h.Name, state, h.Version, fmt.Sprint(h.Grants), seen, h.Key})
		}
		u.table(rows)
		return nil
	})
}

func gateAddHost(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "add-host NAME", Short: "Make a one-time token by which a host enrols itself", Long: "Make a token by which a host becomes a door: `sekisho gate enrol` there asks for it. NAME is what `agent` of a target says.", Example: `  sekisho gate add-host web-1`, Args: usageArgs(cobra.ExactArgs(1))}
	return atGateCommand(g, cmd, func(cmd *cobra.Command, at *atGate, u *ui, args []string) error {
		i, err := at.AddHost(cmd.Context(), args[0])
		if err != nil {
			return at.explain(err)
		}
		if g.json {
			return u.json(i)
		}
		u.line(i.Token)
		u.say(fmt.Sprintf("for %s, once, until %s", i.For, clockTime(at.Here(i.Until))))
		return nil
	})
}

func gateAudit(g *globals) *cobra.Command {
	var f gateclient.Filter
	var from, to string
	var all bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who did what: the newest entries first, or, with --all, everything",
		Long: "Show the newest entries of the gate's audit. With --all, or --json without a filter, export all of it, oldest first, as it is kept: an\n" +
			"entry of JSON on each line, each with the hash of the one before.",
		Example: `  sekisho gate audit --person hanako --from 2026-11-01
  sekisho gate audit --json > audit.jsonl`,
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&f.Person, "person", "", "whom it is about, or who did it: a `NAME`")
	cmd.Flags().StringVar(&f.Target, "target", "", "at which `TARGET`")
	cmd.Flags().StringVar(&f.What, "what", "", "what was done, as open or person.disable: an `ACTION`")
	cmd.Flags().StringVar(&from, "from", "", "from a `DAY` or a time on, as 2026-11-01 or 2026-11-01T09:00:00Z")
	cmd.Flags().StringVar(&to, "to", "", "until a `DAY` or a time")
	cmd.Flags().IntVar(&f.Limit, "limit", 100, "at most `N` entries, of 1000")
	cmd.Flags().BoolVar(&all, "all", false, "all of it, as JSON lines, oldest first")
	cmd.AddCommand(gateAuditVerify(g))
	return atGateCommand(g, cmd, func(cmd *cobra.Command, at *atGate, u *ui, _ []string) error {
		filtered := false
		for _, name := range []string{"person", "target", "what", "from", "to", "limit"} {
			filtered = filtered || cmd.Flags().Changed(name)
		}
		if all && filtered {
			return &exitError{exitUsage, withHint(errors.New("--all is without a filter"), "leave out one of them")}
		}
		if all || g.json && !filtered {
			return at.explain(at.Export(cmd.Context(), func(line []byte, _ api.Entry) error {
				_, err := g.stdout.Write(append(line, '\n'))
				return err
			}))
		}
		if f.Limit < 1 || f.Limit > 1000 {
			return &exitError{exitUsage, withHint(fmt.Errorf("--limit %d is not from 1 to 1000", f.Limit), "--all exports everything")}
		}
		var err error
		if f.From, err = parseDay(from, 0); err != nil {
			return err
		}
		if f.To, err = parseDay(to, 24*time.Hour); err != nil {
			return err
		}
		entries, err := at.Audit(cmd.Context(), f)
		if err != nil {
			return at.explain(err)
		}
		if g.json {
			return u.json(orEmpty(entries))
		}
		u.audit(at, entries)
		return nil
	})
}

// parseDay reads a time, or a day of UTC, whose end is so much later; "" is none.
func parseDay(s string, end time.Duration) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return t, &exitError{exitUsage, withHint(fmt.Errorf("%q is not a time", s), "write it as 2026-11-01 or 2026-11-01T09:00:00Z")}
	}
	return t.Add(end), nil
}

func (u *ui) audit(at *atGate, entries []api.Entry) {
	if len(entries) == 0 {
		u.line("there is no such entry")
		return
	}
	rows := [][]string{{"NUMBER", "WHEN", "WHO", "BY", "FROM", "WHAT", "ABOUT", "TARGET", "PREFIX", "WHY"}}
	for _, e := range entries {
		what, from, about := e.What, "", e.Person
		if !e.OK {
			what += " (refused)"
		}
		if e.From.IsValid() {
			from = e.From.String()
		}
		if about == e.Who {
			about = ""
		}
		rows = append(rows, []string{fmt.Sprint(e.Seq), clockTime(at.Here(e.At)), e.Who, string(e.Via), from, what, about, e.Target, e.Prefix, e.Why})
	}
	u.table(rows)
}

func gateAuditVerify(g *globals) *cobra.Command {
	var known string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check the audit's chain of hashes: have the gate do it, or check an export here",
		Long: "Check that each entry of the audit holds the hash of the one before, and its own. With a FILE (- is standard input), what\n" +
			"`gate audit --all` wrote is checked here, and no gate is asked; else the gate does, and is believed. Note the number of entries\n" +
			"and the last hash somewhere else: an audit that was written anew, or cut off, does not have that entry (--known).",
		Example: `  sekisho gate audit --all > audit.jsonl
  sekisho gate audit verify audit.jsonl --known 1042:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08    # exits 1: that entry is not in it`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().StringVar(&known, "known", "", "an entry that is known from before, `NUMBER:HASH` (with a FILE)")
	atGateCommand(g, cmd, func(cmd *cobra.Command, at *atGate, u *ui, _ []string) error {
		if known != "" {
			return &exitError{exitUsage, withHint(errors.New("--known is for an export"), "name its file")}
		}
		v, err := at.Verify(cmd.Context())
		if err != nil {
			return at.explain(err)
		}
		return u.verdict(v, "somebody, or a fault, has changed what was written: compare with an export that you kept")
	})
	ask := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return ask(cmd, args)
		}
		heads, err := parseHead(known)
		if err != nil {
			return err
		}
		v, err := verifyExport(g, args[0], heads)
		if err != nil {
			return err
		}
		return newUI(g).verdict(v, "somebody, or a fault, has changed what was written, or this is not all that `sekisho gate audit --all` wrote: compare with an export that you kept")
	}
	return cmd
}

// parseHead reads an entry that is known; "" is none.
func parseHead(s string) ([]ledger.Head, error) {
	if s == "" {
		return nil, nil
	}
	number, hash, _ := strings.Cut(s, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || len(hash) != 64 || strings.Trim(hash, "0123456789abcdef") != "" {
		return nil, &exitError{exitUsage, withHint(fmt.Errorf("%q is no entry", s), "write its number and its hash, as verify told them: 1042:9f86d0...")}
	}
	return []ledger.Head{{Seq: n, Hash: hash}}, nil
}

// maxEntry is much longer than an entry is.
const maxEntry = 1 << 20

// verifyExport checks a file of entries, oldest first, one a line.
func verifyExport(g *globals, name string, known []ledger.Head) (api.Verdict, error) {
	in := g.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return api.Verdict{}, err
		}
		defer f.Close()
		in = f
	}
	chain := ledger.NewChain(known...)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxEntry)
	lines.Split(wholeLines)
	for lines.Scan() {
		chain.Add(lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		return api.Verdict{}, fmt.Errorf("read %s: %w", name, err)
	}
	return chain.Verdict(), nil
}

// wholeLines are lines without their \n, and with all else that is before it.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// verdict tells what a check of the chain came to, and what to do where it is broken.
func (u *ui) verdict(v api.Verdict, remedy string) error {
	var err error
	if u.g.json {
		err = u.json(v)
	} else if v.OK {
		u.line(fmt.Sprintf("%s, and the chain is whole; the last hash is %s", entriesOf(v.Entries), v.Head))
	}
	switch {
	case v.OK:
		return err
	case u.g.json:
		return errors.Join(err, &exitError{exitFailure, errTold})
	}
	return withHint(fmt.Errorf("the chain is broken at entry %d: %s", v.Broken, v.What), remedy)
}

func entriesOf(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
