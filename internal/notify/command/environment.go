package command

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sekisho/internal/notify"
	"sekisho/internal/notify/plain"
)

// maxValue is how many characters a variable has at most.
const maxValue = 1000

// variable is one that a program gets. Of an event the message must have exactly one; where there
// is more, or nothing to tell, it is empty.
type variable struct {
	name  string
	what  string // for docs/notify.md
	value func(m notify.Message, host string) string
}

// of makes the value of the one event.
func of(f func(e notify.Event) string) func(notify.Message, string) string {
	return func(m notify.Message, _ string) string {
		if len(m.Events) != 1 || m.More != 0 {
			return ""
		}
		return f(m.Events[0])
	}
}

func ban(f func(b *notify.BanFacts) string) func(notify.Message, string) string {
	return of(func(e notify.Event) string {
		if e.Ban == nil {
			return ""
		}
		return f(e.Ban)
	})
}

func owner(f func(o *notify.Owner) string) func(notify.Message, string) string {
	return of(func(e notify.Event) string {
		if e.Owner == nil {
			return ""
		}
		return f(e.Owner)
	})
}

// variables are all of them, in the order of docs/notify.md. Their names are an interface.
func variables() []variable {
	return []variable{
		{"SEKISHO_ID", "the message's; the same when it is sent again", func(m notify.Message, _ string) string { return m.ID }},
		{"SEKISHO_HOST", "this host", func(_ notify.Message, host string) string { return host }},
		{"SEKISHO_LEVEL", "`info`, `warning` or `alarm`: that of the worst event", func(m notify.Message, _ string) string { return string(m.Level) }},
		{"SEKISHO_SUBJECT", "one line for people, in their language", func(m notify.Message, _ string) string { return m.Subject }},
		{"SEKISHO_EVENTS", "how many events it tells of", func(m notify.Message, _ string) string { return strconv.Itoa(len(m.Events) + m.More) }},
		{"SEKISHO_KIND", "of the event, such as `ban`; of several, `digest`", func(m notify.Message, _ string) string {
			if len(m.Events) != 1 || m.More != 0 {
				return "digest"
			}
			return string(m.Events[0].Kind)
		}},
		{"SEKISHO_STATE", "how far it has come: `began`, `confirmed`, `reverted`, `over`", of(func(e notify.Event) string { return string(e.State) })},
		{"SEKISHO_TIME", "when it happened, RFC 3339, UTC", of(func(e notify.Event) string { return instant(e.Time) })},
		{"SEKISHO_WHAT", "what happened, one sentence, English", of(func(e notify.Event) string { return e.What })},
		{"SEKISHO_REMEDY", "what to do about it", of(func(e notify.Event) string { return e.Remedy })},
		{"SEKISHO_KEY", "what it is about", of(func(e notify.Event) string { return e.Key })},
		{"SEKISHO_ADDR", "the address that was banned, or logged in from; of a prefix, its first", of(func(e notify.Event) string {
			switch {
			case e.Ban != nil && e.Ban.Prefix.IsValid():
				return e.Ban.Prefix.Addr().String()
			case e.Login != nil && e.Login.Addr.IsValid():
				return e.Login.Addr.String()
			}
			return ""
		})},
		{"SEKISHO_PREFIX", "what was banned, such as `203.0.113.7/32`", ban(func(b *notify.BanFacts) string { return prefix(b.Prefix) })},
		{"SEKISHO_USER", "who logged in, or the name that was tried most", of(func(e notify.Event) string {
			switch {
			case e.Login != nil:
				return e.Login.User
			case e.Ban != nil && len(e.Ban.Users) > 0:
				return e.Ban.Users[0].Name
			}
			return ""
		})},
		{"SEKISHO_COUNTRY", "of the address, ISO 3166-1 alpha-2", of(func(e notify.Event) string {
			if e.Login != nil && e.Login.Country != "" {
				return e.Login.Country
			}
			if e.Owner != nil {
				return e.Owner.Country
			}
			return ""
		})},
		{"SEKISHO_UNTIL", "the end of a ban, RFC 3339, UTC; empty where it has none", ban(func(b *notify.BanFacts) string { return instant(b.Until) })},
		{"SEKISHO_CAUSE", "of a ban: `attempts`, `escalation`, `distributed`, `manual`", ban(func(b *notify.BanFacts) string { return b.Cause })},
		{"SEKISHO_REASON", "of a ban by hand, as its author gave it", ban(func(b *notify.BanFacts) string { return b.Reason })},
		{"SEKISHO_ATTEMPTS", "how many attempts led to a ban", ban(func(b *notify.BanFacts) string { return strconv.Itoa(b.Attempts) })},
		{"SEKISHO_COUNT", "how many bans the prefix has had, this one included", ban(func(b *notify.BanFacts) string { return strconv.Itoa(b.Count) })},
		{"SEKISHO_ENFORCED", "`true` where the ban is in the kernel", ban(func(b *notify.BanFacts) string { return strconv.FormatBool(b.Enforced) })},
		{"SEKISHO_OWNER", "whose the address is, as a registry says", owner(func(o *notify.Owner) string { return o.Name })},
		{"SEKISHO_NETWORK", "the name of its network", owner(func(o *notify.Owner) string { return o.Network })},
		{"SEKISHO_ASN", "the number of its autonomous system", owner(func(o *notify.Owner) string {
			if o.ASN == 0 {
				return ""
			}
			return strconv.FormatUint(uint64(o.ASN), 10)
		})},
		{"SEKISHO_REVERSE", "its name in DNS, where that name has the address, too", owner(func(o *notify.Owner) string { return o.Reverse })},
		{"SEKISHO_ABUSE", "where to complain; several by commas", owner(func(o *notify.Owner) string { return strings.Join(o.Abuse, ",") })},
		{"SEKISHO_BANS", "of an attack: how many bans", of(func(e notify.Event) string {
			if e.Attack == nil {
				return ""
			}
			return strconv.Itoa(e.Attack.Bans)
		})},
	}
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func prefix(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// environment is all that a program has in its environment: nothing of ours but LANG.
func environment(m notify.Message, host string) []string {
	lang := os.Getenv("LANG")
	if lang == "" {
		lang = "C.UTF-8"
	}
	env := []string{"PATH=" + path, "LANG=" + clean(lang)}
	for _, v := range variables() {
		env = append(env, v.name+"="+clean(v.value(m, host)))
	}
	return env
}

// clean is a value on one line: control characters and what turns the direction of writing are
// taken out, and it is cut.
func clean(s string) string {
	if limit := 4 * maxValue; len(s) > limit {
		s = s[:limit]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
	return plain.Cut(strings.TrimSpace(s), maxValue)
}
