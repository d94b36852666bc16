package landlock

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// ground is a folder with what the writer may write, and what it may not.
type ground struct {
	dir, writer string
}

// newGround builds the writer, without cgo as the program itself is.
func newGround(t *testing.T) *ground {
	t.Helper()
	if version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 || version < truncates {
		t.Skipf("LEFT OUT: needs a kernel with Landlock of version 3 (Linux 6.2): this one has %d (%v)", version, errno)
	}
	if os.Geteuid() != 0 {
		t.Skip("LEFT OUT: needs root")
	}
	g := &ground{dir: t.TempDir()}
	g.writer = filepath.Join(g.dir, "writer")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", g.writer, "./testdata/writer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the writer: %v\n%s", err, out)
	}
	for _, name := range []string{"state/below", "run", "tmp", "kept", "elsewhere"} {
		if err := os.MkdirAll(g.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"state/old", "elsewhere/old"} {
		if err := os.WriteFile(g.path(name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g *ground) path(name string) string { return filepath.Join(g.dir, name) }

// folders are the writer's own.
func (g *ground) folders() string { return g.path("state") + ":" + g.path("run") }

// command runs the writer by a program that is given its path, and its arguments: what and
// where in turn, where below the folder. What the writer logs is log.
func (g *ground) command(t *testing.T, before []string, mode, folders string, steps ...string) (got []string, log string) {
	t.Helper()
	args := append(before, g.writer, mode, folders)
	for i, s := range steps {
		if i%2 == 1 && !filepath.IsAbs(s) {
			s = g.path(s)
		}
		args = append(args, s)
	}
	var out, logged bytes.Buffer
	c := exec.CommandContext(t.Context(), args[0], args[1:]...)
	c.Env = append(os.Environ(), "TMPDIR="+g.path("tmp")) // /tmp is where the test's folder is
	c.Stdout, c.Stderr = &out, &logged
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	elsewhere, err := os.Open(g.path("elsewhere"))
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	c.ExtraFiles = []*os.File{elsewhere} // as it is mounted outside
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), logged.String())
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n"), logged.String()
}

// TestConfine: every thread, and a program that is started, may write below the folders and
// nowhere else; all may be read.
func TestConfine(t *testing.T) {
	g := newGround(t)
	var args, want []string
	for _, s := range []struct{ what, where, want string }{
		{"write", "state/new", "done"},
		{"write", "state/old", "done"},
		{"truncate", "state/old", "done"},
		{"move", "state/old", "done"},
		{"remove", "state/below/old", "done"},
		{"start", "state/child", "done"},
		{"listen", "run/sock", "done"},
		{"write", "tmp/new", "done"},
		{"start", "/dev/null", "done"},
		{"read", "elsewhere/old", "done"},
		{"read", "/etc/passwd", "done"},
		{"write", "elsewhere/new", "denied"},
		{"write", "elsewhere/old", "denied"},
		{"truncate", "elsewhere/old", "denied"},
		{"remove", "elsewhere/old", "denied"},
		{"listen", "elsewhere/sock", "denied"},
		{"start", "elsewhere/child", "denied"},
	} {
		args, want = append(args, s.what, s.where), append(want, s.want)
	}
	got, log := g.command(t, nil, "own", g.folders(), args...)
	if diff := cmp.Diff(want, got); diff != "" || !strings.Contains(log, "files are held to folders") {
		t.Errorf("-want +got\n%s%s", diff, log)
	}
}

// TestOthers: programs of others write where the unit lets them, by its mounts; with a unit
// that forbids nothing they do so everywhere.
func TestOthers(t *testing.T) {
	g := newGround(t)
	steps := []string{"write", "state/new", "start", "kept/new", "start", "elsewhere/new", "write", "/proc/self/fd/3/new"}
	got, log := g.command(t, nil, "others", g.folders(), steps...)
	if want := []string{"done", "done", "done", "done"}; !cmp.Equal(got, want) || !strings.Contains(log, "the root is not mounted read-only") {
		t.Errorf("without mounts: got %q, want %q\n%s", got, want, log)
	}

	// As ProtectSystem=strict and ReadWritePaths= have it. The last is a file system that may
	// be written, and is none of those.
	strict := []string{"/bin/sh", "-ec", `mount --make-rprivate /
for kept in "$0/state" "$0/kept"; do mount --bind "$kept" "$kept"; done
mount -o remount,bind,ro /
if mountpoint -q /tmp; then mount -o remount,bind,ro /tmp; fi
exec "$@"`, g.dir}
	got, log = g.command(t, strict, "others", g.path("state"), steps...)
	if len(got) != 4 || !cmp.Equal(got[:2], []string{"done", "done"}) || !strings.HasSuffix(got[2], "exit status 2") || got[3] != "denied" {
		t.Errorf("with mounts: %q\n%s", got, log)
	}
}

// TestRefused: where the kernel refuses it, or a folder is not there, all goes on as before.
func TestRefused(t *testing.T) {
	g := newGround(t)
	steps := []string{"write", "state/new", "write", "elsewhere/new"}
	got, log := g.command(t, nil, "own", g.folders()+":"+g.path("none"), steps...)
	if want := []string{"done", "done"}; !cmp.Equal(got, want) || !strings.Contains(log, "level=INFO") || !strings.Contains(log, "no such file") {
		t.Errorf("a folder that is not there: got %q, want %q\n%s", got, want, log)
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("LEFT OUT: needs setpriv")
	}
	weak := []string{"setpriv", "--bounding-set=-sys_admin"}
	got, log = g.command(t, weak, "own", g.folders(), steps...)
	if want := []string{"done", "done"}; !cmp.Equal(got, want) || !strings.Contains(log, "level=INFO") || !strings.Contains(log, "operation not permitted") {
		t.Errorf("without no_new_privs and CAP_SYS_ADMIN: got %q, want %q\n%s", got, want, log)
	}
	got, log = g.command(t, append(weak, "--no-new-privs"), "own", g.folders(), steps...)
	if want := []string{"done", "denied"}; !cmp.Equal(got, want) {
		t.Errorf("with no_new_privs: got %q, want %q\n%s", got, want, log)
	}
}

func TestMounts(t *testing.T) {
	const info = `21 1 0:19 / / rw,relatime - rootfs rootfs rw
22 21 0:20 / / ro,relatime shared:1 - overlay overlay rw,lowerdir=/a:/b
23 22 0:21 / /proc rw,nosuid - proc proc rw
24 22 8:1 /spool /var/spool/a\040b\134c rw,relatime shared:2 master:1 - ext4 /dev/sda1 rw
25 22 8:1 /home /home ro - ext4 /dev/sda1 rw
26 22 0:22 / /run rw - tmpfs tmpfs rw
27 26 0:22 / /run ro - tmpfs tmpfs rw
`
	got, err := mounts(strings.NewReader(info))
	if want := []string{"/proc", `/var/spool/a b\c`}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := mounts(strings.NewReader("22 1 0:20 / /\n")); err == nil {
		t.Error("half a line is one")
	}
}
