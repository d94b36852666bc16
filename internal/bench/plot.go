package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chart is a picture of bars, in panels one below the other.
type chart struct {
	title  string
	foot   []string
	panels []panel
}

// panel has its own scale: from 0, or logarithmic where the greatest value is over
// logFrom times the least.
type panel struct {
	title string
	show  func(float64) string
	bars  []bar
}

type bar struct {
	name      string
	text      string  // beside the bar
	value     float64 // not over 0: there is no bar
	low, high float64 // the range of the rounds; not drawn when both are equal
	ours      bool
	bound     bool // the value is at least this
}

// Of a chart, in pixels.
const (
	chartWidth  = 860
	barLeft     = 100
	barSpace    = 420
	barHeight   = 18
	barStep     = 26
	titleHeight = 40
	headHeight  = 44 // of a panel's title and scale
	footStep    = 16
	logFrom     = 30
)

// style is readable on light and on dark, by the reader's own choice.
const style = `
svg { font: 13px system-ui, sans-serif; }
rect.back { fill: #ffffff; } text { fill: #1f2328; } .small { font-size: 11px; fill: #59636e; }
.head { font-size: 16px; font-weight: 600; } .panel { font-weight: 600; }
.ours { fill: #bc4c00; } .other { fill: #6e7f96; } .bound { opacity: .55; }
.grid { stroke: #d1d9e0; } .range { stroke: #1f2328; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
rect.back { fill: #0d1117; } text { fill: #e6edf3; } .small { fill: #9198a1; }
.ours { fill: #f0883e; } .other { fill: #8b9bb4; } .grid { stroke: #30363d; } .range { stroke: #e6edf3; }
}
`

// svg draws the chart. The same chart gives the same bytes.
func (c chart) svg() []byte {
	height := titleHeight + footStep*len(c.foot) + 14
	for _, p := range c.panels {
		height += headHeight + barStep*len(p.bars)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%[1]d\" height=\"%[2]d\" role=\"img\" aria-labelledby=\"title desc\">\n", chartWidth, height)
	fmt.Fprintf(&b, "<title id=\"title\">%s</title>\n<desc id=\"desc\">%s</desc>\n", escaped(c.title), escaped(c.words()))
	fmt.Fprintf(&b, "<style>%s</style>\n<rect class=\"back\" width=\"%d\" height=\"%d\"/>\n", style, chartWidth, height)
	text(&b, 12, 26, "head", "", c.title)
	y := float64(titleHeight)
	for _, p := range c.panels {
		p.draw(&b, y)
		y += headHeight + float64(barStep*len(p.bars))
	}
	for i, line := range c.foot {
		text(&b, 12, y+18+float64(i*footStep), "small", "", line)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// words are the chart's for who does not see it.
func (c chart) words() string {
	var out strings.Builder
	for _, p := range c.panels {
		out.WriteString(p.title + ":")
		for i, bar := range p.bars {
			if i > 0 {
				out.WriteByte(';')
			}
			out.WriteString(" " + bar.name + " " + bar.text)
		}
		out.WriteString(". ")
	}
	return strings.TrimSpace(out.String())
}

func (p panel) draw(b *bytes.Buffer, top float64) {
	at, ticks := p.scale()
	text(b, 12, top+16, "panel", "", p.title)
	bottom := top + headHeight + float64(barStep*len(p.bars))
	for _, tick := range ticks {
		x := barLeft + barSpace*at(tick)
		fmt.Fprintf(b, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x, top+headHeight-8, x, bottom-4)
		text(b, x, top+headHeight-12, "small", "middle", p.show(tick))
	}
	for i, bar := range p.bars {
		y := top + headHeight + float64(i*barStep)
		text(b, barLeft-8, y+13, "", "end", bar.name)
		end := float64(barLeft)
		if drawn(bar.value) {
			class := "other"
			if bar.ours {
				class = "ours"
			}
			if bar.bound {
				class += " bound"
			}
			width := max(2, barSpace*at(bar.value))
			fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n", class, barLeft, y, width, barHeight)
			end += width
			if drawn(bar.low) && drawn(bar.high) && bar.low < bar.high {
				low, high := barLeft+barSpace*at(bar.low), barLeft+barSpace*at(bar.high)
				fmt.Fprintf(b, "<path class=\"range\" fill=\"none\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6\"/>\n", low, y+9, high, low, y+6, high, y+6)
				end = max(end, high)
			}
		}
		text(b, end+8, y+13, "", "", bar.text)
	}
}

// drawn reports whether a bar can have that length: all of a figure's are between.
func drawn(value float64) bool { return value >= 1e-12 && value <= 1e18 }

// scale returns where a value is, from 0 to 1, and what is written above.
func (p panel) scale() (at func(float64) float64, ticks []float64) {
	least, most := math.Inf(1), 0.0
	for _, bar := range p.bars {
		for _, value := range []float64{bar.value, bar.low, bar.high} {
			if drawn(value) {
				least, most = min(least, value), max(most, value)
			}
		}
	}
	if most == 0 || most/least <= logFrom {
		return func(x float64) float64 { return x / most }, nil
	}
	// A whole decade below the least, so that its bar is seen.
	low, high := math.Floor(math.Log10(least)-0.3), math.Ceil(math.Log10(most))
	for decade := low; decade <= high; decade++ {
		ticks = append(ticks, math.Pow(10, decade))
	}
	return func(x float64) float64 { return (math.Log10(x) - low) / (high - low) }, ticks
}

func text(b *bytes.Buffer, x, y float64, class, anchor, s string) {
	fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%.1f\"", x, y)
	if class != "" {
		fmt.Fprintf(b, " class=\"%s\"", class)
	}
	if anchor != "" {
		fmt.Fprintf(b, " text-anchor=\"%s\"", anchor)
	}
	fmt.Fprintf(b, ">%s</text>\n", escaped(s))
}

// escaped is s as XML's text; what XML cannot say becomes U+FFFD.
func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder has no errors
	return b.String()
}

// plotTitles are the plots' that the figures name, and their files'.
var plotTitles = []struct{ name, title string }{
	{"reading", "Reading a log in one go"},
	{"follow", "Following a log file, and banning"},
	{"latency", "From the last failure to the ban in the kernel"},
	{"bans", "10,000 bans"},
	{"rest", "Memory, and CPU time under load"},
}

// drawInto writes each plot of which there are figures into its file in dir.
func (r *report) drawInto(dir string) error {
	if r.goals {
		return nil
	}
	for _, plot := range plotTitles {
		c := r.chart(plot.name, plot.title)
		if len(c.panels) == 0 {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, plot.name+".svg"), c.svg(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) chart(plot, title string) chart {
	c := chart{title: title}
	for _, f := range r.figures {
		if f.plot != plot {
			continue
		}
		better := " (shorter is better)"
		if f.more {
			better = " (longer is better)"
		}
		p := panel{title: f.name + better, show: f.show}
		for _, program := range append([]string{sekisho}, r.others...) {
			cell := f.cell(program)
			if cell == "" {
				cell = "not measured"
			}
			b := bar{name: program, text: cell, value: f.values[program], ours: program == sekisho, bound: f.atLeast[program]}
			if rounds := f.rounds[program]; len(rounds) > 1 {
				b.low, b.high = slices.Min(rounds), slices.Max(rounds)
			}
			p.bars = append(p.bars, b)
		}
		c.panels = append(c.panels, p)
	}
	c.foot = append([]string{"(×N): how many times better Sekisho's figure is; below 1 the other's is better. Thin lines: from the least to the greatest of the rounds."}, r.machine...)
	return c
}
