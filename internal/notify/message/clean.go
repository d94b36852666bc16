package message

import (
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"sekisho/internal/notify"
	"sekisho/internal/printable"
)

// clean makes s one line of text of at most columns columns that obeys nobody. Its bytes are
// bounded too, which characters without width would not be by columns.
func clean(s string, columns int) string {
	most := 4 * columns
	whole := true
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s, whole = s[:most], false
	}
	s = strings.TrimSpace(printable.Text(s))
	if !whole && printable.Width(s) < columns {
		s += "…"
	}
	return printable.Cut(s, columns)
}

// plainName reports whether a user's name is read as one, and never as more than that.
func plainName(s string) bool {
	if s == "" || len(s) > 32 || s[0] == '-' || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// typable reports whether a user's name may stand in a command: a shell takes it as it is, and
// nothing takes it for an option or a number.
func typable(s string) bool { return plainName(s) && (s[0] < '0' || s[0] > '9') }

// name is a user's name in a sentence: in quotes unless nobody could take it for more.
func (w *writer) name(s string, columns int) string {
	switch {
	case plainName(s):
		return clean(s, columns)
	case s == "":
		return w.Nameless()
	}
	return `"` + clean(strings.ReplaceAll(s, `"`, `\"`), columns-2) + `"`
}

// user is a user's name beside its label, where quotes would be in the way.
func (w *writer) user(s string) string {
	if s == "" {
		return w.Nameless()
	}
	return clean(s, 120)
}

// names are the first few that were tried, for a headline; "" where none is known.
func (w *writer) names(tried []notify.Tried) string {
	const few = 3
	var list []string
	for _, t := range tried[:min(len(tried), few)] {
		list = append(list, w.name(t.Name, 24))
	}
	return w.List(list, len(tried) > few)
}

// counted are names or kinds with how often.
func (w *writer) counted(tried []notify.Tried, word func(string) string) string {
	var list []string
	for _, t := range tried[:min(len(tried), maxNames)] {
		list = append(list, w.Counted(word(t.Name), printable.Grouped(t.Count)))
	}
	return w.List(list, len(tried) > maxNames)
}

func (w *writer) tried(users []notify.Tried) string {
	return w.counted(users, func(s string) string { return w.name(s, 40) })
}

func (w *writer) kinds(kinds []notify.Tried) string {
	return w.counted(kinds, func(s string) string {
		if words, ok := w.Message(s); ok {
			return words
		}
		return clean(s, 40)
	})
}

func (w *writer) countries(places []notify.Tried) string {
	return w.counted(places, w.country)
}

// country is a country's name with its code.
func (w *writer) country(code string) string {
	if name := w.Country(code); name != "" {
		return name + " (" + code + ")"
	}
	return clean(code, 20)
}

// time is t in the zone of the host, to the second, with the offset.
func (w *writer) time(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return w.in(t).Format("2006-01-02 15:04:05 -07:00")
}

// minute is t in tables, where the day and the offset are said elsewhere.
func (w *writer) minute(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return w.in(t).Format("01-02 15:04")
}

// in is t in the zone of the host, or, in a year that no calendar has, the nearest one's.
func (w *writer) in(t time.Time) time.Time {
	switch year := t.Year(); {
	case year < 1:
		t = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)
	case year > 9998:
		t = time.Date(9998, 12, 30, 0, 0, 0, 0, time.UTC)
	}
	return t.In(w.zone)
}

// prefix is p as people and the command line write it.
func prefix(p netip.Prefix) string {
	if !p.IsValid() {
		return "-"
	}
	return printable.Prefix(p)
}

// bare is an address without a zone, which may be any text.
func bare(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	return a.WithZone("").String()
}
