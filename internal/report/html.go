package report

import (
	_ "embed"
	"fmt"
	"html"
	"io"
	"slices"
	"strconv"
	"strings"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

// The page's style is ours alone: no report is in it.
//
//go:embed page.css
var pageStyle string

// WriteHTML writes the report as a page that stands alone: charts are SVG, there is no
// script, nothing is fetched, it is for light and dark, and for paper. Its policy
// forbids all of that, should a text ever get out of its place.
func (r Report) WriteHTML(out io.Writer, l config.Language) error {
	v := r.view(l)
	p := &page{}
	p.open(v, `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`+
		"\n<style>\n"+pageStyle+"</style>\n", "")
	p.raw("<header>\n<h1>").text(v.title)
	if v.host != "" {
		p.raw(` <span class="host">`).text(v.host).raw("</span>")
	}
	p.raw("</h1>\n<p>").text(v.period).raw("</p>\n</header>\n<main>\n")
	for _, s := range v.warnings {
		p.raw(`<p class="warning">`).text(s).raw("</p>\n")
	}
	if v.calm != "" {
		p.raw(`<p class="calm">`).text(v.calm).raw("</p>\n")
	}
	p.raw("<dl class=\"facts\">\n")
	for _, f := range v.facts {
		p.raw("<div><dt>").text(f.label).raw("</dt><dd>").text(f.value).raw("</dd>")
		if f.note != "" {
			p.raw(`<dd class="note">`).text(f.note).raw("</dd>")
		}
		p.raw("</div>\n")
	}
	p.raw("</dl>\n<div class=\"charts\">\n")
	for _, c := range v.charts {
		p.raw("<figure><figcaption>").text(c.title).raw("</figcaption>\n")
		p.chart(c)
		p.raw("</figure>\n")
	}
	p.raw("</div>\n<div class=\"sections\">\n")
	for _, s := range v.sections {
		p.raw("<section>\n<h2>").text(s.title).raw("</h2>\n<div class=\"wide\"><table>\n<thead><tr>")
		for i, h := range s.heads {
			p.raw(`<th scope="col"` + class(i, s) + `>`).text(h).raw("</th>")
		}
		p.raw(`<th class="bar" aria-hidden="true"></th></tr></thead>` + "\n<tbody>\n")
		for _, r := range s.rows {
			if r.minor {
				p.raw(`<tr class="minor">`)
			} else {
				p.raw("<tr>")
			}
			for i, cell := range r.cells {
				p.raw("<td" + class(i, s) + ">").text(cell).raw("</td>")
			}
			p.raw(`<td class="bar" aria-hidden="true">`)
			if r.bar > 0 {
				p.raw(`<svg viewBox="0 0 100 10" preserveAspectRatio="none"><rect width="` + decimal(max(0.5, 100*r.bar)) + `" height="10"/></svg>`)
			}
			p.raw("</td></tr>\n")
		}
		p.raw("</tbody>\n</table></div>\n")
		if s.note != "" {
			p.raw(`<p class="note">`).text(s.note).raw("</p>\n")
		}
		p.raw("</section>\n")
	}
	p.raw("</div>\n</main>\n</body>\n</html>\n")
	_, err := io.WriteString(out, p.String())
	return err
}

// class is the attribute of the cells of a column, "" for plain words.
func class(i int, s section) string {
	switch {
	case i >= len(s.heads)-s.numbers:
		return ` class="number"`
	case i == 0 && s.short:
		return ` class="solid"`
	}
	return ""
}

// HTML is the report as a mail has it: mail programs show no SVG and know little CSS, so
// that styles stand in the elements, and bars are coloured boxes.
func (r Report) HTML(l config.Language) string {
	const (
		font   = "font-family:-apple-system,'Segoe UI','Hiragino Sans','Noto Sans CJK JP',Meiryo,sans-serif;"
		faint  = "color:#6b7280;"
		line   = "border-bottom:1px solid #d1d5db;"
		number = "text-align:right;"
	)
	v := r.view(l)
	p := &page{}
	p.open(v, "", ` style="margin:0;padding:12px;`+font+`font-size:14px;line-height:1.5"`)
	p.raw(`<div style="max-width:640px;margin:0 auto"><h1 style="font-size:20px;margin:0">`).text(v.title)
	if v.host != "" {
		p.raw(": ").text(v.host)
	}
	p.raw(`</h1><p style="margin:4px 0 16px;` + faint + `">`).text(v.period).raw("</p>\n")
	for _, s := range v.warnings {
		p.raw(`<p style="border-left:4px solid #b45309;padding-left:8px">`).text(s).raw("</p>\n")
	}
	if v.calm != "" {
		p.raw(`<p style="border-left:4px solid #4f7fd6;padding-left:8px">`).text(v.calm).raw("</p>\n")
	}
	const table = `<table role="presentation" cellpadding="3" cellspacing="0" border="0" width="100%" style="border-collapse:collapse;font-size:14px">` + "\n"
	p.raw(table)
	for _, f := range v.facts {
		p.raw(`<tr><td valign="top" style="` + line + `white-space:nowrap">`).text(f.label).
			raw(`</td><td valign="top" align="right" style="` + line + number + `white-space:nowrap;font-weight:bold">`).text(f.value).
			raw(`</td><td valign="top" style="` + line + faint + `">`).text(f.note).raw("</td></tr>\n")
	}
	p.raw("</table>\n")
	for _, s := range v.sections {
		p.raw(`<h2 style="font-size:16px;margin:24px 0 4px">`).text(s.title).raw("</h2>\n")
		p.raw(strings.Replace(table, ` role="presentation"`, "", 1)).raw("<tr>")
		for i, h := range s.heads {
			side := ` align="left"`
			if i >= len(s.heads)-s.numbers {
				side = ` align="right"`
			}
			p.raw(`<th scope="col"` + side + ` style="` + line + faint + `font-weight:normal;font-size:11px;white-space:nowrap">`).text(h).raw("</th>")
		}
		p.raw(`<th width="16%" style="` + line + `"></th></tr>` + "\n")
		for _, r := range s.rows {
			p.raw("<tr>")
			for i, cell := range r.cells {
				style := line
				if i == 0 && !s.short {
					style += "word-break:break-word;"
				} else {
					style += "white-space:nowrap;"
				}
				if r.minor {
					style += faint
				}
				if i >= len(s.heads)-s.numbers {
					p.raw(`<td align="right" style="` + style + number + `">`)
				} else {
					p.raw(`<td style="` + style + `">`)
				}
				p.text(cell).raw("</td>")
			}
			p.raw(`<td width="16%" style="` + line + `">`)
			if r.bar > 0 {
				width := strconv.Itoa(max(1, int(100*r.bar+0.5)))
				p.raw(`<table role="presentation" cellpadding="0" cellspacing="0" border="0" width="` + width + `%"><tr><td height="10" bgcolor="#4f7fd6" style="background:#4f7fd6;font-size:1px;line-height:10px">&nbsp;</td></tr></table>`)
			}
			p.raw("</td></tr>\n")
		}
		p.raw("</table>\n")
		if s.note != "" {
			p.raw(`<p style="margin:4px 0;font-size:12px;` + faint + `">`).text(s.note).raw("</p>\n")
		}
	}
	p.raw("</div>\n</body>\n</html>\n")
	return p.String()
}

// page is HTML in the making. What is not ours goes in by text alone, into elements and
// nowhere else: no attribute, no address and no style is made of a report's texts.
type page struct{ strings.Builder }

func (p *page) raw(s string) *page {
	p.WriteString(s)
	return p
}

func (p *page) text(s string) *page {
	p.WriteString(html.EscapeString(printable.Text(s)))
	return p
}

func (p *page) open(v view, head, body string) {
	lang := config.English
	if v.language == config.Japanese {
		lang = config.Japanese
	}
	p.raw("<!DOCTYPE html>\n<html lang=\"" + string(lang) + "\">\n<head>\n<meta charset=\"utf-8\">\n" +
		`<meta name="viewport" content="width=device-width, initial-scale=1">` + "\n" +
		`<meta name="color-scheme" content="light dark">` + "\n<title>").text(v.title)
	if v.host != "" {
		p.raw(": ").text(v.host)
	}
	p.raw("</title>\n" + head + "</head>\n<body" + body + ">\n")
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 32) }

// The chart's place, in units of its viewBox.
const (
	chartWidth, chartHeight = 480, 160
	plotLeft, plotTop       = 8, 22
	plotWidth, plotHeight   = chartWidth - 2*plotLeft, 110
)

// chart draws a column for each value. The greatest is written over it; labels stand
// where there is room.
func (p *page) chart(c chart) {
	most, at := 0.0, 0
	for i, n := range c.values {
		if n > most {
			most, at = n, i
		}
	}
	step := float64(plotWidth) / float64(max(1, len(c.values)))
	p.raw(fmt.Sprintf(`<svg viewBox="0 0 %d %d" role="img">`, chartWidth, chartHeight)).raw("<title>").text(c.title).raw("</title>\n")
	p.raw(fmt.Sprintf(`<path class="axis" d="M%d %d H%d"/>`+"\n", plotLeft, plotTop+plotHeight, plotLeft+plotWidth))
	middle := func(i int) float64 { return plotLeft + step*(float64(i)+0.5) }
	for i, n := range c.values {
		height := 0.0
		if most > 0 {
			height = n / most * plotHeight
		}
		if n > 0 {
			height = max(height, 1)
		}
		width := min(step*0.76, 44)
		p.raw(fmt.Sprintf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>`, middle(i)-width/2, plotTop+plotHeight-height, width, height)).text(c.texts[i]).raw("</title></rect>\n")
	}
	const room = 70 // of a label
	label := func(i int) (anchor string, x, left, right float64) {
		x = middle(i)
		switch {
		case x+room/2 > chartWidth:
			return "end", plotLeft + plotWidth, plotLeft + plotWidth - room, plotLeft + plotWidth
		case x < room/2:
			return "start", plotLeft, plotLeft, plotLeft + room
		}
		return "middle", x, x - room/2, x + room/2
	}
	free := float64(chartWidth) // to the left of this no label stands yet
	for i, text := range slices.Backward(c.labels) {
		anchor, x, left, right := label(i)
		if right > free {
			continue
		}
		free = left
		p.raw(fmt.Sprintf(`<text class="label" x="%.1f" y="%d" text-anchor="%s">`, x, plotTop+plotHeight+18, anchor)).text(text).raw("</text>\n")
	}
	if most > 0 {
		anchor, x, _, _ := label(at)
		p.raw(fmt.Sprintf(`<text class="most" x="%.1f" y="%d" text-anchor="%s">`, x, plotTop-7, anchor)).text(printable.Grouped(int(most))).raw("</text>\n")
	}
	p.raw("</svg>\n")
}
