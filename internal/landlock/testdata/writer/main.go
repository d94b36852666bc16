// Command writer confines itself and then does what it is told, with a line each of how that
// went: done, denied, or the error.
//
//	writer own|others FOLDER[:FOLDER] [read|write|truncate|remove|move|listen|start PATH]...
//
// own: it starts no programs of others. move moves a file into the folder below of its own,
// start has a shell write it.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"sekisho/internal/landlock"
)

func main() {
	runtime.LockOSThread() // another thread does the rest
	folders := filepath.SplitList(os.Args[2])
	landlock.Confine(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})), os.Args[1] == "others", folders...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for args := os.Args[3:]; len(args) > 1; args = args[2:] {
			switch err := do(args[0], args[1]); {
			case err == nil:
				fmt.Println("done")
			case errors.Is(err, syscall.EACCES):
				fmt.Println("denied")
			default:
				fmt.Println(err)
			}
		}
	}()
	<-done
}

func do(what, path string) error {
	switch what {
	case "write":
		return os.WriteFile(path, []byte("x"), 0o600)
	case "truncate":
		return os.Truncate(path, 0)
	case "remove":
		return os.Remove(path)
	case "move":
		return os.Rename(path, filepath.Join(filepath.Dir(path), "below", filepath.Base(path)))
	case "listen":
		l, err := net.Listen("unix", path)
		if err == nil {
			err = l.Close()
		}
		return err
	case "read":
		_, err := os.ReadFile(path)
		return err
	case "start":
		out, err := exec.Command("/bin/sh", "-c", `echo x >"$1"`, "sh", path).CombinedOutput()
		if strings.HasSuffix(string(out), "ermission denied\n") {
			return syscall.EACCES
		}
		return err
	}
	return errors.New("what?")
}
