package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

// ui owns how we speak to people. Whatever it is given may hold an attacker's
// text: nothing that a terminal would obey gets through.
type ui struct {
	g        *globals
	colorOut bool // stdout takes colours
	colorErr bool
	drawErr  bool // stderr is a terminal where a line can be redrawn
	columns  int  // of that terminal
	in       *bufio.Reader
}

func newUI(g *globals) *ui {
	plain := os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb"
	out, _ := terminal(g.stdout)
	err, columns := terminal(g.stderr)
	return &ui{
		g:        g,
		colorOut: out && !plain,
		colorErr: err && !plain,
		drawErr:  err && os.Getenv("TERM") != "dumb" && !(g.json && out), // nothing is drawn into what is printed
		columns:  columns,
	}
}

// terminal reports whether w is a terminal, and its width.
func terminal(w io.Writer) (is bool, columns int) {
	f, ok := fileOf(w)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false, 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns <= 0 {
		columns = 80
	}
	return true, columns
}

// sanitize makes text that others wrote fit for a terminal, on one line. Doing
// it twice does no harm.
func sanitize(s string) string { return printable.Text(s) }

// The styles, in SGR's numbers.
const (
	bold   = "1"
	red    = "1;31"
	green  = "32"
	yellow = "1;33"
)

// paint styles s, which is sanitized, where colours are on.
func paint(on bool, style, s string) string {
	if !on || s == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

// errTold is an error that was told already: it has an exit code, and no text.
var errTold = errors.New("told already")

// errChanges is errTold of a plan that would change something.
var errChanges = fmt.Errorf("there are changes: %w", errTold)

// fail tells an error on stderr, and on a line of its own what to do now.
func (u *ui) fail(err error) {
	if errors.Is(err, errTold) {
		return
	}
	if wrong, ok := errors.AsType[config.Errors](err); ok { // made for a terminal, and with hints of its own
		for i, e := range wrong {
			if i > 0 {
				fmt.Fprintln(u.g.stderr)
			}
			u.failAt(e)
		}
		return
	}
	fmt.Fprintf(u.g.stderr, "%s %s\n", paint(u.colorErr, red, "sekisho:"), lines(err.Error()))
	if h, ok := errors.AsType[*hintError](err); ok {
		u.hint(h.hint)
	}
}

// failAt tells one mistake of a configuration file.
func (u *ui) failAt(e *config.Error) {
	fmt.Fprintf(u.g.stderr, "%s %s\n", paint(u.colorErr, bold, e.Place()+":"), e.Message)
	if source, caret := e.Excerpt(); source != "" {
		fmt.Fprintf(u.g.stderr, "%s\n%s\n", source, strings.Replace(caret, "^", paint(u.colorErr, red, "^"), 1))
	}
	u.hint(e.Hint)
}

// hint tells on stderr what to do now.
func (u *ui) hint(hint string) {
	if hint != "" {
		fmt.Fprintf(u.g.stderr, "%s %s\n", paint(u.colorErr, bold, "hint:"), lines(hint))
	}
}

// lines sanitizes a text of several lines.
func lines(s string) string {
	all := strings.Split(s, "\n")
	for i, line := range all {
		all[i] = sanitize(line)
	}
	return strings.Join(all, "\n")
}

// json prints v as one line of JSON.
func (u *ui) json(v any) error { return json.NewEncoder(u.g.stdout).Encode(v) }

// line prints one line.
func (u *ui) line(s string) { fmt.Fprintln(u.g.stdout, sanitize(s)) }

// warn prints, as a part of what the command tells, what is wrong and what to do
// about it.
func (u *ui) warn(what, remedy string) {
	fmt.Fprintf(u.g.stdout, "%s %s\n", paint(u.colorOut, yellow, "warning:"), sanitize(what))
	if remedy != "" {
		fmt.Fprintf(u.g.stdout, "%s %s\n", paint(u.colorOut, bold, "   hint:"), sanitize(remedy))
	}
}

// table prints rows in columns that line up, also where East Asian text stands
// in them. A first row all in capitals is the head.
func (u *ui) table(rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], printable.Width(sanitize(cell)))
		}
	}
	for r, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			cell = sanitize(cell)
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-printable.Width(cell)+2))
			}
		}
		text := strings.TrimRight(b.String(), " ")
		if r == 0 && isHead(row) {
			text = paint(u.colorOut, bold, text)
		}
		fmt.Fprintln(u.g.stdout, text)
	}
}

func isHead(row []string) bool {
	for _, cell := range row {
		if before, _, _ := strings.Cut(cell, " "); before != strings.ToUpper(before) {
			return false
		}
	}
	return true
}

// interactive reports whether somebody can be asked.
func (u *ui) interactive() bool {
	f, ok := u.g.stdin.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	there, _ := terminal(u.g.stderr)
	return there
}

// ask puts a question on stderr and returns the line that is typed; "" at the end
// of the input, and of ctx.
func (u *ui) ask(ctx context.Context, question string) string {
	fmt.Fprintf(u.g.stderr, "%s ", paint(u.colorErr, bold, sanitize(question)))
	if u.in == nil {
		u.in = bufio.NewReader(u.g.stdin)
	}
	typed := make(chan string, 1)
	go func() {
		line, _ := u.in.ReadString('\n') // what was typed before the end counts
		typed <- strings.TrimSpace(line)
	}()
	select {
	case line := <-typed:
		return line
	case <-ctx.Done():
		fmt.Fprintln(u.g.stderr)
		return ""
	}
}

// agreed asks a question that only a yes answers with yes.
func (u *ui) agreed(ctx context.Context, question string) bool {
	line := strings.ToLower(u.ask(ctx, question+" [y/N]"))
	return line == "y" || line == "yes"
}

// say tells on stderr how it goes.
func (u *ui) say(s string) { fmt.Fprintln(u.g.stderr, sanitize(s)) }

// liveLine begins a line at the end of stderr that is rewritten in place. Where
// stderr is no terminal, nothing is drawn, and what is written to it goes through.
func (u *ui) liveLine() *liveLine {
	return &liveLine{w: u.g.stderr, columns: u.columns, draw: u.drawErr}
}

// liveLine is such a line. Safe for concurrent use.
type liveLine struct {
	w       io.Writer
	columns int
	draw    bool

	mu   sync.Mutex
	text string
}

// show rewrites it; "" takes it off the screen.
func (l *liveLine) show(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.draw || text == l.text {
		return
	}
	l.text = text
	fmt.Fprintf(l.w, "\r%s\x1b[K", printable.Cut(sanitize(text), l.columns-1))
}

// Write writes whole lines above it.
func (l *liveLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == "" {
		return l.w.Write(p)
	}
	if _, err := fmt.Fprintf(l.w, "\r\x1b[K%s%s", p, printable.Cut(sanitize(l.text), l.columns-1)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// progress begins a bar on stderr for total bytes of work; 0: nobody knows how
// many. Where stderr is no terminal, it does nothing.
func (u *ui) progress(total int64) *bar {
	if !u.drawErr {
		return &bar{}
	}
	now := time.Now()
	return &bar{w: u.g.stderr, columns: u.columns, total: total, begun: now, next: now.Add(500 * time.Millisecond)}
}

// bar is a progress bar: one line, redrawn at most ten times a second, and not
// drawn at all for what is done in the twinkling of an eye. Its zero value is
// never drawn.
type bar struct {
	w       io.Writer
	columns int
	total   int64
	begun   time.Time
	next    time.Time // when to draw again
	drawn   bool
}

// at says that n bytes are done.
func (b *bar) at(n int64) {
	if b.w == nil {
		return
	}
	now := time.Now()
	if now.Before(b.next) {
		return
	}
	b.next = now.Add(100 * time.Millisecond)
	b.drawn = true
	fmt.Fprintf(b.w, "\r%s\x1b[K", printable.Cut(b.text(n, now.Sub(b.begun)), b.columns-1))
}

// done takes the bar off the screen; it may be called more than once.
func (b *bar) done() {
	if b.drawn {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
	b.w, b.drawn = nil, false
}

func (b *bar) text(n int64, spent time.Duration) string {
	if b.total <= 0 {
		return fmt.Sprintf("%s read, %s/s", printable.Bytes(n), printable.Bytes(int64(float64(n)/spent.Seconds())))
	}
	const width = 30
	share := min(1, float64(n)/float64(b.total))
	filled := int(share * width)
	text := fmt.Sprintf("%3.0f %% [%s%s] %s of %s", share*100, strings.Repeat("=", filled), strings.Repeat(" ", width-filled), printable.Bytes(n), printable.Bytes(b.total))
	if share > 0 {
		left := time.Duration(float64(spent) * (1 - share) / share)
		text += ", " + left.Round(time.Second).String() + " left"
	}
	return text
}
