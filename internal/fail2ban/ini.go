package fail2ban

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// option is one option as it stands in a file.
type option struct {
	text string // the lines of a continued one are joined by \n
	at   Place  // of its first line
}

// options are a section's, by name in small letters.
type options map[string]option

// section is one section of a file.
type section struct {
	name    string
	options options
}

// document is one file: [DEFAULT], and the other sections in the file's order.
type document struct {
	defaults options
	sections []section
}

const notStarted = "fail2ban does not start with that: correct it, then see what fail2ban-client -t says"

// parse reads a file as Python's configparser does with fail2ban's settings: comments are
// lines that begin with # or ;, and what follows a ; after a space. A line that is further in
// than the option before it continues that, and empty lines belong to it. = or : divides, names
// of options are in small letters, what is there twice is a mistake.
func parse(name, src string) (*document, error) {
	type draft struct {
		lines []string
		at    Place
	}
	type drafts = map[string]*draft
	defaults, sections := drafts{}, map[string]drafts{}
	var order []string
	var here drafts // of the section that lines are in; nil: there was none yet
	var last *draft // what a line may continue
	indent, n := 0, 0
	fail := func(format string, args ...any) error {
		return &Error{Place: Place{name, n}, Message: fmt.Sprintf(format, args...), Hint: notStarted}
	}
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	for line := range strings.SplitSeq(src, "\n") {
		n++
		text, commented := uncomment(line)
		if text == "" {
			if !commented && last != nil {
				last.lines = append(last.lines, "")
			}
			continue
		}
		in := leading(line)
		if last != nil && in > indent {
			last.lines = append(last.lines, text)
			continue
		}
		indent = in
		if header := headerOf(text); header != "" {
			last = nil
			switch {
			case header == "DEFAULT":
				here = defaults
			case sections[header] != nil:
				return nil, fail("section %s is there twice", quote(header))
			default:
				here = drafts{}
				sections[header] = here
				order = append(order, header)
			}
			continue
		}
		i := strings.IndexAny(text, "=:")
		switch {
		case here == nil:
			return nil, fail("%s stands before any section, such as [sshd]", quote(text))
		case i < 0:
			return nil, fail("%s is no option: there is no = in it", quote(text))
		}
		key := strings.ToLower(trim(text[:i]))
		switch before := here[key]; {
		case key == "":
			return nil, fail("%s has no name before the %c", quote(text), text[i])
		case before != nil:
			return nil, fail("%s is there twice; the first is on line %d", quote(key), before.at.Line)
		}
		last = &draft{lines: []string{trim(text[i+1:])}, at: Place{name, n}}
		here[key] = last
	}
	done := func(d drafts) options {
		res := options{}
		for key, o := range d {
			res[key] = option{strings.TrimRightFunc(strings.Join(o.lines, "\n"), isSpace), o.at}
		}
		return res
	}
	d := &document{defaults: done(defaults)}
	for _, name := range order {
		d.sections = append(d.sections, section{name, done(sections[name])})
	}
	return d, nil
}

// uncomment gives what is said on a line, and whether there was a comment.
func uncomment(line string) (text string, commented bool) {
	text = trim(line)
	if strings.HasPrefix(text, "#") || strings.HasPrefix(text, ";") {
		return "", true
	}
	space := true // what is before the line
	for i, r := range line {
		if r == ';' && space {
			return trim(line[:i]), true
		}
		space = isSpace(r)
	}
	return text, false
}

// headerOf is the name of the section that begins with text, "" if none does.
func headerOf(text string) string {
	end := strings.LastIndexByte(text, ']')
	if text[0] != '[' || end < 2 {
		return ""
	}
	return text[1:end]
}

// leading counts the characters before the first that is no space.
func leading(line string) (n int) {
	for _, r := range line {
		if !isSpace(r) {
			break
		}
		n++
	}
	return n
}

// isSpace is Python's str.isspace.
func isSpace(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }

func trim(s string) string { return strings.TrimFunc(s, isSpace) }

// sectionOf is a section of d by name; nil if there is none.
func (d *document) sectionOf(name string) options {
	i := slices.IndexFunc(d.sections, func(s section) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return d.sections[i].options
}

// conditional renames the options of a section such as [Init?family=inet6], which is [Init]
// with a condition at each of its options.
func (s section) conditional() section {
	name, condition, found := strings.Cut(s.name, "?")
	isWord := func(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }
	if !found || condition == "" || name == "" || strings.TrimFunc(name, isWord) != "" {
		return s
	}
	res := section{name, options{}}
	for key, o := range s.options {
		res.options[key+"?"+condition] = o
	}
	return res
}
