package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

func configCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration file, or print its schema",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(configCheckCommand(g), configSchemaCommand(g))
	return cmd
}

func configCheckCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check the configuration file and tell every mistake in it",
		Long: "Check reads FILE, or the file that --config names, and tells every mistake in it with its place and what to do.\n" +
			"It exits 0 if there is none, and 2 otherwise. Nothing is changed.",
		Example: `  sekisho config check
  sekisho config check ./sekisho.yaml`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			path := g.configPath
			if len(args) == 1 {
				path = args[0]
			}
			return configCheck(g, path)
		},
	}
}

func configCheck(g *globals, path string) error {
	_, err := config.Load(path)
	switch {
	case g.json:
		return configCheckJSON(g, err)
	case err != nil:
		return &exitError{exitUsage, err}
	}
	_, err = fmt.Fprintf(g.stdout, "%s: ok\n", printable.Text(path))
	return err
}

// configCheckJSON prints what came of a check as JSON: a wrong file is an answer
// too, and is not told again on stderr.
func configCheckJSON(g *globals, err error) error {
	answer := struct {
		OK     bool          `json:"ok"`
		Errors config.Errors `json:"errors,omitempty"`
	}{OK: err == nil}
	if err != nil && !errors.As(err, &answer.Errors) {
		return err
	}
	if err := newUI(g).json(answer); err != nil {
		return err
	}
	if !answer.OK {
		return &exitError{exitUsage, errTold}
	}
	return nil
}

func configSchemaCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of the configuration file, for editors",
		Example: `  sekisho config schema > sekisho.schema.json`,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := g.stdout.Write(config.Schema())
			return err
		},
	}
}
