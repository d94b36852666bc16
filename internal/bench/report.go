package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The programs, in the table's order.
const (
	sekisho  = "Sekisho"
	fail2ban = "fail2ban"
	sshguard = "SSHGuard"
	grep     = "grep"
)

// figure is one line of the table.
type figure struct {
	name     string
	values   map[string]float64 // program → value
	show     func(float64) string
	more     bool   // more is better
	goal     string // "" if none was set
	met      bool
	notes    map[string]string // program → in place of, or after, its value
	atLeast  map[string]bool   // the value is a bound: the program was not waited for
	noRatios bool
}

type report struct {
	machine []string
	figures []figure
	left    []string
}

func (r *report) add(f figure) { r.figures = append(r.figures, f) }

func (r *report) leftOut(what, why string) {
	r.left = append(r.left, what+": "+why)
	fmt.Fprintf(os.Stderr, "*** LEFT OUT: %s: %s ***\n", what, why)
}

// missed reports whether a goal was.
func (r *report) missed() bool {
	return slices.ContainsFunc(r.figures, func(f figure) bool { return f.goal != "" && !f.met })
}

var header = []string{"figure", sekisho, "goal", "", fail2ban, sshguard, grep}

func (r *report) rows() [][]string {
	rows := [][]string{header}
	for _, f := range r.figures {
		mark := ""
		if f.goal != "" {
			mark = "missed"
			if f.met {
				mark = "met"
			}
		}
		row := []string{f.name, f.cell(sekisho), f.goal, mark, f.cell(fail2ban), f.cell(sshguard), f.cell(grep)}
		rows = append(rows, row)
	}
	return rows
}

// cell is a program's value, and how many times better ours is.
func (f figure) cell(program string) string {
	value, ok := f.values[program]
	note := f.notes[program]
	if !ok {
		return note
	}
	text := f.show(value)
	if f.atLeast[program] {
		text = "> " + text
	}
	if note != "" {
		text += ", " + note
	}
	ours, ok := f.values[sekisho]
	if program == sekisho || !ok || f.noRatios {
		return text
	}
	ratio := value / ours
	if f.more {
		ratio = ours / value
	}
	if math.IsInf(ratio, 0) || math.IsNaN(ratio) {
		return text
	}
	return fmt.Sprintf("%s (×%s)", text, significant(ratio))
}

// print writes the table for a terminal.
func (r *report) print(w io.Writer) {
	rows := r.rows()
	widths := make([]int, len(header))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range r.machine {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w)
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
	fmt.Fprintln(w, "\n(×N): how many times better Sekisho's figure is in this run.")
	for _, left := range r.left {
		fmt.Fprintln(w, "LEFT OUT:", left)
	}
}

const (
	beginMark = "<!-- begin: make bench -->\n"
	endMark   = "<!-- end: make bench -->\n"
)

// writeInto replaces what stands between the marks of a Markdown file; with only,
// a run of some parts, the lines of its figures alone, and says so.
func (r *report) writeInto(path, only string) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(doc, []byte(beginMark))
	_, after, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return fmt.Errorf("%s: no %q and %q", path, beginMark, endMark)
	}
	var out bytes.Buffer
	out.Write(before)
	out.WriteString(beginMark)
	if only != "" {
		out.WriteString(r.mergedInto(string(rest[:len(rest)-len(after)-len(endMark)]), only))
		out.WriteString(endMark)
		out.Write(after)
		return os.WriteFile(path, out.Bytes(), 0o644)
	}
	for _, line := range r.machine {
		fmt.Fprintf(&out, "- %s\n", line)
	}
	out.WriteByte('\n')
	for i, row := range r.rows() {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			out.WriteString("|" + strings.Repeat("---|", len(row)) + "\n")
		}
	}
	for _, left := range r.left {
		fmt.Fprintf(&out, "\nLeft out: %s\n", left)
	}
	out.WriteString(endMark)
	out.Write(after)
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// mergedInto is old, what a run wrote between the marks, with our figures in place
// of those of the same name, or after all others, and a word of the run itself.
func (r *report) mergedInto(old, only string) string {
	word := "- of a run of its own: " + only + ": "
	ours := map[string]string{}
	var names []string
	for _, row := range r.rows()[1:] {
		ours[row[0]] = fmt.Sprintf("| %s |\n", strings.Join(row, " | "))
		names = append(names, row[0])
	}
	leftOut := func(line string) bool {
		return slices.ContainsFunc(strings.Split(only, ","), func(part string) bool { return strings.HasPrefix(line, "Left out: "+part+":") })
	}
	var intro, table, rest strings.Builder
	for line := range strings.Lines(old) {
		switch {
		case strings.HasPrefix(line, word), leftOut(line):
		case strings.HasPrefix(line, "- "):
			intro.WriteString(line)
		case strings.HasPrefix(line, "|"):
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
			if own, ok := ours[name]; ok {
				line = own
				delete(ours, name)
			}
			table.WriteString(line)
		case strings.HasPrefix(line, "Left out: "):
			rest.WriteString("\n" + line)
		}
	}
	intro.WriteString(word + strings.Join(r.machine[:min(2, len(r.machine))], "; ") + "\n\n")
	for _, name := range names {
		table.WriteString(ours[name])
	}
	for _, left := range r.left {
		rest.WriteString("\nLeft out: " + left + "\n")
	}
	return intro.String() + table.String() + rest.String()
}

// significant writes x with about three digits.
func significant(x float64) string {
	switch a := math.Abs(x); {
	case a >= 1e6:
		return fmt.Sprintf("%.2f M", x/1e6)
	case a >= 1e4:
		return fmt.Sprintf("%.0f k", x/1e3)
	case a >= 1e3:
		return fmt.Sprintf("%.1f k", x/1e3)
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}

func rate(x float64) string      { return significant(x) + "/s" }
func megabytes(x float64) string { return fmt.Sprintf("%.1f MB", x/1e6) }
func percent(x float64) string   { return fmt.Sprintf("%.2f %%", x) }
func seconds(x float64) string {
	switch {
	case x < 0.1:
		return fmt.Sprintf("%.2f ms", x*1e3)
	case x < 1:
		return fmt.Sprintf("%.0f ms", x*1e3)
	default:
		return fmt.Sprintf("%.2f s", x)
	}
}

// median and quantile sort a copy; q is above 0, at most 1.
func median(values []float64) float64 { return quantile(values, 0.5) }

func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	return s[max(0, int(math.Ceil(q*float64(len(s))))-1)]
}

func durations(ds []time.Duration) []float64 {
	out := make([]float64, len(ds))
	for i, d := range ds {
		out[i] = d.Seconds()
	}
	return out
}
