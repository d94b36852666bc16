package config

import (
	"net/netip"
	"time"
)

// AWS says how the clouds' accounts are reached: security groups are in one of them.
type AWS struct {
	// Name tells this configuration from others that keep prefix lists in the same
	// accounts; "": there are none.
	Name string
	// Endpoint takes the place of AWS's own, for an emulator; "": AWS's own, or what
	// AWS_ENDPOINT_URL says.
	Endpoint string
	Accounts map[string]Account // by name; none: the one that the environment's credentials are for
	// Reap is how long between two looks of the daemon for rules past their end; 0: it
	// does not look.
	Reap time.Duration
	// AddressServices tell a client the address that it is seen by: https URLs that answer
	// with nothing else.
	AddressServices []string
}

// Account is one account at AWS, and how it is entered.
type Account struct {
	ID         string   // twelve digits; "": not checked
	Profile    string   // of ~/.aws/config; "": the environment's credentials
	Role       string   // the ARN of a role to assume; "": none
	ExternalID string   // that the role asks for; "": none
	Regions    []string // searched beside those that targets name
}

// Person is somebody who may be let in.
type Person struct {
	Fixed  []netip.Prefix // addresses that are theirs for good; masked, apart from each other
	Former []netip.Prefix // that were theirs: check tells where they still are let in
	Keys   []string       // SSH public keys, each as a line of authorized_keys without options
	Login  string         // what a provider of OpenID Connect calls them; "": nothing
	Groups []string       // what targets may allow
}

// Target is a door: a security group, or a host's own firewall, and the port that it guards.
type Target struct {
	AWS      TargetAWS
	Agent    string   // a host that the gate speaks to; "": AWS is the door. AWS says nothing where it is there
	Host     []string // names by which ssh knows what is behind it; the first is the one to connect to
	Port     uint16
	Exposure Exposure // ExposureFixed: it opens for nobody on request; ExposureOnRequest
	Allow    []Allow
	AtMost   time.Duration // the longest that one request opens it
	Hours    Hours         // when it may be opened on request; none: always
	Close    CloseMode
	IPv6     int      // prefix length of what is let in over IPv6: 128 or 64
	Reason   bool     // who asks must say why
	Approval []string // people and groups one of whom must say yes, never who asks; none: nobody need
	// BreakGlass are people and groups who are let in at once, for a reason: without approval,
	// and at all hours.
	BreakGlass []string
}

// TargetAWS is a security group.
type TargetAWS struct {
	Account string // by name in AWS.Accounts; "": the environment's
	Region  string
	Group   string // sg-...
	Via     Via
}

// Allow is whom a target is opened for. What is set of the rest takes the place of the target's.
type Allow struct {
	Who        string // a group of people, or a person
	AtMost     time.Duration
	Hours      Hours
	Reason     *bool    // nil: as the target says
	Approval   []string // none: as the target says, unless Unapproved
	Unapproved bool     // `approval: no`: nobody need say yes; Approval is empty then
}

// CloseMode says when a door shuts that was opened to connect.
type CloseMode string

// The choices.
const (
	CloseAfterConnect CloseMode = "after_connect" // as soon as it was used: the session lives on
	CloseAtExit       CloseMode = "at_exit"
)

func (c CloseMode) String() string { return string(c) }

// Via says how fixed addresses get into a group.
type Via string

// The ways.
const (
	ViaRules      Via = "rules"       // a rule for each address
	ViaPrefixList Via = "prefix_list" // one rule that names a managed prefix list
)

func (v Via) String() string { return string(v) }

// Hours are spans of the week. None: always.
type Hours []Span

// Span is a time of day on some days of the week, in a zone.
type Span struct {
	Days     [7]bool       // by time.Weekday
	From, To time.Duration // since midnight, at most 24h; From < To, or it goes over midnight
	Zone     *time.Location
}
