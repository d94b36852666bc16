package documents

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTranslation: README.ja.md says the same as README.md, as far as a program can see: the same
// headings in number and order, the same code but for comments, the same links, the same rows
// of tables, as many paragraphs and items.
func TestTranslation(t *testing.T) {
	english, japanese := outline(read(t, "README.md")), outline(read(t, "README.ja.md"))
	if diff := cmp.Diff(english, japanese); diff != "" {
		t.Errorf("README.ja.md is not what README.md is (-README.md +README.ja.md):\n%s", diff)
	}
}

var (
	commentPattern = regexp.MustCompile(`(^|\s)#\s.*$`)
	codePattern    = regexp.MustCompile("`[^`]+`")
)

// outline is what both languages have in common, line by line, in the order of the document.
func outline(d document) (all []string) {
	type at struct {
		line int
		text string
	}
	var parts []at
	for _, h := range d.headings {
		parts = append(parts, at{h.line, "heading " + strings.Repeat("#", h.level)})
	}
	for _, b := range d.blocks {
		parts = append(parts, at{b.line, fmt.Sprintf("```%s %s", b.info, b.needs)})
		for i, line := range b.lines {
			line = strings.TrimRight(commentPattern.ReplaceAllString(line, ""), " ")
			parts = append(parts, at{b.line, fmt.Sprintf("%03d %s", i, line)})
		}
	}
	for _, tab := range d.tables {
		for _, row := range tab.rows {
			// What is typed is the same, and that there is a row; words are translated.
			code := codePattern.FindAllString(row[0], -1)
			parts = append(parts, at{tab.line, fmt.Sprintf("| %d cells, %s", len(row), strings.Join(code, " "))})
		}
	}
	slices.SortStableFunc(parts, func(a, b at) int { return a.line - b.line })
	for _, p := range parts {
		all = append(all, p.text)
	}
	// A sentence of the other language may have its links in another order.
	var links []string
	for _, l := range d.links {
		if l.text != "README.md" && l.text != "README.ja.md" {
			to, _, _ := strings.Cut(l.text, "#")
			links = append(links, "link "+to)
		}
	}
	slices.Sort(links)
	return append(all, links...)
}
