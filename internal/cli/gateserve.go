package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
	"sekisho/internal/systemd"
)

const gateLong = `Be the gate that the configuration's gate.serve makes this machine, in the foreground, until a signal ends it: the pages and
the API by which people have doors opened. It needs no rights but to its state folder. ` + "`sekisho run`" + ` has the gate as a part of
it where gate.serve is there; ` + "`sekisho run --without-gate`" + ` leaves it to this command. SIGHUP reads the configuration again.

The first start prints a link that is good once: whoever opens it is the first administrator.`

// serveGateCommand makes cmd, without a subcommand, the gate itself.
func serveGateCommand(g *globals, cmd *cobra.Command) {
	var verbose, jsonLog bool
	cmd.Long = gateLong
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log, closeLog := g.serviceLog(verbose, jsonLog)
		defer closeLog()
		u := newUI(g)
		gate := daemon.NewGate(daemon.GateOptions{
			Load: g.load, StateDir: g.stateDir, Logger: log, Confine: systemd.IsService(),
			First: func(link string, until time.Time) {
				u.line("This gate has no administrator. Whoever opens this link first is; it is good until " + until.Local().Format("2006-01-02 15:04 MST") + ":")
				u.line("  " + link)
			},
		})
		return withReloads(cmd.Context(), gate.Reload, gate.Run)
	}
	cmd.Flags().BoolVar(&verbose, "debug", false, "log more")
	cmd.Flags().BoolVar(&jsonLog, "json-log", false, "log JSON")
}

// withReloads runs what reads its configuration again at each SIGHUP.
func withReloads(ctx context.Context, reload, run func(context.Context) error) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	// Whoever takes our log may go away (journald killed); we stay.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				_ = reload(ctx) // it logs why it failed
			}
		}
	}()
	return aloneError(run(ctx))
}
