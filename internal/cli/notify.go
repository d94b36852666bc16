package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/notify"
	"sekisho/internal/notify/channels"
	"sekisho/internal/notify/courier"
	"sekisho/internal/notify/message"
	"sekisho/internal/printable"
)

func notifyCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "Who is told of what happens",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(notifyTestCommand(g))
	return cmd
}

// testTime is for one channel.
const testTime = time.Minute

func notifyTestCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "test [CHANNEL...]",
		Short: "Send a test to each channel, and say at which step it fails",
		Long: "Send a test by each channel of the configuration, or by those that are named (mail, webhook, slack, discord, telegram, ntfy,\n" +
			"command), at once and whatever their limits. Where it fails the step is told, with the server's words. The exit code is 1 then.",
		Example: `  sekisho notify test
  sekisho notify test mail`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			host, err := os.Hostname()
			if err != nil {
				host = "localhost"
			}
			whole, unread := cfg.Notify.WithSecrets()
			all, unusable := channels.Of(whole, host)
			broken := errors.Join(unread, unusable)
			for _, name := range args {
				if !slices.ContainsFunc(all, func(c courier.Channel) bool { return c.Name == name }) {
					return &exitError{exitUsage, errors.Join(broken, withHint(fmt.Errorf("there is no channel %q in the configuration", name), there(all)))}
				}
			}
			if len(args) > 0 {
				broken = nil // those that were named are all there
			}
			if len(all) == 0 && broken == nil {
				return &exitError{exitUsage, withHint(fmt.Errorf("%s names no channel", g.configPath), "see `notify` in docs/configuration.md")}
			}
			results := []testView{}
			failed := broken != nil
			u := newUI(g)
			if broken != nil {
				u.fail(broken)
			}
			for _, c := range all {
				if len(args) > 0 && !slices.Contains(args, c.Name) {
					continue
				}
				v := sendTest(cmd.Context(), c, host)
				failed = failed || !v.OK
				results = append(results, v)
				if !g.json {
					u.tested(v)
				}
			}
			if g.json {
				err = u.json(results)
			}
			if err == nil && failed {
				err = &exitError{exitFailure, errTold}
			}
			return err
		},
	}
}

// there says which channels there are.
func there(all []courier.Channel) string {
	if len(all) == 0 {
		return "it names none: see `notify` in docs/configuration.md"
	}
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.Name
	}
	return "there is: " + strings.Join(names, ", ")
}

// testView is how a test went.
type testView struct {
	Channel string `json:"channel"`
	OK      bool   `json:"ok"`
	Step    string `json:"step,omitempty"` // at which it failed
	Error   string `json:"error,omitempty"`
	Said    string `json:"said,omitempty"` // by the server
	Hint    string `json:"hint,omitempty"`
}

func sendTest(ctx context.Context, c courier.Channel, host string) testView {
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	e := notify.Event{Kind: notify.Test, Level: notify.Info, Time: time.Now(), Host: host, What: "a test by " + whoAmI() + ": what happens here is told this way"}
	err := c.Sender.Send(ctx, message.Of([]notify.Event{e}, 0, message.Options{Language: c.Language, ID: rand.Text()}))
	v := testView{Channel: c.Name, OK: err == nil}
	if err == nil {
		return v
	}
	v.Error = printable.Text(err.Error())
	if step, ok := errors.AsType[*notify.Step](err); ok {
		v.Step, v.Said, v.Hint = step.Name, step.Said, step.Hint
		v.Error = printable.Text(step.Err.Error())
	}
	return v
}

func (u *ui) tested(v testView) {
	if v.OK {
		u.line(v.Channel + ": sent")
		return
	}
	text := v.Channel + ": not sent"
	if v.Step != "" {
		text += fmt.Sprintf(", at the step %q", v.Step)
	}
	text += ": " + v.Error
	if v.Said != "" {
		who := "the server"
		if v.Channel == "command" {
			who = "it"
		}
		text += ": " + who + " said " + v.Said
	}
	u.warn(text, v.Hint)
}
