package daemon

import (
	"net/netip"
	"time"

	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/trial"
)

// The control API, HTTP and JSON over a Unix socket. Paths are under /v1.

// Ban is a lease as the API shows it; `explain --bans` shows the same.
type Ban struct {
	Prefix   netip.Prefix `json:"prefix"`
	From     time.Time    `json:"from"`
	Until    *time.Time   `json:"until"` // null: without end
	Attempts int          `json:"attempts"`
	Cause    string       `json:"cause"`
	Reason   string       `json:"reason,omitempty"`
	Holder   string       `json:"holder,omitempty"`
	Count    int          `json:"count,omitempty"` // how many bans this prefix has had
}

// NewBan is l as the API shows it.
func NewBan(l lease.Lease) Ban {
	b := Ban{
		Prefix: l.Prefix, From: l.From.Truncate(time.Second), Attempts: l.Attempts,
		Cause: l.Cause, Reason: l.Reason, Holder: l.Holder, Count: l.Count,
	}
	if !l.Until.IsZero() {
		until := l.Until.Truncate(time.Second)
		b.Until = &until
	}
	return b
}

// BanRequest asks for a ban by hand.
type BanRequest struct {
	Prefix netip.Prefix  `json:"prefix"`
	For    time.Duration `json:"for_ns"` // 0: the configured ban time; negative: without end
	Reason string        `json:"reason,omitempty"`
	Force  bool          `json:"force,omitempty"` // also where somebody is logged in from there; never for admins
}

// UnbanRequest asks to lift bans.
type UnbanRequest struct {
	Prefix netip.Prefix `json:"prefix"` // the zero Prefix with All: every ban
	All    bool         `json:"all,omitempty"`
}

// UnbanReply says what was lifted.
type UnbanReply struct {
	Lifted []Ban `json:"lifted"`
}

// WhyReply is everything that is known of an address.
type WhyReply struct {
	Addr      netip.Addr `json:"addr"`
	Banned    bool       `json:"banned"`
	Enforced  bool       `json:"enforced"` // false in a dry run
	Bans      []Ban      `json:"bans"`     // in force, this address' own and its prefixes'
	Earlier   []Ban      `json:"earlier"`  // over, newest first
	Guard     guard.Why  `json:"guard"`
	MaxRetry  int        `json:"max_retry"`
	FindTime  string     `json:"find_time"`
	StoreNote string     `json:"store_note,omitempty"` // why Earlier may not be complete
	Grant     *Grant     `json:"grant,omitempty"`      // lets it in
	Country   string     `json:"country,omitempty"`    // ISO code; "": unknown
	SSH       *Verdict   `json:"ssh,omitempty"`        // what the rules in force do with a new connection to SSH; null: nothing of ours is in force
}

// Verdict is what the rules in force do with a packet.
type Verdict struct {
	Verdict string `json:"verdict"` // "pass", "drop", "reject", "unknown"
	Chain   string `json:"chain,omitempty"`
	Rule    string `json:"rule,omitempty"` // the rule that decides; "": none speaks of it
}

// Status is the state of the daemon.
type Status struct {
	Version   string         `json:"version"`
	PID       int            `json:"pid"`
	Since     time.Time      `json:"since"`
	Config    string         `json:"config"`
	Mode      string         `json:"mode"`
	Enforcing bool           `json:"enforcing"`
	Problems  []Problem      `json:"problems"` // what is wrong, worst first
	Sources   []SourceStatus `json:"sources"`
	Bans      int            `json:"bans"`
	Dropped   *uint64        `json:"dropped_packets"` // null where the kernel was not asked or did not say
	Drift     int64          `json:"drift_repaired"`
	Guard     guard.Stats    `json:"guard"`
	Firewall  FirewallStatus `json:"firewall"`
	Grants    int            `json:"grants"`

	Conntrack *ConntrackStatus `json:"conntrack"` // null: not looked at yet
	Channels  []ChannelStatus  `json:"channels"`  // by which people are told; none: nobody is
	Gate      *GateStatus      `json:"gate,omitempty"`
}

// ConntrackStatus is how the kernel's connection tracking table does. The counts of
// drops are since the machine (or the container) started.
type ConntrackStatus struct {
	InUse         bool              `json:"in_use"` // else nothing is tracked
	Count         uint64            `json:"count"`
	Max           uint64            `json:"max"`
	Drops         uint64            `json:"drops"`
	EarlyDrops    uint64            `json:"early_drops"`
	InsertsFailed uint64            `json:"inserts_failed"`
	Allowances    []AllowanceStatus `json:"allowances"` // Amazon EC2's, by interface
}

// AllowanceStatus is what EC2 counts of one interface.
type AllowanceStatus struct {
	Interface          string  `json:"interface"`
	ConntrackExceeded  uint64  `json:"conntrack_exceeded"`
	ConntrackAvailable *uint64 `json:"conntrack_available"` // null: the driver does not tell
	BandwidthExceeded  uint64  `json:"bandwidth_exceeded"`
	PacketRateExceeded uint64  `json:"packet_rate_exceeded"`
	LinkLocalExceeded  uint64  `json:"link_local_exceeded"`
}

// FirewallStatus is what is in force beside the bans.
type FirewallStatus struct {
	Off        bool            `json:"off"`                 // `sekisho off`: nothing is, until `apply`
	Generation uint32          `json:"generation"`          // of the rule set in force; 0: bans only
	Mode       string          `json:"mode,omitempty"`      // "guard", "lockdown"
	Exposure   string          `json:"exposure,omitempty"`  // "fixed", "on_request", "public"
	Confirmed  *time.Time      `json:"confirmed,omitempty"` // when it was
	By         string          `json:"by,omitempty"`        // what confirmed it
	Applied    bool            `json:"applied"`             // the file asks for what is in force
	Trial      *trial.Event    `json:"trial"`               // the trial under way; null: none
	Countries  *CountryStatus  `json:"countries,omitempty"` // where countries play a part
	Counters   []CounterStatus `json:"counters"`            // of the rules in force
}

// CountryStatus is which countries are let in or kept out, by what data.
type CountryStatus struct {
	Allow    []string  `json:"allow,omitempty"`
	Deny     []string  `json:"deny,omitempty"`
	Ranges   int       `json:"ranges"` // in force
	Source   string    `json:"source"`
	Time     time.Time `json:"time"`     // what day the data speaks of
	Embedded bool      `json:"embedded"` // it is the program's own
}

// CounterStatus is what a rule has counted since it was written.
type CounterStatus struct {
	Chain   string `json:"chain"`
	Rule    string `json:"rule"`
	Drops   bool   `json:"drops"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Rules are the counters by rule, in their order: rules of the same words, as of both
// families, are one.
func (f FirewallStatus) Rules() []CounterStatus {
	rules := []CounterStatus{}
	at := map[CounterStatus]int{}
	for _, c := range f.Counters {
		rule := CounterStatus{Chain: c.Chain, Rule: c.Rule, Drops: c.Drops}
		i, ok := at[rule]
		if !ok {
			i = len(rules)
			at[rule], rules = i, append(rules, rule)
		}
		rules[i].Packets += c.Packets
		rules[i].Bytes += c.Bytes
	}
	return rules
}

// Problem is something wrong, and what to do.
type Problem struct {
	What     string   `json:"what"`
	Remedy   string   `json:"remedy"`
	Severity Severity `json:"severity,omitempty"` // of what a status tells
}

// SourceStatus is the state of one log.
type SourceStatus struct {
	Name    string     `json:"name"`
	Why     string     `json:"why,omitempty"` // why `auto` chose it
	Live    bool       `json:"live"`          // its end was reached: what comes is new
	Read    int64      `json:"lines_read"`
	SSHD    int64      `json:"lines_sshd"`
	Dropped int64      `json:"lines_dropped"`    // over the length limit
	Last    *time.Time `json:"last"`             // time of the last line of sshd's
	Offset  int64      `json:"offset,omitempty"` // of a file: bytes read of it
	Error   string     `json:"error,omitempty"`
}

// Reply is the answer to a command that only succeeds or fails.
type Reply struct {
	OK   bool   `json:"ok"`
	Text string `json:"text,omitempty"`
}

// Failure is every error answer of the API.
type Failure struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// Error is an error that also says what to do about it.
type Error struct {
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// PlanReply is what `apply` would change on this host, and what speaks against it:
// GET /v1/plan?config=FILE&peer=ADDR:PORT&ports=22,51921. peer is the asker's own SSH
// client, left out at a console; FILE is the asker's, absolute, and must be the
// daemon's; ports are as in ApplyRequest.
type PlanReply struct {
	Changes  []trial.Change  `json:"changes"`  // none: the host is as declared
	Refusals []trial.Refusal `json:"refusals"` // `apply` refuses because of these, unless forced
	Blocks   []BlockStatus   `json:"blocks"`   // other firewalls that would drop SSH
	Warnings []Problem       `json:"warnings"`
	Settings []trial.Change  `json:"settings"` // the same change as settings of the file: "exposure: public -> fixed"
	Now      uint32          `json:"generation_now"`
	Next     uint32          `json:"generation_next"`
	Digest   string          `json:"digest"` // of the rules that the file asks for
}

// BlockStatus is a place where another firewall drops what we let in.
type BlockStatus struct {
	Where   string `json:"where"`
	Rule    string `json:"rule"`
	Port    uint16 `json:"port"`
	Certain bool   `json:"certain"`
	Remedy  string `json:"remedy"`
}

// ApplyRequest asks for a trial of the configuration file: POST /v1/apply. The
// answer is a stream of trial.Event, one JSON object a line; a Failure instead, with
// a status that is not 200, where it is refused, and a Failure as the last line
// where it went wrong later. The trial goes on when the asker's connection is lost.
type ApplyRequest struct {
	Config string         `json:"config"`            // the file that the asker means; must be the daemon's
	Peer   netip.AddrPort `json:"peer"`              // the asker's own SSH client; zero: a console
	Within time.Duration  `json:"within_ns"`         // 0: 60 s
	Force  bool           `json:"force,omitempty"`   // in spite of refusals
	NoWait bool           `json:"no_wait,omitempty"` // confirmed without proof
	Digest string         `json:"digest,omitempty"`  // of the plan that was agreed to; refused where the file asks for something else since
	// Ports are where the asker has sshd listen: the rule set is for these, in place of
	// ssh.port, whose own must be among them. None: ssh.port, and sshd is not the asker's.
	Ports []uint16 `json:"ports,omitempty"`
	// Hold: no login confirms it by itself, for something else must be confirmed first.
	Hold bool `json:"hold,omitempty"`
}

// ConfirmRequest confirms the trial under way: POST /v1/confirm, a Reply. To end it,
// POST /v1/revert with {}, a Reply.
type ConfirmRequest struct {
	Peer  netip.AddrPort `json:"peer"` // the asker's SSH client
	Force bool           `json:"force,omitempty"`
}

// TrialReply is the answer to GET /v1/trial.
type TrialReply struct {
	Trial *trial.Event `json:"trial"` // null: none is under way
}

// Grant is a lease that lets a prefix in, as the API shows it: GET /v1/grants gives
// all that are in force, soonest to end first.
type Grant struct {
	Prefix netip.Prefix `json:"prefix"`
	From   time.Time    `json:"from,omitzero"` // absent: not known
	Until  time.Time    `json:"until"`
	Reason string       `json:"reason,omitempty"`
	Holder string       `json:"holder,omitempty"`
}

// GrantRequest asks to let a host (/32, /128) or an IPv6 /64 in for a while: POST
// /v1/grants, answered with the Grant.
type GrantRequest struct {
	Prefix netip.Prefix  `json:"prefix"`
	For    time.Duration `json:"for_ns"` // at most 30 days
	Reason string        `json:"reason,omitempty"`
}

// RevokeRequest asks to end grants: DELETE /v1/grants.
type RevokeRequest struct {
	Prefix netip.Prefix `json:"prefix"` // the zero Prefix with All: every grant
	All    bool         `json:"all,omitempty"`
}

// RevokeReply says what was ended.
type RevokeReply struct {
	Revoked []Grant `json:"revoked"`
}

// CountryReply answers GET /v1/country.
type CountryReply struct {
	Keep []netip.Addr `json:"keep"` // whom new country data must keep in: who logged in lately, who is logged in
}

// POST /v1/gate with {} has the daemon look where this host is enrolled, a Reply.

// POST /v1/off with {} takes our table and the confirmed rule set away until the next
// `apply`; POST /v1/country with {} has the country data read anew from its cache.
// Both are answered with a Reply.
