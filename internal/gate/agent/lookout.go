package agent

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"sekisho/internal/gate/api"
)

// Who opens a door by one address may come by another: a carrier's NAT has many, a VPN may
// be the browser's alone, and a machine has one of each family. So the gate is told whom
// the host turns away, and whom it lets in, as long as somebody who has just opened it has
// not come. Anybody can knock, by any address that they like to forge: nothing is done
// about what is told, but to show it to that person.

const (
	seenEvery = 5 * time.Second // that is looked for
	seenAgain = time.Minute     // that is told again: a gate forgets it after two
	// mostIn leaves room for those who were turned away, wherever many were let in.
	mostIn = 24
)

// recent is a grant that was asked for of late.
type recent struct {
	person string
	prefix netip.Prefix
	asked  time.Time
	came   netip.Addr // from where somebody came in by it
}

// asked takes down that the gate asks for a grant, or for a longer one.
func (a *Agent) asked(g Grant, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := recent{person: g.Person, prefix: g.Prefix, asked: now}
	if was, there := a.recent[g.ID]; there {
		r.came = was.came
	}
	a.recent[g.ID] = r
}

// lookOut tells the gate who comes, and who is turned away, until ctx ends.
func (a *Agent) lookOut(ctx context.Context) error {
	every := time.NewTicker(cmp.Or(a.o.seenEvery, seenEvery))
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
			a.look(ctx, time.Now())
		}
	}
}

// look looks once, where that may be of use to somebody.
func (a *Agent) look(ctx context.Context, now time.Time) {
	list := []netip.Addr{}
	if missing, _ := a.awaited(nil, now); len(missing) > 0 {
		away, in, err := a.o.Host.Seen(ctx)
		if err != nil {
			if ctx.Err() == nil {
				a.log.Debug("who is turned away cannot be told", "error", err)
			}
			return
		}
		if missing, came := a.awaited(in, now); len(missing) > 0 && len(away) > 0 {
			list = likeliest(append(list, came...), away, missing)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	again := len(list) > 0 && now.Sub(a.seenAt) >= seenAgain
	if again || !slices.Equal(sorted(list), sorted(a.seen)) {
		a.seen, a.seenAt, a.seenDue = list, now, true
		a.kick()
	}
}

// likeliest appends those of away who may be awaited, for as many as a report has.
func likeliest(list, away []netip.Addr, missing []netip.Prefix) []netip.Addr {
	akin := func(addr netip.Addr) bool {
		return slices.ContainsFunc(missing, func(p netip.Prefix) bool { return api.Akin(p, addr) })
	}
	for _, likely := range []bool{true, false} {
		for _, addr := range away {
			if len(list) < api.MaxSeen && akin(addr) == likely && !slices.Contains(list, addr) {
				list = append(list, addr)
			}
		}
	}
	return list
}

func sorted(addrs []netip.Addr) []netip.Addr {
	return slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
}

// awaited takes down from where somebody came in, and returns the prefixes of recent grants
// whose people have not, by any; and from where others have come, by their newest.
func (a *Agent) awaited(in []netip.Addr, now time.Time) (missing []netip.Prefix, came []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var there []recent
	persons := map[string]bool{}
	for id, r := range a.recent {
		if now.Sub(r.asked) >= api.Fresh {
			delete(a.recent, id)
			continue
		}
		if i := slices.IndexFunc(in, r.prefix.Contains); i >= 0 && !r.came.IsValid() {
			r.came = in[i]
			a.recent[id] = r
		}
		if r.came.IsValid() {
			there, persons[r.person] = append(there, r), true
		}
	}
	for _, r := range a.recent {
		if !persons[r.person] {
			missing = append(missing, r.prefix)
		}
	}
	slices.SortFunc(there, func(x, y recent) int { return y.asked.Compare(x.asked) })
	for _, r := range there[:min(len(there), mostIn)] {
		came = append(came, r.came)
	}
	return missing, came
}
