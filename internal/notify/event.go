// Package notify tells people what happens on a host: it holds what there is to tell
// (Event), how it reads (package message below it), and how it gets to them (a package each below
// it: mail, webhook and so on), within the limits that they set. A mechanism: what is worth an
// event is decided above it.
//
// Whatever an event holds may be an attacker's text. It is escaped where it is shown, each
// time by the rules of the place: a header, HTML, a terminal, JSON.
package notify

import (
	"context"
	"net/netip"
	"time"
)

// Kind is what happened.
type Kind string

// The kinds. Their words are an interface: the configuration and webhooks have them.
const (
	Ban            Kind = "ban"              // a source was banned
	Repeat         Kind = "repeat"           // a source was banned that had been before
	Unban          Kind = "unban"            // a ban was lifted by hand
	AttackBegan    Kind = "attack_began"     // many sources are being banned: they are told of together
	AttackEnded    Kind = "attack_ended"     // with what it came to
	Login          Kind = "login"            // somebody logged in from a country or network where they were never seen
	LoginDoubt     Kind = "login_doubt"      // a login after many failures, or as a user who is under attack
	Trial          Kind = "trial"            // a trial of rules or of sshd began, was confirmed, or was reverted
	Drift          Kind = "drift"            // somebody changed our rules, and they were put back
	Conntrack      Kind = "conntrack"        // the connection tracking table is nearly full, or drops
	Country        Kind = "country"          // country data was refused
	LeaseStuck     Kind = "lease_stuck"      // a rule in a security group outlives its lease
	GroupFinding   Kind = "group_finding"    // something is wrong in a security group
	GateApproval   Kind = "gate_approval"    // somebody asks for a door at the gate that needs another's yes
	GateBreakGlass Kind = "gate_break_glass" // somebody opened one at once, in an emergency
	GateDisabled   Kind = "gate_disabled"    // somebody was disabled at the gate
	Degraded       Kind = "degraded"         // the daemon itself cannot do all that it should, or can again
	Report         Kind = "report"           // the weekly report
	Test           Kind = "test"             // `sekisho notify test`
)

// Kinds are all that a channel can be told of, in the order of documents.
func Kinds() []Kind {
	return []Kind{Ban, Repeat, Unban, AttackBegan, AttackEnded, Login, LoginDoubt, Trial, Drift, Conntrack, Country, LeaseStuck, GroupFinding, GateApproval, GateBreakGlass, GateDisabled, Degraded, Report}
}

// Level is how much it matters.
type Level string

// The levels.
const (
	Info    Level = "info"    // good to know
	Warning Level = "warning" // look at it
	Alarm   Level = "alarm"   // now: it waits neither for quiet hours to end nor for a digest
)

// State is how far a matter has come that has a beginning and an end.
type State string

// The states. "" where there is no such thing.
const (
	Began     State = "began"
	Confirmed State = "confirmed" // a trial
	Reverted  State = "reverted"  // a trial
	Over      State = "over"      // what was wrong is well again
)

// Event is one thing that happened. It is stored as JSON, whose names are an interface:
// webhooks send it.
type Event struct {
	Kind   Kind      `json:"kind"`
	Level  Level     `json:"level"`
	Time   time.Time `json:"time"`
	Host   string    `json:"host"`
	State  State     `json:"state,omitempty"`
	What   string    `json:"what"`             // one sentence, English: what happened
	Remedy string    `json:"remedy,omitempty"` // what to do about it
	// Key names what it is about; where there is no such thing it is empty. Of events of one kind and
	// key a channel is told at most once in ten minutes; of each ban in any case.
	Key string `json:"key,omitempty"`
	// Part is of a Ban or Repeat within an attack: AttackEnded tells what all of them came to.
	Part bool `json:"part_of_attack,omitempty"`

	Ban    *BanFacts    `json:"ban,omitempty"`    // of Ban, Repeat, Unban
	Attack *AttackFacts `json:"attack,omitempty"` // of AttackBegan, AttackEnded
	Login  *LoginFacts  `json:"login,omitempty"`  // of Login, LoginDoubt
	Report *ReportText  `json:"report,omitempty"` // of Report: it is sent as it is
	Owner  *Owner       `json:"owner,omitempty"`  // whose the address is, where that is known
}

// BanFacts are a ban.
type BanFacts struct {
	Prefix   netip.Prefix `json:"prefix"`
	From     time.Time    `json:"from"`
	Until    time.Time    `json:"until,omitzero"` // zero: without end
	Cause    string       `json:"cause"`          // as leases have it: "attempts", "escalation", "distributed", "manual"
	Reason   string       `json:"reason,omitempty"`
	Holder   string       `json:"holder,omitempty"` // who made it, or lifted it
	Attempts int          `json:"attempts"`
	Count    int          `json:"count"` // how many bans this prefix has had, this one included
	Enforced bool         `json:"enforced"`
	Users    []Tried      `json:"users,omitempty"` // names that were tried, most tried first; at most 20
	Kinds    []Tried      `json:"kinds,omitempty"` // kinds of messages
	Lines    []string     `json:"lines,omitempty"` // of the log, the last of them; at most 20 of at most 500 bytes
}

// Tried is a name or a kind, and how often.
type Tried struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// AttackFacts are many bans at once.
type AttackFacts struct {
	Began    time.Time      `json:"began"`
	Ended    time.Time      `json:"ended,omitzero"`
	Bans     int            `json:"bans"`
	Attempts int            `json:"attempts"`
	Users    []Tried        `json:"users,omitempty"`
	Places   []Tried        `json:"countries,omitempty"` // by ISO code
	Prefixes []netip.Prefix `json:"prefixes,omitempty"`  // the first 50
}

// LoginFacts are a login.
type LoginFacts struct {
	User    string     `json:"user"`
	Addr    netip.Addr `json:"addr"`
	Method  string     `json:"method,omitempty"`  // a word of package sshlog
	Country string     `json:"country,omitempty"` // ISO code
	Before  string     `json:"before,omitempty"`  // where they were seen before, for people
}

// ReportText is a report as it is sent.
type ReportText struct {
	Subject string `json:"subject"`
	Text    string `json:"text"`
	HTML    string `json:"html,omitempty"`
}

// Owner is whose an address is, as registries and DNS say: hostile text all of it.
type Owner struct {
	Name    string       `json:"name,omitempty"`    // the organisation
	Network string       `json:"network,omitempty"` // the network's name
	Prefix  netip.Prefix `json:"prefix,omitzero"`   // that it holds
	ASN     uint32       `json:"asn,omitempty"`
	ASName  string       `json:"as_name,omitempty"`
	Country string       `json:"country,omitempty"` // ISO code
	Abuse   []string     `json:"abuse,omitempty"`   // where to complain
	Reverse string       `json:"reverse,omitempty"` // the name that DNS has for it, where that name has the address, too
	Source  string       `json:"source,omitempty"`  // the server that said so
}

// Message is an event, or several in a digest, as a channel sends it. All of it is fit for
// its place: Subject and Text hold no control character but line feeds in Text, HTML is a whole document.
type Message struct {
	ID      string  // the same when it is sent again
	Subject string  // one line, at most 200 characters
	Text    string  // lines of at most 998 bytes
	HTML    string  // "": there is none
	Short   string  // a few lines of plain text, at most 1,000 characters: for chats
	Level   Level   // the worst of its events
	Events  []Event // at most 200: beyond that a digest counts
	More    int     // how many events are not in Events
}

// Sender sends to one channel. It is safe for concurrent use, and ends with ctx.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// Step is an error that says at which step of sending it failed, with the server's words.
type Step struct {
	Name   string        // "connect", "TLS", "log in", "sender", "recipient", "data", "answer"
	Said   string        // by the server; printable, at most 500 characters
	Hint   string        // what to do now
	Final  bool          // trying again does not help: it is given up
	Partly bool          // others of the recipients have the message
	After  time.Duration // how long the server asks us to wait before; 0: it does not say
	Err    error
}

func (s *Step) Error() string {
	text := s.Name + ": " + s.Err.Error()
	if s.Said != "" {
		text += ": " + s.Said
	}
	return text
}

func (s *Step) Unwrap() error { return s.Err }
