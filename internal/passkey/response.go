package passkey

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"regexp"
	"slices"
)

// What a browser may send. The largest in earnest are RSA keys of TPMs, and attestation that
// comes unasked: some kilobytes.
const (
	maxResponse   = 64 << 10
	maxClientData = 8 << 10
	maxID         = 1023 // section 5.8.3 of CTAP 2.1
	maxKey        = 1 << 10
	maxTransports = 8
)

// encoded is bytes in base64url without padding, as in section 5.1.8.
type encoded []byte

func (e *encoded) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	var err error
	*e, err = base64.RawURLEncoding.Strict().DecodeString(s)
	return err
}

// response is a RegistrationResponseJSON or an AuthenticationResponseJSON. What else those have
// tells the same again, or is about extensions, of which none is asked for.
type response struct {
	ID       string  `json:"id"`
	RawID    encoded `json:"rawId"`
	Type     string  `json:"type"`
	Response struct {
		ClientData    encoded  `json:"clientDataJSON"`
		Attestation   encoded  `json:"attestationObject"` // of a registration
		Transports    []string `json:"transports"`
		Authenticator encoded  `json:"authenticatorData"` // of a login
		Signature     encoded  `json:"signature"`
		Handle        encoded  `json:"userHandle"`
	} `json:"response"`

	id []byte
}

func parseResponse(raw []byte) (response, error) {
	if len(raw) > maxResponse {
		return response{}, refuse(Malformed, "a response of %d bytes", len(raw))
	}
	var r response
	if err := json.Unmarshal(raw, &r); err != nil {
		return response{}, refuse(Malformed, "the response is not what browsers write")
	}
	id, err := base64.RawURLEncoding.Strict().DecodeString(r.ID)
	if err != nil || len(id) == 0 || len(id) > maxID || !bytes.Equal(id, r.RawID) {
		return response{}, refuse(Malformed, "the response has no ID, or two")
	}
	if r.Type != publicKey {
		return response{}, refuse(Malformed, "the response is of type %q", cut(r.Type))
	}
	r.id = id
	return r, nil
}

var transport = regexp.MustCompile(`^[a-z][a-z-]{0,31}$`)

// transports keeps what looks like a transport, known or not (section 5.8.4), for the browser to
// be told it again.
func transports(told []string) []string {
	var kept []string
	for _, t := range told {
		if len(kept) < maxTransports && transport.MatchString(t) && !slices.Contains(kept, t) {
			kept = append(kept, t)
		}
	}
	slices.Sort(kept)
	return kept
}

// The flags of section 6.1.
const (
	flagPresent        = 1 << 0
	flagVerified       = 1 << 2
	flagBackupEligible = 1 << 3
	flagBackedUp       = 1 << 4
	flagAttested       = 1 << 6
	flagExtensions     = 1 << 7
)

// authenticatorData is what an authenticator says and signs. Its slices are of what was parsed.
type authenticatorData struct {
	relying []byte // SHA-256 of the relying party's ID
	flags   byte
	count   uint32
	id, key []byte // where a passkey was made
}

func (a authenticatorData) has(flag byte) bool { return a.flags&flag != 0 }

// parseAuthenticatorData reads section 6.1's structure, to its last byte.
func parseAuthenticatorData(b []byte) (authenticatorData, error) {
	const head, aaguid = 32 + 1 + 4, 16
	if len(b) < head {
		return authenticatorData{}, refuse(Malformed, "authenticator data of %d bytes", len(b))
	}
	a := authenticatorData{relying: b[:32], flags: b[32], count: binary.BigEndian.Uint32(b[33:head])}
	b = b[head:]
	if a.has(flagAttested) {
		if len(b) < aaguid+2 {
			return authenticatorData{}, refuse(Malformed, "authenticator data ends before the passkey's ID")
		}
		n := int(binary.BigEndian.Uint16(b[aaguid:]))
		b = b[aaguid+2:]
		if n == 0 || n > maxID || n > len(b) {
			return authenticatorData{}, refuse(Malformed, "a passkey's ID of %d bytes", n)
		}
		a.id, b = b[:n], b[n:]
		_, rest, err := next(b, maxDepth)
		if err != nil {
			return authenticatorData{}, refuse(Malformed, "the passkey's key: %v", err)
		}
		a.key, b = b[:len(b)-len(rest)], rest
	}
	if a.has(flagExtensions) {
		it, rest, err := next(b, maxDepth)
		if err != nil || it.major != majorMap {
			return authenticatorData{}, refuse(Malformed, "the authenticator's extensions are no map")
		}
		b = rest
	}
	if len(b) != 0 {
		return authenticatorData{}, refuse(Malformed, "%d bytes after the authenticator's data", len(b))
	}
	return a, nil
}

// attestedData takes the authenticator's data out of an attestation object (section 6.5.4).
// What the object attests is left unread: none was asked for, and some browsers pass on a
// statement that the authenticator made of its own accord.
func attestedData(b []byte) ([]byte, error) {
	object, rest, err := next(b, maxDepth)
	if err != nil {
		return nil, refuse(Malformed, "the attestation object: %v", err)
	}
	if object.major != majorMap || len(rest) != 0 {
		return nil, refuse(Malformed, "the attestation object is no map, or more than one")
	}
	var format, statement, data bool
	var raw []byte
	for key, value := range object.pairs() {
		if key.major != majorText {
			continue
		}
		switch string(key.content) {
		case "fmt":
			format = value.major == majorText
		case "attStmt":
			statement = value.major == majorMap || value.major == majorArray
		case "authData":
			data = value.major == majorBytes
			raw = value.content
		}
	}
	if !format || !statement || !data {
		return nil, refuse(Malformed, "the attestation object lacks a part")
	}
	return raw, nil
}
