// Package api is what a gate and its clients say to each other: one type for one thing,
// which the gate's pages, its JSON and its clients share, the codes of its errors, and the
// text that a request's signature is over. Pure values; everything above may import it.
//
// Times are RFC 3339 in UTC, durations whole seconds, addresses and prefixes canonical.
package api

import (
	"net/netip"
	"time"
)

// Version is the first part of every path of the API.
const Version = "/api/v1"

// Role is what somebody may do at a gate. The zero value is nothing.
type Role string

// The roles. Who is not known has none.
const (
	RolePerson Role = "person" // opens and closes doors that are theirs to open
	RoleAdmin  Role = "admin"  // keeps people, targets and hosts, sees everybody's
	RoleHost   Role = "host"   // an enrolled host: its own stream and reports, nothing else
)

// Via is how somebody has shown who they are.
type Via string

// The ways.
const (
	ViaKey     Via = "key"     // a request signed with an SSH key
	ViaPasskey Via = "passkey" // a session that began with a passkey
	ViaOIDC    Via = "oidc"    // a session that began at an identity provider, or its token
	ViaLink    Via = "link"    // a one-time link: good for enrolling a key or passkey only
	ViaHost    Via = "host"    // a host's key
)

// Me is who the gate takes somebody for: GET /me.
type Me struct {
	Person  string     `json:"person"`
	Role    Role       `json:"role"`
	Groups  []string   `json:"groups"`
	Via     Via        `json:"via"`
	Address netip.Addr `json:"address"`        // that the request came from
	Now     time.Time  `json:"now"`            // the gate's clock
	Until   time.Time  `json:"until,omitzero"` // of the session
}

// Seen is the address that a request came from: GET /address, for anybody.
type Seen struct {
	Address netip.Addr `json:"address"`
	Family  int        `json:"family"` // 4 or 6
}

// Kind is what stands behind a target.
type Kind string

// The kinds.
const (
	KindGroup Kind = "security_group"
	KindHost  Kind = "host"
)

// Door is a target as one person sees it: GET /doors, GET /doors/{target}.
type Door struct {
	Target    string    `json:"target"`
	Kind      Kind      `json:"kind"`
	Hosts     []string  `json:"hosts"` // what ssh calls what is behind it
	Port      uint16    `json:"port"`
	Close     string    `json:"close"`           // "after_connect", "at_exit"
	IPv6      int       `json:"ipv6"`            // prefix length of what is let in over IPv6
	Connected bool      `json:"connected"`       // a host's: whether it is connected now
	Allowed   bool      `json:"allowed"`         // whether it would be opened now
	Needs     Needs     `json:"needs"`           // what has to be given for it
	AtMost    int64     `json:"at_most_seconds"` // what one request may ask for; 0: nothing
	Until     time.Time `json:"until,omitzero"`  // when it would end if as much was asked for as one may
	Always    []string  `json:"always"`          // one's fixed addresses, let in without asking
	Reasons   []Reason  `json:"reasons"`         // why it is allowed, or not
	Hint      string    `json:"hint,omitempty"`  // where it is not: what to do
	Denied    *Denied   `json:"denied,omitempty"`
	Grants    []Grant   `json:"grants"` // live ones that the person may see: their own, and who else is in
}

// Denied is that what one asked for last was answered with no, within a day.
type Denied struct {
	By  string    `json:"by"`
	At  time.Time `json:"at"`
	Why string    `json:"why,omitempty"` // that they gave
}

// Needs is what a request for a door has to bring.
type Needs struct {
	Reason     bool     `json:"reason"`
	Approval   []string `json:"approval"`    // groups and people one of whom has to say yes; none: nobody
	BreakGlass bool     `json:"break_glass"` // whether this person may open it at once all the same
}

// Reason is one step of a decision.
type Reason struct {
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// State is how far a grant has come.
type State string

// The states. A grant never goes back to an earlier one, but for two: one that is made
// longer is asked for again, and so is one that a host was to end, and has not yet.
const (
	Waiting State = "waiting" // for somebody's approval
	Asked   State = "asked"   // written down; being put in force
	Open    State = "open"    // in force, as far as is known
	Ending  State = "ending"  // being taken away
	Ended   State = "ended"
)

// Grant is one person's opening of one target for one prefix.
type Grant struct {
	ID       string       `json:"id"`
	Target   string       `json:"target"`
	Person   string       `json:"person"`
	Prefix   netip.Prefix `json:"prefix"`
	State    State        `json:"state"`
	Asked    time.Time    `json:"asked"`
	Opened   time.Time    `json:"opened,omitzero"`
	Until    time.Time    `json:"until,omitzero"`
	Length   int64        `json:"seconds"` // that was asked for
	Ended    time.Time    `json:"ended,omitzero"`
	Why      string       `json:"why_ended,omitempty"` // "closed", "expired", "disabled", "denied", "failed", "withdrawn"
	Reason   string       `json:"reason,omitempty"`    // that the person gave
	Approver string       `json:"approver,omitempty"`
	Break    bool         `json:"break_glass"`
	Rule     string       `json:"rule,omitempty"`  // that lets it in, at a security group
	Foreign  bool         `json:"foreign"`         // a rule that is not ours lets it in: there is nothing to close
	InForce  bool         `json:"in_force"`        // a host has said so, or the group has
	Shared   []string     `json:"shared"`          // other people whose grants hold the same address
	Warnings []string     `json:"warnings"`        // what the person should know: a shared address, one that the host does not see
	Error    string       `json:"error,omitempty"` // why it could not be put in force, or taken away, just now; denied: what the approver said
	Stuck    bool         `json:"stuck"`           // still in force two minutes past its end
}

// OpenRequest asks for a door: POST /doors/{target}/open, answered with the Grant.
type OpenRequest struct {
	// Address is whom to let in; left out, the address that the request came from. A
	// request that is signed names it, so that it is worth nothing from elsewhere.
	Address netip.Addr `json:"address,omitzero"`
	Seconds int64      `json:"seconds,omitempty"` // 0: as long as is usual
	Reason  string     `json:"reason,omitempty"`  // at most 200 characters
	Break   bool       `json:"break_glass,omitempty"`
	// Lease names a grant of the asker's own making, so that asking twice is asking
	// once: 16 to 64 letters and digits. Left out, the gate makes one.
	Lease string `json:"lease,omitempty"`
}

// ExtendRequest makes a grant longer: POST /grants/{id}/extend, answered with the Grant.
type ExtendRequest struct {
	Seconds int64 `json:"seconds,omitempty"` // from now; 0: as long as is usual
}

// AnswerRequest is an approver's: POST /grants/{id}/approve and /deny.
type AnswerRequest struct {
	Reason string `json:"reason,omitempty"`
}

// Person is somebody whom a gate knows: GET /people (administrators).
type Person struct {
	Name     string    `json:"name"`
	Declared bool      `json:"declared"` // in the configuration file: cannot be edited here
	Groups   []string  `json:"groups"`
	Fixed    []string  `json:"fixed"`
	Login    string    `json:"login,omitempty"` // what an identity provider calls them
	Keys     []Key     `json:"keys"`
	Passkeys []Passkey `json:"passkeys"`
	Role     Role      `json:"role"`
	Disabled bool      `json:"disabled"`
	Since    time.Time `json:"disabled_since,omitzero"`
	By       string    `json:"disabled_by,omitempty"`
	Seen     time.Time `json:"seen,omitzero"` // when they last did something; in a list, without the use of their sessions
}

// Key is an SSH key.
type Key struct {
	Fingerprint string `json:"fingerprint"`
	Type        string `json:"type"`
	Declared    bool   `json:"declared"`
	Line        string `json:"line,omitempty"` // as in authorized_keys, without options: what an edit writes
}

// Passkey is a browser's or an authenticator's.
type Passkey struct {
	ID      string    `json:"id"` // base64url
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used,omitzero"`
}

// PersonEdit is a person as administrators write it: POST /people, PUT /people/{name}.
type PersonEdit struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
	Fixed  []string `json:"fixed"`
	Login  string   `json:"login,omitempty"`
	Keys   []string `json:"keys"` // lines of authorized_keys without options
}

// DisableRequest ends all that somebody has: POST /people/{name}/disable.
type DisableRequest struct {
	Cut    bool   `json:"cut,omitempty"` // end their connections too, where a host can
	Reason string `json:"reason,omitempty"`
}

// Invitation is a one-time link, told once: POST /people/{name}/invite, POST /hosts.
type Invitation struct {
	For   string    `json:"for"`
	URL   string    `json:"url,omitempty"`   // a person's
	Token string    `json:"token,omitempty"` // a host's
	Until time.Time `json:"until"`
}

// Target is a target as administrators see it: GET /targets.
type Target struct {
	Name     string `json:"name"`
	Declared bool   `json:"declared"`
	Kind     Kind   `json:"kind"`
	Where    string `json:"where"`  // the group and its region, or the host
	Config   string `json:"config"` // what stands under its name in the file: YAML
}

// TargetEdit is a target as administrators write it: PUT /targets/{name}.
type TargetEdit struct {
	Config string `json:"config"`
}

// Host is an enrolled host: GET /hosts.
type Host struct {
	Name      string    `json:"name"`
	Key       string    `json:"key,omitempty"` // fingerprint; "": not enrolled yet
	Connected bool      `json:"connected"`
	Seen      time.Time `json:"seen,omitzero"`
	Version   string    `json:"version,omitempty"`
	Grants    int       `json:"grants"` // in force, as it reported
	Error     string    `json:"error,omitempty"`
}

// Entry is one entry of the audit: GET /audit, newest first, and GET /audit/export, oldest
// first, a line of JSON each.
type Entry struct {
	Seq    int64      `json:"seq"` // 1, 2, 3, without gaps
	At     time.Time  `json:"at"`
	Who    string     `json:"who"` // a person, "host NAME", "gate"
	Via    Via        `json:"via,omitempty"`
	From   netip.Addr `json:"from,omitzero"`
	What   string     `json:"what"`             // "open", "close", "person.disable", ...: gate.Actions
	Person string     `json:"person,omitempty"` // whom it is about
	Target string     `json:"target,omitempty"`
	Grant  string     `json:"grant,omitempty"`
	Prefix string     `json:"prefix,omitempty"`
	Rule   string     `json:"rule,omitempty"`
	Until  time.Time  `json:"until,omitzero"`
	Why    string     `json:"why,omitempty"` // the reason that was given, or why it was refused
	OK     bool       `json:"ok"`
	Prev   string     `json:"prev"` // hash of the entry before, 64 hexadecimal digits
	Hash   string     `json:"hash"`
}

// Verdict is what checking the audit's chain came to: GET /audit/verify.
type Verdict struct {
	OK      bool   `json:"ok"`
	Entries int64  `json:"entries"`
	Head    string `json:"head"`             // the last entry's hash
	Broken  int64  `json:"broken,omitempty"` // the first entry that does not fit
	What    string `json:"what,omitempty"`
}
