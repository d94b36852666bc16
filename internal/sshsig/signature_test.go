package sshsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"sekisho/internal/sshsig/sshsigtest"
)

const namespace = "sekisho"

// testdata is what ssh-keygen of OpenSSH 9.2 wrote: `ssh-keygen -Y sign -f KEY -n sekisho message`, security keys by
// OpenSSH's own software authenticator (sk-dummy.so). `ssh-keygen -Y check-novalidate` finds every one good.
func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatSSHKeygenWrote(t *testing.T) {
	tests := []struct {
		name        string
		fingerprint string
		verified    bool
		parse       error
		verify      error
		says        string
		hint        string
	}{
		{name: "ed25519", fingerprint: "SHA256:x5UjZfDRskCb+afhp3QLC/LS37hgsEGI7/AHTQR50Dw"},
		{name: "ecdsa-256", fingerprint: "SHA256:5d10IXXOCa/70KW1ulrLPY4NCYxPHE5x48VPbEM38wM"},
		{name: "ecdsa-384", fingerprint: "SHA256:dZK+o3HBa1ghOTYM6pHAu1I/gColOmg3YrDtfgAKcDU"},
		{name: "ecdsa-521", fingerprint: "SHA256:Zpe9xECngmgKjb21kVVfKlA9vJX6Ra0P6mFp0VSDsdA"},
		{name: "rsa-3072", fingerprint: "SHA256:yMheFi32KeYvAlyYIUeC33naeav8EG6L67PD4F98jOg"},
		{name: "rsa-3072-sha256", fingerprint: "SHA256:yMheFi32KeYvAlyYIUeC33naeav8EG6L67PD4F98jOg"},
		{name: "ed25519-sk", fingerprint: "SHA256:Bj0Zr7SQWbgbM7F/GqT4fW2jlAGnee8Eakc6nJObJ6o"},
		{name: "ecdsa-sk", fingerprint: "SHA256:88SPU5bKbsUJON2RiwZLDMUW4sltkZJ3VJulPUAN2Pg"},
		{name: "ed25519-sk-verified", fingerprint: "SHA256:QwGjd+qyygDaycQ4/7MYVzqqVPf0lWsZd2M52LLsItY", verified: true},
		{name: "ed25519-sk-untouched", fingerprint: "SHA256:S3VtaBt/zHKTmaCqyHBivo0p6eog2jjjEIajsg0jKTE", verify: ErrPresence,
			says: "a signature of a security key that nobody touched", hint: "sign with a key that asks to be touched: one that was made without -O no-touch-required"},
		{name: "namespace-file", fingerprint: "SHA256:x5UjZfDRskCb+afhp3QLC/LS37hgsEGI7/AHTQR50Dw", verify: ErrNamespace,
			says: `an SSH signature made for something else: its namespace is "file", not "sekisho"`, hint: "sign with ssh-keygen -Y sign -n sekisho"},
		{name: "certificate", parse: ErrAlgorithm, says: `not an accepted kind of SSH key or signature: a certificate ("ecdsa-sha2-nistp256-cert-v01@openssh.com")`,
			hint: "sign with the key itself: name its file, not the one that ends in -cert.pub"},
		{name: "dsa", parse: ErrAlgorithm, says: "not an accepted kind of SSH key or signature: a DSA key", hint: another},
		{name: "rsa-1024", parse: ErrAlgorithm, says: "not an accepted kind of SSH key or signature: an RSA key of 1024 bits, where 2048 are the least", hint: another},
	}
	var names []string
	message := testdata(t, "message")
	for _, tt := range tests {
		names = append(names, filepath.Join("testdata", tt.name+".sig"))
		t.Run(tt.name, func(t *testing.T) {
			armored := testdata(t, tt.name+".sig")
			s, err := Parse(armored)
			if tt.parse != nil {
				says(t, err, tt.parse, tt.says, tt.hint)
				if diff := cmp.Diff(Signature{}.Marshal(), s.Marshal()); diff != "" {
					t.Errorf("a signature beside an error: %s", diff)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Fingerprint(); got != tt.fingerprint {
				t.Errorf("fingerprint %s, want %s", got, tt.fingerprint)
			}
			if got := s.flags()&userVerified != 0; got != tt.verified {
				t.Errorf("user verified: %v, want %v", got, tt.verified)
			}
			if diff := cmp.Diff(string(armored), string(Armor(s))); diff != "" {
				t.Errorf("written again it is another (-want +got):\n%s", diff)
			}
			bare, err := Parse(s.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []Signature{s, bare} {
				if err := Verify(s, namespace, message); tt.verify != nil {
					says(t, err, tt.verify, tt.says, tt.hint)
				} else if err != nil {
					t.Error(err)
				}
			}
			if tt.verify == nil {
				says(t, Verify(s, namespace, append(message, ' ')), ErrMismatch, "the SSH signature is not of this message by this key", "")
			}
		})
	}
	if found, err := filepath.Glob("testdata/*.sig"); err != nil || len(found) != len(names) {
		t.Errorf("files %v, tested are %v (%v)", found, names, err)
	}
}

func says(t *testing.T, err, want error, text, hint string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	if err.Error() != text || Hint(err) != hint {
		t.Errorf("it says %q (hint %q), want %q (hint %q)", err, Hint(err), text, hint)
	}
}

func TestParseRefuses(t *testing.T) {
	armored := testdata(t, "ed25519.sig")
	good, err := Parse(armored)
	if err != nil {
		t.Fatal(err)
	}
	fields := blob{version, good.key.Marshal(), namespace, nil, "sha512", ssh.Marshal(good.made)}
	wire := func(change func(*blob)) []byte {
		b := fields
		change(&b)
		return append([]byte(magic), ssh.Marshal(b)...)
	}
	made := func(change func(*ssh.Signature)) []byte {
		m := good.made
		change(&m)
		return wire(func(b *blob) { b.Signature = ssh.Marshal(m) })
	}
	text := func(old, new string) []byte { return []byte(strings.Replace(string(armored), old, new, 1)) }
	key := func(parts ...any) []byte {
		var k []byte
		for _, p := range parts {
			switch p := p.(type) {
			case string:
				k = append(k, ssh.Marshal(struct{ S string }{p})...)
			case []byte:
				k = append(k, p...)
			}
		}
		return wire(func(b *blob) { b.Key = k })
	}
	long, err := Parse(testdata(t, "rsa-3072.sig"))
	if err != nil {
		t.Fatal(err)
	}
	rsaBlob := func(format string) []byte {
		m := long.made
		m.Format = format
		return append([]byte(magic), ssh.Marshal(blob{version, long.key.Marshal(), namespace, nil, "sha512", ssh.Marshal(m)})...)
	}
	sk, err := Parse(testdata(t, "ecdsa-sk.sig"))
	if err != nil {
		t.Fatal(err)
	}
	skBlob := func(change func(*ssh.Signature)) []byte {
		m := sk.made
		change(&m)
		return append([]byte(magic), ssh.Marshal(blob{version, sk.key.Marshal(), namespace, nil, "sha512", ssh.Marshal(m)})...)
	}

	tests := []struct {
		name string
		in   []byte
		want error
		says string
	}{
		{"nothing", nil, ErrFormat, "does not begin with SSHSIG"},
		{"too long", bytes.Repeat([]byte("-"), MaxSize+1), ErrFormat, "has 16385 bytes, where 16384 are the most"},
		{"another armour", pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATUR", Bytes: good.Marshal()}), ErrFormat, "does not begin with the line"},
		{"something before it", text("-----BEGIN", " -----BEGIN"), ErrFormat, "does not begin with"},
		{"no line end", text("SIGNATURE-----\n", "SIGNATURE-----"), ErrFormat, "does not begin with the line"},
		{"no last line", text(end, ""), ErrFormat, "there is no line"},
		{"something behind it", append(bytes.Clone(armored), "x"...), ErrFormat, "something follows its last line"},
		{"two", append(bytes.Clone(armored), armored...), ErrFormat, "something follows its last line"},
		{"no base64", text("\nU1NI", "\nU1N*"), ErrFormat, "illegal base64"},
		{"a blank within", text("\nU1NI", "\nU1 NI"), ErrFormat, "illegal base64"},
		{"the magic alone", []byte(magic), ErrFormat, "does not begin with SSHSIG and a version"},
		{"version 0", wire(func(b *blob) { b.Version = 0 }), ErrFormat, "of version 0, where 1 is known"},
		{"version 2", wire(func(b *blob) { b.Version = 2 }), ErrFormat, "of version 2, where 1 is known"},
		{"cut short", good.Marshal()[:len(good.Marshal())-1], ErrFormat, "cut short"},
		{"bytes after it", append(good.Marshal(), 0), ErrFormat, "something follows its end"},
		{"no namespace", wire(func(b *blob) { b.Namespace = "" }), ErrFormat, "namespace is empty"},
		{"a namespace with a zero byte", wire(func(b *blob) { b.Namespace = "sekisho\x00" }), ErrFormat, "has a zero byte"},
		{"reserved", wire(func(b *blob) { b.Reserved = []byte("x") }), ErrFormat, "reserved field is not empty"},
		{"no hash", wire(func(b *blob) { b.Hash = "" }), ErrAlgorithm, `the hash ""`},
		{"sha1", wire(func(b *blob) { b.Hash = "sha1" }), ErrAlgorithm, `the hash "sha1", where sha256 and sha512 are accepted`},
		{"a long name", wire(func(b *blob) { b.Hash = "\x1b[2J" + strings.Repeat("x", 1000) }), ErrAlgorithm, `the hash "\x1b[2J` + strings.Repeat("x", 56) + `"...,`},
		{"no key", wire(func(b *blob) { b.Key = nil }), ErrFormat, "its key is cut short"},
		{"an unknown key", key("ssh-mldsa-65", "x"), ErrAlgorithm, `a key of type "ssh-mldsa-65"`},
		{"a signature's name for a key", key(ssh.KeyAlgoRSASHA512, "x"), ErrAlgorithm, `a key of type "rsa-sha2-512"`},
		{"a webauthn key", key("webauthn-sk-ecdsa-sha2-nistp256@openssh.com", "x"), ErrAlgorithm, `a key of type "webauthn-sk-`},
		{"a security key's certificate", key(ssh.CertAlgoSKED25519v01, "x"), ErrAlgorithm, `a certificate ("sk-ssh-ed25519-cert-v01@openssh.com")`},
		{"a broken key", key(ssh.KeyAlgoED25519, "x"), ErrFormat, "its key of type ssh-ed25519 is broken"},
		{"bytes after the key", wire(func(b *blob) { b.Key = append(bytes.Clone(b.Key), 0) }), ErrFormat, "is broken"},
		{"a key in another form", key(ssh.KeyAlgoRSA, "\x00\x01\x00\x01", "\x00"+string(modulus(t, long))), ErrFormat, "is not in its one form"},
		{"an exponent too large", key(ssh.KeyAlgoRSA, "\x01\x00\x00\x00\x01", string(modulus(t, long))), ErrFormat, "is broken"},
		{"no signature", wire(func(b *blob) { b.Signature = nil }), ErrFormat, "the signature in it is cut short"},
		{"another key's signature", made(func(m *ssh.Signature) { m.Format = ssh.KeyAlgoECDSA256 }), ErrAlgorithm, `a signature "ecdsa-sha2-nistp256" by a key of type ssh-ed25519`},
		{"a security key's signature", made(func(m *ssh.Signature) { m.Format, m.Rest = ssh.KeyAlgoSKED25519, make([]byte, 5) }), ErrAlgorithm, `a signature "sk-ssh-ed25519@openssh.com"`},
		{"bytes after the signature", made(func(m *ssh.Signature) { m.Rest = []byte{1} }), ErrFormat, "has 1 bytes more, where 0 are right"},
		{"SHA-1", rsaBlob(ssh.KeyAlgoRSA), ErrAlgorithm, `a signature "ssh-rsa" by a key of type ssh-rsa`},
		{"a security key without flags", skBlob(func(m *ssh.Signature) { m.Rest = nil }), ErrFormat, "has 0 bytes more, where 5 are right"},
		{"a security key with more", skBlob(func(m *ssh.Signature) { m.Rest = append(bytes.Clone(m.Rest), 0) }), ErrFormat, "has 6 bytes more, where 5 are right"},
		{"webauthn", skBlob(func(m *ssh.Signature) { m.Format = "webauthn-sk-ecdsa-sha2-nistp256@openssh.com" }), ErrAlgorithm, `a signature "webauthn-sk-ecdsa-sha2-nistp256@openssh.com" by a key of type sk-ecdsa-sha2-nistp256@openssh.com`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.in)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %v with %q", err, tt.want, tt.says)
			}
			if len(err.Error()) > 300 || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("the error has a stranger's text: %q", err)
			}
		})
	}
	for name, in := range map[string][]byte{
		"line ends of Windows": bytes.ReplaceAll(armored, []byte("\n"), []byte("\r\n")),
		"no line end at last":  bytes.TrimSpace(armored),
		"blank lines after it": append(bytes.Clone(armored), "\r\n \n"...),
		"one long line":        []byte(begin + "\n" + strings.Join(strings.Split(string(armored), "\n")[1:5], "") + "\n" + end),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse(in)
			if err == nil {
				err = Verify(s, namespace, testdata(t, "message"))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("the zero value", func(t *testing.T) {
		var s Signature
		if err := Verify(s, "", nil); !errors.Is(err, ErrFormat) {
			t.Errorf("error %v, want %v", err, ErrFormat)
		}
		if s.PublicKey() != nil || s.Fingerprint() != "" || s.flags()&userVerified != 0 || s.Marshal() != nil || Armor(s) != nil {
			t.Error("it is something")
		}
	})
}

func modulus(t *testing.T, s Signature) []byte {
	var k struct{ Type, E, N string }
	if err := ssh.Unmarshal(s.key.Marshal(), &k); err != nil {
		t.Fatal(err)
	}
	return []byte(k.N)
}

// signers are a key of each kind, by their names for ssh-keygen.
var signers = sync.OnceValues(func() (map[string]ssh.Signer, error) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	private := map[string]crypto.Signer{"ed25519": ed, "rsa": r}
	for name, curve := range map[string]elliptic.Curve{"ecdsa-256": elliptic.P256(), "ecdsa-384": elliptic.P384(), "ecdsa-521": elliptic.P521()} {
		if private[name], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			return nil, err
		}
	}
	all := map[string]ssh.Signer{}
	for name, k := range private {
		if all[name], err = ssh.NewSignerFromSigner(k); err != nil {
			return nil, err
		}
	}
	return all, nil
})

func allSigners(t *testing.T) map[string]ssh.Signer {
	t.Helper()
	plain, err := signers()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]ssh.Signer{
		"ed25519-sk": sshsigtest.New(t, ssh.KeyAlgoSKED25519),
		"ecdsa-sk":   sshsigtest.New(t, ssh.KeyAlgoSKECDSA256),
	}
	maps.Copy(all, plain)
	return all
}

func TestSignThenVerify(t *testing.T) {
	for name, signer := range allSigners(t) {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				namespace := rapid.StringMatching(`[^\x00]{1,40}`).Draw(t, "namespace")
				message := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "message")
				armored, err := Sign(signer, namespace, message)
				if err != nil {
					t.Fatal(err)
				}
				s, err := Parse(armored)
				if err != nil {
					t.Fatal(err)
				}
				if err := Verify(s, namespace, message); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(signer.PublicKey().Marshal(), s.PublicKey().Marshal()); diff != "" {
					t.Errorf("another key: %s", diff)
				}
				if s.namespace != namespace {
					t.Errorf("namespace %q, want %q", s.namespace, namespace)
				}
				if err := Verify(s, namespace+"x", message); !errors.Is(err, ErrNamespace) {
					t.Errorf("in another namespace: %v", err)
				}
				if err := Verify(s, namespace, append(message, 0)); !errors.Is(err, ErrMismatch) {
					t.Errorf("of a longer message: %v", err)
				}
			})
		})
	}
}

// Whatever byte is another, by one bit or by all, nothing is verified any more.
func TestEveryByteCounts(t *testing.T) {
	message := []byte("open web-prod")
	for name, signer := range allSigners(t) {
		t.Run(name, func(t *testing.T) {
			armored, err := Sign(signer, namespace, message)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Parse(armored)
			if err != nil {
				t.Fatal(err)
			}
			good := s.Marshal()
			for i := range good {
				for _, flip := range []byte{1, 0x80, 0xff} {
					b := bytes.Clone(good)
					b[i] ^= flip
					if s, err := Parse(b); err == nil && Verify(s, namespace, message) == nil {
						t.Errorf("byte %d of %d is %#x for %#x, and it is verified", i, len(b), b[i], good[i])
					}
				}
			}
			// In the armour only white space may be another.
			for i := range armored {
				b := bytes.Clone(armored)
				b[i] ^= 0x15
				s, err := Parse(b)
				if err == nil && Verify(s, namespace, message) == nil && armored[i] != '\n' {
					t.Errorf("byte %d of the armour is %q for %q, and it is verified", i, b[i], armored[i])
				}
			}
			for i := range message {
				m := bytes.Clone(message)
				m[i] ^= 1
				if err := Verify(s, namespace, m); !errors.Is(err, ErrMismatch) {
					t.Errorf("byte %d of the message is another: %v", i, err)
				}
			}
		})
	}
}

func TestSecurityKeys(t *testing.T) {
	for _, kind := range []string{ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256} {
		for _, tt := range []struct {
			name     string
			flags    byte
			want     error
			verified bool
		}{
			{"touched", sshsigtest.Present, nil, false},
			{"touched by a known one", sshsigtest.Present | sshsigtest.Verified, nil, true},
			{"not touched", 0, ErrPresence, false},
			{"known, but not touched", sshsigtest.Verified, ErrPresence, true},
			{"other flags", 0xf2, ErrPresence, false},
		} {
			t.Run(kind+", "+tt.name, func(t *testing.T) {
				key := sshsigtest.New(t, kind)
				key.Flags = tt.flags
				if _, err := Sign(key, namespace, nil); !errors.Is(err, tt.want) {
					t.Errorf("signed: %v, want %v", err, tt.want)
				}
				made, err := key.Sign(rand.Reader, signed(namespace, "sha512", nil))
				if err != nil {
					t.Fatal(err)
				}
				s, err := Parse(append([]byte(magic), ssh.Marshal(blob{version, key.PublicKey().Marshal(), namespace, nil, "sha512", ssh.Marshal(*made)})...))
				if err != nil {
					t.Fatal(err)
				}
				if err := Verify(s, namespace, nil); !errors.Is(err, tt.want) {
					t.Errorf("verified: %v, want %v", err, tt.want)
				}
				if (s.flags()&userVerified != 0) != tt.verified {
					t.Errorf("user verified: %v, want %v", s.flags()&userVerified != 0, tt.verified)
				}
				// Who sets a flag later breaks the signature.
				if s.made.Rest = bytes.Clone(s.made.Rest); tt.flags&userPresent == 0 {
					s.made.Rest[0] |= userPresent
				} else {
					s.made.Rest[0] ^= userVerified
				}
				if err := Verify(s, namespace, nil); !errors.Is(err, ErrMismatch) {
					t.Errorf("with flags of its own: %v, want %v", err, ErrMismatch)
				}
			})
		}
	}
}

// liar is a signer that answers with what it likes.
type liar struct {
	ssh.Signer
	answer func(data []byte) (*ssh.Signature, error)
}

func (l liar) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) { return l.answer(data) }

func TestSignRefuses(t *testing.T) {
	all := allSigners(t)
	ed, other := all["ed25519"], all["ecdsa-256"]
	cert := &ssh.Certificate{Key: ed.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, other); err != nil {
		t.Fatal(err)
	}
	certified, err := ssh.NewCertSigner(cert, ed)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("unplugged")
	tests := []struct {
		name      string
		signer    ssh.Signer
		namespace string
		want      error
	}{
		{"a certificate", certified, namespace, ErrAlgorithm},
		{"a signature of something else", liar{ed, func([]byte) (*ssh.Signature, error) { return ed.Sign(rand.Reader, []byte("x")) }}, namespace, ErrMismatch},
		{"another key's signature", liar{ed, func(d []byte) (*ssh.Signature, error) { return other.Sign(rand.Reader, d) }}, namespace, ErrAlgorithm},
		{"SHA-1 of an RSA key that knows no better", liar{all["rsa"], func(d []byte) (*ssh.Signature, error) {
			return all["rsa"].(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, d, ssh.KeyAlgoRSA)
		}}, namespace, ErrAlgorithm},
		{"an empty answer", liar{ed, func([]byte) (*ssh.Signature, error) { return &ssh.Signature{}, nil }}, namespace, ErrAlgorithm},
		{"an endless answer", liar{ed, func([]byte) (*ssh.Signature, error) {
			return &ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: make([]byte, 1<<20)}, nil
		}}, namespace, ErrFormat},
		{"no answer", liar{ed, func([]byte) (*ssh.Signature, error) { return nil, broken }}, namespace, broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Sign(tt.signer, tt.namespace, []byte("m"))
			if !errors.Is(err, tt.want) || b != nil {
				t.Errorf("%q, error %v, want %v", b, err, tt.want)
			}
		})
	}
	for _, n := range []string{"", "a\x00b"} {
		if _, err := Sign(ed, n, nil); err == nil {
			t.Errorf("it signs for the namespace %q", n)
		}
	}
}

func TestAccepts(t *testing.T) {
	for name, s := range allSigners(t) {
		if err := Accepts(s.PublicKey()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, tt := range []struct {
		name string
		key  ssh.PublicKey
	}{
		{"an RSA key that is bytes alone", bytesKey{ssh.KeyAlgoRSA, "rubbish"}},
		{"another under RSA's name", bytesKey{ssh.KeyAlgoRSA, string(allSigners(t)["ed25519"].PublicKey().Marshal())}},
		{"of no type", bytesKey{}},
	} {
		if err := Accepts(tt.key); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("%s: %v, want %v", tt.name, err, ErrAlgorithm)
		}
	}
}

// bytesKey is a key as an agent lists it.
type bytesKey struct{ kind, wire string }

func (k bytesKey) Type() string                        { return k.kind }
func (k bytesKey) Marshal() []byte                     { return []byte(k.wire) }
func (k bytesKey) Verify([]byte, *ssh.Signature) error { return errors.New("cannot") }

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.sig")
	if err != nil || len(files) == 0 {
		f.Fatal("no corpus", err)
	}
	for _, file := range files {
		armored := testdata(f, filepath.Base(file))
		f.Add(armored)
		if block, _ := pem.Decode(armored); block != nil {
			f.Add(block.Bytes)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrAlgorithm) {
				t.Errorf("error %v of no kind", err)
			}
			if s.PublicKey() != nil {
				t.Error("a signature beside an error")
			}
			return
		}
		if bytes.HasPrefix(b, []byte(magic)) && !bytes.Equal(b, s.Marshal()) {
			t.Errorf("%x is written again as %x", b, s.Marshal())
		}
		again, err := Parse(Armor(s))
		if err != nil || !bytes.Equal(again.Marshal(), s.Marshal()) {
			t.Errorf("%q is read again as %q: %v", Armor(s), again.Marshal(), err)
		}
		if Accepts(s.PublicKey()) != nil || s.namespace == "" {
			t.Errorf("taken: %q", b)
		}
		if err := Verify(s, s.namespace, []byte("nobody signed this")); !errors.Is(err, ErrMismatch) && !errors.Is(err, ErrPresence) {
			t.Errorf("verified: %v", err)
		}
	})
}
