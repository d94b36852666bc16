package courier

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/durable"
	"sekisho/internal/notify"
	"sekisho/internal/printable"
)

// run sends what is due, until ctx ends.
func (b *box) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	for {
		select {
		case <-ctx.Done():
			b.save()
			return
		case now := <-save.C:
			if !now.Before(b.rested) {
				b.save()
			}
			continue
		case <-b.wake:
		case <-timer.C:
		}
		if ctx.Err() != nil {
			continue // with several ready, select takes any
		}
		now := time.Now()
		if at, ok := b.due(now); !ok {
			timer.Stop()
		} else if wait := at.Sub(now); wait > 0 {
			timer.Reset(wait)
		} else {
			b.send(ctx)
			timer.Reset(0)
		}
	}
}

// due is when the next message is to be sent; ok is false where nothing waits.
func (b *box) due(now time.Time) (at time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return time.Time{}, false
	}
	first := b.queue[0].Since
	at = first.Add(gather)
	limit := b.PerHour
	if !slices.ContainsFunc(b.queue, func(w waiting) bool { return w.Event.Level == notify.Alarm || w.Event.Kind == notify.Test }) {
		limit -= limit / forAlarms
		if !slices.ContainsFunc(b.queue, func(w waiting) bool { return w.Event.Report != nil }) { // which is no part of a digest
			at = later(at, digestAt(b.Digest, first))
		}
		if len(b.Quiet) > 0 && b.Quiet.Allow(later(at, now)) {
			at = later(at, b.Quiet.End(later(at, now)))
		}
	}
	b.sent = slices.DeleteFunc(b.sent, func(t time.Time) bool { return now.Sub(t) >= time.Hour })
	if len(b.sent) >= limit {
		at = later(at, b.sent[len(b.sent)-limit].Add(time.Hour))
	}
	return later(at, b.next), true
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// digestAt is when a digest is due that begins with an event of t.
func digestAt(d config.Digest, t time.Time) time.Time {
	switch d {
	case config.DigestHourly:
		return t.Truncate(time.Hour).Add(time.Hour)
	case config.DigestDaily:
		at := time.Date(t.Year(), t.Month(), t.Day(), digestHour, 0, 0, 0, t.Location())
		if !at.After(t) {
			at = at.AddDate(0, 0, 1)
		}
		return at
	}
	return t
}

// send sends what waits as one message.
func (b *box) send(ctx context.Context) {
	events, more, id, since := b.take()
	b.save() // if we die while it is sent, it is sent again as the same message
	b.own(ctx, events)
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	err := b.Sender.Send(ctx, b.o.Write(events, more, b.Language, id))
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return // we end: it is sent by who comes next
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.unsaved = true
	step, is := errors.AsType[*notify.Step](err)
	switch {
	case err == nil:
		b.stat.Sent++
		b.stat.Error, b.stat.Since = "", time.Time{}
		b.sent = append(b.sent, now)
	case is && step.Final, now.Sub(since) > giveUp:
		b.failed(err, now)
		b.sent = append(b.sent, now) // who refuses it is not asked all the time
		if is && step.Partly {
			b.stat.Sent++
			b.o.Logger.Error("a message was not taken by all who should have it", "channel", b.Name, "error", printable.Text(err.Error()))
			break
		}
		b.stat.Dropped += int64(b.batch)
		b.o.Logger.Error("a message is given up", "channel", b.Name, "events", b.batch, "error", printable.Text(err.Error()))
	default:
		b.failed(err, now)
		wait := min(firstRetry<<min(b.tries, 10), lastRetry)
		if is {
			wait = max(wait, step.After)
		}
		b.tries++
		b.next = now.Add(wait)
		if b.tries == 1 {
			b.o.Logger.Warn("a message could not be sent; it is tried again", "channel", b.Name, "error", printable.Text(err.Error()))
		}
		return
	}
	b.queue = slices.Delete(b.queue, 0, b.batch)
	b.lost -= more
	b.id, b.batch, b.tries, b.next = "", 0, 0, time.Time{}
}

func (b *box) failed(err error, now time.Time) {
	b.stat.Failed++
	if b.stat.Error == "" {
		b.stat.Since = now
	}
	b.stat.Error = printable.Cut(printable.Text(err.Error()), 500)
}

// take is what the next message is of: the same events under the same id when it is
// tried again.
func (b *box) take() (events []notify.Event, more int, id string, since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.id == "" {
		b.id, b.batch, b.unsaved = rand.Text(), b.together(), true
	}
	for _, w := range b.queue[:b.batch] {
		events = append(events, w.Event)
	}
	if more = b.lost; events[0].Report != nil {
		more = 0 // the next message counts them
	}
	return events, more, b.id, b.queue[0].Since
}

// together is how many of what waits make a message: a report is one by itself.
func (b *box) together() int {
	report := slices.IndexFunc(b.queue, func(w waiting) bool { return w.Event.Report != nil })
	switch {
	case report == 0:
		return 1
	case report > 0:
		return min(report, maxBatch)
	}
	return min(len(b.queue), maxBatch)
}

// own adds to bans whose the addresses are, as far as that is known in time.
func (b *box) own(ctx context.Context, events []notify.Event) {
	if b.o.Owner == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ownersTime)
	defer cancel()
	asked := 0
	for i := range events {
		addr := about(events[i])
		if !addr.IsValid() {
			continue
		}
		if asked++; asked > maxOwners || ctx.Err() != nil {
			return
		}
		owner, err := b.o.Owner(ctx, addr)
		if err == nil || owner.ASN != 0 || owner.Reverse != "" {
			events[i].Owner = &owner
		}
	}
}

// about is the address that an event is about.
func about(e notify.Event) netip.Addr {
	switch {
	case e.Ban != nil:
		return e.Ban.Prefix.Addr()
	case e.Login != nil:
		return e.Login.Addr
	}
	return netip.Addr{}
}

// saved is what is kept of a box.
type saved struct {
	Queue []waiting   `json:"queue"`
	Lost  int         `json:"lost,omitempty"`
	ID    string      `json:"id,omitempty"`
	Batch int         `json:"batch,omitempty"`
	Sent  []time.Time `json:"sent,omitempty"`
}

// save keeps what waits, where that has changed. Whoever tells us something does not wait
// for the disk.
func (b *box) save() {
	if b.path == "" {
		return
	}
	b.mu.Lock()
	unsaved := b.unsaved
	b.unsaved = false
	s := saved{slices.Clone(b.queue), b.lost, b.id, b.batch, slices.Clone(b.sent)}
	b.mu.Unlock()
	if !unsaved {
		return
	}
	begun := time.Now()
	raw, err := json.Marshal(s)
	if err == nil {
		err = durable.Replace(b.path, raw, nil)
	}
	b.rested = time.Now().Add(saveRest * time.Since(begun))
	if err != nil {
		b.mu.Lock()
		b.unsaved = true
		b.mu.Unlock()
		if !b.unkept {
			b.o.Logger.Warn("what waits to be told is not kept", "channel", b.Name, "error", err)
		}
	}
	b.unkept = err != nil
}

// maxKept bounds the file: what a full box comes to, and more.
const maxKept = 32 << 20

// load takes in what was kept, before what was told since.
func (b *box) load(now time.Time) error {
	if b.path == "" {
		return nil
	}
	info, err := os.Stat(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() > maxKept {
		return errors.New("the file is too large")
	}
	raw, err := os.ReadFile(b.path)
	if err != nil {
		return err
	}
	var s saved
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	// A clock that was wrong holds up nothing.
	for i := range s.Queue {
		if w := &s.Queue[i]; w.Since.After(now) {
			w.Since = now
		}
	}
	// What a channel left behind that was taken out of the configuration is news to nobody.
	kept := len(s.Queue)
	if s.Queue = slices.DeleteFunc(s.Queue, func(w waiting) bool { return now.Sub(w.Since) > giveUp }); len(s.Queue) < kept {
		s.ID, s.Batch = "", 0
	}
	s.Sent = slices.DeleteFunc(s.Sent, func(t time.Time) bool { return t.After(now) })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(s.Queue, b.queue...)
	if over := len(b.queue) - maxWaiting; over > 0 {
		b.queue = b.queue[:maxWaiting]
		b.lost += over
		b.stat.Dropped += int64(over)
	}
	b.lost += max(0, s.Lost)
	b.sent = s.Sent
	if s.ID != "" && 0 < s.Batch && s.Batch <= len(b.queue) {
		b.id, b.batch = s.ID, s.Batch
	}
	return nil
}
