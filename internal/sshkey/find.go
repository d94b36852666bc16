package sshkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Options say where to look. What is empty is not looked at.
type Options struct {
	Identity    string                   // a file of a private key, or of the public half of one in the agent: that key or none
	AgentSocket string                   // SSH_AUTH_SOCK
	Home        string                   // of .ssh with the files that ssh too looks for; what "~/" in Identity is
	Allowed     func(ssh.PublicKey) bool // which keys will do; nil: all
	Prompt      io.Writer                // what ssh-keygen says as it waits for a touch; nil: nowhere
}

// Key is one to sign with.
type Key struct {
	Public ssh.PublicKey
	From   string // where it is, for people: "ssh-agent", or the file

	asks bool // to sign with it asks the person
	sign func(ctx context.Context, namespace string, message []byte) ([]byte, error)
}

// Sign signs a message in the form of `ssh-keygen -Y sign -n namespace`, and has verified what it returns. It may have
// to wait for a person: for a passphrase, a touch or a confirmation.
func (k *Key) Sign(ctx context.Context, namespace string, message []byte) (armored []byte, err error) {
	return k.sign(ctx, namespace, message)
}

// Fingerprint is the key's as ssh-add -l shows it: SHA256:...
func (k *Key) Fingerprint() string { return ssh.FingerprintSHA256(k.Public) }

// Asks reports whether to sign with it asks the person for something: a passphrase, a touch.
func (k *Key) Asks() bool { return k.asks || strings.HasPrefix(k.Public.Type(), "sk-") }

// fileNames are those in .ssh, in the order in which they are tried: a security key wants a touch each time.
func fileNames() []string {
	return []string{"id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk"}
}

// Candidates are the keys that will do, each once: the identity alone where one is asked for; else those in the agent,
// in its order, and then the files in .ssh. There is at least one; none is ErrNone, which tells where it looked. Nothing
// is asked and nothing signed to find them, and at most 2053 are found: an agent with more than 2048 keys is not used,
// as ssh does not use it.
func Candidates(ctx context.Context, o Options) ([]*Key, error) {
	l := look{Options: o, agent: agentAt{o.AgentSocket, listTimeout, signTimeout}}
	return l.candidates(ctx)
}

type look struct {
	Options
	agent agentAt
}

func (l look) candidates(ctx context.Context) ([]*Key, error) {
	if l.Identity != "" {
		key, err := l.identity(ctx)
		if err != nil {
			return nil, fmt.Errorf("use the SSH key %q: %w", l.Identity, err)
		}
		return []*Key{key}, nil
	}
	var keys []*Key
	var looked []string // what was not found where
	seen := map[string]bool{}
	add := func(where string, key *Key) {
		switch blob := string(key.Public.Marshal()); {
		case seen[blob]:
		case !l.allowed(key):
			looked = append(looked, where+": "+key.Fingerprint()+" is not one that will do")
		default:
			seen[blob] = true
			keys = append(keys, key)
		}
	}
	held, err := l.agent.keys(ctx)
	if err != nil {
		looked = append(looked, err.Error())
	}
	for _, key := range held {
		add(key.From, key)
	}
	if l.Home == "" {
		looked = append(looked, "no home directory is known")
	} else {
		for _, name := range fileNames() {
			path := filepath.Join(l.Home, ".ssh", name)
			key, err := l.open(path)
			switch {
			case err == nil:
				add(path, key)
			case errors.Is(err, fs.ErrNotExist):
				looked = append(looked, fmt.Sprintf("%s is not there", path))
			default:
				looked = append(looked, fmt.Sprintf("%s: %v", path, err))
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("find an SSH key: %w", context.Cause(ctx))
	}
	if len(keys) == 0 {
		return nil, &Error{fmt.Errorf("%w: %s", ErrNone, summary(looked)),
			"load your key into the agent (ssh-add), or name its file (--identity FILE); ssh-keygen -t ed25519 makes one"}
	}
	return keys, nil
}

// summary is a list that an agent's many keys do not grow.
func summary(looked []string) string {
	const most = 12
	if over := len(looked) - most; over > 0 {
		looked = append([]string{fmt.Sprintf("(%d more)", over)}, looked[over:]...)
	}
	return strings.Join(looked, "; ")
}

func (l look) allowed(key *Key) bool { return l.Allowed == nil || l.Allowed(key.Public) }

// identity is the key that was asked for.
func (l look) identity(ctx context.Context) (*Key, error) {
	path := l.Identity
	if rest, ok := strings.CutPrefix(path, "~/"); ok && l.Home != "" {
		path = filepath.Join(l.Home, rest)
	}
	key, err := l.named(ctx, path)
	if err != nil {
		return nil, err
	}
	if !l.allowed(key) {
		return nil, &Error{fmt.Errorf("%w: %s is not one that will do", ErrNone, key.Fingerprint()),
			"name another file (--identity FILE), or have this key added to those that are known as yours"}
	}
	return key, nil
}

func (l look) named(ctx context.Context, path string) (*Key, error) {
	file, err := read(path)
	if errors.Is(err, fs.ErrNotExist) && !strings.HasSuffix(path, ".pub") {
		// As with ssh -i, the public half is enough where the agent has the other.
		if half, halfErr := read(path + ".pub"); halfErr == nil {
			file, err = half, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if file.isPrivate() {
		key, err := l.private(file)
		if err != nil || !key.asks {
			return key, err
		}
		// Rather than have the person asked again.
		if held, err := l.agent.key(ctx, key.Public); err == nil {
			return held, nil
		}
		return key, nil
	}
	public, err := file.public()
	if err != nil {
		return nil, err
	}
	held, agentErr := l.agent.key(ctx, public)
	if agentErr == nil {
		return held, nil
	}
	key, err := l.open(strings.TrimSuffix(file.path, ".pub"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{fmt.Errorf("%w: the file has its public half alone, and %w", ErrNone, agentErr),
			"load the private half into the agent (ssh-add FILE), or name its file"}
	case err != nil:
		return nil, err
	case !same(key.Public, public):
		return nil, fmt.Errorf("the private key beside it is another: %s, where it is %s", key.Fingerprint(), ssh.FingerprintSHA256(public))
	}
	return key, nil
}

// same reports whether two keys are one, however they came.
func same(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }
