// Package passkey registers passkeys and lets their owners log in: the two ceremonies of Web
// Authentication (https://www.w3.org/TR/webauthn-3/, sections 7.1 and 7.2), with user
// verification, without a name that is typed, and without attestation. Nobody else reads what
// a browser says about a passkey.
//
// It keeps no state. What must be remembered between the two requests of a ceremony is handed
// out as bytes; whoever stores them does so on the server, under a random name, for [Wait] at
// most, and gives them back once. The bytes carry the challenge: used twice, they let a
// response be replayed.
//
// It links no library: go-webauthn is 2.1 MB, for attestation that is not asked for here (its
// package webauthncose alone 1.2 MB, by go-tpm). The tests hold every answer to go-webauthn's.
package passkey

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Wait is how long a person may take over a ceremony.
const Wait = 5 * time.Minute

const (
	challengeBytes = 32 // at least 16 by section 13.4.3
	handleBytes    = 32 // at most 64 by section 5.4.3
)

// Relying is the relying party: the gate, under the one name that it has. Safe for concurrent use.
type Relying struct {
	origin, id, name string
	idHash           [sha256.Size]byte
}

// User is whom a passkey belongs to.
type User struct {
	Handle  []byte // 32 random bytes, once a person; never a name or an address, for authenticators tell it to who holds them
	Name    string // which of their accounts: told by the authenticator when it asks
	Display string // what to call them
}

// Credential is a passkey as it is kept. Its JSON is stable.
type Credential struct {
	ID             []byte   `json:"id"`         // 1 to 1023 bytes; whoever stores it refuses one that anybody has already
	PublicKey      []byte   `json:"public_key"` // COSE_Key, as the authenticator wrote it
	SignCount      uint32   `json:"sign_count"` // 0 where the authenticator does not count
	Transports     []string `json:"transports,omitempty"`
	BackupEligible bool     `json:"backup_eligible"` // may be on several devices; never changes
	BackedUp       bool     `json:"backed_up"`
}

// New makes the relying party of the pages under an origin, https://gate.example.com or, where
// the browser runs on this host too, http://localhost:8022. A passkey is bound to the host of
// the origin for good. The name is the one that browsers show.
func New(origin, name string) (*Relying, error) {
	host, canonical, err := parseOrigin(origin)
	if err != nil {
		return nil, fmt.Errorf("passkeys of %q: %w", origin, err)
	}
	if name == "" {
		name = host
	}
	return &Relying{origin: canonical, id: host, name: name, idHash: sha256.Sum256([]byte(host))}, nil
}

// parseOrigin takes an origin apart and writes it as browsers do.
func parseOrigin(origin string) (host, canonical string, err error) {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return "", "", errors.New("not an origin: write it as https://gate.example.com")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return "", "", errors.New("an origin is a scheme, a host and a port: write it as https://gate.example.com")
	}
	host = strings.ToLower(u.Hostname())
	if _, err := netip.ParseAddr(host); err == nil {
		return "", "", errors.New("browsers keep no passkey for an address: give the gate a name")
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return "", "", errors.New("the host is not a domain name: write it in ASCII (xn--…), without a final dot")
		}
	}
	if len(host) > 253 {
		return "", "", errors.New("the host is longer than a domain name can be")
	}
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return "", "", errors.New("browsers keep passkeys for https alone, and for http://localhost")
	}
	canonical = u.Scheme + "://" + host
	if port := u.Port(); port != "" && port != map[string]string{"https": "443", "http": "80"}[u.Scheme] {
		canonical += ":" + port
	}
	return host, canonical, nil
}

// pending is what is remembered between the two requests of a ceremony.
type pending struct {
	Ceremony  string `json:"ceremony"` // the type in the client data
	Challenge []byte `json:"challenge"`
	Handle    []byte `json:"handle,omitempty"` // who registers
}

const (
	creating = "webauthn.create"
	getting  = "webauthn.get"
)

func begin(ceremony string, handle []byte) (challenge string, kept []byte, err error) {
	p := pending{Ceremony: ceremony, Challenge: make([]byte, challengeBytes), Handle: handle}
	rand.Read(p.Challenge)
	kept, err = json.Marshal(p)
	return encode(p.Challenge), kept, err
}

func resume(kept []byte, ceremony string) (pending, error) {
	var p pending
	if err := json.Unmarshal(kept, &p); err != nil {
		return p, fmt.Errorf("read what was kept of a ceremony: %w", err)
	}
	if p.Ceremony != ceremony {
		return p, refuse(WrongCeremony, "what was begun is %q, not %q", p.Ceremony, ceremony)
	}
	if len(p.Challenge) != challengeBytes {
		return p, fmt.Errorf("read what was kept of a ceremony: a challenge of %d bytes", len(p.Challenge))
	}
	return p, nil
}

// What follows are the dictionaries of section 5.1.9, in the order in which they are told.
type (
	creation struct {
		Relying     entity       `json:"rp"`
		User        entity       `json:"user"`
		Challenge   string       `json:"challenge"`
		Algorithms  []parameter  `json:"pubKeyCredParams"`
		Timeout     int64        `json:"timeout"` // ms
		Exclude     []descriptor `json:"excludeCredentials"`
		Selection   selection    `json:"authenticatorSelection"`
		Attestation string       `json:"attestation"`
	}
	request struct {
		Challenge    string `json:"challenge"`
		Timeout      int64  `json:"timeout"` // ms
		RelyingID    string `json:"rpId"`
		Verification string `json:"userVerification"`
	}
	entity struct {
		ID      string `json:"id"`
		Name    string `json:"name"`
		Display string `json:"displayName,omitempty"`
	}
	parameter struct {
		Type      string `json:"type"`
		Algorithm int64  `json:"alg"`
	}
	descriptor struct {
		Type       string   `json:"type"`
		ID         string   `json:"id"`
		Transports []string `json:"transports,omitempty"`
	}
	selection struct {
		ResidentKey  string `json:"residentKey"`
		Required     bool   `json:"requireResidentKey"`
		Verification string `json:"userVerification"`
	}
)

const (
	publicKey = "public-key"
	required  = "required"
)

// BeginRegister begins to register a passkey for a person who has shown who they are by other
// means, and who may have passkeys already: none is made beside one of those on the same
// authenticator. The options are for PublicKeyCredential.parseCreationOptionsFromJSON, whose
// result is the publicKey of navigator.credentials.create; pending is for [Relying.FinishRegister].
func (r *Relying) BeginRegister(person User, existing []Credential) (options json.RawMessage, pending []byte, err error) {
	if len(person.Handle) != handleBytes {
		return nil, nil, fmt.Errorf("register a passkey: a handle of %d bytes", len(person.Handle))
	}
	challenge, pending, err := begin(creating, person.Handle)
	if err != nil {
		return nil, nil, fmt.Errorf("register a passkey: %w", err)
	}
	c := creation{
		Relying:   entity{ID: r.id, Name: r.name},
		User:      entity{ID: encode(person.Handle), Name: person.Name, Display: person.Display},
		Challenge: challenge,
		Timeout:   Wait.Milliseconds(),
		Exclude:   []descriptor{},
		Selection: selection{ResidentKey: required, Required: true, Verification: required},
		// None but what the browser gives unasked: no make of authenticator is trusted more than another.
		Attestation: "none",
	}
	if c.User.Display == "" {
		c.User.Display = person.Name
	}
	for _, a := range algorithms {
		c.Algorithms = append(c.Algorithms, parameter{Type: publicKey, Algorithm: a})
	}
	for _, e := range existing {
		c.Exclude = append(c.Exclude, descriptor{Type: publicKey, ID: encode(e.ID), Transports: e.Transports})
	}
	if options, err = json.Marshal(c); err != nil {
		return nil, nil, fmt.Errorf("register a passkey: %w", err)
	}
	return options, pending, nil
}

// FinishRegister takes the JSON of the PublicKeyCredential that the browser made (its toJSON).
// A response that is worth nothing is an [Error]. Whoever stores the passkey refuses one whose
// ID is known already, whoever has it (section 7.1, step 26).
func (r *Relying) FinishRegister(person User, pending, response []byte) (Credential, error) {
	c, err := r.finishRegister(person, pending, response)
	if err != nil {
		return Credential{}, fmt.Errorf("register a passkey: %w", err)
	}
	return c, nil
}

func (r *Relying) finishRegister(person User, kept, response []byte) (Credential, error) {
	p, err := resume(kept, creating)
	if err != nil {
		return Credential{}, err
	}
	if len(person.Handle) != handleBytes || !bytes.Equal(p.Handle, person.Handle) {
		return Credential{}, refuse(WrongPerson, "another person began")
	}
	answer, err := parseResponse(response)
	if err != nil {
		return Credential{}, err
	}
	if err := r.checkClientData(answer.Response.ClientData, p); err != nil {
		return Credential{}, err
	}
	raw, err := attestedData(answer.Response.Attestation)
	if err != nil {
		return Credential{}, err
	}
	auth, err := parseAuthenticatorData(raw)
	if err != nil {
		return Credential{}, err
	}
	if err := r.checkAuthenticator(auth); err != nil {
		return Credential{}, err
	}
	if auth.id == nil {
		return Credential{}, refuse(Malformed, "the authenticator tells no passkey")
	}
	if !bytes.Equal(auth.id, answer.id) {
		return Credential{}, refuse(Malformed, "the browser and the authenticator tell two IDs")
	}
	if _, err := parseKey(auth.key); err != nil {
		return Credential{}, err
	}
	return Credential{
		ID: bytes.Clone(auth.id), PublicKey: bytes.Clone(auth.key), SignCount: auth.count,
		Transports:     transports(answer.Response.Transports),
		BackupEligible: auth.has(flagBackupEligible), BackedUp: auth.has(flagBackedUp),
	}, nil
}

// BeginLogin begins a login of whoever it will be. The options are for
// PublicKeyCredential.parseRequestOptionsFromJSON, whose result is the publicKey of
// navigator.credentials.get; pending is for [Relying.FinishLogin].
func (r *Relying) BeginLogin() (options json.RawMessage, pending []byte, err error) {
	challenge, pending, err := begin(getting, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("begin a login by passkey: %w", err)
	}
	options, err = json.Marshal(request{Challenge: challenge, Timeout: Wait.Milliseconds(), RelyingID: r.id, Verification: required})
	if err != nil {
		return nil, nil, fmt.Errorf("begin a login by passkey: %w", err)
	}
	return options, pending, nil
}

// FinishLogin takes the JSON of the PublicKeyCredential that the browser got (its toJSON). find
// says which passkey has an ID and whose it is: [ErrUnknown] where none has; its other errors come
// back as they are. It is asked before anything is proved. A response that is worth nothing is
// an [Error].
//
// The passkey that is returned is to be stored in place of the one that was found. With
// [ErrCloned] passkey and person are returned too, for it to be told to them: nobody has logged
// in, and the passkey is not to be stored.
func (r *Relying) FinishLogin(pending, response []byte, find func(id, handle []byte) (User, Credential, error)) (Credential, User, error) {
	c, u, err := r.finishLogin(pending, response, find)
	if err != nil {
		err = fmt.Errorf("log in by passkey: %w", err)
		if !errors.Is(err, ErrCloned) {
			return Credential{}, User{}, err
		}
	}
	return c, u, err
}

func (r *Relying) finishLogin(kept, response []byte, find func(id, handle []byte) (User, Credential, error)) (Credential, User, error) {
	fail := func(err error) (Credential, User, error) { return Credential{}, User{}, err }
	p, err := resume(kept, getting)
	if err != nil {
		return fail(err)
	}
	answer, err := parseResponse(response)
	if err != nil {
		return fail(err)
	}
	if err := r.checkClientData(answer.Response.ClientData, p); err != nil {
		return fail(err)
	}
	auth, err := parseAuthenticatorData(answer.Response.Authenticator)
	if err != nil {
		return fail(err)
	}
	if err := r.checkAuthenticator(auth); err != nil {
		return fail(err)
	}
	handle := []byte(answer.Response.Handle)
	if len(handle) != handleBytes {
		return fail(refuse(WrongPerson, "the authenticator tells a person by %d bytes", len(handle)))
	}
	user, c, err := find(answer.id, handle)
	if err != nil {
		return fail(err)
	}
	if !bytes.Equal(c.ID, answer.id) {
		return fail(ErrUnknown)
	}
	if subtle.ConstantTimeCompare(user.Handle, handle) != 1 {
		return fail(refuse(WrongPerson, "the passkey is another person's"))
	}
	key, err := parseKey(c.PublicKey)
	if err != nil {
		return fail(fmt.Errorf("read the key that is kept: %w", err))
	}
	clientHash := sha256.Sum256(answer.Response.ClientData)
	if !key.verify(slices.Concat(answer.Response.Authenticator, clientHash[:]), answer.Response.Signature) {
		return fail(refuse(WrongSignature, "the signature is not of the key that is kept"))
	}
	if c.BackupEligible != auth.has(flagBackupEligible) {
		return fail(refuse(Changed, "what may be copied and what may not changed places"))
	}
	// Section 6.1.1: counters go up, or stay at zero for good.
	if (auth.count != 0 || c.SignCount != 0) && auth.count <= c.SignCount {
		return c, user, refuse(Cloned, "its counter is at %d, and was at %d", auth.count, c.SignCount)
	}
	c.SignCount, c.BackedUp = auth.count, auth.has(flagBackedUp)
	return c, user, nil
}

// checkClientData does steps 7 to 11 of section 7.1, 10 to 14 of section 7.2.
func (r *Relying) checkClientData(raw []byte, p pending) error {
	if len(raw) == 0 || len(raw) > maxClientData {
		return refuse(Malformed, "client data of %d bytes", len(raw))
	}
	var c struct {
		Type        string `json:"type"`
		Challenge   string `json:"challenge"`
		Origin      string `json:"origin"`
		CrossOrigin bool   `json:"crossOrigin"`
		TopOrigin   string `json:"topOrigin"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return refuse(Malformed, "client data is not what browsers write")
	}
	switch {
	case c.Type != p.Ceremony:
		return refuse(WrongCeremony, "the browser did %q, not %q", cut(c.Type), p.Ceremony)
	case subtle.ConstantTimeCompare([]byte(c.Challenge), []byte(encode(p.Challenge))) != 1:
		return refuse(WrongChallenge, "the challenge is not the one that was given")
	case c.Origin != r.origin:
		return refuse(WrongOrigin, "the page is of %q, not of %q", cut(c.Origin), r.origin)
	case c.CrossOrigin || c.TopOrigin != "":
		return refuse(WrongOrigin, "the page stands in another one")
	}
	return nil
}

// checkAuthenticator does steps 14 to 18 of section 7.1, 16 to 20 of section 7.2.
func (r *Relying) checkAuthenticator(a authenticatorData) error {
	switch {
	case subtle.ConstantTimeCompare(a.relying, r.idHash[:]) != 1:
		return refuse(WrongRelying, "the passkey is for another host than %q", r.id)
	case !a.has(flagPresent):
		return refuse(NotVerified, "nobody touched the authenticator")
	case !a.has(flagVerified):
		return refuse(NotVerified, "the authenticator did not ask for a finger, a face or a PIN")
	case a.has(flagBackedUp) && !a.has(flagBackupEligible):
		return refuse(Malformed, "the passkey is copied and cannot be copied")
	}
	return nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
