package manual

import (
	"regexp"
	"strings"
)

var (
	linkPattern   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	strongPattern = regexp.MustCompile(`\*\*([^*]+)\*\*`)
	rulePattern   = regexp.MustCompile(`^[ |:-]+$`)
)

// DocumentPage makes a page of a document of the project's, in as much Markdown as that uses:
// headings, paragraphs, lists, tables, fences. Links become their text. A row of a table becomes
// a term, its first cell, and what the others say of it, each with its column's title.
func DocumentPage(name string, section int, edition Edition, short, markdown string, see map[string]int) []byte {
	g := begin(name, section, edition, short)
	g.section("DESCRIPTION")
	d := documentPage{page: g}
	for line := range strings.Lines(markdown) {
		d.line(strings.TrimSuffix(line, "\n"))
	}
	d.flush()
	g.see(see)
	return g.bytes()
}

type documentPage struct {
	*page
	text    []string // the paragraph or item so far
	item    bool
	fence   bool
	columns []string // of the table that is being read
}

func (d *documentPage) line(line string) {
	trimmed := strings.TrimSpace(line)
	if strings.HasPrefix(trimmed, "```") {
		d.flush()
		d.fence = !d.fence
		if d.fence {
			d.apart()
			d.write(".nf\n.RS 4\n")
		} else {
			d.write(".RE\n.fi\n")
		}
		return
	}
	if d.fence {
		d.write("%s\n", roff(line))
		return
	}
	if !strings.HasPrefix(trimmed, "|") {
		d.columns = nil
	}
	switch {
	case trimmed == "", strings.HasPrefix(trimmed, "<!--"), strings.HasPrefix(line, "# "):
		d.flush()
	case strings.HasPrefix(line, "### "):
		d.flush()
		d.subsection(prose(line[4:]))
	case strings.HasPrefix(line, "## "):
		d.flush()
		d.section(strings.ToUpper(prose(line[3:])))
	case strings.HasPrefix(trimmed, "|"):
		d.flush()
		d.row(cells(trimmed))
	case strings.HasPrefix(line, "- "):
		d.flush()
		d.item, d.text = true, []string{line[2:]}
	default:
		d.text = append(d.text, trimmed)
	}
}

func (d *documentPage) flush() {
	text := strings.Join(d.text, " ")
	switch {
	case text == "":
	case d.item:
		d.write(".IP \\(bu 2\n%s\n", inline(prose(text)))
	default:
		d.paragraph(prose(text))
	}
	d.text, d.item = nil, false
}

func (d *documentPage) row(row []string) {
	switch {
	case d.columns == nil:
		d.columns = row
		return
	case rulePattern.MatchString(strings.Join(row, "")):
		return
	}
	d.write(".TP\n%s\n", inline(prose(row[0])))
	said := false
	// What it does comes first, which is the last column.
	for n := range len(row) - 1 {
		i := n
		if n == 0 {
			i = len(row) - 1
		}
		text := prose(row[i])
		if text == "" {
			continue
		}
		if said {
			d.write(".br\n")
		}
		if n > 0 {
			text = strings.ToUpper(d.columns[i][:1]) + d.columns[i][1:] + ": " + text
		}
		d.write("%s\n", inline(text))
		said = true
	}
}

// cells splits a row of a table; a bar within a cell is escaped.
func cells(row string) (all []string) {
	row = strings.ReplaceAll(strings.Trim(row, "|"), `\|`, "\x00")
	for c := range strings.SplitSeq(row, "|") {
		all = append(all, strings.TrimSpace(strings.ReplaceAll(c, "\x00", "|")))
	}
	return all
}

// prose is text without the markup that man has no use for; `code` stays.
func prose(s string) string {
	return strongPattern.ReplaceAllString(linkPattern.ReplaceAllString(s, "$1"), "$1")
}

// ConfigurationPage is sekisho.yaml.5, of docs/configuration.md, which the table of keys makes.
func ConfigurationPage(edition Edition, markdown string) []byte {
	return DocumentPage("sekisho.yaml", 5, edition, "the configuration of sekisho", markdown,
		map[string]int{"sekisho": 1, "sekisho-config": 1, "sekisho-init": 1, "sekisho-apply": 1, "sshd_config": 5})
}
