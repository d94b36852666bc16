package sshkey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sekisho/internal/sshsig"
)

const (
	listTimeout  = 5 * time.Second
	signTimeout  = time.Minute // it may wait for a touch, or ask
	maxAgentKeys = 2048        // as of ssh (authfd.c of OpenSSH 10)
	maxAnswer    = 1 << 20     // bytes of one agent's answers; ssh takes 256 kB
)

// agentAt is the agent that listens at a socket. Nothing that it says is believed.
type agentAt struct {
	socket     string
	list, sign time.Duration // the longest to wait for
}

// keys are those that it holds, and that we can use. None is an error.
func (a agentAt) keys(ctx context.Context) ([]*Key, error) {
	if a.socket == "" {
		return nil, errors.New("no ssh-agent is there (SSH_AUTH_SOCK is empty)")
	}
	var held []*agent.Key
	err := a.ask(ctx, a.list, func(c agent.ExtendedAgent) (err error) {
		held, err = c.List()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	if len(held) > maxAgentKeys {
		return nil, fmt.Errorf("ssh-agent: it holds %d keys, where %d are the most", len(held), maxAgentKeys)
	}
	var keys []*Key
	for _, h := range held {
		public, err := ssh.ParsePublicKey(h.Blob)
		if err != nil || sshsig.Accepts(public) != nil {
			continue // of a kind for something else; and certificates stand beside their keys
		}
		keys = append(keys, a.holding(public))
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("ssh-agent: of its %d keys none can be used", len(held))
	}
	return keys, nil
}

// key is that key, where the agent holds it.
func (a agentAt) key(ctx context.Context, public ssh.PublicKey) (*Key, error) {
	keys, err := a.keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if same(k.Public, public) {
			return k, nil
		}
	}
	return nil, fmt.Errorf("ssh-agent: it does not hold %s", ssh.FingerprintSHA256(public))
}

func (a agentAt) holding(public ssh.PublicKey) *Key {
	return &Key{Public: public, From: "ssh-agent", sign: func(ctx context.Context, namespace string, message []byte) ([]byte, error) {
		return sshsig.Sign(agentSigner{a, ctx, public}, namespace, message)
	}}
}

// ask speaks to the agent for at most that long.
func (a agentAt) ask(ctx context.Context, longest time.Duration, question func(agent.ExtendedAgent) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, longest, fmt.Errorf("no answer within %s", longest))
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", a.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// Without Close, for then the client would have a goroutine that an answer too many keeps for ever.
	err = question(agent.NewClient(struct {
		io.Reader
		io.Writer
	}{io.LimitReader(conn, maxAnswer), conn}))
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// agentSigner signs with a key in the agent, for as long as one call has.
type agentSigner struct {
	agent agentAt
	ctx   context.Context
	key   ssh.PublicKey
}

func (s agentSigner) PublicKey() ssh.PublicKey { return s.key }

func (s agentSigner) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(random, data, "")
}

func (s agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (made *ssh.Signature, err error) {
	var flags agent.SignatureFlags
	switch algorithm {
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	}
	err = s.agent.ask(s.ctx, s.agent.sign, func(c agent.ExtendedAgent) (err error) {
		made, err = c.SignWithFlags(s.key, data, flags)
		return err
	})
	if err != nil {
		return nil, &Error{fmt.Errorf("ssh-agent: %w", err), "did the agent ask you, or is it locked (ssh-add -X)? --identity FILE signs with a file"}
	}
	return made, nil
}
