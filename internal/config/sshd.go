package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sekisho/internal/printable"
)

// settings are sshd's keywords and what they shall be.
type settings struct{ p *map[string]string }

// maxSetting bounds a value: sshd's longest, lists of algorithms or of addresses, are
// far below.
const maxSetting = 4096

func (v settings) text() string {
	keywords := slices.Sorted(maps.Keys(*v.p))
	texts := make([]string, len(keywords))
	for i, k := range keywords {
		texts[i] = k + ": " + settingText((*v.p)[k])
	}
	return "{" + strings.Join(texts, ", ") + "}"
}

// settingText writes a value so that it is read back the same: in quotes where YAML
// would take it for something else.
func settingText(s string) string {
	simple := strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/.") == ""
	if s == "" || !simple || slices.Contains([]string{"null", "Null", "NULL"}, s) || isBoolean(s) && s != "yes" && s != "no" {
		return Quote(s)
	}
	return s
}

// Quote writes s as a YAML scalar in double quotes, on one line, whatever it holds.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case printable.Rune(r, string(r)) == string(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (v settings) grammar() string {
	return "mapping of sshd's keywords to their values, or to `as_is`"
}

func (v settings) schema() object {
	return object{
		"type": []string{"object", "null"},
		// sshd takes its keywords in any case, and so does this; the list is for editors.
		"propertyNames":        object{"anyOf": []any{object{"enum": settable()}, object{"pattern": "^[A-Za-z0-9]+$"}}},
		"additionalProperties": object{"type": []string{"string", "integer", "boolean"}, "maxLength": maxSetting},
	}
}

func (v settings) decode(d *decoder, path string, n *node) {
	if n.kind == scalar || n.kind == list {
		d.refuse(path, n.place, "write it in braces: {X11Forwarding: no}", "%s where keywords and values are wanted", n.what())
		return
	}
	var res map[string]string
	first := map[string]entry{} // by what sshd takes for one keyword
	for _, e := range n.entries {
		keyword, ok := keywordOf(d, path, e.key)
		if !ok {
			continue
		}
		if before, twice := first[sameKeyword(keyword)]; twice {
			what := quote(e.key.text) + " is there twice"
			if !strings.EqualFold(before.key.text, e.key.text) {
				what = fmt.Sprintf("%s and %s are one setting", quote(before.key.text), quote(e.key.text))
			}
			d.refuse(path, e.key.place, fmt.Sprintf("keep one; the first is on line %d", before.key.line), "%s", what)
			continue
		}
		first[sameKeyword(keyword)] = e
		d.places[join(path, keyword)] = e.key.place
		if text, ok := settingOf(d, join(path, keyword), e.value); ok {
			if res == nil {
				res = map[string]string{}
			}
			res[keyword] = text
		}
	}
	if !d.bad[path] {
		*v.p = res
	}
}

// keywordOf reads a keyword and returns it as sshd_config(5) spells it.
func keywordOf(d *decoder, path string, n *node) (keyword string, ok bool) {
	if n.kind != scalar {
		d.refuse(path, n.place, "write `Keyword: value`", "%s is no keyword", n.what())
		return "", false
	}
	for known, why := range unsettable {
		if strings.EqualFold(known, n.text) {
			d.refuse(path, n.place, why, "%s cannot be set here", known)
			return "", false
		}
	}
	if i := slices.IndexFunc(keywords, func(k string) bool { return strings.EqualFold(k, n.text) }); i >= 0 {
		return keywords[i], true
	}
	hint := "the keywords are those of sshd_config(5)"
	if before, _, found := strings.Cut(n.text, ":"); found && slices.ContainsFunc(keywords, func(k string) bool { return strings.EqualFold(k, before) }) {
		hint = "write a space after the colon"
	} else if near := Nearest(n.text, keywords); near != "" {
		hint = "did you mean " + near + "?"
	}
	d.refuse(path, n.place, hint, "sshd has no keyword %s", quote(n.text))
	return "", false
}

// settingOf reads what a keyword shall be.
func settingOf(d *decoder, path string, n *node) (text string, ok bool) {
	if n.kind == absent {
		d.refuse(path, n.place, "write one, or "+AsIs+": it is left alone then", "there is no value")
		return "", false
	}
	if !scalarOf(d, path, n, "a value on one line", AsIs) {
		return "", false
	}
	if text = n.text; !n.quoted && isBoolean(text) {
		text = "no" // sshd's own words
		if slices.Contains(yes[:], n.text) {
			text = "yes"
		}
	}
	asIs := strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(text)) == "asis"
	switch {
	case asIs && text != AsIs:
		d.refuse(path, n.place, "write "+AsIs, "%s is not known", quote(text))
	case strings.ContainsFunc(text, func(r rune) bool { return printable.Rune(r, string(r)) != string(r) }):
		d.refuse(path, n.place, "write it on one line, with nothing in it that cannot be seen", "%s is not one line of plain text", quote(text))
	case strings.TrimSpace(text) != text || text == "":
		d.refuse(path, n.place, "write the value alone, or leave the keyword out", "%s is empty, or has spaces around it", quote(text))
	case len(text) > maxSetting:
		d.refuse(path, n.place, "", "is longer than %d bytes", maxSetting)
	default:
		why := malformed(text)
		if why != "" {
			d.refuse(path, n.place, `sshd reads the value as words, in quotes where they hold spaces: 'internal-sftp -d "/my files"'`, "%s %s", quote(text), why)
		}
		return text, why == ""
	}
	return "", false
}

// malformed says why sshd would not read the words of a line as they are meant; ""
// if it would. Quotes and comments are as argv_split of OpenSSH's misc.c takes them
// (9.9).
func malformed(line string) string {
	var open rune
	escaped, begins := false, true
	for _, r := range line {
		switch {
		case escaped:
			escaped = false
		case r == '\\':
			escaped = true
		case open != 0:
			if r == open {
				open = 0
			}
		case r == '"' || r == '\'':
			open = r
		case r == '#' && begins:
			return "holds a comment, which sshd does not read"
		}
		begins = open == 0 && (r == ' ' || r == '\t')
	}
	if open != 0 {
		return "has a quote that is not closed"
	}
	return ""
}

func (d *decoder) checkSSH(c *Config) {
	s := &c.SSH
	clash := func(named bool, key, value string, keywords ...string) {
		for _, k := range keywords {
			_, set := s.Settings[k]
			d.rule(named && set, "keep one of the two: leave "+k+" out, or "+key,
				fmt.Sprintf("%s is %s, and ssh.settings says it again with %s", key, value, k), join("ssh.settings", k), key)
		}
	}
	clash(s.RootLogin != RootLoginProfile, "ssh.root_login", s.RootLogin.String(), "PermitRootLogin")
	clash(s.PasswordLogin != PasswordLoginProfile, "ssh.password_login", s.PasswordLogin.String(),
		"PasswordAuthentication", "KbdInteractiveAuthentication", "ChallengeResponseAuthentication")
}
