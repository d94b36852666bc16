package config

import (
	"crypto/rsa"
	"net/netip"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/printable"
)

// Bounds of what is named of people.
const (
	maxPeople = 1000
	maxKeysOf = 50
	maxGroups = 100 // that one person is in
	maxLogin  = 255 // bytes; OpenID Connect Core, 2: sub is not longer
)

func (p *Person) table() group {
	return group{
		{"fixed", "Addresses that are theirs for good: the targets that they are allowed are open to these always. At most a /24, IPv6 a /48.", personPrefixes{&p.Fixed}},
		{"former", "Addresses that were theirs. `sekisho check` tells where they are let in still.", personPrefixes{&p.Former}},
		{"keys", "Their SSH public keys: what they sign requests with. One key is one person's.", words{p: &p.Keys, form: publicKey(), max: maxKeysOf}},
		{"groups", "The groups that they are in: names of your own, that targets allow.",
			words{p: &p.Groups, form: nameForm("the name of a group", "list of names", "ops"), max: maxGroups}},
		{"login", "What the provider of `gate.serve.oidc` calls them, by its `person_claim`. One login is one person's.",
			word{p: &p.Login, form: visibleText("a login", "text, or `\"\"`: none", "hanako@example.com", maxLogin)}},
	}
}

// personPrefixes are somebody's addresses, none within another.
type personPrefixes struct{ p *[]netip.Prefix }

func (v personPrefixes) text() string    { return flow(*v.p, netip.Prefix.String) }
func (v personPrefixes) grammar() string { return "list of addresses and prefixes" }
func (v personPrefixes) schema() object {
	return object{"type": []string{"array", "null"}, "items": prefixSchema()}
}

func (v personPrefixes) decode(d *decoder, path string, n *node) {
	var res []placedPrefix
	for _, p := range prefixesOf(d, path, n) {
		if hint, wrong := nobodys(p.Prefix); wrong != "" {
			d.refuse(path, p.at, hint, "%s %s", p.Prefix, wrong)
			continue
		}
		d.places[itemPath(path, len(res))] = p.at
		res = append(res, p)
	}
	apart(d, path, res)
	if !d.bad[path] {
		*v.p = plainPrefixes(res)
	}
}

// nobodys says why p cannot be where somebody comes from; "" if it can. Private addresses
// can: a security group sees those of its own network.
func nobodys(p netip.Prefix) (hint, wrong string) {
	widest := 24
	if p.Addr().Is6() {
		widest = 48
	}
	const theirs = "write the address that they come from"
	switch a := p.Addr(); {
	case p.Bits() < widest:
		return "put such a network into the security group by hand: rules that are not sekisho's stay as they are", "is wider than one person's addresses"
	case a.IsLoopback():
		return theirs, "is a host's own"
	case a.IsMulticast():
		return theirs, "is a multicast address"
	case a.IsLinkLocalUnicast():
		return theirs, "is not seen beyond its own link"
	case a.IsUnspecified(), a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240): // RFC 791, RFC 1112
		return theirs, "is nobody's address"
	}
	return "", ""
}

// privateKey is how the files begin that ssh-keygen, PuTTY and OpenSSL keep private keys in.
var privateKey = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File-|^SSH PRIVATE KEY FILE`)

// publicKey is a line of authorized_keys without options. It is kept as `TYPE BASE64` and
// the comment, a space between.
func publicKey() form {
	const example = `"ssh-ed25519 AAAA... hanako@laptop"`
	const whole = "write the whole line of the .pub file: " + example
	return form{
		what: "an SSH public key", grammar: "list of lines as .pub files have them", example: example,
		pattern: `(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ +[A-Za-z0-9+/=]+( .*)?`,
		same:    keyItself,
		read: func(n *node) (value, hint, wrong string) {
			text := strings.TrimSpace(n.text)
			algorithm, _, _ := strings.Cut(text, " ")
			switch {
			case privateKey.MatchString(text):
				return "", "write the line of the file of the same name that ends in .pub; whoever could read this file has the private key now: make a new one",
					"this is a private key"
			case strings.ContainsAny(text, "\r\n"):
				return "", "write each key as an item of the list", "these are several lines where one key is wanted"
			case algorithm == "ssh-dss":
				return "", "make another: ssh-keygen -t ed25519", "this is a DSA key, which sshd takes no more"
			case text != printable.Text(text):
				return "", "leave the comment at the end out", quote(n.text) + " holds what cannot be seen"
			}
			key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(text))
			if err != nil {
				return "", whole, quote(n.text) + " is no SSH public key"
			}
			return checkedKey(key, strings.TrimSpace(comment), options)
		},
	}
}

// minRSA is the least that NIST SP 800-131A Rev. 2 takes. OpenSSH asks for 1024 bits
// unless RequiredRSASize says more (sshd_config(5)).
const minRSA = 2048

// checkedKey returns the line that is kept of a key, or says why it is not taken.
func checkedKey(key ssh.PublicKey, comment string, options []string) (value, hint, wrong string) {
	if len(options) > 0 {
		return "", "leave them out: what a key may do on a host is said in that host's authorized_keys", "the key has options: " + quote(strings.Join(options, ","))
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return "", "write the line of the .pub file that it was made for, not of the -cert.pub", "this is a certificate, which ends, not a key"
	}
	if wrapped, ok := key.(ssh.CryptoPublicKey); ok {
		if r, ok := wrapped.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() < minRSA {
			return "", "make another: ssh-keygen -t ed25519", "this is an RSA key of " + counted(r.N.BitLen(), "bit") + ": too short"
		}
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	return strings.TrimSpace(line + " " + comment), "", ""
}

// keyItself is a key's line without the comment.
func keyItself(line string) string {
	algorithm, rest, _ := strings.Cut(line, " ")
	blob, _, _ := strings.Cut(rest, " ")
	return algorithm + " " + blob
}
