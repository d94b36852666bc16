package report

import (
	"bufio"
	"io"
	"strings"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

// TextOptions are WriteText's. The zero value is for a mail.
type TextOptions struct {
	Language config.Language // English unless set
	Columns  int             // 78 unless set; never less than 40
	Color    bool            // the terminal takes SGR
}

// Subject is the report in a line, as mails have it.
func (r Report) Subject(l config.Language) string {
	return printable.Cut(wordsIn(l).subject(printable.Text(r.Host), r), 200)
}

// Text is the report as a mail has it.
func (r Report) Text(l config.Language) string {
	var b strings.Builder
	_ = r.WriteText(&b, TextOptions{Language: l}) // a Builder does not fail
	return b.String()
}

// WriteText writes the report for a terminal, with tables and bars. Nothing but line
// feeds, and with Color our own styles, is there that a terminal would obey. Bars are
// of a character that is one column wide everywhere, also where "ambiguous" ones are two.
func (r Report) WriteText(out io.Writer, o TextOptions) error {
	if o.Columns <= 0 {
		o.Columns = 78
	}
	t := &textWriter{w: bufio.NewWriter(out), columns: max(40, o.Columns), color: o.Color}
	v := r.view(o.Language)
	title := v.title
	if v.host != "" {
		title += ": " + v.host
	}
	t.line(t.paint("1", printable.Cut(title, t.columns)))
	t.wrapped("", v.period)
	for _, s := range v.warnings {
		t.line("")
		t.wrapped("* ", s)
	}
	if v.calm != "" {
		t.line("")
		t.wrapped("", v.calm)
	}
	t.line("")
	t.facts(v.facts)
	for _, s := range v.sections {
		t.line("")
		t.line(t.paint("1", printable.Cut(s.title, t.columns)))
		t.table(s)
		if s.note != "" {
			t.wrapped("", s.note)
		}
	}
	return t.w.Flush()
}

type textWriter struct {
	w       *bufio.Writer
	columns int
	color   bool
}

func (t *textWriter) line(s string) {
	_, _ = t.w.WriteString(strings.TrimRight(s, " ") + "\n") // Flush tells
}

func (t *textWriter) paint(style, s string) string {
	if !t.color || style == "" || s == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

// wrapped writes s in lines that fit, the first after head, the others below its end.
func (t *textWriter) wrapped(head, s string) {
	indent := strings.Repeat(" ", printable.Width(head))
	for _, part := range wrap(s, t.columns-len(indent)) {
		t.line(head + part)
		head = indent
	}
}

// wrap cuts s at spaces and after commas; where there is none in reach, anywhere.
func wrap(s string, columns int) (lines []string) {
	for {
		end, space, used := 0, 0, 0
		for i, r := range s {
			if used += printable.Width(string(r)); used > columns {
				break
			}
			end = i + len(string(r))
			switch r {
			case ' ':
				space = i
			case '、', '。':
				space = end
			}
		}
		if end == len(s) || end == 0 { // all of it, or a character wider than all
			return append(lines, s)
		}
		if space > end/2 {
			end = space
		}
		lines = append(lines, strings.TrimRight(s[:end], " "))
		s = strings.TrimLeft(s[end:], " ")
	}
}

func pad(s string, columns int) string {
	return s + strings.Repeat(" ", max(0, columns-printable.Width(s)))
}

func padLeft(s string, columns int) string {
	return strings.Repeat(" ", max(0, columns-printable.Width(s))) + s
}

func (t *textWriter) facts(facts []fact) {
	labels, values := 0, 0
	for _, f := range facts {
		labels, values = max(labels, printable.Width(f.label)), max(values, printable.Width(f.value))
	}
	for _, f := range facts {
		at := labels + 2 + values
		head := pad(f.label, labels) + "  " + padLeft(t.paint("1", f.value), values+len(t.paint("1", f.value))-len(f.value))
		if t.columns-at-2 < 20 || f.note == "" {
			t.line(head)
			if f.note != "" {
				t.wrapped("    ", f.note)
			}
			continue
		}
		for i, part := range wrap(f.note, t.columns-at-2) {
			if i > 0 {
				head = strings.Repeat(" ", at)
			}
			t.line(head + "  " + part)
		}
	}
}

const (
	leastCell = 10 // columns that a cut cell keeps
	leastBar  = 6
	mostBar   = 32
)

func (t *textWriter) table(s section) {
	widths := make([]int, len(s.heads))
	for i, h := range s.heads {
		widths[i] = printable.Width(h)
		for _, r := range s.rows {
			widths[i] = max(widths[i], printable.Width(r.cells[i]))
		}
	}
	used := 2 * (len(widths) - 1)
	for _, n := range widths {
		used += n
	}
	// Words give way, from the longest on; numbers never do.
	for words := widths[:len(widths)-s.numbers]; used > t.columns; used-- {
		longest := 0
		for i := range words {
			if words[i] > words[longest] {
				longest = i
			}
		}
		if words[longest] <= leastCell {
			break
		}
		words[longest]--
	}
	bar := min(mostBar, t.columns-used-2)
	if bar < leastBar {
		bar = 0
	}
	write := func(cells []string, style string, share float64) {
		var b strings.Builder
		for i, cell := range cells {
			if i > 0 {
				b.WriteString("  ")
			}
			cell = printable.Cut(cell, widths[i])
			if i >= len(cells)-s.numbers {
				b.WriteString(padLeft(cell, widths[i]))
			} else {
				b.WriteString(pad(cell, widths[i]))
			}
		}
		line := t.paint(style, strings.TrimRight(b.String(), " "))
		if bar > 0 && share > 0 {
			n := max(1, int(share*float64(bar)+0.5))
			line += "  " + t.paint("36", strings.Repeat("#", n))
		}
		t.line(line)
	}
	write(s.heads, "4", -1)
	for _, r := range s.rows {
		style := ""
		if r.minor {
			style = "2"
		}
		write(r.cells, style, r.bar)
	}
}
