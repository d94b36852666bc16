package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"sekisho/internal/daemon"
)

// client speaks to the daemon over its control socket.
type client struct {
	socket string
	http   http.Client
}

func newClient(g *globals) *client {
	c := &client{socket: g.socket}
	c.http = http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", c.socket)
		}},
	}
	return c
}

func (c *client) get(ctx context.Context, path string, query url.Values, into any) error {
	return c.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, into)
}

func (c *client) post(ctx context.Context, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, path, raw, into)
}

func (c *client) call(ctx context.Context, method, path string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://sekisho/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	reply, err := c.http.Do(request)
	if err != nil {
		return c.noReply(err)
	}
	defer reply.Body.Close()
	dec := json.NewDecoder(reply.Body)
	if reply.StatusCode != http.StatusOK {
		var f daemon.Failure
		if err := dec.Decode(&f); err != nil {
			return fmt.Errorf("the daemon answered %s", reply.Status)
		}
		err := errors.New(f.Error)
		if f.Hint != "" {
			err = withHint(err, f.Hint)
		}
		return err
	}
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// noReply says why the daemon could not be asked, and what to do.
func (c *client) noReply(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		err = withHint(fmt.Errorf("the daemon does not answer on %s", c.socket), "start it: systemctl start sekisho, or sekisho run")
	case errors.Is(err, syscall.EINVAL):
		err = withHint(fmt.Errorf("the socket's path %s is too long: the kernel takes 107 bytes", c.socket), "choose a shorter --socket, also for the daemon")
	case errors.Is(err, fs.ErrPermission):
		err = withHint(fmt.Errorf("you may not speak to the daemon on %s", c.socket), "use sudo, or join the group sekisho")
	}
	return &exitError{exitNoReply, err}
}
