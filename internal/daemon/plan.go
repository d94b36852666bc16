package daemon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/conntrack"
	"sekisho/internal/country"
	"sekisho/internal/firewall"
	"sekisho/internal/trial"
)

const (
	oldData     = 60 * 24 * time.Hour // country data this old is worth a word
	maxWarnings = 20
)

// proposal is a rule set that may be tried, and all that judges it.
type proposal struct {
	now  firewall.State // what is confirmed
	next firewall.State
	data *country.Data

	peer     netip.AddrPort   // the asker's own SSH client; zero: a console
	sessions []netip.AddrPort // of others, who are logged in
	live     firewall.Live
	moving   bool // the asker has sshd listen on the ports of next
	astray   bool // peer is connected, but to none of the ports of next
	deaf     bool // nothing listens on any of the ports of next

	others    firewall.Others
	unasked   error // why others is not known
	standing  firewall.Standing
	untouched bool // the kernel was not asked for standing
}

// propose makes the next rule set of cfg, for the ports that portsFor tells of.
func propose(cfg *config.Config, ports []uint16, now firewall.State, data *country.Data) (proposal, error) {
	there, err := portsFor(cfg, ports)
	if err != nil {
		return proposal{}, err
	}
	rules := rulesOf(cfg, there)
	addrs, err := addressesOf(data, rules.Countries)
	if err != nil {
		return proposal{}, err
	}
	next := firewall.Ruleset{Generation: now.Ruleset.Generation + 1, Rules: rules, Countries: addrs}
	return proposal{now: now, next: stateOf(cfg, next), data: data, moving: len(ports) > 0}, nil
}

// askedFrom notes the asker's own SSH client; zero: a console.
func (p *proposal) askedFrom(peer netip.AddrPort) {
	if peer.IsValid() {
		p.peer = netip.AddrPortFrom(peer.Addr().Unmap().WithZone(""), peer.Port())
	}
}

// ask asks the kernel what it must for a judgement; live and sessions are the
// caller's.
func (p *proposal) ask(ctx context.Context, fw firewall.Firewall) error {
	rules := p.next.Ruleset.Rules
	var err error
	if p.standing, err = fw.Standing(ctx); err != nil {
		return err
	}
	var peers []netip.Addr
	if p.peer.IsValid() {
		peers = append(peers, p.peer.Addr())
	}
	p.others, p.unasked = othersOf(ctx, fw, rules, peers)
	if listening, err := conntrack.Listening(ctx, rules.Ports); err == nil {
		p.deaf = !listening
	}
	if p.peer.IsValid() {
		anywhere, err := conntrack.Alive(ctx, p.peer, nil)
		if err == nil && anywhere {
			there, err := conntrack.Alive(ctx, p.peer, rules.Ports)
			// Of a port that sshd is about to leave, the asker knows: a new login by one
			// that it keeps is what confirms.
			p.astray = err == nil && !there && (!p.moving || p.deaf)
		}
	}
	return nil
}

// forbidden is what speaks against the rule set whatever the asker says.
func (p *proposal) forbidden() *Error {
	rules := p.next.Ruleset.Rules
	if err := rules.Validate(); err != nil {
		return &Error{fmt.Errorf("the rule set cannot be put in force: %w", err), "change the configuration; see `sekisho config check`"}
	}
	for _, code := range codesOf(rules.Countries.Allow) {
		if v4, v6 := p.data.Count(code); v4+v6 == 0 {
			return &Error{fmt.Errorf("the country data of %s knows no address of %s", p.data.Time.Format(time.DateOnly), code), "sekisho country update"}
		}
	}
	if rules.Mode == firewall.ModeLockdown && len(p.others.Managers) > 0 {
		m := p.others.Managers[0]
		return &Error{fmt.Errorf("%s is active (%s): two firewalls cannot both hold the whole host", m.Name, m.How), fmt.Sprintf("end it: %s, or set firewall.mode: guard", m.Stop)}
	}
	return nil
}

// reply tells what would change, and what speaks against it.
func (p *proposal) reply() PlanReply {
	rules := p.next.Ruleset.Rules
	r := PlanReply{
		Changes:  append([]trial.Change{}, trial.Diff(p.now, p.next)...),
		Settings: append([]trial.Change{}, trial.Settings(p.now.Ruleset.Rules, rules)...),
		Refusals: []trial.Refusal{}, Blocks: []BlockStatus{}, Warnings: []Problem{},
		Now: p.now.Ruleset.Generation, Next: p.next.Ruleset.Generation, Digest: digest(rules),
	}
	if err := p.forbidden(); err != nil {
		r.Refusals = append(r.Refusals, trial.Refusal{Rule: err.Error(), Hint: err.Hint})
	}
	if p.peer.IsValid() {
		r.Refusals = append(r.Refusals, trial.Preflight(p.next, p.live, []netip.Addr{p.peer.Addr()})...)
		if p.astray {
			r.Refusals = append(r.Refusals, trial.Refusal{
				Peer: p.peer.Addr(), Rule: fmt.Sprintf("ssh.port: %d", rules.Ports),
				Hint: "your own session comes in by another port: name the one that sshd listens on in ssh.port",
			})
		}
	} else if refusal, all := p.everybody(); all {
		r.Refusals = append(r.Refusals, refusal)
	}
	if p.deaf && !p.astray && rules.Mode == firewall.ModeLockdown {
		r.Refusals = append(r.Refusals, trial.Refusal{
			Rule: fmt.Sprintf("nothing listens on ssh.port %d: a lockdown would close the port that sshd has", rules.Ports),
			Hint: "name the one that sshd listens on in ssh.port, or --force",
		})
	}
	r.Warnings = append(r.Warnings, p.warnings()...)
	for _, b := range p.others.Blocks {
		r.Blocks = append(r.Blocks, BlockStatus{Where: b.Where, Rule: b.Rule, Port: b.Port, Certain: b.Certain, Remedy: b.Remedy})
	}
	return r
}

// digest tells one rule set from another.
func digest(r firewall.Rules) string {
	text, err := json.Marshal(r)
	if err != nil { // it has nothing that JSON does not know
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// otherPeers are where people are logged in from who are not the asker.
func (p *proposal) otherPeers() []netip.Addr {
	var peers []netip.Addr
	for _, s := range p.sessions {
		a := s.Addr()
		if a != p.peer.Addr() && !a.IsLoopback() && !slices.Contains(peers, a) {
			peers = append(peers, a)
		}
	}
	return peers
}

// everybody is the refusal where the asker's own session is not known (a tmux that
// outlived its connection, sudo where the shells before it cannot be read), and
// nobody who is logged in could come in again: the asker is one of them, or nobody
// is left to mend it.
func (p *proposal) everybody() (refusal trial.Refusal, all bool) {
	peers := p.otherPeers()
	refusals := trial.Preflight(p.next, p.live, peers)
	if len(peers) == 0 || len(refusals) < len(peers) {
		return trial.Refusal{}, false
	}
	refusal = refusals[0]
	refusal.Rule += "; nobody who is logged in now could come in again"
	return refusal, true
}

func (p *proposal) warnings() []Problem {
	var w []Problem
	rules := p.next.Ruleset.Rules
	if p.deaf && rules.Mode != firewall.ModeLockdown {
		w = append(w, Problem{What: fmt.Sprintf("nothing listens on ssh.port %d: if sshd has another port, that one is not guarded", rules.Ports), Remedy: "name the one that sshd listens on in ssh.port"})
	}
	for _, refusal := range trial.Preflight(p.next, p.live, p.otherPeers()) {
		if len(w) == maxWarnings {
			break
		}
		w = append(w, Problem{What: fmt.Sprintf("%s is logged in now, and could not come in again (%s)", refusal.Peer, refusal.Rule), Remedy: refusal.Hint})
	}
	if rules.Mode == firewall.ModeLockdown && !rules.Forward {
		for _, table := range p.others.Forwards {
			w = append(w, Problem{What: table + " forwards packets for others, which ends", Remedy: "to leave what is forwarded alone: firewall.forward: yes"})
		}
	}
	if p.unasked != nil {
		w = append(w, Problem{What: "other firewalls of this host could not be looked at: " + p.unasked.Error(), Remedy: "see yourself that none of them closes SSH's ports"})
	}
	if gen := p.now.Ruleset.Generation; !p.untouched && p.standing.Confirmed != gen {
		w = append(w, Problem{What: fmt.Sprintf("the kernel holds rule set %d, and %d was confirmed last", p.standing.Confirmed, gen), Remedy: "a daemon puts it back: systemctl start sekisho"})
	}
	if age := time.Since(p.data.Time); !rules.Countries.None() && age > oldData {
		w = append(w, Problem{What: fmt.Sprintf("the country data is of %s", p.data.Time.Format(time.DateOnly)), Remedy: "sekisho country update"})
	}
	if rules.Exposure != firewall.ExposurePublic && len(rules.Admins) == 1 && rules.Admins[0].IsSingleIP() {
		w = append(w, Problem{What: fmt.Sprintf("%s is the only address that can always come in", rules.Admins[0].Addr()), Remedy: "name a second way in admins, or know the way to this machine's console"})
	}
	return w
}

// mine refuses a configuration file that is not the daemon's.
func (d *Daemon) mine(path string) error {
	if path == "" {
		return nil
	}
	ours, err := filepath.Abs(d.opts.ConfigPath)
	if err == nil && filepath.Clean(path) == ours {
		return nil
	}
	return refuse(http.StatusConflict, "leave --config out, or start the daemon with that file", "the daemon reads %s, not %s", d.opts.ConfigPath, path)
}

// Plan is what `apply` would change; peer is the asker's own SSH client, zero at a
// console, and ports are as in ApplyRequest. Nothing is changed.
func (d *Daemon) Plan(ctx context.Context, peer netip.AddrPort, ports []uint16) (PlanReply, error) {
	cfg, err := d.opts.Load()
	if err != nil {
		return PlanReply{}, err
	}
	p, err := d.propose(ctx, cfg, peer, ports)
	if err != nil {
		return PlanReply{}, err
	}
	return p.reply(), nil
}

// propose is cfg's rule set with all that the daemon knows of this host.
func (d *Daemon) propose(ctx context.Context, cfg *config.Config, peer netip.AddrPort, ports []uint16) (proposal, error) {
	d.mu.Lock()
	now, fw, kept := d.want, d.fw, d.kept
	d.mu.Unlock()
	if kept == keepNothing {
		now = firewall.State{}
	}
	p, err := propose(cfg, ports, now, d.countryData())
	if err != nil {
		return p, err
	}
	p.askedFrom(peer)
	if fw == nil { // a dry run holds none; to look is allowed
		kernel, err := firewall.NewKernel(firewall.Options{Logger: d.log})
		if err != nil {
			p.unasked, p.untouched = err, true
		} else {
			defer kernel.Close()
			fw = kernel
		}
	}
	if fw != nil {
		if err := p.ask(ctx, fw); err != nil {
			return p, err
		}
	}
	sessions, err := d.sessions(ctx, nil)
	if err != nil {
		d.log.Warn("live sessions cannot be listed", "error", err)
	}
	p.sessions = sessions
	p.live = d.live(PolicyOf(cfg).Never)
	return p, nil
}

// live knows who is banned and granted now. Who is in never will not be banned any
// more once that is in force.
func (d *Daemon) live(never []netip.Prefix) firewall.Live {
	return firewall.Live{
		Banned: func(a netip.Addr) bool {
			if slices.ContainsFunc(never, func(p netip.Prefix) bool { return p.Contains(a) }) {
				return false
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.engine.Why(a, time.Now()).Ban != nil
		},
		Granted: func(a netip.Addr) bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			_, ok := d.granted(a, time.Now())
			return ok
		},
	}
}

// refusal is why p must not be tried, unless force says so.
func (p *proposal) refusal(r PlanReply, force bool) error {
	if err := p.forbidden(); err != nil {
		return err
	}
	if force {
		return nil
	}
	if len(r.Refusals) > 0 {
		f := r.Refusals[0]
		what := errors.New(f.Rule)
		if f.Peer.IsValid() {
			what = fmt.Errorf("%s would be locked out (%s)", f.Peer, f.Rule)
		}
		return &Error{what, cmp.Or(f.Hint, "if you can come in another way, use --force")}
	}
	for _, b := range r.Blocks {
		if b.Certain {
			return &Error{
				fmt.Errorf("%s drops new connections to port %d (%s), whatever our rules say", b.Where, b.Port, b.Rule),
				"open it there: " + b.Remedy + "; or use --force",
			}
		}
	}
	return nil
}

var errDryRun = errors.New("guard.enforce is no: this is a dry run, which leaves the kernel alone")
