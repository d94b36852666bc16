package config

import (
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Notify says who is told of what, and how. A channel that is not there is nil. What is
// secret may be in files of its own, which WithSecrets reads.
type Notify struct {
	Language Language
	Lookup   bool           // ask registries and DNS whose a banned address is
	Private  []netip.Prefix // private networks where webhooks may be; masked, apart from each other
	Weekly   bool           // the report, by mail; Mail is there then
	Mail     *Mail
	Webhook  *Webhook
	Slack    *Hook // Slack and Discord are a URL each
	Discord  *Hook
	Telegram *Telegram
	Ntfy     *Ntfy
	Command  *Command
}

// Format shows n as the file has it, without secrets, whatever the verb is. Of a wrong verb fmt
// itself would show all that is behind a channel's pointer.
func (n Notify) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, n.table().changed(Default().Notify.table()))
}

// Language is what people read.
type Language string

// The languages.
const (
	English  Language = "en"
	Japanese Language = "ja"
)

func (l Language) String() string { return string(l) }

// Limits are what a channel is told of, and how often.
type Limits struct {
	Events  []string // kinds of events (EventKinds), in that order; at least one
	PerHour int      // messages in an hour at most; what is beyond comes together in one
	Digest  Digest
	Quiet   Hours // when only alarms are sent at once, the rest comes together afterwards; none: never
}

// Digest gathers events into one message.
type Digest string

// The digests.
const (
	DigestNone   Digest = "no"
	DigestHourly Digest = "hourly"
	DigestDaily  Digest = "daily" // at 08:00, this host's time
)

func (d Digest) String() string { return string(d) }

// Secret is a text that is shown to nobody.
type Secret string

// String hides it; Reveal does not.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format hides it whatever the verb is, a wrong one too.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText hides it in JSON, and in logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal is the text itself, for whom it is meant for.
func (s Secret) Reveal() string { return string(s) }

// Mail sends by SMTP.
type Mail struct {
	Limits
	To           []string // at least one address, each plain: local@domain, in ASCII
	From         string   // as To's; "": sekisho@ and the host's name, which the sender knows
	SMTP         string   // host:port
	TLS          TLS
	User         string        // "": nobody logs in
	Password     Secret        // there, or PasswordFile is, if and only if User is
	PasswordFile string        // absolute; "": none
	Timeout      time.Duration // of one attempt
}

// TLS is how a mail server is spoken to.
type TLS string

// The ways.
const (
	TLSStart    TLS = "starttls" // must be had
	TLSImplicit TLS = "tls"      // from the first byte on
	TLSNone     TLS = "no"       // to this host only: localhost or a loopback address
)

func (t TLS) String() string { return string(t) }

// Webhook posts JSON to a URL, signed.
type Webhook struct {
	Limits
	URL        string
	Secret     Secret // HMAC-SHA256's key; "": unsigned
	SecretFile string // absolute; "": none
}

// Hook is a chat's incoming webhook.
type Hook struct {
	Limits
	URL     Secret // who has it may post; "": it is in URLFile
	URLFile string // absolute; "": none
}

// Telegram posts by a bot.
type Telegram struct {
	Limits
	Token     Secret // "": it is in TokenFile
	TokenFile string // absolute; "": none
	Chat      string // a number, or @ and a name
}

// Ntfy posts to a topic.
type Ntfy struct {
	Limits
	URL       string // of the topic
	Token     Secret // "": none
	TokenFile string // absolute; "": none
}

// Command runs a program of one's own: argv, no shell, the event in its environment.
type Command struct {
	Limits
	Argv    []string // the first is an absolute path
	Timeout time.Duration
}
