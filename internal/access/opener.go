package access

import (
	"context"
	"net/netip"
	"time"

	"sekisho/internal/intent"
	"sekisho/internal/securitygroup"
)

// Opener is what opens and shuts the doors of passages: the security groups themselves
// (Direct), or a gate that is asked to. What is there of a door between two calls is an
// entry of the intents, which other processes may have written. It is safe for concurrent
// use.
type Opener interface {
	// Span says for how long door may be opened for q, from q.At on; an error where it may
	// not.
	Span(ctx context.Context, door Door, q Request) (Span, error)
	// Admit returns when all is there that somebody else has to give first, as a yes.
	Admit(ctx context.Context, door Door, prefix netip.Prefix) error
	// Lease names what Open is about to ask for.
	Lease(person, machine string) string
	// Open lets e.Prefix in for length from now. ready is called each time that it may be
	// let in from then on: before Open returns, which may see first whether that lasts.
	Open(ctx context.Context, door Door, e intent.Entry, length time.Duration, ready func()) (Hold, error)
	// Extend makes what e says end length from now. there is false where it is gone.
	Extend(ctx context.Context, door Door, e intent.Entry, length time.Duration) (h Hold, there bool, err error)
	// Lasting looks whether what Extend of e came to lasts, and opens anew where it does not.
	Lasting(ctx context.Context, door Door, e intent.Entry, h Hold, there bool, length time.Duration) (Hold, error)
	// Release ends what e says. What is gone already is no error, and neither is what was
	// made longer by others since: it stays.
	Release(ctx context.Context, door Door, e intent.Entry) error
}

// Span is for how long a door may be opened.
type Span struct {
	Length time.Duration // at a time, at most
	Latest time.Time     // by this machine's clock: when it has to be shut at the latest
	Whole  bool          // Length is to be asked for at once: it cannot be made longer
}

// Hold is what there is of a door after it was opened or made longer.
type Hold struct {
	Lease   string
	Rule    string    // that holds it, where it is known
	Until   time.Time // by the clock of who ends it
	Ends    time.Time // the same by this machine's
	Length  time.Duration
	Foreign bool // it is open by what is not ours: there is nothing to renew or to end
	Guest   bool // others need it too: it ends by itself
}

// entry is e with what h says.
func (h Hold) entry(e intent.Entry) intent.Entry {
	e.Lease, e.Rule, e.State, e.Until, e.Ends, e.Guest = h.Lease, h.Rule, intent.Open, h.Until, h.Ends, h.Guest
	e.Fresh = time.Time{}
	if !h.Foreign { // else it is not ours to rely on
		e.Fresh = h.Ends.Add(-min(margin, h.Length/4))
	}
	return e
}

// Direct opens the security groups themselves.
type Direct struct{ *Access }

var _ Opener = Direct{}

// Span implements Opener.
func (d Direct) Span(_ context.Context, door Door, q Request) (Span, error) {
	is, err := d.Decide(door, q)
	if err == nil {
		err = is.Err()
	}
	if err == nil {
		err = d.Reachable(door)
	}
	return Span{Length: is.Until.Sub(q.At), Latest: is.Latest}, err
}

// Admit implements Opener: nobody else is asked.
func (Direct) Admit(context.Context, Door, netip.Prefix) error { return nil }

// Lease implements Opener: each of a person's machines has one lease, whatever became of
// those before.
func (Direct) Lease(person, machine string) string { return person + "-" + machine }

// Open implements Opener.
func (d Direct) Open(ctx context.Context, door Door, e intent.Entry, length time.Duration, ready func()) (Hold, error) {
	o, err := d.Access.Open(ctx, door, e.Prefix, e.Lease, e.Person, length, ready)
	return holdOf(o, e, e.From, length), err
}

// Extend implements Opener.
func (d Direct) Extend(ctx context.Context, door Door, e intent.Entry, length time.Duration) (Hold, bool, error) {
	now := time.Now()
	o, there, err := d.extend(ctx, door, openedOf(door, e), length)
	return holdOf(o, e, now, length), there, err
}

// Lasting implements Opener.
func (d Direct) Lasting(ctx context.Context, door Door, e intent.Entry, h Hold, there bool, length time.Duration) (Hold, error) {
	o := openedOf(door, e)
	o.Lease.Until = h.Until
	o, err := d.lasting(ctx, door, o, there, length)
	return holdOf(o, e, h.Ends.Add(-length), length), err
}

// Release implements Opener.
func (d Direct) Release(ctx context.Context, door Door, e intent.Entry) error {
	return d.Access.Release(ctx, door, openedOf(door, e))
}

// holdOf is what o is of an entry, for length from a time by our clock.
func holdOf(o Opened, e intent.Entry, from time.Time, length time.Duration) Hold {
	return Hold{Lease: e.Lease, Rule: o.Rule.ID, Until: o.Lease.Until, Ends: from.Add(length), Length: length, Foreign: o.Foreign}
}

// openedOf is what an entry is of a rule.
func openedOf(door Door, e intent.Entry) Opened {
	l := securitygroup.Lease{ID: e.Lease, Person: e.Person, Until: e.Until}
	key, value := l.Tag()
	tags := securitygroup.ManagedTags()
	tags[key] = value
	return Opened{Lease: l, Rule: securitygroup.Rule{
		ID: e.Rule, Group: door.AWS.Group, Tags: tags,
		Permission: securitygroup.TCP(door.Port, securitygroup.Source{Prefix: e.Prefix}),
	}}
}
