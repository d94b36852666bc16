package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/journal"
	"sekisho/internal/systemd"
)

func runCommand(g *globals) *cobra.Command {
	var verbose, jsonLog, withoutGate bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Guard this host, in the foreground",
		Long: "Guard this host until a signal ends it. Bans stay in force afterwards and end by themselves.\n" +
			"SIGHUP or `sekisho reload` reads the configuration again.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, closeLog := g.serviceLog(verbose, jsonLog)
			defer closeLog()
			o := g.daemonOptions(log)
			o.WithoutGate, o.Confine = withoutGate, systemd.IsService()
			d := daemon.New(o)
			reload := func(ctx context.Context) error {
				select {
				case <-d.Ready():
					return d.Reload(ctx)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return withReloads(cmd.Context(), reload, d.Run)
		},
	}
	cmd.Flags().BoolVar(&verbose, "debug", false, "log more")
	cmd.Flags().BoolVar(&jsonLog, "json-log", false, "log JSON")
	cmd.Flags().BoolVar(&withoutGate, "without-gate", false, "leave the gate that the configuration asks for to sekisho gate")
	return cmd
}

// load reads the configuration; without a file at the default place the
// defaults hold. A wrong file is a usage error.
func (g *globals) load() (*config.Config, error) {
	cfg, err := config.LoadOrDefault(g.configPath, g.configSet)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return cfg, nil
}

// serviceLog is where the daemon logs: the journal, with fields, where stderr leads
// there and no JSON was asked for; else stderr. What it returns writes what waits.
func (g *globals) serviceLog(debug, jsonLog bool) (log *slog.Logger, end func()) {
	out := newLogWriter(g.stderr)
	log = logger(out, debug, jsonLog)
	if f, ok := g.stderr.(*os.File); ok && !jsonLog && journal.IsStream(os.Getenv("JOURNAL_STREAM"), f) {
		level := slog.LevelInfo
		if debug {
			level = slog.LevelDebug
		}
		h, err := journal.Open(journal.Options{Identifier: "sekisho", Level: level, Fallback: log.Handler()})
		if err == nil {
			return slog.New(h), func() { h.Close(); out.close() }
		}
		log.Warn("the journal takes no entries with fields; logging text", "error", err)
	}
	return log, out.close
}

// logger writes to out; under systemd without the time, which the
// journal adds.
func logger(out io.Writer, debug, jsonLog bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if debug {
		options.Level = slog.LevelDebug
	}
	if jsonLog {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	if os.Getenv("JOURNAL_STREAM") != "" {
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(out, options))
}

func reloadCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read the configuration again",
		Long: "Have the daemon read its configuration file again, and put it in force but for who reaches what (exposure, ssh, admins,\n" +
			"firewall): that is `sekisho apply`'s. A file with a mistake leaves what is in force as it is, and is told.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Looked at here first: the errors come with their places, and the daemon
			// is not troubled with a file that is wrong anyway.
			if _, err := g.load(); err != nil && !errors.Is(err, os.ErrPermission) {
				return err
			}
			var reply daemon.Reply
			if err := newClient(g).post(cmd.Context(), "reload", struct{}{}, &reply); err != nil {
				return err
			}
			return tellReply(g, reply)
		},
	}
}
