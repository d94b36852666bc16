package config

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the generated files anew: schema, reference, example")

// TestGenerated holds what is generated from the table of keys to the tree.
func TestGenerated(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		got        []byte
	}{
		{"schema", "testdata/schema.json", Schema()},
		{"reference", "../../docs/configuration.md", reference()},
		{"example", "../../contrib/sekisho.yaml", example()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if *update {
				if err := os.MkdirAll(filepath.Dir(tt.path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(tt.path, tt.got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(tt.got)); diff != "" {
				t.Errorf("%s is not what the table says; run go test ./internal/config -update (-want +got):\n%s", tt.path, diff)
			}
		})
	}
}

// accessExample is a file that has all that can be said of people and targets.
const accessExample = `version: 1
aws:
  reap: 1m                       # this host looks for rules past their end, too
  accounts:
    prod:
      id: "111122223333"
      profile: work              # the credentials that may assume the role
      role: arn:aws:iam::111122223333:role/sekisho
      external_id: sekisho-prod
      regions: [eu-central-1]
    lab: {id: "444455556666", profile: lab}
people:
  hanako:
    fixed: [203.0.113.7, "2001:db8:1::/64"]
    former: [198.51.100.9]
    keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjGpp3gV1U+iXvTJG70wUsRAyOd/ZzOQXik699GRZk hanako@laptop"]
    groups: [ops]
  taro:
    keys:
    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINv2xnxZrqx8lxOHCjiwhNPI5/nfTnEycPf+UjZ6M7ym taro@desk
    groups: [contractors]
targets:
  web-prod:
    aws: {account: prod, region: ap-northeast-1, group: sg-0123456789abcdef0}
    host: [web.example.com, web]
    port: 51921
    allow:
    - ops
    - {who: contractors, at_most: 1h, hours: "mon-fri 09:00-18:00 Asia/Tokyo"}
    at_most: 8h
    hours: [daily 06:00-23:00 Asia/Tokyo, "sat,sun 22:00-06:00 UTC"]
    close: at_exit
    ipv6: 64
  db-prod:                       # open to hanako's fixed addresses alone, by a prefix list
    aws: {account: prod, region: ap-northeast-1, group: sg-0fedcba9876543210, via: prefix_list}
    host: db.example.com
    exposure: fixed
    allow: [hanako]
`

// notifyExample is a file that has every way to tell people.
const notifyExample = `version: 1
notify:
  language: ja
  lookup: yes
  private: [10.0.0.0/8]          # a webhook is in there
  weekly: yes
  mail:
    to: [ops@example.com, taro@example.net]
    from: sekisho@example.com
    smtp: mail.example.com:587
    tls: starttls
    user: sekisho@example.com
    password_file: /etc/sekisho/mail.password
    timeout: 30s
    events: [repeat, attack_began, attack_ended, login, login_doubt, degraded]
    per_hour: 10
    digest: no
    quiet: "daily 22:00-07:00 Asia/Tokyo"
  webhook:
    url: https://10.1.2.3:8443/sekisho
    secret_file: /etc/sekisho/webhook.key
    events: all
  slack: {url_file: /etc/sekisho/slack.url, digest: hourly}
  discord: {url_file: /etc/sekisho/discord.url, events: [attack_began, attack_ended]}
  telegram: {token_file: /etc/sekisho/telegram.token, chat: "-1001234567890"}
  ntfy: {url: https://ntfy.sh/a-topic-that-nobody-guesses, token_file: /etc/sekisho/ntfy.token}
  command:
    argv: [/usr/local/bin/tell, --loud]
    timeout: 10s
    events: [ban, unban]
    per_hour: 1000
`

// gateExample is a file that has all that can be said of the gate and of asking it.
const gateExample = `version: 1
people:
  hanako: {login: hanako@example.com, groups: [ops]}
  taro: {login: taro@example.com, groups: [dev]}
targets:
  web-prod:                      # a host that runs sekisho: its own firewall is the door
    agent: web-1
    host: [web.example.com]
    allow:
    - {who: ops, approval: no}   # they need not ask anybody
    - {who: dev, at_most: 1h}
    reason: yes
    approval: [ops, leads]
    hours: mon-fri 09:00-18:00 Asia/Tokyo
    break_glass: [dev]           # at once and at any hour, and everybody is told
  db-prod:
    aws: {region: ap-northeast-1, group: sg-0123456789abcdef0}
    allow: [ops]
gate:
  url: https://gate.example.com
  ca: /etc/sekisho/gate-ca.pem
  identity: ~/.ssh/id_ed25519
  serve:                         # only on the machine that is the gate
    listen: ["0.0.0.0:443", "[::]:443"]
    tls: {cert: /etc/sekisho/gate.crt, key: /etc/sekisho/gate.key}
    proxies: [10.0.0.7]
    forwarded: x_forwarded_for
    database_file: /etc/sekisho/gate.database
    admins: [ops, leads]
    groups: [leads]              # nobody in this file is in it
    edit: yes
    session: 12h
    oidc:
      name: Company login
      issuer: https://login.example.com
      client_id: sekisho
      client_secret_file: /etc/sekisho/oidc.secret
      person_claim: email
      groups_claim: groups
      groups: {Platform Leads: leads}
    addresses: {ipv4: "https://v4.gate.example.com", ipv6: "https://v6.gate.example.com"}
`

const shortExample = `version: 1
people:
  hanako: {fixed: [203.0.113.7], groups: [ops]}
targets:
  web.example.com: {aws: {region: ap-northeast-1, group: sg-0123456789abcdef0}, allow: [ops]}
`

// reference is docs/configuration.md: every key.
func reference() []byte {
	var b bytes.Buffer
	b.WriteString(`# The configuration file

<!-- Generated from internal/config/table.go: go test ./internal/config -update -->

` + "`/etc/sekisho/sekisho.yaml`" + `, or what ` + "`--config FILE`" + ` names. Without the file every default below is in force.
` + "`sekisho config check`" + ` tells every mistake in it with line, column and what to do; ` + "`sekisho config schema`" + ` prints a
JSON Schema for editors. ` + "`sekisho reload`" + ` (or SIGHUP) puts a changed file in force; one with a mistake changes nothing.
` + "`sekisho init`" + ` writes one for the machine that it runs on ([init.md](init.md)); [contrib/sekisho.yaml](../contrib/sekisho.yaml) is the whole
file with its defaults.

## How values are written
- **Yes or no**: ` + "`yes`, `no`, `on`, `off`, `true`, `false`" + `, in small letters, without quotes.
- **Durations**: numbers with units, ` + "`w` `d` `h` `m` `s` `ms`: `90s`, `1h30m`, `7d`" + `. A number without a unit is a mistake.
- **Addresses and prefixes**: ` + "`203.0.113.7`, `203.0.113.0/24`, `2001:db8::/48`" + `. Not taken: names (whoever runs their DNS could
  turn them elsewhere), zones, IPv4 written as IPv6, a prefix with bits set beyond its length, and a prefix so wide
  (below /8; IPv6 below /16, private networks aside) that the guard would be off, or one that another of the list holds already.
- **Ports that are open**: ` + "`80/tcp`, `53/udp`, `8000-8100/tcp`, or `{port: 5432/tcp, from: [10.0.0.0/8]}`" + `; one that another of the list
  opens already is a mistake.
- **Countries**: codes of ISO 3166-1, such as ` + "`JP`" + `, and ` + "`XK`" + `; ` + "`sekisho country show JP`" + ` tells what one stands for.
- **Settings of sshd**: one line of plain text, a number, or yes or no, as sshd_config(5) has it after the keyword; keywords in any
  case, each once. Not taken: ` + "`Port` (use `ssh.port`), `ListenAddress`, `HostKey`, `HostCertificate`, `Subsystem`, `Include` and `Match`" + `,
  which belong into sshd_config itself.
- **Names** of people, groups, accounts and targets: up to 63 letters of ASCII, digits, dots, hyphens and underscores, a letter or a
  digit first. A person and a group have different names, as ` + "`allow`" + ` takes both.
- **Hours**: days, times and the zone: ` + "`mon-fri 09:00-18:00 Asia/Tokyo`, `sat,sun 22:00-06:00 UTC`, `daily 08:00-20:00`" + `. The days are
  ` + "`mon tue wed thu fri sat sun`" + `, alone, as ranges (` + "`fri-mon`" + ` too) and with commas, or ` + "`daily`" + `; a span that ends before it begins goes over
  midnight, into the day after the one that is named. The zone is named by a city, as IANA has it; where none is, it is UTC. The clock
  on the wall counts: an hour that is there twice when summer time ends counts twice, one that is left out when it begins is not there.
- **SSH public keys**: the line of the ` + "`.pub`" + ` file, in quotes, without options: Ed25519, ECDSA, RSA of 2048 bits or more, and those of
  security keys. Not taken: private keys (the line is not shown anywhere), certificates, DSA.
- **Addresses of people** (` + "`fixed`, `former`" + `): at most a /24, IPv6 a /48; private ones too; not loopback, link-local, multicast or
  unspecified ones. A wider network belongs into the security group by hand: rules that are not sekisho's stay as they are.
- **Account numbers** in quotes: ` + "`id: \"012345678901\"`" + `. A number would lose its leading zeros.
- **YAML** is taken plain: one document in UTF-8, at most 1 MiB and 25,000 keys, 5,000 on one level. Anchors, aliases, merge keys, tags and directives are
  refused by name; a key that is there twice, or that nobody knows, is a mistake.

## People and targets
` + "`people`, `targets` and `aws.accounts`" + ` hold names of your own, each with keys below it: ` + "`NAME`" + ` stands for such a name in the table
further down. Everything that they may hold, in one file:
` + "```yaml\n" + accessExample + "```" + `
On one line each, and with nothing but what must be there:
` + "```yaml\n" + shortExample + "```" + `

## The gate
The gate opens targets for people who ask it. On their machines and on hosts, ` + "`gate.url`" + ` is all that must be there; the machine that is
the gate has ` + "`gate.serve`" + `, too. All that there is to say of it, and of what one must ask for:
` + "```yaml\n" + gateExample + "```" + `
- **Doors**: a target is a security group (` + "`aws`" + `), or a host that runs sekisho and was enrolled at the gate (` + "`agent`" + `): its own firewall lets
  in whom the gate says, for as long as it says. Only the gate opens that one.
- **Reasons and approval**: ` + "`reason: yes`" + ` asks why; ` + "`approval`" + ` asks somebody else for a yes, of those people, or of anybody in those groups but who
  asks. Both can be said of each item of ` + "`allow`, and take the place of the target's then: `approval: no`" + ` is nobody's. Where several
  items mean somebody, it goes by the one of which the least is missing, and among those by the one that opens it the longest; by one that
  asks more only where the others do not open it as long as was asked for.
- **Emergencies**: whoever ` + "`allow` and `break_glass`" + ` both mean may open it at once, without approval and outside ` + "`hours`" + `, for no longer than
  ` + "`at_most`" + `. They must say why, and everybody is told.
- **Proxies**: forwarded headers count only from ` + "`proxies`" + `, and only what they have put there themselves. Without ` + "`proxies`" + ` an address is the connection's.
- **Groups with nobody in them**: ` + "`allow`, `approval`, `break_glass` and `admins`" + ` take people, groups that somebody in this file is in, and those of
  ` + "`gate.serve.groups`" + `.
- **Files** hold what is secret: ` + "`database_file`" + ` the URL of PostgreSQL with its password, ` + "`client_secret_file`" + ` the client's secret; each nothing else.
- **In the pages**, administrators write the same keys, and are told the same mistakes.

## Telling people
Nobody is told of anything unless ` + "`notify`" + ` names a channel: ` + "`mail`, `webhook`, `slack`, `discord`, `telegram`, `ntfy`, `command`" + `, each with
keys of its own, or ` + "`no`" + `. All that there is to say:
` + "```yaml\n" + notifyExample + "```" + `
- **Events**: what a channel is told of.
` + eventsTable() + `
  Left out: for people (mail and chats) all but ` + "`ban`, `unban` and `report`" + `, for programs (` + "`webhook`, `command`" + `) all. ` + "`all`" + ` is all of them.
- **Limits**: ` + "`per_hour`" + ` is from 1 to 1000; left out it is 10 for mail, 20 for chats, 600 for programs. What is beyond, what ` + "`digest`" + ` gathers,
  and what happens in ` + "`quiet`" + ` hours, comes together in one message. Alarms wait for neither of the latter, and one in five of ` + "`per_hour`" + ` is kept for them.
- **Secrets**, which are ` + "`password`, `secret`, `token`" + ` and the ` + "`url` of `slack` and `discord`" + `, are best in files of their own, of mode 0600:
  ` + "`password_file`, `secret_file`, `token_file`, `url_file`" + ` name one that holds the secret and nothing else. They are read when sekisho
  starts or reloads. A secret in this file is shown nowhere; a line that may hold one is not shown where it is wrong; and a
  file that sekisho writes has ` + "`<secret>`" + ` in its place, which is refused when it is read.
- **Mail addresses** are plain ones, in ASCII: no names, no comments, at most 20 in ` + "`to`" + `. ` + "`from`" + ` left out is sekisho@ and this host's name.
- **Mail servers** are ` + "`HOST:PORT`" + `. ` + "`tls`" + ` left out is ` + "`tls`" + ` at port 465; ` + "`no`" + ` where the host is localhost, 127.0.0.0/8 or ::1; and ` + "`starttls`" + `
  everywhere else: a server without it gets no mail. ` + "`no`" + ` is for this host alone.
- **URLs** are https, and http for this host alone; without names, passwords and fragments. An address in a private network, and this host's own, must be in
  ` + "`private`" + `, in the URL or behind its name; link-local ones and others at which clouds tell their secrets are never taken.
- **Programs** (` + "`command.argv`" + `) are named by an absolute path, and get the event in their environment. There is no shell.

## Keys
| key | value | default | what it does |
|---|---|---|---|
`)
	as := map[string]string{} // the first that is told of in these words
	table(Default()).walk("", func(path string, k key) {
		cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
		if _, ok := k.value.(group); ok {
			fmt.Fprintf(&b, "| **`%s`** | | | %s |\n", path, cell(k.doc))
			return
		}
		text := k.value.text()
		if text == Quote(strings.ToLower(placeholder)) { // targets.NAME.host
			text = Quote(placeholder)
		}
		grammar, doc := k.value.grammar(), k.doc
		if first, twice := as[grammar+doc]; twice && secretive(path) {
			grammar, doc = "as `"+first+"`", ""
		} else {
			as[grammar+doc] = path
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", path, cell(grammar), text, cell(doc))
	})
	b.WriteString(`
## What must fit together
- ` + "`guard.ban_time` ≤ `guard.growth.max` ≤ `guard.growth.forget`" + `, unless bans do not grow (` + "`guard.growth.factor: 1`" + `).
- ` + "`guard.max_retry` ≤ `guard.known.max_retry`" + `, unless no address is known (` + "`guard.known.for: 0s`" + `).
- ` + "`guard.escalate.ipv4` < `guard.prefix.ipv4`, and the same for `ipv6`" + `, unless networks are not banned (` + "`guard.escalate.hosts: 0`" + `).
- ` + "`exposure: fixed`" + ` and ` + "`on_request`" + ` need ` + "`admins`" + ` that name somebody other than this host: nobody could come in otherwise, or give
  the first grant. With ` + "`firewall.ipv6: no`" + ` one of ` + "`admins`" + `, if there are any, must be IPv4.
- ` + "`ssh.settings`" + ` does not name what ` + "`ssh.root_login` (`PermitRootLogin`) or `ssh.password_login` (`PasswordAuthentication`,\n  `KbdInteractiveAuthentication`)" + ` says, unless that is left to the profile.
- ` + "`firewall.open` and `firewall.forward`" + ` only with ` + "`firewall.mode: lockdown`" + `; no port of ` + "`ssh.port`" + ` in ` + "`firewall.open`" + `.
- ` + "`firewall.countries`" + ` and ` + "`firewall.rate`" + ` may stay with another ` + "`exposure`" + ` than ` + "`public`" + `; they play no part then.
- ` + "`country.urls` if and only if `country.source`" + ` is not ` + "`registries`" + `.
- ` + "`log.files` if and only if `log.source: files`; `log.forgeable` not with `log.source: journald`" + `.
- ` + "`targets.NAME.aws.account`" + ` is one of ` + "`aws.accounts`" + `. It may be left out where there are none (then it is the one of the environment's
  credentials) or one (then that); where there are several, it must be there.
- ` + "`targets.NAME.allow`" + ` is there, and names people, or groups that somebody is in. ` + "`hours`, and limits in `allow`, only\n  with `exposure: on_request`" + `: fixed addresses are let in at all hours.
- No two targets have the same account, region, group and port, and no two the same host and port.
- A target has ` + "`aws` or `agent`" + `, not both; one with ` + "`agent`" + ` is never ` + "`exposure: fixed`" + `.
- ` + "`reason`, `approval` and `break_glass` only with `exposure: on_request`; `break_glass`" + ` only where there is approval, or hours, to go around. Nobody
  is the only one to approve what they alone ask for.
- ` + "`gate.serve` needs `gate.url`. Of `tls.cert` and `tls.key` both or neither. An address of `listen`" + ` that is not this host's own needs ` + "`tls` or `proxies`" + `.
- ` + "`gate.serve.proxies` if and only if `forwarded` is not `no`; of `database` and `database_file`" + ` one at most; no password in ` + "`database`" + `.
- ` + "`gate.serve.admins`" + ` are people and groups that there are, ` + "`gate.serve.oidc.groups`" + ` leads to groups that there are, and needs ` + "`groups_claim`" + `. No two people
  have the same ` + "`login`" + `, and no group is called as a person is.
- ` + "`aws.accounts.NAME.role`" + ` is a role of the account ` + "`id`, where both are there; `external_id` only with `role`" + `.
- One key is one person's. Two people may share a fixed address. ` + "`people.NAME.former`" + ` is not within anybody's ` + "`fixed`" + `.
- ` + "`notify.weekly: yes` only with `notify.mail`" + `; ` + "`notify.mail.user`" + ` if and only if there is a password.
- ` + "`notify.mail.tls: tls`" + ` at port 465; ` + "`no`" + ` only where ` + "`smtp`" + ` is this host.
- Of a secret and its ` + "`..._file`" + ` one at most; for ` + "`notify.slack`, `notify.discord` and `notify.telegram`" + ` one exactly.

There is no ban without end here: an automatic decision must not be able to lock anyone out for good. By hand there is
one: ` + "`sekisho ban ADDR --for forever`" + `.
`)
	return b.Bytes()
}

// eventsTable tells of each kind of event.
func eventsTable() string {
	told := map[string]string{
		"ban":              "a source was banned",
		"repeat":           "a source was banned that had been before",
		"unban":            "a ban was lifted by hand",
		"attack_began":     "many sources are being banned: they are told of together",
		"attack_ended":     "such an attack is over, with what it came to",
		"login":            "somebody logged in from a country or network where they were never seen",
		"login_doubt":      "a login after many failures, or as a user who is under attack",
		"trial":            "a trial of rules or of sshd began, was confirmed, or was reverted",
		"drift":            "somebody changed sekisho's rules, and they were put back",
		"conntrack":        "the connection tracking table is nearly full, or drops",
		"country":          "country data was refused",
		"lease_stuck":      "a rule in a security group outlives its lease",
		"group_finding":    "something is wrong in a security group",
		"gate_approval":    "somebody asked the gate for a door that needs another's yes",
		"gate_break_glass": "somebody broke the glass: a door was opened without approval, or outside its hours",
		"gate_disabled":    "somebody was disabled at the gate, with what ended",
		"degraded":         "the daemon cannot do all that it should, or can again",
		"report":           "the report of the week; with `weekly: yes` it comes by mail in any case",
	}
	var b strings.Builder
	b.WriteString("\n  | event | what happened |\n  |---|---|\n")
	for _, k := range EventKinds() {
		fmt.Fprintf(&b, "  | `%s` | %s |\n", k, told[k])
	}
	return b.String()
}

// example is contrib/sekisho.yaml: the whole file with its defaults. The port is a
// comment: named, it would move the port of who has another.
func example() []byte {
	named := map[string]Remark{}
	table(Default()).walk("", func(path string, _ key) { named[path] = Remark{Named: true} })
	delete(named, "ssh.port")
	return File(Default(), []string{
		`sekisho.yaml: the configuration of sekisho, with every key at its default.`,
		`Only the line "version: 1" must be there; leave out what you do not change.`,
		`"sekisho init" writes one for the machine that it runs on.`,
		`After a change: sekisho config check && sekisho apply (or sekisho reload, where exposure, ssh, admins and firewall stay as they are)`,
		`Every key is told in docs/configuration.md.`,
	}, named)
}

func TestExampleIsTheDefault(t *testing.T) {
	got, err := Load("../../contrib/sekisho.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, comparePrefixes); diff != "" {
		t.Errorf("contrib/sekisho.yaml is not the default (-default +file):\n%s", diff)
	}
}
