// Package plain makes text fit to be sent: one line of it or several, without control
// characters, without what turns the direction of writing, no longer than it may be. Pure; the
// channels of package notify import it.
package plain

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"sekisho/internal/printable"
)

// SaidMax is how many characters of a server's words are kept.
const SaidMax = 500

// Line is s as one line of at most maxRunes characters: white space of any kind is one space, and
// what a terminal would obey is escaped as package printable does.
func Line(s string, maxRunes int) string {
	s = head(s, maxRunes)
	return Cut(printable.Text(strings.Join(strings.Fields(s), " ")), maxRunes)
}

// Text is s as lines, of at most maxRunes characters in all: line feeds stay, no line ends in a
// space but "-- ", below which a signature stands (RFC 3676, section 4.3), and there is no empty line
// at the end. All else is as in Line.
func Text(s string, maxRunes int) string {
	s = strings.ReplaceAll(head(s, maxRunes), "\r\n", "\n")
	var b strings.Builder
	for line := range strings.Lines(s) {
		line = strings.Map(func(r rune) rune {
			if unicode.IsSpace(r) {
				return ' '
			}
			return r
		}, strings.ToValidUTF8(line, "\ufffd"))
		if line = strings.TrimSuffix(line, " "); line != "-- " { // its line feed is a space by now
			line = strings.TrimRight(line, " ")
		}
		b.WriteString(printable.Text(line))
		b.WriteByte('\n')
	}
	return strings.TrimRight(Cut(strings.TrimRight(b.String(), "\n"), maxRunes), "\n ")
}

// Said is what a server said, as an error shows it: a line of at most SaidMax characters in
// which no secret stands.
func Said(words string, secrets ...string) string {
	return Line(Hide(words, secrets...), SaidMax)
}

// Hide replaces each secret in s. Secrets of fewer than four characters are left: they
// would be found where they are not.
func Hide(s string, secrets ...string) string {
	for _, secret := range secrets {
		if len(secret) >= 4 {
			s = strings.ReplaceAll(s, secret, "<secret>")
		}
	}
	return s
}

// Cut shortens s to at most maxRunes characters; what was cut is marked by "…".
func Cut(s string, maxRunes int) string {
	if len(s) <= maxRunes || utf8.RuneCountInString(s) <= maxRunes {
		return s
	}
	return first(s, maxRunes-1) + "…"
}

// CutBytes shortens s, which is UTF-8, to at most maxBytes bytes of it, and marks that likewise.
func CutBytes(s string, maxBytes int) string {
	if len(s) <= maxBytes {
		return s
	}
	end := maxBytes - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:max(end, 0)] + "…"
}

// head is the start of s that is worth looking at: more would be cut anyway.
func head(s string, maxRunes int) string {
	if limit := 4*maxRunes + 4; len(s) > limit {
		for limit > 0 && !utf8.RuneStart(s[limit]) {
			limit--
		}
		return s[:limit]
	}
	return s
}

// first is the first n characters of s.
func first(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}
