package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"sekisho/internal/gate/api"
	"sekisho/internal/printable"
	"sekisho/internal/sshkey"
)

// SilentError says that a gate has not answered, or not as a gate does.
type SilentError struct {
	Gate     string
	answered bool // something has answered, in whole
	Err      error
}

func (e *SilentError) Error() string {
	return fmt.Sprintf("the gate %s does not answer: %v", e.Gate, e.Err)
}
func (e *SilentError) Unwrap() error { return e.Err }

// Hint is what to look at.
func (e *SilentError) Hint() string {
	if _, is := errors.AsType[x509.UnknownAuthorityError](e.Err); is {
		return "if it has a certificate of your own, name the file of its authority: gate.ca in the configuration"
	}
	if _, is := errors.AsType[*tls.CertificateVerificationError](e.Err); is {
		return "gate.url has to have the name that is in the gate's certificate; is it that gate?"
	}
	if errors.Is(e.Err, errRedirect) {
		return "gate.url has to be the gate's own address, as its administrator has it"
	}
	return "see that gate.url is right, that the gate runs, and that you reach it (a VPN, a proxy)"
}

var errRedirect = errors.New("it sends us elsewhere")

// signError is that a key did not sign.
type signError struct{ err error }

func (e *signError) Error() string { return "sign the request: " + e.err.Error() }
func (e *signError) Unwrap() error { return e.err }

// Hint says what to do now about an error of this package; "" where there is nothing to say.
func Hint(err error) string {
	if e, is := errors.AsType[*api.Error](err); is {
		return e.Hint
	}
	if e, is := errors.AsType[*SilentError](err); is {
		return e.Hint()
	}
	return sshkey.Hint(err)
}

// IsCode reports whether the gate has answered with that error.
func IsCode(err error, code api.Code) bool {
	e, is := errors.AsType[*api.Error](err)
	return is && e.Code == code
}

// longest is what is shown of one text of the gate's.
const longest = 1000

// fit makes a text of the gate's fit for a terminal.
func fit(s string) string { return printable.Cut(printable.Text(s), longest) }

// failure is what an answer says went wrong.
func (c *Client) failure(ctx context.Context, res *http.Response) error {
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		return &SilentError{c.Host(), true, fmt.Errorf("%w, to %.200q", errRedirect, res.Header.Get("Location"))}
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxError))
	if err != nil {
		return c.silent(ctx, err)
	}
	var e api.Error
	if json.Unmarshal(raw, &e) != nil || e.Code == "" || e.Message == "" {
		return &SilentError{c.Host(), true, fmt.Errorf("what answers in its place says %d %s", res.StatusCode, http.StatusText(res.StatusCode))}
	}
	e.Code, e.Message, e.Hint, e.Request = api.Code(fit(string(e.Code))), fit(e.Message), fit(e.Hint), fit(e.Request)
	for i, r := range e.Reasons {
		e.Reasons[i].Text = fit(r.Text)
	}
	if e.Code == api.Clock {
		c.offClock(&e, res.Header.Get("Date"))
	}
	return &e
}

// offClock says by how much this machine's clock is off.
func (c *Client) offClock(e *api.Error, date string) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	off := c.o.Now().Sub(at).Round(time.Second)
	side := "ahead of"
	if off < 0 {
		off, side = -off, "behind"
	}
	if off < api.Skew/2 { // it waited too long to be signed: for a touch, perhaps
		return
	}
	e.Message = fmt.Sprintf("this machine's clock is %s %s the gate's, and %s is the most", off, side, api.Skew)
	e.Hint = "set it: `timedatectl set-ntp true` keeps it right; by the gate it is " + at.UTC().Format(time.RFC3339)
}

// noneKnown is that the gate knows none of the keys.
func noneKnown(unknown []string, failed []error, all int) error {
	const told = 5
	text := strings.Join(unknown[:min(told, len(unknown))], ", ")
	if over := len(unknown) - told; over > 0 {
		text += fmt.Sprintf(" and %d more", over)
	}
	e := api.Errorf(api.Unknown, "", "the gate knows none of your keys: %s", text)
	switch {
	case len(failed) > 0:
		e.Hint = fmt.Sprintf("%d more could not be tried: %v", len(failed), failed[0])
	case all == maxKeys:
		e.Hint = "more are not tried: say which it is, gate.identity in the configuration"
	default:
		e.Hint = "have an administrator of the gate add one of them to you (ssh-add -L shows the agent's), or say which file it is: gate.identity in the configuration"
	}
	return e
}

func isSilent(err error) bool {
	_, is := errors.AsType[*SilentError](err)
	return is
}
