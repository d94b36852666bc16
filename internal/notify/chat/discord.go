package chat

import (
	"fmt"
	"net/http"
	"strings"
	"unicode/utf16"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/outbound"
)

const (
	discordMax     = 2000   // characters; counted here as UTF-16 has them, which is never less
	suppressEmbeds = 1 << 2 // a flag of messages
)

// NewDiscord posts by a channel's webhook.
func NewDiscord(c config.Hook, client *outbound.Client) (*Sender, error) {
	if _, err := client.Parse(c.URL.Reveal()); err != nil {
		return nil, fmt.Errorf("discord: %w", err)
	}
	return &Sender{client: client, url: c.URL.Reveal(), header: http.Header{}, body: discord}, nil
}

func discord(m notify.Message) any {
	return map[string]any{
		"content":          fit(text(m), discordMax, escapeDiscord, units),
		"allowed_mentions": map[string]any{"parse": []string{}},
		"flags":            suppressEmbeds,
	}
}

// escapeDiscord puts a backslash before each character that can begin markup, a mention, an emoji
// or a link.
func escapeDiscord(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		bare := strings.TrimLeft(line, " ")
		indent := len(line) - len(bare)
		number := len(bare) - len(strings.TrimLeft(bare, "0123456789"))
		for i, r := range line {
			switch {
			case strings.ContainsRune("\\*_~`|<>[]@", r),
				r == ':' && (strings.HasPrefix(line[i:], "://") || emoji(line[:i])),
				i == indent && strings.ContainsRune("#-+", r), // a heading, a list
				number > 0 && i == indent+number && (strings.HasPrefix(line[i:], ". ") || strings.TrimSpace(line[i:]) == "."):
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}

// emoji reports whether a colon after before may end an emoji's name. What may be part of a time or
// of an IPv6 address is none.
func emoji(before string) bool {
	name := before[strings.LastIndexByte(before, ':')+1:]
	letter := func(r rune) bool {
		return r == '_' || r == '+' || r == '-' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	return len(name) < len(before) && strings.ContainsFunc(name, func(r rune) bool { return letter(r) && !strings.ContainsRune("abcdefABCDEF", r) }) &&
		!strings.ContainsFunc(name, func(r rune) bool { return !letter(r) && (r < '0' || r > '9') })
}

// units is how many UTF-16 has of a text.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}
