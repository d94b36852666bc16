package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version is set by the linker (see the Makefile).
var version = "dev"

func versionCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long:  "Print the version of this program; with --json that of Go, too.",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if g.json {
				return newUI(g).json(map[string]string{"version": version, "go": runtime.Version()})
			}
			_, err := fmt.Fprintln(g.stdout, "sekisho", version)
			return err
		},
	}
}
