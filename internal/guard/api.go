package guard

import (
	"net/netip"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// Outcome is what one line came to. Observe reuses its slices: they hold until
// the next call.
type Outcome struct {
	Event    sshlog.Event  // Event.Kind is sshlog.None where the line says nothing of a peer
	Addr     netip.Addr    // the true peer: named by the line or known from its connection; may be invalid
	Port     uint16        // likewise
	User     []byte        // likewise; nil where unknown
	Attempts int           // what this line adds to its peer's account
	Bans     []lease.Lease // bans that begin with this line
	Notices  []Notice      // what people should hear of
}

// Notice is something that happened beside a ban.
type Notice struct {
	Kind string // "accepted_after_failures", "spared" (not banned: why in Text), "distributed"
	Addr netip.Addr
	User string
	Text string
}
