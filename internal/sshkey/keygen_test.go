package sshkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/sshsig"
)

const passphrase = "correct horse"

// askpass has ssh-keygen ask a program that answers so.
func askpass(t *testing.T, answer string) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "askpass")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho '"+answer+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSH_ASKPASS", script)
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
}

func TestEncryptedFiles(t *testing.T) {
	// ssh-keygen must not wait for it.
	t.Setenv("SSH_AUTH_SOCK", agentOf(t, never))
	for _, tt := range []struct {
		name    string
		options []string
	}{
		{"ed25519", []string{"-t", "ed25519"}},
		{"rsa", []string{"-t", "rsa", "-b", "3072"}},
		{"rsa in the old form", []string{"-t", "rsa", "-b", "2048", "-m", "PEM"}},
		{"ecdsa in PKCS #8", []string{"-t", "ecdsa", "-m", "PKCS8"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, dotSSH := home(t)
			path := filepath.Join(dotSSH, "id_"+strings.Fields(tt.name)[0])
			want := generate(t, path, append(tt.options, "-N", passphrase)...)
			for _, o := range []Options{{Identity: path}, {Identity: path + ".pub"}, {Home: dir}} {
				key, err := find(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if key.From != path {
					t.Errorf("from %q, want %q", key.From, path)
				}
				askpass(t, passphrase)
				signs(t, key, want)
				askpass(t, "wrong")
				if b, err := key.Sign(t.Context(), namespace, nil); err == nil || b != nil || !strings.Contains(Hint(err), fmt.Sprintf("ssh-add %q", path)) {
					t.Errorf("%q, error %v (hint %q)", b, err, Hint(err))
				}
			}
		})
	}
	t.Run("its own public half", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		want := generate(t, path, "-t", "ed25519", "-N", passphrase)
		remove(t, path+".pub")
		key, err := find(t.Context(), Options{Identity: path})
		if err != nil {
			t.Fatal(err)
		}
		askpass(t, passphrase)
		signs(t, key, want)
	})
	t.Run("the agent holds it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		want := generate(t, path, "-t", "ed25519", "-N", passphrase)
		socket := startAgent(t)
		askpass(t, passphrase)
		command(t, []string{"SSH_AUTH_SOCK=" + socket, "SSH_ASKPASS=" + os.Getenv("SSH_ASKPASS"), "SSH_ASKPASS_REQUIRE=force"}, "ssh-add", "-q", path)
		askpass(t, "nobody is asked")
		key, err := find(t.Context(), Options{AgentSocket: socket, Identity: path})
		if err != nil {
			t.Fatal(err)
		}
		if key.From != "ssh-agent" {
			t.Errorf("from %q", key.From)
		}
		signs(t, key, want)
	})
	t.Run("another key since", func(t *testing.T) {
		path, other := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "other")
		want := generate(t, path, "-t", "ed25519", "-N", passphrase)
		is := generate(t, other, "-t", "ed25519", "-N", passphrase)
		key, err := find(t.Context(), Options{Identity: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Rename(other, path), os.Rename(other+".pub", path+".pub")); err != nil {
			t.Fatal(err)
		}
		askpass(t, passphrase)
		if b, err := key.Sign(t.Context(), namespace, nil); err == nil || b != nil || !strings.Contains(err.Error(), fmt.Sprintf("it is signed by %s, not by %s", is, want)) {
			t.Errorf("%q, error %v", b, err)
		}
	})
	t.Run("no ssh-keygen", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		generate(t, path, "-t", "ed25519", "-N", passphrase)
		key, err := find(t.Context(), Options{Identity: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", t.TempDir())
		if _, err := key.Sign(t.Context(), namespace, nil); err == nil || !strings.Contains(Hint(err), "install OpenSSH's client") {
			t.Errorf("error %v (hint %q)", err, Hint(err))
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		generate(t, path, "-t", "ed25519", "-N", passphrase)
		key, err := find(t.Context(), Options{Identity: path})
		if err != nil {
			t.Fatal(err)
		}
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		script := filepath.Join(t.TempDir(), "askpass")
		if err := os.WriteFile(script, []byte("#!/bin/sh\nread x <"+fifo+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // the script is not ours to end, but it has nobody to wait for
			if f, err := os.OpenFile(fifo, os.O_RDWR, 0); err == nil {
				_, _ = f.WriteString("\n")
				f.Close()
			}
		})
		t.Setenv("SSH_ASKPASS", script)
		t.Setenv("SSH_ASKPASS_REQUIRE", "force")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := key.Sign(ctx, namespace, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

// Security keys, by the software authenticator of OpenSSH's own tests, where it is installed (Debian: openssh-tests) or
// SEKISHO_TEST_SK_PROVIDER names it.
func TestSecurityKeyFiles(t *testing.T) {
	provider := os.Getenv("SEKISHO_TEST_SK_PROVIDER")
	if provider == "" {
		provider = "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so"
	}
	if _, err := os.Stat(provider); err != nil {
		t.Skip("LEFT OUT: no software authenticator: Debian's openssh-tests has one, and make deps installs it")
	}
	t.Setenv("SSH_SK_PROVIDER", provider)
	env := []string{"SSH_SK_PROVIDER=" + provider}
	for _, kind := range []string{"ed25519", "ecdsa"} {
		t.Run(kind, func(t *testing.T) {
			dir, dotSSH := home(t)
			path := filepath.Join(dotSSH, "id_"+kind+"_sk")
			command(t, env, "ssh-keygen", "-q", "-t", kind+"-sk", "-f", path, "-N", "")
			want := fingerprint(t, path)
			var prompt bytes.Buffer
			key, err := find(t.Context(), Options{Home: dir, Prompt: &prompt})
			if err != nil {
				t.Fatal(err)
			}
			signs(t, key, want)
			if !strings.Contains(prompt.String(), "Confirm user presence for key") || !strings.Contains(prompt.String(), want) {
				t.Errorf("the person is told %q", &prompt)
			}
			socket := startAgent(t, "-P", provider)
			command(t, append(env, "SSH_AUTH_SOCK="+socket), "ssh-add", "-q", path)
			key, err = find(t.Context(), Options{AgentSocket: socket, Identity: path + ".pub"})
			if err != nil {
				t.Fatal(err)
			}
			if key.From != "ssh-agent" {
				t.Errorf("from %q", key.From)
			}
			signs(t, key, want)

			command(t, env, "ssh-keygen", "-q", "-t", kind+"-sk", "-O", "no-touch-required", "-f", path+"_lax", "-N", "")
			key, err = find(t.Context(), Options{Identity: path + "_lax"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := key.Sign(t.Context(), namespace, nil); !errors.Is(err, sshsig.ErrPresence) || Hint(err) == "" {
				t.Errorf("error %v (hint %q)", err, Hint(err))
			}
		})
	}
}

// TestAsksAtTheTerminal has another process sign at a terminal of its own, with a pipe as its standard input, as a
// ProxyCommand of ssh has it.
func TestAsksAtTheTerminal(t *testing.T) {
	if path := os.Getenv("SEKISHO_TEST_SIGN_WITH"); path != "" {
		key, err := find(t.Context(), Options{Identity: path})
		if err != nil {
			t.Fatal(err)
		}
		armored, err := key.Sign(t.Context(), namespace, []byte("open web-prod\n"))
		if err == nil {
			err = os.WriteFile(path+".out", armored, 0o600)
		}
		if err != nil {
			t.Fatalf("%v; hint: %s", err, Hint(err))
		}
		return
	}
	path := filepath.Join(t.TempDir(), "key")
	want := generate(t, path, "-t", "ed25519", "-N", passphrase)
	signer := func() (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAsksAtTheTerminal$")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(), "SEKISHO_TEST_SIGN_WITH=" + path}
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		return cmd, &said
	}

	t.Run("a terminal", func(t *testing.T) {
		controller, terminal := openPTY(t)
		cmd, said := signer()
		stdin, _, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		cmd.Stdin, cmd.ExtraFiles = stdin, []*os.File{terminal}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stuck := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill(); terminal.Close() })
		defer stuck.Stop()
		var shown []byte
		for !bytes.Contains(shown, []byte("Enter passphrase")) {
			b := make([]byte, 1024)
			n, err := controller.Read(b)
			if err != nil {
				t.Fatalf("shown %q, then %v", shown, err)
			}
			shown = append(shown, b[:n]...)
		}
		if _, err := controller.WriteString(passphrase + "\n"); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		armored, err := os.ReadFile(path + ".out")
		if err != nil {
			t.Fatal(err)
		}
		s, err := sshsig.Parse(armored)
		if err == nil {
			err = sshsig.Verify(s, namespace, []byte("open web-prod\n"))
		}
		if err != nil || s.Fingerprint() != want {
			t.Errorf("signed by %s, want %s: %v", s.Fingerprint(), want, err)
		}
	})
	t.Run("none", func(t *testing.T) {
		cmd, said := signer()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Run(); err == nil || !strings.Contains(said.String(), "hint: there is no terminal to ask at: load the key into the agent first") {
			t.Errorf("%v: %s", err, said)
		}
	})
}

func openPTY(t *testing.T) (controller, terminal *os.File) {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { controller.Close() })
	if err := unix.IoctlSetPointerInt(int(controller.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(controller.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return controller, terminal
}
