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
	Bare     bool          // the line had no envelope: it is forgeable, shown and never counted
	Addr     netip.Addr    // the true peer: named by the line or known from its connection; may be invalid
	Port     uint16        // likewise
	User     []byte        // likewise; nil where unknown
	Attempts int           // what this line adds to its peer's account
	Bans     []lease.Lease // bans that begin with this line
	Notices  []Notice      // what people should hear of
}

// Notice is something that happened beside a ban.
type Notice struct {
	Kind   string // one of the Notice words
	Addr   netip.Addr
	User   string        // escaped, of bounded length
	Method sshlog.Method // of a login
	Text   string        // for people, one line; never holds unescaped log text
}

// The notices' kinds. None is repeated for the same peer within ten minutes.
const (
	NoticeAccepted    = "accepted_after_failures" // somebody logged in after many failures, or as a user under attack
	NoticeSpared      = "spared"                  // not banned, though the attempts would do: why is in Text
	NoticeDistributed = "distributed"             // many sources have begun to try a user name
	NoticeIneffective = "ban_ineffective"         // a banned source still reaches sshd: the ban is not enforced
)

// The causes of bans, as in lease.Lease.Cause.
const (
	CauseAttempts    = "attempts"
	CauseDistributed = "distributed"
	CauseEscalation  = "escalation"
	CauseManual      = "manual"
)
