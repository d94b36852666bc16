package chat

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/notifytest"
	"sekisho/internal/notify/outbound"
)

const (
	token    = "AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc"
	botToken = "110201543:" + token
)

// place is a chat's server; answer is what it says next.
type place struct {
	*httptest.Server
	got    chan posted
	answer http.HandlerFunc
}

type posted struct {
	path   string
	header http.Header
	body   map[string]any
}

func start(t *testing.T) *place {
	t.Helper()
	p := &place{got: make(chan posted, 1)}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		if p.answer != nil {
			p.answer(w, r)
			return
		}
		got := posted{path: r.URL.Path, header: r.Header}
		if err := json.Unmarshal(raw, &got.body); err != nil {
			w.WriteHeader(400)
			return
		}
		p.got <- got
		io.WriteString(w, `{"ok":true}`)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *place) client() *outbound.Client {
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	return outbound.New(outbound.Options{Private: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Roots: roots})
}

// senders are all of them, to one place.
func (p *place) senders(t *testing.T) map[string]*Sender {
	t.Helper()
	res := map[string]*Sender{}
	add := func(name string, s *Sender, err error) {
		if err != nil {
			t.Fatal(err)
		}
		res[name] = s
	}
	c := p.client()
	s, err := NewSlack(config.Hook{URL: config.Secret(p.URL + "/services/T00000000/B00000000/" + token)}, c)
	add("slack", s, err)
	s, err = NewDiscord(config.Hook{URL: config.Secret(p.URL + "/api/webhooks/1234567890/" + token)}, c)
	add("discord", s, err)
	s, err = newTelegram(config.Telegram{Token: botToken, Chat: "-100123"}, c, p.URL)
	add("telegram", s, err)
	s, err = NewNtfy(config.Ntfy{URL: p.URL + "/base/topic-of-ours", Token: token}, c)
	add("ntfy", s, err)
	return res
}

func TestSend(t *testing.T) {
	p := start(t)
	senders := p.senders(t)
	m := notify.Message{
		ID: "1", Subject: "[web_1] banned <203.0.113.7> & co", Level: notify.Alarm,
		Short: "[web_1] banned <203.0.113.7> & co\n# *Who*: ACME, see https://example.com @everyone\n1. sekisho unban 203.0.113.7 :smile: at 12:30:00",
	}
	plainText := m.Short
	for _, tt := range []struct {
		name, path string
		want       map[string]any
	}{
		{"slack", "/services/T00000000/B00000000/" + token, map[string]any{
			"text": strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(plainText), "mrkdwn": false, "unfurl_links": false, "unfurl_media": false,
			"blocks": []any{map[string]any{"type": "section", "text": map[string]any{
				"type": "plain_text", "emoji": false, "text": strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(plainText),
			}}},
		}},
		{"discord", "/api/webhooks/1234567890/" + token, map[string]any{
			"content": `\[web\_1\] banned \<203.0.113.7\> & co` + "\n" + `\# \*Who\*: ACME, see https\://example.com \@everyone` + "\n" + `1\. sekisho unban 203.0.113.7 :smile\: at 12:30:00`,
			"flags":   4.0, "allowed_mentions": map[string]any{"parse": []any{}},
		}},
		{"telegram", "/bot" + botToken + "/sendMessage", map[string]any{
			"chat_id": "-100123", "text": plainText, "disable_notification": false, "link_preview_options": map[string]any{"is_disabled": true},
			"entities": []any{map[string]any{"type": "pre", "offset": 0.0, "length": float64(len(plainText))}},
		}},
		{"ntfy", "/base/", map[string]any{
			"topic": "topic-of-ours", "title": m.Subject, "message": plainText[strings.IndexByte(plainText, '\n')+1:], "priority": 5.0, "tags": []any{"rotating_light"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := senders[tt.name].Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			got := <-p.got
			if d := cmp.Diff(tt.want, got.body); d != "" || got.path != tt.path || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s, %s", got.path, d)
			}
			if a := got.header.Get("Authorization"); (a == "Bearer "+token) != (tt.name == "ntfy") {
				t.Errorf("authorization %q", a)
			}
		})
	}
}

func TestLevels(t *testing.T) {
	for _, tt := range []struct {
		level    notify.Level
		priority int
		silent   bool
	}{{notify.Info, 3, true}, {notify.Warning, 4, false}, {notify.Alarm, 5, false}} {
		m := notify.Message{Subject: "a", Short: "a", Level: tt.level}
		n, g := ntfy(m, "t").(map[string]any), telegram(m, "c").(map[string]any)
		if n["priority"] != tt.priority || g["disable_notification"] != tt.silent {
			t.Errorf("%s: %v, %v", tt.level, n, g)
		}
	}
}

// TestAnswers: what each chat's own words come to; none of them, and no error, shows a secret.
func TestAnswers(t *testing.T) {
	p := start(t)
	senders := p.senders(t)
	for _, tt := range []struct {
		name, chat string
		status     int
		body       string
		retryAfter string
		hint       string
		final      bool
		after      time.Duration
	}{
		{"a webhook that is gone", "slack", 404, "no_service", "", "in Slack", true, 0},
		{"a channel that is closed", "slack", 410, "channel_is_archived", "", "in Slack", true, 0},
		{"too many", "slack", 429, "rate_limited", "30", "per_hour", false, 30 * time.Second},
		{"nonsense", "slack", 400, "invalid_payload", "", "", true, 0},
		{"a webhook that is gone", "discord", 404, `{"message": "Unknown Webhook", "code": 10015}`, "", "URL", true, 0},
		{"too many", "discord", 429, `{"message":"You are being rate limited.","retry_after":3.5,"global":false}`, "4", "", false, 4 * time.Second},
		{"a wrong token", "telegram", 401, `{"ok":false,"error_code":401,"description":"Unauthorized"}`, "", "BotFather", true, 0},
		{"no such bot", "telegram", 404, `{"ok":false,"error_code":404,"description":"Not Found"}`, "", "BotFather", true, 0},
		{"no such chat", "telegram", 400, `{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}`, "", "/start", true, 0},
		{"thrown out", "telegram", 403, `{"ok":false,"error_code":403,"description":"Forbidden: bot was kicked from the group chat"}`, "", "not in the chat", true, 0},
		{"moved", "telegram", 400, `{"ok":false,"error_code":400,"description":"x","parameters":{"migrate_to_chat_id":-1009}}`, "", "set chat to -1009", true, 0},
		{"too many", "telegram", 429, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 7","parameters":{"retry_after":7}}`, "", "", false, 7 * time.Second},
		{"too many, for ever", "telegram", 429, `{"parameters":{"retry_after":99999999}}`, "", "", false, 24 * time.Hour},
		{"no token", "ntfy", 403, `{"code":40301,"http":403,"error":"forbidden"}`, "", "token", true, 0},
		{"too many", "ntfy", 429, `{"code":42901}`, "", "", false, 0},
		{"a server's error", "ntfy", 500, "<html>\x1b[2J", "", "", false, 0},
	} {
		t.Run(tt.chat+": "+tt.name, func(t *testing.T) {
			p.answer = func(w http.ResponseWriter, r *http.Request) {
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			}
			err := senders[tt.chat].Send(t.Context(), notify.Message{Subject: "a"})
			step, ok := errors.AsType[*notify.Step](err)
			refusal, answered := errors.AsType[*outbound.Refusal](err)
			if !ok || !answered || step.Final != tt.final || !strings.Contains(step.Hint, tt.hint) || refusal.After != tt.after {
				t.Errorf("%v, %+v, %+v", err, step, refusal)
			}
			if strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("%q", err)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	p := start(t)
	senders := p.senders(t)
	answers := map[string]http.HandlerFunc{
		"repeats it": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			fmt.Fprintf(w, "no %s, nor %s, nor %s; %s", r.URL, r.Header.Get("Authorization"), "https://"+r.Host+r.RequestURI, token)
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/"+r.URL.Path, http.StatusFound)
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	check := func(t *testing.T, err error) {
		t.Helper()
		step, ok := errors.AsType[*notify.Step](err)
		if !ok || strings.Contains(err.Error()+step.Hint+step.Said+step.Err.Error(), token) || strings.Contains(err.Error()+step.Hint, "110201543") {
			t.Errorf("%v, %+v", err, step)
		}
	}
	for name, answer := range answers {
		for chat, s := range senders {
			t.Run(name+" "+chat, func(t *testing.T) {
				p.answer = answer
				check(t, s.Send(t.Context(), notify.Message{Subject: "a"}))
			})
		}
	}
	p.Close()
	for chat, s := range senders {
		t.Run("is not there "+chat, func(t *testing.T) { check(t, s.Send(t.Context(), notify.Message{Subject: "a"})) })
	}
}

func TestNew(t *testing.T) {
	c := outbound.New(outbound.Options{})
	slack := func(url string) error { _, err := NewSlack(config.Hook{URL: config.Secret(url)}, c); return err }
	discord := func(url string) error { _, err := NewDiscord(config.Hook{URL: config.Secret(url)}, c); return err }
	telegram := func(token, chat string) error {
		_, err := NewTelegram(config.Telegram{Token: config.Secret(token), Chat: chat}, c)
		return err
	}
	ntfy := func(url, token string) error {
		_, err := NewNtfy(config.Ntfy{URL: url, Token: config.Secret(token)}, c)
		return err
	}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"slack", slack("https://hooks.slack.com/services/" + token), ""},
		{"slack, http", slack("http://hooks.slack.com/services/" + token), "http"},
		{"discord", discord("https://discord.com/api/webhooks/1/" + token), ""},
		{"discord, nothing", discord(""), "host"},
		{"telegram", telegram(botToken, "@channel"), ""},
		{"telegram, a path", telegram("1:"+token+"/../../x", "1"), "token"},
		{"telegram, no chat", telegram(botToken, ""), "chat"},
		{"ntfy", ntfy("https://ntfy.sh/topic", ""), ""},
		{"ntfy, no topic", ntfy("https://ntfy.sh/", ""), "topic"},
		{"ntfy, no path", ntfy("https://ntfy.sh", ""), "topic"},
		{"ntfy, an odd topic", ntfy("https://ntfy.sh/a%2f"+token, ""), "topic"},
		{"ntfy, a line end", ntfy("https://ntfy.sh/topic", token+"\r\nX: y"), "token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "" {
				if tt.err != nil {
					t.Error(tt.err)
				}
				return
			}
			if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) || strings.Contains(tt.err.Error(), token) {
				t.Error(tt.err)
			}
		})
	}
}

func TestEscapeDiscord(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"addresses", "203.0.113.7 2001:db8::1 10.0.0.0/8", "203.0.113.7 2001:db8::1 10.0.0.0/8"},
		{"markup", "*a* _b_ ~~c~~ `d` ||e||", `\*a\* \_b\_ \~\~c\~\~ \` + "`d\\`" + ` \|\|e\|\|`},
		{"a backslash", `\*a`, `\\\*a`},
		{"a masked link", "[a](https://b)", `\[a\](https\://b)`},
		{"mentions", "<@1> <@&2> <#3> @here", `\<\@1\> \<\@&2\> \<#3\> \@here`},
		{"an emoji", "<:a:1> :smile:", `\<:a:1\> :smile\:`},
		{"a time", "<t:1:R>", `\<t:1:R\>`},
		{"headings", "# a\n## b\n -# c", "\\# a\n\\## b\n \\-# c"},
		{"lists", "- a\n * b\n1. c\n12. d\n+ e", "\\- a\n \\* b\n1\\. c\n12\\. d\n\\+ e"},
		{"quotes", "> a\n>>> b", "\\> a\n\\>\\>\\> b"},
		{"within a line", "a # b - c", "a # b - c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := escapeDiscord(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestInjection(t *testing.T) {
	p := start(t)
	senders := p.senders(t)
	for _, h := range notifytest.Hostile() {
		for chat, s := range senders {
			if err := s.Send(t.Context(), notifytest.Message(h)); err != nil {
				t.Fatalf("%s, %.60q: %v", chat, h, err)
			}
			check(t, chat, (<-p.got).body, h)
		}
	}
}

func FuzzBodies(f *testing.F) {
	for _, h := range notifytest.Hostile() {
		if len(h) < 1000 {
			f.Add(h, h)
		}
	}
	f.Fuzz(func(t *testing.T, subject, short string) {
		m := notify.Message{Subject: subject, Short: short}
		for chat, body := range map[string]any{"slack": slack(m), "discord": discord(m), "telegram": telegram(m, "1"), "ntfy": ntfy(m, "t")} {
			raw, err := json.Marshal(body)
			var read map[string]any
			if err := errors.Join(err, json.Unmarshal(raw, &read)); err != nil {
				t.Fatal(err)
			}
			check(t, chat, read, short)
		}
	})
}

// check holds a body to the rules of its chat.
func check(t *testing.T, chat string, body map[string]any, s string) {
	t.Helper()
	wrong := func(text string, max int, size func(string) int, markup string) {
		t.Helper()
		if size(text) > max || strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) || !utf8.ValidString(text) {
			t.Errorf("%s, %.60q: %d, %.100q", chat, s, size(text), text)
		}
		if strings.ContainsAny(text, markup) {
			t.Errorf("%s, %.60q: %.100q has markup", chat, s, text)
		}
	}
	units := func(s string) int { return len(utf16.Encode([]rune(s))) }
	size := func(s string) int { return len(s) }
	switch chat {
	case "slack":
		block := body["blocks"].([]any)[0].(map[string]any)["text"].(map[string]any)
		if block["type"] != "plain_text" || body["mrkdwn"] != false {
			t.Errorf("%v", body)
		}
		for _, text := range []any{body["text"], block["text"]} {
			left := strings.NewReplacer("&amp;", "", "&lt;", "", "&gt;", "").Replace(text.(string))
			wrong(text.(string), slackMax, utf8.RuneCountInString, "<>")
			if strings.Contains(left, "&") {
				t.Errorf("%.60q: %.100q is not escaped", s, text)
			}
		}
	case "discord":
		text := body["content"].(string)
		wrong(text, discordMax, units, "")
		bare := strings.NewReplacer(`\\`, "", `\*`, "", `\_`, "", `\~`, "", "\\`", "", `\|`, "", `\<`, "", `\>`, "", `\[`, "", `\]`, "", `\@`, "", `\:`, "", `\#`, "", `\-`, "", `\+`, "", `\.`, "").Replace(text)
		if strings.ContainsAny(bare, "\\*_~`|<>[]@") || strings.Contains(text, "://") {
			t.Errorf("%.60q: %.100q has markup", s, text)
		}
	case "telegram":
		text := body["text"].(string)
		wrong(text, telegramMax, units, "")
		if e := body["entities"].([]any)[0].(map[string]any); e["type"] != "pre" || e["offset"] != 0.0 || int(e["length"].(float64)) != units(text) || body["parse_mode"] != nil {
			t.Errorf("%.60q: %v", s, body)
		}
		if strings.TrimSpace(text) != text {
			t.Errorf("%.60q: %.100q is trimmed by the server", s, text)
		}
	case "ntfy":
		wrong(body["message"].(string), ntfyMax, size, "")
		wrong(body["title"].(string), ntfyTitleMax, size, "\n")
	default:
		t.Fatal(chat)
	}
}
