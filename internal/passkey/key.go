package passkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
)

// Algorithms of https://www.iana.org/assignments/cose.
const (
	algES256 = -7
	algEdDSA = -8
	algRS256 = -257
)

// algorithms are those that are offered, the best first: phones and browsers make ES256,
// Windows makes RS256 where its TPM knows nothing better.
var algorithms = [...]int64{algEdDSA, algES256, algRS256}

// The parameters of a COSE_Key (RFC 9052, section 7; RFC 9053, section 7; RFC 8230, section 4).
const (
	coseType      = 1
	coseAlgorithm = 3
	coseCurve     = -1 // the modulus, of RSA
	coseX         = -2 // the exponent, of RSA
	coseY         = -3

	typeOKP, typeEC2, typeRSA = 1, 2, 3
	curveP256, curveEd25519   = 1, 6
)

// key verifies the signatures of a passkey.
type key struct {
	ed ed25519.PublicKey
	ec *ecdsa.PublicKey
	rs *rsa.PublicKey
}

// parseKey reads a COSE_Key of one of the algorithms that are offered.
func parseKey(b []byte) (key, error) {
	if len(b) > maxKey {
		return key{}, refuse(Malformed, "a key of %d bytes", len(b))
	}
	object, rest, err := next(b, maxDepth)
	if err != nil {
		return key{}, refuse(Malformed, "the key: %v", err)
	}
	if object.major != majorMap || len(rest) != 0 {
		return key{}, refuse(Malformed, "the key is no map, or more than one")
	}
	parts := map[int64]item{}
	for label, value := range object.pairs() {
		if n, ok := label.integer(); ok {
			parts[n] = value
		}
	}
	kind, _ := parts[coseType].integer()
	algorithm, _ := parts[coseAlgorithm].integer()
	switch {
	case algorithm == algEdDSA && kind == typeOKP:
		return parseEd25519(parts)
	case algorithm == algES256 && kind == typeEC2:
		return parseP256(parts)
	case algorithm == algRS256 && kind == typeRSA:
		return parseRSA(parts)
	}
	return key{}, refuse(Algorithm, "a key of type %d for algorithm %d", kind, algorithm)
}

func (it item) bytes() []byte {
	if it.major != majorBytes {
		return nil
	}
	return it.content
}

func parseEd25519(parts map[int64]item) (key, error) {
	curve, _ := parts[coseCurve].integer()
	x := parts[coseX].bytes()
	if curve != curveEd25519 || len(x) != ed25519.PublicKeySize {
		return key{}, refuse(Algorithm, "an EdDSA key on curve %d, of %d bytes", curve, len(x))
	}
	return key{ed: ed25519.PublicKey(x)}, nil
}

func parseP256(parts map[int64]item) (key, error) {
	curve, _ := parts[coseCurve].integer()
	x, y := parts[coseX].bytes(), parts[coseY].bytes()
	if curve != curveP256 || len(x) != 32 || len(y) != 32 {
		return key{}, refuse(Algorithm, "an ES256 key on curve %d, of %d and %d bytes", curve, len(x), len(y))
	}
	point := append(append([]byte{4}, x...), y...) // uncompressed, SEC 1 section 2.3.3
	ec, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return key{}, refuse(Malformed, "the ES256 key is not on its curve")
	}
	return key{ec: ec}, nil
}

func parseRSA(parts map[int64]item) (key, error) {
	n, e := new(big.Int).SetBytes(parts[coseCurve].bytes()), new(big.Int).SetBytes(parts[coseX].bytes())
	if bits := n.BitLen(); bits < 2048 || bits > 4096 || n.Bit(0) == 0 {
		return key{}, refuse(Algorithm, "an RSA key of %d bits", bits)
	}
	if e.BitLen() > 31 || e.Cmp(big.NewInt(3)) < 0 || e.Bit(0) == 0 {
		return key{}, refuse(Algorithm, "an RSA key with an exponent that nobody uses")
	}
	return key{rs: &rsa.PublicKey{N: n, E: int(e.Int64())}}, nil
}

func (k key) verify(data, signature []byte) bool {
	switch {
	case k.ed != nil:
		return ed25519.Verify(k.ed, data, signature)
	case k.ec != nil:
		sum := sha256.Sum256(data)
		return ecdsa.VerifyASN1(k.ec, sum[:], signature)
	case k.rs != nil:
		sum := sha256.Sum256(data)
		return rsa.VerifyPKCS1v15(k.rs, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}
