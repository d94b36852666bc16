package firewall

import (
	"testing"

	"sekisho/internal/prefixset"
)

// The name of a set of countries' addresses follows from what is in it.
func TestCountryName(t *testing.T) {
	names := make(map[string]string)
	for _, text := range []string{"10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "2001:db8::/32"} {
		s, err := prefixset.Of(prefix(text))
		if err != nil {
			t.Fatal(err)
		}
		v4, v6 := split(s.Ranges())
		if len(v4)+len(v6) != 1 {
			t.Errorf("%s: split in %v and %v", text, v4, v6)
		}
		name := countryName("cc4", s.Ranges())
		if len(name) > 15 || names[name] != "" {
			t.Errorf("%s: named %q, as %q", text, name, names[name])
		}
		names[name] = text
		if again := countryName("cc4", s.Ranges()); again != name {
			t.Errorf("%s: named %q, then %q", text, name, again)
		}
	}
}
