package rdap

import (
	"slices"
	"strings"
	"unicode/utf8"

	"sekisho/internal/iso3166"
	"sekisho/internal/printable"
)

// Bounds of what an answer may say.
const (
	maxText   = 100 // characters of a name
	maxAbuse  = 5   // mail addresses
	maxMail   = 254 // bytes of one (RFC 5321)
	maxHost   = 253 // bytes of a host's name
	maxLooked = 1000
)

// line is s as one line of at most 100 characters that a terminal shows and does not obey. It
// never begins with a tilde: mail(1) runs what follows one (CVE-2021-32749), should a command
// of somebody's hand the text to it.
func line(s string) string {
	if len(s) > maxLooked {
		s = s[:maxLooked]
	}
	s = strings.TrimLeft(strings.Join(strings.Fields(s), " "), "~ ")
	s = printable.Text(s)
	if utf8.RuneCountInString(s) <= maxText {
		return s
	}
	count := 0
	for i := range s {
		if count++; count == maxText {
			return s[:i] + "…"
		}
	}
	return s
}

// countryOf is s as the code of a country, in capitals; "" where it is none.
func countryOf(s string) string {
	code, err := iso3166.Parse(strings.TrimSpace(s))
	if err != nil {
		return ""
	}
	return code.String()
}

// withMail adds s to the addresses, where it is one and they have room for it.
func withMail(all []string, s string) []string {
	if s = mailOf(s); s == "" || len(all) >= maxAbuse || slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}

// mailOf is s as one mail address of the plainest form, without quotes and comments, that is
// no option of a command either; "" where it is none.
func mailOf(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > len("mailto:") && strings.EqualFold(s[:len("mailto:")], "mailto:") {
		s = s[len("mailto:"):]
	}
	if len(s) > maxMail {
		return ""
	}
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || len(local) > 64 || strings.ContainsAny(local[:1], "-.") || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		return ""
	}
	for i := range len(local) {
		if c := local[i]; !isLetterOrDigit(c) && !strings.ContainsRune("._+-=", rune(c)) {
			return ""
		}
	}
	if strings.Contains(domain, "_") {
		return ""
	}
	if domain = hostOf(domain); domain == "" {
		return ""
	}
	return local + "@" + domain
}

// hostOf is s as the name of a host with a dot in it, in small letters and without the last dot;
// "" where it is none, or an address.
func hostOf(s string) string {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if len(s) > maxHost || !strings.Contains(s, ".") {
		return ""
	}
	var last string
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return ""
		}
		for i := range len(label) {
			if c := label[i]; !isLetterOrDigit(c) && c != '-' && c != '_' {
				return ""
			}
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return ""
	}
	return s
}

func isLetterOrDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
