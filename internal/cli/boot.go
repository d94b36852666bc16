package cli

import (
	"github.com/spf13/cobra"

	"sekisho/internal/daemon"
)

func bootCommand(g *globals) *cobra.Command {
	var verbose, jsonLog bool
	cmd := &cobra.Command{
		Use:    "boot",
		Short:  "Put the last confirmed rule set in force, as the boot does",
		Hidden: true, // sekisho-firewall.service calls it
		Long: "Load the last confirmed rule set, the bans and the grants from the state directory, without a network or a daemon.\n" +
			"Where that fails, the exit code is 1 and the host is left as it was. After `sekisho off`, or where nothing was ever\n" +
			"confirmed, there is nothing to load. sekisho-firewall.service runs it before the network is up.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := newLogWriter(g.stderr)
			defer out.close()
			err := aloneError(daemon.Boot(cmd.Context(), g.daemonOptions(logger(out, verbose, jsonLog))))
			if err != nil {
				return err
			}
			if g.json {
				return newUI(g).json(daemon.Reply{OK: true})
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&verbose, "debug", false, "log more")
	cmd.Flags().BoolVar(&jsonLog, "json-log", false, "log JSON")
	return cmd
}
