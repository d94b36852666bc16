package passkey

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sekisho/internal/passkey/passkeytest"
)

const gate = "https://gate.example.com"

func algorithmID(a int64) webauthncose.COSEAlgorithmIdentifier {
	return webauthncose.COSEAlgorithmIdentifier(a)
}

func relying(t testing.TB, origin string) *Relying {
	r, err := New(origin, "Gate")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNew(t *testing.T) {
	for _, tt := range []struct{ name, origin, host, canonical, err string }{
		{name: "https", origin: "https://gate.example.com", host: "gate.example.com", canonical: "https://gate.example.com"},
		{name: "written otherwise", origin: "HTTPS://Gate.Example.com:443/", host: "gate.example.com", canonical: "https://gate.example.com"},
		{name: "port", origin: "https://gate.example.com:8443", host: "gate.example.com", canonical: "https://gate.example.com:8443"},
		{name: "this host", origin: "http://localhost:8022", host: "localhost", canonical: "http://localhost:8022"},
		{name: "this host by the port of http", origin: "http://localhost:80", host: "localhost", canonical: "http://localhost"},
		{name: "below this host", origin: "http://gate.localhost:8022", host: "gate.localhost", canonical: "http://gate.localhost:8022"},
		{name: "http", origin: "http://gate.example.com", err: "https alone"},
		{name: "looks like this host", origin: "http://localhost.example.com", err: "https alone"},
		{name: "address", origin: "https://192.0.2.1", err: "address"},
		{name: "address of version 6", origin: "https://[2001:db8::1]:8443", err: "address"},
		{name: "path", origin: "https://gate.example.com/gate", err: "a scheme, a host and a port"},
		{name: "password", origin: "https://a:b@gate.example.com", err: "a scheme, a host and a port"},
		{name: "no scheme", origin: "gate.example.com", err: "not an origin"},
		{name: "nothing", origin: "", err: "not an origin"},
		{name: "another scheme", origin: "ftp://gate.example.com", err: "https alone"},
		{name: "not ASCII", origin: "https://関所.example", err: "xn--"},
		{name: "final dot", origin: "https://gate.example.com.", err: "final dot"},
		{name: "long", origin: "https://" + strings.Repeat("a.", 150) + "example", err: "longer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := New(tt.origin, "Gate")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one that says %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.id != tt.host || r.origin != tt.canonical {
				t.Errorf("%q of %q, want %q of %q", r.id, r.origin, tt.host, tt.canonical)
			}
		})
	}
}

// What a browser is told, to the letter: the pages hand it on unread.
func TestOptions(t *testing.T) {
	r := relying(t, gate)
	person := User{Handle: bytes.Repeat([]byte{7}, 32), Name: "hanako", Display: "山田 花子"}
	raw, kept, err := r.BeginRegister(person, []Credential{{ID: []byte{1, 2, 3}, Transports: []string{"internal"}}})
	if err != nil {
		t.Fatal(err)
	}
	var p pending
	if err := json.Unmarshal(kept, &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Challenge) != 32 || bytes.Equal(p.Challenge, make([]byte, 32)) {
		t.Errorf("challenge %x", p.Challenge)
	}
	want := `{"rp":{"id":"gate.example.com","name":"Gate"},` +
		`"user":{"id":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","name":"hanako","displayName":"山田 花子"},` +
		`"challenge":"` + encode(p.Challenge) + `",` +
		`"pubKeyCredParams":[{"type":"public-key","alg":-8},{"type":"public-key","alg":-7},{"type":"public-key","alg":-257}],` +
		`"timeout":300000,"excludeCredentials":[{"type":"public-key","id":"AQID","transports":["internal"]}],` +
		`"authenticatorSelection":{"residentKey":"required","requireResidentKey":true,"userVerification":"required"},"attestation":"none"}`
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Errorf("registration (-want +got):\n%s", diff)
	}
	if raw, kept, err = r.BeginLogin(); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(kept, &p); err != nil {
		t.Fatal(err)
	}
	want = `{"challenge":"` + encode(p.Challenge) + `","timeout":300000,"rpId":"gate.example.com","userVerification":"required"}`
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Errorf("login (-want +got):\n%s", diff)
	}
	if _, again, err := r.BeginLogin(); err != nil || bytes.Equal(again, kept) {
		t.Errorf("two logins have one challenge, or: %v", err)
	}
	if _, _, err := r.BeginRegister(User{Handle: []byte("hanako")}, nil); err == nil {
		t.Error("a name does for a handle")
	}
}

func TestPasskey(t *testing.T) {
	for _, tt := range []struct {
		name      string
		origin    string
		algorithm int64
		count     uint32
	}{
		{name: "ES256", origin: gate, algorithm: passkeytest.ES256},
		{name: "EdDSA", origin: gate, algorithm: passkeytest.EdDSA},
		{name: "RS256", origin: gate, algorithm: passkeytest.RS256},
		{name: "counts", origin: gate, algorithm: passkeytest.ES256, count: 1},
		{name: "this host", origin: "http://localhost:8022", algorithm: passkeytest.ES256},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := relying(t, tt.origin)
			o := newOracle(t, r)
			a := passkeytest.New(tt.origin, tt.algorithm)
			a.Count = tt.count
			person := User{Handle: newHandle(), Name: "hanako"}
			options, kept, err := r.BeginRegister(person, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := a.Create(options)
			if err != nil {
				t.Fatal(err)
			}
			c, err := r.FinishRegister(person, kept, response)
			if err != nil {
				t.Fatal(err)
			}
			want := Credential{
				ID: a.ID, PublicKey: a.Key(), SignCount: tt.count, Transports: []string{"hybrid", "internal"},
				BackupEligible: true, BackedUp: true,
			}
			if diff := cmp.Diff(want, c); diff != "" {
				t.Errorf("registered (-want +got):\n%s", diff)
			}
			theirs, err := o.register(t, person, kept, response)
			if err != nil {
				t.Fatalf("go-webauthn: %v", err)
			}
			if diff := cmp.Diff(theirs, c, cmpopts.IgnoreFields(Credential{}, "Transports")); diff != "" {
				t.Errorf("registered (-go-webauthn +got):\n%s", diff)
			}

			// It is kept as JSON.
			stored, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			for login := range uint32(3) {
				var found Credential
				if err := json.Unmarshal(stored, &found); err != nil {
					t.Fatal(err)
				}
				a.Flags = a.Flags&^passkeytest.BackedUp | byte(login%2)*passkeytest.BackedUp
				find := func(id, handle []byte) (User, Credential, error) {
					if !bytes.Equal(id, a.ID) || !bytes.Equal(handle, person.Handle) {
						t.Errorf("asked for %x of %x", id, handle)
					}
					return person, found, nil
				}
				options, kept, err := r.BeginLogin()
				if err != nil {
					t.Fatal(err)
				}
				if response, err = a.Get(options); err != nil {
					t.Fatal(err)
				}
				got, who, err := r.FinishLogin(kept, response, find)
				if err != nil {
					t.Fatal(err)
				}
				want := found
				want.BackedUp = login%2 == 1
				if tt.count != 0 {
					want.SignCount++
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("login %d (-want +got):\n%s", login, diff)
				}
				if diff := cmp.Diff(person, who); diff != "" {
					t.Errorf("login %d, who (-want +got):\n%s", login, diff)
				}
				theirs, err := o.login(t, kept, response, find)
				if err != nil {
					t.Fatalf("go-webauthn: %v", err)
				}
				if diff := cmp.Diff(theirs, got, cmpopts.IgnoreFields(Credential{}, "Transports")); diff != "" {
					t.Errorf("login %d (-go-webauthn +got):\n%s", login, diff)
				}
				if stored, err = json.Marshal(got); err != nil {
					t.Fatal(err)
				}
			}

			// The authenticator makes no second one beside it.
			if options, _, err = r.BeginRegister(person, []Credential{c}); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Create(options); err == nil {
				t.Error("a passkey was made beside one that is there")
			}
		})
	}
}

// Stored passkeys outlive the program that stored them.
func TestCredentialJSON(t *testing.T) {
	const stored = `{"id":"AQI=","public_key":"AwQ=","sign_count":5,"transports":["usb"],"backup_eligible":true,"backed_up":true}`
	want := Credential{ID: []byte{1, 2}, PublicKey: []byte{3, 4}, SignCount: 5, Transports: []string{"usb"}, BackupEligible: true, BackedUp: true}
	var got Credential
	if err := json.Unmarshal([]byte(stored), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	if b, err := json.Marshal(want); err != nil || string(b) != stored {
		t.Errorf("written: %s, %v", b, err)
	}
}

func TestRegisterRefused(t *testing.T) {
	r := relying(t, gate)
	o := newOracle(t, r)
	change := func(f func(*passkeytest.Ceremony)) func(*passkeytest.Ceremony) { return f }
	for _, tt := range []struct {
		name   string
		change func(*passkeytest.Ceremony)
		want   Reason
		allow  bool // go-webauthn takes it
	}{
		{name: "page of another", want: WrongOrigin, change: change(func(c *passkeytest.Ceremony) { c.ClientData["origin"] = "https://gate.example.net" })},
		{name: "page on another port", want: WrongOrigin, change: change(func(c *passkeytest.Ceremony) { c.ClientData["origin"] = gate + ":8443" })},
		{name: "page over http", want: WrongOrigin, change: change(func(c *passkeytest.Ceremony) { c.ClientData["origin"] = "http://gate.example.com" })},
		{name: "page below", want: WrongOrigin, change: change(func(c *passkeytest.Ceremony) { c.ClientData["origin"] = "https://evil.gate.example.com" })},
		{name: "no browser writes it so", want: WrongOrigin, allow: true, change: change(func(c *passkeytest.Ceremony) { c.ClientData["origin"] = "https://GATE.example.com/x" })},
		{name: "page within another", want: WrongOrigin, change: change(func(c *passkeytest.Ceremony) { c.ClientData["crossOrigin"] = true })},
		{name: "page within a named one", want: WrongOrigin, change: change(func(c *passkeytest.Ceremony) {
			c.ClientData["topOrigin"] = "https://evil.example"
		})},
		{name: "other host", want: WrongRelying, change: change(func(c *passkeytest.Ceremony) { c.RelyingID = "example.com" })},
		{name: "other challenge", want: WrongChallenge, change: change(func(c *passkeytest.Ceremony) { c.ClientData["challenge"] = encode(newHandle()) })},
		{name: "padded challenge", want: WrongChallenge, change: change(func(c *passkeytest.Ceremony) { c.ClientData["challenge"] = c.ClientData["challenge"].(string) + "=" })},
		{name: "no challenge", want: WrongChallenge, change: change(func(c *passkeytest.Ceremony) { delete(c.ClientData, "challenge") })},
		{name: "a login", want: WrongCeremony, change: change(func(c *passkeytest.Ceremony) { c.ClientData["type"] = "webauthn.get" })},
		{name: "not verified", want: NotVerified, change: change(func(c *passkeytest.Ceremony) { c.Flags &^= passkeytest.Verified })},
		{name: "nobody there", want: NotVerified, change: change(func(c *passkeytest.Ceremony) { c.Flags &^= passkeytest.Present })},
		{name: "copied and cannot be", want: Malformed, change: change(func(c *passkeytest.Ceremony) { c.Flags &^= passkeytest.BackupEligible })},
		{name: "no passkey", want: Malformed, change: change(func(c *passkeytest.Ceremony) { c.Flags &^= passkeytest.Attested })},
		{name: "two IDs", want: Malformed, change: change(func(c *passkeytest.Ceremony) { c.Envelope = map[string]any{"rawId": "AAAA"} })},
		{name: "two IDs, one signed", want: Malformed, change: change(func(c *passkeytest.Ceremony) {
			c.Envelope = map[string]any{"id": "AAAA", "rawId": "AAAA"}
		})},
		{name: "long ID", want: Malformed, change: change(func(c *passkeytest.Ceremony) { c.ID = make([]byte, 1024) })},
		{name: "type", want: Malformed, change: change(func(c *passkeytest.Ceremony) { c.Envelope = map[string]any{"type": "password"} })},
		{name: "bytes after the data", want: Malformed, change: change(func(c *passkeytest.Ceremony) { c.Extra = []byte{0} })},
		{name: "extensions are no map", want: Malformed, change: change(func(c *passkeytest.Ceremony) {
			c.Flags |= passkeytest.Extensions
			c.Extra = []byte{0x80}
		})},
		{name: "client data is no JSON", want: Malformed, change: change(func(c *passkeytest.Ceremony) { c.ClientDataRaw = []byte("{") })},
		{name: "client data is much", want: Malformed, allow: true, change: change(func(c *passkeytest.Ceremony) {
			c.ClientData["x"] = strings.Repeat("x", maxClientData)
		})},
		{name: "response is much", want: Malformed, allow: true, change: change(func(c *passkeytest.Ceremony) {
			c.Envelope = map[string]any{"x": strings.Repeat("x", maxResponse)}
		})},
		{name: "object is no map", want: Malformed, change: change(func(c *passkeytest.Ceremony) { c.Object = []byte{0x80} })},
		{name: "object is empty", want: Malformed, change: change(func(c *passkeytest.Ceremony) { c.Object = []byte{0xa0} })},
		{name: "object claims to be endless", want: Malformed, change: change(func(c *passkeytest.Ceremony) {
			c.Object = []byte{0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		})},
		{name: "object is deep", want: Malformed, change: change(func(c *passkeytest.Ceremony) { c.Object = bytes.Repeat([]byte{0x81}, 40<<10) })},
		{name: "ES256K", want: Algorithm, change: change(func(c *passkeytest.Ceremony) { c.Key = recurve(c.Key, 0x38, 46) })},
		{name: "ES384", want: Algorithm, change: change(func(c *passkeytest.Ceremony) { c.Key = recurve(c.Key, 0x38, 34) })},
		{name: "not on the curve", want: Malformed, allow: true, change: change(func(c *passkeytest.Ceremony) { c.Key = bytes.Clone(c.Key); c.Key[len(c.Key)-1] ^= 1 })},
		{name: "key of RSA with 1024 bits", want: Algorithm, allow: true, change: change(func(c *passkeytest.Ceremony) { c.Key = rsaKey(128, 0xff) })},
		{name: "key of RSA that is even", want: Algorithm, allow: true, change: change(func(c *passkeytest.Ceremony) { c.Key = rsaKey(256, 0xfe) })},
		{name: "key of RSA with 8192 bits", want: Algorithm, allow: true, change: change(func(c *passkeytest.Ceremony) { c.Key = rsaKey(1000, 0xff) })},
		{name: "key is much", want: Malformed, allow: true, change: change(func(c *passkeytest.Ceremony) { c.Key = rsaKey(1024, 0xff) })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := passkeytest.New(gate, passkeytest.ES256)
			person := User{Handle: newHandle(), Name: "hanako"}
			options, kept, err := r.BeginRegister(person, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := a.Create(options, tt.change)
			if err != nil {
				t.Fatal(err)
			}
			c, err := r.FinishRegister(person, kept, response)
			wantReason(t, err, tt.want)
			if diff := cmp.Diff(Credential{}, c); diff != "" {
				t.Errorf("refused, and yet (-want +got):\n%s", diff)
			}
			if _, err := o.register(t, person, kept, response); (err == nil) != tt.allow {
				t.Errorf("go-webauthn: %v; takes it: want %v", err, tt.allow)
			}
		})
	}
}

// recurve gives an ES256 key another algorithm, whose number takes two bytes.
func recurve(key []byte, algorithm ...byte) []byte {
	at := bytes.IndexByte(key, 0x26)
	return append(append(bytes.Clone(key[:at]), algorithm...), key[at+1:]...)
}

// rsaKey is a COSE_Key for RS256 whose modulus has a number of bytes and ends in one.
func rsaKey(size int, last byte) []byte {
	n := bytes.Repeat([]byte{0xff}, size)
	n[size-1] = last
	length := []byte{0x59, byte(size >> 8), byte(size)}
	if size < 256 {
		length = []byte{0x58, byte(size)}
	}
	key := slices.Concat([]byte{0xa4, 1, 3, 3, 0x39, 1, 0, 0x20}, length, n)
	return append(key, 0x21, 0x43, 1, 0, 1)
}

func wantReason(t *testing.T, err error, want Reason) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("got %v, want it refused as %s", err, want)
	}
	if e.Hint() == "" || len(err.Error()) > 300 {
		t.Errorf("%q has no hint, or says much", err)
	}
}

// What browsers and authenticators add of their own does no harm.
func TestRegisterTaken(t *testing.T) {
	r := relying(t, gate)
	o := newOracle(t, r)
	for _, tt := range []struct {
		name   string
		change func(*passkeytest.Ceremony)
		refuse bool // go-webauthn does
		want   []string
	}{
		{name: "one device", change: func(c *passkeytest.Ceremony) { c.Flags &^= passkeytest.BackupEligible | passkeytest.BackedUp }, want: []string{"hybrid", "internal"}},
		{name: "extensions", change: func(c *passkeytest.Ceremony) {
			c.Flags |= passkeytest.Extensions
			c.Extra = []byte("\xa1\x6bcredProtect\x03")
		}, want: []string{"hybrid", "internal"}},
		{name: "no transports", change: func(c *passkeytest.Ceremony) { c.Transports = nil }},
		{name: "many odd transports", change: func(c *passkeytest.Ceremony) {
			c.Transports = []string{"usb", "usb", "Bad", "", "<script>", strings.Repeat("x", 33), "future-way"}
			for i := range 20 {
				c.Transports = append(c.Transports, "t"+strings.Repeat("x", i))
			}
		}, want: []string{"future-way", "t", "tx", "txx", "txxx", "txxxx", "txxxxx", "usb"}},
		{name: "new members of the client data", change: func(c *passkeytest.Ceremony) { c.ClientData["new_keys"] = map[string]any{"a": 1} }, want: []string{"hybrid", "internal"}},
		// Some pass on what the authenticator attests of its own accord. It is not read here, so
		// one that is wrong does as well as none.
		{name: "attestation unasked", refuse: true, change: func(c *passkeytest.Ceremony) {
			c.Format, c.Statement = "packed", []byte("\xa2\x63alg\x26\x63sig\x41\x00")
		}, want: []string{"hybrid", "internal"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := passkeytest.New(gate, passkeytest.ES256)
			person := User{Handle: newHandle(), Name: "hanako"}
			options, kept, err := r.BeginRegister(person, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := a.Create(options, tt.change)
			if err != nil {
				t.Fatal(err)
			}
			c, err := r.FinishRegister(person, kept, response)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, c.Transports); diff != "" {
				t.Errorf("transports (-want +got):\n%s", diff)
			}
			if _, err := o.register(t, person, kept, response); (err != nil) != tt.refuse {
				t.Errorf("go-webauthn: %v; refuses: want %v", err, tt.refuse)
			}
		})
	}
}

// enrolled is a person with a passkey.
type enrolled struct {
	user User
	auth *passkeytest.Authenticator
	kept Credential
}

func enrol(t testing.TB, r *Relying, a *passkeytest.Authenticator) enrolled {
	t.Helper()
	person := User{Handle: newHandle(), Name: "hanako"}
	options, kept, err := r.BeginRegister(person, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := a.Create(options)
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.FinishRegister(person, kept, response)
	if err != nil {
		t.Fatal(err)
	}
	return enrolled{person, a, c}
}

func (e enrolled) find(id, _ []byte) (User, Credential, error) {
	if !bytes.Equal(id, e.kept.ID) {
		return User{}, Credential{}, ErrUnknown
	}
	return e.user, e.kept, nil
}

func TestLoginRefused(t *testing.T) {
	r := relying(t, gate)
	o := newOracle(t, r)
	other := enrol(t, r, passkeytest.New(gate, passkeytest.ES256))
	for _, tt := range []struct {
		name   string
		count  uint32
		stored uint32 // the counter, if not as it is
		change func(*passkeytest.Ceremony)
		want   Reason
		allow  bool // go-webauthn takes it
	}{
		{name: "page of another", want: WrongOrigin, change: func(c *passkeytest.Ceremony) { c.ClientData["origin"] = "https://gate.example.net" }},
		{name: "page within another", want: WrongOrigin, change: func(c *passkeytest.Ceremony) { c.ClientData["crossOrigin"] = true }},
		{name: "other host", want: WrongRelying, change: func(c *passkeytest.Ceremony) { c.RelyingID = "gate.example.net" }},
		{name: "other challenge", want: WrongChallenge, change: func(c *passkeytest.Ceremony) { c.ClientData["challenge"] = encode(newHandle()) }},
		{name: "a registration", want: WrongCeremony, change: func(c *passkeytest.Ceremony) { c.ClientData["type"] = "webauthn.create" }},
		{name: "not verified", want: NotVerified, change: func(c *passkeytest.Ceremony) { c.Flags &^= passkeytest.Verified }},
		{name: "nobody there", want: NotVerified, change: func(c *passkeytest.Ceremony) { c.Flags &^= passkeytest.Present }},
		{name: "signature of something else", want: WrongSignature, change: func(c *passkeytest.Ceremony) { c.BreakSig = true }},
		{name: "no signature", want: WrongSignature, change: func(c *passkeytest.Ceremony) { c.Response = map[string]any{"signature": ""} }},
		{name: "data changed after it was signed", want: WrongSignature, change: func(c *passkeytest.Ceremony) {
			c.Response = map[string]any{"authenticatorData": encode((&authChange{c, 9}).data())}
		}},
		{name: "another's passkey", want: WrongSignature, change: func(c *passkeytest.Ceremony) { c.ID, c.Handle = other.kept.ID, other.user.Handle }},
		{name: "another's name", want: WrongPerson, change: func(c *passkeytest.Ceremony) { c.Handle = other.user.Handle }},
		{name: "another's passkey under one's own name", want: WrongPerson, change: func(c *passkeytest.Ceremony) { c.ID = other.kept.ID }},
		{name: "no name", want: WrongPerson, change: func(c *passkeytest.Ceremony) { c.Handle = nil }},
		{name: "unknown", want: Unknown, change: func(c *passkeytest.Ceremony) { c.ID = []byte("nobody's") }},
		{name: "may be copied no more", want: Changed, change: func(c *passkeytest.Ceremony) { c.Flags &^= passkeytest.BackupEligible | passkeytest.BackedUp }},
		{name: "copied and cannot be", want: Malformed, change: func(c *passkeytest.Ceremony) { c.Flags &^= passkeytest.BackupEligible }},
		{name: "bytes after the data", want: Malformed, change: func(c *passkeytest.Ceremony) { c.Extra = []byte{0} }},
		{name: "short data", want: Malformed, change: func(c *passkeytest.Ceremony) {
			c.Response = map[string]any{"authenticatorData": encode(make([]byte, 36))}
		}},
		{name: "not base64", want: Malformed, change: func(c *passkeytest.Ceremony) { c.Response = map[string]any{"signature": "+/=="} }},
		{name: "counter goes back", want: Cloned, count: 7, stored: 9},
		{name: "counter stands", want: Cloned, count: 7, stored: 8},
		{name: "counter gone", want: Cloned, stored: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := passkeytest.New(gate, passkeytest.ES256)
			a.Count = tt.count
			e := enrol(t, r, a)
			if tt.stored != 0 {
				e.kept.SignCount = tt.stored
			}
			find := func(id, handle []byte) (User, Credential, error) {
				if bytes.Equal(id, other.kept.ID) {
					return other.find(id, handle)
				}
				return e.find(id, handle)
			}
			options, kept, err := r.BeginLogin()
			if err != nil {
				t.Fatal(err)
			}
			change := tt.change
			if change == nil {
				change = func(*passkeytest.Ceremony) {}
			}
			response, err := a.Get(options, change)
			if err != nil {
				t.Fatal(err)
			}
			c, who, err := r.FinishLogin(kept, response, find)
			wantReason(t, err, tt.want)
			wantC, wantU := Credential{}, User{}
			if tt.want == Cloned {
				wantC, wantU = e.kept, e.user
				if !errors.Is(err, ErrCloned) || errors.Is(err, ErrUnknown) {
					t.Errorf("%v is not what callers look for", err)
				}
			}
			if diff := cmp.Diff(wantC, c); diff != "" {
				t.Errorf("passkey (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wantU, who); diff != "" {
				t.Errorf("person (-want +got):\n%s", diff)
			}
			if _, err := o.login(t, kept, response, find); (err == nil) != tt.allow {
				t.Errorf("go-webauthn: %v; takes it: want %v", err, tt.allow)
			}
		})
	}
}

// authChange is what an authenticator would say of another counter.
type authChange struct {
	c     *passkeytest.Ceremony
	count byte
}

func (a *authChange) data() []byte {
	r, _ := New(gate, "")
	return append(r.idHash[:], a.c.Flags, 0, 0, 0, a.count)
}

// A response is good for the ceremony that it answers, and for no other.
func TestReplay(t *testing.T) {
	r := relying(t, gate)
	e := enrol(t, r, passkeytest.New(gate, passkeytest.EdDSA))
	options, first, err := r.BeginLogin()
	if err != nil {
		t.Fatal(err)
	}
	response, err := e.auth.Get(options)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.FinishLogin(first, response, e.find); err != nil {
		t.Fatal(err)
	}
	_, second, err := r.BeginLogin()
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = r.FinishLogin(second, response, e.find)
	wantReason(t, err, WrongChallenge)

	_, registering, err := r.BeginRegister(e.user, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = r.FinishLogin(registering, response, e.find)
	wantReason(t, err, WrongCeremony)
	_, err = r.FinishRegister(e.user, first, response)
	wantReason(t, err, WrongCeremony)
	_, err = r.FinishRegister(User{Handle: newHandle()}, registering, response)
	wantReason(t, err, WrongPerson)

	for _, kept := range []string{"", "{", `{"ceremony":"webauthn.get"}`, `{"ceremony":"webauthn.get","challenge":"AAAA"}`} {
		var e2 *Error
		if _, _, err := r.FinishLogin([]byte(kept), response, e.find); err == nil || errors.As(err, &e2) {
			t.Errorf("kept as %q: %v, want an error that is nobody's fault outside", kept, err)
		}
	}
}

// What find says of its own comes back; a passkey that it was not asked for does not count.
func TestFind(t *testing.T) {
	r := relying(t, gate)
	e := enrol(t, r, passkeytest.New(gate, passkeytest.EdDSA))
	options, kept, err := r.BeginLogin()
	if err != nil {
		t.Fatal(err)
	}
	response, err := e.auth.Get(options)
	if err != nil {
		t.Fatal(err)
	}
	down := fmt.Errorf("the store is down")
	if _, _, err := r.FinishLogin(kept, response, func([]byte, []byte) (User, Credential, error) { return User{}, Credential{}, down }); !errors.Is(err, down) {
		t.Errorf("got %v, want %v", err, down)
	}
	wrong := e.kept
	wrong.ID = []byte("another")
	_, _, err = r.FinishLogin(kept, response, func([]byte, []byte) (User, Credential, error) { return e.user, wrong, nil })
	wantReason(t, err, Unknown)
	_, _, err = r.FinishLogin(kept, response, func([]byte, []byte) (User, Credential, error) { return User{}, e.kept, nil })
	wantReason(t, err, WrongPerson)
	wrong = e.kept
	wrong.PublicKey = nil
	_, _, err = r.FinishLogin(kept, response, func([]byte, []byte) (User, Credential, error) { return e.user, wrong, nil })
	if err == nil || !strings.Contains(err.Error(), "the key that is kept") {
		t.Errorf("a key that is gone: %v", err)
	}
}

// newHandle makes a person's handle.
func newHandle() []byte {
	b := make([]byte, handleBytes)
	rand.Read(b) // never fails, see its documentation
	return b
}
