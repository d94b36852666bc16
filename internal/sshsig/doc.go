// Package sshsig owns the format in which OpenSSH signs files: what `ssh-keygen -Y sign` writes and
// `ssh-keygen -Y verify` reads (PROTOCOL.sshsig and sshsig.c of OpenSSH 10). It reads, checks and makes such
// signatures; it knows neither files nor agents, nor whose a key is.
//
// It is stricter than ssh-keygen is: a reserved field, bytes after the end, keys and signatures in any but
// their one form, certificates, SHA-1 and short RSA keys are refused, and a security key must have been touched.
package sshsig

import "errors"

// What an error of this package is about: errors.Is finds one of these in each.
var (
	ErrFormat    = errors.New("not an SSH signature")
	ErrAlgorithm = errors.New("not an accepted kind of SSH key or signature")
	ErrNamespace = errors.New("an SSH signature made for something else") // a right one, perhaps, but of another namespace
	ErrPresence  = errors.New("a signature of a security key that nobody touched")
	ErrMismatch  = errors.New("the SSH signature is not of this message by this key")
)

// Error is what is wrong, and what to do now, for the one who signed.
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
	return ""
}
