package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"sekisho/internal/printable"
)

// hidden is what is shown of a secret.
const hidden = "<secret>"

// secret is a text that is read, but never shown: neither what is right of it nor what is
// wrong. Its form says nothing of the text either.
type secret struct {
	p    *Secret
	form form
}

func (v secret) text() string    { return Quote(v.p.String()) }
func (v secret) grammar() string { return v.form.grammar + ", or `\"\"`: none" }

func (v secret) schema() object {
	return object{"anyOf": []any{object{"const": ""}, v.form.schema()}}
}

func (v secret) decode(d *decoder, path string, n *node) {
	if n.kind == absent {
		d.refuse(path, n.place, "write it in quotes, or leave the key out", "there is no value; want %s", v.form.what)
		return
	}
	if !scalarOf(d, path, n, v.form.what, `""`) {
		return
	}
	if n.text == "" {
		*v.p = ""
		return
	}
	if n.text == hidden {
		d.refuse(path, n.place, "write it anew: it was left out where this file comes from", "this stands for a secret, and is none")
		return
	}
	value, hint, wrong := v.form.read(n)
	if wrong != "" {
		d.refuse(path, n.place, hint, "%s", wrong)
		return
	}
	*v.p = Secret(value)
}

// plainSecret is any text that can be seen, of at least so many bytes.
func plainSecret(what, grammar string, atLeast int, hint string) form {
	return form{
		what: what, grammar: grammar, example: `"..."`,
		read: func(n *node) (value, _, wrong string) {
			switch {
			case len(n.text) > maxSecret:
				return "", hint, fmt.Sprintf("is longer than %d bytes", maxSecret)
			case n.text != printable.Text(n.text):
				return "", hint, "holds what cannot be seen"
			case len(n.text) < atLeast:
				return "", hint, fmt.Sprintf("is shorter than %d bytes: it could be guessed", atLeast)
			}
			return n.text, "", ""
		},
	}
}

func passwordForm() form {
	return plainSecret("a password", "text", 1, "write the password, in quotes")
}

func hmacKey() form {
	return plainSecret("a key", fmt.Sprintf("text of at least %d bytes", minHMACKey), minHMACKey, "make one: openssl rand -hex 32")
}

func botToken() form {
	return form{
		what: "a bot's token", grammar: "number, a colon, letters, in quotes", example: `"..."`, pattern: body(botPattern),
		read: func(n *node) (value, hint, wrong string) {
			if !botPattern.MatchString(n.text) {
				return "", "write it as @BotFather gave it: a number, a colon and some 35 letters, in quotes", "is no token of a bot"
			}
			return n.text, "", ""
		},
	}
}

func accessToken() form {
	return form{
		what: "an access token", grammar: "text without spaces", example: `"..."`, pattern: body(tokenPattern),
		read: func(n *node) (value, hint, wrong string) {
			if !tokenPattern.MatchString(n.text) {
				return "", "write it as the server gave it, tk_...", "is no access token"
			}
			return n.text, "", ""
		},
	}
}

// WithSecrets returns n with what the files hold that its channels name: Password, Secret,
// URL and Token are there then. n is not changed. A channel whose file cannot be read, or
// holds something else, is nil in the result; the error is Errors, one for each, without
// what the files hold. Whoever sends calls it when it starts, and when it is to read its
// configuration again.
func (n Notify) WithSecrets() (Notify, error) {
	var wrong Errors
	n.Mail = withSecret(n.Mail, &wrong, "notify.mail.password_file", func(m *Mail) (*Secret, string, form) { return &m.Password, m.PasswordFile, passwordForm() })
	n.Webhook = withSecret(n.Webhook, &wrong, "notify.webhook.secret_file", func(w *Webhook) (*Secret, string, form) { return &w.Secret, w.SecretFile, hmacKey() })
	hook := hookURL("", "https://hooks.slack.com/services/...")
	inside := form{read: func(file *node) (value, hint, wrong string) {
		if value, hint, wrong = hook.read(file); wrong == "" {
			hint, wrong = n.inside(value)
		}
		return value, hint, wrong
	}}
	of := func(h *Hook) (*Secret, string, form) { return &h.URL, h.URLFile, inside }
	n.Slack = withSecret(n.Slack, &wrong, "notify.slack.url_file", of)
	n.Discord = withSecret(n.Discord, &wrong, "notify.discord.url_file", of)
	n.Telegram = withSecret(n.Telegram, &wrong, "notify.telegram.token_file", func(t *Telegram) (*Secret, string, form) { return &t.Token, t.TokenFile, botToken() })
	n.Ntfy = withSecret(n.Ntfy, &wrong, "notify.ntfy.token_file", func(t *Ntfy) (*Secret, string, form) { return &t.Token, t.TokenFile, accessToken() })
	if len(wrong) > 0 {
		return n, wrong
	}
	return n, nil
}

// withSecret returns a copy of a channel with the secret of its file; nil where that fails.
func withSecret[T any](p *T, wrong *Errors, key string, of func(*T) (*Secret, string, form)) *T {
	if p == nil {
		return nil
	}
	item := *p
	to, file, form := of(&item)
	if file == "" {
		return &item
	}
	text, err := readSecret(file)
	if err != nil {
		e := &Error{File: file, Message: key + ": cannot be read: " + err.Error(), cause: err, Hint: "put it there and nothing else, for root alone: chmod 600"}
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			e.Message = fmt.Sprintf("%s: cannot be read: %v", key, pe.Err)
		}
		if errors.Is(err, fs.ErrPermission) {
			e.Hint = "run this as root"
		}
		*wrong = append(*wrong, e)
		return nil
	}
	value, hint, bad := form.read(&node{kind: scalar, text: text, quoted: true})
	if text == "" {
		hint, bad = "put it there and nothing else", "the file is empty"
	}
	if bad != "" {
		*wrong = append(*wrong, &Error{File: file, Message: key + ": " + bad, Hint: hint})
		return nil
	}
	*to = Secret(value)
	return &item
}

// readSecret reads a file of one line. What would wait, as a pipe does, is not opened.
func readSecret(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("is no file")
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxHookURL+3))
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}
