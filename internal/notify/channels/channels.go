// Package channels makes the channels that a configuration asks for.
package channels

import (
	"errors"
	"slices"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/chat"
	"sekisho/internal/notify/command"
	"sekisho/internal/notify/courier"
	"sekisho/internal/notify/mail"
	"sekisho/internal/notify/outbound"
	"sekisho/internal/notify/webhook"
)

// Of are the channels of cfg, which has its secrets (see config.Notify.WithSecrets), in the
// order of the configuration's documents, for the host of that name. A channel that cannot be
// used is left out: the error says why, and the others are there all the same.
func Of(cfg config.Notify, host string) ([]courier.Channel, error) {
	var all []courier.Channel
	var err error
	client := outbound.New(outbound.Options{Private: cfg.Private})
	add := func(name string, limits config.Limits, sender notify.Sender, failed error) {
		if failed != nil {
			err = errors.Join(err, failed)
			return
		}
		events := make([]notify.Kind, len(limits.Events))
		for i, e := range limits.Events {
			events[i] = notify.Kind(e)
		}
		all = append(all, courier.Channel{
			Name: name, Sender: sender, Events: events, PerHour: limits.PerHour, Digest: limits.Digest, Quiet: limits.Quiet, Language: cfg.Language,
			Together: name != "webhook" && name != "command", // programs may follow each ban
		})
	}
	if c := cfg.Mail; c != nil {
		limits := c.Limits
		if cfg.Weekly {
			limits.Events = append(slices.Clip(limits.Events), string(notify.Report))
		}
		s, err := mail.New(*c, host)
		add("mail", limits, s, err)
	}
	if c := cfg.Webhook; c != nil {
		s, err := webhook.New(*c, host, client)
		add("webhook", c.Limits, s, err)
	}
	if c := cfg.Slack; c != nil {
		s, err := chat.NewSlack(*c, client)
		add("slack", c.Limits, s, err)
	}
	if c := cfg.Discord; c != nil {
		s, err := chat.NewDiscord(*c, client)
		add("discord", c.Limits, s, err)
	}
	if c := cfg.Telegram; c != nil {
		s, err := chat.NewTelegram(*c, client)
		add("telegram", c.Limits, s, err)
	}
	if c := cfg.Ntfy; c != nil {
		s, err := chat.NewNtfy(*c, client)
		add("ntfy", c.Limits, s, err)
	}
	if c := cfg.Command; c != nil {
		s, err := command.New(*c, host)
		add("command", c.Limits, s, err)
	}
	return all, err
}
