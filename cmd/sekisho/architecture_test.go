package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchitecture: docs/architecture.md names every package of ours.
func TestArchitecture(t *testing.T) {
	raw, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	packages := 0
	err = filepath.WalkDir("../../internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == "testdata" {
			return fs.SkipDir
		}
		files, err := filepath.Glob(filepath.Join(path, "*.go"))
		if err != nil || len(files) == 0 || !d.IsDir() {
			return err
		}
		packages++
		if name := strings.TrimPrefix(path, "../../internal/"); !strings.Contains(string(raw), "`"+name+"`") {
			t.Errorf("docs/architecture.md does not name the package %s", name)
		}
		return nil
	})
	if err != nil || packages < 2 {
		t.Fatalf("%d packages, %v", packages, err)
	}
}
