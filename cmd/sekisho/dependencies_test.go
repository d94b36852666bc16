package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDependencies holds docs/dependencies.md to what is there: a direct dependency has its
// line, a line stands for a dependency, and everything that is linked into the program or the
// function is named.
func TestDependencies(t *testing.T) {
	raw, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	text, linked, there := strings.Cut(string(raw), "## Linked with them\n")
	if !there {
		t.Fatal("docs/dependencies.md has no part “Linked with them”")
	}
	ours, _, _ := strings.Cut(text, "## Tools, not linked\n")
	var told []string // "golang.org/x/crypto", "x/sync", "service/ec2"
	for line := range strings.Lines(ours) {
		if cell, isRow := strings.CutPrefix(line, "| "); isRow {
			cell, _, _ = strings.Cut(cell, " |")
			told = append(told, strings.FieldsFunc(cell, func(r rune) bool { return strings.ContainsRune(" ,()", r) })...)
		}
	}
	stands := func(named, module string) bool {
		return module == named || strings.HasSuffix(module, "/"+named) || strings.HasPrefix(module, named+"/")
	}
	direct := strings.Fields(list(t, "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all"))
	for _, module := range direct {
		if !slices.ContainsFunc(told, func(named string) bool { return stands(named, module) }) {
			t.Errorf("%s is a direct dependency, and docs/dependencies.md does not say what for", module)
		}
	}
	for _, named := range told {
		if strings.Contains(named, "/") && !slices.ContainsFunc(direct, func(module string) bool { return stands(named, module) }) {
			t.Errorf("docs/dependencies.md names %s, which is no direct dependency", named)
		}
	}
	var want []string
	for module := range strings.FieldsSeq(list(t, "-deps", "-f", "{{with .Module}}{{if .Indirect}}{{.Path}}{{end}}{{end}}", "../../cmd/sekisho", "../../lambda")) {
		if !slices.Contains(want, module) {
			want = append(want, module)
		}
	}
	slices.Sort(want)
	_, linked, _ = strings.Cut(linked, ":\n")
	if got := strings.Join(strings.Fields(linked), " "); got != strings.Join(want, ", ")+"." {
		t.Errorf("docs/dependencies.md says that these are linked with them:\n%s\nand it is these:\n%s.", got, strings.Join(want, ", "))
	}
}

// list is what `go list` says of the program as it is built for hosts.
func list(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return string(out)
}
