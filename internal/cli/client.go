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
	"sekisho/internal/trial"
)

// errSilent is why there is no answer where no daemon runs.
var errSilent = errors.New("does not answer")

// errCutOff is why a trial is told no further: the daemon's answer ended in it.
var errCutOff = errors.New("the daemon stopped answering")

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

func (c *client) delete(ctx context.Context, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodDelete, path, raw, into)
}

func (c *client) call(ctx context.Context, method, path string, body []byte, into any) error {
	reply, err := c.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if err := json.NewDecoder(reply.Body).Decode(into); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// ask asks, and makes an error of every answer that is none; the caller closes
// the body.
func (c *client) ask(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://sekisho/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	reply, err := c.http.Do(request)
	if err != nil {
		return nil, c.noReply(err)
	}
	if reply.StatusCode == http.StatusOK {
		return reply, nil
	}
	defer reply.Body.Close()
	var f daemon.Failure
	if err := json.NewDecoder(reply.Body).Decode(&f); err != nil {
		return nil, fmt.Errorf("the daemon answered %s", reply.Status)
	}
	return nil, failed(f)
}

// failed is what the daemon says went wrong.
func failed(f daemon.Failure) error {
	err := errors.New(f.Error)
	if f.Hint != "" {
		err = withHint(err, f.Hint)
	}
	return err
}

// try asks for a trial, and calls progress for each step of it until it is over.
func (c *client) try(ctx context.Context, q daemon.ApplyRequest, progress func(trial.Event)) error {
	raw, err := json.Marshal(q)
	if err != nil {
		return err
	}
	patient := *c
	patient.http.Timeout = 0 // a trial takes as long as it was asked for
	reply, err := patient.ask(ctx, http.MethodPost, "apply", raw)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	dec := json.NewDecoder(reply.Body)
	for over := false; ; {
		var line struct {
			trial.Event
			daemon.Failure
		}
		switch err := dec.Decode(&line); {
		case err != nil && over:
			return nil // all was said
		case err != nil:
			return errCutOff
		case line.Error != "":
			return failed(line.Failure)
		}
		progress(line.Event)
		over = line.Stage == trial.Confirmed || line.Stage == trial.Reverted
	}
}

// noReply says why the daemon could not be asked, and what to do.
func (c *client) noReply(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		err = withHint(fmt.Errorf("the daemon %w on %s", errSilent, c.socket), "start it: systemctl start sekisho, or sekisho run")
	case errors.Is(err, syscall.EINVAL):
		err = withHint(fmt.Errorf("the socket's path %s is too long: the kernel takes 107 bytes", c.socket), "choose a shorter --socket, also for the daemon")
	case errors.Is(err, fs.ErrPermission):
		err = withHint(fmt.Errorf("you may not speak to the daemon on %s", c.socket), "use sudo, or join the group sekisho")
	}
	return &exitError{exitNoReply, err}
}
