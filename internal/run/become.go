package run

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Become has another program take our place in this process, with our terminal, files and
// signals. env nil: our own environment. It returns only where that fails; a missing program is
// ErrNotFound.
func Become(args, env []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return fmt.Errorf("start %s: %w", args[0], err)
	}
	if env == nil {
		env = os.Environ()
	}
	return fmt.Errorf("start %s: %w", args[0], syscall.Exec(path, args, env))
}
