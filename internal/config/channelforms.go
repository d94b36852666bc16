package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sekisho/internal/printable"
)

// Bounds of what a channel is given.
const (
	maxHookURL  = 2048
	maxSecret   = 1024
	minHMACKey  = 16 // what nobody guesses; RFC 2104 wants the hash's length, 32 bytes
	maxMailAddr = 254
	maxLocal    = 64 // RFC 5321, 4.5.3.1.1
)

var (
	// RFC 5321's Dot-string and Domain, in ASCII. A hyphen at the beginning reads as an option.
	localPattern  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+/=?^_`{|}~][A-Za-z0-9!#$%&'*+/=?^_`{|}~-]*(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$")
	domainPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
	numberLike    = regexp.MustCompile(`^([0-9]+|0[xX][0-9a-fA-F]*)$`) // what inet_aton(3) takes for a part of an address
	botPattern    = regexp.MustCompile(`^[0-9]{3,20}:[A-Za-z0-9_-]{20,100}$`)
	chatPattern   = regexp.MustCompile(`^(-?[1-9][0-9]{0,19}|@[A-Za-z][A-Za-z0-9_]{3,31})$`)
	topicPattern  = regexp.MustCompile(`^/([A-Za-z0-9._~-]+/)*[A-Za-z0-9_-]{1,64}$`)
	tokenPattern  = regexp.MustCompile(`^[!-~]{1,256}$`)
)

// mailAddress is one address, without a name: what is put into a header and a command of
// SMTP as it is.
func mailAddress(grammar string) form {
	const example = "ops@example.com"
	return form{
		what: "a mail address", grammar: grammar, example: example, pattern: "[!-~]+@[A-Za-z0-9.-]+",
		same: func(s string) string {
			local, domain, _ := strings.Cut(s, "@")
			return local + "@" + strings.ToLower(domain)
		},
		read: func(n *node) (value, hint, wrong string) {
			s := n.text
			at := strings.LastIndex(s, "@")
			if from, to := strings.Index(s, "<"), strings.Index(s, ">"); 0 <= from && from < to {
				if inner := s[from+1 : to]; badMailAddress(inner) == "" {
					return "", "write " + inner + " alone", quote(s) + " is more than a mail address"
				}
			}
			switch {
			case strings.ContainsAny(s, ",;") && strings.Count(s, "@") > 1:
				return "", "write each as an item of the list: [a@example.com, b@example.com]", quote(s) + " is more than one mail address"
			case at < 0 && localPattern.MatchString(s):
				return "", "write the whole address, such as " + printable.Cut(s, 60) + "@localhost", quote(s) + " is no mail address"
			}
			if why := badMailAddress(s); why != "" {
				return "", why, quote(s) + " is no mail address that is taken here"
			}
			return s, "", ""
		},
	}
}

// badMailAddress says what to do about s; "" if it is an address.
func badMailAddress(s string) (hint string) {
	at := strings.LastIndex(s, "@")
	switch {
	case at < 1 || len(s) > maxMailAddr:
		return "write it like ops@example.com"
	case strings.ContainsFunc(s[at+1:], func(r rune) bool { return r > '~' }):
		return "write the domain as DNS has it, xn--..."
	case strings.ContainsFunc(s, func(r rune) bool { return r > '~' }):
		return "write an address in ASCII: not every server on the way takes others"
	case at > maxLocal || !localPattern.MatchString(s[:at]) || !domainPattern.MatchString(s[at+1:]):
		return "write it like ops@example.com"
	}
	return ""
}

// mailServer is host:port.
func mailServer() form {
	const example = "localhost:25"
	return form{
		what: "a mail server", grammar: "host and port", example: example, pattern: `([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}`,
		read: func(n *node) (value, hint, wrong string) {
			const write = "write it like localhost:25, mail.example.com:587 or [2001:db8::1]:25"
			switch {
			case strings.Contains(n.text, "@"): // it may hold a password
				return "", "write host and port alone; user: and password_file: are for the rest", "is more than host and port"
			case strings.Contains(n.text, "/"):
				return "", write + "; tls: says how it is spoken to", "is more than host and port"
			}
			host, p, err := net.SplitHostPort(n.text)
			if err != nil {
				if _, wrong := badHost(n.text); wrong == "" {
					return "", "write the port, too: " + n.text + ":25 or " + n.text + ":587", quote(n.text) + " has no port"
				}
				return "", write, quote(n.text) + " is no host and port"
			}
			port, err := strconv.ParseUint(p, 10, 16)
			if err != nil || port == 0 || strings.Trim(p, "0123456789") != "" {
				return "", "ports are numbers from 1 to 65535; " + write, quote(n.text) + " is no host and port"
			}
			host, wrong = badHost(host)
			if wrong != "" {
				return "", write, quote(n.text) + " is no host and port"
			}
			return net.JoinHostPort(host, strconv.FormatUint(port, 10)), "", ""
		},
	}
}

// badHost returns a name or an address as it is kept, or says what is wrong with it.
func badHost(s string) (host, wrong string) {
	if a, err := netip.ParseAddr(s); err == nil {
		switch {
		case a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast():
			return "", "is no address to connect to"
		case metadata(a):
			return "", "is where clouds tell their secrets"
		}
		return a.String(), ""
	}
	s = strings.ToLower(s)
	if len(s) > 253 || !domainPattern.MatchString(s) || numberLike.MatchString(s[strings.LastIndex(s, ".")+1:]) {
		return "", "names no host"
	}
	return s, ""
}

// metadata reports whether a is where a cloud tells its machines what they are, with
// credentials: 169.254.169.254 and its neighbours, and Amazon's fd00:ec2::254.
func metadata(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || netip.MustParsePrefix("fd00:ec2::/32").Contains(a)
}

// usualTLS is how a server is spoken to where nothing is said.
func usualTLS(smtp string) TLS {
	host, port, _ := net.SplitHostPort(smtp)
	switch {
	case port == "465": // RFC 8314
		return TLSImplicit
	case thisHost(host):
		return TLSNone
	}
	return TLSStart
}

func mailUser() form {
	return form{
		what: "a user", grammar: "name, or `\"\"`", example: "sekisho@example.com",
		read: func(n *node) (value, hint, wrong string) {
			if len(n.text) > maxUser || n.text != strings.TrimSpace(n.text) || n.text != printable.Text(n.text) {
				return "", "write the name that the mail server knows", "is no name of a user"
			}
			return n.text, "", ""
		},
	}
}

// hookURL is where something is posted. What is wrong with one is told without it: its
// path, or what is in front of the host, may be a secret.
func hookURL(grammar, example string) form {
	return form{
		what: "a URL", grammar: grammar, pattern: "https?://[!-~]+", example: example,
		read: func(n *node) (value, hint, wrong string) {
			hint, wrong = badHook(n.text, "write it like "+example)
			return n.text, hint, wrong
		},
	}
}

func badHook(s, example string) (hint, wrong string) {
	u, err := url.Parse(s)
	visible := !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\\\"<>^`{|}", r) })
	switch {
	case len(s) > maxHookURL:
		return "", "is longer than " + strconv.Itoa(maxHookURL) + " bytes"
	case err != nil || u.Host == "" || u.Opaque != "" || !slices.Contains([]string{"https", "http"}, u.Scheme):
		return example, "is no https URL"
	case !visible:
		return "write what is not a letter, a digit or a mark of ASCII as %XX, and the host as DNS has it, xn--...", "holds what a URL cannot"
	case u.User != nil:
		return "leave out the name and the password in front of the host", "holds a name or a password"
	case u.Fragment != "" || strings.Contains(s, "#"):
		return "leave out what follows the #", "has a fragment"
	}
	host, wrong := badHost(u.Hostname())
	p, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case wrong != "":
		return "the host must be a public one, or one of your own: " + example, wrong
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && (err != nil || p == 0):
		return "ports are numbers from 1 to 65535", "has no port after the colon"
	case u.Scheme == "http" && !thisHost(host):
		return "write https://; whoever is on the way could read along otherwise", "is not https"
	}
	return "", ""
}

func topicURL() form {
	const example = "https://ntfy.sh/a-topic-that-nobody-guesses"
	return form{
		what: "a topic's URL", grammar: "https URL, http for this host alone; must be there", pattern: "https?://[!-~]+", example: example,
		read: func(n *node) (value, hint, wrong string) {
			if hint, wrong = badHook(n.text, "write it like "+example); wrong != "" {
				return "", hint, wrong
			}
			u, err := url.Parse(n.text)
			switch {
			case err != nil || u.RawQuery != "" || u.ForceQuery:
				return "", "leave out what follows the ?; a token goes into token_file", "is more than a topic's URL"
			case strings.Trim(u.Path, "/") == "":
				return "", "write the topic behind the host, as " + example, "names no topic"
			case !topicPattern.MatchString(u.EscapedPath()):
				return "", "a topic is up to 64 letters of ASCII, digits, hyphens and underscores", "names no topic that there can be"
			}
			return n.text, "", ""
		},
	}
}

func chat() form {
	return form{
		what: "a chat", grammar: "number in quotes, or @ and a name; must be there", pattern: body(chatPattern), example: `"-1001234567890"`,
		read: func(n *node) (value, hint, wrong string) {
			if !chatPattern.MatchString(n.text) {
				return "", `write its number, such as "-1001234567890" for a group, or @ and the name of a public one, in quotes`, quote(n.text) + " is no chat"
			}
			return n.text, "", ""
		},
	}
}

// secretFile is the path of a file with a secret. It is not shown where it is wrong: it may
// be the secret itself.
func secretFile(example string) form {
	return form{
		what: "a path", grammar: "absolute path, or `\"\"`: none", pattern: "/.+", example: example,
		read: func(n *node) (value, hint, wrong string) {
			if !absolute(n.text) {
				return "", "write the whole path of a file that holds it and nothing else, such as " + example, "is no absolute path of a file"
			}
			return clean(n.text), "", ""
		},
	}
}

// notPrivate says why webhooks are not let into p by `private`; "" if they are.
func notPrivate(p netip.Prefix) (hint, wrong string) {
	if p.Overlaps(netip.MustParsePrefix("169.254.0.0/16")) || p.Overlaps(netip.MustParsePrefix("fe80::/10")) || netip.MustParsePrefix("fd00:ec2::/32").Overlaps(p) && p.Bits() >= 32 {
		return "leave it out", "is where clouds tell their secrets"
	}
	for _, s := range [...]string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7", "::1/128"} { // RFC 1918, 6598, 4193
		if q := netip.MustParsePrefix(s); p.Bits() >= q.Bits() && q.Contains(p.Addr()) {
			return "", ""
		}
	}
	return "leave it out: what is public can be reached anyhow", "is not private"
}

// insideOf reports whether the URL names an address in a private network that is not among
// those that are let in. This host is one.
func insideOf(s string, private []netip.Prefix) (netip.Addr, bool) {
	u, err := url.Parse(s)
	if err != nil {
		return netip.Addr{}, false
	}
	host := u.Hostname()
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, false
	}
	_, public := notPrivate(netip.PrefixFrom(a, a.BitLen()))
	return a, public == "" && !slices.ContainsFunc(private, func(p netip.Prefix) bool { return p.Contains(a) })
}
