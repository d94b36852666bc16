package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
	"sekisho/internal/hardening"
)

func offCommand(g *globals) *cobra.Command {
	var yes, rulesAlone bool
	cmd := &cobra.Command{
		Use:   "off",
		Short: "Take every rule and ban of ours out of the kernel, and put sshd back, until the next apply",
		Long: "Remove the table `inet sekisho` from the kernel, and the confirmed rule set from the state directory: nothing is\n" +
			"loaded at the next boot either. The daemon goes on reading and telling, but drops nobody. Then sshd's files are put\n" +
			"back byte for byte as they were before the first apply, and sshd reads them: it listens where it did then. Where\n" +
			"somebody changed a file since, only our marks are taken out of it. `sekisho apply` ends it.\n" +
			"Asked twice on a terminal; elsewhere --yes is needed. With --firewall sshd stays as it is, hardened and at its port, for\n" +
			"a later off to put back: it is what the removal of a package does.",
		Example: `  sekisho off --yes`,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			u := newUI(g)
			log := slog.New(slog.NewTextHandler(g.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			if rulesAlone {
				if !yes {
					if err := askOff(cmd.Context(), u); err != nil {
						return err
					}
				}
				reply, err := g.rulesOff(cmd.Context(), log)
				if err != nil {
					return err
				}
				return tellReply(g, reply)
			}
			host, err := g.sshdHost(log, loginSource{})
			if err != nil {
				return err
			}
			back, err := host.Return(cmd.Context())
			readable := !errors.Is(err, os.ErrPermission)
			if !readable {
				u.say("what was changed in sshd, if anything, only root puts back: sudo sekisho off")
			} else if err != nil {
				u.say("where sshd will listen is not known: " + err.Error()) // all goes all the same
			}
			tellReturn(u, back, ownSession(cmd.Context()))
			if !yes {
				if err := askOff(cmd.Context(), u); err != nil {
					return err
				}
			}
			// The rules first: they would keep out whoever comes by the port that sshd had.
			// And where they stay sshd does, too.
			reply, err := g.rulesOff(cmd.Context(), log)
			if err != nil {
				return err
			}
			if !readable {
				return tellReply(g, reply)
			}
			told, err := host.Off(cmd.Context())
			for _, words := range told {
				u.say(words)
			}
			if err != nil {
				return fmt.Errorf("the rules are off, but sshd is not as it was: %w", aloneError(err))
			}
			if len(back.Files) > 0 {
				reply.Text += "; sshd is as it was before"
			}
			return tellReply(g, reply)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&rulesAlone, "firewall", false, "the rules alone")
	return cmd
}

// rulesOff takes the rules away, by the daemon where one runs.
func (g *globals) rulesOff(ctx context.Context, log *slog.Logger) (reply daemon.Reply, err error) {
	err = newClient(g).post(ctx, "off", struct{}{}, &reply)
	if errors.Is(err, errSilent) {
		err = aloneError(daemon.Off(ctx, g.daemonOptions(log)))
		reply = daemon.Reply{OK: true, Text: "off: nothing of ours is in the kernel; `sekisho apply` puts rules in force again"}
	}
	return reply, err
}

// tellReturn tells what becomes of sshd.
func tellReturn(u *ui, back hardening.Return, own session) {
	if len(back.Files) == 0 {
		return
	}
	u.say("sshd's files are put back as they were: " + strings.Join(back.Files, ", "))
	if len(back.After) == 0 {
		return // socket activation: the unit says it
	}
	if slices.Equal(back.Now, back.After) {
		u.say("it listens on " + portsText(back.After) + ", as before")
	} else {
		u.say(fmt.Sprintf("it listens on %s, and then on %s", portsText(back.Now), portsText(back.After)))
	}
	if port := own.here.Port(); own.here.IsValid() && !slices.Contains(back.After, port) {
		u.say(fmt.Sprintf("warning: you came in by port %d, where it will not listen any more: before you leave this session, log in anew by %s, which a firewall in front of this host must let in", port, portsText(back.After)))
	}
}

// askOff asks twice, and the second time for something else than yes.
func askOff(ctx context.Context, u *ui) error {
	if !u.interactive() {
		return &exitError{exitUsage, withHint(errors.New("this takes all protection away, and there is nobody to ask"), "if you mean it: sekisho off --yes")}
	}
	if !u.agreed(ctx, "Take every rule and every ban of ours away? SSH is then open to whomever other firewalls let in.") {
		return errors.New("nothing was changed")
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "off"
	}
	if u.ask(ctx, fmt.Sprintf("To be sure that it is this host: type %s:", name)) != name {
		return errors.New("nothing was changed")
	}
	return nil
}
