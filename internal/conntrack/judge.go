package conntrack

import (
	"fmt"
	"time"

	"sekisho/internal/printable"
)

// Level is how bad a Finding is.
type Level uint8

// The levels. The zero value is no finding.
const (
	Warning Level = iota + 1
	Critical
)

func (l Level) String() string {
	switch l {
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	}
	return "fine"
}

// Finding is one thing that is wrong with the table.
type Finding struct {
	Level  Level
	Kind   string // one of the Kind constants
	Text   string // one sentence with the figures
	Advice string // what to do, with the exact commands; to be run on the host, not in a container
}

// The kinds of findings.
const (
	KindFill          = "fill"           // the table fills up
	KindDrops         = "drops"          // packets were dropped
	KindEarlyDrops    = "early_drops"    // connections were thrown out
	KindInsertsFailed = "inserts_failed" // connections lost a race
	KindAllowance     = "allowance"      // EC2's limits
)

const (
	warnPercent     = 75
	criticalPercent = 90
	// perEntry is the memory for which the table may have one entry at most: an entry
	// takes some 400 bytes, so the table a tenth of the machine at worst.
	perEntry = 4096
	// idleAdvised is a day; the kernel's default is five.
	idleAdvised = 24 * time.Hour
)

// Judge says what is wrong by two readings of the same namespace; nothing when all
// is well. What has been counted before the first reading is not held against the
// table: with the zero before, nothing has grown.
func Judge(before, now Health) []Finding {
	var found []Finding
	add := func(level Level, kind, advice, format string, args ...any) {
		found = append(found, Finding{Level: level, Kind: kind, Text: fmt.Sprintf(format, args...), Advice: advice})
	}
	grown := func(before64, now64 uint64) uint64 {
		if before.Time.IsZero() || now64 < before64 { // counted anew
			return 0
		}
		return now64 - before64
	}
	span := now.Time.Sub(before.Time).Round(time.Second)

	if now.InUse {
		roomier := now.roomier()
		if now.Max > 0 {
			percent := now.Count * 100 / now.Max
			switch {
			case percent >= criticalPercent:
				add(Critical, KindFill, roomier, "the connection tracking table is %d %% full (%d of %d): new connections, SSH too, are about to be dropped", percent, now.Count, now.Max)
			case percent >= warnPercent:
				add(Warning, KindFill, roomier, "the connection tracking table is %d %% full (%d of %d)", percent, now.Count, now.Max)
			}
		}
		races := grown(before.InsertsFailed, now.InsertsFailed)
		// The kernel counts most lost races as drops too (nf_ct_resolve_clash).
		if drops := grown(before.Drops, now.Drops); drops > races {
			n := drops - races
			add(Critical, KindDrops, roomier, "connection tracking dropped %d packets within %v: the table was full or memory was short (now %d of %d)", n, span, now.Count, now.Max)
		}
		if n := grown(before.EarlyDrops, now.EarlyDrops); n > 0 {
			add(Critical, KindEarlyDrops, roomier, "connection tracking threw %d connections out of the full table within %v (now %d of %d)", n, span, now.Count, now.Max)
		}
		if races > 0 {
			add(Critical, KindInsertsFailed,
				"often two DNS questions sent at once through a NAT; see `conntrack -S`, and let what needs no tracking do without it (SSH: `firewall.track: no`)",
				"connection tracking dropped %d packets within %v since their connection, or its answers, had been entered by another", races, span)
		}
	}
	for _, a := range now.Allowances {
		name := printable.Text(a.Interface)
		var was Allowance
		known := false
		for _, b := range before.Allowances {
			if b.Interface == a.Interface {
				was, known = b, true
			}
		}
		if !known {
			continue // plugged in since; it has no growth yet
		}
		if n := grown(was.ConntrackExceeded, a.ConntrackExceeded); n > 0 {
			add(Critical, KindAllowance,
				"use a larger instance type, or let idle connections end sooner; see: ethtool -S "+name+" | grep allowance",
				"EC2 dropped %d packets of %s within %v: the instance tracks more connections than its type allows", n, name, span)
		}
		for _, limit := range []struct {
			what string
			n    uint64
		}{
			{"bandwidth", grown(was.BandwidthExceeded, a.BandwidthExceeded)},
			{"packets per second", grown(was.PacketRateExceeded, a.PacketRateExceeded)},
			{"traffic to DNS, NTP and the metadata service", grown(was.LinkLocalExceeded, a.LinkLocalExceeded)},
		} {
			if limit.n > 0 {
				add(Warning, KindAllowance, "use a larger instance type; see: ethtool -S "+name+" | grep allowance",
					"EC2 held up or dropped %d packets of %s within %v: more %s than the instance type allows", limit.n, name, span, limit.what)
			}
		}
	}
	return found
}

// roomier is the advice for a table that is too small.
func (h Health) roomier() string {
	const (
		// A file that systemd and procps read late, so that it wins over the distribution's.
		file = "/etc/sysctl.d/90-sekisho-conntrack.conf"
		ssh  = "`firewall.track: no` keeps SSH out of the table"
	)
	settings := ""
	set := func(name string, value uint64) {
		settings += fmt.Sprintf(" net.netfilter.%s=%d", name, value)
	}
	if larger := h.advisedMax(); larger > h.Max {
		set("nf_conntrack_max", larger)
	}
	if h.Idle == 0 || h.Idle > idleAdvised {
		set("nf_conntrack_tcp_timeout_established", uint64(idleAdvised/time.Second))
	}
	if settings == "" {
		return "the table is as large as this machine's memory makes sensible; add memory, or find who holds so many connections: conntrack -L | head; " + ssh
	}
	return "sysctl -w" + settings + " (and write it to " + file + ", to last); " + ssh
}

// advisedMax is twice the table's size, as far as the memory goes; the size that
// it has if that is more already.
func (h Health) advisedMax() uint64 {
	larger := 2 * h.Max
	if h.RAM > 0 {
		larger = min(larger, h.RAM/perEntry)
	}
	return max(larger, h.Max)
}
