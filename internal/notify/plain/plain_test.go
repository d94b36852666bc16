package plain

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		max      int
		want     string
	}{
		{"plain", "root from 1.2.3.4", 100, "root from 1.2.3.4"},
		{"line ends", "a\r\nBcc: b\n\n c", 100, "a Bcc: b c"},
		{"other line ends", "a\u2028b\u2029c\vd\fe\u0085f", 100, "a b c d e f"},
		{"terminal", "\x1b[31mred\x00", 100, `\x1b[31mred\x00`},
		{"direction", "a\u202eb", 100, `a\u202eb`},
		{"not UTF-8", "a\xffb", 100, `a\xffb`},
		{"long", strings.Repeat("関", 10), 5, "関関関関…"},
		{"a megabyte", strings.Repeat("x", 1<<20), 5, "xxxx…"},
		{"a megabyte of spaces", strings.Repeat(" ", 1<<20), 5, ""},
		{"what fits", "関関関関関", 5, "関関関関関"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Line(tt.in, tt.max); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestText(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		max      int
		want     string
	}{
		{"lines", "a\n  b\n\nc\n", 100, "a\n  b\n\nc"},
		{"of other systems", "a\r\nb\rc", 100, "a\nb c"},
		{"tabs", "a\tb", 100, "a b"},
		{"terminal", "a\x1b]0;x\x07\nb\x00", 100, "a\\x1b]0;x\\a\nb\\x00"},
		{"spaces at the end", "a  \nb \n \n", 100, "a\nb"},
		{"a signature", "a \n-- \nb", 100, "a\n-- \nb"},
		{"nearly one", "--  \n-- -- \n", 100, "--\n-- --"},
		{"long", "abc\ndef", 5, "abc\n…"},
		{"not UTF-8", "a\xffb", 100, "a\ufffdb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Text(tt.in, tt.max); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		n        int
		want     string
	}{
		{"fits", "関所", 2, "関所"},
		{"cut", "関所は", 2, "関…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Cut(tt.in, tt.n); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestCutBytes(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		max      int
		want     string
	}{
		{"fits", "関所", 6, "関所"},
		{"between characters", "関所関", 6, "関…"},
		{"within a character", "関所関", 8, "関…"},
		{"no room", "関所", 2, "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := CutBytes(tt.in, tt.max); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSaid(t *testing.T) {
	got := Said("unknown: AUTH PLAIN AGFsYWRkaW4= \x1b[0m"+strings.Repeat("x", 9999), "AGFsYWRkaW4=", "", "a")
	if !strings.HasPrefix(got, `unknown: AUTH PLAIN <secret> \x1b[0mxxx`) || utf8.RuneCountInString(got) != SaidMax {
		t.Errorf("got %q", got)
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("a\r\nb\x00\u202e", 10)
	f.Add("\xff\xfe関所", 3)
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = 1 + (n&0xffff)%5000
		line, text := Line(s, n), Text(s, n)
		for _, got := range []string{line, strings.ReplaceAll(text, "\n", "")} {
			if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q", got)
			}
		}
		if utf8.RuneCountInString(line) > n || utf8.RuneCountInString(text) > n {
			t.Fatalf("%d and %d characters of %d", utf8.RuneCountInString(line), utf8.RuneCountInString(text), n)
		}
		if again := Line(line, n); again != line {
			t.Fatalf("%q is %q the second time", line, again)
		}
		if cut := CutBytes(text, n+3); len(cut) > n+3 || !utf8.ValidString(cut) {
			t.Fatalf("%q is too long", cut)
		}
	})
}
