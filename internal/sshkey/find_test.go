package sshkey

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sekisho/internal/sshsig"
)

const namespace = "sekisho"

// command runs one of OpenSSH's programs.
func command(t *testing.T, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("LEFT OUT: no %s is installed", p)
		}
	}
}

// home is a home directory with an empty .ssh.
func home(t *testing.T) (dir, dotSSH string) {
	t.Helper()
	dir = t.TempDir()
	dotSSH = filepath.Join(dir, ".ssh")
	if err := os.Mkdir(dotSSH, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, dotSSH
}

// generate has ssh-keygen make a key, and returns its fingerprint.
func generate(t *testing.T, path string, options ...string) string {
	t.Helper()
	needs(t, "ssh-keygen")
	args := append([]string{"ssh-keygen", "-q", "-f", path}, options...)
	if !slices.Contains(options, "-N") {
		args = append(args, "-N", "")
	}
	command(t, nil, args...)
	return fingerprint(t, path)
}

func fingerprint(t *testing.T, path string) string {
	t.Helper()
	line, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(public)
}

// startAgent starts a real ssh-agent that ends with the test.
func startAgent(t *testing.T, options ...string) (socket string) {
	t.Helper()
	needs(t, "ssh-agent", "ssh-add")
	dir, err := os.MkdirTemp("", "agent") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	cmd := exec.Command("ssh-agent", append([]string{"-D", "-a", socket}, options...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, socket) {
		t.Fatalf("ssh-agent: %q, %v", line, err) // it says so once it listens
	}
	return socket
}

func load(t *testing.T, socket, path string) {
	t.Helper()
	command(t, []string{"SSH_AUTH_SOCK=" + socket}, "ssh-add", "-q", path)
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}

// signs has a key sign, and checks that it is by the key of that fingerprint.
func signs(t *testing.T, key *Key, want string) {
	t.Helper()
	message := []byte("open web-prod\n")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	armored, err := key.Sign(ctx, namespace, message)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sshsig.Parse(armored)
	if err == nil {
		err = sshsig.Verify(s, namespace, message)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.Fingerprint() != want || key.Fingerprint() != want {
		t.Errorf("signed by %s with the key %s, want %s", s.Fingerprint(), key.Fingerprint(), want)
	}
}

func TestCandidates(t *testing.T) {
	dir, dotSSH := home(t)
	file := func(name string) string { return filepath.Join(dotSSH, name) }
	rsa := generate(t, file("id_rsa"), "-t", "rsa", "-b", "2048", "-m", "PEM")
	ecdsa := generate(t, file("id_ecdsa"), "-t", "ecdsa")
	ed := generate(t, file("id_ed25519"), "-t", "ed25519")
	generate(t, file("other"), "-t", "ed25519") // ssh does not look at it either
	second := generate(t, filepath.Join(t.TempDir(), "second"), "-t", "rsa", "-b", "3072")
	socket := startAgent(t)
	elsewhere := filepath.Join(t.TempDir(), "agent")
	third := generate(t, elsewhere, "-t", "rsa", "-b", "2048")
	weak := filepath.Join(t.TempDir(), "weak")
	generate(t, weak, "-t", "rsa", "-b", "1024")
	for _, path := range []string{weak, elsewhere, file("id_ecdsa")} {
		load(t, socket, path)
	}

	type found struct{ Fingerprint, From string }
	only := func(fingerprints ...string) func(ssh.PublicKey) bool {
		return func(k ssh.PublicKey) bool {
			for _, f := range fingerprints {
				if ssh.FingerprintSHA256(k) == f {
					return true
				}
			}
			return false
		}
	}
	tests := []struct {
		name    string
		options Options
		want    []found
	}{
		{"the agent's and files", Options{AgentSocket: socket, Home: dir}, []found{
			{third, "ssh-agent"}, {ecdsa, "ssh-agent"}, {ed, file("id_ed25519")}, {rsa, file("id_rsa")}}},
		{"no agent", Options{Home: dir}, []found{{ed, file("id_ed25519")}, {ecdsa, file("id_ecdsa")}, {rsa, file("id_rsa")}}},
		{"no home", Options{AgentSocket: socket}, []found{{third, "ssh-agent"}, {ecdsa, "ssh-agent"}}},
		{"an agent that is gone", Options{AgentSocket: "/nonexistent/agent", Home: dir, Allowed: only(rsa)}, []found{{rsa, file("id_rsa")}}},
		{"some are allowed", Options{AgentSocket: socket, Home: dir, Allowed: only(ecdsa, rsa, second)}, []found{{ecdsa, "ssh-agent"}, {rsa, file("id_rsa")}}},
		{"an identity", Options{AgentSocket: socket, Home: dir, Identity: file("id_rsa")}, []found{{rsa, file("id_rsa")}}},
		{"an identity at home", Options{Home: dir, Identity: "~/.ssh/id_ecdsa"}, []found{{ecdsa, file("id_ecdsa")}}},
		{"an identity's public half, the key in the agent", Options{AgentSocket: socket, Home: dir, Identity: elsewhere + ".pub"}, []found{{third, "ssh-agent"}}},
		{"an identity's public half, the key beside it", Options{AgentSocket: socket, Home: dir, Identity: file("id_rsa.pub")}, []found{{rsa, file("id_rsa")}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := Candidates(t.Context(), tt.options)
			if err != nil {
				t.Fatal(err)
			}
			var got []found
			for _, k := range keys {
				got = append(got, found{k.Fingerprint(), k.From})
				signs(t, k, k.Fingerprint())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			first, err := find(t.Context(), tt.options)
			if err != nil || first.Fingerprint() != tt.want[0].Fingerprint {
				t.Errorf("found %v (%v), want %v", first, err, tt.want[0])
			}
		})
	}

	t.Run("the private half is in the agent alone", func(t *testing.T) {
		remove(t, elsewhere)
		for _, identity := range []string{elsewhere, elsewhere + ".pub"} { // as ssh -i takes both
			key, err := find(t.Context(), Options{AgentSocket: socket, Identity: identity})
			if err != nil {
				t.Fatal(err)
			}
			signs(t, key, third)
		}
	})
}

func TestNone(t *testing.T) {
	dir, dotSSH := home(t)
	file := func(name string) string { return filepath.Join(dotSSH, name) }
	generate(t, file("readable"), "-t", "ed25519")
	if err := os.Chmod(file("readable"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file("readable"), file("id_ed25519")); err != nil {
		t.Fatal(err)
	}
	generate(t, file("id_rsa"), "-t", "rsa", "-b", "1024")
	ecdsa := generate(t, file("id_ecdsa"), "-t", "ecdsa")
	none := func(ssh.PublicKey) bool { return false }
	other := generate(t, file("other"), "-t", "ed25519")
	write := func(name string, content string) string {
		if err := os.WriteFile(file(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file(name)
	}
	private, err := os.ReadFile(file("other"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(file("id_ecdsa.pub"))
	if err != nil {
		t.Fatal(err)
	}
	write("mixed", string(private))
	write("mixed.pub", string(public))
	write("lone.pub", string(public))
	if err := syscall.Mkfifo(file("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	generate(t, file("old"), "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret")
	remove(t, file("old.pub"))
	command(t, nil, "ssh-keygen", "-q", "-s", file("other"), "-I", "me", "-n", "me", file("id_ecdsa.pub"))
	empty := startAgent(t)

	tests := []struct {
		name    string
		options Options
		none    bool
		says    []string
		hint    string
	}{
		{"nowhere to look", Options{}, true, []string{"no SSH key to sign with: no ssh-agent is there (SSH_AUTH_SOCK is empty); no home directory is known"}, "ssh-add"},
		{"nothing that will do", Options{AgentSocket: empty, Home: dir, Allowed: none}, true, []string{
			"ssh-agent: of its 0 keys none can be used",
			file("id_ed25519") + ": others may read or change this private key (mode 0640)",
			file("id_ecdsa") + ": " + ecdsa + " is not one that will do",
			file("id_rsa") + ": not an accepted kind of SSH key or signature: an RSA key of 1024 bits",
			file("id_ed25519_sk") + " is not there; " + file("id_ecdsa_sk") + " is not there",
		}, "ssh-keygen -t ed25519"},
		{"no agent at its socket", Options{AgentSocket: file("nothing")}, true, []string{"ssh-agent: dial unix " + file("nothing") + ": connect: no such file or directory"}, "ssh-add"},
		{"an identity that is not there", Options{Identity: file("nothing")}, false, []string{"use the SSH key \"" + file("nothing") + "\": no such file or directory"}, ""},
		{"a folder", Options{Identity: dotSSH}, false, []string{"it is not a file"}, ""},
		{"a pipe", Options{Identity: file("pipe")}, false, []string{"it is not a file"}, ""},
		{"too long", Options{Identity: write("long", strings.Repeat("x", maxFile+1))}, false, []string{"more than 65536 bytes"}, ""},
		{"no key", Options{Identity: write("text", "hello\n")}, false, []string{"there is no SSH key in it"}, "name a private key's file"},
		{"others may read it", Options{Identity: file("readable")}, false, []string{"(mode 0640)"}, "chmod 600 \"" + file("readable") + "\""},
		{"a weak one", Options{Identity: file("id_rsa")}, false, []string{"1024 bits"}, "ssh-keygen -t ed25519"},
		{"a certificate", Options{Identity: file("id_ecdsa-cert.pub")}, false, []string{"a certificate (\"ecdsa-sha2-nistp256-cert-v01@openssh.com\")"}, "not the one that ends in -cert.pub"},
		{"one that is not allowed", Options{Identity: file("other"), Allowed: none}, true, []string{other + " is not one that will do"}, "--identity FILE"},
		{"a public half alone", Options{Identity: file("lone.pub"), AgentSocket: empty}, true, []string{"public half alone, and ssh-agent: of its 0 keys none can be used"}, "ssh-add FILE"},
		{"halves of two keys", Options{Identity: file("mixed.pub")}, false, []string{"the private key beside it is another: " + other + ", where it is " + ecdsa}, ""},
		{"an old form with a passphrase, without its public half", Options{Identity: file("old")}, false, []string{"its public half is not beside it"}, "ssh-keygen -y -f"},
		{"rubbish in a private key's form", Options{Identity: write("rubbish", string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("openssh-key-v1\x00rubbish")})))}, false, []string{"cannot be read"}, "ssh-keygen -y -f"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key, err := find(t.Context(), tt.options)
			if err == nil || key != nil {
				t.Fatalf("found %v, error %v", key, err)
			}
			if errors.Is(err, ErrNone) != tt.none {
				t.Errorf("%v: none: %v, want %v", err, !tt.none, tt.none)
			}
			for _, says := range tt.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("it says %q, want %q in it", err, says)
				}
			}
			if hint := Hint(err); !strings.Contains(hint, tt.hint) || tt.hint == "" && hint != "" {
				t.Errorf("hint %q, want %q in it", hint, tt.hint)
			}
		})
	}
	t.Run("no more time", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := find(ctx, Options{Home: dir}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// A file of somebody else's that we can read, ssh takes as it is, and so do we.
func TestForeignFile(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("LEFT OUT: only root can give files away")
	}
	path := filepath.Join(t.TempDir(), "key")
	want := generate(t, path, "-t", "ed25519")
	if err := errors.Join(os.Chmod(path, 0o644), os.Chown(path, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	key, err := find(t.Context(), Options{Identity: path})
	if err != nil {
		t.Fatal(err)
	}
	signs(t, key, want)
}

func FuzzPrivate(f *testing.F) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		f.Fatal(err)
	}
	secret, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	for _, block := range []*pem.Block{plain, secret, {Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}, {Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}}} {
		f.Add(pem.EncodeToMemory(block))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(dir, "key")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := look{}.open(path)
		if err == nil && sshsig.Accepts(key.Public) != nil {
			t.Errorf("a key that is not accepted: %v", key.Public.Type())
		}
		if err == nil && !key.asks {
			if armored, err := key.Sign(t.Context(), namespace, nil); err == nil && !bytes.HasPrefix(armored, []byte("-----BEGIN SSH")) {
				t.Errorf("signed: %q", armored)
			}
		}
	})
}

// find is the first of the candidates.
func find(ctx context.Context, o Options) (*Key, error) {
	keys, err := Candidates(ctx, o)
	if err != nil {
		return nil, err
	}
	return keys[0], nil
}
