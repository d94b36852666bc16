package api

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Namespaces of signatures (PROTOCOL.sshsig): a signature for one is worth nothing in
// another.
const (
	Namespace     = "sekisho"
	HostNamespace = "sekisho-host"
)

// The headers of a signed request, all needed.
const (
	HeaderTime      = "Sekisho-Time"      // RFC 3339, to the second, UTC
	HeaderNonce     = "Sekisho-Nonce"     // 16 to 64 letters and digits, never twice
	HeaderSignature = "Sekisho-Signature" // the SSHSIG blob in base64, on one line
)

// Skew is how far the clocks of a gate and of who signs may be apart.
const Skew = 2 * time.Minute

// Signed is what a request's signature is over.
type Signed struct {
	Method string // GET, POST, ...
	URL    string // all of it, as the gate's configuration has its beginning: https://gate.example.com/api/v1/doors
	Time   string // as the header has it
	Nonce  string
	Body   []byte
}

// Text is what is signed: five lines, each with a line feed, that a shell can write too.
func (s Signed) Text() []byte {
	sum := sha256.Sum256(s.Body)
	return []byte(strings.Join([]string{
		"sekisho gate request 1",
		s.Method + " " + s.URL,
		s.Time,
		s.Nonce,
		hex.EncodeToString(sum[:]),
	}, "\n") + "\n")
}
