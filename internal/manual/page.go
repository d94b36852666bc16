package manual

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// page is one page for man, in the language of man(7).
type page struct {
	b     strings.Builder
	fresh bool // nothing stands below the heading yet, which a paragraph needs no macro for
}

// Edition is what a page says of itself: the program's version, and a day, as 2026-11-30, or "".
type Edition struct{ Version, Day string }

// begin writes a page's head. The same source makes the same page.
func begin(name string, section int, edition Edition, short string) *page {
	p := &page{}
	fmt.Fprintf(&p.b, `.\" Generated: make man
.TH %q %d %q %q "Sekisho"
.nh
.ad l
`, strings.ToUpper(name), section, edition.Day, "sekisho "+edition.Version)
	p.section("NAME")
	p.write("%s \\- %s\n", roff(name), plain(short))
	return p
}

func (p *page) section(title string)    { p.write(".SH %q\n", title); p.fresh = true }
func (p *page) subsection(title string) { p.write(".SS %q\n", roff(title)); p.fresh = true }
func (p *page) bytes() []byte           { return []byte(p.b.String()) }

func (p *page) write(format string, args ...any) {
	fmt.Fprintf(&p.b, format, args...)
	p.fresh = false
}

// apart begins a paragraph.
func (p *page) apart() {
	if !p.fresh {
		p.write(".PP\n")
	}
}

// paragraph writes a paragraph with `code` in bold.
func (p *page) paragraph(text string) { p.apart(); p.write("%s\n", inline(text)) }

// item writes a term with what it is, as man shows flags.
func (p *page) item(term, text string) { p.write(".TP\n%s\n%s\n", term, inline(text)) }

// examples writes lines as they are typed.
func (p *page) examples(lines []string) {
	p.apart()
	p.write(".nf\n.RS 4\n")
	for _, line := range lines {
		p.write("%s\n", roff(line))
	}
	p.write(".RE\n.fi\n")
}

// bold is a term that is typed as it stands.
func bold(s string) string { return `\fB` + roff(s) + `\fP` }

// roff escapes a text that troff is to show as it is: on a line of its own, too.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

// plain is roff for prose: without `code` marks, and with hyphens as hyphens.
func plain(s string) string {
	s = strings.NewReplacer("`", "", `\`, `\e`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, "--", `\-\-`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

// inline is prose with its `code` in bold.
func inline(s string) string {
	var b strings.Builder
	for i, part := range strings.Split(s, "`") {
		switch {
		case i%2 == 1:
			b.WriteString(bold(part))
		case b.Len() > 0 && strings.HasPrefix(part, "."):
			b.WriteString(strings.TrimPrefix(plain(part), `\&`))
		default:
			b.WriteString(plain(part))
		}
	}
	return b.String()
}

func (p *page) flags(flags []Flag) {
	for _, f := range flags {
		term := bold(f.Name)
		if f.Short != "" {
			term = bold(f.Short) + ", " + term
		}
		if f.Value != "" {
			term += ` \fI` + roff(f.Value) + `\fP`
		}
		usage := f.Usage
		if f.Default != "" {
			usage += " (default: `" + f.Default + "`)"
		}
		p.item(term, usage)
	}
}

// see lists other pages, each once, in order.
func (p *page) see(pages map[string]int) {
	p.section("SEE ALSO")
	var all []string
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		all = append(all, fmt.Sprintf("%s(%d)", bold(name), pages[name]))
	}
	p.write("%s\n", strings.Join(all, ",\n"))
}

// Page is the name of a command's page; its own commands are in it, too.
func (c Command) Page() string { return strings.ReplaceAll(c.Path, " ", "-") }

// Pages are all pages of the commands by file name: sekisho.1, sekisho-apply.1, ...
func (p Program) Pages(edition Edition) map[string][]byte {
	pages := map[string][]byte{p.Name + ".1": p.overview(edition)}
	for _, chapter := range p.Chapters {
		for _, c := range chapter.Commands {
			related := map[string]int{p.Name: 1, p.Name + ".yaml": 5}
			for _, other := range chapter.Commands {
				if other.Path != c.Path {
					related[other.Page()] = 1
				}
			}
			pages[c.Page()+".1"] = p.page(c, edition, related)
		}
	}
	return pages
}

func (p Program) overview(edition Edition) []byte {
	g := begin(p.Name, 1, edition, p.Short)
	g.section("SYNOPSIS")
	g.write(`%s [\fIflags\fP] \fICOMMAND\fP ...`+"\n", bold(p.Name))
	g.section("DESCRIPTION")
	for _, text := range paragraphs(p.Long) {
		g.paragraph(text)
	}
	g.paragraph("Each command has a page of its own: `man " + p.Name + "-apply`.")
	for _, chapter := range p.Chapters {
		g.subsection(chapter.Title)
		for _, c := range chapter.Commands {
			g.item(fmt.Sprintf("%s(1)", bold(c.Page())), c.Short+".")
		}
	}
	g.section("OPTIONS")
	g.flags(p.Flags)
	g.section("EXIT STATUS")
	for _, e := range exits {
		g.item(bold(e[0]), e[1])
	}
	g.section("ENVIRONMENT")
	for _, e := range environment {
		g.item(bold(e[0]), e[1])
	}
	g.section("FILES")
	for _, e := range files {
		g.item(bold(e[0]), e[1])
	}
	g.see(map[string]int{p.Name + ".yaml": 5, p.Name + "-init": 1, p.Name + "-check": 1, p.Name + "-plan": 1, p.Name + "-apply": 1, "sshd_config": 5, "nft": 8})
	return g.bytes()
}

func (p Program) page(c Command, edition Edition, related map[string]int) []byte {
	g := begin(c.Page(), 1, edition, c.Short)
	g.section("SYNOPSIS")
	first := true
	c.walk(func(c Command) {
		if c.Group {
			return
		}
		if !first {
			g.write(".br\n")
		}
		first = false
		g.write("%s%s\n", bold(c.Path), roff(strings.TrimPrefix(c.usage(), c.Path)))
	})
	g.section("DESCRIPTION")
	c.describe(g)
	if len(c.Flags) > 0 {
		g.section("OPTIONS")
		g.flags(c.Flags)
	}
	if len(c.Examples) > 0 {
		g.section("EXAMPLES")
		g.examples(c.Examples)
	}
	if len(c.Commands) > 0 {
		g.section("COMMANDS")
		for _, sub := range c.Commands {
			sub.walk(func(sub Command) {
				g.subsection(strings.TrimPrefix(sub.usage(), p.Name+" "))
				sub.describe(g)
				g.flags(sub.Flags)
				if len(sub.Examples) > 0 {
					g.examples(sub.Examples)
				}
			})
		}
	}
	g.section("EXIT STATUS")
	g.paragraph("As of `" + p.Name + "`(1), where nothing else is said here.")
	g.see(related)
	return g.bytes()
}

func (c Command) describe(g *page) {
	for _, text := range paragraphs(c.text()) {
		g.paragraph(text)
	}
	if c.Needs != "" {
		g.paragraph("It needs " + c.Needs + ".")
	}
}

// What every command has in common; a test of package cli holds the codes to docs/exit-codes.md.
var (
	exits = [][2]string{
		{"0", "done; nothing is wrong"},
		{"1", "it was tried and did not work; the message says what to do now"},
		{"2", "wrong arguments or a wrong configuration file; nothing was tried"},
		{"3", "the daemon does not answer, or its control socket may not be opened; or the gate does not answer"},
		{"4", "`open` through a gate: it was asked for, and waits for somebody's yes"},
	}
	environment = [][2]string{
		{"SEKISHO_PERSON", "Whose request it is at a target, where it is not the login name."},
		{"SEKISHO_DEBUG", "`1` tells each call to AWS."},
		{"NO_COLOR", "No colours."},
		{"AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, ...", "As the command line of AWS takes them."},
		{"SSH_CONNECTION", "Where the session that a command is typed in comes from: whom `apply` must not lock out."},
	}
	files = [][2]string{
		{"/etc/sekisho/sekisho.yaml", "The configuration: `sekisho.yaml`(5)."},
		{"/var/lib/sekisho", "The state: bans, grants, the place in the log, the last confirmed rule set, country data."},
		{"/run/sekisho/sekisho.sock", "The daemon's control socket: root's and the group `sekisho`'s."},
		{"/usr/share/doc/sekisho", "The documents that these pages name, in docs, and sekisho.yaml, an example of the configuration; below /usr/local where no package brought them."},
	}
)
