package notifytest

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Exim is a real mail server, with a configuration, a spool and mailboxes in a folder of the
// test's own. It is no service: each connection is handed to a process of it, as inetd would,
// which ends with the connection.
type Exim struct {
	Dir     string // conf, spool, log, mail, and the files that it was given
	program string
	attr    *syscall.SysProcAttr
}

// NewExim makes one of a configuration, in which DIR, USER and GROUP stand for its folder and
// for whom it runs as: nobody, or whose the test is. files are put into the folder. The error
// says why there is none on this machine.
func NewExim(t testing.TB, conf string, files map[string][]byte) (*Exim, error) {
	t.Helper()
	e := &Exim{attr: &syscall.SysProcAttr{}}
	for _, name := range []string{"exim4", "exim", "/usr/sbin/exim4", "/usr/sbin/exim"} {
		if path, err := exec.LookPath(name); err == nil {
			e.program = path
			break
		}
	}
	if e.program == "" {
		return nil, errors.New("exim4 is not installed: make deps installs it")
	}
	us, err := user.Current()
	if os.Geteuid() == 0 {
		us, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("there is no user to run exim4 as: %w", err)
	}
	uid, uidErr := strconv.Atoi(us.Uid)
	gid, gidErr := strconv.Atoi(us.Gid)
	group, err := user.LookupGroupId(us.Gid)
	if err := errors.Join(uidErr, gidErr, err); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		e.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	// Not t.TempDir: nobody has to get in there.
	if e.Dir, err = os.MkdirTemp("", "sekisho-exim"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(e.Dir) })
	files = maps.Clone(files)
	if files == nil {
		files = map[string][]byte{}
	}
	files["conf"] = []byte(strings.NewReplacer("DIR", e.Dir, "USER", us.Username, "GROUP", group.Name).Replace(conf))
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(e.Dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"spool", "mail", "log"} {
		if err := os.Mkdir(filepath.Join(e.Dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	err = filepath.WalkDir(e.Dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, uid, gid)
	})
	if err != nil {
		t.Fatal(err)
	}
	return e, nil
}

// Serve answers what connects to l until the test ends.
func (e *Exim) Serve(t testing.TB, l net.Listener) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				f, err := conn.(*net.TCPConn).File()
				conn.Close()
				if err != nil {
					return
				}
				defer f.Close()
				cmd := exec.CommandContext(t.Context(), e.program, "-bs", "-odi", "-C", filepath.Join(e.Dir, "conf"))
				cmd.Stdin, cmd.Stdout, cmd.SysProcAttr, cmd.Dir = f, f, e.attr, e.Dir
				cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
				_ = cmd.Run() // the client sees what came of it
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
}
