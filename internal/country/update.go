package country

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// Options is what an Updater is made of.
type Options struct {
	StateDir  string        // the cache is in country/ below it
	Source    Source        // without files: Registries
	Every     time.Duration // between two looks at the source; 0: a day
	Client    *http.Client  // nil: one of our own, with timeouts
	AllowHTTP bool          // also without TLS, from this very machine: for tests
	Log       *slog.Logger  // nil: discarded
	Failed    func(error)   // Run's look at the source failed; nil: nobody is told
}

// Updater keeps the country data fresh. It is safe for concurrent use, also by
// several processes on one state directory.
type Updater struct {
	cache   cache
	source  Source
	every   time.Duration
	fetcher *fetcher
	log     *slog.Logger
	failed  func(error)

	embedded func() (*Data, error) // Embedded, but for tests
}

// NewUpdater makes an updater.
func NewUpdater(o Options) *Updater {
	u := &Updater{
		cache:   cache{filepath.Join(o.StateDir, "country")},
		source:  o.Source,
		every:   o.Every,
		fetcher: newFetcher(o.Client, o.AllowHTTP),
		log:     o.Log,
		failed:  o.Failed,

		embedded: Embedded,
	}
	if len(u.source.Files) == 0 {
		u.source = Registries()
	}
	if u.every <= 0 {
		u.every = 24 * time.Hour
	}
	if u.log == nil {
		u.log = slog.New(slog.DiscardHandler)
	}
	return u
}

// Load is the last good data: the newest whole one of the cache, or the snapshot
// in the program, where there is none or the program is newer. damage tells what
// of the cache could not be read, which is logged too; d is there all the same.
func (u *Updater) Load() (d *Data, damage error) {
	d, _, damage = u.load()
	return d, damage
}

func (u *Updater) load() (*Data, manifest, error) {
	d, m, damage := u.cache.load()
	embedded, err := u.embedded()
	if err != nil {
		panic(err) // it was made at build time, and a test reads all of it
	}
	if d == nil || d.Accepted.Before(embedded.Time) {
		d, m = embedded, manifest{}
	}
	if damage != nil {
		u.log.Error("the cache of country data is damaged; an older one is used", "error", damage, "used", d.Source, "of", d.Time.Format(time.DateOnly))
	}
	return d, m, damage
}

// Update looks at the source, and stores what is new there if it meets needs.
// changed is false where the source says that it has nothing new. After an error
// the last good data is still what Load tells; a *RefusedError is one about what
// the data says.
func (u *Updater) Update(ctx context.Context, needs Needs) (d *Data, changed bool, err error) {
	last, m, _ := u.load()
	answers, err := u.fetch(ctx, m.Seen)
	if err != nil {
		return last, false, err
	}
	if answers == nil {
		return last, false, nil
	}
	all := new(Builder)
	next := manifest{Source: u.source.Name, Seen: make(map[string]validator)}
	var infos []Info
	for _, a := range answers {
		if err := all.merge(a.entries); err != nil {
			return last, false, err
		}
		infos = append(infos, a.info)
		if a.seen != (validator{}) {
			next.Seen[a.url] = a.seen
		}
	}
	d, err = u.accept(last, all, infos, next, needs)
	if err != nil {
		return last, false, err
	}
	return d, true, nil
}

// fetch gets all files; none if the servers say that all are as they were.
func (u *Updater) fetch(ctx context.Context, seen map[string]validator) ([]answer, error) {
	answers := make([]answer, len(u.source.Files))
	unchanged := 0
	var err error
	for i, file := range u.source.Files {
		if answers[i], err = u.fetcher.file(ctx, u.source.Format, file, seen); err != nil {
			return nil, err
		}
		if answers[i].unchanged {
			unchanged++
		}
	}
	if unchanged == len(answers) {
		return nil, nil
	}
	for i, file := range u.source.Files {
		if !answers[i].unchanged {
			continue
		}
		if answers[i], err = u.fetcher.file(ctx, u.source.Format, file, nil); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// Import is Update from what somebody has at hand: the files of a source, which
// name says where they are from.
func (u *Updater) Import(name string, needs Needs, files ...io.Reader) (*Data, error) {
	last, _, _ := u.load()
	all := new(Builder)
	var infos []Info
	for i, f := range files {
		info, err := all.Read(f)
		if err != nil {
			where := fmt.Sprintf("file %d", i+1)
			if named, ok := f.(interface{ Name() string }); ok {
				where = named.Name()
			}
			return last, fmt.Errorf("%s: %w", where, err)
		}
		infos = append(infos, info)
	}
	d, err := u.accept(last, all, infos, manifest{Source: name}, needs)
	if err != nil {
		return last, err
	}
	return d, nil
}

// accept judges what was read, and stores it.
func (u *Updater) accept(last *Data, b *Builder, infos []Info, m manifest, needs Needs) (*Data, error) {
	if err := complete(infos); err != nil && !needs.Force {
		return nil, err
	}
	table, err := b.Table()
	if err != nil {
		return nil, refused("%v", err)
	}
	m.Accepted = time.Now().UTC().Truncate(time.Second)
	meta := Meta{Source: m.Source, Time: m.Accepted}
	for _, info := range infos {
		if !info.Time.IsZero() && info.Time.Before(meta.Time) {
			meta.Time = info.Time
		}
	}
	content, err := table.Encode(meta)
	if err != nil {
		return nil, err
	}
	fresh, err := Open(content)
	if err != nil {
		return nil, err
	}
	if err := needs.check(last, fresh); err != nil {
		return nil, err
	}
	if err := u.cache.store(content, m); err != nil {
		return nil, fmt.Errorf("store the country data: %w", err)
	}
	fresh.Accepted = m.Accepted
	return fresh, nil
}

// complete says which registry's statistics are missing: what was taken over from
// another registry would be in no country.
func complete(infos []Info) error {
	missing := make(map[string]bool)
	for _, r := range registries {
		missing[r] = true
	}
	delegated := false
	for _, info := range infos {
		if info.Format != Delegated {
			continue
		}
		delegated = true
		if !missing[info.Registry] {
			return refused("two files of %s", info.Registry)
		}
		delete(missing, info.Registry)
	}
	if !delegated || len(missing) == 0 {
		return nil
	}
	var names []string
	for _, r := range registries {
		if missing[r] {
			names = append(names, r)
		}
	}
	return refused("the statistics of all five registries are needed; %s is missing", strings.Join(names, ", "))
}

// Waits of Run.
const (
	startJitter = 10 * time.Minute // a fleet that boots together
	firstRetry  = 15 * time.Minute
	jitter      = 0.10 // of any other wait, either way
)

// Run updates again and again until ctx ends, and hands new data to changed. needs
// is asked each time. A failure is logged once, and tried again after a quarter of
// an hour, then twice that, up to Every.
func (u *Updater) Run(ctx context.Context, needs func() Needs, changed func(*Data)) error {
	d, _ := u.Load()
	wait := u.firstWait(d, time.Now())
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		d, fresh, err := u.Update(ctx, needs())
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			failures++
			wait = u.retryWait(failures)
			u.log.Warn("the country data could not be updated; the last good one stays",
				"error", err, "of", d.Time.Format(time.DateOnly), "retry_in", wait.Round(time.Second))
			if u.failed != nil {
				u.failed(err)
			}
			continue
		case fresh:
			u.log.Info("the country data is new", "source", d.Source, "of", d.Time.Format(time.DateOnly))
			changed(d)
		}
		failures = 0
		wait = spread(u.every)
	}
}

// firstWait is the time from the start to the first look.
func (u *Updater) firstWait(d *Data, now time.Time) time.Duration {
	due := rand.N(startJitter)
	if age := now.Sub(d.Accepted); !d.Embedded && 0 <= age && age < u.every {
		due += u.every - age
	}
	return due
}

// retryWait is the time to the next look after so many failures in a row.
func (u *Updater) retryWait(failures int) time.Duration {
	wait := firstRetry
	for range failures - 1 {
		if wait *= 2; wait >= u.every {
			break
		}
	}
	return spread(min(wait, u.every))
}

// spread is d, more or less: not all the world shall come at once.
func spread(d time.Duration) time.Duration {
	return d + time.Duration(float64(d)*jitter*(2*rand.Float64()-1))
}
