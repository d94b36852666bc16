package daemon

import (
	"context"
	"fmt"
	"io"

	"github.com/VictoriaMetrics/metrics"

	"sekisho/internal/printable"
)

// writeFirewall writes the figures of the rule set, the countries, the grants and the
// connection tracking table, as they are now.
func (d *Daemon) writeFirewall(ctx context.Context, w io.Writer) {
	s := d.Status(ctx)
	d.mu.Lock()
	fills := d.fills
	d.mu.Unlock()
	gauge := func(name string, v uint64) { metrics.WriteGaugeUint64(w, name, v) }
	flag := func(name string, on bool) {
		v := uint64(0)
		if on {
			v = 1
		}
		gauge(name, v)
	}
	f := s.Firewall
	wrong := map[Severity]uint64{}
	for _, p := range s.Problems {
		wrong[p.Severity]++
	}
	for _, severity := range []Severity{Critical, Warning} {
		gauge(fmt.Sprintf("sekisho_problems{severity=%q}", string(severity)), wrong[severity])
	}
	gauge(fmt.Sprintf("sekisho_build_info{version=%q}", printable.Text(s.Version)), 1)
	gauge("sekisho_known_sources", uint64(s.Guard.Known))
	gauge("sekisho_sessions", uint64(s.Guard.Sessions))
	gauge("sekisho_names_under_attack", uint64(len(s.Guard.UnderAttack)))
	metrics.WriteCounterUint64(w, `sekisho_evicted_total{what="sources"}`, s.Guard.SourcesEvicted)
	metrics.WriteCounterUint64(w, `sekisho_evicted_total{what="connections"}`, s.Guard.ConnectionsEvicted)
	for _, set := range fills {
		label := fmt.Sprintf("{set=%q}", set.Set)
		gauge("sekisho_set_entries"+label, uint64(max(0, set.Used)))
		gauge("sekisho_set_entries_limit"+label, uint64(max(0, set.Size)))
	}
	flag("sekisho_enforcing", s.Enforcing)
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
	for _, c := range s.Channels {
		label := fmt.Sprintf("{channel=%q}", c.Channel)
		gauge("sekisho_notify_waiting"+label, uint64(c.Waiting))
		metrics.WriteCounterUint64(w, "sekisho_notify_sent_total"+label, uint64(c.Sent))
		metrics.WriteCounterUint64(w, "sekisho_notify_failures_total"+label, uint64(c.Failed))
		metrics.WriteCounterUint64(w, "sekisho_notify_dropped_total"+label, uint64(c.Dropped))
	}
	metrics.WriteCounterUint64(w, "sekisho_repaired_total", uint64(d.repaired.Load()))
	rules := f.Rules()
	labels := func(c CounterStatus) string {
		verdict := "pass"
		if c.Drops {
			verdict = "drop"
		}
		return fmt.Sprintf("{chain=%q,rule=%q,verdict=%q}", c.Chain, c.Rule, verdict)
	}
	for _, c := range rules {
		metrics.WriteCounterUint64(w, "sekisho_rule_packets_total"+labels(c), c.Packets)
	}
	for _, c := range rules {
		metrics.WriteCounterUint64(w, "sekisho_rule_bytes_total"+labels(c), c.Bytes)
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
