package config

import (
	"regexp"
	"slices"
	"strings"
)

// What is wrong is shown with its line; a line that may hold a secret is not. The file may be
// so wrong that there are no keys to go by, so this looks at the text alone: below notify
// only lines are shown whose keys are all known to hold no secret, elsewhere all but those
// that look as if they did.

var (
	notifyKey = regexp.MustCompile(`(^|[\s{,"'])notify["']?\s*:`)
	// secretKey is a key of notify that holds a secret, or what is nearly one, wherever it stands.
	secretKey = regexp.MustCompile(`(?i)(\b(url|token)|(\b|_)(pass(word|wd|phrase)?|secret))["']?\s*[:=]`)
	// secretText is what webhooks, bots, tokens and URLs with a password look like.
	secretText = regexp.MustCompile(`(?i)hooks\.slack\.com|/api/webhooks/|\b[0-9]{6,}:[a-z0-9_-]{30,}|\btk_[a-z0-9]{20,}|://[^/@\s"']*:[^@\s]*@`)
	// suspect is what part of a line below notify hides the whole.
	suspect = regexp.MustCompile(`(?i)pas|sec|tok|pw|url|key|://|smtp["']?\s*:[^,}]*@`)
	// openKey is a key that holds no secret, with a space or the end after its colon.
	openKey = regexp.MustCompile(`^(notify|language|lookup|private|weekly|events|per_hour|digest|quiet|to|from|smtp|tls|user|timeout|chat)$`)
	// openChannel is a channel whose keys follow, or are below it.
	openChannel = regexp.MustCompile(`\b(mail|webhook|slack|discord|telegram|ntfy|command)["']?\s*:\s*(\{|#|$|no\b|off\b|false\b)`)
	// anyKey is a word before a colon that is not that of a port.
	anyKey = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_-]*)["']?\s*:(\D|$)`)
	// firstKey is a line that begins with a key.
	firstKey = regexp.MustCompile(`^[\s{-]*["']?[A-Za-z_]+["']?\s*:`)
	wholeKey = regexp.MustCompile(`^[\s{-]*["']?[A-Za-z_]+["']?\s*:(\s|$)`)
	openItem = regexp.MustCompile(`^\s*- \S`)
	// openList is a key whose items may stand on lines of their own.
	openList = regexp.MustCompile(`\b(to|events|private|quiet)["']?\s*:\s*(#.*)?$`)
)

// maxOpenLine is how long a line below notify may be that is looked through: nobody writes
// longer ones.
const maxOpenLine = 4096

// secretLines returns what tells whether a line, counted from 1, may hold a secret of
// notify.
func secretLines(lines []string) func(line int) bool {
	within := make([]bool, len(lines)+1)
	block := section{} // of notify
	below := section{} // what is below a secret's key
	list := false      // items of an open list follow
	for i, line := range lines {
		if strings.TrimSpace(line) == "" {
			continue
		}
		in := block.goesOn(line)
		under := below.goesOn(line)
		if !in && notifyKey.MatchString(line) {
			block.begin(line)
			in = true
		}
		show := !secretKey.MatchString(line) && !secretText.MatchString(line)
		if !show {
			below.begin(line)
		}
		if in && len(line) > maxOpenLine {
			show = false
		}
		if in && show {
			show = openLine(line) || list && openItem.MatchString(line) && !anyKey.MatchString(line) && !suspicious(line)
		}
		list = in && show && (openList.MatchString(line) || list && openItem.MatchString(line))
		within[i+1] = !show || under
	}
	return func(line int) bool { return within[line] }
}

func suspicious(line string) bool {
	return suspect.MatchString(strings.ReplaceAll(strings.ToLower(line), "tokyo", ""))
}

// openLine reports whether a line below notify begins with a key, and has only keys that
// hold no secret.
func openLine(line string) bool {
	if strings.HasPrefix(strings.TrimSpace(line), "#") || !firstKey.MatchString(line) || suspicious(line) {
		return false
	}
	rest := openChannel.ReplaceAllString(line, "$2")
	return !slices.ContainsFunc(anyKey.FindAllStringSubmatch(rest, -1), func(m []string) bool { return !openKey.MatchString(m[1]) })
}

// section is a line and what is indented deeper, or within its brackets, or no key: the end of
// a text that came apart.
type section struct {
	open     bool
	indent   int
	brackets int
}

func (s *section) begin(line string) {
	*s = section{open: true, indent: indentOf(line), brackets: brackets(line)}
}

func (s *section) goesOn(line string) bool {
	if s.open && s.brackets <= 0 && indentOf(line) <= s.indent && wholeKey.MatchString(line) {
		s.open = false
	}
	if s.open {
		s.brackets += brackets(line)
	}
	return s.open
}

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " -")) }

func brackets(line string) int {
	return strings.Count(line, "{") + strings.Count(line, "[") - strings.Count(line, "}") - strings.Count(line, "]")
}

// secretive reports whether what is at a path may be a secret in the wrong place.
func secretive(path string) bool { return path == "notify" || strings.HasPrefix(path, "notify.") }

const noSuchKey = "such key"

var plainKey = regexp.MustCompile(`^[A-Za-z][A-Za-z_-]{0,30}$`)

// unknownKey shows a key that nobody knows. Where a secret has lost its key or the space
// after a colon, it reads as one: neither it nor its line is shown then.
func (d *decoder) unknownKey(path string, e entry, near string) string {
	name := e.key.text
	lost := secretive(path) && near == "" && (e.value.kind == absent || !plainKey.MatchString(name))
	if lost || secretKey.MatchString(name) || secretText.MatchString(name) {
		d.hide(e.key.line)
		return noSuchKey
	}
	return "key " + quote(join(path, name))
}

// keyTwice shows a key that is there twice, as unknownKey does.
func (d *decoder) keyTwice(path string, e entry, keys group) string {
	if names := keys.names(); !slices.Contains(names, e.key.text) && d.unknownKey(path, e, Nearest(e.key.text, names)) == noSuchKey {
		return "a key"
	}
	return quote(join(path, e.key.text))
}
