package message

import (
	"context"
	"strings"

	"sekisho/internal/notify"
	"sekisho/internal/notify/plain"
)

// document is a message before it is laid out. All of its strings are clean: no control
// characters, nothing invisible, nothing that turns the direction of writing; none is empty by
// intention but where it says so.
type document struct {
	lang     string
	level    notify.Level
	word     string // the level's, for people
	host     string // "" where no event says it
	title    string // what happened, in a line
	more     string // what the subject has after the title, and a section says below it; may be empty
	lead     []string
	figures  []figure
	sections []section
	brief    []string // what a chat has after the subject
	foot     string
}

// figure is a number that is seen first.
type figure struct{ number, label string }

// section is a part of a document with what is there of: paragraphs, rows, items, bans, the log,
// commands, in this order.
type section struct {
	title    string
	level    notify.Level // "": none of its own
	text     []string
	rows     []row
	items    []item
	head     banRow // of bans
	bans     []banRow
	log      []string
	commands []command
}

func (s *section) empty() bool {
	return len(s.text)+len(s.rows)+len(s.items)+len(s.bans)+len(s.log)+len(s.commands) == 0
}

// row says one thing.
type row struct{ label, value string }

// item is an event in a digest.
type item struct{ time, title, detail string }

// banRow is a ban in a digest; count and names may be empty, host is where the events are of several.
type banRow struct{ from, until, host, prefix, country, owner, attempts, count, names string }

// command is a line to type.
type command struct{ what, line string }

// add puts a section into d that has something to say.
func (d *document) add(s section) {
	if !s.empty() {
		d.sections = append(d.sections, s)
	}
}

func (d *document) subject() string {
	s := d.title
	if d.more != "" {
		s += ": " + d.more
	}
	if d.host != "" {
		s = "[" + d.host + "] " + s
	}
	return plain.Cut(s, maxSubject)
}

// heading is the title where nothing stands before it.
func (d *document) heading() string {
	if d.title != "" && d.title[0] >= 'a' && d.title[0] <= 'z' {
		return string(d.title[0]-'a'+'A') + d.title[1:]
	}
	return d.title
}

func (d *document) html() string {
	var b strings.Builder
	if err := page(d).Render(context.Background(), &b); err != nil {
		return "" // a strings.Builder takes all: without HTML the text stands alone
	}
	return b.String()
}

// short is the subject and a few lines.
func (d *document) short() string {
	lines := []string{d.subject()}
	left := maxShort - len([]rune(lines[0]))
	for _, line := range d.brief {
		line = plain.Cut(line, maxSubject)
		if left -= 1 + len([]rune(line)); left < 0 {
			break
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// where is whose b's prefix is and on which host it was banned, as far as that is said.
func (b *banRow) where() string {
	var list []string
	for _, s := range []string{b.owner, b.country, b.host} {
		if s != "" {
			list = append(list, s)
		}
	}
	return strings.Join(list, " · ")
}
