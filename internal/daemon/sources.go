package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/logsource"
)

// follower is one log that is followed, and its figures.
type follower struct {
	name, why                 string
	source                    logsource.Source
	live                      atomic.Bool
	read, sshd, dropped, last atomic.Int64
	offset                    atomic.Int64
	failed                    atomic.Pointer[string]
}

func (f *follower) took(b logsource.Batch) {
	f.live.Store(b.Live)
	f.read.Add(int64(b.Read))
	f.sshd.Add(int64(len(b.Lines)))
	f.dropped.Add(int64(b.Dropped))
	f.offset.Store(b.Position.Offset)
	if n := len(b.Lines); n > 0 {
		f.last.Store(b.Lines[n-1].Time)
	}
}

func (f *follower) status() SourceStatus {
	s := SourceStatus{Name: f.name, Why: f.why, Live: f.live.Load(), Read: f.read.Load(), SSHD: f.sshd.Load(), Dropped: f.dropped.Load(), Offset: f.offset.Load()}
	if at := f.last.Load(); at != 0 {
		t := time.Unix(0, at)
		s.Last = &t
	}
	if text := f.failed.Load(); text != nil {
		s.Error = *text
	}
	return s
}

// openSources opens the logs that c asks for, each at its committed position,
// and follows them.
func (d *Daemon) openSources(ctx context.Context, c config.Log) error {
	d.sourcing.Lock()
	defer d.sourcing.Unlock()
	specs, why, err := d.specs(ctx, c)
	if err != nil {
		return err
	}
	if err := d.rec.Flush(ctx); err != nil { // what was read before a reload
		d.log.Warn("positions are not written yet", "error", err)
	}
	positions, err := d.store.Positions(ctx)
	if err != nil {
		d.log.Error("log positions cannot be read; beginning one find_time back", "error", err)
	}
	reading, stop := context.WithCancel(ctx)
	var opened []*follower
	for _, spec := range specs {
		source, err := d.openSource(reading, spec, c, positions)
		if err != nil {
			stop()
			for _, f := range opened {
				f.source.Close()
			}
			return err
		}
		opened = append(opened, &follower{name: source.Name(), why: why, source: source})
	}
	d.mu.Lock()
	clear(d.sources)
	for _, f := range opened {
		d.sources[f.name] = f
	}
	d.mu.Unlock()
	readers := &sync.WaitGroup{}
	for _, f := range opened {
		d.log.Info("reading", "source", f.name, "why", why)
		readers.Go(func() { d.follow(reading, f) })
	}
	d.stopRead, d.readers = stop, readers
	return nil
}

// openSource opens one log where it was committed to be read.
func (d *Daemon) openSource(ctx context.Context, spec logsource.Spec, c config.Log, positions map[string][]byte) (logsource.Source, error) {
	o := logsource.Options{FindTime: d.findTime(), Logger: d.log, Bare: c.Forgeable}
	name := string(spec) // as Source.Name will say it
	if filepath.IsAbs(name) {
		name = "file:" + name
	}
	if raw, ok := positions[name]; ok {
		if err := json.Unmarshal(raw, &o.After); err != nil {
			d.log.Error("a log position is damaged; beginning one find_time back", "source", name, "error", err)
			o.After = logsource.Position{}
		}
	}
	if spec == logsource.Stdin {
		return logsource.OpenStdin(d.opts.Stdin, o), nil
	}
	return logsource.Open(ctx, spec, o)
}

// closeSources stops reading and waits for the batch in hand.
func (d *Daemon) closeSources() {
	d.sourcing.Lock()
	defer d.sourcing.Unlock()
	if d.stopRead != nil {
		d.stopRead()
		d.readers.Wait()
		d.stopRead = nil
	}
}

// specs are the logs that c asks for, and why.
func (d *Daemon) specs(ctx context.Context, c config.Log) ([]logsource.Spec, string, error) {
	switch c.Source {
	case config.SourceJournald:
		return []logsource.Spec{logsource.Journald}, "configured", nil
	case config.SourceStdin:
		return []logsource.Spec{logsource.Stdin}, "configured", nil
	case config.SourceFiles:
		specs := make([]logsource.Spec, 0, len(c.Files))
		for _, path := range c.Files {
			specs = append(specs, logsource.Spec(path))
		}
		return specs, "configured", nil
	default:
		spec, why, err := logsource.Detect(ctx, logsource.DetectOptions{})
		return []logsource.Spec{spec}, why, err
	}
}

func sameLog(a, b config.Log) bool {
	return a.Source == b.Source && a.Forgeable == b.Forgeable && slices.Equal(a.Files, b.Files)
}

func (d *Daemon) findTime() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg.Guard.FindTime
}

// follow reads one log until ctx ends. Only standard input ends by itself.
func (d *Daemon) follow(ctx context.Context, f *follower) {
	defer f.source.Close()
	for {
		batch, err := f.source.Next(ctx)
		if len(batch.Lines) > 0 || batch.Read > 0 {
			d.take(ctx, f, batch)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return
		case errors.Is(err, io.EOF):
			d.log.Info("the log has ended", "source", f.name)
			d.endedOnce.Do(func() { close(d.ended) })
			return
		default:
			text := err.Error()
			f.failed.Store(&text)
			d.log.Error("a log is no longer read", "source", f.name, "error", err)
			d.problem("source "+f.name, fmt.Sprintf("%s is no longer read: %v", f.name, err), "mend it, then restart the daemon")
			return
		}
	}
}
