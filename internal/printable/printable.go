// Package printable makes text that others wrote fit to be shown: in a log line,
// in an error, on a terminal; and writes numbers for people. Pure; everything may import it.
package printable

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Text returns s with everything that a terminal would obey rather than show
// escaped as Go does: control characters (\x1b, \n), what turns the direction of
// writing (\u202e), invisible characters, bytes that are not UTF-8 (\xff). A
// backslash stays as it is: the result is for people, not for decoding.
func Text(s string) string {
	if IsPlain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		b.WriteString(Rune(r, s[i:i+n]))
		i += n
	}
	return b.String()
}

// Rune is Text for one rune r, read from raw.
func Rune(r rune, raw string) string {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		const digits = "0123456789abcdef"
		return `\x` + string(digits[raw[0]>>4]) + string(digits[raw[0]&15])
	case strconv.IsPrint(r):
		return raw
	}
	quoted := strconv.QuoteRuneToASCII(r)
	return quoted[1 : len(quoted)-1]
}

// IsPlain reports whether s is of printable ASCII alone: a column for each byte.
func IsPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Width is how many columns of a terminal s takes: two for each wide East Asian
// character, none for a combining mark. Tabs and controls count as one.
func Width(s string) int {
	if IsPlain(s) {
		return len(s)
	}
	columns := 0
	for _, r := range s {
		columns += runeWidth(r)
	}
	return columns
}

func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Cut shortens s to at most columns columns; what was cut is marked by "…".
func Cut(s string, columns int) string {
	if Width(s) <= columns {
		return s
	}
	used := 1 // the mark
	for i, r := range s {
		if used += runeWidth(r); used > columns {
			return s[:i] + "…"
		}
	}
	return s
}

// Prefix is p as people write it: a host without its length.
func Prefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
