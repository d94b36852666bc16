// Package sshkey finds the SSH keys with which a person signs, and signs with them: by the ssh-agent, by a file that
// is not encrypted, and by ssh-keygen for what only it can use (files with a passphrase, security keys). It asks
// nobody itself; what it signs has the form of package sshsig, and was verified.
//
// It alone speaks to agents.
package sshkey

import (
	"errors"

	"sekisho/internal/sshsig"
)

// ErrNone says that there is no key to sign with.
var ErrNone = errors.New("no SSH key to sign with")

// Error is what is wrong, and what the person may do now.
type Error struct {
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint is what an error of this package says to do now; "" where it says nothing.
func Hint(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Hint
	}
	return sshsig.Hint(err)
}
