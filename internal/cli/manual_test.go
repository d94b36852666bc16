package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"sekisho/internal/manual"
)

// TestCommandsDocument holds docs/commands.md to the commands.
func TestCommandsDocument(t *testing.T) {
	const path = "../../docs/commands.md"
	got := Manual().Markdown()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what the commands say; run go test ./internal/cli -run TestCommandsDocument -update (-want +got):\n%s", path, diff)
	}
}

// TestChapters: every command that people may use has its place in the manual, and says of
// itself what a person must know.
func TestChapters(t *testing.T) {
	var listed, there []string
	for _, c := range chapters {
		for _, command := range c.commands {
			listed = append(listed, command[0])
		}
	}
	root := tree()
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		_, path, _ := strings.Cut(cmd.CommandPath(), " ")
		hidden := cmd.Hidden && path != "boot" // which init systems call, where there is no systemd
		if path != "" && path != "help" && !hidden {
			there = append(there, path)
		}
		names := map[string]bool{}
		for _, sub := range cmd.Commands() {
			if names[sub.Name()] {
				t.Errorf("%s is there twice", sub.CommandPath())
			}
			names[sub.Name()] = true
			if path != "completion" {
				walk(sub)
			}
		}
		if path == "help" || strings.HasPrefix(path, "completion") {
			return
		}
		for line := range strings.Lines(cmd.Long) {
			if len(line) > 150 {
				t.Errorf("%s: a line of %d characters: %s", path, len(line), line)
			}
		}
		if strings.HasSuffix(cmd.Short, ".") || cmd.Short == "" {
			t.Errorf("%s: Short is %q", path, cmd.Short)
		}
		for _, f := range flagsOf(cmd.LocalNonPersistentFlags()) {
			if slices.Contains([]string{"string", "int", "duration", "strings", "stringArray"}, f.Value) {
				t.Errorf("%s %s: its usage has no `VALUE` in backquotes", path, f.Name)
			}
			if f.Value != strings.ToUpper(f.Value) {
				t.Errorf("%s %s: its value is called %q", path, f.Name, f.Value)
			}
		}
		for line := range strings.Lines(cmd.Example) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			if !strings.Contains(line, "sekisho") {
				t.Errorf("%s: its example %q does not call it", path, line)
			}
		}
	}
	walk(root)
	slices.Sort(listed)
	slices.Sort(there)
	if diff := cmp.Diff(there, listed); diff != "" {
		t.Errorf("chapters (internal/cli/manual.go) does not list the commands that there are (-there +listed):\n%s", diff)
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		line, path, err string
	}{
		{line: "apply --within 3m", path: "apply"},
		{line: "gate audit verify", path: "gate audit verify"},
		{line: "gate --debug", path: "gate"},
		{line: "ssh web-prod -L 8080:localhost:80", path: "ssh"},
		{line: "ban 203.0.113.7 --for 2h --reason x", path: "ban"},
		{line: "--config x status", path: "status"},
		{line: "--help", path: ""},
		{line: "ban", path: "ban", err: "accepts 1 arg(s), received 0"},
		{line: "apply --withn 3m", path: "apply", err: "unknown flag: --withn"},
		{line: "aply", path: "", err: `there is no command "aply"`},
		{line: "gate audt", path: "gate", err: "unknown command"},
		{line: "gate people x", path: "gate people", err: "unknown command"},
		{line: "config", path: "config", err: "no command without another"},
	} {
		path, err := Parse(strings.Fields(tt.line))
		said := ""
		if err != nil {
			said = err.Error()
		}
		if path != tt.path || (tt.err == "") != (err == nil) || !strings.Contains(said, tt.err) {
			t.Errorf("%s: %q, %v; want %q, %q", tt.line, path, err, tt.path, tt.err)
		}
	}
}

// TestExitCodes holds docs/exit-codes.md, and the page sekisho(1), to the codes that there are.
func TestExitCodes(t *testing.T) {
	text, err := os.ReadFile("../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var told []string
	for line := range strings.Lines(table) {
		told = append(told, strings.TrimSpace(line))
	}
	page := string(Manual().Pages(manual.Edition{})["sekisho.1"])
	codes := []int{exitOK, exitFailure, exitUsage, exitNoReply, exitWaits}
	if len(told) != len(codes) {
		t.Fatalf("docs/exit-codes.md has %d codes, there are %d", len(told), len(codes))
	}
	for i, code := range codes {
		meaning, ok := strings.CutPrefix(told[i], fmt.Sprintf("| %d | ", code))
		if !ok {
			t.Errorf("%q is not about code %d", told[i], code)
		}
		meaning = strings.NewReplacer("`open`", `\fBopen\fP`, "'", `\(aq`).Replace(strings.TrimSuffix(meaning, " |"))
		if !strings.Contains(page, fmt.Sprintf("\\fB%d\\fP\n%s\n", code, meaning)) {
			t.Errorf("sekisho(1) does not say of %d: %s", code, meaning)
		}
	}
}

// TestNeedsDaemon: where the daemon does not answer, commands that need it end with the code for
// that, and no others are said to need it.
func TestNeedsDaemon(t *testing.T) {
	args := map[string][]string{"why": {"203.0.113.7"}, "ban": {"203.0.113.7"}, "unban": {"--all"}, "top": {"--json"}}
	asked := 0
	for _, c := range chapters {
		for _, command := range c.commands {
			if !strings.HasPrefix(command[1], needDaemon) || command[0] == "report" { // which reads the state itself then
				continue
			}
			asked++
			argv := append(strings.Fields(command[0]), args[command[0]]...)
			var said strings.Builder
			ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
			if code := Run(ctx, append(argv, "--socket", t.TempDir()+"/none"), strings.NewReader(""), &said, &said); code != exitNoReply && command[0] != "top" { // which waits for it
				t.Errorf("%s ends with %d: %s", command[0], code, said.String())
			}
			stop()
		}
	}
	if asked < 6 {
		t.Errorf("only %d commands need the daemon", asked)
	}
}
