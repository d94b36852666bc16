// Package firewall owns the nftables table `inet sekisho`: the desired rule set,
// how it is written and read back, how it is tried without risk, and who else
// touched it or stands in its way. It is the only package that imports
// google/nftables.
package firewall

import (
	"context"
	"net/netip"
	"time"

	"sekisho/internal/prefixset"
)

// Firewall is what the flows use of the kernel; Kernel and Fake both pass the
// conformance suite. All of it is safe for concurrent use; a ban never waits for
// a rule set that is being written for longer than one small batch.
type Firewall interface {
	// Ensure makes the table hold exactly what s asks for, read back; a trial under
	// way is ended by it. Sets of bans and grants keep their elements. Idempotent;
	// no packet is judged by a half of it: interval sets are filled before a rule
	// speaks of them, then the rules are switched in one transaction.
	Ensure(ctx context.Context, s State) error

	// Stage loads r beside the rule set in force, where no packet comes by yet, and
	// reads it back. What was staged before is dropped, on trial or not, and forgotten
	// whom it let in: Seen speaks of this trial only. Ensure must have been called by
	// this process (ErrAbsent); the generation is above that in force.
	Stage(ctx context.Context, r Ruleset) error
	// Arm has the staged rule set judge every packet for as long as within; then the
	// kernel goes back to the one before by itself. Arming again prolongs, and tries
	// again what was over. ErrNotStaged if this process has staged none.
	Arm(ctx context.Context, within time.Duration) error
	// Confirm makes the staged rule set the one in force, without end, in one
	// transaction, and drops the one before. ErrNotArmed, and nothing changes, if the
	// time is over or this process has staged none.
	Confirm(ctx context.Context) error
	// Abort goes back to the rule set in force at once and drops the staged one;
	// nothing staged is no error. In a process that never called Ensure it ends the
	// trial and leaves the rest to Ensure.
	Abort(ctx context.Context) error
	// Standing reads which rule sets the kernel holds.
	Standing(ctx context.Context) (Standing, error)
	// Seen reports whether a connection attempt from peer was accepted by a rule set
	// while it was armed, within the last minutes and since it was staged.
	Seen(ctx context.Context, peer netip.AddrPort) (bool, error)

	// SetCountries gives the rule set in force, and a staged one of the same
	// countries, other addresses for them: fill, swap, delete; no packet is misjudged.
	// A trial under way goes on. Nothing happens where countries play no part.
	SetCountries(ctx context.Context, addrs prefixset.Set) error

	// Ban puts bans in force, in one batch however many; an address that is
	// banned already gets the new end.
	Ban(ctx context.Context, bans []Ban) error
	// Unban takes prefixes out; one that is not there is no error.
	Unban(ctx context.Context, prefixes []netip.Prefix) error
	// Bans calls yield for each ban in force, with what is left of it.
	Bans(ctx context.Context, yield func(Ban) error) error

	// Grant lets hosts (/32, /128) and IPv6 /64s in for a while, where the exposure
	// is on_request or public; one that is there already gets the new end.
	Grant(ctx context.Context, grants []Grant) error
	// Ungrant takes them out again; one that is not there is no error.
	Ungrant(ctx context.Context, prefixes []netip.Prefix) error
	// Grants calls yield for each grant in force, with what is left of it.
	Grants(ctx context.Context, yield func(Grant) error) error

	// Intact reports whether all is as Ensure, Stage, Confirm and SetCountries left
	// it, and names what is not.
	Intact(ctx context.Context) (missing []string, err error)
	// Watch calls changed for every change of our table that is not ours, until
	// ctx ends.
	Watch(ctx context.Context, changed func(Change)) error
	// Counters tells what each counting rule has dropped or passed since it was
	// written.
	Counters(ctx context.Context) ([]Counter, error)
	// Fills tells how full the sets are that packets fill. At a full one its rule
	// matches nothing: a rate limits nobody new, and nobody new is Seen. Those of Knocks
	// are left out: where one is full some are not told, and that is all.
	Fills(ctx context.Context) ([]Fill, error)
	// Knocks tells who asked for SSH within the last two minutes, where exposure is
	// on_request, the latest first: who was let in, and who was turned away because of
	// holding no grant; of a flood some thousands, which leave those who were let in
	// alone. Addresses are as easily forged as packets. None where nobody is remembered.
	Knocks(ctx context.Context) ([]Knock, error)
	// Others looks at the other firewalls of this host: is one of them in charge,
	// and would one drop new connections to ports from these peers (none: from
	// anywhere)? It changes nothing.
	Others(ctx context.Context, ports []uint16, peers []netip.Addr) (Others, error)
	// Remove takes the table away, with all that is in it.
	Remove(ctx context.Context) error
	Close() error
}

// State is the desired table, but for the elements of the sets of bans and grants.
type State struct {
	Ports   []uint16 // SSH's ports, for bans
	SSHOnly bool     // drop a banned peer's packets to Ports only; otherwise all of its packets
	Ruleset Ruleset  // Generation 0: none; bans only
}

// Ruleset is one generation of the rules.
type Ruleset struct {
	Generation uint32        // names its chains and sets; each new rule set has a higher one
	Rules      Rules         // what it says
	Countries  prefixset.Set // the addresses of Rules.Countries
}

// Standing is which rule sets the kernel holds.
type Standing struct {
	Table     bool          // ours is there
	Confirmed uint32        // the generation in force without end; 0: none
	Staged    uint32        // the generation loaded beside it; 0: none
	Armed     time.Duration // for how long the staged one still judges; 0: it does not
}

// Ban is a prefix whose packets are dropped.
type Ban struct {
	Prefix netip.Prefix  // masked; IPv4 or IPv6, never v4-mapped
	Left   time.Duration // until it ends by itself in the kernel; 0: without end; negative: ended, left out
}

// Grant is a prefix that is let in to SSH for a while. The shape of a Ban.
type Grant Ban

// Change is a foreign change of our table.
type Change struct {
	PID     int32  // of the thread that did it, outside of any PID namespace; 0 where the kernel does not say
	Process string // that thread's name, which any process may choose for itself
	What    string // "table deleted", "rule changed", ...
}

// Counter is what one rule has counted.
type Counter struct {
	Chain   string // "ssh", without the generation
	Rule    string // its comment
	Drops   bool   // its verdict: drop or reject; otherwise accept
	Packets uint64
	Bytes   uint64
}

// Fill is how full a set is that packets fill.
type Fill struct {
	Set        string
	Used, Size int // elements; what has timed out and still takes room is not in Used
}

// Knock is an address that asked for SSH.
type Knock struct {
	Addr netip.Addr
	In   bool          // it was let in
	Ago  time.Duration // since it was last, or was last not
}

// Others is what other firewalls of this host there are.
type Others struct {
	Managers []Manager // programs that own a whole firewall and are active: firewalld, ufw
	Blocks   []Block   // rules of others that would drop new connections to SSH
	Forwards []string  // tables that forward for others (Docker, libvirt, ...): lockdown stops them
}

// Manager is an active firewall program.
type Manager struct {
	Name string // "firewalld", "ufw"
	How  string // how it was found: "table inet firewalld"
	Stop string // the exact command that ends it
}

// Block is a place where another firewall drops, or may drop, what we let in.
type Block struct {
	Where   string     // "table inet firewalld, chain filter_INPUT"
	Rule    string     // the rule or the chain's policy, in words; printable
	Port    uint16     // of SSH
	Peer    netip.Addr // whom it would drop; the zero Addr: anybody
	Certain bool       // false: it holds something that we cannot judge
	// Untracked: it lets tracked connections in, and would drop them only if SSH
	// did without conntrack (Rules.NoTrack).
	Untracked bool
	Remedy    string // the exact command that opens the port there
}
