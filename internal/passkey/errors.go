package passkey

import (
	"fmt"
	"unicode/utf8"
)

// Reason is why a response is worth nothing.
type Reason string

// The reasons.
const (
	Malformed      Reason = "malformed"       // not what browsers and authenticators write
	WrongCeremony  Reason = "wrong_ceremony"  // a login where a registration was begun, or the other way round
	WrongChallenge Reason = "wrong_challenge" // an answer to another question: replayed, or too late
	WrongOrigin    Reason = "wrong_origin"    // the page that asked is not the gate's
	WrongRelying   Reason = "wrong_relying"   // the passkey is another site's
	WrongPerson    Reason = "wrong_person"    // the passkey is another person's
	WrongSignature Reason = "wrong_signature" // of another key, or of something else
	Algorithm      Reason = "algorithm"       // none of those that were offered
	NotVerified    Reason = "not_verified"    // the authenticator did not see who holds it
	Unknown        Reason = "unknown"         // nobody has this passkey here
	Changed        Reason = "changed"         // what never changes did
	Cloned         Reason = "cloned"          // the counter did not go up: another device may hold the same key
)

// Error is a response that is worth nothing. What it says is for the log and for its owner; what
// strangers wrote is quoted in it and short.
type Error struct {
	Reason Reason
	What   string
}

// ErrUnknown and ErrCloned are all errors of their reason to [errors.Is].
var (
	ErrUnknown error = &Error{Reason: Unknown, What: "nobody has this passkey here"}
	ErrCloned  error = &Error{Reason: Cloned, What: "its counter did not go up"}
)

func refuse(reason Reason, format string, args ...any) error {
	return &Error{Reason: reason, What: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return e.What }

// Is reports whether target is of the same reason.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Reason == e.Reason
}

// Hint says what the person can do now.
func (e *Error) Hint() string {
	switch e.Reason {
	case WrongChallenge, WrongCeremony:
		return "begin again: a question is good for one answer, within five minutes"
	case WrongOrigin, WrongRelying:
		return "open the gate under its own name, in a window of its own"
	case NotVerified:
		return "set a PIN, a finger or a face on the device that holds the passkey, then begin again"
	case Algorithm:
		return "use another device: this one makes none of Ed25519, ES256 and RS256"
	case Unknown, WrongPerson:
		return "choose another passkey, or ask an administrator for a link to enrol this one"
	case Cloned, Changed:
		return "somebody may have copied this passkey: have an administrator remove it, and enrol a new one"
	default:
		return "begin again; if it happens again, try another browser or device"
	}
}

// cut shortens what strangers wrote.
func cut(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for len(s) > 0 && !utf8.ValidString(s) && len(s) > most-utf8.UTFMax {
		s = s[:len(s)-1]
	}
	return s + "…"
}
