package mail

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"syscall"

	"sekisho/internal/config"
	"sekisho/internal/notify"
	"sekisho/internal/notify/plain"
)

// hint is what to do about a step that failed.
func (e *exchange) hint(step *notify.Step, err error, said *textproto.Error) string {
	_, port, _ := net.SplitHostPort(e.config.SMTP)
	if said != nil {
		return e.answered(step.Name, said)
	}
	switch step.Name {
	case "connect":
		var dns *net.DNSError
		var odd textproto.ProtocolError
		switch {
		case errors.Is(err, errNotHere):
			return "say tls: starttls, or tls: tls for port 465"
		case errors.As(err, &dns) && dns.IsNotFound:
			return "there is no such host: is smtp right?"
		case errors.As(err, &dns):
			return "no name server answers: look at /etc/resolv.conf"
		case errors.Is(err, syscall.ECONNREFUSED):
			return "is a mail server there? Install one, or name your provider's, such as smtp: smtp.example.com:587"
		case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
			return "this host has no way to it: is its network up?"
		case errors.As(err, &odd), errors.Is(err, errTooMuch):
			return "is that a mail server, and the port right?"
		case e.conn != nil && e.config.TLS != config.TLSImplicit: // it was connected, and there was no greeting
			return e.silence(port)
		case e.ctx.Err() != nil && e.conn == nil && port == "25":
			return "many providers let nobody out to port 25: try 587"
		case e.ctx.Err() != nil:
			return "is the host up, and does a firewall let this one out to port " + port + "?"
		}
	case "TLS":
		return e.tlsHint(err)
	case "log in":
		switch {
		case errors.Is(err, errNoLogin):
			return "leave user and password out, or use the port for submission, 587 with tls: starttls or 465 with tls: tls"
		case errors.Is(err, errNoWay):
			return "SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, LOGIN and CRAM-MD5 are, those with the password itself over TLS only"
		}
	}
	if e.ctx.Err() != nil {
		return "the server is slow: it is tried again; a longer timeout may help"
	}
	return ""
}

// silence is of a server that greets nobody.
func (e *exchange) silence(port string) string {
	if port == "465" {
		return "port 465 speaks TLS from the first byte on: say tls: tls"
	}
	if e.ctx.Err() == nil {
		return "it does not want this host: is that the right server, and may this host use it?"
	}
	return "it greets nobody: if the port speaks TLS from the first byte on, as 465 does, say tls: tls"
}

func (e *exchange) tlsHint(err error) string {
	var (
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		alert     tls.AlertError
	)
	switch {
	case errors.Is(err, errNoTLS) && e.local:
		return "for a mail server on this host say tls: no"
	case errors.Is(err, errNoTLS):
		return "use the port for submission, 587; or 465 with tls: tls"
	case errors.As(err, &name):
		hint := "name the server in smtp as its certificate does"
		if len(name.Certificate.DNSNames) > 0 {
			hint += ": " + plain.Line(strings.Join(name.Certificate.DNSNames, ", "), 100)
		}
		return hint + e.here()
	case errors.As(err, &authority):
		return "its certificate must be of an authority that this host trusts (update-ca-certificates, update-ca-trust)" + e.here()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate must be renewed, or this host's clock be set" + e.here()
	case errors.As(err, &record), errors.Is(err, io.EOF) && e.config.TLS == config.TLSImplicit, e.ctx.Err() != nil && e.config.TLS == config.TLSImplicit:
		return "the port does not speak TLS from the first byte on: say tls: starttls, as for ports 587 and 25"
	case errors.As(err, &alert):
		return "the server must speak TLS 1.2 or newer"
	}
	return ""
}

// here is added where the server is this host's.
func (e *exchange) here() string {
	if e.local {
		return "; for a mail server on this host tls: no will do"
	}
	return ""
}

// enhanced is an enhanced status code (RFC 3463), which stands first.
var enhanced = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}\b`)

// answered is the hint for a server's answer, by its code and, where it has one, its enhanced
// one. What the words mean is guessed only where codes leave it open.
func (e *exchange) answered(step string, said *textproto.Error) string {
	words := strings.ToLower(plain.Line(said.Msg, plain.SaidMax))
	more := enhanced.FindString(words)
	any := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(words, p) {
				return true
			}
		}
		return false
	}
	wantsLogin := said.Code == 530 || any("authentication required", "must authenticate", "auth required")
	switch {
	case wantsLogin && e.config.User == "":
		return "the server wants a login: set user and password"
	case said.Code == 421:
		return "the server is busy, or turns this host away: it is tried again"
	case said.Code == 452 || said.Code == 552 || strings.HasSuffix(more, ".2.2"):
		return "the server, or the mailbox, has no room, or the mail is too large for it"
	}
	switch step {
	case "connect":
		if said.Code/100 == 5 {
			return "the server turns this host away: is that the right server, and may this host's address use it?"
		}
	case "TLS":
		return "the server cannot do TLS now: look at its certificate and its log"
	case "log in":
		switch {
		case said.Code/100 == 4:
			return "the server cannot look passwords up now: it is tried again"
		case said.Code == 534 || any("application-specific", "app password"):
			return "the account wants a password made for programs (an app password)"
		}
		return "user or password is wrong; some providers want a password made for programs (an app password)"
	case "sender":
		if said.Code/100 == 4 {
			return "it is tried again; if it stays so, look whether DNS knows the sender's domain"
		}
		return "`from` must be an address that this server lets this host, or this account, send as"
	case "recipient":
		switch {
		case said.Code/100 == 4 && (any("greylist", "graylist", "grey-list", "postgrey", "try again", "later") || more == "4.7.1" || more == "4.2.0" || said.Code == 451):
			return "greylisted: it is tried again in a few minutes, and then taken"
		case said.Code/100 == 4:
			return "it is tried again"
		case any("relay") || more == "5.7.1" && e.config.User == "":
			return "the server does not pass mail on for this host: log in (user, password), or have it allow this host"
		case more == "5.1.1" || any("user unknown", "unknown user", "no such user", "does not exist", "unrouteable"):
			return "is there such a mailbox? Look at `to`"
		}
		return "the server does not take mail for this address: look at `to`, and at the server's log"
	case "data":
		if said.Code/100 == 4 {
			return "it is tried again"
		}
		return "the server does not take this mail; its log says why: many want `from` to be of a domain with SPF, DKIM and a DMARC policy"
	}
	return ""
}
