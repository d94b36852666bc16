// Package sshsigtest is a security key without hardware: it signs as an authenticator does that OpenSSH asks
// (PROTOCOL.u2f). For tests alone.
package sshsigtest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"math/big"
	"testing"

	"golang.org/x/crypto/ssh"
)

// The flags of a signature.
const (
	Present  = 0x01 // touched
	Verified = 0x04 // by somebody that the key knows
)

// SecurityKey signs with its flags and counts its signatures. It is for one goroutine.
type SecurityKey struct {
	Flags   byte
	Counter uint32

	public      ssh.PublicKey
	application string
	algorithm   string
	sign        func(io.Reader, []byte) ([]byte, error)
}

// New makes a key of a type: ssh.KeyAlgoSKED25519 or ssh.KeyAlgoSKECDSA256. It is touched at each signature.
func New(t testing.TB, keyType string) *SecurityKey {
	t.Helper()
	k := &SecurityKey{Flags: Present, application: "ssh:", algorithm: keyType}
	var wire []byte
	switch keyType {
	case ssh.KeyAlgoSKED25519:
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		wire = ssh.Marshal(struct{ Type, Key, Application string }{keyType, string(public), k.application})
		k.sign = func(_ io.Reader, data []byte) ([]byte, error) { return ed25519.Sign(private, data), nil }
	case ssh.KeyAlgoSKECDSA256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := private.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		wire = ssh.Marshal(struct{ Type, Curve, Key, Application string }{keyType, "nistp256", string(point), k.application})
		k.sign = func(random io.Reader, data []byte) ([]byte, error) {
			sum := sha256.Sum256(data)
			r, s, err := ecdsa.Sign(random, private, sum[:])
			return ssh.Marshal(struct{ R, S *big.Int }{r, s}), err
		}
	default:
		t.Fatalf("%q is no type of a security key", keyType)
	}
	public, err := ssh.ParsePublicKey(wire)
	if err != nil {
		t.Fatal(err)
	}
	k.public = public
	return k
}

// PublicKey is the key's public half.
func (k *SecurityKey) PublicKey() ssh.PublicKey { return k.public }

// Sign signs what an authenticator makes of the data.
func (k *SecurityKey) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	k.Counter++
	application, message := sha256.Sum256([]byte(k.application)), sha256.Sum256(data)
	rest := ssh.Marshal(struct {
		Flags   byte
		Counter uint32
	}{k.Flags, k.Counter})
	signature, err := k.sign(random, append(append(application[:], rest...), message[:]...))
	if err != nil {
		return nil, fmt.Errorf("sign as a security key: %w", err)
	}
	return &ssh.Signature{Format: k.algorithm, Blob: signature, Rest: rest}, nil
}
