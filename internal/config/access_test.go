package config

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Keys made for these tests; nobody has the other halves.
const (
	keyA    = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjGpp3gV1U+iXvTJG70wUsRAyOd/ZzOQXik699GRZk"
	keyB    = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINv2xnxZrqx8lxOHCjiwhNPI5/nfTnEycPf+UjZ6M7ym"
	keyC    = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBE0xe7XsQLBSr8VurZOt9IHSvaaHLGKUuo9js9GLdBVTmV0Vl4KU16aHVDTpXET9muwpVnLZFBANvXNcKwrlL6A="
	keyRSA  = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC6clonKPNpEtpOzzUNTYkE5bKibWOLUCWiOw+rL/LqG8+Vl7PtqSc4QCouBrUUOEtUnSfzl5Dr1Z+Vxfye85bU18uuuD9saGSq1b02OZKSQJLvfujxM7GyRI+fNdH8o4fBNkKYyKlKVYYBN4yevC6pz6xZ5IykrUqh/KaFCYse9IPFjR4Va0cXJ3osUqWDLb0zvtS0YRd97haUwgTpG8fBoyq+BvcC3v2q09twX1rgoBONEEE4PEnIl02JErgGmv03T1EQdlSk1sGwLRJ10Eo1chchA8Rii+ovLtKtsWZwrXAm00bU58UcKVz3eB4pzTX97jjgPx9nOVUAh699NEVf"
	keyWeak = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDVz38SCvDtgtwtyIo5BxWIeIedQz5AIQmxV2SF7O0zDG5Nxk2d325Ubaq6MhvK6NTSwMsKVJjR8BaUtET/9IOC4+F7NkiPgZaUduWiYCufYTGFXHVa8C3QEJrOwY3REm1rwOUTzoK25dfUyfIBf/9c2vrTd9Ez5c7U4eQ4Q4PcSQ=="
	keyCert = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIGag/cG///0w1YMopMUzgNYy0gN6z3tAi43k3dFa0ZJwAAAAINv2xnxZrqx8lxOHCjiwhNPI5/nfTnEycPf+UjZ6M7ymAAAAAAAAAAAAAAABAAAAAmlkAAAAAAAAAAAAAAAA//////////8AAAAAAAAAggAAABVwZXJtaXQtWDExLWZvcndhcmRpbmcAAAAAAAAAF3Blcm1pdC1hZ2VudC1mb3J3YXJkaW5nAAAAAAAAABZwZXJtaXQtcG9ydC1mb3J3YXJkaW5nAAAAAAAAAApwZXJtaXQtcHR5AAAAAAAAAA5wZXJtaXQtdXNlci1yYwAAAAAAAAAAAAAAMwAAAAtzc2gtZWQyNTUxOQAAACBlYxqad4FdVPol70yRu9MFLEQMjnf2czkF4pOvfRkWZAAAAFMAAAALc3NoLWVkMjU1MTkAAABAzdnF3Ievee3CLkIReimMvRC24mdpzAvKsqZD+M3ybncq4Cs3FnpPrX2qotjcF9JGkxee/U56dCQTYymvTGi2CQ== taro@desk"
)

func zone(name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return z
}

// days are days of the week by their first letters, Monday first: "xxxxx--".
func days(marks string) (d [7]bool) {
	for i, m := range marks {
		d[weekday(i)] = m == 'x'
	}
	return d
}

func prefixList(texts ...string) (ps []netip.Prefix) {
	for _, s := range texts {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestParseAccess(t *testing.T) {
	const door = "aws: {region: eu-central-1, group: sg-12345678}"
	target := func(name string, change func(*Target)) map[string]Target {
		tg := newTarget(name)
		tg.AWS.Region, tg.AWS.Group = "eu-central-1", "sg-12345678"
		if change != nil {
			change(&tg)
		}
		return map[string]Target{name: tg}
	}
	for _, tt := range []struct {
		name, src string
		change    func(c *Config)
	}{
		{"nothing in them", "aws:\npeople:\n  # hanako: {}\ntargets: {}\n", func(*Config) {}},
		{"a person with nothing", "people:\n  hanako:\n  taro: {}\n", func(c *Config) { c.People = map[string]Person{"hanako": {}, "taro": {}} }},
		{"names", "people: {a.B_c-9: {}, \"null\": {}, no: {}, 1: {}, " + strings.Repeat("x", 63) + ": {}}", func(c *Config) {
			c.People = map[string]Person{"a.B_c-9": {}, "null": {}, "no": {}, "1": {}, strings.Repeat("x", 63): {}}
		}},
		{"a person", "people:\n  hanako:\n    fixed: [203.0.113.7, 10.1.2.0/24, 2001:db8::/48, \"fd00::1\"]\n    former: [198.51.100.9]\n    keys:\n    - " + keyA + "  hanako's  laptop \n    - \"" + keyRSA + "\"\n    - " + keyC + " c\n    groups: [ops, dev]\n", func(c *Config) {
			c.People = map[string]Person{"hanako": {
				Fixed: prefixList("203.0.113.7/32", "10.1.2.0/24", "2001:db8::/48", "fd00::1/128"), Former: prefixList("198.51.100.9/32"),
				Keys: []string{keyA + " hanako's  laptop", keyRSA, keyC + " c"}, Groups: []string{"ops", "dev"},
			}}
		}},
		{"a shared address, a former one around a present one", "people: {a: {fixed: [192.0.2.1]}, b: {fixed: [192.0.2.1, 192.0.2.8/32], former: [192.0.2.8/29]}}", func(c *Config) {
			c.People = map[string]Person{
				"a": {Fixed: prefixList("192.0.2.1/32")}, "b": {Fixed: prefixList("192.0.2.1/32", "192.0.2.8/32"), Former: prefixList("192.0.2.8/29")},
			}
		}},
		{"aws", "aws: {endpoint: 'http://127.0.0.1:4566/x', reap: 1m, address_services: [https://a.example/ip], accounts: {prod: {id: \"011122223333\", profile: my work, role: 'arn:aws-us-gov:iam::011122223333:role/a/b/sekisho', external_id: x:1, regions: [us-gov-west-1, eu-central-1]}, lab: {}}}", func(c *Config) {
			c.AWS = AWS{
				Endpoint: "http://127.0.0.1:4566/x", Reap: time.Minute, AddressServices: []string{"https://a.example/ip"},
				Accounts: map[string]Account{"lab": {}, "prod": {
					ID: "011122223333", Profile: "my work", Role: "arn:aws-us-gov:iam::011122223333:role/a/b/sekisho", ExternalID: "x:1", Regions: []string{"us-gov-west-1", "eu-central-1"},
				}},
			}
		}},
		{"aws, elsewhere, nobody asked", "aws: {endpoint: 'https://ec2.example.com', reap: no, address_services: []}", func(c *Config) {
			c.AWS = AWS{Endpoint: "https://ec2.example.com"}
		}},
		{"an endpoint of this host, by name", "aws: {endpoint: 'http://localhost:5000'}", func(c *Config) { c.AWS.Endpoint = "http://localhost:5000" }},
		{"an endpoint of this host, IPv6", "aws: {endpoint: 'http://[::1]:5000', reap: 10s}", func(c *Config) { c.AWS.Endpoint, c.AWS.Reap = "http://[::1]:5000", 10*time.Second }},
		{"the least target", "people: {hanako: {}}\ntargets: {Web.example.com: {" + door + ", allow: [hanako]}}", func(c *Config) {
			c.People = map[string]Person{"hanako": {}}
			c.Targets = target("Web.example.com", func(t *Target) {
				t.Host, t.Allow = []string{"web.example.com"}, []Allow{{Who: "hanako"}}
			})
		}},
		{"the only account", "aws: {accounts: {prod: {}}}\npeople: {hanako: {groups: [ops]}}\ntargets: {web: {" + door + ", allow: [ops]}}", func(c *Config) {
			c.AWS.Accounts = map[string]Account{"prod": {}}
			c.People = map[string]Person{"hanako": {Groups: []string{"ops"}}}
			c.Targets = target("web", func(t *Target) { t.AWS.Account, t.Allow = "prod", []Allow{{Who: "ops"}} })
		}},
		{"the whole target", "people: {hanako: {groups: [ops]}}\ntargets:\n  web:\n    aws: {region: eu-central-1, group: sg-12345678, via: prefix_list}\n    host: [WEB.example.com, 192.0.2.1, 2001:DB8::0:1]\n    port: 51921\n    exposure: on_request\n    allow: [{who: ops, at_most: 30d, hours: daily 00:00-24:00}, hanako]\n    at_most: 1m\n    hours: \"fri-mon 22:00-06:00\"\n    close: at_exit\n    ipv6: 64\n", func(c *Config) {
			c.People = map[string]Person{"hanako": {Groups: []string{"ops"}}}
			c.Targets = target("web", func(t *Target) {
				t.AWS.Via, t.Host, t.Port = ViaPrefixList, []string{"web.example.com", "192.0.2.1", "2001:db8::1"}, 51921
				t.Allow = []Allow{{Who: "ops", AtMost: 30 * day, Hours: Hours{{Days: days("xxxxxxx"), To: day, Zone: time.UTC}}}, {Who: "hanako"}}
				t.AtMost, t.Close, t.IPv6 = time.Minute, CloseAtExit, 64
				t.Hours = Hours{{Days: days("x---xxx"), From: 22 * time.Hour, To: 6 * time.Hour, Zone: time.UTC}}
			})
		}},
		{"fixed", "people: {hanako: {}}\ntargets: {web: {" + door + ", exposure: fixed, allow: [hanako]}}", func(c *Config) {
			c.People = map[string]Person{"hanako": {}}
			c.Targets = target("web", func(t *Target) { t.Exposure, t.Allow = ExposureFixed, []Allow{{Who: "hanako"}} })
		}},
		{"hours", "people: {hanako: {}}\ntargets: {web: {" + door + ", allow: [hanako], hours: ['mon-fri 09:00-18:00  Asia/Tokyo', 'sat,sun,wed 22:30-00:00 America/Argentina/Ushuaia']}}", func(c *Config) {
			c.People = map[string]Person{"hanako": {}}
			c.Targets = target("web", func(t *Target) {
				t.Allow = []Allow{{Who: "hanako"}}
				t.Hours = Hours{
					{Days: days("xxxxx--"), From: 9 * time.Hour, To: 18 * time.Hour, Zone: zone("Asia/Tokyo")},
					{Days: days("--x--xx"), From: 22*time.Hour + 30*time.Minute, To: day, Zone: zone("America/Argentina/Ushuaia")},
				}
			})
		}},
		{"doors beside each other", "aws: {accounts: {a: {}, b: {}}}\npeople: {hanako: {}}\ntargets:\n  a: {aws: {account: a, region: eu-central-1, group: sg-12345678}, allow: [hanako]}\n  b: {aws: {account: b, region: eu-central-1, group: sg-12345678}, allow: [hanako]}\n  c: {aws: {account: a, region: eu-central-1, group: sg-12345678}, port: 23, host: a, allow: [hanako]}\n", func(c *Config) {
			c.AWS.Accounts = map[string]Account{"a": {}, "b": {}}
			c.People = map[string]Person{"hanako": {}}
			all := func(account string, port uint16) func(t *Target) {
				return func(t *Target) { t.AWS.Account, t.Port, t.Allow = account, port, []Allow{{Who: "hanako"}} }
			}
			c.Targets = target("a", all("a", 22))
			maps.Copy(c.Targets, target("b", all("b", 22)))
			third := target("c", all("a", 23))["c"]
			third.Host = []string{"a"}
			c.Targets["c"] = third
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := Default()
			tt.change(want)
			got, err := Parse("x.yaml", []byte("version: 1\n"+tt.src))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, comparePrefixes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (got.People == nil) != (want.People == nil) || (got.Targets == nil) != (want.Targets == nil) {
				t.Errorf("people = %v, targets = %v: nil where there are none", got.People, got.Targets)
			}
			file := File(got, nil, map[string]Remark{
				"aws.endpoint": {Named: true}, "aws.reap": {Named: true}, "aws.address_services": {Named: true}, "aws.accounts": {Named: true},
				"people": {Named: true}, "targets": {Named: true},
			})
			back, err := Parse("back.yaml", file)
			if err != nil {
				t.Fatalf("%v\n%s", err, file)
			}
			if diff := cmp.Diff(got, back, comparePrefixes); diff != "" {
				t.Errorf("File is not read back (-want +got):\n%s", diff)
			}
		})
	}
}

// TestExamples: what the reference shows is right.
func TestExamples(t *testing.T) {
	for _, tt := range []struct{ name, src string }{
		{"whole", accessExample}, {"short", shortExample}, {"the gate", gateExample}, {"people who are told", notifyExample}, {"the same, indented wider", strings.ReplaceAll(notifyExample, "  ", "    ")}, {"indented wider", strings.ReplaceAll(accessExample, "  ", "    ")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse("x.yaml", []byte(tt.src)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMistakesOfAccess(t *testing.T) {
	const head = "version: 1\npeople: {hanako: {groups: [ops]}}\n"
	web := func(keys string) string {
		return head + "targets: {web: {aws: {region: eu-central-1, group: sg-12345678}, allow: [ops], " + keys + "}}\n"
	}
	key := func(k string) string { return "version: 1\npeople:\n  hanako:\n    keys:\n    - " + k + "\n" }
	many := func(frame string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, frame, i)
		}
		return b.String()
	}
	for _, tt := range []struct {
		name, src string
		want      []string
	}{
		{"names of no kind", "version: 1\npeople: [hanako]\ntargets: web\n", []string{
			`2:9 people: a list where names and keys are wanted | write it like hanako: {fixed: [203.0.113.7], keys: ["ssh-ed25519 AAAA... hanako@laptop"], groups: [ops]}`,
			`3:10 targets: "web" where names and keys are wanted | write it like web-prod: {aws: {region: ap-northeast-1, group: sg-0123456789abcdef0}, host: web.example.com, allow: [ops], at_most: 8h}`}},
		{"names", "version: 1\npeople:\n  花子: {}\n  -x: {}\n  a b: {fixd: []}\n  \"\": {}\n  null: {}\n  " + strings.Repeat("x", 64) + ": {}\n", []string{
			`3:3 people: "花子" cannot be the name of a person | a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit`,
			`4:3 people: "-x" cannot be the name of a person | a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit`,
			`5:3 people: "a b" cannot be the name of a person | a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit`,
			`5:9 there is no key "people."a b".fixd" | did you mean fixed?`,
			`6:3 people: "" cannot be the name of a person | a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit`,
			"7:3 people: nothing is no name | write `name: {key: value}`; a name that is a word of YAML's needs quotes",
			`8:3 people: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…" cannot be the name of a person | a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit`}},
		{"a name twice", "version: 1\npeople:\n  hanako: {}\n  taro: {}\n  hanako: {}\n", []string{`5:3 people: "hanako" is there twice | keep one; the first is on line 3`}},
		{"keys inside", "version: 1\npeople:\n  hanako: {fixd: [], colour: red, groups: [], groups: []}\n  a.b: [x]\naws: {acounts: {}, accounts: {prod: {rol: x, host: y}}}\n", []string{
			`3:12 there is no key "people.hanako.fixd" | did you mean fixed?`,
			`3:22 there is no key "people.hanako.colour" | the keys here are fixed, former, keys, groups, login`,
			`3:47 "people.hanako.groups" is there twice | keep one; the first is on line 3`,
			`4:8 people."a.b": a list where keys are wanted | write its keys below it, indented: fixed, former, keys, groups, login`,
			`5:7 there is no key "aws.acounts" | did you mean accounts?`,
			`5:38 there is no key "aws.accounts.prod.rol" | did you mean role?`,
			`5:46 there is no key "aws.accounts.prod.host" | did you mean targets.NAME.host?`}},
		{"a group nearly named is not missed as well", "version: 1\npeople: {hanako: {group: [ops]}}\ntargets: {web: {aws: {region: eu-central-1, gruop: sg-12345678}, alow: [ops]}}\n", []string{
			`2:19 there is no key "people.hanako.group" | did you mean groups?`,
			`3:45 there is no key "targets.web.aws.gruop" | did you mean group?`,
			`3:66 there is no key "targets.web.alow" | did you mean allow?`}},
		{"too many people", "version: 1\npeople:\n" + many("  p%d: {}\n", maxPeople+1), []string{`1003:3 people: more than 1000 people`}},
		{"too many targets", "version: 1\ntargets:\n" + many("  t%d: {}\n", maxTargets+1), []string{`1003:3 targets: more than 1000 targets`}},
		{"too many accounts", "version: 1\naws:\n  accounts:\n" + many("    t%d: {}\n", maxAccounts+1), []string{`104:5 aws.accounts: more than 100 accounts`}},

		{"endpoint", "version: 1\naws:\n  endpoint: http://example.com\n", []string{`3:13 aws.endpoint: "http://example.com" is not https | write https://; whoever is on the way could answer in AWS's place otherwise`}},
		{"endpoint of no kind", "version: 1\naws:\n  endpoint: localhost:4566\n", []string{`3:13 aws.endpoint: "localhost:4566" is no https URL | write it like http://127.0.0.1:4566`}},
		{"endpoint with a password", "version: 1\naws:\n  endpoint: https://a:b@example.com\n", []string{`3:13 aws.endpoint: holds a password | leave the name and the password out; credentials are those of the account`}},
		{"endpoint with a query", "version: 1\naws:\n  endpoint: https://example.com/?a\n", []string{`3:13 aws.endpoint: "https://example.com/?a" is more than the address of a service | leave out what follows the ? or #`}},
		{"endpoint left empty", "version: 1\naws:\n  endpoint:\n  reap:\n", []string{
			`3:12 aws.endpoint: there is no value; want a URL | write one, or leave the key out: it is "" then`,
			`4:9 aws.reap: there is no value; want a duration | write one, or leave the key out: it is no then`}},
		{"reap", "version: 1\naws: {reap: yes}\n", []string{`2:13 aws.reap: "yes" is no duration | write a duration from 10s to 1h, or no`}},
		{"reap too often", "version: 1\naws: {reap: 5s}\n", []string{`2:13 aws.reap: 5s is out of range | write a duration from 10s to 1h`}},
		{"address services", "version: 1\naws: {address_services: ['http://a.example', 'https://a b', 'https://x:y@a.example', 'https://a.example', 'https://a.example', {}, '']}\n", []string{
			`2:26 aws.address_services: "http://a.example" is not https | write https://; whoever is on the way could let anybody in otherwise`,
			`2:46 aws.address_services: "https://a b" is no https URL | write it like https://checkip.amazonaws.com`,
			`2:61 aws.address_services: "https://x:y@a.example" holds a password | leave the name and the password out: addresses of sources are shown and logged`,
			`2:107 aws.address_services: "https://a.example" is there twice | keep one; the first is on line 2`,
			`2:128 aws.address_services: a mapping where a URL is wanted | put it in quotes`,
			`2:132 aws.address_services: "" is no https URL | write it like https://checkip.amazonaws.com`}},
		{"accounts", "version: 1\naws:\n  accounts:\n    a: {id: 111122223333}\n    b: {id: 011122223333}\n    c: {id: 1111-2222-3333}\n    d: {id: \"11112222333\"}\n    e: {id: 11122223333}\n    f: {id: prod, profile: '[x]', regions: [eu-central-1a, eu, eu-west-1, eu-west-1]}\n", []string{
			`4:13 aws.accounts.a.id: 111122223333 is a number where an account's twelve digits are wanted | write it in quotes: "111122223333"; a number would lose its leading zeros`,
			`5:13 aws.accounts.b.id: 011122223333 is a number where an account's twelve digits are wanted | write it in quotes: "011122223333"; a number would lose its leading zeros`,
			`6:13 aws.accounts.c.id: "1111-2222-3333" is no account's number | write "111122223333"`,
			`7:13 aws.accounts.d.id: "11112222333" is no account's number | write its twelve digits in quotes: "111122223333"`,
			`8:13 aws.accounts.e.id: 11122223333 is no account's number | write all twelve digits, in quotes: a number loses its leading zeros`,
			`9:13 aws.accounts.f.id: "prod" is no account's number | write its twelve digits in quotes: "111122223333"`,
			"9:28 aws.accounts.f.profile: \"[x]\" is no name of a profile | write the word that stands in brackets after `profile` in ~/.aws/config",
			`9:45 aws.accounts.f.regions: "eu-central-1a" is a zone of a region | write eu-central-1`,
			`9:60 aws.accounts.f.regions: "eu" is no region | write it like eu-central-1`,
			`9:75 aws.accounts.f.regions: "eu-west-1" is there twice | keep one; the first is on line 9`}},
		{"roles", "version: 1\naws:\n  accounts:\n    a: {role: sekisho}\n    b: {role: 'arn:aws:iam::111122223333:user/x'}\n    c: {role: 'arn:aws:sts::111122223333:assumed-role/x/y'}\n    d: {external_id: abc}\n    e: {role: 'arn:aws:iam::111122223333:role/x', id: \"444455556666\", external_id: 'a b'}\n", []string{
			`4:15 aws.accounts.a.role: "sekisho" is no ARN | write the whole ARN, like arn:aws:iam::111122223333:role/sekisho`,
			`5:15 aws.accounts.b.role: "arn:aws:iam::111122223333:user/x" is no ARN of an IAM role | write it like arn:aws:iam::111122223333:role/sekisho`,
			`6:15 aws.accounts.c.role: "arn:aws:sts::111122223333:assumed-role/x/y" is the session of somebody who has assumed a role | write the ARN of the role itself, like arn:aws:iam::111122223333:role/sekisho`,
			`7:22 aws.accounts.d.external_id is for a role, and there is none | name the role that asks for it, or leave external_id out`,
			`8:15 aws.accounts.e: the role is of account 111122223333, and id is 444455556666 | write the role of account 444455556666, or the account's own id`,
			`8:84 aws.accounts.e.external_id: "a b" is no external id | AWS takes 2 to 1224 letters, digits and _+=,.@:/-`}},

		{"fixed", "version: 1\npeople: {hanako: {fixed: [10.0.0.0/8, 2001:db8::/32, 0.0.0.0/0, 127.0.0.1, ::1, fe80::1, 169.254.1.1, 224.0.0.1, ff02::1, '::', 0.1.2.3, 255.255.255.255, example.com, 192.0.2.1, 192.0.2.0/30]}}\n", []string{
			`2:27 people.hanako.fixed: 10.0.0.0/8 is wider than one person's addresses | put such a network into the security group by hand: rules that are not sekisho's stay as they are`,
			`2:39 people.hanako.fixed: 2001:db8::/32 is wider than one person's addresses | put such a network into the security group by hand: rules that are not sekisho's stay as they are`,
			`2:54 people.hanako.fixed: 0.0.0.0/0 is wider than one person's addresses | put such a network into the security group by hand: rules that are not sekisho's stay as they are`,
			`2:65 people.hanako.fixed: 127.0.0.1/32 is a host's own | write the address that they come from`,
			`2:76 people.hanako.fixed: ::1/128 is a host's own | write the address that they come from`,
			`2:81 people.hanako.fixed: fe80::1/128 is not seen beyond its own link | write the address that they come from`,
			`2:90 people.hanako.fixed: 169.254.1.1/32 is not seen beyond its own link | write the address that they come from`,
			`2:103 people.hanako.fixed: 224.0.0.1/32 is a multicast address | write the address that they come from`,
			`2:114 people.hanako.fixed: ff02::1/128 is a multicast address | write the address that they come from`,
			`2:123 people.hanako.fixed: ::/128 is nobody's address | write the address that they come from`,
			`2:129 people.hanako.fixed: 0.1.2.3/32 is nobody's address | write the address that they come from`,
			`2:138 people.hanako.fixed: 255.255.255.255/32 is nobody's address | write the address that they come from`,
			`2:155 people.hanako.fixed: "example.com" is no address or prefix | write an address (203.0.113.7, 2001:db8::1) or a prefix (203.0.113.0/24); a name can be turned elsewhere by whoever runs its DNS`,
			`2:168 people.hanako.fixed: 192.0.2.1/32 is within 192.0.2.0/30 | leave one of them out; 192.0.2.0/30 is on line 2`}},
		{"former that is fixed", "version: 1\npeople:\n  a: {fixed: [192.0.2.0/24], former: [192.0.2.9]}\n  b: {former: [192.0.2.128/25, 198.51.100.1, \"2001:db8::1\"]}\n  c: {fixed: [198.51.100.1, \"2001:db8::/64\"]}\n", []string{
			`3:39 people.a.former: 192.0.2.9/32 is fixed for a | leave it out of one of the two: what is somebody's now is let in rightly`,
			`4:16 people.b.former: 192.0.2.128/25 is fixed for a | leave it out of one of the two: what is somebody's now is let in rightly`,
			`4:32 people.b.former: 198.51.100.1/32 is fixed for c | leave it out of one of the two: what is somebody's now is let in rightly`,
			`4:46 people.b.former: 2001:db8::1/128 is fixed for c | leave it out of one of the two: what is somebody's now is let in rightly`}},
		{"a person like a group", "version: 1\npeople:\n  ops: {}\n  taro: {groups: [dev, ops, dev, 'a b']}\n", []string{
			`4:29 people.taro.groups: "dev" is there twice | keep one; the first is on line 4`,
			`4:34 people.taro.groups: "a b" cannot be the name of a group | a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit`}},
		{"a person like a group, alone", "version: 1\npeople:\n  ops: {}\n  taro: {groups: [dev, ops]}\n", []string{"4:24 people.taro.groups: ops is the name of a person | give one of them another name: `allow` takes both"}},

		{"no key", key("AAAA"), []string{`5:7 people.hanako.keys: "AAAA" is no SSH public key | write the whole line of the .pub file: "ssh-ed25519 AAAA... hanako@laptop"`}},
		{"a key cut off", key(keyA[:60]), []string{`5:7 people.hanako.keys: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjGpp3gV1U+iXvTJG70wUs" is no SSH public key | write the whole line of the .pub file: "ssh-ed25519 AAAA... hanako@laptop"`}},
		{"a key with options", key(`'restrict,from="192.0.2.1" ` + keyA + "'"), []string{`5:7 people.hanako.keys: the key has options: "restrict,from="192.0.2.1"" | leave them out: what a key may do on a host is said in that host's authorized_keys`}},
		{"a key of another type than it says", key("ssh-rsa" + strings.TrimPrefix(keyA, "ssh-ed25519")), []string{`5:7 people.hanako.keys: "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGVjGpp3gV1U+iXvTJG70wUsRAy…" is no SSH public key | write the whole line of the .pub file: "ssh-ed25519 AAAA... hanako@laptop"`}},
		{"DSA", key("ssh-dss AAAAB3NzaC1kc3M= x"), []string{`5:7 people.hanako.keys: this is a DSA key, which sshd takes no more | make another: ssh-keygen -t ed25519`}},
		{"short RSA", key(keyWeak), []string{`5:7 people.hanako.keys: this is an RSA key of 1024 bits: too short | make another: ssh-keygen -t ed25519`}},
		{"a certificate", key(keyCert), []string{`5:7 people.hanako.keys: this is a certificate, which ends, not a key | write the line of the .pub file that it was made for, not of the -cert.pub`}},
		{"keys in one text", key("\"" + keyA + "\\n" + keyB + "\""), []string{`5:7 people.hanako.keys: these are several lines where one key is wanted | write each key as an item of the list`}},
		{"a comment that hides", key("\"" + keyA + " \\u202ex\""), []string{`5:7 people.hanako.keys: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjGpp3gV1U+iXvTJG70wU…" holds what cannot be seen | leave the comment at the end out`}},
		{"a file", key("~/.ssh/id_ed25519.pub"), []string{`5:7 people.hanako.keys: "~/.ssh/id_ed25519.pub" is no SSH public key | write the whole line of the .pub file: "ssh-ed25519 AAAA... hanako@laptop"`}},
		{"no key at all", "version: 1\npeople:\n  hanako:\n    keys:\n    -\n", []string{`5:7 people.hanako.keys: there is no value | write an SSH public key, such as "ssh-ed25519 AAAA... hanako@laptop"`}},
		{"keys twice", "version: 1\npeople:\n  zoe: {keys: [\"" + keyA + " a\", \"" + keyA + " b\"]}\n", []string{`3:102 people.zoe.keys: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjGpp3gV1U+iXvTJG70wU…" is there twice | keep one; the first is on line 3`}},
		{"keys of two", "version: 1\npeople:\n  zoe: {keys: [\"" + keyA + " a\"]}\n  adam: {keys: [\"" + keyB + "\", \"" + keyA + " b\"]}\n", []string{`4:101 people.adam.keys: the key is zoe's already | one key is one person's; give each their own`}},

		{"a target with nothing", head + "targets:\n  web:\n  db: {}\n", []string{
			`4:3 targets.web.aws.group is missing: which security group is the door? | name it: aws: {region: eu-central-1, group: sg-0123456789abcdef0}`,
			`4:3 targets.web.aws.region is missing: where is the security group? | name it: aws: {region: eu-central-1, group: sg-0123456789abcdef0}`,
			`4:3 targets.web.allow names nobody: the target would open for no one | name groups or people: allow: [ops]`,
			`5:3 targets.db.aws.group is missing: which security group is the door? | name it: aws: {region: eu-central-1, group: sg-0123456789abcdef0}`,
			`5:3 targets.db.aws.region is missing: where is the security group? | name it: aws: {region: eu-central-1, group: sg-0123456789abcdef0}`,
			`5:3 targets.db.allow names nobody: the target would open for no one | name groups or people: allow: [ops]`}},
		{"a target with empty values", head + "targets:\n  web:\n    aws: {group: , region: }\n    host:\n    allow:\n", []string{
			`5:17 targets.web.aws.group: there is no value; want a security group | write it like sg-0123456789abcdef0`,
			`5:27 targets.web.aws.region: there is no value; want a region | write it like eu-central-1`,
			`6:10 targets.web.host: names nothing | name one, or leave the key out`,
			`7:12 targets.web.allow names nobody: the target would open for no one | name groups or people: allow: [ops]`}},
		{"no account among several", "version: 1\naws: {accounts: {b: {}, a: {}}}\npeople: {hanako: {groups: [ops]}}\ntargets: {web: {aws: {region: eu-central-1, group: sg-12345678}, allow: [ops]}}\n", []string{`4:23 targets.web.aws.account is missing, and there are 2 accounts | name it: aws: {account: a}`}},
		{"an account unknown", "version: 1\naws: {accounts: {prod: {}, a: {}}}\npeople: {hanako: {groups: [ops]}}\ntargets: {web: {aws: {account: pord, region: eu-central-1, group: sg-12345678}, allow: [ops]}, db: {aws: {account: staging, region: eu-central-1, group: sg-12345678}, allow: [ops]}}\n", []string{
			`4:32 targets.web.aws.account: there is no account pord | did you mean prod?`,
			`4:116 targets.db.aws.account: there is no account staging | write one of a, prod`}},
		{"an account where there are none", head + "targets: {web: {aws: {account: prod, region: eu-central-1, group: sg-12345678}, allow: [ops]}}\n", []string{`3:32 targets.web.aws.account: there is no account prod | put it under aws.accounts, or leave account out: it is the one of the environment's credentials then`}},
		{"groups and regions", head + "targets:\n  a: {aws: {region: eu-central-1b, group: web}, allow: [ops]}\n  b: {aws: {region: europe, group: sgr-0123456789abcdef0, via: prefixlist}, allow: [ops]}\n  c: {aws: {region: eu-central-1, group: pl-12345678}, allow: [ops]}\n  d: {aws: {region: eu-central-1, group: sg-1234567}, allow: [ops]}\n", []string{
			`4:21 targets.a.aws.region: "eu-central-1b" is a zone of a region | write eu-central-1`,
			`4:43 targets.a.aws.group: "web" is no security group's id | write the group's id, sg- and 8 to 17 digits and letters to f; a name is not enough`,
			`5:21 targets.b.aws.region: "europe" is no region | write it like eu-central-1`,
			`5:36 targets.b.aws.group: "sgr-0123456789abcdef0" is a rule | write the id of the group that it is in: sg-…`,
			`5:64 targets.b.aws.via: "prefixlist" is not known | did you mean prefix_list?`,
			`6:42 targets.c.aws.group: "pl-12345678" is a prefix list | write the id of the group, sg-…, and via: prefix_list`,
			`7:42 targets.d.aws.group: "sg-1234567" is no security group's id | write the group's id, sg- and 8 to 17 digits and letters to f; a name is not enough`}},
		{"hosts", web("host: [a b, user@web, 'web:22', 'fe80::1%eth0', '[::1]', WEB, web, 0.0.0.0]"), []string{
			`3:87 targets.web.host: "a b" is no host | write it like web.example.com, 203.0.113.7 or 2001:db8::1`,
			`3:92 targets.web.host: "user@web" is no host | leave out who logs in: that is ssh's to know`,
			`3:102 targets.web.host: "web:22" is no host | write the port as port:`,
			`3:112 targets.web.host: "fe80::1%eth0" is no address to connect to | write it like web.example.com, 203.0.113.7 or 2001:db8::1`,
			`3:128 targets.web.host: "[::1]" is no host | write it like web.example.com, 203.0.113.7 or 2001:db8::1`,
			`3:142 targets.web.host: "web" is there twice | keep one; the first is on line 3`,
			`3:147 targets.web.host: "0.0.0.0" is no address to connect to | write it like web.example.com, 203.0.113.7 or 2001:db8::1`}},
		{"no hosts", web("host: []"), []string{`3:86 targets.web.host: names nothing | name one, or leave the key out`}},
		{"port", web("port: 0, ipv6: 56, close: never, at_most: 31d"), []string{
			`3:86 targets.web.port: 0 is out of range | write a number from 1 to 65535`,
			`3:95 targets.web.ipv6: "56" is no length that is taken here | write 128 for the one address, or 64 for the network that it changes within`,
			`3:106 targets.web.close: "never" is not known | write one of after_connect, at_exit`,
			`3:122 targets.web.at_most: 31d is out of range | write a duration from 1m to 30d`}},
		{"public", web("exposure: public"), []string{`3:90 targets.web.exposure: a target is never public | open the group to everybody by hand, if that is meant, and leave the target out; what protects the host then is sekisho on it: its exposure, firewall and guard`}},
		{"hours of a fixed one", web("exposure: fixed, hours: daily 09:00-18:00"), []string{`3:104 targets.web.hours would limit nothing: nobody can ask, as exposure is fixed | leave hours out, or set exposure: on_request: fixed addresses are let in at all hours`}},
		{"limits of a fixed one", head + "targets: {web: {aws: {region: eu-central-1, group: sg-12345678}, exposure: fixed, allow: [hanako, {who: ops, at_most: 1h}]}}\n", []string{`3:100 targets.web.allow[1]: what else it says would limit nothing: nobody can ask, as exposure is fixed | write ops alone, or set exposure: on_request: fixed addresses are let in at all hours`}},
		{"allow nobody", head + "targets: {web: {aws: {region: eu-central-1, group: sg-12345678}, allow: []}}\n", []string{`3:73 targets.web.allow names nobody: the target would open for no one | name groups or people: allow: [ops]`}},
		{"allow", head + "targets: {web: {aws: {region: eu-central-1, group: sg-12345678}, allow: [op, {who: hanaka}, strangers, ops, ops]}}\n", []string{`3:109 targets.web.allow: "ops" is there twice | keep one; the first is on line 3`}},
		{"allow unknown", head + "targets: {web: {aws: {region: eu-central-1, group: sg-12345678}, allow: [op, {who: hanaka}, strangers]}}\n", []string{
			`3:74 targets.web.allow[0]: op is neither a person nor a group that one is in | did you mean ops?`,
			`3:84 targets.web.allow[1].who: hanaka is neither a person nor a group that one is in | did you mean hanako?`,
			`3:93 targets.web.allow[2]: strangers is neither a person nor a group that one is in | write one of hanako, ops`}},
		{"allow of no kind", head + "targets: {web: {aws: {region: eu-central-1, group: sg-12345678}, allow: ops}}\n", []string{`3:73 targets.web.allow: "ops" where a list is wanted | write it in brackets: [ops]`}},
		{"allow with mistakes", head + "targets: {web: {aws: {region: eu-central-1, group: sg-12345678}, allow: [{at_most: 1h}, {who: }, {who: ops, at_mst: 1h}, {who: hanako, at_most: 31d, hours: never}, {who: a b}, [ops]]}}\n", []string{
			`3:75 targets.web.allow[0]: who is missing | write it like {who: ops, at_most: 1h}`,
			`3:94 targets.web.allow[1].who: there is no value; want the name of a group or a person | write it like ops`,
			`3:109 there is no key "targets.web.allow[2].at_mst" | did you mean at_most?`,
			`3:145 targets.web.allow[3].at_most: 31d is out of range | write a duration from 1m to 30d`,
			`3:157 targets.web.allow[3].hours: "never" is no span of the week | write days, times and the zone: "mon-fri 09:00-18:00 Asia/Tokyo"`,
			`3:171 targets.web.allow[4].who: "a b" cannot be the name of a group or a person | a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit`,
			`3:177 targets.web.allow[5]: a list where the name of a group or a person is wanted`}},
		{"allow where a group could not be read", "version: 1\npeople: {hanako: {groups: [o ps]}}\ntargets: {web: {aws: {region: eu-central-1, group: sg-12345678}, allow: [ops]}}\n", []string{`2:28 people.hanako.groups: "o ps" cannot be the name of a group | a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit`}},
		{"the same door", head + "targets:\n  web: {aws: {region: eu-central-1, group: sg-12345678}, allow: [ops]}\n  a.web: {aws: {region: eu-central-1, group: sg-12345678}, allow: [ops]}\n", []string{`5:3 targets."a.web" is the same door as target web: port 22 of sg-12345678 | keep one, with the hosts of both: host: [a.example.com, b.example.com]`}},
		{"the same door, of two names of one account", "version: 1\naws: {accounts: {b: {id: \"111122223333\"}, a: {id: \"111122223333\"}}}\npeople: {hanako: {groups: [ops]}}\ntargets:\n  web: {aws: {account: a, region: eu-central-1, group: sg-12345678}, allow: [ops]}\n  db: {aws: {account: b, region: eu-central-1, group: sg-12345678}, allow: [ops]}\n", []string{`6:3 targets.db is the same door as target web: port 22 of sg-12345678 | keep one, with the hosts of both: host: [a.example.com, b.example.com]`}},
		{"the same host", head + "targets:\n  web: {aws: {region: eu-central-1, group: sg-12345678}, allow: [ops]}\n  db: {aws: {region: eu-west-1, group: sg-12345678}, host: [db, WEB], allow: [ops]}\n", []string{"5:65 targets.db.host: web port 22 is behind target web already | name it in one of them: `sekisho connect` must know which door to open"}},
		{"hours", web("hours: ['09:00-18:00', mon 9-18, monday 09:00-18:00, mon-mon 09:00-18:00, 'mon,mon-wed 09:00-18:00', daily 09:00-09:00, daily 24:00-09:00, daily 09:60-10:00, daily 09:00-25:00]"), []string{
			`3:88 targets.web.hours: "09:00-18:00" is no span of the week | write days, times and the zone: "mon-fri 09:00-18:00 Asia/Tokyo"`,
			`3:103 targets.web.hours: "9-18" is no span of a day | write times as 09:00-18:00, of 24 hours`,
			`3:113 targets.web.hours: "monday" is no day | the days are mon, tue, wed, thu, fri, sat, sun; write mon-fri, sat,sun or daily`,
			`3:133 targets.web.hours: "mon-mon" is one day, or all of them | write mon, or daily for all days`,
			`3:154 targets.web.hours: mon is there twice | name each day once`,
			`3:181 targets.web.hours: "09:00-09:00" ends where it begins | for the whole day write 00:00-24:00`,
			`3:200 targets.web.hours: "24:00-09:00" begins when the day is over | write 00:00 and name the day after`,
			`3:219 targets.web.hours: "09:60" is no time of day | times are from 00:00 to 24:00`,
			`3:238 targets.web.hours: "25:00" is no time of day | times are from 00:00 to 24:00`}},
		{"zones", web("hours: [daily 09:00-18:00 JST, daily 09:00-18:00 Asia/Tokio, 'daily 09:00-18:00 +09:00', daily 09:00-18:00 EST, daily 09:00-18:00 Local, daily 09:00-18:00 ../../etc/passwd, daily 09:00-18:00 asia/tokyo, daily 09:00-18:00 in Tokyo]"), []string{
			`3:88 targets.web.hours: "JST" is no name of a zone | write it by a city, such as Asia/Tokyo or Europe/Berlin, or UTC`,
			`3:111 targets.web.hours: "Asia/Tokio" is not known among the zones | write it by a city, such as Asia/Tokyo or Europe/Berlin, or UTC`,
			`3:141 targets.web.hours: "+09:00" is no name of a zone | write it by a city, such as Asia/Tokyo or Europe/Berlin, or UTC`,
			`3:169 targets.web.hours: "EST" is no name of a zone | write it by a city, such as Asia/Tokyo or Europe/Berlin, or UTC`,
			`3:192 targets.web.hours: "Local" is no name of a zone | write it by a city, such as Asia/Tokyo or Europe/Berlin, or UTC`,
			`3:217 targets.web.hours: "../../etc/passwd" is no name of a zone | write it by a city, such as Asia/Tokyo or Europe/Berlin, or UTC`,
			`3:253 targets.web.hours: "asia/tokyo" is no name of a zone | write it by a city, such as Asia/Tokyo or Europe/Berlin, or UTC`,
			`3:283 targets.web.hours: "daily 09:00-18:00 in Tokyo" is no span of the week | write days, times and the zone: "mon-fri 09:00-18:00 Asia/Tokyo"`}},
		{"hours twice, and none", web("hours: [daily 09:00-18:00, 'mon-sun 09:00-18:00 UTC', {a: b}, ]"), []string{
			`3:107 targets.web.hours: "daily 09:00-18:00 UTC" is there twice | keep one`,
			`3:135 targets.web.hours: a mapping where a span such as "mon-fri 09:00-18:00 Asia/Tokyo" is wanted | put it in quotes`}},
		{"hours in a mapping", web("hours: {mon: 09:00-18:00}"), []string{`3:88 targets.web.hours: a mapping where hours are wanted | put it in quotes: "mon-fri 09:00-18:00 Asia/Tokyo"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, mistakesOf(t, tt.src)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestPrivateKeyIsNotShown: who takes the wrong file has it in the configuration already,
// but neither on a terminal nor in a log.
func TestPrivateKeyIsNotShown(t *testing.T) {
	const secret = "b3BlbnNzaC1rZXktdjEAAAAA"
	for _, tt := range []struct{ name, src string }{
		{"a block", "    keys:\n    - |\n      -----BEGIN OPENSSH PRIVATE KEY-----\n      " + secret + "\n      -----END OPENSSH PRIVATE KEY-----\n"},
		{"a line", "    keys: [\"-----BEGIN OPENSSH PRIVATE KEY-----\\n" + secret + "\\n-----END OPENSSH PRIVATE KEY-----\", x]\n"},
		{"without quotes", "    keys: [-----BEGIN RSA PRIVATE KEY----- " + secret + "]\n"},
		{"over lines", "    keys:\n    - -----BEGIN PRIVATE KEY-----\n      " + secret + "\n      -----END PRIVATE KEY-----\n"},
		{"of PuTTY", "    keys:\n    - 'PuTTY-User-Key-File-3: ssh-ed25519 " + secret + "'\n"},
		{"no YAML any more", "    keys: [-----BEGIN RSA PRIVATE KEY-----\n" + secret + ": [\n"},
		{"as a key of the file", "    -----BEGIN RSA PRIVATE KEY-----\n    " + secret + ": x\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x.yaml", []byte("version: 1\npeople:\n  hanako:\n"+tt.src))
			if err == nil {
				t.Fatal("no error")
			}
			t.Log(err)
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the private key is shown: %v", err)
			}
		})
	}
}
