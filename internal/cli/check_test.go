package cli

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/posture"
)

// TestGroupFindings: what check tells of security groups, which package access finds, is
// what package posture lists for docs/check.md.
func TestGroupFindings(t *testing.T) {
	files, err := filepath.Glob("../access/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	found := map[string]bool{"group_plan": true} // ours
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(group_[a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
			if m[1] != "group_name" && !strings.HasSuffix(name, "_test.go") {
				found[m[1]] = true
			}
		}
	}
	listed := map[string]bool{}
	for _, k := range posture.Kinds() {
		if strings.HasPrefix(k.ID, "group_") {
			listed[k.ID] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(listed))); diff != "" {
		t.Errorf("-found +listed:\n%s", diff)
	}
}
