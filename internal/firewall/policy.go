package firewall

import (
	"net/netip"
	"slices"
)

// Mode is how much of the host the rules are about.
type Mode string

// The modes.
const (
	ModeGuard    Mode = "guard"    // SSH only; lives beside other tables
	ModeLockdown Mode = "lockdown" // the whole host: default drop
)

// Exposure is who may reach SSH at all.
type Exposure string

// The exposures, strongest first.
const (
	ExposureFixed     Exposure = "fixed"      // Admins only
	ExposureOnRequest Exposure = "on_request" // Admins, and whoever holds a live grant
	ExposurePublic    Exposure = "public"     // everyone in the allowed countries, at a limited rate
)

// Rules is all that a configuration says of the firewall: a plain value, the
// subject of plans, kept as JSON in the boot snapshot. The zero value lets
// nobody in and is not valid.
type Rules struct {
	Mode      Mode           `json:"mode"`
	Ports     []uint16       `json:"ports"` // SSH's, sorted, at least one
	Exposure  Exposure       `json:"exposure"`
	Admins    []netip.Prefix `json:"admins,omitempty"` // masked, sorted
	Countries Countries      `json:"countries"`
	Rate      Rate           `json:"rate"`
	NoTrack   bool           `json:"no_track,omitempty"` // SSH without conntrack
	NoIPv6    bool           `json:"no_ipv6,omitempty"`  // IPv6 is dropped for SSH
	Open      []Service      `json:"open,omitempty"`     // lockdown
	Forward   bool           `json:"forward,omitempty"`  // lockdown: leave what is forwarded alone
}

// Countries says from which countries SSH may be reached; at most one of the two
// is set. Codes are ISO 3166-1 alpha-2, sorted.
type Countries struct {
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
}

// codes are those of the one that is set.
func (c Countries) codes() []string { return slices.Concat(c.Allow, c.Deny) }

// None reports whether countries play no part.
func (c Countries) None() bool { return len(c.Allow)+len(c.Deny) == 0 }

// Rate is how many new connections one source may make: iptables' hashlimit
// --hashlimit-above PerMinute/min --hashlimit-burst Burst --hashlimit-htable-expire
// 120000 --hashlimit-mode srcip, for IPv6 by /64. The zero value: no limit.
type Rate struct {
	PerMinute int `json:"per_minute,omitempty"`
	Burst     int `json:"burst,omitempty"`
}

// Service is a port, or a range of them, that lockdown leaves open.
type Service struct {
	Proto string         `json:"proto"` // "tcp" or "udp"
	First uint16         `json:"first"`
	Last  uint16         `json:"last"`           // = First for one port
	From  []netip.Prefix `json:"from,omitempty"` // masked, sorted; none: from anywhere
}
