package rdap

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sekisho/internal/notify"
)

// said is what a WHOIS server said.
type said struct {
	owner notify.Owner // its prefix is not valid: it knows nobody
	refer string       // a server that knows more; "": none
}

// section is a network in an answer, with the objects that follow it up to the next network.
type section struct {
	prefix netip.Prefix // not valid: it does not have the address
	format string       // "krnic", "jpnic", or "" for any other

	name, owner, customer, organisation, descr string
	network, country                           string
	asn                                        uint32
	abuse                                      []string
	abuseHandle                                string
	mails                                      []string
	contacts                                   map[string]string // handle → mail (LACNIC, NIC.br)
}

// Bounds of what is read of an answer.
const (
	maxNetworks = 100
	maxContacts = 50 // of a network
)

// parseWHOIS reads an answer to the question whose a is, in any of the formats of the registries: RPSL (RIPE,
// APNIC, AFRINIC), ARIN's, LACNIC's and NIC.br's, JPNIC's, KRNIC's, and IANA's referral. The narrowest
// network that has a counts.
func parseWHOIS(text []byte, a netip.Addr) said {
	p := whoisParser{addr: a}
	rest := string(text)
	for rest != "" {
		var one string
		one, rest, _ = strings.Cut(rest, "\n")
		p.line(strings.TrimRight(one, "\r"))
	}
	p.end()
	out := said{refer: p.refer}
	if p.best != nil && !p.elsewhere {
		out.owner = p.best.result()
	}
	return out
}

type whoisParser struct {
	addr      netip.Addr
	networks  int      // that there were
	best      *section // the narrowest so far
	now       *section // whose lines we read
	object    string   // the first key of the object that we read
	handle    string   // of the contact that we read
	heading   string   // KRNIC's "[ Network Abuse Contact Information ]"
	abuse     string   // RIPE's comment about the network that follows
	refer     string
	elsewhere bool // refer alone knows: the networks here are a registry's own stock
}

func (p *whoisParser) line(text string) {
	if len(text) > maxLooked {
		text = text[:maxLooked]
	}
	if !utf8.ValidString(text) {
		text = latin1(text) // as RIPE's database has it
	}
	switch {
	case strings.TrimSpace(text) == "":
		p.object, p.handle = "", ""
	case text[0] == ' ' || text[0] == '\t' || text[0] == '+':
		// A line goes on, or is of an inner list.
	case text[0] == '%':
		// % Abuse contact for '192.0.2.0 - 192.0.2.255' is 'abuse@example.net'
		if about, ok := strings.CutPrefix(text, "% Abuse contact for '"); ok {
			if _, mail, ok := strings.Cut(about, "' is '"); ok {
				p.abuse = strings.TrimSuffix(mail, "'")
			}
		}
	case strings.HasPrefix(text, "[ "):
		p.heading = strings.ToLower(text)
	default:
		if key, value, ok := keyAndValue(text); ok && value != "" {
			p.attribute(key, value)
		}
	}
}

// keyAndValue splits "key: value", and JPNIC's "a. [Key]  value".
func keyAndValue(text string) (key, value string, ok bool) {
	if open := strings.IndexByte(text, '['); open == 0 || open == 3 && text[1] == '.' {
		key, value, ok = strings.Cut(text[open+1:], "]")
		key = "[" + key
	} else {
		key, value, ok = strings.Cut(text, ":")
	}
	return strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value), ok
}

// latin1 is text in ISO 8859-1 as UTF-8.
func latin1(text string) string {
	var b strings.Builder
	for i := range len(text) {
		b.WriteRune(rune(text[i]))
	}
	return b.String()
}

func (p *whoisParser) attribute(key, value string) {
	switch key {
	case "refer": // IANA
		p.refer, p.elsewhere = cmp.Or(hostOf(value), p.refer), true
		return
	case "referralserver": // ARIN; rwhois is another protocol
		p.referral(value)
		return
	case "inetnum", "inet6num", "netrange":
		p.begin(key, value, "")
		return
	case "[network number":
		p.begin(key, value, "jpnic")
		return
	case "ipv4 address", "ipv6 address":
		p.begin(key, value, "krnic")
		return
	case "organisation", "role", "person", "irt", "route", "route6", "orgname", "custname", "nic-hdl-br",
		"orgabusehandle", "orgtechhandle", "orgnochandle":
		p.object = key // also where no empty line stands before it
	}
	if p.object == "" {
		p.object = key
	}
	if p.now == nil || !p.now.prefix.IsValid() {
		return
	}
	p.of(p.now, key, value)
}

// of reads an attribute of a network or of an object that follows it.
func (p *whoisParser) of(s *section, key, value string) {
	switch key {
	case "netname", "[network name", "service name":
		first(&s.network, value)
	case "org-name", "orgname", "organization name", "org name":
		first(&s.name, value)
	case "owner":
		first(&s.owner, value)
	case "custname": // ARIN: to whom the network was passed on
		first(&s.customer, value)
	case "[organization", "organization":
		name, _, _ := strings.Cut(value, " (")
		first(&s.organisation, name)
	case "descr":
		if p.object == "inetnum" || p.object == "inet6num" {
			first(&s.descr, value)
		}
	case "country":
		switch p.object {
		case "inetnum", "inet6num", "organisation", "orgname", "custname":
			code, _, _ := strings.Cut(value, " ")
			first(&s.country, countryOf(code))
		}
	case "abuse-mailbox", "orgabuseemail", "rabuseemail", "[abuse":
		s.abuse = withMail(s.abuse, value)
	case "abuse-c":
		first(&s.abuseHandle, value)
	case "nic-hdl", "nic-hdl-br":
		p.handle = value
	case "e-mail":
		switch {
		case strings.Contains(p.heading, "abuse"):
			s.abuse = withMail(s.abuse, value)
		case p.handle != "" && len(s.contacts) < maxContacts:
			if s.contacts == nil {
				s.contacts = map[string]string{}
			}
			s.contacts[p.handle] = value
		}
		s.mails = withMail(s.mails, value)
	case "aut-num", "originas", "origin": //nolint:misspell // ARIN's OriginAS
		if s.asn == 0 {
			s.asn = asnOf(value)
		}
	case "mnt-by": // APNIC's copy of a national registry's network
		switch strings.ToUpper(value) {
		case "MAINT-JPNIC":
			p.refer = "whois.nic.ad.jp"
		case "MNT-KRNIC-AP":
			p.refer = "whois.kisa.or.kr"
		}
	}
}

// first keeps the first value.
func first(at *string, value string) {
	if *at == "" {
		*at = value
	}
}

func (p *whoisParser) referral(value string) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "whois" || u.Port() != "" && u.Port() != "43" {
		return
	}
	if host := hostOf(u.Hostname()); host != "" {
		p.refer, p.elsewhere = host, isRegistrys(host)
	}
}

// begin begins a network.
func (p *whoisParser) begin(key, value, format string) {
	p.end()
	if p.networks++; p.networks > maxNetworks {
		return
	}
	p.now = &section{prefix: networkWith(value, p.addr), format: format}
	p.now.abuse = withMail(nil, p.abuse)
	p.object, p.handle, p.heading, p.abuse = key, "", "", ""
	if !isHolding(p.now.prefix, p.addr) {
		p.now.prefix = netip.Prefix{}
	}
}

// end ends a network: it is kept where it is the narrowest.
func (p *whoisParser) end() {
	if p.now != nil && p.now.prefix.IsValid() && (p.best == nil || p.now.prefix.Bits() > p.best.prefix.Bits()) {
		p.best = p.now
	}
	p.now = nil
}

func (s *section) result() notify.Owner {
	o := notify.Owner{
		Name:    line(cmp.Or(s.customer, s.name, s.owner, s.organisation, s.descr)),
		Network: line(s.network),
		Prefix:  s.prefix,
		ASN:     s.asn,
		Country: s.country,
		Abuse:   s.abuse,
	}
	if len(o.Abuse) == 0 {
		o.Abuse = withMail(nil, s.contacts[s.abuseHandle])
	}
	// These two have no other place to complain.
	if len(o.Abuse) == 0 && (s.owner != "" || s.format == "krnic") {
		o.Abuse = slices.Clone(s.mails[:min(len(s.mails), 1)])
	}
	switch s.format {
	case "krnic":
		o.Country = "KR"
	case "jpnic":
		o.Country = "JP"
	}
	return o
}

// asnOf reads "AS64496" or "64496", the first of several; 0 for anything else.
func asnOf(s string) uint32 {
	s, _, _ = strings.Cut(strings.ToUpper(strings.TrimSpace(s)), ",")
	s, _, _ = strings.Cut(s, " ")
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "AS"), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}
