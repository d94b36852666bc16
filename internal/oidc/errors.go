package oidc

import (
	"errors"
	"fmt"
	"net/url"
	"unicode/utf8"
)

// Reason is why a login or a token is worth nothing.
type Reason string

// The reasons.
const (
	Unreachable   Reason = "unreachable"   // the provider does not answer, or not as providers do
	Misconfigured Reason = "misconfigured" // the gate's configuration and the provider do not fit
	Denied        Reason = "denied"        // the provider did not let them in
	Stale         Reason = "stale"         // of another login, or too late
	BadToken      Reason = "bad_token"     // not a token of this provider for this gate and login
	Expired       Reason = "expired"       // a token that was good
	Unverified    Reason = "unverified"    // an address that anybody could have claimed
	NoPerson      Reason = "no_person"     // the claim that says who it is is missing
	BadGroups     Reason = "bad_groups"    // the claim that says the groups cannot be read
)

// Error is a login or a token that is worth nothing. What it says is for the log and for
// administrators; what strangers wrote is quoted in it and short.
type Error struct {
	Reason Reason
	What   string
}

func refuse(reason Reason, format string, args ...any) error {
	return &Error{Reason: reason, What: fmt.Sprintf(format, args...)}
}

// unreachable tells of an exchange that came to nothing.
func unreachable(doing string, err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		at := wrapped.URL
		if u, err := url.Parse(wrapped.URL); err == nil {
			at = u.Host
		}
		return refuse(Unreachable, "%s: %s: %q", doing, at, cut(wrapped.Err.Error()))
	}
	return refuse(Unreachable, "%s: %q", doing, cut(err.Error()))
}

func (e *Error) Error() string { return e.What }

// Is reports whether target is of the same reason.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Reason == e.Reason
}

// Hint says what can be done now, by the person or by who keeps the gate.
func (e *Error) Hint() string {
	switch e.Reason {
	case Unreachable:
		return "try again in a moment; a passkey or an SSH key works meanwhile"
	case Misconfigured:
		return "an administrator compares issuer, client ID, secret and redirect URL with what the provider has; the issuer is spelt as the provider spells it"
	case Denied:
		return "begin again; if the provider still says no, ask who keeps it for leave to use the gate"
	case Expired:
		return "get a new token; if it is new, compare the clocks of the gate and the provider"
	case Unverified:
		return "have the provider verify the address, or name people by another claim"
	case NoPerson:
		return "an administrator has the provider tell the claim, asks for the scope that it needs, or names another claim"
	case BadGroups:
		return "an administrator has the provider tell the groups that matter for the gate alone, as a list of strings"
	default:
		return "begin again, in the same browser and within five minutes"
	}
}

// cut shortens what strangers wrote.
func cut(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for len(s) > most-utf8.UTFMax && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
