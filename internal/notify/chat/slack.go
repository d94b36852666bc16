package chat

import (
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/outbound"
)

const slackMax = 3000 // characters of a text object

// NewSlack posts by an incoming webhook.
func NewSlack(c config.Hook, client *outbound.Client) (*Sender, error) {
	if _, err := client.Parse(c.URL.Reveal()); err != nil {
		return nil, fmt.Errorf("slack: %w", err)
	}
	return &Sender{client: client, url: c.URL.Reveal(), header: http.Header{}, body: slack, advise: adviseSlack}, nil
}

// slack is a block of plain text, which knows no markup. Incoming webhooks ignore what says how to
// parse the text that stands by itself; it is only in notifications where there are blocks.
func slack(m notify.Message) any {
	shown := fit(text(m), slackMax, escapeSlack, utf8.RuneCountInString)
	return map[string]any{
		"text":         shown,
		"mrkdwn":       false,
		"unfurl_links": false,
		"unfurl_media": false,
		"blocks": []any{map[string]any{
			"type": "section",
			"text": map[string]any{"type": "plain_text", "text": shown, "emoji": false},
		}},
	}
}

// escapeSlack escapes the three characters by which Slack knows links and mentions.
func escapeSlack(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

func adviseSlack(step *notify.Step, r outbound.Refusal) {
	switch string(r.Body) {
	case "invalid_token", "no_service", "no_team", "channel_not_found", "channel_is_archived", "posting_to_general_channel_denied", "action_prohibited":
		step.Hint = "the webhook, or its channel, is gone or closed: make a new one in Slack"
		step.Final = true
	case "invalid_payload", "no_text":
		step.Err = fmt.Errorf("slack does not take what was sent: %w", step.Err)
	}
}
