package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPack: what Lambda wants is in it, whoever may execute it may, and the same content
// makes the same bytes.
func TestPack(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string]string{"program": strings.Repeat("elf", 1000), "my.yaml": "version: 1\n"} {
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := pack([]string{path("a.zip"), path("program"), path("my.yaml")}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path("program"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := pack([]string{path("b.zip"), path("program"), path("my.yaml")}); err != nil {
		t.Fatal(err)
	}
	var files [2][]byte
	for i, name := range []string{"a.zip", "b.zip"} {
		var err error
		if files[i], err = os.ReadFile(path(name)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("it is another file the second time")
	}
	z, err := zip.OpenReader(path("a.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	got := map[string]string{}
	for _, f := range z.File {
		got[f.Name] = f.Mode().String()
	}
	if diff := cmp.Diff(map[string]string{"bootstrap": "-rwxr-xr-x", "sekisho.yaml": "-rw-r--r--"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPackRefuses(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("version: 1\ntargest: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"nothing said", nil, "usage"},
		{"no program", []string{filepath.Join(dir, "none")}, "no such file"},
		{"a broken configuration", []string{bad, bad}, "targets"},
		{"no configuration", []string{bad, filepath.Join(dir, "none")}, "cannot be read"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := test.args
			if args != nil {
				args = append([]string{filepath.Join(dir, "out.zip")}, args...)
			}
			if err := pack(args); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if _, err := os.Stat(filepath.Join(dir, "out.zip")); err == nil {
				t.Error("it left half a file")
			}
		})
	}
}
