package sshsig

import (
	"crypto/rsa"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

const minRSABits = 2048

// algorithms are those by which a key of this type signs, the best first; none: we do not take it.
func algorithms(keyType string) []string {
	switch keyType {
	case ssh.KeyAlgoRSA:
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return []string{keyType}
	}
	return nil
}

func isSecurityKey(keyType string) bool {
	return keyType == ssh.KeyAlgoSKED25519 || keyType == ssh.KeyAlgoSKECDSA256
}

// Accepts says whether signatures of that key are taken: nil, or ErrAlgorithm with what to do.
func Accepts(key ssh.PublicKey) error {
	if err := acceptType(key.Type()); err != nil {
		return err
	}
	if key.Type() != ssh.KeyAlgoRSA {
		return nil
	}
	// An agent's keys are bytes alone.
	parsed, err := ssh.ParsePublicKey(key.Marshal())
	if err != nil {
		return fmt.Errorf("%w: an RSA key that is broken", ErrAlgorithm)
	}
	if c, ok := parsed.(ssh.CryptoPublicKey); ok {
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() >= minRSABits {
			return nil
		} else if ok {
			return &Error{fmt.Errorf("%w: an RSA key of %d bits, where %d are the least", ErrAlgorithm, k.N.BitLen(), minRSABits), another}
		}
	}
	return fmt.Errorf("%w: an RSA key that is none", ErrAlgorithm)
}

const another = "make another: ssh-keygen -t ed25519"

func acceptType(keyType string) error {
	switch {
	case algorithms(keyType) != nil:
		return nil
	case strings.Contains(keyType, "-cert-v"):
		return &Error{fmt.Errorf("%w: a certificate (%s)", ErrAlgorithm, quoted(keyType)),
			"sign with the key itself: name its file, not the one that ends in -cert.pub"}
	case keyType == "ssh-dss":
		return &Error{fmt.Errorf("%w: a DSA key", ErrAlgorithm), another}
	}
	return &Error{fmt.Errorf("%w: a key of type %s", ErrAlgorithm, quoted(keyType)), another}
}
