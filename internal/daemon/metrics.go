package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/logsource"
	"sekisho/internal/trial"
)

const maxScrapers = 16 // open connections for metrics

// meters are the daemon's figures, in Prometheus' text format. Their names are
// an interface; label values come from our own words, never from the log.
type meters struct {
	set      *metrics.Set
	kinds    [256]*metrics.Counter // by sshlog.Kind; made when first needed
	attempts *metrics.Counter
	drifts   *metrics.Counter

	reapRevoked, reapFailures *metrics.Counter

	inKernel *metrics.PrometheusHistogram // read → in the kernel
	written  *metrics.PrometheusHistogram // line's own time → in the kernel; as precise as the log's times
	reading  sync.Map                     // source → *sourceMeters
}

type sourceMeters struct{ read, sshd, dropped *metrics.Counter }

// latencies are the bounds of a ban's way, in seconds: from a tenth of what it takes on
// an idle machine to what nobody should wait for.
var latencies = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60}

func newMeters() *meters {
	set := metrics.NewSet()
	return &meters{
		set:      set,
		attempts: set.NewCounter("sekisho_attempts_total"),
		drifts:   set.NewCounter("sekisho_drift_total"),

		reapRevoked:  set.NewCounter("sekisho_reap_revoked_total"),
		reapFailures: set.NewCounter("sekisho_reap_failures_total"),

		inKernel: set.NewPrometheusHistogramExt("sekisho_ban_seconds", latencies),
		written:  set.NewPrometheusHistogramExt("sekisho_ban_after_line_seconds", latencies),
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

func (m *meters) trial(stage trial.Stage) {
	m.set.GetOrCreateCounter(fmt.Sprintf("sekisho_trials_total{stage=%q}", string(stage))).Inc()
}

// scraped is the metrics' listener, as it is.
type scraped struct {
	at   netip.AddrPort // invalid: there is none
	stop context.CancelFunc
	over chan struct{}
}

// gauges adds the figures that are asked for when somebody looks.
func (d *Daemon) gauges() {
	d.metrics.set.NewGauge("sekisho_bans", func() float64 { return float64(d.stats().Bans) })
	d.metrics.set.NewGauge("sekisho_sources_tracked", func() float64 { return float64(d.stats().Sources) })
	d.metrics.set.NewGauge("sekisho_store_degraded", func() float64 {
		if d.rec.Degraded() != nil {
			return 1
		}
		return 0
	})
}

// listenMetrics opens the listener that moveMetrics is to use, unless it is in use
// already; nil where there is nothing to do.
func (d *Daemon) listenMetrics(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	if !at.IsValid() || at == d.scraped.at {
		return nil, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("metrics.listen: %w", err)
	}
	return l, nil
}

// moveMetrics answers GET /metrics at another address from now on, or nowhere.
func (d *Daemon) moveMetrics(at netip.AddrPort, listener net.Listener) {
	d.solved("metrics")
	if at == d.scraped.at {
		return
	}
	if d.scraped.stop != nil {
		d.scraped.stop()
		<-d.scraped.over
	}
	d.scraped = scraped{}
	if listener == nil {
		return
	}
	ctx, stop := context.WithCancel(d.running)
	over := make(chan struct{})
	d.scraped = scraped{at, stop, over}
	go func() {
		defer close(over)
		if err := d.serveMetrics(ctx, listener); err != nil {
			d.metricsFailed(err)
		}
	}()
}

// retryMetrics opens a listener that could not be had before.
func (d *Daemon) retryMetrics(ctx context.Context) {
	if !d.reloading.TryLock() {
		return
	}
	defer d.reloading.Unlock()
	at := d.cfg.Metrics.Listen
	if listener, err := d.listenMetrics(ctx, at); err == nil && listener != nil {
		d.moveMetrics(at, listener)
		d.log.Info("metrics can be had again", "at", at)
	}
}

// metricsFailed: nobody watches us, but we go on watching.
func (d *Daemon) metricsFailed(err error) {
	d.log.Error("no metrics", "error", err)
	d.problem("metrics", err.Error(), "free that port or change metrics.listen, then `sekisho reload`; the guard does not need it")
}

// serveMetrics answers GET /metrics.
func (d *Daemon) serveMetrics(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		d.metrics.set.WritePrometheus(w)
		d.writeFirewall(r.Context(), w)
		d.writeReaper(w)
		d.writeGate(w)
		metrics.WriteProcessMetrics(w)
	})
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	return serve(ctx, server, bound(listener, maxScrapers))
}
