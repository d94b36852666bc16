package documents

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// root is the project's folder.
const root = "../.."

// document is a Markdown document, in as much of it as ours use.
type document struct {
	path     string // below root, as docs/gate.md
	headings []heading
	blocks   []block
	spans    []span // `code` within text
	links    []span // what links lead to
	tables   []table
}

type heading struct {
	line   int
	level  int
	anchor string
}

type block struct {
	line  int // of the fence
	info  string
	needs []string // what its mark says
	lines []string // without the fence's own indentation
}

type span struct {
	line int
	text string
}

type table struct {
	line int
	rows [][]string // without the line below the head
}

var (
	fencePattern = regexp.MustCompile("^( *)```(.*)$")
	needsPattern = regexp.MustCompile(`^ *<!-- needs: (.*) -->$`)
	spanPattern  = regexp.MustCompile("`([^`]+)`")
	linkPattern  = regexp.MustCompile(`\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^() ]+)\)`)
	typedPattern = regexp.MustCompile(`^([\w-]*\$ |(sudo )?(sekisho|systemctl|journalctl|make) )`)
	rulePattern  = regexp.MustCompile(`^[ |:-]+$`)
)

// needs are the marks that there are.
var needs = []string{"systemd", "AWS", "another machine", "Internet"}

func read(t *testing.T, path string) document {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := parse(path, string(text))
	return d
}

// TestForm: documents are written so that the other tests see what is in them.
func TestForm(t *testing.T) {
	for _, p := range paths(t) {
		text, err := os.ReadFile(filepath.Join(root, p))
		if err != nil {
			t.Fatal(err)
		}
		_, wrong := parse(p, string(text))
		for _, w := range wrong {
			t.Errorf("%s:%d: %s", p, w.line, w.text)
		}
	}
}

func parse(path, text string) (d document, wrong []span) {
	d.path = path
	tell := func(line int, what string) { wrong = append(wrong, span{line, what}) }
	anchors := map[string]int{}
	var open *block
	indent := ""
	var mark []string
	blank := true
	list := false
	for i, line := range strings.Split(text, "\n") {
		n := i + 1
		if open != nil {
			if fencePattern.MatchString(line) {
				for i, l := range open.lines {
					if open.info == "" && typedPattern.MatchString(l) {
						tell(open.line+i+1, "a command: have the fence say console, or text where it is no command")
						break
					}
				}
				d.blocks = append(d.blocks, *open)
				open = nil
			} else {
				open.lines = append(open.lines, strings.TrimPrefix(line, indent))
			}
			continue
		}
		if m := needsPattern.FindStringSubmatch(line); m != nil {
			mark = strings.Split(m[1], ", ")
			for _, what := range mark {
				if !slices.Contains(needs, what) {
					tell(n, "needs: "+what+" is none of: "+strings.Join(needs, ", "))
				}
			}
			continue
		}
		if m := fencePattern.FindStringSubmatch(line); m != nil {
			open = &block{line: n, info: m[2], needs: mark}
			indent, mark = m[1], nil
			continue
		}
		if mark != nil {
			tell(n, "what is marked with needs: is no fence")
			mark = nil
		}
		switch {
		case strings.HasPrefix(line, "#"):
			level := len(line) - len(strings.TrimLeft(line, "#"))
			h := heading{n, level, slug(strings.TrimSpace(line[level:]))}
			if seen, again := anchors[h.anchor]; again {
				anchors[h.anchor]++
				h.anchor += "-" + string(rune('0'+seen))
			} else {
				anchors[h.anchor] = 1
			}
			d.headings = append(d.headings, h)
		case strings.HasPrefix(line, "    ") && blank && !list && typedPattern.MatchString(strings.TrimSpace(line)):
			tell(n, "a command in an indented block: use a fence, which says console")
		case strings.HasPrefix(strings.TrimSpace(line), "|"):
			row := cells(line)
			if last := len(d.tables) - 1; last >= 0 && d.tables[last].line+len(d.tables[last].rows)+1 >= n && len(d.tables[last].rows) > 0 {
				if !rulePattern.MatchString(line) {
					d.tables[last].rows = append(d.tables[last].rows, row)
				}
			} else {
				d.tables = append(d.tables, table{n, [][]string{row}})
			}
		}
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, " ") {
			list = regexp.MustCompile(`^([-*]|\d+\.) `).MatchString(line)
		}
		blank = strings.TrimSpace(line) == ""
		for _, m := range spanPattern.FindAllStringSubmatch(strings.ReplaceAll(line, `\|`, "|"), -1) {
			d.spans = append(d.spans, span{n, m[1]})
		}
		for _, m := range linkPattern.FindAllStringSubmatch(spanPattern.ReplaceAllString(line, "x"), -1) {
			d.links = append(d.links, span{n, m[1]})
		}
	}
	if open != nil {
		tell(open.line, "the fence does not end")
	}
	return d, wrong
}

// slug is the anchor that GitHub makes of a heading
// (https://docs.github.com/get-started/writing-on-github: section links).
func slug(title string) string {
	title = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(title, "$1")
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsMark(r), unicode.IsNumber(r):
			b.WriteRune(r)
		}
	}
	return b.String()
}

// cells splits a row of a table; a bar within a cell is escaped.
func cells(row string) (all []string) {
	row = strings.ReplaceAll(strings.TrimSpace(row), `\|`, "\x00")
	row = strings.TrimSuffix(strings.TrimPrefix(row, "|"), "|")
	for c := range strings.SplitSeq(row, "|") {
		all = append(all, strings.TrimSpace(strings.ReplaceAll(c, "\x00", "|")))
	}
	return all
}

// paths are all documents: README.md first, then by name.
func paths(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".github" || slices.Contains([]string{"bin", "testdata", "node_modules"}, d.Name())) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			name, err := filepath.Rel(root, path)
			all = append(all, filepath.ToSlash(name))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b string) int {
		if a == "README.md" {
			return -1
		}
		if b == "README.md" {
			return 1
		}
		return strings.Compare(a, b)
	})
	if len(all) < 10 || all[0] != "README.md" {
		t.Fatalf("the documents are %q", all)
	}
	return all
}

func TestParse(t *testing.T) {
	d, wrong := parse("x.md", strings.Join([]string{
		"# A `b-c` & d", "", "See [it](y.md#z), [`code`](z.md), `[no](link)`.", "", "| a | b |", "|---|---|", "| `x | y` | z |", "",
		"<!-- needs: AWS, systemd -->", "```console", "$ x", "```", "- item", "", "    goes on", "", "text", "", "    make indented", "```", "sekisho x", "```", "## A", "## A", "<!-- needs: luck -->",
	}, "\n"))
	if len(d.blocks) != 2 || d.blocks[0].info != "console" || strings.Join(d.blocks[0].needs, ",") != "AWS,systemd" || d.blocks[0].lines[0] != "$ x" {
		t.Errorf("blocks: %+v", d.blocks)
	}
	if len(d.headings) != 3 || d.headings[0].anchor != "a-b-c--d" || d.headings[2].anchor != "a-1" {
		t.Errorf("headings: %+v", d.headings)
	}
	if len(d.links) != 2 || d.links[0].text != "y.md#z" || d.links[1].text != "z.md" {
		t.Errorf("links: %+v", d.links)
	}
	if len(d.tables) != 1 || len(d.tables[0].rows) != 2 {
		t.Errorf("tables: %+v", d.tables)
	}
	var said []string
	for _, w := range wrong {
		said = append(said, w.text[:12])
	}
	if strings.Join(said, "|") != "a command in|a command: h|needs: luck " {
		t.Errorf("wrong: %q", said)
	}
}
