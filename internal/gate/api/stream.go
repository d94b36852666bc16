package api

import (
	"net/netip"
	"time"
)

// EnrolRequest makes a host known: POST /hosts/enrol, signed with the host's key in
// HostNamespace, answered with the Host.
type EnrolRequest struct {
	Token   string `json:"token"`
	Version string `json:"version"`
}

// Change is one line of a host's stream (GET /hosts/stream): first a snapshot, then what
// changes, and a beat where nothing does, every Beat.
type Change struct {
	Snapshot *Snapshot     `json:"snapshot,omitempty"`
	Let      *HostGrant    `json:"let,omitempty"` // let in, or made longer or shorter
	End      string        `json:"end,omitempty"` // a grant's id: take it away
	Cut      *netip.Prefix `json:"cut,omitempty"` // end the connections from there too
	Beat     time.Time     `json:"beat,omitzero"` // the gate's clock, which nobody sets while the stream lasts; before Let too
}

// Beat is how often a stream says something.
const Beat = 15 * time.Second

// Snapshot is all that is to be in force: what is not in it is to be taken away.
type Snapshot struct {
	Host   string      `json:"host"`
	Grants []HostGrant `json:"grants"`
	Now    time.Time   `json:"now"`
	Ticket string      `json:"ticket"` // that Reports carry, good while the stream is
}

// HostGrant is a grant as a host gets it. How long it lasts is said as a length, so that
// neither's clock has to be right: from when the line was written, as the beat before it says.
type HostGrant struct {
	ID     string       `json:"id"`
	Person string       `json:"person"`
	Prefix netip.Prefix `json:"prefix"`
	Millis int64        `json:"milliseconds"` // left when it was sent
	Port   uint16       `json:"port"`
	Reason string       `json:"reason,omitempty"`
}

// Report is what is in force at a host: POST /hosts/report, after each change.
type Report struct {
	Ticket string          `json:"ticket"`
	Grants []ReportedGrant `json:"grants"` // all, where Whole is; else those that changed
	Whole  bool            `json:"whole"`
	Error  string          `json:"error,omitempty"`
	// Seen is who came to SSH's port of late, the likeliest first, at most 32, in the place
	// of what was said before; left out, nothing is said of it. By an address that is in a
	// grant in force somebody was let in; all others were turned away.
	Seen []netip.Addr `json:"seen,omitzero"`
}

// MaxSeen is how many addresses one report has.
const MaxSeen = 32

// Fresh is how long after a grant was asked for it is told who is turned away.
const Fresh = 15 * time.Minute

// Akin reports whether a may well be of whoever is seen as p elsewhere: they are near each
// other, as where a provider shares its addresses out, or one is IPv4 and the other IPv6.
func Akin(p netip.Prefix, a netip.Addr) bool {
	bits := 16
	if a.Is6() {
		bits = 32
	}
	return a.Is4() != p.Addr().Is4() || netip.PrefixFrom(a, bits).Contains(p.Addr())
}

// ReportedGrant is one of them.
type ReportedGrant struct {
	ID      string `json:"id"`
	InForce bool   `json:"in_force"`
	Error   string `json:"error,omitempty"`
}
