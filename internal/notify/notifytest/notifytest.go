// Package notifytest has what the tests of all channels are given. Only tests import it.
package notifytest

import (
	"net/netip"
	"strings"
	"time"

	"sekisho/internal/notify"
)

// Hostile is what somebody may have got into an event.
func Hostile() []string {
	return []string{
		"a\r\nBcc: evil@example.net\r\n\r\nbody", "a\nb\n.\nQUIT\n", "\r\n.\r\nMAIL FROM:<x@y>\r\n", "nul\x00byte", "\x1b[2J\x1b]0;title\x07",
		"\u202egnp.exe\u2066", "'\";`$(id)`|&&", "<script>alert(1)</script><img src=x onerror=y>", "<!channel> <@U1> *b* _i_ ~s~ `c` @everyone",
		"~!id", "=?utf-8?Q?=0D=0ABcc:_evil?=", "\xff\xfe\xc3", strings.Repeat("n", 1<<20), strings.Repeat("関", 1<<18), strings.Repeat("\r\n", 1<<16), " \t ", "",
		strings.Repeat("a ", 500), "--boundary\r\nContent-Type: text/html", "\u2028\u2029\u0085",
	}
}

// Ban is a ban of which every text is s.
func Ban(s string) notify.Event {
	from := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	tried := []notify.Tried{{Name: s, Count: 3}}
	return notify.Event{
		Kind: notify.Ban, Level: notify.Warning, Time: from, Host: s, What: s, Remedy: s, Key: s,
		Ban: &notify.BanFacts{
			Prefix: netip.MustParsePrefix("203.0.113.7/32"), From: from, Until: from.Add(time.Hour), Cause: "attempts", Reason: s, Holder: s,
			Attempts: 5, Count: 2, Enforced: true, Users: tried, Kinds: tried, Lines: []string{s},
		},
		Owner: &notify.Owner{Name: s, Network: s, ASN: 64496, ASName: s, Country: s, Abuse: []string{s}, Reverse: s, Source: s},
	}
}

// Message is a message of which every text is s: unfit for any place, for nobody has cleaned it.
func Message(s string) notify.Message {
	return notify.Message{
		ID: "01HZX", Subject: s, Text: s, HTML: "<p>" + strings.ToValidUTF8(s, "?") + "</p>", Short: s,
		Level: notify.Warning, Events: []notify.Event{Ban(s)},
	}
}
