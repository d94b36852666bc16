package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Session is a login with the administrator's key. It is held until Close.
type Session struct {
	From netip.AddrPort // where it comes from

	client *ssh.Client
	close  func() error
}

// Login logs the administrator in from an address of the world's; Admin4 and Admin6 are his own.
func (l *Lab) Login(ctx context.Context, from netip.Addr) (_ *Session, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("log in as %s from %s: %w", AdminUser, from, err)
		}
	}()
	conn, err := l.dial(ctx, from)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	config := l.config(Attack{User: AdminUser, Version: "SSH-2.0-OpenSSH_9.9"})
	config.Auth = []ssh.AuthMethod{ssh.PublicKeys(l.keys.admin)}
	c, channels, requests, err := ssh.NewClientConn(conn, l.Target(from).String(), config)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	l.held.Add(1)
	s := &Session{
		From:   conn.LocalAddr().(*net.TCPAddr).AddrPort(),
		client: ssh.NewClient(c, channels, requests),
	}
	s.close = sync.OnceValue(func() error {
		l.held.Add(-1)
		return s.client.Close()
	})
	return s, nil
}

// Run runs a command and returns what it wrote to its standard output.
func (s *Session) Run(command string) ([]byte, error) {
	session, err := s.client.NewSession()
	if err != nil {
		return nil, err
	}
	defer session.Close()
	return session.Output(command)
}

// Alive asks sshd for a sign of life.
func (s *Session) Alive() error {
	_, _, err := s.client.SendRequest("keepalive@openssh.com", true, nil)
	return err
}

// Close ends the session.
func (s *Session) Close() error { return s.close() }
