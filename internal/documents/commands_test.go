package documents

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sekisho/internal/cli"
)

// command is what somebody types: a line of a console block with what belongs to it.
type command struct {
	line    int
	machine string // of the prompt: "gate", or ""
	text    string // with the text of a <<'END'
	exits   int    // what its comment says that it exits with; 0
}

var (
	promptPattern = regexp.MustCompile(`^([\w.@-]*)\$ +(.*)$`)
	herePattern   = regexp.MustCompile(`<<-?\s*'?"?(\w+)'?"?`)
	exitsPattern  = regexp.MustCompile(`#.*\bexits (\d)\b`)
)

// commands are the commands of a console block, or the one script of an sh block.
func (b block) commands() (all []command) {
	if b.info == "sh" || b.info == "bash" {
		return []command{{line: b.line + 1, text: strings.Join(b.lines, "\n")}}
	}
	if b.info != "console" {
		return nil
	}
	for i := 0; i < len(b.lines); i++ {
		m := promptPattern.FindStringSubmatch(b.lines[i])
		if m == nil {
			continue
		}
		c := command{line: b.line + 1 + i, machine: m[1], text: m[2]}
		if e := exitsPattern.FindStringSubmatch(c.text); e != nil {
			c.exits = int(e[1][0] - '0')
		}
		for strings.HasSuffix(c.text, `\`) && i+1 < len(b.lines) {
			i++
			c.text += "\n" + b.lines[i]
		}
		if h := herePattern.FindStringSubmatch(c.text); h != nil {
			for end := false; !end && i+1 < len(b.lines); {
				i++
				c.text += "\n" + b.lines[i]
				end = strings.TrimSpace(b.lines[i]) == h[1]
			}
		}
		all = append(all, c)
	}
	return all
}

// calls are the calls of a program within a shell's text, each as its arguments. It knows as
// much of a shell as documents need: quotes, comments, operators, substitutions.
func calls(text, program string) (all [][]string) {
	var call []string
	var word strings.Builder
	quoted, inWord, first, calling := rune(0), false, true, false
	end := func() { // of a word
		if !inWord {
			return
		}
		w := word.String()
		word.Reset()
		inWord = false
		switch {
		case calling:
			call = append(call, w)
		case !first:
		case w == program || strings.HasSuffix(w, "/"+program):
			calling, first = true, false
		case w == "sudo" || w == "exec" || w == "time" || w == "if" || w == "then" || w == "do" || w == "!" || regexp.MustCompile(`^\w+=`).MatchString(w):
		default:
			first = false
		}
	}
	stop := func() { // of a command
		end()
		if calling {
			all = append(all, call)
		}
		call, calling, first = nil, false, true
	}
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		next := rune(0)
		if i+1 < len(runes) {
			next = runes[i+1]
		}
		switch {
		case quoted != 0:
			if r == quoted {
				quoted = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quoted, inWord = r, true
		case r == '\\' && next == '\n':
			i++
		case r == '#' && !inWord:
			for i+1 < len(runes) && runes[i+1] != '\n' {
				i++
			}
		case r == '<' && next == '<': // the rest is a file's text, or a word's
			stop()
			return all
		case (r == '>' || r == '<') && next != '(':
			end()
			if calling { // a file: no argument
				for i+1 < len(runes) && strings.ContainsRune("> &", runes[i+1]) {
					i++
				}
				for i+1 < len(runes) && !strings.ContainsRune(" \n;&|)", runes[i+1]) {
					i++
				}
			}
		case strings.ContainsRune(";&|\n(){}$<", r) && (r != '$' || next == '(') && (r != '{' && r != '}' || !inWord):
			stop()
		case r == ' ' || r == '\t':
			end()
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	stop()
	return all
}

func TestCalls(t *testing.T) {
	for _, tt := range []struct {
		text string
		want [][]string
	}{
		{"sudo sekisho apply --within 3m   # on trial", [][]string{{"apply", "--within", "3m"}}},
		{"make build && bin/sekisho plan --groups && sekisho apply", [][]string{{"plan", "--groups"}, {"apply"}}},
		{"journalctl -u sekisho -o short-iso | sekisho explain -", [][]string{{"explain", "-"}}},
		{`sekisho ban 203.0.113.7 --reason "scans us; often"`, [][]string{{"ban", "203.0.113.7", "--reason", "scans us; often"}}},
		{"sekisho ssh-config >> ~/.ssh/config && ssh web", [][]string{{"ssh-config"}}},
		{"source <(sekisho completion bash)", [][]string{{"completion", "bash"}}},
		{"x=$(sekisho leases --json)", [][]string{{"leases", "--json"}}},
		{"A=b sekisho who web", [][]string{{"who", "web"}}},
		{"echo sekisho plan", nil},
		{"sudo sekisho gate enrol - < token", [][]string{{"gate", "enrol", "-"}}},
	} {
		got := calls(tt.text, "sekisho")
		if !slices.EqualFunc(got, tt.want, func(a, b []string) bool { return slices.Equal(a, b) }) {
			t.Errorf("%s: %q, want %q", tt.text, got, tt.want)
		}
	}
}

// noCommands are texts that only look like one.
var noCommands = []string{
	"sekisho gate request 1", // the first line of what is signed
}

// TestCommands: whatever a document has people type is a command of the program, with flags and
// arguments that it takes, or a target of the Makefile.
func TestCommands(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	parsed := 0
	for _, p := range paths(t) {
		d := read(t, p)
		check := func(line int, text string, named bool) {
			for _, args := range calls(text, "sekisho") {
				parsed++
				path, err := cli.Parse(args)
				// In a text a command may be named without what it is given.
				if err != nil && named && (strings.Contains(err.Error(), "flag needs an argument") || path == strings.Join(args, " ") || p == "CHANGELOG.md" && path != "") {
					continue
				}
				if err != nil {
					t.Errorf("%s:%d: sekisho %s: %v", p, line, strings.Join(args, " "), err)
				}
			}
			for _, args := range calls(text, "make") {
				for _, arg := range args {
					if strings.HasPrefix(arg, "-") || strings.Contains(arg, "=") {
						continue
					}
					if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(arg) + `:`).Match(makefile) {
						t.Errorf("%s:%d: the Makefile has no target %s", p, line, arg)
					}
				}
			}
		}
		for _, b := range d.blocks {
			for _, c := range b.commands() {
				check(c.line, c.text, false)
			}
			for i, line := range b.lines {
				if (b.info == "text" || b.info == "") && typedPattern.MatchString(line) {
					check(b.line+1+i, line, false)
				}
			}
		}
		for _, s := range d.spans {
			// What may be left out is checked as if it was there.
			text := strings.NewReplacer("[flags]", "", "[", "", "]", "", "...", "", " | ", "; ", "|", `\|`).Replace(s.text)
			if slices.Contains(noCommands, s.text) {
				continue
			}
			check(s.line, strings.TrimSpace(text), true)
		}
	}
	if parsed < 100 {
		t.Errorf("only %d commands were looked at", parsed)
	}
}
