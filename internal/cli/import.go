package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/fail2ban"
	"sekisho/internal/printable"
	"sekisho/internal/setup"
)

// defaultFail2ban is where fail2ban's configuration is.
const defaultFail2ban = "/etc/fail2ban"

func importCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Take over the configuration of another guard",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(importFail2banCommand(g))
	return cmd
}

func importFail2banCommand(g *globals) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "fail2ban [DIR]",
		Short: "Say in a sekisho.yaml what fail2ban's configuration says of SSH",
		Long: "Read fail2ban's configuration (DIR, or " + defaultFail2ban + ") as fail2ban does, and print a sekisho.yaml that does the same for SSH: each value\n" +
			"with the file, line and option that it came from. What has no counterpart is told, with what to do about it. Nothing is\n" +
			"changed. docs/from-fail2ban.md tells how to change over.\n" +
			"With --bans the bans that fail2ban has now are listed; --apply bans them here, for as long as they have left.",
		Example: `  sudo sekisho import fail2ban                                       # look at it
  sudo sekisho import fail2ban --output imported.yaml            # keep it, and read it first
  sudo sekisho import fail2ban --bans --apply                        # with sekisho running: ban whom fail2ban bans`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := defaultFail2ban
			if len(args) == 1 {
				dir = args[0]
			}
			return o.run(cmd.Context(), g, dir)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.output, "output", "o", "", "write `FILE`, which must not be there yet, in place of printing it")
	flags.BoolVar(&o.bans, "bans", false, "list the bans that fail2ban has now, in its jails of sshd")
	flags.BoolVar(&o.apply, "apply", false, "with --bans: ban them here; sekisho must be running")
	flags.StringVar(&o.database, "database", "", "with --bans: fail2ban's database, a `FILE`, in place of the one that it is told to use")
	return cmd
}

type importOptions struct {
	output, database string
	bans, apply      bool
}

func (o importOptions) run(ctx context.Context, g *globals, dir string) error {
	switch {
	case !o.bans && (o.apply || o.database != ""):
		return &exitError{exitUsage, withHint(errors.New("--apply and --database are about bans"), "add --bans")}
	case o.bans && o.output != "":
		return &exitError{exitUsage, withHint(errors.New("--bans writes no file"), "leave --output out")}
	}
	u := newUI(g)
	i, err := fail2ban.Read(dir)
	if err != nil {
		return importError(err)
	}
	if o.bans {
		return o.liveBans(ctx, u, i)
	}
	file := i.File(time.Now())
	if _, err := config.Parse(dir, file); err != nil {
		return fmt.Errorf("what came of it is no configuration, which is a mistake of this program: nothing was written: %w", err)
	}
	if g.json {
		return u.json(struct {
			*fail2ban.Import
			File string `json:"file"`
		}{i, string(file)})
	}
	for _, n := range i.Notes {
		u.note(n.What, n.Remedy)
	}
	if o.output == "" || o.output == "-" {
		_, err := io.Copy(g.stdout, bytes.NewReader(file))
		return err
	}
	switch _, err := setup.Write(o.output, file, false, time.Now()); {
	case errors.Is(err, setup.ErrExists):
		return withHint(fmt.Errorf("there is a configuration file already: %s", o.output), "move it away, or write another with --output FILE; without --output it is printed")
	case errors.Is(err, os.ErrPermission):
		return withHint(err, "use sudo, or name another place with --output FILE")
	case errors.Is(err, syscall.EROFS):
		return withHint(err, "name another place with --output FILE")
	case err != nil:
		return err
	}
	for _, s := range i.Settings {
		u.line(s.Key + ": " + s.Value)
	}
	u.line("written: " + o.output)
	u.line("next: put your own address under admins; sekisho --config " + shellWord(o.output) + " plan")
	return nil
}

// importError is err with its hint: a configuration of fail2ban's that is wrong is a usage
// error, as our own is.
func importError(err error) error {
	e, ok := errors.AsType[*fail2ban.Error](err)
	if !ok {
		return err
	}
	if e.Hint != "" {
		err = withHint(err, e.Hint)
	}
	return &exitError{exitUsage, err}
}

// liveBans lists the bans that fail2ban has in force, or takes them over.
func (o importOptions) liveBans(ctx context.Context, u *ui, i *fail2ban.Import) error {
	path := i.Database
	if o.database != "" {
		path = o.database
	}
	if path == "" {
		return withHint(errors.New("fail2ban keeps no database (dbfile is None)"), "fail2ban-client status sshd lists its bans: sekisho ban ADDR --for 1h")
	}
	now := time.Now()
	bans, skipped, err := fail2ban.Bans(ctx, path, i.BanJails(), now)
	if err != nil {
		return importError(err)
	}
	if skipped > 0 {
		u.note(fmt.Sprintf("%d of fail2ban's bans are left out: they are of no address, or nobody knows for how long", skipped), "")
	}
	if o.apply {
		return takeOver(ctx, u, bans, now)
	}
	if u.g.json {
		return u.json(bans)
	}
	if len(bans) == 0 {
		u.line("fail2ban bans nobody for what it did to sshd")
		return nil
	}
	rows := [][]string{{"PREFIX", "LEFT", "BANS", "JAIL"}}
	for _, b := range bans {
		rows = append(rows, []string{printable.Prefix(b.Prefix), left(daemon.Ban{Until: b.Until}, now), fmt.Sprint(b.Count), b.Jail})
	}
	u.table(rows)
	u.say("nothing was changed: --apply bans them here, for as long as they have left")
	return nil
}

// taken is what became of fail2ban's bans. Its lists are never nil.
type taken struct {
	Banned []netip.Prefix `json:"banned"`
	There  []netip.Prefix `json:"there"` // were banned here already, for as long or longer
	Not    []notTaken     `json:"not"`
}

type notTaken struct {
	Prefix netip.Prefix `json:"prefix"`
	Why    string       `json:"why"`
}

// takeOver has the daemon ban whom fail2ban bans.
func takeOver(ctx context.Context, u *ui, bans []fail2ban.Ban, now time.Time) error {
	c := newClient(u.g)
	var here []daemon.Ban
	if err := c.get(ctx, "bans", nil, &here); err != nil {
		return err
	}
	until := map[netip.Prefix]*time.Time{}
	for _, b := range here {
		until[b.Prefix] = b.Until
	}
	res := taken{Banned: []netip.Prefix{}, There: []netip.Prefix{}, Not: []notTaken{}}
	var mu sync.Mutex
	// The daemon answers when a ban is on the disk, and writes many at once.
	asking, ctx := errgroup.WithContext(ctx)
	asking.SetLimit(64)
	for _, b := range bans {
		if end, ok := until[b.Prefix]; ok && (end == nil || b.Until != nil && !b.Until.After(*end)) {
			mu.Lock()
			res.There = append(res.There, b.Prefix)
			mu.Unlock()
			continue
		}
		asking.Go(func() error {
			q := daemon.BanRequest{Prefix: b.Prefix, For: -1, Reason: "taken over from fail2ban, jail " + printable.Cut(printable.Text(b.Jail), 40)}
			if b.Until != nil {
				q.For = b.Until.Sub(now)
			}
			err := notOneself(ctx, b.Prefix, "")
			if err == nil {
				err = c.post(ctx, "ban", q, new(daemon.Ban))
			}
			if coded, ok := errors.AsType[*exitError](err); ok { // the daemon is gone
				return coded
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				res.Not = append(res.Not, notTaken{b.Prefix, err.Error()})
			} else {
				res.Banned = append(res.Banned, b.Prefix)
			}
			return nil
		})
	}
	if err := asking.Wait(); err != nil {
		return err
	}
	res.sort()
	if u.g.json {
		return u.json(res)
	}
	for n, not := range res.Not {
		if n == 20 {
			u.note(fmt.Sprintf("%d more are not banned here", len(res.Not)-n), "--json lists them all")
			break
		}
		u.note(printable.Prefix(not.Prefix)+" is not banned here: "+not.Why, "")
	}
	u.line(fmt.Sprintf("%d bans taken over, %d were here already, %d are left out", len(res.Banned), len(res.There), len(res.Not)))
	return nil
}

func (t *taken) sort() {
	slices.SortFunc(t.Banned, netip.Prefix.Compare)
	slices.SortFunc(t.There, netip.Prefix.Compare)
	slices.SortFunc(t.Not, func(a, b notTaken) int { return a.Prefix.Compare(b.Prefix) })
}
