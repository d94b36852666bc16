package config

import "time"

// key is one key of the file. Its default is what Default puts in its place.
type key struct {
	name  string
	doc   string // what it does, for people: plain sentences
	value value  // a leaf, or a group of keys
}

// group is a mapping with fixed keys.
type group []key

func (g group) names() []string {
	names := make([]string, len(g))
	for i, k := range g {
		names[i] = k.name
	}
	return names
}

func (g group) decode(d *decoder, path string, n *node) { d.group(path, g, n) }
func (g group) text() string                            { return "" }
func (g group) grammar() string                         { return "" }

// branch is a value that has keys inside: under names that are free, or its own, where it
// may not be there at all.
type branch interface {
	value
	inside() (name string, keys group) // what stands for a name, or "", and the keys there
	sample() string                    // one of them, or the keys that it needs, as the file has it
}

// walk calls visit for each key, what holds keys before them; the keys under free names
// once, under a name that stands for all of them.
func (g group) walk(path string, visit func(path string, k key)) {
	for _, k := range g {
		p := join(path, k.name)
		visit(p, k)
		switch v := k.value.(type) {
		case group:
			v.walk(p, visit)
		case branch:
			name, keys := v.inside()
			if name != "" {
				p = join(p, name)
			}
			keys.walk(p, visit)
		}
	}
}

// table is the whole of sekisho.yaml, bound to c: the one source of what the
// file may say. Decoding, schema, example and reference follow it.
func table(c *Config) group {
	s, f, g := &c.SSH, &c.Firewall, &c.Guard
	return group{
		{"version", "The version of this file's form.", version{}},
		{"ssh", "The SSH server that is guarded, and how it is set up. A change of that is tried, and reverts by itself unless it is confirmed: " +
			"`sekisho plan`, `sekisho apply`.", group{
			{"port", "Where sshd listens: the ports that `exposure` is about, and at which banned peers are dropped with `guard.drop: ssh`. " +
				"All of sshd's ports belong here. Named, `sekisho apply` has sshd listen there and nowhere else; left out, sshd's own ports stay as they are.",
				ports{&s.Ports}},
			{"profile", "Which settings sshd is given. `none`: only those that are named below. `basic`: nobody logs in as root or with a password, few tries, " +
				"few connections from one address at once, and a log that says more. `strict`: also no forwarding of anything, and idle sessions end. " +
				"docs/hardening.md lists them all.",
				choice[Profile]{&s.Profile, []Profile{ProfileNone, ProfileBasic, ProfileStrict}}},
			{"root_login", "Whether root may log in, whatever the profile says: `keys` is with a key only.",
				choice[RootLogin]{&s.RootLogin, []RootLogin{RootLoginProfile, RootLoginNo, RootLoginKeys, RootLoginYes}}},
			{"password_login", "Whether a password opens the door, by keyboard-interactive authentication too, whatever the profile says.",
				choice[PasswordLogin]{&s.PasswordLogin, []PasswordLogin{PasswordLoginProfile, PasswordLoginNo, PasswordLoginYes}}},
			{"settings", "Settings of sshd by their keyword in sshd_config(5), whatever the profile says: `{X11Forwarding: yes, LoginGraceTime: as_is}`. " +
				"`as_is`: sshd's stays as it is.", settings{&s.Settings}},
		}},
		{"exposure", "Who may reach SSH at all. `fixed`: `admins` only. `on_request`: also whoever holds a live grant. " +
			"`public`: everyone in `firewall.countries`, at `firewall.rate`. Whoever is banned is out in any case.",
			choice[Exposure]{&c.Exposure, []Exposure{ExposureFixed, ExposureOnRequest, ExposurePublic}}},
		{"admins", "Who is always let in and never banned, whatever the log says. Put your own fixed address here. " + prefixDoc, prefixes{&c.Admins}},
		{"firewall", "The rules of the kernel. A change of them is tried, and reverts by itself unless it is confirmed: `sekisho plan`, `sekisho apply`.", group{
			{"mode", "`guard` touches SSH only, and lives beside other firewalls. `lockdown` is the whole host: what is not let in here is dropped.",
				choice[FirewallMode]{&f.Mode, []FirewallMode{FirewallGuard, FirewallLockdown}}},
			{"open", "Which other ports are open, with `mode: lockdown` and only then. SSH is let in by `exposure`, not here.", services{&f.Open}},
			{"countries", "From which countries SSH may be reached, with `exposure: public`, by ISO 3166-1 code. None: from all. " +
				"Admins and grants are let in from everywhere.", countries{&f.Countries}},
			{"rate", "How many new connections to SSH one address (IPv6: one /64) may make, with `exposure: public`: `burst` at once, then `per_minute`. " +
				"Connections are counted, not logins. Admins and grants are not limited.", rate{&f.Rate}},
			{"track", "Whether the kernel tracks SSH's connections. `no`: a full connection tracking table does not keep an administrator out.", boolean{&f.Track}},
			{"ipv6", "Whether SSH may be reached over IPv6. `no`: nobody, not even `admins`.", boolean{&f.IPv6}},
			{"forward", "Whether what this host forwards is left alone, with `mode: lockdown` and only then. `no`: it is dropped. Docker and virtual machines need `yes`.", boolean{&f.Forward}},
		}},
		{"country", "Where it is known from which address belongs to which country. Data that looks wrong is refused, and the last good one stays.", group{
			{"source", "`registries`: the statistics of the five registries. The others read files that `urls` names: " +
				"`list`: a code, a tab and a prefix a line. `csv`: first address, last address, code. `mmdb`: a MaxMind database.",
				choice[CountrySource]{&c.Country.Source, []CountrySource{CountryRegistries, CountryList, CountryCSV, CountryMMDB}}},
			{"urls", "Where the data is, for the sources that need it: mirrors, the best first. Words in braces stand for several files that are needed together: " +
				"`\"https://example.com/{ipv4,ipv6}.csv\"`.", urls{&c.Country.URLs}},
			{"every", "How long between two looks at the source.", every{&c.Country.Every, time.Hour, 30 * day}},
		}},
		{"guard", "What is an attack, and what happens then.", group{
			{"enforce", "Whether to ban. `no` decides and tells only; nothing is written to the kernel.", boolean{&g.Enforce}},
			{"mode", "Which messages of sshd count, as in fail2ban's sshd filter. `normal`: failed authentication and refused users. " +
				"`ddos`: also connections that end before authentication, time out, or do not speak SSH. " +
				"`extra`: also failed negotiation and clients without a usable method. `aggressive`: all of these.",
				choice[Mode]{&g.Mode, []Mode{ModeNormal, ModeDDoS, ModeExtra, ModeAggressive}}},
			{"max_retry", "How many attempts within `find_time` begin a ban. Attempts are counted, not lines of the log.", number{p: &g.MaxRetry, min: 1, max: 1000}},
			{"find_time", "How long an attempt counts. It is a true sliding window, on the log's own clock.", duration{&g.FindTime, time.Second, 7 * day}},
			{"ban_time", "How long the first ban of a source is. Every ban ends by itself, so none can lock someone out for good.", duration{&g.BanTime, time.Second, 365 * day}},
			{"growth", "Bans grow on repeat: the n-th lasts `ban_time` × `factor`^(n-1).", group{
				{"factor", "How many times longer each further ban is. `1`: bans do not grow.", factor{&g.Growth.Factor, 1, 100}},
				{"max", "The longest that a ban grows to; at least `ban_time`, unless `factor` is 1.", duration{&g.Growth.Max, time.Second, 365 * day}},
				{"forget", "When a source that was good since its last ban counts as new; at least `max`, unless `factor` is 1.", duration{&g.Growth.Forget, time.Second, 3650 * day}},
			}},
			{"prefix", "How much of an address makes one source: it is counted, and banned, as one.", group{
				{"ipv4", "Prefix length for IPv4. `32`: each address by itself.", number{p: &g.Prefix.IPv4, min: 16, max: 32}},
				{"ipv6", "Prefix length for IPv6. `64`: what one customer has at the least.", number{p: &g.Prefix.IPv6, min: 32, max: 128}},
			}},
			{"escalate", "A network with many banned sources is banned as a whole.", group{
				{"hosts", "How many banned sources in a network begin its ban.", number{p: &g.Escalate.Hosts, min: 2, max: 1000, off: true}},
				{"ipv4", "Prefix length of an IPv4 network; smaller than `prefix.ipv4`.", number{p: &g.Escalate.IPv4, min: 8, max: 31}},
				{"ipv6", "Prefix length of an IPv6 network; smaller than `prefix.ipv6`.", number{p: &g.Escalate.IPv6, min: 16, max: 127}},
				{"within", "How far back bans of its sources count.", duration{&g.Escalate.Within, time.Second, 30 * day}},
			}},
			{"ignore", "Who is never banned, as `admins`, but without being let in first: monitors, scanners of your own. " + prefixDoc, prefixes{&g.Ignore}},
			{"spare_sessions", "Whether an address with a live authenticated session is spared: it is told of, not banned, while the session lasts.", boolean{&g.SpareSessions}},
			{"known", "A higher bar for addresses that logged in lately: people mistype.", group{
				{"for", "How long after a login an address is known.", duration{&g.Known.For, 0, 365 * day}},
				{"max_retry", "Takes the place of `guard.max_retry` for it; not less than that.", number{p: &g.Known.MaxRetry, min: 1, max: 10_000}},
			}},
			{"distributed", "Whether many sources that try the same names a few times each are seen as one attack: while it lasts, less is borne from sources never seen to log in.", boolean{&g.Distributed}},
			{"weights", "How much an attempt weighs, by the kind of message that tells of it; `1` where nothing is said here. " +
				"`0`: it is shown, and nobody is banned for it. docs/kinds.md lists the kinds; those that never count cannot be weighed.", weights{&g.Weights}},
			{"max_sources", "How many sources are kept count of, at about 80 bytes each. Beyond it those least likely to be banned soon are forgotten first.", number{p: &g.MaxSources, min: 1000, max: 10_000_000}},
			{"drop", "Which of a banned peer's packets are dropped: `all`, or those to `ssh.port` only.", choice[Drop]{&g.Drop, []Drop{DropAll, DropSSH}}},
			{"cut_connections", "Whether a ban also resets what connections the peer still has.", boolean{&g.CutConnections}},
		}},
		{"log", "Where sshd's messages are read.", group{
			{"source", "`auto` takes what this machine has, and says which. `files` reads `files`. `stdin` reads standard input, to its end.",
				choice[Source]{&c.Log.Source, []Source{SourceAuto, SourceJournald, SourceFiles, SourceStdin}}},
			{"files", "The logs to follow, with `source: files` and only then. They may be rotated, truncated, or not there yet.", paths{&c.Log.Files}},
			{"forgeable", "Whether to read what `sshd -E` or `sshd -e` writes. A client can put whole false lines into such a log, " +
				"so it is shown and counted, but nobody is banned on its word.", boolean{&c.Log.Forgeable}},
		}},
		{"metrics", "Figures for Prometheus.", group{
			{"listen", "Where they are served over HTTP, such as `127.0.0.1:9222`.", listen{&c.Metrics.Listen}},
		}},
		{"aws", "Where the security groups of `targets` are, and how AWS is reached.", c.AWS.table()},
		{"people", "Who may be let in, by their names.", named[Person]{
			p: &c.People, what: "a person", names: "people", max: maxPeople,
			begin:   func(string) Person { return Person{} },
			keys:    (*Person).table,
			example: `hanako: {fixed: [203.0.113.7], keys: ["ssh-ed25519 AAAA... hanako@laptop"], groups: [ops]}`,
		}},
		{"targets", "The doors: security groups of AWS, or hosts that run sekisho, each with the port that it guards, by names of your own.", named[Target]{
			p: &c.Targets, what: "a target", names: "targets", max: maxTargets,
			begin:   newTarget,
			keys:    (*Target).table,
			example: `web-prod: {aws: {region: ap-northeast-1, group: sg-0123456789abcdef0}, host: web.example.com, allow: [ops], at_most: 8h}`,
		}},
		{"gate", "The gate: it opens targets for people who ask it, over the web and from the command line, so that they need no credentials of AWS.", c.Gate.table()},
		{"notify", "Who is told of what happens, and how. Nobody, unless a channel is named.", c.Notify.table()},
	}
}

const prefixDoc = "Addresses or prefixes, IPv4 or IPv6; a prefix must not have bits set beyond its length."
