package garbage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestStartIsForgotten: of the program's own pages few stay after its start, and it works on.
func TestStartIsForgotten(t *testing.T) {
	program := filepath.Join(t.TempDir(), "start")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/start")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program).CombinedOutput()
	var before, after int
	if _, bad := fmt.Sscan(string(out), &before, &after); err != nil || bad != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if after > before*2/3 {
		t.Errorf("%d kB of its file were resident, and %d kB still are", before, after)
	}
}
