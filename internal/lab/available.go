package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var (
	// ErrNotRoot says that the lab cannot be built by this user.
	ErrNotRoot = errors.New("the lab needs root (CAP_SYS_ADMIN), to make namespaces")
	// ErrNoSSHD says that there is no sshd to run.
	ErrNoSSHD = errors.New("the lab needs sshd (package openssh-server)")
)

// Available reports why a lab cannot be built here: ErrNotRoot, ErrNoSSHD,
// another error, or nil. The empty path means that no sshd is asked for; see FindSSHD.
func Available(sshd string) error {
	// Tried, not guessed from the user: root in a container often may not.
	err := onOwnThread(func() error { return unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS) })
	if errors.Is(err, unix.EPERM) {
		return ErrNotRoot
	}
	if err != nil {
		return fmt.Errorf("make namespaces: %w", err)
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
