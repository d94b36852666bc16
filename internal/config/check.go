package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// check notes the mistakes that are between values. A pair of which one was
// refused already is left alone.
func (d *decoder) check(c *Config) {
	d.checkReach(c)
	d.checkSSH(c)
	d.checkFirewall(c)
	d.checkGuard(c)
	d.checkAccess(c)
	d.checkGate(c)
	d.checkNotify(c)
	l := &c.Log
	d.rule(l.Source == SourceFiles && len(l.Files) == 0, "name them: files: [/var/log/auth.log]",
		"log.source is files, but log.files names none", "log.files", "log.source")
	d.rule(l.Source != SourceFiles && len(l.Files) > 0, "set log.source: files, or leave log.files out",
		"log.files would not be read: log.source is "+l.Source.String(), "log.files", "log.source")
	d.rule(l.Source == SourceJournald && l.Forgeable, "leave log.forgeable out",
		"log.forgeable has no meaning for journald, which keeps each message whole", "log.forgeable", "log.source")
}

// checkReach sees to it that somebody can come in from elsewhere, whatever befalls
// the sessions that are open now.
func (d *decoder) checkReach(c *Config) {
	local := func(p netip.Prefix) bool { return p.Addr().IsLoopback() }
	v6 := func(p netip.Prefix) bool { return p.Addr().Is6() }
	others := slices.DeleteFunc(slices.Clone(c.Admins), local)
	const put = "put your own fixed address under admins"
	d.rule(c.Exposure == ExposureFixed && len(others) == 0, put+", or set exposure: public",
		"nobody could come in: exposure is fixed, and admins names nobody elsewhere", "exposure", "admins")
	// A grant is given on this host: who has none could not ask for one. A gate may be out of reach.
	d.rule(c.Exposure == ExposureOnRequest && len(others) == 0 && c.Gate.URL != "", put+": this host may lose the gate, or is not enrolled there yet",
		"nobody could come in without the gate: exposure is on_request, and admins names nobody elsewhere", "exposure", "admins", "gate.url")
	d.rule(c.Exposure == ExposureOnRequest && len(others) == 0 && c.Gate.URL == "", put+": a grant is given on this host, and whoever has none cannot get there to give one",
		"nobody could come in for the first time: exposure is on_request, and admins names nobody elsewhere", "exposure", "admins")
	d.rule(!c.Firewall.IPv6 && len(others) > 0 && !slices.ContainsFunc(others, func(p netip.Prefix) bool { return !v6(p) }),
		"put an IPv4 address under admins too, or leave firewall.ipv6 out",
		"no admin could come in: firewall.ipv6 is no, and all of admins is IPv6", "firewall.ipv6", "admins")
}

func (d *decoder) checkFirewall(c *Config) {
	f := &c.Firewall
	lockdown := f.Mode == FirewallLockdown
	d.rule(!lockdown && len(f.Open) > 0, "set firewall.mode: lockdown, or leave firewall.open out",
		"firewall.open would open nothing: firewall.mode is "+f.Mode.String()+", which closes nothing but SSH", "firewall.open", "firewall.mode")
	d.rule(!lockdown && f.Forward, "set firewall.mode: lockdown, or leave firewall.forward out",
		"firewall.forward has no meaning: firewall.mode is "+f.Mode.String()+", which never touches what is forwarded", "firewall.forward", "firewall.mode")
	for i, s := range f.Open {
		for _, port := range c.SSH.Ports {
			hint := "leave it out; exposure says who may reach SSH"
			if s.First < s.Last {
				hint = "leave SSH's port out of the range; exposure says who may reach SSH"
			}
			d.rule(s.Proto == "tcp" && s.First <= port && port <= s.Last, hint,
				fmt.Sprintf("%s would not open SSH's port %d", s.Ports(), port), itemPath("firewall.open", i), "firewall.open", "ssh.port")
		}
	}
	registries := c.Country.Source == CountryRegistries
	d.rule(registries && len(c.Country.URLs) > 0, "set country.source to what they hold (list, csv or mmdb), or leave country.urls out",
		"country.urls would not be read: country.source is registries", "country.urls", "country.source")
	d.rule(!registries && len(c.Country.URLs) == 0, "name where it is: urls: [https://example.com/countries.csv]",
		"country.source is "+c.Country.Source.String()+", but country.urls names nothing", "country.urls", "country.source")
}

func (d *decoder) checkGuard(c *Config) {
	g := &c.Guard
	growing := g.Growth.Factor > 1
	d.rule(growing && g.BanTime > g.Growth.Max, "raise guard.growth.max, or set guard.growth.factor: 1 for bans that do not grow",
		"bans of "+FormatDuration(g.BanTime)+" (guard.ban_time) are longer than the longest, "+FormatDuration(g.Growth.Max)+" (guard.growth.max)",
		"guard.ban_time", "guard.growth.max", "guard.growth.factor")
	d.rule(growing && g.Growth.Forget < g.Growth.Max, "raise guard.growth.forget to guard.growth.max or more",
		"bans are forgotten after "+FormatDuration(g.Growth.Forget)+" (guard.growth.forget), while one of up to "+FormatDuration(g.Growth.Max)+" (guard.growth.max) may still hold",
		"guard.growth.forget", "guard.growth.max", "guard.growth.factor")
	d.rule(g.Known.For > 0 && g.Known.MaxRetry < g.MaxRetry, "raise guard.known.max_retry to guard.max_retry or more, or set guard.known.for: 0s",
		"who logged in lately would be banned sooner than a stranger: guard.known.max_retry is below guard.max_retry",
		"guard.known.max_retry", "guard.max_retry", "guard.known.for")
	d.rule(g.Escalate.Hosts > 0 && g.Escalate.IPv4 >= g.Prefix.IPv4, "make guard.escalate.ipv4 smaller than guard.prefix.ipv4, or set guard.escalate.hosts: 0",
		"a network (guard.escalate.ipv4) must be larger than a source (guard.prefix.ipv4)",
		"guard.escalate.ipv4", "guard.prefix.ipv4", "guard.escalate.hosts")
	d.rule(g.Escalate.Hosts > 0 && g.Escalate.IPv6 >= g.Prefix.IPv6, "make guard.escalate.ipv6 smaller than guard.prefix.ipv6, or set guard.escalate.hosts: 0",
		"a network (guard.escalate.ipv6) must be larger than a source (guard.prefix.ipv6)",
		"guard.escalate.ipv6", "guard.prefix.ipv6", "guard.escalate.hosts")
}

// rule notes a mistake if broken, at the first of paths that the file has.
func (d *decoder) rule(broken bool, hint, message string, paths ...string) {
	if !broken {
		return
	}
	var at place
	for _, p := range paths {
		if d.bad[p] {
			return
		}
		if given, ok := d.places[p]; ok && at == (place{}) {
			at = given
		}
	}
	d.add(at, hint, "%s", message)
}
