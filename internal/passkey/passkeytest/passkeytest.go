// Package passkeytest is a browser and an authenticator in software, for tests: it answers the
// options of package passkey as section 6.3 of https://www.w3.org/TR/webauthn-3/ has it, or wrongly,
// as a test wishes.
package passkeytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
)

// The algorithms that an authenticator may sign with.
const (
	ES256 = -7
	EdDSA = -8
	RS256 = -257
)

// The flags that an authenticator tells.
const (
	Present        = 1 << 0
	Verified       = 1 << 2
	BackupEligible = 1 << 3
	BackedUp       = 1 << 4
	Attested       = 1 << 6
	Extensions     = 1 << 7
)

// Authenticator holds one passkey at most.
type Authenticator struct {
	Origin string // of the page that asks
	Flags  byte
	Count  uint32 // goes up with each signature, unless it is 0
	ID     []byte
	Handle []byte // of the person for whom the passkey was made

	algorithm int64
	key       crypto.Signer
}

// New makes an authenticator that asks for a finger, and whose passkeys are copied to others.
func New(origin string, algorithm int64) *Authenticator {
	a := &Authenticator{
		Origin: origin, Flags: Present | Verified | BackupEligible | BackedUp,
		ID: make([]byte, 32), algorithm: algorithm,
	}
	rand.Read(a.ID)
	var err error
	switch algorithm {
	case EdDSA:
		_, a.key, err = ed25519.GenerateKey(rand.Reader)
	case RS256:
		a.key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		panic(err) // nothing that a test could do
	}
	return a
}

// NewFixed makes one whose passkey is always the same, for fuzzing.
func NewFixed(origin string) *Authenticator {
	a := New(origin, EdDSA)
	a.key = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	a.ID = make([]byte, 32)
	return a
}

// Ceremony is what a browser and an authenticator are about to say. A test may change it before
// it is signed.
type Ceremony struct {
	ClientData    map[string]any
	RelyingID     string
	Flags         byte
	Count         uint32
	ID, Handle    []byte
	Key           []byte         // COSE_Key
	Extra         []byte         // after the authenticator's data, signed
	Format        string         // of the attestation
	Statement     []byte         // CBOR, of the attestation
	Object        []byte         // in place of the attestation object
	Transports    []string       // that the browser tells
	Envelope      map[string]any // in place of members of the credential
	Response      map[string]any // in place of members of its response
	BreakSig      bool
	ClientDataRaw []byte // in place of ClientData
}

type options struct {
	Challenge string `json:"challenge"`
	RelyingID string `json:"rpId"`
	Relying   struct {
		ID string `json:"id"`
	} `json:"rp"`
	User struct {
		ID string `json:"id"`
	} `json:"user"`
	Exclude []struct {
		ID string `json:"id"`
	} `json:"excludeCredentials"`
}

// Create answers the options of a registration. It fails where the passkey is excluded.
func (a *Authenticator) Create(raw []byte, change ...func(*Ceremony)) ([]byte, error) {
	var o options
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	for _, e := range o.Exclude {
		if e.ID == encode(a.ID) {
			return nil, fmt.Errorf("InvalidStateError: the passkey is here already")
		}
	}
	handle, err := base64.RawURLEncoding.DecodeString(o.User.ID)
	if err != nil {
		return nil, err
	}
	a.Handle = handle
	c := a.ceremony("webauthn.create", o.Challenge, o.Relying.ID)
	c.Flags |= Attested
	c.Format, c.Statement, c.Transports = "none", []byte{0xa0}, []string{"internal", "hybrid"}
	for _, f := range change {
		f(c)
	}
	data := c.authenticatorData()
	object := c.Object
	if object == nil {
		object = slices.Concat([]byte{0xa3}, text("fmt"), text(c.Format), text("attStmt"), c.Statement, text("authData"), blob(data))
	}
	return c.credential(map[string]any{
		"clientDataJSON": encode(c.clientData()), "attestationObject": encode(object), "transports": c.Transports,
		"authenticatorData": encode(data), "publicKeyAlgorithm": a.algorithm,
	})
}

// Get answers the options of a login.
func (a *Authenticator) Get(raw []byte, change ...func(*Ceremony)) ([]byte, error) {
	var o options
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	if a.Count != 0 {
		a.Count++
	}
	c := a.ceremony("webauthn.get", o.Challenge, o.RelyingID)
	for _, f := range change {
		f(c)
	}
	data, client := c.authenticatorData(), c.clientData()
	hash := sha256.Sum256(client)
	signature, err := a.sign(slices.Concat(data, hash[:]))
	if err != nil {
		return nil, err
	}
	if c.BreakSig {
		signature[len(signature)-1] ^= 1
	}
	return c.credential(map[string]any{
		"clientDataJSON": encode(client), "authenticatorData": encode(data),
		"signature": encode(signature), "userHandle": encode(c.Handle),
	})
}

func (a *Authenticator) ceremony(kind, challenge, relying string) *Ceremony {
	return &Ceremony{
		ClientData: map[string]any{"type": kind, "challenge": challenge, "origin": a.Origin, "crossOrigin": false},
		RelyingID:  relying, Flags: a.Flags, Count: a.Count, ID: a.ID, Handle: a.Handle, Key: a.Key(),
	}
}

func (c *Ceremony) clientData() []byte {
	if c.ClientDataRaw != nil {
		return c.ClientDataRaw
	}
	b, err := json.Marshal(c.ClientData)
	if err != nil {
		panic(err) // a test's mistake
	}
	return b
}

func (c *Ceremony) authenticatorData() []byte {
	hash := sha256.Sum256([]byte(c.RelyingID))
	b := binary.BigEndian.AppendUint32(append(hash[:], c.Flags), c.Count)
	if c.Flags&Attested != 0 {
		b = append(b, make([]byte, 16)...) // the AAGUID of none
		b = binary.BigEndian.AppendUint16(b, uint16(len(c.ID)))
		b = slices.Concat(b, c.ID, c.Key)
	}
	return append(b, c.Extra...)
}

func (c *Ceremony) credential(response map[string]any) ([]byte, error) {
	maps.Copy(response, c.Response)
	all := map[string]any{
		"id": encode(c.ID), "rawId": encode(c.ID), "type": "public-key", "authenticatorAttachment": "platform",
		"clientExtensionResults": map[string]any{}, "response": response,
	}
	maps.Copy(all, c.Envelope)
	return json.Marshal(all)
}

func (a *Authenticator) sign(data []byte) ([]byte, error) {
	if a.algorithm == EdDSA {
		return a.key.Sign(rand.Reader, data, crypto.Hash(0))
	}
	sum := sha256.Sum256(data)
	return a.key.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// Key is the passkey's public key as a COSE_Key.
func (a *Authenticator) Key() []byte {
	switch k := a.key.Public().(type) {
	case ed25519.PublicKey:
		return slices.Concat([]byte{0xa4, 1, 1, 3, 0x27, 0x20, 6, 0x21}, blob(k))
	case *rsa.PublicKey:
		return slices.Concat([]byte{0xa4, 1, 3, 3, 0x39, 1, 0, 0x20}, blob(k.N.Bytes()), []byte{0x21}, blob(big.NewInt(int64(k.E)).Bytes()))
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			panic(err) // it was made on its curve
		}
		return slices.Concat([]byte{0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21}, blob(point[1:33]), []byte{0x22}, blob(point[33:]))
	}
	return nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func text(s string) []byte { return append(head(0x60, len(s)), s...) }

func blob(b []byte) []byte { return append(head(0x40, len(b)), b...) }

// head is the first bytes of a CBOR string.
func head(major byte, n int) []byte {
	switch {
	case n < 24:
		return []byte{major | byte(n)}
	case n < 1<<8:
		return []byte{major | 24, byte(n)}
	default:
		return []byte{major | 25, byte(n >> 8), byte(n)}
	}
}
