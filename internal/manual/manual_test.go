package manual

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMarkdownEscapes(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"flag", "with --all and (--no-wait)", "with `--all` and (`--no-wait`)"},
		{"code", "`a_b <c>` and a_b <c>", "`a_b <c>` and a\\_b \\<c>"},
		{"dashes", "a -- b", "a -- b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := markdown(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRoff(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"request", ".so /etc/passwd", `\&.so /etc/passwd`},
		{"backslash", `a\b`, `a\eb`},
		{"code", "see `a-b` for it", `see \fBa\-b\fP for it`},
		{"quote", "'TH", `\(aqTH`},
		{"code first", "`.x` y", `\fB\&.x\fP y`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := inline(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDocumentPage(t *testing.T) {
	got := string(DocumentPage("x", 5, Edition{}, "a file", `# Title

<!-- a remark -->

Some **strong** [text](to.md)
in two lines.

## Keys
| key | value | what it does |
|---|---|---|
| `+"`a.b`"+` | yes \| no | turns it on |

- an item
  goes on

`+"```yaml\nversion: 1\n```\n", map[string]int{"y": 1}))
	_, got, _ = strings.Cut(got, ".SH \"DESCRIPTION\"\n")
	want := `Some strong text in two lines.
.SH "KEYS"
.TP
\fBa.b\fP
turns it on
.br
Value: yes | no
.IP \(bu 2
an item goes on
.PP
.nf
.RS 4
version: 1
.RE
.fi
.SH "SEE ALSO"
\fBy\fP(1)
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
