package message

import (
	"strings"
	"unicode/utf8"

	"sekisho/internal/printable"
)

const (
	columns  = 78
	maxBytes = 990 // of a line: SMTP takes 998 (RFC 5322, section 2.1.1)
)

// text lays d out for a terminal's columns. What others wrote never begins a line: it is indented.
func (d *document) text() string {
	var b page78
	b.wrapped("", d.heading())
	for _, p := range d.lead {
		b.wrapped("", p)
	}
	if len(d.figures) > 0 {
		b.line("")
		width := 0
		for _, f := range d.figures {
			width = max(width, printable.Width(f.number))
		}
		for _, f := range d.figures {
			b.line("  " + spaces(width-printable.Width(f.number)) + f.number + "  " + f.label)
		}
	}
	for i := range d.sections {
		b.line("")
		b.section(&d.sections[i])
	}
	b.line("")
	b.line("-- ") // what follows is a signature to whoever answers (RFC 3676, section 4.3)
	b.wrapped("", d.foot)
	return b.String()
}

// page78 is lines of at most 78 columns, but for those that cannot be broken.
type page78 struct{ strings.Builder }

// line writes s as one line, whatever its width.
func (b *page78) line(s string) {
	for len(s) > maxBytes {
		n := maxBytes
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		b.WriteString(s[:n] + "\n")
		s = "  " + s[n:]
	}
	b.WriteString(s + "\n")
}

// wrapped writes s in lines that begin with indent.
func (b *page78) wrapped(indent, s string) {
	for _, l := range wrap(s, columns-len(indent)) {
		b.line(indent + l)
	}
}

func (b *page78) section(s *section) {
	if s.title != "" {
		b.wrapped("", s.title)
	}
	for _, p := range s.text {
		b.wrapped("  ", p)
	}
	b.rows(s.rows)
	for _, it := range s.items {
		b.hanging("  "+it.time+"  ", it.title)
		if it.detail != "" {
			b.wrapped(spaces(4+printable.Width(it.time)), it.detail)
		}
	}
	b.bans(s)
	for _, l := range s.log {
		b.line("  " + l)
	}
	for i, c := range s.commands {
		if i > 0 || len(s.text) > 0 {
			b.line("")
		}
		b.wrapped("  ", c.what)
		b.line("      " + c.line)
	}
}

// hanging writes s behind first, and what does not fit below where it began.
func (b *page78) hanging(first, s string) {
	for i, l := range wrap(s, columns-printable.Width(first)) {
		if i > 0 {
			first = spaces(printable.Width(first))
		}
		b.line(first + l)
	}
}

func (b *page78) rows(rows []row) {
	width := 0
	for _, r := range rows {
		width = max(width, printable.Width(r.label))
	}
	for _, r := range rows {
		b.hanging("  "+r.label+spaces(width-printable.Width(r.label))+"  ", r.value)
	}
}

// bans is a table whose last column takes what is left of the line.
func (b *page78) bans(s *section) {
	if len(s.bans) == 0 {
		return
	}
	cells := func(r *banRow) []string {
		c := []string{r.from, r.until, r.prefix, r.country, r.attempts, r.count, r.names}
		if s.head.host != "" {
			c = append([]string{r.host}, c...)
		}
		return c
	}
	table := [][]string{cells(&s.head)}
	for i := range s.bans {
		table = append(table, cells(&s.bans[i]))
	}
	last := len(table[0]) - 1
	right := func(column int) bool { return column == last-1 || column == last-2 } // numbers
	widths := make([]int, last)
	for _, cells := range table {
		for column := range last {
			widths[column] = max(widths[column], printable.Width(cells[column]))
		}
	}
	for _, cells := range table {
		var l strings.Builder
		l.WriteString(" ")
		for column, width := range widths {
			pad := spaces(width - printable.Width(cells[column]))
			if right(column) {
				l.WriteString(" " + pad + cells[column])
			} else {
				l.WriteString(" " + cells[column] + pad)
			}
		}
		l.WriteString("  " + printable.Cut(cells[last], max(12, columns-2-printable.Width(l.String()))))
		b.line(strings.TrimRight(l.String(), " "))
	}
}

func spaces(n int) string { return strings.Repeat(" ", max(n, 0)) }

// wrap breaks s into lines of at most width columns: at spaces, between the characters of
// Japanese, and inside a word only where it is longer than a line.
func wrap(s string, width int) []string {
	width = max(width, 16)
	var lines []string
	line, used := "", 0
	end := func() {
		if line = strings.TrimRight(line, " "); line != "" {
			lines = append(lines, line)
		}
		line, used = "", 0
	}
	for s != "" {
		part := s[:unit(s)]
		s = s[len(part):]
		if used > 0 && used+printable.Width(strings.TrimRight(part, " ")) > width {
			end()
		}
		for printable.Width(strings.TrimRight(part, " ")) > width { // no space in it
			n, w := 0, 0
			for i, r := range part {
				if w += printable.Width(string(r)); w > width {
					break
				}
				n = i + utf8.RuneLen(r)
			}
			lines = append(lines, part[:n])
			part = part[n:]
		}
		if used == 0 {
			part = strings.TrimLeft(part, " ")
		}
		line += part
		used += printable.Width(part)
	}
	end()
	if len(lines) == 0 {
		return []string{""}
	}
	return lines
}

// unit is how many bytes of s must stay on a line: a word with the spaces after it, or a
// character of Japanese with the punctuation that may not begin a line, or begins what may not end one.
func unit(s string) int {
	opened := false
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		rest := s[i+n:]
		switch {
		case r == ' ':
			for i+n < len(s) && s[i+n] == ' ' {
				n++
			}
			if !strings.HasPrefix(s[i+n:], "×") {
				return i + n
			}
		case strings.ContainsRune("「『(（[", r):
			opened = true
		case wide(r):
			opened = false
			next, _ := utf8.DecodeRuneInString(rest)
			if rest == "" || !strings.ContainsRune("、。，．・：；？！」』）)]×ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ…,.:;", next) && next != ' ' {
				return i + n
			}
		default:
			if next, _ := utf8.DecodeRuneInString(rest); rest != "" && wide(next) && !strings.ContainsRune("、。，．・：；？！」』）", next) && !opened {
				return i + n
			}
			opened = false
		}
		i += n
	}
	return len(s)
}

func wide(r rune) bool { return r >= 0x1100 && printable.Width(string(r)) == 2 }
