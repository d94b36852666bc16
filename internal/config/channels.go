package config

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sekisho/internal/printable"
)

// Bounds of what is said of telling people.
const (
	maxRecipients = 20
	maxPrivate    = 32
	maxArguments  = 64
	maxArgument   = 4096 // bytes
	maxUser       = 256
	maxPerHour    = 1000

	sendMin = time.Second
	sendMax = 5 * time.Minute
)

// EventKinds are the kinds of events that people can be told of, in the order of documents:
// those of notify.Kinds, which a test holds these to.
func EventKinds() []string {
	return []string{
		"ban", "repeat", "unban", "attack_began", "attack_ended", "login", "login_doubt", "trial", "drift", "conntrack", "country",
		"lease_stuck", "group_finding", "gate_approval", "gate_break_glass", "gate_disabled", "degraded", "report",
	}
}

// usualEvents are what people are told of where nothing is said: not of each ban.
func usualEvents() []string {
	return slices.DeleteFunc(EventKinds(), func(k string) bool { return k == "ban" || k == "unban" || k == "report" })
}

func (n *Notify) table() group {
	return group{
		{"language", "What people read: English or Japanese.", choice[Language]{&n.Language, []Language{English, Japanese}}},
		{"lookup", "Whether to ask whose a banned address is: registries by RDAP and WHOIS, and DNS. The address goes to them then.", boolean{&n.Lookup}},
		{"private", "Private networks that webhooks may be in; this host is one, 127.0.0.1. Everywhere else only public addresses are spoken to; " +
			"addresses at which clouds tell their secrets never are.", privateNetworks{prefixes{&n.Private}}},
		{"weekly", "Whether the report of the week comes by mail, whatever `mail.events` says.", boolean{&n.Weekly}},
		{"mail", "Mail, by SMTP.", channel[Mail]{
			p: &n.Mail, begin: newMail, keys: (*Mail).table, finish: (*Mail).finish, needed: []string{"to"}, example: "to: [ops@example.com]",
		}},
		{"webhook", "JSON that is posted to a URL, signed. docs/notify.md tells its form.", channel[Webhook]{
			p: &n.Webhook, begin: func() *Webhook { return &Webhook{Limits: limits(EventKinds(), 600)} }, keys: (*Webhook).table, needed: []string{"url"},
			example: "url: https://example.com/sekisho\nsecret_file: /etc/sekisho/webhook.key",
		}},
		{"slack", "Slack, or what takes the same: Mattermost, Rocket.Chat.", channel[Hook]{
			p: &n.Slack, begin: newHook, keys: hookKeys("slack", "https://hooks.slack.com/services/..."), example: "url_file: /etc/sekisho/slack.url",
		}},
		{"discord", "Discord.", channel[Hook]{
			p: &n.Discord, begin: newHook, keys: hookKeys("discord", "https://discord.com/api/webhooks/..."), example: "url_file: /etc/sekisho/discord.url",
		}},
		{"telegram", "Telegram, by a bot.", channel[Telegram]{
			p: &n.Telegram, begin: func() *Telegram { return &Telegram{Limits: limits(usualEvents(), 20)} }, keys: (*Telegram).table, needed: []string{"chat"},
			example: "token_file: /etc/sekisho/telegram.token\nchat: \"-1001234567890\"",
		}},
		{"ntfy", "ntfy, a server of push messages.", channel[Ntfy]{
			p: &n.Ntfy, begin: func() *Ntfy { return &Ntfy{Limits: limits(usualEvents(), 20)} }, keys: (*Ntfy).table, needed: []string{"url"},
			example: "url: https://ntfy.sh/a-topic-that-nobody-guesses",
		}},
		{"command", "A program of your own. It gets the event in its environment; there is no shell.", channel[Command]{
			p: &n.Command, begin: func() *Command { return &Command{Limits: limits(EventKinds(), 600), Timeout: 10 * time.Second} }, keys: (*Command).table, needed: []string{"argv"},
			example: "argv: [/usr/local/bin/tell]",
		}},
	}
}

func limits(events []string, perHour int) Limits {
	return Limits{Events: events, PerHour: perHour, Digest: DigestNone}
}

func newHook() *Hook { return &Hook{Limits: limits(usualEvents(), 20)} }

func newMail() *Mail {
	return &Mail{Limits: limits(usualEvents(), 10), SMTP: "localhost:25", Timeout: 30 * time.Second}
}

// finish chooses how the server is spoken to, where nothing is said.
func (m *Mail) finish() {
	if m.TLS == "" {
		m.TLS = usualTLS(m.SMTP)
	}
}

func (l *Limits) table() group {
	return group{
		{"events", "Of what.", events{&l.Events}},
		{"per_hour", "At most so many messages in an hour. What is beyond comes together in one.", number{p: &l.PerHour, min: 1, max: maxPerHour}},
		{"digest", "Whether what happened is gathered: by the hour, or by the day, at 08:00 of this host's time. Alarms come at once.",
			offChoice[Digest]{choice[Digest]{&l.Digest, []Digest{DigestNone, DigestHourly, DigestDaily}}}},
		{"quiet", "When only alarms come at once; the rest comes together afterwards. None: never.", hours{&l.Quiet}},
	}
}

func (m *Mail) table() group {
	return append(group{
		{"to", "Who gets it.", words{p: &m.To, form: mailAddress("list of mail addresses; must be there"), max: maxRecipients, alone: true, needed: true}},
		{"from", "Whose it is. None: sekisho@ and this host's name.", word{p: &m.From, form: mailAddress("mail address, or `\"\"`")}},
		{"smtp", "The mail server.", word{p: &m.SMTP, form: mailServer(), needed: true}},
		{"tls", "How it is spoken to. `starttls`: encrypted, or not at all. `tls`: from the first byte on, as at port 465. `no`: in the clear, to this host only. " +
			"Left out: `tls` at port 465, `no` to this host, else `starttls`.", mailTLS{offChoice[TLS]{choice[TLS]{&m.TLS, []TLS{TLSStart, TLSImplicit, TLSNone}}}, &m.SMTP}},
		{"user", "Who logs in there. None: nobody.", word{p: &m.User, form: mailUser()}},
		{"password", "With what.", secret{&m.Password, passwordForm()}},
		{"password_file", "The file that holds it instead.", word{p: &m.PasswordFile, form: secretFile("/etc/sekisho/mail.password")}},
		{"timeout", "How long one attempt may take.", duration{&m.Timeout, sendMin, sendMax}},
	}, m.Limits.table()...)
}

func (w *Webhook) table() group {
	return append(group{
		{"url", "Where it is posted.", word{p: &w.URL, form: hookURL("https URL, http for this host alone; must be there", "https://example.com/sekisho"), needed: true}},
		{"secret", "The key that it is signed with, by HMAC-SHA256. None: it is not signed, and whoever finds the URL can tell lies there.", secret{&w.Secret, hmacKey()}},
		{"secret_file", "The file that holds it instead.", word{p: &w.SecretFile, form: secretFile("/etc/sekisho/webhook.key")}},
	}, w.Limits.table()...)
}

func hookKeys(name, example string) func(*Hook) group {
	return func(h *Hook) group {
		return append(group{
			{"url", "The incoming webhook's URL. Whoever has it may post.", secret{&h.URL, hookURL("https URL, http for this host alone", example)}},
			{"url_file", "The file that holds it instead.", word{p: &h.URLFile, form: secretFile("/etc/sekisho/" + name + ".url")}},
		}, h.Limits.table()...)
	}
}

func (t *Telegram) table() group {
	return append(group{
		{"token", "The bot's token, from @BotFather.", secret{&t.Token, botToken()}},
		{"token_file", "The file that holds it instead.", word{p: &t.TokenFile, form: secretFile("/etc/sekisho/telegram.token")}},
		{"chat", "Where it posts.", word{p: &t.Chat, form: chat(), needed: true}},
	}, t.Limits.table()...)
}

func (n *Ntfy) table() group {
	return append(group{
		{"url", "The topic. On a server that asks nobody who they are, whoever guesses it can read along.", word{p: &n.URL, form: topicURL(), needed: true}},
		{"token", "The access token. None: none is sent.", secret{&n.Token, accessToken()}},
		{"token_file", "The file that holds it instead.", word{p: &n.TokenFile, form: secretFile("/etc/sekisho/ntfy.token")}},
	}, n.Limits.table()...)
}

func (c *Command) table() group {
	return append(group{
		{"argv", "The program and its arguments.", argv{&c.Argv}},
		{"timeout", "How long it may run.", duration{&c.Timeout, sendMin, sendMax}},
	}, c.Limits.table()...)
}

// channel is a group of keys that is there or not.
type channel[T any] struct {
	p       **T
	begin   func() *T // what is so where nothing is said
	keys    func(*T) group
	finish  func(*T) // chooses what is left to others of its keys; nil: nothing is
	needed  []string
	example string // what must be there, a key a line
}

// inside has no name: the keys are the channel's own.
func (v channel[T]) inside() (string, group) {
	if *v.p != nil {
		return "", v.keys(*v.p)
	}
	return "", v.keys(v.begin())
}

func (v channel[T]) sample() string { return v.example }

func (v channel[T]) text() string {
	if *v.p == nil {
		return "no"
	}
	return v.keys(*v.p).changed(v.keys(v.begin()))
}

func (v channel[T]) grammar() string {
	_, keys := v.inside()
	return "its keys, `" + strings.Join(keys.names(), "`, `") + "`, or `no`"
}

func (v channel[T]) schema() object {
	s := v.keys(v.begin()).schema()
	if len(v.needed) > 0 {
		s["required"] = v.needed
	}
	return object{"anyOf": []any{object{"enum": []any{false, "no", "off"}}, s}}
}

func (v channel[T]) decode(d *decoder, path string, n *node) {
	*v.p = nil
	if n.kind == absent || n.kind == scalar && !n.quoted && slices.Contains(no[:], n.text) {
		return
	}
	item := v.begin()
	d.group(path, v.keys(item), n)
	if n.kind != mapping {
		return
	}
	for _, name := range v.needed {
		at := join(path, name)
		if _, given := d.places[at]; !given && !d.bad[at] {
			d.refuse(path, n.place, "write it like "+flowLines(v.example), "%s is missing", name)
		}
	}
	if v.finish != nil {
		v.finish(item)
	}
	*v.p = item
}

// flowLines is an example on one line.
func flowLines(example string) string { return "{" + strings.ReplaceAll(example, "\n", ", ") + "}" }

// offChoice is a choice one of whose words is no.
type offChoice[T ~string] struct{ choice[T] }

func (v offChoice[T]) schema() object {
	return object{"enum": append([]any{false, "off"}, anys(v.words())...), "default": v.text()}
}

func anys(texts []string) []any {
	res := make([]any, len(texts))
	for i, s := range texts {
		res[i] = s
	}
	return res
}

func (v offChoice[T]) decode(d *decoder, path string, n *node) {
	if n.kind == scalar && !n.quoted && slices.Contains(no[:], n.text) {
		*v.p = "no"
		return
	}
	v.choice.decode(d, path, n)
}

// mailTLS is a choice that is left to the server where nothing is said.
type mailTLS struct {
	offChoice[TLS]
	smtp *string
}

func (v mailTLS) text() string {
	if *v.p == "" {
		return usualTLS(*v.smtp).String()
	}
	return v.p.String()
}

func (v mailTLS) schema() object {
	s := v.offChoice.schema()
	delete(s, "default") // the server's
	return s
}

// events are kinds of events, in the order of documents; all is all of them.
type events struct{ p *[]string }

func (v events) text() string {
	if slices.Equal(*v.p, EventKinds()) {
		return "all"
	}
	return "[" + strings.Join(*v.p, ", ") + "]"
}

func (v events) grammar() string { return "list of events, or `all`" }

func (v events) schema() object {
	list := object{"type": "array", "items": object{"enum": EventKinds()}, "minItems": 1, "uniqueItems": true}
	return object{"anyOf": []any{object{"enum": append([]string{"all"}, EventKinds()...)}, list}}
}

func (v events) decode(d *decoder, path string, n *node) {
	items := n.items
	switch {
	case n.kind == scalar:
		items = []*node{n}
	case n.kind == mapping:
		d.refuse(path, n.place, "write it in brackets: [login, degraded]", "a mapping where a list is wanted")
		return
	case len(items) == 0:
		d.refuse(path, n.place, "leave the key out for the usual ones; to tell nobody this way, write no in place of the channel's keys", "names nothing")
		return
	}
	kinds := EventKinds()
	first := map[string]place{}
	for _, item := range items {
		if !scalarOf(d, path, item, "an event", "") {
			continue
		}
		at, twice := first[item.text]
		switch {
		case twice:
			d.refuse(path, item.place, "keep one; the first is on line "+strconv.Itoa(at.line), "%s is there twice", quote(item.text))
		case item.text == "all" && len(items) > 1:
			d.refuse(path, item.place, "write all alone, or leave it out", "all holds the others already")
		case item.text != "all" && !slices.Contains(kinds, item.text):
			hint := "the events are " + strings.Join(kinds, ", ") + "; all is all of them"
			if near := Nearest(item.text, append(kinds, "all")); near != "" {
				hint = "did you mean " + near + "?"
			}
			d.refuse(path, item.place, hint, "%s is no event", quote(item.text))
		}
		if !twice {
			first[item.text] = item.place
		}
	}
	if d.bad[path] {
		return
	}
	if _, all := first["all"]; !all {
		kinds = slices.DeleteFunc(kinds, func(k string) bool { _, named := first[k]; return !named })
	}
	*v.p = kinds
}

// argv is a program and its arguments.
type argv struct{ p *[]string }

func (v argv) text() string    { return flow(*v.p, Quote) }
func (v argv) grammar() string { return "list of an absolute path and arguments; must be there" }

func (v argv) schema() object {
	return object{"type": "array", "items": object{"type": []string{"string", "number", "boolean"}}, "minItems": 1, "maxItems": maxArguments}
}

func (v argv) decode(d *decoder, path string, n *node) {
	const write = "write it in brackets, each argument by itself: [/usr/local/bin/tell, --loud]"
	switch {
	case n.kind == scalar || n.kind == mapping:
		d.refuse(path, n.place, write+"; there is no shell", "a list is wanted")
		return
	case len(n.items) == 0:
		d.refuse(path, n.place, write, "names nothing")
		return
	case len(n.items) > maxArguments:
		d.refuse(path, n.items[maxArguments].place, "put them into a script, and name that", "more than %d arguments", maxArguments)
		return
	}
	var res []string
	for i, item := range n.items {
		text := item.text
		switch {
		case item.kind != scalar:
			d.refuse(path, item.place, "put it in quotes", "%s where an argument is wanted", item.what())
		case len(text) > maxArgument:
			d.refuse(path, item.place, "put it into a script, and name that", "an argument is longer than %d bytes", maxArgument)
		case text != printable.Text(text):
			d.refuse(path, item.place, "put it into a script, and name that", "an argument holds what cannot be seen")
		case i == 0 && !absolute(text):
			d.refuse(path, item.place, "write the whole path of the program, such as /usr/local/bin/tell", "the first is no absolute path")
		default:
			res = append(res, text)
		}
	}
	if !d.bad[path] {
		res[0] = clean(res[0])
		*v.p = res
	}
}

// absolute reports whether name is the path of a file from the root on.
func absolute(name string) bool {
	return path.IsAbs(name) && path.Clean(name) != "/" && name == printable.Text(name)
}

func clean(name string) string { return path.Clean(name) }

// privateNetworks are networks that are nobody's on the internet, none within another.
type privateNetworks struct{ prefixes }

func (v privateNetworks) decode(d *decoder, path string, n *node) {
	ps := prefixesOf(d, path, n)
	if len(ps) > maxPrivate {
		d.refuse(path, ps[maxPrivate].at, "", "more than %d networks", maxPrivate)
		return
	}
	for _, p := range ps {
		if hint, wrong := notPrivate(p.Prefix); wrong != "" {
			d.refuse(path, p.at, hint, "%s %s", p.Prefix, wrong)
		}
	}
	if !d.bad[path] {
		apart(d, path, ps)
	}
	if !d.bad[path] {
		*v.p = plainPrefixes(ps)
	}
}
