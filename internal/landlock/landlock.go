// Package landlock has the kernel refuse this process what it never does: to write files
// elsewhere than below the folders that are its own (Landlock, landlock(7)). It is a second
// lock behind a unit's ProtectSystem=, and cannot be taken off again. Reading is as before,
// and so are the network and what was opened before. A mechanism: who runs as a service
// imports it.
package landlock

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// oldest is the first version of Landlock that is of use, of Linux 5.19: the one before
// forbids each move of a file from one folder to another, also of those that may be written.
const (
	oldest    = 2
	truncates = 3 // the first that knows truncate(2), of Linux 6.2
)

const (
	ofFiles   = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	ofFolders = ofFiles | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER
	handled = ofFolders | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK // device nodes: nowhere
)

// devices are what any program may write to.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"}

// Confine holds this process, and whatever it starts from now on, for good to write files
// below folders, which have to be there, below the temporary folders, and to the devices that
// anybody writes to.
//
// others: programs are started that are the administrator's. It binds them too, and where they
// write only the unit knows: they keep the mounts that it lets them write; where it forbids
// nothing, nothing is done.
//
// Where it cannot be done that is logged, and nothing is restricted: nobody is to be without
// a guard for the want of a second lock. To become another user's (setuid) is not forbidden to
// what is started, as no_new_privs would: the unit sets that, and without it, or CAP_SYS_ADMIN,
// the kernel refuses.
func Confine(log *slog.Logger, others bool, folders ...string) {
	var more []string
	if others {
		var err error
		if more, err = mounted(); err != nil {
			log.Debug("files are not held to folders by Landlock: programs of others may be started", "error", err)
			return
		}
	}
	switch err := restrict(folders, more); {
	case err == nil:
		log.Debug("files are held to folders by Landlock", "folders", folders, "mounts", more)
	case errors.Is(err, errors.ErrUnsupported):
		log.Debug("files are not held to folders by Landlock", "error", err)
	default:
		log.Info("files are not held to folders by Landlock", "error", err)
	}
}

// restrict is Confine's: more are left out where they cannot be opened. The error is
// errors.ErrUnsupported where the kernel has no such thing, or this program is built with cgo,
// by which Go does not know all threads.
func restrict(folders, more []string) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("ask for Landlock's version: %w", errno)
	}
	if version < oldest {
		return fmt.Errorf("version %d of Landlock, %d is needed: %w", version, oldest, errors.ErrUnsupported)
	}
	known := uint64(handled)
	if version < truncates {
		known &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: known}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("make a rule set of Landlock: %w", errno)
	}
	defer unix.Close(int(set))
	for _, path := range folders {
		if err := allow(set, path, known); err != nil {
			return fmt.Errorf("let %s be written: %w", path, err)
		}
	}
	more = append(append([]string{os.TempDir(), "/var/tmp"}, devices...), more...) // /var/tmp is SQLite's
	for _, path := range more {
		_ = allow(set, path, known) // what cannot be opened cannot be written either
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fmt.Errorf("restrict this process: %w", errno)
	}
	return nil
}

// allow lets what is below path be written, or path itself where it is no folder.
func allow(set uintptr, path string, known uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var is unix.Stat_t
	if err := unix.Fstat(fd, &is); err != nil {
		return err
	}
	rights := known & ofFiles
	if is.Mode&unix.S_IFMT == unix.S_IFDIR {
		rights = known & ofFolders
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// mounted is where file systems are mounted that this process may write, all that it may
// write if its root is mounted read-only, as ProtectSystem=strict has it; else an error.
func mounted() ([]string, error) {
	var root unix.Statfs_t
	if err := unix.Statfs("/", &root); err != nil {
		return nil, err
	}
	if root.Flags&unix.ST_RDONLY == 0 {
		return nil, errors.New("the root is not mounted read-only")
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mounts(f)
}

// mounts are the mount points of a mountinfo (proc_pid_mountinfo(5)) that are not read-only,
// but for the root. Of what is mounted over each other the last counts.
func mounts(r io.Reader) (writable []string, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // an overlay's layers are in its line
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			return nil, fmt.Errorf("%q is no line of mountinfo", lines.Text())
		}
		path := escaped.Replace(fields[4])
		writable = slices.DeleteFunc(writable, func(p string) bool { return p == path })
		if options := strings.Split(fields[5], ","); path != "/" && slices.Contains(options, "rw") {
			writable = append(writable, path)
		}
	}
	return writable, lines.Err()
}

// escaped are the bytes that the kernel writes as numbers there.
var escaped = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#")
