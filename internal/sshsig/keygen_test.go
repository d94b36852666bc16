package sshsig

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/sshsig/sshsigtest"
)

// keygen runs the machine's ssh-keygen.
func keygen(t *testing.T, stdin []byte, env []string, args ...string) []byte {
	t.Helper()
	out, err := tryKeygen(t, stdin, env, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryKeygen(t *testing.T, stdin []byte, env []string, args ...string) ([]byte, error) {
	t.Helper()
	path, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("LEFT OUT: no ssh-keygen is installed")
	}
	cmd := exec.Command(path, args...)
	// No agent's key, and nothing on a screen.
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return out, errors.New("ssh-keygen " + strings.Join(args, " ") + ": " + string(e.Stderr) + string(out))
	}
	return out, err
}

// What the real ssh-keygen signs now, we verify.
func TestVerifySSHKeygen(t *testing.T) {
	message := []byte("open web-prod\x00\xff\n")
	for _, tt := range []struct {
		name string
		args []string
		hash []string
	}{
		{name: "ed25519", args: []string{"-t", "ed25519"}},
		{name: "ed25519 over sha256", args: []string{"-t", "ed25519"}, hash: []string{"-O", "hashalg=sha256"}},
		{name: "ecdsa 256", args: []string{"-t", "ecdsa", "-b", "256"}},
		{name: "ecdsa 384", args: []string{"-t", "ecdsa", "-b", "384"}},
		{name: "ecdsa 521", args: []string{"-t", "ecdsa", "-b", "521"}},
		{name: "rsa 3072", args: []string{"-t", "rsa", "-b", "3072"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key")
			keygen(t, nil, nil, append([]string{"-q", "-N", "", "-f", file}, tt.args...)...)
			verifies(t, file, keygen(t, message, nil, append([]string{"-q", "-Y", "sign", "-n", namespace, "-f", file}, tt.hash...)...), message)
		})
	}
}

func verifies(t *testing.T, file string, armored, message []byte) Signature {
	t.Helper()
	s, err := Parse(armored)
	if err == nil {
		err = Verify(s, namespace, message)
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Fingerprint(), ssh.FingerprintSHA256(public); got != want {
		t.Errorf("it is by %s, want %s", got, want)
	}
	if !bytes.Equal(armored, Armor(s)) {
		t.Errorf("written again it is\n%s, want\n%s", Armor(s), armored)
	}
	return s
}

// The same with security keys, by the software authenticator of OpenSSH's own tests, where it is installed (Debian:
// openssh-tests) or SEKISHO_TEST_SK_PROVIDER names it. What it signed once is in testdata.
func TestVerifySSHKeygenSecurityKeys(t *testing.T) {
	provider := os.Getenv("SEKISHO_TEST_SK_PROVIDER")
	if provider == "" {
		provider = "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so"
	}
	if _, err := os.Stat(provider); err != nil {
		t.Skip("LEFT OUT: no software authenticator: Debian's openssh-tests has one, and make deps installs it")
	}
	env := []string{"SSH_SK_PROVIDER=" + provider, "SSH_ASKPASS=/bin/true", "SSH_ASKPASS_REQUIRE=force"} // an empty PIN
	message := []byte("open web-prod\n")
	for _, tt := range []struct {
		name, kind string
		options    []string
		want       error
		verified   bool
	}{
		{name: "ed25519", kind: "ed25519-sk"},
		{name: "ecdsa", kind: "ecdsa-sk"},
		{name: "ed25519 with a PIN", kind: "ed25519-sk", options: []string{"-O", "verify-required"}, verified: true},
		{name: "ecdsa without touch", kind: "ecdsa-sk", options: []string{"-O", "no-touch-required"}, want: ErrPresence},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key")
			keygen(t, nil, env, append([]string{"-q", "-N", "", "-f", file, "-t", tt.kind}, tt.options...)...)
			armored := keygen(t, message, env, "-q", "-Y", "sign", "-n", namespace, "-f", file)
			if tt.want != nil {
				s, err := Parse(armored)
				if err != nil {
					t.Fatal(err)
				}
				if err := Verify(s, namespace, message); !errors.Is(err, tt.want) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				return
			}
			if s := verifies(t, file, armored, message); (s.flags()&userVerified != 0) != tt.verified {
				t.Errorf("user verified: %v, want %v", s.flags()&userVerified != 0, tt.verified)
			}
		})
	}
}

// What we sign, the real ssh-keygen verifies.
func TestSSHKeygenVerifies(t *testing.T) {
	message := []byte("open web-prod\x00\xff\n")
	all := allSigners(t)
	for _, kind := range []string{ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256} {
		key := sshsigtest.New(t, kind)
		key.Flags |= sshsigtest.Verified
		all["with a PIN, "+kind] = key
	}
	for name, signer := range all {
		t.Run(name, func(t *testing.T) {
			armored, err := Sign(signer, namespace, message)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			signature, allowed := filepath.Join(dir, "m.sig"), filepath.Join(dir, "allowed")
			for file, content := range map[string][]byte{signature: armored, allowed: append([]byte("hanako "), ssh.MarshalAuthorizedKey(signer.PublicKey())...)} {
				if err := os.WriteFile(file, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			fingerprint := ssh.FingerprintSHA256(signer.PublicKey())
			verify := []string{"-Y", "verify", "-f", allowed, "-I", "hanako", "-n", namespace, "-s", signature}
			for _, args := range [][]string{{"-Y", "check-novalidate", "-n", namespace, "-s", signature}, verify} {
				if out := keygen(t, message, nil, args...); !strings.Contains(string(out), "Good") || !strings.Contains(string(out), fingerprint) {
					t.Errorf("%v: %s", args, out)
				}
			}
			if out, err := tryKeygen(t, append(slices.Clone(message), 'x'), nil, verify...); err == nil {
				t.Errorf("it verifies another message: %s", out)
			}
		})
	}
}
