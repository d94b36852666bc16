package passkey

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"sekisho/internal/passkey/passkeytest"
)

// fixed is a ceremony that is the same in every process, so that what the fuzzer has found stays found.
func fixed(t testing.TB, ceremony string) (r *Relying, user User, kept []byte, options string) {
	r = relying(t, gate)
	user = User{Handle: make([]byte, handleBytes), Name: "hanako"}
	p := pending{Ceremony: ceremony, Challenge: make([]byte, challengeBytes)}
	if ceremony == creating {
		p.Handle = user.Handle
	}
	kept, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return r, user, kept, `{"challenge":"` + encode(p.Challenge) + `","rpId":"gate.example.com","rp":{"id":"gate.example.com"},"user":{"id":"` + encode(user.Handle) + `"}}`
}

// known says that an error is one of those that callers are told of.
func known(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason == "" || e.Hint() == "" || len(e.What) > 400 {
		t.Fatalf("an error that callers cannot tell: %v", err)
	}
}

func FuzzFinishRegister(f *testing.F) {
	r, user, kept, options := fixed(f, creating)
	for _, a := range []*passkeytest.Authenticator{
		passkeytest.NewFixed(gate), passkeytest.New(gate, passkeytest.ES256), passkeytest.New(gate, passkeytest.RS256),
	} {
		response, err := a.Create([]byte(options))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(response)
	}
	f.Add([]byte(`{}`))
	o := newOracle(f, r)
	f.Fuzz(func(t *testing.T, response []byte) {
		c, err := r.FinishRegister(user, kept, response)
		if err != nil {
			known(t, err)
			return
		}
		checkRegistered(t, o, user, kept, response, c)
	})
}

// FuzzAttestation goes where the fuzzer does not come through JSON and base64.
func FuzzAttestation(f *testing.F) {
	r, user, kept, options := fixed(f, creating)
	for _, a := range []*passkeytest.Authenticator{
		passkeytest.NewFixed(gate), passkeytest.New(gate, passkeytest.ES256), passkeytest.New(gate, passkeytest.RS256),
	} {
		a.ID = make([]byte, 32)
		for _, extra := range []string{"", "\xa1\x6bcredProtect\x03"} {
			response, err := a.Create([]byte(options), func(c *passkeytest.Ceremony) {
				if extra != "" {
					c.Flags, c.Extra = c.Flags|passkeytest.Extensions, []byte(extra)
				}
			})
			if err != nil {
				f.Fatal(err)
			}
			parsed, err := parseResponse(response)
			if err != nil {
				f.Fatal(err)
			}
			f.Add([]byte(parsed.Response.Attestation))
		}
	}
	for _, v := range readVectors(f) {
		f.Add([]byte(v.Registration.Attestation))
	}
	o := newOracle(f, r)
	a := passkeytest.NewFixed(gate)
	f.Fuzz(func(t *testing.T, object []byte) {
		response, err := a.Create([]byte(options), func(c *passkeytest.Ceremony) { c.Object = object })
		if err != nil {
			t.Fatal(err)
		}
		c, err := r.FinishRegister(user, kept, response)
		if err != nil {
			known(t, err)
			return
		}
		checkRegistered(t, o, user, kept, response, c)
	})
}

// checkRegistered holds what was taken to go-webauthn.
func checkRegistered(t *testing.T, o oracle, user User, kept, response []byte, c Credential) {
	t.Helper()
	if len(c.ID) == 0 || len(c.ID) > maxID || len(c.PublicKey) > maxKey || len(c.Transports) > maxTransports {
		t.Fatalf("out of bounds: %+v", c)
	}
	if _, err := parseKey(c.PublicKey); err != nil {
		t.Fatalf("what was taken is refused later: %v", err)
	}
	theirs, err := o.register(t, user, kept, response)
	if err != nil {
		// Attestation and extensions are not read here, and go-webauthn has members of its own mind.
		for _, unread := range []string{"attest", "Attest", "xtension", "token binding", "Parse error", "format"} {
			if strings.Contains(err.Error(), unread) {
				return
			}
		}
		t.Fatalf("taken, but not by go-webauthn: %v\n%s", err, response)
	}
	if !bytes.Equal(theirs.ID, c.ID) || theirs.SignCount != c.SignCount || theirs.BackedUp != c.BackedUp || theirs.BackupEligible != c.BackupEligible {
		t.Fatalf("taken as %+v, by go-webauthn as %+v", c, theirs)
	}
}

func FuzzFinishLogin(f *testing.F) {
	r, user, kept, options := fixed(f, getting)
	a := passkeytest.NewFixed(gate)
	a.Handle = user.Handle
	stored := Credential{ID: a.ID, PublicKey: a.Key(), BackupEligible: true}
	find := func(id, _ []byte) (User, Credential, error) {
		if !bytes.Equal(id, stored.ID) {
			return User{}, Credential{}, ErrUnknown
		}
		return user, stored, nil
	}
	response, err := a.Get([]byte(options))
	if err != nil {
		f.Fatal(err)
	}
	if _, _, err := r.FinishLogin(kept, response, find); err != nil {
		f.Fatal(err)
	}
	f.Add(response)
	o := newOracle(f, r)
	f.Fuzz(func(t *testing.T, response []byte) {
		c, who, err := r.FinishLogin(kept, response, find)
		if err != nil {
			known(t, err)
			return
		}
		if !bytes.Equal(who.Handle, user.Handle) || !bytes.Equal(c.PublicKey, stored.PublicKey) {
			t.Fatalf("logged in as %+v with %+v", who, c)
		}
		if _, err := o.login(t, kept, response, find); err != nil && !strings.Contains(err.Error(), "Parse error") && !strings.Contains(err.Error(), "token binding") {
			t.Fatalf("taken, but not by go-webauthn: %v\n%s", err, response)
		}
	})
}

func FuzzKey(f *testing.F) {
	for _, algorithm := range algorithms {
		f.Add(passkeytest.New(gate, algorithm).Key())
	}
	f.Add(rsaKey(256, 0xfe))
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := parseKey(raw)
		if err != nil {
			known(t, err)
			return
		}
		k.verify([]byte("data"), []byte("signature")) // no panic
		if _, err := webauthncose.ParsePublicKey(raw); err != nil {
			t.Fatalf("taken, but not by go-webauthn: %v\n%x", err, raw)
		}
	})
}

// What is taken as CBOR is so to go-webauthn, and the other way round but for what is stricter here.
func FuzzCBOR(f *testing.F) {
	for _, s := range []string{"\x00", "\x18\x18", "\x20", "\x41a", "\x61a", "\x82\x01\x02", "\xa1\x01\x02", "\xf4", "\xf9\x00\x00", "\xf8\xff", "\xc0\x00", "\x9f\xff", "\xa2\x01\x02\x01\x02", "\x61\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		it, rest, err := next(raw, maxDepth)
		var v any
		n, theirs := webauthncbor.UnmarshalFirst(raw, &v)
		if err != nil {
			return
		}
		if len(it.raw)+len(rest) != len(raw) {
			t.Fatalf("%x: %d bytes and %d more", raw, len(it.raw), len(rest))
		}
		if theirs == nil && n != len(it.raw) {
			t.Fatalf("%x: ends at %d, for go-webauthn at %d", raw, len(it.raw), n)
		}
		if theirs != nil && !strings.Contains(theirs.Error(), "map key") && !strings.Contains(theirs.Error(), "cannot unmarshal") {
			t.Fatalf("%x: taken, but not by go-webauthn: %v", raw, theirs)
		}
	})
}
