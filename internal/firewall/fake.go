package firewall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Fake is a Firewall in memory, for tests and dry runs. It refuses what the kernel
// refuses and ends bans by its clock. Safe for concurrent use.
type Fake struct {
	now func() time.Time

	mu       sync.Mutex
	table    bool
	wanted   *State // what was ensured last, by us
	state    State  // what is in force
	bans     map[netip.Prefix]time.Time
	failure  error
	watchers map[chan Change]struct{}
}

// NewFake makes a Fake without a table. now is its clock; nil is time.Now.
func NewFake(now func() time.Time) *Fake {
	if now == nil {
		now = time.Now
	}
	return &Fake{now: now, watchers: make(map[chan Change]struct{})}
}

// Fail makes every call return err until it is called with nil.
func (f *Fake) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failure = err
}

// Flush is what a foreign `nft flush ruleset` does: the table is gone, and those
// who watch hear of it.
func (f *Fake) Flush(pid int32, process string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.table {
		return
	}
	f.table, f.bans = false, nil
	for w := range f.watchers {
		select {
		case w <- Change{PID: pid, Process: process, What: "table deleted"}:
		default: // as the kernel's queue does; one event is as good as many
		}
	}
}

func (f *Fake) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.failure
}

// Ensure implements Firewall.
func (f *Fake) Ensure(ctx context.Context, s State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	if s.SSHOnly && len(s.Ports) == 0 {
		return errors.New("write rules: no port of SSH is given")
	}
	s.Ports = slices.Clone(s.Ports)
	if !f.table {
		f.table, f.bans = true, make(map[netip.Prefix]time.Time)
	}
	f.state, f.wanted = s, &s
	return nil
}

// Ban implements Firewall.
func (f *Fake) Ban(ctx context.Context, bans []Ban) error {
	if err := checkBans(bans); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.there(ctx, len(bans)); err != nil {
		return fmt.Errorf("ban %d prefixes: %w", len(bans), err)
	}
	now := f.now()
	for _, b := range bans {
		if b.Left >= 0 {
			f.bans[b.Prefix] = endOf(b, now)
		}
	}
	return nil
}

// there is ready, and ErrAbsent for a change of n bans without a table.
func (f *Fake) there(ctx context.Context, n int) error {
	if err := f.ready(ctx); err != nil {
		return err
	}
	if !f.table && n > 0 {
		return ErrAbsent
	}
	return nil
}

// Unban implements Firewall.
func (f *Fake) Unban(ctx context.Context, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if err := check(p); err != nil {
			return fmt.Errorf("un%w", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.there(ctx, len(prefixes)); err != nil {
		return fmt.Errorf("unban %d prefixes: %w", len(prefixes), err)
	}
	for _, p := range prefixes {
		delete(f.bans, p)
	}
	return nil
}

// live forgets the bans that have ended and returns the others, in order.
func (f *Fake) live() []Ban {
	now := f.now()
	maps.DeleteFunc(f.bans, func(_ netip.Prefix, end time.Time) bool { return !end.IsZero() && !end.After(now) })
	bans := make([]Ban, 0, len(f.bans))
	for p, end := range f.bans {
		b := Ban{Prefix: p}
		if !end.IsZero() {
			b.Left = end.Sub(now)
		}
		bans = append(bans, b)
	}
	slices.SortFunc(bans, func(a, b Ban) int { return a.Prefix.Compare(b.Prefix) })
	return bans
}

// Bans implements Firewall, in the order of the prefixes.
func (f *Fake) Bans(ctx context.Context, yield func(Ban) error) error {
	f.mu.Lock()
	if err := f.there(ctx, 1); err != nil {
		f.mu.Unlock()
		return fmt.Errorf("read bans: %w", err)
	}
	bans := f.live()
	f.mu.Unlock()
	for _, b := range bans {
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

// Intact implements Firewall.
func (f *Fake) Intact(ctx context.Context) (missing []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch err := f.ready(ctx); {
	case err != nil:
		return nil, fmt.Errorf("read rules: %w", err)
	case f.wanted == nil:
		return []string{"rules: none were written yet"}, nil
	case !f.table:
		return []string{"table inet " + tableName}, nil
	}
	return nil, nil
}

// Counters implements Firewall: nothing goes through a Fake.
func (f *Fake) Counters(ctx context.Context) ([]Counter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.there(ctx, 1); err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	return nil, nil
}

// Watch implements Firewall.
func (f *Fake) Watch(ctx context.Context, changed func(Change)) error {
	events := make(chan Change, 16)
	f.mu.Lock()
	f.watchers[events] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, events)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-events:
			changed(c)
		}
	}
}

// Remove implements Firewall.
func (f *Fake) Remove(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return fmt.Errorf("remove table inet %s: %w", tableName, err)
	}
	f.table, f.wanted, f.bans = false, nil, nil
	return nil
}

// Close implements Firewall.
func (f *Fake) Close() error { return nil }

// Dump writes what is in force, a line each, in order.
func (f *Fake) Dump(w io.Writer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.table {
		_, err := fmt.Fprintln(w, "no table")
		return err
	}
	_, err := fmt.Fprintf(w, "table inet %s ports %d ssh-only %t\n", tableName, f.state.Ports, f.state.SSHOnly)
	for _, b := range f.live() {
		left := "without end"
		if b.Left > 0 {
			left = b.Left.String()
		}
		if err == nil {
			_, err = fmt.Fprintf(w, "%s %s %s\n", home(b.Prefix), b.Prefix, left)
		}
	}
	return err
}
