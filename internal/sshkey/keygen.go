package sshkey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/run"
	"sekisho/internal/sshsig"
)

// keygen signs by ssh-keygen, which asks for the passphrase, the PIN or the touch: at the terminal, wherever our
// standard input is, or by SSH_ASKPASS. ssh-keygen can do so since OpenSSH 8.1.
type keygen struct {
	path   string
	public ssh.PublicKey
	prompt io.Writer
}

func (k keygen) sign(ctx context.Context, namespace string, message []byte) ([]byte, error) {
	armored, err := k.run(ctx, namespace, message)
	if err != nil {
		return nil, fmt.Errorf("sign with %q: %w", k.path, err)
	}
	// The file may have become another since it was looked at.
	s, err := sshsig.Parse(armored)
	if err == nil && !same(s.PublicKey(), k.public) {
		err = fmt.Errorf("it is signed by %s, not by %s", s.Fingerprint(), ssh.FingerprintSHA256(k.public))
	}
	if err == nil {
		err = sshsig.Verify(s, namespace, message)
	}
	if err != nil {
		return nil, fmt.Errorf("check what ssh-keygen signed with %q: %w", k.path, err)
	}
	return armored, nil
}

func (k keygen) run(ctx context.Context, namespace string, message []byte) ([]byte, error) {
	// In a file, for it asks at no terminal that is not its standard input.
	dir, err := os.MkdirTemp("", "sekisho-sign-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "message")
	if err := os.WriteFile(file, message, 0o600); err != nil {
		return nil, err
	}
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		terminal = nil // then SSH_ASKPASS is asked, or nobody
	} else {
		defer terminal.Close()
	}
	child, err := run.Start(ctx, run.Command{
		Args: []string{"ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", k.path, file},
		// The agent does not hold the key, or does not answer.
		Env:      slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SSH_AUTH_SOCK=") }),
		Stdin:    terminal,
		Stdout:   io.Discard,
		Stderr:   k.prompt,
		Terminal: true,
	})
	if errors.Is(err, run.ErrNotFound) {
		return nil, &Error{err, "install OpenSSH's client, or sign with another key (--identity FILE)"}
	}
	if err != nil {
		return nil, err
	}
	if err := child.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		hint := fmt.Sprintf("was the passphrase right, or the key touched? ssh-add %q loads it into the agent, which asks once", k.path)
		if terminal == nil {
			hint = fmt.Sprintf("there is no terminal to ask at: load the key into the agent first (ssh-add %q)", k.path)
		}
		return nil, &Error{err, hint}
	}
	f, err := os.Open(file + ".sig")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, sshsig.MaxSize+1)) // more is refused as it is read
}
