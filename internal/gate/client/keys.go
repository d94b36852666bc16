package client

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"sekisho/internal/durable"
	"sekisho/internal/sshkey"
)

// Keys are a person's own keys, as package sshkey finds them; quietly: those that ask nobody
// for anything.
func Keys(o sshkey.Options, quietly bool) func(context.Context) ([]Key, error) {
	return func(ctx context.Context) ([]Key, error) {
		found, err := sshkey.Candidates(ctx, o)
		keys := make([]Key, 0, len(found))
		for _, k := range found {
			if !quietly || !k.Asks() {
				keys = append(keys, k)
			}
		}
		return keys, err
	}
}

// candidates are the keys to try: first the one that the gate knew last.
func (c *Client) candidates(ctx context.Context) ([]Key, error) {
	if c.o.Keys == nil {
		return nil, errors.New("there is no key to sign with")
	}
	keys, err := c.o.Keys(ctx)
	if err != nil {
		return nil, err
	}
	last := c.last()
	keys = slices.Clone(keys)
	slices.SortStableFunc(keys, func(a, b Key) int {
		switch {
		case a.Fingerprint() == last && b.Fingerprint() != last:
			return -1
		case b.Fingerprint() == last && a.Fingerprint() != last:
			return 1
		}
		return 0
	})
	return keys[:min(maxKeys, len(keys))], nil
}

// last is the fingerprint of the key that this gate knew last; "": it is not known.
func (c *Client) last() string {
	if c.o.Last == "" {
		return ""
	}
	f, err := os.Open(c.o.Last)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return ""
	}
	gate, fingerprint, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if gate != c.URL() {
		return ""
	}
	return fingerprint
}

// remember keeps which key the gate knows.
func (c *Client) remember(key Key) {
	if c.o.Last == "" || c.last() == key.Fingerprint() {
		return
	}
	_ = durable.Replace(c.o.Last, []byte(c.URL()+" "+key.Fingerprint()+"\n"), nil) // it is found out again
}
