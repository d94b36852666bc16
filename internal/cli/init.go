package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/config"
	"sekisho/internal/setup"
)

func initCommand(g *globals) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Look at this machine and write a configuration for it",
		Long: "Look at this machine (sshd and its ports, who logged in and from where, your own address, open ports, other firewalls, the log)\n" +
			"and write a commented configuration file that says why each value was chosen. Nothing else is changed: sekisho plan and\n" +
			"sekisho apply do that. On a terminal it asks four questions at most, and Enter takes what is proposed; otherwise all is as\n" +
			"proposed, as with --yes. A file that is there is never overwritten without --force, which keeps it beside the new one.\n" +
			"With --json what was seen and what is proposed is printed, and nothing is written.",
		Example: `  sekisho init
  sekisho init --yes --output -     # what it would write`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), g) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.yes, "yes", false, "take all that is proposed, and ask nothing")
	flags.BoolVar(&o.force, "force", false, "replace the file that is there; it is kept beside the new one")
	flags.StringVarP(&o.output, "output", "o", "", "write `FILE` in place of the one that --config names; -: print it")
	return cmd
}

type initOptions struct {
	yes, force bool
	output     string
}

func (o initOptions) run(ctx context.Context, g *globals) error {
	u := newUI(g)
	path, printed := g.configPath, o.output == "-" || g.json
	if o.output != "" {
		path = o.output
	}
	if !printed && !g.configSet && o.output == "" && os.Geteuid() != 0 {
		printed = true
		u.say("not root: the file is printed, not written; sudo sekisho init sees more, and writes it")
	}
	if _, err := os.Lstat(path); err == nil && !printed && !o.force {
		return existsError(path)
	}
	own := ownSession(ctx)
	looking := u.liveLine()
	looking.show("looking at this machine ...")
	facts := setup.Survey(ctx, setup.Options{
		Session: setup.Session{Addr: own.addr(), Over: !own.peer.IsValid() && own.old.IsValid()}, Port: own.here.Port(),
	})
	looking.show("")
	if err := ctx.Err(); err != nil {
		return errors.New("stopped: nothing was written")
	}
	if g.json {
		return printProposal(u, facts)
	}
	tellFacts(u, facts)
	var answers setup.Answers
	switch questions := setup.Questions(facts); {
	case o.yes:
	case !u.interactive():
		u.say("nobody can be asked here: all is as proposed")
	default:
		if err := askAll(ctx, u, questions, &answers); err != nil {
			return err
		}
	}
	proposal := setup.Propose(facts, answers)
	file := setup.Render(facts, proposal)
	if _, err := config.Parse(path, file); err != nil {
		return fmt.Errorf("the proposal is no configuration, which is a mistake of this program: nothing was written: %w", err)
	}
	for _, n := range proposal.Notes {
		u.note(n.What, n.Remedy)
	}
	if printed {
		_, err := io.Copy(g.stdout, bytes.NewReader(file))
		return err
	}
	backup, err := setup.Write(path, file, o.force, time.Now())
	switch {
	case errors.Is(err, setup.ErrExists):
		return existsError(path)
	case errors.Is(err, os.ErrPermission):
		return withHint(err, "use sudo, or name another place with --output FILE; --output - prints it")
	case errors.Is(err, syscall.EROFS):
		return withHint(err, "name another place with --output FILE, and that with --config from then on; --output - prints it")
	case err != nil:
		return err
	}
	for _, s := range proposal.Settings {
		u.line(s.Key + ": " + s.Value)
	}
	if backup != "" {
		u.line("the file before is kept as " + backup)
	}
	u.line("written: " + path)
	next := "sekisho plan"
	if path != defaultConfig {
		next = "sekisho --config " + shellWord(path) + " plan"
	}
	if os.Geteuid() != 0 || os.Getenv("SUDO_USER") != "" {
		next = "sudo " + next
	}
	u.line("next: " + next)
	return nil
}

func existsError(path string) error {
	return withHint(fmt.Errorf("there is a configuration file already: %s", path),
		"look at what would be proposed with --output -, replace it with --force (it is kept beside the new one), or write another with --output FILE")
}

// shellWord quotes a word for a shell where it needs that.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/.,:=+-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func printProposal(u *ui, facts setup.Facts) error {
	proposal := setup.Propose(facts, setup.Answers{})
	return u.json(struct {
		Facts    setup.Facts    `json:"facts"`
		Proposal setup.Proposal `json:"proposal"`
		File     string         `json:"file"`
	}{facts, proposal, string(setup.Render(facts, proposal))})
}

// note tells, while a command is at work, what is to be known.
func (u *ui) note(what, remedy string) {
	fmt.Fprintf(u.g.stderr, "%s %s\n", paint(u.colorErr, yellow, "note:"), sanitize(what))
	u.hint(remedy)
}

// tellFacts says what could not be seen.
func tellFacts(u *ui, f setup.Facts) {
	for _, s := range f.Unseen {
		u.note("not seen: "+s.What+": "+s.Why, s.Remedy)
	}
}

// askAll puts the questions one after the other; what was typed wrongly is asked again.
func askAll(ctx context.Context, u *ui, questions []setup.Question, a *setup.Answers) error {
	for i, q := range questions {
		u.say("")
		for _, why := range q.Why {
			u.say(why)
		}
		for {
			typed := u.ask(ctx, fmt.Sprintf("%d/%d %s [%s]:", i+1, len(questions), q.Text, q.Default))
			if ctx.Err() != nil {
				return errors.New("stopped: nothing was written")
			}
			if typed == "" || typed == q.Default {
				break
			}
			err := q.Answer(a, typed)
			if err == nil {
				break
			}
			u.say(err.Error())
		}
	}
	u.say("")
	return nil
}
