package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sekisho/internal/manual"
)

// What commands need. Whoever may speak to the daemon is root, or in the group sekisho.
const (
	needNothing  = ""
	onlyHolds    = "-" // it does nothing itself: its commands do
	needDaemon   = "the daemon (as root, or in the group `sekisho`)"
	needRoot     = "root"
	needHost     = "root; with the daemon the group `sekisho` will do"
	needAWS      = "credentials of AWS"
	needDoor     = "the gate and an SSH key that it knows, or credentials of AWS"
	needGate     = "the gate, and an SSH key that it knows"
	needGateRoot = "the gate, and an SSH key of one of its administrators"
)

// chapter is some commands, each by its path and what it needs.
type chapter struct {
	id, title string
	commands  [][2]string
}

// chapters are all commands, in the order in which people need them: of the help, the manual and
// docs/commands.md. A command of a command stands behind it.
var chapters = []chapter{
	{"host", "Protect a host", [][2]string{
		{"init", needNothing},
		{"import", onlyHolds},
		{"import fail2ban", "leave to read fail2ban's files; with `--apply` " + needDaemon},
		{"check", needNothing},
		{"plan", needHost + "; for security groups credentials of AWS"},
		{"apply", needHost + "; for security groups credentials of AWS"},
		{"confirm", needHost},
		{"revert", needHost},
		{"off", needHost},
		{"reload", needDaemon},
		{"run", needRoot},
	}},
	{"look", "See what goes on", [][2]string{
		{"status", needDaemon},
		{"top", needDaemon + "; a terminal, but with `--json`"},
		{"bans", needDaemon},
		{"why", needDaemon + ", for an address"},
		{"ban", needDaemon},
		{"unban", needDaemon},
		{"report", needDaemon + "; without it root"},
		{"explain", needNothing},
	}},
	{"doors", "Open doors", [][2]string{
		{"open", "for a target " + needDoor + "; for this host " + needDaemon},
		{"close", "for a target " + needDoor + "; for this host " + needDaemon},
		{"leases", "one of: the daemon, the gate, credentials of AWS"},
		{"doors", needGate},
		{"ssh", needDoor},
		{"ssh-config", needNothing},
		{"connect", needDoor},
		{"approvals", needGate},
		{"approve", needGate},
		{"deny", needGate},
	}},
	{"groups", "Keep security groups", [][2]string{
		{"who", needDoor},
		{"where", needAWS},
		{"adopt", needAWS},
		{"reap", needAWS},
		{"aws", onlyHolds},
		{"aws policy", needNothing},
	}},
	{"gates", "Keep a gate", [][2]string{
		{"gate", "`gate.serve` in the file, and nothing but its state folder"},
		{"gate people", needGateRoot},
		{"gate invite", needGateRoot},
		{"gate passkey", needGate},
		{"gate disable", needGateRoot},
		{"gate enable", needGateRoot},
		{"gate hosts", needGateRoot},
		{"gate add-host", needGateRoot},
		{"gate enrol", needRoot + ", `gate.url` in the file, and a token of `sekisho gate add-host`"},
		{"gate audit", needGateRoot},
		{"gate audit verify", needGateRoot},
	}},
	{"rest", "Configuration, countries, the rest", [][2]string{
		{"config", onlyHolds},
		{"config check", needNothing},
		{"config schema", needNothing},
		{"notify", onlyHolds},
		{"notify test", "leave to read the secrets that the configuration names"},
		{"country", onlyHolds},
		{"country show", needNothing},
		{"country lookup", needNothing},
		{"country update", "the Internet, or files; write access to the state folder"},
		{"lab", needRoot + ", and sshd"},
		{"boot", needRoot},
		{"version", needNothing},
		{"completion", needNothing},
	}},
}

// group tells cobra of the chapters, for the help.
func group(root *cobra.Command) {
	for _, c := range chapters {
		root.AddGroup(&cobra.Group{ID: c.id, Title: c.title + ":"})
		for _, command := range c.commands {
			for _, cmd := range root.Commands() {
				if cmd.Name() == command[0] {
					cmd.GroupID = c.id
				}
			}
		}
	}
	root.SetHelpCommandGroupID("rest")
	root.SetCompletionCommandGroupID("rest")
}

// tree is the command line as it is, to be read: what it is run with is nobody's.
func tree() *cobra.Command {
	root := newRoot(&globals{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// Manual is what the command line says of itself.
func Manual() manual.Program {
	root := tree()
	p := manual.Program{Name: root.Name(), Short: root.Short, Long: root.Long, Flags: flagsOf(root.PersistentFlags())}
	for _, c := range chapters {
		said := manual.Chapter{Title: c.title}
		for _, command := range c.commands {
			if strings.Contains(command[0], " ") {
				continue
			}
			i := slices.IndexFunc(root.Commands(), func(cmd *cobra.Command) bool { return cmd.Name() == command[0] })
			if i >= 0 {
				said.Commands = append(said.Commands, describe(root.Commands()[i], c.commands))
			}
		}
		p.Chapters = append(p.Chapters, said)
	}
	return p
}

// describe tells of a command and of its own, in the order of a chapter.
func describe(cmd *cobra.Command, order [][2]string) manual.Command {
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	at := func(path string) int { return slices.IndexFunc(order, func(c [2]string) bool { return c[0] == path }) }
	_, args, _ := strings.Cut(cmd.Use, " ")
	if path == "completion" { // cobra's, which is told of shell by shell
		return manual.Command{Path: cmd.CommandPath(), Args: "bash | fish | powershell | zsh", Short: "Print a script by which a shell completes commands, flags and names of targets",
			Long:     "Print a script by which a shell completes commands, flags and names of targets. Packages, and `make install`, put it where shells look.",
			Examples: []string{"source <(sekisho completion bash)"}}
	}
	c := manual.Command{Path: cmd.CommandPath(), Args: args, Short: cmd.Short, Long: cmd.Long, Group: !does(path), Flags: flagsOf(cmd.LocalNonPersistentFlags())}
	if i := at(path); i >= 0 && does(path) {
		c.Needs = order[i][1]
	}
	for line := range strings.Lines(cmd.Example) {
		if line = strings.TrimSpace(line); line != "" {
			c.Examples = append(c.Examples, line)
		}
	}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			c.Commands = append(c.Commands, describe(sub, order))
		}
	}
	slices.SortStableFunc(c.Commands, func(a, b manual.Command) int {
		return at(strings.TrimPrefix(a.Path, "sekisho ")) - at(strings.TrimPrefix(b.Path, "sekisho "))
	})
	return c
}

// does reports whether a command does something itself.
func does(path string) bool {
	return !slices.ContainsFunc(chapters, func(c chapter) bool { return slices.Contains(c.commands, [2]string{path, onlyHolds}) })
}

func flagsOf(set *pflag.FlagSet) (flags []manual.Flag) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		said := manual.Flag{Name: "--" + f.Name, Value: value, Usage: usage}
		if f.Shorthand != "" {
			said.Short = "-" + f.Shorthand
		}
		if f.Value.Type() != "bool" && f.DefValue != "[]" {
			said.Default = f.DefValue
		}
		flags = append(flags, said)
	})
	return flags
}

// Parse tells what is wrong with a command line, the program's name left out: a command or a
// flag that there is not, a wrong number of arguments. Nothing is run. path is the command's,
// as "gate audit".
func Parse(args []string) (path string, err error) {
	root := tree()
	root.InitDefaultHelpFlag()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return "", err
	}
	_, path, _ = strings.Cut(cmd.CommandPath(), " ")
	cmd.SetContext(context.Background())
	cmd.InitDefaultHelpFlag()
	if cmd.DisableFlagParsing {
		return path, nil
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return path, err
	}
	if help, _ := cmd.Flags().GetBool("help"); help {
		return path, nil
	}
	rest = cmd.Flags().Args()
	if !does(path) {
		return path, fmt.Errorf("%s is no command without another", cmd.CommandPath())
	}
	return path, cmd.ValidateArgs(rest)
}
