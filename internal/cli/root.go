// Package cli is the command line: one file a command. It may import anything
// below it; nothing imports it but main.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes, an interface as firm as the flags. docs/exit-codes.md lists them.
const (
	exitOK      = 0
	exitFailure = 1 // it was tried and did not work; for `check`: there are findings
	exitUsage   = 2 // wrong arguments or a wrong configuration file; nothing was tried
	exitNoReply = 3 // the daemon does not run, or its socket may not be opened

	exitChanges = 2 // of `plan` alone, as of diff: there are changes; all that goes wrong is 1 there
)

// Default places.
const (
	defaultConfig   = "/etc/sekisho/sekisho.yaml"
	defaultStateDir = "/var/lib/sekisho"
	defaultSocket   = "/run/sekisho/sekisho.sock"
)

// globals is what every command is given.
type globals struct {
	configPath string
	configSet  bool // --config was given: the file must be there
	stateDir   string
	stateSet   bool // --state-dir was given
	socketSet  bool // --socket was given
	socket     string
	identity   string // the key that signs what is asked of the gate
	json       bool
	stdin      io.Reader
	stdout     io.Writer
	stderr     io.Writer
}

// exitError is an error that has an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// hintError is an error that says what to do now.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// withHint adds what to do now to err.
func withHint(err error, hint string) error { return &hintError{err, hint} }

// Main runs the command line and returns the process' exit code.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
}

// Run is Main with its surroundings as parameters; tests call it.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &output{w: stdout}
	g := &globals{stdin: stdin, stdout: out, stderr: stderr}
	root := newRoot(g)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	err := out.failed(root.ExecuteContext(ctx))
	if err == nil {
		return exitOK
	}
	newUI(g).fail(err)
	if coded, ok := errors.AsType[*exitError](err); ok {
		return coded.code
	}
	return exitFailure
}

func newRoot(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:   "sekisho",
		Short: "The checkpoint in front of SSH",
		Long: "Sekisho stands in front of SSH: it lets in whom the configuration names, and bans who attacks, in the kernel, within a\n" +
			"millisecond of what sshd says. A change of the rules is tried first, and reverts by itself unless it is confirmed.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := "see 'sekisho --help'"
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "did you mean 'sekisho " + near[0] + "'?"
			}
			return &exitError{exitUsage, withHint(fmt.Errorf("there is no command %q", args[0]), hint)}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			g.configSet = cmd.Flags().Changed("config")
			g.stateSet = cmd.Flags().Changed("state-dir")
			g.socketSet = cmd.Flags().Changed("socket")
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{exitUsage, withHint(err, "see '"+cmd.CommandPath()+" --help'")}
	})
	flags := root.PersistentFlags()
	flags.StringVar(&g.configPath, "config", defaultConfig, "configuration `FILE`")
	flags.StringVar(&g.stateDir, "state-dir", defaultStateDir, "where the state is kept, a `DIR`")
	flags.StringVar(&g.socket, "socket", defaultSocket, "the daemon's control `SOCKET`")
	flags.BoolVar(&g.json, "json", false, "print JSON")
	root.AddCommand(
		initCommand(g),
		importCommand(g),
		checkCommand(g),
		planCommand(g),
		applyCommand(g),
		confirmCommand(g),
		revertCommand(g),
		offCommand(g),
		bootCommand(g),
		guardianCommand(g),
		runCommand(g),
		statusCommand(g),
		reportCommand(g),
		topCommand(g),
		bansCommand(g),
		banCommand(g),
		unbanCommand(g),
		whyCommand(g),
		doorsCommand(g),
		openCommand(g),
		closeCommand(g),
		leasesCommand(g),
		gateCommand(g),
		whoCommand(g),
		approvalsCommand(g),
		approveCommand(g),
		denyCommand(g),
		whereCommand(g),
		sshCommand(g),
		connectCommand(g),
		sshConfigCommand(g),
		shutCommand(g),
		reapCommand(g),
		adoptCommand(g),
		awsCommand(g),
		notifyCommand(g),
		reloadCommand(g),
		explainCommand(g),
		labCommand(g),
		configCommand(g),
		countryCommand(g),
		versionCommand(g),
	)
	group(root)
	return root
}

// usageArgs makes cobra's complaint about arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &exitError{exitUsage, withHint(err, "see '"+cmd.CommandPath()+" --help'")}
		}
		return nil
	}
}
