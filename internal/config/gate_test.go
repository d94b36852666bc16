package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func addrPorts(texts ...string) (as []netip.AddrPort) {
	for _, s := range texts {
		as = append(as, netip.MustParseAddrPort(s))
	}
	return as
}

func TestParseGate(t *testing.T) {
	const url = "https://gate.example.com"
	serve := func(change func(s *Serve)) func(c *Config) {
		return func(c *Config) {
			c.Gate.URL, c.Gate.Serve = url, newServe()
			if change != nil {
				change(c.Gate.Serve)
			}
		}
	}
	serving := func(keys string) string {
		return "people: {hanako: {groups: [ops]}}\ngate: {url: \"" + url + "\", serve: {" + keys + "}}\n"
	}
	for _, tt := range []struct {
		name, src string
		change    func(c *Config)
	}{
		{"nothing in it", "gate:\n  # url: x\n", func(*Config) {}},
		{"no gate", "gate: {url: '', ca: '', identity: '', serve: no}\n", func(*Config) {}},
		{"elsewhere", "gate:\n  url: https://Gate.Example.com:443/\n  ca: /etc/sekisho//gate-ca.pem\n  identity: ~/.ssh//id_ed25519\n", func(c *Config) {
			c.Gate = Gate{URL: url, CA: "/etc/sekisho/gate-ca.pem", Identity: "~/.ssh/id_ed25519"}
		}},
		{"an absolute identity, another port", "gate: {url: 'https://gate.example.com:8443', identity: /k/id.pub}\n", func(c *Config) {
			c.Gate = Gate{URL: url + ":8443", Identity: "/k/id.pub"}
		}},
		{"this host, by name", "gate: {url: 'http://localhost:8022'}\n", func(c *Config) { c.Gate.URL = "http://localhost:8022" }},
		{"this host, by address", "gate: {url: 'http://[::1]:80'}\n", func(c *Config) { c.Gate.URL = "http://[::1]" }},
		{"this machine, as usual", serving(""), serve(nil)},
		{"with TLS", serving("listen: ['0.0.0.0:443', '[::]:443'], tls: {cert: /c, key: /k}"), serve(func(s *Serve) {
			s.Listen, s.Cert, s.Key = addrPorts("0.0.0.0:443", "[::]:443"), "/c", "/k"
		})},
		{"behind a proxy", serving("listen: ['10.1.2.3:8022'], proxies: [10.0.0.0/8, 127.0.0.1], forwarded: x_forwarded_for"), serve(func(s *Serve) {
			s.Listen, s.Proxies, s.Forwarded = addrPorts("10.1.2.3:8022"), prefixList("10.0.0.0/8", "127.0.0.1/32"), ForwardedX
		})},
		{"RFC 7239", serving("proxies: [\"::1\"], forwarded: forwarded"), serve(func(s *Serve) { s.Proxies, s.Forwarded = prefixList("::1/128"), Forwarded })},
		{"forwarded by nobody", serving("forwarded: off"), serve(nil)},
		{"a file", serving("database: /var/lib/sekisho//gate.db"), serve(func(s *Serve) { s.Database = "/var/lib/sekisho/gate.db" })},
		{"a server", serving("database: 'postgres://sekisho@db.example.com:5432/sekisho?sslmode=verify-full'"), serve(func(s *Serve) {
			s.Database = "postgres://sekisho@db.example.com:5432/sekisho?sslmode=verify-full"
		})},
		{"a socket", serving("database: 'postgresql:///sekisho?host=/run/postgresql'"), serve(func(s *Serve) { s.Database = "postgresql:///sekisho?host=/run/postgresql" })},
		{"a server with a password", serving("database_file: /etc/sekisho/db"), serve(func(s *Serve) { s.DatabaseFile = "/etc/sekisho/db" })},
		{"admins, groups, the rest", serving("admins: [ops, hanako, night], groups: [night, ops], edit: no, session: 1d"), serve(func(s *Serve) {
			s.Admins, s.Groups, s.Edit, s.Session = []string{"ops", "hanako", "night"}, []string{"night", "ops"}, false, day
		})},
		{"a provider", serving("oidc: {issuer: 'https://login.example.com/realms/x/', client_id: sekisho}"), serve(func(s *Serve) {
			s.OIDC = newOIDC()
			s.OIDC.Issuer, s.OIDC.ClientID = "https://login.example.com/realms/x/", "sekisho"
		})},
		{"a provider, whole", serving("groups: [dev], oidc: {name: \"会社 login\", issuer: 'http://127.0.0.1:5556', client_id: x y, client_secret_file: /s, groups_claim: 'https://example.com/groups', person_claim: sub, groups: {\"/Their: \\\"Ops\\\"\": ops, no: dev, 7: ops}}"), serve(func(s *Serve) {
			s.Groups = []string{"dev"}
			s.OIDC = &OIDC{
				Name: "会社 login", Issuer: "http://127.0.0.1:5556", ClientID: "x y", ClientSecretFile: "/s", PersonClaim: ClaimSubject,
				GroupsClaim: "https://example.com/groups", Groups: map[string]string{"/Their: \"Ops\"": "ops", "no": "dev", "7": "ops"},
			}
		})},
		{"no provider", serving("oidc: no"), serve(nil)},
		{"its groups are not looked at", serving("oidc: {issuer: 'https://a.example', client_id: x, groups_claim: '', groups: {}}"), serve(func(s *Serve) {
			s.OIDC = &OIDC{Issuer: "https://a.example", ClientID: "x", PersonClaim: ClaimEmail}
		})},
		{"addresses", serving("addresses: {ipv4: 'https://v4.example.com', ipv6: 'https://v6.example.com/'}"), serve(func(s *Serve) {
			s.Addresses = Addresses{"https://v4.example.com", "https://v6.example.com"}
		})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := Default()
			tt.change(want)
			got, err := Parse("x.yaml", []byte("version: 1\n"+tt.src))
			if err != nil {
				t.Fatal(err)
			}
			want.People = got.People
			if diff := cmp.Diff(want, got, comparePrefixes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			file := File(got, nil, map[string]Remark{
				"people": {Named: true}, "gate.url": {Named: true}, "gate.ca": {Named: true}, "gate.identity": {Named: true}, "gate.serve": {Named: true},
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

func TestMistakesOfGate(t *testing.T) {
	gate := func(keys string) string {
		return "version: 1\npeople: {hanako: {groups: [ops]}}\ngate: {" + keys + "}\n"
	}
	serve := func(keys string) string { return gate("url: 'https://g.example', serve: {" + keys + "}") }
	for _, tt := range []struct {
		name, src string
		want      []string
	}{
		{"URLs", "version: 1\ngate:\n  url: http://gate.example.com\n", []string{`3:8 gate.url: is not https | write https://; whoever is on the way could read along otherwise`}},
		{"more than a host", gate("url: 'https://gate.example.com/sekisho'"), []string{`3:13 gate.url: "https://gate.example.com/sekisho" is more than the address of a host | leave out what follows the host: a host of its own is the gate's`}},
		{"a query", gate("url: 'https://gate.example.com?'"), []string{`3:13 gate.url: "https://gate.example.com?" is more than the address of a host | leave out what follows the host: a host of its own is the gate's`}},
		{"a fragment", gate("url: 'https://gate.example.com#x'"), []string{`3:13 gate.url: has a fragment | leave out what follows the #`}},
		{"a user", gate("url: 'https://hunter2@gate.example.com'"), []string{`3:13 gate.url: holds a name or a password | leave out the name and the password in front of the host`}},
		{"no URL", gate("url: gate.example.com"), []string{`3:13 gate.url: is no https URL | write it like https://gate.example.com`}},
		{"no port", gate("url: 'https://gate.example.com:0'"), []string{`3:13 gate.url: has no port after the colon | ports are numbers from 1 to 65535`}},
		{"files", gate("ca: gate-ca.pem, identity: id_ed25519"), []string{
			`3:12 gate.ca: "gate-ca.pem" is no absolute path of a file | write the whole path, such as /etc/sekisho/gate-ca.pem`,
			`3:35 gate.identity: "id_ed25519" is no path of a key | write the whole path, such as ~/.ssh/id_ed25519 or /home/hanako/.ssh/id_ed25519`}},
		{"the home itself", gate("identity: ~/"), []string{`3:18 gate.identity: "~/" is no path of a key | write the whole path, such as ~/.ssh/id_ed25519 or /home/hanako/.ssh/id_ed25519`}},
		{"yes", gate("url: 'https://g.example', serve: yes"), []string{`3:41 gate.serve: "yes" where keys are wanted | write its keys below it, indented: listen, tls, proxies, forwarded, database, database_file, admins, groups, edit, session, oidc, addresses`}},
		{"no URL of a gate", gate("serve: {}"), []string{`3:15 gate.serve is there, but not gate.url: what do browsers call the gate? | name it: url: https://gate.example.com, or http://localhost:8022 to try it on this machine`}},
		{"listen", serve("listen: [':8022', 8022, localhost:8022, '127.0.0.1:0', '[fe80::1%eth0]:1', '127.0.0.1:1', '127.0.0.1:1', {}]"), []string{
			`3:51 gate.serve.listen: ":8022" names no address | write 0.0.0.0:8022 for all of IPv4, [::]:8022 for all of IPv6 too`,
			`3:60 gate.serve.listen: "8022" is no address and port | write it like 127.0.0.1:8022, [::1]:8022, or 0.0.0.0:443 for all of IPv4`,
			`3:66 gate.serve.listen: "localhost:8022" is no address and port | write it like 127.0.0.1:8022, [::1]:8022, or 0.0.0.0:443 for all of IPv4`,
			`3:82 gate.serve.listen: "127.0.0.1:0" is no address and port | write it like 127.0.0.1:8022, [::1]:8022, or 0.0.0.0:443 for all of IPv4`,
			`3:97 gate.serve.listen: "[fe80::1%eth0]:1" is no address and port | write it like 127.0.0.1:8022, [::1]:8022, or 0.0.0.0:443 for all of IPv4`,
			`3:132 gate.serve.listen: 127.0.0.1:1 is there twice | keep one`,
			`3:147 gate.serve.listen: a mapping where an address and port is wanted | put it in quotes`}},
		{"listen nowhere", serve("listen: []"), []string{`3:50 gate.serve.listen: names nothing | name one, or leave the key out: it is 127.0.0.1:8022 then`}},
		{"listen, no list", serve("listen: '127.0.0.1:8022'"), []string{`3:50 gate.serve.listen: "127.0.0.1:8022" where a list is wanted | write it in brackets: [127.0.0.1:8022]`}},
		{"too many listeners", serve("listen: [" + numbered("'127.0.0.1:1%d', ", maxListeners+1) + "]"), []string{`3:313 gate.serve.listen: more than 16`}},
		{"in the clear", serve("listen: ['127.0.0.1:1', '0.0.0.0:8022', '10.0.0.1:1']"), []string{
			`3:66 gate.serve.listen: 0.0.0.0:8022 can be reached from outside, and nothing there speaks TLS | name tls: {cert: FILE, key: FILE}, or the proxies that speak TLS in front: proxies: [10.0.0.7]`,
			`3:82 gate.serve.listen: 10.0.0.1:1 can be reached from outside, and nothing there speaks TLS | name tls: {cert: FILE, key: FILE}, or the proxies that speak TLS in front: proxies: [10.0.0.7]`}},
		{"half of TLS", serve("tls: {cert: /c}"), []string{`3:54 gate.serve.tls.key is missing | name the file of the private key, too: key: /etc/sekisho/gate.key`}},
		{"the other half", serve("tls: {key: /k}"), []string{`3:53 gate.serve.tls.cert is missing | name the file of the certificate, too: cert: /etc/sekisho/gate.crt`}},
		{"half of TLS, reached from outside", serve("listen: ['0.0.0.0:1'], tls: {cert: c, key: /k}"), []string{`3:77 gate.serve.tls.cert: "c" is no absolute path of a file | write the whole path, such as /etc/sekisho/gate.crt`}},
		{"believe anyone", serve("proxies: [0.0.0.0/0, '::/0', 10.0.0.0/7, 10.0.0.1/8, proxy], forwarded: x_forwarded_for"), []string{
			`3:52 gate.serve.proxies: 0.0.0.0/0 would let anyone say that they come from anywhere | name the addresses of the proxies themselves`,
			`3:63 gate.serve.proxies: ::/0 would let anyone say that they come from anywhere | name the addresses of the proxies themselves`,
			`3:71 gate.serve.proxies: 10.0.0.0/7 would let anyone say that they come from anywhere | name the addresses of the proxies themselves`,
			`3:83 gate.serve.proxies: "10.0.0.1/8" has bits set beyond its /8 | write 10.0.0.0/8 for the network, or 10.0.0.1 for the one address`,
			`3:95 gate.serve.proxies: "proxy" is no address or prefix | write an address (203.0.113.7, 2001:db8::1) or a prefix (203.0.113.0/24); a name can be turned elsewhere by whoever runs its DNS`}},
		{"too many proxies", serve("proxies: [" + numbered("10.0.0.%d, ", maxProxies+1) + "], forwarded: forwarded"), []string{`3:746 gate.serve.proxies: more than 64`}},
		{"proxies without a header", serve("proxies: [10.0.0.0/8]"), []string{`3:51 gate.serve.proxies would be believed nothing: gate.serve.forwarded is no | say by which header they tell whom they speak for: forwarded: x_forwarded_for`}},
		{"a header without proxies", serve("forwarded: forwarded"), []string{`3:53 gate.serve.forwarded is forwarded, but gate.serve.proxies names nobody | name those that set it: proxies: [10.0.0.7]; anybody could say that they come from anywhere otherwise`}},
		{"another header", serve("forwarded: x-forwarded-for, proxies: [10.0.0.1]"), []string{`3:53 gate.serve.forwarded: "x-forwarded-for" is not known | did you mean x_forwarded_for?`}},
		{"databases", "version: 1\ngate:\n  url: https://g.example\n  serve:\n    database: 'postgres://me:hunter2@db/x'\n", []string{
			`5:15 gate.serve.database: holds a password | put the whole URL into a file: database_file: /etc/sekisho/gate.database`}},
		{"a password behind", serve("database: 'postgres://me@db/x?sslPassword=hunter2'"), []string{`3:52 gate.serve.database: holds a password | put the whole URL into a file: database_file: /etc/sekisho/gate.database`}},
		{"a DSN of words", serve("database: 'host=db password=hunter2'"), []string{`3:52 gate.serve.database: is neither a path nor a URL of PostgreSQL | write it as a URL, like postgres://sekisho@db.example.com/sekisho`}},
		{"another database", serve("database: 'mysql://me:hunter2@db/x'"), []string{`3:52 gate.serve.database: is neither an absolute path nor a URL of PostgreSQL | write the whole path of a file, such as /var/lib/sekisho/gate.db, or postgres://sekisho@db.example.com/sekisho`}},
		{"a broken URL of a database", serve("database: 'postgres://me:hun%ter2@db/x'"), []string{`3:52 gate.serve.database: is no URL of PostgreSQL | write it like postgres://USER:PASSWORD@db.example.com/sekisho; what is not a letter or a digit in a password as %XX`}},
		{"a password in place of its file", serve("database_file: 'postgres://me:hunter2@db/x'"), []string{`3:57 gate.serve.database_file: is no absolute path of a file | write the whole path of a file that holds it and nothing else, such as /etc/sekisho/gate.database`}},
		{"two databases", serve("database: /x, database_file: /y"), []string{`3:71 gate.serve.database and gate.serve.database_file are both there | keep one`}},
		{"admins", serve("admins: [op, nobody, ops, ops]"), []string{`3:68 gate.serve.admins: "ops" is there twice | keep one; the first is on line 3`}},
		{"admins unknown", serve("admins: [op, nobody]"), []string{
			`3:51 gate.serve.admins[0]: op is neither a person nor a group that one is in | did you mean ops?`,
			`3:55 gate.serve.admins[1]: nobody is neither a person nor a group that one is in | write one of hanako, ops`}},
		{"a group like a person", serve("groups: [dev, hanako]"), []string{"3:56 gate.serve.groups: hanako is the name of a person | give one of them another name: `allow` takes both"}},
		{"session", serve("session: 8d, edit: maybe"), []string{
			`3:51 gate.serve.session: 8d is out of range | write a duration from 5m to 7d`,
			`3:61 gate.serve.edit: "maybe" is neither yes nor no | write yes or no (on, off, true and false are taken too)`}},
		{"half a provider", serve("oidc: {issuer: 'https://a.example'}"), []string{`3:49 gate.serve.oidc: client_id is missing | write it like {issuer: https://login.example.com, client_id: sekisho, client_secret_file: /etc/sekisho/oidc.secret}`}},
		{"a provider", serve("oidc: {issuer: 'https://a.example/.well-known/openid-configuration', client_id: '', person_claim: name, groups_claim: ' x'}"), []string{
			`3:57 gate.serve.oidc.issuer: "https://a.example/.well-known/openid-configuration" is the provider's description, not the issuer | write https://a.example`,
			`3:122 gate.serve.oidc.client_id: "" is not a client's id | write at most 256 bytes that can be seen, like sekisho`,
			`3:140 gate.serve.oidc.person_claim: "name" is not known | write one of email, preferred_username, sub`,
			`3:160 gate.serve.oidc.groups_claim: " x" is not the name of a claim | write at most 256 bytes that can be seen, like groups`}},
		{"an issuer in the clear", serve("oidc: {issuer: 'http://a.example', client_id: x}"), []string{`3:57 gate.serve.oidc.issuer: is not https | write https://; whoever is on the way could read along otherwise`}},
		{"a provider's groups", serve("oidc: {issuer: 'https://a.example', client_id: x, groups: {a: opps, b: hanako, c: dev}}"), []string{
			`3:104 gate.serve.oidc.groups: opps is no group: nobody is in it, and gate.serve.groups does not name it | did you mean ops?`,
			`3:113 gate.serve.oidc.groups: hanako is a person | name a group`,
			`3:124 gate.serve.oidc.groups: dev is no group: nobody is in it, and gate.serve.groups does not name it | write one of ops`}},
		{"a provider's groups of no kind", serve("oidc: {issuer: 'https://a.example', client_id: x, groups: {a: ops, a: ops, ' ': ops, null: ops, b: , c: 'x y'}}"), []string{
			`3:109 gate.serve.oidc.groups: "a" is there twice | keep one; the first is on line 3`,
			`3:117 gate.serve.oidc.groups: " " is not the name of a group | write at most 256 bytes that can be seen, like "Their Group"`,
			`3:127 gate.serve.oidc.groups: nothing is no name | write it like {"Their Group": ops}; a name that is a word of YAML's needs quotes`,
			`3:140 gate.serve.oidc.groups: there is no value; want the name of a group | write it like ops`,
			`3:146 gate.serve.oidc.groups: "x y" cannot be the name of a group | a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit`}},
		{"too many of a provider's groups", serve("oidc: {issuer: 'https://a.example', client_id: x, groups: {" + numbered("g%d: ops, ", maxMapped+1) + "}}"), []string{`3:2191 gate.serve.oidc.groups: more than 200 groups`}},
		{"groups without a claim", serve("oidc: {issuer: 'https://a.example', client_id: x, groups_claim: '', groups: {a: ops}}"), []string{`3:119 gate.serve.oidc.groups would not be looked at: groups_claim is empty | name the claim, or leave groups out`}},
		{"addresses", serve("addresses: {ipv4: 'https://g.example', ipv6: 'https://g.example'}"), []string{
			`3:60 gate.serve.addresses.ipv4 is another's name, too | give it a name of its own, with an A record and no AAAA`,
			`3:87 gate.serve.addresses.ipv6 is another's name, too | give it a name of its own, with an AAAA record and no A`}},
		{"logins", "version: 1\npeople:\n  a: {login: hanako@example.com}\n  b: {login: Hanako@Example.com}\n  c: {login: ' '}\n", []string{
			`4:14 people.b.login: "Hanako@Example.com" is a's already | one login is one person's; give each their own`,
			`5:14 people.c.login: " " is not a login | write at most 255 bytes that can be seen, like hanako@example.com`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, mistakesOf(t, tt.src)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			_, err := Parse("x.yaml", []byte(tt.src))
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

// TestGateSecretsAreNotShown: also where it is not known that there is one.
func TestGateSecretsAreNotShown(t *testing.T) {
	for _, tt := range []struct{ name, src string }{
		{"a client's secret in the file", "gate:\n  url: https://g.example\n  serve:\n    oidc:\n      issuer: https://a.example\n      client_id: x\n      client_secret: hunter2\n"},
		{"in braces", "gate: {url: 'https://g.example', serve: {oidc: {issuer: 'https://a.example', client_id: x, client_secret: hunter2}}}\n"},
		{"no YAML any more", "gate:\n  serve:\n    database: postgres://me:hunter2@db/x: [\n"},
		{"another key's", "gate:\n  serve:\n    databse: postgres://me:hunter2@db/x\n"},
		{"a text where keys are wanted", "gate:\n  serve: postgres://me:hunter2@db/x\n"},
		{"a secret in place of its file", "gate:\n  url: https://g.example\n  serve:\n    oidc: {issuer: 'https://a.example', client_id: x, client_secret_file: hunter2}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x.yaml", []byte("version: 1\n"+tt.src))
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

func TestGateWithSecrets(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const dsn = "postgres://me:hunter2@db.example.com/sekisho"
	for _, tt := range []struct {
		name        string
		serve       Serve
		dsn, client string
		wrong       []string
	}{
		{name: "nothing", serve: *newServe()},
		{name: "a file", serve: Serve{Database: "/x/gate.db"}, dsn: "/x/gate.db"},
		{name: "in files", serve: Serve{DatabaseFile: write("dsn", dsn+"\n"), OIDC: &OIDC{ClientSecretFile: write("client", "hunter2\n")}}, dsn: dsn, client: "hunter2"},
		{name: "a public client", serve: Serve{OIDC: &OIDC{}}},
		{name: "what is something else", serve: Serve{DatabaseFile: write("path", "/hunter2"), OIDC: &OIDC{ClientSecretFile: write("empty", "")}}, wrong: []string{
			"/path gate.serve.database_file: is no URL of PostgreSQL", "/empty gate.serve.oidc.client_secret_file: the file is empty"}},
		{name: "what is not there", serve: Serve{DatabaseFile: filepath.Join(dir, "none")}, wrong: []string{"/none gate.serve.database_file: cannot be read: no such file or directory"}},
		{name: "a fragment", serve: Serve{DatabaseFile: write("fragment", "postgres://me:hunter2@db/x#y")}, wrong: []string{"/fragment gate.serve.database_file: has a fragment"}},
		{name: "too long", serve: Serve{DatabaseFile: write("long", dsn+"?"+strings.Repeat("x", maxDSN))}, wrong: []string{"/long gate.serve.database_file: is longer than 2048 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.serve.WithSecrets()
			wrong, _ := errors.AsType[Errors](err)
			var texts []string
			for _, e := range wrong {
				texts = append(texts, strings.TrimPrefix(e.File, dir)+" "+e.Message)
			}
			if diff := cmp.Diff(tt.wrong, texts); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err != nil {
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("a secret is told: %v", err)
				}
				return
			}
			client := ""
			if got.OIDC != nil {
				client = got.OIDC.ClientSecret.Reveal()
			}
			if got.DSN.Reveal() != tt.dsn || client != tt.client {
				t.Errorf("dsn = %q, client = %q", got.DSN.Reveal(), client)
			}
			if tt.serve.DSN != "" || tt.serve.OIDC != nil && tt.serve.OIDC.ClientSecret != "" {
				t.Error("the configuration itself was changed")
			}
			text, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			shown := string(text) + fmt.Sprintf("%v %+v %#v %d %s", got, &got, got, got, Gate{Serve: &got})
			if got.OIDC != nil {
				shown += fmt.Sprintf("%v %d", got.OIDC, *got.OIDC)
			}
			if strings.Contains(shown, "hunter2") {
				t.Errorf("a secret is shown: %s", shown)
			}
		})
	}
}

func TestParsePolicy(t *testing.T) {
	const head = "version: 1\npeople: {hanako: {groups: [ops]}, taro: {groups: [leads]}}\n"
	for _, tt := range []struct {
		name, keys string
		change     func(t *Target)
	}{
		{"an agent", "agent: web-1", func(t *Target) { t.Agent = "web-1" }},
		{"an agent, whole", "agent: Web.1, port: 2222, at_most: 1h, close: at_exit, ipv6: 64, hours: daily 08:00-20:00", func(t *Target) {
			t.Agent, t.Port, t.AtMost, t.Close, t.IPv6 = "Web.1", 2222, time.Hour, CloseAtExit, 64
			t.Hours = Hours{{Days: days("xxxxxxx"), From: 8 * time.Hour, To: 20 * time.Hour, Zone: time.UTC}}
		}},
		{"policy", "agent: a, reason: yes, approval: leads, break_glass: [ops]", func(t *Target) {
			t.Agent, t.Reason, t.Approval, t.BreakGlass = "a", true, []string{"leads"}, []string{"ops"}
		}},
		{"several approvers", "agent: a, approval: [taro, hanako, ops]", func(t *Target) { t.Agent, t.Approval = "a", []string{"taro", "hanako", "ops"} }},
		{"no approval", "agent: a, approval: no, reason: off", func(t *Target) { t.Agent = "a" }},
		{"items", "agent: a, reason: yes, approval: leads, allow: [{who: ops, reason: no, approval: no}, {who: taro, approval: [hanako], at_most: 1h}, {who: leads, reason: yes}]", func(t *Target) {
			t.Agent, t.Reason, t.Approval = "a", true, []string{"leads"}
			t.Allow = []Allow{
				{Who: "ops", Reason: new(false), Unapproved: true},
				{Who: "taro", Approval: []string{"hanako"}, AtMost: time.Hour},
				{Who: "leads", Reason: new(true)},
			}
		}},
		{"around hours alone", "agent: a, break_glass: [taro], allow: [{who: leads, hours: daily 08:00-20:00}]", func(t *Target) {
			t.Agent, t.BreakGlass = "a", []string{"taro"}
			t.Allow = []Allow{{Who: "leads", Hours: Hours{{Days: days("xxxxxxx"), From: 8 * time.Hour, To: 20 * time.Hour, Zone: time.UTC}}}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys := tt.keys
			if !strings.Contains(keys, "allow:") {
				keys += ", allow: [ops]"
			}
			want := newTarget("web")
			want.Allow = []Allow{{Who: "ops"}}
			tt.change(&want)
			src := head + "targets: {web: {" + keys + "}}\n"
			cfg, err := Parse("x.yaml", []byte(src))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, cfg.Targets["web"], comparePrefixes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			back, err := Parse("back.yaml", []byte(head+"targets: "+Text(cfg, "targets")+"\n"))
			if err != nil {
				t.Fatalf("%v\n%s", err, Text(cfg, "targets"))
			}
			if diff := cmp.Diff(want, back.Targets["web"], comparePrefixes); diff != "" {
				t.Errorf("what is shown is read back as something else (-want +got):\n%s", diff)
			}
			part, err := ParseTarget("web", TargetText(want), cfg)
			if err != nil {
				t.Fatalf("%v\n%s", err, TargetText(want))
			}
			if diff := cmp.Diff(want, part, comparePrefixes); diff != "" {
				t.Errorf("TargetText is read back as something else (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMistakesOfPolicy(t *testing.T) {
	const head = "version: 1\npeople: {hanako: {groups: [ops]}, taro: {groups: [leads]}}\n"
	web := func(keys string) string { return head + "targets: {web: {" + keys + ", allow: [ops]}}\n" }
	const aws = "aws: {region: eu-central-1, group: sg-12345678}"
	for _, tt := range []struct {
		name, src string
		want      []string
	}{
		{"two doors", web("agent: a, " + aws), []string{`3:33 targets.web.aws and targets.web.agent are both there | keep one: a security group, or the firewall of a host that runs sekisho`}},
		{"two doors, one half", web("agent: a, aws: {via: prefix_list}"), []string{`3:33 targets.web.aws and targets.web.agent are both there | keep one: a security group, or the firewall of a host that runs sekisho`}},
		{"no name of a host", web("agent: 'a b'"), []string{`3:24 targets.web.agent: "a b" cannot be the name of a host | a name has up to 63 letters of ASCII, digits, dots, hyphens and underscores, and begins with a letter or a digit`}},
		{"an agent's fixed addresses", web("agent: a, exposure: fixed"), []string{`3:37 targets.web.exposure is fixed, and nobody's fixed addresses are put into the firewall of a | leave exposure out; who is always let in there belongs under admins in that host's own file`}},
		{"one door twice", head + "targets:\n  web: {agent: a, allow: [ops]}\n  db: {agent: a, allow: [ops]}\n  c: {agent: a, port: 23, allow: [ops]}\n  d: {agent: b, allow: [ops]}\n", []string{
			`5:3 targets.db is the same door as target web: port 22 of a | keep one, with the hosts of both: host: [a.example.com, b.example.com]`}},
		{"approval", web("agent: a, approval: yes"), []string{`3:37 targets.web.approval: "yes" is nobody's name | say whose: approval: ops; or write no; a name that is a word of YAML's needs quotes`}},
		{"approval of nobody", web("agent: a, approval: [], reason: "), []string{
			`3:37 targets.web.approval: names nobody | say whose: approval: ops; or write no`,
			`3:48 targets.web.reason: there is no value; want yes or no | write one, or leave the key out: it is no then`}},
		{"approval of a stranger", web("agent: a, approval: [lead, 'no']"), []string{
			`3:38 targets.web.approval[0]: lead is neither a person nor a group that one is in | did you mean leads?`,
			`3:44 targets.web.approval[1]: no is neither a person nor a group that one is in | write one of hanako, leads, ops, taro`}},
		{"one's own approval", head + "targets: {web: {agent: a, approval: taro, allow: [taro, ops, {who: hanako, approval: hanako}, {who: leads}]}}\n", []string{
			`3:37 targets.web.approval: only taro could approve what taro asks for | name somebody else, too: nobody approves their own request`,
			`3:86 targets.web.allow[2].approval: only hanako could approve what hanako asks for | name somebody else, too: nobody approves their own request`}},
		{"break_glass", web("agent: a, approval: leads, break_glass: [op, [x]]"), []string{`3:62 targets.web.break_glass: a list where the name of a group or a person is wanted`}},
		{"break_glass of a stranger", web("agent: a, approval: leads, break_glass: [op]"), []string{`3:58 targets.web.break_glass[0]: op is neither a person nor a group that one is in | did you mean ops?`}},
		{"a way around nothing", web("agent: a, break_glass: [ops]"), []string{`3:40 targets.web.break_glass would change nothing: there is neither approval nor hours | leave it out, or say whose yes it needs otherwise: approval: leads`}},
		{"nobody can ask", head + "targets: {web: {" + aws + ", exposure: fixed, reason: yes, approval: leads, break_glass: [ops], allow: [{who: ops, reason: no}]}}\n", []string{
			`3:91 targets.web.reason has no meaning: nobody can ask, as exposure is fixed | leave reason out, or set exposure: on_request`,
			`3:106 targets.web.approval has no meaning: nobody can ask, as exposure is fixed | leave approval out, or set exposure: on_request`,
			`3:126 targets.web.break_glass has no meaning: nobody can ask, as exposure is fixed | leave break_glass out, or set exposure: on_request`,
			`3:142 targets.web.allow[0]: what else it says would limit nothing: nobody can ask, as exposure is fixed | write ops alone, or set exposure: on_request: fixed addresses are let in at all hours`}},
		{"items", head + "targets: {web: {agent: a, allow: [{who: ops, reason: , approval: }, {who: leads, approval: yes, reason: maybe}]}}\n", []string{
			`3:53 targets.web.allow[0].reason: there is no value; want yes or no | write one, or leave the key out: it is the target's then`,
			`3:65 targets.web.allow[0].approval: names nobody | say whose: approval: ops; or write no`,
			`3:92 targets.web.allow[1].approval: "yes" is nobody's name | say whose: approval: ops; or write no; a name that is a word of YAML's needs quotes`,
			`3:105 targets.web.allow[1].reason: "maybe" is neither yes nor no | write yes or no (on, off, true and false are taken too)`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, mistakesOf(t, tt.src)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestGroupsWithNobodyInThem are taken wherever others are, where gate.serve names them.
func TestGroupsWithNobodyInThem(t *testing.T) {
	const src = "version: 1\ntargets: {web: {agent: a, approval: leads, break_glass: [ops], allow: [dev]}}\n"
	if _, err := Parse("x.yaml", []byte(src)); err == nil {
		t.Error("strangers are taken")
	}
	if _, err := Parse("x.yaml", []byte(src+"gate: {url: 'https://g.example', serve: {groups: [dev, ops, leads]}}\n")); err != nil {
		t.Error(err)
	}
}

func TestParseParts(t *testing.T) {
	base, err := Parse("x.yaml", []byte("version: 1\naws: {accounts: {prod: {}}}\npeople:\n  hanako: {fixed: [203.0.113.7], former: [198.51.100.9], keys: [\""+keyA+"\"], groups: [ops], login: h@example.com}\n  taro: {groups: [dev]}\n"+
		"targets:\n  web: {aws: {region: eu-central-1, group: sg-12345678}, host: [web.example.com], allow: [ops]}\n  db: {agent: db, allow: [dev]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	before := Text(base, "people") + Text(base, "targets")
	person := func(name, src string) error { _, err := ParsePerson(name, []byte(src), base); return err }
	target := func(name, src string) error { _, err := ParseTarget(name, []byte(src), base); return err }
	for _, tt := range []struct {
		name  string
		parse func(name, src string) error
		as    string
		src   string
		want  string // of the first error; "": none
	}{
		{"nobody yet", person, "jiro", "", ""},
		{"comments only", person, "jiro", "# nothing yet\n", ""},
		{"in a group that is new", person, "jiro", "groups: [night]\r\n", ""},
		{"the last one of a group leaves", person, "taro", "groups: []", ""},
		{"one's own key, kept", person, "hanako", "keys: [\"" + keyA + " new laptop\"]\nlogin: H@example.com", ""},
		{"another's key", person, "jiro", "keys:\n- " + keyA, "people.jiro:2:3: people.jiro.keys: the key is hanako's already"},
		{"another's login", person, "taro", "login: H@example.com", `people.taro:1:8: people.taro.login: "H@example.com" is hanako's already`},
		{"what was another's", person, "jiro", "fixed: [198.51.100.9]", "people.jiro:1:9: people.jiro.fixed: 198.51.100.9/32 is former for hanako"},
		{"what is another's", person, "jiro", "former: [203.0.113.7]", "people.jiro:1:10: people.jiro.former: 203.0.113.7/32 is fixed for hanako"},
		{"a person for a group", person, "jiro", "groups: [taro]", "people.jiro:1:10: people.jiro.groups: taro is the name of a person"},
		{"a group's name", person, "ops", "", "people.ops:1:1: people.ops: ops is the name of a group"},
		{"no name", person, "a b", "", `people."a b":1:1: people."a b": "a b" cannot be the name of a person`},
		{"no key that there is", person, "jiro", "fixd: []", `people.jiro:1:1: there is no key "people.jiro.fixd"`},
		{"no keys", person, "jiro", "[x]", "people.jiro:1:1: people.jiro: a list where keys are wanted"},
		{"no YAML", person, "jiro", "a: [", "people.jiro:1:4: is not valid YAML: sequence end token ']' not found"},
		{"an alias", person, "jiro", "a: *b", "people.jiro:1:4: an alias (*) is not taken here"},
		{"too long", person, "jiro", strings.Repeat("#", maxSize+1), "people.jiro: is larger than 1048576 bytes"},

		{"a target", target, "new", "agent: new\nallow: [ops, {who: dev, approval: ops}]", ""},
		{"one of AWS", target, "new", "aws: {region: eu-central-1, group: sg-87654321}\nallow: [taro]", ""},
		{"the same, changed", target, "web", "aws: {region: eu-central-1, group: sg-12345678}\nallow: [dev]", ""},
		{"nothing", target, "new", "", "targets.new:1:1: targets.new.aws.group is missing: which security group is the door?"},
		{"another's door", target, "new", "agent: db\nallow: [ops]", "targets.new:1:1: targets.new is the same door as target db: port 22 of db"},
		{"another's host", target, "new", "agent: new\nallow: [ops]\nhost: web.example.com", "targets.new:3:7: targets.new.host: web.example.com port 22 is behind target web already"},
		{"a stranger", target, "new", "agent: new\nallow: [opps]", "targets.new:2:9: targets.new.allow[0]: opps is neither a person nor a group that one is in"},
		{"an account that is not there", target, "new", "aws: {account: x, region: eu-central-1, group: sg-87654321}\nallow: [ops]", "targets.new:1:16: targets.new.aws.account: there is no account x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.parse(tt.as, tt.src)
			got := ""
			if wrong, ok := errors.AsType[Errors](err); ok {
				got = wrong[0].Place() + ": " + wrong[0].Message
			} else if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
	if after := Text(base, "people") + Text(base, "targets"); after != before {
		t.Errorf("the configuration was changed:\n%s\n%s", before, after)
	}
	got, err := ParseTarget("new", []byte("aws: {region: eu-central-1, group: sg-87654321}\nallow: [taro]"), base)
	if err != nil || got.AWS.Account != "prod" || !cmp.Equal(got.Host, []string{"new"}) {
		t.Errorf("ParseTarget = %+v, %v: the only account, and its own name", got, err)
	}
}

// TestPartsOfMany: there are no more by parts than in one file, and what is wrong with others
// keeps nobody from changing one.
func TestPartsOfMany(t *testing.T) {
	c := Default()
	c.People, c.Targets = map[string]Person{}, map[string]Target{}
	for i := range maxPeople {
		c.People[fmt.Sprintf("p%d", i)] = Person{}
		tg := newTarget(fmt.Sprintf("t%d", i))
		tg.Agent, tg.Allow = fmt.Sprintf("a%d", i), []Allow{{Who: "gone"}}
		c.Targets[fmt.Sprintf("t%d", i)] = tg
	}
	if _, err := ParsePerson("more", nil, c); err == nil || !strings.Contains(err.Error(), "there are 1000 people") {
		t.Errorf("one more: %v", err)
	}
	if _, err := ParsePerson("p1", nil, c); err != nil {
		t.Errorf("one of them: %v", err)
	}
	if _, err := ParseTarget("more", []byte("agent: x\nallow: [p1]"), c); err == nil || !strings.Contains(err.Error(), "there are 1000 targets") {
		t.Errorf("one more: %v", err)
	}
	if _, err := ParseTarget("t1", []byte("agent: x\nallow: [p1]"), c); err != nil {
		t.Errorf("one of them: %v", err)
	}
}

// FuzzParts: whatever is put into a form, what is taken is read back, and fits into a file.
func FuzzParts(f *testing.F) {
	for _, s := range []string{
		"", "fixed: [192.0.2.1]\nlogin: x y\ngroups: [no, \"null\"]\n", "agent: a\nallow: [ops, {who: dev, approval: no, reason: yes}]\napproval: [\"no\", ops]\nhours: daily 08:00-20:00\nbreak_glass: [ops]",
		"aws: {region: eu-central-1, group: sg-12345678}\nallow: [ops]\nhost: [x, \"::1\"]", "{}", "a: [", "login: \"\\u00e9: #\"", "keys: [\"" + keyA + "\"]",
	} {
		f.Add("web", []byte(s))
	}
	base := Default()
	base.People = map[string]Person{"hanako": {Groups: []string{"ops", "no"}}, "taro": {Groups: []string{"dev"}}}
	f.Fuzz(func(t *testing.T, name string, src []byte) {
		c := *base
		c.People, c.Targets = map[string]Person{"hanako": base.People["hanako"], "taro": base.People["taro"]}, map[string]Target{}
		if p, err := ParsePerson(name, src, base); err == nil {
			back, err := ParsePerson(name, PersonText(p), base)
			if err != nil {
				t.Fatalf("%v\n%s", err, PersonText(p))
			}
			if diff := cmp.Diff(p, back, comparePrefixes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			c.People[name] = p
		}
		if tg, err := ParseTarget(name, src, base); err == nil {
			back, err := ParseTarget(name, TargetText(tg), base)
			if err != nil {
				t.Fatalf("%v\n%s", err, TargetText(tg))
			}
			if diff := cmp.Diff(tg, back, comparePrefixes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			c.Targets[name] = tg
		}
		if _, ok := c.People[name]; ok && len(c.Targets) == 0 {
			if _, err := Parse("x.yaml", fmt.Appendf(nil, "version: 1\npeople: %s\n", Text(&c, "people"))); err != nil {
				t.Errorf("no file can hold it: %v", err)
			}
		}
	})
}

// TestPartsRoundTrip: what the pages show of a target and a person is what they take.
func TestPartsRoundTrip(t *testing.T) {
	base := Default()
	base.People = map[string]Person{"hanako": {Groups: []string{"ops", "no"}}, "taro": {Groups: []string{"dev"}}, "jiro": {}}
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"hanako", "taro", "ops", "no", "dev"}), 0, 3, rapid.ID)
	span := Hours{{Days: days("xxxxx--"), From: 9 * time.Hour, To: 18 * time.Hour, Zone: zone("Asia/Tokyo")}}
	hours := rapid.SampledFrom([]Hours{nil, span})
	lengths := rapid.SampledFrom([]time.Duration{0, time.Minute, 90 * time.Minute, atMostMax})
	rapid.Check(t, func(t *rapid.T) {
		tg := newTarget("web")
		if rapid.Bool().Draw(t, "agent") {
			tg.Agent = rapid.SampledFrom([]string{"web-1", "null", "1", "no"}).Draw(t, "name")
		} else {
			tg.AWS = TargetAWS{Region: "eu-central-1", Group: "sg-12345678", Via: rapid.SampledFrom([]Via{ViaRules, ViaPrefixList}).Draw(t, "via")}
		}
		tg.Host = rapid.SampledFrom([][]string{{"web"}, {"a.example.com", "2001:db8::1"}}).Draw(t, "host")
		tg.Port, tg.IPv6 = rapid.Uint16Min(1).Draw(t, "port"), rapid.SampledFrom([]int{128, 64}).Draw(t, "ipv6")
		tg.Reason, tg.Approval, tg.BreakGlass = rapid.Bool().Draw(t, "reason"), names.Draw(t, "approval"), names.Draw(t, "glass")
		tg.Hours = hours.Draw(t, "hours")
		tg.AtMost = max(time.Minute, lengths.Draw(t, "most"))
		for _, who := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"jiro", "ops", "dev", "no"}), 1, 4, rapid.ID).Draw(t, "allow") {
			a := Allow{Who: who, AtMost: lengths.Draw(t, "their most"), Hours: hours.Draw(t, "their hours"), Approval: names.Draw(t, "their approval")}
			a.Unapproved = len(a.Approval) == 0 && rapid.Bool().Draw(t, "unapproved")
			a.Reason = rapid.SampledFrom([]*bool{nil, new(true), new(false)}).Draw(t, "their reason")
			tg.Allow = append(tg.Allow, a)
		}
		limited := len(tg.Hours)+len(tg.Approval) > 0
		for _, a := range tg.Allow {
			limited = limited || len(a.Hours)+len(a.Approval) > 0
		}
		if !limited {
			tg.BreakGlass = nil
		}
		got, err := ParseTarget("web", TargetText(tg), base)
		if err != nil {
			t.Fatalf("%v\n%s", err, TargetText(tg))
		}
		if diff := cmp.Diff(tg, got, comparePrefixes); diff != "" {
			t.Errorf("(-want +got):\n%s\n%s", diff, TargetText(tg))
		}

		p := Person{
			Login: rapid.SampledFrom([]string{"", "a@b.c", "no", "x: #y", `"`, "山田"}).Draw(t, "login"), Groups: names.Filter(func(ns []string) bool {
				for _, n := range ns {
					if n == "hanako" || n == "taro" {
						return false
					}
				}
				return true
			}).Draw(t, "groups"),
			Fixed: rapid.SampledFrom([][]netip.Prefix{nil, prefixList("192.0.2.1/32", "2001:db8::/64")}).Draw(t, "fixed"),
			Keys:  rapid.SampledFrom([][]string{nil, {keyA + " it's \"mine\": #1", keyB}}).Draw(t, "keys"),
		}
		back, err := ParsePerson("new", PersonText(p), base)
		if err != nil {
			t.Fatalf("%v\n%s", err, PersonText(p))
		}
		if diff := cmp.Diff(p, back, comparePrefixes); diff != "" {
			t.Errorf("(-want +got):\n%s\n%s", diff, PersonText(p))
		}
	})
}

// TestPartsSayTheSame: what is wrong is told by the pages as it is of the file.
func TestPartsSayTheSame(t *testing.T) {
	const head = "people: {hanako: {groups: [ops]}, taro: {groups: [leads], login: t@example.com}}\n"
	base, err := Parse("base.yaml", []byte("version: 1\n"+head))
	if err != nil {
		t.Fatal(err)
	}
	tell := func(err error) (texts []string) {
		wrong, _ := errors.AsType[Errors](err)
		for _, e := range wrong {
			texts = append(texts, e.Message+" | "+e.Hint+" | "+strings.TrimSpace(e.Source))
		}
		return texts
	}
	indented := func(src string) string { return "    " + strings.ReplaceAll(src, "\n", "\n    ") + "\n" }
	for _, src := range []string{
		"agent: a\nallow: [opps, {who: hanako, approval: hanako}]\nhours: never\nport: 0",
		"aws: {region: x, group: web, accont: y}\nexposure: public\nhost: a@b\nallow: [ops]",
		"agent: a\naws: {}\nbreak_glass: [ops]\nallow: [ops]",
		"aws: {region: eu-central-1, group: sg-12345678}\nexposure: fixed\nreason: yes\nallow: [{who: ops, at_most: 1h}]",
		"agent: a\nallow: [ops]",
	} {
		_, file := Parse("x.yaml", []byte("version: 1\n"+head+"targets:\n  web:\n"+indented(src)))
		_, part := ParseTarget("web", []byte(src), base)
		if diff := cmp.Diff(tell(file), tell(part)); diff != "" {
			t.Errorf("%s (-file +part):\n%s", src, diff)
		}
	}
	for _, src := range []string{
		"fixed: [10.0.0.0/8, 192.0.2.1]\nformer: [192.0.2.1]", "groups: [a b, hanako]", "groups: [hanako]\nlogin: T@example.com", "keys: [\"-----BEGIN PRIVATE KEY-----\"]\nnew: 1", "login: x",
	} {
		_, file := Parse("x.yaml", []byte("version: 1\npeople:\n  hanako: {groups: [ops]}\n  taro: {groups: [leads], login: t@example.com}\n  jiro:\n"+indented(src)))
		_, part := ParsePerson("jiro", []byte(src), base)
		if diff := cmp.Diff(tell(file), tell(part)); diff != "" {
			t.Errorf("%s (-file +part):\n%s", src, diff)
		}
	}
}
