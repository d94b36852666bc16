package api

import "fmt"

// Code names an error for programs. A code, once there, keeps its meaning.
type Code string

// The codes, with the status that each has.
const (
	BadRequest   Code = "bad_request"   // 400
	NoIdentity   Code = "no_identity"   // 401: nobody is signed in
	BadSignature Code = "bad_signature" // 401
	Clock        Code = "clock"         // 401: signed at a time that is not now
	Replayed     Code = "replayed"      // 401: this signature was used already
	Unknown      Code = "unknown_key"   // 401: the signature is good, and nobody has the key
	Expired      Code = "expired"       // 401 or 410: a session or an invitation that has ended
	Disabled     Code = "disabled"      // 403: the person is
	Forbidden    Code = "forbidden"     // 403: known, but not theirs to do
	NotAllowed   Code = "not_allowed"   // 403: a door that is not opened for them now; Reasons say why
	CrossOrigin  Code = "cross_origin"  // 403
	NotFound     Code = "not_found"     // 404
	BadMethod    Code = "bad_method"    // 405
	Declared     Code = "declared"      // 409: the configuration file has it
	Conflict     Code = "conflict"      // 409: it changed meanwhile, or is there already
	TooLarge     Code = "too_large"     // 413
	TooMany      Code = "too_many"      // 429
	Internal     Code = "internal"      // 500
	Unreachable  Code = "unreachable"   // 502: AWS or an identity provider does not answer as it should
	Busy         Code = "busy"          // 503: the state cannot be written now
)

// Status is the code's HTTP status.
func (c Code) Status() int {
	switch c {
	case BadRequest:
		return 400
	case NoIdentity, BadSignature, Clock, Replayed, Unknown, Expired:
		return 401
	case Disabled, Forbidden, NotAllowed, CrossOrigin:
		return 403
	case NotFound:
		return 404
	case BadMethod:
		return 405
	case Declared, Conflict:
		return 409
	case TooLarge:
		return 413
	case TooMany:
		return 429
	case Unreachable:
		return 502
	case Busy:
		return 503
	}
	return 500
}

// Error is every answer that is not the one asked for.
type Error struct {
	Code    Code     `json:"code"`
	Message string   `json:"message"` // a sentence, fit for people, without what is inside
	Hint    string   `json:"hint,omitempty"`
	Reasons []Reason `json:"reasons,omitempty"`
	After   int64    `json:"retry_after_seconds,omitempty"`
	Request string   `json:"request,omitempty"` // finds the request in the gate's log
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an error; its text must hold nothing of strangers' unquoted.
func Errorf(code Code, hint, format string, args ...any) *Error {
	return &Error{Code: code, Hint: hint, Message: fmt.Sprintf(format, args...)}
}
