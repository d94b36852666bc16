package sshkey

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sekisho/internal/sshsig"
	"sekisho/internal/sshsig/sshsigtest"
)

// agentOf listens as an agent; what comes is served until the test's end.
func agentOf(t *testing.T, serve func(net.Conn)) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return socket
}

// saying answers each question with the same.
func saying(answer []byte) func(net.Conn) {
	return func(c net.Conn) {
		for {
			var length [4]byte
			if _, err := io.ReadFull(c, length[:]); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(length[:]))); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}

// never takes what comes, and answers nothing.
func never(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// packet is an agent's answer on the wire.
func packet(kind byte, rest ...any) []byte {
	b := []byte{kind}
	for _, r := range rest {
		switch r := r.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(r))
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(r))), r...)
		}
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAgentsThatMisbehave(t *testing.T) {
	const identities = 12 // SSH_AGENT_IDENTITIES_ANSWER
	many := func(n, comment int) []byte {
		rest := []any{n}
		for range n {
			rest = append(rest, string(newSigner(t).PublicKey().Marshal()), strings.Repeat("c", comment))
		}
		return packet(identities, rest...)
	}
	good := string(newSigner(t).PublicKey().Marshal())
	tests := []struct {
		name  string
		serve func(net.Conn)
		says  string
		keys  int
	}{
		{name: "as many keys as ssh takes", serve: saying(many(maxAgentKeys, 0)), keys: maxAgentKeys},
		{name: "10,000 keys", serve: saying(many(10_000, 0)), says: "it holds 10000 keys, where 2048 are the most"},
		{name: "long comments", serve: saying(many(100, 20_000)), says: "EOF"},
		{name: "more keys said than there are", serve: saying(packet(identities, 100, good, "")), says: "parse error"},
		{name: "a number of keys without end", serve: saying(packet(identities, 0xffffffff)), says: "too many keys"},
		{name: "an answer without end", serve: saying([]byte("\xff\xff\xff\xff")), says: "response too large"},
		{name: "no such answer", serve: saying(packet(99)), says: "unknown type tag 99"},
		{name: "another answer", serve: saying(packet(6)), says: "unexpected message type"},
		{name: "an empty answer", serve: saying([]byte{0, 0, 0, 0}), says: "empty packet"},
		{name: "a refusal", serve: saying(packet(5)), says: "failed to list keys"},
		{name: "half an answer", serve: func(c net.Conn) { saying(packet(identities, 1, good, "")[:20])(c) }, says: "no answer within 300ms"},
		{name: "closed at once", serve: func(net.Conn) {}, says: "ssh-agent: "},
		{name: "never an answer", serve: never, says: "ssh-agent: no answer within 300ms"},
		{name: "keys of other kinds beside ours", serve: saying(packet(identities, 4, packet0("ssh-what", "x"), "", good, "", packet0("ssh-ed25519", "short"), "", packet0("ssh-dss"), "")), keys: 1},
		{name: "keys of other kinds alone", serve: saying(packet(identities, 1, packet0("ssh-what", "x"), "")), says: "of its 1 keys none can be used"},
		{name: "answers nobody asked for", serve: func(c net.Conn) {
			b := packet(identities, 1, good, "")
			_, _ = c.Write(append(b, b...))
			never(c)
		}, keys: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := agentAt{agentOf(t, tt.serve), time.Minute, time.Minute}
			if strings.Contains(tt.says, "no answer") {
				a.list = 300 * time.Millisecond
			}
			keys, err := a.keys(t.Context())
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) || keys != nil {
					t.Fatalf("%d keys, error %v, want %q in it", len(keys), err, tt.says)
				}
			} else if err != nil || len(keys) != tt.keys {
				t.Fatalf("%d keys, error %v, want %d", len(keys), err, tt.keys)
			}
			if tt.says == "" {
				return
			}
			// Then the files serve.
			dir, dotSSH := home(t)
			want := generate(t, filepath.Join(dotSSH, "id_ed25519"), "-t", "ed25519")
			found, err := look{Options{Home: dir}, a}.candidates(t.Context())
			if err != nil || len(found) != 1 {
				t.Fatalf("found %v: %v", found, err)
			}
			signs(t, found[0], want)
		})
	}
}

// packet0 is a key's blob of such strings.
func packet0(parts ...string) string {
	var b []byte
	for _, p := range parts {
		b = append(b, ssh.Marshal(struct{ S string }{p})...)
	}
	return string(b)
}

// dishonest is an agent that holds a key, and signs as it likes.
type dishonest struct {
	agent.ExtendedAgent
	key  ssh.PublicKey
	sign func(data []byte) (*ssh.Signature, error)
}

func (d dishonest) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: d.key.Type(), Blob: d.key.Marshal()}}, nil
}

func (d dishonest) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) { return d.sign(data) }

func (d dishonest) SignWithFlags(k ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return d.Sign(k, data)
}

func TestAgentsThatSignWrongly(t *testing.T) {
	signer, other, sk := newSigner(t), newSigner(t), sshsigtest.New(t, ssh.KeyAlgoSKED25519)
	end, stop := context.WithCancel(t.Context())
	defer stop()
	untouched := sshsigtest.New(t, ssh.KeyAlgoSKECDSA256)
	untouched.Flags = 0
	tests := []struct {
		name string
		key  ssh.PublicKey
		sign func([]byte) (*ssh.Signature, error)
		want error
		says string
		hint string
	}{
		{name: "right", key: signer.PublicKey(), sign: func(d []byte) (*ssh.Signature, error) { return signer.Sign(rand.Reader, d) }},
		{name: "right, of a security key", key: sk.PublicKey(), sign: func(d []byte) (*ssh.Signature, error) { return sk.Sign(rand.Reader, d) }},
		{name: "untouched", key: untouched.PublicKey(), sign: func(d []byte) (*ssh.Signature, error) { return untouched.Sign(rand.Reader, d) }, want: sshsig.ErrPresence, hint: "no-touch-required"},
		{name: "with another key", key: signer.PublicKey(), sign: func(d []byte) (*ssh.Signature, error) { return other.Sign(rand.Reader, d) }, want: sshsig.ErrMismatch},
		{name: "something else", key: signer.PublicKey(), sign: func([]byte) (*ssh.Signature, error) { return signer.Sign(rand.Reader, []byte("x")) }, want: sshsig.ErrMismatch},
		{name: "by rubbish", key: signer.PublicKey(), sign: func([]byte) (*ssh.Signature, error) { return &ssh.Signature{Format: "\x1b[2J"}, nil }, want: sshsig.ErrAlgorithm, says: `"\x1b[2J"`},
		{name: "not at all", key: signer.PublicKey(), sign: func([]byte) (*ssh.Signature, error) { return nil, errors.New("no") }, says: "ssh-agent: agent: failed to sign", hint: "ssh-add -X"},
		{name: "never", key: signer.PublicKey(), sign: func([]byte) (*ssh.Signature, error) { <-end.Done(); return nil, end.Err() }, says: "ssh-agent: no answer within 300ms", hint: "did the agent ask you"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket := agentOf(t, func(c net.Conn) {
				_ = agent.ServeAgent(dishonest{agent.NewKeyring().(agent.ExtendedAgent), tt.key, tt.sign}, c)
			})
			a := agentAt{socket, time.Minute, 300 * time.Millisecond}
			if tt.want == nil && tt.says == "" {
				a.sign = time.Minute
			}
			keys, err := a.keys(t.Context())
			if err != nil || len(keys) != 1 {
				t.Fatalf("%d keys: %v", len(keys), err)
			}
			if tt.want == nil && tt.says == "" {
				signs(t, keys[0], ssh.FingerprintSHA256(tt.key))
				return
			}
			b, err := keys[0].Sign(t.Context(), namespace, []byte("m"))
			if err == nil || b != nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%q, error %v, want %v with %q", b, err, tt.want, tt.says)
			}
			if hint := Hint(err); !strings.Contains(hint, tt.hint) {
				t.Errorf("hint %q, want %q in it", hint, tt.hint)
			}
		})
	}
	t.Run("who asked has no more time", func(t *testing.T) {
		a := agentAt{agentOf(t, never), time.Minute, time.Minute}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(gone) })
		if _, err := a.holding(signer.PublicKey()).Sign(ctx, namespace, nil); !errors.Is(err, gone) {
			t.Errorf("error %v, want %v", err, gone)
		}
	})
}

// A locked agent of OpenSSH's lists nothing; one whose key is gone since it was found refuses.
func TestAgentThatChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	want := generate(t, path, "-t", "ed25519")
	socket := startAgent(t)
	load(t, socket, path)
	key, err := find(t.Context(), Options{AgentSocket: socket})
	if err != nil {
		t.Fatal(err)
	}
	signs(t, key, want)
	command(t, []string{"SSH_AUTH_SOCK=" + socket}, "ssh-add", "-q", "-D")
	if _, err := key.Sign(t.Context(), namespace, nil); err == nil || !strings.Contains(err.Error(), "failed to sign") || Hint(err) == "" {
		t.Errorf("error %v (hint %q)", err, Hint(err))
	}
	if _, err := find(t.Context(), Options{AgentSocket: socket}); !errors.Is(err, ErrNone) {
		t.Errorf("error %v", err)
	}
}
