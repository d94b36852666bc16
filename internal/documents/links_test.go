package documents

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLinks: every link leads to a file or a heading that is there, and from README.md a reader
// comes to every document.
func TestLinks(t *testing.T) {
	documents := map[string]document{}
	for _, p := range paths(t) {
		documents[p] = read(t, p)
	}
	leads := map[string][]string{}
	for p, d := range documents {
		for _, l := range d.links {
			u, err := url.Parse(l.text)
			if err != nil {
				t.Errorf("%s:%d: %v", p, l.line, err)
				continue
			}
			if u.Scheme != "" {
				if u.Scheme != "https" && u.Scheme != "mailto" || u.Scheme == "https" && (u.Host == "" || !strings.Contains(u.Hostname(), ".")) {
					t.Errorf("%s:%d: %s is no https link", p, l.line, l.text)
				}
				continue
			}
			to := p
			if u.Path != "" {
				to = path.Join(path.Dir(p), u.Path)
				if strings.HasPrefix(to, "../") || strings.HasPrefix(u.Path, "/") {
					t.Errorf("%s:%d: %s leads out of the project", p, l.line, l.text)
					continue
				}
				if _, err := os.Stat(filepath.Join(root, to)); err != nil {
					t.Errorf("%s:%d: %v", p, l.line, err)
					continue
				}
				leads[p] = append(leads[p], to)
			}
			if u.Fragment == "" {
				continue
			}
			other, ok := documents[to]
			if !ok {
				t.Errorf("%s:%d: %s: no document", p, l.line, l.text)
			} else if !slices.ContainsFunc(other.headings, func(h heading) bool { return h.anchor == u.Fragment }) {
				t.Errorf("%s:%d: %s has no heading #%s", p, l.line, to, u.Fragment)
			}
		}
	}
	reached := map[string]bool{"README.md": true}
	for queue := []string{"README.md"}; len(queue) > 0; queue = queue[1:] {
		for _, to := range leads[queue[0]] {
			if !reached[to] {
				reached[to] = true
				queue = append(queue, to)
			}
		}
	}
	for p := range documents {
		if !reached[p] && !strings.HasPrefix(p, ".github/") {
			t.Errorf("no way leads from README.md to %s: link it", p)
		}
	}
}

// TestNoEmptyDocument: a document has one title, and headings that go down by one at a time.
func TestHeadings(t *testing.T) {
	for _, p := range paths(t) {
		d := read(t, p)
		if len(d.headings) == 0 || d.headings[0].level != 1 {
			t.Errorf("%s does not begin with its title", p)
		}
		for i, h := range d.headings {
			if i > 0 && h.level > d.headings[i-1].level+1 {
				t.Errorf("%s:%d: a heading of level %d below one of %d", p, h.line, h.level, d.headings[i-1].level)
			}
		}
	}
}
