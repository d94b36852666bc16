// Package manual writes the manual from what the command line and the configuration's table
// say of themselves: docs/commands.md and the pages for man. Values in, text out: it touches
// no file but in its program pages, and knows neither commands nor keys of its own.
package manual

import (
	"fmt"
	"regexp"
	"strings"
)

// Program is what there is to say of a program.
type Program struct {
	Name     string
	Short    string
	Long     string // paragraphs, with `code`
	Flags    []Flag // that all commands take
	Chapters []Chapter
}

// Chapter is some commands, in the order in which people need them.
type Chapter struct {
	Title    string
	Commands []Command
}

// Command is a command, or a command of a command.
type Command struct {
	Path     string // "sekisho gate audit"
	Args     string // "ADDR | --all"; flags apart
	Short    string
	Long     string // "": Short says it all
	Needs    string // "root"; "": nothing
	Examples []string
	Flags    []Flag
	Group    bool // it does nothing itself: its commands do
	Commands []Command
}

// Flag is a flag of a command.
type Flag struct {
	Name    string // "--output"
	Short   string // "-o", or ""
	Value   string // "FILE"; "": it is given or not
	Default string // "": nothing, or told in Usage
	Usage   string
}

func (f Flag) String() string {
	s := f.Name
	if f.Value != "" {
		s += " " + f.Value
	}
	if f.Short != "" {
		s = f.Short + ", " + s
	}
	return s
}

// usage is the line that shows how a command is typed.
func (c Command) usage() string {
	s := c.Path
	if c.Group {
		return s + " COMMAND"
	}
	if c.Args != "" {
		s += " " + c.Args
	}
	if len(c.Flags) > 0 {
		s += " [flags]"
	}
	return s
}

// text is what a command's name does not say: Long, or the sentence of Short.
func (c Command) text() string {
	if c.Long == "" {
		return c.Short + "."
	}
	return c.Long
}

// paragraphs splits a text at its empty lines, each joined to one line.
func paragraphs(text string) (all []string) {
	for p := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		all = append(all, strings.Join(strings.Fields(p), " "))
	}
	return all
}

// walk visits a command and all of its own.
func (c Command) walk(visit func(Command)) {
	visit(c)
	for _, sub := range c.Commands {
		sub.walk(visit)
	}
}

// Markdown is docs/commands.md.
func (p Program) Markdown() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `# Commands

<!-- Generated from the commands of internal/cli: go test ./internal/cli -update -->

All of them, in the order in which one needs them. %[1]s--help%[1]s after any command says the same, %[1]sman %[2]s-apply%[1]s too. What they exit with
is in [exit-codes.md](exit-codes.md), what they print with %[1]s--json%[1]s in [json.md](json.md), and what the file may say in
[configuration.md](configuration.md). Flags that every command takes:

`, "`", p.Name)
	flagTable(&b, p.Flags)
	for _, chapter := range p.Chapters {
		fmt.Fprintf(&b, "\n- **%s**: ", cell(chapter.Title))
		for i, c := range chapter.Commands {
			if i > 0 {
				b.WriteString(" · ")
			}
			fmt.Fprintf(&b, "[%s](#%s)", strings.TrimPrefix(c.Path, p.Name+" "), strings.ReplaceAll(c.Path, " ", "-"))
		}
	}
	b.WriteByte('\n')
	for _, chapter := range p.Chapters {
		fmt.Fprintf(&b, "\n## %s\n", chapter.Title)
		for _, c := range chapter.Commands {
			c.walk(func(c Command) { c.markdown(&b, strings.Count(c.Path, " ")) })
		}
	}
	return []byte(b.String())
}

func (c Command) markdown(b *strings.Builder, depth int) {
	fmt.Fprintf(b, "\n%s %s\n", strings.Repeat("#", depth+2), c.Path)
	if c.Group && c.Long == "" {
		fmt.Fprintf(b, "\n%s: ", markdown(c.Short))
		for i, sub := range c.Commands {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(b, "`%s`", sub.Path)
		}
		b.WriteString(".\n")
		return
	}
	fmt.Fprintf(b, "\n`%s`", c.usage())
	if c.Needs != "" {
		fmt.Fprintf(b, " · needs %s", markdown(c.Needs))
	}
	b.WriteByte('\n')
	for _, p := range paragraphs(c.text()) {
		b.WriteByte('\n')
		fold(b, markdown(p))
	}
	if len(c.Flags) > 0 {
		b.WriteByte('\n')
		flagTable(b, c.Flags)
	}
	if len(c.Examples) > 0 {
		b.WriteByte('\n')
		if strings.Contains(c.Needs, "Internet") {
			b.WriteString("<!-- needs: Internet -->\n")
		}
		fmt.Fprintf(b, "```console\n$ %s\n```\n", strings.Join(c.Examples, "\n$ "))
	}
}

func flagTable(b *strings.Builder, flags []Flag) {
	b.WriteString("| flag | |\n|---|---|\n")
	for _, f := range flags {
		usage := f.Usage
		if f.Default != "" {
			usage += " (default: `" + f.Default + "`)"
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", cell(f.String()), cell(markdown(usage)))
	}
}

var flagPattern = regexp.MustCompile(`(^|[ (])(--[a-z][a-z-]*[a-z])`)

// markdown escapes what Markdown would take for markup, outside of `code`, and makes flags code.
func markdown(s string) string {
	parts := strings.Split(s, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = strings.NewReplacer("<", `\<`, "*", `\*`, "_", `\_`, "[", `\[`).Replace(parts[i])
		parts[i] = flagPattern.ReplaceAllString(parts[i], "$1`$2`")
	}
	return strings.Join(parts, "`")
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// fold writes a paragraph in lines that an editor shows whole.
func fold(b *strings.Builder, paragraph string) {
	width := 0
	for i, word := range strings.Fields(paragraph) {
		switch {
		case i == 0:
		case width+1+len(word) > 140:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	b.WriteByte('\n')
}
