package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licence matches the names of files that have to come along with a program.
var licence = regexp.MustCompile(`(?i)(licen[cs]e|copying|notice|patents|copyright)`)

type listed struct {
	Dir      string
	Standard bool
	Module   *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// writeLicences writes the licences of all that is linked in, each text once. It runs go in
// the program's module.
func writeLicences(file string) error {
	owners := map[string]map[string]bool{} // of each text
	for _, arch := range []string{"amd64", "arm64"} {
		packages, err := linked(arch)
		if err != nil {
			return err
		}
		for _, p := range packages {
			if err := collect(p, owners); err != nil {
				return err
			}
		}
	}
	type section struct {
		owners []string
		text   string
	}
	var sections []section
	for text, names := range owners {
		sections = append(sections, section{slices.Sorted(maps.Keys(names)), text})
	}
	slices.SortFunc(sections, func(a, b section) int {
		return cmp.Or(slices.Compare(a.owners, b.owners), cmp.Compare(a.text, b.text))
	})
	var b bytes.Buffer
	b.WriteString("What is linked into Sekisho, and its licences.\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s", strings.Repeat("=", 78), strings.Join(s.owners, "\n"), s.text)
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// linked are the packages that the program is made of.
func linked(arch string) ([]listed, error) {
	cmd := exec.Command(cmp.Or(os.Getenv("GO"), "go"), "list", "-deps", "-json=Dir,Standard,Module", "./cmd/sekisho")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

// collect adds the licences of a package: those of its folder, and of those above it in its module.
func collect(p listed, owners map[string]map[string]bool) error {
	if p.Standard || p.Module == nil || p.Module.Main {
		return nil // Go's own: that of golang.org/x
	}
	name, found := p.Module.Path+" "+p.Module.Version, false
	for dir := p.Dir; ; dir = filepath.Dir(dir) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if !entry.Type().IsRegular() || !licence.MatchString(entry.Name()) || strings.HasSuffix(entry.Name(), ".go") {
				continue
			}
			raw, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			if err != nil {
				return err
			}
			text := strings.TrimSpace(strings.ReplaceAll(string(raw), "\r\n", "\n")) + "\n"
			if owners[text] == nil {
				owners[text] = map[string]bool{}
			}
			owners[text][name] = true
			if p.Module.Path == "golang.org/x/sys" {
				owners[text]["Go: its runtime and its standard library"] = true
			}
			found = true
		}
		if dir == p.Module.Dir {
			break
		}
	}
	if !found {
		return fmt.Errorf("%s has no licence", name)
	}
	return nil
}
