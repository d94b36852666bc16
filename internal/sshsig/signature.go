package sshsig

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// MaxSize is the most that a signature may have, armoured or not, in bytes. That of the longest RSA key
// (16384 bits) has less than half of it.
const MaxSize = 16 << 10

const (
	magic   = "SSHSIG"
	version = 1
)

// The flags of a security key's signature (PROTOCOL.u2f of OpenSSH).
const (
	userPresent  = 0x01
	userVerified = 0x04
)

// Signature is one that was read: what it says of itself. Nothing of it is true before Verify has said so.
// The zero value is no signature, and verifies nothing.
type Signature struct {
	key       ssh.PublicKey
	namespace string
	hash      string
	made      ssh.Signature
}

// blob is a signature on the wire, after the magic.
type blob struct {
	Version   uint32
	Key       []byte
	Namespace string
	Reserved  []byte
	Hash      string
	Signature []byte
}

// Parse reads a signature: what `ssh-keygen -Y sign` writes, or the blob within that. An error is ErrFormat, or
// ErrAlgorithm where the signature is one, but made by what we do not take. The result shares no memory with b.
func Parse(b []byte) (Signature, error) {
	if len(b) > MaxSize {
		return Signature{}, fmt.Errorf("%w: it has %d bytes, where %d are the most", ErrFormat, len(b), MaxSize)
	}
	if bytes.HasPrefix(b, []byte("-")) {
		var err error
		if b, err = dearmor(b); err != nil {
			return Signature{}, err
		}
	}
	b, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok || len(b) < 4 {
		return Signature{}, fmt.Errorf("%w: it does not begin with %s and a version", ErrFormat, magic)
	}
	if v := binary.BigEndian.Uint32(b); v != version {
		return Signature{}, fmt.Errorf("%w: it is of version %d, where %d is known", ErrFormat, v, version)
	}
	var w blob
	if err := ssh.Unmarshal(b, &w); err != nil {
		return Signature{}, fmt.Errorf("%w: it is cut short, or something follows its end", ErrFormat)
	}
	s := Signature{namespace: w.Namespace, hash: w.Hash}
	switch {
	case w.Namespace == "" || strings.Contains(w.Namespace, "\x00"):
		return Signature{}, fmt.Errorf("%w: its namespace is empty, or has a zero byte", ErrFormat)
	case len(w.Reserved) > 0:
		return Signature{}, fmt.Errorf("%w: its reserved field is not empty", ErrFormat)
	case digest(w.Hash, nil) == nil:
		return Signature{}, fmt.Errorf("%w: it is over the hash %s, where sha256 and sha512 are accepted", ErrAlgorithm, quoted(w.Hash))
	}
	var err error
	if s.key, err = parseKey(w.Key); err != nil {
		return Signature{}, err
	}
	if s.made, err = parseMade(w.Signature, s.key.Type()); err != nil {
		return Signature{}, err
	}
	return s, nil
}

func parseKey(b []byte) (ssh.PublicKey, error) {
	var name struct {
		Type string
		Rest []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(b, &name); err != nil {
		return nil, fmt.Errorf("%w: its key is cut short", ErrFormat)
	}
	if err := acceptType(name.Type); err != nil {
		return nil, err
	}
	key, err := ssh.ParsePublicKey(b)
	if err != nil {
		return nil, fmt.Errorf("%w: its key of type %s is broken", ErrFormat, name.Type)
	}
	// A key has one form, so that nobody is known by two.
	if !bytes.Equal(key.Marshal(), b) {
		return nil, fmt.Errorf("%w: its key of type %s is not in its one form", ErrFormat, name.Type)
	}
	return key, Accepts(key)
}

func parseMade(b []byte, keyType string) (ssh.Signature, error) {
	var made ssh.Signature
	if err := ssh.Unmarshal(b, &made); err != nil {
		return ssh.Signature{}, fmt.Errorf("%w: the signature in it is cut short", ErrFormat)
	}
	if !slices.Contains(algorithms(keyType), made.Format) {
		hint := ""
		if made.Format == ssh.KeyAlgoRSA {
			hint = "the agent that signed knows SHA-1 alone: sign with a newer one, or with another key (ssh-keygen -t ed25519)"
		}
		return ssh.Signature{}, &Error{fmt.Errorf("%w: a signature %s by a key of type %s", ErrAlgorithm, quoted(made.Format), keyType), hint}
	}
	// Behind the signature a security key has its flags (a byte) and its counter (four), others nothing.
	rest := 0
	if isSecurityKey(keyType) {
		rest = 5
	}
	if len(made.Rest) != rest {
		return ssh.Signature{}, fmt.Errorf("%w: the signature in it has %d bytes more, where %d are right", ErrFormat, len(made.Rest), rest)
	}
	return made, nil
}

// Verify says whether the signature is of that message, in that namespace, by the key that it names: nil, or
// ErrNamespace, ErrPresence or ErrMismatch (ErrFormat of the zero Signature). Whose the key is, is the caller's to say.
func Verify(s Signature, namespace string, message []byte) error {
	if s.key == nil {
		return fmt.Errorf("%w: it is empty", ErrFormat)
	}
	if s.namespace != namespace {
		return &Error{fmt.Errorf("%w: its namespace is %s, not %s", ErrNamespace, quoted(s.namespace), quoted(namespace)),
			fmt.Sprintf("sign with ssh-keygen -Y sign -n %s", namespace)}
	}
	if isSecurityKey(s.key.Type()) && s.flags()&userPresent == 0 {
		return &Error{ErrPresence, "sign with a key that asks to be touched: one that was made without -O no-touch-required"}
	}
	if err := s.key.Verify(signed(namespace, s.hash, message), &s.made); err != nil {
		return ErrMismatch // of the library's reasons none is anything but this
	}
	return nil
}

// signed is what a key signs (PROTOCOL.sshsig, 3).
func signed(namespace, hash string, message []byte) []byte {
	return append([]byte(magic), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Digest                    []byte
	}{namespace, "", hash, digest(hash, message)})...)
}

// digest is nil where the hash is not one that we take.
func digest(hash string, message []byte) []byte {
	switch hash {
	case "sha512":
		sum := sha512.Sum512(message)
		return sum[:]
	case "sha256":
		sum := sha256.Sum256(message)
		return sum[:]
	}
	return nil
}

// PublicKey is the key that the signature says it is by; nil of the zero Signature.
func (s Signature) PublicKey() ssh.PublicKey { return s.key }

// Fingerprint is the key's as ssh-keygen -l shows it: SHA256:...; "" of the zero Signature.
func (s Signature) Fingerprint() string {
	if s.key == nil {
		return ""
	}
	return ssh.FingerprintSHA256(s.key)
}

// flags are those of a security key; none of another.
func (s Signature) flags() byte {
	if len(s.made.Rest) == 0 {
		return 0
	}
	return s.made.Rest[0]
}

// Marshal is the blob without its armour. The zero Signature is nothing.
func (s Signature) Marshal() []byte {
	if s.key == nil {
		return nil
	}
	return append([]byte(magic), ssh.Marshal(blob{version, s.key.Marshal(), s.namespace, nil, s.hash, ssh.Marshal(s.made)})...)
}

// quoted is what a stranger wrote, bounded.
func quoted(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
