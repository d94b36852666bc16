package client

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"sekisho/internal/gate/api"
)

// What a gate can be asked. Errors are *api.Error where the gate has answered, and
// *SilentError where it has not.

func get[T any](ctx context.Context, c *Client, path string) (out T, err error) {
	return out, c.call(ctx, request{method: http.MethodGet, path: path, again: true}, nil, &out)
}

func post[T any](ctx context.Context, c *Client, path string, again bool, in any) (out T, err error) {
	return out, c.call(ctx, request{method: http.MethodPost, path: path, again: again}, in, &out)
}

// Me is who the gate takes us for.
func (c *Client) Me(ctx context.Context) (api.Me, error) { return get[api.Me](ctx, c, "/me") }

// Doors are all targets, as we see them.
func (c *Client) Doors(ctx context.Context) ([]api.Door, error) {
	doors, err := get[[]api.Door](ctx, c, "/doors")
	if err != nil {
		return nil, err
	}
	for _, d := range doors {
		if err := c.proper(d); err != nil {
			return nil, err
		}
	}
	return doors, nil
}

// Door is one target, by its name or its host's.
func (c *Client) Door(ctx context.Context, target string) (api.Door, error) {
	d, err := get[api.Door](ctx, c, "/doors/"+url.PathEscape(target))
	if err == nil {
		err = c.proper(d)
	}
	return d, err
}

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9_:][A-Za-z0-9._:-]{0,252}$`)
)

// proper refuses names that would be something else to ssh, or to a shell.
func (c *Client) proper(d api.Door) error {
	bad := func(what string) error {
		return &SilentError{c.Host(), true, fmt.Errorf("it names a target %q with the host %q, which nothing is called", fit(d.Target), fit(what))}
	}
	if !namePattern.MatchString(d.Target) || len(d.Hosts) == 0 {
		return bad("")
	}
	for _, h := range d.Hosts {
		if _, err := netip.ParseAddr(h); err != nil && !hostPattern.MatchString(h) {
			return bad(h)
		}
	}
	return nil
}

// Open asks for a door. Where q names no lease one is made, so that an answer that got lost
// is asked for again.
func (c *Client) Open(ctx context.Context, target string, q api.OpenRequest) (api.Grant, error) {
	if q.Lease == "" {
		q.Lease = rand.Text()
	}
	return post[api.Grant](ctx, c, "/doors/"+url.PathEscape(target)+"/open", true, q)
}

// Extend makes a grant end that long from now; 0: as long as is usual.
func (c *Client) Extend(ctx context.Context, id string, length time.Duration) (api.Grant, error) {
	return post[api.Grant](ctx, c, "/grants/"+url.PathEscape(id)+"/extend", true, api.ExtendRequest{Seconds: int64(length / time.Second)})
}

// Close ends a grant, or withdraws what was asked for.
func (c *Client) Close(ctx context.Context, id string) (api.Grant, error) {
	return post[api.Grant](ctx, c, "/grants/"+url.PathEscape(id)+"/close", true, nil)
}

// Grants are our live ones, or everybody's.
func (c *Client) Grants(ctx context.Context, all bool) ([]api.Grant, error) {
	path := "/grants"
	if all {
		path += "?all=true"
	}
	return get[[]api.Grant](ctx, c, path)
}

// Grant is one grant, ended or not.
func (c *Client) Grant(ctx context.Context, id string) (api.Grant, error) {
	return get[api.Grant](ctx, c, "/grants/"+url.PathEscape(id))
}

// Waiting are the grants that wait for an answer that we may give.
func (c *Client) Waiting(ctx context.Context) ([]api.Grant, error) {
	return get[[]api.Grant](ctx, c, "/approvals")
}

// Approve says yes to what somebody else has asked for.
func (c *Client) Approve(ctx context.Context, id, reason string) (api.Grant, error) {
	return post[api.Grant](ctx, c, "/grants/"+url.PathEscape(id)+"/approve", false, api.AnswerRequest{Reason: reason})
}

// Deny says no.
func (c *Client) Deny(ctx context.Context, id, reason string) (api.Grant, error) {
	return post[api.Grant](ctx, c, "/grants/"+url.PathEscape(id)+"/deny", false, api.AnswerRequest{Reason: reason})
}

// Follow asks for a grant each time that so much has gone by, until done says that it is
// enough, and returns it as it was then. A gate that does not answer for a while, as one
// that is started anew, is asked again.
func (c *Client) Follow(ctx context.Context, g api.Grant, every time.Duration, done func(api.Grant) bool) (api.Grant, error) {
	const patience = 5 * time.Minute
	silent := time.Time{}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !done(g) {
		select {
		case <-ctx.Done():
			return g, context.Cause(ctx)
		case <-tick.C:
		}
		now, err := c.Grant(ctx, g.ID)
		switch {
		case err == nil:
			g, silent = now, time.Time{}
		case !passes(err):
			return g, err
		case silent.IsZero():
			silent = time.Now()
		case time.Since(silent) > patience:
			return g, err
		}
	}
	return g, nil
}

// passes reports whether an error may be none in a moment.
func passes(err error) bool {
	if IsCode(err, api.Busy) || IsCode(err, api.TooMany) || IsCode(err, api.Internal) || IsCode(err, api.Unreachable) {
		return true
	}
	return isSilent(err)
}

// People are all.
func (c *Client) People(ctx context.Context) ([]api.Person, error) {
	return get[[]api.Person](ctx, c, "/people")
}

// Invite makes a one-time link by which somebody enrols a passkey.
func (c *Client) Invite(ctx context.Context, name string) (api.Invitation, error) {
	return post[api.Invitation](ctx, c, "/people/"+url.PathEscape(name)+"/invite", false, nil)
}

// InviteMe makes one for ourselves.
func (c *Client) InviteMe(ctx context.Context) (api.Invitation, error) {
	return post[api.Invitation](ctx, c, "/passkeys/invite", false, nil)
}

// DoorOf is a target as somebody sees it.
func (c *Client) DoorOf(ctx context.Context, person, target string) (api.Door, error) {
	d, err := get[api.Door](ctx, c, "/people/"+url.PathEscape(person)+"/doors/"+url.PathEscape(target))
	if err == nil {
		err = c.proper(d)
	}
	return d, err
}

// Disable ends all that somebody has, and returns what that was.
func (c *Client) Disable(ctx context.Context, name string, q api.DisableRequest) ([]api.Grant, error) {
	return post[[]api.Grant](ctx, c, "/people/"+url.PathEscape(name)+"/disable", true, q)
}

// Enable undoes that.
func (c *Client) Enable(ctx context.Context, name string) (api.Person, error) {
	return post[api.Person](ctx, c, "/people/"+url.PathEscape(name)+"/enable", true, nil)
}

// Hosts are all that were added.
func (c *Client) Hosts(ctx context.Context) ([]api.Host, error) {
	return get[[]api.Host](ctx, c, "/hosts")
}

// AddHost makes a one-time token by which a host enrols itself.
func (c *Client) AddHost(ctx context.Context, name string) (api.Invitation, error) {
	return post[api.Invitation](ctx, c, "/hosts", false, api.HostRequest{Name: name})
}

// Filter is which entries of the audit are asked for. The zero value: the newest 100.
type Filter struct {
	Person, Target, What string
	From, To             time.Time
	Before               int64
	Limit                int // at most 1000
}

// Audit are the newest entries that f takes, newest first.
func (c *Client) Audit(ctx context.Context, f Filter) ([]api.Entry, error) {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("person", f.Person)
	set("target", f.Target)
	set("what", f.What)
	if !f.From.IsZero() {
		set("from", f.From.UTC().Format(time.RFC3339))
	}
	if !f.To.IsZero() {
		set("to", f.To.UTC().Format(time.RFC3339))
	}
	if f.Before > 0 {
		set("before", strconv.FormatInt(f.Before, 10))
	}
	if f.Limit > 0 {
		set("limit", strconv.Itoa(f.Limit))
	}
	path := "/audit"
	if len(v) > 0 {
		path += "?" + v.Encode()
	}
	return get[[]api.Entry](ctx, c, path)
}

// Export calls each for every entry of the audit, oldest first, as its line is. An export
// that breaks off is an error.
func (c *Client) Export(ctx context.Context, each func(line []byte, e api.Entry) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	res, err := c.signed(ctx, request{method: http.MethodGet, path: "/audit/export", again: true})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	late := c.late(cancel)
	defer late.Stop()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		late.Reset(answerTime)
		var e api.Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return &SilentError{c.Host(), true, fmt.Errorf("a line of the audit cannot be read: %w", err)}
		}
		if err := each(lines.Bytes(), e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the audit has broken off: %w", c.silent(ctx, err))
	}
	return nil
}

// Verify has the gate check the audit's chain.
func (c *Client) Verify(ctx context.Context) (api.Verdict, error) {
	return get[api.Verdict](ctx, c, "/audit/verify")
}
