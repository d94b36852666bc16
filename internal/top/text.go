package top

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/text/unicode/norm"

	"sekisho/internal/printable"
)

// The styles, in SGR's numbers. Attributes alone must do: colours only help.
const (
	plain    = ""
	bold     = "1"
	faint    = "2"
	reversed = "7"
	red      = "1;31"
	yellow   = "1;33"
	green    = "32"
	cyan     = "36"
)

// styleSheet makes styles of a terminal that may have no colours.
type styleSheet struct{ colour bool }

func (s styleSheet) sgr(style string) string {
	if s.colour {
		return style
	}
	switch style {
	case red, yellow:
		return bold
	case green, cyan:
		return plain
	}
	return style
}

// clean makes text that others wrote fit for a grid of cells: what a terminal would
// obey is escaped, and so is what is not one character to a cell, or to two: what
// joins its neighbours, and what terminals do not agree on. Doing it twice does no harm.
func clean(s string, ascii bool) string {
	if printable.IsPlain(s) {
		return s
	}
	s = printable.Text(norm.NFC.String(s))
	ascii = ascii || !agreed(s)
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 || !ascii && !unicode.In(r, unicode.M, unicode.Sk, joining) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// agreed reports whether we and what draws s would give it the same width, whatever
// stands beside it.
func agreed(s string) bool {
	beside := "x" + s + "x"
	columns := printable.Width(beside)
	return ansi.StringWidth(beside) == columns && ansi.StringWidthWc(beside) == columns
}

// joining are letters and symbols that become one with their neighbours, or nothing:
// parts of Hangul syllables and their fillers, the halves of flags.
var joining = &unicode.RangeTable{
	R16: []unicode.Range16{{0x1100, 0x11ff, 1}, {0x3164, 0x3164, 1}, {0xa960, 0xa97c, 1}, {0xd7b0, 0xd7fb, 1}, {0xffa0, 0xffa0, 1}},
	R32: []unicode.Range32{{0x1f1e6, 0x1f1ff, 1}},
}

// line is one line of the screen, never wider than it.
type line struct {
	b     strings.Builder
	left  int // columns
	full  bool
	ascii bool
	style styleSheet
}

// add writes text, cleaned, and cut where the line ends.
func (l *line) add(style, text string) *line {
	if l.full || text == "" {
		return l
	}
	text = clean(text, l.ascii)
	width := printable.Width(text)
	if width > l.left {
		l.full = true
		if text = l.cut(text, l.left); text == "" {
			return l
		}
		width = printable.Width(text)
	}
	l.left -= width
	if sgr := l.style.sgr(style); sgr != "" {
		l.b.WriteString("\x1b[" + sgr + "m" + text + "\x1b[m")
	} else {
		l.b.WriteString(text)
	}
	return l
}

// cut shortens text to so many columns, the last of which says so.
func (l *line) cut(text string, columns int) string {
	if columns <= 0 {
		return ""
	}
	if l.ascii {
		return strings.TrimSuffix(printable.Cut(text, columns), "…") + "~"
	}
	return printable.Cut(text, columns)
}

func (l *line) String() string { return l.b.String() }

// wrap breaks text into lines of at most so many columns, at spaces where it can. A
// line holds one character at least.
func wrap(text string, columns int) (lines []string) {
	begin, space, used, since := 0, -1, 0, 0 // since: columns after the space
	for i, r := range text {
		w := printable.Width(string(r))
		if used+w > columns && i > begin {
			if r == ' ' {
				lines = append(lines, text[begin:i])
				begin, space, used = i+1, -1, 0
				continue
			}
			if space > begin {
				lines = append(lines, text[begin:space])
				begin, used = space+1, since
			} else {
				lines = append(lines, text[begin:i])
				begin, used = i, 0
			}
			space = -1
		}
		used += w
		since += w
		if r == ' ' {
			space, since = i, 0
		}
	}
	return append(lines, text[begin:])
}

// segments are digits as a calculator shows them: three lines of three columns.
var segments = [...][3]string{
	0: {" _ ", "| |", "|_|"}, 1: {"   ", "  |", "  |"}, 2: {" _ ", " _|", "|_ "},
	3: {" _ ", " _|", " _|"}, 4: {"   ", "|_|", "  |"}, 5: {" _ ", "|_ ", " _|"},
	6: {" _ ", "|_ ", "|_|"}, 7: {" _ ", "  |", "  |"}, 8: {" _ ", "|_|", "|_|"},
	9: {" _ ", "|_|", " _|"},
}

// big draws digits and colons large.
func big(text string) (lines [3]string) {
	for _, r := range text {
		for i := range lines {
			switch {
			case r >= '0' && r <= '9':
				lines[i] += segments[r-'0'][i] + " "
			case i == 0:
				lines[i] += "  "
			default:
				lines[i] += ". "
			}
		}
	}
	return lines
}

// sparkline draws values by height, the greatest of which is most.
func sparkline(values []float64, most float64, ascii bool) string {
	steps := []rune(" ▁▂▃▄▅▆▇█")
	if ascii {
		steps = []rune(" .:-=+*#@")
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if v > 0 && most > 0 {
			i = min(1+int(v/most*float64(len(steps)-1)), len(steps)-1)
		}
		b.WriteRune(steps[i])
	}
	return b.String()
}
