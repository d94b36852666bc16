package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sekisho/internal/daemon"
	"sekisho/internal/printable"
	"sekisho/internal/top"
)

func topCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "top",
		Short: "Watch attacks, bans and trials, live",
		Long: "Watch what is going on, on the whole terminal: attempts a second, who attacks and as whom, bans and grants with the time\n" +
			"that is left, what is on trial, what is wrong first. Keys unban, ban and tell why; ? lists them.\n" +
			"With --json: one object a second, one a line.",
		Example: `  sekisho top`,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			host := topHost{g, newClient(g)}
			if g.json {
				return host.stream(cmd.Context())
			}
			in, ok := g.stdin.(*os.File)
			out, outOK := fileOf(g.stdout)
			switch there, _ := terminal(g.stdout); {
			case !ok || !outOK || !there || !term.IsTerminal(int(in.Fd())):
				return &exitError{exitUsage, withHint(errors.New("top needs a terminal to draw on"), "see `sekisho status`, or use sekisho top --json")}
			case os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "":
				return &exitError{exitUsage, withHint(errors.New("top cannot draw on this terminal (TERM is dumb, or not set)"), "see `sekisho status`, or use sekisho top --json")}
			}
			name, _ := os.Hostname()
			options := top.Options{Name: name, Colour: os.Getenv("NO_COLOR") == "", ASCII: !takesUTF8(os.Getenv)}
			return top.Run(cmd.Context(), host, options, in, out, os.Environ())
		},
	}
}

// takesUTF8 reports whether the terminal's locale has UTF-8, locale(7).
func takesUTF8(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := env(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// topHost is this host for top: what the other commands ask the daemon for.
type topHost struct {
	g      *globals
	client *client
}

// Look implements top.Host.
func (h topHost) Look(ctx context.Context, find string) (top.Look, error) {
	look, err := h.look(ctx, find)
	return look, hinted(err)
}

func (h topHost) look(ctx context.Context, find string) (look top.Look, err error) {
	query := url.Values{}
	if find != "" {
		query.Set("find", find)
	}
	if err := h.client.get(ctx, "live", query, &look.LiveReply); err != nil {
		return look, err
	}
	if _, pending, err := h.g.pendingSSHD(ctx); err == nil { // status tells why it could not be read
		look.SSHD = pending
	}
	return look, nil
}

// Why implements top.Host.
func (h topHost) Why(ctx context.Context, addr netip.Addr) ([]string, error) {
	var reply daemon.WhyReply
	if err := h.client.get(ctx, "why", url.Values{"addr": {addr.String()}}, &reply); err != nil {
		return nil, hinted(err)
	}
	var b bytes.Buffer
	page := *h.g
	page.stdout = &b
	printWhy(&ui{g: &page}, reply)
	return strings.Split(strings.TrimRight(b.String(), "\n"), "\n"), nil
}

// Ban implements top.Host.
func (h topHost) Ban(ctx context.Context, p netip.Prefix) (string, error) {
	if err := notOneself(ctx, p, "if you can come in another way: sekisho ban --force"); err != nil {
		return "", hinted(err)
	}
	var ban daemon.Ban
	if err := h.client.post(ctx, "ban", daemon.BanRequest{Prefix: p}, &ban); err != nil {
		return "", hinted(err)
	}
	return fmt.Sprintf("%s is banned (%s left)", printable.Prefix(ban.Prefix), left(ban, time.Now())), nil
}

// Unban implements top.Host.
func (h topHost) Unban(ctx context.Context, p netip.Prefix) (string, error) {
	var reply daemon.UnbanReply
	if err := h.client.post(ctx, "unban", daemon.UnbanRequest{Prefix: p}, &reply); err != nil {
		return "", hinted(err)
	}
	switch n := len(reply.Lifted); n {
	case 0:
		return printable.Prefix(p) + " was not banned; what was counted is forgotten", nil
	case 1:
		return printable.Prefix(reply.Lifted[0].Prefix) + " is no longer banned", nil
	default:
		return fmt.Sprintf("%d bans lifted", n), nil
	}
}

// EndGrant implements top.Host.
func (h topHost) EndGrant(ctx context.Context, p netip.Prefix) (string, error) {
	var reply daemon.RevokeReply
	if err := h.client.delete(ctx, "grants", daemon.RevokeRequest{Prefix: p}, &reply); err != nil {
		return "", hinted(err)
	}
	return plural(len(reply.Revoked), "grant") + " ended", nil
}

// hinted is an error with its hint as top shows it.
func hinted(err error) error {
	if h, ok := errors.AsType[*hintError](err); ok {
		return &top.Error{Err: errors.New(err.Error()), Hint: h.hint}
	}
	return err
}

// stream prints a look a second, until whoever reads it or ctx ends. A daemon that
// goes away is waited for, but must be there at first.
func (h topHost) stream(ctx context.Context) error {
	u := newUI(h.g)
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for first := true; ; first = false {
		var line any
		look, err := h.look(ctx, "")
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil:
			line = daemon.Failure{Error: err.Error()}
		default:
			line = look
		}
		if err := u.json(line); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}
