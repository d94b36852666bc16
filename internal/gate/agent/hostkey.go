package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/sshsig"
)

// HostKeys are where sshd keeps its host keys unless it is told otherwise, the best first
// (sshd_config(5), HostKey).
func HostKeys() []string {
	return []string{"/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_rsa_key"}
}

const maxKey = 64 << 10 // bytes of a file

// LoadKey reads the first of the private host keys that is there and can sign.
func LoadKey(paths ...string) (path string, _ ssh.Signer, _ error) {
	var errs []error
	for _, p := range paths {
		signer, err := loadKey(p)
		if err == nil {
			return p, signer, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", nil, &Error{fmt.Errorf("read the host's SSH key: %w", err), "it is root's alone; where sshd's HostKey is another, name it with --key"}
	}
	return "", nil, advised("make them with ssh-keygen -A; where sshd's HostKey is elsewhere, name it with --key", "this host has no SSH host key at %q", paths)
}

func loadKey(path string) (ssh.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	clear(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := sshsig.Accepts(signer.PublicKey()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil
}
