package country

import (
	"fmt"

	"sekisho/internal/iso3166"
)

// Code is the code of a country. In a registry's file it may also be one that is
// no country: see iso3166.Parse.
type Code = iso3166.Code

// parseDataCode reads a code as it stands in a file of addresses. ok is false
// where it says that nobody knows.
func parseDataCode(s string) (c Code, ok bool, err error) {
	switch {
	case s == "" || s == "ZZ" || s == "??" || s == "-" || s == "*":
		return Code{}, false, nil
	case len(s) != 2 || !isCapital(s[0]) || !isCapital(s[1]):
		return Code{}, false, fmt.Errorf("%q is not the code of a country", clip(s))
	case s == "UK":
		return Code{'G', 'B'}, true, nil
	}
	// A code that we do not know is kept: countries are born.
	return Code{s[0], s[1]}, true, nil
}

func isCapital(c byte) bool { return 'A' <= c && c <= 'Z' }

// clip makes text of a file short enough for a message.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
