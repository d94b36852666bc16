package daemon

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// writeFirewall writes the figures of the rule set, the countries, the grants and the
// connection tracking table, as they are now.
func (d *Daemon) writeFirewall(ctx context.Context, w io.Writer) {
	var s Status
	d.mu.Lock()
	fw, enforcing := d.fw, d.enforcing
	s.Enforcing, s.Grants = enforcing, len(d.liveGrants(time.Now()))
	d.conntrackStatus(&s)
	d.mu.Unlock()
	d.firewallStatus(ctx, fw, &s)
	gauge := func(name string, v uint64) { metrics.WriteGaugeUint64(w, name, v) }
	flag := func(name string, on bool) {
		v := uint64(0)
		if on {
			v = 1
		}
		gauge(name, v)
	}
	f := s.Firewall
	flag("sekisho_enforcing", enforcing)
	flag("sekisho_firewall_off", f.Off)
	flag("sekisho_firewall_applied", f.Applied)
	flag("sekisho_trial", f.Trial != nil)
	gauge("sekisho_generation", uint64(f.Generation))
	gauge("sekisho_grants", uint64(s.Grants))
	if f.Generation != 0 {
		gauge(fmt.Sprintf("sekisho_rules_info{mode=%q,exposure=%q}", f.Mode, f.Exposure), 1)
	}
	if c := f.Countries; c != nil {
		gauge("sekisho_country_ranges", uint64(c.Ranges))
		gauge("sekisho_country_data_timestamp_seconds", uint64(max(0, c.Time.Unix())))
	}
	metrics.WriteCounterUint64(w, "sekisho_repaired_total", uint64(d.repaired.Load()))
	// Rules of the same words, as of both families, are one series.
	packets, bytes := map[string]uint64{}, map[string]uint64{}
	for _, c := range f.Counters {
		verdict := "pass"
		if c.Drops {
			verdict = "drop"
		}
		labels := fmt.Sprintf("{chain=%q,rule=%q,verdict=%q}", c.Chain, c.Rule, verdict)
		packets[labels] += c.Packets
		bytes[labels] += c.Bytes
	}
	for _, labels := range slices.Sorted(maps.Keys(packets)) {
		metrics.WriteCounterUint64(w, "sekisho_rule_packets_total"+labels, packets[labels])
	}
	for _, labels := range slices.Sorted(maps.Keys(bytes)) {
		metrics.WriteCounterUint64(w, "sekisho_rule_bytes_total"+labels, bytes[labels])
	}
	c := s.Conntrack
	if c == nil {
		return
	}
	if c.InUse {
		gauge("sekisho_conntrack_entries", c.Count)
		gauge("sekisho_conntrack_entries_limit", c.Max)
		metrics.WriteCounterUint64(w, "sekisho_conntrack_drops_total", c.Drops)
		metrics.WriteCounterUint64(w, "sekisho_conntrack_early_drops_total", c.EarlyDrops)
		metrics.WriteCounterUint64(w, "sekisho_conntrack_insert_failed_total", c.InsertsFailed)
	}
	for _, a := range c.Allowances {
		label := fmt.Sprintf("{interface=%q}", a.Interface)
		metrics.WriteCounterUint64(w, "sekisho_ec2_conntrack_allowance_exceeded_total"+label, a.ConntrackExceeded)
		if a.ConntrackAvailable != nil {
			gauge("sekisho_ec2_conntrack_allowance_available"+label, *a.ConntrackAvailable)
		}
	}
}
