package config

// check notes the mistakes that are between values. A pair of which one was
// refused already is left alone.
func (d *decoder) check(c *Config) {
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
	l := &c.Log
	d.rule(l.Source == SourceFiles && len(l.Files) == 0, "name them: files: [/var/log/auth.log]",
		"log.source is files, but log.files names none", "log.files", "log.source")
	d.rule(l.Source != SourceFiles && len(l.Files) > 0, "set log.source: files, or leave log.files out",
		"log.files would not be read: log.source is "+l.Source.String(), "log.files", "log.source")
	d.rule(l.Source == SourceJournald && l.Forgeable, "leave log.forgeable out",
		"log.forgeable has no meaning for journald, which keeps each message whole", "log.forgeable", "log.source")
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
