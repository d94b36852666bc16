// Package webhook posts what there is to tell as JSON, signed: docs/notify.md is its contract
// with who receives it. A mechanism: only who sends notifications imports it, and package
// command, whose programs read the same document.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/outbound"
	"sekisho/internal/notify/plain"
)

// Version is that of the document. It changes when what there was changes; there may be more
// in it at any time.
const Version = 1

// The headers of a request.
const (
	TimestampHeader = "X-Sekisho-Timestamp" // seconds since 1970
	SignatureHeader = "X-Sekisho-Signature" // "sha256=" and Sign's hexadecimal digits
)

// maxBody is the size of a document, in bytes, beyond which it has fewer events.
const maxBody = 1 << 20

// document is a message for programs.
type document struct {
	Version int            `json:"version"`
	ID      string         `json:"id"`
	Host    string         `json:"host"`
	Level   notify.Level   `json:"level"`
	Subject string         `json:"subject"`
	Events  []notify.Event `json:"events"`
	More    int            `json:"more"` // events that are not in Events
}

// Document is a message as JSON, of at most 1 MiB: where its events are too large for that, the last
// of them are counted only. Any text in it may be an attacker's.
func Document(m notify.Message, host string) ([]byte, error) {
	d := document{
		Version: Version, ID: m.ID, Host: plain.Line(host, 253), Level: m.Level,
		Subject: plain.Line(m.Subject, 200), Events: m.Events, More: m.More,
	}
	for {
		if d.Events == nil {
			d.Events = []notify.Event{}
		}
		b, err := json.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("write the message: %w", err)
		}
		if len(b) <= maxBody || len(d.Events) == 0 {
			return b, nil
		}
		keep := len(d.Events) / 2
		d.More += len(d.Events) - keep
		d.Events = d.Events[:keep]
	}
}

// Sender posts to one URL. It is a notify.Sender.
type Sender struct {
	url    string
	secret []byte
	host   string
	client *outbound.Client
	now    func() time.Time
}

// New makes a sender; host is this one, as documents name it.
func New(c config.Webhook, host string, client *outbound.Client) (*Sender, error) {
	if _, err := client.Parse(c.URL); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return &Sender{url: c.URL, secret: []byte(c.Secret.Reveal()), host: host, client: client, now: time.Now}, nil
}

// Send posts a message, once. Errors are *notify.Step; see package outbound.
func (s *Sender) Send(ctx context.Context, m notify.Message) error {
	body, err := Document(m, s.host)
	if err != nil {
		return &notify.Step{Name: "answer", Err: err, Final: true}
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if len(s.secret) > 0 {
		at := strconv.FormatInt(s.now().Unix(), 10)
		header.Set(TimestampHeader, at)
		header.Set(SignatureHeader, "sha256="+Sign(s.secret, at, body))
	}
	return s.client.Post(ctx, outbound.Request{URL: s.url, Header: header, Body: body, Secrets: []string{string(s.secret)}})
}

// Sign is HMAC-SHA256 (RFC 2104) of the timestamp, a full stop, and the body, in hexadecimal.
func Sign(secret []byte, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
