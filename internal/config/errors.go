package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sekisho/internal/printable"
)

// maxErrors bounds how many errors of one file are told, maxFound how many are
// held until they are in order.
const (
	maxErrors = 20
	maxFound  = 1000
)

// Error is one mistake in a configuration file: where, what, and what to do now.
// All of its text is fit for a terminal, whatever the file holds.
type Error struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // 1-based; 0: the file as a whole
	Column  int    `json:"column"` // 1-based, in characters
	Source  string `json:"source"` // the line, escaped, and cut where it is long
	Message string `json:"message"`
	Hint    string `json:"hint"`

	caret int   // columns of Source before the place
	cause error // the system's error, where there is one
}

// Error returns the place, the message, the source line with a caret under the
// place, and the hint, without a line end.
func (e *Error) Error() string {
	text := e.Place() + ": " + e.Message
	if source, caret := e.Excerpt(); source != "" {
		text += "\n" + source + "\n" + caret
	}
	if e.Hint != "" {
		text += "\nhint: " + e.Hint
	}
	return text
}

// Place is FILE:LINE:COLUMN, or FILE alone.
func (e *Error) Place() string {
	if e.Line == 0 {
		return printable.Text(e.File)
	}
	return fmt.Sprintf("%s:%d:%d", printable.Text(e.File), e.Line, e.Column)
}

// Excerpt is the source line, and a line with a caret under the place; empty
// where the mistake is the file's as a whole.
func (e *Error) Excerpt() (source, caret string) {
	if e.Line == 0 {
		return "", ""
	}
	return fmt.Sprintf("%5d | %s", e.Line, e.Source), fmt.Sprintf("      | %*s", e.caret+1, "^")
}

// Unwrap returns the system's error, if the file could not be read.
func (e *Error) Unwrap() error { return e.cause }

// Errors are all the mistakes of a file, by place; never empty as an error.
type Errors []*Error

// Error returns all errors, an empty line between two.
func (es Errors) Error() string {
	texts := make([]string, len(es))
	for i, e := range es {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n\n")
}

// Unwrap lets errors.Is and errors.As see each error.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// mistakes collects the errors of one file.
type mistakes struct {
	found   Errors
	further int          // beyond maxFound
	hidden  map[int]bool // lines that may hold a secret, beside those that look so
}

// add notes a mistake at a place.
func (m *mistakes) add(at place, hint, format string, args ...any) {
	if len(m.found) == maxFound {
		m.further++
		return
	}
	m.found = append(m.found, &Error{
		Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// hide keeps a line from being shown.
func (m *mistakes) hide(line int) {
	if m.hidden == nil {
		m.hidden = map[int]bool{}
	}
	m.hidden[line] = true
}

// errors returns what was found by place, with the source; nil if nothing was.
func (m *mistakes) errors(file string, src []byte) error {
	if len(m.found) == 0 {
		return nil
	}
	found := m.found
	slices.SortStableFunc(found, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if more := len(found) + m.further - maxErrors; more > 0 {
		found = append(found[:maxErrors:maxErrors], &Error{Message: fmt.Sprintf("%d more errors are not shown", more)})
	}
	lines := strings.Split(string(src), "\n")
	shown := 0
	for _, e := range found {
		shown = max(shown, min(e.Line, len(lines)))
	}
	private, secret := privateLines(lines), secretLines(lines[:shown])
	for _, e := range found {
		e.File = file
		if 0 < e.Line && e.Line <= len(lines) {
			if private(e.Line) {
				e.Source = "(not shown: a private key)"
				continue
			}
			if secret(e.Line) || m.hidden[e.Line] {
				e.Source = "(not shown: it may hold a secret)"
				continue
			}
			e.Source, e.caret = excerpt(lines[e.Line-1], e.Column)
		}
	}
	return found
}

// privateLines returns what tells whether a line, counted from 1, holds something of a
// private key: whatever is wrong with it, it is not put on a terminal or in a log.
func privateLines(lines []string) func(line int) bool {
	within := make(map[int]bool)
	inside := false
	for i, line := range lines {
		begins := privateKey.MatchString(line)
		if inside = inside || begins; inside {
			within[i+1] = true
		}
		if strings.Contains(line, "-----END") {
			inside = false
		}
	}
	return func(line int) bool { return within[line] }
}

// excerpt makes a line printable, cut to what is around column, and counts the
// columns on the terminal before it.
func excerpt(line string, column int) (text string, caret int) {
	const before, after = 60, 40
	var b strings.Builder
	at := 0
	for _, r := range line {
		at++
		if at == column {
			caret = printable.Width(b.String())
		}
		switch {
		case at < column-before:
			continue
		case at == column-before && at > 1, at == column+after:
			b.WriteString("…")
		case at > column+after:
			return b.String(), caret
		case r == '\t':
			b.WriteByte(' ')
		default:
			b.WriteString(printable.Rune(r, string(r)))
		}
	}
	if at < column { // just after the line's end
		caret = printable.Width(b.String())
	}
	return b.String(), caret
}

// quote shows a value from the file in a message.
func quote(s string) string {
	return `"` + printable.Cut(printable.Text(s), 60) + `"`
}
