package message

import (
	"time"

	"sekisho/internal/config"
	"sekisho/internal/notify"
)

// words are a language: what is said, in the order of a message. That each language has all of
// them the compiler sees; a language is a file. What comes in is clean, and in quotes where it must be.
type words interface {
	Lang() string                                // for HTML (BCP 47)
	Duration(d time.Duration) string             // in its two largest units
	List(items []string, more bool) string       // "a, b, …"
	Counted(name, n string) string               // how often a name was tried
	Nth(n int) string                            // of bans
	ThisIs(n int) string                         // which of the bans
	Country(code string) string                  // a country's name; "" where there is none
	Message(kind string) (words string, ok bool) // a kind of sshd's messages, as package sshlog has it
	Method(method, raw string) string            // how somebody logged in; raw where it is not known
	Cause(cause, raw string) string              // of a ban
	Nameless() string                            // an empty user name
	HostAnd(host string, more int) string        // several hosts
	NoEnd() string
	NoEndShort() string
	UntilFor(until, length string) string

	// Headlines, which are subjects too.
	Banned(who string, b *notify.BanFacts, names string) string
	Unbanned(who, holder string) string
	AttackBegan(bans, attempts int) string
	AttackEnded(bans, attempts int, lasted string) string
	LoggedIn(doubt bool, user, who string) string
	Headline(k notify.Kind, state notify.State, raw string) string // of any other event
	Digest(n int) string

	// What stands below a headline.
	BanLead(b *notify.BanFacts, lifted bool, until string) string
	AttackLead(ended bool) string
	LoginLead(doubt bool) string
	Lead(k notify.Kind) string // "": the headline says all
	Span(from, to string) string
	AttackAdvice(ended bool) string
	LoginAdvice() string

	// A digest's counts and levels.
	CountOf(k notify.Kind, n int) string  // with the number
	FigureOf(k notify.Kind, n int) string // without
	OthersOf(n int) string
	FigureOthers(n int) string
	Level(l notify.Level) string
	LevelTitle(l notify.Level) string
	BansTitle(l notify.Level) string
	AndMore(n int) string
	NotShown(n int) string
	More() string

	// Titles of sections.
	Who() string
	What() string
	Why() string
	Log() string
	Sources() string
	Do() string

	// Labels.
	LabelAddress() string
	LabelReverse() string
	LabelOwner() string
	LabelNetwork() string
	LabelAS() string
	LabelCountry() string
	LabelCC() string
	LabelAbuse() string
	LabelSource() string
	LabelCause() string
	LabelAttempts(cause string) string
	LabelTries() string
	LabelNames() string
	LabelKinds() string
	LabelPlaces() string
	LabelFrom() string
	LabelUntil() string
	LabelCount() string
	LabelNth() string
	LabelReason() string
	LabelBy() string
	LabelLifted() string
	LabelLiftedBy() string
	LabelBegan() string
	LabelEnded() string
	LabelLasted() string
	LabelUser() string
	LabelTime() string
	LabelMethod() string
	LabelBefore() string
	LabelHost() string
	FigureBans(n int) string
	FigureAttempts(n int) string

	// What commands do.
	DoUnban() string
	DoBanAgain() string
	DoWhy() string
	DoBans() string
	DoStatus() string
	DoCountry() string
	DoLeases() string
	DoReap() string
	DoWho() string
	DoPlanGroups() string
	DoJournal() string
	DoWhyLogin() string
	DoBanLogin() string
	DoEndSessions() string
	DoLock() string
	DoUnlock() string
	DoKeys() string

	Foot(host, at string) string
}

func wordsOf(l config.Language) words {
	if l == config.Japanese {
		return japanese{}
	}
	return english{}
}

// span is d in its two largest units, rounded to the second and down to these.
func span(d time.Duration) (first int, unit time.Duration, second int, lesser time.Duration) {
	d = max(d, 0).Round(time.Second)
	units := []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second}
	for i, u := range units {
		if d < u && u > time.Second {
			continue
		}
		if i+1 < len(units) {
			lesser = units[i+1]
			second = int(d % u / lesser)
		}
		return int(d / u), u, second, lesser
	}
	return 0, time.Second, 0, 0
}
