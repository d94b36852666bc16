package sshsig

import (
	"crypto/rand"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Sign makes a signature as `ssh-keygen -Y sign -n namespace` does: over SHA-512, with RSA keys by rsa-sha2-512. What
// it returns is armoured and has been verified: a signer that answers with anything else is an error. The signer's own
// error is wrapped.
func Sign(signer ssh.Signer, namespace string, message []byte) (armored []byte, err error) {
	if namespace == "" || strings.Contains(namespace, "\x00") {
		return nil, fmt.Errorf("sign for the namespace %q: it must be a text that is not empty", namespace)
	}
	key := signer.PublicKey()
	if err := Accepts(key); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	const hash = "sha512"
	made, err := sign(signer, algorithms(key.Type())[0], signed(namespace, hash, message))
	if err != nil {
		return nil, fmt.Errorf("sign with the key %s: %w", ssh.FingerprintSHA256(key), err)
	}
	s, err := Parse(append([]byte(magic), ssh.Marshal(blob{version, key.Marshal(), namespace, nil, hash, ssh.Marshal(*made)})...))
	if err == nil {
		err = Verify(s, namespace, message)
	}
	if err != nil {
		return nil, fmt.Errorf("check what the key %s signed: %w", ssh.FingerprintSHA256(key), err)
	}
	return Armor(s), nil
}

func sign(signer ssh.Signer, algorithm string, data []byte) (*ssh.Signature, error) {
	if s, ok := signer.(ssh.AlgorithmSigner); ok {
		return s.SignWithAlgorithm(rand.Reader, data, algorithm)
	}
	return signer.Sign(rand.Reader, data)
}
