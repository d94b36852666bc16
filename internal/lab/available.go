package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

var (
	// ErrNotRoot says that the lab cannot be built by this user.
	ErrNotRoot = errors.New("the lab needs root, to make namespaces")
	// ErrNoSSHD says that there is no sshd to run.
	ErrNoSSHD = errors.New("the lab needs sshd (package openssh-server)")
)

// Available reports why a lab cannot be built here: ErrNotRoot, ErrNoSSHD, or
// nil. The empty path means that no sshd is asked for; see FindSSHD.
func Available(sshd string) error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	if sshd == "" {
		return nil
	}
	if info, err := os.Stat(sshd); err != nil || info.IsDir() {
		return fmt.Errorf("%w: %s is not there", ErrNoSSHD, sshd)
	}
	return nil
}

// FindSSHD returns the path of the machine's sshd; it is not in an ordinary user's PATH.
func FindSSHD() (string, error) {
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin"} {
		path := filepath.Join(dir, "sshd")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", ErrNoSSHD
}
