package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/country"
	"sekisho/internal/daemon"
	"sekisho/internal/firewall"
	"sekisho/internal/iso3166"
	"sekisho/internal/lab"
	"sekisho/internal/printable"
	"sekisho/internal/run"
)

// The countries of the scenes. Nobody can feel accused of what comes from the
// Antarctic.
var (
	labHome   = iso3166.Code{'J', 'P'}
	labAbroad = iso3166.Code{'A', 'Q'}
)

const (
	labTrial = 30 * time.Second // for a confirmation that comes at once
	// labLockout is for a trial that locks the administrator out: long enough for a
	// login to be given up.
	labLockout = 8 * time.Second
	labSoon    = 10 * time.Second // for what takes moments
)

// places are networks of the two countries, a /24 and a /48 of each, of which the
// lab's world owns every address; of one family alone where there is no IPv6.
type places struct{ home, abroad []netip.Prefix }

// rules shows rule sets: tried, confirmed, and kept in force.
func (s *show) rules(ctx context.Context, session *lab.Session) error {
	data, err := country.Embedded() // what the host's daemon has: it never looks for newer data
	if err != nil {
		return err
	}
	world, err := labPlaces(data, s.lab.IPv6)
	if err != nil {
		return err
	}
	if err := s.lab.Own(slices.Concat(world.home, world.abroad)...); err != nil {
		return err
	}
	if confirmed, err := s.confirmed(ctx, session); err != nil || !confirmed {
		return err
	}
	for _, scene := range []func(context.Context) error{
		func(ctx context.Context) error { return s.countries(ctx, world) },
		func(ctx context.Context) error { return s.rate(ctx, world) },
		s.flush,
		func(ctx context.Context) error { return s.lockout(ctx, session) },
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// labPlaces takes networks out of country data.
func labPlaces(data *country.Data, ipv6 bool) (w places, err error) {
	for _, in := range []struct {
		code iso3166.Code
		nets *[]netip.Prefix
	}{{labHome, &w.home}, {labAbroad, &w.abroad}} {
		set, err := data.Set(in.code)
		if err != nil {
			return w, err
		}
		all := set.Prefixes()
		for _, family := range []struct {
			v6   bool
			bits int
		}{{false, 24}, {true, 48}} {
			i := slices.IndexFunc(all, func(p netip.Prefix) bool { return p.Addr().Is6() == family.v6 && p.Bits() <= family.bits })
			if i < 0 {
				return w, fmt.Errorf("the country data has no network of %s", in.code.Name())
			}
			if ipv6 || !family.v6 {
				*in.nets = append(*in.nets, netip.PrefixFrom(all[i].Addr(), family.bits))
			}
		}
	}
	return w, nil
}

// host is the n-th address of a /24, or of a /64 of a /48.
func host(p netip.Prefix, subnet, n byte) netip.Addr {
	b := p.Addr().AsSlice()
	if b[len(b)-1] = n; len(b) == 16 {
		b[7] = subnet
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// confirmed tries the rules that the next scenes are about; a new login of the
// administrator confirms them. It reports whether they are in force.
func (s *show) confirmed(ctx context.Context, session *lab.Session) (bool, error) {
	err := s.declare(fmt.Sprintf("admins: [%s, %s]", lab.Admin4, lab.Admin6), "exposure: public", fmt.Sprintf("firewall: {countries: [%s]}", labHome))
	if err != nil {
		return false, err
	}
	s.say("the administrator declares: SSH from %s alone, two new connections a minute; `sekisho apply`", labHome.Name())
	apply, err := s.sekisho(ctx, session, "apply", "--yes", "--within", labTrial.String())
	if err != nil {
		return false, err
	}
	defer apply.end()
	if !s.armed(ctx, apply) {
		s.fail("`sekisho apply` tries nothing: %s", told(apply))
		return false, nil
	}
	s.say("the rules are on trial: unless confirmed within %s, the kernel goes back by itself", shortDuration(labTrial))
	login, err := s.lab.Login(ctx, lab.Admin4)
	if err != nil {
		s.fail("the administrator does not get in through the rules on trial: %v", err)
		return false, nil
	}
	defer login.Close()
	began := time.Now()
	s.soon(ctx, labTrial, apply.ended)
	standing, err := s.kernel.Standing(ctx)
	if err != nil {
		return false, err
	}
	if !apply.ended() || apply.err != nil || standing.Confirmed == 0 || standing.Armed != 0 {
		s.fail("a new login confirmed nothing: %s (%+v)", told(apply), standing)
		return false, nil
	}
	s.say("confirmed by a new login from %s, which lasted %s: rule set %d is in force", login.From.Addr(), time.Since(began).Round(100*time.Millisecond), standing.Confirmed)
	return true, nil
}

// armed waits until a rule set is on trial; false where the program that tries it
// ends, or takes long.
func (s *show) armed(ctx context.Context, p *labProgram) bool {
	armed := false
	s.soon(ctx, labSoon, func() bool {
		standing, err := s.kernel.Standing(ctx)
		armed = err == nil && standing.Armed > 0
		return armed || p.ended()
	})
	return armed
}

// told is the last line of what a program said.
func told(p *labProgram) string {
	lines := strings.Split(strings.TrimSpace(p.said()), "\n")
	return sanitize(lines[len(lines)-1])
}

// soon waits until what is asked is so, but not for long.
func (s *show) soon(ctx context.Context, limit time.Duration, so func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !so() {
		if ctx.Err() != nil {
			return false
		}
		pause(ctx, 5*time.Millisecond)
	}
	return true
}

// knock tries a connection to sshd; nil where nobody answers.
func (s *show) knock(ctx context.Context, from netip.Addr) (*net.TCPConn, error) {
	dial, cancel := context.WithTimeout(ctx, 2*time.Second) // a SYN is sent twice in it
	defer cancel()
	c, err := s.lab.World.Dial(dial, from, s.lab.Target(from))
	if err != nil {
		return nil, ctx.Err()
	}
	return c, nil
}

// drops are how many packets each rule about new SSH connections has dropped.
func (s *show) drops(ctx context.Context) (map[string]uint64, error) {
	counters, err := s.kernel.Counters(ctx)
	drops := map[string]uint64{}
	for _, c := range counters {
		if c.Drops && c.Chain == "ssh" {
			drops[c.Rule] += c.Packets
		}
	}
	return drops, err
}

// by names the rules that dropped something since before.
func (s *show) by(ctx context.Context, before map[string]uint64) (string, error) {
	after, err := s.drops(ctx)
	var rules []string
	for rule, n := range after {
		if n > before[rule] {
			rules = append(rules, fmt.Sprintf("%q", rule))
		}
	}
	slices.Sort(rules)
	return strings.Join(rules, ", "), err
}

// countries has somebody knock from each network of the two countries.
func (s *show) countries(ctx context.Context, world places) error {
	before, err := s.drops(ctx)
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, from := range []struct {
		code iso3166.Code
		nets []netip.Prefix
	}{{labHome, world.home}, {labAbroad, world.abroad}} {
		for _, p := range from.nets {
			group.Go(func() error {
				a := host(p, 1, 7)
				c, err := s.knock(ctx, a)
				switch {
				case err != nil:
					return err
				case c != nil && from.code == labHome:
					s.say("%s from %s reaches sshd", a, from.code.Name())
				case c != nil:
					s.fail("%s from %s reaches sshd", a, from.code.Name())
				case from.code == labHome:
					s.fail("%s from %s gets no answer", a, from.code.Name())
				default:
					s.say("%s from %s gets no answer, not even a handshake", a, from.code.Name())
				}
				if c != nil {
					c.Close()
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	rule, err := s.by(ctx, before)
	if err != nil {
		return err
	}
	if rule == "" {
		s.fail("no rule has dropped anything from %s", labAbroad.Name())
		return nil
	}
	s.say("dropped by the rule %s", rule)
	return nil
}

// rate has one source make six connections at once: IPv4 from one address, IPv6
// from six of a /64. The administrator makes more.
func (s *show) rate(ctx context.Context, world places) error {
	before, err := s.drops(ctx)
	if err != nil {
		return err
	}
	const burst = 5
	var group errgroup.Group
	for _, p := range world.home {
		group.Go(func() error {
			from := host(p, 2, 20)
			for i := range byte(burst + 1) {
				if p.Addr().Is6() {
					from = host(p, 2, 20+i)
				}
				c, err := s.knock(ctx, from)
				if err != nil {
					return err
				}
				if c != nil {
					defer c.Close() // together: sshd logs them only then, and the guard has its own word to say
				}
				if (c != nil) != (i < burst) {
					s.fail("the %s connection within a moment from %s: answered %t", printable.Ordinal(int(i)+1), from, c != nil)
					return nil
				}
			}
			s.say("the %s connection within a moment from %s gets no answer", printable.Ordinal(burst+1), from)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	rule, err := s.by(ctx, before)
	if err != nil {
		return err
	}
	if rule == "" {
		s.fail("no rule has dropped the connections beyond the limit")
		return nil
	}
	s.say("dropped by the rule %s", rule)
	for i := range 2 * burst {
		c, err := s.knock(ctx, lab.Admin4)
		if err != nil {
			return err
		}
		if c == nil {
			s.fail("the administrator's %s connection within a moment gets no answer", printable.Ordinal(i+1))
			return nil
		}
		c.Close()
	}
	s.say("the administrator makes %d at once", 2*burst)
	return nil
}

// flush has another program take the whole table away, bans and rules. It must be
// back at once, and the program named.
func (s *show) flush(ctx context.Context) error {
	before, err := s.kernel.Standing(ctx)
	if err != nil {
		return err
	}
	by, what, flushed := "nft", "`nft flush ruleset`", netip.Addr{}
	if err := s.kernel.Bans(ctx, func(b firewall.Ban) error { flushed = b.Prefix.Addr(); return nil }); err != nil {
		return err
	}
	nft, err := s.program(ctx, "LANG=C", "nft", "flush", "ruleset")
	began := time.Now()
	switch {
	case errors.Is(err, run.ErrNotFound): // it need not be installed: the lab does it itself
		by, what = comm(), "another process deletes the table"
		err = s.kernel.Remove(ctx)
	case err == nil:
		<-nft.done
		err = nft.err
	}
	if err != nil {
		return fmt.Errorf("flush the rule set: %w", err)
	}
	var now firewall.Standing
	back := s.soon(ctx, labSoon, func() (so bool) {
		now, err = s.kernel.Standing(ctx)
		return err == nil && now == before && s.banned(ctx, flushed)
	})
	took := time.Since(began)
	switch {
	case !back:
		s.fail("%s: then the kernel holds %+v instead of %+v, with the bans: %t", what, now, before, s.banned(ctx, flushed))
		return nil
	case !s.soon(ctx, labSoon, func() bool { return strings.Contains(s.daemon.said(), "process="+by) }):
		s.fail("the rules were flushed, and the daemon does not say by whom")
		return nil
	}
	s.say("%s: rules and bans are back after %s, and the daemon names who did it: %s", what, took.Round(time.Millisecond), by)
	return nil
}

// comm is the kernel's name for this process.
func comm() string {
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}

// lockout tries rules that shut the administrator out, and kills everything that
// could undo them: the kernel must.
func (s *show) lockout(ctx context.Context, session *lab.Session) error {
	before, err := s.kernel.Standing(ctx)
	if err != nil {
		return err
	}
	if err := s.declare("exposure: fixed", "admins: [203.0.113.9]"); err != nil {
		return err
	}
	s.say("a mistake in the file: `exposure: fixed`, and the administrator's address is not there")
	refused, err := s.sekisho(ctx, session, "apply", "--yes")
	if err != nil {
		return err
	}
	s.soon(ctx, labSoon, refused.ended)
	if !refused.ended() || refused.err == nil {
		s.fail("`sekisho apply` does not refuse it: %s", told(refused))
		refused.kill()
		return nil
	}
	for line := range strings.Lines(refused.said()) {
		if strings.HasPrefix(line, "refused: ") {
			s.say("`sekisho apply`: %s", sanitize(strings.TrimSpace(line)))
		}
	}
	s.say("it is forced: `sekisho apply --force --within %s`", shortDuration(labLockout))
	apply, err := s.sekisho(ctx, session, "apply", "--yes", "--force", "--within", labLockout.String())
	if err != nil {
		return err
	}
	if !s.armed(ctx, apply) {
		s.fail("`sekisho apply --force` tries nothing: %s", told(apply))
		apply.kill()
		return nil
	}
	began := time.Now()
	apply.kill()
	s.daemon.kill()
	s.say("kill -9 of `sekisho apply` and of the daemon: nothing of ours runs on the host any more")
	c, err := s.knock(ctx, lab.Admin4)
	if err != nil {
		return err
	}
	if c != nil {
		c.Close()
		s.fail("the rules on trial let the administrator in")
	} else {
		s.say("the administrator is locked out: no answer to a new connection")
	}
	if err := session.Alive(ctx); err != nil {
		s.fail("the administrator's session died: %v", err)
	}
	for {
		if c, err = s.knock(ctx, lab.Admin4); c != nil || err != nil {
			break
		}
		if time.Since(began) > 2*labLockout {
			s.fail("the kernel does not go back by itself")
			return s.guard(ctx)
		}
	}
	if err != nil {
		return err
	}
	c.Close()
	s.say("the kernel alone went back: the administrator is in again %s after the trial began", time.Since(began).Round(10*time.Millisecond))
	if err := s.guard(ctx); err != nil {
		return err
	}
	return s.after(ctx, before)
}

// after looks whether all is as it was before a trial that failed.
func (s *show) after(ctx context.Context, before firewall.Standing) error {
	var now firewall.Standing
	var status daemon.Status
	if !s.soon(ctx, labSoon, func() bool {
		var err error
		now, err = s.kernel.Standing(ctx)
		return err == nil && now == before && s.client.get(ctx, "status", nil, &status) == nil && status.Firewall.Generation == before.Confirmed && status.Firewall.Trial == nil
	}) {
		s.fail("after the failed trial the kernel holds %+v instead of %+v, the daemon tells of %+v", now, before, status.Firewall)
		return nil
	}
	login, err := s.lab.Login(ctx, lab.Admin4)
	if err != nil {
		s.fail("the administrator cannot log in after the failed trial: %v", err)
		return nil
	}
	login.Close()
	s.say("the daemon, started again, holds rule set %d, the last one that was confirmed; the bad one is forgotten", status.Firewall.Generation)
	return nil
}
