package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/logsource"
)

// meters are the daemon's figures, in Prometheus' text format. Their names are
// an interface; label values come from our own words, never from the log.
type meters struct {
	set      *metrics.Set
	kinds    [256]*metrics.Counter // by sshlog.Kind; made when first needed
	attempts *metrics.Counter
	drifts   *metrics.Counter
	inKernel *metrics.Histogram // read → in the kernel
	written  *metrics.Histogram // line's own time → in the kernel; as precise as the log's times
	reading  sync.Map           // source → *sourceMeters
}

type sourceMeters struct{ read, sshd, dropped *metrics.Counter }

func newMeters() *meters {
	set := metrics.NewSet()
	return &meters{
		set:      set,
		attempts: set.NewCounter("sekisho_attempts_total"),
		drifts:   set.NewCounter("sekisho_drift_total"),
		inKernel: set.NewHistogram("sekisho_ban_seconds"),
		written:  set.NewHistogram("sekisho_ban_after_line_seconds"),
	}
}

func (m *meters) lines(source string, b logsource.Batch) {
	v, ok := m.reading.Load(source)
	if !ok {
		label := fmt.Sprintf("{source=%q}", source)
		v, _ = m.reading.LoadOrStore(source, &sourceMeters{
			read:    m.set.GetOrCreateCounter("sekisho_lines_total" + label),
			sshd:    m.set.GetOrCreateCounter("sekisho_sshd_lines_total" + label),
			dropped: m.set.GetOrCreateCounter("sekisho_lines_dropped_total" + label),
		})
	}
	s := v.(*sourceMeters)
	s.read.Add(b.Read)
	s.sshd.Add(len(b.Lines))
	s.dropped.Add(b.Dropped)
}

// event counts one outcome; called with the daemon's lock held.
func (m *meters) event(out *guard.Outcome) {
	kind := out.Event.Kind
	if m.kinds[kind] == nil {
		m.kinds[kind] = m.set.GetOrCreateCounter(fmt.Sprintf("sekisho_events_total{kind=%q}", kind.String()))
	}
	m.kinds[kind].Inc()
	m.attempts.Add(out.Attempts)
}

func (m *meters) notice(kind string) {
	m.set.GetOrCreateCounter(fmt.Sprintf("sekisho_notices_total{kind=%q}", kind)).Inc()
}

func (m *meters) banned(bans []lease.Lease, read, written time.Time) {
	now := time.Now()
	for _, l := range bans {
		m.set.GetOrCreateCounter(fmt.Sprintf("sekisho_bans_total{cause=%q}", l.Cause)).Inc()
	}
	m.inKernel.Update(now.Sub(read).Seconds())
	if !written.IsZero() && now.Sub(written) < time.Hour {
		m.written.Update(now.Sub(written).Seconds())
	}
}

func (m *meters) drift() { m.drifts.Inc() }

// serveMetrics answers GET /metrics at the configured loopback address.
func (d *Daemon) serveMetrics(ctx context.Context) error {
	listen := d.cfg.Metrics.Listen
	if !listen.IsValid() {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen.String())
	if err != nil {
		return fmt.Errorf("listen for metrics: %w", err)
	}
	d.metrics.set.NewGauge("sekisho_bans", func() float64 { return float64(d.banCount()) })
	d.metrics.set.NewGauge("sekisho_sources_tracked", func() float64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return float64(d.engine.Stats().Sources)
	})
	d.metrics.set.NewGauge("sekisho_store_degraded", func() float64 {
		if d.rec.Degraded() != nil {
			return 1
		}
		return 0
	})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		d.metrics.set.WritePrometheus(w)
		metrics.WriteProcessMetrics(w)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
