package printable

import (
	"strconv"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "root from 1.2.3.4", "root from 1.2.3.4"},
		{"japanese", "管理者", "管理者"},
		{"escape sequence", "\x1b[31mred", `\x1b[31mred`},
		{"line end", "a\nb\r", `a\nb\r`},
		{"bidi override", "a\u202eb", `a\u202eb`},
		{"zero width", "a\u200bb", `a\u200bb`},
		{"other spaces", "a\u00a0b\u2028", `a\u00a0b\u2028`},
		{"invalid", "a\xffb\xc3", `a\xffb\xc3`},
		{"replacement character itself", "\ufffd", "\ufffd"},
		{"nul and del", "\x00\x7f", `\x00\x7f`},
		{"c1", "\u009b31m", `\u009b31m`},
		{"beyond the plane", "\U000e0001", `\U000e0001`},
		{"backslash", `a\b`, `a\b`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Text(tt.in); got != tt.want {
				t.Errorf("Text(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestWidth(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     int
	}{
		{"ascii", "abc", 3},
		{"wide", "関所", 4},
		{"halfwidth", "ｾｷ", 2},
		{"combining", "e\u0301", 1},
		{"latin", "né", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Width(tt.in); got != tt.want {
				t.Errorf("Width(%q) = %d, want %d", tt.in, got, tt.want)
			}
		})
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		columns  int
		want     string
	}{
		{"fits", "abc", 3, "abc"},
		{"cut", "abcd", 3, "ab…"},
		{"a wide one does not fit", "関所関所", 4, "関…"},
		{"nothing fits", "関所", 1, "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Cut(tt.in, tt.columns); got != tt.want {
				t.Errorf("Cut(%q, %d) = %q, want %q", tt.in, tt.columns, got, tt.want)
			}
		})
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x1b[2J\xff\u202e関")
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		if !utf8.ValidString(got) {
			t.Errorf("Text(%q) = %q is not UTF-8", s, got)
		}
		for _, r := range got {
			if !strconv.IsPrint(r) {
				t.Errorf("Text(%q) = %q holds %q", s, got, r)
			}
		}
		if w := Width(Cut(got, 10)); w > 10 {
			t.Errorf("Cut(%q, 10) is %d columns wide", got, w)
		}
	})
}
