package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Secrets of these tests; they open nothing.
const (
	password  = "hunter2hunter2-pa55"
	slackURL  = "https://hooks.slack.com/services/T0/B0/hunter2hunter2"
	botSecret = "123456789:hunter2hunter2hunter2hunter2hunter"
)

func TestParseNotify(t *testing.T) {
	mail := func(change func(*Mail)) func(*Notify) {
		return func(n *Notify) {
			n.Mail = newMail()
			n.Mail.To, n.Mail.TLS = []string{"ops@example.com"}, TLSNone
			if change != nil {
				change(n.Mail)
			}
		}
	}
	for _, tt := range []struct {
		name, src string
		change    func(*Notify)
	}{
		{"nothing", "", func(*Notify) {}},
		{"nothing in it", "  # mail:\n", func(*Notify) {}},
		{"no channels", "  mail: no\n  webhook: off\n  slack: false\n  discord:\n  telegram:\n    # token_file: /x\n  ntfy: no\n  command: no\n", func(*Notify) {}},
		{"Japanese, nobody asked", "  language: ja\n  lookup: no\n", func(n *Notify) { n.Language, n.Lookup = Japanese, false }},
		{"private", "  private: [10.0.0.0/8, 192.168.1.7, 172.16.0.0/12, 100.64.0.0/10, 127.0.0.1, ::1, fd12::/16]\n", func(n *Notify) {
			n.Private = prefixList("10.0.0.0/8", "192.168.1.7/32", "172.16.0.0/12", "100.64.0.0/10", "127.0.0.1/32", "::1/128", "fd12::/16")
		}},
		{"the least mail", "  mail: {to: ops@example.com}\n", mail(nil)},
		{"weekly", "  weekly: yes\n  mail: {to: [ops@example.com]}\n", func(n *Notify) { mail(nil)(n); n.Weekly = true }},
		{"the whole mail", "  mail:\n    to: [root@localhost, a.b+c@Example.COM]\n    from: x@y\n    smtp: Mail.example.com:587\n    tls: starttls\n    user: me\n    password: " + password +
			"\n    timeout: 5m\n    events: [degraded, ban]\n    per_hour: 1000\n    digest: daily\n    quiet: \"daily 22:00-07:00 Asia/Tokyo\"\n",
			mail(func(m *Mail) {
				m.To, m.From, m.SMTP, m.TLS, m.User, m.Password = []string{"root@localhost", "a.b+c@Example.COM"}, "x@y", "mail.example.com:587", TLSStart, "me", password
				m.Timeout, m.Events, m.PerHour, m.Digest = 5*time.Minute, []string{"ban", "degraded"}, 1000, DigestDaily
				m.Quiet = Hours{{Days: days("xxxxxxx"), From: 22 * time.Hour, To: 7 * time.Hour, Zone: zone("Asia/Tokyo")}}
			})},
		{"a password of digits, to this host", "  mail: {to: ops@example.com, user: me, password: 0123}\n", mail(func(m *Mail) { m.User, m.Password = "me", "0123" })},
		{"a password that looks like a word of YAML's", "  mail: {to: ops@example.com, user: me, password: \"no\", digest: off}\n", mail(func(m *Mail) { m.User, m.Password = "me", "no" })},
		{"a password in a file", "  mail: {to: ops@example.com, user: me, password_file: /run//x, password: \"\"}\n", mail(func(m *Mail) { m.User, m.PasswordFile = "me", "/run/x" })},
		{"elsewhere", "  mail: {to: ops@example.com, smtp: mail.example.com:25}\n", mail(func(m *Mail) { m.SMTP, m.TLS = "mail.example.com:25", TLSStart })},
		{"at port 465", "  mail: {to: ops@example.com, smtp: mail.example.com:465}\n", mail(func(m *Mail) { m.SMTP, m.TLS = "mail.example.com:465", TLSImplicit })},
		{"at port 465 of this host", "  mail: {to: ops@example.com, smtp: localhost:465}\n", mail(func(m *Mail) { m.SMTP, m.TLS = "localhost:465", TLSImplicit })},
		{"this host, IPv6", "  mail: {to: ops@example.com, smtp: '[0::1]:25'}\n", mail(func(m *Mail) { m.SMTP = "[::1]:25" })},
		{"this host, 127.", "  mail: {to: ops@example.com, smtp: 127.0.1.1:25, tls: no}\n", mail(func(m *Mail) { m.SMTP = "127.0.1.1:25" })},
		{"this host, encrypted", "  mail: {to: ops@example.com, tls: starttls}\n", mail(func(m *Mail) { m.TLS = TLSStart })},
		{"all", "  mail: {to: ops@example.com, events: all}\n", mail(func(m *Mail) { m.Events = EventKinds() })},
		{"all, as a list", "  mail: {to: ops@example.com, events: [all]}\n", mail(func(m *Mail) { m.Events = EventKinds() })},
		{"one event", "  mail: {to: ops@example.com, events: login}\n", mail(func(m *Mail) { m.Events = []string{"login"} })},
		{"a webhook", "  webhook: {url: 'https://example.com/a?b=c', secret: 0123456789abcdef}\n", func(n *Notify) {
			n.Webhook = &Webhook{Limits: limits(EventKinds(), 600), URL: "https://example.com/a?b=c", Secret: "0123456789abcdef"}
		}},
		{"a webhook on this host", "  private: [::1]\n  webhook: {url: 'http://[::1]:8080/'}\n", func(n *Notify) {
			n.Private = prefixList("::1/128")
			n.Webhook = &Webhook{Limits: limits(EventKinds(), 600), URL: "http://[::1]:8080/"}
		}},
		{"a webhook in a private network", "  private: [10.0.0.0/8]\n  webhook: {url: https://10.1.2.3/}\n", func(n *Notify) {
			n.Private = prefixList("10.0.0.0/8")
			n.Webhook = &Webhook{Limits: limits(EventKinds(), 600), URL: "https://10.1.2.3/"}
		}},
		{"chats", "  slack: {url: " + slackURL + ", digest: hourly}\n  discord: {url_file: /x, per_hour: 1}\n  telegram: {token: \"" + botSecret + "\", chat: -100123}\n  ntfy: {url: https://ntfy.sh/a_b-C, token: tk_x}\n", func(n *Notify) {
			n.Slack = &Hook{Limits: limits(usualEvents(), 20), URL: slackURL}
			n.Slack.Digest = DigestHourly
			n.Discord = &Hook{Limits: limits(usualEvents(), 1), URLFile: "/x"}
			n.Telegram = &Telegram{Limits: limits(usualEvents(), 20), Token: botSecret, Chat: "-100123"}
			n.Ntfy = &Ntfy{Limits: limits(usualEvents(), 20), URL: "https://ntfy.sh/a_b-C", Token: "tk_x"}
		}},
		{"files of chats", "  slack: {url_file: /etc/s}\n  telegram: {token_file: /t, chat: '@channel'}\n  ntfy: {url: 'https://a.example/push/t', token_file: /n}\n", func(n *Notify) {
			n.Slack = &Hook{Limits: limits(usualEvents(), 20), URLFile: "/etc/s"}
			n.Telegram = &Telegram{Limits: limits(usualEvents(), 20), TokenFile: "/t", Chat: "@channel"}
			n.Ntfy = &Ntfy{Limits: limits(usualEvents(), 20), URL: "https://a.example/push/t", TokenFile: "/n"}
		}},
		{"a command", "  command: {argv: [/usr//bin/logger, -t, \"a b\", 1, -t, \"\", $HOME], timeout: 1s}\n", func(n *Notify) {
			n.Command = &Command{Limits: limits(EventKinds(), 600), Argv: []string{"/usr/bin/logger", "-t", "a b", "1", "-t", "", "$HOME"}, Timeout: time.Second}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := Default()
			tt.change(&want.Notify)
			got, err := Parse("x.yaml", []byte("version: 1\nnotify:\n"+tt.src))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, comparePrefixes, showSecrets); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			named := map[string]Remark{}
			table(got).walk("", func(path string, _ key) { named[path] = Remark{Named: secretive(path)} })
			file := File(got, nil, named)
			back, err := Parse("back.yaml", file)
			if strings.Contains(string(file), hidden) {
				if err == nil || !strings.Contains(err.Error(), "stands for a secret, and is none") {
					t.Errorf("a file without its secrets is read: %v\n%s", err, file)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, file)
			}
			if diff := cmp.Diff(got, back, comparePrefixes, showSecrets); diff != "" {
				t.Errorf("File is not read back (-want +got):\n%s", diff)
			}
		})
	}
}

// showSecrets compares secrets by what they are, not by how they show themselves.
var showSecrets = cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() })

func TestMistakesOfNotify(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		name, src string
		want      []string
	}{
		{"a text", "notify: ops@example.com", []string{`2:9 notify: a text where keys are wanted | write its keys below it, indented: language, lookup, private, weekly, mail, webhook, slack, discord, telegram, ntfy, command`}},
		{"a URL for a channel", "notify:\n  slack: " + slackURL, []string{`3:10 notify.slack: a text where keys are wanted | write its keys below it, indented: url, url_file, events, per_hour, digest, quiet`}},
		{"yes for a channel", "notify: {mail: yes}", []string{`2:16 notify.mail: a text where keys are wanted | write its keys below it, indented: to, from, smtp, tls, user, password, password_file, timeout, events, per_hour, digest, quiet`}},
		{"what must be there", "notify:\n  mail: {}\n  webhook: {}\n  slack: {}\n  discord: {}\n  telegram: {}\n  ntfy: {}\n  command: {}\n", []string{
			`3:9 notify.mail: to is missing | write it like {to: [ops@example.com]}`,
			`4:12 notify.webhook: url is missing | write it like {url: https://example.com/sekisho, secret_file: /etc/sekisho/webhook.key}`,
			`5:10 notify.slack has neither url nor url_file | name the file that holds it: url_file: /etc/sekisho/slack.url`,
			`6:12 notify.discord has neither url nor url_file | name the file that holds it: url_file: /etc/sekisho/discord.url`,
			`7:13 notify.telegram: chat is missing | write it like {token_file: /etc/sekisho/telegram.token, chat: "-1001234567890"}`,
			`8:9 notify.ntfy: url is missing | write it like {url: https://ntfy.sh/a-topic-that-nobody-guesses}`,
			`9:12 notify.command: argv is missing | write it like {argv: [/usr/local/bin/tell]}`}},
		{"empty", "notify:\n  mail: {to: []}\n  webhook: {url: \"\"}\n  telegram: {token_file: /x, chat: }\n  command: {argv: []}\n", []string{
			`3:14 notify.mail.to: names nothing | name one: [ops@example.com]`,
			`4:18 notify.webhook.url: is no https URL | write it like https://example.com/sekisho`,
			`5:35 notify.telegram.chat: there is no value; want a chat | write it like "-1001234567890"`,
			`6:19 notify.command.argv: names nothing | write it in brackets, each argument by itself: [/usr/local/bin/tell, --loud]`}},
		{"weekly to nobody", "notify: {weekly: yes}", []string{`2:18 notify.weekly is yes, but there is no notify.mail | say to whom: mail: {to: [ops@example.com]}`}},
		{"language", "notify: {language: jp}", []string{`2:20 notify.language: "jp" is not known | write one of en, ja`}},
		{"private", "notify: {private: [10.0.0.0/8, 10.1.0.0/16, 0.0.0.0/0, 8.8.8.8, 10.0.0.0/7, 169.254.169.254, fe80::/10, 'fd00:ec2::254', ::/0]}", []string{
			`2:45 notify.private: 0.0.0.0/0 is where clouds tell their secrets | leave it out`,
			`2:56 notify.private: 8.8.8.8/32 is not private | leave it out: what is public can be reached anyhow`,
			`2:65 notify.private: 10.0.0.0/7 is not private`,
			`2:77 notify.private: 169.254.169.254/32 is where clouds`,
			`2:94 notify.private: fe80::/10 is where clouds`,
			`2:105 notify.private: fd00:ec2::254/128 is where clouds`,
			`2:122 notify.private: ::/0 is where clouds`}},
		{"private within private", "notify: {private: [10.0.0.0/8, 10.1.0.0/16]}", []string{`2:32 notify.private: 10.1.0.0/16 is within 10.0.0.0/8 | leave one of them out; 10.0.0.0/8 is on line 2`}},
		{"mail addresses", "notify:\n  mail:\n    to:\n    - root\n    - Ops <ops@example.com>\n    - a@b.c, d@e.f\n    - ops@花.jp\n    - 花@example.jp\n    - \"a@b.c\\r\\nBcc: x@y.z\"\n    - -f@example.com\n    - \"\\\"a b\\\"@example.com\"\n    - ops@[127.0.0.1]\n    - a@b@c\n    - a..b@c\n    - \"@c\"\n    - " + long + "@example.com\n    - ops@example.com\n    - ops@Example.com\n    - ops@-x\n", []string{
			`5:7 notify.mail.to: "root" is no mail address | write the whole address, such as root@localhost`,
			`6:7 notify.mail.to: "Ops <ops@example.com>" is more than a mail address | write ops@example.com alone`,
			`7:7 notify.mail.to: "a@b.c, d@e.f" is more than one mail address | write each as an item of the list: [a@example.com, b@example.com]`,
			`8:7 notify.mail.to: "ops@花.jp" is no mail address that is taken here | write the domain as DNS has it, xn--...`,
			`9:7 notify.mail.to: "花@example.jp" is no mail address that is taken here | write an address in ASCII: not every server on the way takes others`,
			`10:7 notify.mail.to: "a@b.c\r\nBcc: x@y.z" is no mail address that is taken here | write it like ops@example.com`,
			`11:7 notify.mail.to: "-f@example.com" is no mail address that is taken here | write it like ops@example.com`,
			`12:7 notify.mail.to: ""a b"@example.com" is no mail address that is taken here | write it like ops@example.com`,
			`13:7 notify.mail.to: "ops@[127.0.0.1]" is no mail address that is taken here | write it like ops@example.com`,
			`14:7 notify.mail.to: "a@b@c" is no mail address that is taken here | write it like ops@example.com`,
			`15:7 notify.mail.to: "a..b@c" is no mail address that is taken here | write it like ops@example.com`,
			`16:7 notify.mail.to: "@c" is no mail address that is taken here | write it like ops@example.com`,
			`17:7 notify.mail.to: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…" is no mail address that is taken here | write it like ops@example.com`,
			`19:7 notify.mail.to: "ops@Example.com" is there twice | keep one; the first is on line 18`,
			`20:7 notify.mail.to: "ops@-x" is no mail address that is taken here | write it like ops@example.com`}},
		{"too many", "notify: {mail: {to: [" + numbered("a%d@b.c, ", maxRecipients) + "z@b.c]}}", []string{`2:192 notify.mail.to: more than 20`}},
		{"from", "notify: {mail: {to: a@b.c, from: [x@y.z]}}", []string{`2:34 notify.mail.from: a list where a mail address is wanted`}},
		{"servers", "notify:\n  mail: {to: a@b.c, smtp: mail.example.com}\n  webhook: {url: https://a.example}\n", []string{
			`3:27 notify.mail.smtp: "mail.example.com" has no port | write the port, too: mail.example.com:25 or mail.example.com:587`}},
		{"a server as a URL", "notify: {mail: {to: a@b.c, smtp: smtps://mail.example.com}}", []string{
			`2:34 notify.mail.smtp: is more than host and port | write it like localhost:25, mail.example.com:587 or [2001:db8::1]:25; tls: says how it is spoken to`}},
		{"a server with a password", "notify: {mail: {to: a@b.c, smtp: 'me:" + password + "@mail.example.com:25'}}", []string{
			`2:34 notify.mail.smtp: is more than host and port | write host and port alone; user: and password_file: are for the rest`}},
		{"a server's port", "notify: {mail: {to: a@b.c, smtp: localhost:0}}", []string{
			`2:34 notify.mail.smtp: "localhost:0" is no host and port | ports are numbers from 1 to 65535; write it like localhost:25, mail.example.com:587 or [2001:db8::1]:25`}},
		{"a server of metadata", "notify: {mail: {to: a@b.c, smtp: 169.254.169.254:25}}", []string{
			`2:34 notify.mail.smtp: "169.254.169.254:25" is no host and port | write it like localhost:25, mail.example.com:587 or [2001:db8::1]:25`}},
		{"an address without brackets", "notify: {mail: {to: a@b.c, smtp: '2001:db8::1'}}", []string{`2:34 notify.mail.smtp: "2001:db8::1" has no port`}},
		{"in the clear", "notify: {mail: {to: a@b.c, smtp: mail.example.com:25, tls: no}}", []string{
			`2:60 notify.mail.tls is no, and "mail.example.com:25" is not this host: whoever is on the way could read along | write starttls or tls; or leave tls out, and smtp too, for the mail server of this host to pass it on`}},
		{"in the clear, a name that only begins like this host", "notify: {mail: {to: a@b.c, smtp: localhost.example.com:25, tls: no}}", []string{
			`2:65 notify.mail.tls is no, and "localhost.example.com:25" is not this host`}},
		{"STARTTLS at 465", "notify: {mail: {to: a@b.c, smtp: mail.example.com:465, tls: starttls}}", []string{
			`2:61 notify.mail.tls is starttls, and port 465 is spoken to in TLS from the first byte on | write tls: tls, or port 587 for starttls`}},
		{"in the clear at 465", "notify: {mail: {to: a@b.c, smtp: localhost:465, tls: no}}", []string{`2:54 notify.mail.tls is no, and port 465 is spoken to`}},
		{"tls: yes", "notify: {mail: {to: a@b.c, tls: yes}}", []string{`2:33 notify.mail.tls: "yes" is not known | write one of starttls, tls, no`}},
		{"a user without a password", "notify: {mail: {to: a@b.c, user: me}}", []string{
			`2:34 notify.mail.user is there, and no password | name the file that holds it: password_file: /etc/sekisho/mail.password`}},
		{"a password of nobody", "notify: {mail: {to: a@b.c, password: " + password + "}}", []string{`2:38 notify.mail has a password, and no user | say whose it is: user: sekisho@example.com`}},
		{"secrets twice", "notify:\n  mail: {to: a@b.c, user: me, password: x, password_file: /x}\n  webhook: {url: https://a.example, secret: 0123456789abcdef, secret_file: /x}\n  slack: {url: " + slackURL + ", url_file: /x}\n  discord: {url: " + slackURL + ", url_file: /x}\n  telegram: {chat: 1, token: \"" + botSecret + "\", token_file: /x}\n  ntfy: {url: https://a.example/t, token: x, token_file: /x}\n", []string{
			`3:59 notify.mail.password and notify.mail.password_file are both there | keep one, best the file: this one can be shown to others then`,
			`4:76 notify.webhook.secret and`, `5:81 notify.slack.url and`, `6:83 notify.discord.url and`, `7:90 notify.telegram.token and`, `8:58 notify.ntfy.token and`}},
		{"secrets that are none", "notify:\n  mail: {to: a@b.c, user: me, password: \"a\\nb\"}\n  webhook: {url: https://a.example, secret: short}\n  slack: {url: http://hooks.slack.com/x}\n  telegram: {chat: 1, token: x}\n  ntfy: {url: https://a.example/t, token: a b}\n", []string{
			`3:41 notify.mail.password: holds what cannot be seen | write the password, in quotes`,
			`4:45 notify.webhook.secret: is shorter than 16 bytes: it could be guessed | make one: openssl rand -hex 32`,
			`5:16 notify.slack.url: is not https | write https://; whoever is on the way could read along otherwise`,
			`6:30 notify.telegram.token: is no token of a bot | write it as @BotFather gave it: a number, a colon and some 35 letters, in quotes`,
			`7:43 notify.ntfy.token: is no access token | write it as the server gave it, tk_...`}},
		{"what stands for a secret", "notify: {mail: {to: a@b.c, user: me, password: <secret>}}", []string{`2:48 notify.mail.password: this stands for a secret, and is none | write it anew: it was left out where this file comes from`}},
		{"no password after its key", "notify:\n  mail:\n    to: a@b.c\n    user: me\n    password:\n", []string{`6:15 notify.mail.password: there is no value; want a password | write it in quotes, or leave the key out`}},
		{"a password of several", "notify: {mail: {to: a@b.c, user: me, password: [x]}}", []string{`2:48 notify.mail.password: a list where a password is wanted`}},
		{"files of secrets", "notify: {mail: {to: a@b.c, user: me, password_file: " + password + "}, slack: {url_file: /}}", []string{
			`2:53 notify.mail.password_file: is no absolute path of a file | write the whole path of a file that holds it and nothing else, such as /etc/sekisho/mail.password`,
			`2:93 notify.slack.url_file: is no absolute path of a file`}},
		{"URLs", "notify: {webhook: {url: 'ftp://a.example/'}}", []string{`2:25 notify.webhook.url: is no https URL | write it like https://example.com/sekisho`}},
		{"a URL in the clear", "notify: {webhook: {url: http://a.example/}}", []string{`2:25 notify.webhook.url: is not https | write https://`}},
		{"a URL with a password", "notify: {webhook: {url: 'https://me:" + password + "@a.example/'}}", []string{`2:25 notify.webhook.url: holds a name or a password | leave out the name and the password in front of the host`}},
		{"a URL with a fragment", "notify: {webhook: {url: 'https://a.example/#'}}", []string{`2:25 notify.webhook.url: has a fragment`}},
		{"a URL with a space", "notify: {webhook: {url: 'https://a.example/a b'}}", []string{`2:25 notify.webhook.url: holds what a URL cannot`}},
		{"a URL with a line end", "notify: {webhook: {url: \"https://a.example/\\r\\nX: y\"}}", []string{`2:25 notify.webhook.url: is no https URL`}},
		{"a URL that is too long", "notify: {webhook: {url: https://a.example/" + strings.Repeat("x", maxHookURL) + "}}", []string{`2:25 notify.webhook.url: is longer than 2048 bytes`}},
		{"a URL without a port after the colon", "notify: {webhook: {url: 'https://a.example:/'}}", []string{`2:25 notify.webhook.url: has no port after the colon`}},
		{"a URL of port 0", "notify: {webhook: {url: 'https://a.example:0/'}}", []string{`2:25 notify.webhook.url: has no port after the colon`}},
		{"metadata", "notify: {private: [10.0.0.0/8], webhook: {url: https://169.254.169.254/latest}}", []string{`2:48 notify.webhook.url: is where clouds tell their secrets`}},
		{"metadata, IPv6", "notify: {webhook: {url: 'https://[fd00:ec2::254]/latest'}}", []string{`2:25 notify.webhook.url: is where clouds tell their secrets`}},
		{"an address in one number", "notify: {webhook: {url: https://2130706433/}}", []string{`2:25 notify.webhook.url: names no host`}},
		{"an address in two", "notify: {webhook: {url: https://127.1/}}", []string{`2:25 notify.webhook.url: names no host`}},
		{"an address in hex", "notify: {webhook: {url: https://0x7f000001/}}", []string{`2:25 notify.webhook.url: names no host`}},
		{"IPv4 as IPv6", "notify: {webhook: {url: 'https://[::ffff:10.0.0.1]/'}}", []string{`2:25 notify.webhook.url: is no address to connect to`}},
		{"nobody's address", "notify: {webhook: {url: 'https://0.0.0.0/'}}", []string{`2:25 notify.webhook.url: is no address to connect to`}},
		{"private without leave", "notify:\n  private: [192.168.0.0/24]\n  webhook: {url: https://192.168.1.1/}\n  slack: {url: 'https://[fd12::1]/x'}\n  ntfy: {url: https://100.64.0.1/t}\n", []string{
			`4:18 notify.webhook.url names 192.168.1.1, which is in a private network | let webhooks in there: notify: {private: [192.168.1.1]}`,
			`5:16 notify.slack.url names fd12::1,`, `6:15 notify.ntfy.url names 100.64.0.1,`}},
		{"this host without leave", "notify:\n  webhook: {url: http://localhost:8080/}\n  slack: {url: 'http://[::1]/x'}\n  ntfy: {url: https://127.0.0.1/t}\n", []string{
			`3:18 notify.webhook.url names 127.0.0.1, which is in a private network | let webhooks in there: notify: {private: [127.0.0.1]}`,
			`4:16 notify.slack.url names ::1,`, `5:15 notify.ntfy.url names 127.0.0.1,`}},
		{"topics", "notify: {ntfy: {url: https://ntfy.sh/}}", []string{`2:22 notify.ntfy.url: names no topic | write the topic behind the host, as https://ntfy.sh/a-topic-that-nobody-guesses`}},
		{"a topic with a query", "notify: {ntfy: {url: 'https://ntfy.sh/a?auth=x'}}", []string{`2:22 notify.ntfy.url: is more than a topic's URL | leave out what follows the ?; a token goes into token_file`}},
		{"a topic that cannot be", "notify: {ntfy: {url: 'https://ntfy.sh/a%20b'}}", []string{`2:22 notify.ntfy.url: names no topic that there can be`}},
		{"chats", "notify: {telegram: {token_file: /x, chat: '@a b'}}", []string{`2:43 notify.telegram.chat: "@a b" is no chat | write its number, such as "-1001234567890" for a group, or @ and the name of a public one, in quotes`}},
		{"a chat of zeros", "notify: {telegram: {token_file: /x, chat: 0123}}", []string{`2:43 notify.telegram.chat: "0123" is no chat`}},
		{"commands", "notify: {command: {argv: /usr/bin/tell --loud}}", []string{`2:26 notify.command.argv: a list is wanted | write it in brackets, each argument by itself: [/usr/local/bin/tell, --loud]; there is no shell`}},
		{"arguments", "notify:\n  command:\n    argv:\n    - tell\n    - {a: b}\n    - \"a\\0b\"\n    - " + strings.Repeat("x", maxArgument+1) + "\n    -\n", []string{
			`5:7 notify.command.argv: the first is no absolute path | write the whole path of the program, such as /usr/local/bin/tell`,
			`6:8 notify.command.argv: a mapping where an argument is wanted | put it in quotes`,
			`7:7 notify.command.argv: an argument holds what cannot be seen | put it into a script, and name that`,
			`8:7 notify.command.argv: an argument is longer than 4096 bytes | put it into a script, and name that`,
			`9:7 notify.command.argv: nothing where an argument is wanted | put it in quotes`}},
		{"too many arguments", "notify: {command: {argv: [/x, " + strings.Repeat("a, ", maxArguments) + "]}}", []string{`2:220 notify.command.argv: more than 64 arguments | put them into a script, and name that`}},
		{"events", "notify: {mail: {to: a@b.c, events: [logins, ban, ban, wurst, all, [x]]}}", []string{
			`2:37 notify.mail.events: "logins" is no event | did you mean login?`,
			`2:50 notify.mail.events: "ban" is there twice | keep one; the first is on line 2`,
			`2:55 notify.mail.events: "wurst" is no event | the events are ban, repeat, unban, attack_began, attack_ended, login, login_doubt, trial, drift, conntrack, country, lease_stuck, group_finding, gate_approval, gate_break_glass, gate_disabled, degraded, report; all is all of them`,
			`2:62 notify.mail.events: all holds the others already | write all alone, or leave it out`,
			`2:67 notify.mail.events: a list where an event is wanted`}},
		{"no events", "notify: {mail: {to: a@b.c, events: []}}", []string{`2:36 notify.mail.events: names nothing | leave the key out for the usual ones; to tell nobody this way, write no in place of the channel's keys`}},
		{"events that are none", "notify: {mail: {to: a@b.c, events: {ban: yes}}}", []string{`2:37 notify.mail.events: a mapping where a list is wanted | write it in brackets: [login, degraded]`}},
		{"limits", "notify: {mail: {to: a@b.c, per_hour: 0, digest: weekly, quiet: night, timeout: 1h}}", []string{
			`2:38 notify.mail.per_hour: 0 is out of range | write a number from 1 to 1000`,
			`2:49 notify.mail.digest: "weekly" is not known | write one of no, hourly, daily`,
			`2:64 notify.mail.quiet: "night" is no span of the week`,
			`2:80 notify.mail.timeout: 1h is out of range`}},
		{"keys", "notify:\n  mial: {}\n  mail: {to: a@b.c, sntp: x, cc: a@b.c}\n  timeout: 1s\n", []string{
			`3:3 there is no key "notify.mial" | did you mean mail?`,
			`4:21 there is no key "notify.mail.sntp" | did you mean smtp?`,
			`4:30 there is no key "notify.mail.cc" | `,
			`5:3 there is no key "notify.timeout" | did you mean notify.mail.timeout?`}},
		{"at the wrong level", "mail: {to: a@b.c}\nsmtp: localhost:25\n", []string{
			`2:1 there is no key "mail" | did you mean notify.mail?`, `3:1 there is no key "smtp" | did you mean notify.mail.smtp?`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := mistakesOf(t, "version: 1\n"+tt.src)
			for i, w := range tt.want {
				if i < len(got) && strings.HasPrefix(got[i], w) {
					continue
				}
				t.Errorf("mistake %d:\n got %s\nwant %s", i, append(got, slices.Repeat([]string{"none"}, i+1)...)[i], w)
			}
			if len(got) > len(tt.want) {
				t.Errorf("also: %s", strings.Join(got[len(tt.want):], "\n"))
			}
			if text := strings.Join(got, "\n"); strings.Contains(text, "hunter2") {
				t.Errorf("a secret is told: %s", text)
			}
		})
	}
}

// secretFileOf is a file with all the secrets, as people write it.
const secretFileOf = `version: 1
notify:
  mail:
    to: [ops@example.com]
    smtp: mail.example.com:587
    user: me
    password: ` + password + `
    per_hour: 10
  webhook: {url: 'https://a.example/x', secret: ` + password + `, events: [ban]}
  slack:
    url: ` + slackURL + `
  discord: {url: "https://discord.com/api/webhooks/1/hunter2hunter2"}
  telegram: {chat: "-100", token: "` + botSecret + `"}
  ntfy:
    url: https://ntfy.sh/t
    token: >-
      hunter2hunter2
metrics:
  listen: 127.0.0.1:9222
`

// TestSecretsAreHidden: however a configuration is printed, its secrets are not.
func TestSecretsAreHidden(t *testing.T) {
	c, err := Parse("x.yaml", []byte(secretFileOf))
	if err != nil {
		t.Fatal(err)
	}
	n := c.Notify
	if n.Mail.Password.Reveal() != password || n.Slack.URL.Reveal() != slackURL || n.Ntfy.Token.Reveal() != "hunter2hunter2" {
		t.Fatal("the secrets were not read: nothing is tested")
	}
	var all []string
	for _, v := range []any{c, n, *n.Mail, *n.Webhook, *n.Slack, *n.Discord, *n.Telegram, *n.Ntfy, n.Mail.Password, &n.Mail.Password} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "% x", "%10.3v"} {
			all = append(all, fmt.Sprintf(verb, v))
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(out))
		var b strings.Builder
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
		all = append(all, b.String())
	}
	named := map[string]Remark{}
	table(c).walk("", func(path string, _ key) {
		all = append(all, Text(c, path))
		named[path] = Remark{Named: true}
	})
	all = append(all, string(File(c, nil, named)))
	for _, text := range all {
		for _, s := range []string{"hunter2", "68756e74657232", "68 75 6e 74 65 72 32"} {
			if strings.Contains(strings.ToLower(text), s) {
				t.Errorf("a secret is shown: %s", text)
			}
		}
	}
	if got := Text(c, "notify.mail.password"); got != `"<secret>"` {
		t.Errorf("Text = %s", got)
	}
}

// TestSecretsOfBrokenFiles: whatever single thing is wrong with a file, its mistakes are
// shown without the secrets.
func TestSecretsOfBrokenFiles(t *testing.T) {
	var sources []string
	for i := range secretFileOf {
		if !strings.Contains(secretFileOf[max(0, i-7):min(len(secretFileOf), i+8)], "hunter2") {
			sources = append(sources, secretFileOf[:i]+secretFileOf[i+1:])
		}
		for _, with := range []string{" ", "\n", ":", ": ", "{", "}", ",", "\"", "'", "#", "|", "x"} {
			if i > 0 && strings.Contains(secretFileOf[max(0, i-6):min(len(secretFileOf), i+6)], "hunter2") {
				continue
			}
			sources = append(sources, secretFileOf[:i]+with+secretFileOf[i:])
		}
	}
	for line := range strings.SplitSeq(secretFileOf, "\n") {
		sources = append(sources, strings.Replace(secretFileOf, line+"\n", "", 1), strings.Replace(secretFileOf, line, "  "+line, 1), strings.Replace(secretFileOf, line, strings.TrimPrefix(line, "  "), 1))
	}
	lost := func(text string) { sources = append(sources, "version: 1\n"+text) }
	lost("notify:\n  mail: {to: a@b.c, hunter2hunter2}\n")
	lost("notify:\n  mail: {to: a@b.c, hunter2hunter2, hunter2hunter2}\n")
	lost("notify:\n  mail: {to: a@b.c, password:hunter2hunter2}\n")
	lost("notify:\n  mail: {to: a@b.c, password hunter2hunter2}\n")
	lost("notify:\n  mail: {to: a@b.c, pasword: hunter2hunter2}\n")
	lost("notify:\n  mail: {to: a@b.c, kennwort: hunter2hunter2}\n")
	lost("notify:\n  mail:\n    password=hunter2hunter2\n")
	lost("notify:\n  mail:\n    user: me\n    hunter2hunter2\n")
	lost("notify:\n  mail:\n    pass:\n      hunter2hunter2: x\n")
	lost("notfy: {mail: {password: hunter2hunter2}}\n")
	lost("notify: {mail:\n{password:\nhunter2hunter2: x\n}, x: y}\n")
	lost("mail: {to: a@b.c, password: hunter2hunter2}\n")
	lost("password: hunter2hunter2\n")
	lost("slack: https://hooks.slack.com/services/hunter2hunter2\n")
	lost("telegram: " + botSecret + "\n")
	lost("notify:\n  telegram: " + botSecret + "\n")
	lost("notify:\n- password: hunter2hunter2\n")
	lost("notify: {mail: {to: a@b.c, smtp: 'me:hunter2hunter2@mail.example.com:25'}}\n")
	lost("notify: {mail: {to: a@b.c, user: x, password_file: hunter2hunter2}}\n")
	lost("notify: {webhook: {url: 'https://me:hunter2hunter2@a.example'}}\n")
	lost("notify: {webhook: {url: 'http://a.example/hunter2hunter2'}}\n")
	sources = append(sources, `{"version":1,"notify":{"mail":{"to":["a@b.c"],"passwort":"hunter2hunter2"}}}`, "{\n \"version\":1,\n \"notify\": {\n  \"mail\": {\n   \"Password\": \"hunter2hunter2\"\n  }\n },\n \"x\": 1\n}\n")
	wrong, failed := 0, 0
	for _, src := range sources {
		_, err := Parse("x.yaml", []byte(src))
		if err == nil {
			continue
		}
		wrong++
		out, jsonErr := json.Marshal(err)
		if text := err.Error() + string(out); jsonErr != nil || strings.Contains(text, "hunter2") {
			t.Errorf("%v\nof\n%s", err, src)
			if failed++; failed > 5 {
				t.FailNow()
			}
		}
	}
	t.Logf("%d of %d files were wrong", wrong, len(sources))
}

// TestExcerptsOfNotify: what holds no secret is shown where it is wrong.
func TestExcerptsOfNotify(t *testing.T) {
	const masked = "(not shown: it may hold a secret)"
	for _, tt := range []struct{ name, src, want string }{
		{"a key of its own", "notify:\n  mail:\n    per_hour: x\n", "    per_hour: x"},
		{"a channel on a line", "notify:\n  mail: {to: a@b.c, smtp: localhost:25, per_hour: x}\n", "  mail: {to: a@b.c, smtp: localhost:25, per_hour: x}"},
		{"all on a line", "notify: {weekly: yes}\n", "notify: {weekly: yes}"},
		{"a list", "notify:\n  mail:\n    to:\n    - a@b.c\n    - x\n", "    - x"},
		{"hours", "notify:\n  mail:\n    to: a@b.c\n    quiet: [daily 22:00-07:00 Asia/Tokyo, x]\n", "    quiet: [daily 22:00-07:00 Asia/Tokyo, x]"},
		{"arguments", "notify:\n  command:\n    argv:\n    - tell\n", masked},
		{"beside a secret", "notify:\n  mail: {to: x, user: y, password: z}\n", masked},
		{"below a secret", "notify:\n  mail:\n    to: x\n    password: z\n    user: y\n", "    to: x"},
		{"after it", "notify:\n  weekly: no\nguard:\n  mode: x\n", "  mode: x"},
		{"before it", "guard: {mode: x}\nnotify:\n  weekly: no\n", "guard: {mode: x}"},
		{"ssh", "ssh: {password_login: maybe}\n", "ssh: {password_login: maybe}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x.yaml", []byte("version: 1\n"+tt.src))
			wrong, ok := errors.AsType[Errors](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if got := wrong[0].Source; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWithSecrets(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	good := Notify{
		Private:  prefixList("10.0.0.0/8"),
		Mail:     &Mail{User: "me", PasswordFile: write("password", password+"\n")},
		Webhook:  &Webhook{SecretFile: write("key", "0123456789abcdef\r\n")},
		Slack:    &Hook{URLFile: write("slack", slackURL)},
		Discord:  &Hook{URLFile: write("discord", "https://10.1.2.3/x\n")},
		Telegram: &Telegram{TokenFile: write("token", botSecret+"\n")},
		Ntfy:     &Ntfy{Token: "tk_inline"},
		Command:  &Command{Argv: []string{"/x"}},
	}
	got, err := good.WithSecrets()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		name      string
		got, want Secret
	}{
		{"password", got.Mail.Password, password}, {"key", got.Webhook.Secret, "0123456789abcdef"}, {"slack", got.Slack.URL, slackURL},
		{"discord", got.Discord.URL, "https://10.1.2.3/x"}, {"token", got.Telegram.Token, botSecret}, {"inline", got.Ntfy.Token, "tk_inline"},
	} {
		if s.got.Reveal() != s.want.Reveal() {
			t.Errorf("%s = %q", s.name, s.got.Reveal())
		}
	}
	if good.Mail.Password != "" || good.Slack.URL != "" {
		t.Error("the configuration itself was changed")
	}

	bad := Notify{
		Mail:     &Mail{User: "me", PasswordFile: filepath.Join(dir, "none")},
		Webhook:  &Webhook{SecretFile: write("short", "hunter2\n")},
		Slack:    &Hook{URLFile: write("inside", "https://10.1.2.3/hunter2\n")},
		Discord:  &Hook{URLFile: write("lines", slackURL+"\n"+slackURL+"\n")},
		Telegram: &Telegram{TokenFile: write("empty", "\n")},
		Ntfy:     &Ntfy{TokenFile: pipe},
		Command:  &Command{Argv: []string{"/x"}},
	}
	got, err = bad.WithSecrets()
	wrong, ok := errors.AsType[Errors](err)
	if !ok || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	var texts []string
	for _, e := range wrong {
		texts = append(texts, strings.TrimPrefix(e.File, dir)+" "+e.Message)
	}
	want := []string{
		"/none notify.mail.password_file: cannot be read: no such file or directory",
		"/short notify.webhook.secret_file: is shorter than 16 bytes: it could be guessed",
		"/inside notify.slack.url_file: names 10.1.2.3, which is in a private network",
		"/lines notify.discord.url_file: is no https URL",
		"/empty notify.telegram.token_file: the file is empty",
		"/pipe notify.ntfy.token_file: cannot be read: is no file",
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret is told: %v", err)
	}
	if got.Mail != nil || got.Webhook != nil || got.Slack != nil || got.Discord != nil || got.Telegram != nil || got.Ntfy != nil || got.Command == nil {
		t.Errorf("what cannot be read is still there, or too much is gone: %+v", got)
	}
}
