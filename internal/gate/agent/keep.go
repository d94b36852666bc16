package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sekisho/internal/gate/api"
)

// want is a grant that the gate asks for.
type want struct {
	Grant
	refused error         // what is wrong with it, whatever the host says
	slept   time.Duration // slept, when Until was reckoned
	kernel  time.Time     // where it ends sooner than it was said to: when the kernel may end it
}

// keeper has the host do what the gate asks for. Of one goroutine.
type keeper struct {
	a     *Agent
	wants map[string]*want
}

// keep does what the stream says, in order and in batches, and looks now and then whether
// what was in force still is, and what was not can be.
func (a *Agent) keep(ctx context.Context) error {
	k := &keeper{a, map[string]*want{}}
	for _, g := range a.o.Host.Held() {
		if len(k.wants) < MaxGrants {
			g.Until = time.Now().Add(time.Until(g.Until)) // by the clock that nobody sets
			k.wants[g.ID] = &want{Grant: g, slept: a.o.slept()}
		}
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	k.look(ctx)
	batch := make([]event, 0, maxBatch)
	for {
		batch = batch[:0]
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			k.look(ctx)
			continue
		case e := <-a.events:
			batch = append(batch, e)
		}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case e := <-a.events:
				batch = append(batch, e)
			default:
				more = false
			}
		}
		k.do(ctx, batch)
		clear(batch)
	}
}

// do does what a batch says. Neighbours that let in are one change of the firewall.
func (k *keeper) do(ctx context.Context, batch []event) {
	var lets []*want
	flush := func() {
		k.let(ctx, lets)
		lets = lets[:0]
	}
	for _, e := range batch {
		switch {
		case e.sooner > 0:
			flush()
			for _, w := range k.wants {
				w.shorten(e.sooner)
			}
			k.look(ctx)
		case e.Let != nil:
			k.a.again(e.Let.ID)
			if w := k.take(ctx, *e.Let, e.clock); w != nil {
				lets = append(lets, w)
			}
		case e.Snapshot != nil:
			flush()
			k.snapshot(ctx, e.Snapshot, e.clock)
		case e.End != nil:
			flush()
			k.end(ctx, []string{*e.End})
		case e.Cut != nil:
			flush()
			if err := k.a.o.Host.Cut(ctx, *e.Cut); err != nil && ctx.Err() == nil {
				k.a.log.Warn("connections were not ended that the gate wants to be", "prefix", *e.Cut, "error", err)
			}
		}
	}
	flush()
	k.a.kick()
}

// take notes what the gate asks for; nil where there is nothing to be done about it.
func (k *keeper) take(ctx context.Context, h api.HostGrant, c clock) *want {
	w, known := k.wants[h.ID]
	if !known && len(k.wants) >= MaxGrants {
		k.a.note(h.ID, fmt.Errorf("this host keeps %d grants of a gate, and has them", MaxGrants), false)
		return nil
	}
	g, err := grantOf(h, c.written)
	if err == nil && !time.Now().Before(g.Until) {
		err = errOver
	}
	if known && err == nil && w.refused == nil && (w.Prefix != g.Prefix || w.Person != g.Person) {
		err = errors.New("the gate has made it another's: an id is one person's and one address'")
		g = w.Grant
	}
	if known && err != nil && w.refused == nil {
		// What it was before holds no longer.
		if k.end(ctx, []string{h.ID}); k.wants[h.ID] != nil {
			return nil // it cannot be taken away yet
		}
	}
	if err == nil && (!known || g.Until.Sub(w.Until) > time.Second) {
		k.a.asked(g, c.written)
	}
	w = &want{Grant: g, refused: err, slept: c.slept}
	k.wants[h.ID] = w
	return w
}

// let has grants be in force.
func (k *keeper) let(ctx context.Context, wants []*want) {
	var good []Grant
	for _, w := range wants {
		if w.refused != nil {
			k.a.note(w.ID, w.refused, true)
			continue
		}
		good = append(good, w.Grant)
	}
	for some := range slices.Chunk(good, maxChunk) {
		for i, err := range k.a.o.Host.Let(ctx, some) {
			k.a.note(some[i].ID, err, true)
		}
	}
}

// end takes grants away. What cannot be taken away is tried again.
func (k *keeper) end(ctx context.Context, ids []string) {
	var there []Grant
	for _, id := range ids {
		switch w := k.wants[id]; {
		case w == nil || w.refused != nil:
			delete(k.wants, id)
			k.a.ended(id)
		default:
			there = append(there, w.Grant)
		}
	}
	for some := range slices.Chunk(there, maxChunk) {
		for i, err := range k.a.o.Host.End(ctx, some) {
			id := some[i].ID
			if err != nil {
				// It is not wanted, and stays until it can be taken away, or has ended.
				k.wants[id].refused = errEnding
				k.a.stuck(id, err)
				continue
			}
			delete(k.wants, id)
			k.a.ended(id)
		}
	}
}

// shorten has w end sooner: its line had come late, or the machine was suspended meanwhile.
func (w *want) shorten(d time.Duration) {
	w.kernel = w.latest()
	w.Until = w.Until.Add(-d)
}

// latest is when the kernel ends w, whatever becomes of us.
func (w *want) latest() time.Time {
	if w.kernel.After(w.Until) {
		return w.kernel
	}
	return w.Until
}

var errOver = errors.New("its time was over when it came")

// errEnding marks what the gate has ended and what could not be taken away.
var errEnding = errors.New("it is being ended")

// snapshot is all that the gate asks for.
func (k *keeper) snapshot(ctx context.Context, s *snapshot, c clock) {
	named := make(map[string]bool, len(s.Grants))
	for _, h := range s.Grants {
		named[h.ID] = true
	}
	var gone []string
	for id := range k.wants {
		if !named[id] {
			gone = append(gone, id)
		}
	}
	k.end(ctx, gone)
	wants := make([]*want, 0, len(s.Grants))
	for _, h := range s.Grants {
		if w := k.take(ctx, h, c); w != nil {
			wants = append(wants, w)
		}
	}
	k.let(ctx, wants)
	k.a.reportAll()
}

// look asks whether what is wanted is in force, and takes up what has not worked.
func (k *keeper) look(ctx context.Context) {
	if len(k.wants) == 0 {
		return
	}
	now, slept := time.Now(), k.a.o.slept()
	var lets []*want
	var ending []string
	for id, w := range k.wants {
		if d := slept - w.slept; d >= tooLate {
			w.shorten(d)
			w.slept = slept
		}
		switch {
		case errors.Is(w.refused, errEnding) && now.Before(w.latest()):
			w.refused = nil // it is in force, and is to be ended
			ending = append(ending, id)
		case w.refused == nil && !now.Before(w.Until) && now.Before(w.latest()):
			ending = append(ending, id)
		case errors.Is(w.refused, errEnding), w.refused == nil && !now.Before(w.Until):
			// The kernel has ended it. The gate knows the time as well, and says so.
			delete(k.wants, id)
			k.a.ended(id)
		case w.refused == nil:
			lets = append(lets, w)
		}
	}
	k.end(ctx, ending)
	k.let(ctx, lets)
	k.a.kick()
}
