package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/durable"
	"sekisho/internal/firewall"
	"sekisho/internal/guard"
	"sekisho/internal/hardening"
	"sekisho/internal/herald"
	"sekisho/internal/lease"
	"sekisho/internal/notify"
	"sekisho/internal/notify/channels"
	"sekisho/internal/notify/courier"
	"sekisho/internal/notify/message"
	"sekisho/internal/printable"
	"sekisho/internal/rdap"
	"sekisho/internal/sshlog"
	"sekisho/internal/trial"
)

// teller tells people what happens: a herald decides what is worth it, a courier takes it
// to the channels that the configuration has. Whoever calls it never waits.
type teller struct {
	host    string
	courier atomic.Pointer[courier.Courier] // nil: nobody is told
	herald  *herald.Herald                  // guarded by Daemon.mu; nil: nobody is told
	kick    chan chan struct{}              // closed when it was looked
	begun   chan struct{}                   // closed when there is who is told of what the logs say, and knows earlier logins
	known   map[string]toldProblem          // by key; of watchProblems alone
	absent  map[string]time.Time            // since when a log was not seen, by its problem's key; of watchProblems alone
}

// toldProblem is a problem that people were told of.
type toldProblem struct {
	Problem
	at   time.Time // when they were told of it last
	over bool      // what they were told
}

// loginsKept is how far back it is known from where somebody logged in.
const loginsKept = 90 * 24 * time.Hour

// problemsEvery is how often it is looked for what has gone wrong, or is well again.
const problemsEvery = 5 * time.Second

func newTeller() teller {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return teller{host: printable.Text(host), kick: make(chan chan struct{}, 1), begun: make(chan struct{}), known: map[string]toldProblem{}, absent: map[string]time.Time{}}
}

// tell hands an event to the courier, if there is one.
func (t *teller) tell(e notify.Event) {
	if c := t.courier.Load(); c != nil {
		e.Host = t.host
		e.Time = cmp.Or(e.Time, time.Now())
		c.Tell(e)
	}
}

// tellPeople takes what there is to tell to the channels of the configuration, and follows
// it, and the files that it has secrets in.
func (d *Daemon) tellPeople(ctx context.Context) error {
	var now config.Notify
	var recalled *herald.Herald
	stop := func() {}
	defer func() { stop() }()
	owners := rdap.New(rdap.Options{Logger: d.log})
	var looked chan struct{}
	for first := true; ; first = false {
		d.mu.Lock()
		next := d.cfg.Notify
		d.mu.Unlock()
		whole, unread := next.WithSecrets()
		if first || unread != nil || !reflect.DeepEqual(now, whole) {
			now, stop = whole, d.beginTelling(ctx, whole, unread, owners, stop)
		}
		recalled = d.recall(ctx, recalled)
		if first {
			close(d.teller.begun)
		} else {
			close(looked)
		}
		select {
		case <-ctx.Done():
			return nil
		case looked = <-d.teller.kick:
		}
	}
}

// tellingMayDiffer has tellPeople look at what is asked for, and waits for it: what happens
// next is told as the file says now. Not for long, as a courier that ends may wait for a server.
func (d *Daemon) tellingMayDiffer() {
	looked := make(chan struct{})
	select {
	case d.teller.kick <- looked:
	default:
		return // it has yet to look
	}
	select {
	case <-d.teller.begun:
	default:
		return // it looks when it begins
	}
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	select {
	case <-looked:
	case <-d.running.Done():
	case <-patience.C:
	}
}

// beginTelling starts a courier for cfg, which has its secrets but those of unread, and ends
// the one before by last. What happens meanwhile the new one is told. stop ends it, and keeps
// what waits.
func (d *Daemon) beginTelling(ctx context.Context, cfg config.Notify, unread error, owners *rdap.Client, last func()) (stop func()) {
	open, unusable := channels.Of(cfg, d.teller.host)
	if err := errors.Join(unread, unusable); err != nil {
		wrong := withoutHints(err)
		d.log.Error("not all channels can be used", "error", wrong)
		d.problem("notify", wrong, "mend it, then `sekisho reload`; `sekisho notify test` tries each channel")
	} else {
		d.solved("notify")
	}
	o := courier.Options{Dir: filepath.Join(d.opts.StateDir, "outbox"), Channels: open, Logger: d.log}
	if cfg.Lookup {
		o.Owner = owners.Lookup
	}
	stop = d.teller.hand(ctx, o, last)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case len(open) == 0:
		d.teller.herald = nil
	case d.teller.herald == nil: // what it remembers outlives a reload
		d.teller.herald = herald.New(herald.Options{
			Host: d.teller.host, Tell: d.teller.tell,
			Country: func(a netip.Addr) string { return d.located.country(a) },
			Exact:   d.exactCountry,
		})
	}
	return stop
}

// hand has a courier of o take what there is to tell, and ends the one before by last. Where
// o has no channels nobody is told. stop ends it, and keeps what waits.
func (t *teller) hand(ctx context.Context, o courier.Options, last func()) (stop func()) {
	if len(o.Channels) == 0 {
		t.courier.Store(nil)
		last()
		return func() {}
	}
	o.Write = func(events []notify.Event, more int, language config.Language, id string) notify.Message {
		return message.Of(events, more, message.Options{Language: language, ID: id})
	}
	c := courier.New(o)
	t.courier.Store(c)
	last()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx) // it has no errors but those that it logs
	}()
	return func() {
		cancel()
		<-done
	}
}

// withoutHints is what is wrong, on one line.
func withoutHints(err error) string {
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line != "" && !strings.HasPrefix(line, "hint: ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// recall has a herald that is another one than last know from where people logged in.
func (d *Daemon) recall(ctx context.Context, last *herald.Herald) *herald.Herald {
	d.mu.Lock()
	h := d.teller.herald
	d.mu.Unlock()
	if h == nil || h == last {
		return h
	}
	seen, err := d.seenLogins(ctx)
	if err != nil {
		d.log.Warn("earlier logins cannot be read; nobody is known yet", "error", err)
	}
	if len(seen) > 0 {
		if _, err := d.index(); err != nil {
			d.log.Error("the country data cannot be read; nobody is known by country yet", "error", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range seen {
		h.Seen(l)
	}
	return h
}

// exactCountry is located's answer, or, where there is no index for want of attackers, one
// that takes milliseconds. Called with d.mu held.
func (d *Daemon) exactCountry(a netip.Addr) string {
	if d.located.places != nil || d.countries == nil {
		return d.located.country(a)
	}
	code, _, ok, err := d.countries.Lookup(a)
	if err != nil || !ok {
		return ""
	}
	return code.String()
}

// keepTold keeps what was told since the courier ended.
func (d *Daemon) keepTold() {
	if c := d.teller.courier.Load(); c != nil {
		c.Keep()
	}
}

func (d *Daemon) seenLogins(ctx context.Context) (logins []sshlog.Login, err error) {
	err = d.store.Logins(ctx, time.Now().Add(-loginsKept), func(l sshlog.Login) error {
		logins = append(logins, l)
		return nil
	})
	return logins, err
}

// heardLine gives the herald what a line came to. Called with d.mu held.
func (d *Daemon) heardLine(out *guard.Outcome, l *sshlog.Line) {
	if h := d.teller.herald; h != nil && out.Addr.IsValid() && !out.Bare {
		h.Line(out, d.engine.Source(out.Addr), l)
	}
}

// heardBans, heardUnbans, heardLogin, heardNotice and heardTime give the herald the rest.
// Called with d.mu held.
func (d *Daemon) heardBans(bans []lease.Lease, now time.Time) {
	if h := d.teller.herald; h != nil {
		h.Banned(bans, d.enforcing, now)
	}
}

func (d *Daemon) heardUnbans(lifted []lease.Lease, by string) {
	if h := d.teller.herald; h != nil {
		h.Unbanned(lifted, by, time.Now())
	}
}

func (d *Daemon) heardLogin(l sshlog.Login) {
	if h := d.teller.herald; h != nil {
		h.LoggedIn(l)
	}
}

func (d *Daemon) heardNotice(n guard.Notice) {
	if h := d.teller.herald; h != nil {
		h.Notice(n, time.Now())
	}
}

func (d *Daemon) heardTime(now time.Time) {
	if h := d.teller.herald; h != nil {
		h.Advance(now)
	}
}

// tellTrial tells of the steps of a trial that people wait for.
func (d *Daemon) tellTrial(e trial.Event) {
	n := notify.Event{Kind: notify.Trial, Level: notify.Info}
	switch e.Stage {
	case trial.Armed:
		n.State, n.Key = notify.Began, fmt.Sprintf("%d began", e.Generation)
		n.What = fmt.Sprintf("rule set %d is on trial until %s", e.Generation, e.Until.Local().Format(time.TimeOnly))
		n.Remedy = "confirm it by a new login; or: sekisho revert"
	case trial.Confirmed:
		n.State = notify.Confirmed
		n.What = fmt.Sprintf("rule set %d was confirmed (%s)", e.Generation, cmp.Or(e.By, "nobody said by whom"))
	case trial.Reverted:
		n.State, n.Level = notify.Reverted, notify.Warning
		n.What = fmt.Sprintf("rule set %d was reverted (%s): the one before holds", e.Generation, cmp.Or(e.By, "it was not confirmed in time"))
		n.Remedy = "see what it would have changed: sekisho plan"
	default:
		return
	}
	d.teller.tell(n)
}

// tellChange tells of a foreign change of our rules that is undone.
func (d *Daemon) tellChange(c firewall.Change, times int) {
	d.teller.tell(notify.Event{
		Kind: notify.Drift, Level: notify.Warning, Key: c.Process,
		What:   fmt.Sprintf("%q (pid %d) changed our rules, %d times lately: %s; they are put back", printable.Text(c.Process), c.PID, times, c.What),
		Remedy: "find what runs it, and have it leave the table inet sekisho alone",
	})
}

// tellGroup tells of what is wrong in a security group.
func (d *Daemon) tellGroup(f access.Finding, key string) {
	level := notify.Warning
	if f.Severity == access.Critical {
		level = notify.Alarm
	}
	d.teller.tell(notify.Event{Kind: notify.GroupFinding, Level: level, Key: key, What: f.What + ": " + f.Why, Remedy: f.Remedy})
}

// problemKinds are the events that problems are, by their keys' first words. What is not
// here is notify.Degraded.
var problemKinds = map[string]notify.Kind{
	"fill": notify.Conntrack, "conntrack": notify.Conntrack,
	"country": notify.Country,
	"stuck":   notify.LeaseStuck, "unseen": notify.LeaseStuck,
	"drift": notify.Drift,
}

// watchProblems tells of what has gone wrong, and of what is well again.
func (d *Daemon) watchProblems(ctx context.Context) error {
	ticks := time.NewTicker(problemsEvery)
	defer ticks.Stop()
	sshd := hardening.New(hardening.Options{StateDir: d.opts.StateDir, Logger: d.log})
	var trial hardening.Pending
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
			now := time.Now()
			d.watchChannels(now)
			if d.teller.courier.Load() != nil {
				trial = d.watchSSHD(ctx, sshd, trial)
				d.tellProblems(d.problems(now), now)
			}
		}
	}
}

// watchSSHD tells of a trial of sshd, which is a command's and not ours, when it has begun
// and when it is over. It returns the one under way; last is the one before.
func (d *Daemon) watchSSHD(ctx context.Context, sshd *hardening.Host, last hardening.Pending) hardening.Pending {
	is, under, err := sshd.Pending(ctx)
	if err != nil || under && is.Began.Equal(last.Began) { // what cannot be read now is not over
		return last
	}
	if !last.Began.IsZero() {
		d.tellSSHD(ctx, sshd, last)
	}
	if !under {
		return hardening.Pending{}
	}
	d.teller.tell(notify.Event{
		Kind: notify.Trial, Level: notify.Info, State: notify.Began,
		What:   fmt.Sprintf("sshd is on trial (%s) until %s, begun by %s", is.Step, is.Until.Local().Format(time.TimeOnly), printable.Text(is.By)),
		Remedy: "confirm it by a new login through the new port; or: sekisho revert",
	})
	return is
}

// tellSSHD tells how a trial of sshd ended.
func (d *Daemon) tellSSHD(ctx context.Context, sshd *hardening.Host, trial hardening.Pending) {
	e := notify.Event{Kind: notify.Trial, Level: notify.Info, State: notify.Over, What: fmt.Sprintf("the trial of sshd (%s) is over", trial.Step), Remedy: "sekisho status"}
	switch stage, by, ok, err := sshd.Outcome(ctx); {
	case err != nil || !ok:
	case stage == hardening.Confirmed:
		e.State, e.What, e.Remedy = notify.Confirmed, fmt.Sprintf("sshd's change (%s) was confirmed (%s)", trial.Step, printable.Text(by)), ""
	case stage == hardening.Reverted:
		e.Level, e.State, e.Remedy = notify.Warning, notify.Reverted, "see what it would have changed: sekisho plan"
		e.What = fmt.Sprintf("sshd's change (%s) was reverted (%s): its files are as before", trial.Step, printable.Text(by))
	}
	d.teller.tell(e)
}

// deadAfter is how long a channel may fail until that is a problem: a mail server may be
// started anew.
const deadAfter = 10 * time.Minute

// watchChannels makes a problem of each channel by which somebody is not reached.
func (d *Daemon) watchChannels(now time.Time) {
	const key = "notify "
	dead := map[string]Problem{}
	for _, c := range d.channelStatus() {
		if c.Error != "" && now.Sub(c.Since) >= deadAfter {
			dead[key+c.Channel] = problemOf(key+c.Channel,
				fmt.Sprintf("messages by %s fail since %s (%d events wait): %s", c.Channel, c.Since.Local().Format("2006-01-02 15:04"), c.Waiting, c.Error),
				"sekisho notify test "+c.Channel)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.trouble, func(k string, _ Problem) bool { return strings.HasPrefix(k, key) }) // also of channels that are no more
	maps.Copy(d.trouble, dead)
}

// absentAfter is how long a log may be away until people are told: one that was rotated
// may come back with its next line.
const absentAfter = 10 * time.Minute

// problems are those of the moment that people are told of, by key.
func (d *Daemon) problems(at time.Time) map[string]Problem {
	now := map[string]Problem{}
	if err := d.rec.Degraded(); err != nil {
		now["unwritten"] = unwritten(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.Copy(now, d.trouble)
	absent := d.absentLogs()
	maps.DeleteFunc(d.teller.absent, func(key string, _ time.Time) bool { _, still := absent[key]; return !still })
	for key, p := range absent {
		since, ok := d.teller.absent[key]
		if !ok {
			since, d.teller.absent[key] = at, at
		}
		if at.Sub(since) >= absentAfter {
			now[key] = p
		}
	}
	var s Status
	d.conntrackStatus(&s)
	for _, p := range s.Problems {
		now["conntrack "+p.Remedy] = p // the text has figures that change
	}
	return now
}

// comesBack is how long a problem that is over is not told of again: one that comes and
// goes would be told all the time. If it stays it is told then. It is longer than a courier
// takes two events of one key for the same.
const comesBack = 11 * time.Minute

// tellProblems tells of what differs from what people believe.
func (d *Daemon) tellProblems(problems map[string]Problem, now time.Time) {
	known := d.teller.known
	for key, p := range problems {
		was, told := known[key]
		worse := told && p.Severity == Critical && was.Severity != Critical
		if told && !worse && (!was.over || now.Sub(was.at) < comesBack) {
			continue
		}
		e := notify.Event{Kind: kindOf(key), Level: notify.Warning, State: notify.Began, Key: key, What: p.What, Remedy: p.Remedy}
		if p.Severity == Critical {
			e.Level = notify.Alarm
		}
		if worse {
			e.Key += " worse" // else it is what was told already
		}
		d.teller.tell(e)
		known[key] = toldProblem{p, now, false}
	}
	for key, was := range known {
		switch _, still := problems[key]; {
		case still:
		case !was.over:
			d.teller.tell(notify.Event{Kind: kindOf(key), Level: notify.Info, State: notify.Over, Key: key + " over", What: "it is over: " + was.What})
			known[key] = toldProblem{was.Problem, now, true}
		case now.Sub(was.at) >= comesBack:
			delete(known, key)
		}
	}
}

func kindOf(key string) notify.Kind {
	word, _, _ := strings.Cut(key, " ")
	if k, ok := problemKinds[word]; ok {
		return k
	}
	return notify.Degraded
}

// weeklyEvery is how often it is looked whether the weekly report is due.
const weeklyEvery = 10 * time.Minute

// tellWeekly sends the report of the week gone by, on Mondays from 08:00 on, or as soon
// after that as we run.
func (d *Daemon) tellWeekly(ctx context.Context) error {
	ticks := time.NewTicker(weeklyEvery)
	defer ticks.Stop()
	for {
		d.mu.Lock()
		asked, language := d.cfg.Notify.Weekly, d.cfg.Notify.Language
		d.mu.Unlock()
		if asked && d.teller.courier.Load() != nil {
			if err := d.sendWeekly(ctx, language, time.Now()); err != nil && ctx.Err() == nil {
				d.log.Warn("the weekly report could not be made; it is tried again", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

func (d *Daemon) sendWeekly(ctx context.Context, language config.Language, now time.Time) error {
	week := weekOf(now)
	path := filepath.Join(d.opts.StateDir, "outbox", "weekly")
	sent, err := os.ReadFile(path)
	if string(sent) == week {
		return nil
	}
	first := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if first { // a report of the week in which it was switched on would be of nothing
		return durable.Replace(path, []byte(week), nil)
	}
	r, err := d.reportUntil(ctx, 7, mondayOf(now).Add(-time.Second))
	if err == nil {
		err = durable.Replace(path, []byte(week), nil) // before it is told: a full disk would have it told each time
	}
	if err != nil {
		return err
	}
	d.teller.tell(notify.Event{Kind: notify.Report, Level: notify.Info, What: r.Subject(config.English), Report: &notify.ReportText{
		Subject: r.Subject(language), Text: r.Text(language), HTML: r.HTML(language),
	}})
	return nil
}

// weekOf names the week in which the report of the one before is due at t: it begins on
// Monday at 08:00.
func weekOf(t time.Time) string {
	year, week := t.Add(-8 * time.Hour).ISOWeek()
	return fmt.Sprintf("%d-W%02d", year, week)
}

// mondayOf is when that week's Monday begins.
func mondayOf(t time.Time) time.Time {
	t = t.Add(-8 * time.Hour)
	since := (int(t.Weekday()) + 6) % 7 // days
	return time.Date(t.Year(), t.Month(), t.Day()-since, 0, 0, 0, 0, t.Location())
}

// ChannelStatus is how a channel does that people are told by.
type ChannelStatus = courier.Stat

// channelStatus is how the channels do.
func (d *Daemon) channelStatus() []ChannelStatus {
	c := d.teller.courier.Load()
	if c == nil {
		return []ChannelStatus{}
	}
	return slices.Clone(c.Stats())
}
