package trial

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"sekisho/internal/printable"
)

const (
	proof  = 5 * time.Second        // that a login's connection must last
	spare  = 500 * time.Millisecond // before the kernel's end, to confirm in
	glance = time.Second            // between two looks whether it still does
)

// login is a login, as sshd's log has it.
type login struct {
	user string
	peer netip.AddrPort
	at   time.Time
}

func (l login) String() string {
	return fmt.Sprintf("the login of %s from %s port %d", printable.Text(l.user), l.peer.Addr(), l.peer.Port())
}

// Login tells of a successful login, as sshd's log has it. Only one through an
// armed rule set, newer than it, not from loopback, and open for some seconds more,
// confirms: 5 seconds after it, or just before the end where the trial ends sooner.
// It does not wait; with Request.ByHand it does nothing.
func (t *Trials) Login(_ context.Context, user string, peer netip.AddrPort, at time.Time) {
	tr := t.underWay()
	if tr == nil || tr.byHand {
		return
	}
	select {
	case tr.logins <- login{user, plain(peer), at}: // also while it is being armed
	default:
		t.log.Warn("too many logins at a time: one is not watched, and cannot confirm the trial", "peer", peer)
	}
}

// fits reports whether l can be proof at all. Some logs tell the time in whole
// seconds; that it came through the rules on trial, the kernel says.
func (tr *trial) fits(l login) bool {
	_, before := tr.before[l.peer]
	return !before && l.peer.IsValid() && !l.peer.Addr().IsLoopback() && !l.at.Before(tr.armed.Truncate(time.Second))
}

// watch has the trial confirmed by l if l came through it and lasts. It returns
// when that is settled, or ctx ends: the trial is over.
func (t *Trials) watch(ctx context.Context, tr *trial, l login) {
	for {
		seen, err := t.seen(ctx, l.peer)
		if err == nil && !seen {
			t.log.Info("a login did not come through the rules on trial", "peer", l.peer)
			return
		}
		if err == nil {
			break
		}
		t.log.Warn("the kernel does not say whether a login came through the rules on trial; asking again", "peer", l.peer, "error", err)
		if !pausing(ctx, glance) {
			return
		}
	}
	if !tr.ask(ctx, ask{login: l.String()}) {
		return
	}
	since := l.at
	if now := time.Now(); since.After(now) {
		since = now
	}
	for {
		rest := min(time.Until(since.Add(proof)), time.Until(tr.end().Add(-spare)))
		if rest > 0 && !pausing(ctx, min(rest, glance)) {
			return
		}
		c, cancel := bounded(ctx)
		alive, err := t.alive(c, l.peer)
		cancel()
		switch {
		case err != nil:
			t.log.Warn("cannot tell whether a login is still there; asking again", "peer", l.peer, "error", err)
		case !alive:
			tr.ask(ctx, ask{login: l.String(), gone: "it was closed too soon"})
			return
		case rest <= glance:
			if tr.confirm(ctx, l.String()) == nil {
				return
			}
		default:
			continue
		}
		if rest <= 0 && !pausing(ctx, pause) {
			return
		}
	}
}

// ask hands a to Run's goroutine; false: the trial is over.
func (tr *trial) ask(ctx context.Context, a ask) bool {
	select {
	case tr.asks <- a:
		return true
	case <-ctx.Done():
	case <-tr.over:
	}
	return false
}

// seen is firewall.Seen, bounded.
func (t *Trials) seen(ctx context.Context, peer netip.AddrPort) (bool, error) {
	c, cancel := bounded(ctx)
	defer cancel()
	return t.fw.Seen(c, peer)
}
