package gate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/securitygroup"
)

// fakeGroups are security groups in memory, which time passes for as a test has it. What
// it lacks of EC2, package access's own tests have.
type fakeGroups struct {
	mu      sync.Mutex
	leases  map[place]map[string]securitygroup.Lease // by id
	foreign map[place]bool
	busy    map[string]bool // ids at which somebody is
	twice   []string        // ids at which two were at once
	opened  int
	takes   time.Duration
	// meet is asked before ("open", "shorten", "release") and after ("opened", "shortened", "released") each call.
	meet func(what, id string) error
}

type place struct {
	group  string
	port   uint16
	prefix netip.Prefix
}

func newFakeGroups() *fakeGroups {
	return &fakeGroups{leases: map[place]map[string]securitygroup.Lease{}, foreign: map[place]bool{}, busy: map[string]bool{}}
}

func (f *fakeGroups) of(*config.Config) Groups { return f }

func (f *fakeGroups) met(what, id string) error {
	f.mu.Lock()
	meet := f.meet
	f.mu.Unlock()
	if meet == nil {
		return nil
	}
	return meet(what, id)
}

func (f *fakeGroups) enter(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy[id] {
		f.twice = append(f.twice, id)
	}
	f.busy[id] = true
}

func (f *fakeGroups) leave(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.busy, id)
}

func (f *fakeGroups) Open(ctx context.Context, door access.Door, prefix netip.Prefix, id, person string, length time.Duration, ready func()) (access.Opened, error) {
	f.enter(id)
	defer f.leave(id)
	if err := f.met("open", id); err != nil {
		return access.Opened{}, err
	}
	if err := pause(ctx, f.takes); err != nil {
		return access.Opened{}, err
	}
	at := place{door.AWS.Group, door.Port, prefix}
	f.mu.Lock()
	if f.foreign[at] {
		f.mu.Unlock()
		return access.Opened{Foreign: true}, nil
	}
	if f.leases[at] == nil {
		f.leases[at] = map[string]securitygroup.Lease{}
	}
	l := securitygroup.Lease{ID: id, Person: person, Until: time.Now().Add(length)}
	longer := false
	if old := f.leases[at][id]; old.Until.After(l.Until) {
		l.Until, longer = old.Until, old.Until.Sub(l.Until) > 5*time.Second
	}
	f.leases[at][id] = l
	f.opened++
	f.mu.Unlock()
	return access.Opened{Rule: securitygroup.Rule{ID: "sgr-" + at.prefix.String()}, Lease: l, Longer: longer}, f.met("opened", id)
}

func (f *fakeGroups) Shorten(ctx context.Context, door access.Door, prefix netip.Prefix, id string, length time.Duration) error {
	if err := f.met("shorten", id); err != nil {
		return err
	}
	if err := pause(ctx, f.takes); err != nil {
		return err
	}
	at := place{door.AWS.Group, door.Port, prefix}
	f.mu.Lock()
	if l, there := f.leases[at][id]; there && l.Until.After(time.Now().Add(length)) {
		l.Until = time.Now().Add(length)
		f.leases[at][id] = l
	}
	f.mu.Unlock()
	return f.met("shortened", id)
}

func (f *fakeGroups) Release(ctx context.Context, door access.Door, o access.Opened) error {
	f.enter(o.Lease.ID)
	defer f.leave(o.Lease.ID)
	if err := f.met("release", o.Lease.ID); err != nil {
		return err
	}
	if err := pause(ctx, f.takes); err != nil {
		return err
	}
	at := place{door.AWS.Group, door.Port, o.Rule.Source.Prefix}
	f.mu.Lock()
	if l, there := f.leases[at][o.Lease.ID]; there && !l.Until.After(o.Lease.Until) {
		delete(f.leases[at], o.Lease.ID)
	}
	f.mu.Unlock()
	return f.met("released", o.Lease.ID)
}

func (f *fakeGroups) Reap(context.Context, []securitygroup.Place) access.Reaped {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, leases := range f.leases {
		maps.DeleteFunc(leases, func(_ string, l securitygroup.Lease) bool { return !time.Now().Before(l.Until) })
	}
	return access.Reaped{}
}

func (f *fakeGroups) Who(_ context.Context, doors []access.Door) (who []access.Admitted, failed []access.Failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for at, leases := range f.leases {
		for _, d := range doors {
			if d.AWS.Group != at.group || d.Port != at.port || len(leases) == 0 {
				continue
			}
			w := access.Admitted{Target: d.Name, Source: securitygroup.Source{Prefix: at.prefix}, Rule: "sgr-" + at.prefix.String(), By: "lease"}
			for _, l := range leases {
				w.Leases = append(w.Leases, access.LeaseView(l))
			}
			who = append(who, w)
		}
	}
	return who, nil
}

// lets are the people whom the groups let in, by their leases: "hanako web 203.0.113.7/32".
func (f *fakeGroups) lets() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	res := []string{}
	for at, leases := range f.leases {
		for _, l := range leases {
			res = append(res, fmt.Sprintf("%s %s %s", l.Person, at.group, at.prefix))
		}
	}
	slices.Sort(res)
	return res
}

func (f *fakeGroups) lease(id string) (securitygroup.Lease, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, leases := range f.leases {
		if l, there := leases[id]; there {
			return l, true
		}
	}
	return securitygroup.Lease{}, false
}

func (f *fakeGroups) meets(meet func(what, id string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.meet = meet
}

func (f *fakeGroups) never(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.twice) > 0 {
		t.Errorf("two were at the same grant at the same time: %v", f.twice)
	}
}

var errDown = errors.New("EC2 is down")
