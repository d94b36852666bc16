package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sekisho/internal/printable"
)

// Bounds of what is said of the gate.
const (
	maxListeners = 16
	maxProxies   = 64
	maxAdmins    = 100
	maxNamed     = 1000 // groups that are there, whoever is in them
	maxMapped    = 200  // groups of a provider
	maxClaim     = 256
	maxDSN       = 2048

	sessionMin = 5 * time.Minute
	sessionMax = 7 * day
)

func (g *Gate) table() group {
	return group{
		{"url", "The gate's public address. What people open, close and connect to goes by it; of the gate itself it is what browsers call it: " +
			"where its links lead, and what passkeys are for.", word{p: &g.URL, form: origin("https URL without a path, http for this host alone, or `\"\"`: there is no gate", "https://gate.example.com")}},
		{"ca", "A file of certificates in PEM. They take the place of the system's, for the gate alone.", word{p: &g.CA, form: fileForm("a file of certificates", "/etc/sekisho/gate-ca.pem")}},
		{"identity", "Which of one's own SSH keys signs what one asks of the gate. None: any that the gate knows.", word{p: &g.Identity, form: identityForm()}},
		{"serve", "This machine is the gate.", channel[Serve]{p: &g.Serve, begin: newServe, keys: (*Serve).table, example: "listen: [127.0.0.1:8022]\nadmins: [ops]"}},
	}
}

func (s *Serve) table() group {
	return group{
		{"listen", "Where it listens. An address that others reach needs `tls`, or `proxies` in front.", listeners{&s.Listen}},
		{"tls", "What it speaks TLS with. None: a proxy in front does.", group{
			{"cert", "The file of its certificate, with those that lead to a root, in PEM. It is read anew when it changes.",
				word{p: &s.Cert, form: fileForm("a file", "/etc/sekisho/gate.crt")}},
			{"key", "The file of its private key, in PEM.", word{p: &s.Key, form: fileForm("a file", "/etc/sekisho/gate.key")}},
		}},
		{"proxies", "Who is in front, and is believed when it says whom it speaks for. " + prefixDoc, proxyPrefixes{prefixes{&s.Proxies}}},
		{"forwarded", "By which header they say it: `X-Forwarded-For`, or `Forwarded` of RFC 7239. Only what they have put there themselves counts.",
			offChoice[ForwardedHeader]{choice[ForwardedHeader]{&s.Forwarded, []ForwardedHeader{ForwardedNo, ForwardedX, Forwarded}}}},
		{"database", "Where its state is: a file of its own, or a PostgreSQL server that several gates share. None: gate.db in the state folder.",
			hiding{word{p: &s.Database, form: databaseForm()}}},
		{"database_file", "The file that holds the URL of a PostgreSQL server instead, with the password.", hiding{word{p: &s.DatabaseFile, form: secretFile("/etc/sekisho/gate.database")}}},
		{"admins", "People and groups that administer the gate. None: the first administrator is made by a link that is shown once, at the first start.",
			words{p: &s.Admins, form: nameForm("the name of a group or a person", "list of groups and people", "ops"), max: maxAdmins}},
		{"groups", "Groups that are there though nobody in this file is in them: for people who are added in the pages, or whom `oidc` puts into them.",
			words{p: &s.Groups, form: nameForm("the name of a group", "list of names", "dev"), max: maxNamed}},
		{"edit", "Whether administrators may add people and targets in the pages, and change those. What this file says is never changed there.", boolean{&s.Edit}},
		{"session", "How long a browser stays signed in.", duration{&s.Session, sessionMin, sessionMax}},
		{"oidc", "People sign in by a provider of OpenID Connect. Whoever is no person's `login` gets nowhere.", channel[OIDC]{
			p: &s.OIDC, begin: newOIDC, keys: (*OIDC).table, needed: []string{"issuer", "client_id"},
			example: "issuer: https://login.example.com\nclient_id: sekisho\nclient_secret_file: /etc/sekisho/oidc.secret",
		}},
		{"addresses", "Further names of the gate, each with addresses of one family only. The page asks there, to learn both addresses that somebody is seen by.", group{
			{"ipv4", "The one with IPv4 addresses only.", word{p: &s.Addresses.IPv4, form: origin("https URL without a path, or `\"\"`: none", "https://v4.gate.example.com")}},
			{"ipv6", "The one with IPv6 addresses only.", word{p: &s.Addresses.IPv6, form: origin("https URL without a path, or `\"\"`: none", "https://v6.gate.example.com")}},
		}},
	}
}

func (o *OIDC) table() group {
	return group{
		{"name", "What the button says. None: the issuer's host.", word{p: &o.Name, form: visibleText("a text", "text, or `\"\"`", `"Company login"`, 64)}},
		{"issuer", "The provider.", word{p: &o.Issuer, form: issuerForm(), needed: true}},
		{"client_id", "What the provider calls the gate.", word{p: &o.ClientID, form: visibleText("a client's id", "text; must be there", "sekisho", maxClaim), needed: true}},
		{"client_secret_file", "The file that holds the client's secret, and nothing else. None: it is a public client.",
			hiding{word{p: &o.ClientSecretFile, form: secretFile("/etc/sekisho/oidc.secret")}}},
		{"person_claim", "Which claim is some person's `login`. `email` counts only where the provider has verified it; `preferred_username` only where people cannot choose it themselves.",
			choice[PersonClaim]{&o.PersonClaim, []PersonClaim{ClaimEmail, ClaimUsername, ClaimSubject}}},
		{"groups_claim", "Which claim has the groups.", word{p: &o.GroupsClaim, form: visibleText("the name of a claim", "text, or `\"\"`: its groups are not looked at", "groups", maxClaim)}},
		{"groups", "Which group of the provider is which group here. Others are not heeded.", mappedGroups{&o.Groups}},
	}
}

// hiding is a text whose line is not shown where it is wrong: a secret may be there.
type hiding struct{ word }

func (v hiding) decode(d *decoder, path string, n *node) {
	if v.word.decode(d, path, n); d.bad[path] {
		d.hide(n.line)
	}
}

// origin is a URL of nothing but scheme, host and port.
func origin(grammar, example string) form {
	return form{
		what: "a URL", grammar: grammar, pattern: "https?://[!-~]+", example: example,
		read: func(n *node) (value, hint, wrong string) {
			u, hint, wrong := webURL(n.text, "write it like "+example)
			switch {
			case wrong != "":
				return "", hint, wrong
			case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery:
				return "", "leave out what follows the host: a host of its own is the gate's", quote(n.text) + " is more than the address of a host"
			}
			host, port := strings.ToLower(u.Hostname()), u.Port()
			if port == map[string]string{"https": "443", "http": "80"}[u.Scheme] {
				port = ""
			}
			switch {
			case port != "":
				host = net.JoinHostPort(host, port)
			case strings.Contains(host, ":"):
				host = "[" + host + "]"
			}
			return u.Scheme + "://" + host, "", ""
		},
	}
}

// webURL is a https URL, or one of this host: with the host and the port that there can be,
// and without a password.
func webURL(s, example string) (_ *url.URL, hint, wrong string) {
	if hint, wrong = badHook(s, example); wrong != "" {
		return nil, hint, wrong
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, example, "is no https URL"
	}
	return u, "", ""
}

func issuerForm() form {
	const example = "https://login.example.com"
	return form{
		what: "a URL", grammar: "https URL, http for this host alone; must be there", pattern: "https?://[!-~]+", example: example,
		read: func(n *node) (value, hint, wrong string) {
			u, hint, wrong := webURL(n.text, "write it as the provider does, like "+example)
			switch {
			case wrong != "":
				return "", hint, wrong
			case u.RawQuery != "" || u.ForceQuery:
				return "", "leave out what follows the ?", quote(n.text) + " is no issuer"
			case strings.HasSuffix(u.Path, "/.well-known/openid-configuration"):
				return "", "write " + strings.TrimSuffix(n.text, "/.well-known/openid-configuration"), quote(n.text) + " is the provider's description, not the issuer"
			}
			return n.text, "", "" // as it is: tokens name it letter by letter
		},
	}
}

// visibleText is any text that can be seen, of at most so many bytes.
func visibleText(what, grammar, example string, atMost int) form {
	return form{
		what: what, grammar: grammar, example: example,
		read: func(n *node) (value, hint, wrong string) {
			if n.text == "" || len(n.text) > atMost || n.text != strings.TrimSpace(n.text) || n.text != printable.Text(n.text) {
				return "", fmt.Sprintf("write at most %d bytes that can be seen, like %s", atMost, example), quote(n.text) + " is not " + what
			}
			return n.text, "", ""
		},
	}
}

// fileForm is the absolute path of a file.
func fileForm(what, example string) form {
	return form{
		what: what, grammar: "absolute path, or `\"\"`: none", pattern: "/.+", example: example,
		read: func(n *node) (value, hint, wrong string) {
			if !absolute(n.text) {
				return "", "write the whole path, such as " + example, quote(n.text) + " is no absolute path of a file"
			}
			return clean(n.text), "", ""
		},
	}
}

// identityForm is the path of a key: in the home of whoever asks, or absolute.
func identityForm() form {
	const example = "~/.ssh/id_ed25519"
	return form{
		what: "the file of a key", grammar: "absolute path, one that begins with `~/`, or `\"\"`: any", pattern: "(~/|/).+", example: example,
		read: func(n *node) (value, hint, wrong string) {
			rest, home := strings.CutPrefix(n.text, "~/")
			switch {
			case home && absolute("/"+rest):
				return "~" + clean("/"+rest), "", ""
			case !home && absolute(n.text):
				return clean(n.text), "", ""
			case privateKey.MatchString(n.text):
				return "", "write the path of the key's file; whoever could read this file has the private key now: make a new one", "this is a private key"
			}
			return "", "write the whole path, such as " + example + " or /home/hanako/.ssh/id_ed25519", quote(n.text) + " is no path of a key"
		},
	}
}

// databaseForm is a file's path, or the URL of a server without a password. What is wrong
// with one is told without it: a password may be there.
func databaseForm() form {
	const example = "postgres://sekisho@db.example.com/sekisho"
	return form{
		what: "a path or a URL", grammar: "absolute path, `postgres://` URL without a password, or `\"\"`", pattern: "(/|postgres(ql)?://).+", example: example,
		read: func(n *node) (value, hint, wrong string) {
			const secret = "put the whole URL into a file: database_file: /etc/sekisho/gate.database"
			switch {
			case absolute(n.text):
				return clean(n.text), "", ""
			case !isPostgres(n.text) && strings.Contains(n.text, "="):
				return "", "write it as a URL, like " + example, "is neither a path nor a URL of PostgreSQL"
			case !isPostgres(n.text):
				return "", "write the whole path of a file, such as /var/lib/sekisho/gate.db, or " + example, "is neither an absolute path nor a URL of PostgreSQL"
			}
			value, hint, wrong = databaseURL().read(n)
			if wrong != "" {
				return "", hint, wrong
			}
			u, err := url.Parse(value)
			if err != nil {
				return "", "write it like " + example, "is no URL of PostgreSQL"
			}
			_, has := u.User.Password()
			for k := range u.Query() {
				has = has || strings.Contains(strings.ToLower(k), "password")
			}
			if has {
				return "", secret, "holds a password"
			}
			return value, "", ""
		},
	}
}

func isPostgres(s string) bool {
	return strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://")
}

// databaseURL is the URL of a PostgreSQL server, as libpq has it. Nothing of it is shown.
func databaseURL() form {
	return form{
		what: "a URL of PostgreSQL", grammar: "postgres:// URL", example: `"postgres://..."`,
		read: func(n *node) (value, hint, wrong string) {
			const write = "write it like postgres://USER:PASSWORD@db.example.com/sekisho"
			u, err := url.Parse(n.text)
			switch {
			case len(n.text) > maxDSN:
				return "", write, "is longer than " + strconv.Itoa(maxDSN) + " bytes"
			case !isPostgres(n.text) || err != nil || n.text != printable.Text(n.text) || strings.ContainsAny(n.text, " \t"):
				return "", write + "; what is not a letter or a digit in a password as %XX", "is no URL of PostgreSQL"
			case u.Fragment != "":
				return "", "write a # in a password as %23", "has a fragment"
			}
			if _, err := url.ParseQuery(u.RawQuery); err != nil {
				return "", write, "is no URL of PostgreSQL: what follows the ? cannot be read"
			}
			return n.text, "", ""
		},
	}
}

// listeners are addresses and ports, none twice.
type listeners struct{ p *[]netip.AddrPort }

func (v listeners) text() string {
	return flow(*v.p, func(a netip.AddrPort) string { return Quote(a.String()) })
}

func (v listeners) grammar() string { return "list of addresses and ports" }

func (v listeners) schema() object {
	item := object{"type": "string", "pattern": `^([0-9.]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$`}
	return object{"type": "array", "items": item, "minItems": 1, "maxItems": maxListeners, "uniqueItems": true}
}

func (v listeners) decode(d *decoder, path string, n *node) {
	const write = "write it like 127.0.0.1:8022, [::1]:8022, or 0.0.0.0:443 for all of IPv4"
	items := itemsOf(d, path, n, "127.0.0.1:8022")
	switch {
	case n.kind == scalar || n.kind == mapping:
		return
	case len(items) == 0:
		d.refuse(path, n.place, "name one, or leave the key out: it is 127.0.0.1:8022 then", "names nothing")
		return
	case len(items) > maxListeners:
		d.refuse(path, items[maxListeners].place, "", "more than %d", maxListeners)
		return
	}
	var res []netip.AddrPort
	for _, item := range items {
		if !scalarOf(d, path, item, "an address and port", "") {
			continue
		}
		a, err := netip.ParseAddrPort(item.text)
		switch {
		case strings.HasPrefix(item.text, ":") && isNumber(item.text[1:]):
			d.refuse(path, item.place, "write 0.0.0.0"+item.text+" for all of IPv4, [::]"+item.text+" for all of IPv6 too", "%s names no address", quote(item.text))
		case err != nil || a.Port() == 0 || a.Addr().Zone() != "" || a.Addr().Is4In6() || a.Addr().IsMulticast():
			d.refuse(path, item.place, write, "%s is no address and port", quote(item.text))
		case slices.Contains(res, a):
			d.refuse(path, item.place, "keep one", "%s is there twice", a)
		default:
			d.places[itemPath(path, len(res))] = item.place
			res = append(res, a)
		}
	}
	if !d.bad[path] {
		*v.p = res
	}
}

// proxyPrefixes are those whose word is taken for whom they speak.
type proxyPrefixes struct{ prefixes }

func (v proxyPrefixes) decode(d *decoder, path string, n *node) {
	ps := prefixesOf(d, path, n)
	if len(ps) > maxProxies {
		d.refuse(path, ps[maxProxies].at, "", "more than %d", maxProxies)
		return
	}
	for _, p := range ps {
		if tooWide(p.Prefix) {
			d.refuse(path, p.at, "name the addresses of the proxies themselves", "%s would let anyone say that they come from anywhere", p.Prefix)
		}
	}
	if !d.bad[path] {
		apart(d, path, ps)
	}
	if !d.bad[path] {
		*v.p = plainPrefixes(ps)
	}
}

// mappedGroups are a provider's groups, whatever their names are, to names of ours.
type mappedGroups struct{ p *map[string]string }

func (v mappedGroups) text() string {
	texts := make([]string, 0, len(*v.p))
	for _, theirs := range slices.Sorted(maps.Keys(*v.p)) {
		texts = append(texts, Quote(theirs)+": "+Quote((*v.p)[theirs]))
	}
	return "{" + strings.Join(texts, ", ") + "}"
}

func (v mappedGroups) grammar() string { return "mapping of their groups to groups here" }

func (v mappedGroups) schema() object {
	return object{
		"type": []string{"object", "null"}, "maxProperties": maxMapped,
		"additionalProperties": object{"type": "string", "pattern": "^" + namePattern + "$"},
	}
}

func (v mappedGroups) decode(d *decoder, path string, n *node) {
	const write = "write it like {\"Their Group\": ops}"
	if n.kind == scalar || n.kind == list {
		d.refuse(path, n.place, write, "%s where groups are wanted", n.what())
		return
	}
	if len(n.entries) > maxMapped {
		d.refuse(path, n.entries[maxMapped].key.place, "", "more than %d groups", maxMapped)
		return
	}
	theirs := visibleText("the name of a group", "", `"Their Group"`, maxClaim)
	res := map[string]string{}
	first := map[string]place{}
	for _, e := range n.entries {
		if e.key.kind != scalar {
			d.refuse(path, e.key.place, write+"; a name that is a word of YAML's needs quotes", "%s is no name", e.key.what())
			continue
		}
		name, hint, wrong := theirs.read(e.key)
		if wrong != "" {
			d.refuse(path, e.key.place, hint, "%s", wrong)
			continue
		}
		if at, twice := first[name]; twice {
			d.refuse(path, e.key.place, fmt.Sprintf("keep one; the first is on line %d", at.line), "%s is there twice", quote(name))
			continue
		}
		first[name] = e.key.place
		d.places[nameIn(path, name)] = e.value.place
		var ours string
		word{p: &ours, form: nameForm("the name of a group", "", "ops"), needed: true}.decode(d, path, e.value)
		res[name] = ours
	}
	if !d.bad[path] {
		*v.p = nil
		if len(res) > 0 {
			*v.p = res
		}
	}
}
