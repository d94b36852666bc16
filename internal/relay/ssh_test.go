package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/sshd/sshdtest"
)

// The program of these tests is their ProxyCommand, too: modeEnv has it be that.
const (
	modeEnv   = "SEKISHO_TEST_RELAY"
	reportEnv = "SEKISHO_TEST_RELAY_REPORT"

	modeRelay = "relay"
	modePass  = "pass"
)

// report is what a ProxyCommand says of its end.
type report struct {
	Stats
	Err string
}

func TestMain(m *testing.M) {
	mode := os.Getenv(modeEnv)
	if mode == "" {
		os.Exit(m.Run())
	}
	// ssh ends its ProxyCommand by SIGHUP at times; here the end of its input is to do.
	signal.Ignore(unix.SIGHUP)
	r := report{}
	err := proxy(mode, os.Args[1]+":"+os.Args[2], &r.Stats)
	if err != nil {
		r.Err = err.Error()
		fmt.Fprintln(os.Stderr, err)
	}
	f, err := os.OpenFile(os.Getenv(reportEnv), os.O_WRONLY, 0)
	if err == nil {
		err = errors.Join(json.NewEncoder(f).Encode(r), f.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func proxy(mode, to string, stats *Stats) error {
	addr, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	conn, err := Dial(ctx, []netip.AddrPort{addr}, DialOptions{})
	if err != nil {
		return err
	}
	defer conn.Close()
	if mode == modePass {
		return PassDescriptor(conn, os.Stdout)
	}
	*stats, err = Relay(ctx, conn, os.Stdin, os.Stdout)
	return err
}

// server is a real sshd on loopback, whom the keys in its folder open to the user of the test.
type server struct {
	dir     string
	port    int
	reports *os.File // one line for each ProxyCommand that has ended
	lines   *bufio.Reader
}

func newServer(t testing.TB, sshd sshdtest.Release) *server {
	t.Helper()
	for _, name := range []string{"ssh", "scp", "ssh-keygen"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("LEFT OUT: %v", err)
		}
	}
	if os.Geteuid() == 0 && sshd.Root == "" {
		if _, err := os.Stat("/run/sshd"); err != nil {
			t.Skipf("LEFT OUT: %v", err) // it ends at once without
		}
	}
	addr := closedPort(t)
	s := &server{dir: t.TempDir(), port: int(addr.Port())}
	for _, name := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.file(name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	config := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nStrictModes no\nUsePAM no\nSubsystem sftp internal-sftp\nLogLevel VERBOSE\n",
		s.port, s.file("host"), s.file("user.pub"))
	if err := os.WriteFile(s.file("sshd_config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(s.file("reports"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	// For writing too: it has no end then.
	if s.reports, err = os.OpenFile(s.file("reports"), os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.reports.Close() })
	s.lines = bufio.NewReader(s.reports)

	log, err := os.Create(s.file("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	daemon := exec.Command(sshd.Path, "-D", "-e", "-f", s.file("sshd_config"))
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(unix.SIGTERM)
		_ = daemon.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(s.file("log"))
			t.Logf("sshd says:\n%s", text)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// It refuses until it listens.
	conn, err := Dial(ctx, []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port())}, DialOptions{Every: 10 * time.Millisecond, Refused: -1})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	return s
}

func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

// command is ssh or scp, through a ProxyCommand of ours.
func (s *server) command(t testing.TB, program, mode string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	port := "-p"
	if program == "scp" {
		port = "-P"
	}
	all := []string{
		"-F", "none", port, strconv.Itoa(s.port), "-i", s.file("user"), "-q",
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "ProxyCommand=" + self + " %h %p",
	}
	if mode == modePass {
		all = append(all, "-o", "ProxyUseFdpass=yes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, append(all, args...)...)
	cmd.Env = append(os.Environ(), modeEnv+"="+mode, reportEnv+"="+s.file("reports"))
	cmd.WaitDelay = patience
	// A file, for a ControlMaster in the background keeps it.
	stderr, err := os.OpenFile(s.file("stderr"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stderr.Close()
		if text, _ := os.ReadFile(s.file("stderr")); t.Failed() && len(text) > 0 {
			t.Logf("%s says:\n%s", program, text)
		}
	})
	cmd.Stderr = stderr
	return cmd
}

// next is how the next ProxyCommand ended.
func (s *server) next(t testing.TB) report {
	t.Helper()
	if err := s.reports.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	line, err := s.lines.ReadBytes('\n')
	var r report
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		t.Fatalf("no ProxyCommand has ended: %v", err)
	}
	return r
}

// none: no ProxyCommand has ended that was not asked about.
func (s *server) none(t testing.TB) {
	t.Helper()
	if err := s.reports.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if line, err := s.lines.ReadBytes('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("another ProxyCommand has ended: %s %v", line, err)
	}
}

func me(t testing.TB) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username + "@127.0.0.1"
}

// TestSSH has a real ssh speak to a real sshd, through us: this machine's own, for others
// are in roots of their own, where whoever logs in here has no shell.
func TestSSH(t *testing.T) {
	for _, sshd := range sshdtest.Releases(t) {
		if sshd.Root != "" {
			continue
		}
		t.Run(sshd.Name, func(t *testing.T) {
			for _, mode := range []string{modeRelay, modePass} {
				t.Run(mode, func(t *testing.T) { testSSH(t, sshd, mode) })
			}
		})
	}
}

func testSSH(t *testing.T, sshd sshdtest.Release, mode string) {
	s := newServer(t, sshd)
	host := me(t)

	t.Run("input and output", func(t *testing.T) {
		sent := big()[:4<<20]
		cmd := s.command(t, "ssh", mode, host, "cat; echo the end; exit 3")
		cmd.Stdin = bytes.NewReader(sent)
		got, err := cmd.Output()
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 3 {
			t.Errorf("ssh: %v, want exit status 3", err)
		}
		if want := append(sent, "the end\n"...); !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, want %d", len(got), len(want))
		}
		r := s.next(t)
		if n := int64(len(sent)); r.Err != "" || mode == modeRelay && (r.Sent < n || r.Received < n) {
			t.Errorf("the ProxyCommand: %+v", r)
		}
	})

	t.Run("scp of 64 MiB, there and back", func(t *testing.T) {
		// A ChaCha8 stream: what has no pattern shows what is lost or swapped.
		sum := sha256.New()
		from, there, back := s.file("from"), s.file("there"), s.file("back")
		f, err := os.Create(from)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.CopyN(io.MultiWriter(f, sum), rand.NewChaCha8([32]byte{1}), 64<<20)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		for _, way := range [][2]string{{from, host + ":" + there}, {host + ":" + there, back}} {
			if out, err := s.command(t, "scp", mode, way[0], way[1]).Output(); err != nil {
				t.Fatalf("scp: %v: %s", err, out)
			}
			if r := s.next(t); r.Err != "" {
				t.Errorf("the ProxyCommand: %+v", r)
			}
		}
		t.Logf("took %s", time.Since(begun))
		got := sha256.New()
		if f, err = os.Open(back); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.Copy(got, f); err != nil || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
			t.Errorf("what came back is not what was sent: %v", err)
		}
	})

	t.Run("ssh is killed", func(t *testing.T) {
		cmd := s.command(t, "ssh", mode, host, "echo up; exec cat")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		up(t, cmd)
		if mode == modePass { // it has ended before
			if r := s.next(t); r.Err != "" {
				t.Errorf("the ProxyCommand: %+v", r)
			}
		}
		begun := time.Now()
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if mode == modeRelay {
			if r := s.next(t); r.Err != "" {
				t.Errorf("the ProxyCommand: %+v", r)
			}
			took := time.Since(begun)
			t.Logf("the ProxyCommand ended %s after", took)
			if took > linger/2 {
				t.Errorf("it ended after %s", took)
			}
		}
	})

	t.Run("the server ends first", func(t *testing.T) {
		cmd := s.command(t, "ssh", mode, host, "echo up; read line; kill -9 $PPID")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		up(t, cmd)
		if _, err := io.WriteString(stdin, "go\n"); err != nil {
			t.Fatal(err)
		}
		err = cmd.Wait()
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 255 {
			t.Errorf("ssh: %v, want exit status 255", err)
		}
		if r := s.next(t); r.Err != "" {
			t.Errorf("the ProxyCommand: %+v", r)
		}
	})

	t.Run("a ControlMaster", func(t *testing.T) {
		shared := []string{"-o", "ControlPath=" + s.file("control"), "-o", "ControlMaster=auto", "-o", "ControlPersist=yes"}
		ended := 0
		defer func() {
			if ended == 0 { // whatever went wrong, it does not stay
				_ = s.command(t, "ssh", mode, append(shared, "-O", "exit", host)...).Run()
			}
		}()
		for i := range 3 {
			out, err := s.command(t, "ssh", mode, append(shared, host, fmt.Sprint("echo ", i))...).Output()
			if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(i) {
				t.Errorf("session %d: %q, %v", i, out, err)
			}
		}
		if mode == modeRelay {
			s.none(t)
		}
		if out, err := s.command(t, "ssh", mode, append(shared, "-O", "exit", host)...).Output(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		ended++
		if r := s.next(t); r.Err != "" {
			t.Errorf("the ProxyCommand: %+v", r)
		}
		s.none(t)
	})
}

// up starts a command and waits until it says that it is up.
func up(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "up\n" {
		t.Fatalf("%q, %v: %v", line, err, cmd.Wait())
	}
}

// TestPassWhatCannotBe: an output that is no socket is no ssh that waits for a descriptor.
func TestPassWhatCannotBe(t *testing.T) {
	client, _ := pair(t)
	_, w := pipe(t, true)
	if err := PassDescriptor(client, w); !errors.Is(err, ErrNotPassable) {
		t.Errorf("error %v", err)
	}
}
