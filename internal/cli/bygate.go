package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/gate/api"
	gateclient "sekisho/internal/gate/client"
	"sekisho/internal/intent"
)

// byGate has the gate open the doors of passages. A grant's id begins with what names this
// machine: so it is known whose it is, whatever befell who asked for it. A gate has one
// grant for a person, a target and an address, so another machine behind the same address
// shares it, as does `sekisho open`: what those have made longer is left to end by itself.
type byGate struct {
	at      *atGate
	person  string
	machine string
	asking  asking
	say     func(string) // tells on stderr what is waited for

	mu   sync.Mutex
	door api.Door // as it was seen last
}

var _ access.Opener = (*byGate)(nil)

const (
	usualTime   = time.Hour       // that one asks for where nobody says, at most
	askAgain    = 2 * time.Second // how often it is looked whether somebody has said yes
	openAgain   = time.Second     // and whether what was asked for is in force
	withdrawing = 20 * time.Second
)

// is is the door as it was seen last.
func (b *byGate) is() api.Door {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.door
}

// approved reports whether somebody else has to say yes.
func (b *byGate) approved() bool { return len(b.is().Needs.Approval) > 0 && !b.asking.breaks }

// Span implements access.Opener. Whether it is allowed says the gate, which writes down whom
// it refused.
func (b *byGate) Span(_ context.Context, _ access.Door, q access.Request) (access.Span, error) {
	d := b.is()
	breaks := b.asking.breaks && d.Needs.BreakGlass
	if (d.Needs.Reason || b.asking.breaks) && b.asking.reason == "" {
		return access.Span{}, needsReason(d, b.asking)
	}
	s := access.Span{Length: usualTime, Latest: q.At.Add(usualTime), Whole: b.approved()}
	if d.AtMost > 0 {
		s.Length = min(s.Length, time.Duration(d.AtMost)*time.Second)
	}
	if !d.Until.IsZero() && !breaks {
		s.Latest = b.at.Here(d.Until)
		s.Length = min(s.Length, s.Latest.Sub(q.At))
	}
	if s.Whole { // nobody is asked for more
		s.Latest = q.At.Add(24 * time.Hour)
	}
	return s, nil
}

func needsReason(d api.Door, a asking) error {
	what := "it needs a reason, and none is given"
	if a.breaks {
		what = "whoever breaks the glass has to say why"
	}
	return withHint(fmt.Errorf("%s is not opened: %s", d.Target, what), "say why: --reason TEXT")
}

// Lease implements access.Opener.
func (b *byGate) Lease(string, string) string { return b.machine + rand.Text() }

// ours reports whether a grant was asked for by this machine's passages.
func (b *byGate) ours(id string) bool {
	return strings.HasPrefix(id, b.machine) && len(id) > len(b.machine)
}

// Admit implements access.Opener: where somebody has to say yes it waits for that.
func (b *byGate) Admit(ctx context.Context, door access.Door, prefix netip.Prefix) error {
	if !b.approved() {
		return nil
	}
	d, err := b.at.Door(ctx, door.Name) // some time may have gone by
	if err != nil {
		return err
	}
	b.seen(d)
	if _, there := b.live(prefix); there {
		return nil
	}
	g, err := b.at.Open(ctx, door.Name, api.OpenRequest{
		Address: prefix.Addr(), Seconds: int64(b.whole() / time.Second), Reason: b.asking.reason, Lease: b.Lease("", ""),
	})
	if err == nil && g.State == api.Waiting {
		g, err = b.await(ctx, g)
	}
	if err != nil {
		return err
	}
	d.Grants = append(d.Grants, g)
	b.seen(d)
	return nil
}

func (b *byGate) whole() time.Duration {
	if most := time.Duration(b.is().AtMost) * time.Second; most > 0 && most < usualTime {
		return most
	}
	return usualTime
}

func (b *byGate) seen(d api.Door) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.door = d
}

// live is the grant of ours that lets prefix in for a while yet.
func (b *byGate) live(prefix netip.Prefix) (api.Grant, bool) {
	for _, g := range b.is().Grants {
		if g.Person == b.person && g.Prefix == prefix && (g.State == api.Open || g.State == api.Asked) && time.Until(b.at.Here(g.Until)) > openAgain {
			return g, true
		}
	}
	return api.Grant{}, false
}

// await waits for somebody's yes. What this machine asked for is withdrawn where ctx ends.
func (b *byGate) await(ctx context.Context, g api.Grant) (api.Grant, error) {
	b.say(waitsFor(g, b.is()) + "; Ctrl-C withdraws it")
	now, err := b.at.follow(ctx, g)
	if err != nil && ctx.Err() != nil && b.ours(g.ID) {
		return now, errors.Join(err, b.at.withdraw(ctx, g))
	}
	if err == nil {
		b.say(fmt.Sprintf("%s said yes", now.Approver))
	}
	return now, err
}

// waitsFor says what a grant waits for.
func waitsFor(g api.Grant, d api.Door) string {
	return fmt.Sprintf("%s waits for a yes of %s: request %s", g.Target, either(d.Needs.Approval), g.ID)
}

// follow waits until a grant does not wait for a yes any more.
func (at *atGate) follow(ctx context.Context, g api.Grant) (api.Grant, error) {
	g, err := at.Follow(ctx, g, askAgain, func(g api.Grant) bool { return g.State != api.Waiting })
	if err != nil {
		return g, err
	}
	return g, over(g)
}

// over is why a grant has ended; nil: it has not.
func over(g api.Grant) error {
	if g.State != api.Ended && g.State != api.Ending {
		return nil
	}
	why := g.Why
	switch g.Why {
	case "denied":
		why = g.Approver + " said no"
		if g.Error != "" {
			why += ": " + g.Error
		}
	case "withdrawn":
		why = "it was withdrawn"
	case "expired":
		why = "nobody answered in time"
		if !g.Opened.IsZero() {
			why = "its time is over"
		}
	case "failed":
		why = g.Error
	case "":
		why = "it was shut"
	}
	return fmt.Errorf("%s is not open: %s", g.Target, why)
}

// withdraw takes back what was asked for, also where ctx has ended.
func (at *atGate) withdraw(ctx context.Context, g api.Grant) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawing)
	defer cancel()
	if _, err := at.Close(ctx, g.ID); err != nil && !gateclient.IsCode(err, api.NotFound) {
		return fmt.Errorf("withdraw request %s: %w", g.ID, err)
	}
	return nil
}

// Open implements access.Opener.
func (b *byGate) Open(ctx context.Context, door access.Door, e intent.Entry, length time.Duration, ready func()) (access.Hold, error) {
	if b.approved() {
		if g, there := b.live(e.Prefix); there {
			return b.inForce(ctx, g, 0, ready)
		}
	}
	asked := b.seconds(length)
	g, err := b.at.Open(ctx, door.Name, api.OpenRequest{
		Address: e.Prefix.Addr(), Seconds: asked, Reason: b.asking.reason, Break: b.asking.breaks, Lease: e.Lease,
	})
	if err != nil {
		return access.Hold{}, err
	}
	if g.State == api.Waiting { // that was not so a moment ago
		err := fmt.Errorf("%s needs somebody's yes now", door.Name)
		if b.ours(g.ID) {
			err = errors.Join(err, b.at.withdraw(ctx, g))
		}
		return access.Hold{}, withHint(err, "ask once more")
	}
	return b.inForce(ctx, g, time.Duration(asked)*time.Second, ready)
}

// seconds are whole ones, and not more than may be asked for.
func (b *byGate) seconds(length time.Duration) int64 {
	n := max(1, int64(length/time.Second))
	if most := b.is().AtMost; most > 0 {
		n = min(n, most)
	}
	return n
}

// inForce waits until a grant is in force. One that lasts for longer than was asked for (0:
// nothing was) is there for others, too.
func (b *byGate) inForce(ctx context.Context, g api.Grant, asked time.Duration, ready func()) (access.Hold, error) {
	ready() // it may be in force before that is known
	if g.State == api.Asked {
		var err error
		if g, err = b.at.Follow(ctx, g, openAgain, func(g api.Grant) bool { return g.State != api.Asked }); err != nil {
			return access.Hold{}, err
		}
	}
	if err := over(g); err != nil {
		return access.Hold{}, err
	}
	ready()
	const unsure = 2 * time.Second // how far the gate's clock is ahead is known to the second
	return b.hold(g, asked > 0 && time.Until(b.at.Here(g.Until)) > asked+unsure), nil
}

func (b *byGate) hold(g api.Grant, guest bool) access.Hold {
	ends := b.at.Here(g.Until)
	return access.Hold{
		Lease: g.ID, Rule: g.Rule, Until: g.Until, Ends: ends, Length: max(0, time.Until(ends)),
		Foreign: g.Foreign, Guest: guest || !b.ours(g.ID),
	}
}

// Extend implements access.Opener.
func (b *byGate) Extend(ctx context.Context, door access.Door, e intent.Entry, length time.Duration) (access.Hold, bool, error) {
	g, there, err := b.now(ctx, e)
	if err != nil || !there {
		return access.Hold{Lease: e.Lease}, false, err
	}
	guest := e.Guest || g.Until.After(e.Until) // others have made it longer
	if b.approved() || time.Until(b.at.Here(g.Until)) >= length {
		return b.hold(g, guest), true, nil
	}
	g, err = b.at.Extend(ctx, e.Lease, time.Duration(b.seconds(length))*time.Second)
	switch {
	case gateclient.IsCode(err, api.NotFound), gateclient.IsCode(err, api.Conflict): // it ended meanwhile
		return access.Hold{Lease: e.Lease}, false, nil
	case err != nil:
		return access.Hold{}, false, err
	}
	return b.hold(g, guest), true, nil
}

// now is the grant of an entry, where it is still there.
func (b *byGate) now(ctx context.Context, e intent.Entry) (api.Grant, bool, error) {
	g, err := b.at.Grant(ctx, e.Lease)
	if gateclient.IsCode(err, api.NotFound) {
		return g, false, nil
	}
	return g, err == nil && g.State != api.Ended && g.State != api.Ending, err
}

// Lasting implements access.Opener: what a gate has said lasts.
func (b *byGate) Lasting(ctx context.Context, door access.Door, e intent.Entry, h access.Hold, there bool, length time.Duration) (access.Hold, error) {
	if there {
		return h, nil
	}
	if b.approved() { // nobody is asked for a yes that was not asked for by hand
		return access.Hold{Lease: e.Lease, Foreign: true}, nil
	}
	e.Lease = b.Lease("", "")
	return b.Open(ctx, door, e, length, func() {})
}

// Release implements access.Opener.
func (b *byGate) Release(ctx context.Context, _ access.Door, e intent.Entry) error {
	if e.Guest || !b.ours(e.Lease) {
		return nil
	}
	g, there, err := b.now(ctx, e)
	if err != nil || !there {
		return err
	}
	if !e.Fresh.IsZero() && g.Until.After(e.Until) { // others have made it longer
		return nil
	}
	g, err = b.at.Close(ctx, e.Lease)
	switch {
	case gateclient.IsCode(err, api.NotFound), gateclient.IsCode(err, api.Conflict):
		return nil
	case err != nil:
		return err
	case g.State == api.Ending && g.Error != "":
		return fmt.Errorf("the gate has not got it shut yet: %s", g.Error)
	}
	return nil
}
