package sshsig

import (
	"bytes"
	"encoding/base64"
	"fmt"
)

const (
	begin   = "-----BEGIN SSH SIGNATURE-----"
	end     = "-----END SSH SIGNATURE-----"
	columns = 70 // as ssh-keygen writes them, though PROTOCOL.sshsig says 76
)

// Armor writes a signature as ssh-keygen does, byte by byte. The zero Signature is nothing.
func Armor(s Signature) []byte {
	if s.key == nil {
		return nil
	}
	coded := []byte(base64.StdEncoding.EncodeToString(s.Marshal()))
	b := []byte(begin + "\n")
	for len(coded) > 0 {
		n := min(columns, len(coded))
		b, coded = append(append(b, coded[:n]...), '\n'), coded[n:]
	}
	return append(b, end+"\n"...)
}

// dearmor is the blob within. Lines may end in CRLF and be of any length; nothing but white space may follow.
func dearmor(b []byte) ([]byte, error) {
	body, ok := bytes.CutPrefix(b, []byte(begin))
	if !ok || !bytes.HasPrefix(body, []byte("\n")) && !bytes.HasPrefix(body, []byte("\r\n")) {
		return nil, fmt.Errorf("%w: it does not begin with the line %q", ErrFormat, begin)
	}
	coded, after, ok := bytes.Cut(body, []byte("\n"+end))
	if !ok {
		return nil, fmt.Errorf("%w: there is no line %q", ErrFormat, end)
	}
	if len(bytes.TrimSpace(after)) > 0 {
		return nil, fmt.Errorf("%w: something follows its last line", ErrFormat)
	}
	blob := make([]byte, base64.StdEncoding.DecodedLen(len(coded)))
	n, err := base64.StdEncoding.Strict().Decode(blob, coded) // which passes over line ends
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return blob[:n], nil
}
