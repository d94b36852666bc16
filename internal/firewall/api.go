// Package firewall owns the nftables table `inet sekisho`: the desired state,
// how it is written and read back, and who else touched it. It is the only
// package that imports google/nftables.
package firewall

import (
	"context"
	"net/netip"
	"time"
)

// Firewall is what the daemon uses of the kernel; Kernel and Fake both pass the
// conformance suite.
type Firewall interface {
	// Ensure makes the table hold exactly the rules that s asks for. Sets that are
	// there keep their elements. Idempotent, one transaction, read back.
	Ensure(ctx context.Context, s State) error
	// Ban puts bans in force, in one batch however many; an address that is
	// banned already gets the new end.
	Ban(ctx context.Context, bans []Ban) error
	// Unban takes prefixes out; one that is not there is no error.
	Unban(ctx context.Context, prefixes []netip.Prefix) error
	// Bans calls yield for each ban in force, with what is left of it.
	Bans(ctx context.Context, yield func(Ban) error) error
	// Intact reports whether table, chains, sets and rules are as Ensure left
	// them, and names what is not.
	Intact(ctx context.Context) (missing []string, err error)
	// Watch calls changed for every change of our table that is not ours, until
	// ctx ends.
	Watch(ctx context.Context, changed func(Change)) error
	// Counters tells what the rules have dropped since they were written.
	Counters(ctx context.Context) (packets, bytes uint64, err error)
	// Remove takes the table away, with all that is in it.
	Remove(ctx context.Context) error
	Close() error
}

// State is the desired table, but for the bans in its sets.
type State struct {
	Ports   []uint16 // SSH's ports
	SSHOnly bool     // drop a banned peer's packets to Ports only; otherwise all of its packets
}

// Ban is a prefix whose packets are dropped.
type Ban struct {
	Prefix netip.Prefix  // masked; IPv4 or IPv6, never v4-mapped
	Left   time.Duration // until it ends by itself in the kernel; 0: without end; negative: ended, left out
}

// Change is a foreign change of our table.
type Change struct {
	PID     int32  // of the thread that did it, outside of any PID namespace; 0 where the kernel does not say
	Process string // that thread's name, which any process may choose for itself
	What    string // "table deleted", "rule changed", ...
}
