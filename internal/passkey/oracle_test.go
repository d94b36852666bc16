package passkey

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// oracle does by go-webauthn what this package does by itself.
type oracle struct{ w *webauthn.WebAuthn }

func newOracle(t testing.TB, r *Relying) oracle {
	w, err := webauthn.New(&webauthn.Config{
		RPID: r.id, RPDisplayName: r.name, RPOrigins: []string{r.origin},
		AttestationPreference: protocol.PreferNoAttestation,
	})
	if err != nil {
		t.Fatal(err)
	}
	return oracle{w}
}

type oraclePerson struct {
	user        User
	credentials []webauthn.Credential
}

func (p oraclePerson) WebAuthnID() []byte                         { return p.user.Handle }
func (p oraclePerson) WebAuthnName() string                       { return p.user.Name }
func (p oraclePerson) WebAuthnDisplayName() string                { return p.user.Display }
func (p oraclePerson) WebAuthnCredentials() []webauthn.Credential { return p.credentials }

func (o oracle) session(t testing.TB, kept []byte) webauthn.SessionData {
	var p pending
	if err := json.Unmarshal(kept, &p); err != nil {
		t.Fatal(err)
	}
	s := webauthn.SessionData{
		Challenge: encode(p.Challenge), RelyingPartyID: o.w.Config.RPID, UserID: p.Handle,
		UserVerification: protocol.VerificationRequired,
	}
	for _, a := range algorithms {
		s.CredParams = append(s.CredParams, protocol.CredentialParameter{Type: protocol.PublicKeyCredentialType, Algorithm: algorithmID(a)})
	}
	return s
}

func (o oracle) register(t testing.TB, person User, kept, response []byte) (Credential, error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return Credential{}, err
	}
	c, err := o.w.CreateCredential(oraclePerson{user: person}, o.session(t, kept), parsed)
	if err != nil {
		return Credential{}, err
	}
	return Credential{
		ID: c.ID, PublicKey: c.PublicKey, SignCount: c.Authenticator.SignCount,
		BackupEligible: c.Flags.BackupEligible, BackedUp: c.Flags.BackupState,
	}, nil
}

var errClone = errors.New("go-webauthn warns of a clone")

func (o oracle) login(t testing.TB, kept, response []byte, find func(id, handle []byte) (User, Credential, error)) (Credential, error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return Credential{}, err
	}
	_, c, err := o.w.ValidatePasskeyLogin(func(id, handle []byte) (webauthn.User, error) {
		u, c, err := find(id, handle)
		return oraclePerson{u, []webauthn.Credential{{
			ID: c.ID, PublicKey: c.PublicKey,
			Flags:         webauthn.CredentialFlags{BackupEligible: c.BackupEligible, BackupState: c.BackedUp},
			Authenticator: webauthn.Authenticator{SignCount: c.SignCount},
		}}}, err
	}, o.session(t, kept), parsed)
	if err != nil {
		return Credential{}, err
	}
	if c.Authenticator.CloneWarning {
		return Credential{}, errClone
	}
	return Credential{
		ID: c.ID, PublicKey: c.PublicKey, SignCount: c.Authenticator.SignCount,
		BackupEligible: c.Flags.BackupEligible, BackedUp: c.Flags.BackupState,
	}, nil
}
