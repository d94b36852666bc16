package chat

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/outbound"
	"sekisho/internal/notify/plain"
)

const (
	telegramAPI = "https://api.telegram.org"
	telegramMax = 4096 // UTF-16 code units
)

// NewTelegram posts as a bot.
func NewTelegram(c config.Telegram, client *outbound.Client) (*Sender, error) {
	return newTelegram(c, client, telegramAPI)
}

func newTelegram(c config.Telegram, client *outbound.Client, api string) (*Sender, error) {
	token := c.Token.Reveal()
	if !regexp.MustCompile(`^[0-9]{1,20}:[A-Za-z0-9_-]{10,100}$`).MatchString(token) {
		return nil, errors.New("telegram: the token is not one: it looks like 123456789:AAE…")
	}
	if c.Chat == "" {
		return nil, errors.New("telegram: no chat is named")
	}
	_, secret, _ := strings.Cut(token, ":")
	return &Sender{
		client: client, url: api + "/bot" + token + "/sendMessage", header: http.Header{}, secrets: []string{token, secret},
		body: func(m notify.Message) any { return telegram(m, c.Chat) }, advise: adviseTelegram,
	}, nil
}

// telegram is text of which all is one preformatted piece: in any other Telegram finds links,
// commands, and people to mention, asked or not.
func telegram(m notify.Message, chat string) any {
	shown := fit(text(m), telegramMax, func(s string) string { return s }, units)
	return map[string]any{
		"chat_id":              chat,
		"text":                 shown,
		"entities":             []any{map[string]any{"type": "pre", "offset": 0, "length": units(shown)}},
		"link_preview_options": map[string]any{"is_disabled": true},
		"disable_notification": m.Level == notify.Info,
	}
}

// adviseTelegram reads Telegram's own answer, which says how long to wait.
func adviseTelegram(step *notify.Step, r outbound.Refusal) {
	var said struct {
		Description string `json:"description"`
		Parameters  struct {
			RetryAfter int   `json:"retry_after"`
			MigrateTo  int64 `json:"migrate_to_chat_id"`
		} `json:"parameters"`
	}
	if json.Unmarshal(r.Body, &said) != nil {
		return
	}
	switch {
	case r.Status == http.StatusTooManyRequests && said.Parameters.RetryAfter > 0 && r.After == 0:
		if refusal, ok := errors.AsType[*outbound.Refusal](step.Err); ok {
			refusal.After = min(time.Duration(said.Parameters.RetryAfter)*time.Second, 24*time.Hour)
			step.After = refusal.After
		}
	case said.Parameters.MigrateTo != 0:
		b, _ := json.Marshal(said.Parameters.MigrateTo)
		step.Hint = "the group has become a supergroup: set chat to " + string(b)
	case r.Status == http.StatusUnauthorized, r.Status == http.StatusNotFound:
		step.Hint = "the token is not that of a bot: ask @BotFather for it"
	case r.Status == http.StatusForbidden:
		step.Hint = "the bot is not in the chat any more, or nobody has begun to talk to it: send it /start"
	case r.Status == http.StatusBadRequest && strings.Contains(plain.Line(said.Description, 200), "chat not found"):
		step.Hint = "is chat right, and is the bot in it? Who is to be written to must have sent it /start"
	}
}
