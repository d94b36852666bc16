// Package chat posts what there is to tell to Slack, Discord, Telegram and ntfy: a few lines of
// plain text, each time escaped by the rules of the place, so that nothing in it is a link,
// a mention, or markup. Who has a chat's URL or token may post there, so that no error shows
// them. A mechanism: only who sends notifications imports it.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"sekisho/internal/notify"
	"sekisho/internal/notify/outbound"
	"sekisho/internal/notify/plain"
)

// maxText is how many characters of a message are shown: what is more belongs into a mail.
const maxText = 1500

// Sender posts to one chat. It is a notify.Sender.
type Sender struct {
	client  *outbound.Client
	url     string
	header  http.Header
	secrets []string
	body    func(notify.Message) any             // to be written as JSON
	advise  func(*notify.Step, outbound.Refusal) // knows this chat's answers; nil: there is nothing to know
}

// Send posts a message, once. Errors are *notify.Step; see package outbound.
func (s *Sender) Send(ctx context.Context, m notify.Message) error {
	body, err := json.Marshal(s.body(m))
	if err != nil {
		return &notify.Step{Name: "answer", Err: err, Final: true}
	}
	header := s.header.Clone()
	header.Set("Content-Type", "application/json")
	err = s.client.Post(ctx, outbound.Request{URL: s.url, Header: header, Body: body, Secrets: s.secrets})
	step, ok := errors.AsType[*notify.Step](err)
	refusal, answered := errors.AsType[*outbound.Refusal](err)
	if ok && answered && s.advise != nil {
		s.advise(step, *refusal)
	}
	return err
}

// text is a message for a chat: its subject stands first.
func text(m notify.Message) string {
	subject, short := plain.Line(m.Subject, 200), plain.Text(m.Short, maxText)
	if first, _, _ := strings.Cut(short, "\n"); first != subject {
		short = plain.Text(subject+"\n"+short, maxText)
	}
	if short = strings.TrimSpace(short); short == "" {
		return "sekisho" // no chat takes nothing
	}
	return short
}

// rest is a message without its subject, for where that is shown by itself.
func rest(m notify.Message) string {
	all := text(m)
	if _, below, more := strings.Cut(all, "\n"); more {
		return below
	}
	return all
}

// fit escapes s, or as much of its start as is at most limit units then. Escaping a shorter text
// gives no longer one.
func fit(s string, limit int, escape func(string) string, size func(string) int) string {
	for characters := maxText; ; characters = characters * 3 / 4 {
		if escaped := escape(plain.Cut(s, characters)); size(escaped) <= limit || characters < 4 {
			return escaped
		}
	}
}
