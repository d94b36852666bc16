package chat

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/outbound"
	"sekisho/internal/notify/plain"
)

const (
	ntfyMax      = 3500 // bytes: a message of more than 4,096 becomes an attachment
	ntfyTitleMax = 250  // bytes
)

// NewNtfy posts to a topic. What it posts is JSON, at the server's root, so that nothing of a
// message stands in a header.
func NewNtfy(c config.Ntfy, client *outbound.Client) (*Sender, error) {
	u, err := client.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("ntfy: %w", err)
	}
	at := strings.LastIndexByte(u.Path, '/')
	if at < 0 || !regexp.MustCompile(`^[-_A-Za-z0-9]{1,64}$`).MatchString(u.Path[at+1:]) || u.RawQuery != "" || u.EscapedPath() != u.Path {
		return nil, errors.New("ntfy: the URL does not end in a topic, as https://ntfy.sh/topic does")
	}
	topic := u.Path[at+1:]
	u.Path, u.RawPath, u.Fragment = u.Path[:at+1], "", ""
	s := &Sender{
		client: client, url: u.String(), header: http.Header{}, secrets: []string{topic},
		body: func(m notify.Message) any { return ntfy(m, topic) }, advise: adviseNtfy,
	}
	if token := c.Token.Reveal(); token != "" {
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, errors.New("ntfy: the token has a character that no token has")
		}
		s.header.Set("Authorization", "Bearer "+token)
		s.secrets = append(s.secrets, token)
	}
	return s, nil
}

func ntfy(m notify.Message, topic string) any {
	body := map[string]any{
		"topic":    topic,
		"title":    plain.CutBytes(plain.Line(m.Subject, 200), ntfyTitleMax),
		"message":  plain.CutBytes(rest(m), ntfyMax),
		"priority": 3,
	}
	switch m.Level {
	case notify.Warning:
		body["priority"], body["tags"] = 4, []string{"warning"}
	case notify.Alarm:
		body["priority"], body["tags"] = 5, []string{"rotating_light"}
	}
	return body
}

func adviseNtfy(step *notify.Step, r outbound.Refusal) {
	if r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden {
		step.Hint = "the topic wants a token that may write to it"
	}
}
