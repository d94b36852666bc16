package passkey

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

type hexed []byte

func (h *hexed) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// vector is one of section 16 of https://www.w3.org/TR/webauthn-3/, as far as it is read here.
type vector struct {
	Name         string `json:"name"`
	Registration struct {
		Challenge   hexed `json:"challenge"`
		ClientData  hexed `json:"client_data"`
		Attestation hexed `json:"attestation"`
	} `json:"registration"`
	Login struct {
		Challenge     hexed `json:"challenge"`
		ClientData    hexed `json:"client_data"`
		Authenticator hexed `json:"authenticator_data"`
		Signature     hexed `json:"signature"`
	} `json:"login"`
}

func readVectors(t testing.TB) (vectors []vector) {
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	return vectors
}

func TestVectors(t *testing.T) {
	vectors := readVectors(t)
	const (
		taken      = Reason("")
		longerThan = Reason("a challenge that is none of ours")
	)
	// Many vectors leave out what the gate asks for: that the user is verified.
	want := map[string]struct{ register, login, key Reason }{
		"§16.2":  {NotVerified, NotVerified, taken},
		"§16.3":  {taken, NotVerified, taken},
		"§16.4":  {WrongOrigin, WrongOrigin, taken},
		"§16.5":  {WrongOrigin, WrongOrigin, taken},
		"§16.6":  {NotVerified, taken, taken},
		"§16.7":  {taken, taken, taken},
		"§16.8":  {NotVerified, Algorithm, Algorithm},
		"§16.9":  {longerThan, longerThan, Algorithm},
		"§16.10": {taken, NotVerified, taken},
		"§16.11": {taken, taken, taken},
		"§16.14": {NotVerified, NotVerified, taken},
		"§16.16": {NotVerified, NotVerified, taken},
	}
	if len(vectors) != len(want) {
		t.Fatalf("%d vectors, want %d", len(vectors), len(want))
	}
	r := relying(t, "https://example.org")
	user := User{Handle: bytes.Repeat([]byte{1}, handleBytes)}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			section, _, _ := strings.Cut(v.Name, " ")
			want, ok := want[section]
			if !ok {
				t.Fatal("not known")
			}
			data, err := attestedData(v.Registration.Attestation)
			if err != nil {
				t.Fatal(err)
			}
			auth, err := parseAuthenticatorData(data)
			if err != nil {
				t.Fatal(err)
			}
			k, err := parseKey(auth.key)
			if want.key != taken {
				wantReason(t, err, want.key)
			} else {
				if err != nil {
					t.Fatal(err)
				}
				hash := sha256.Sum256(v.Login.ClientData)
				said := slices.Concat(v.Login.Authenticator, hash[:])
				if !k.verify(said, v.Login.Signature) {
					t.Error("the signature is not taken")
				}
				said[36] ^= 1
				if k.verify(said, v.Login.Signature) {
					t.Error("the signature is taken for something else")
				}
			}

			ceremony := func(kind string, challenge []byte, response map[string]string) (kept, raw []byte) {
				t.Helper()
				p := pending{Ceremony: kind, Challenge: challenge}
				if kind == creating {
					p.Handle = user.Handle
				}
				kept, err := json.Marshal(p)
				if err != nil {
					t.Fatal(err)
				}
				raw, err = json.Marshal(map[string]any{"id": encode(auth.id), "rawId": encode(auth.id), "type": publicKey, "response": response})
				if err != nil {
					t.Fatal(err)
				}
				return kept, raw
			}
			check := func(what string, err error, want Reason) {
				t.Helper()
				switch want {
				case taken:
					if err != nil {
						t.Errorf("%s: %v", what, err)
					}
				case longerThan:
					if err == nil || !strings.Contains(err.Error(), "a challenge of 128 bytes") {
						t.Errorf("%s: %v", what, err)
					}
				default:
					wantReason(t, err, want)
				}
			}
			kept, response := ceremony(creating, v.Registration.Challenge, map[string]string{
				"clientDataJSON": encode(v.Registration.ClientData), "attestationObject": encode(v.Registration.Attestation),
			})
			_, err = r.FinishRegister(user, kept, response)
			check("register", err, want.register)

			kept, response = ceremony(getting, v.Login.Challenge, map[string]string{
				"clientDataJSON": encode(v.Login.ClientData), "authenticatorData": encode(v.Login.Authenticator),
				"signature": encode(v.Login.Signature), "userHandle": encode(user.Handle),
			})
			_, _, err = r.FinishLogin(kept, response, func([]byte, []byte) (User, Credential, error) {
				return user, Credential{ID: auth.id, PublicKey: auth.key, BackupEligible: auth.has(flagBackupEligible)}, nil
			})
			check("log in", err, want.login)
		})
	}
}
