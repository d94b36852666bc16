package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sekisho/internal/manual"
)

// TestPages makes all pages, and has man show each: no warning, and what whatis finds it by.
func TestPages(t *testing.T) {
	dir, again := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, again} {
		if err := write(manual.Edition{Version: "1.2.3", Day: day("1790000000")}, "../../../docs/configuration.md", d); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, page := range pages {
		names = append(names, filepath.Base(page))
		first, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(filepath.Join(again, filepath.Base(page)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("%s is made otherwise each time", page)
		}
	}
	for _, want := range []string{"sekisho.1", "sekisho-apply.1", "sekisho-gate.1", "sekisho-ssh-config.1", "sekisho.yaml.5"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not there: %v", want, names)
		}
	}

	for _, check := range []struct {
		program string
		args    []string
	}{
		{"man", []string{"--warnings=all", "-E", "UTF-8", "-l", "-Tutf8", "-Z"}},
		{"lexgrog", nil},
		{"mandoc", []string{"-T", "lint", "-W", "warning"}},
	} {
		t.Run(check.program, func(t *testing.T) {
			if _, err := exec.LookPath(check.program); err != nil {
				t.Skipf("LEFT OUT: %v", err)
			}
			cmd := exec.CommandContext(t.Context(), check.program, append(check.args, pages...)...)
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80")
			var said bytes.Buffer
			cmd.Stderr = &said
			out, err := cmd.Output()
			if err != nil || said.Len() > 0 || check.program == "mandoc" && len(out) > 0 {
				t.Errorf("%v: %s%s", err, said.String(), out)
			}
			if check.program != "lexgrog" {
				return
			}
			for _, name := range names {
				if !strings.Contains(string(out), name+`: "`+strings.TrimSuffix(name, filepath.Ext(name))+" - ") {
					t.Errorf("whatis does not find %s: %s", name, out)
				}
			}
		})
	}
}
