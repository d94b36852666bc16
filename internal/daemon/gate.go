package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sekisho/internal/conntrack"
	"sekisho/internal/durable"
	"sekisho/internal/firewall"
	"sekisho/internal/gate/agent"
	"sekisho/internal/lease"
	"sekisho/internal/store"
)

// The gate's host: it has people let in here whom the gate says, where `gate.url` is set and
// the host was enrolled there.

const (
	gateMarker = "gate.json"
	gateFormat = 1
	maxMarker  = 64 << 10
	// gateAway is how long the gate may be away until that is a problem: one that is
	// started anew comes back.
	gateAway  = 5 * time.Minute
	gateLooks = 10 * time.Second
)

// Enrolment is where this host was enrolled, as what, and by which key. It is kept in the
// state directory.
type Enrolment struct {
	URL  string `json:"url"`
	Host string `json:"host"`
	Key  string `json:"key"` // the file of the private key
}

// Enrolled reads where this host was enrolled; the zero value: nowhere.
func Enrolled(stateDir string) (Enrolment, error) {
	f, err := os.Open(filepath.Join(stateDir, gateMarker))
	if errors.Is(err, fs.ErrNotExist) {
		return Enrolment{}, nil
	}
	if err != nil {
		return Enrolment{}, fmt.Errorf("read where this host is enrolled: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxMarker))
	if err != nil {
		return Enrolment{}, fmt.Errorf("read where this host is enrolled: %w", err)
	}
	var e Enrolment
	if err := durable.Unseal(text, "gate", gateFormat, &e); err != nil {
		return Enrolment{}, fmt.Errorf("read where this host is enrolled, in %s: %w", f.Name(), err)
	}
	return e, nil
}

// NoteEnrolled writes where this host was enrolled. A daemon that runs looks at it when it
// is told to, and within a minute.
func NoteEnrolled(stateDir string, e Enrolment) error {
	text, err := durable.Seal("gate", gateFormat, e)
	if err == nil {
		err = os.MkdirAll(stateDir, 0o700)
	}
	if err == nil {
		err = durable.Replace(filepath.Join(stateDir, gateMarker), text, nil)
	}
	if err != nil {
		return fmt.Errorf("note where this host is enrolled: %w", err)
	}
	return nil
}

// MayEnrol says why NoteEnrolled would fail, as far as that can be told.
func MayEnrol(stateDir string) error {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return fmt.Errorf("note where this host is enrolled: %w", err)
	}
	f, err := os.CreateTemp(stateDir, "."+gateMarker)
	if err != nil {
		return fmt.Errorf("note where this host is enrolled: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// GateStatus is how it goes with the gate.
type GateStatus struct {
	URL        string    `json:"url"`
	Host       string    `json:"host"` // what the gate calls this one
	Connected  bool      `json:"connected"`
	Since      time.Time `json:"since"`          // when it connected, or when it was lost
	Grants     int       `json:"grants"`         // of the gate's, in force
	Waiting    int       `json:"grants_waiting"` // that it asks for, and that are not
	Why        string    `json:"why,omitempty"`  // one of those is not
	Reconnects int64     `json:"reconnects"`
	Error      string    `json:"error,omitempty"` // why it is not connected
}

// gated is the gate's part of the daemon. Guarded by the daemon's lock.
type gated struct {
	agent *agent.Agent // nil: there is none
	where Enrolment
	taken map[string]netip.Prefix // ids that were taken back here: the gate does not get them back
	unput map[netip.Prefix]bool   // prefixes that the kernel could not be given
}

// gating is what there is to follow. The zero value: nothing.
type gating struct {
	Enrolment
	ca string
}

// gateMayDiffer has followGate look at what is asked for.
func (d *Daemon) gateMayDiffer() {
	select {
	case d.gateKick <- struct{}{}:
	default:
	}
}

// followGate keeps an agent where this host is one of a gate's, and follows the
// configuration in that.
func (d *Daemon) followGate(ctx context.Context) error {
	looks := time.NewTicker(gateLooks)
	defer looks.Stop()
	var now gating
	stop := func() {}
	defer func() { stop() }()
	for {
		if next, ok := d.gating(); ok {
			if next != now {
				stop()
				if now, stop = next, d.beginGate(ctx, next); !d.hasAgent() {
					now = gating{} // it is tried again
				}
			}
			d.watchGate(time.Now())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.gateKick:
		case <-looks.C:
		}
	}
}

// gating is what is asked for now; ok is false where that cannot be told.
func (d *Daemon) gating() (next gating, ok bool) {
	d.mu.Lock()
	cfg := d.cfg
	d.mu.Unlock()
	if cfg.Gate.URL == "" {
		d.solved("gate")
		return gating{}, true
	}
	e, err := Enrolled(d.opts.StateDir)
	switch {
	case err != nil:
		d.problem("gate", err.Error(), "enrol the host anew: sekisho gate enrol")
		return gating{}, false
	case e.URL == "":
		d.solved("gate")
		return gating{}, true // gate.url is for who works here
	case e.URL != cfg.Gate.URL:
		d.problem("gate", fmt.Sprintf("this host is enrolled at %s, and gate.url is %s: it follows neither", e.URL, cfg.Gate.URL), "enrol it there: sekisho gate enrol")
		return gating{}, true
	}
	return gating{e, cfg.Gate.CA}, true
}

func (d *Daemon) hasAgent() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gate.agent != nil
}

// beginGate follows the gate from now on. stop ends that, and waits until it has; what is
// granted stays, and ends by itself.
func (d *Daemon) beginGate(ctx context.Context, g gating) (stop func()) {
	d.mu.Lock()
	d.gate.agent, d.gate.where = nil, Enrolment{}
	d.mu.Unlock()
	if g.URL == "" {
		return func() {}
	}
	_, signer, err := agent.LoadKey(g.Key)
	if err != nil {
		if d.rarely("the gate's key") {
			d.log.Error("the gate is not followed", "error", err)
		}
		d.problem("gate", "the gate is not followed: "+err.Error(), "let the daemon read the key, or enrol the host by another: sekisho gate enrol --key FILE")
		return func() {}
	}
	a := agent.New(agent.Options{URL: g.URL, CA: g.ca, Name: g.Host, Version: d.opts.Version, Signer: signer, Host: gateHost{d}, Logger: d.log})
	d.mu.Lock()
	d.gate.agent, d.gate.where = a, g.Enrolment
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = a.Run(ctx) // it ends with ctx alone
	}()
	return func() {
		cancel()
		<-over
	}
}

// watchGate makes a problem of a gate that is away, and of grants that are not in force.
func (d *Daemon) watchGate(now time.Time) {
	s, hint := d.gateStatus()
	if s == nil {
		d.solved("gate waiting")
		return
	}
	if s.Connected || now.Sub(s.Since) < gateAway {
		d.solved("gate")
	} else {
		d.problem("gate", fmt.Sprintf("there is no stream from the gate since %s, so whom it lets in and out does not come here: %s", s.Since.Local().Format("2006-01-02 15:04"), s.Error), hint)
	}
	if s.Waiting == 0 {
		d.solved("gate waiting")
	} else {
		d.problem("gate waiting", fmt.Sprintf("%d of the gate's grants are not in force here: %s", s.Waiting, s.Why), "sekisho status tells what is in force; see docs/firewall.md, The gate")
	}
}

// gateStatus is how it goes with the gate, nil where there is none, and what to do where it
// is away.
func (d *Daemon) gateStatus() (_ *GateStatus, hint string) {
	d.mu.Lock()
	a, where := d.gate.agent, d.gate.where
	d.mu.Unlock()
	if a == nil {
		return nil, ""
	}
	s := a.Status()
	if hint = s.Hint; hint == "" {
		hint = "see that the gate runs, and that this host reaches " + where.URL
	}
	return &GateStatus{
		URL: where.URL, Host: where.Host, Connected: s.Connected, Since: s.Since.Truncate(time.Second),
		Grants: s.InForce, Waiting: s.Waiting, Why: s.Why, Reconnects: s.Reconnects, Error: s.Error,
	}, hint
}

// writeGate writes the gate's figures, where there is one.
func (d *Daemon) writeGate(w io.Writer) {
	s, _ := d.gateStatus()
	if s == nil {
		return
	}
	connected := uint64(0)
	if s.Connected {
		connected = 1
	}
	metrics.WriteGaugeUint64(w, "sekisho_gate_connected", connected)
	metrics.WriteGaugeUint64(w, "sekisho_gate_grants", uint64(s.Grants))
	metrics.WriteGaugeUint64(w, "sekisho_gate_grants_waiting", uint64(s.Waiting))
	metrics.WriteCounterUint64(w, "sekisho_gate_reconnects_total", uint64(s.Reconnects))
}

// gateHost is the daemon as the agent sees it.
type gateHost struct{ d *Daemon }

// settled is by how much a grant's end may come later than before without being another: a
// stream that begins anew says what is left, and what is said takes its time.
const settled = time.Second

// Let implements agent.Host.
func (h gateHost) Let(ctx context.Context, grants []agent.Grant) []error {
	d := h.d
	now := time.Now()
	errs := make([]error, len(grants))
	prefixes := make([]netip.Prefix, len(grants))
	for i, g := range grants {
		prefixes[i] = g.Prefix
	}
	var begun []lease.Lease
	var write []netip.Prefix
	d.mu.Lock()
	bans := d.bansOver(prefixes, now)
	n := -1 // how many grants there are, counted when it matters
	for i, g := range grants {
		if errs[i] = d.gateMay(g, bans, now); errs[i] != nil {
			continue
		}
		was, there := d.grants.get(g.Prefix, g.ID)
		there = there && was.Live(now)
		l := lease.Lease{
			Prefix: g.Prefix, Verdict: lease.Allow, Cause: gateCause + g.ID, Reason: g.Reason, Holder: "gate: " + g.Person,
			From: now, Until: g.Until,
		}
		if there {
			l.From = was.From
			if later := l.Until.Sub(was.Until); later >= 0 && later < settled && l.Reason == was.Reason {
				if d.gate.unput[g.Prefix] {
					write = append(write, g.Prefix)
				}
				continue
			}
		} else {
			if n < 0 {
				n = len(d.liveGrants(now))
			}
			if n >= maxGrants {
				errs[i] = fmt.Errorf("%d grants are in force on this host, which is the most there can be", maxGrants)
				continue
			}
			n++
			l.From = d.grants.begins(g.Prefix, now)
		}
		d.grants.put(l)
		begun, write = append(begun, l), append(write, g.Prefix)
	}
	failed := d.putGrants(ctx, write, now)
	d.rec.Add(store.Effects{Grants: begun})
	inForce := d.gateForce()
	d.mu.Unlock()
	for _, l := range begun {
		d.log.Info("grant", "prefix", l.Prefix, "until", until(l), "by", l.Holder, "reason", l.Reason)
	}
	for i, g := range grants {
		switch {
		case errs[i] != nil:
		case failed != nil && slices.Contains(write, g.Prefix):
			errs[i] = fmt.Errorf("the kernel did not take it yet: %w", failed)
		default:
			errs[i] = inForce
		}
	}
	return errs
}

// gateMay says why a grant of the gate's does not let in. Called with d.mu held.
func (d *Daemon) gateMay(g agent.Grant, bans map[netip.Prefix]netip.Prefix, now time.Time) error {
	switch _, taken := d.gate.taken[g.ID]; {
	case taken:
		return errors.New("it was taken back on this host; ask for a new one")
	case !now.Before(g.Until):
		return errors.New("its time is over")
	case !slices.Contains(d.cfg.SSH.Ports, g.Port) && !slices.Contains(d.want.Ruleset.Rules.Ports, g.Port):
		return fmt.Errorf("port %d is none of SSH's on this host (ssh.port)", g.Port)
	}
	return d.whyNot(g.Prefix, bans)
}

// gateForce says why what is granted does not count now, whoever it is for. Called with
// d.mu held.
func (d *Daemon) gateForce() error {
	switch {
	case d.kept == keepNothing:
		return errors.New("the host's firewall is not in force (a dry run, or off): it lets everybody in, or another decides")
	case d.kept == keepState && d.want.Ruleset.Generation == 0:
		return errors.New("the host has no rule set in force (sekisho apply): it lets everybody in, or another decides")
	case d.trying != nil && d.trying.rules.Exposure == firewall.ExposureFixed:
		return errors.New("the host tries a rule set by which nobody is let in by a grant")
	}
	return nil
}

// putGrants is holdGrants, and remembers what has failed. Called with d.mu held.
func (d *Daemon) putGrants(ctx context.Context, prefixes []netip.Prefix, now time.Time) error {
	if len(prefixes) == 0 {
		return nil
	}
	err := d.holdGrants(ctx, prefixes, now)
	for _, p := range prefixes {
		if err == nil {
			delete(d.gate.unput, p)
		} else {
			d.gate.unput[p] = true
		}
	}
	if err != nil {
		if d.seldom("gate's grants") {
			d.log.Error("the gate's grants did not get into the kernel; trying again", "error", err)
		}
		d.ask("the gate's grants failed")
	}
	return err
}

// End implements agent.Host.
func (h gateHost) End(ctx context.Context, grants []agent.Grant) []error {
	d := h.d
	now := time.Now()
	errs := make([]error, len(grants))
	var ended []lease.Lease
	var write []netip.Prefix
	d.mu.Lock()
	for _, g := range grants {
		delete(d.gate.taken, g.ID)
		l, there := d.grants.get(g.Prefix, g.ID)
		if there {
			d.grants.drop(g.Prefix, g.ID)
			if l.Live(now) {
				l.Until = now
				ended = append(ended, l)
			}
		}
		if there || d.gate.unput[g.Prefix] {
			write = append(write, g.Prefix)
		}
	}
	failed := d.putGrants(ctx, write, now)
	d.rec.Add(store.Effects{Grants: ended})
	d.mu.Unlock()
	for _, l := range ended {
		d.log.Info("grant ended", "prefix", l.Prefix, "by", l.Holder)
	}
	for i, g := range grants {
		if failed != nil && slices.Contains(write, g.Prefix) {
			errs[i] = fmt.Errorf("the kernel did not let go of it yet: %w", failed)
		}
	}
	return errs
}

// Held implements agent.Host.
func (h gateHost) Held() []agent.Grant {
	d := h.d
	d.mu.Lock()
	defer d.mu.Unlock()
	var res []agent.Grant
	for _, l := range d.liveGrants(time.Now()) {
		if id := gateID(l); id != "" {
			res = append(res, agent.Grant{ID: id, Person: strings.TrimPrefix(l.Holder, "gate: "), Prefix: l.Prefix, Until: l.Until, Port: d.cfg.SSH.Ports[0], Reason: l.Reason})
		}
	}
	return res
}

// Cut implements agent.Host.
func (h gateHost) Cut(ctx context.Context, p netip.Prefix) error {
	d := h.d
	now := time.Now()
	d.mu.Lock()
	ports := slices.Concat(d.cfg.SSH.Ports, d.want.Ports)
	held := slices.Concat(d.cfg.Admins, d.snapshot.Rules.Admins)
	for _, l := range d.liveGrants(now) {
		held = append(held, l.Prefix)
	}
	d.mu.Unlock()
	held = slices.DeleteFunc(held, func(other netip.Prefix) bool { return !other.Overlaps(p) })
	cut := []netip.Prefix{p}
	if len(held) > 0 {
		peers, err := conntrack.Established(ctx, ports) // since before that is remembered
		if err != nil {
			return err
		}
		cut = nil
		for _, peer := range peers {
			a := peer.Addr()
			if p.Contains(a) && !slices.ContainsFunc(held, func(other netip.Prefix) bool { return other.Contains(a) }) {
				cut = append(cut, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	if len(cut) == 0 {
		return nil
	}
	n, err := conntrack.Cut(ctx, cut, ports)
	if n > 0 {
		d.log.Info("connections ended, as the gate asked for", "prefix", p, "connections", n)
	}
	return err
}

// Seen implements agent.Host.
func (h gateHost) Seen(ctx context.Context) (away, in []netip.Addr, err error) {
	d := h.d
	now := time.Now()
	d.mu.Lock()
	fw, ports := d.fw, slices.Concat(d.cfg.SSH.Ports, d.want.Ports)
	held := map[netip.Prefix]bool{} // by now; each an address or an IPv6 /64
	for _, l := range d.liveGrants(now) {
		held[l.Prefix] = true
	}
	d.mu.Unlock()
	if fw == nil {
		return nil, nil, nil
	}
	knocks, err := fw.Knocks(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range knocks {
		switch {
		case k.In:
			in = append(in, k.Addr)
		case !held[netip.PrefixFrom(k.Addr, k.Addr.BitLen())] && !held[netip.PrefixFrom(k.Addr, 64).Masked()]:
			away = append(away, k.Addr)
		}
	}
	peers, err := conntrack.Established(ctx, ports)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range peers {
		in = append(in, p.Addr())
	}
	return away, in, nil
}

// takeBack notes that a grant of the gate's was taken back here, and is its last row: the
// gate does not give it anew. Called with d.mu held.
func (d *Daemon) takeBack(l lease.Lease, id, who string, now time.Time) lease.Lease {
	if len(d.gate.taken) < maxGrants {
		d.gate.taken[id] = l.Prefix
	}
	l.Cause, l.Until, l.Reason = takenCause+id, now, "taken back by "+who
	return l
}

// openTaken remembers which of the gate's grants were taken back.
func (d *Daemon) openTaken(ctx context.Context, now time.Time) {
	taken := map[string]netip.Prefix{}
	err := d.store.Grants(ctx, now.Add(-longestGrant), func(l lease.Lease) error {
		if id, ok := strings.CutPrefix(l.Cause, takenCause); ok && len(taken) < maxGrants {
			taken[id] = l.Prefix
		}
		return nil
	})
	if err != nil {
		d.log.Error("which of the gate's grants were taken back cannot be read", "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate.taken = taken
}

// gateLook answers POST /v1/gate: where the host is enrolled may have changed.
func (d *Daemon) gateLook(*http.Request, peer) (any, error) {
	d.gateMayDiffer()
	return Reply{OK: true, Text: "looking where this host is enrolled"}, nil
}
