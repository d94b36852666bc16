package daemon

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"sekisho/internal/firewall"
	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/logsource"
	"sekisho/internal/printable"
	"sekisho/internal/sshlog"
	"sekisho/internal/store"
)

const (
	maxUser   = 64    // bytes of a user name that counts keep
	maxCounts = 20000 // distinct counts in hand; what comes after is summed without source and user

	// What is no ban is handed to the recorder when it is so much or so old: a
	// server that is attacked line by line would be busy with nothing else.
	handCounts = 1000
	handAfter  = 250 * time.Millisecond
)

// tally gathers what lines came to until it is handed to the recorder, together
// with the places in the logs that it reaches to.
type tally struct {
	bans    []lease.Lease
	onsets  []store.Onset
	notices []guard.Notice
	logins  []sshlog.Login
	counts  map[countKey]*countSum
	day     day
	moved   bool      // a log was read on
	handed  time.Time // when the recorder was last given something
}

type countKey struct {
	source netip.Addr
	user   string
	kind   sshlog.Kind
	day    int64 // Unix seconds of its local midnight
}

type countSum struct{ lines, attempts int }

func (t *tally) reset() {
	t.bans, t.onsets, t.notices, t.logins = t.bans[:0], t.onsets[:0], t.notices[:0], t.logins[:0]
	if len(t.counts) > handCounts {
		t.counts = nil // a map never shrinks
	}
	clear(t.counts)
	t.moved = false
}

// day remembers the local day of the last line: lines come in order.
type day struct{ from, to int64 }

func (d *day) of(unix int64) int64 {
	if unix < d.from || unix >= d.to {
		t := time.Unix(unix, 0)
		midnight := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.Local)
		d.from, d.to = midnight.Unix(), midnight.AddDate(0, 0, 1).Unix()
	}
	return d.from
}

// count adds an outcome to the day's counts.
func (t *tally) count(out *guard.Outcome, source netip.Addr, at time.Time) {
	user := out.User
	if len(user) > maxUser {
		user = user[:maxUser]
	}
	day := t.day.of(at.Unix())
	if sum, ok := t.counts[countKey{source, string(user), out.Event.Kind, day}]; ok {
		sum.lines++
		sum.attempts += out.Attempts
		return
	}
	key := countKey{source, string(user), out.Event.Kind, day}
	if len(t.counts) >= maxCounts {
		key = countKey{kind: key.kind, day: key.day}
	}
	sum := t.counts[key]
	if sum == nil {
		if t.counts == nil {
			t.counts = map[countKey]*countSum{}
		}
		sum = &countSum{}
		t.counts[key] = sum
	}
	sum.lines++
	sum.attempts += out.Attempts
}

// take is the way of an attack: every line through the guard, the bans into the
// kernel in one batch, then everything to the store together with the position.
func (d *Daemon) take(ctx context.Context, f *follower, b logsource.Batch) {
	read := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !b.Live {
		d.backlog = read
	}
	d.engine.SetReplay(b.Replay)
	var written time.Time // of the last line that brought a ban
	for i := range b.Lines {
		line := &b.Lines[i]
		d.engine.Observe(line, &d.out)
		at := read
		if line.Time != 0 {
			at = time.Unix(0, line.Time)
		}
		if b.Replay {
			d.onsets.add(&d.out, d.engine.Source(d.out.Addr), at, true)
			continue // its effects are in the store
		}
		d.heardLine(&d.out, line)
		if d.gather(ctx, &d.out, at) {
			written = at
		}
	}
	d.engine.SetReplay(false)
	f.took(b)
	if b.Forgeable > 0 && !d.cfg.Log.Forgeable {
		d.trouble["forgeable "+f.name] = problemOf("forgeable",
			f.name+" has lines as sshd -E and -e write them: clients can forge such lines, so they are left out",
			"have sshd log to syslog or the journal; log.forgeable: yes shows them, and still never bans on them")
	}
	if b.Replay {
		return
	}
	d.places[f.name], d.tally.moved = b.Position, true
	d.metrics.lines(f.name, b)
	d.carryOut(ctx, read, written)
	if len(d.tally.bans) > 0 || len(d.tally.logins) > 0 || len(d.tally.counts) > handCounts || read.Sub(d.tally.handed) > handAfter {
		d.handOver()
	}
}

// gather takes over what one outcome came to, and reports whether it brought a ban.
func (d *Daemon) gather(ctx context.Context, out *guard.Outcome, at time.Time) bool {
	d.tally.notices = append(d.tally.notices, out.Notices...)
	if out.Event.Kind != sshlog.None {
		d.metrics.event(out)
		source := d.engine.Source(out.Addr)
		d.onsets.add(out, source, at, false)
		if !out.Bare { // a client can forge such a line, a login's too
			d.tally.count(out, source.Addr(), at)
		}
		d.lately.add(out, source, at)
		if out.Event.Kind == sshlog.Accepted && out.Addr.IsValid() && !out.Bare {
			login := sshlog.Login{Addr: out.Addr, Port: out.Port, User: string(out.User), Method: out.Event.Method, Time: at}
			d.tally.logins = append(d.tally.logins, login)
			d.loggedIn(ctx, login)
			d.heardLogin(login)
		}
	}
	d.tally.bans = append(d.tally.bans, out.Bans...)
	d.tally.onsets = d.onsets.take(d.tally.onsets, out.Bans, d.cfg.Guard.FindTime, func(l lease.Lease) bool { return d.engine.Source(l.Prefix.Addr()) == l.Prefix })
	return len(out.Bans) > 0
}

// carryOut puts the gathered bans into the kernel, and only then tells of them.
// Called with d.mu held; bans are handed over before the next are gathered.
func (d *Daemon) carryOut(ctx context.Context, read, written time.Time) {
	if len(d.tally.bans) > 0 {
		if d.enforcing {
			if err := d.fw.Ban(ctx, kernelBans(d.tally.bans, time.Now())); err != nil {
				const what = "bans did not get into the kernel; trying again"
				if d.seldom(what) {
					d.log.Error(what, "bans", len(d.tally.bans), "error", err)
				}
				d.ask("a ban failed")
			}
		}
		d.metrics.banned(d.tally.bans, read, written)
		d.cutLater(d.tally.bans)
		d.heardBans(d.tally.bans, time.Now())
		d.newest.add(d.tally.bans...)
		for _, l := range d.tally.bans {
			d.log.Info("ban", "prefix", l.Prefix, "until", until(l), "cause", l.Cause, "attempts", l.Attempts, "count", l.Count, "reason", l.Reason, "enforced", d.enforcing)
		}
	}
	for _, n := range d.tally.notices {
		d.notice(n)
	}
	d.tally.notices = d.tally.notices[:0]
}

// handOver gives the recorder what was gathered, with the places in the logs:
// they are never apart. Called with d.mu held.
func (d *Daemon) handOver() {
	if !d.tally.moved && len(d.tally.bans) == 0 && len(d.tally.counts) == 0 {
		return
	}
	effects := store.Effects{Bans: d.tally.bans, Onsets: d.tally.onsets, Logins: d.tally.logins}
	if d.tally.moved {
		effects.Positions = make(map[string][]byte, len(d.places))
		for name, place := range d.places {
			raw, err := json.Marshal(place)
			if err != nil { // a Position holds numbers and strings only
				panic(err)
			}
			effects.Positions[name] = raw
		}
	}
	if len(d.tally.counts) > 0 {
		effects.Counts = make([]store.Count, 0, len(d.tally.counts))
		for k, sum := range d.tally.counts {
			effects.Counts = append(effects.Counts, store.Count{
				Day: time.Unix(k.day, 0).Format(time.DateOnly), Source: k.source, User: printable.Text(k.user), Country: d.located.country(k.source),
				Kind: k.kind.String(), Lines: sum.lines, Attempts: sum.attempts,
			})
		}
	}
	d.rec.Add(effects)
	d.tally.reset()
	d.tally.handed = time.Now()
}

// kernelBans are the leases still live at now, as the firewall takes them.
func kernelBans(leases []lease.Lease, now time.Time) []firewall.Ban {
	bans := make([]firewall.Ban, 0, len(leases))
	for _, l := range leases {
		switch left := l.Until.Sub(now); {
		case l.Until.IsZero():
			bans = append(bans, firewall.Ban{Prefix: l.Prefix})
		case left > 0:
			bans = append(bans, firewall.Ban{Prefix: l.Prefix, Left: left})
		}
	}
	return bans
}

// notice tells people what happened beside a ban.
func (d *Daemon) notice(n guard.Notice) {
	if n.Kind == guard.NoticeIneffective && !d.enforcing {
		return // of course: this is a dry run
	}
	d.metrics.notice(n.Kind)
	d.heardNotice(n)
	d.log.Warn("notice", "kind", n.Kind, "addr", n.Addr, "user", n.User, "what", n.Text, "meaning", noticeWords[n.Kind])
}

// noticeWords are what the notices' kinds mean to somebody woken up by them.
var noticeWords = map[string]string{
	guard.NoticeAccepted:    "a login after many failures: make sure that it was its owner",
	guard.NoticeSpared:      "an attacker was spared",
	guard.NoticeDistributed: "a distributed attack has begun",
	guard.NoticeIneffective: "a banned source still reaches sshd",
}

// until is the end of a ban for the log.
func until(l lease.Lease) string {
	if l.Until.IsZero() {
		return "without end"
	}
	return l.Until.Format(time.RFC3339)
}
