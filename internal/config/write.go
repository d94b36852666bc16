package config

import (
	"bytes"
	"fmt"
	"strings"

	"sekisho/internal/printable"
)

// Remark is what File says of a key.
type Remark struct {
	Named bool     // the file has the key, with its value; otherwise it is a comment
	Why   []string // for people; whatever they hold, they stay comments
	// Instead stands in the comment of a key that is not named, in place of its default.
	Instead string
}

// File writes a whole sekisho.yaml with every key and what it does, below head: those
// that remarks (by dotted path, "ssh.port") name with c's value, all others as comments,
// and an example where names are free. version is always there. Where c is the default but for what is named, Parse reads c
// back; but a secret that c holds itself is written as <secret>, which Parse refuses.
func File(c *Config, head []string, remarks map[string]Remark) []byte {
	const width = 98
	var b bytes.Buffer
	comment := func(indent, text string) {
		for _, line := range wrap(printable.Text(text), width-len(indent)-2) {
			b.WriteString(strings.TrimRight(indent+"# "+line, " ") + "\n")
		}
	}
	for _, line := range head {
		comment("", line)
	}
	under := "" // what has names of its own
	table(c).walk("", func(path string, k key) {
		if under != "" && strings.HasPrefix(path, under+".") {
			return // docs/configuration.md has these
		}
		depth := strings.Count(path, ".")
		indent := strings.Repeat("  ", depth)
		r := remarks[path]
		if depth == 0 {
			b.WriteByte('\n')
		}
		comment(indent, strings.ReplaceAll(k.doc, "`", ""))
		if grammar := k.value.grammar(); grammar != "" {
			comment(indent, "("+strings.ReplaceAll(grammar, "`", "")+")")
		}
		for _, why := range r.Why {
			comment(indent, "Here: "+why)
		}
		_, isGroup := k.value.(group)
		text := k.value.text()
		if names, ok := k.value.(branch); ok {
			under = path
			if name, _ := names.inside(); !r.Named || text == "no" || name != "" && text == "{}" {
				fmt.Fprintf(&b, "%s%s:\n", indent, k.name)
				for line := range strings.SplitSeq(names.sample(), "\n") {
					fmt.Fprintf(&b, "%s  # %s\n", indent, line)
				}
				return
			}
		}
		if !r.Named && !isGroup && path != "version" {
			indent += "# "
			if r.Instead != "" {
				text = printable.Text(r.Instead)
			}
		}
		fmt.Fprintf(&b, "%s%s:%s\n", indent, k.name, strings.TrimRight(" "+text, " "))
	})
	return b.Bytes()
}

// Text is c's value of a key, by dotted path, as the file has it; "" for a group, and
// where there is no such key.
func Text(c *Config, path string) (text string) {
	table(c).walk("", func(p string, k key) {
		if p == path {
			text = k.value.text()
		}
	})
	return text
}

// wrap breaks text into lines of at most width columns, where there are spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && printable.Width(line)+1+printable.Width(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimLeft(line+" "+word, " ")
	}
	return append(lines, line)
}
