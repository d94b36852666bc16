package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// The programs, in the table's order.
const (
	sekisho  = "Sekisho"
	fail2ban = "fail2ban"
	sshguard = "SSHGuard"
	crowdsec = "CrowdSec"
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
	rounds   samples // those that the values are the medians of, for the plot's ranges
	plot     string  // the name of the plot that it is drawn into
}

// samples are each program's figures, one a round or more.
type samples map[string][]float64

func (s samples) add(program string, value float64) { s[program] = append(s[program], value) }

func (s samples) quantiles(q float64) map[string]float64 {
	out := map[string]float64{}
	for program, values := range s {
		out[program] = quantile(values, q)
	}
	return out
}

func (s samples) means() map[string]float64 {
	out := map[string]float64{}
	for program, values := range s {
		for _, value := range values {
			out[program] += value / float64(len(values))
		}
	}
	return out
}

// table is what a run writes: its target of the Makefile and its columns.
type table struct {
	target string
	goals  bool
	others []string
}

var (
	goalTable = table{"bench", true, []string{fail2ban, sshguard, grep}}
	peerTable = table{"bench-peers", false, []string{fail2ban, sshguard, crowdsec}}
)

func (t table) header() []string {
	header := []string{"figure", sekisho}
	if t.goals {
		header = append(header, "goal", "")
	}
	return append(header, t.others...)
}

func (t table) marks() (begin, end string) {
	return "<!-- begin: make " + t.target + " -->\n", "<!-- end: make " + t.target + " -->\n"
}

type report struct {
	table
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

func (r *report) rows() [][]string {
	rows := [][]string{r.header()}
	for _, f := range r.figures {
		row := []string{f.name, f.cell(sekisho)}
		if r.goals {
			mark := ""
			if f.goal != "" {
				mark = "missed"
				if f.met {
					mark = "met"
				}
			}
			row = append(row, f.goal, mark)
		}
		for _, program := range r.others {
			row = append(row, f.cell(program))
		}
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
	if ratio := f.ratio(program); ratio != "" {
		text += " (" + ratio + ")"
	}
	return text
}

// ratio is how many times better ours is, or nothing.
func (f figure) ratio(program string) string {
	value, ok := f.values[program]
	ours, ok2 := f.values[sekisho]
	if program == sekisho || !ok || !ok2 || f.noRatios {
		return ""
	}
	ratio := value / ours
	if f.more {
		ratio = ours / value
	}
	if math.IsInf(ratio, 0) || math.IsNaN(ratio) {
		return ""
	}
	if !f.atLeast[program] {
		return "×" + significant(ratio)
	}
	if f.more || ratio < 1 {
		return ""
	}
	return "over ×" + significant(ratio)
}

// print writes the table for a terminal.
func (r *report) print(w io.Writer) {
	rows := r.rows()
	widths := make([]int, len(rows[0]))
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

// writeInto replaces what stands between the marks of a Markdown file; with only,
// a run of some parts, the lines of its figures alone, and says so.
func (r *report) writeInto(path, only string) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	beginMark, endMark := r.marks()
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
