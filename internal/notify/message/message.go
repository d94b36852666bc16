// Package message is how events read: in a list of mails (Subject), as text, as HTML, in a
// chat (Short), in English and Japanese. Pure: it sends nothing. Whoever sends may import it.
//
// Whatever an event holds may be an attacker's text. All of it goes through clean before it
// becomes part of a document, page.templ escapes for HTML what is left, and no link is made of
// anything. What a document has is decided once, here; text.go and page.templ only lay it out.
package message

import (
	"cmp"
	"slices"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/notify"
)

// What a message holds at most, whatever the events hold.
const (
	maxEvents  = 200 // of notify.Message.Events
	maxSubject = 200 // characters
	maxShort   = 1000
	maxNames   = 20 // names, kinds, countries
	maxSources = 50 // prefixes of an attack
	maxLog     = 20 // lines of the log
)

// Options say for whom a message is.
type Options struct {
	Language config.Language // English where it is none that is known
	ID       string          // of the message
	Command  string          // what one types to speak to the daemon: "" is "sekisho"
	Zone     *time.Location  // in which times are shown; nil is this host's
}

// Of is what is sent of events: of one its own message, of several, or where more than these
// happened, a digest. It keeps neither events nor anything in them from being changed afterwards,
// but for what Message.Events shares.
func Of(events []notify.Event, more int, o Options) notify.Message {
	if o.Command == "" {
		o.Command = "sekisho"
	}
	if o.Zone == nil {
		o.Zone = time.Local
	}
	w := writer{words: wordsOf(o.Language), command: clean(o.Command, 100), zone: o.Zone}

	if len(events) == 1 && events[0].Report != nil {
		return report(events[0], o)
	}
	var d document
	if len(events) == 1 && more <= 0 {
		d = w.one(&events[0])
	} else {
		d = w.digest(events, more)
	}
	kept := worstFirst(events)
	if len(kept) > maxEvents {
		more = max(more, 0) + len(kept) - maxEvents
		kept = kept[:maxEvents]
	}
	return notify.Message{
		ID:      o.ID,
		Subject: d.subject(),
		Text:    d.text(),
		HTML:    d.html(),
		Short:   d.short(),
		Level:   d.level,
		Events:  kept,
		More:    max(more, 0),
	}
}

// worstFirst orders events by level, those of a level as they were.
func worstFirst(events []notify.Event) []notify.Event {
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b notify.Event) int { return cmp.Compare(rank(b.Level), rank(a.Level)) })
	return sorted
}

func rank(l notify.Level) int {
	switch l {
	case notify.Alarm:
		return 2
	case notify.Warning:
		return 1
	}
	return 0
}

// known is l, or Info where l is no level.
func known(l notify.Level) notify.Level {
	switch rank(l) {
	case 2:
		return notify.Alarm
	case 1:
		return notify.Warning
	}
	return notify.Info
}

// report is a report as a message: what it says was made for it.
func report(e notify.Event, o Options) notify.Message {
	subject := clean(e.Report.Subject, maxSubject)
	return notify.Message{
		ID: o.ID, Subject: subject, Text: e.Report.Text, HTML: e.Report.HTML, Short: subject,
		Level: known(e.Level), Events: []notify.Event{e},
	}
}
