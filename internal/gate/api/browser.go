package api

import (
	"encoding/json"
	"time"
)

// What a browser says of passkeys. Options and responses are the JSON of WebAuthn itself
// (PublicKeyCredentialCreationOptions and its kin), which the gate does not look into here.

// InvitedRequest asks whom an invitation is for, without using it up: POST /invitations/show.
type InvitedRequest struct {
	Token string `json:"token"`
}

// Invited is the answer.
type Invited struct {
	For   string    `json:"for,omitempty"` // "": the first administrator, who has yet to say their name
	Until time.Time `json:"until"`
}

// EnrolBegin begins the making of an invited person's first passkey: POST /invitations/begin.
type EnrolBegin struct {
	Token string `json:"token"`
	Name  string `json:"name,omitempty"` // the first administrator's own
}

// Ceremony is what the browser's API is called with, for the making or the use of a
// passkey: also of POST /passkeys/begin, for who is signed in, and POST /signin/begin, for
// who is to be; those take nothing.
type Ceremony struct {
	Key     string          `json:"key"` // names it in the request that finishes it; good once, for five minutes
	Options json.RawMessage `json:"options"`
}

// EnrolFinish ends it and uses the invitation up: POST /invitations/finish. Who did it is
// signed in.
type EnrolFinish struct {
	Token    string          `json:"token"`
	Key      string          `json:"key"`
	Label    string          `json:"label,omitempty"` // what its owner calls the passkey; at most 64 characters
	Response json.RawMessage `json:"response"`
}

// PasskeyFinish keeps one more passkey of who is signed in: POST /passkeys/finish.
type PasskeyFinish struct {
	Key      string          `json:"key"`
	Label    string          `json:"label,omitempty"`
	Response json.RawMessage `json:"response"`
}

// SignInFinish signs in with a passkey: POST /signin/finish.
type SignInFinish struct {
	Key      string          `json:"key"`
	Response json.RawMessage `json:"response"`
}
