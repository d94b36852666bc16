//go:build linux && !cgo

package garbage

import (
	"debug/elf"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetStart gives back the pages of the program that its start has touched, most of which
// nothing touches again: they are unchanged copies of the file, and the page cache has what is
// needed once more. A program that is not linked at fixed addresses has pages among them that
// were changed when it was loaded: there it does nothing.
func forgetStart() {
	const self = "/proc/self/exe"
	program, err := elf.Open(self)
	if err != nil {
		return
	}
	defer program.Close()
	path, err := os.Readlink(self)
	if err != nil || program.Type != elf.ET_EXEC {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		var begin, end uintptr
		var may string
		if _, err := fmt.Sscanf(line, "%x-%x %4s", &begin, &end, &may); err != nil || !strings.HasSuffix(line, " "+path+"\n") {
			continue
		}
		if may == "r-xp" || may == "r--p" {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, begin, end-begin, unix.MADV_DONTNEED)
		}
	}
}
