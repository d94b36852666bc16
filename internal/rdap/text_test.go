package rdap

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "Example Inc.", "Example Inc."},
		{"white space", "  a\r\n\tb\u2028c\u00a0d ", "a b c d"},
		{"a command of mail(1)", " ~ ~!sh ~r", "!sh ~r"},
		{"controls and directions", "a\x00\x1b[0m\u202e\u2066\u200b\x7f", `a\x00\x1b[0m\u202e\u2066\u200b\x7f`},
		{"not UTF-8", "a\xff", `a\xff`},
		{"100 characters", strings.Repeat("é", 100), strings.Repeat("é", 100)},
		{"101 characters", strings.Repeat("é", 101), strings.Repeat("é", 99) + "…"},
		{"cut within a character", strings.Repeat("関", 1000), strings.Repeat("関", 99) + "…"},
		{"it grows", strings.Repeat("\x00", 100), strings.Repeat(`\x00`, 24) + `\x0…`},
		{"nothing", "~ \r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := line(tt.in); got != tt.want || utf8.RuneCountInString(got) > maxText {
				t.Errorf("line(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestMailOf(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "abuse@example.com", "abuse@example.com"},
		{"of all characters", "Abuse.desk_1+x=y-z@a-b.Example.COM.", "Abuse.desk_1+x=y-z@a-b.example.com"},
		{"spaces around", " abuse@example.com ", "abuse@example.com"},
		{"long local part", strings.Repeat("a", 65) + "@example.com", ""},
		{"long domain", "a@" + strings.Repeat("aaaaaaa.", 32) + "com", ""},
		{"dots", "a..b@example.com", ""},
		{"first dot", ".a@example.com", ""},
		{"last dot", "a.@example.com", ""},
		{"underscore in the domain", "a@ex_ample.com", ""},
		{"percent hack", "a%victim.example@example.com", ""},
		{"bang path", "a!b@example.com", ""},
		{"angle brackets", "<a@example.com>", ""},
		{"header", "a@example.com\nBcc: b@example.com", ""},
		{"NUL", "a\x00@example.com", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mailOf(tt.in); got != tt.want {
				t.Errorf("mailOf(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestHostOf(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "Host-1.Example.com.", "host-1.example.com"},
		{"underscore", "_dmarc.example.com", "_dmarc.example.com"},
		{"no dot", "localhost", ""},
		{"an address", "192.0.2.1", ""},
		{"IPv6", "2001:db8::1", ""},
		{"empty label", "a..com", ""},
		{"hyphens at the ends", "-a.com", ""},
		{"long label", strings.Repeat("a", 64) + ".com", ""},
		{"markup", "<b>.example.com", ""},
		{"other letters", "exаmple.com", ""},
		{"nothing", "", ""},
		{"dots", "..", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := hostOf(tt.in); got != tt.want {
				t.Errorf("hostOf(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}
