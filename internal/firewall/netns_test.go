package firewall

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace of a test's own, alive until the test ends.
type namespace struct {
	f *os.File
}

func (n namespace) fd() int { return int(n.f.Fd()) }

func (n namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.fd()) }

func newNamespace(t testing.TB) namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("LEFT OUT: needs root, to make network namespaces")
	}
	type made struct {
		f   *os.File
		err error
	}
	c := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			c <- made{err: err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		c <- made{f, err}
	}()
	m := <-c
	if m.err != nil {
		t.Fatalf("make a network namespace: %v", m.err)
	}
	t.Cleanup(func() { _ = m.f.Close() })
	n := namespace{m.f}
	n.run(t, "ip", "link", "set", "lo", "up")
	return n
}

// do runs f on a thread inside of n; what f starts or opens is inside too.
func (n namespace) do(t testing.TB, f func() error) {
	t.Helper()
	c := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(n.fd(), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		c <- err
	}()
	if err := <-c; err != nil {
		t.Fatal(err)
	}
}

// set gives the namespace's own settings, each as name=value of sysctl(8).
func (n namespace) set(t testing.TB, settings ...string) {
	t.Helper()
	n.do(t, func() error {
		for _, s := range settings {
			name, value, _ := strings.Cut(s, "=")
			path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
			if err := os.WriteFile(path, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// run runs a command inside of n and returns what it wrote.
func (n namespace) run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return n.feed(t, "", name, args...)
}

// feed is run with a standard input.
func (n namespace) feed(t testing.TB, in, name string, args ...string) (out string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("LEFT OUT: needs the command %s", name)
	}
	n.do(t, func() error {
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(in)
		b, err := cmd.CombinedOutput()
		if out = string(b); err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
		}
		return nil
	})
	return out
}

func newKernel(t testing.TB, n namespace) *Kernel {
	t.Helper()
	k, err := NewKernel(Options{NetNS: n.fd()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}
