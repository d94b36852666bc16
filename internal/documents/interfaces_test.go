package documents

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/cli"
)

// sources are the program's source files, parsed; tests and tools are not of it.
func sources(t *testing.T, visit func(path string, file *ast.File)) {
	t.Helper()
	files := token.NewFileSet()
	err := filepath.WalkDir(filepath.Join(root, "internal"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"testdata", "bench", "documents", "ec2test"}, d.Name()) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err == nil {
			visit(filepath.ToSlash(path), file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func literal(e ast.Expr) (string, bool) {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		s, err := strconv.Unquote(l.Value)
		return s, err == nil
	}
	return "", false
}

// TestMetrics: docs/metrics.md names every figure of the daemon's, and no other.
func TestMetrics(t *testing.T) {
	name := regexp.MustCompile(`\bsekisho_[a-z0-9_]*[a-z0-9]\b`)
	there := map[string]bool{}
	sources(t, func(path string, file *ast.File) {
		if !strings.Contains(path, "/internal/daemon/") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				if s, ok := literal(e); ok {
					if m := name.FindString(s); m != "" && strings.HasPrefix(s, m) {
						there[m] = true
					}
				}
			}
			return true
		})
	})
	told := map[string]bool{}
	for _, s := range read(t, "docs/metrics.md").spans {
		for _, m := range name.FindAllString(s.text, -1) {
			told[m] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(there)), slices.Sorted(maps.Keys(told))); diff != "" {
		t.Errorf("docs/metrics.md is not what the daemon serves (-served +told):\n%s", diff)
	}
}

// TestEvents: docs/log.md lists the events that are constant words, each with its attributes, as
// they are logged; and what it looks for by example is there.
func TestEvents(t *testing.T) {
	logged := map[string]map[string]bool{}             // by event, its attributes
	word := regexp.MustCompile(`^[a-z_]+( by hand)?$`) // the others are sentences
	sources(t, func(path string, file *ast.File) {
		if !strings.Contains(path, "/internal/daemon/") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Info", "Warn", "Error"}, f.Sel.Name) {
				return true
			}
			event, ok := literal(call.Args[0])
			if !ok || !word.MatchString(event) {
				return true
			}
			if logged[event] == nil {
				logged[event] = map[string]bool{}
			}
			for i := 1; i < len(call.Args); i += 2 {
				if key, ok := literal(call.Args[i]); ok {
					logged[event]["SEKISHO_"+strings.ToUpper(key)] = true
				}
			}
			return true
		})
	})
	want := map[string]string{}
	for event, attributes := range logged {
		want[event] = strings.Join(slices.Sorted(maps.Keys(attributes)), " ")
	}
	d := read(t, "docs/log.md")
	told := map[string]string{}
	for _, tab := range d.tables {
		if tab.rows[0][0] != "event" {
			continue
		}
		for _, row := range tab.rows[1:] {
			told[strings.Trim(row[0], "`")] = strings.Join(slices.Sorted(slices.Values(regexp.MustCompile(`SEKISHO_[A-Z_]+`).FindAllString(row[len(row)-1], -1))), " ")
		}
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("docs/log.md is not what the daemon logs (-logged +told):\n%s", diff)
	}
	for _, b := range d.blocks {
		text := strings.Join(b.lines, "\n")
		for _, m := range regexp.MustCompile(`SEKISHO_EVENT=(\w+)`).FindAllStringSubmatch(text, -1) {
			if want[m[1]] == "" {
				t.Errorf("docs/log.md:%d: no event is %s", b.line, m[1])
			}
		}
	}
}

// TestTables: what docs/exit-codes.md and docs/json.md say of commands is of commands that there are.
func TestTables(t *testing.T) {
	looked := 0
	for _, p := range []string{"docs/exit-codes.md", "docs/json.md"} {
		for _, tab := range read(t, p).tables {
			if head := tab.rows[0][0]; head != "command" && head != "[command](commands.md)" {
				continue
			}
			for _, row := range tab.rows[1:] {
				for _, m := range codePattern.FindAllString(row[0], -1) {
					text := strings.TrimSpace(strings.NewReplacer("`", "", "...", "").Replace(m))
					if strings.HasPrefix(text, "--") {
						continue
					}
					looked++
					args := strings.Fields(text)
					if path, err := cli.Parse(args); err != nil && path != text && path+" --json" != text {
						t.Errorf("%s:%d: %s: %v", p, tab.line, m, err)
					}
				}
			}
		}
	}
	if looked < 40 {
		t.Errorf("only %d commands were looked at", looked)
	}
}

// TestUnits: what a unit starts is a command with flags that there are.
func TestUnits(t *testing.T) {
	units, err := filepath.Glob(filepath.Join(root, "contrib/systemd/*.service"))
	if err != nil || len(units) < 4 {
		t.Fatalf("%v: %q", err, units)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^Exec\w+=[-+!]*/usr/local/bin/sekisho (.*)$`).FindAllStringSubmatch(string(text), -1) {
			if _, err := cli.Parse(strings.Fields(m[1])); err != nil {
				t.Errorf("%s: sekisho %s: %v", filepath.Base(unit), m[1], err)
			}
		}
	}
}
