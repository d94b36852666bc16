package config

import (
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Gate says where the gate is: what opens targets for people who ask it, over the web and
// from the command line.
type Gate struct {
	URL      string // an origin: scheme, host and, where it is not the scheme's own, port; "": there is no gate
	CA       string // a file of certificates that take the place of the system's; absolute; "": none
	Identity string // the key that signs what one asks; absolute, or ~/ and a path; "": any of one's own
	Serve    *Serve // this machine is the gate; nil: it is not
}

// Serve says how this machine is the gate. WithSecrets reads what is in files of its own.
type Serve struct {
	Listen    []netip.AddrPort // at least one, none twice
	Cert, Key string           // of TLS; absolute, both or neither
	Proxies   []netip.Prefix   // whose Forwarded header is believed; masked, apart from each other
	Forwarded ForwardedHeader  // not ForwardedNo if and only if there are Proxies
	// Database is a file's absolute path, or a postgres:// URL without a password; "": a
	// file in the state folder, unless there is DatabaseFile.
	Database     string
	DatabaseFile string // a file with a postgres:// URL; absolute; "": none
	// DSN is what WithSecrets makes of both: a path, a postgres:// URL, or "": a file in the
	// state folder.
	DSN       Secret
	Admins    []string // people and groups
	Groups    []string // that are there, whoever is in them
	Edit      bool     // administrators may add people and targets in the pages
	Session   time.Duration
	OIDC      *OIDC // nil: none
	Addresses Addresses
}

// Format shows s as the file has it, without secrets, whatever the verb is.
func (s Serve) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, s.table().changed(newServe().table()))
}

// ForwardedHeader is the header by which proxies tell whom they speak for.
type ForwardedHeader string

// The headers.
const (
	ForwardedNo ForwardedHeader = "no"
	ForwardedX  ForwardedHeader = "x_forwarded_for"
	Forwarded   ForwardedHeader = "forwarded" // RFC 7239
)

func (h ForwardedHeader) String() string { return string(h) }

// OIDC is a provider that tells who somebody is.
type OIDC struct {
	Name             string // on the button; "": the issuer's host
	Issuer           string // https URL; http for this host alone
	ClientID         string
	ClientSecretFile string            // absolute; "": a public client
	ClientSecret     Secret            // what WithSecrets finds there
	PersonClaim      PersonClaim       // that is some person's Login
	GroupsClaim      string            // "": the provider's groups are not looked at
	Groups           map[string]string // theirs to ours; nil: none
}

// Format shows o as the file has it, without secrets, whatever the verb is.
func (o OIDC) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, o.table().changed(newOIDC().table()))
}

// PersonClaim is the claim that says who somebody is.
type PersonClaim string

// The claims.
const (
	ClaimEmail    PersonClaim = "email" // counts only where the provider has verified it
	ClaimUsername PersonClaim = "preferred_username"
	ClaimSubject  PersonClaim = "sub"
)

func (c PersonClaim) String() string { return string(c) }

// Addresses are further names of the gate, each with addresses of one family only, by
// which a page learns both of somebody's own: origins, as Gate.URL; "": none.
type Addresses struct{ IPv4, IPv6 string }

func newServe() *Serve {
	return &Serve{
		Listen:    []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8022")},
		Forwarded: ForwardedNo,
		Edit:      true,
		Session:   12 * time.Hour,
	}
}

func newOIDC() *OIDC { return &OIDC{PersonClaim: ClaimEmail, GroupsClaim: "groups"} }

// WithSecrets returns s with what the files hold that it names: DSN, and the client secret
// of OIDC. s is not changed. The error is Errors, one for each, without what the files hold.
// Whoever serves calls it when it starts.
func (s Serve) WithSecrets() (Serve, error) {
	var wrong Errors
	s.DSN = Secret(s.Database)
	res := withSecret(&s, &wrong, "gate.serve.database_file", func(s *Serve) (*Secret, string, form) { return &s.DSN, s.DatabaseFile, databaseURL() })
	client := withSecret(s.OIDC, &wrong, "gate.serve.oidc.client_secret_file", func(o *OIDC) (*Secret, string, form) {
		return &o.ClientSecret, o.ClientSecretFile, plainSecret("a client's secret", "text", 1, "write it as the provider gave it")
	})
	if len(wrong) > 0 {
		return Serve{}, wrong
	}
	res.OIDC = client
	return *res, nil
}
