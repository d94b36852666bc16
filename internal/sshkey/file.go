package sshkey

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/sshsig"
)

const maxFile = 64 << 10 // a private key of RSA with 16384 bits has 13 kB

// file is one of a key, read.
type file struct {
	path    string
	content []byte
	info    fs.FileInfo
}

// read reads a file of a key. Its errors do not name the file.
func read(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not keep us
	if err != nil {
		return file{}, withoutPath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return file{}, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return file{}, errors.New("it is not a file")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return file{}, withoutPath(err)
	}
	if len(b) > maxFile {
		return file{}, fmt.Errorf("it has more than %d bytes, and is no key", maxFile)
	}
	return file{path, b, info}, nil
}

func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

func (f file) isPrivate() bool {
	block, _ := pem.Decode(f.content)
	return block != nil && strings.HasSuffix(block.Type, "PRIVATE KEY")
}

// public is the key of a .pub file.
func (f file) public() (ssh.PublicKey, error) {
	public, _, _, _, err := ssh.ParseAuthorizedKey(f.content)
	if err != nil {
		return nil, &Error{errors.New("there is no SSH key in it"), "name a private key's file, or the .pub file of a key in the agent"}
	}
	return public, sshsig.Accepts(public)
}

// private is the key of a private key's file: signed with in this process where its file is open to us, else by
// ssh-keygen.
func (l look) private(f file) (*Key, error) {
	// ssh does not care about a file of somebody else's (sshkey_perm_ok in authfile.c of OpenSSH 10).
	if s, ok := f.info.Sys().(*syscall.Stat_t); ok && int(s.Uid) == os.Getuid() && f.info.Mode().Perm()&0o077 != 0 {
		return nil, &Error{fmt.Errorf("others may read or change this private key (mode %#o)", f.info.Mode().Perm()),
			fmt.Sprintf("chmod 600 %q; if others have read it, make another key", f.path)}
	}
	signer, err := ssh.ParsePrivateKey(f.content)
	if err == nil {
		sign := func(_ context.Context, namespace string, message []byte) ([]byte, error) {
			return sshsig.Sign(signer, namespace, message)
		}
		return &Key{Public: signer.PublicKey(), From: f.path, sign: sign}, sshsig.Accepts(signer.PublicKey())
	}
	public, ok := f.publicHalf()
	if !ok {
		return nil, &Error{errors.New("it is a private key that cannot be read, and its public half is not beside it"),
			fmt.Sprintf("write the public half: ssh-keygen -y -f %q > %q", f.path, f.path+".pub")}
	}
	if err := sshsig.Accepts(public); err != nil {
		return nil, err
	}
	return &Key{Public: public, From: f.path, asks: true, sign: keygen{f.path, public, l.Prompt}.sign}, nil
}

// publicHalf is the public half of a file that we cannot read: OpenSSH's own form has it in clear (PROTOCOL.key), for
// others it is in the file beside it.
func (f file) publicHalf() (ssh.PublicKey, bool) {
	const magic = "openssh-key-v1\x00"
	block, _ := pem.Decode(f.content)
	if b, ok := bytes.CutPrefix(block.Bytes, []byte(magic)); ok {
		var head struct {
			Cipher, KDF, Options string
			Keys                 uint32
			Public               []byte
			Rest                 []byte `ssh:"rest"`
		}
		if ssh.Unmarshal(b, &head) == nil && head.Keys == 1 {
			public, err := ssh.ParsePublicKey(head.Public)
			return public, err == nil
		}
	}
	beside, err := read(f.path + ".pub")
	if err != nil {
		return nil, false
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(beside.content)
	return public, err == nil
}

// open reads a private key's file.
func (l look) open(path string) (*Key, error) {
	f, err := read(path)
	if err != nil {
		return nil, err
	}
	if !f.isPrivate() {
		return nil, errors.New("it is no private key")
	}
	return l.private(f)
}
