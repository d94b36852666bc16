package iso3166

import (
	"errors"
	"sort"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, in, want string
		hint           string // a part of it
	}{
		{"code", "JP", "JP", ""},
		{"small letters", "jp", "JP", ""},
		{"Kosovo", "XK", "XK", ""},
		{"the United Kingdom", "uk", "", "GB"},
		{"Europe", "EU", "", "name the countries"},
		{"Asia", "AP", "", "name the countries"},
		{"nobody", "ZZ", "", "nobody can be let in"},
		{"gone", "AN", "", "did you mean"},
		{"letters swapped", "PJ", "", "JP (Japan)"},
		{"a name", "Japan", "", "JP (Japan)"},
		{"a name, misspelt", "Germny", "", "DE (Germany)"},
		{"three letters", "JPN", "", "JP (Japan)"},
		{"empty", "", "", "two letters"},
		{"one letter", "J", "", "two letters"},
		{"not ASCII", "日本", "", "two letters"},
		{"two bytes that are no letters", "é", "", ""},
		{"long", strings.Repeat("x", 1<<16), "", "two letters"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Parse(test.in)
			if test.want != "" {
				if err != nil || got.String() != test.want {
					t.Errorf("Parse(%q) = %s, %v", test.in, got, err)
				}
				return
			}
			unknown, ok := errors.AsType[*UnknownError](err)
			if !ok || !strings.Contains(unknown.Hint, test.hint) || unknown.Hint == "" || len(err.Error()) > 100 {
				t.Errorf("Parse(%q) = %v, %+v, want the hint %q", test.in, err, unknown, test.hint)
			}
		})
	}
}

// The lists are in order, without a code twice, and every line is a code, a blank
// and a name.
func TestCountries(t *testing.T) {
	for name, list := range map[string]string{"countries": countries, "notCountries": notCountries} {
		lines := strings.Split(strings.TrimSuffix(list, "\n"), "\n")
		if !sort.StringsAreSorted(lines) {
			t.Errorf("%s is not in order", name)
		}
		seen := make(map[string]bool)
		for _, line := range lines {
			if len(line) < 5 || !capital(line[0]) || !capital(line[1]) || line[2] != ' ' || seen[line[:2]] {
				t.Errorf("%s: %q", name, line)
				continue
			}
			seen[line[:2]] = true
			if got := Code([]byte(line[:2])).Name(); got != line[3:] {
				t.Errorf("Name() of %s = %q", line[:2], got)
			}
		}
		if name == "countries" && len(seen) != 249+1 { // ISO 3166-1's, and XK
			t.Errorf("there are %d countries", len(seen))
		}
	}
	if got := Code([]byte("QQ")).Name(); got != "" {
		t.Errorf("Name() of QQ = %q", got)
	}
}

func capital(c byte) bool { return 'A' <= c && c <= 'Z' }
